//! Every dialect, every sample of the field, and bytes that nobody sends.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::clock::RELEASE_FLOOR_US;
use crate::uplink::{Crc, Modulation, Rx, TimeSource};
use proptest::prelude::*;

const GATEWAY: Eui64 = Eui64([0xaa, 0x55, 0x5a, 0, 0, 0, 1, 1]);
const AT: Moment =
    Moment { boot_id: [3; 16], boot_ns: 9, wall_us: RELEASE_FLOOR_US + 1, source: TimeSource::Ntp };

/// A good element; what a test is about goes in front, and duplicates of it behind would win.
const GOOD: &str = r#""tmst":1472242252,"chan":8,"rfch":0,"freq":912.6,"stat":1,"modu":"LORA","datr":"SF8BW500","codr":"4/5","lsnr":10.8,"rssi":-58,"size":4,"data":"QAECAw=="#;

fn parse(json: impl AsRef<[u8]>) -> Vec<Result<Heard, DropReason>> {
    let mut results = Vec::new();
    parse_push(json.as_ref(), GATEWAY, AT, |result| results.push(result));
    results
}

fn only(json: impl AsRef<[u8]>) -> Heard {
    let text = String::from_utf8_lossy(json.as_ref()).into_owned();
    match parse(json).as_slice() {
        [Ok(heard)] => heard.clone(),
        other => panic!("{text}: {other:?}"),
    }
}

/// The reception of a good element in which `fields` replace those of the same name.
fn rx(fields: &str) -> Rx {
    only(format!(r#"{{"rxpk":[{{{GOOD}",{fields}}}]}}"#)).rx
}

/// The frame of an element without anything but `data`.
fn phy(data: &str) -> Vec<u8> {
    only(format!(r#"{{"rxpk":[{{"data":"{data}"}}]}}"#)).phy.to_vec()
}

fn good() -> String {
    format!("{{{GOOD}\"}}")
}

#[test]
fn a_plain_element_field_by_field() {
    let heard = only(format!(r#"{{"rxpk":[{}]}}"#, good()));
    assert_eq!(heard.phy, [0x40, 1, 2, 3]);
    assert_eq!(heard.at, AT);
    let expected = Rx {
        gateway_eui: Some(GATEWAY),
        frequency_hz: Some(912_600_000),
        modulation: Modulation::Lora,
        data_rate: "SF8BW500".try_into().unwrap(),
        coding_rate: Some("4/5".try_into().unwrap()),
        rssi_dbm: Some(-58.0),
        snr_db: Some(10.8),
        channel: Some(8),
        rf_chain: Some(0),
        tmst: Some(1_472_242_252),
        crc: Crc::Ok,
        ..Rx::default()
    };
    assert_eq!(heard.rx, expected);
}

/// The table "who rejects what", row by row: each of these reaches the agent.
#[test]
fn what_others_reject_is_taken() {
    let fsk = rx(r#""modu":"FSK","datr":50000"#);
    assert_eq!((fsk.modulation, fsk.data_rate.as_str()), (Modulation::Fsk, "50000"));

    assert_eq!(phy("-_-_"), [0xfb, 0xff, 0xbf], "URL-safe base64");
    assert_eq!(phy("QAECAw"), [0x40, 1, 2, 3], "unpadded base64");
    assert_eq!(phy("-+_/"), [0xfb, 0xef, 0xff], "both alphabets in one, as in the specification");
    assert_eq!(phy(r"+\/+\/"), [0xfb, 0xff, 0xbf], "escaped slashes");

    assert_eq!(rx(r#""rssi":-57.5"#).rssi_dbm, Some(-57.5), "float rssi");
    assert_eq!(rx(r#""tmst":"4294967295""#).tmst, Some(u32::MAX), "tmst as a string");
    assert_eq!(only(r#"{"rxpk":[{"data":"QAE="}]}"#).rx.crc, Crc::Unknown, "no stat");
    assert_eq!(rx(r#""datr":"SF?BW?""#).data_rate, "SF?BW?");

    for codr in [r#""?""#, "null", r#""""#] {
        assert_eq!(rx(&format!(r#""codr":{codr}"#)).coding_rate, None, "codr {codr}");
    }
    assert_eq!(only(r#"{"rxpk":[{"data":"QAE="}]}"#).rx.coding_rate, None, "no codr");
    assert_eq!(rx(r#""codr":"OFF""#).coding_rate.as_deref(), Some("OFF"));
    assert_eq!(rx(r#""codr":"4/8LI""#).coding_rate.as_deref(), Some("4/8LI"));

    assert_eq!(rx(r#""time":"""#).crc, Crc::Ok, "an empty time");
    for name in ["LR-FHSS", "LRFHSS"] {
        let hopping = rx(&format!(r#""modu":"{name}","datr":"M0CW137","codr":"2/3""#));
        assert_eq!((hopping.modulation, hopping.data_rate.as_str()), (Modulation::LrFhss, "M0CW137"));
    }
    assert_eq!(rx(r#""datr":"SF5BW125""#).data_rate, "SF5BW125");

    let with_root_keys = format!(r#"{{"time":"now","x":{{"rxpk":[1]}},"rxpk":[{}],"y":[[]]}}"#, good());
    assert_eq!(only(with_root_keys).phy, [0x40, 1, 2, 3]);
    for end in ["\0", "\0\0\r\n", "  ", "\0garbage"] {
        assert_eq!(only(format!(r#"{{"rxpk":[{}]}}{end}"#, good())).phy, [0x40, 1, 2, 3], "{end:?}");
    }

    for stat in [r#"{"time":"2011-01-01T06:04:25Z"}"#, r#"{"ackr":null}"#, "{}", "7"] {
        assert_eq!(parse(format!(r#"{{"stat":{stat}}}"#)), [], "stat {stat}");
        let both = format!(r#"{{"stat":{stat},"rxpk":[{}]}}"#, good());
        assert_eq!(only(both).phy, [0x40, 1, 2, 3], "stat {stat}");
    }

    for datr in ["-1", "50000.5", "1e999", "0", r#""SF7ÄÖ125""#, r#""much too long for a data rate""#, "{}"]
    {
        assert_eq!(rx(&format!(r#""datr":{datr}"#)).data_rate, "", "datr {datr}");
    }
}

#[test]
fn one_bad_element_costs_itself_alone() {
    let good = good();
    for (bad, reason) in [
        ("{}", DropReason::BadElement),
        ("null", DropReason::BadElement),
        ("[]", DropReason::BadElement),
        (r#"{"data":null}"#, DropReason::BadElement),
        (r#"{"data":""}"#, DropReason::BadElement),
        (r#"{"data":"===="}"#, DropReason::BadElement),
        (r#"{"data":"QAE*"}"#, DropReason::BadElement),
        (r#"{"data":"\ud800"}"#, DropReason::BadElement),
        (r#"{"stat":-1,"data":"QAE="}"#, DropReason::CrcBad),
        (r#"{"stat":"-1"}"#, DropReason::CrcBad),
    ] {
        let results = parse(format!(r#"{{"rxpk":[{good},{bad},{good}]}}"#));
        assert_eq!(results.len(), 3, "{bad}");
        assert!(results[0].is_ok() && results[2].is_ok(), "{bad}: {results:?}");
        assert_eq!(results[1], Err(reason), "{bad}");
    }
    let long = data_encoding::BASE64.encode(&[0x40; 256]);
    assert_eq!(parse(format!(r#"{{"rxpk":[{{"data":"{long}"}}]}}"#)), [Err(DropReason::Oversize)]);
    assert_eq!(only(format!(r#"{{"rxpk":[{{"data":"{}"}}]}}"#, &long[..340])).phy.len(), 255);
}

#[test]
fn json_that_breaks_off_costs_what_follows_the_break() {
    let good = good();
    for (json, kept) in [
        (format!(r#"{{"rxpk":[{good},{good}],"stat":{{"time":"2026-"#), 2),
        (format!(r#"{{"rxpk":[{good},{{"data":"QA"#), 1),
        (format!(r#"{{"rxpk":[{good},{{"lsnr":nan,"data":"QAE="}},{good}]}}"#), 1),
        (String::new(), 0),
        ("[]".into(), 0),
        (r#"{"rxpk":{}}"#.into(), 0),
        (format!(r#"{{"rxpk":[{}"#, "[".repeat(40_000)), 0),
    ] {
        let results = parse(&json);
        assert_eq!(results.len(), kept + 1, "{json}");
        assert!(results[..kept].iter().all(Result::is_ok), "{json}");
        assert_eq!(results[kept], Err(DropReason::BadJson), "{json}");
    }
    for nothing in ["{}", r#"{"rxpk":[]}"#, r#"{"rxpk":null}"#] {
        assert_eq!(parse(nothing), [], "{nothing}");
    }
}

#[test]
fn foreign_bytes_cost_nothing() {
    let latin_1 =
        [br#"{"stat":{"desc":"D"#, &b"\xe4chle\x01\x7f"[..], br#""},"rxpk":[{"data":"QAE=","desc":""#];
    let json = [&latin_1.concat()[..], b"\xff\xfe\"}]}\0"].concat();
    assert_eq!(only(json).phy, [0x40, 1]);
    let datr = b"{\"rxpk\":[{\"data\":\"QAE=\",\"datr\":\"SF\xe4BW\"}]}";
    assert_eq!(only(datr).rx.data_rate, "");
}

#[test]
fn values_out_of_range_are_absent() {
    for (field, is_absent) in [
        (r#""freq":5000.1"#, (|rx| rx.frequency_hz.is_none()) as fn(&Rx) -> bool),
        (r#""freq":-868.1"#, |rx| rx.frequency_hz.is_none()),
        (r#""freq":0"#, |rx| rx.frequency_hz.is_none()),
        (r#""freq":1e999"#, |rx| rx.frequency_hz.is_none()),
        (r#""rssi":1e300"#, |rx| rx.rssi_dbm.is_none()),
        (r#""lsnr":-1e999"#, |rx| rx.snr_db.is_none()),
        (r#""chan":65536"#, |rx| rx.channel.is_none()),
        (r#""rfch":256"#, |rx| rx.rf_chain.is_none()),
        (r#""tmst":4294967296"#, |rx| rx.tmst.is_none()),
        (r#""tmst":-1"#, |rx| rx.tmst.is_none()),
        (r#""stat":2"#, |rx| rx.crc == Crc::Unknown),
        (r#""modu":7"#, |rx| rx.modulation == Modulation::Other),
    ] {
        assert!(is_absent(&rx(field)), "{field}");
    }
    // A channel that is a hair below its frequency as an f64, and a fine time beyond a second, which TTN has seen.
    assert_eq!(rx(r#""freq":"868.300000""#).frequency_hz, Some(868_300_000));
    assert_eq!(rx(r#""freq":867.099999999"#).frequency_hz, Some(867_100_000));
    assert_eq!(rx(r#""ftime":1255738435"#).fine_time_ns, Some(1_255_738_435));
    assert!(rx(r#""delayed":true"#).delayed);
    assert_eq!(rx(r#""size":200"#).crc, Crc::Ok, "the data says how long it is");
}

#[test]
fn the_best_antenna_stands_for_the_gateway() {
    let heard =
        |rsig: &str, more: &str| only(format!(r#"{{"rxpk":[{{"data":"QAE=","rsig":{rsig}{more}}}]}}"#)).rx;
    let two = r#"[{"ant":0,"chan":3,"rssic":-40,"lsnr":2.5},{"ant":1,"chan":4,"rssic":-90,"rssis":-91,"lsnr":7,"foff":-12}]"#;
    let rx = heard(two, "");
    assert_eq!((rx.antenna, rx.channel, rx.rssi_dbm, rx.snr_db), (Some(1), Some(4), Some(-90.0), Some(7.0)));
    assert_eq!((rx.rssi_signal_dbm, rx.frequency_offset_hz), (Some(-91.0), Some(-12)));
    // Without SNR the stronger one.
    let rx = heard(r#"[{"ant":5,"rssic":-90},{"ant":6,"rssic":-40},7,{"ant":8}]"#, "");
    assert_eq!((rx.antenna, rx.rssi_dbm), (Some(6), Some(-40.0)));
    // What the element itself says stays.
    let rx = heard(two, r#","rssi":-70,"chan":0"#);
    assert_eq!((rx.rssi_dbm, rx.channel, rx.snr_db), (Some(-70.0), Some(0), Some(7.0)));
    for nothing in ["[]", "null", "{}", "7", r#"[{}]"#] {
        assert_eq!(heard(nothing, "").rssi_dbm, None, "{nothing}");
    }
}

/// RULES S32.
#[test]
fn no_more_than_256_elements_are_looked_at() {
    let json = format!(r#"{{"rxpk":[{}]}}"#, vec![good(); 260].join(","));
    let results = parse(json);
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 256);
    assert_eq!(results.iter().filter(|result| **result == Err(DropReason::TooManyElements)).count(), 4);
}

/// RULES S22, through the whole element; the order itself is tested beside the clock rules.
#[test]
fn an_element_may_know_the_time_better() {
    let at = |fields: &str| only(format!(r#"{{"rxpk":[{{"data":"QAE=",{fields}}}]}}"#)).at;
    let gps = at(r#""tmms":1477526418250,"time":"2026-11-01T00:00:30Z""#);
    assert_eq!((gps.source, gps.wall_us), (TimeSource::Gps, RELEASE_FLOOR_US + 250_000));
    let forwarder = at(r#""time":"2026-11-01T00:00:30Z""#);
    assert_eq!((forwarder.source, forwarder.wall_us), (TimeSource::Forwarder, RELEASE_FLOOR_US + 30_000_000));
    for implausible in [r#""time":"1970-01-01T00:00:30Z""#, r#""time":"2026-11-01T01:00:30Z""#, r#""tmms":5"#]
    {
        assert_eq!(at(implausible), AT, "{implausible}");
    }
}

/// Datagrams from the field: header (hex), JSON, and the frame that is expected of it.
const SAMPLES: &[(&str, &str, Option<&str>)] = &[
    (
        "025e5200aa555a0000000000",
        r#"{"rxpk":[{"tmst":1472242252,"chan":8,"rfch":0,"freq":912.600000,"stat":1,"modu":"LORA","datr":"SF8BW500","codr":"4/5","lsnr":10.8,"rssi":-58,"size":23,"data":"ALQAAAABAAAASGVsaXVtICA0LDYCNrA="}]}"#,
        Some("ALQAAAABAAAASGVsaXVtICA0LDYCNrA="),
    ),
    (
        "027814007276ff0044010010",
        r#"{"rxpk":[{"aesk":0,"brd":0,"codr":"4/5","data":"QAAAAEgAEtcDvK7ndmBFBg==","datr":"SF10BW125","freq":903.9,"jver":2,"modu":"LORA","rsig":[{"ant":0,"chan":0,"lsnr":10.0,"rssic":-46}],"size":16,"stat":1,"time":"2020-10-29T15:57:40.170301Z","tmst":313998876}]}"#,
        Some("QAAAAEgAEtcDvK7ndmBFBg=="),
    ),
    (
        "0286be00aa555a0000000000",
        r#"{"stat":{"time":"2020-03-04 07:01:02 GMT","rxnb":3,"rxok":3,"rxfw":3,"ackr":0.0,"dwnb":0,"txnb":0}}"#,
        None,
    ),
    (
        "023f65007076ff0065030022",
        r#"{"stat":{"ackr":null,"boot":"2021-03-17 18:46:31 GMT","dwnb":0,"fpga":31,"hal":"5.0.1","ping":3000,"rxfw":0,"rxnb":0,"rxok":0,"time":"2021-03-17 18:47:01 GMT","txnb":0}}"#,
        None,
    ),
    ("0200000000000000deadbeef", r#"{"stat":{"lati":48.32092720674154,"long":2.9111848714527118}}"#, None),
    (
        "025e5200aa555a0000000000",
        r#"{"rxpk":[{"jver":1,"tmst":682631918,"chan":0,"rfch":0,"freq":865.062500,"mid": 0,"stat":1,"modu":"LORA","datr":"SF12BW125","codr":"4/5","rssis":-95,"lsnr":6.8,"foff":-1300,"rssi":-94,"size":20,"data":"QNbPNwABAQANyqD8ngiq26Hk4gs="}]}"#,
        Some("QNbPNwABAQANyqD8ngiq26Hk4gs="),
    ),
    (
        "025e5200aa555a0000000000",
        r#"{"rxpk":[{"time":"2013-03-31T16:21:17.530974Z","tmst":3512348514,"chan":9,"rfch":1,"freq":869.1,"stat":1,"modu":"FSK","datr":50000,"rssi":-75,"size":16,"data":"VEVTVF9QQUNLRVRfMTIzNA=="}]}"#,
        Some("VEVTVF9QQUNLRVRfMTIzNA=="),
    ),
    (
        "025e5200aa555a0000000000",
        r#"{"rxpk":[{"time":"2013-03-31T16:21:17.528002Z","tmst":3512348611,"chan":2,"rfch":0,"freq":866.349812,"stat":1,"modu":"LORA","datr":"SF7BW125","codr":"4/6","rssi":-35,"lsnr":5.1,"size":32,"data":"-DS4CGaDCdG+48eJNM3Vai-zDpsR71Pn9CPA9uCON84"}]}"#,
        Some("+DS4CGaDCdG+48eJNM3Vai+zDpsR71Pn9CPA9uCON84="),
    ),
    (
        "01987c001234567887654321",
        r#"{"stat":{"time":"2011-01-01T06:04:25Z","rxnb":16,"rxok":12,"rxfw":12,"ackr":32,"dwnb":0,"txnb":0}}"#,
        None,
    ),
    (
        "025e5200aa555a0000000000",
        r#"{"rxpk":[{"tmst":1337602716,"time":"2022-07-18T06:57:39Z","data":"QAE="}]}"#,
        Some("QAE="),
    ),
    (
        "025e5200aa555a0000000000",
        r#"{"rxpk":[{"jver":1,"tmst":14349054,"chan":2,"rfch":0,"freq":917.200000,"mid": 8,"stat":1,"modu":"LORA","datr":"SF10BW125","codr":"4/5","rssis":-56,"lsnr":10.8,"foff":70,"rssi":-55,"size":23,"data":"AAEAKgDAJOEkc4NFjFMk4STVM6EENbc="}]}"#,
        Some("AAEAKgDAJOEkc4NFjFMk4STVM6EENbc="),
    ),
    (
        "025e5200aa555a0000000000",
        r#"{"time":"2026-11-23T20:21:00Z","rxpk":[{"tm32":5,"datr":"SF5BW125","modu":"LORA","data":"QAE="}]}"#,
        Some("QAE="),
    ),
];

fn datagram(header: &str, json: &str) -> Vec<u8> {
    let mut bytes = data_encoding::HEXLOWER.decode(header.as_bytes()).unwrap();
    bytes.extend_from_slice(json.as_bytes());
    bytes
}

#[test]
fn samples_from_the_field() {
    for (header, json, frame) in SAMPLES {
        for end in ["", "\0"] {
            let bytes = [&datagram(header, json)[..], end.as_bytes()].concat();
            let read = Datagram::read(&bytes).unwrap();
            assert_eq!(read.ack(), Some([bytes[0], bytes[1], bytes[2], 1]), "{json}");
            let Message::PushData { gateway, json: body } = read.message else { panic!("{read:?}") };
            assert_eq!(gateway.to_string(), header[8..], "{json}");
            let heard = parse(body);
            match frame {
                Some(data) => {
                    let expected = data_encoding::BASE64.decode(data.as_bytes()).unwrap();
                    assert_eq!(only(body).phy.to_vec(), expected, "{json}");
                }
                None => assert_eq!(heard, [], "{json}"),
            }
        }
    }
}

#[test]
fn samples_that_are_no_uplinks() {
    let crc_bad = r#"{"rxpk":[{"tmst":4202879084,"time":"2021-02-03T19:03:46.500349Z","tmms":1296414244500,"chan":3,"rfch":0,"freq":904.500000,"stat":-1,"modu":"LORA","datr":"SF10BW125","codr":"4/5","lsnr":-15.5,"rssi":-115,"size":16,"data":"QMroCondIG6j9T4QcRKd9w=="}]}"#;
    assert_eq!(parse(crc_bad), [Err(DropReason::CrcBad)]);
    let warning = r#"{"txpk_ack":{"warn":"TX_POWER","value":27,"tmst":3975366891}}"#;
    for (header, rest) in [("028ba5057276ff00390300ae", "\0"), ("02904905aa555a0000000000", warning)] {
        let bytes = datagram(header, rest);
        let Message::TxAck { gateway } = Datagram::read(&bytes).unwrap().message else { panic!("{header}") };
        assert_eq!(gateway.unwrap().to_string(), header[8..]);
    }
    let pull = datagram("029f9202aa555a0102030405", "");
    assert_eq!(Datagram::read(&pull).unwrap().ack(), Some([2, 0x9f, 0x92, 4]));
}

/// Reads a whole datagram, as the listener does.
fn swallow(bytes: &[u8]) {
    let Ok(read) = Datagram::read(bytes) else { return };
    let _ = read.ack();
    if let Message::PushData { gateway, json } = read.message {
        parse_push(json, gateway, AT, |result| {
            assert!(result.is_err() || result.is_ok_and(|heard| !heard.phy.is_empty()));
        });
    }
}

/// A sample with some bytes replaced, some cut away and some doubled.
fn mutant() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 0..12);
    (0..SAMPLES.len(), edits).prop_map(|(sample, edits)| {
        let (header, json, _) = SAMPLES[sample];
        let mut bytes = datagram(header, json);
        for (place, byte, edit) in edits {
            let at = place.index(bytes.len().max(1));
            match edit {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => bytes.truncate(at.max(12)),
                _ => bytes.insert(at.min(bytes.len()), byte),
            }
        }
        bytes
    })
}

/// JSON of the right shape with the wrong things in it.
fn odd_element() -> impl Strategy<Value = String> {
    let keys = [
        "tmst", "chan", "rfch", "freq", "stat", "modu", "datr", "codr", "lsnr", "rssi", "time", "tmms",
        "rsig", "ftime", "foff", "ant", "data",
    ];
    let value = prop_oneof![
        any::<f64>().prop_map(|number| format!("{number:e}")),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "[0-9eE+.-]{1,12}",
        Just("null".to_owned()),
        Just(r#"[{"ant":1e99,"lsnr":"x"},[]]"#.to_owned()),
        Just(r#""2026-11-31 25:61:61 GMT""#.to_owned()),
    ];
    prop::collection::vec((prop::sample::select(keys.to_vec()), value), 0..20).prop_map(|fields| {
        let fields: Vec<String> = fields.iter().map(|(key, value)| format!(r#""{key}":{value}"#)).collect();
        format!(r#"{{"rxpk":[{{"data":"QAE=",{}}}]}}"#, fields.join(","))
    })
}

proptest! {
    /// DESIGN invariant 5.
    #[test]
    fn no_datagram_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        swallow(&bytes);
        swallow(&[&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &bytes[..]].concat());
    }

    #[test]
    fn no_mutant_panics(bytes in mutant()) {
        swallow(&bytes);
    }

    #[test]
    fn no_odd_value_panics(json in odd_element()) {
        parse(json);
    }
}
