#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::clock::ManualClock;
use crate::integration::testing::uplink;
use crate::lorawan::Devices;

fn mqtt(keys: &str) -> Result<Mqtt, Vec<Problem>> {
    mqtt_at("mqtt://127.0.0.1:1", keys)
}

fn mqtt_at(url: &str, keys: &str) -> Result<Mqtt, Vec<Problem>> {
    let text = format!("[integration.b]\ntype = \"mqtt\"\nurl = \"{url}\"\n{keys}");
    let config = config::Config::parse(&text, Path::new("/nowhere/packhorse.toml")).unwrap().config;
    let dial = Dial::new(Arc::new(ManualClock::new()));
    Mqtt::try_new(&config.integrations[0], &dial, &Interpreter::plain("roof"), &[Variant::default()])
}

/// Topic and payload of the uplink.
fn published(mqtt: &Mqtt) -> (String, String) {
    let (devices, uplink) = (Devices::default(), uplink());
    let terms = Terms::usual(Duration::from_secs(30), MAX_PACKET_BYTES);
    let sending = Sending { variant: 0, attempt: 1, extra: false, terms };
    match mqtt.publish(sending, &Message::of("roof", &devices, &uplink)) {
        Ok(Made::Publication { publication, .. }) => {
            (publication.topic, String::from_utf8(publication.payload).unwrap())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_body_that_looks_like_json_is_json_and_any_other_is_text() {
    for (body, expected) in [
        (
            "{\"n\":{{f_cnt}},\"x\":{{decoded.x}},\"a\":\"{{device.dev_addr}}\"}",
            r#"{"n":41,"x":null,"a":"260b1f2e"}"#,
        ),
        ("{{device.dev_addr}}", "260b1f2e"),
        ("n={{f_cnt}} x={{decoded.x}}", "n=41 x="),
    ] {
        let mqtt =
            mqtt(&format!("topic = \"up/{{{{device.dev_addr}}}}/{{{{device.name}}}}\"\nbody = '{body}'"))
                .unwrap();
        assert_eq!(published(&mqtt), ("up/260b1f2e/_".to_owned(), expected.to_owned()));
    }
    let problems = mqtt("body = '{\"n\":}'").unwrap_err();
    assert_eq!((problems.len(), problems[0].key.as_str()), (1, "integration.b.body"));
    let hint = problems[0].hint.as_ref().unwrap();
    assert!(hint.contains("begins with") && !hint.contains("content_type"), "{hint}");
}

#[test]
fn every_format_can_be_published() {
    for (format, part) in [
        ("json", "\"type\":\"uplink\""),
        ("chirpstack", "\"deduplicationId\":"),
        ("tts", "\"uplink_message\":"),
        ("helium", "\"hotspots\":"),
    ] {
        let mqtt = mqtt(&format!("format = \"{format}\"")).unwrap();
        assert!(published(&mqtt).1.contains(part), "{format}");
    }
}

/// What is sent without an uplink may speak of the gateway, and birth and will of the connection.
#[test]
fn own_texts_know_the_gateway_and_the_connection() {
    let will =
        "[integration.b.will]\ntopic = \"t/{{gateway.name}}\"\npayload = \"{{gateway.name}} {{sequence}}\"\n";
    let mqtt_with_will = mqtt(will).unwrap();
    let publication = mqtt_with_will.own.will.as_ref().unwrap().publication("roof", 7);
    assert_eq!(
        (publication.topic.as_str(), publication.payload.as_slice()),
        ("t/roof", b"roof 7".as_slice())
    );
    for (keys, key) in [
        ("client_id = \"{{sequence}}\"", "client_id"),
        ("will = { topic = \"{{sequence}}\" }", "will.topic"),
        ("will = { topic = \"t\", payload = \"{{device.name}}\" }", "will.payload"),
        ("state = { topic = \"{{device.name}}\" }", "state.topic"),
        ("topic = \"{{sequence}}\"", "topic"),
        ("body = \"{{sequence}}\"", "body"),
    ] {
        let problems = mqtt(keys).unwrap_err();
        assert_eq!((problems.len(), problems[0].key.as_str()), (1, format!("integration.b.{key}").as_str()));
    }
}

#[cfg(feature = "websocket")]
#[test]
fn a_websocket_is_found_by_its_url() {
    for (url, address, peer) in [
        ("ws://h/mqtt", "ws://h:80/mqtt", "h:80"),
        ("wss://h:8443", "wss://h:8443", "h:8443"),
        ("ws://[2001:db8::1]:9001/a?b=c", "ws://[2001:db8::1]:9001/a?b=c", "[2001:db8::1]:9001"),
    ] {
        let mqtt = mqtt_at(url, "").unwrap();
        assert_eq!((mqtt.socket.address.as_str(), mqtt.peer.to_string().as_str()), (address, peer));
        assert!(!format!("{mqtt:?}").contains(address));
    }
}

#[cfg(not(feature = "websocket"))]
#[test]
fn a_websocket_needs_a_build_that_has_it() {
    for url in ["ws://h/mqtt", "wss://h"] {
        let problems = mqtt_at(url, "").unwrap_err();
        assert_eq!((problems.len(), problems[0].key.as_str()), (1, "integration.b.url"));
        assert!(problems[0].message.contains("no MQTT over WebSocket"), "{}", problems[0].message);
    }
}
