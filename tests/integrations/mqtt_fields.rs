//! Every field of an MQTT integration, against a real mosquitto with real TLS.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use rcgen::KeyPair;
use rumqttc::v5::mqttbytes::v5::Publish;
use serde_json::Value;

use crate::Authority;
use crate::authority::rsa_key;
use crate::brokers::Brokers;
use crate::support::{PATIENCE, integration};
use crate::tls_proxy::Asked;
use crate::world::{SECRET, World};

/// What a message is to show (`-`: nothing): `qos`, `retain`, `payload`, a value of a JSON payload
/// (`/pointer`), the `content-type`, a user property (its name; `*` is for any value). `connect` is what mosquitto says of the
/// connection: protocol (2 is 3.1.1, 5 is 5), clean session, keep-alive, user; `code` what the history has as the answer to the
/// uplink, PUBACK if it is not said.
type Expected<'a> = (&'a str, &'a str);

/// A line of the table: what the integration is called, where the broker is, the keys of the integration, the topic that a
/// message is awaited on, and what it shows.
struct Row {
    name: &'static str,
    url: String,
    keys: String,
    topic: &'static str,
    expected: Vec<(&'static str, String)>,
}

fn row(
    name: &'static str,
    url: &str,
    keys: &str,
    topic: &'static str,
    expected: &[Expected<'static>],
) -> Row {
    let expected = expected.iter().map(|(what, value)| (*what, (*value).to_owned())).collect();
    Row { name, url: url.to_owned(), keys: keys.to_owned(), topic, expected }
}

fn table(far: &Brokers) -> Vec<Row> {
    let [open, plain, tls, mutual] = [far.open.port(), far.plain(), far.tls, far.mutual];
    let plain_url = format!("mqtt://127.0.0.1:{open}");
    let tls_url = format!("mqtts://localhost:{tls}");
    let mutual_url = format!("mqtts://localhost:{mutual}");
    let certificate =
        |name: &str| format!("tls = {{ ca = \"ca.pem\", cert = \"{name}.pem\", key = \"{name}.key\" }}");
    let on = |topic: &str, keys: &str| format!("topic = \"{topic}\"\n{keys}");
    vec![
        // URL, port, identity.
        row(
            "defaults",
            &plain_url,
            "",
            "packhorse/shed/0004a30b001c0001/up",
            &[
                ("qos", "1"),
                ("retain", "false"),
                ("/type", "uplink"),
                ("/device/name", "sensor-1"),
                ("content-type", "-"),
                ("id", "-"),
                ("connect", "as shed-defaults (p2, c1, k30)."),
            ],
        ),
        row("port", "mqtt://127.0.0.1", &on("port", &format!("port = {open}")), "port", &[]),
        row(
            "client-id",
            &plain_url,
            &on("client-id", "client_id = \"{{gateway.name}}/4711\""),
            "client-id",
            &[("connect", "as shed/4711 (p2,")],
        ),
        row(
            "username-alone",
            &plain_url,
            &on("username-alone", "username = \"t0ken\""),
            "username-alone",
            &[("connect", "u't0ken'")],
        ),
        row(
            "password",
            &format!("mqtt://127.0.0.1:{plain}"),
            &on("password", "username = \"gw\"\npassword = { file = \"password\" }"),
            "password",
            &[("connect", "u'gw'")],
        ),
        row(
            "login-in-url",
            &format!("mqtt://gw:{SECRET}-password@127.0.0.1:{plain}"),
            &on("login-in-url", ""),
            "login-in-url",
            &[("connect", "u'gw'")],
        ),
        row(
            "azure-sas",
            &plain_url,
            &on(
                "azure-sas",
                "auth = { type = \"azure-sas\", key = { file = \"sas\" }, device = \"{{gateway.name}}\" }",
            ),
            "azure-sas",
            &[("connect", "as shed (p2, c1, k30, u'127.0.0.1/shed/?api-version=")],
        ),
        row(
            "keep-alive",
            &plain_url,
            &on("keep-alive", "keep_alive = \"75s\""),
            "keep-alive",
            &[("connect", "k75")],
        ),
        // Topic, QoS, retain, body.
        row(
            "topic",
            &plain_url,
            "topic = \"/{{device.variables.site}}/{{f_port}}\"",
            "/north field_7/2",
            &[],
        ),
        row("qos-0", &plain_url, &on("qos-0", "qos = 0"), "qos-0", &[("qos", "0"), ("code", "written")]),
        row("qos-1", &plain_url, &on("qos-1", "qos = 1"), "qos-1", &[("qos", "1")]),
        row("qos-2", &plain_url, &on("qos-2", "qos = 2"), "qos-2", &[("qos", "2"), ("code", "PUBCOMP")]),
        row("retain", &plain_url, &on("retain", "retain = true"), "retain", &[("retain", "true")]),
        row("window", &plain_url, &on("window", "max_inflight = 1"), "window", &[]),
        row(
            "format",
            &plain_url,
            &on("format", "format = \"chirpstack\""),
            "format",
            &[("/deviceInfo/devEui", "0004a30b001c0001")],
        ),
        row(
            "body",
            &plain_url,
            &on("body", "body = \"{{f_cnt}} of {{device.name}}\""),
            "body",
            &[("payload", "5 of sensor-1")],
        ),
        // MQTT 5.
        row(
            "version-3",
            &plain_url,
            &on("version-3", "version = \"3.1.1\""),
            "version-3",
            &[("connect", "(p2,")],
        ),
        row(
            "version-5",
            &plain_url,
            &on("version-5", "version = \"5\"\nqos = 2"),
            "version-5",
            &[
                ("connect", "(p5,"),
                ("code", "PUBCOMP"),
                ("qos", "2"),
                ("content-type", "application/json"),
                ("id", "*"),
                ("attempt", "1"),
                ("hold_ms", "*"),
                ("replay", "-"),
            ],
        ),
        // Will, birth, state.
        row(
            "birth",
            &plain_url,
            &on(
                "-",
                "birth = { topic = \"birth/{{gateway.name}}\", payload = \"no. {{sequence}}\", qos = 0, retain = false }",
            ),
            "birth/shed",
            &[("payload", "no. 1"), ("qos", "0"), ("retain", "false")],
        ),
        row(
            "birth-defaults",
            &plain_url,
            &on("-", "birth = { topic = \"birth\" }"),
            "birth",
            &[("payload", "online"), ("qos", "1"), ("retain", "true")],
        ),
        row(
            "state",
            &plain_url,
            &on("-", "state = { topic = \"state/{{gateway.name}}\", every = \"1m\" }"),
            "state/shed",
            &[("/integration", "state"), ("/spool/state", "ok"), ("retain", "true")],
        ),
        // TLS.
        row("tls-ca", &tls_url, &on("tls-ca", "tls = { ca = \"ca.pem\" }"), "tls-ca", &[]),
        row("tls-5", &tls_url, &on("tls-5", "version = \"5\"\ntls = { ca = \"ca.pem\" }"), "tls-5", &[]),
        row(
            "tls-pkcs8",
            &mutual_url,
            &on("tls-pkcs8", &certificate("pkcs8")),
            "tls-pkcs8",
            &[("connect", "u'pkcs8'")],
        ),
        row(
            "tls-pkcs1",
            &mutual_url,
            &on("tls-pkcs1", &certificate("pkcs1")),
            "tls-pkcs1",
            &[("connect", "u'pkcs1'")],
        ),
        row(
            "tls-sec1",
            &mutual_url,
            &on("tls-sec1", &certificate("sec1")),
            "tls-sec1",
            &[("connect", "u'sec1'")],
        ),
        row(
            "tls-alpn",
            &format!("mqtts://localhost:{}", far.proxy),
            &on("tls-alpn", "tls = { ca = \"ca.pem\", alpn = [\"x-amzn-mqtt-ca\"] }"),
            "tls-alpn",
            &[],
        ),
        #[cfg(feature = "websocket")]
        row("ws", &format!("ws://127.0.0.1:{}/mqtt", far.ws), &on("ws", ""), "ws", &[]),
        #[cfg(feature = "websocket")]
        row(
            "wss",
            &format!("wss://localhost:{}/mqtt", far.wss),
            &on("wss", "tls = { ca = \"ca.pem\" }"),
            "wss",
            &[],
        ),
    ]
}

/// The wills, which come when the agent is killed.
fn wills(far: &Brokers) -> Vec<Row> {
    let url = format!("mqtt://127.0.0.1:{}", far.open.port());
    let will = |keys: &str| format!("topic = \"-\"\nwill = {{ {keys} }}");
    vec![
        row(
            "will-defaults",
            &url,
            &will("topic = \"will\""),
            "will",
            &[("payload", "offline"), ("qos", "1"), ("retain", "true")],
        ),
        row(
            "will",
            &url,
            &will(
                "topic = \"will/{{gateway.name}}\", payload = \"no. {{sequence}}\", qos = 2, retain = false",
            ),
            "will/shed",
            &[("payload", "no. 1"), ("qos", "2"), ("retain", "false")],
        ),
        row(
            "will-5",
            &url,
            &format!("version = \"5\"\n{}", will("topic = \"will/5\"")),
            "will/5",
            &[("payload", "offline")],
        ),
    ]
}

/// What a message shows of something.
fn shown(publish: &Publish, what: &str) -> Option<String> {
    let properties = publish.properties.as_ref();
    match what {
        "qos" => Some((publish.qos as u8).to_string()),
        "retain" => Some(publish.retain.to_string()),
        "payload" => Some(String::from_utf8(publish.payload.to_vec()).unwrap()),
        "content-type" => properties?.content_type.clone(),
        pointer if pointer.starts_with('/') => {
            let json: Value = serde_json::from_slice(&publish.payload).unwrap();
            json.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
        }
        name => {
            properties?.user_properties.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone())
        }
    }
}

fn check(row: &Row, publish: &Publish, logs: &str) {
    for (what, expected) in &row.expected {
        let shown = match *what {
            "connect" => logs.contains(expected).then(|| expected.clone()),
            "code" => continue,
            what => shown(publish, what),
        };
        let is_as_expected = match (&shown, expected.as_str()) {
            (shown, "-") => shown.is_none(),
            (shown, "*") => shown.is_some(),
            (shown, _) => shown.as_ref() == Some(expected),
        };
        assert!(is_as_expected, "{}: {what} is {shown:?}, not {expected:?}\n{logs}", row.name);
    }
}

/// Certificates of ours, each with its key in another format.
fn write_client_certificates(world: &World, ca: &Authority) {
    let folder = world.site.path();
    let rsa = rsa_key(folder, 2_048);
    let elliptic = KeyPair::generate().unwrap().serialize_pem();
    for (name, key, begins) in [
        ("pkcs8", &elliptic, "PRIVATE KEY"),
        ("pkcs1", &rsa, "RSA PRIVATE KEY"),
        ("sec1", &elliptic, "EC PRIVATE KEY"),
    ] {
        let pair = KeyPair::from_pem(key).unwrap();
        world.write_leaf(name, &ca.leaf_with(name, &pair));
        world.write(&format!("{name}.key"), key);
        if name != "pkcs8" {
            into_traditional(&folder.join(format!("{name}.key")));
        }
        let written = std::fs::read_to_string(folder.join(format!("{name}.key"))).unwrap();
        assert!(written.starts_with(&format!("-----BEGIN {begins}-----")), "{written}");
    }
}

/// From PKCS#8 to what was before it: PKCS#1 for RSA, SEC1 for elliptic curves.
fn into_traditional(key: &Path) {
    let to = key.with_extension("traditional");
    let mut openssl = Command::new("openssl");
    let made =
        openssl.args(["pkcs8", "-nocrypt", "-traditional", "-in"]).arg(key).arg("-out").arg(&to).output();
    assert!(made.unwrap().status.success());
    std::fs::rename(to, key).unwrap();
}

/// Takes what is heard until each of the topics is among it.
fn hear(far: &Brokers, rows: &[Row], heard: &mut HashMap<String, Publish>) {
    let missing = |heard: &HashMap<String, Publish>| {
        rows.iter().filter(|row| !heard.contains_key(row.topic)).map(|row| row.name).collect::<Vec<_>>()
    };
    while !missing(heard).is_empty() {
        let publish = far.heard.recv_timeout(PATIENCE);
        let publish = publish.unwrap_or_else(|_| panic!("nothing came of {:?}", missing(heard)));
        heard.insert(String::from_utf8(publish.topic.to_vec()).unwrap(), publish);
    }
}

#[test]
fn every_field_does_what_it_says() {
    let ca = Authority::new("ours");
    let far = Brokers::start(&ca, &ca.leaf("localhost"));
    let (rows, wills) = (table(&far), wills(&far));
    let tables = rows.iter().chain(&wills).map(|row| {
        format!("[integration.{}]\ntype = \"mqtt\"\nurl = \"{}\"\n{}\n", row.name, row.url, row.keys)
    });
    let world = World::new(&tables.collect::<String>());
    world.write("password", &format!("{SECRET}-password"));
    world.write("sas", &data_encoding::BASE64.encode(SECRET.as_bytes()));
    world.write_ca("ca", &ca);
    write_client_certificates(&world, &ca);
    let mut agent = world.start();

    let mut heard = HashMap::new();
    hear(&far, &rows, &mut heard);
    let logs = far.logs();
    for row in &rows {
        check(row, &heard[row.topic], &logs);
    }
    let asked = far.asked.recv_timeout(PATIENCE).unwrap();
    let expected =
        Asked { server_name: Some("localhost".to_owned()), protocol: Some("x-amzn-mqtt-ca".to_owned()) };
    assert_eq!(asked, expected);

    let status = agent.wait_until("all are settled", |status| {
        rows.iter().chain(&wills).all(|row| integration(status, row.name)["delivered"] == 1)
    });
    for row in rows.iter().chain(&wills) {
        let shown = integration(&status, row.name);
        assert_eq!((&shown["type"], &shown["state"]), (&"mqtt".into(), &"active".into()), "{shown}");
        let entry = world.last_entry(row.name).unwrap();
        assert_eq!((&entry["status"], &entry["attempts"]), (&"delivered".into(), &1.into()), "{entry}");
        let code = row.expected.iter().find(|(what, _)| *what == "code").map_or("PUBACK", |(_, code)| code);
        assert_eq!(entry["response"]["code"], code, "{entry}");
    }
    world.assert_no_secrets(&agent);

    assert!(wills.iter().all(|row| !heard.contains_key(row.topic)));
    agent.kill();
    hear(&far, &wills, &mut heard);
    for row in &wills {
        check(row, &heard[row.topic], &logs);
    }
}
