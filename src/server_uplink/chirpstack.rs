//! ChirpStack v4, `event/up`: proto3 JSON, which leaves out zero, false and the empty string.

use serde_json::value::RawValue;

use super::fields::{self, Best};
use super::{Dialect, ServerUplink};
use crate::lenient_json as json;
use crate::uplink::{Crc, Modulation, Rx};

/// `None` if it is another event: `join`, `ack`, `txack`, `status`, `log`, `location` have none of an uplink's fields.
pub(super) fn read(whole: &RawValue) -> Option<ServerUplink> {
    let mut uplink = ServerUplink::unknown(Dialect::Chirpstack);
    let (mut copies, mut sent_with) = (Best::default(), Rx::default());
    let (mut is_up, mut is_encrypted) = (false, false);
    json::members(whole, |key, value| {
        is_up |= matches!(key, "fCnt" | "fPort" | "data" | "rxInfo");
        match key {
            "deduplicationId" => uplink.id = fields::text(value),
            "time" => uplink.time_us = fields::time_us(value),
            "deviceInfo" => {
                json::members(value, |key, value| match key {
                    "devEui" => uplink.dev_eui = fields::eui(value),
                    "deviceName" => uplink.device_name = fields::text(value),
                    _ => {}
                });
            }
            "devAddr" => uplink.dev_addr = fields::dev_addr(value),
            "fCnt" => uplink.f_cnt = json::integer(value),
            "fPort" => uplink.f_port = json::integer(value),
            "confirmed" => uplink.confirmed = fields::flag(value),
            "data" => uplink.payload = fields::bytes(value),
            "object" => uplink.decoded = fields::decoded(value),
            // A join server kept the AppSKey to itself: what is in `data` is still encrypted.
            "joinServerContext" => is_encrypted = value.get() != "null",
            "rxInfo" => {
                json::elements(value, |element| copies.offer(copy(element)));
            }
            "txInfo" => add_transmission(&mut sent_with, value),
            _ => {}
        }
    });
    if !is_up {
        return None;
    }
    uplink.f_cnt.get_or_insert(0);
    uplink.confirmed.get_or_insert(false);
    if is_encrypted {
        uplink.payload = None;
    }
    uplink.rx = Rx {
        frequency_hz: sent_with.frequency_hz,
        modulation: sent_with.modulation,
        data_rate: sent_with.data_rate,
        coding_rate: sent_with.coding_rate,
        ..copies.take().unwrap_or_default()
    };
    Some(uplink)
}

/// One gateway's reception.
fn copy(element: &RawValue) -> Rx {
    let mut rx = Rx { channel: Some(0), ..Rx::default() };
    json::members(element, |key, value| match key {
        "gatewayId" => rx.gateway_eui = fields::eui(value),
        "rssi" => rx.rssi_dbm = json::decibels(value),
        "snr" => rx.snr_db = json::decibels(value),
        "channel" => rx.channel = json::integer(value),
        "rfChain" => rx.rf_chain = json::integer(value),
        "antenna" => rx.antenna = json::integer(value),
        "context" => {
            rx.tmst = fields::bytes(value).and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)));
        }
        "crcStatus" => {
            rx.crc = match json::text(value).as_deref() {
                Some("CRC_OK") => Crc::Ok,
                Some("NO_CRC") => Crc::Absent,
                _ => Crc::Unknown,
            }
        }
        _ => {}
    });
    if rx.rssi_dbm.is_some() {
        rx.snr_db.get_or_insert(0.0);
    }
    rx
}

fn add_transmission(rx: &mut Rx, value: &RawValue) {
    json::members(value, |key, value| match key {
        "frequency" => rx.frequency_hz = json::integer(value).filter(|hz| *hz > 0),
        "modulation" => {
            json::members(value, |key, value| match key {
                "lora" => add_lora(rx, value),
                "fsk" => {
                    rx.modulation = Modulation::Fsk;
                    json::members(value, |key, value| {
                        if key == "datarate" {
                            rx.data_rate =
                                json::integer(value).and_then(fields::fsk_data_rate).unwrap_or_default();
                        }
                    });
                }
                "lrFhss" => {
                    rx.modulation = Modulation::LrFhss;
                    json::members(value, |key, value| match key {
                        "operatingChannelWidth" => {
                            rx.data_rate =
                                json::integer(value).and_then(fields::lr_fhss_data_rate).unwrap_or_default();
                        }
                        "codeRate" => rx.coding_rate = coding_rate(value),
                        _ => {}
                    });
                }
                _ => {}
            });
        }
        _ => {}
    });
}

fn add_lora(rx: &mut Rx, value: &RawValue) {
    rx.modulation = Modulation::Lora;
    let (mut bandwidth, mut spreading_factor) = (0, 0);
    json::members(value, |key, value| match key {
        "bandwidth" => bandwidth = json::integer(value).unwrap_or(0),
        "spreadingFactor" => spreading_factor = json::integer(value).unwrap_or(0),
        "codeRate" => rx.coding_rate = coding_rate(value),
        _ => {}
    });
    rx.data_rate = fields::lora_data_rate(spreading_factor, bandwidth).unwrap_or_default();
}

/// `CR_4_5` is `4/5`, `CR_LI_4_5` is `4/5LI`.
fn coding_rate(value: &RawValue) -> Option<heapless::String<8>> {
    let text = json::text(value)?;
    let rate = text.strip_prefix("CR_")?;
    match rate.strip_prefix("LI_") {
        Some(interleaved) => fields::label(&format!("{}LI", interleaved.replace('_', "/"))),
        None => fields::label(&rate.replace('_', "/")),
    }
}
