//! The promise, end to end, with the real binary, a real HTTPS endpoint and a real mosquitto over TLS: both destinations go
//! away, uplinks keep coming, the agent is killed in mid-outage, everything arrives at both.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use packhorse::simulator::{Arrival, Arrivals, Broker, BrokerConfig, Endpoint, Subscriber};
use support::{Agent, PATIENCE, Pki, forwarder, free_port, free_udp_port, integration};

const HTTP_PARALLEL: usize = 4;
const MQTT_WINDOW: usize = 16;
/// RULES S30: settlements that a kill may undo.
const ACK_ALLOWANCE: usize = 256;

struct World {
    folder: tempfile::TempDir,
    pki: Pki,
    http: SocketAddr,
    endpoint: Option<Endpoint>,
    http_arrivals: Arc<Arrivals>,
    broker_config: BrokerConfig,
    broker: Option<Broker>,
    _subscriber: Subscriber,
    mqtt_arrivals: Arc<Arrivals>,
    udp: u16,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::make(folder.path());
        let http_arrivals = Arc::new(Arrivals::default());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = Endpoint::start(any, Some(pki.server_config()), Arc::clone(&http_arrivals)).unwrap();
        let broker_config = BrokerConfig {
            port: free_port(),
            folder: folder.path().to_owned(),
            tls: Some([pki.ca.clone(), pki.cert.clone(), pki.key.clone()]),
            extra: String::new(),
        };
        let broker = Broker::start(&broker_config).unwrap();
        let mqtt_arrivals = Arc::new(Arrivals::default());
        let subscriber = Subscriber::start(
            broker_config.port,
            Some(pki.client_config()),
            "audience",
            "packhorse/#",
            Arc::clone(&mqtt_arrivals),
        )
        .unwrap();
        World {
            http: endpoint.address(),
            endpoint: Some(endpoint),
            http_arrivals,
            broker: Some(broker),
            broker_config,
            _subscriber: subscriber,
            mqtt_arrivals,
            udp: free_udp_port(),
            pki,
            folder,
        }
    }

    fn config(&self) -> String {
        let (http, mqtt, udp) = (self.http.port(), self.broker_config.port, self.udp);
        let folder = self.folder.path().display();
        let ca = self.pki.ca.display();
        format!(
            r#"
            [gateway]
            name = "barn-roof"
            [spool]
            path = "{folder}/spool.redb"
            [control]
            socket = "{folder}/control.sock"
            [source.concentrator]
            type = "semtech-udp"
            listen = "127.0.0.1:{udp}"
            [integration.factory-api]
            type = "http"
            url = "https://localhost:{http}/uplinks"
            parallel = {HTTP_PARALLEL}
            retry = {{ max = "2s" }}
            tls = {{ ca = "{ca}" }}
            [integration.plant-broker]
            type = "mqtt"
            url = "mqtts://localhost:{mqtt}"
            topic = "packhorse/{{{{gateway.name}}}}/{{{{device.dev_addr}}}}/up"
            max_inflight = {MQTT_WINDOW}
            retry = {{ max = "2s" }}
            tls = {{ ca = "{ca}" }}
            [integration.plant-broker.will]
            topic = "packhorse/{{{{gateway.name}}}}/state"
            payload = "offline"
            [integration.plant-broker.birth]
            topic = "packhorse/{{{{gateway.name}}}}/state"
            payload = "online"
            "#
        )
    }

    fn start_agent(&self) -> Agent {
        Agent::start(self.folder.path(), &self.config())
    }

    fn take_destinations_away(&mut self) {
        self.endpoint = None;
        self.broker = None;
    }

    fn bring_destinations_back(&mut self) {
        let tls = Some(self.pki.server_config());
        self.endpoint = Some(Endpoint::start(self.http, tls, Arc::clone(&self.http_arrivals)).unwrap());
        self.broker = Some(Broker::start(&self.broker_config).unwrap());
    }

    fn wait_for_uplinks(&self, n: usize, agent: &Agent) {
        for (name, arrivals) in [("HTTP", &self.http_arrivals), ("MQTT", &self.mqtt_arrivals)] {
            assert!(
                arrivals.wait_for_unique(n, PATIENCE),
                "{name} saw {:?}, not {n}\n{:#?}\n{}",
                arrivals.tally(),
                agent.try_status(),
                agent.log()
            );
        }
    }

    /// The payloads published on the state topic so far.
    fn states(&self) -> Vec<String> {
        states(&self.mqtt_arrivals.all())
    }

    fn wait_for_states(&self, wanted: &[&str]) {
        let seen = self.mqtt_arrivals.wait_until(PATIENCE, |log| states(log) == wanted);
        assert!(seen, "states {:?}, not {wanted:?}", self.states());
    }
}

fn states(log: &[Arrival]) -> Vec<String> {
    log.iter()
        .filter(|arrival| arrival.place.ends_with("/state") && !arrival.redelivered)
        .map(|arrival| String::from_utf8_lossy(&arrival.body).into_owned())
        .collect()
}

#[test]
fn everything_committed_arrives_everywhere_although_all_went_down() {
    let mut world = World::new();
    let mut agent = world.start_agent();
    let mut forwarder = forwarder(world.udp, 8, 7);
    let mut heard: Vec<Vec<u8>> = forwarder.send_uplinks(300).unwrap().phys;
    world.wait_for_uplinks(300, &agent);

    world.take_destinations_away();
    heard.extend(forwarder.send_uplinks(500).unwrap().phys);
    agent.wait_until_committed(800);
    agent.kill();
    let mut agent = world.start_agent();
    heard.extend(forwarder.send_uplinks(500).unwrap().phys);
    let status = agent.wait_until_committed(1_300);
    for name in ["factory-api", "plant-broker"] {
        let entry = integration(&status, name);
        assert!(entry["backlog"].as_u64().unwrap() >= 1_000, "{entry}");
    }

    world.bring_destinations_back();
    world.wait_for_uplinks(1_300, &agent);
    agent.wait_until("nothing waits any more", |status| {
        ["factory-api", "plant-broker"].iter().all(|name| integration(status, name)["backlog"] == 0)
    });

    let http = first_arrivals(&world.http_arrivals);
    let mqtt = first_arrivals(&world.mqtt_arrivals);
    assert_eq!(ids(&http), ids(&mqtt), "the same ids at both");
    for (name, arrivals) in [("HTTP", &http), ("MQTT", &mqtt)] {
        assert_eq!(ids(arrivals).len(), 1_300);
        assert_contents_and_order(name, arrivals, &heard);
    }
    let (http, mqtt) = (world.http_arrivals.tally(), world.mqtt_arrivals.tally());
    assert!(http.duplicates <= HTTP_PARALLEL + ACK_ALLOWANCE, "{http:?}");
    assert!(mqtt.duplicates <= MQTT_WINDOW + ACK_ALLOWANCE, "{mqtt:?}");
    let keys_are_ids = |arrival: &Arrival| arrival.key.is_none() || arrival.key == arrival.id();
    assert!(world.http_arrivals.all().iter().all(keys_are_ids), "Idempotency-Key is the id");
    assert!(agent.terminate().success());
}

/// DESIGN section 1: birth on connect, will when we vanish, and the same word when we leave as asked.
#[test]
fn birth_will_and_farewell_are_seen() {
    let world = World::new();
    let agent = world.start_agent();
    world.wait_for_states(&["online"]);
    agent.kill();
    world.wait_for_states(&["online", "offline"]);
    let agent = world.start_agent();
    world.wait_for_states(&["online", "offline", "online"]);
    assert!(agent.terminate().success(), "SIGTERM ends with status 0");
    world.wait_for_states(&["online", "offline", "online", "offline"]);
    assert!(!Path::new(&world.folder.path().join("control.sock")).exists(), "the socket is gone");
}

fn first_arrivals(arrivals: &Arrivals) -> Vec<Arrival> {
    let mut seen = BTreeSet::new();
    arrivals.all().into_iter().filter(|arrival| arrival.id().is_some_and(|id| seen.insert(id))).collect()
}

fn ids(arrivals: &[Arrival]) -> BTreeSet<String> {
    arrivals.iter().filter_map(Arrival::id).collect()
}

/// Every frame that was sent arrived as it was, and those of a device in the order they were sent in (S15).
fn assert_contents_and_order(name: &str, arrivals: &[Arrival], heard: &[Vec<u8>]) {
    let by_device = |frames: &mut dyn Iterator<Item = Vec<u8>>| {
        let mut devices: HashMap<[u8; 4], Vec<Vec<u8>>> = HashMap::new();
        for frame in frames {
            devices.entry(frame[1..5].try_into().unwrap()).or_default().push(frame);
        }
        devices
    };
    let frame_of = |arrival: &Arrival| {
        let json = arrival.json();
        data_encoding::BASE64.decode(json["phy_payload"].as_str().unwrap().as_bytes()).unwrap()
    };
    let sent = by_device(&mut heard.iter().cloned());
    let arrived = by_device(&mut arrivals.iter().map(frame_of));
    assert_eq!(sent, arrived, "{name}");
}
