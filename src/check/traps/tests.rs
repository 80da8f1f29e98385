#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;

use super::*;

const AWS: &str = "type = \"mqtt\"\nurl = \"mqtts://abc-ats.iot.eu-central-1.amazonaws.com\"\n\
                   client_id = \"{{gateway.name}}\"\ntls = { cert = \"c\", key = \"k\" }\n";
const AWS_443: &str = "type = \"mqtt\"\nurl = \"mqtts://abc-ats.iot.eu-central-1.amazonaws.com:443\"\n\
                       client_id = \"{{gateway.name}}\"\n";
const AWS_HTTP: &str = "type = \"http\"\nurl = \"https://abc.iot.eu-central-1.amazonaws.com:8443/topics/a%2Fb?qos=1\"\n\
                        tls = { cert = \"c\", key = \"k\" }\n";
const AZURE: &str = "type = \"mqtt\"\nurl = \"mqtts://farm.azure-devices.net\"\ntopic = \"devices/{{gateway.name}}/messages/events/\"\n\
                     auth = { type = \"azure-sas\", key = { env = \"CARGO_PKG_NAME\" }, device = \"{{gateway.name}}\" }\n";
const AZURE_HTTP: &str = "type = \"http\"\nauth = { type = \"azure-sas\", key = { env = \"CARGO_PKG_NAME\" } }\n\
                          url = \"https://farm.azure-devices.net/devices/{{gateway.name}}/messages/events?api-version=2020-03-13\"\n";
const GOOGLE: &str = "type = \"http\"\nurl = \"https://pubsub.googleapis.com/v1/projects/p/topics/t:publish\"\nbody = \"1\"\n\
                      auth = { type = \"google-service-account\", key = { env = \"CARGO_PKG_NAME\" } }\n";

/// The problems of `[integration.it]` with these keys, one line each.
fn found(keys: &str) -> Vec<String> {
    let text = format!("[gateway]\nname = \"roof\"\n[integration.it]\n{keys}");
    let loaded = Config::parse(&text, Path::new("/nowhere/packhorse.toml"));
    let config = loaded.unwrap_or_else(|problems| panic!("{text}\n{problems:?}")).config;
    of(&config).iter().map(|problem| problem.to_string().replace("/nowhere/packhorse.toml:", "")).collect()
}

/// `keys` with one of them replaced, or one more.
fn with(keys: &str, key: &str) -> String {
    let name = key.split(" =").next().unwrap();
    let others = keys.lines().filter(|line| !line.starts_with(&format!("{name} =")));
    others.chain([key]).map(|line| format!("{line}\n")).collect()
}

#[test]
fn what_is_right_is_let_alone() {
    for keys in [
        AWS.to_owned(),
        with(AWS, "topic = \"$aws/rules/store/a/b/c/d/e/f/g/h\""),
        with(AWS, "retain = true"),
        format!("{AWS_443}tls = {{ cert = \"c\", key = \"k\", alpn = [\"x-amzn-mqtt-ca\"] }}"),
        format!("{AWS_443}username = \"u\"\ntls = {{ alpn = [\"mqtt\"] }}"),
        AWS_HTTP.to_owned(),
        AZURE.to_owned(),
        with(AZURE, "topic = \"devices/roof/modules/m/messages/events/$.ct=application%2Fjson\""),
        AZURE_HTTP.to_owned(),
        with(
            AZURE_HTTP,
            "auth = { type = \"azure-sas\", key = { env = \"CARGO_PKG_NAME\" }, policy = \"device\" }",
        ),
        GOOGLE.to_owned(),
        "type = \"mqtt\"\nurl = \"mqtt://127.0.0.1\"\nclient_id = \"fixed\"".to_owned(),
        "type = \"http\"\nurl = \"http://h/\"\nheaders = { X = \"plain\" }".to_owned(),
        "type = \"http\"\nurl = \"http://[::1]:1/\"\nheaders = { X = { env = \"CARGO_PKG_NAME\" } }"
            .to_owned(),
        "type = \"http\"\nurl = \"https://h/write?db=x\"\ncontent_type = \"text\"\nbody = \"up v=1\""
            .to_owned(),
    ] {
        assert_eq!(found(&keys), [""; 0], "{keys}");
    }
}

#[test]
fn every_trap_is_named_once_with_its_key() {
    let mqtt = "type = \"mqtt\"\nurl = \"mqtts://h\"";
    for (keys, key, says) in [
        // MQTT itself.
        (
            with(mqtt, "client_id = \"fixed\""),
            "warning: integration.it.client_id",
            "the same on every gateway",
        ),
        (with(mqtt, "qos = 0"), "warning: integration.it.qos", "written to the socket"),
        (with(mqtt, "qos = 2"), "warning: integration.it.qos", "may still arrive twice"),
        // AWS IoT Core.
        (with(AWS, "topic = \"a/b/c/d/e/f/g/h/i\""), "error: integration.it.topic", "8 slashes"),
        (
            with(AWS, "will = { topic = \"a/b/c/d/e/f/g/h/i\" }"),
            "error: integration.it.will.topic",
            "8 slashes",
        ),
        (
            format!(
                "{AWS}[[flow]]\nname = \"f\"\nto = [{{ integration = \"it\", topic = \"a/b/c/d/e/f/g/h/i/j\" }}]"
            ),
            "error: flow.f.to",
            "9 slashes",
        ),
        (with(AWS, &format!("topic = \"{}\"", "t".repeat(257))), "error: integration.it.topic", "256 bytes"),
        (
            with(AWS, &format!("client_id = \"{{{{gateway.name}}}}{}\"", "c".repeat(129))),
            "error: integration.it.client_id",
            "128",
        ),
        (with(AWS, "birth = { topic = \"t\", qos = 2 }"), "error: integration.it.qos", "no QoS 2"),
        (with(AWS, "keep_alive = \"21m\""), "warning: integration.it.keep_alive", "20m"),
        (with(AWS, "tls = {}"), "error: integration.it.tls.cert", "client certificate"),
        (
            format!("{AWS_443}tls = {{ cert = \"c\", key = \"k\" }}"),
            "error: integration.it.tls.alpn",
            "x-amzn-mqtt-ca",
        ),
        (with(AWS_HTTP, "method = \"PUT\""), "error: integration.it.method", "POST"),
        (with(AWS_HTTP, "tls = {}"), "error: integration.it.tls.cert", "client certificate"),
        (AWS_HTTP.replace(":8443", ""), "error: integration.it.tls.alpn", "x-amzn-http-ca"),
        (AWS_HTTP.replace("/topics/", "/topic/"), "error: integration.it.url", "/topics/"),
        (AWS_HTTP.replace("?qos=1", ""), "warning: integration.it.url", "?qos=1"),
        // Azure IoT Hub.
        (with(AZURE, "qos = 2"), "error: integration.it.qos", "no QoS 2"),
        (with(AZURE, "topic = \"up\""), "error: integration.it.topic", "messages/events"),
        (
            with(AZURE, "topic = \"devices/{{device.name}}/messages/events/\""),
            "error: integration.it.topic",
            "another device",
        ),
        (
            with(AZURE, "birth = { topic = \"state\" }"),
            "error: integration.it.birth.topic",
            "messages/events",
        ),
        (with(AZURE, "port = 443"), "error: integration.it.port", "8883"),
        (with(AZURE, "retain = true"), "warning: integration.it.retain", "retains nothing"),
        (with(AZURE, "version = 5"), "error: integration.it.version", "3.1.1"),
        (with(AZURE, "keep_alive = \"20m\""), "warning: integration.it.keep_alive", "19m"),
        (with(AZURE_HTTP, "method = \"PATCH\""), "error: integration.it.method", "POST"),
        (with(AZURE_HTTP, "auth = { type = \"none\" }"), "error: integration.it.auth", "azure-sas"),
        (AZURE_HTTP.replace("?api-version=2020-03-13", ""), "error: integration.it.url", "dead letter"),
        (AZURE_HTTP.replace("/messages", ""), "error: integration.it.url", "/devices/DEVICE/messages/events"),
        // Others.
        (with(GOOGLE, "auth = { type = \"none\" }"), "error: integration.it.auth", "google-service-account"),
        (GOOGLE.replace("body", "#"), "error: integration.it.body", "messages"),
        (GOOGLE.replace(":publish", ""), "error: integration.it.url", ":publish"),
        (
            format!("{GOOGLE}[[flow]]\nname = \"f\"\nto = [{{ integration = \"it\", format = \"tts\" }}]"),
            "error: flow.f.to",
            "replaces the body template",
        ),
        (
            "type = \"http\"\nurl = \"https://h/write?db=x\"\ncontent_type = \"text\"".into(),
            "error: integration.it.body",
            "line protocol",
        ),
        (
            "type = \"http\"\nurl = \"https://h/api/v2/write?bucket=x\"\nbody = \"1\"".into(),
            "error: integration.it.content_type",
            "text",
        ),
        (
            "type = \"http\"\nurl = \"https://api.datacake.co/integrations/lorawan/helium/\"".into(),
            "warning: integration.it.format",
            "\"helium\"",
        ),
        (
            "type = \"http\"\nurl = \"https://helium.middleware.tago.io/uplink\"\nformat = \"tts\"".into(),
            "warning: integration.it.format",
            "\"helium\"",
        ),
        (
            "type = \"http\"\nurl = \"https://industrial.api.ubidots.com/api/v1.6/devices/x\"".into(),
            "error: integration.it.body",
            "Ubidots",
        ),
        (
            "type = \"mqtt\"\nurl = \"mqtts://industrial.api.ubidots.com\"\ntopic = \"v1.6/devices/x\""
                .into(),
            "error: integration.it.topic",
            "slash included",
        ),
        (
            "type = \"mqtt\"\nurl = \"mqtt://a.s1.eu.hivemq.cloud\"\nusername = \"u\"".into(),
            "error: integration.it.url",
            "mqtts://",
        ),
        (
            "type = \"mqtt\"\nurl = \"mqtts://a.s1.eu.hivemq.cloud\"".into(),
            "error: integration.it.username",
            "user name",
        ),
        (
            "type = \"mqtt\"\nurl = \"mqtts://mqtt.thingsboard.cloud\"".into(),
            "warning: integration.it.username",
            "access token",
        ),
        (
            "type = \"http\"\nurl = \"http://h/\"\nheaders = { X = { env = \"CARGO_PKG_NAME\" } }".into(),
            "warning: integration.it.url",
            "plain connection",
        ),
    ] {
        let mut problems = found(&keys);
        problems.retain(|problem| !(key.contains("error") && problem.contains("may still arrive twice")));
        assert_eq!(problems.len(), 1, "{keys}\n{problems:#?}");
        assert!(problems[0].contains(&format!("{key}: ")) && problems[0].contains(says), "{problems:#?}");
        assert!(problems[0].contains("hint: "), "{problems:#?}");
    }
}

#[test]
fn a_signature_as_password_is_said_to_end() {
    // The variable is one that every process has; its value only has to be no signature.
    let fixed = with(AZURE, "auth = { type = \"none\" }");
    let problems = found(&format!(
        "{fixed}client_id = \"{{{{gateway.name}}}}\"\npassword = \"SharedAccessSignature sr=x\""
    ));
    assert!(problems.len() == 1 && problems[0].contains("ends by itself"), "{problems:?}");
}

/// Both connect as the same device, and evict each other for ever.
#[test]
fn two_integrations_as_one_device_are_refused() {
    let other =
        AZURE.replace("devices/{{gateway.name}}", "devices/roof").replace("\"{{gateway.name}}\"", "\"roof\"");
    let text = format!("[gateway]\nname = \"roof\"\n[integration.a]\n{AZURE}[integration.b]\n{other}");
    let problems = Config::parse(&text, Path::new("/nowhere/packhorse.toml")).unwrap_err();
    assert!(problems.len() == 1 && problems[0].key == "integration.b.client_id", "{problems:?}");
}
