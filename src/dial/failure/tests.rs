#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use rustls_pki_types::UnixTime;

use super::*;
use crate::clock::ManualClock;
use crate::delivery::outcome::Blame;

fn peer() -> Peer {
    Peer { host: "broker.example".into(), port: 8883 }
}

fn unix(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn tls(error: &rustls::Error) -> Failure {
    tls_failure(error, &peer(), &ManualClock::new())
}

fn http(error: &ureq::Error) -> Failure {
    http_failure(error, &peer(), LIMIT, &ManualClock::new())
}

const LIMIT: Duration = Duration::from_secs(10);

/// Only what depends on the time is blamed on a clock that is not trusted.
#[test]
fn a_certificate_that_is_checked_by_a_doubtful_clock_is_a_clock_problem() {
    let (early, late) = (unix(1_000), unix(2_000));
    let (trusted, doubtful) = (ManualClock::new(), ManualClock::new());
    doubtful.set_trusted(false);
    for (error, by_a_doubtful_clock) in [
        (CertificateError::NotValidYetContext { time: early, not_before: late }, Layer::Clock),
        (CertificateError::ExpiredContext { time: late, not_after: early }, Layer::Clock),
        (CertificateError::UnknownIssuer, Layer::Tls),
    ] {
        let error = error.into();
        assert_eq!(tls_failure(&error, &peer(), &trusted).layer, Layer::Tls);
        let failure = tls_failure(&error, &peer(), &doubtful);
        assert_eq!(failure.layer, by_a_doubtful_clock, "{failure}");
        assert_eq!(failure.message.contains("check NTP"), failure.layer == Layer::Clock, "{failure}");
    }
}

#[test]
fn s1_every_tls_error_blames_the_link_and_says_what_to_do() {
    use rustls::{Error, InvalidMessage};
    for (error, says) in [
        (CertificateError::UnknownIssuer.into(), "set tls.ca"),
        (CertificateError::Expired.into(), "has expired"),
        (CertificateError::NotValidForName.into(), "another name"),
        (Error::AlertReceived(AlertDescription::CertificateRequired), "set tls.cert and tls.key"),
        (Error::AlertReceived(AlertDescription::UnknownCA), "does not accept our client certificate"),
        (Error::AlertReceived(AlertDescription::ProtocolVersion), "TLS 1.2 and 1.3"),
        (Error::AlertReceived(AlertDescription::NoApplicationProtocol), "tls.alpn"),
        (Error::InvalidMessage(InvalidMessage::InvalidContentType), "meant for TLS?"),
        (Error::General("odd\u{1b}[2J".into()), "TLS with broker.example:8883 failed"),
    ] {
        let failure = tls(&error);
        assert_eq!((failure.layer, failure.blame), (Layer::Tls, Blame::Link { retry_after: None }));
        assert!(failure.message.contains(says) && failure.message.contains("broker.example"), "{failure}");
        assert!(!failure.message.contains('\u{1b}'));
    }
}

#[test]
fn a_tls_error_inside_an_io_error_is_found() {
    let inner: rustls::Error = CertificateError::UnknownIssuer.into();
    let outer = || io::Error::new(io::ErrorKind::InvalidData, inner.clone());
    assert_eq!(io_failure(&outer(), &peer(), &ManualClock::new()), tls(&inner));
    assert_eq!(http(&ureq::Error::Io(outer())), tls(&inner));
    let tagged = Stumble::shaking_hands(outer());
    assert_eq!(http(&tagged), tls(&inner));
}

#[test]
fn timeouts_are_told_apart_by_the_step_they_hit() {
    for (error, layer) in [
        (ureq::Error::Timeout(Timeout::Resolve), Layer::Dns),
        (Stumble::LookupTimeout.into(), Layer::Dns),
        (ureq::Error::HostNotFound, Layer::Dns),
        (ureq::Error::Timeout(Timeout::Connect), Layer::Tcp),
        (Stumble::ConnectTimeout.into(), Layer::Tcp),
        (Stumble::HandshakeTimeout.into(), Layer::Tls),
        (Stumble::Handshake(io::ErrorKind::UnexpectedEof.into()).into(), Layer::Tls),
        (ureq::Error::Timeout(Timeout::Global), Layer::Http),
        (ureq::Error::Io(io::ErrorKind::ConnectionReset.into()), Layer::Tcp),
        (ureq::Error::BadUri("https://h/?key=s3cret".into()), Layer::Http),
    ] {
        let failure = http(&error);
        assert_eq!((failure.layer, failure.blame), (layer, Blame::Link { retry_after: None }), "{failure}");
        assert!(!failure.message.contains("s3cret"), "{failure}");
    }
    let failure = http(&ureq::Error::Timeout(Timeout::Global));
    assert_eq!(
        failure.message,
        "no answer from broker.example:8883 within 10s; raise timeout if it needs longer"
    );
}

#[test]
fn an_ipv6_peer_is_written_with_brackets() {
    assert_eq!(Peer { host: "::1".into(), port: 443 }.to_string(), "[::1]:443");
}
