//! The MQTT source, end to end with the real binary: ChirpStack's `event/up` through a real mosquitto with the agent killed
//! in the middle, and a broker made of bytes that loses acknowledgements.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use packhorse::simulator::{Arrivals, Broker, BrokerConfig, Endpoint};
use rumqttc::{Client, Event, MqttOptions, Outgoing, Packet, QoS};
use serde_json::Value;
use support::site::endpoint;
use support::{Agent, PATIENCE, free_port, integration};

const DEVICES: u64 = 8;
/// RULES S30: settlements that the one kill with a far end may undo; requests under way; messages not acknowledged.
const ALLOWANCE: usize = 256 + 4 + 64;

/// What ChirpStack 4 publishes for the `n`th uplink, field by field.
fn event_up(n: u64) -> String {
    let (device, f_cnt) = (n % DEVICES, n / DEVICES);
    let f_cnt = if f_cnt == 0 { String::new() } else { format!("\"fCnt\":{f_cnt},") };
    format!(
        r#"{{"deduplicationId":"{}","time":"2026-11-23T20:21:00.123456789+00:00","deviceInfo":{{"tenantId":"52f14cd4-c6f1-4fbd-8f87-4025e1d49242","tenantName":"ChirpStack","applicationId":"17c82e96-be03-4f38-aef3-f83d48582d97","applicationName":"Silos","deviceProfileId":"14855bf7-d10d-4aee-b618-ebfcb64dc7ad","deviceProfileName":"Level","deviceName":"silo-{device}","devEui":"010101010101010{device}","deviceClassEnabled":"CLASS_A","tags":{{}}}},"devAddr":"0018944{device}","adr":true,"dr":5,{f_cnt}"fPort":2,"confirmed":false,"data":"AQID","object":{{"level_cm":{n}}},"rxInfo":[{{"gatewayId":"0016c001f153a14c","uplinkId":4217106255,"nsTime":"2026-11-23T20:21:00.2+00:00","rssi":-36,"snr":10.5,"location":{{}},"context":"E3OWOQ==","metadata":{{"region_common_name":"EU868","region_config_id":"eu868"}},"crcStatus":"CRC_OK"}}],"txInfo":{{"frequency":867100000,"modulation":{{"lora":{{"bandwidth":125000,"spreadingFactor":7,"codeRate":"CR_4_5"}}}}}},"regionConfigId":"eu868"}}"#,
        deduplication_id(n)
    )
}

fn deduplication_id(n: u64) -> String {
    format!("3ac7e3c4-4401-4b8d-9386-{n:012x}")
}

fn topic(n: u64) -> String {
    format!("application/17c82e96-be03-4f38-aef3-f83d48582d97/device/010101010101010{}/event/up", n % DEVICES)
}

struct World {
    folder: tempfile::TempDir,
    broker: u16,
    endpoint: Option<Endpoint>,
    address: SocketAddr,
    arrivals: Arc<Arrivals>,
}

impl World {
    fn new(broker: u16) -> World {
        let folder = tempfile::tempdir().unwrap();
        let (endpoint, arrivals) = endpoint();
        World { broker, address: endpoint.address(), endpoint: Some(endpoint), arrivals, folder }
    }

    fn start_broker(&self) -> Broker {
        let folder = self.folder.path().to_owned();
        Broker::start(&BrokerConfig { port: self.broker, folder, tls: None, extra: String::new() }).unwrap()
    }

    fn start_agent(&self) -> Agent {
        let (folder, broker, port) = (self.folder.path().display(), self.broker, self.address.port());
        let config = format!(
            r#"
            [gateway]
            name = "barn-roof"
            [spool]
            path = "{folder}/spool.redb"
            [control]
            socket = "{folder}/control.sock"
            [source.local-lns]
            type = "mqtt"
            url = "mqtt://127.0.0.1:{broker}"
            topics = ["application/+/device/+/event/up"]
            format = "chirpstack"
            [integration.factory-api]
            type = "http"
            url = "http://127.0.0.1:{port}/uplinks"
            retry = {{ max = "2s" }}
            "#
        );
        Agent::start(self.folder.path(), &config)
    }

    fn take_the_endpoint_away(&mut self) {
        self.endpoint = None;
    }

    fn bring_the_endpoint_back(&mut self) {
        self.endpoint = Some(Endpoint::start(self.address, None, Arc::clone(&self.arrivals)).unwrap());
    }

    /// How often each id arrived.
    fn arrived(&self) -> BTreeMap<String, usize> {
        let mut times = BTreeMap::new();
        for arrival in self.arrivals.all() {
            *times.entry(arrival.key.unwrap()).or_default() += 1;
        }
        times
    }

    fn wait_for(&self, n: usize, agent: &Agent) {
        let enough = self.arrivals.wait_until(PATIENCE, |log| {
            log.len() >= n && log.iter().map(|arrival| &arrival.key).collect::<BTreeSet<_>>().len() >= n
        });
        assert!(
            enough,
            "{} of {n} arrived\n{:#?}\n{}",
            self.arrived().len(),
            agent.try_status(),
            agent.log()
        );
    }
}

/// A network server: publishes with QoS 1, as ChirpStack can be told to.
struct Lns {
    client: Client,
    /// Ends when the broker has acknowledged as many messages as it is told.
    acknowledged: std::sync::mpsc::Receiver<()>,
    thread: JoinHandle<()>,
}

impl Lns {
    fn connect(port: u16) -> Lns {
        let mut options = MqttOptions::new("chirpstack", "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut connection) = Client::new(options, 2_000);
        let (tell, acknowledged) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            for event in connection.iter() {
                match event.unwrap() {
                    Event::Incoming(Packet::PubAck(_)) => tell.send(()).unwrap(),
                    Event::Outgoing(Outgoing::Disconnect) => return,
                    _ => {}
                }
            }
        });
        Lns { client, acknowledged, thread }
    }

    fn publish(&self, numbers: impl IntoIterator<Item = u64>, retain: bool) {
        let mut n_published = 0;
        for n in numbers {
            self.client.publish(topic(n), QoS::AtLeastOnce, retain, event_up(n)).unwrap();
            n_published += 1;
        }
        for _ in 0..n_published {
            self.acknowledged.recv_timeout(PATIENCE).unwrap();
        }
    }

    fn leave(self) {
        self.client.disconnect().unwrap();
        self.thread.join().unwrap();
    }
}

/// What must hold of this source: everything that the broker has acknowledged to the network server arrives, under its
/// deduplication id, although the agent is killed again and again in the middle of it and the far end is away.
#[test]
fn nothing_acknowledged_is_lost() {
    const ROUND: u64 = 100;
    const ROUNDS: u64 = 6;
    let mut world = World::new(free_port());
    let _broker = world.start_broker();
    let lns = Lns::connect(world.broker);
    // A retained message arrives when the agent has subscribed; from then on the broker keeps everything for it.
    lns.publish([0], true);
    let agent = world.start_agent();
    world.wait_for(1, &agent);
    agent.kill();

    lns.publish(1..ROUND, false);
    let agent = world.start_agent();
    world.wait_for(30, &agent);
    agent.kill();
    // Nothing can be delivered now: what was acknowledged before a kill is nowhere but in the spool.
    world.take_the_endpoint_away();
    let mut taken = 0;
    for round in 1..ROUNDS {
        lns.publish(round * ROUND..(round + 1) * ROUND, false);
        let mut agent = world.start_agent();
        let status = agent.wait_until("some more is taken in", |status| backlog(status) >= taken + 30);
        agent.kill();
        taken = backlog(&status);
    }
    world.bring_the_endpoint_back();
    let mut agent = world.start_agent();
    world.wait_for(usize::try_from(ROUNDS * ROUND).unwrap(), &agent);
    agent.wait_until("nothing waits", |status| backlog(status) == 0);

    let arrived = world.arrived();
    assert_eq!(
        arrived.keys().cloned().collect::<Vec<_>>(),
        (0..ROUNDS * ROUND).map(deduplication_id).collect::<Vec<_>>()
    );
    let duplicates: usize = arrived.values().map(|times| times - 1).sum();
    assert!(duplicates <= ALLOWANCE, "{duplicates} duplicates");
    for arrival in world.arrivals.all() {
        let level = level_of(&arrival.json());
        assert_eq!(arrival.key.unwrap(), deduplication_id(level), "the id is that of its own content");
    }
    assert!(agent.terminate().success());
    lns.leave();
}

fn backlog(status: &Value) -> u64 {
    integration(status, "factory-api")["backlog"].as_u64().unwrap()
}

/// What the server's codec made of the uplink, wherever the body has it.
fn level_of(body: &Value) -> u64 {
    let decoded = body.get("object").or_else(|| body.get("decoded")).unwrap();
    decoded["level_cm"].as_u64().unwrap()
}

/// Two subscriptions, two servers behind one cluster, a server that starts again: the same uplink is published twice.
#[test]
fn an_uplink_that_is_published_twice_is_delivered_once() {
    let world = World::new(free_port());
    let _broker = world.start_broker();
    let lns = Lns::connect(world.broker);
    lns.publish([0], true);
    let mut agent = world.start_agent();
    world.wait_for(1, &agent);
    lns.publish([1, 2, 1, 3, 2, 1, 0], false);
    agent.wait_until("all were judged", |status| status["heard"] == 8);
    // A restart as asked remembers what was delivered before it, and the broker says the retained one again.
    assert!(agent.terminate().success());
    let mut agent = world.start_agent();
    lns.publish([3, 4], false);
    world.wait_for(5, &agent);
    let status = agent.wait_until("nothing waits", |status| {
        backlog(status) == 0 && status["heard"].as_u64().unwrap() >= 11
    });
    assert_eq!(world.arrived().into_values().collect::<Vec<_>>(), [1; 5], "{status:#}");
    assert_eq!(status["dropped"]["repeated"], 6, "{status:#}");
    assert!(agent.terminate().success());
    lns.leave();
}

/// A broker made of bytes.
struct Fake(TcpListener);

struct Peer(TcpStream);

impl Fake {
    /// Accepts a connection and its CONNECT, and returns the flags and client id of that.
    fn welcome(&self, session_present: bool) -> (Peer, u8, String) {
        let (stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Peer(stream);
        let (kind, body) = peer.frame();
        assert_eq!(kind, 0x10, "CONNECT");
        peer.send(&[0x20, 2, u8::from(session_present), 0]);
        (peer, body[7], String::from_utf8(body[12..].to_vec()).unwrap())
    }
}

impl Peer {
    fn send(&mut self, bytes: &[u8]) {
        // Whoever hangs up does not want it.
        let _ = self.0.write_all(bytes);
    }

    fn publish(&mut self, topic: &str, packet_id: u16, dup: bool, payload: &[u8]) {
        let mut packet = vec![0x32 | u8::from(dup) << 3];
        let mut length = 2 + topic.len() + 2 + payload.len();
        loop {
            let low = u8::try_from(length % 128).unwrap();
            length /= 128;
            packet.push(if length > 0 { low | 0x80 } else { low });
            if length == 0 {
                break;
            }
        }
        packet.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        packet.extend(topic.as_bytes());
        packet.extend(packet_id.to_be_bytes());
        packet.extend(payload);
        self.send(&packet);
    }

    /// The next packet that is not a ping.
    fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            let kind = self.byte();
            let (mut length, mut shift) = (0, 0);
            loop {
                let byte = self.byte();
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).unwrap();
            if kind != 0xc0 {
                return (kind, body);
            }
            self.send(&[0xd0, 0]);
        }
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.0.read_exact(&mut byte).unwrap();
        byte[0]
    }

    /// Answers a SUBSCRIBE of one topic.
    fn confirm_subscription(&mut self) {
        let (kind, body) = self.frame();
        assert_eq!(kind, 0x82, "SUBSCRIBE");
        assert_eq!(body.last(), Some(&1), "QoS 1");
        self.send(&[0x90, 3, body[0], body[1], 1]);
    }

    /// The packet id of the next packet, which is a PUBACK.
    fn puback(&mut self) -> u16 {
        let (kind, body) = self.frame();
        assert_eq!(kind, 0x40, "PUBACK");
        u16::from_be_bytes([body[0], body[1]])
    }
}

/// A PUBACK that the broker never got: the message comes again, is acknowledged again, and is delivered once. What is no
/// uplink is acknowledged too, in its turn, or it would come for ever.
#[test]
fn a_lost_acknowledgement_costs_nothing() {
    let fake = Fake(TcpListener::bind(("127.0.0.1", 0)).unwrap());
    let world = World::new(fake.0.local_addr().unwrap().port());
    let mut agent = world.start_agent();

    let (mut peer, flags, client_id) = fake.welcome(false);
    assert_eq!(flags & 0x02, 0, "a persistent session");
    assert_eq!(client_id, "packhorse-barn-roof-local-lns");
    peer.confirm_subscription();
    peer.publish(&topic(1), 7, false, event_up(1).as_bytes());
    assert_eq!(peer.puback(), 7);
    drop(peer);

    // The broker has the session, and did not get the PUBACK.
    let (mut peer, _, again) = fake.welcome(true);
    assert_eq!(again, client_id);
    peer.publish(&topic(1), 7, true, event_up(1).as_bytes());
    peer.publish(&topic(1), 8, false, b"{oops");
    peer.publish(&topic(1), 9, false, b"{\"object\":{}}");
    peer.publish("application/x/device/y/event/status", 10, false, b"{}");
    peer.publish(&topic(2), 11, false, event_up(2).as_bytes());
    assert_eq!([7, 8, 9, 10, 11].map(|_| peer.puback()), [7, 8, 9, 10, 11]);
    // Larger than anything that is received.
    peer.publish(&topic(3), 12, false, &vec![b'x'; 700_000]);
    drop(peer);

    let (mut peer, ..) = fake.welcome(true);
    peer.publish(&topic(3), 12, true, &vec![b'x'; 700_000]);
    assert_eq!(peer.puback(), 12, "taken in to be put aside");
    world.wait_for(2, &agent);
    let status = agent.wait_until("nothing waits", |status| backlog(status) == 0);
    let ids: Vec<String> = world.arrived().into_keys().collect();
    assert_eq!(ids, [1, 2].map(deduplication_id));
    assert_eq!(world.arrivals.all().len(), 2);
    for (reason, n) in
        [("repeated", 1), ("bad-json", 1), ("no-device", 1), ("not-subscribed", 1), ("oversize", 1)]
    {
        assert_eq!(status["dropped"][reason], n, "{reason}: {status:#}");
    }

    let stopping = std::thread::spawn(move || agent.terminate());
    assert_eq!(peer.frame().0, 0xe0, "DISCONNECT, so that the session is left in order");
    assert!(stopping.join().unwrap().success());
}
