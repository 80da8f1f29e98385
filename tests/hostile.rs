//! Whatever arrives at the UDP port, the agent lives, answers and delivers what is good.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::net::UdpSocket;
use std::time::Duration;

use packhorse::simulator::{Arrivals, Simulator, SimulatorConfig};
use packhorse::uplink::Eui64;
use support::site::endpoint;
use support::{Agent, PATIENCE, forwarder, free_udp_port};

const DATAGRAMS: usize = 20_000;

/// Memory that the flood may cost, generously: the hand-over queue of 4,096 uplinks and a round of the writer.
const RSS_GROWTH_KIB: u64 = 16 * 1024;

#[test]
fn twenty_thousand_hostile_datagrams_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, arrivals) = endpoint();
    let udp = free_udp_port();
    let config = format!(
        "[spool]\npath = \"{0}/spool.redb\"\nmax_size = \"4MiB\"\n[control]\nsocket = \"{0}/control.sock\"\n\
         [source.s]\ntype = \"semtech-udp\"\nlisten = \"127.0.0.1:{udp}\"\n\
         [integration.api]\ntype = \"http\"\nurl = \"http://{1}/\"\nparallel = 8\n",
        folder.path().display(),
        endpoint.address()
    );
    let mut agent = Agent::start(folder.path(), &config);
    let mut good = forwarder(udp, 4, 1);
    let warm_up = good.send_uplinks(50).unwrap().phys;
    assert!(wait_for_frames(&arrivals, &warm_up), "{}", agent.log());
    let before = agent.rss_kib();

    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.connect(("127.0.0.1", udp)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut random = fastrand::Rng::with_seed(20_000);
    let gateway_eui = Eui64([1, 2, 3, 4, 5, 6, 7, 8]);
    let mut simulator = Simulator::new(SimulatorConfig { devices: 4, gateway_eui, seed: 3 });
    for n in 0..DATAGRAMS {
        socket.send(&hostile(&mut random, &mut simulator)).unwrap();
        if n % 100 == 0 {
            assert!(is_answered(&socket, 0x00, 0x01), "PUSH_ACK after {n} datagrams\n{}", agent.log());
            assert!(is_answered(&socket, 0x02, 0x04), "PULL_ACK after {n} datagrams\n{}", agent.log());
        }
    }

    let valid = good.send_uplinks(1).unwrap();
    assert_eq!(valid.acked, 1);
    assert!(wait_for_frames(&arrivals, &valid.phys), "the next valid uplink is delivered\n{}", agent.log());
    let status =
        agent.wait_until("the flood is worked off", |status| status["integrations"][0]["backlog"] == 0);
    let grown = agent.rss_kib().saturating_sub(before);
    assert!(grown < RSS_GROWTH_KIB, "memory grew by {grown} KiB");
    assert!(status["dropped"]["bad-datagram"].as_u64().unwrap() > 0, "what was dropped is counted: {status}");
    assert!(agent.terminate().success());
}

/// Noise, a mutated good datagram, a truncated one, or noise behind a good header.
fn hostile(random: &mut fastrand::Rng, simulator: &mut Simulator) -> Vec<u8> {
    let mut noise: Vec<u8> = (0..random.usize(0..400)).map(|_| random.u8(..)).collect();
    let mut good = simulator.datagram(random.usize(1..4)).bytes;
    match random.u8(0..4) {
        0 => noise,
        1 => {
            for _ in 0..random.usize(1..12) {
                let at = random.usize(..good.len());
                good[at] = random.u8(..);
            }
            good
        }
        2 => {
            good.truncate(random.usize(..good.len()));
            good
        }
        _ => {
            good.truncate(12);
            good.append(&mut noise);
            good
        }
    }
}

/// Sends a well-formed PUSH_DATA or PULL_DATA with a token of its own and waits for the answer to it.
fn is_answered(socket: &UdpSocket, kind: u8, answer: u8) -> bool {
    let token = [fastrand::u8(..), fastrand::u8(..)];
    let mut datagram = vec![2, token[0], token[1], kind, 1, 2, 3, 4, 5, 6, 7, 8];
    if kind == 0 {
        datagram.extend(b"{}");
    }
    socket.send(&datagram).unwrap();
    let mut buffer = [0u8; 64];
    while let Ok(n) = socket.recv(&mut buffer) {
        if buffer[..n] == [2, token[0], token[1], answer] {
            return true;
        }
    }
    false
}

fn wait_for_frames(arrivals: &Arrivals, frames: &[Vec<u8>]) -> bool {
    let wanted: Vec<String> = frames.iter().map(|frame| data_encoding::BASE64.encode(frame)).collect();
    arrivals.wait_until(PATIENCE, |log| {
        let tail = &log[log.len().saturating_sub(200)..];
        wanted.iter().all(|frame| tail.iter().any(|arrival| arrival.json()["phy_payload"] == **frame))
    })
}
