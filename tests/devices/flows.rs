//! Which of them go where, and as what (RULES S5, S28).

use std::sync::Arc;

use packhorse::simulator::{Arrival, Arrivals, Broker, BrokerConfig, Subscriber};
use serde_json::{Value, json};

use crate::support::site::{Site, device, dropped, endpoint, http, payload, sensor, uplinks};
use crate::support::{PATIENCE, free_port};

/// A join request: MHDR, JoinEUI and DevEUI, least significant byte first, DevNonce, MIC.
fn join(dev_eui: [u8; 8]) -> Vec<u8> {
    let mut phy = vec![0x00, 8, 7, 6, 5, 4, 3, 2, 1];
    phy.extend(dev_eui.iter().rev());
    phy.extend([0x34, 0x12, 1, 2, 3, 4]);
    phy
}

fn flow(name: &str, keys: &str) -> String {
    format!("[[flow]]\nname = \"{name}\"\n{keys}\n")
}

#[test]
fn strangers_joins_and_others_go_only_where_they_are_asked_for() {
    let (known, from_known) = endpoint();
    let (all, from_all) = endpoint();
    let (joins, from_joins) = endpoint();
    let config = device(1, "")
        + &http("known", known.address(), "parallel = 1")
        + &http("all", all.address(), "parallel = 1")
        + &http("joins", joins.address(), "")
        + &flow("ours", "to = [\"known\"]")
        + &flow("everybody", "from = \"all\"\nto = [\"all\"]")
        + &flow("arrivals", "from = \"all\"\nevents = [\"join\"]\nto = [\"joins\"]");
    let site = Site::new(&config);
    let mut agent = site.start();
    let beacon = vec![0xe0, 1, 2, 3];
    let frames = [sensor(99).uplink(5, b"stranger"), join([0x11; 8]), beacon, sensor(1).uplink(1, b"known")];
    site.forwarder().send_phys(&frames).unwrap();

    let ours = uplinks(&from_known, 1, &agent);
    assert_eq!(payload(&ours[0]), "known");
    let everybody = uplinks(&from_all, 2, &agent);
    let stranger = everybody.iter().find(|uplink| uplink["f_port"] == 5).unwrap();
    assert_eq!(stranger["device"], json!({ "dev_addr": "260b0063" }), "an address is all that is known");
    assert_eq!((stranger.get("payload"), stranger.get("decode_errors")), (None, None));
    assert_eq!(stranger["phy_payload"], data_encoding::BASE64.encode(&frames[0]));
    let asked = &uplinks(&from_joins, 1, &agent)[0];
    assert_eq!((&asked["type"], &asked["device"]["dev_eui"]), (&json!("join"), &json!("1111111111111111")));
    agent.wait_until("the beacon is counted", |status| dropped(status, "unrouted") == 1);
}

#[test]
fn accept_keeps_strangers_out() {
    let (endpoint, arrivals) = endpoint();
    let config = device(1, "")
        + &http("api", endpoint.address(), "parallel = 1")
        + &flow("everybody", "from = \"all\"\nevents = [\"uplink\", \"join\"]\nto = [\"api\"]");
    let site = Site::with_source("accept = [\"known\", \"260b0060/28\"]", &config);
    let mut agent = site.start();
    let frames = [
        sensor(0x5f).uplink(1, b"out"),
        sensor(0x70).uplink(1, b"out"),
        join([0x11; 8]),
        // DevEUI of the known device.
        join([0x00, 0x04, 0xa3, 0x0b, 0x00, 0x1c, 0x00, 0x01]),
        sensor(0x6f).uplink(6, b"within the prefix"),
        sensor(1).uplink(1, b"known"),
    ];
    site.forwarder().send_phys(&frames).unwrap();
    let taken = uplinks(&arrivals, 3, &agent);
    let of = |key: &str, value: Value| taken.iter().filter(|uplink| uplink[key] == value).count();
    assert_eq!((of("type", json!("join")), of("f_port", json!(6)), of("f_port", json!(1))), (1, 1, 1));
    agent.wait_until("three are kept out", |status| dropped(status, "not-accepted") == 3);
}

#[test]
fn ports_labels_and_names_choose() {
    let (silos, from_silos) = endpoint();
    let (two, from_two) = endpoint();
    let config = device(1, "labels = [\"silo\"]")
        + &device(2, "")
        + &http("silos", silos.address(), "")
        + &http("two", two.address(), "")
        + &flow("silos", "from = { labels = [\"silo\"] }\nports = [2, 3]\nto = [\"silos\"]")
        + &flow("two", "from = { devices = [\"sensor-2\"] }\nports = [3]\nto = [\"two\"]");
    let site = Site::new(&config);
    let mut agent = site.start();
    let (mut first, mut second) = (sensor(1), sensor(2));
    let frames = [
        first.uplink(1, b"no"),
        first.uplink(2, b"1/2"),
        first.uplink(3, b"1/3"),
        first.uplink(0, &[2]),
        second.uplink(2, b"no"),
        second.uplink(3, b"2/3"),
    ];
    site.forwarder().send_phys(&frames).unwrap();
    let payloads: Vec<_> = uplinks(&from_silos, 2, &agent).iter().map(payload).collect();
    assert_eq!(payloads, ["1/2", "1/3"]);
    assert_eq!(payload(&uplinks(&from_two, 1, &agent)[0]), "2/3");
    agent.wait_until("the rest is counted", |status| dropped(status, "unrouted") == 3);
}

/// RULES S5: an uplink that two flows take to one integration in different words is two messages, and the second has a key
/// of its own; where they override alike it is one.
#[test]
fn s5_flows_that_override_otherwise_send_twice_over_http() {
    let (endpoint, arrivals) = endpoint();
    let config = device(1, "")
        + &http("api", endpoint.address(), "")
        + &flow("plain", "to = [\"api\"]")
        + &flow("plain-too", "from = \"all\"\nto = [\"api\"]")
        + &flow("stack", "to = [{ integration = \"api\", format = \"chirpstack\" }]");
    let site = Site::new(&config);
    let mut agent = site.start();
    let mut sensor = sensor(1);
    site.forwarder().send_phys(&[sensor.uplink(1, b"a"), sensor.uplink(1, b"b")]).unwrap();
    agent.wait_until("both are settled", |status| {
        let entry = crate::support::integration(status, "api");
        entry["delivered"] == 2 && entry["backlog"] == 0
    });
    let all = arrivals.all();
    let ids: Vec<String> = all.iter().map(|arrival| arrival.id().unwrap()).collect();
    assert_eq!(all.len(), 4, "{all:?}");
    assert_eq!((&ids[0], &ids[2]), (&ids[1], &ids[3]), "one device's, one after the other");
    for pair in all.chunks(2) {
        let id = pair[0].id().unwrap();
        assert_eq!(pair[0].key.as_deref(), Some(id.as_str()));
        assert_eq!(pair[1].key, Some(format!("{id}/stack")));
        assert_eq!(pair[0].json()["type"], "uplink");
        assert_eq!(pair[1].json()["deviceInfo"]["deviceName"], "sensor-1");
    }
}

#[test]
fn s5_a_flow_has_its_own_topic_and_format_over_mqtt() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = BrokerConfig { port, folder: folder.path().to_owned(), tls: None, extra: String::new() };
    let _broker = Broker::start(&config).unwrap();
    let arrivals = Arc::new(Arrivals::default());
    let _subscriber = Subscriber::start(port, None, "audience", "#", Arc::clone(&arrivals)).unwrap();
    let config = device(1, "labels = [\"silo\"]")
        + &device(2, "")
        + &format!(
            "[integration.broker]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\ntopic = \"up/{{{{device.name}}}}\"\n"
        )
        + &flow("all", "from = \"all\"\nto = [\"broker\"]")
        + &flow(
            "silos",
            "from = { labels = [\"silo\"] }\n\
             to = [{ integration = \"broker\", topic = \"silos/{{device.name}}/{{f_port}}\", format = \"chirpstack\" }]",
        );
    let site = Site::new(&config);
    let agent = site.start();
    site.forwarder().send_phys(&[sensor(1).uplink(1, b"a"), sensor(2).uplink(1, b"b")]).unwrap();
    let came = arrivals.wait_until(PATIENCE, |log| log.len() >= 3);
    assert!(came, "{:?}\n{}", arrivals.all(), agent.log());
    let said = |arrival: &Arrival| {
        let json = arrival.json();
        let name = json["device"]["name"].as_str().or(json["deviceInfo"]["deviceName"].as_str());
        (arrival.place.clone(), json.get("deduplicationId").is_some(), name.unwrap().to_owned())
    };
    let expected = [
        ("silos/sensor-1/1", true, "sensor-1"),
        ("up/sensor-1", false, "sensor-1"),
        ("up/sensor-2", false, "sensor-2"),
    ];
    let mut all: Vec<_> = arrivals.all().iter().map(said).collect();
    // Order is kept within a device and a topic.
    all.sort();
    assert_eq!(all, expected.map(|(topic, stack, name)| (topic.to_owned(), stack, name.to_owned())));
}
