//! The Things Stack v3, uplink message: what is empty is left out, 64-bit numbers are strings.

use serde_json::value::RawValue;

use super::fields::{self, Best};
use super::{Dialect, ServerUplink};
use crate::lenient_json as json;
use crate::uplink::{Modulation, Rx};

/// `None` if it is another message: a join, a downlink's fate, a location.
pub(super) fn read(whole: &RawValue) -> Option<ServerUplink> {
    let mut uplink = ServerUplink::unknown(Dialect::Tts);
    let (mut message, mut received_us) = (None, None);
    json::members(whole, |key, value| match key {
        "end_device_ids" => {
            json::members(value, |key, value| match key {
                "device_id" => uplink.device_name = fields::text(value),
                "dev_eui" => uplink.dev_eui = fields::eui(value),
                "join_eui" => uplink.join_eui = fields::eui(value),
                "dev_addr" => uplink.dev_addr = fields::dev_addr(value),
                _ => {}
            });
        }
        "received_at" => received_us = fields::time_us(value),
        "uplink_message" => message = Some(value),
        _ => {}
    });
    add_message(&mut uplink, message?);
    uplink.time_us = uplink.time_us.or(received_us);
    Some(uplink)
}

fn add_message(uplink: &mut ServerUplink, message: &RawValue) {
    let (mut copies, mut settings) = (Best::default(), Rx::default());
    let (mut session, mut received_at) = (None, None);
    json::members(message, |key, value| match key {
        "session_key_id" => session = fields::text(value),
        "f_port" => uplink.f_port = json::integer(value),
        "f_cnt" => uplink.f_cnt = json::integer(value),
        "frm_payload" => uplink.payload = fields::bytes(value),
        "decoded_payload" => uplink.decoded = fields::decoded(value),
        "confirmed" => uplink.confirmed = fields::flag(value),
        "received_at" => {
            received_at = fields::text(value);
            uplink.time_us = fields::time_us(value);
        }
        "rx_metadata" => {
            json::elements(value, |element| copies.offer(copy(element)));
        }
        "settings" => add_settings(&mut settings, value),
        _ => {}
    });
    let f_cnt = *uplink.f_cnt.get_or_insert(0);
    uplink.confirmed.get_or_insert(false);
    uplink.id = session.and_then(|session| Some(format!("{session}/{f_cnt}/{}", received_at?)));
    uplink.rx = Rx {
        frequency_hz: settings.frequency_hz,
        modulation: settings.modulation,
        data_rate: settings.data_rate,
        coding_rate: settings.coding_rate,
        ..copies.take().unwrap_or_default()
    };
}

/// One gateway's reception.
fn copy(element: &RawValue) -> Rx {
    let mut rx = Rx { channel: Some(0), ..Rx::default() };
    let mut channel_rssi = None;
    json::members(element, |key, value| match key {
        "gateway_ids" => {
            json::members(value, |key, value| {
                if key == "eui" {
                    rx.gateway_eui = fields::eui(value);
                }
            });
        }
        "rssi" => rx.rssi_dbm = json::decibels(value),
        "channel_rssi" => channel_rssi = json::decibels(value),
        "signal_rssi" => rx.rssi_signal_dbm = json::decibels(value),
        "snr" => rx.snr_db = json::decibels(value),
        "channel_index" => rx.channel = json::integer(value),
        "antenna_index" => rx.antenna = json::integer(value),
        "timestamp" => rx.tmst = json::integer(value),
        "frequency_offset" => rx.frequency_offset_hz = json::integer(value),
        _ => {}
    });
    rx.rssi_dbm = rx.rssi_dbm.or(channel_rssi);
    rx
}

fn add_settings(rx: &mut Rx, value: &RawValue) {
    let mut outer_coding_rate = None;
    json::members(value, |key, value| match key {
        "frequency" => rx.frequency_hz = json::integer(value).filter(|hz| *hz > 0),
        // Before 3.25 it stood here.
        "coding_rate" => outer_coding_rate = coding_rate(value),
        "data_rate" => {
            json::members(value, |key, value| match key {
                "lora" => add_lora(rx, value),
                "fsk" => {
                    rx.modulation = Modulation::Fsk;
                    json::members(value, |key, value| {
                        if key == "bit_rate" {
                            rx.data_rate =
                                json::integer(value).and_then(fields::fsk_data_rate).unwrap_or_default();
                        }
                    });
                }
                "lrfhss" => {
                    rx.modulation = Modulation::LrFhss;
                    json::members(value, |key, value| match key {
                        "operating_channel_width" => {
                            rx.data_rate =
                                json::integer(value).and_then(fields::lr_fhss_data_rate).unwrap_or_default();
                        }
                        "coding_rate" => rx.coding_rate = coding_rate(value),
                        _ => {}
                    });
                }
                _ => {}
            });
        }
        _ => {}
    });
    rx.coding_rate = rx.coding_rate.take().or(outer_coding_rate);
}

fn add_lora(rx: &mut Rx, value: &RawValue) {
    rx.modulation = Modulation::Lora;
    let (mut bandwidth, mut spreading_factor) = (0, 0);
    json::members(value, |key, value| match key {
        "bandwidth" => bandwidth = json::integer(value).unwrap_or(0),
        "spreading_factor" => spreading_factor = json::integer(value).unwrap_or(0),
        "coding_rate" => rx.coding_rate = coding_rate(value),
        _ => {}
    });
    rx.data_rate = fields::lora_data_rate(spreading_factor, bandwidth).unwrap_or_default();
}

fn coding_rate(value: &RawValue) -> Option<heapless::String<8>> {
    json::text(value).and_then(|text| fields::label(&text))
}
