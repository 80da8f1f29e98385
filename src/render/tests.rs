#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde_json::json;

use super::*;
use crate::config::Method;
use crate::integration::testing::{http_integration, spot};
use crate::uplink::{Eui64, Flags, Moment, Rx, TimeSource};

/// 2026-11-23T20:21:00.123456Z.
const WALL_US: i64 = 1_795_465_260_123_456;

/// Unconfirmed data up from 260b1f2e, FCnt 41, FPort 2.
const DATA: &str = "402e1f0b26802900026a5bc1d2e3f405";
/// Join request of 0004a30b001c0530 to 70b3d57ed0000001.
const JOIN: &str = "00010000d07ed5b37030051c000ba304003412aabbccdd";

fn uplink(kind: Kind, hex: &str) -> Uplink {
    Uplink {
        id: uuid::Uuid::from_u128(0x01936b1e_0000_7000_8000_0000000000aa),
        source: Arc::from("concentrator"),
        kind,
        content: HEXLOWER.decode(hex.as_bytes()).unwrap(),
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

fn renderer() -> Renderer {
    Renderer::try_new("barn-roof", &http_integration("http://127.0.0.1:1/", Method::Post)).unwrap()
}

fn body(uplink: &Uplink) -> String {
    let rendered = renderer().body(uplink).unwrap();
    assert_eq!(rendered.content_type, "application/json");
    String::from_utf8(rendered.bytes).unwrap()
}

#[test]
fn the_body_of_a_data_frame_without_keys_is_as_design_section_7_says() {
    let golden = concat!(
        r#"{"type":"uplink","id":"01936b1e-0000-7000-8000-0000000000aa","time":"2026-11-23T20:21:00.123456Z","#,
        r#""time_quality":"ntp","gateway":{"name":"barn-roof","eui":"aa555a0000000101"},"#,
        r#""device":{"dev_addr":"260b1f2e"},"f_port":2,"f_cnt":41,"confirmed":false,"#,
        r#""rx":{"frequency":868300000,"data_rate":"SF7BW125","coding_rate":"4/5","rssi":-57.0,"snr":9.8,"#,
        r#""channel":2},"phy_payload":"QC4fCyaAKQACalvB0uP0BQ=="}"#,
    );
    assert_eq!(body(&uplink(Kind::Lorawan, DATA)), golden);
}

#[test]
fn a_known_device_adds_its_eui_and_the_32_bit_counter() {
    let mut known = uplink(Kind::Lorawan, DATA);
    known.dev_eui = Some(Eui64([0, 4, 0xa3, 0x0b, 0, 0x1c, 5, 0x30]));
    known.f_cnt = Some(0x1_0029);
    let body = body(&known);
    assert!(body.contains(r#""device":{"dev_eui":"0004a30b001c0530","dev_addr":"260b1f2e"}"#), "{body}");
    assert!(body.contains(r#""f_cnt":65577,"#), "{body}");
}

#[test]
fn the_body_of_a_join_has_its_euis_and_no_counter() {
    let golden = concat!(
        r#"{"type":"join","id":"01936b1e-0000-7000-8000-0000000000aa","time":"2026-11-23T20:21:00.123456Z","#,
        r#""time_quality":"ntp","gateway":{"name":"barn-roof","eui":"aa555a0000000101"},"#,
        r#""device":{"dev_eui":"0004a30b001c0530","join_eui":"70b3d57ed0000001"},"#,
        r#""rx":{"frequency":868300000,"data_rate":"SF7BW125","coding_rate":"4/5","rssi":-57.0,"snr":9.8,"#,
        r#""channel":2},"phy_payload":"AAEAANB+1bNwMAUcAAujBAA0Eqq7zN0="}"#,
    );
    assert_eq!(body(&uplink(Kind::Join, JOIN)), golden);
}

#[test]
fn what_is_not_known_is_absent() {
    let mut other = uplink(Kind::Other, "ff00");
    other.rx = Rx { rssi_dbm: Some(f32::NAN), snr_db: Some(f32::NEG_INFINITY), ..Rx::default() };
    other.at.source = TimeSource::Untrusted;
    other.flags = Flags { retransmission: true, simulated: true, ..Flags::default() };
    let golden = concat!(
        r#"{"type":"other","id":"01936b1e-0000-7000-8000-0000000000aa","time":"2026-11-23T20:21:00.123456Z","#,
        r#""time_quality":"untrusted","gateway":{"name":"barn-roof"},"phy_payload":"/wA=","#,
        r#""retransmission":true,"simulated":true}"#,
    );
    assert_eq!(body(&other), golden);
}

#[test]
fn a_time_that_rfc_3339_cannot_say_is_absent() {
    for (wall_us, time) in [
        (0, Some("1970-01-01T00:00:00.000000Z")),
        (-1, Some("1969-12-31T23:59:59.999999Z")),
        (i64::MAX, None),
        (i64::MIN, None),
    ] {
        let mut heard = uplink(Kind::Lorawan, DATA);
        heard.at.wall_us = wall_us;
        assert_eq!(renderer().context(&heard)["time"].as_str(), time, "{wall_us}");
    }
}

#[test]
fn a_frame_that_no_longer_parses_is_sent_all_the_same() {
    for hex in ["", "40", "e0ffff"] {
        let body = body(&uplink(Kind::Lorawan, hex));
        assert!(body.contains(r#""type":"uplink""#) && body.contains("phy_payload"), "{body}");
    }
}

#[test]
fn the_json_of_a_network_server_is_passed_on_as_it_came() {
    let mut app = uplink(Kind::App, "");
    app.content = b" {\"deviceInfo\":{\"devEui\":\"0004\"}, \"rssi\": 9.800 }\n".to_vec();
    assert_eq!(renderer().body(&app).unwrap().bytes, app.content);
    assert_eq!(renderer().context(&app)["gateway"]["name"], json!("barn-roof"));
    assert_eq!(renderer().context(&app).get("phy_payload"), None);

    for broken in [&b"{\"a\":"[..], b"", b"{} {}", b"\"\xff\""] {
        app.content = broken.to_vec();
        let failure = renderer().body(&app).unwrap_err();
        assert_eq!(failure, Failure::record(Layer::Render, failure.message.clone()));
        assert!(failure.message.contains("source concentrator"), "{failure}");
    }
}

#[test]
fn templates_see_the_names_and_numbers_of_the_body() {
    let context = renderer().context(&uplink(Kind::Lorawan, DATA));
    let text = "{{id}} {{time}} {{gateway.eui}} {{device.dev_addr}} {{f_port}} {{f_cnt}} {{confirmed}} {{rx.snr}} \
                {{rx.rssi}} {{phy_payload_hex}}";
    assert_eq!(
        Template::parse(text, Purpose::Plain).unwrap().render(&context).unwrap(),
        format!(
            "01936b1e-0000-7000-8000-0000000000aa 2026-11-23T20:21:00.123456Z aa555a0000000101 260b1f2e 2 41 false \
             9.8 -57.0 {DATA}"
        )
    );
}

#[test]
fn what_this_version_does_not_make_is_refused_by_name() {
    let mut integration = http_integration("http://127.0.0.1:1/", Method::Post);
    integration.format = spot(Format::Chirpstack);
    integration.body = Some(spot("{{id}}".to_owned()));
    if let IntegrationKind::Http(http) = &mut integration.kind {
        http.content_type = spot("xml".to_owned());
    }
    let problems = Renderer::try_new("barn-roof", &integration).unwrap_err();
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["integration.api.format", "integration.api.body", "integration.api.content_type"]);
    for problem in &problems {
        assert!(problem.is_error() && problem.message.contains("not available in this version"), "{problem}");
        assert!(problem.hint.as_ref().is_some_and(|hint| hint.starts_with("use ")), "{problem}");
    }
}
