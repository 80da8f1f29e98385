//! Our own words: the default body (DESIGN section 7), so that one Packhorse can feed another, and what is left of it when
//! a script writes no more than it knows.

use serde_json::value::RawValue;

use super::{Dialect, ServerUplink, fields};
use crate::lenient_json as json;
use crate::uplink::Rx;

/// `None` if its `type` says that it is something else than an uplink.
pub(super) fn read(whole: &RawValue) -> Option<ServerUplink> {
    let mut uplink = ServerUplink::unknown(Dialect::Packhorse);
    let (mut is_other, mut device, mut gateway_eui) = (false, None, None);
    json::members(whole, |key, value| match key {
        "type" => is_other = json::text(value).is_some_and(|kind| kind != "uplink"),
        "id" => uplink.id = fields::text(value),
        "time" => uplink.time_us = fields::time_us(value),
        "device" => device = Some(value),
        "dev_eui" => uplink.dev_eui = fields::eui(value),
        "f_port" => uplink.f_port = json::integer(value),
        "f_cnt" => uplink.f_cnt = json::integer(value),
        "confirmed" => uplink.confirmed = fields::flag(value),
        "payload" => uplink.payload = fields::bytes(value),
        "decoded" => uplink.decoded = fields::decoded(value),
        "rx" => uplink.rx = radio(value),
        "gateway" => {
            json::members(value, |key, value| {
                if key == "eui" {
                    gateway_eui = fields::eui(value);
                }
            });
        }
        _ => {}
    });
    if let Some(device) = device {
        json::members(device, |key, value| match key {
            "name" => uplink.device_name = fields::text(value),
            "dev_eui" => uplink.dev_eui = fields::eui(value).or(uplink.dev_eui),
            "join_eui" => uplink.join_eui = fields::eui(value),
            "dev_addr" => uplink.dev_addr = fields::dev_addr(value),
            _ => {}
        });
    }
    uplink.rx.gateway_eui = gateway_eui;
    (!is_other).then_some(uplink)
}

fn radio(value: &RawValue) -> Rx {
    let mut rx = Rx::default();
    json::members(value, |key, value| match key {
        "frequency" => rx.frequency_hz = json::integer(value).filter(|hz| *hz > 0),
        "data_rate" => {
            rx.data_rate = json::text(value).and_then(|text| fields::label(&text)).unwrap_or_default();
        }
        "coding_rate" => rx.coding_rate = json::text(value).and_then(|text| fields::label(&text)),
        "rssi" => rx.rssi_dbm = json::decibels(value),
        "snr" => rx.snr_db = json::decibels(value),
        "channel" => rx.channel = json::integer(value),
        _ => {}
    });
    rx.modulation = fields::modulation_of(&rx.data_rate);
    rx
}
