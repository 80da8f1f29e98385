//! One element of `rxpk`: a frame and its radio metadata.
//!
//! Only `data` decides whether there is an uplink, and `stat` -1 that there is none. A field that is missing, of no use
//! or out of range leaves its place in [`Rx`] empty; `size` is not read, because the data says it better.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::base64::{self, Unreadable};
use crate::lenient_json as json;
use crate::metrics::DropReason;
use crate::source::time;
use crate::uplink::{Crc, Eui64, Heard, Modulation, Moment, Rx};

/// Reads one element that `gateway` sent and that arrived `at`.
pub(super) fn read(element: &RawValue, gateway: Eui64, at: Moment) -> Result<Heard, DropReason> {
    let mut fields = Fields::default();
    if !json::members(element, |key, value| fields.take(key, value)) {
        return Err(DropReason::BadElement);
    }
    let crc = match fields.stat {
        Some(-1) => return Err(DropReason::CrcBad),
        Some(1) => Crc::Ok,
        Some(0) => Crc::Absent,
        _ => Crc::Unknown,
    };
    let data = fields.data.as_deref().ok_or(DropReason::BadElement)?;
    let phy = base64::decode(data).map_err(|why| match why {
        Unreadable::NotBase64 => DropReason::BadElement,
        Unreadable::TooLong => DropReason::Oversize,
    })?;
    if phy.is_empty() {
        return Err(DropReason::BadElement);
    }
    let said = time::Said { tmms: fields.tmms, time: fields.time.as_deref(), delayed: fields.rx.delayed };
    let at = time::of_reception(at, said);
    let mut rx = Rx { gateway_eui: Some(gateway), crc, ..fields.rx };
    if let Some(antenna) = fields.antennas.and_then(best_antenna) {
        antenna.fill(&mut rx);
    }
    Ok(Heard { phy, rx, at })
}

/// What an element says, as far as it is understood.
#[derive(Default)]
struct Fields<'a> {
    data: Option<Cow<'a, str>>,
    stat: Option<i64>,
    tmms: Option<i64>,
    time: Option<Cow<'a, str>>,
    antennas: Option<&'a RawValue>,
    rx: Rx,
}

impl<'a> Fields<'a> {
    fn take(&mut self, key: &str, value: &'a RawValue) {
        let rx = &mut self.rx;
        match key {
            "data" => self.data = json::text(value),
            "stat" => self.stat = json::integer(value),
            "tmms" => self.tmms = json::integer(value),
            "time" => self.time = json::text(value),
            "rsig" => self.antennas = Some(value),
            "freq" => rx.frequency_hz = json::number(value).and_then(hertz),
            "modu" => rx.modulation = modulation(value),
            "datr" => rx.data_rate = label(value).unwrap_or_default(),
            "codr" => rx.coding_rate = label(value).filter(|rate| !matches!(rate.as_str(), "" | "?")),
            "rssi" => rx.rssi_dbm = json::decibels(value),
            "rssis" => rx.rssi_signal_dbm = json::decibels(value),
            "lsnr" => rx.snr_db = json::decibels(value),
            "chan" => rx.channel = json::integer(value),
            "rfch" => rx.rf_chain = json::integer(value),
            "ant" => rx.antenna = json::integer(value),
            "foff" => rx.frequency_offset_hz = json::integer(value),
            "tmst" => rx.tmst = json::integer(value),
            "ftime" => rx.fine_time_ns = json::integer(value),
            "delayed" => rx.delayed = json::is_true(value),
            _ => {}
        }
    }
}

/// `freq` is printed in MHz with six decimals; some are a hair below the channel as an f64.
fn hertz(mhz: f64) -> Option<u32> {
    json::whole((mhz * 1e6).round()).filter(|hz| *hz != 0)
}

fn modulation(value: &RawValue) -> Modulation {
    let name = json::text(value).unwrap_or_default();
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    if is("LORA") {
        Modulation::Lora
    } else if is("FSK") {
        Modulation::Fsk
    } else if is("LR-FHSS") || is("LRFHSS") {
        Modulation::LrFhss
    } else {
        Modulation::Other
    }
}

/// A data or coding rate as reported: printable ASCII that fits, or for a number (FSK, bits a second) its whole positive
/// value. Anything else is of no use to anyone.
fn label<const N: usize>(value: &RawValue) -> Option<heapless::String<N>> {
    if let Some(text) = json::text(value) {
        let text = text.trim();
        let is_printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        return if is_printable { heapless::String::try_from(text).ok() } else { None };
    }
    let number = json::number(value).filter(|number| *number > 0.0 && number.fract() == 0.0)?;
    let mut digits = heapless::String::new();
    std::fmt::Write::write_fmt(&mut digits, format_args!("{}", json::whole::<u64>(number)?)).ok()?;
    Some(digits)
}

/// One entry of `rsig` (`jver` 2: gateways with several antennas).
#[derive(Clone, Copy, Default)]
struct Antenna {
    number: Option<u8>,
    channel: Option<u16>,
    rssi: Option<f32>,
    rssi_signal: Option<f32>,
    snr: Option<f32>,
    frequency_offset: Option<i32>,
}

/// The one with the best SNR; where that says nothing, the one with the best channel RSSI.
fn best_antenna(rsig: &RawValue) -> Option<Antenna> {
    let mut best: Option<Antenna> = None;
    json::elements(rsig, |element| {
        let mut antenna = Antenna::default();
        let is_object = json::members(element, |key, value| antenna.take(key, value));
        if is_object && best.is_none_or(|other| antenna.is_better_than(&other)) {
            best = Some(antenna);
        }
    });
    best
}

impl Antenna {
    fn take(&mut self, key: &str, value: &RawValue) {
        match key {
            "ant" => self.number = json::integer(value),
            "chan" => self.channel = json::integer(value),
            "rssic" => self.rssi = json::decibels(value),
            "rssis" => self.rssi_signal = json::decibels(value),
            "lsnr" => self.snr = json::decibels(value),
            "foff" => self.frequency_offset = json::integer(value),
            _ => {}
        }
    }

    fn is_better_than(&self, other: &Antenna) -> bool {
        let rank = |level: Option<f32>| level.unwrap_or(f32::NEG_INFINITY);
        let by_snr = rank(self.snr).total_cmp(&rank(other.snr));
        by_snr.then(rank(self.rssi).total_cmp(&rank(other.rssi))).is_gt()
    }

    /// Fills what the element itself did not say.
    fn fill(self, rx: &mut Rx) {
        rx.antenna = rx.antenna.or(self.number);
        rx.channel = rx.channel.or(self.channel);
        rx.rssi_dbm = rx.rssi_dbm.or(self.rssi);
        rx.rssi_signal_dbm = rx.rssi_signal_dbm.or(self.rssi_signal);
        rx.snr_db = rx.snr_db.or(self.snr);
        rx.frequency_offset_hz = rx.frequency_offset_hz.or(self.frequency_offset);
    }
}
