#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;

use super::*;
use crate::clock::{ManualClock, RELEASE_FLOOR_US};
use crate::config::Tls;
use crate::integration::testing::{Authority, spot, write};

const KEY: &str = "integration.api.tls";

fn dial() -> Dial {
    Dial::new(Arc::new(ManualClock::new()))
}

/// With our own CA and certificate in `dir`.
fn settings(dir: &Path, ca: &Authority) -> Tls {
    let leaf = ca.leaf("gateway");
    Tls {
        ca: Some(write(dir, "ca.pem", &ca.pem())),
        cert: Some(write(dir, "gw.pem", &leaf.cert)),
        key: Some(write(dir, "gw.key", &leaf.key)),
        alpn: vec!["mqtt".into()],
        ..Tls::default()
    }
}

#[test]
fn the_time_has_a_floor_and_no_ceiling() {
    const YEAR: u64 = 365 * 86_400;
    let clock = Arc::new(ManualClock::new());
    let time = TimeFloor { clock: clock.clone() };
    let floor = u64::try_from(RELEASE_FLOOR_US / 1_000_000).unwrap();
    let now = || time.current_time().unwrap().as_secs();
    assert_eq!(now(), floor + 3_600);
    clock.step_wall(-clock.wall_us());
    clock.set_trusted(false);
    clock.reboot();
    assert_eq!(now(), floor, "this program was made before now");
    clock.step_wall(-1);
    assert_eq!(now(), floor);
    clock.advance(Duration::from_secs(2_000));
    assert_eq!(now(), floor + 2_000 - 1, "and the boot goes on, for all that its crystal says");
    // The last good time, a year later, and another boot in 1970.
    clock.step_wall(RELEASE_FLOOR_US - clock.wall_us());
    clock.advance(Duration::from_secs(YEAR));
    clock.set_trusted(true);
    clock.look();
    clock.set_trusted(false);
    clock.reboot();
    clock.step_wall(-clock.wall_us());
    assert_eq!(now(), floor + YEAR);
}

#[test]
fn s26_one_config_is_shared_until_a_file_changes_for_the_better() {
    let (ca, dir) = (Authority::new("ours"), tempfile::tempdir().unwrap());
    let source = dial().tls(KEY, &settings(dir.path(), &ca)).unwrap();
    let first = source.current();
    assert_eq!(first.alpn_protocols, [b"mqtt".to_vec()]);
    assert!(first.client_auth_cert_resolver.has_certs());
    assert!(Arc::ptr_eq(&first, &source.current()), "sessions resume only within one config");

    let renewed = ca.leaf("gateway");
    write(dir.path(), "gw.pem", &renewed.cert);
    assert!(Arc::ptr_eq(&first, &source.current()), "the new certificate is there, its key is not yet");
    write(dir.path(), "ca.pem", "half a fi");
    assert!(Arc::ptr_eq(&first, &source.current()));
    write(dir.path(), "ca.pem", &ca.pem());
    std::fs::remove_file(dir.path().join("gw.key")).unwrap();
    assert!(Arc::ptr_eq(&first, &source.current()));

    write(dir.path(), "gw.key", &renewed.key);
    let second = source.current();
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(&second, &source.current()));
}

#[test]
fn every_unusable_file_is_named_with_its_key() {
    let (ca, dir) = (Authority::new("ours"), tempfile::tempdir().unwrap());
    let leaf = ca.leaf("other");
    let file = |name: &str, text: &str| Some(write(dir.path(), name, text));
    let good = || settings(dir.path(), &ca);
    let encrypted = leaf.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let body = leaf.cert.lines().nth(1).unwrap();
    let damaged = leaf.cert.replace(body, "%%%%");
    for (tls, key, says) in [
        (Tls { ca: Some(spot("/no/such/ca.pem".into())), ..good() }, "ca", "/no/such/ca.pem can't be read"),
        (Tls { ca: Some(spot(dir.path().into())), ..good() }, "ca", "not a regular file"),
        (Tls { ca: file("empty.pem", ""), ..good() }, "ca", "holds no certificate"),
        (Tls { ca: file("der", "0\u{2}"), ..good() }, "ca", "in DER"),
        (Tls { ca: file("damaged.pem", &damaged), ..good() }, "ca", "damaged"),
        (Tls { ca: file("large.pem", &"x".repeat(1_100_000)), ..good() }, "ca", "larger than 1 MiB"),
        (Tls { cert: file("key-only.pem", &leaf.key), ..good() }, "cert", "holds no certificate"),
        (Tls { key: file("cert-only.pem", &leaf.cert), ..good() }, "key", "holds no private key"),
        (Tls { key: file("encrypted.key", &encrypted), ..good() }, "key", "is encrypted"),
        (Tls { key: file("other.key", &leaf.key), ..good() }, "key", "does not belong to the certificate"),
        (Tls { key: None, ..good() }, "cert", "tls.key is not"),
        (Tls { cert: None, ..good() }, "key", "tls.cert is not"),
        (Tls { alpn: vec![String::new()], ..good() }, "alpn", "1 to 255 bytes"),
    ] {
        let problems = dial().tls(KEY, &tls).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].key, format!("{KEY}.{key}"), "{problems:?}");
        assert!(problems[0].is_error() && problems[0].message.contains(says), "{problems:?}");
        assert_eq!(problems[0].place.is_some(), key != "alpn");
    }
}

#[test]
fn all_problems_of_a_table_are_reported_together() {
    let tls = Tls {
        ca: Some(spot("/no/ca.pem".into())),
        cert: Some(spot("/no/gw.pem".into())),
        alpn: vec!["x".repeat(256)],
        ..Tls::default()
    };
    assert_eq!(dial().tls(KEY, &tls).unwrap_err().len(), 3);
}
