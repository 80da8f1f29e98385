//! `format = "tts"`: the application uplink of The Things Stack v3 (`ApplicationUp`, as JSON).
//!
//! Empty fields are left out, EUIs and DevAddr are upper-case, 64-bit numbers are strings. The uplink's id is in
//! `correlation_ids`, where The Things Stack has its own. `device_id` is the device's name if it is an id by the rules of
//! The Things Stack, else `eui-` and the DevEUI, which is its console's default; the same goes for `gateway_id`.
//!
//! Absent: `application_ids`, session keys, `network_ids`, `version_ids`, `locations`, and `join_eui` of uplinks that do not
//! say it. Errors of a function stand among `decoded_payload_warnings`. What has no field stands in `attributes`, which
//! takes any text: `gateway_name`, `time_quality`, `time_after`, `time_before`, `retransmission`, `replay`, and `phy_payload`
//! (base64) where the payload is not known in clear.
//!
//! The Things Stack tells applications of accepted joins (`join_accept`), and a gateway cannot know that. A join request is
//! sent as `join_request`, with the metadata of an uplink. Anything else that was on the air is an `uplink_message` without
//! a device.

use std::borrow::Cow;
use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::Serialize;
use serde_json::value::RawValue;

use super::radio::{Rate, lora_airtime_us, rate};
use super::{Object, bounds_as_text, decimal_if_any, error, finite, is_default, time};
use crate::clock::Quality;
use crate::render::Message;
use crate::uplink::{Eui64, Kind, Rx};

#[derive(Serialize)]
pub(super) struct Event<'a> {
    #[serde(skip_serializing_if = "is_default")]
    end_device_ids: DeviceIds<'a>,
    correlation_ids: [String; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    received_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uplink_message: Option<Uplink<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    join_request: Option<Uplink<'a>>,
    #[serde(skip_serializing_if = "is_default")]
    simulated: bool,
}

#[derive(Serialize, Default, PartialEq)]
struct DeviceIds<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev_eui: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    join_eui: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev_addr: Option<String>,
}

#[derive(Serialize)]
struct Uplink<'a> {
    #[serde(skip_serializing_if = "is_default")]
    f_port: u8,
    #[serde(skip_serializing_if = "is_default")]
    f_cnt: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    frm_payload: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    decoded_payload: Option<Object<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    decoded_payload_warnings: Vec<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    normalized_payload: Option<Objects<'a>>,
    rx_metadata: [RxMetadata<'a>; 1],
    settings: Settings<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_at: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    confirmed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumed_airtime: Option<String>,
    attributes: BTreeMap<&'static str, Cow<'a, str>>,
}

/// A list of objects; `normalizeUplink` may give one alone.
#[derive(Serialize)]
#[serde(untagged)]
enum Objects<'a> {
    One([Object<'a>; 1]),
    Many(&'a RawValue),
}

#[derive(Serialize)]
struct RxMetadata<'a> {
    gateway_ids: GatewayIds<'a>,
    #[serde(skip_serializing_if = "is_default")]
    antenna_index: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    timestamp: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    fine_timestamp: Option<String>,
    #[serde(serialize_with = "decimal_if_any", skip_serializing_if = "Option::is_none")]
    rssi: Option<f32>,
    #[serde(serialize_with = "decimal_if_any", skip_serializing_if = "Option::is_none")]
    signal_rssi: Option<f32>,
    #[serde(serialize_with = "decimal_if_any", skip_serializing_if = "Option::is_none")]
    channel_rssi: Option<f32>,
    #[serde(serialize_with = "decimal_if_any", skip_serializing_if = "Option::is_none")]
    snr: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_offset: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    channel_index: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    gps_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_at: Option<String>,
}

#[derive(Serialize)]
struct GatewayIds<'a> {
    gateway_id: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eui: Option<String>,
}

#[derive(Serialize)]
struct Settings<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    data_rate: Option<DataRate<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    timestamp: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum DataRate<'a> {
    Lora {
        bandwidth: u32,
        spreading_factor: u8,
        #[serde(skip_serializing_if = "Option::is_none")]
        coding_rate: Option<&'a str>,
    },
    Fsk {
        bit_rate: u32,
    },
    Lrfhss {
        #[serde(skip_serializing_if = "is_default")]
        modulation_type: u32,
        operating_channel_width: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        coding_rate: Option<&'a str>,
    },
}

impl<'a> Event<'a> {
    pub(super) fn of(message: &'a Message<'_>) -> Event<'a> {
        let uplink = Some(Uplink::of(message));
        let (uplink_message, join_request) =
            if message.uplink.kind == Kind::Join { (None, uplink) } else { (uplink, None) };
        Event {
            end_device_ids: DeviceIds {
                device_id: id(message.device_name.as_deref(), message.dev_eui),
                dev_eui: message.dev_eui.map(upper),
                join_eui: message.join_eui.map(upper),
                dev_addr: message.dev_addr.map(upper),
            },
            correlation_ids: [format!("packhorse:uplink:{}", message.uplink.id)],
            received_at: time(message),
            uplink_message,
            join_request,
            simulated: message.uplink.flags.simulated,
        }
    }
}

impl<'a> Uplink<'a> {
    fn of(message: &'a Message<'_>) -> Uplink<'a> {
        let decoding = &message.decoding;
        let mut warnings: Vec<Cow<'a, str>> =
            decoding.warnings.iter().map(|text| text.as_str().into()).collect();
        warnings.extend(error(message).map(Cow::from));
        let size = message.frame().map(<[u8]>::len);
        let airtime = size.and_then(|size| lora_airtime_us(message.rx(), size));
        Uplink {
            f_port: message.f_port.unwrap_or_default(),
            f_cnt: message.f_cnt.unwrap_or_default(),
            frm_payload: message.payload.as_deref().map(|payload| BASE64.encode(payload)).unwrap_or_default(),
            decoded_payload: Object::of(decoding.data.as_deref()),
            decoded_payload_warnings: warnings,
            normalized_payload: decoding.normalized.as_deref().and_then(Objects::of),
            rx_metadata: [RxMetadata::of(message)],
            settings: Settings::of(message),
            received_at: time(message),
            confirmed: message.confirmed.unwrap_or_default(),
            consumed_airtime: airtime.map(|us| format!("{}.{:06}s", us / 1_000_000, us % 1_000_000)),
            attributes: attributes(message),
        }
    }
}

impl<'a> Objects<'a> {
    fn of(result: &'a RawValue) -> Option<Objects<'a>> {
        if result.get().starts_with('[') {
            return Some(Objects::Many(result));
        }
        Object::of(Some(result)).map(|object| Objects::One([object]))
    }
}

impl<'a> RxMetadata<'a> {
    fn of(message: &'a Message<'_>) -> RxMetadata<'a> {
        let rx = message.rx();
        let rssi = finite(rx.rssi_dbm);
        let gateway_id = id(Some(message.gateway), rx.gateway_eui);
        RxMetadata {
            gateway_ids: GatewayIds {
                gateway_id: gateway_id.unwrap_or(Cow::Borrowed(message.gateway)),
                eui: rx.gateway_eui.map(upper),
            },
            antenna_index: rx.antenna.unwrap_or_default(),
            time: gateway_time(message),
            timestamp: rx.tmst.unwrap_or_default(),
            fine_timestamp: rx.fine_time_ns.map(|ns| ns.to_string()),
            rssi,
            signal_rssi: finite(rx.rssi_signal_dbm),
            channel_rssi: rssi,
            snr: finite(rx.snr_db),
            frequency_offset: rx.frequency_offset_hz.map(|hz| hz.to_string()),
            channel_index: rx.channel.unwrap_or_default(),
            gps_time: time(message).filter(|_| message.heard.quality == Quality::Gps),
            received_at: time(message),
        }
    }
}

impl<'a> Settings<'a> {
    fn of(message: &'a Message<'_>) -> Settings<'a> {
        let rx = message.rx();
        Settings {
            data_rate: data_rate(rx),
            frequency: rx.frequency_hz.map(|hz| hz.to_string()),
            timestamp: rx.tmst.unwrap_or_default(),
            time: gateway_time(message),
        }
    }
}

fn data_rate(rx: &Rx) -> Option<DataRate<'_>> {
    let coding_rate = rx.coding_rate.as_deref();
    Some(match rate(rx)? {
        Rate::Lora { spreading, bandwidth } => {
            DataRate::Lora { bandwidth, spreading_factor: spreading, coding_rate }
        }
        Rate::Fsk(bit_rate) => DataRate::Fsk { bit_rate },
        Rate::LrFhss { modulation, width } => {
            DataRate::Lrfhss { modulation_type: modulation, operating_channel_width: width, coding_rate }
        }
    })
}

fn attributes<'a>(message: &'a Message<'_>) -> BTreeMap<&'static str, Cow<'a, str>> {
    let mut attributes: BTreeMap<&'static str, Cow<'a, str>> = BTreeMap::from([
        ("gateway_name", message.gateway.into()),
        ("time_quality", message.heard.quality.as_str().into()),
    ]);
    if let Some(frame) = message.frame().filter(|_| message.payload.is_none()) {
        attributes.insert("phy_payload", BASE64.encode(frame).into());
    }
    attributes.extend(bounds_as_text(message).map(|(name, time)| (name, time.into())));
    for (name, flag) in [("retransmission", message.uplink.flags.retransmission), ("replay", message.replay)]
    {
        if flag {
            attributes.insert(name, "true".into());
        }
    }
    attributes
}

/// The gateway's own time, where it has one.
fn gateway_time(message: &Message<'_>) -> Option<String> {
    time(message).filter(|_| matches!(message.heard.quality, Quality::Gps | Quality::Forwarder))
}

/// A name that is an id by the rules of The Things Stack, else its default for what has an EUI, else the name.
fn id(name: Option<&str>, eui: Option<Eui64>) -> Option<Cow<'_, str>> {
    match (name, eui) {
        (Some(name), _) if is_id(name) => Some(name.into()),
        (_, Some(eui)) => Some(format!("eui-{eui}").into()),
        (name, None) => name.map(Cow::from),
    }
}

/// `^[a-z0-9](?:[-]?[a-z0-9]){2,}$`, at most 36 characters.
fn is_id(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let letters = name.chars().filter(|c| *c != '-').count();
    name.len() <= 36 && letters >= 3 && name.split('-').all(|part| !part.is_empty() && part.chars().all(fine))
}

fn upper(value: impl std::fmt::Display) -> String {
    value.to_string().to_ascii_uppercase()
}
