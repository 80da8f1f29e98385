//! The tap with real sockets on loopback and a clock turned by hand. The whole of it, in a running agent, is tested in
//! `tests/tap`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use super::super::readiness::{Key, Ready, Stopper};
use super::gateways::GATEWAYS;
use super::*;
use crate::metrics::TapState;

/// Long enough that only a broken tap runs into it.
const PATIENCE: Duration = Duration::from_secs(20);
const SECOND: u64 = 1_000_000_000;
const PUSH: u8 = 0;
const PULL: u8 = 2;

struct Bench {
    tap: Tap,
    counters: Vec<Arc<TapCounters>>,
    readiness: Readiness,
    _stopper: Stopper,
    door: UdpSocket,
    forwarder: UdpSocket,
}

impl Bench {
    fn to(servers: &[String]) -> Bench {
        let counters: Vec<_> =
            servers.iter().map(|server| Arc::new(TapCounters::new("s".into(), server.clone()))).collect();
        let (readiness, _stopper) = Readiness::new().unwrap();
        let (door, forwarder) = (socket(), socket());
        let tap = Tap::new(counters.clone(), door.local_addr().unwrap(), 0);
        Bench { tap, counters, readiness, _stopper, door, forwarder }
    }

    /// Passes on what the forwarder sends.
    fn up(&mut self, bytes: &[u8], now_ns: u64) {
        let from = self.forwarder.local_addr().unwrap();
        self.tap.up(bytes, &Datagram::read(bytes).unwrap(), from, now_ns, &self.readiness);
    }

    /// Waits until something has come from a server, and takes it.
    fn down(&mut self, now_ns: u64) {
        let mut ready = Ready::none();
        self.readiness.wait(&mut ready).unwrap();
        for key in ready.take() {
            let Key::Link(link) = key else { panic!("{key:?}") };
            self.tap.down(link, &mut vec![0; 65_535], &self.door, now_ns);
        }
    }

    fn dropped(&self, server: usize) -> Vec<(TapDrop, u64)> {
        let counters = &self.counters[server];
        let count = |reason| (reason, counters.dropped_total(reason));
        TapDrop::ALL.into_iter().map(count).filter(|(_, n)| *n > 0).collect()
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn text(socket: &UdpSocket) -> String {
    socket.local_addr().unwrap().to_string()
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 65_535];
    let (len, from) = socket.recv_from(&mut bytes).unwrap();
    bytes.truncate(len);
    (bytes, from)
}

fn datagram(identifier: u8, gateway: u8, rest: &[u8]) -> Vec<u8> {
    [&[2, 7, 8, identifier], &[gateway; 8][..], rest].concat()
}

/// The largest datagram that IPv4 has, and the smallest.
#[test]
fn datagrams_of_any_size_pass_both_ways() {
    let server = socket();
    let mut bench = Bench::to(&[text(&server)]);
    for rest in [&b""[..], &[b'x'; 65_507 - 12]] {
        let sent = datagram(PULL, 1, rest);
        bench.up(&sent, 0);
        let (heard, link) = receive(&server);
        assert_eq!(heard, sent);
        let downlink = [&[2, 0, 0, 3], &sent[12..]].concat();
        server.send_to(&downlink, link).unwrap();
        bench.down(0);
        assert_eq!(receive(&bench.forwarder), (downlink, bench.door.local_addr().unwrap()));
    }
    assert_eq!(bench.dropped(0), []);
}

/// The kernel says that nobody listens only when the next datagram is sent, and keeps that one back.
#[test]
fn a_server_that_starts_late_misses_nothing_of_what_follows() {
    let address = text(&socket());
    let mut bench = Bench::to(std::slice::from_ref(&address));
    bench.up(&datagram(PUSH, 1, b"first"), 0);
    let server = UdpSocket::bind(&address).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    bench.up(&datagram(PUSH, 1, b"second"), 0);
    assert_eq!(receive(&server).0, datagram(PUSH, 1, b"second"));
    assert_eq!(bench.dropped(0), [(TapDrop::Refused, 1)]);
    assert_eq!(bench.counters[0].trouble(), Some(TapDrop::Refused));

    drop(server);
    bench.up(&datagram(PUSH, 1, b"third"), 0);
    bench.down(0);
    assert_eq!(bench.dropped(0), [(TapDrop::Refused, 2)], "heard without sending more");
}

/// After half a minute the socket may speak from an address that the machine no longer has.
#[test]
fn a_server_that_does_not_answer_gets_a_new_socket_each_half_minute() {
    let server = socket();
    let mut bench = Bench::to(&[text(&server)]);
    let mut links = Vec::new();
    for second in [0, 15, 30, 31, 61, 62] {
        bench.up(&datagram(PUSH, 1, b""), second * SECOND);
        links.push(receive(&server).1);
    }
    assert!(links[0] == links[1] && links[1] == links[2] && links[3] == links[4], "{links:?}");
    assert!(links[2] != links[3] && links[4] != links[5], "{links:?}");
    let state = |bench: &Bench, second| bench.counters[0].state(second * SECOND);
    assert_eq!(state(&bench, 62), TapState::Silent);
    server.send_to(&[2, 7, 8, 1], links[5]).unwrap();
    bench.down(63 * SECOND);
    assert_eq!(state(&bench, 900), TapState::Answers);
    assert_eq!(bench.counters[0].last_ack_ns(), Some(63 * SECOND));
    bench.up(&datagram(PUSH, 1, b""), 900 * SECOND);
    assert_eq!(receive(&server).1, links[5], "it owed nothing in between");
}

#[test]
fn a_server_without_an_address_costs_the_others_nothing() {
    let server = socket();
    let mut bench = Bench::to(&["no-such-host.invalid:1700".to_owned(), text(&server)]);
    bench.up(&datagram(PUSH, 1, b"x"), 0);
    assert_eq!(receive(&server).0, datagram(PUSH, 1, b"x"));
    assert_eq!((bench.dropped(0), bench.dropped(1)), (vec![(TapDrop::Unresolved, 1)], vec![]));
}

/// A name may have an address that nobody listens on: `localhost` often has `::1` first.
#[test]
fn a_name_is_looked_up_and_leads_to_the_address_that_answers() {
    let server = socket();
    let mut bench = Bench::to(&[format!("localhost:{}", server.local_addr().unwrap().port())]);
    server.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    // The lookup ends when it likes; each datagram is another try.
    let heard = (0..1_000).find_map(|_| {
        bench.up(&datagram(PUSH, 1, b""), 0);
        server.recv(&mut [0; 64]).ok()
    });
    assert_eq!(heard, Some(12), "{:?}", bench.dropped(0));
}

#[test]
fn what_would_come_back_is_not_sent() {
    let mut bench = Bench::to(&[]);
    let door = bench.door.local_addr().unwrap();
    let counters = Arc::new(TapCounters::new("s".into(), door.to_string()));
    bench.tap = Tap::new(vec![counters.clone()], door, 0);
    bench.counters = vec![counters];
    for _ in 0..3 {
        bench.up(&datagram(PUSH, 1, b""), 0);
    }
    assert_eq!(bench.dropped(0), [(TapDrop::Loop, 3)]);
    bench.door.set_nonblocking(true).unwrap();
    assert!(bench.door.recv(&mut [0; 64]).is_err());
}

/// What ends a circle between two agents, and a forwarder or server that went mad.
#[test]
fn a_flood_is_cut_at_what_no_radio_reaches() {
    let server = socket();
    let mut bench = Bench::to(&[text(&server)]);
    bench.up(&datagram(PULL, 1, b""), 0);
    let link = receive(&server).1;
    for _ in 0..1_500 {
        bench.up(&datagram(PUSH, 1, b""), 0);
    }
    bench.up(&datagram(PUSH, 2, b""), 0);
    assert_eq!(bench.counters[0].forwarded_total(), 1_001, "and another gateway does not pay for it");
    assert_eq!(bench.dropped(0), [(TapDrop::Flood, 501)]);

    for _ in 0..75 {
        for _ in 0..20 {
            server.send_to(&[2, 0, 0, 3], link).unwrap();
        }
        // Twice: no more than 16 are taken in a row.
        bench.down(0);
        bench.down(0);
    }
    assert_eq!(bench.counters[0].returned_total(), 1_000);
    assert_eq!(bench.dropped(0), [(TapDrop::Flood, 1_001)]);
    bench.up(&datagram(PUSH, 1, b""), SECOND);
    assert_eq!(bench.counters[0].forwarded_total(), 1_002);
}

/// RULES S25: sockets are bounded in number.
#[test]
fn gateways_that_are_made_up_take_no_place_from_those_that_are_there() {
    let servers = [socket(), socket()];
    let mut bench = Bench::to(&servers.each_ref().map(text));
    bench.up(&datagram(PULL, 1, b""), 0);
    for gateway in 2..=201 {
        bench.up(&datagram(PULL, gateway, b""), 0);
    }
    bench.up(&datagram(PUSH, 1, b"still here"), 0);
    for (server, counters) in bench.counters.iter().enumerate() {
        assert_eq!(counters.forwarded_total(), GATEWAYS as u64 + 1);
        assert_eq!(bench.dropped(server), [(TapDrop::TooManyGateways, 201 - GATEWAYS as u64)]);
    }
}

#[test]
fn what_no_server_may_send_goes_nowhere() {
    let server = socket();
    let mut bench = Bench::to(&[text(&server)]);
    bench.up(&datagram(PUSH, 1, b""), 0);
    let link = receive(&server).1;
    server.send_to(&[2, 7, 8, 3], link).unwrap();
    bench.down(0);
    assert_eq!(bench.dropped(0), [(TapDrop::NoForwarder, 1)], "no PULL_DATA came yet");
    bench.up(&datagram(PULL, 1, b""), 0);
    for bytes in [&b""[..], b"x", &[2, 7, 8], &[2, 7, 8, 0], &[2, 7, 8, 5], &[9, 7, 8, 3], &[2, 7, 8, 3]] {
        server.send_to(bytes, link).unwrap();
        bench.down(0);
    }
    assert_eq!(receive(&bench.forwarder).0, [2, 7, 8, 3], "the first that is one");
    assert_eq!(bench.dropped(0), [(TapDrop::NoForwarder, 1), (TapDrop::BadAnswer, 6)]);
    // A stranger's is not even looked at: the link is connected.
    socket().send_to(&[2, 7, 8, 3], link).unwrap();
    server.send_to(&[2, 7, 8, 1], link).unwrap();
    bench.down(0);
    assert_eq!(bench.counters[0].returned_total(), 1);
}

/// Version 1 has no TX_ACK and leaves the bytes of the token unused in a PULL_RESP.
#[test]
fn nothing_is_changed_in_version_1() {
    let servers = [socket(), socket()];
    let mut bench = Bench::to(&servers.each_ref().map(text));
    let pull = [&[1, 7, 8, PULL], &[1; 8][..]].concat();
    bench.up(&pull, 0);
    for server in &servers {
        let (heard, link) = receive(server);
        assert_eq!(heard, pull);
        server.send_to(b"\x01\0\0\x03{}", link).unwrap();
        bench.down(0);
        assert_eq!(receive(&bench.forwarder).0, b"\x01\0\0\x03{}");
    }
}

/// RULES S25, and the one change that is made: only where two servers collide.
#[test]
fn a_tx_ack_finds_the_server_whose_downlink_it_is_about() {
    let servers = [socket(), socket()];
    let mut bench = Bench::to(&servers.each_ref().map(text));
    bench.up(&datagram(PULL, 1, b""), 0);
    let [first, second] = servers.each_ref().map(|server| {
        let (_, link) = receive(server);
        server.send_to(b"\x02\x05\x05\x03{\"txpk\":{}}", link).unwrap();
        bench.down(0);
        let (downlink, _) = receive(&bench.forwarder);
        assert_eq!((downlink[0], &downlink[3..]), (2, &b"\x03{\"txpk\":{}}"[..]));
        [downlink[1], downlink[2]]
    });
    assert!(first == [5, 5] && second != first, "{first:?} {second:?}");
    let ack = |token: [u8; 2], rest: &[u8]| [&[2], &token[..], &[5], rest].concat();
    for rest in
        [&[1; 8][..], b"\x01\x01\x01\x01\x01\x01\x01\x01{\"txpk_ack\":{\"error\":\"TOO_LATE\"}}", b"\0", b""]
    {
        bench.up(&ack(second, rest), 59 * SECOND);
        assert_eq!(receive(&servers[1]).0, ack([5, 5], rest));
        bench.up(&ack([5, 5], rest), 59 * SECOND);
        assert_eq!(receive(&servers[0]).0, ack([5, 5], rest));
    }
    bench.up(&ack(second, &[1; 8]), 60 * SECOND);
    bench.up(&ack([9, 9], &[1; 8]), 0);
    for server in 0..2 {
        assert_eq!(bench.dropped(server), [(TapDrop::UnknownToken, 2)]);
    }
}
