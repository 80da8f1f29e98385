//! The three dialects by examples of their makers, and hostile text.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::uplink::{Crc, Modulation};

/// ChirpStack's own example (docs, integrations/events), with a second gateway that heard it less well.
const CHIRPSTACK: &str = r#"{"deduplicationId":"3ac7e3c4-4401-4b8d-9386-a5c902f9202d",
"time":"2022-07-18T09:34:15.775023242+00:00",
"deviceInfo":{"tenantId":"52f14cd4-c6f1-4fbd-8f87-4025e1d49242","tenantName":"ChirpStack","applicationId":"17c82e96-be03-4f38-aef3-f83d48582d97",
"applicationName":"Test application","deviceProfileId":"14855bf7-d10d-4aee-b618-ebfcb64dc7ad","deviceProfileName":"Test device-profile",
"deviceName":"Test device","devEui":"0101010101010101","tags":{"key":"value"}},
"devAddr":"00189440","dr":1,"fCnt":7,"fPort":1,"data":"qg==","object":{"temp":21},
"rxInfo":[{"gatewayId":"0016c001f153a14d","uplinkId":4217106254,"rssi":-30,"snr":-2.5,"channel":3},
{"gatewayId":"0016c001f153a14c","uplinkId":4217106255,"rssi":-36,"snr":10.5,"context":"E3OWOQ==","metadata":{"region_name":"eu868"},"crcStatus":"CRC_OK"}],
"txInfo":{"frequency":867100000,"modulation":{"lora":{"bandwidth":125000,"spreadingFactor":11,"codeRate":"CR_4_5"}}}}"#;

const TTS: &str = r#"{"end_device_ids":{"device_id":"dev1","application_ids":{"application_id":"app1"},"dev_eui":"0004A30B001C0530","join_eui":"800000000000000C","dev_addr":"00BCB929"},
"correlation_ids":["as:up:01E0WZGT6Y7657CPFPE5WEYDSQ"],"received_at":"2020-02-12T15:15:46.014773143Z",
"uplink_message":{"session_key_id":"AXBSH1Pk6Z0G166+KzUZ1g==","f_port":1,"f_cnt":1,"frm_payload":"gkHe","decoded_payload":{"temperature":1.0},
"rx_metadata":[{"gateway_ids":{"gateway_id":"gtw1","eui":"9C5C8E00001A05C4"},"time":"2020-02-12T15:15:45.787Z","timestamp":2463457000,"rssi":-35,"channel_rssi":-35,"snr":5}],
"settings":{"data_rate":{"lora":{"bandwidth":125000,"spreading_factor":7}},"coding_rate":"4/6","frequency":"868300000"},
"received_at":"2020-02-12T15:15:45.789Z","consumed_airtime":"0.056576s"}}"#;

const OURS: &str = r#"{"type":"uplink","id":"01936b1e-0000-7000-8000-000000000009","time":"2026-11-23T20:21:00.123456Z","time_quality":"ntp",
"gateway":{"name":"barn-roof","eui":"aa555a0000000101"},
"device":{"name":"silo-7","dev_eui":"0004a30b001c0530","dev_addr":"260b1f2e","labels":["silo"]},
"f_port":2,"f_cnt":41,"confirmed":false,"payload":"AQID","decoded":{"level_cm":182},
"rx":{"frequency":868300000,"data_rate":"SF7BW125","coding_rate":"4/5","rssi":-57.0,"snr":9.5,"channel":2},"phy_payload":"QC4fCyYA"}"#;

fn parse(text: &str) -> Result<ServerUplink, NoUplink> {
    ServerUplink::parse(text.as_bytes())
}

/// An example with one member of it replaced.
fn with(example: &str, pointer: &str, value: Value) -> String {
    let mut json: Value = serde_json::from_str(example).unwrap();
    *json.pointer_mut(pointer).unwrap() = value;
    json.to_string()
}

/// An example without one member.
fn without(example: &str, parent: &str, key: &str) -> String {
    let mut json: Value = serde_json::from_str(example).unwrap();
    json.pointer_mut(parent).unwrap().as_object_mut().unwrap().shift_remove(key).unwrap();
    json.to_string()
}

#[test]
fn chirpstack() {
    let uplink = parse(CHIRPSTACK).unwrap();
    assert_eq!(uplink.dialect, Dialect::Chirpstack);
    assert_eq!(uplink.id.as_deref(), Some("3ac7e3c4-4401-4b8d-9386-a5c902f9202d"));
    assert_eq!(uplink.dev_eui, Some(Eui64([1; 8])));
    assert_eq!(uplink.dev_addr, Some(DevAddr([0x00, 0x18, 0x94, 0x40])));
    assert_eq!(uplink.device_name.as_deref(), Some("Test device"));
    assert_eq!((uplink.f_port, uplink.f_cnt, uplink.confirmed), (Some(1), Some(7), Some(false)));
    assert_eq!(uplink.payload.as_deref(), Some([0xaa].as_slice()));
    assert_eq!(uplink.decoded.unwrap().get(), r#"{"temp":21}"#);
    assert_eq!(uplink.time_us, Some(1_658_136_855_775_023));
    let rx = uplink.rx;
    assert_eq!(
        rx.gateway_eui,
        Some(Eui64([0x00, 0x16, 0xc0, 0x01, 0xf1, 0x53, 0xa1, 0x4c])),
        "the better copy"
    );
    assert_eq!((rx.rssi_dbm, rx.snr_db, rx.channel), (Some(-36.0), Some(10.5), Some(0)));
    assert_eq!((rx.frequency_hz, rx.modulation), (Some(867_100_000), Modulation::Lora));
    assert_eq!((rx.data_rate.as_str(), rx.coding_rate.as_deref()), ("SF11BW125", Some("4/5")));
    assert_eq!((rx.tmst, rx.crc), (Some(0x1373_9639), Crc::Ok));
}

/// Proto3 JSON: what is zero is not there.
#[test]
fn chirpstack_leaves_out_zeros() {
    let uplink = parse(&without(CHIRPSTACK, "", "fCnt")).unwrap();
    assert_eq!(uplink.f_cnt, Some(0));
    let uplink = parse(&without(CHIRPSTACK, "/rxInfo/1", "snr")).unwrap();
    assert_eq!(uplink.rx.snr_db, Some(0.0));
    // An uplink without a payload has neither port nor data.
    let uplink = parse(&without(&without(CHIRPSTACK, "", "fPort"), "", "data")).unwrap();
    assert_eq!((uplink.f_port, uplink.payload), (None, None));
}

#[test]
fn chirpstack_modulations() {
    let rx = |modulation: Value| parse(&with(CHIRPSTACK, "/txInfo/modulation", modulation)).unwrap().rx;
    let fsk = rx(json!({"fsk":{"frequencyDeviation":25000,"datarate":50000}}));
    assert_eq!((fsk.modulation, fsk.data_rate.as_str(), fsk.coding_rate), (Modulation::Fsk, "50000", None));
    let hopping = rx(json!({"lrFhss":{"operatingChannelWidth":137000,"codeRate":"CR_2_6","gridSteps":8}}));
    assert_eq!((hopping.modulation, hopping.data_rate.as_str()), (Modulation::LrFhss, "M0CW137"));
    let interleaved = rx(json!({"lora":{"bandwidth":812000,"spreadingFactor":5,"codeRate":"CR_LI_4_8"}}));
    assert_eq!(interleaved.data_rate, "SF5BW812");
    assert_eq!(interleaved.coding_rate.as_deref(), Some("4/8LI"));
}

/// The AppSKey stayed with the join server: what is in `data` is no payload in clear.
#[test]
fn a_payload_that_is_still_encrypted_is_none() {
    let mut json: Value = serde_json::from_str(CHIRPSTACK).unwrap();
    json["joinServerContext"] = json!({"sessionKeyId":"01"});
    assert_eq!(parse(&json.to_string()).unwrap().payload, None);
}

#[test]
fn the_things_stack() {
    let uplink = parse(TTS).unwrap();
    assert_eq!(uplink.dialect, Dialect::Tts);
    assert_eq!(uplink.id.as_deref(), Some("AXBSH1Pk6Z0G166+KzUZ1g==/1/2020-02-12T15:15:45.789Z"));
    assert_eq!(uplink.dev_eui, Some(Eui64([0x00, 0x04, 0xa3, 0x0b, 0x00, 0x1c, 0x05, 0x30])));
    assert_eq!(uplink.join_eui, Some(Eui64([0x80, 0, 0, 0, 0, 0, 0, 0x0c])));
    assert_eq!(uplink.dev_addr, Some(DevAddr([0x00, 0xbc, 0xb9, 0x29])));
    assert_eq!(uplink.device_name.as_deref(), Some("dev1"));
    assert_eq!((uplink.f_port, uplink.f_cnt, uplink.confirmed), (Some(1), Some(1), Some(false)));
    assert_eq!(uplink.payload.as_deref(), Some([0x82, 0x41, 0xde].as_slice()));
    assert_eq!(uplink.decoded.unwrap().get(), r#"{"temperature":1.0}"#);
    assert_eq!(uplink.time_us, Some(1_581_520_545_789_000));
    let rx = uplink.rx;
    assert_eq!(rx.gateway_eui, Some(Eui64([0x9c, 0x5c, 0x8e, 0, 0, 0x1a, 0x05, 0xc4])));
    assert_eq!((rx.rssi_dbm, rx.snr_db, rx.tmst), (Some(-35.0), Some(5.0), Some(2_463_457_000)));
    assert_eq!((rx.frequency_hz, rx.data_rate.as_str()), (Some(868_300_000), "SF7BW125"));
    assert_eq!(rx.coding_rate.as_deref(), Some("4/6"), "where older versions have it");
    let newer = with(
        TTS,
        "/uplink_message/settings/data_rate/lora",
        json!({"bandwidth":500000,"spreading_factor":8,"coding_rate":"4/5"}),
    );
    let rx = parse(&newer).unwrap().rx;
    assert_eq!((rx.data_rate.as_str(), rx.coding_rate.as_deref()), ("SF8BW500", Some("4/5")));
    let uplink = parse(&without(TTS, "/uplink_message", "session_key_id")).unwrap();
    assert_eq!(uplink.id, None, "nothing that would be the same if it were said again");
    let uplink = parse(&without(TTS, "/uplink_message", "f_cnt")).unwrap();
    assert_eq!(uplink.f_cnt, Some(0));
}

#[test]
fn our_own() {
    let uplink = parse(OURS).unwrap();
    assert_eq!(uplink.dialect, Dialect::Packhorse);
    assert_eq!(uplink.id.as_deref(), Some("01936b1e-0000-7000-8000-000000000009"));
    assert_eq!(uplink.dev_eui, Some(Eui64([0x00, 0x04, 0xa3, 0x0b, 0x00, 0x1c, 0x05, 0x30])));
    assert_eq!(uplink.dev_addr, Some(DevAddr([0x26, 0x0b, 0x1f, 0x2e])));
    assert_eq!(uplink.device_name.as_deref(), Some("silo-7"));
    assert_eq!((uplink.f_port, uplink.f_cnt, uplink.confirmed), (Some(2), Some(41), Some(false)));
    assert_eq!(uplink.payload.as_deref(), Some([1, 2, 3].as_slice()));
    assert_eq!(uplink.time_us, Some(1_795_465_260_123_456));
    assert_eq!(uplink.rx.gateway_eui, Some(Eui64([0xaa, 0x55, 0x5a, 0, 0, 0, 1, 1])));
    assert_eq!((uplink.rx.data_rate.as_str(), uplink.rx.modulation), ("SF7BW125", Modulation::Lora));
    assert_eq!((uplink.rx.rssi_dbm, uplink.rx.channel), (Some(-57.0), Some(2)));
}

/// Only the device must be named; in our own words nothing is assumed to be zero.
#[test]
fn the_least_there_can_be() {
    let uplink = parse(r#"{"dev_eui":"00-04-A3-0B-00-1C-05-30"}"#).unwrap();
    assert_eq!(uplink.dev_eui, Some(Eui64([0x00, 0x04, 0xa3, 0x0b, 0x00, 0x1c, 0x05, 0x30])));
    assert_eq!((uplink.f_cnt, uplink.confirmed, uplink.payload), (None, None, None));
    for nameless in [
        "{}",
        r#"{"dev_eui":"0004"}"#,
        r#"{"dev_eui":42}"#,
        r#"{"device":{"dev_addr":"260b1f2e"}}"#,
        r#"{"device":"silo-7"}"#,
    ] {
        assert_eq!(parse(nameless).unwrap_err(), NoUplink::NoDevice, "{nameless}");
    }
    assert_eq!(parse(&without(CHIRPSTACK, "/deviceInfo", "devEui")).unwrap_err(), NoUplink::NoDevice);
}

#[test]
fn other_events_are_no_uplinks() {
    for event in [
        r#"{"deduplicationId":"c","time":"2022-07-18T09:34:15Z","deviceInfo":{"devEui":"0101010101010101"},"devAddr":"00189440"}"#,
        r#"{"deduplicationId":"c","deviceInfo":{"devEui":"0101010101010101"},"margin":-1,"batteryLevel":88.2}"#,
        r#"{"downlinkId":3,"deviceInfo":{"devEui":"0101010101010101"},"fCntDown":4,"txInfo":{"frequency":868300000}}"#,
        r#"{"end_device_ids":{"dev_eui":"0004A30B001C0530"},"join_accept":{"session_key_id":"x"}}"#,
        r#"{"type":"join","device":{"dev_eui":"0004a30b001c0530"}}"#,
    ] {
        assert_eq!(parse(event).unwrap_err(), NoUplink::OtherEvent, "{event}");
    }
}

#[test]
fn what_is_no_object_is_refused() {
    assert_eq!(parse("{\n\"dev_eui\": x}").unwrap_err(), NoUplink::NotJson { line: 2, column: 12 });
    assert!(matches!(ServerUplink::parse(b"{\"a\":\"\xff\"}"), Err(NoUplink::NotJson { .. })));
    for text in ["[]", "7", "null", r#""text""#] {
        assert_eq!(parse(text).unwrap_err(), NoUplink::NotAnObject, "{text}");
    }
    assert!(matches!(parse("").unwrap_err(), NoUplink::NotJson { .. }));
}

#[test]
fn length_and_depth_are_bounded() {
    let nested = |depth: usize| {
        format!(r#"{{"dev_eui":"0004a30b001c0530","decoded":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth))
    };
    assert!(parse(&nested(MAX_DEPTH - 1)).is_ok());
    assert_eq!(parse(&nested(MAX_DEPTH)).unwrap_err(), NoUplink::TooDeep);
    assert_eq!(parse(&nested(30_000)).unwrap_err(), NoUplink::TooDeep);
    assert!(parse(r#"{"dev_eui":"0004a30b001c0530","x":"[[[[\"[[[[\\"}"#).is_ok(), "brackets in a string");
    let long = format!(r#"{{"dev_eui":"0004a30b001c0530","x":"{}"}}"#, "x".repeat(MAX_BYTES));
    assert_eq!(parse(&long).unwrap_err(), NoUplink::TooLong);
}

/// Every member of the examples, replaced by anything: it costs itself alone.
#[test]
fn wrong_types_are_absent() {
    fn pointers(value: &Value, at: &str, into: &mut Vec<String>) {
        let children: Vec<(String, &Value)> = match value {
            Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), value)).collect(),
            Value::Array(items) => {
                items.iter().enumerate().map(|(n, value)| (n.to_string(), value)).collect()
            }
            _ => Vec::new(),
        };
        for (key, child) in children {
            let pointer = format!("{at}/{key}");
            pointers(child, &pointer, into);
            into.push(pointer);
        }
    }
    let wrong =
        [json!(null), json!(true), json!(-1), json!(1e300), json!("☂"), json!([]), json!({}), json!([[1]])];
    for example in [CHIRPSTACK, TTS, OURS] {
        let mut all = Vec::new();
        pointers(&serde_json::from_str(example).unwrap(), "", &mut all);
        for pointer in all {
            for value in &wrong {
                let result = parse(&with(example, &pointer, value.clone()));
                let names_the_device =
                    ["/deviceInfo", "/end_device_ids", "/device"].iter().any(|it| pointer == *it)
                        || pointer.ends_with("devEui")
                        || pointer.ends_with("dev_eui")
                        || pointer == "/type";
                assert!(result.is_ok() || names_the_device, "{pointer} = {value}: {result:?}");
            }
        }
    }
}

/// Numbers as strings, and the other way round, are what JavaScript makes of them.
#[test]
fn numbers_may_be_strings() {
    let uplink = parse(&with(CHIRPSTACK, "/fCnt", json!("70000"))).unwrap();
    assert_eq!(uplink.f_cnt, Some(70_000));
    let uplink = parse(&with(CHIRPSTACK, "/fPort", json!(256))).unwrap();
    assert_eq!(uplink.f_port, None, "out of range");
}

fn any_json() -> impl Strategy<Value = Value> {
    let keys = prop_oneof![
        Just("deviceInfo"),
        Just("devEui"),
        Just("fCnt"),
        Just("rxInfo"),
        Just("txInfo"),
        Just("modulation"),
        Just("lora"),
        Just("end_device_ids"),
        Just("uplink_message"),
        Just("rx_metadata"),
        Just("settings"),
        Just("device"),
        Just("dev_eui"),
        Just("rx"),
        Just("payload"),
        Just("time"),
        Just("id"),
        Just("x"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("0004a30b001c0530")),
    ];
    leaf.prop_recursive(5, 60, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((keys.clone(), inner), 0..8).prop_map(|members| Value::Object(
                members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn hostile_json_never_panics(json in any_json()) {
        let _ = parse(&json.to_string());
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = ServerUplink::parse(&bytes);
    }

    #[test]
    fn broken_examples_never_panic(at in 0usize..1_200, byte in any::<u8>(), cut in any::<bool>(), which in 0usize..3) {
        let mut bytes = [CHIRPSTACK, TTS, OURS][which].as_bytes().to_vec();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let _ = ServerUplink::parse(&bytes);
    }
}
