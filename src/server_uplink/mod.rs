//! What a network server says of an uplink: the JSON of ChirpStack v4 (`event/up`), of The Things Stack, and our own
//! (DESIGN section 7), read into one shape.
//!
//! A local network server or a script hands such a text to a source; it is stored as it came
//! ([`Kind::App`](crate::uplink::Kind::App)) and read again whenever it is sent somewhere, so what is made of it can be
//! improved for what already waits. The shape is told from the text itself (`deviceInfo`, `end_device_ids`, else ours) and
//! does not depend on a config that may have changed.
//!
//! # How lenient, and why
//!
//! Only the device must be named (`dev_eui`): by it the order is kept and the far end knows whose reading it is. What else
//! is missing, of the wrong type or out of range is absent. Unknown keys are ignored. ChirpStack and The Things Stack leave
//! out what is zero, so for them an absent counter is 0 and an absent `confirmed` is false; in our own words absent means
//! unknown.
//!
//! | | ChirpStack v4 | The Things Stack | ours |
//! |---|---|---|---|
//! | id | `deduplicationId` | session key id, counter and `received_at` together | `id` |
//! | device | `deviceInfo.devEui` | `end_device_ids.dev_eui` | `device.dev_eui`, or `dev_eui` |
//! | payload | `data` | `uplink_message.frm_payload` | `payload` |
//! | decoded | `object` | `uplink_message.decoded_payload` | `decoded` |
//! | time | `time` | `uplink_message.received_at`, else `received_at` | `time` |
//! | radio | the best of `rxInfo`, and `txInfo` | the best of `rx_metadata`, and `settings` | `rx`, `gateway.eui` |
//!
//! The Things Stack gives its uplinks no id; its correlation ids differ from version to version. The three together are
//! the same whenever the same uplink is said again, and differ for a device that starts its counter anew. Best is the
//! greatest 8 x SNR + RSSI, as Basics Station judges (RULES S19).
//!
//! # Refused
//!
//! What is no JSON object; what names no device; a ChirpStack event other than `up`, a Things Stack message other than an
//! uplink, a `type` other than `uplink`; more than [`MAX_BYTES`] or [`MAX_DEPTH`], which no uplink needs and which somebody
//! further on would choke on.

mod chirpstack;
mod fields;
mod ours;
#[cfg(test)]
mod tests;
mod tts;

use serde_json::value::RawValue;

use crate::lenient_json as json;
use crate::uplink::{DevAddr, Eui64, Rx};

/// The longest text of an uplink, in bytes. ChirpStack's take 1 to 5 KiB, 30 gateways included; each lane may hold 64.
pub const MAX_BYTES: usize = 64 * 1024;

/// How deep the text of an uplink may be nested; common parsers give up at 128.
pub const MAX_DEPTH: usize = 64;

/// Which server's words a text is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// DESIGN section 7.
    Packhorse,
    /// ChirpStack v4, `event/up`.
    Chirpstack,
    /// The Things Stack, uplink message.
    Tts,
}

/// An uplink in a network server's words.
#[derive(Clone, Debug)]
pub struct ServerUplink {
    /// Whose words.
    pub dialect: Dialect,
    /// What the server calls this uplink, the same if it says it twice (RULES S20).
    pub id: Option<String>,
    /// The device. Always known after [`ServerUplink::parse`].
    pub dev_eui: Option<Eui64>,
    /// JoinEUI.
    pub join_eui: Option<Eui64>,
    /// Its address.
    pub dev_addr: Option<DevAddr>,
    /// Its name on the server.
    pub device_name: Option<String>,
    /// FPort.
    pub f_port: Option<u8>,
    /// The 32-bit counter.
    pub f_cnt: Option<u32>,
    /// The device asked for an acknowledgement.
    pub confirmed: Option<bool>,
    /// The payload in clear.
    pub payload: Option<Vec<u8>>,
    /// What the server's own codec made of it, as text.
    pub decoded: Option<Box<RawValue>>,
    /// When it was received, microseconds since 1970.
    pub time_us: Option<i64>,
    /// The gateway and radio of the best copy.
    pub rx: Rx,
}

/// Why a text is no uplink.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoUplink {
    /// It is not JSON.
    #[error("not JSON (line {line}, column {column})")]
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// It is JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// It names no device.
    #[error("names no device: deviceInfo.devEui, end_device_ids.dev_eui or dev_eui must hold 16 hex digits")]
    NoDevice,
    /// It tells of something else than an uplink: a join, a status, an acknowledgement.
    #[error("an event other than an uplink")]
    OtherEvent,
    /// Longer than [`MAX_BYTES`].
    #[error("longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
}

impl ServerUplink {
    /// Reads a text.
    ///
    /// # Errors
    /// Why it is no uplink.
    pub fn parse(text: &[u8]) -> Result<ServerUplink, NoUplink> {
        if text.len() > MAX_BYTES {
            return Err(NoUplink::TooLong);
        }
        let whole: &RawValue = serde_json::from_slice(text)
            .map_err(|error| NoUplink::NotJson { line: error.line(), column: error.column() })?;
        if json::depth(whole.get()) > MAX_DEPTH {
            return Err(NoUplink::TooDeep);
        }
        let mut dialect = Dialect::Packhorse;
        let is_object = json::members(whole, |key, _| match key {
            "deviceInfo" => dialect = Dialect::Chirpstack,
            "end_device_ids" => dialect = Dialect::Tts,
            _ => {}
        });
        if !is_object {
            return Err(NoUplink::NotAnObject);
        }
        let uplink = match dialect {
            Dialect::Chirpstack => chirpstack::read(whole),
            Dialect::Tts => tts::read(whole),
            Dialect::Packhorse => ours::read(whole),
        }
        .ok_or(NoUplink::OtherEvent)?;
        if uplink.dev_eui.is_none() { Err(NoUplink::NoDevice) } else { Ok(uplink) }
    }

    /// One about which nothing is known yet.
    pub(crate) fn unknown(dialect: Dialect) -> ServerUplink {
        ServerUplink {
            dialect,
            id: None,
            dev_eui: None,
            join_eui: None,
            dev_addr: None,
            device_name: None,
            f_port: None,
            f_cnt: None,
            confirmed: None,
            payload: None,
            decoded: None,
            time_us: None,
            rx: Rx::default(),
        }
    }
}
