//! What an error of the event loop means, in a sentence.

use std::io;

use rumqttc::{ConnectReturnCode, ConnectionError, StateError, TlsError, mqttbytes};

use crate::clock::Clock;
use crate::dial::{self, Peer};

use super::CONNECT_TIMEOUT;

pub(super) fn explain(error: &ConnectionError, broker: &Peer, clock: &dyn Clock) -> String {
    match error {
        ConnectionError::Io(error) | ConnectionError::Tls(TlsError::Io(error)) => of_io(error, broker, clock),
        ConnectionError::Tls(TlsError::TLS(error)) => dial::tls_failure(error, broker, clock).to_string(),
        ConnectionError::ConnectionRefused(code) => refused(*code, broker),
        ConnectionError::NetworkTimeout => {
            format!("{broker} did not answer within {} s", CONNECT_TIMEOUT.as_secs())
        }
        ConnectionError::FlushTimeout | ConnectionError::MqttState(StateError::AwaitPingResp) => {
            format!("{broker} no longer answers; the link may be half open")
        }
        ConnectionError::NotConnAck(_) => {
            format!("{broker} answered CONNECT with something else; is it an MQTT broker?")
        }
        ConnectionError::MqttState(
            StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)),
        ) => of_io(error, broker, clock),
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            format!("{broker} closed the connection")
        }
        other => format!("{broker}: {other}"),
    }
}

fn of_io(error: &io::Error, broker: &Peer, clock: &dyn Clock) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset => {
            format!("{broker} closed the connection")
        }
        _ if dial::is_lookup(error) => {
            format!("no address for {}: {error}", broker.host)
        }
        _ => dial::io_failure(error, broker, clock).to_string(),
    }
}

fn refused(code: ConnectReturnCode, broker: &Peer) -> String {
    match code {
        ConnectReturnCode::BadUserNamePassword => {
            format!("{broker} refused the user name or password (CONNACK 4); check username and password")
        }
        ConnectReturnCode::NotAuthorized => {
            format!("{broker} does not authorise this client (CONNACK 5); check its user and access rules")
        }
        ConnectReturnCode::BadClientId => format!("{broker} refused the client id (CONNACK 2)"),
        ConnectReturnCode::RefusedProtocolVersion => {
            format!("{broker} does not speak MQTT 3.1.1 (CONNACK 1)")
        }
        ConnectReturnCode::ServiceUnavailable => format!("{broker} is unavailable (CONNACK 3)"),
        ConnectReturnCode::Success => format!("{broker} ended the session"),
    }
}
