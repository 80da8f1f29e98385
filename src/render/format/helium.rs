//! `format = "helium"`: what the Helium Console's integrations sent, and its functions saw as `uplink`.
//!
//! EUIs are upper-case, and so is `devaddr`, which stands there in the order of the air, as the Console wrote it. Times are
//! milliseconds since 1970, a frequency is in MHz. `uuid` is the uplink's id.
//!
//! Absent: `dc`, `downlink_url`, what only the Console's database knew (`id` of the device, ids of labels and
//! organisations), `lat` and `long`, and `hold_time`, which depends on the attempt. A hotspot's `id` is the gateway's EUI.
//! Without the keys there is no `payload`; the frame itself is always in `raw_packet` (base64). `decoded` is there only
//! if a function had a say, with `status` "success" or "error".
//!
//! Joins have no payload, `port` 0 and `fcnt` 0. Anything else that was on the air has the type "other".

use data_encoding::{BASE64, HEXUPPER};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{TimeBounds, decimal_if_any, error, finite, time_bounds};
use crate::render::Message;
use crate::uplink::{DevAddr, Kind};

#[derive(Serialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    replay: bool,
    uuid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev_eui: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_eui: Option<String>,
    metadata: Metadata<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fcnt: Option<u32>,
    reported_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_packet: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    devaddr: Option<String>,
    hotspots: [Hotspot<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    decoded: Option<Decoded<'a>>,
}

/// Free in the original; what DESIGN section 7 has and Helium has not stands here.
#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<Label<'a>>>,
    time_quality: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_bounds: Option<TimeBounds>,
    #[serde(skip_serializing_if = "super::is_default")]
    retransmission: bool,
    #[serde(skip_serializing_if = "super::is_default")]
    simulated: bool,
}

#[derive(Serialize)]
struct Label<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Hotspot<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    name: &'a str,
    reported_at: i64,
    status: &'static str,
    #[serde(serialize_with = "decimal_if_any", skip_serializing_if = "Option::is_none")]
    rssi: Option<f32>,
    #[serde(serialize_with = "decimal_if_any", skip_serializing_if = "Option::is_none")]
    snr: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spreading: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<u16>,
}

#[derive(Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Decoded<'a> {
    Success { payload: &'a RawValue },
    Error { error: String },
}

impl<'a> Event<'a> {
    pub(super) fn of(message: &'a Message<'_>) -> Event<'a> {
        let uplink = message.uplink;
        let is_join = uplink.kind == Kind::Join;
        Event {
            kind: match uplink.kind {
                Kind::Lorawan | Kind::App => "uplink",
                Kind::Join => "join",
                Kind::Other => "other",
            },
            replay: message.replay,
            uuid: uplink.id.to_string(),
            name: message.device_name.as_deref(),
            dev_eui: message.dev_eui.map(|eui| HEXUPPER.encode(&eui.0)),
            app_eui: message.join_eui.map(|eui| HEXUPPER.encode(&eui.0)),
            metadata: Metadata {
                labels: message
                    .device
                    .map(|device| device.labels.iter().map(|name| Label { name }).collect()),
                time_quality: message.heard.quality.as_str(),
                time_bounds: time_bounds(message),
                retransmission: uplink.flags.retransmission,
                simulated: uplink.flags.simulated,
            },
            fcnt: if is_join { Some(0) } else { message.f_cnt },
            reported_at: milliseconds(message.heard.wall_us),
            payload: message.payload.as_deref().map(|payload| BASE64.encode(payload)),
            payload_size: message.payload.as_ref().map(Vec::len),
            raw_packet: message.frame().map(|frame| BASE64.encode(frame)),
            port: if is_join { Some(0) } else { message.f_port },
            devaddr: message.dev_addr.map(on_the_air),
            hotspots: [Hotspot::of(message)],
            decoded: Decoded::of(message),
        }
    }
}

impl<'a> Hotspot<'a> {
    fn of(message: &'a Message<'_>) -> Hotspot<'a> {
        let rx = message.rx();
        Hotspot {
            id: rx.gateway_eui.map(|eui| HEXUPPER.encode(&eui.0)),
            name: message.gateway,
            reported_at: milliseconds(message.heard.wall_us),
            status: "success",
            rssi: finite(rx.rssi_dbm),
            snr: finite(rx.snr_db),
            spreading: (!rx.data_rate.is_empty()).then_some(rx.data_rate.as_str()),
            frequency: rx.frequency_hz.map(|hz| f64::from(hz) / 1e6),
            channel: rx.channel,
        }
    }
}

impl<'a> Decoded<'a> {
    fn of(message: &'a Message<'_>) -> Option<Decoded<'a>> {
        match (error(message), message.decoding.data.as_deref()) {
            (Some(error), _) => Some(Decoded::Error { error }),
            (None, data) => data.map(|payload| Decoded::Success { payload }),
        }
    }
}

fn milliseconds(wall_us: i64) -> i64 {
    wall_us.div_euclid(1_000)
}

fn on_the_air(addr: DevAddr) -> String {
    let mut bytes = addr.0;
    bytes.reverse();
    HEXUPPER.encode(&bytes)
}
