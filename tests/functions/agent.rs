//! Functions in the agent: what they make of uplinks on their way, and what they must not be able to do to them.

use std::sync::Arc;

use packhorse::simulator::{Arrivals, Broker, BrokerConfig, Subscriber};
use serde_json::{Value, json};

use crate::support::site::{Site, device, endpoint, http, sensor, uplinks};
use crate::support::{Agent, PATIENCE, free_port, integration};

/// What the agent may have grown by after a hundred attacks, KiB: buffers and caches that fill once, not scripts.
const GROWTH_KIB: u64 = 3 * 1024;

fn function(site: &Site, name: &str, source: &str) {
    site.write(&format!("functions/{name}.js"), source);
}

fn table(name: &str, more: &str) -> String {
    format!("[function.{name}]\nfile = \"functions/{name}.js\"\n{more}\n")
}

fn flow(name: &str, keys: &str) -> String {
    format!("[[flow]]\nname = \"{name}\"\n{keys}\n")
}

fn wait_for(agent: &mut Agent, what: &str, name: &'static str, key: &'static str, n: u64) -> Value {
    let status = agent.wait_until(what, |status| {
        let entry = integration(status, name);
        entry[key] == n || entry["dropped"][key] == n
    });
    integration(&status, name).clone()
}

#[test]
fn an_uplink_arrives_decoded() {
    let (endpoint, arrivals) = endpoint();
    let config = device(1, "function = \"level\"\nvariables = { offset = \"40\" }")
        + &table("level", "")
        + &http("api", endpoint.address(), "");
    let site = Site::new(&config);
    function(
        &site,
        "level",
        "function decodeUplink(input) {
           var cm = input.bytes[0] + Number(input.variables.offset);
           return { data: { level_cm: cm, port: input.fPort, at: input.recvTime instanceof Date }, warnings: cm > 200 ? ['full'] : [] };
         }",
    );
    let agent = site.start();
    let mut sensor = sensor(1);
    let frames = [sensor.uplink(2, &[142]), sensor.uplink(2, &[200]), sensor.uplink(0, &[2])];
    site.forwarder().send_phys(&frames).unwrap();
    let uplinks = uplinks(&arrivals, 3, &agent);
    assert_eq!(uplinks[0]["decoded"], json!({ "level_cm": 182, "port": 2, "at": true }));
    assert_eq!(
        (uplinks[1]["decoded"]["level_cm"].as_u64(), &uplinks[1]["decode_warnings"]),
        (Some(240), &json!(["full"]))
    );
    assert_eq!(
        (uplinks[2].get("decoded"), uplinks[2].get("decode_errors")),
        (None, None),
        "MAC commands are not decoded"
    );
}

/// The codec in `config/examples`, with the frame that README and devices.md show.
#[test]
fn the_example_codec_decodes_as_the_readme_says() {
    let (endpoint, arrivals) = endpoint();
    let config = device(1, "function = \"silo-level\"\nvariables = { height_cm = \"400\" }")
        + &device(2, "function = \"silo-level\"")
        + &table("silo-level", "")
        + &http("api", endpoint.address(), "parallel = 1");
    let site = Site::new(&config);
    function(&site, "silo-level", include_str!("../../config/examples/functions/silo-level.js"));
    let agent = site.start();
    let measurement = [0x08, 0x98, 0xff, 0x9c, 0x96];
    let (mut with_height, mut without) = (sensor(1), sensor(2));
    let frames = [
        with_height.uplink(2, &measurement),
        with_height.uplink(3, &[1]),
        with_height.uplink(2, &[1]),
        without.uplink(2, &measurement),
    ];
    site.forwarder().send_phys(&frames).unwrap();
    let uplinks = uplinks(&arrivals, 4, &agent);
    assert_eq!(uplinks[0]["payload"], "CJj/nJY=");
    let decoded = json!({ "distance_cm": 220, "temperature": -10, "battery": 3, "level_cm": 180 });
    assert_eq!(uplinks[0]["decoded"], decoded);
    assert_eq!(uplinks[1]["decoded"], json!({ "lid_open": true }));
    assert_eq!(uplinks[2]["decode_errors"], json!(["a measurement has 5 bytes, not 1"]));
    assert_eq!(uplinks[3]["decode_warnings"], json!(["no height_cm, so no level"]));
}

/// Each is called on its own port; the text that its error must have.
const ATTACKS: &[(&str, &str)] = &[
    ("while(1){}", "time limit"),
    ("new Array(1e9).join('')", "no answer within"),
    ("var s = 'x'; while (1) s += s", "string too long"),
    ("(function f() { return 1 + f(); })()", "stack limit"),
    ("throw 'x'", "the script threw x"),
    ("return Promise.resolve({ data: {} })", "async functions are not supported"),
    ("var o = {}; o.self = o; return { data: o }", "circular"),
    ("var all = []; while (1) all.push([all.length])", "memory limit"),
    ("return 5", "not {"),
];

/// DESIGN section 2: a function that fails never loses the uplink, says why, and harms no other.
#[test]
fn every_attack_is_delivered_undecoded_and_the_next_uplink_decodes() {
    let (endpoint, arrivals) = endpoint();
    let config = device(1, "function = \"hostile\"")
        + &table("hostile", "time_limit = \"50ms\"")
        + &http("api", endpoint.address(), "");
    let site = Site::new(&config);
    let cases: String =
        (10..).zip(ATTACKS).map(|(port, (attack, _))| format!("case {port}: {attack}; break;\n")).collect();
    function(
        &site,
        "hostile",
        &format!(
            "function decodeUplink(input) {{ switch (input.fPort) {{\n{cases}}}\nreturn {{ data: {{ port: input.fPort }} }}; }}"
        ),
    );
    let agent = site.start();
    let (mut forwarder, mut sensor) = (site.forwarder(), sensor(1));
    let mut round = |all: usize| {
        let ports = (10u8..).take(ATTACKS.len()).flat_map(|port| [port, 1]);
        let frames: Vec<_> = ports.map(|port| sensor.uplink(port, &[port])).collect();
        assert_eq!(forwarder.send_phys(&frames).unwrap().unacked, 0);
        let uplinks = uplinks(&arrivals, all, &agent);
        for (pair, (attack, wanted)) in uplinks[all - frames.len()..].chunks(2).zip(ATTACKS) {
            let errors = pair[0]["decode_errors"].as_array().unwrap();
            assert!(errors[0].as_str().unwrap().contains(wanted), "{attack}: {errors:?}");
            assert_eq!(pair[0].get("decoded"), None, "{attack}");
            assert_eq!(pair[0]["payload"].as_str().map(str::len), Some(4), "{attack}: the payload is there");
            assert_eq!(pair[1]["decoded"], json!({ "port": 1 }), "after {attack}");
        }
    };
    round(ATTACKS.len() * 2);
    let before = agent.rss_kib();
    round(ATTACKS.len() * 4);
    round(ATTACKS.len() * 6);
    let after = agent.rss_kib();
    assert!(after <= before + GROWTH_KIB, "from {before} to {after} KiB");
}

#[test]
fn a_null_is_filtered_on_its_flow_alone() {
    let (endpoint, arrivals) = endpoint();
    let (raw, from_raw) = crate::support::site::endpoint();
    let config = device(1, "")
        + &table("alarms", "drop_null = true")
        + &table("keeps", "")
        + &http("alarms", endpoint.address(), "")
        + &http("raw", raw.address(), "")
        + &flow("alarms", "function = \"alarms\"\nto = [\"alarms\"]")
        + &flow("raw", "function = \"keeps\"\nto = [\"raw\"]");
    let site = Site::new(&config);
    let source = "function decodeUplink(input) { return input.bytes[0] ? { data: { alarm: true } } : null; }";
    function(&site, "alarms", source);
    function(&site, "keeps", source);
    let mut agent = site.start();
    let mut sensor = sensor(1);
    let frames = [sensor.uplink(1, &[0]), sensor.uplink(1, &[1]), sensor.uplink(1, &[0])];
    site.forwarder().send_phys(&frames).unwrap();
    assert_eq!(uplinks(&arrivals, 1, &agent)[0]["decoded"], json!({ "alarm": true }));
    let all = uplinks(&from_raw, 3, &agent);
    assert!(all[0]["decode_errors"][0].as_str().unwrap().contains("returned null"), "{all:?}");
    let entry = wait_for(&mut agent, "two are filtered", "alarms", "filtered", 2);
    assert_eq!(
        (&entry["delivered"], &entry["backlog"], &entry["dead_letters"]),
        (&json!(1), &json!(0), &json!(0))
    );
    let entry = wait_for(&mut agent, "all are delivered", "raw", "delivered", 3);
    assert_eq!(entry["dropped"].get("filtered"), None);
}

#[test]
fn a_function_keeps_the_order_over_mqtt() {
    const UPLINKS: usize = 300;
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let _broker = Broker::start(&BrokerConfig {
        port,
        folder: folder.path().to_owned(),
        tls: None,
        extra: String::new(),
    })
    .unwrap();
    let arrivals = Arc::new(Arrivals::default());
    let _subscriber = Subscriber::start(port, None, "audience", "#", Arc::clone(&arrivals)).unwrap();
    let config = device(1, "function = \"slow\"")
        + &device(2, "")
        + &table("slow", "")
        + &format!(
            "[integration.broker]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\ntopic = \"up/{{{{device.name}}}}\"\n"
        );
    let site = Site::new(&config);
    // Some take their time, one in fifty fails.
    function(
        &site,
        "slow",
        "function decodeUplink(input) {
           for (var i = 0, until = input.bytes[0] % 7 * 2000; i < until; i++);
           if (input.bytes[0] % 50 == 49) throw 'x';
           return { data: { n: input.bytes[0] } };
         }",
    );
    let agent = site.start();
    let (mut decoded, mut plain) = (sensor(1), sensor(2));
    let frames: Vec<_> = (0..UPLINKS)
        .map(|n| {
            if n % 3 == 0 {
                plain.uplink(1, b"-")
            } else {
                decoded.uplink(1, &[u8::try_from(n % 256).unwrap()])
            }
        })
        .collect();
    assert_eq!(site.forwarder().send_phys(&frames).unwrap().acked, UPLINKS);
    assert!(arrivals.wait_for_unique(UPLINKS, PATIENCE), "{:?}\n{}", arrivals.tally(), agent.log());
    let sent: Vec<_> = frames.iter().map(|frame| data_encoding::BASE64.encode(frame)).collect();
    let came: Vec<_> = arrivals
        .all()
        .iter()
        .map(|arrival| arrival.json()["phy_payload"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(came, sent, "one stream, in the order heard");
    let with = |key: &str| arrivals.all().iter().filter(|arrival| arrival.json().get(key).is_some()).count();
    assert_eq!(with("decoded") + with("decode_errors"), UPLINKS * 2 / 3);
    assert!(with("decode_errors") > 0);
}

#[test]
fn a_flows_function_overrides_the_devices() {
    let (endpoint, arrivals) = endpoint();
    let config = device(1, "function = \"own\"")
        + &table("own", "")
        + &table("flows", "")
        + &http("api", endpoint.address(), "")
        + &flow("plain", "to = [\"api\"]")
        + &flow("special", "function = \"flows\"\nto = [\"api\"]");
    let site = Site::new(&config);
    for name in ["own", "flows"] {
        function(&site, name, &format!("function Decoder(bytes, port) {{ return {{ by: '{name}' }}; }}"));
    }
    let mut agent = site.start();
    site.forwarder().send_phys(&[sensor(1).uplink(1, b"x")]).unwrap();
    wait_for(&mut agent, "it is settled", "api", "delivered", 1);
    let all = arrivals.all();
    let by: Vec<_> = all.iter().map(|arrival| arrival.json()["decoded"]["by"].clone()).collect();
    assert_eq!(by, ["own", "flows"]);
    assert_eq!(all[1].key, Some(format!("{}/special", all[0].key.as_ref().unwrap())));
}

/// RULES S34 and invariant 8.
#[test]
fn secret_variables_are_for_the_wire_alone() {
    const SECRET: &str = "s3cr3t-tok3n-of-silo";
    let (endpoint, arrivals) = endpoint();
    let config = device(
        1,
        "function = \"curious\"\nvariables = { site = \"north\", token = { file = \"{folder}/secrets/token\" } }",
    ) + &table("curious", "")
        + &format!(
            "[integration.api]\ntype = \"http\"\nurl = \"http://{}/{{{{device.variables.site}}}}?t={{{{device.variables.token}}}}\"\n\
             headers = {{ \"X-Token\" = \"{{{{device.variables.token}}}}\" }}\n\
             body = '{{\"id\": {{{{id}}}}, \"token\": {{{{device.variables.token}}}}, \"saw\": {{{{decoded.saw}}}}}}'\n",
            endpoint.address()
        );
    let site = Site::new(&config);
    site.write("secrets/token", SECRET);
    function(
        &site,
        "curious",
        "function decodeUplink(input) { console.log(JSON.stringify(input)); return { data: { saw: JSON.stringify(input) } }; }",
    );
    let agent = site.start();
    site.forwarder().send_phys(&[sensor(1).uplink(1, b"x")]).unwrap();
    uplinks(&arrivals, 1, &agent);
    let arrival = &arrivals.all()[0];
    assert_eq!(arrival.place, format!("/north?t={SECRET}"));
    assert_eq!(arrival.header("x-token"), Some(SECRET));
    let body = arrival.json();
    assert_eq!(body["token"], SECRET);
    let saw = body["saw"].as_str().unwrap();
    assert!(saw.contains("north") && !saw.contains(SECRET), "{saw}");
    assert!(!agent.log().contains(SECRET), "{}", agent.log());
    assert!(!agent.try_status().unwrap().to_string().contains(SECRET));
}
