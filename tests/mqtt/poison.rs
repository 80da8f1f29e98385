//! Records that a broker answers by hanging up (RULES S17). In real time: the waits between are short.

use packhorse::delivery::State;

use crate::bench::{devices, ours};
use crate::fake::{Fake, Packet, Peer};
use crate::world::{V5, VERSIONS, World};

/// A broker that answers every record but those of `poison`, on which it hangs up; until it has done so `times` times in a
/// row without having answered anything before.
async fn hang_up_on(fake: &Fake, poison: &[usize], times: usize) {
    let mut ends = 0;
    while ends < times {
        let mut peer = fake.welcome().await;
        let mut answered = false;
        loop {
            match peer.read().await {
                Packet::Publish { record, .. } if poison.contains(&record) => break,
                Packet::Publish { packet_id, .. } => peer.puback(packet_id).await,
                other => panic!("{other:?}"),
            }
            answered = true;
        }
        ends = if answered { 0 } else { ends + 1 };
    }
}

/// Answers the next `n` records.
async fn accept(peer: &mut Peer, n: usize) {
    for _ in 0..n {
        let (packet_id, _) = peer.publishes(1).await[0];
        peer.puback(packet_id).await;
    }
}

/// Six ends with nothing acknowledged make a dead letter of the record, and of no other; the backlog goes on.
#[tokio::test]
async fn a_record_that_the_broker_hangs_up_on_is_a_dead_letter() {
    for version in VERSIONS {
        let fake = Fake::listen().await;
        let mut world = World::start_here(fake.port(), version, &devices(&[1, 2, 3, 4])).await;
        hang_up_on(&fake, &[1], 6).await;
        let mut peer = fake.welcome().await;
        accept(&mut peer, 2).await;
        let account = world.bench.wait_until_done().await;
        assert_eq!((account.delivered, account.dead_letters), (3, 1), "{version}");
        world.wait_for_state(State::Active).await;
        world.stop().await;
    }
}

/// What was acknowledged before the broker hung up counts, even if both came in one piece: so neither that record nor the
/// one it hung up on is sent a second time more than need be.
#[tokio::test]
async fn acknowledgements_before_the_end_count() {
    for version in VERSIONS {
        let fake = Fake::listen().await;
        let world = World::start_here(fake.port(), version, &devices(&[1, 1, 1])).await;
        let mut peer = fake.welcome().await;
        let sent = peer.publishes(3).await;
        let (one, two) = (sent[0].0.to_be_bytes(), sent[1].0.to_be_bytes());
        // One piece: two PUBACKs, and a packet that no broker may send.
        peer.send(&[0x40, 2, one[0], one[1], 0x40, 2, two[0], two[1], 0xf0, 0]).await;
        let view = world.bench.wait_for(|view| ours(view).delivered >= 2).await;
        assert_eq!(ours(&view).delivered, 2, "{version}");
        let mut peer = fake.welcome().await;
        assert_eq!(peer.publishes(1).await[0].1, 2, "{version}");
        drop(peer);
        world.stop().await;
    }
}

/// Two in a row, and it is not the records: nothing more is given up, and the alarm is raised.
#[tokio::test]
async fn a_second_one_in_a_row_blocks_the_endpoint() {
    for version in VERSIONS {
        let fake = Fake::listen().await;
        let mut world = World::start_here(fake.port(), version, &devices(&[1, 2, 3])).await;
        hang_up_on(&fake, &[0, 1, 2], 12).await;
        world.wait_for_state(State::Blocked).await;
        let error = world.seen.borrow().last_error.clone().unwrap();
        assert!(error.message.contains("every record ends the connection"), "{}", error.message);
        let view = world.bench.wait_for(|view| ours(view).dead_letters == 1).await;
        assert_eq!(ours(&view).backlog, 2, "{version}");
        // A probe with the same end changes nothing; one that is accepted ends it.
        world.bench.link_up.signal();
        hang_up_on(&fake, &[1], 1).await;
        world.wait_for_state(State::Blocked).await;
        world.bench.link_up.signal();
        let mut peer = fake.welcome().await;
        accept(&mut peer, 2).await;
        world.wait_for_state(State::Active).await;
        let account = world.bench.wait_until_done().await;
        assert_eq!((account.delivered, account.dead_letters), (2, 1), "{version}");
        world.stop().await;
    }
}

/// A link that breaks while connecting, or a broker that says why and means something else, is no record's fault.
#[tokio::test]
async fn other_ends_blame_no_record() {
    let fake = Fake::listen().await;
    let world = World::start_here(fake.port(), V5, &devices(&[1])).await;
    for n in 0..20 {
        let mut peer = fake.accept().await;
        assert_eq!(peer.read().await, Packet::Connect);
        if n % 2 == 0 {
            continue;
        }
        peer.connack(0, &[]).await;
        assert_eq!(peer.publishes(1).await[0].1, 0);
        // DISCONNECT, server shutting down.
        peer.send(&[0xe0, 2, 0x8b, 0]).await;
    }
    let mut peer = fake.welcome().await;
    accept(&mut peer, 1).await;
    let account = world.bench.wait_until_done().await;
    assert_eq!((account.delivered, account.dead_letters), (1, 0));
    world.stop().await;
}

/// MQTT 5: a DISCONNECT that blames what was sent is enough once the record was alone.
#[tokio::test]
async fn a_disconnect_that_blames_the_record_is_believed() {
    let fake = Fake::listen().await;
    let world = World::start_here(fake.port(), V5, &devices(&[1, 2])).await;
    for alone in [false, true] {
        let mut peer = fake.welcome().await;
        assert_eq!(peer.publishes(if alone { 1 } else { 2 }).await[0].1, 0);
        // Packet too large.
        peer.send(&[0xe0, 2, 0x95, 0]).await;
    }
    let mut peer = fake.welcome().await;
    accept(&mut peer, 1).await;
    let account = world.bench.wait_until_done().await;
    assert_eq!((account.delivered, account.dead_letters), (1, 1));
    world.stop().await;
}
