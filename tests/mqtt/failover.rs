//! Failover groups (RULES S10): two brokers made of bytes, of which one is used at a time. Time is paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use packhorse::delivery::State;
use tokio::time::Instant;

use crate::bench::{To, devices, ours};
use crate::fake::{Fake, Packet, Peer};
use crate::world::World;

/// CONNACK: not authorized.
const REFUSED: u8 = 5;

/// `retry.probe`: how often who refuses us is asked again.
const PROBE: Duration = Duration::from_secs(300);

/// Acknowledges the next `n` publishes; their records.
async fn take(peer: &mut Peer, n: usize) -> Vec<usize> {
    let mut records = Vec::new();
    for (packet_id, record) in peer.publishes(n).await {
        peer.puback(packet_id).await;
        records.push(record);
    }
    records
}

/// Welcomes everybody, most of whom leave at once, until somebody stays and publishes `n` records.
async fn take_among_probes(fake: &Fake, n: usize) -> (Peer, Vec<usize>) {
    loop {
        let mut peer = fake.welcome().await;
        match peer.read().await {
            Packet::Disconnect | Packet::Closed => {}
            Packet::Publish { packet_id, record, .. } => {
                peer.puback(packet_id).await;
                let rest = take(&mut peer, n - 1).await;
                return (peer, [vec![record], rest].concat());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s10_a_member_that_refuses_us_hands_over_at_once() {
    let (first, second) = (Fake::listen().await, Fake::listen().await);
    let start = Instant::now();
    let mut world = World::start_group(&[first.port(), second.port()], &devices(&[1, 2, 1, 2])).await;
    let _refused = first.answer(REFUSED).await;
    let mut peer = second.welcome().await;
    assert_eq!(take(&mut peer, 4).await, [0, 1, 2, 3]);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(world.bench.wait_until_done().await.delivered, 4);
    assert_eq!(world.via(), second.port());
    world.wait_for_state(State::Active).await;
    world.stop().await;
}

/// Broken for 30 s: the second takes what the first had not settled, and no more. Well for a minute: the first again.
#[tokio::test(start_paused = true)]
async fn s10_a_member_that_is_down_hands_over_and_returns() {
    let (first, second) = (Fake::listen().await, Fake::listen().await);
    let first_port = first.port();
    let world = World::start_group(&[first_port, second.port()], &devices(&[1, 2, 3, 1, 2, 3, 1, 2])).await;
    let mut peer = first.welcome().await;
    let sent = peer.publishes(8).await;
    for (packet_id, _) in &sent[..3] {
        peer.puback(*packet_id).await;
    }
    world.bench.wait_for(|view| ours(view).delivered == 3).await;
    let broken = Instant::now();
    drop((peer, first));

    let mut peer = second.welcome().await;
    let after = broken.elapsed();
    assert!((Duration::from_secs(30)..Duration::from_secs(32)).contains(&after), "{after:?}");
    assert_eq!(take(&mut peer, 5).await, [3, 4, 5, 6, 7], "in the order heard, and nothing twice");
    world.bench.wait_until_done().await;

    let first = Fake::listen_on(first_port).await;
    let back = Instant::now();
    let mut world = world;
    let handing_back = async {
        assert_eq!(peer.read().await, Packet::Disconnect, "the second is left as it should be");
        let after = back.elapsed();
        world.bench.append(To::Us, &devices(&[1, 2])).await;
        after
    };
    let (after, (_peer, records)) = tokio::join!(handing_back, take_among_probes(&first, 2));
    assert!((Duration::from_secs(60)..Duration::from_secs(60 + 240 + 15)).contains(&after), "{after:?}");
    assert_eq!(records, [8, 9]);
    assert_eq!(world.bench.wait_until_done().await.delivered, 10);
    assert_eq!(world.via(), first_port);
    world.stop().await;
}

/// A broker that says the same to everybody, and counts them. Whoever it lets in is acknowledged.
struct Clerk {
    port: u16,
    says: Arc<AtomicU8>,
    asked: Arc<AtomicUsize>,
}

impl Clerk {
    async fn start(says: u8) -> Clerk {
        let fake = Fake::listen().await;
        let (port, says, asked) = (fake.port(), Arc::new(AtomicU8::new(says)), Arc::new(AtomicUsize::new(0)));
        let (saying, counting) = (Arc::clone(&says), Arc::clone(&asked));
        tokio::spawn(async move {
            loop {
                let mut peer = fake.accept().await;
                assert_eq!(peer.read().await, Packet::Connect);
                peer.connack(saying.load(Ordering::SeqCst), &[]).await;
                counting.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    while let Packet::Publish { packet_id, .. } = peer.read().await {
                        peer.puback(packet_id).await;
                    }
                });
            }
        });
        Clerk { port, says, asked }
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::SeqCst)
    }
}

/// Where nobody takes anything the group waits as patiently as one integration would, and whoever takes it gets all.
#[tokio::test(start_paused = true)]
async fn s10_members_that_all_refuse_are_not_pestered() {
    let (first, second) = (Clerk::start(REFUSED).await, Clerk::start(REFUSED).await);
    let mut world = World::start_group(&[first.port, second.port], &devices(&[1, 2, 3, 4])).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    // Every five minutes, and the turns at the beginning.
    let asked = first.asked();
    assert!((12..=15).contains(&asked), "{asked}");
    let asked = second.asked();
    assert!((15..=22).contains(&asked), "{asked}");
    world.wait_for_state(State::Blocked).await;
    assert_eq!((world.via(), ours(&world.bench.view()).backlog), (first.port, 4));

    second.says.store(0, Ordering::SeqCst);
    // S31: the link may have come up, or somebody has repaired something.
    world.bench.link_up.signal();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.bench.wait_until_done().await.delivered, 4);
    assert_eq!(world.via(), second.port);
    world.stop().await;
}

/// A group of which the config has switched off all members but one.
#[tokio::test(start_paused = true)]
async fn a_member_alone_is_probed_like_an_integration() {
    let only = Clerk::start(REFUSED).await;
    let world = World::start_group(&[only.port], &devices(&[1])).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let asked = only.asked();
    assert!((12..=14).contains(&asked), "{asked}");
    only.says.store(0, Ordering::SeqCst);
    tokio::time::sleep(PROBE).await;
    assert_eq!(world.bench.wait_until_done().await.delivered, 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_probe() {
    let (first, second) = (Fake::listen().await, Fake::listen().await);
    let world = World::start_group(&[first.port(), second.port()], &devices(&[1])).await;
    drop(first.answer(REFUSED).await);
    let mut peer = second.welcome().await;
    take(&mut peer, 1).await;
    world.bench.wait_until_done().await;
    let _hanging = first.accept().await;
    let start = Instant::now();
    let (bench, packet) = tokio::join!(world.stop(), peer.read());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(packet, Packet::Disconnect);
    drop(bench);
}
