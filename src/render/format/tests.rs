#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use serde_json::{Value, json};

use super::*;
use crate::clock::{Dated, Quality};
use crate::render::testing::{DATA, JOIN, WALL_US, bounded, known_uplink, raw, uplink, with, with_silo};
use crate::uplink::{Crc, Flags, Kind, Rx, TimeSource, Uplink};

const FOREIGN: [Format; 3] = [Format::Chirpstack, Format::Tts, Format::Helium];

fn body(format: Format, message: &Message<'_>) -> String {
    String::from_utf8(text(format, message).unwrap().into_owned()).unwrap()
}

fn value(format: Format, uplink: &Uplink) -> Value {
    with(uplink, |message| serde_json::from_str(&body(format, message)).unwrap())
}

/// Everything that a concentrator with GPS and two antennas may report, of a configured device, decoded.
fn everything() -> Uplink {
    let mut full = known_uplink();
    full.content[0] = 0x80;
    full.at.source = TimeSource::Gps;
    full.rx = Rx {
        rssi_dbm: Some(-57.6),
        rssi_signal_dbm: Some(-60.0),
        rf_chain: Some(1),
        antenna: Some(1),
        frequency_offset_hz: Some(-120),
        tmst: Some(0x1373_9639),
        fine_time_ns: Some(123_456_789),
        crc: Crc::Ok,
        ..full.rx
    };
    full
}

/// Field for field as `integration.proto` says it; identifiers that only a network server has are absent.
#[test]
fn chirpstack_up() {
    let golden = concat!(
        r#"{"deduplicationId":"01936b1e-0000-7000-8000-0000000000aa","time":"2026-11-23T20:21:00.123456+00:00","#,
        r#""deviceInfo":{"deviceName":"silo-7","devEui":"0004a30b001c0530"},"devAddr":"49be7df1","fCnt":2,"fPort":1,"#,
        r#""confirmed":true,"data":"dGVzdA==","object":{"level_cm":182.0},"#,
        r#""rxInfo":[{"gatewayId":"aa555a0000000101","gwTime":"2026-11-23T20:21:00.123456+00:00","rssi":-58,"#,
        r#""snr":9.8,"channel":2,"rfChain":1,"antenna":1,"context":"E3OWOQ==","#,
        r#""metadata":{"gateway_name":"barn-roof","time_quality":"gps"},"crcStatus":"CRC_OK"}],"#,
        r#""txInfo":{"frequency":868300000,"modulation":{"lora":{"bandwidth":125000,"spreadingFactor":7,"#,
        r#""codeRate":"CR_4_5"}}}}"#,
    );
    with_silo(&everything(), |message| {
        decode(message);
        assert_eq!(body(Format::Chirpstack, message), golden);
    });
}

/// The frame of [`everything`] is confirmed, which its MIC does not cover; so what the session proved is put in by hand.
fn decode(message: &mut Message<'_>) {
    message.payload = Some(b"test".to_vec());
    message.decoding =
        crate::render::Decoding { data: Some(raw(r#"{"level_cm":182.0}"#)), ..Default::default() };
    message.device_name = Some("silo-7".to_owned());
}

#[test]
fn chirpstack_leaves_out_what_is_at_its_default() {
    let mut zero = uplink(Kind::Lorawan, "402e1f0b26800000005a5bc1d2e3f4");
    zero.rx =
        Rx { rssi_dbm: Some(0.2), snr_db: Some(0.0), channel: Some(0), rf_chain: Some(0), ..Rx::default() };
    assert_eq!(
        value(Format::Chirpstack, &zero),
        json!({
            "deduplicationId": "01936b1e-0000-7000-8000-0000000000aa",
            "time": "2026-11-23T20:21:00.123456+00:00",
            "devAddr": "260b1f2e", "adr": true,
            "rxInfo": [{ "metadata": {
                "gateway_name": "barn-roof", "time_quality": "ntp", "phy_payload": "QC4fCyaAAAAAWlvB0uP0",
            } }],
        }),
        "fCnt, fPort, confirmed, data, rssi, snr, channel are zero, empty or unknown"
    );
}

#[test]
fn chirpstack_join_and_other() {
    assert_eq!(
        value(Format::Chirpstack, &uplink(Kind::Join, JOIN)),
        json!({
            "deduplicationId": "01936b1e-0000-7000-8000-0000000000aa",
            "time": "2026-11-23T20:21:00.123456+00:00",
            "deviceInfo": { "devEui": "0004a30b001c0530" },
        })
    );
    let other = value(Format::Chirpstack, &uplink(Kind::Other, "ff00"));
    assert_eq!(other["rxInfo"][0]["metadata"]["phy_payload"], "/wA=");
    assert_eq!(other.get("deviceInfo"), None);
}

#[test]
fn tts_uplink_message() {
    let golden = concat!(
        r#"{"end_device_ids":{"device_id":"silo-7","dev_eui":"0004A30B001C0530","dev_addr":"49BE7DF1"},"#,
        r#""correlation_ids":["packhorse:uplink:01936b1e-0000-7000-8000-0000000000aa"],"#,
        r#""received_at":"2026-11-23T20:21:00.123456Z","uplink_message":{"f_port":1,"f_cnt":2,"#,
        r#""frm_payload":"dGVzdA==","decoded_payload":{"level_cm":182.0},"#,
        r#""rx_metadata":[{"gateway_ids":{"gateway_id":"barn-roof","eui":"AA555A0000000101"},"antenna_index":1,"#,
        r#""time":"2026-11-23T20:21:00.123456Z","timestamp":326342201,"fine_timestamp":"123456789","#,
        r#""rssi":-57.6,"signal_rssi":-60,"channel_rssi":-57.6,"snr":9.8,"frequency_offset":"-120","#,
        r#""channel_index":2,"gps_time":"2026-11-23T20:21:00.123456Z","received_at":"2026-11-23T20:21:00.123456Z"}],"#,
        r#""settings":{"data_rate":{"lora":{"bandwidth":125000,"spreading_factor":7,"coding_rate":"4/5"}},"#,
        r#""frequency":"868300000","timestamp":326342201,"time":"2026-11-23T20:21:00.123456Z"},"#,
        r#""received_at":"2026-11-23T20:21:00.123456Z","confirmed":true,"consumed_airtime":"0.051456s","#,
        r#""attributes":{"gateway_name":"barn-roof","time_quality":"gps"}}}"#,
    );
    with_silo(&everything(), |message| {
        decode(message);
        assert_eq!(body(Format::Tts, message), golden);
    });
}

#[test]
fn tts_leaves_out_what_is_empty_and_keeps_ids_valid() {
    let mut heard = uplink(Kind::Lorawan, DATA);
    heard.rx = Rx { gateway_eui: heard.rx.gateway_eui, ..Rx::default() };
    let mut body = value(Format::Tts, &heard);
    assert_eq!(
        body["uplink_message"].take(),
        json!({
            "f_port": 2, "f_cnt": 41,
            "rx_metadata": [{
                "gateway_ids": { "gateway_id": "barn-roof", "eui": "AA555A0000000101" },
                "received_at": "2026-11-23T20:21:00.123456Z",
            }],
            "settings": {},
            "received_at": "2026-11-23T20:21:00.123456Z",
            "attributes": {
                "gateway_name": "barn-roof", "time_quality": "ntp", "phy_payload": "QC4fCyaAKQACalvB0uP0BQ==",
            },
        })
    );
    assert_eq!(body["end_device_ids"], json!({ "dev_addr": "260B1F2E" }));
    for (name, id) in
        [("silo-7", "silo-7"), ("Silo 7", "eui-0004a30b001c0530"), ("a--b", "eui-0004a30b001c0530")]
    {
        with(&known_uplink(), |message| {
            message.device_name = Some(name.to_owned());
            let body: Value = serde_json::from_str(&self::body(Format::Tts, message)).unwrap();
            assert_eq!(body["end_device_ids"]["device_id"], id, "{name}");
        });
    }
}

#[test]
fn tts_join_request_and_other() {
    let join = value(Format::Tts, &uplink(Kind::Join, JOIN));
    assert_eq!(
        join["end_device_ids"],
        json!({
            "device_id": "eui-0004a30b001c0530", "dev_eui": "0004A30B001C0530", "join_eui": "70B3D57ED0000001",
        })
    );
    assert_eq!(join["join_request"]["attributes"]["phy_payload"], "AAEAANB+1bNwMAUcAAujBAA0Eqq7zN0=");
    assert_eq!((join.get("uplink_message"), join.get("join_accept")), (None, None));
    let other = value(Format::Tts, &uplink(Kind::Other, "ff00"));
    assert_eq!(other.get("end_device_ids"), None);
    assert_eq!(other["uplink_message"]["attributes"]["phy_payload"], "/wA=");
}

#[test]
fn helium_uplink() {
    let golden = concat!(
        r#"{"type":"uplink","replay":false,"uuid":"01936b1e-0000-7000-8000-0000000000aa","name":"silo-7","#,
        r#""dev_eui":"0004A30B001C0530","metadata":{"labels":[{"name":"silo"},{"name":"north"}],"#,
        r#""time_quality":"ntp"},"fcnt":2,"reported_at":1795465260123,"payload":"dGVzdA==","payload_size":4,"#,
        r#""raw_packet":"QPF9vkkAAgABlUN4disR/w0=","port":1,"devaddr":"F17DBE49","#,
        r#""hotspots":[{"id":"AA555A0000000101","name":"barn-roof","reported_at":1795465260123,"#,
        r#""status":"success","rssi":-57,"snr":9.8,"spreading":"SF7BW125","frequency":868.3,"channel":2}],"#,
        r#""decoded":{"status":"success","payload":{"level_cm":182.0}}}"#,
    );
    with_silo(&known_uplink(), |message| {
        let before = helium_object(message);
        message.decoding.data = Some(raw(r#"{"level_cm":182.0}"#));
        assert_eq!(body(Format::Helium, message), golden);
        assert!(golden.starts_with(before.trim_end_matches('}')), "what functions see has no `decoded` yet");
    });
}

#[test]
fn helium_join_and_other() {
    let join = value(Format::Helium, &uplink(Kind::Join, JOIN));
    assert_eq!(
        (&join["type"], &join["port"], &join["fcnt"], &join["app_eui"], join.get("payload")),
        (&json!("join"), &json!(0), &json!(0), &json!("70B3D57ED0000001"), None)
    );
    let other = value(Format::Helium, &uplink(Kind::Other, "ff00"));
    assert_eq!((&other["type"], &other["raw_packet"]), (&json!("other"), &json!("/wA=")));
}

/// DESIGN section 2: a function that fails never loses the uplink, and each shape says why where it can.
#[test]
fn a_failed_function_is_said_where_the_format_can() {
    for (format, place) in [
        (Format::Json, "/decode_errors/0"),
        (Format::Chirpstack, "/rxInfo/0/metadata/decode_error"),
        (Format::Tts, "/uplink_message/decoded_payload_warnings/0"),
        (Format::Helium, "/decoded/error"),
    ] {
        with_silo(&known_uplink(), |message| {
            message.decoding.errors.push("TypeError".to_owned());
            let body: Value = serde_json::from_str(&body(format, message)).unwrap();
            assert_eq!(body.pointer(place), Some(&json!("TypeError")), "{body}");
            for absent in ["/decoded/payload", "/object", "/uplink_message/decoded_payload"] {
                assert_eq!(body.pointer(absent), None, "{body}");
            }
        });
    }
}

/// RULES S22: every format has the time as it is known now, says how good it is, and where it lies if that is all.
#[test]
fn the_time_is_what_is_known_now() {
    let mut uplink = uplink(Kind::Lorawan, DATA);
    uplink.at.wall_us = 60_000_000;
    uplink.at.source = TimeSource::Untrusted;
    let body = |format: Format, heard: Dated| -> Value {
        with(&uplink, |message| {
            message.heard = heard;
            serde_json::from_str(&body(format, message)).unwrap()
        })
    };
    let (after, before) = ("2026-11-23T20:20:30.123456Z", "2026-11-23T20:21:30.123456Z");
    let corrected = Dated { wall_us: WALL_US, quality: Quality::Corrected, bounds: None };
    for (format, time, shown, about) in [
        (Format::Json, "/time", json!("2026-11-23T20:21:00.123456Z"), ""),
        (Format::Chirpstack, "/time", json!("2026-11-23T20:21:00.123456+00:00"), "/rxInfo/0/metadata"),
        (Format::Tts, "/received_at", json!("2026-11-23T20:21:00.123456Z"), "/uplink_message/attributes"),
        (Format::Helium, "/reported_at", json!(WALL_US / 1_000), "/metadata"),
    ] {
        for heard in [corrected, bounded()] {
            let body = body(format, heard);
            let about = body.pointer(about).unwrap();
            assert_eq!(body.pointer(time), Some(&shown), "{body}");
            assert_eq!(about["time_quality"], heard.quality.as_str(), "{body}");
            let bounds = match format {
                Format::Json | Format::Helium => {
                    about.get("time_bounds").map(|it| (&it["after"], &it["before"]))
                }
                Format::Chirpstack | Format::Tts => about.get("time_after").zip(about.get("time_before")),
            };
            let expected = heard.bounds.map(|_| (json!(after), json!(before)));
            assert_eq!(bounds, expected.as_ref().map(|(after, before)| (after, before)), "{body}");
        }
        // A clock that somebody else read is not the gateway's.
        assert!(body(format, corrected).pointer("/rxInfo/0/gwTime").is_none());
    }
}

#[test]
fn results_that_are_no_objects_fit_where_only_objects_do() {
    for (result, normalized, expected, list) in [
        ("182", "{\"a\":1}", json!({ "value": 182 }), json!([{ "a": 1 }])),
        ("[1]", "[{\"a\":1}]", json!({ "value": [1] }), json!([{ "a": 1 }])),
        ("null", "null", Value::Null, Value::Null),
    ] {
        with_silo(&known_uplink(), |message| {
            message.decoding.data = Some(raw(result));
            message.decoding.normalized = Some(raw(normalized));
            let chirpstack: Value = serde_json::from_str(&body(Format::Chirpstack, message)).unwrap();
            let tts: Value = serde_json::from_str(&body(Format::Tts, message)).unwrap();
            assert_eq!(chirpstack["object"], expected);
            assert_eq!(tts["uplink_message"]["decoded_payload"], expected);
            assert_eq!(tts["uplink_message"]["normalized_payload"], list);
        });
    }
}

#[test]
fn other_modulations() {
    for (data_rate, coding_rate, chirpstack, tts) in [
        ("50000", None, json!({ "fsk": { "datarate": 50000 } }), json!({ "fsk": { "bit_rate": 50000 } })),
        (
            "M0CW137",
            Some("2/6"),
            json!({ "lrFhss": { "operatingChannelWidth": 137_000, "codeRate": "CR_2_6" } }),
            json!({ "lrfhss": { "operating_channel_width": 137_000, "coding_rate": "2/6" } }),
        ),
    ] {
        let mut heard = uplink(Kind::Lorawan, DATA);
        heard.rx.data_rate = data_rate.try_into().unwrap();
        heard.rx.coding_rate = coding_rate.map(|rate| rate.try_into().unwrap());
        assert_eq!(value(Format::Chirpstack, &heard)["txInfo"]["modulation"], chirpstack);
        let settings = &value(Format::Tts, &heard)["uplink_message"];
        assert_eq!(settings["settings"]["data_rate"], tts);
        assert_eq!(settings.get("consumed_airtime"), None);
    }
}

#[test]
fn no_format_takes_offence_at_anything_odd() {
    for format in FOREIGN {
        for hex in ["", "40", "e0ffff", DATA] {
            let mut odd = uplink(Kind::Lorawan, hex);
            odd.at.wall_us = i64::MIN;
            odd.rx = Rx { rssi_dbm: Some(f32::NAN), snr_db: Some(f32::INFINITY), ..Rx::default() };
            odd.flags = Flags { retransmission: true, simulated: true, ..Flags::default() };
            let body = value(format, &odd).to_string();
            assert!(body.contains("retransmission") && body.contains("simulated"), "{body}");
        }
    }
}
