//! Failover over real HTTP and MQTT (RULES S10). What takes its time is tested with a paused clock, in `tests/mqtt`.

use std::sync::Arc;

use packhorse::simulator::{Arrivals, Broker, BrokerConfig, Subscriber};
use serde_json::{Value, json};

use crate::support::site::{Site, device, endpoint, http, sensor, uplinks};
use crate::support::{PATIENCE, free_port, integration};

fn counters(uplinks: &[Value], name: &str) -> Vec<u64> {
    let of_device = uplinks.iter().filter(|uplink| uplink["device"]["name"] == name);
    of_device.map(|uplink| uplink["f_cnt"].as_u64().unwrap()).collect()
}

/// The first says 403 from the middle on: the second takes over at once, gets what the first did not take and nothing else,
/// and keeps the order of each device.
#[test]
fn s10_an_endpoint_that_begins_to_refuse_hands_over_at_once() {
    let (first, from_first) = endpoint();
    let (second, from_second) = endpoint();
    let config = device(1, "")
        + &device(2, "")
        + &http("first", first.address(), "")
        + &http("second", second.address(), "")
        + "[[flow]]\nname = \"safe\"\nmode = \"failover\"\nto = [\"first\", \"second\"]\n";
    let site = Site::new(&config);
    let mut agent = site.start();
    let (mut one, mut two) = (sensor(1), sensor(2));
    let mut frames =
        |n: usize| -> Vec<_> { (0..n).flat_map(|_| [one.uplink(1, b"1"), two.uplink(1, b"2")]).collect() };
    let mut forwarder = site.forwarder();
    forwarder.send_phys(&frames(10)).unwrap();
    uplinks(&from_first, 20, &agent);
    first.answer_with(403);
    forwarder.send_phys(&frames(15)).unwrap();
    let taken = uplinks(&from_second, 30, &agent);
    for name in ["sensor-1", "sensor-2"] {
        assert_eq!(counters(&taken, name), (10..25).collect::<Vec<_>>(), "{name}");
    }
    let status = agent.wait_until("all are settled", |status| {
        let group = integration(status, "safe");
        group["delivered"] == 50 && group["backlog"] == 0
    });
    let group = integration(&status, "safe");
    assert_eq!(
        (&group["type"], &group["via"], &group["state"]),
        (&json!("failover"), &json!("second"), &json!("active"))
    );
    assert!(group["last_error"]["message"].as_str().unwrap().contains("403"), "{group}");
    uplinks(&from_first, 20, &agent);
    assert!(agent.terminate().success());
}

/// A group may be of different kinds, and each member has its own words in it.
#[test]
fn s10_a_broker_stands_in_for_an_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = BrokerConfig { port, folder: folder.path().to_owned(), tls: None, extra: String::new() };
    let _broker = Broker::start(&config).unwrap();
    let arrivals = Arc::new(Arrivals::default());
    let _subscriber = Subscriber::start(port, None, "audience", "#", Arc::clone(&arrivals)).unwrap();
    let (first, _) = endpoint();
    first.answer_with(401);
    let config = device(1, "")
        + &http("first", first.address(), "")
        + &format!(
            "[integration.broker]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\ntopic = \"up\"\n"
        )
        + "[[flow]]\nname = \"safe\"\nmode = \"failover\"\n\
           to = [\"first\", { integration = \"broker\", topic = \"spare/{{device.name}}\", format = \"chirpstack\" }]\n";
    let site = Site::new(&config);
    let agent = site.start();
    let mut sensor = sensor(1);
    let frames: Vec<_> = (0..20).map(|_| sensor.uplink(1, b"x")).collect();
    site.forwarder().send_phys(&frames).unwrap();
    assert!(arrivals.wait_for_unique(20, PATIENCE), "{:?}\n{}", arrivals.tally(), agent.log());
    let all = arrivals.all();
    assert!(all.iter().all(|arrival| arrival.place == "spare/sensor-1"), "{all:?}");
    let counters: Vec<_> = all.iter().map(|arrival| arrival.json()["fCnt"].as_u64().unwrap_or(0)).collect();
    assert_eq!(counters, (0..20).collect::<Vec<_>>());
    assert!(agent.terminate().success());
}

/// What an earlier config has left for a broker goes by a connection of its own, which must not take the group's client id:
/// the two would throw each other out for ever.
#[test]
fn the_backlog_of_an_earlier_config_does_not_disturb_the_group() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let broker_config =
        BrokerConfig { port, folder: folder.path().to_owned(), tls: None, extra: String::new() };
    let (spare, _) = endpoint();
    let tables = device(1, "")
        + &http("spare", spare.address(), "")
        + &format!(
            "[integration.broker]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\ntopic = \"up\"\nretry = {{ max = \"1s\" }}\n"
        );
    let mut site = Site::new(&(tables.clone() + "[[flow]]\nname = \"direct\"\nto = [\"broker\"]\n"));
    let mut agent = site.start();
    let (mut forwarder, mut sensor) = (site.forwarder(), sensor(1));
    forwarder.send_phys(&[sensor.uplink(1, b"left"), sensor.uplink(1, b"behind")]).unwrap();
    agent.wait_until_committed(2);
    assert!(agent.terminate().success());

    let _broker = Broker::start(&broker_config).unwrap();
    let arrivals = Arc::new(Arrivals::default());
    let _subscriber = Subscriber::start(port, None, "audience", "up", Arc::clone(&arrivals)).unwrap();
    let flow = "[[flow]]\nname = \"safe\"\nmode = \"failover\"\nto = [\"broker\", \"spare\"]\n";
    site.configure("", &(tables + flow));
    let agent = site.start();
    forwarder.send_phys(&[sensor.uplink(1, b"new"), sensor.uplink(1, b"newer")]).unwrap();
    assert!(arrivals.wait_for_unique(4, PATIENCE), "{:?}\n{}", arrivals.tally(), agent.log());
    assert_eq!(arrivals.tally().duplicates, 0);
    assert!(agent.terminate().success());
    let log = std::fs::read_to_string(folder.path().join("mosquitto.log")).unwrap();
    assert!(log.contains("shed-broker-left") && !log.contains("already connected"), "{log}");
}
