//! The default body (DESIGN section 7).
//!
//! [`View`] borrows from the uplink and is written in the order of its fields, which is a contract, as are their names.
//! The context of templates is that text read back: a number is in a template what it is in the body, to the digit.

use std::fmt::Display;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::clock::rfc3339;
use crate::lorawan::frame::{self, Frame};
use crate::uplink::{DevAddr, Eui64, Kind, Rx, Uplink};

/// The body of `uplink`, heard by the gateway named `gateway`.
pub(super) fn bytes(gateway: &str, uplink: &Uplink) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&View::of(gateway, uplink))
}

/// What templates read: the body, and the frame in hex.
pub(super) fn context(gateway: &str, uplink: &Uplink) -> Value {
    // A view holds nothing that can't be written or read back; were it otherwise, every value would be missing.
    let mut context: Value =
        bytes(gateway, uplink).and_then(|text| serde_json::from_slice(&text)).unwrap_or_default();
    if let Value::Object(members) = &mut context
        && members.contains_key("phy_payload")
    {
        members.insert("phy_payload_hex".to_owned(), HEXLOWER.encode(&uplink.content).into());
    }
    context
}

#[derive(Serialize)]
struct View<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(serialize_with = "shown")]
    id: uuid::Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    time_quality: &'static str,
    gateway: Gateway<'a>,
    #[serde(skip_serializing_if = "Device::is_empty")]
    device: Device,
    #[serde(skip_serializing_if = "Option::is_none")]
    f_port: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    f_cnt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed: Option<bool>,
    #[serde(skip_serializing_if = "Radio::is_empty")]
    rx: Radio<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phy_payload: Option<String>,
    /// The same bytes had been heard before (RULES S19).
    #[serde(skip_serializing_if = "is_false")]
    retransmission: bool,
    /// Made by `test` (RULES S29).
    #[serde(skip_serializing_if = "is_false")]
    simulated: bool,
}

#[derive(Serialize)]
struct Gateway<'a> {
    name: &'a str,
    #[serde(serialize_with = "shown_if_any", skip_serializing_if = "Option::is_none")]
    eui: Option<Eui64>,
}

#[derive(Serialize, Default, PartialEq)]
struct Device {
    #[serde(serialize_with = "shown_if_any", skip_serializing_if = "Option::is_none")]
    dev_eui: Option<Eui64>,
    #[serde(serialize_with = "shown_if_any", skip_serializing_if = "Option::is_none")]
    join_eui: Option<Eui64>,
    #[serde(serialize_with = "shown_if_any", skip_serializing_if = "Option::is_none")]
    dev_addr: Option<DevAddr>,
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

impl<'a> View<'a> {
    fn of(gateway: &'a str, uplink: &'a Uplink) -> View<'a> {
        let is_radio = uplink.kind != Kind::App;
        let mut view = View {
            kind: match uplink.kind {
                Kind::Lorawan | Kind::App => "uplink",
                Kind::Join => "join",
                Kind::Other => "other",
            },
            id: uplink.id,
            time: rfc3339(uplink.at.wall_us),
            time_quality: uplink.at.source.as_str(),
            gateway: Gateway { name: gateway, eui: uplink.rx.gateway_eui },
            device: Device { dev_eui: uplink.dev_eui, ..Device::default() },
            f_port: None,
            f_cnt: uplink.f_cnt,
            confirmed: None,
            rx: Radio::of(&uplink.rx),
            phy_payload: is_radio.then(|| BASE64.encode(&uplink.content)),
            retransmission: uplink.flags.retransmission,
            simulated: uplink.flags.simulated,
        };
        if matches!(uplink.kind, Kind::Lorawan | Kind::Join) {
            view.add(&frame::parse(&uplink.content));
        }
        view
    }

    /// What the frame itself says in clear.
    fn add(&mut self, frame: &Frame<'_>) {
        match frame {
            Frame::Data(data) => {
                self.device.dev_addr = Some(data.dev_addr);
                self.f_port = data.f_port;
                self.f_cnt.get_or_insert(u32::from(data.f_cnt));
                self.confirmed = Some(data.confirmed);
            }
            Frame::Join(join) => {
                self.device.dev_eui = Some(join.dev_eui);
                self.device.join_eui = Some(join.join_eui);
            }
            _ => {}
        }
    }
}

impl Device {
    fn is_empty(&self) -> bool {
        *self == Device::default()
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

    fn is_empty(&self) -> bool {
        *self == Radio::default()
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

fn is_false(value: &bool) -> bool {
    !value
}
