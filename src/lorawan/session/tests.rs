#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::crypto::{self, Key};
use super::super::frame::{Frame, parse};
use super::*;
use crate::config::{self, Place, Secret, Spot};

/// A frame as a device with this key sends it.
fn frame(key: &str, addr: [u8; 4], f_cnt: u32, payload: &[u8]) -> Vec<u8> {
    crypto::testing::data_frame(&Key::from_hex(key).unwrap(), addr, f_cnt, 2, payload)
}

fn device(name: &str, addr: [u8; 4], key: Option<&str>, reset_counters: bool) -> config::Device {
    let place = Place { file: Arc::from(Path::new("packhorse.toml")), line: 1, column: 1 };
    config::Device {
        name: Spot { value: name.into(), place },
        dev_eui: None,
        dev_addr: Some(addr),
        nwk_s_key: key.map(|key| Secret::new(key.into())),
        app_s_key: None,
        labels: Vec::new(),
        variables: Vec::new(),
        function: None,
        reset_counters,
        expect_every: Duration::ZERO,
    }
}

const ADDR: [u8; 4] = [0x26, 0x0b, 0x1f, 0x2e];
const SILO: &str = "000102030405060708090a0b0c0d0e0f";
const BARN: &str = "0f0e0d0c0b0a09080706050403020100";

struct Bench {
    devices: Devices,
    sessions: Sessions,
    now_ns: u64,
}

impl Bench {
    fn new(devices: &[config::Device]) -> Bench {
        Bench {
            devices: Devices::try_new(devices).unwrap(),
            sessions: Sessions::new(&[]),
            now_ns: 3_600_000_000_000,
        }
    }

    fn one(reset_counters: bool) -> Bench {
        Bench::new(&[device("silo", ADDR, Some(SILO), reset_counters)])
    }

    /// A second later `phy` arrives. In short: name, counter, `again`; or why not.
    fn hear(&mut self, phy: &[u8]) -> String {
        self.now_ns += 1_000_000_000;
        let Frame::Data(data) = parse(phy) else { panic!("{phy:02x?}") };
        match self.sessions.sender_of(&self.devices, phy, &data, self.now_ns) {
            Sender::Proved { device, f_cnt, repeated } => {
                format!("{} {f_cnt}{}", device.name, if repeated { " again" } else { "" })
            }
            Sender::Presumed(device) => format!("{} presumed", device.name),
            Sender::Stranger => "stranger".into(),
            Sender::MicFailed => "mic failed".into(),
            Sender::Replayed => "replayed".into(),
            Sender::TooMany => "too many".into(),
        }
    }

    fn hear_silo(&mut self, f_cnt: u32) -> String {
        self.hear(&frame(SILO, ADDR, f_cnt, b"x"))
    }

    /// The agent ends and starts, with the notes that were kept.
    fn restart(&mut self, notes: &[Note]) {
        self.sessions = Sessions::new(notes);
    }
}

#[test]
fn s21_counters_rise_roll_over_and_skip() {
    let mut bench = Bench::one(false);
    for f_cnt in [0, 1, 2, 50, 65_535, 65_536, 65_540, 131_072] {
        assert_eq!(bench.hear_silo(f_cnt), format!("silo {f_cnt}"));
    }
    // An outage of sixteen roll-overs is found, one of seventeen is not.
    assert_eq!(bench.hear_silo((18 << 16) | 7), "silo 1179655");
    assert_eq!(bench.hear_silo((35 << 16) | 7), "mic failed");
    assert_eq!(bench.hear_silo((34 << 16) | 7), "silo 2228231");
}

#[test]
fn s21_nothing_known_finds_a_counter_of_up_to_16_million() {
    for (f_cnt, expected) in [((255 << 16) | 9, "silo 16711689"), ((256 << 16) | 9, "mic failed")] {
        assert_eq!(Bench::one(false).hear_silo(f_cnt), expected);
    }
}

#[test]
fn s21_what_lies_behind_is_replayed_and_the_same_again_is_a_retransmission() {
    let mut bench = Bench::one(false);
    assert_eq!(bench.hear_silo(65_540), "silo 65540");
    assert_eq!(bench.hear_silo(65_540), "silo 65540 again");
    assert_eq!(bench.hear_silo(65_539), "replayed");
    assert_eq!(bench.hear_silo(3), "replayed", "of the high word before");
    assert_eq!(bench.hear_silo(65_541), "silo 65541", "and the counter is where it was");
}

#[test]
fn s21_a_device_that_restarts_at_0_is_believed_only_if_the_config_says_so() {
    let mut strict = Bench::one(false);
    let mut lenient = Bench::one(true);
    for bench in [&mut strict, &mut lenient] {
        assert_eq!(bench.hear_silo(70_000), "silo 70000");
        assert_eq!(bench.hear_silo(140_000), "silo 140000");
    }
    assert_eq!(strict.hear_silo(0), "mic failed", "so far back nobody looks");
    assert_eq!([0, 1, 2].map(|n| lenient.hear_silo(n)), ["silo 0", "silo 1", "silo 2"]);
    assert_eq!(lenient.hear_silo(1), "silo 1", "as if it had restarted once more");
}

/// The must-hold: roll-over at 65,535 across a restart.
#[test]
fn s21_the_state_survives_a_restart_without_a_write_of_its_own() {
    let mut bench = Bench::one(false);
    assert_eq!(bench.hear_silo((300 << 16) - 1), "mic failed", "beyond what a first start looks for");
    assert_eq!(bench.hear_silo(65_535), "silo 65535");
    let notes = bench.sessions.take_notes();
    assert_eq!(notes.len(), 1);
    assert!(bench.sessions.take_notes().is_empty(), "what has not changed is not kept again");
    bench.restart(&notes);
    assert_eq!(bench.hear_silo(65_536), "silo 65536");
    assert_eq!(bench.hear_silo(65_535), "replayed");

    // New keys are a new session, whatever the old one counted to.
    bench.devices = Devices::try_new(&[device("silo", ADDR, Some(BARN), false)]).unwrap();
    bench.restart(&notes);
    assert_eq!(bench.hear(&frame(BARN, ADDR, 0, b"x")), "silo 0");
}

#[test]
fn a_note_that_makes_no_sense_is_as_none() {
    let mut bench = Bench::one(false);
    let key = format!("{NOTE}260b1f2e/silo");
    bench.restart(&[Note { key, value: vec![0xff; 3] }, Note { key: "door".into(), value: vec![1] }]);
    assert_eq!(bench.hear_silo(7), "silo 7");
}

#[test]
fn the_mic_decides_between_devices_of_one_address() {
    let mut bench =
        Bench::new(&[device("silo", ADDR, Some(SILO), false), device("barn", ADDR, Some(BARN), false)]);
    assert_eq!(bench.hear_silo(7), "silo 7");
    assert_eq!(bench.hear(&frame(BARN, ADDR, 900, b"y")), "barn 900");
    assert_eq!(bench.hear_silo(8), "silo 8");
    assert_eq!(bench.hear(&frame("ffffffffffffffffffffffffffffffff", ADDR, 9, b"z")), "mic failed");
    assert_eq!(bench.hear(&frame(SILO, [1, 2, 3, 4], 9, b"x")), "stranger");
}

#[test]
fn without_keys_an_address_is_presumed_if_it_is_one_devices_alone() {
    let mut bench = Bench::new(&[device("gate", ADDR, None, false)]);
    assert_eq!(bench.hear_silo(7), "gate presumed");
    assert_eq!(bench.hear_silo(7), "gate presumed", "no session, no counter");
    let mut bench = Bench::new(&[device("gate", ADDR, None, false), device("door", ADDR, None, false)]);
    assert_eq!(bench.hear_silo(7), "stranger");
}

/// S21: 2,000 MICs a second in all, whatever is sent.
#[test]
fn a_flood_of_forgeries_is_cut_off_and_the_next_second_is_as_before() {
    let mut bench = Bench::one(false);
    let forged = frame(BARN, ADDR, 9, b"z");
    let Frame::Data(data) = parse(&forged) else { panic!() };
    let now = bench.now_ns;
    let mut tried = 0;
    while !matches!(bench.sessions.sender_of(&bench.devices, &forged, &data, now), Sender::TooMany) {
        tried += 1;
    }
    assert_eq!(tried, MIC_PER_SECOND / u64::from(HIGH_WORDS_AT_FIRST));
    assert_eq!(bench.hear_silo(7), "silo 7");
}

#[test]
fn ten_thousand_devices_are_found_by_their_address() {
    let devices: Vec<_> = (0..10_000u32)
        .map(|n| device(&format!("d{n}"), n.to_be_bytes(), Some(&format!("{n:032x}")), false))
        .collect();
    let mut bench = Bench::new(&devices);
    for n in [0u32, 1, 4_999, 9_999] {
        let phy = frame(&format!("{n:032x}"), n.to_be_bytes(), 5, b"x");
        assert_eq!(bench.hear(&phy), format!("d{n} 5"));
    }
    assert_eq!(bench.sessions.take_notes().len(), 4);
}
