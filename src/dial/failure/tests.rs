#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::delivery::outcome::Blame;

fn peer() -> Peer {
    Peer { host: "broker.example".into(), port: 8883 }
}

fn unix(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

#[test]
fn a_certificate_that_seems_too_young_before_the_floor_is_a_clock_problem() {
    let floor = u64::try_from(RELEASE_FLOOR_US / 1_000_000).unwrap();
    for (checked_at, layer) in [(floor, Layer::Clock), (floor + 1, Layer::Tls)] {
        let error =
            CertificateError::NotValidYetContext { time: unix(checked_at), not_before: unix(floor + 10) };
        assert_eq!(tls_failure(&error.into(), &peer()).layer, layer);
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
        let failure = tls_failure(&error, &peer());
        assert_eq!((failure.layer, failure.blame), (Layer::Tls, Blame::Link { retry_after: None }));
        assert!(failure.message.contains(says) && failure.message.contains("broker.example"), "{failure}");
        assert!(!failure.message.contains('\u{1b}'));
    }
}

#[test]
fn a_tls_error_inside_an_io_error_is_found() {
    let inner: rustls::Error = CertificateError::UnknownIssuer.into();
    let outer = || io::Error::new(io::ErrorKind::InvalidData, inner.clone());
    assert_eq!(io_failure(&outer(), &peer()), tls_failure(&inner, &peer()));
    let limit = Duration::from_secs(10);
    assert_eq!(http_failure(&ureq::Error::Io(outer()), &peer(), limit), tls_failure(&inner, &peer()));
    let tagged = Stumble::shaking_hands(outer());
    assert_eq!(http_failure(&tagged, &peer(), limit), tls_failure(&inner, &peer()));
}

#[test]
fn timeouts_are_told_apart_by_the_step_they_hit() {
    let limit = Duration::from_secs(10);
    for (error, layer) in [
        (ureq::Error::Timeout(Timeout::Resolve), Layer::Dns),
        (Stumble::LookupTimeout.into(), Layer::Dns),
        (ureq::Error::HostNotFound, Layer::Dns),
        (ureq::Error::Timeout(Timeout::Connect), Layer::Tcp),
        (Stumble::connecting(ureq::Error::Timeout(Timeout::Global)), Layer::Tcp),
        (Stumble::HandshakeTimeout.into(), Layer::Tls),
        (Stumble::Handshake(io::ErrorKind::UnexpectedEof.into()).into(), Layer::Tls),
        (ureq::Error::Timeout(Timeout::Global), Layer::Http),
        (ureq::Error::Io(io::ErrorKind::ConnectionReset.into()), Layer::Tcp),
        (ureq::Error::BadUri("https://h/?key=s3cret".into()), Layer::Http),
    ] {
        let failure = http_failure(&error, &peer(), limit);
        assert_eq!((failure.layer, failure.blame), (layer, Blame::Link { retry_after: None }), "{failure}");
        assert!(!failure.message.contains("s3cret"), "{failure}");
    }
    let failure = http_failure(&ureq::Error::Timeout(Timeout::Global), &peer(), limit);
    assert_eq!(
        failure.message,
        "no answer from broker.example:8883 within 10s; raise timeout if it needs longer"
    );
}

#[test]
fn an_ipv6_peer_is_written_with_brackets() {
    assert_eq!(Peer { host: "::1".into(), port: 443 }.to_string(), "[::1]:443");
}
