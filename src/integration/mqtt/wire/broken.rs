//! How a connection ends that nobody wanted to end, and whose fault it is (RULES S1).

use std::io;
use std::sync::Arc;

use rumqttc::TlsError;

use crate::clock::Clock;
use crate::delivery::outcome::{Failure, Layer};
use crate::dial::{self, Peer};

use super::super::CONNECT_TIMEOUT;

/// A connection that did not come about, or broke.
#[derive(Clone, Debug)]
pub(in super::super) struct Broken {
    /// What is told of it.
    pub(in super::super) failure: Failure,
    /// What it may say about the record that was under way (RULES S17).
    pub(in super::super) cause: Cause,
}

/// Who ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Cause {
    /// The link, we ourselves, or the broker for a reason that has nothing to do with what we sent.
    Other,
    /// The broker closed it after it had let us in, without a word.
    Closed,
    /// The broker closed it and blamed what we had sent.
    Blamed,
}

impl Broken {
    /// It says nothing about a record.
    pub(in super::super) fn other(failure: Failure) -> Broken {
        Broken { failure, cause: Cause::Other }
    }

    /// The session made no sense of it.
    pub(in super::super) fn confused(peer: &Peer, what: &str) -> Broken {
        Broken::other(Failure::link(Layer::Mqtt, format!("{peer} {what}; starting a new session")))
    }
}

/// What both versions need to know of the connection to judge its errors.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) peer: Peer,
    pub(super) clock: Arc<dyn Clock>,
    /// CONNACK has come.
    pub(super) connected: bool,
    /// What a broker may not understand, for the case that it hangs up before CONNACK.
    pub(super) doubt: &'static str,
}

impl Place {
    /// Before CONNACK a connection that is closed says something about the port, not about the link.
    pub(super) fn io(&self, error: &io::Error) -> Broken {
        let Place { peer, clock, connected, doubt } = self;
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
                if !connected =>
            {
                let message = format!("{peer} closed the connection before CONNACK; {doubt}");
                Broken::other(Failure::link(Layer::Mqtt, message))
            }
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionAborted => self.closed_by_peer(),
            io::ErrorKind::ConnectionReset => {
                let failure = Failure::link(Layer::Tcp, dial::was_reset(peer));
                Broken { failure, cause: self.closed() }
            }
            _ if dial::is_lookup(error) => Broken::other(dial::lookup_failure(&error.to_string(), peer)),
            // The codec's: the connection ended within what was to be a packet.
            io::ErrorKind::Other if !connected => self.no_connack(),
            io::ErrorKind::Other => self.closed_by_peer(),
            io::ErrorKind::BrokenPipe => {
                Broken { failure: dial::io_failure(error, peer, &**clock), cause: self.closed() }
            }
            _ => Broken::other(dial::io_failure(error, peer, &**clock)),
        }
    }

    fn closed_by_peer(&self) -> Broken {
        let failure = Failure::link(Layer::Tcp, format!("{} closed the connection", self.peer));
        Broken { failure, cause: self.closed() }
    }

    fn closed(&self) -> Cause {
        if self.connected { Cause::Closed } else { Cause::Other }
    }

    pub(super) fn hung_up(&self) -> Broken {
        self.io(&io::ErrorKind::ConnectionAborted.into())
    }

    pub(super) fn tls(&self, error: &TlsError) -> Broken {
        match error {
            TlsError::TLS(error) => Broken::other(dial::tls_failure(error, &self.peer, &*self.clock)),
            TlsError::Io(error) => Broken::other(dial::handshake_failure(error, &self.peer, &*self.clock)),
            error => Broken::other(Failure::link(Layer::Tls, format!("{}: {error}", self.peer))),
        }
    }

    pub(super) fn no_answer(&self) -> Broken {
        let (peer, seconds) = (&self.peer, CONNECT_TIMEOUT.as_secs());
        let message = format!(
            "{peer} did not answer within {seconds} s, for DNS, TCP, TLS and CONNECT together; packhorse doctor shows how far it gets"
        );
        Broken::other(Failure::link(Layer::Tcp, message))
    }

    pub(super) fn no_connack(&self) -> Broken {
        let message = format!("{} answered CONNECT with something else; is it an MQTT broker?", self.peer);
        Broken::other(Failure::link(Layer::Mqtt, message))
    }

    pub(super) fn no_pings(&self) -> Broken {
        let message = format!("{} no longer answers pings; the link is half open", self.peer);
        Broken::other(Failure::link(Layer::Tcp, message))
    }

    pub(super) fn ended(&self) -> Broken {
        Broken::other(Failure::link(Layer::Mqtt, "the session ended"))
    }

    /// What came is no packet.
    pub(super) fn garbage(&self, error: &impl std::fmt::Display) -> Broken {
        if self.connected { self.odd(error) } else { self.no_connack() }
    }

    pub(super) fn odd(&self, error: &impl std::fmt::Display) -> Broken {
        Broken::other(Failure::link(Layer::Mqtt, format!("{}: {error}", self.peer)))
    }
}
