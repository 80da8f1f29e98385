//! MQTT 5. A session that the broker forgets at once (clean start, no expiry), no topic aliases, no properties of the will.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode, LastWill, Packet, PubAckReason, PubCompReason, PubRecReason,
    PublishProperties,
};
use rumqttc::v5::mqttbytes::{self, QoS as QoS5};
use rumqttc::v5::{AsyncClient, ConnectionError, EventLoop, MqttOptions, StateError};

use crate::delivery::outcome::{Failure, Layer, Receipt};

use super::super::login::Entry;
use super::super::{CONNECT_TIMEOUT, Mqtt};
use super::broken::{Broken, Place};
#[cfg(feature = "websocket")]
use super::socket::websocket;
use super::{
    Answer, Event, MAX_INCOMING_BYTES, NotTaken, OWN_MESSAGES, Properties, Publication, Refusal, Terms,
    reason, v4,
};

pub(in super::super) struct Inbox {
    events: EventLoop,
    place: Place,
    keep_alive: Duration,
    max_packet_bytes: usize,
    broken: Option<Broken>,
}

pub(super) fn open(mqtt: &Mqtt, entry: &Entry, will: Option<Publication>) -> (AsyncClient, Inbox) {
    let mut options = MqttOptions::new(&mqtt.own.client_id, &mqtt.socket.address, mqtt.peer.port);
    options
        .set_clean_start(true)
        .set_keep_alive(mqtt.keep_alive)
        .set_max_packet_size(Some(u32::from(MAX_INCOMING_BYTES)))
        .set_connection_timeout(CONNECT_TIMEOUT.as_secs())
        .set_network_options(v4::network())
        // Without it the library keeps a place for every packet id there is: 14 MB.
        .set_outgoing_inflight_upper_limit(mqtt.window + OWN_MESSAGES);
    if let Some(username) = &entry.username {
        options.set_credentials(username, entry.password.expose());
    }
    if let Some(will) = will {
        let qos = qos5(will.qos);
        options.set_last_will(LastWill::new(will.topic, will.payload, qos, will.retain, None));
    }
    options.set_transport(mqtt.socket.transport(mqtt.tls.as_ref()));
    let (client, events) = AsyncClient::new(options, usize::from(mqtt.window + OWN_MESSAGES));
    let place = Place {
        peer: mqtt.peer.clone(),
        clock: Arc::clone(&mqtt.clock),
        connected: false,
        doubt: "does it speak MQTT 5 (else set version = \"3.1.1\"), and is this port for TLS?",
    };
    (
        client,
        Inbox {
            events,
            place,
            keep_alive: mqtt.keep_alive,
            max_packet_bytes: mqtt.max_packet_bytes,
            broken: None,
        },
    )
}

pub(super) fn publish(client: &AsyncClient, publication: Publication) -> Result<(), NotTaken> {
    let Publication { topic, payload, qos, retain, properties } = publication;
    let taken = match properties {
        Some(Properties { content_type, user }) => {
            let properties = PublishProperties {
                content_type: Some(content_type),
                user_properties: user.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
                ..PublishProperties::default()
            };
            client.try_publish_with_properties(topic, qos5(qos), retain, payload, properties)
        }
        None => client.try_publish(topic, qos5(qos), retain, payload),
    };
    taken.map_err(|_| NotTaken)
}

impl Inbox {
    pub(super) async fn next(&mut self) -> Result<Event, Broken> {
        if self.broken.is_none() {
            match self.events.poll().await {
                Ok(event) => return self.translated(event),
                Err(error) => {
                    if !was_read_before(&error) {
                        self.events.state.events.clear();
                    }
                    self.broken = Some(judged(&error, &self.place));
                }
            }
        }
        while let Some(event) = self.events.state.events.pop_front() {
            if let rumqttc::v5::Event::Incoming(_) = event {
                return self.translated(event);
            }
        }
        Err(self.broken.clone().unwrap_or_else(|| self.place.ended()))
    }

    fn translated(&mut self, event: rumqttc::v5::Event) -> Result<Event, Broken> {
        Ok(match event {
            rumqttc::v5::Event::Incoming(Packet::ConnAck(connack)) => {
                self.place.connected = true;
                Event::Connected(self.terms(&connack)?)
            }
            rumqttc::v5::Event::Incoming(packet) => match self.answer(&packet) {
                Some((packet_id, answer)) => Event::Answered(packet_id, answer),
                None => Event::Other,
            },
            rumqttc::v5::Event::Outgoing(Outgoing::Publish(packet_id)) => Event::Numbered(packet_id),
            rumqttc::v5::Event::Outgoing(Outgoing::AwaitAck(packet_id)) => Event::StillOpen(packet_id),
            rumqttc::v5::Event::Outgoing(Outgoing::Disconnect) => Event::Left,
            rumqttc::v5::Event::Outgoing(_) => Event::Other,
        })
    }

    /// The last word on a publish; `None` for everything else.
    fn answer(&self, packet: &Packet) -> Option<(u16, Answer)> {
        let (packet_id, of, name, receipt, code, words) = match packet {
            Packet::PubAck(ack) => {
                let words = ack.properties.as_ref().and_then(|all| all.reason_string.as_deref());
                let code = puback_code(ack.reason);
                (ack.pkid, QoS::AtLeastOnce, "PUBACK", Receipt::puback_v5(ack), code, words)
            }
            Packet::PubRec(rec) => {
                let code = pubrec_code(rec.reason);
                if code < 0x80 {
                    return None;
                }
                let words = rec.properties.as_ref().and_then(|all| all.reason_string.as_deref());
                (rec.pkid, QoS::ExactlyOnce, "PUBREC", None, code, words)
            }
            Packet::PubComp(comp) => {
                let words = comp.properties.as_ref().and_then(|all| all.reason_string.as_deref());
                let code = if comp.reason == PubCompReason::Success { 0x00 } else { 0x92 };
                (comp.pkid, QoS::ExactlyOnce, "PUBCOMP", Receipt::pubcomp_v5(comp), code, words)
            }
            _ => return None,
        };
        let answer = match receipt {
            Some(receipt) => Answer { of, name: name.to_owned(), word: Ok(receipt) },
            None => Answer {
                of,
                name: format!("{name} {}", reason::shown(code)),
                word: Err(Refusal {
                    failure: reason::publish(name, code, words, &self.place.peer),
                    ends_session: of == QoS::ExactlyOnce,
                }),
            },
        };
        Some((packet_id, answer))
    }

    fn terms(&mut self, connack: &ConnAck) -> Result<Terms, Broken> {
        let mut terms = Terms::usual(self.keep_alive, self.max_packet_bytes);
        let Some(said) = &connack.properties else { return Ok(terms) };
        if said.receive_max == Some(0) || said.max_packet_size == Some(0) {
            return Err(self.place.odd(&"it allows no publish at all, which is against the protocol"));
        }
        terms.receive_max = said.receive_max.unwrap_or(terms.receive_max);
        if let Some(bytes) = said.max_packet_size {
            terms.max_packet_bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(terms.max_packet_bytes);
        }
        terms.max_qos = match said.max_qos {
            Some(0) => QoS::AtMostOnce,
            Some(1) => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        };
        terms.retains = said.retain_available != Some(0);
        match said.server_keep_alive {
            // It wants no pings, and the library would send nothing else: we go on with ours.
            Some(0) => {
                self.events.options.set_keep_alive(self.keep_alive);
            }
            Some(seconds) => terms.keep_alive = Duration::from_secs(u64::from(seconds)),
            None => {}
        }
        Ok(terms)
    }
}

/// Whether what the library has read but not reported was all right: the error came after it, not with it.
fn was_read_before(error: &ConnectionError) -> bool {
    matches!(
        error,
        ConnectionError::Io(_)
            | ConnectionError::MqttState(
                StateError::Io(_)
                    | StateError::ConnectionAborted
                    | StateError::Deserialization(_)
                    | StateError::ServerDisconnect { .. }
            )
    )
}

fn judged(error: &ConnectionError, place: &Place) -> Broken {
    match error {
        ConnectionError::Io(error) => place.io(error),
        ConnectionError::Tls(error) => place.tls(error),
        ConnectionError::ConnectionRefused(code) => {
            Broken::other(reason::connack(connack_code(*code), &place.peer))
        }
        ConnectionError::Timeout(_) => place.no_answer(),
        ConnectionError::MqttState(error) => state(error, place),
        ConnectionError::NotConnAck(_) => place.no_connack(),
        ConnectionError::RequestsDone => place.ended(),
        #[cfg(feature = "websocket")]
        ConnectionError::Websocket(error) => websocket::broken(error, place),
        #[cfg(feature = "websocket")]
        ConnectionError::WsConnect(_)
        | ConnectionError::InvalidUrl(_)
        | ConnectionError::ResponseValidation(_) => websocket::no_websocket(place, &error.to_string()),
    }
}

fn state(error: &StateError, place: &Place) -> Broken {
    match error {
        StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)) => place.io(error),
        StateError::ConnectionAborted => place.hung_up(),
        StateError::AwaitPingResp => place.no_pings(),
        StateError::ServerDisconnect { reason_code, reason_string } => {
            reason::disconnect(*reason_code as u8, reason_string.as_deref(), &place.peer)
        }
        StateError::Deserialization(mqttbytes::Error::InvalidConnectReturnCode(code)) => {
            if place.connected {
                reason::misplaced(*code, &place.peer)
            } else {
                let message = format!("{} answered CONNACK {}", place.peer, reason::shown(*code));
                Broken::other(Failure::link(Layer::Mqtt, message))
            }
        }
        StateError::Deserialization(error) => place.garbage(error),
        other => place.odd(other),
    }
}

fn qos5(qos: QoS) -> QoS5 {
    match qos {
        QoS::AtMostOnce => QoS5::AtMostOnce,
        QoS::AtLeastOnce => QoS5::AtLeastOnce,
        QoS::ExactlyOnce => QoS5::ExactlyOnce,
    }
}

fn puback_code(reason: PubAckReason) -> u8 {
    match reason {
        PubAckReason::Success => 0x00,
        PubAckReason::NoMatchingSubscribers => 0x10,
        PubAckReason::UnspecifiedError => 0x80,
        PubAckReason::ImplementationSpecificError => 0x83,
        PubAckReason::NotAuthorized => 0x87,
        PubAckReason::TopicNameInvalid => 0x90,
        PubAckReason::PacketIdentifierInUse => 0x91,
        PubAckReason::QuotaExceeded => 0x97,
        PubAckReason::PayloadFormatInvalid => 0x99,
    }
}

fn pubrec_code(reason: PubRecReason) -> u8 {
    match reason {
        PubRecReason::Success => 0x00,
        PubRecReason::NoMatchingSubscribers => 0x10,
        PubRecReason::UnspecifiedError => 0x80,
        PubRecReason::ImplementationSpecificError => 0x83,
        PubRecReason::NotAuthorized => 0x87,
        PubRecReason::TopicNameInvalid => 0x90,
        PubRecReason::PacketIdentifierInUse => 0x91,
        PubRecReason::QuotaExceeded => 0x97,
        PubRecReason::PayloadFormatInvalid => 0x99,
    }
}

fn connack_code(code: ConnectReturnCode) -> u8 {
    match code {
        ConnectReturnCode::Success => 0x00,
        // Codes of MQTT 3.1.1, which the library does not make of an MQTT 5 packet.
        ConnectReturnCode::RefusedProtocolVersion => 0x84,
        ConnectReturnCode::BadClientId => 0x85,
        ConnectReturnCode::ServiceUnavailable => 0x88,
        ConnectReturnCode::UnspecifiedError => 0x80,
        ConnectReturnCode::MalformedPacket => 0x81,
        ConnectReturnCode::ProtocolError => 0x82,
        ConnectReturnCode::ImplementationSpecificError => 0x83,
        ConnectReturnCode::UnsupportedProtocolVersion => 0x84,
        ConnectReturnCode::ClientIdentifierNotValid => 0x85,
        ConnectReturnCode::BadUserNamePassword => 0x86,
        ConnectReturnCode::NotAuthorized => 0x87,
        ConnectReturnCode::ServerUnavailable => 0x88,
        ConnectReturnCode::ServerBusy => 0x89,
        ConnectReturnCode::Banned => 0x8a,
        ConnectReturnCode::BadAuthenticationMethod => 0x8c,
        ConnectReturnCode::TopicNameInvalid => 0x90,
        ConnectReturnCode::PacketTooLarge => 0x95,
        ConnectReturnCode::QuotaExceeded => 0x97,
        ConnectReturnCode::PayloadFormatInvalid => 0x99,
        ConnectReturnCode::RetainNotSupported => 0x9a,
        ConnectReturnCode::QoSNotSupported => 0x9b,
        ConnectReturnCode::UseAnotherServer => 0x9c,
        ConnectReturnCode::ServerMoved => 0x9d,
        ConnectReturnCode::ConnectionRateExceeded => 0x9f,
    }
}
