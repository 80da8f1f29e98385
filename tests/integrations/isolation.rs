//! Nobody waits for somebody else: no integration for one that hangs (DESIGN invariant 3), no record for one that can't be
//! delivered (RULES S1).

use std::sync::Arc;

use packhorse::simulator::{Arrivals, Broker, BrokerConfig, Subscriber};

use crate::endpoint::{Endpoint, Reply};
use crate::far_ends::{BlackHole, connack, silence};
use crate::support::site::{Site, device, endpoint, http, sensor};
use crate::support::{PATIENCE, forwarder, free_port, integration};

fn mqtt(name: &str, port: u16, more: &str) -> String {
    format!(
        "[integration.{name}]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\ntopic = \"{name}/up\"\n{more}\n"
    )
}

/// A mosquitto, and what is published to it.
struct Heard {
    port: u16,
    arrivals: Arc<Arrivals>,
    _subscriber: Subscriber,
    _broker: Broker,
    _folder: tempfile::TempDir,
}

impl Heard {
    fn start(extra: &str) -> Heard {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let (at, extra) = (folder.path().to_owned(), extra.to_owned());
        let broker = Broker::start(&BrokerConfig { port, folder: at, tls: None, extra }).unwrap();
        let arrivals = Arc::new(Arrivals::default());
        let subscriber = Subscriber::start(port, None, "audience", "#", Arc::clone(&arrivals)).unwrap();
        Heard { port, arrivals, _subscriber: subscriber, _broker: broker, _folder: folder }
    }
}

/// All that is heard is delivered to the healthy ones while the first attempts at the others hang, each in another place: the
/// packets vanish, the connection is taken and CONNECT or the request is not answered, PUBACK never comes.
#[test]
fn nobody_waits_for_a_far_end_that_hangs() {
    const UPLINKS: u64 = 200;
    let (hole, mute) = (BlackHole::dig(), silence());
    let (api, api_arrivals) = endpoint();
    let broker = Heard::start("");
    let silent_port = mute.local_addr().unwrap().port();
    let hanging = ["http-black-hole", "http-silent", "mqtt-black-hole", "mqtt-silent", "mqtt-no-puback"];
    let integrations = [
        http(hanging[0], hole.address, "timeout = \"5m\""),
        http(hanging[1], mute.local_addr().unwrap(), "timeout = \"5m\""),
        mqtt(hanging[2], hole.address.port(), ""),
        mqtt(hanging[3], silent_port, ""),
        mqtt(hanging[4], connack(0, false).port(), ""),
        http("http-healthy", api.address(), ""),
        mqtt("mqtt-healthy", broker.port, ""),
    ];
    let site = Site::new(&integrations.concat());
    let mut agent = site.start();
    let sent = forwarder(site.udp().port(), 8, 1).send_uplinks(usize::try_from(UPLINKS).unwrap()).unwrap();
    assert_eq!(sent.unacked, 0);
    for arrivals in [&api_arrivals, &broker.arrivals] {
        assert!(arrivals.wait_for_unique(sent.acked, PATIENCE), "{:?}\n{}", agent.try_status(), agent.log());
    }
    let status = agent.wait_until("the healthy ones have settled", |status| {
        ["http-healthy", "mqtt-healthy"].iter().all(|name| integration(status, name)["delivered"] == UPLINKS)
    });
    for name in hanging {
        let shown = integration(&status, name);
        assert_eq!((&shown["backlog"], &shown["delivered"]), (&UPLINKS.into(), &0.into()), "{shown}");
    }
    assert!(agent.terminate().success(), "what hangs does not hold up the stop");
}

/// The first uplink can't be delivered by anything; the second, of the same device, is, and the first is a dead letter.
#[test]
fn a_refused_record_holds_up_no_other_over_http() {
    let codes = ["400 Bad Request", "413 Content Too Large", "422 Unprocessable Content"];
    let far = codes.map(|code| Endpoint::plain(vec![Reply::of(code, "", ""), Reply::of("200 OK", "", "")]));
    let names = ["http-400", "http-413", "http-422"];
    let integrations = names.iter().zip(&far).map(|(name, endpoint)| http(name, endpoint.address, ""));
    let site = Site::new(&(device(1, "") + &integrations.collect::<String>()));
    let mut agent = site.start();
    let mut sensor = sensor(1);
    let frames = [sensor.uplink(1, b"first"), sensor.uplink(1, b"second")];
    site.forwarder().send_phys(&frames).unwrap();
    agent.wait_until("one is delivered, the other a dead letter", |status| {
        names.iter().all(|name| {
            let shown = integration(status, name);
            shown["delivered"] == 1 && shown["dead_letters"] == 1
        })
    });
    for (name, endpoint) in names.iter().zip(&far) {
        let counters = [endpoint.received(), endpoint.received()].map(|request| {
            let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
            body["f_cnt"].as_u64().unwrap()
        });
        assert_eq!(counters, [0, 1], "{name}: neither waits, neither is sent twice");
        assert!(endpoint.received_no_more());
    }
}

/// The same for topics that can't be and messages that are too large, in both versions: the device's first uplink makes one,
/// the other device's does not.
#[test]
fn an_impossible_message_holds_up_no_other_over_mqtt() {
    let broker = Heard::start("max_packet_size 400\n");
    let (v3, v5) = ("version = \"3.1.1\"\n", "version = \"5\"\n");
    let topic = "topic = \"{{device.variables.topic}}/up\"\nbody = \"short\"\n";
    let body = "topic = \"size/{{device.name}}\"\nbody = \"{{device.variables.text}}\"\n";
    let names = ["topic-3", "topic-5", "size-5"];
    let integrations =
        names.iter().zip([format!("{v3}{topic}"), format!("{v5}{topic}"), format!("{v5}{body}")]);
    let integrations = integrations.map(|(name, keys)| {
        format!("[integration.{name}]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{}\"\n{keys}\n", broker.port)
    });
    let bad = format!("variables = {{ topic = \"$SYS\", text = \"{}\" }}", "x".repeat(500));
    let good = "variables = { topic = \"good\", text = \"short\" }";
    let site = Site::new(&(device(1, &bad) + &device(2, good) + &integrations.collect::<String>()));
    let mut agent = site.start();
    site.forwarder().send_phys(&[sensor(1).uplink(1, b"first"), sensor(2).uplink(1, b"second")]).unwrap();
    let status = agent.wait_until("nothing waits", |status| {
        names.iter().all(|name| {
            let shown = integration(status, name);
            shown["backlog"] == 0 && shown["delivered"] == 1
        })
    });
    for name in names {
        let shown = integration(&status, name);
        assert_eq!((&shown["dead_letters"], &shown["state"]), (&1.into(), &"active".into()), "{shown}");
    }
    let came = broker.arrivals.wait_until(PATIENCE, |log| log.len() >= 3);
    let places: Vec<String> = broker.arrivals.all().into_iter().map(|arrival| arrival.place).collect();
    assert!(came && places.iter().filter(|place| *place == "good/up").count() == 2, "{places:?}");
    assert!(places.iter().any(|place| place == "size/sensor-2") && places.len() == 3, "{places:?}");
}
