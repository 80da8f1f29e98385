//! The layout of a PHYPayload, as far as it can be read without a key (LoRaWAN 1.0.4 and 1.1, section 4; both lay an uplink
//! out alike).
//!
//! [`parse`] looks, judges the shape and copies nothing but small fields. It proves nothing: whether the device is who it
//! says is the MIC's matter, and without a key a frame that parses may still be noise. Addresses and EUIs are turned from
//! the wire's order into the printed one, most significant byte first.
//!
//! Uplinks only. [`Frame::Other`] is everything that a network server has no use for as an uplink: downlinks (heard from
//! another gateway), proprietary frames, a major version other than 0, and every shape that the specification forbids:
//! a wrong length, FOpts longer than the frame, and MAC commands in FOpts and in port 0 at once (section 4.3.1.6). Bits
//! that are reserved are not judged.

use crate::uplink::{DevAddr, Eui64};

/// What a PHYPayload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A data uplink, confirmed or not.
    Data(Data<'a>),
    /// A device asks to join.
    Join(JoinRequest),
    /// A device that has joined asks again (LoRaWAN 1.1).
    Rejoin(RejoinRequest),
    /// No uplink of a LoRaWAN device.
    Other,
}

/// A data uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// The device's address in its network.
    pub dev_addr: DevAddr,
    /// The device asks for an acknowledgement.
    pub confirmed: bool,
    /// The network controls the data rate.
    pub adr: bool,
    /// The device asks whether anybody still hears it.
    pub adr_ack_req: bool,
    /// Acknowledges a confirmed downlink.
    pub ack: bool,
    /// The device listens in beacon slots.
    pub class_b: bool,
    /// The low 16 bits of the uplink counter.
    pub f_cnt: u16,
    /// MAC commands, 0 to 15 bytes; encrypted in 1.1.
    pub f_opts: &'a [u8],
    /// 0: MAC commands; absent: no payload either.
    pub f_port: Option<u8>,
    /// Encrypted payload; may be empty.
    pub frm_payload: &'a [u8],
    /// Message integrity code.
    pub mic: [u8; 4],
}

/// A join request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// JoinEUI; AppEUI in LoRaWAN 1.0.
    pub join_eui: Eui64,
    /// The device.
    pub dev_eui: Eui64,
    /// Its counter or random number against replay.
    pub dev_nonce: u16,
    /// Message integrity code.
    pub mic: [u8; 4],
}

/// A rejoin request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejoinRequest {
    /// Why, and what names the network.
    pub kind: RejoinKind,
    /// The device.
    pub dev_eui: Eui64,
    /// RJcount0 or RJcount1.
    pub rj_count: u16,
    /// Message integrity code.
    pub mic: [u8; 4],
}

/// The types of rejoin request (LoRaWAN 1.1 section 6.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejoinKind {
    /// Type 0: resets the context, radio parameters included.
    Reset {
        /// NetID, most significant byte first.
        net_id: [u8; 3],
    },
    /// Type 1: as a join request, to restore a lost session.
    Restore {
        /// JoinEUI.
        join_eui: Eui64,
    },
    /// Type 2: new keys only.
    Rekey {
        /// NetID, most significant byte first.
        net_id: [u8; 3],
    },
}

const JOIN_REQUEST: u8 = 0;
const UNCONFIRMED_UP: u8 = 2;
const CONFIRMED_UP: u8 = 4;
const REJOIN_REQUEST: u8 = 6;

/// Says what `phy` is.
pub fn parse(phy: &[u8]) -> Frame<'_> {
    well_formed(phy).unwrap_or(Frame::Other)
}

fn well_formed(phy: &[u8]) -> Option<Frame<'_>> {
    let (&header, rest) = phy.split_first()?;
    let (body, &mic) = rest.split_last_chunk()?;
    let (kind, major) = (header >> 5, header & 0b11);
    if major != 0 {
        return None;
    }
    match kind {
        JOIN_REQUEST => join(body, mic).map(Frame::Join),
        UNCONFIRMED_UP => data(body, mic, false).map(Frame::Data),
        CONFIRMED_UP => data(body, mic, true).map(Frame::Data),
        REJOIN_REQUEST => rejoin(body, mic).map(Frame::Rejoin),
        _ => None,
    }
}

fn data(body: &[u8], mic: [u8; 4], confirmed: bool) -> Option<Data<'_>> {
    let (addr, body) = take::<4>(body)?;
    let (&f_ctrl, body) = body.split_first()?;
    let (f_cnt, body) = body.split_first_chunk()?;
    let (f_opts, body) = body.split_at_checked(usize::from(f_ctrl & 0x0f))?;
    let (f_port, frm_payload) = match body.split_first() {
        Some((&port, payload)) => (Some(port), payload),
        None => (None, body),
    };
    if f_port == Some(0) && !f_opts.is_empty() {
        return None;
    }
    let bit = |mask: u8| f_ctrl & mask != 0;
    Some(Data {
        dev_addr: DevAddr(addr),
        confirmed,
        adr: bit(0x80),
        adr_ack_req: bit(0x40),
        ack: bit(0x20),
        class_b: bit(0x10),
        f_cnt: u16::from_le_bytes(*f_cnt),
        f_opts,
        f_port,
        frm_payload,
        mic,
    })
}

fn join(body: &[u8], mic: [u8; 4]) -> Option<JoinRequest> {
    let (join_eui, body) = take(body)?;
    let (dev_eui, body) = take(body)?;
    let dev_nonce = u16::from_be_bytes(last(body)?);
    Some(JoinRequest { join_eui: Eui64(join_eui), dev_eui: Eui64(dev_eui), dev_nonce, mic })
}

fn rejoin(body: &[u8], mic: [u8; 4]) -> Option<RejoinRequest> {
    let (&kind, body) = body.split_first()?;
    let (kind, body) = match kind {
        0 => take(body).map(|(net_id, rest)| (RejoinKind::Reset { net_id }, rest))?,
        1 => take(body).map(|(eui, rest)| (RejoinKind::Restore { join_eui: Eui64(eui) }, rest))?,
        2 => take(body).map(|(net_id, rest)| (RejoinKind::Rekey { net_id }, rest))?,
        _ => return None,
    };
    let (dev_eui, body) = take(body)?;
    let rj_count = u16::from_be_bytes(last(body)?);
    Some(RejoinRequest { kind, dev_eui: Eui64(dev_eui), rj_count, mic })
}

/// The first `N` bytes, turned most significant first, and the rest.
fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    let (&first, rest) = bytes.split_first_chunk::<N>()?;
    let mut turned = first;
    turned.reverse();
    Some((turned, rest))
}

/// All of `bytes`, turned most significant first, if they are `N`.
fn last<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    take(bytes).filter(|(_, rest)| rest.is_empty()).map(|(turned, _)| turned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use data_encoding::{BASE64, HEXLOWER_PERMISSIVE as HEX};

    fn unhex(text: &str) -> Vec<u8> {
        HEX.decode(text.as_bytes()).unwrap()
    }

    fn data_of(phy: &[u8]) -> Data<'_> {
        match parse(phy) {
            Frame::Data(data) => data,
            other => panic!("{other:?}"),
        }
    }

    /// The published vectors of lora-packet and lora-rs: hex, DevAddr, confirmed, FCnt, FOpts, FPort, payload length, MIC.
    #[test]
    fn data_uplinks() {
        type Row = (&'static str, &'static str, u16, &'static [u8], Option<u8>, usize, &'static str);
        let rows: [Row; 6] = [
            ("40F17DBE4900020001954378762B11FF0D", "49be7df1", 2, &[], Some(1), 4, "2b11ff0d"),
            (
                "40f17dbe490004000155332de41a11adc072553544429ce7787707d1c316e027e7e5e334263376affb8aa17ad30075293f28dea8a20af3c5e7",
                "49be7df1",
                4,
                &[],
                Some(1),
                44,
                "0af3c5e7",
            ),
            ("40F17DBE49000300012A3518AF", "49be7df1", 3, &[], Some(1), 0, "2a3518af"),
            ("400403020180010001a694642615d6c3b582", "01020304", 1, &[], Some(1), 5, "d6c3b582"),
            ("40040302010000000069369eee6aa508", "01020304", 0, &[], Some(0), 3, "ee6aa508"),
            ("4004030201030000020305d7fa0c6c", "01020304", 0, &[2, 3, 5], None, 0, "d7fa0c6c"),
        ];
        for (hex, dev_addr, f_cnt, f_opts, f_port, payload_len, mic) in rows {
            let phy = unhex(hex);
            let data = data_of(&phy);
            assert_eq!(data.dev_addr.to_string(), dev_addr, "{hex}");
            assert!(!data.confirmed, "{hex}");
            assert_eq!((data.f_cnt, data.f_opts, data.f_port), (f_cnt, f_opts, f_port), "{hex}");
            assert_eq!(
                (data.frm_payload.len(), HEX.encode(&data.mic)),
                (payload_len, mic.to_owned()),
                "{hex}"
            );
        }
        assert!(data_of(&unhex("400403020180010001a694642615d6c3b582")).adr);
    }

    #[test]
    fn f_ctrl_bits_and_the_confirmed_type() {
        let with = |header: u8, f_ctrl: u8| {
            let mut phy = unhex("40F17DBE4900020001954378762B11FF0D");
            (phy[0], phy[5]) = (header, f_ctrl);
            let data = data_of(&phy);
            (data.confirmed, data.adr, data.adr_ack_req, data.ack, data.class_b)
        };
        assert_eq!(with(0x80, 0x80), (true, true, false, false, false));
        assert_eq!(with(0x40, 0x40), (false, false, true, false, false));
        assert_eq!(with(0x40, 0x20), (false, false, false, true, false));
        assert_eq!(with(0x40, 0x10), (false, false, false, false, true));
        assert_eq!(with(0x5c, 0), (false, false, false, false, false), "reserved bits are not judged");
    }

    #[test]
    fn a_join_request_of_a_real_device() {
        let phy = BASE64.decode(b"AAEAKgDAJOEkc4NFjFMk4STVM6EENbc=").unwrap();
        let Frame::Join(join) = parse(&phy) else { panic!("{:?}", parse(&phy)) };
        assert_eq!(join.dev_eui.to_string(), "24e124538c458373");
        assert_eq!(join.join_eui.to_string(), "24e124c0002a0001");
        assert_eq!(join.dev_nonce, 0x33d5);
        assert_eq!(join.mic, [0xa1, 0x04, 0x35, 0xb7]);
        for len in 0..phy.len() {
            assert_eq!(parse(&phy[..len]), Frame::Other, "{len} bytes");
        }
        assert_eq!(parse(&[&phy[..], &[0]].concat()), Frame::Other, "24 bytes");
    }

    #[test]
    fn rejoin_requests_of_each_type() {
        let type_0 = unhex("c0000100600807060504030201020155667788");
        let rejoin = RejoinRequest {
            kind: RejoinKind::Reset { net_id: [0x60, 0, 1] },
            dev_eui: Eui64([1, 2, 3, 4, 5, 6, 7, 8]),
            rj_count: 0x0102,
            mic: [0x55, 0x66, 0x77, 0x88],
        };
        assert_eq!(parse(&type_0), Frame::Rejoin(rejoin));
        let mut type_2 = type_0.clone();
        type_2[1] = 2;
        let rekey = RejoinKind::Rekey { net_id: [0x60, 0, 1] };
        assert_eq!(parse(&type_2), Frame::Rejoin(RejoinRequest { kind: rekey, ..rejoin }));
        let type_1 = unhex("c00118171615141312110807060504030201020155667788");
        let restore =
            RejoinKind::Restore { join_eui: Eui64([0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]) };
        assert_eq!(parse(&type_1), Frame::Rejoin(RejoinRequest { kind: restore, ..rejoin }));
        type_2[1] = 3;
        for phy in [&type_0[..18], &[&type_0[..], &[0]].concat(), &type_1[..23], &type_2] {
            assert_eq!(parse(phy), Frame::Other, "{phy:02x?}");
        }
    }

    #[test]
    fn everything_else_is_other() {
        for (hex, why) in [
            ("", "empty"),
            ("40", "a header alone"),
            ("4004030201000000d7fa0c", "11 bytes, one too few"),
            ("41F17DBE4900020001954378762B11FF0D", "major version 1"),
            ("4004030201040000020305d7fa0c6c", "FOpts longer than the frame"),
            ("400403020101000002000102d7fa0c6c", "FOpts and port 0"),
            ("60f17dbe4920020001f9d65d27", "a downlink"),
            ("600403020103000022ac0a01f0b468ddaa5ed13a", "a LoRaWAN 1.1 downlink"),
            ("a0f17dbe4920020001f9d65d27", "a confirmed downlink"),
            ("2001020304050607080910111213141516", "a join accept"),
            ("e0f17dbe4920020001f9d65d27", "proprietary"),
        ] {
            assert_eq!(parse(&unhex(hex)), Frame::Other, "{why}");
        }
        assert!(matches!(parse(&unhex("4004030201000000d7fa0c6c")), Frame::Data(_)), "12 bytes are a frame");
    }

    proptest::proptest! {
        /// DESIGN invariant 5: no frame panics the parser, and what it takes apart adds up to the whole.
        #[test]
        fn any_bytes(phy in proptest::collection::vec(0u8.., 0..=255usize)) {
            if let Frame::Data(data) = parse(&phy) {
                let port = usize::from(data.f_port.is_some());
                assert_eq!(12 + data.f_opts.len() + port + data.frm_payload.len(), phy.len());
            }
        }

        #[test]
        fn any_bytes_under_a_plausible_header(kind in 0u8..8, rest in proptest::collection::vec(0u8.., 0..40usize)) {
            let phy = [&[kind << 5][..], &rest].concat();
            let known = !matches!(parse(&phy), Frame::Other);
            assert!(!known || matches!(kind, 0 | 2 | 4 | 6));
        }
    }
}
