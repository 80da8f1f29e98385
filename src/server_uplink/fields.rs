//! The kinds of values that all servers use, each absent where it can't be understood.

use std::fmt::Write as _;

use data_encoding::{BASE64_NOPAD, HEXLOWER_PERMISSIVE};
use serde_json::value::RawValue;

use crate::clock::us_of_rfc3339;
use crate::lenient_json as json;
use crate::uplink::{DevAddr, Eui64, Modulation, Rx};

/// A string that is not empty.
pub(super) fn text(value: &RawValue) -> Option<String> {
    json::text(value).filter(|text| !text.is_empty()).map(|text| text.into_owned())
}

pub(super) fn eui(value: &RawValue) -> Option<Eui64> {
    hex(value).map(Eui64)
}

pub(super) fn dev_addr(value: &RawValue) -> Option<DevAddr> {
    hex(value).map(DevAddr)
}

/// Hex digits in either case, in groups or not.
fn hex<const N: usize>(value: &RawValue) -> Option<[u8; N]> {
    let text = json::text(value)?;
    let digits: Vec<u8> = text.trim().bytes().filter(|byte| !matches!(byte, b'-' | b':')).collect();
    HEXLOWER_PERMISSIVE.decode(&digits).ok()?.try_into().ok()
}

/// Base64 in either alphabet, padded or not.
pub(super) fn bytes(value: &RawValue) -> Option<Vec<u8>> {
    let text = json::text(value)?;
    let standard = |byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    };
    let digits: Vec<u8> = text.trim().trim_end_matches('=').bytes().map(standard).collect();
    BASE64_NOPAD.decode(&digits).ok()
}

pub(super) fn flag(value: &RawValue) -> Option<bool> {
    serde_json::from_str(value.get()).ok()
}

/// What a codec made of a payload; `null` is nothing.
pub(super) fn decoded(value: &RawValue) -> Option<Box<RawValue>> {
    (value.get() != "null").then(|| value.to_owned())
}

/// RFC 3339, in microseconds since 1970.
pub(super) fn time_us(value: &RawValue) -> Option<i64> {
    us_of_rfc3339(json::text(value)?.trim())
}

/// A short label in printable ASCII.
pub(super) fn label<const N: usize>(text: &str) -> Option<heapless::String<N>> {
    let text = text.trim();
    let is_fine = !text.is_empty() && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if is_fine { heapless::String::try_from(text).ok() } else { None }
}

/// `SF7BW125`.
pub(super) fn lora_data_rate(spreading_factor: u32, bandwidth_hz: u32) -> Option<heapless::String<16>> {
    if !(5..=12).contains(&spreading_factor) || bandwidth_hz < 1_000 {
        return None;
    }
    written(format_args!("SF{spreading_factor}BW{}", bandwidth_hz / 1_000))
}

/// `M0CW137`.
pub(super) fn lr_fhss_data_rate(width_hz: u32) -> Option<heapless::String<16>> {
    if width_hz < 1_000 { None } else { written(format_args!("M0CW{}", width_hz / 1_000)) }
}

/// Bits a second.
pub(super) fn fsk_data_rate(bits: u32) -> Option<heapless::String<16>> {
    if bits == 0 { None } else { written(format_args!("{bits}")) }
}

fn written(text: std::fmt::Arguments<'_>) -> Option<heapless::String<16>> {
    let mut label = heapless::String::new();
    label.write_fmt(text).ok().map(|()| label)
}

/// The best of several copies of an uplink by 8 x SNR + RSSI (RULES S19); a copy without RSSI is the worst.
#[derive(Default)]
pub(super) struct Best(Option<(f32, Rx)>);

impl Best {
    pub(super) fn offer(&mut self, copy: Rx) {
        let score = copy.rssi_dbm.map_or(f32::NEG_INFINITY, |rssi| 8.0 * copy.snr_db.unwrap_or(0.0) + rssi);
        if self.0.as_ref().is_none_or(|(best, _)| score.total_cmp(best).is_gt()) {
            self.0 = Some((score, copy));
        }
    }

    pub(super) fn take(self) -> Option<Rx> {
        self.0.map(|(_, copy)| copy)
    }
}

/// What a modulation is by the look of its data rate.
pub(super) fn modulation_of(data_rate: &str) -> Modulation {
    if data_rate.starts_with("SF") {
        Modulation::Lora
    } else if data_rate.contains("CW") {
        Modulation::LrFhss
    } else if !data_rate.is_empty() && data_rate.bytes().all(|byte| byte.is_ascii_digit()) {
        Modulation::Fsk
    } else {
        Modulation::Other
    }
}
