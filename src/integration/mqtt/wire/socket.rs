//! What carries the packets: TCP, TLS, or a WebSocket upon one of them.
//!
//! WebSocket needs the feature `websocket`. rumqttc takes the whole URL where it takes a host otherwise, and the library
//! below it (tungstenite) speaks TLS through the same rustls with the configuration that is handed to it: no second
//! provider and no second TLS stack comes with it (170 KB of program do).

use std::fmt;

use rumqttc::{TlsConfiguration, Transport};

use crate::config::{self, MqttScheme, Problem};
use crate::dial::TlsSource;

/// Where the broker is, as the library wants it.
#[derive(Clone)]
pub(in super::super) struct Socket {
    /// The host, or the URL, whose query may hold a key.
    pub(in super::super) address: String,
    #[cfg(feature = "websocket")]
    is_websocket: bool,
}

impl Socket {
    /// # Errors
    /// WebSocket without the feature.
    pub(in super::super) fn try_new(name: &str, mqtt: &config::Mqtt) -> Result<Socket, Problem> {
        let is_websocket = matches!(mqtt.scheme.value, MqttScheme::Ws | MqttScheme::Wss);
        if is_websocket && !cfg!(feature = "websocket") {
            let message = format!("this build has no MQTT over WebSocket ({}://)", mqtt.scheme.value);
            let problem = Problem::error(&mqtt.scheme.place, format!("integration.{name}.url"), message);
            return Err(problem.hint("use mqtt:// or mqtts://, or a build with the feature \"websocket\""));
        }
        let address = if is_websocket {
            let (host, path) = split(&mqtt.host.value);
            format!("{}://{host}:{}{path}", mqtt.scheme.value, mqtt.port)
        } else {
            mqtt.host.value.clone()
        };
        Ok(Socket {
            address,
            #[cfg(feature = "websocket")]
            is_websocket,
        })
    }

    pub(super) fn transport(&self, tls: Option<&TlsSource>) -> Transport {
        let tls = tls.map(|tls| TlsConfiguration::Rustls(tls.current()));
        match tls {
            #[cfg(feature = "websocket")]
            Some(tls) if self.is_websocket => Transport::wss_with_config(tls),
            #[cfg(feature = "websocket")]
            None if self.is_websocket => Transport::ws(),
            Some(tls) => Transport::tls_with_config(tls),
            None => Transport::tcp(),
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

/// The host of a broker's address without path and brackets, for people and for names.
pub(in super::super) fn host(mqtt: &config::Mqtt) -> String {
    let (host, _) = split(&mqtt.host.value);
    host.trim_matches(['[', ']']).to_owned()
}

/// Host and path; only WebSocket has one.
fn split(host: &str) -> (&str, &str) {
    host.split_at(host.find(['/', '?']).unwrap_or(host.len()))
}

#[cfg(feature = "websocket")]
pub(super) mod websocket {
    //! What went wrong on the way to a WebSocket (RULES S1): a status code is an answer, and no broker's.

    use async_tungstenite::tungstenite::Error;

    use crate::delivery::outcome::{Failure, Layer};

    use super::super::broken::{Broken, Place};

    pub(in super::super) fn broken(error: &Error, place: &Place) -> Broken {
        match error {
            Error::Io(error) => place.io(error),
            Error::Http(response) => status(response.status().as_u16(), place),
            Error::ConnectionClosed | Error::AlreadyClosed => place.hung_up(),
            other => no_websocket(place, &other.to_string()),
        }
    }

    fn status(status: u16, place: &Place) -> Broken {
        let message = format!("{} answered HTTP {status} instead of a WebSocket; check the path", place.peer);
        Broken::other(match status {
            408 | 425 | 429 | 500.. => Failure::link(Layer::Http, message),
            _ => Failure::endpoint(Layer::Http, message),
        })
    }

    pub(in super::super) fn no_websocket(place: &Place, why: &str) -> Broken {
        let message = format!("{} offers no MQTT over WebSocket there: {why}", place.peer);
        Broken::other(Failure::link(Layer::Http, message))
    }
}
