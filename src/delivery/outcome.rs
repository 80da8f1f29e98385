//! What became of an attempt.
//!
//! An integration ends every lease with one [`Outcome`]. *Delivered* needs a [`Receipt`], and a receipt is made only from
//! what the far end answered: an accepted status code, a PUBACK, a PUBCOMP. There is no other constructor, so no room can
//! settle an uplink that was merely handed on. (QoS 0 has no answer; its receipt is called what it is.)
//!
//! Everything else is a [`Failure`] with a [`Blame`] (RULES S1): the link, the record, or the endpoint. A failure names the
//! layer it happened in, and its text never holds a secret.

use std::fmt;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5;

use crate::config::SuccessCodes;
use crate::history::Exchange;

/// The far end's word that it has the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt(Answer);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Http(u16),
    PubAck,
    PubComp,
    Written,
}

impl Receipt {
    /// An HTTP answer whose status is among the success codes.
    pub fn http(status: u16, success: &SuccessCodes) -> Option<Receipt> {
        success.contains(status).then_some(Receipt(Answer::Http(status)))
    }

    /// A PUBACK that was paired with the publish of this uplink (QoS 1).
    pub fn puback(_ack: &rumqttc::PubAck) -> Receipt {
        Receipt(Answer::PubAck)
    }

    /// A PUBCOMP that was paired with the publish of this uplink (QoS 2).
    pub fn pubcomp(_comp: &rumqttc::PubComp) -> Receipt {
        Receipt(Answer::PubComp)
    }

    /// A PUBACK of MQTT 5 whose reason is a success (QoS 1); whether somebody has subscribed is no matter of ours.
    pub fn puback_v5(ack: &v5::PubAck) -> Option<Receipt> {
        let success =
            matches!(ack.reason, v5::PubAckReason::Success | v5::PubAckReason::NoMatchingSubscribers);
        success.then_some(Receipt(Answer::PubAck))
    }

    /// A PUBCOMP of MQTT 5 whose reason is a success (QoS 2).
    pub fn pubcomp_v5(comp: &v5::PubComp) -> Option<Receipt> {
        (comp.reason == v5::PubCompReason::Success).then_some(Receipt(Answer::PubComp))
    }

    /// QoS 0: the publish was written to the socket. The protocol offers no more.
    pub fn written_at_qos0() -> Receipt {
        Receipt(Answer::Written)
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Answer::Http(status) => write!(f, "HTTP {status}"),
            Answer::PubAck => f.write_str("PUBACK"),
            Answer::PubComp => f.write_str("PUBCOMP"),
            Answer::Written => f.write_str("written (QoS 0)"),
        }
    }
}

/// Where an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The record could not be turned into what the integration wants.
    Render,
    /// The name did not resolve.
    Dns,
    /// No connection, or it broke.
    Tcp,
    /// The handshake failed.
    Tls,
    /// A certificate is outside its time and our clock is the likelier culprit.
    Clock,
    /// An HTTP answer.
    Http,
    /// An MQTT answer.
    Mqtt,
}

impl Layer {
    /// As in `status` and history.
    pub fn as_str(self) -> &'static str {
        match self {
            Layer::Render => "render",
            Layer::Dns => "dns",
            Layer::Tcp => "tcp",
            Layer::Tls => "tls",
            Layer::Clock => "clock",
            Layer::Http => "http",
            Layer::Mqtt => "mqtt",
        }
    }
}

/// Who is to blame, which decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The link or a passing state of the far end: back off and try again, for ever.
    Link {
        /// How long the far end asked to be left alone (`Retry-After`).
        retry_after: Option<Duration>,
    },
    /// This record and no other: dead letter.
    Record,
    /// The far end refuses us: keep the backlog, raise the alarm, probe.
    Endpoint,
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where.
    pub layer: Layer,
    /// Why.
    pub blame: Blame,
    /// What happened and, where it helps, the next step. Never a secret.
    pub message: String,
}

impl Failure {
    /// A failure of the link.
    pub fn link(layer: Layer, message: impl Into<String>) -> Failure {
        Failure { layer, blame: Blame::Link { retry_after: None }, message: message.into() }
    }

    /// A failure that is the record's fault.
    pub fn record(layer: Layer, message: impl Into<String>) -> Failure {
        Failure { layer, blame: Blame::Record, message: message.into() }
    }

    /// A refusal that is the endpoint's.
    pub fn endpoint(layer: Layer, message: impl Into<String>) -> Failure {
        Failure { layer, blame: Blame::Endpoint, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.layer.as_str(), self.message)
    }
}

/// How a lease ends, and what it was like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How.
    pub outcome: Outcome,
    /// What went over the wire, for the history; `None` where nothing did.
    pub exchange: Option<Exchange>,
}

impl From<Outcome> for Report {
    fn from(outcome: Outcome) -> Report {
        Report { outcome, exchange: None }
    }
}

/// How a lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The far end has it.
    Delivered(Receipt),
    /// It has not.
    Failed(Failure),
    /// A function dropped it: the far end was not asked.
    Filtered,
}
