//! `format = "json"`: the default body (DESIGN section 7).
//!
//! [`View`] borrows from the message and is written in the order of its fields, which is a contract, as are their names;
//! `config/uplink.schema.json` says it to machines. What a function made is put in as the text that it gave.

use std::fmt::Display;

use data_encoding::BASE64;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{TimeBounds, is_default, time, time_bounds};
use crate::render::Message;
use crate::uplink::{DevAddr, Eui64, Kind, Rx};

/// The body.
#[derive(Serialize)]
pub(in crate::render) struct View<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(serialize_with = "shown")]
    id: uuid::Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    time_quality: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_bounds: Option<TimeBounds>,
    gateway: Gateway<'a>,
    #[serde(skip_serializing_if = "is_default")]
    device: Device<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    f_port: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    f_cnt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decoded: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    normalized: Option<&'a RawValue>,
    /// Why there is no `decoded`.
    #[serde(skip_serializing_if = "is_default")]
    decode_errors: &'a [String],
    #[serde(skip_serializing_if = "is_default")]
    decode_warnings: &'a [String],
    #[serde(skip_serializing_if = "is_default")]
    rx: Radio<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phy_payload: Option<String>,
    /// The same bytes had been heard before (RULES S19).
    #[serde(skip_serializing_if = "is_default")]
    retransmission: bool,
    /// Made by `test` (RULES S29).
    #[serde(skip_serializing_if = "is_default")]
    simulated: bool,
    /// Sent again by `replay` (RULES S13).
    #[serde(skip_serializing_if = "is_default")]
    replay: bool,
}

#[derive(Serialize)]
struct Gateway<'a> {
    name: &'a str,
    #[serde(serialize_with = "shown_if_any", skip_serializing_if = "Option::is_none")]
    eui: Option<Eui64>,
}

#[derive(Serialize, Default, PartialEq)]
struct Device<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(serialize_with = "shown_if_any", skip_serializing_if = "Option::is_none")]
    dev_eui: Option<Eui64>,
    #[serde(serialize_with = "shown_if_any", skip_serializing_if = "Option::is_none")]
    join_eui: Option<Eui64>,
    #[serde(serialize_with = "shown_if_any", skip_serializing_if = "Option::is_none")]
    dev_addr: Option<DevAddr>,
    /// Of a configured device, even where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<&'a [String]>,
}

/// Radio metadata; Hz, dBm and dB. An `f32` is written as the shortest decimal that reads back as the same `f32`.
#[derive(Serialize, Default, PartialEq)]
struct Radio<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_rate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coding_rate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rssi: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snr: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<u16>,
}

/// The body of `message`.
pub(in crate::render) fn view<'a>(message: &'a Message<'_>) -> View<'a> {
    View {
        decoded: message.decoding.data.as_deref(),
        normalized: message.decoding.normalized.as_deref(),
        ..without_results(message)
    }
}

/// The same without what functions made, which is foreign and may be what no reader takes.
pub(in crate::render) fn without_results<'a>(message: &'a Message<'_>) -> View<'a> {
    let uplink = message.uplink;
    let rx = message.rx();
    View {
        kind: match uplink.kind {
            Kind::Lorawan | Kind::App => "uplink",
            Kind::Join => "join",
            Kind::Other => "other",
        },
        id: uplink.id,
        time: time(message),
        time_quality: message.heard.quality.as_str(),
        time_bounds: time_bounds(message),
        gateway: Gateway { name: message.gateway, eui: rx.gateway_eui },
        device: Device {
            name: message.device_name.as_deref(),
            dev_eui: message.dev_eui,
            join_eui: message.join_eui,
            dev_addr: message.dev_addr,
            labels: message.device.map(|device| device.labels.as_slice()),
        },
        f_port: message.f_port,
        f_cnt: message.f_cnt,
        confirmed: message.confirmed,
        payload: message.payload.as_deref().map(|payload| BASE64.encode(payload)),
        decoded: None,
        normalized: None,
        decode_errors: &message.decoding.errors,
        decode_warnings: &message.decoding.warnings,
        rx: Radio::of(rx),
        phy_payload: message.frame().map(|frame| BASE64.encode(frame)),
        retransmission: uplink.flags.retransmission,
        simulated: uplink.flags.simulated,
        replay: message.replay,
    }
}

impl<'a> Radio<'a> {
    fn of(rx: &'a Rx) -> Radio<'a> {
        Radio {
            frequency: rx.frequency_hz,
            data_rate: (!rx.data_rate.is_empty()).then_some(rx.data_rate.as_str()),
            coding_rate: rx.coding_rate.as_deref(),
            // JSON has no NaN and no infinity.
            rssi: rx.rssi_dbm.filter(|dbm| dbm.is_finite()),
            snr: rx.snr_db.filter(|db| db.is_finite()),
            channel: rx.channel,
        }
    }
}

fn shown<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn shown_if_any<S: Serializer>(value: &Option<impl Display>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}
