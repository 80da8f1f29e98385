//! What it means when a connection fails, in a sentence.
//!
//! Three libraries report errors here, and wrap each other's: a rustls error may come bare, inside an `io::Error`, or
//! inside that inside a ureq error. [`http_failure`], [`io_failure`] and [`tls_failure`] take each as it comes and find
//! the innermost that says something. All of them blame the link (RULES S1). What depends on the time blames the clock before
//! the far end, while that is not trusted.
//!
//! A sentence names who was dialled, what happened and, where one exists, the next step. It is made from the host, the
//! port and fixed text; what the far end sent passes through [`printable`] first. URLs,
//! headers and bodies are not known here and so can't leak.

use std::fmt;
use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};
use ureq::Timeout;

use crate::clock::Clock;
use crate::delivery::outcome::{Failure, Layer};
use crate::printable::printable;

/// Who is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Name or address, as configured.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') && !self.host.starts_with('[') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// An error and the step it happened in. Travels through ureq as its `Error::Other`.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stumble {
    #[error("lookup: {0}")]
    Lookup(io::Error),
    #[error("lookup: timeout")]
    LookupTimeout,
    #[error("lookup: too many are waiting")]
    LookupsHang,
    #[error("connect: {0}")]
    Connect(io::Error),
    #[error("connect: timeout")]
    ConnectTimeout,
    #[error("handshake: {0}")]
    Handshake(io::Error),
    #[error("handshake: timeout")]
    HandshakeTimeout,
    #[error("handshake: {0}")]
    Tls(rustls::Error),
}

impl From<Stumble> for ureq::Error {
    fn from(stumble: Stumble) -> Self {
        ureq::Error::Other(Box::new(stumble))
    }
}

impl Stumble {
    /// Tags an error of the handshake. A timeout comes wrapped as `io::Error`.
    pub(super) fn shaking_hands(error: io::Error) -> ureq::Error {
        match ureq::Error::from(error) {
            ureq::Error::Timeout(_) => Stumble::HandshakeTimeout.into(),
            ureq::Error::Io(error) => Stumble::Handshake(error).into(),
            other => other,
        }
    }
}

/// The failure of an HTTP attempt that got no whole answer from `peer` within `limit`.
pub fn http_failure(error: &ureq::Error, peer: &Peer, limit: Duration, clock: &dyn Clock) -> Failure {
    match error {
        ureq::Error::Other(other) => match other.downcast_ref::<Stumble>() {
            Some(stumble) => stumble_failure(stumble, peer, clock),
            None => Failure::link(Layer::Tcp, format!("no connection to {peer}")),
        },
        ureq::Error::HostNotFound => no_address(peer, "it has none"),
        ureq::Error::Timeout(Timeout::Resolve) => no_address(peer, "no answer from DNS in time"),
        ureq::Error::Timeout(Timeout::Connect) => no_answer(peer),
        ureq::Error::Timeout(_) => {
            let message = format!("no answer from {peer} within {limit:?}; raise timeout if it needs longer");
            Failure::link(Layer::Http, message)
        }
        ureq::Error::Io(error) => io_failure(error, peer, clock),
        ureq::Error::Rustls(error) => tls_failure(error, peer, clock),
        ureq::Error::Tls(what) => Failure::link(Layer::Tls, format!("TLS with {peer}: {}", printable(what))),
        ureq::Error::TlsRequired => Failure::link(Layer::Tls, format!("no TLS with {peer}")),
        ureq::Error::Protocol(_) => Failure::link(
            Layer::Http,
            format!("what {peer} answered is not HTTP/1.1; check the port and whether it wants https://"),
        ),
        ureq::Error::LargeResponseHeader(_, limit) => {
            Failure::link(Layer::Http, format!("the answer of {peer} has more than {limit} bytes of headers"))
        }
        ureq::Error::ConnectionFailed => no_connection(peer, "for no reason that was given"),
        // The rest are about redirects, proxies and bodies, which this client does not ask for.
        _ => Failure::link(Layer::Http, format!("the request to {peer} could not be made")),
    }
}

/// The failure that an error of a socket to `peer`, or of TLS upon it, stands for.
pub fn io_failure(error: &io::Error, peer: &Peer, clock: &dyn Clock) -> Failure {
    if let Some(error) = inner_tls(error) {
        return tls_failure(error, peer, clock);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => no_connection(
            peer,
            "it refused the connection: nothing listens on that port, or a firewall says no",
        ),
        io::ErrorKind::ConnectionReset => Failure::link(Layer::Tcp, was_reset(peer)),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            Failure::link(Layer::Tcp, format!("{peer} closed the connection before it answered"))
        }
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkDown => {
            no_connection(peer, "there is no route to it; is the uplink of this gateway up?")
        }
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => no_answer(peer),
        _ => Failure::link(Layer::Tcp, format!("the connection to {peer} failed: {error}")),
    }
}

/// What a reset of an open connection says.
pub(crate) fn was_reset(peer: &Peer) -> String {
    format!("{peer} reset the connection: it, or a firewall in between, cut it off")
}

fn stumble_failure(stumble: &Stumble, peer: &Peer, clock: &dyn Clock) -> Failure {
    match stumble {
        Stumble::Lookup(error) => lookup_failure(&error.to_string(), peer),
        Stumble::LookupTimeout => no_address(peer, "no answer from DNS in time"),
        Stumble::LookupsHang => no_address(peer, "earlier lookups still wait for DNS"),
        Stumble::Connect(error) => io_failure(error, peer, clock),
        Stumble::ConnectTimeout => no_answer(peer),
        Stumble::Tls(error) => tls_failure(error, peer, clock),
        Stumble::HandshakeTimeout => {
            Failure::link(Layer::Tls, format!("{peer} took too long over the TLS handshake"))
        }
        Stumble::Handshake(error) => handshake_failure(error, peer, clock),
    }
}

/// The failure that an error of the handshake stands for.
pub(crate) fn handshake_failure(error: &io::Error, peer: &Peer, clock: &dyn Clock) -> Failure {
    match inner_tls(error) {
        Some(error) => tls_failure(error, peer, clock),
        None => Failure::link(
            Layer::Tls,
            format!("{peer} closed the connection during the TLS handshake; is that port meant for TLS?"),
        ),
    }
}

/// Whether a name could not be looked up; neither the system nor [`Lookup`](super::Lookup) has a kind for it.
pub(crate) fn is_lookup(error: &io::Error) -> bool {
    let text = error.to_string();
    text.contains("lookup address") || text.contains("could not resolve")
}

/// The failure that the resolver's words stand for.
pub(crate) fn lookup_failure(said: &str, peer: &Peer) -> Failure {
    no_address(peer, said.trim_start_matches("failed to lookup address information: "))
}

fn no_address(peer: &Peer, why: &str) -> Failure {
    let why = printable(why);
    Failure::link(
        Layer::Dns,
        format!("no address for {}: {why}; check the name and this gateway's DNS", peer.host),
    )
}

fn no_answer(peer: &Peer) -> Failure {
    no_connection(peer, "no answer in time: it or the link is down, or a firewall drops what we send")
}

fn no_connection(peer: &Peer, why: &str) -> Failure {
    Failure::link(Layer::Tcp, format!("no connection to {peer}: {why}"))
}

/// rustls reports through `io::Error` when it runs under a stream, and tokio-rustls always does.
fn inner_tls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// The failure that a TLS error of a connection to `peer` stands for.
pub fn tls_failure(error: &rustls::Error, peer: &Peer, clock: &dyn Clock) -> Failure {
    use rustls::Error;
    let sentence = match error {
        Error::InvalidCertificate(error) => return certificate_failure(error, peer, clock),
        Error::AlertReceived(alert) => alert_sentence(*alert, peer),
        Error::InvalidMessage(_) => format!("{peer} does not answer in TLS; is that port meant for TLS?"),
        Error::NoCertificatesPresented => format!("{peer} shows no certificate"),
        Error::PeerIncompatible(_) => no_common_version(peer),
        Error::NoApplicationProtocol => no_common_protocol(peer),
        Error::FailedToGetCurrentTime => "this gateway's clock can't be read".to_owned(),
        other => format!("TLS with {peer} failed: {}", printable(&other.to_string())),
    };
    Failure::link(Layer::Tls, sentence)
}

fn certificate_failure(error: &CertificateError, peer: &Peer, clock: &dyn Clock) -> Failure {
    use CertificateError::*;
    let sentence = match error {
        NotValidYet | NotValidYetContext { .. } if !clock.trusted() => {
            return Failure::link(Layer::Clock, doubtful_clock(peer, "is not valid yet"));
        }
        Expired | ExpiredContext { .. } if !clock.trusted() => {
            return Failure::link(Layer::Clock, doubtful_clock(peer, "has expired"));
        }
        NotValidYet | NotValidYetContext { .. } => {
            format!(
                "the certificate of {peer} is not valid yet; check this gateway's clock, then the server's certificate"
            )
        }
        Expired | ExpiredContext { .. } => {
            format!("the certificate of {peer} has expired; renew it there, or check this gateway's clock")
        }
        UnknownIssuer => {
            format!(
                "the certificate of {peer} is not signed by a CA we trust; set tls.ca to the file of its CA"
            )
        }
        NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            let names = printable(&names.join(", "));
            format!("the certificate of {peer} is for another name: {names}; use that name in the URL")
        }
        NotValidForName => format!("the certificate of {peer} is for another name"),
        Revoked => format!("the certificate of {peer} has been revoked"),
        BadSignature => {
            format!("the certificate of {peer} is not signed by the CA it names; is tls.ca an old one?")
        }
        InvalidPurpose | InvalidPurposeContext { .. } => {
            format!("the certificate of {peer} is not one for servers")
        }
        other => format!("the certificate of {peer} can't be accepted: {}", printable(&other.to_string())),
    };
    Failure::link(Layer::Tls, sentence)
}

/// A name as webpki shows it, `DnsName("api.example")`, without what is around it.
fn bare(name: &str) -> &str {
    let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inside.unwrap_or(name).trim_matches('"')
}

fn doubtful_clock(peer: &Peer, what: &str) -> String {
    format!(
        "this gateway's clock is not set or not trusted, and by it the certificate of {peer} {what}; check NTP"
    )
}

fn alert_sentence(alert: AlertDescription, peer: &Peer) -> String {
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            format!("{peer} asks for a client certificate; set tls.cert and tls.key")
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => {
            format!("{peer} does not accept our client certificate ({alert:?}); check tls.cert and tls.key")
        }
        AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => no_common_version(peer),
        AlertDescription::HandshakeFailure => {
            format!("{}, or it wants a client certificate (tls.cert, tls.key)", no_common_version(peer))
        }
        AlertDescription::NoApplicationProtocol => no_common_protocol(peer),
        AlertDescription::UnrecognisedName => {
            format!("{peer} does not serve that name; check the host in the URL, or set tls.server_name")
        }
        other => format!("{peer} ended the TLS connection ({other:?})"),
    }
}

fn no_common_version(peer: &Peer) -> String {
    format!("{peer} offers no TLS version or cipher in common with us (TLS 1.2 and 1.3)")
}

fn no_common_protocol(peer: &Peer) -> String {
    format!("{peer} speaks none of the protocols of tls.alpn")
}

#[cfg(test)]
mod tests;
