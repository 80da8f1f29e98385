//! What the tests of this room share: uplinks, and a device whose keys are published.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER_PERMISSIVE;
use serde_json::value::RawValue;

use super::Message;
use crate::clock::{Bounds, Dated, Quality};
use crate::config::{self, Place, Secret, Spot};
use crate::lorawan::Devices;
use crate::uplink::{Eui64, Flags, Kind, Moment, Rx, TimeSource, Uplink};

/// 2026-11-23T20:21:00.123456Z.
pub(super) const WALL_US: i64 = 1_795_465_260_123_456;

/// Unconfirmed data up from 260b1f2e, FCnt 41, FPort 2.
pub(super) const DATA: &str = "402e1f0b26802900026a5bc1d2e3f405";
/// Join request of 0004a30b001c0530 to 70b3d57ed0000001.
pub(super) const JOIN: &str = "00010000d07ed5b37030051c000ba304003412aabbccdd";
/// Data up of [`silo`]: 49be7df1, FCnt 2, FPort 1, payload "test".
pub(super) const KNOWN: &str = "40f17dbe4900020001954378762b11ff0d";

pub(super) fn uplink(kind: Kind, hex: &str) -> Uplink {
    Uplink {
        id: uuid::Uuid::from_u128(0x01936b1e_0000_7000_8000_0000000000aa),
        source: Arc::from("concentrator"),
        kind,
        content: HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).unwrap(),
        dev_eui: None,
        f_cnt: None,
        rx: Rx {
            gateway_eui: Some(Eui64([0xaa, 0x55, 0x5a, 0, 0, 0, 1, 1])),
            frequency_hz: Some(868_300_000),
            data_rate: "SF7BW125".try_into().unwrap(),
            coding_rate: Some("4/5".try_into().unwrap()),
            rssi_dbm: Some(-57.0),
            snr_db: Some(9.8),
            channel: Some(2),
            ..Rx::default()
        },
        at: Moment { boot_id: [7; 16], boot_ns: 1, wall_us: WALL_US, source: TimeSource::Ntp },
        flags: Flags::default(),
    }
}

/// An uplink of [`silo`], as its session would have stored it.
pub(super) fn known_uplink() -> Uplink {
    Uplink {
        dev_eui: Some(Eui64([0, 4, 0xa3, 0x0b, 0, 0x1c, 5, 0x30])),
        f_cnt: Some(2),
        ..uplink(Kind::Lorawan, KNOWN)
    }
}

/// One device, silo-7, with a plain variable and a secret one.
pub(super) fn silo() -> Devices {
    let place = Place { file: Arc::from(Path::new("packhorse.toml")), line: 7, column: 3 };
    let device = config::Device {
        name: Spot { value: "silo-7".to_owned(), place },
        dev_eui: Some([0, 4, 0xa3, 0x0b, 0, 0x1c, 5, 0x30]),
        dev_addr: Some([0x49, 0xbe, 0x7d, 0xf1]),
        nwk_s_key: Some(Secret::new("44024241ed4ce9a68c6a8bc055233fd3".to_owned())),
        app_s_key: Some(Secret::new("ec925802ae430ca77fd3dd73cb2cc588".to_owned())),
        labels: vec!["silo".to_owned(), "north".to_owned()],
        variables: vec![
            ("site".to_owned(), Secret::plain("plant 7/\"B\"".to_owned())),
            ("token".to_owned(), Secret::new("hunter/2\"&".to_owned())),
        ],
        function: None,
        reset_counters: false,
        expect_every: Duration::ZERO,
    };
    Devices::try_new(&[device]).unwrap()
}

/// Heard within a minute around [`WALL_US`], and nobody knows better.
pub(super) fn bounded() -> Dated {
    let bounds = Bounds { after_us: WALL_US - 30_000_000, before_us: WALL_US + 30_000_000 };
    Dated { wall_us: WALL_US, quality: Quality::Bounds, bounds: Some(bounds) }
}

pub(super) fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

/// `message` under no config, given to `test`.
pub(super) fn with<T>(uplink: &Uplink, test: impl FnOnce(&mut Message<'_>) -> T) -> T {
    let devices = Devices::default();
    test(&mut Message::of("barn-roof", &devices, uplink))
}

/// The same where [`silo`] is configured.
pub(super) fn with_silo<T>(uplink: &Uplink, test: impl FnOnce(&mut Message<'_>) -> T) -> T {
    let devices = silo();
    test(&mut Message::of("barn-roof", &devices, uplink))
}
