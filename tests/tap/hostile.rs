//! What nobody should send, from either side (DESIGN invariant 5).

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use packhorse::simulator::{Simulator, SimulatorConfig};
use packhorse::uplink::Eui64;

use crate::world::{Server, World, forward_to, tap};

#[test]
fn strangers_are_not_passed_on() {
    let (world, server) = (World::new(), Server::new());
    let mut agent = world.start(&format!("allow = [\"127.0.0.1/32\"]\n{}", forward_to(&[server.address()])));
    let stranger = UdpSocket::bind("127.0.0.2:0").unwrap();
    let mut forwarder = world.forwarder(0xa1);
    stranger.send_to(&forwarder.datagram(2, 2, b""), world.udp()).unwrap();
    let pull = forwarder.pull();
    let link = server.acknowledges(&pull);
    // Nor does a stranger's PULL_DATA turn downlinks away.
    stranger.send_to(&pull, world.udp()).unwrap();
    agent.wait_until("both were refused", |status| status["dropped"]["not-allowed"] == 2);
    let downlink = server.sends_down([1, 1], "868.1", link);
    assert_eq!(forwarder.downlink(), downlink);
}

/// 20,000 datagrams with a few bytes wrong, from forwarders with as many EUIs as that makes, and as many from the server.
#[test]
fn a_flood_from_both_sides_leaves_the_tap_as_it_was() {
    let (world, server) = (World::new(), Server::new());
    let mut agent = world.start(&forward_to(&[server.address()]));
    let mut forwarder = world.forwarder(0xa1);
    let link = server.acknowledges(&forwarder.pull());
    let mut random = fastrand::Rng::with_seed(0x5eed);
    let mut simulator =
        Simulator::new(SimulatorConfig { devices: 9, gateway_eui: Eui64([0xa1; 8]), seed: 2 });
    let (nobody, flooding) = (UdpSocket::bind("127.0.0.1:0").unwrap(), server.0.try_clone().unwrap());
    for n in 0..20_000 {
        let mut bytes = match n % 4 {
            0 => (0..random.usize(..200)).map(|_| random.u8(..)).collect(),
            _ => simulator.datagram(random.usize(..4)).bytes,
        };
        for _ in 0..random.usize(1..10) {
            let at = random.usize(..bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.u8(..8);
            }
        }
        nobody.send_to(&bytes, world.udp()).unwrap();
        flooding.send_to(&bytes, link).unwrap();
    }
    let status = agent.wait_until("what is wrong is counted", |status| {
        let dropped = &tap(status, 0)["dropped"];
        ["bad-answer", "too-many-gateways"].iter().all(|reason| dropped[reason].as_u64() > Some(0))
    });
    assert!(tap(&status, 0)["forwarded"].as_u64() > Some(0), "{status}");

    // The real ones pass as before. What is left of the flood is still on its way, and has used up what a gateway may send: a
    // forwarder asks again, and so does a server.
    server.0.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut fresh = world.forwarder(0xa1);
    fresh.down.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let pull = fresh.datagram(2, 2, b"the last");
    let link = again_until(|| {
        fresh.down.send(&pull).unwrap();
        all_from(&server.0).find(|(bytes, _)| *bytes == pull).map(|(_, from)| from)
    });
    again_until(|| {
        let downlink = server.sends_down([0xee, 0xee], "868.1", link);
        all_from(&fresh.down).find(|(bytes, _)| bytes[3..] == downlink[3..])
    });
}

/// What comes until nothing comes any more.
fn all_from(socket: &UdpSocket) -> impl Iterator<Item = (Vec<u8>, SocketAddr)> {
    let mut bytes = vec![0; 65_535];
    std::iter::from_fn(move || {
        let (len, from) = socket.recv_from(&mut bytes).ok()?;
        Some((bytes[..len].to_vec(), from))
    })
}

fn again_until<T>(mut what: impl FnMut() -> Option<T>) -> T {
    (0..2_000).find_map(|_| what()).expect("it never came through")
}
