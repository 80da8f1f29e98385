//! The Semtech UDP source as a packet forwarder meets it: a real socket on loopback.
//!
//! The listener takes datagrams one after the other, so a PULL_ACK says that whatever was sent before it has been dealt
//! with. No test waits for time to pass.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use packhorse::clock::ManualClock;
use packhorse::config::{Network, Place, SemtechUdp, Spot};
use packhorse::metrics::{DoorCounters, DropReason};
use packhorse::simulator::{Forwarder, Simulator, SimulatorConfig};
use packhorse::source::BindError;
use packhorse::source::FromSource;
use packhorse::source::semtech_udp::{Listener, Running};
use packhorse::uplink::{Crc, Eui64, Modulation, TimeSource};
use tokio::sync::mpsc;

/// Long enough that only a broken listener runs into it.
const PATIENCE: Duration = Duration::from_secs(20);
const GATEWAY: Eui64 = Eui64([0xaa, 0x55, 0x5a, 0, 0, 0, 1, 1]);

fn spot<T>(value: T) -> Spot<T> {
    Spot { value, place: Place { file: Path::new("packhorse.toml").into(), line: 3, column: 1 } }
}

fn config() -> SemtechUdp {
    SemtechUdp {
        listen: spot("127.0.0.1:0".parse().unwrap()),
        allow: vec![Network { address: "127.0.0.0".parse().unwrap(), prefix: 8 }],
        accept: Vec::new(),
        rate_limit: 0,
        forward_to: Vec::new(),
    }
}

struct Bench {
    running: Running,
    heard: mpsc::Receiver<FromSource>,
    counters: Arc<DoorCounters>,
    clock: Arc<ManualClock>,
}

impl Bench {
    fn new(config: &SemtechUdp, queue: usize) -> Bench {
        let (out, heard) = mpsc::channel(queue);
        let (counters, clock) = (Arc::new(DoorCounters::default()), Arc::new(ManualClock::new()));
        let listener = Listener::try_new(&spot("concentrator".to_owned()), config).unwrap();
        let running = listener.start(out, counters.clone(), clock.clone()).unwrap();
        Bench { running, heard, counters, clock }
    }

    fn forwarder(&self) -> Forwarder {
        let simulator = Simulator::new(SimulatorConfig { devices: 5, gateway_eui: GATEWAY, seed: 1 });
        Forwarder::connect(self.running.local_addr(), simulator, PATIENCE).unwrap()
    }

    fn peer(&self, from: &str) -> Peer {
        let socket = UdpSocket::bind(from).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(self.running.local_addr()).unwrap();
        Peer(socket)
    }

    fn dropped(&self) -> Vec<(DropReason, u64)> {
        let count = |reason| (reason, self.counters.dropped_total(reason));
        DropReason::ALL.into_iter().map(count).filter(|(_, n)| *n > 0).collect()
    }

    fn take_all(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).map(|from| from.heard.phy.to_vec()).collect()
    }
}

/// A bare socket to the listener.
struct Peer(UdpSocket);

impl Peer {
    fn send(&self, identifier: u8, json: &[u8]) {
        self.0.send(&[&[2, 7, 8, identifier], &GATEWAY.0[..], json].concat()).unwrap();
    }

    fn answer(&self) -> Vec<u8> {
        let mut bytes = [0; 64];
        let len = self.0.recv(&mut bytes).unwrap();
        bytes[..len].to_vec()
    }

    /// Returns when everything sent before has been dealt with.
    fn settle(&self) {
        self.send(2, b"");
        while self.answer() != [2, 7, 8, 4] {}
    }

    fn has_no_answer(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        self.0.recv(&mut [0; 64]).is_err()
    }
}

#[test]
fn uplinks_arrive_as_they_were_sent() {
    let mut bench = Bench::new(&config(), 64);
    let mut forwarder = bench.forwarder();
    let sent = forwarder.send_uplinks(20).unwrap();
    assert_eq!((sent.acked, sent.unacked), (20, 0));
    for phy in &sent.phys {
        let uplink = bench.heard.blocking_recv().unwrap();
        assert_eq!(&*uplink.source, "concentrator");
        assert_eq!(uplink.heard.phy, **phy);
        assert_eq!(uplink.heard.rx.gateway_eui, Some(GATEWAY));
        assert_eq!(uplink.heard.at.source, TimeSource::Ntp);
        let rx = uplink.heard.rx;
        assert_eq!((rx.modulation, rx.crc), (Modulation::Lora, Crc::Ok));
        assert!(rx.data_rate.starts_with("SF") && rx.frequency_hz.is_some_and(|hz| hz / 1_000_000 >= 867));
        assert!(rx.rssi_dbm.is_some() && rx.snr_db.is_some() && rx.tmst.is_some() && rx.channel.is_some());
    }
    assert!(forwarder.pull().unwrap());
    assert_eq!((bench.counters.heard_total(), bench.dropped()), (20, vec![]));
    bench.running.stop();
    assert!(bench.heard.blocking_recv().is_none(), "the thread has let go of the queue");
}

/// RULES S6, and "who rejects what": the acknowledgement does not depend on the JSON.
#[test]
fn bad_json_is_acknowledged_and_counted() {
    let bench = Bench::new(&config(), 64);
    let peer = bench.peer("127.0.0.1:0");
    for json in [&b"{\"rxpk\":[{\"data\":"[..], b"", b"\xff\xff"] {
        peer.send(0, json);
        assert_eq!(peer.answer(), [2, 7, 8, 1]);
    }
    peer.0.send(&[1, 9, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, b'{', b'}', 0]).unwrap();
    assert_eq!(peer.answer(), [1, 9, 9, 1], "version 1 is answered in version 1");
    peer.settle();
    assert_eq!(bench.dropped(), [(DropReason::BadJson, 3)]);
}

/// DESIGN section 2: nothing downstream stalls the source.
#[test]
fn a_full_queue_costs_uplinks_and_no_acknowledgement() {
    let mut bench = Bench::new(&config(), 3);
    let mut forwarder = bench.forwarder();
    let sent = forwarder.send_uplinks(40).unwrap();
    assert_eq!((sent.acked, sent.unacked), (40, 0));
    assert!(forwarder.pull().unwrap());
    bench.peer("127.0.0.1:0").settle();
    assert_eq!(bench.dropped(), [(DropReason::QueueFull, 37)]);
    assert_eq!(bench.counters.heard_total(), 3);
    assert_eq!(bench.take_all(), sent.phys[..3]);
    let later = forwarder.send_uplinks(1).unwrap();
    assert_eq!(bench.heard.blocking_recv().unwrap().heard.phy, *later.phys[0]);
}

/// RULES S32.
#[test]
fn a_gateway_that_sends_too_fast_is_cut() {
    let mut bench = Bench::new(&SemtechUdp { rate_limit: 2, ..config() }, 64);
    let mut forwarder = bench.forwarder();
    let first = forwarder.send_uplinks(5).unwrap();
    assert_eq!(first.acked, 5);
    bench.peer("127.0.0.1:0").settle();
    assert_eq!(
        (bench.take_all(), bench.dropped()),
        (first.phys[..2].to_vec(), vec![(DropReason::RateLimited, 3)])
    );
    bench.clock.advance(Duration::from_millis(500));
    let second = forwarder.send_uplinks(5).unwrap();
    bench.peer("127.0.0.1:0").settle();
    assert_eq!(bench.take_all(), second.phys[..1]);
}

#[test]
fn strangers_are_counted_and_not_answered() {
    let only = Network { address: "127.0.0.2".parse().unwrap(), prefix: 32 };
    let bench = Bench::new(&SemtechUdp { allow: vec![only], ..config() }, 64);
    let stranger = bench.peer("127.0.0.1:0");
    stranger.send(0, br#"{"rxpk":[{"data":"QAE="}]}"#);
    stranger.send(2, b"");
    bench.peer("127.0.0.2:0").settle();
    assert!(stranger.has_no_answer());
    assert_eq!((bench.counters.heard_total(), bench.dropped()), (0, vec![(DropReason::NotAllowed, 2)]));
}

#[test]
fn an_ipv4_sender_on_an_ipv6_socket_is_judged_as_ipv4() {
    let Ok(probe) = UdpSocket::bind("[::]:0") else { return };
    drop(probe);
    let bench = Bench::new(&SemtechUdp { listen: spot("[::]:0".parse().unwrap()), ..config() }, 64);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(SocketAddr::from(([127, 0, 0, 1], bench.running.local_addr().port()))).unwrap();
    Peer(socket).settle();
    assert_eq!(bench.dropped(), []);
}

#[test]
fn a_port_that_is_taken_is_named_with_a_next_step() {
    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen = holder.local_addr().unwrap();
    let config = SemtechUdp { listen: spot(listen), ..config() };
    let (out, _heard) = mpsc::channel(1);
    let listener = Listener::try_new(&spot("concentrator".to_owned()), &config).unwrap();
    let error = listener.start(out, Arc::default(), Arc::new(ManualClock::new())).unwrap_err();
    assert!(matches!(error, BindError::Bind { .. }));
    let text = error.to_string();
    for part in ["concentrator", &listen.to_string(), &format!("sport = :{}", listen.port()), "stop it"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn settings_that_cannot_work_are_refused_at_their_place() {
    let twice =
        ["127.0.0.1:1680", "LNS.example.com:1700", "127.0.0.2:1", "lns.example.com:1700", "127.0.0.3:1"];
    let config = SemtechUdp {
        forward_to: twice.map(|server| spot(server.to_owned())).to_vec(),
        allow: Vec::new(),
        ..config()
    };
    let problems = Listener::try_new(&spot("concentrator".to_owned()), &config).unwrap_err();
    for (problem, (key, words)) in problems.iter().zip([
        ("allow", "nobody may send"),
        ("forward_to", "at most 4 servers"),
        ("forward_to", "stands here twice"),
    ]) {
        assert_eq!(problem.key, format!("source.concentrator.{key}"));
        assert!(
            problem.is_error() && problem.place.is_some() && problem.message.contains(words),
            "{problem}"
        );
    }
    assert_eq!(problems.len(), 3);
}

/// DESIGN invariant 5: 20,000 datagrams that nobody should send, through the real socket.
#[test]
fn a_flood_of_nonsense_leaves_the_listener_as_it_was() {
    let mut bench = Bench::new(&config(), 64);
    let address = bench.running.local_addr();
    let mut random = fastrand::Rng::with_seed(0x5eed);
    let mut simulator = Simulator::new(SimulatorConfig { devices: 9, gateway_eui: GATEWAY, seed: 2 });
    let peer = bench.peer("127.0.0.1:0");
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..20_000 {
        let mut bytes = match n % 4 {
            0 => (0..random.usize(..200)).map(|_| random.u8(..)).collect(),
            _ => simulator.datagram(random.usize(..4)).bytes,
        };
        for _ in 0..random.usize(1..10) {
            mutate(&mut bytes, &mut random);
        }
        nobody.send_to(&bytes, address).unwrap();
        if n % 32 == 31 {
            peer.settle();
            bench.take_all();
        }
    }
    peer.settle();
    bench.take_all();

    assert!(bench.running.is_alive());
    let seen = bench.dropped();
    for reason in [DropReason::BadDatagram, DropReason::BadJson, DropReason::BadElement] {
        assert!(seen.iter().any(|(other, _)| *other == reason), "{reason:?} never happened: {seen:?}");
    }
    let mut forwarder = bench.forwarder();
    assert!(forwarder.pull().unwrap());
    let sent = forwarder.send_uplinks(1).unwrap();
    assert_eq!(sent.acked, 1);
    assert_eq!(bench.heard.blocking_recv().unwrap().heard.phy, *sent.phys[0]);
}

fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    if bytes.is_empty() {
        return bytes.push(random.u8(..));
    }
    let at = random.usize(..bytes.len());
    match random.u8(..5) {
        0 => bytes[at] = random.u8(..),
        1 => bytes[at] ^= 1 << random.u8(..8),
        2 => bytes.insert(at, random.choice(*br#"{}[]",:\-e0"#).unwrap_or(0)),
        3 => bytes.truncate(at.max(random.usize(..20))),
        _ => drop(bytes.drain(at..(at + random.usize(..30)).min(bytes.len()))),
    }
}
