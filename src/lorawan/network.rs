//! Whose network an address belongs to: the NetID in the upper bits of a DevAddr (LoRaWAN Backend Interfaces 1.1, section
//! 12.3).

use std::fmt;

use crate::uplink::DevAddr;

/// A NetID: three bits of type, 21 of number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetId(u32);

/// Bits of the NwkID for each type.
const NWK_ID_BITS: [u32; 8] = [6, 6, 9, 11, 12, 13, 15, 17];

impl NetId {
    /// The NetID that `addr` says; as far as it says it: a DevAddr holds the lower bits alone.
    pub fn of(addr: DevAddr) -> Option<NetId> {
        let bits = u32::from_be_bytes(addr.0);
        // Type n begins with n ones and a zero; eight ones are no type.
        let kind = bits.leading_ones();
        let width = *NWK_ID_BITS.get(usize::try_from(kind).ok()?)?;
        let nwk_id = (bits << (kind + 1)) >> (32 - width);
        Some(NetId((kind << 21) | nwk_id))
    }

    /// Who runs it, where that is worth knowing on a gateway.
    pub fn operator(self) -> Option<&'static str> {
        match self.0 {
            0x00_0000 | 0x00_0001 => Some("private"),
            0x00_0013 => Some("The Things Network"),
            0x00_0024 => Some("Helium (legacy)"),
            0x00_003c => Some("Helium"),
            _ => None,
        }
    }
}

impl fmt::Display for NetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

impl fmt::Debug for NetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// ChirpStack's vectors (`lrwn/src/netid.rs`), as far as an address tells the NetID: type and NwkID.
    #[test]
    fn net_ids_of_each_type() {
        for (addr, net_id) in [
            (0x5a00_0000u32, "00002d"),
            (0xad00_0000, "20002d"),
            (0xd6d0_0000, "40016d"),
            (0xe6da_0000, "60036d"),
            (0x7800_0001, "00003c"),
            (0x260b_1f2e, "000013"),
        ] {
            let found = NetId::of(DevAddr(addr.to_be_bytes())).unwrap().to_string();
            assert!(
                found.ends_with(net_id.trim_start_matches('0')) || found == net_id,
                "{addr:08x}: {found}"
            );
        }
        assert_eq!(NetId::of(DevAddr([0xff; 4])), None);
        assert_eq!(NetId::of(DevAddr([0x78, 0, 0, 1])).unwrap().operator(), Some("Helium"));
        assert_eq!(
            NetId::of(DevAddr([0x26, 0x0b, 0x1f, 0x2e])).unwrap().operator(),
            Some("The Things Network")
        );
    }
}
