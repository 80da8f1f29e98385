//! MQTT 3.1.1.

use std::sync::Arc;

use rumqttc::mqttbytes::{self, QoS};
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, EventLoop, LastWill, MqttOptions, NetworkOptions,
    Outgoing, Packet, StateError,
};

use crate::delivery::outcome::{Failure, Layer, Receipt};
use crate::dial::Peer;

use super::super::login::Entry;
use super::super::{CONNECT_TIMEOUT, Mqtt};
use super::broken::{Broken, Place};
#[cfg(feature = "websocket")]
use super::socket::websocket;
use super::{Answer, Event, MAX_INCOMING_BYTES, NotTaken, OWN_MESSAGES, Publication, Terms};

pub(in super::super) struct Inbox {
    events: EventLoop,
    place: Place,
    terms: Terms,
    broken: Option<Broken>,
}

pub(super) fn open(mqtt: &Mqtt, entry: &Entry, will: Option<Publication>) -> (AsyncClient, Inbox) {
    let mut options = MqttOptions::new(&mqtt.own.client_id, &mqtt.socket.address, mqtt.peer.port);
    options
        .set_clean_session(true)
        .set_keep_alive(mqtt.keep_alive)
        .set_max_packet_size(usize::from(MAX_INCOMING_BYTES), mqtt.max_packet_bytes)
        .set_inflight(mqtt.window + OWN_MESSAGES);
    if let Some(username) = &entry.username {
        options.set_credentials(username, entry.password.expose());
    }
    if let Some(will) = will {
        options.set_last_will(LastWill::new(will.topic, will.payload, will.qos, will.retain));
    }
    options.set_transport(mqtt.socket.transport(mqtt.tls.as_ref()));
    let (client, mut events) = AsyncClient::new(options, usize::from(mqtt.window + OWN_MESSAGES));
    events.set_network_options(network());
    let place = Place {
        peer: mqtt.peer.clone(),
        clock: Arc::clone(&mqtt.clock),
        connected: false,
        doubt: "is this port for TLS, or another protocol?",
    };
    (
        client,
        Inbox { events, place, terms: Terms::usual(mqtt.keep_alive, mqtt.max_packet_bytes), broken: None },
    )
}

pub(super) fn network() -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    network.set_tcp_nodelay(true);
    network
}

pub(super) fn publish(client: &AsyncClient, publication: Publication) -> Result<(), NotTaken> {
    let Publication { topic, payload, qos, retain, properties: _ } = publication;
    client.try_publish(topic, qos, retain, payload).map_err(|_| NotTaken)
}

impl Inbox {
    pub(super) async fn next(&mut self) -> Result<Event, Broken> {
        if self.broken.is_none() {
            match self.events.poll().await {
                Ok(event) => return Ok(self.translated(event)),
                Err(error) => {
                    if !was_read_before(&error) {
                        self.events.state.events.clear();
                    }
                    self.broken = Some(judged(&error, &self.place));
                }
            }
        }
        while let Some(event) = self.events.state.events.pop_front() {
            if let rumqttc::Event::Incoming(_) = event {
                return Ok(self.translated(event));
            }
        }
        Err(self.broken.clone().unwrap_or_else(|| self.place.ended()))
    }

    fn translated(&mut self, event: rumqttc::Event) -> Event {
        match event {
            rumqttc::Event::Incoming(Packet::ConnAck(_)) => {
                self.place.connected = true;
                Event::Connected(self.terms)
            }
            rumqttc::Event::Incoming(Packet::PubAck(ack)) => {
                let word = Ok(Receipt::puback(&ack));
                Event::Answered(ack.pkid, Answer { of: QoS::AtLeastOnce, name: "PUBACK".to_owned(), word })
            }
            rumqttc::Event::Incoming(Packet::PubComp(comp)) => {
                let word = Ok(Receipt::pubcomp(&comp));
                Event::Answered(comp.pkid, Answer { of: QoS::ExactlyOnce, name: "PUBCOMP".to_owned(), word })
            }
            rumqttc::Event::Outgoing(Outgoing::Publish(packet_id)) => Event::Numbered(packet_id),
            rumqttc::Event::Outgoing(Outgoing::AwaitAck(packet_id)) => Event::StillOpen(packet_id),
            rumqttc::Event::Outgoing(Outgoing::Disconnect) => Event::Left,
            _ => Event::Other,
        }
    }
}

/// Whether what the library has read but not reported was all right: the error came after it, not with it.
fn was_read_before(error: &ConnectionError) -> bool {
    matches!(
        error,
        ConnectionError::Io(_)
            | ConnectionError::MqttState(
                StateError::Io(_) | StateError::ConnectionAborted | StateError::Deserialization(_)
            )
    )
}

fn judged(error: &ConnectionError, place: &Place) -> Broken {
    match error {
        ConnectionError::Io(error) => place.io(error),
        ConnectionError::Tls(error) => place.tls(error),
        ConnectionError::ConnectionRefused(code) => Broken::other(refused(*code, &place.peer)),
        ConnectionError::NetworkTimeout => place.no_answer(),
        ConnectionError::FlushTimeout => {
            let message = format!("{} stopped reading; the link may be half open", place.peer);
            Broken::other(Failure::link(Layer::Tcp, message))
        }
        ConnectionError::MqttState(error) => match error {
            StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)) => {
                place.io(error)
            }
            StateError::Deserialization(error) => place.garbage(error),
            StateError::ConnectionAborted => place.hung_up(),
            StateError::AwaitPingResp => place.no_pings(),
            other => place.odd(other),
        },
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

fn refused(code: ConnectReturnCode, peer: &Peer) -> Failure {
    let endpoint = |message: &str| Failure::endpoint(Layer::Mqtt, format!("{peer} {message}"));
    match code {
        ConnectReturnCode::BadUserNamePassword => {
            endpoint("refused the user name or password (CONNACK 4); check username and password")
        }
        ConnectReturnCode::NotAuthorized => {
            // What mosquitto says of a wrong password, too.
            endpoint(
                "does not authorise this client (CONNACK 5); check username, password, client_id and the broker's access rules",
            )
        }
        ConnectReturnCode::BadClientId => endpoint("refused the client id (CONNACK 2); check client_id"),
        ConnectReturnCode::RefusedProtocolVersion => endpoint("does not speak MQTT 3.1.1 (CONNACK 1)"),
        ConnectReturnCode::ServiceUnavailable => {
            Failure::link(Layer::Mqtt, format!("{peer} is unavailable (CONNACK 3)"))
        }
        ConnectReturnCode::Success => Failure::link(Layer::Mqtt, format!("{peer} ended the session")),
    }
}
