//! `format = "chirpstack"`: the application events `up` and `join` of ChirpStack v4 (`integration.proto`, as JSON).
//!
//! Protobuf's JSON leaves out what is at its default: no `fCnt` on frame 0, no `confirmed` that is false, no `channel` 0.
//! Times end in `+00:00` as ChirpStack's do; `rssi` is a whole number there.
//!
//! Absent: tenant, application and device profile, `dr` (its index depends on the region), `uplinkId`, `nsTime`,
//! `location`. What the event has no field for stands in `rxInfo[0].metadata`, which takes any text: `gateway_name`,
//! `time_quality`, `time_after`, `time_before`, `decode_error`, `retransmission`, `simulated`, `replay`, and `phy_payload`
//! (base64) where the payload is not known in clear. So a receiver that is strict about field names is content, and nothing is lost.
//!
//! A join request gives the `join` event, which has no radio metadata; its `devAddr` is for the network server to assign.
//! Anything else that was on the air is an `up` without a device.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::Serialize;

use super::radio::{Rate, rate};
use super::{Object, bounds_as_text, error, finite, is_default, time};
use crate::clock::Quality;
use crate::render::Message;
use crate::uplink::{Crc, Kind, Rx};

/// `up` or `join`, which has fewer of the fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event<'a> {
    deduplication_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    device_info: DeviceInfo<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev_addr: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    adr: bool,
    #[serde(skip_serializing_if = "is_default")]
    f_cnt: u32,
    #[serde(skip_serializing_if = "is_default")]
    f_port: u8,
    #[serde(skip_serializing_if = "is_default")]
    confirmed: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Object<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rx_info: Option<[RxInfo<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tx_info: Option<TxInfo>,
}

#[derive(Serialize, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
struct DeviceInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    device_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev_eui: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RxInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway_id: Option<String>,
    /// The gateway's own time, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    gw_time: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    rssi: i32,
    #[serde(skip_serializing_if = "is_default")]
    snr: f32,
    #[serde(skip_serializing_if = "is_default")]
    channel: u16,
    #[serde(skip_serializing_if = "is_default")]
    rf_chain: u8,
    #[serde(skip_serializing_if = "is_default")]
    antenna: u8,
    /// The concentrator's counter, four bytes in base64, as the gateway bridge sends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<String>,
    metadata: BTreeMap<&'static str, std::borrow::Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crc_status: Option<&'static str>,
}

#[derive(Serialize)]
struct TxInfo {
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modulation: Option<Modulation>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Modulation {
    #[serde(rename_all = "camelCase")]
    Lora {
        bandwidth: u32,
        spreading_factor: u8,
        #[serde(skip_serializing_if = "Option::is_none")]
        code_rate: Option<&'static str>,
    },
    Fsk {
        datarate: u32,
    },
    #[serde(rename_all = "camelCase")]
    LrFhss {
        operating_channel_width: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        code_rate: Option<&'static str>,
    },
}

impl<'a> Event<'a> {
    pub(super) fn of(message: &'a Message<'_>) -> Event<'a> {
        let device_name = message.device_name.as_deref();
        let dev_eui = message.dev_eui.map(|eui| eui.to_string());
        let is_join = message.uplink.kind == Kind::Join;
        let up = (!is_join).then_some(message);
        let payload = up.and_then(|up| up.payload.as_deref());
        Event {
            deduplication_id: message.uplink.id.to_string(),
            time: time(message).map(|time| offset_time(&time)),
            device_info: DeviceInfo { device_name, dev_eui },
            dev_addr: message.dev_addr.map(|addr| addr.to_string()),
            adr: up.and_then(|up| up.adr).unwrap_or_default(),
            f_cnt: up.and_then(|up| up.f_cnt).unwrap_or_default(),
            f_port: up.and_then(|up| up.f_port).unwrap_or_default(),
            confirmed: up.and_then(|up| up.confirmed).unwrap_or_default(),
            data: payload.map(|payload| BASE64.encode(payload)).unwrap_or_default(),
            object: up.and_then(|up| Object::of(up.decoding.data.as_deref())),
            rx_info: up.map(|up| [RxInfo::of(up)]),
            tx_info: up.and_then(|up| TxInfo::of(up.rx())),
        }
    }
}

impl<'a> RxInfo<'a> {
    fn of(message: &'a Message<'_>) -> RxInfo<'a> {
        let rx = message.rx();
        let is_gateways = matches!(message.heard.quality, Quality::Gps | Quality::Forwarder);
        RxInfo {
            gateway_id: rx.gateway_eui.map(|eui| eui.to_string()),
            gw_time: time(message).filter(|_| is_gateways).map(|time| offset_time(&time)),
            // Saturates.
            rssi: finite(rx.rssi_dbm).map_or(0, |dbm| dbm.round() as i32),
            snr: finite(rx.snr_db).unwrap_or_default(),
            channel: rx.channel.unwrap_or_default(),
            rf_chain: rx.rf_chain.unwrap_or_default(),
            antenna: rx.antenna.unwrap_or_default(),
            context: rx.tmst.map(|tmst| BASE64.encode(&tmst.to_be_bytes())),
            metadata: metadata(message),
            crc_status: (rx.crc == Crc::Ok).then_some("CRC_OK"),
        }
    }
}

fn metadata<'a>(message: &'a Message<'_>) -> BTreeMap<&'static str, std::borrow::Cow<'a, str>> {
    let flags = message.uplink.flags;
    let mut metadata = BTreeMap::from([
        ("gateway_name", message.gateway.into()),
        ("time_quality", message.heard.quality.as_str().into()),
    ]);
    if let Some(frame) = message.frame().filter(|_| message.payload.is_none()) {
        metadata.insert("phy_payload", BASE64.encode(frame).into());
    }
    metadata.extend(bounds_as_text(message).map(|(name, time)| (name, time.into())));
    if let Some(error) = error(message) {
        metadata.insert("decode_error", error.into());
    }
    for (name, flag) in
        [("retransmission", flags.retransmission), ("simulated", flags.simulated), ("replay", message.replay)]
    {
        if flag {
            metadata.insert(name, "true".into());
        }
    }
    metadata
}

impl TxInfo {
    fn of(rx: &Rx) -> Option<TxInfo> {
        let code_rate = rx.coding_rate.as_deref().and_then(code_rate);
        let modulation = rate(rx).map(|rate| match rate {
            Rate::Lora { spreading, bandwidth } => {
                Modulation::Lora { bandwidth, spreading_factor: spreading, code_rate }
            }
            Rate::Fsk(datarate) => Modulation::Fsk { datarate },
            Rate::LrFhss { width, .. } => Modulation::LrFhss { operating_channel_width: width, code_rate },
        });
        let frequency = rx.frequency_hz;
        (frequency.is_some() || modulation.is_some()).then_some(TxInfo { frequency, modulation })
    }
}

/// `CodeRate` of gw.proto.
fn code_rate(text: &str) -> Option<&'static str> {
    Some(match text {
        "4/5" => "CR_4_5",
        "4/6" => "CR_4_6",
        "4/7" => "CR_4_7",
        "4/8" => "CR_4_8",
        "3/8" => "CR_3_8",
        "2/6" => "CR_2_6",
        "1/4" => "CR_1_4",
        "1/6" => "CR_1_6",
        "5/6" => "CR_5_6",
        "4/5LI" => "CR_LI_4_5",
        "4/6LI" => "CR_LI_4_6",
        "4/8LI" => "CR_LI_4_8",
        _ => return None,
    })
}

fn offset_time(utc: &str) -> String {
    format!("{}+00:00", utc.trim_end_matches('Z'))
}
