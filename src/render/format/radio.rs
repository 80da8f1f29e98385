//! A data rate, taken apart, and how long a LoRa frame was on the air.

use crate::uplink::Rx;

/// What a packet forwarder's `datr` says (Semtech UDP protocol, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rate {
    /// `SF7BW125`
    Lora {
        /// Spreading factor.
        spreading: u8,
        /// Hz.
        bandwidth: u32,
    },
    /// Bits a second.
    Fsk(u32),
    /// `M0CW137`
    LrFhss {
        /// The number after the M.
        modulation: u32,
        /// Hz.
        width: u32,
    },
}

/// `None`: absent, or in words that nobody knows.
pub(super) fn rate(rx: &Rx) -> Option<Rate> {
    let text = rx.data_rate.as_str();
    let khz = |text: &str| text.parse::<u32>().ok()?.checked_mul(1_000);
    if let Some((spreading, bandwidth)) = text.strip_prefix("SF").and_then(|rest| rest.split_once("BW")) {
        return Some(Rate::Lora { spreading: spreading.parse().ok()?, bandwidth: khz(bandwidth)? });
    }
    if let Some((modulation, width)) = text.strip_prefix('M').and_then(|rest| rest.split_once("CW")) {
        return Some(Rate::LrFhss { modulation: modulation.parse().ok()?, width: khz(width)? });
    }
    text.parse().ok().map(Rate::Fsk)
}

/// Microseconds that a LoRa frame of `bytes` took: eight symbols of preamble, an explicit header and a CRC, as every LoRaWAN
/// uplink has them (Semtech SX1276 datasheet, revision 7, section 4.1.1.7). `None` outside of what that formula is for.
pub(super) fn lora_airtime_us(rx: &Rx, bytes: usize) -> Option<u64> {
    let Some(Rate::Lora { spreading, bandwidth }) = rate(rx) else { return None };
    let parity: u64 = match rx.coding_rate.as_deref()? {
        "4/5" => 5,
        "4/6" => 6,
        "4/7" => 7,
        "4/8" => 8,
        _ => return None,
    };
    if !(7..=12).contains(&spreading) || bandwidth == 0 || bytes > 255 {
        return None;
    }
    let (spreading, bytes) = (u64::from(spreading), u64::try_from(bytes).ok()?);
    let symbol_ns = (1_000_000_000 << spreading) / u64::from(bandwidth);
    // Where a symbol takes longer than 16 ms, two bits of it are left unused.
    let bits_a_symbol = if symbol_ns > 16_000_000 { spreading - 2 } else { spreading };
    let coded = (8 * bytes + 28 + 16).saturating_sub(4 * spreading).div_ceil(4 * bits_a_symbol) * parity;
    // The preamble has 4.25 symbols more than its eight; in quarters, so that nothing is rounded.
    let quarters = 4 * (8 + coded) + 49;
    Some(quarters * symbol_ns / 4_000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn rx(data_rate: &str, coding_rate: &str) -> Rx {
        Rx {
            data_rate: data_rate.try_into().unwrap(),
            coding_rate: Some(coding_rate.try_into().unwrap()),
            ..Rx::default()
        }
    }

    #[test]
    fn data_rates_are_taken_apart() {
        let lora = |spreading, bandwidth| Some(Rate::Lora { spreading, bandwidth });
        for (text, expected) in [
            ("SF7BW125", lora(7, 125_000)),
            ("SF12BW500", lora(12, 500_000)),
            ("50000", Some(Rate::Fsk(50_000))),
            ("M0CW137", Some(Rate::LrFhss { modulation: 0, width: 137_000 })),
            ("", None),
            ("SF7", None),
            ("SFxBW125", None),
            ("SF7BW4294967295", None),
            ("fast", None),
        ] {
            assert_eq!(rate(&rx(text, "4/5")), expected, "{text}");
        }
    }

    /// Against the airtime calculator of The Things Network (10 bytes of payload, 13 of LoRaWAN) and Semtech's.
    #[test]
    fn airtimes_are_those_of_the_calculators() {
        for (data_rate, coding_rate, bytes, us) in [
            ("SF7BW125", "4/5", 23, Some(61_696)),
            ("SF10BW125", "4/5", 23, Some(370_688)),
            ("SF11BW125", "4/5", 23, Some(823_296)),
            ("SF12BW125", "4/5", 23, Some(1_482_752)),
            ("SF7BW250", "4/5", 23, Some(30_848)),
            ("SF7BW125", "4/8", 0, Some(28_928)),
            ("SF6BW125", "4/5", 23, None),
            ("SF7BW0", "4/5", 23, None),
            ("SF7BW125", "4/9", 23, None),
            ("SF7BW125", "4/5", 256, None),
            ("50000", "4/5", 23, None),
        ] {
            assert_eq!(
                lora_airtime_us(&rx(data_rate, coding_rate), bytes),
                us,
                "{data_rate} {coding_rate} {bytes}"
            );
        }
    }
}
