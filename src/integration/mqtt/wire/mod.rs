//! One connection of either version of MQTT, as the session sees it.
//!
//! rumqttc has a module for each version, alike and yet with types of their own. This seam makes one of them: an
//! [`Outbox`] takes messages, an [`Inbox`] reports what happened, and what an answer means is decided here, where the
//! version is known. The session above settles, waits and gives up without asking which version it speaks.
//!
//! What the library does not tell by itself:
//! - An error ends the connection at once, though answers may have been read before it. They are handed out first, so that
//!   a broker that acknowledges and then hangs up is not asked the same again. Only an answer that was the error itself
//!   is not.
//! - MQTT 5: the broker's limits ([`Terms`]) and its reasons ([`reason`]); a refused PUBREC or PUBCOMP leaks a place of the
//!   library's window, so such an answer says that the session must end ([`Refusal`]).
//! - MQTT 5: a DISCONNECT of a reason alone, one byte, is legal, but the library passes over it: it shows as a connection
//!   that was closed.

mod broken;
#[cfg(feature = "mqtt5")]
mod reason;
mod socket;
mod v4;
#[cfg(feature = "mqtt5")]
mod v5;

use std::time::Duration;

use rumqttc::mqttbytes::QoS;

use crate::config::{self, MqttVersion, Problem};
use crate::delivery::outcome::{Failure, Receipt};

use super::Mqtt;
use super::login::Entry;
pub(super) use broken::{Broken, Cause};
pub(super) use socket::{Socket, host};

/// Places in the library's queue and window beside the records: birth, farewell, state, DISCONNECT.
const OWN_MESSAGES: u16 = 4;

/// The largest packet a broker may send us: we subscribe to nothing, so acknowledgements only.
const MAX_INCOMING_BYTES: u16 = 4 * 1024;

/// What MQTT 5 carries beside the payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Properties {
    /// MIME type of the payload.
    pub(super) content_type: String,
    /// User properties, in this order.
    pub(super) user: Vec<(&'static str, String)>,
}

impl Properties {
    /// Bytes on the wire (MQTT 5, section 3.3.2.3): an identifier and two lengths each.
    fn bytes(&self) -> usize {
        let user: usize = self.user.iter().map(|(name, value)| 5 + name.len() + value.len()).sum();
        3 + self.content_type.len() + user
    }
}

/// A message on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publication {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// For MQTT 5; the older version has no place for them.
    pub(super) properties: Option<Properties>,
}

/// The size of a PUBLISH of this version, header and all.
pub(super) fn packet_bytes(is_v5: bool, publication: &Publication) -> usize {
    let Publication { topic, payload, qos, properties, .. } = publication;
    let packet_id = if *qos == QoS::AtMostOnce { 0 } else { 2 };
    let properties = properties.as_ref().map_or(0, Properties::bytes);
    let properties = if is_v5 { integer_bytes(properties) + properties } else { 0 };
    let rest = 2 + topic.len() + packet_id + properties + payload.len();
    1 + integer_bytes(rest) + rest
}

/// The size of a variable byte integer.
fn integer_bytes(value: usize) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

/// What the broker allows on this connection. MQTT 3.1.1 has no words for it: whatever it does not allow, it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// The largest packet it takes.
    pub(super) max_packet_bytes: usize,
    /// How many publishes may wait for their answers.
    pub(super) receive_max: u16,
    /// The highest quality of service.
    pub(super) max_qos: QoS,
    /// Whether it retains messages.
    pub(super) retains: bool,
    /// How often we ping it.
    pub(super) keep_alive: Duration,
}

impl Terms {
    /// Those of a broker that has not said any.
    pub(super) fn usual(keep_alive: Duration, max_packet_bytes: usize) -> Terms {
        Terms {
            max_packet_bytes,
            receive_max: u16::MAX,
            max_qos: QoS::ExactlyOnce,
            retains: true,
            keep_alive,
        }
    }

    /// The quality of service that a message of `wanted` gets.
    pub(super) fn qos(&self, wanted: QoS) -> QoS {
        if wanted > self.max_qos { self.max_qos } else { wanted }
    }
}

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    /// CONNACK: the broker let us in.
    Connected(Terms),
    /// The oldest publish that had no packet id was written under this one; 0 for QoS 0.
    Numbered(u16),
    /// What was published under this packet id was answered.
    Answered(u16, Answer),
    /// A packet id came up again that the broker has not answered: it acknowledges out of order.
    StillOpen(u16),
    /// DISCONNECT was written.
    Left,
    /// Nothing of interest, but a sign of life.
    Other,
}

/// The end of a publish.
#[derive(Debug)]
pub(super) struct Answer {
    /// The quality of service whose last word this is.
    pub(super) of: QoS,
    /// What it is called: `PUBACK`, or `PUBREC 0x97 (quota exceeded)`.
    pub(super) name: String,
    /// The broker has it, or has not.
    pub(super) word: Result<Receipt, Refusal>,
}

/// The broker answered a publish with a reason against it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) failure: Failure,
    /// The library can't go on after it.
    pub(super) ends_session: bool,
}

/// Takes messages. It never waits: it has room for the window and for our own messages.
pub(super) enum Outbox {
    V4(rumqttc::AsyncClient),
    #[cfg(feature = "mqtt5")]
    V5(rumqttc::v5::AsyncClient),
}

/// The queue is full, or the connection has gone.
#[derive(Debug)]
pub(super) struct NotTaken;

impl Outbox {
    pub(super) fn publish(&self, publication: Publication) -> Result<(), NotTaken> {
        match self {
            Outbox::V4(client) => v4::publish(client, publication),
            #[cfg(feature = "mqtt5")]
            Outbox::V5(client) => v5::publish(client, publication),
        }
    }

    pub(super) fn disconnect(&self) -> Result<(), NotTaken> {
        match self {
            Outbox::V4(client) => client.try_disconnect().map_err(|_| NotTaken),
            #[cfg(feature = "mqtt5")]
            Outbox::V5(client) => client.try_disconnect().map_err(|_| NotTaken),
        }
    }
}

/// Reports what happened, one at a time.
pub(super) enum Inbox {
    V4(Box<v4::Inbox>),
    #[cfg(feature = "mqtt5")]
    V5(Box<v5::Inbox>),
}

impl Inbox {
    /// The next event. Not to be cancelled and then called again: what the library was writing may be lost. After an error
    /// there is nothing more.
    pub(super) async fn next(&mut self) -> Result<Event, Broken> {
        match self {
            Inbox::V4(inbox) => inbox.next().await,
            #[cfg(feature = "mqtt5")]
            Inbox::V5(inbox) => inbox.next().await,
        }
    }
}

/// A new connection, for one session.
pub(super) fn open(mqtt: &Mqtt, entry: &Entry, will: Option<Publication>) -> (Outbox, Inbox) {
    #[cfg(feature = "mqtt5")]
    if mqtt.is_v5 {
        let (client, inbox) = v5::open(mqtt, entry, will);
        return (Outbox::V5(client), Inbox::V5(Box::new(inbox)));
    }
    let (client, inbox) = v4::open(mqtt, entry, will);
    (Outbox::V4(client), Inbox::V4(Box::new(inbox)))
}

/// Why the version that is asked for can't be spoken.
pub(super) fn unavailable(name: &str, mqtt: &config::Mqtt) -> Option<Problem> {
    if cfg!(feature = "mqtt5") || mqtt.version.value != MqttVersion::V5 {
        return None;
    }
    let problem = Problem::error(
        &mqtt.version.place,
        format!("integration.{name}.version"),
        "this build has no MQTT 5",
    );
    Some(problem.hint("use version = \"3.1.1\", or a build with the feature \"mqtt5\""))
}

#[cfg(all(test, feature = "mqtt5"))]
mod tests;
