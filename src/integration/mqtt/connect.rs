//! What a connection needs before it starts, and what its errors mean.

use std::io;

use rumqttc::mqttbytes;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, EventLoop, LastWill, MqttOptions, NetworkOptions,
    StateError, TlsConfiguration, TlsError, Transport,
};

use crate::delivery::outcome::{Failure, Layer};
use crate::dial::{self, Peer};

use super::login::Entry;
use super::{Announcement, CONNECT_TIMEOUT, Mqtt};

/// Places in the library's queue and window beside the records: birth, farewell, DISCONNECT.
const OWN_MESSAGES: u16 = 3;

/// The largest packet a broker may send us: we subscribe to nothing, so acknowledgements only.
const MAX_INCOMING_BYTES: usize = 4 * 1024;

impl Mqtt {
    /// A new client and event loop, for one connection.
    pub(super) fn new_connection(
        &self,
        entry: &Entry,
        will: Option<&Announcement>,
    ) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(&self.client_id, &self.peer.host, self.peer.port);
        options
            .set_clean_session(true)
            .set_keep_alive(self.keep_alive)
            .set_max_packet_size(MAX_INCOMING_BYTES, self.max_packet_bytes)
            .set_inflight(self.window + OWN_MESSAGES);
        if let Some(username) = &entry.username {
            options.set_credentials(username, entry.password.expose());
        }
        if let Some(will) = will {
            options.set_last_will(LastWill::new(&will.topic, will.payload.as_bytes(), will.qos, will.retain));
        }
        if let Some(tls) = &self.tls {
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.current())));
        }
        let (client, mut events) = AsyncClient::new(options, usize::from(self.window + OWN_MESSAGES));
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        (client, events)
    }
}

/// What an error of the event loop means, and whose fault it is (RULES S1).
pub(super) fn classify(error: &ConnectionError, broker: &Peer, connected: bool) -> Failure {
    match error {
        ConnectionError::Io(error) => io_failure(error, broker, connected),
        ConnectionError::Tls(TlsError::TLS(error)) => dial::tls_failure(error, broker),
        ConnectionError::Tls(TlsError::Io(error)) => io_failure(error, broker, connected),
        ConnectionError::Tls(error) => Failure::link(Layer::Tls, format!("{broker}: {error}")),
        ConnectionError::ConnectionRefused(code) => refused(*code, broker),
        ConnectionError::NetworkTimeout => Failure::link(
            Layer::Tcp,
            format!("{broker} did not answer within {} s", CONNECT_TIMEOUT.as_secs()),
        ),
        ConnectionError::FlushTimeout => {
            Failure::link(Layer::Tcp, format!("{broker} stopped reading; the link may be half open"))
        }
        ConnectionError::MqttState(error) => state_failure(error, broker, connected),
        ConnectionError::NotConnAck(_) => Failure::link(
            Layer::Mqtt,
            format!("{broker} answered CONNECT with something else; is it an MQTT broker?"),
        ),
        ConnectionError::RequestsDone => Failure::link(Layer::Mqtt, "the session ended"),
    }
}

/// Before CONNACK a connection that is closed says something about the port, not about the link.
fn io_failure(error: &io::Error, broker: &Peer, connected: bool) -> Failure {
    let text = error.to_string();
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionAborted if !connected => Failure::link(
            Layer::Mqtt,
            format!(
                "{broker} closed the connection before CONNACK; is this port for TLS, or another protocol?"
            ),
        ),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset => {
            Failure::link(Layer::Tcp, format!("{broker} closed the connection"))
        }
        _ if text.contains("lookup address") || text.contains("could not resolve") => {
            Failure::link(Layer::Dns, format!("no address for {}: {text}", broker.host))
        }
        _ => dial::io_failure(error, broker),
    }
}

fn state_failure(error: &StateError, broker: &Peer, connected: bool) -> Failure {
    match error {
        StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)) => {
            io_failure(error, broker, connected)
        }
        StateError::ConnectionAborted => {
            io_failure(&io::ErrorKind::ConnectionAborted.into(), broker, connected)
        }
        StateError::AwaitPingResp => {
            Failure::link(Layer::Tcp, format!("{broker} no longer answers pings; the link is half open"))
        }
        other => Failure::link(Layer::Mqtt, format!("{broker}: {other}")),
    }
}

fn refused(code: ConnectReturnCode, broker: &Peer) -> Failure {
    let endpoint = |message: &str| Failure::endpoint(Layer::Mqtt, format!("{broker} {message}"));
    match code {
        ConnectReturnCode::BadUserNamePassword => {
            endpoint("refused the user name or password (CONNACK 4); check username and password")
        }
        ConnectReturnCode::NotAuthorized => {
            endpoint("does not authorise this client (CONNACK 5); check its user, client id and access rules")
        }
        ConnectReturnCode::BadClientId => endpoint("refused the client id (CONNACK 2); check client_id"),
        ConnectReturnCode::RefusedProtocolVersion => endpoint("does not speak MQTT 3.1.1 (CONNACK 1)"),
        ConnectReturnCode::ServiceUnavailable => {
            Failure::link(Layer::Mqtt, format!("{broker} is unavailable (CONNACK 3)"))
        }
        ConnectReturnCode::Success => Failure::link(Layer::Mqtt, format!("{broker} ended the session")),
    }
}
