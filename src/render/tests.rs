#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use serde_json::{Value, json};

use super::testing::{DATA, JOIN, known_uplink, raw, uplink, with, with_silo};
use super::*;
use crate::config::Method;
use crate::integration::testing::{http_integration, http_of, spot};
use crate::server_uplink::{Dialect, ServerUplink};
use crate::uplink::{Flags, Rx, TimeSource, Uplink};

fn renderer() -> Renderer {
    Renderer::try_new(&http_integration("http://127.0.0.1:1/", Method::Post)).unwrap()
}

/// The renderer of a content type, and of a body template if there is one.
fn renderer_of(content_type: &str, body: Option<&str>) -> Result<Renderer, Vec<Problem>> {
    let mut integration = http_integration("http://127.0.0.1:1/", Method::Post);
    http_of(&mut integration).content_type = spot(content_type.to_owned());
    integration.body = body.map(|body| spot(body.to_owned()));
    Renderer::try_new(&integration)
}

fn text(rendered: Rendered) -> String {
    String::from_utf8(rendered.bytes).unwrap()
}

fn body(uplink: &Uplink) -> String {
    let rendered = with(uplink, |message| renderer().body(message).unwrap());
    assert_eq!(&*rendered.content_type, "application/json");
    text(rendered)
}

fn context(uplink: &Uplink) -> Value {
    with(uplink, |message| message.context())
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
fn the_body_of_a_known_device_has_its_name_payload_and_what_was_decoded() {
    let golden = concat!(
        r#"{"type":"uplink","id":"01936b1e-0000-7000-8000-0000000000aa","time":"2026-11-23T20:21:00.123456Z","#,
        r#""time_quality":"ntp","gateway":{"name":"barn-roof","eui":"aa555a0000000101"},"#,
        r#""device":{"name":"silo-7","dev_eui":"0004a30b001c0530","dev_addr":"49be7df1","#,
        r#""labels":["silo","north"]},"f_port":1,"f_cnt":2,"confirmed":false,"payload":"dGVzdA==","#,
        r#""decoded":{"level_cm": 182.0, "id": 12345678901234567890},"normalized":[{"air":{}}],"#,
        r#""decode_warnings":["low battery"],"#,
        r#""rx":{"frequency":868300000,"data_rate":"SF7BW125","coding_rate":"4/5","rssi":-57.0,"snr":9.8,"#,
        r#""channel":2},"phy_payload":"QPF9vkkAAgABlUN4disR/w0=","replay":true}"#,
    );
    let rendered = with_silo(&known_uplink(), |message| {
        message.decoding.data = Some(raw(r#"{"level_cm": 182.0, "id": 12345678901234567890}"#));
        message.decoding.normalized = Some(raw(r#"[{"air":{}}]"#));
        message.decoding.warnings.push("low battery".to_owned());
        message.replay = true;
        renderer().body(message).unwrap()
    });
    assert_eq!(text(rendered), golden, "variables, secret or not, are in no body");
}

#[test]
fn s7_a_device_that_is_gone_leaves_the_frame_and_the_reason() {
    let body = body(&known_uplink());
    assert!(body.contains(r#""device":{"dev_eui":"0004a30b001c0530","dev_addr":"49be7df1"}"#), "{body}");
    assert!(body.contains(r#""decode_errors":["the device is no longer configured"#), "{body}");
    assert!(!body.contains("payload\":\"dGVzdA") && !body.contains("decoded"), "{body}");
    let mut known = uplink(Kind::Lorawan, DATA);
    known.f_cnt = Some(0x1_0029);
    assert!(self::body(&known).contains(r#""f_cnt":65577,"#), "the 32-bit counter is the record's own");
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
    let rejoin = body(&uplink(Kind::Join, "c00118171615141312110807060504030201020155667788"));
    assert!(
        rejoin.contains(r#""device":{"dev_eui":"0102030405060708","join_eui":"1112131415161718"}"#),
        "{rejoin}"
    );
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
    for (wall_us, time, time_ms) in [
        (0, Some("1970-01-01T00:00:00.000000Z"), Some(0)),
        (-1, Some("1969-12-31T23:59:59.999999Z"), Some(-1)),
        (1_793_491_200_123_456, Some("2026-11-01T00:00:00.123456Z"), Some(1_793_491_200_123)),
        (i64::MAX, None, None),
        (i64::MIN, None, None),
    ] {
        let mut heard = uplink(Kind::Lorawan, DATA);
        heard.at.wall_us = wall_us;
        let context = context(&heard);
        assert_eq!((context["time"].as_str(), context["time_ms"].as_i64()), (time, time_ms), "{wall_us}");
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
fn the_json_of_a_network_server_is_passed_on_as_it_came_where_that_is_what_is_wanted() {
    let mut app = uplink(Kind::App, "");
    app.content = b" {\"deviceInfo\":{\"devEui\":\"0004\"}, \"rssi\": 9.800 }\n".to_vec();
    let rendered = |dialect, format, decoded: Option<&str>| {
        with(&app, |message| {
            message.server = Some(ServerUplink::unknown(dialect));
            message.decoding.data = decoded.map(raw);
            text(renderer().with_format(format).body(message).unwrap())
        })
    };
    let came = String::from_utf8(app.content.clone()).unwrap();
    assert_eq!(rendered(Dialect::Chirpstack, Format::Chirpstack, None), came);
    assert_eq!(rendered(Dialect::Tts, Format::Tts, None), came);
    for (dialect, format, decoded, part) in [
        (Dialect::Chirpstack, Format::Chirpstack, Some("{\"a\":1}"), "\"object\":{\"a\":1}"),
        (Dialect::Chirpstack, Format::Tts, None, "\"uplink_message\":{"),
        (Dialect::Chirpstack, Format::Json, None, "\"type\":\"uplink\",\"id\":\"01936b1e-"),
        (Dialect::Packhorse, Format::Json, Some("[1]"), "\"decoded\":[1]"),
    ] {
        let body = rendered(dialect, format, decoded);
        assert!(body.contains(part) && !body.contains("phy_payload"), "{body}");
    }
    assert_eq!(context(&app)["gateway"]["name"], json!("barn-roof"));
    assert_eq!(context(&app).get("phy_payload"), None);

    for broken in [&b"{\"a\":"[..], b"", b"{} {}", b"\"\xff\""] {
        app.content = broken.to_vec();
        let failure = with(&app, |message| renderer().body(message).unwrap_err());
        assert_eq!(failure, Failure::record(Layer::Render, failure.message.clone()));
        assert!(failure.message.contains("source concentrator"), "{failure}");
    }
}

#[test]
fn templates_see_the_names_and_numbers_of_the_body() {
    let context = context(&uplink(Kind::Lorawan, DATA));
    let text = "{{id}} {{time}} {{gateway.eui}} {{device.dev_addr}} {{f_port}} {{f_cnt}} {{confirmed}} {{rx.snr}} \
                {{rx.rssi}} {{phy_payload_hex}} {{simulated}}";
    assert_eq!(
        Template::parse(text, Purpose::Plain).unwrap().render(&context).unwrap(),
        format!(
            "01936b1e-0000-7000-8000-0000000000aa 2026-11-23T20:21:00.123456Z aa555a0000000101 260b1f2e 2 41 false \
             9.8 -57.0 {DATA} false"
        )
    );
}

#[test]
fn templates_see_the_device_its_variables_and_what_was_decoded() {
    let text = "{{device.name}} {{device.labels.1}} {{device.variables.site}} {{payload}} {{payload_hex}} \
                {{decoded.levels.1}} {{decoded.big}} {{decode_warnings.0}}";
    let decoded = r#"{"levels":[1.10,2.675],"big":1e300}"#;
    let rendered = with_silo(&known_uplink(), |message| {
        message.decoding.data = Some(raw(decoded));
        message.decoding.warnings.push("low".to_owned());
        Template::parse(text, Purpose::Plain).unwrap().render(&message.context()).unwrap()
    });
    assert_eq!(rendered, "silo-7 north plant 7/\"B\" dGVzdA== 74657374 2.675 1e+300 low");
}

/// A number or a depth that can't be read takes nothing else with it, and the default body carries it all the same.
#[test]
fn a_result_that_cannot_be_read_is_missing_and_no_more() {
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    for foreign in ["1e999", &deep] {
        with_silo(&known_uplink(), |message| {
            message.decoding.data = Some(raw(foreign));
            let context = message.context();
            assert_eq!((context.get("decoded"), &context["f_cnt"]), (None, &json!(2)));
            assert!(text(renderer().body(message).unwrap()).contains(foreign));
            let xml = renderer_of("xml", None).unwrap().body(message).unwrap();
            assert_eq!(xml.warnings.len(), 1);
            assert!(text(xml).contains("<decode_errors><item>what was decoded can"));
        });
    }
}

#[test]
fn every_content_type_has_a_default_body() {
    let app = |content_type: &str| {
        with_silo(&known_uplink(), |message| {
            message.decoding.data = Some(raw(r#"{"level cm":182,"ok":null}"#));
            renderer_of(content_type, None).unwrap().body(message).unwrap()
        })
    };
    let xml = app("xml");
    assert_eq!(&*xml.content_type, "application/xml");
    let xml = text(xml);
    assert!(
        xml.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<uplink><type>uplink</type>"),
        "{xml}"
    );
    for part in [
        "<labels><item>silo</item><item>north</item></labels>",
        "<decoded><field name=\"level cm\">182</field><ok></ok></decoded>",
        "<rssi>-57.0</rssi>",
    ] {
        assert!(xml.contains(part), "{xml}");
    }
    let form = app("form");
    assert_eq!(&*form.content_type, "application/x-www-form-urlencoded");
    assert!(
        text(form).contains("&device.labels.1=north&f_port=1&f_cnt=2&confirmed=false&payload=dGVzdA%3D%3D&")
    );
    let lines = app("text");
    assert_eq!(&*lines.content_type, "text/plain; charset=utf-8");
    assert!(text(lines).contains("\ndecoded.level cm: 182\ndecoded.ok: \nrx.frequency: 868300000\n"));
    let binary = app("application/octet-stream");
    assert_eq!((binary.bytes.as_slice(), binary.warnings.len()), (&b"test"[..], 0));
    let vendor = app("application/vnd.acme");
    assert_eq!(&*vendor.content_type, "application/vnd.acme");
    assert_eq!(serde_json::from_slice::<Value>(&vendor.bytes).unwrap()["decoded"]["level cm"], 182);
}

#[test]
fn bytes_without_a_key_are_the_frame_and_a_warning() {
    let rendered = with(&uplink(Kind::Lorawan, DATA), |message| {
        renderer_of("binary", None).unwrap().body(message).unwrap()
    });
    assert_eq!((rendered.shown.as_str(), rendered.warnings.len()), (DATA, 1));
    assert_eq!(HEXLOWER.encode(&rendered.bytes), DATA);
}

#[test]
fn a_body_template_is_escaped_for_its_content_type() {
    let filled = |content_type: &str, body: &str| {
        with_silo(&known_uplink(), |message| {
            message.decoding.data = Some(raw(r#"{"level":182.50,"note":"a\n\"b\"","list":[1,"x"]}"#));
            renderer_of(content_type, Some(body)).unwrap().body(message).unwrap()
        })
    };
    for (content_type, body, expected) in [
        (
            "json",
            r#"{"d":{{device.name}},"s":"<{{decoded.note}}>","l":{{decoded.level}},"a":{{decoded.list}}}"#,
            r#"{"d":"silo-7","s":"<a\n\"b\">","l":182.5,"a":[1,"x"]}"#,
        ),
        ("json", r#"{"{{device.variables.site}}":{{decoded.list.1}}}"#, r#"{"plant 7/\"B\"":"x"}"#),
        (
            "xml",
            "<s a=\"{{device.variables.site}}\">{{decoded.list}}</s>",
            "<s a=\"plant 7/&quot;B&quot;\">[1,&quot;x&quot;]</s>",
        ),
        ("form", "site={{device.variables.site}}&n={{decoded.note}}", "site=plant+7%2F%22B%22&n=a%0A%22b%22"),
        ("text", "{{device.variables.site}}: {{decoded.level}}", "plant 7/\"B\": 182.5"),
        ("text/csv", "{{f_cnt}};{{rx.rssi}}", "2;-57.0"),
        ("application/vnd.acme", "{\"n\":{{decoded.note}}}", "{\"n\":\"a\\n\\\"b\\\"\"}"),
    ] {
        let rendered = filled(content_type, body);
        assert_eq!(rendered.warnings, Vec::<String>::new(), "{body}");
        assert_eq!(text(rendered), expected);
    }
}

#[test]
fn a_value_that_is_missing_is_null_in_json_and_a_warning_everywhere() {
    for (content_type, body, expected) in [
        (
            "json",
            r#"{"a":{{decoded.level_cm}},"b":"{{decoded.x}}","c":{{decoded.level_cm}}}"#,
            r#"{"a":null,"b":"","c":null}"#,
        ),
        ("text", "{{decoded.level_cm}}|{{decoded.x}}", "|"),
    ] {
        let rendered = with(&uplink(Kind::Lorawan, DATA), |message| {
            renderer_of(content_type, Some(body)).unwrap().body(message).unwrap()
        });
        assert_eq!(rendered.warnings.len(), 2, "each name once: {:?}", rendered.warnings);
        assert!(rendered.warnings[0].contains("{{decoded.level_cm}}"), "{:?}", rendered.warnings);
        assert_eq!(text(rendered), expected);
    }
}

#[test]
fn s34_secret_variables_are_sent_and_not_shown() {
    let body = r#"{"k":{{device.variables.token}},"s":"x{{device.variables.token}}","n":{{device.name}}}"#;
    with_silo(&known_uplink(), |message| {
        let renderer = renderer_of("json", Some(body)).unwrap();
        let rendered = renderer.body(message).unwrap();
        assert_eq!(rendered.shown, r#"{"k":"[secret]","s":"x[secret]","n":"silo-7"}"#);
        assert_eq!(renderer.body_shown(message).unwrap(), rendered.shown);
        assert_eq!(text(rendered), r#"{"k":"hunter/2\"&","s":"xhunter/2\"&","n":"silo-7"}"#);

        let url =
            Template::parse("https://h/{{device.variables.token}}?s={{device.name}}", Purpose::Url).unwrap();
        assert_eq!(url.render(&message.context()).unwrap(), "https://h/hunter%2F2%22%26?s=silo-7");
        assert_eq!(url.shown(&message.shown_context()).unwrap(), "https://h/[secret]?s=silo-7");
        let answer = "bad hunter/2\"& in hunter%2F2%22%26, hunter/2\\\"& or hunter/2&quot;&amp;";
        assert_eq!(message.hide(answer), "bad [secret] in [secret], [secret] or [secret]");
        assert!(!helium_object(message).contains("hunter"));
    });
}

#[test]
fn s37_what_is_shown_is_printable_and_short() {
    let rendered = with_silo(&known_uplink(), |message| {
        message.decoding.data = Some(raw(&format!("\"\u{9b}2J{}\"", "x".repeat(10_000))));
        renderer_of("text", Some("{{decoded}}\n\u{1b}[2Jend")).unwrap().body(message).unwrap()
    });
    assert_eq!(rendered.shown.chars().count(), crate::printable::MAX_CHARS);
    assert!(rendered.shown.starts_with("xxx") && rendered.bytes.len() > 10_000, "{}", rendered.shown);
}

#[test]
fn a_flow_that_wants_a_format_gets_it_instead_of_the_template() {
    let renderer = renderer_of("json", Some("{}")).unwrap().with_format(Format::Helium);
    let body = with_silo(&known_uplink(), |message| text(renderer.body(message).unwrap()));
    assert!(body.starts_with("{\"type\":\"uplink\",\"replay\":false,\"uuid\":"), "{body}");
}

#[test]
fn a_body_that_would_not_be_json_is_found_by_check_with_its_place() {
    for (body, place, says) in [
        ("{\"a\": {{f_cnt}}, \"b\" {{f_port}}}", "line 1, column 22", "expected `:`"),
        ("{\n \"a\": {{f_cnt}},\n b: 1}", "line 3, column 2", "key must be a string"),
        ("{\"a\": x{{f_cnt}}}", "line 1, column 7", "expected value"),
        ("{{{f_cnt}}: 1}", "line 1, column 1", "{f_cnt"),
        ("{ {{f_cnt}}: 1}", "line 1, column 3", "key must be a string"),
        ("[{{f_cnt}}{{f_port}}]", "line 1, column 11", "expected `,` or `]`"),
        ("level={{f_cnt}}", "line 1, column 1", "expected value"),
        ("{\"a\": \"{{f_cnt}}}", "line 1, column 17", "EOF"),
        ("{\"a\": \"\\{{f_cnt}}\"}", "line 1, column 9", "backslash"),
        ("{\"a\": \"\\u{{f_cnt}}0041\"}", "column", "invalid escape"),
        ("{\"é\": {{f_cnt}} 1}", "line 1, column 17", "expected `,` or `}`"),
        ("{\"é\": é}", "line 1, column 7", "expected value"),
        ("{\"é\": \"é\u{1}\"}", "column 8", "control character"),
        (" ", "line 1, column 1", "empty"),
        ("{\"a\": {{device.nmae}}}", "line 1, column 7", "device.name"),
        ("{\"a\": {{f_cnt}", "line 1, column 7", "without"),
    ] {
        let problems = renderer_of("json", Some(body)).unwrap_err();
        let shown = problems[0].to_string();
        assert_eq!((problems.len(), problems[0].key.as_str()), (1, "integration.api.body"), "{shown}");
        assert!(shown.contains(place) && shown.contains(says), "{body}\n{shown}");
    }
    let shown = renderer_of("json", Some("level={{f_cnt}}")).unwrap_err()[0].to_string();
    assert!(shown.contains("hint: ") && shown.contains("set content_type"), "{shown}");
    assert!(renderer_of("text", Some("level={{f_cnt}}")).is_ok());
}

proptest::proptest! {
    /// Never a failed delivery: whatever the values are, a JSON template that `check` lets pass makes JSON.
    #[test]
    fn any_value_leaves_a_json_body_json(text in ".*", number in proptest::num::f64::ANY) {
        let body = r#"{"a":{{decoded.t}},"b":"\\{{decoded.t}}\"{{decoded.n}}","k{{decoded.t}}":[{{decoded.n}},{{decoded}}]}"#;
        let decoded = json!({ "t": text, "n": number }).to_string();
        let made = with_silo(&known_uplink(), |message| {
            message.decoding.data = Some(raw(&decoded));
            renderer_of("json", Some(body)).unwrap().body(message).unwrap()
        });
        let made: Value = serde_json::from_slice(&made.bytes).unwrap();
        proptest::prop_assert_eq!(made["a"].as_str(), Some(text.as_str()));
    }
}
