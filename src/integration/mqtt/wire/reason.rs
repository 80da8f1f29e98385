//! What the reason codes of MQTT 5 mean (section 2.4), and whose fault each of them is (RULES S1).
//!
//! | said in | blames the record | the endpoint | the link, or a passing state |
//! |---|---|---|---|
//! | CONNACK | | 81, 82, 84 to 87, 8A, 8C, 90, 95, 99 to 9B, 9D | 80, 83, 88, 89, 97, 9C, 9F |
//! | PUBACK, PUBREC | 90, 99 | 87 | 80, 83, 91, 97, every other |
//! | DISCONNECT | 90, 95, 99, if one record alone was under way | 87, 9A, 9B, 9D | every other |
//!
//! A DISCONNECT does not say which publish it is about, so a reason that blames one is only a suspicion
//! ([`Cause::Blamed`]) until a record was alone (RULES S17).

use crate::delivery::outcome::{Failure, Layer};
use crate::dial::Peer;
use crate::printable::printable;

use super::broken::{Broken, Cause};

/// What a reason is called in the standard.
fn name(code: u8) -> &'static str {
    match code {
        0x00 => "success",
        0x04 => "disconnect with will",
        0x10 => "no matching subscribers",
        0x80 => "unspecified error",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "implementation specific error",
        0x84 => "unsupported protocol version",
        0x85 => "client identifier not valid",
        0x86 => "bad user name or password",
        0x87 => "not authorized",
        0x88 => "server unavailable",
        0x89 => "server busy",
        0x8a => "banned",
        0x8b => "server shutting down",
        0x8c => "bad authentication method",
        0x8d => "keep alive timeout",
        0x8e => "session taken over",
        0x8f => "topic filter invalid",
        0x90 => "topic name invalid",
        0x91 => "packet identifier in use",
        0x92 => "packet identifier not found",
        0x93 => "receive maximum exceeded",
        0x94 => "topic alias invalid",
        0x95 => "packet too large",
        0x96 => "message rate too high",
        0x97 => "quota exceeded",
        0x98 => "administrative action",
        0x99 => "payload format invalid",
        0x9a => "retain not supported",
        0x9b => "QoS not supported",
        0x9c => "use another server",
        0x9d => "server moved",
        0x9f => "connection rate exceeded",
        0xa0 => "maximum connect time",
        _ => "unknown reason",
    }
}

/// As it is shown: `0x97 (quota exceeded)`.
pub(super) fn shown(code: u8) -> String {
    format!("0x{code:02x} ({})", name(code))
}

/// What the broker added in words.
fn said(words: Option<&str>) -> String {
    words.filter(|words| !words.is_empty()).map(|words| format!(": {}", printable(words))).unwrap_or_default()
}

/// A CONNACK that refuses us.
pub(super) fn connack(code: u8, peer: &Peer) -> Failure {
    let hint = match code {
        0x84 => "; it does not speak MQTT 5, so set version = \"3.1.1\"",
        0x85 => "; check client_id",
        0x86 => "; check username and password",
        // 0x87 is what mosquitto says of a wrong password, too.
        0x87 | 0x8a => "; check username, password, client_id and the broker's access rules",
        0x90 | 0x99 => "; check the topic and payload of the will",
        0x9a => "; set retain = false in the will",
        0x9b => "; lower the qos of the will",
        0x9d => "; ask its operator for the new address",
        _ => "",
    };
    let message = format!("{peer} refused the connection, CONNACK {}{hint}", shown(code));
    match code {
        0x80 | 0x83 | 0x88 | 0x89 | 0x97 | 0x9c | 0x9f => Failure::link(Layer::Mqtt, message),
        _ => Failure::endpoint(Layer::Mqtt, message),
    }
}

/// An answer to a publish that refuses it.
pub(super) fn publish(packet: &str, code: u8, words: Option<&str>, peer: &Peer) -> Failure {
    let message = format!("{peer} answered {packet} {}{}", shown(code), said(words));
    match code {
        0x90 | 0x99 => Failure::record(Layer::Mqtt, message),
        0x87 => Failure::endpoint(
            Layer::Mqtt,
            format!("{message}; check what this user may publish to, and the topic"),
        ),
        _ => Failure::link(Layer::Mqtt, message),
    }
}

/// A DISCONNECT from the broker.
pub(super) fn disconnect(code: u8, words: Option<&str>, peer: &Peer) -> Broken {
    let hint = match code {
        0x87 => "; check this user's access rules",
        0x8e => "; another client uses the same client id: check client_id of the other gateways",
        0x9a => "; set retain = false",
        0x9b => "; lower qos",
        0x9d => "; ask its operator for the new address",
        _ => "",
    };
    let message = format!("{peer} ended the session, DISCONNECT {}{}{hint}", shown(code), said(words));
    let failure = match code {
        0x87 | 0x9a | 0x9b | 0x9d => Failure::endpoint(Layer::Mqtt, message),
        _ => Failure::link(Layer::Mqtt, message),
    };
    Broken { failure, cause: blame(code) }
}

/// An answer whose reason its packet can't have; some brokers say 0x95 in a PUBACK.
pub(super) fn misplaced(code: u8, peer: &Peer) -> Broken {
    let message = format!("{peer} answered with reason {}, which that packet can't have", shown(code));
    Broken { failure: Failure::link(Layer::Mqtt, message), cause: blame(code) }
}

fn blame(code: u8) -> Cause {
    match code {
        0x90 | 0x95 | 0x99 => Cause::Blamed,
        // Not one word, or one about the packets themselves: what we sent may be the reason.
        0x80..=0x83 => Cause::Closed,
        _ => Cause::Other,
    }
}
