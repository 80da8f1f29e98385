//! Far ends that are broken in ways that a real broker can't be made to be. Time is paused: everything here runs on one
//! thread over loopback, and a wait of the agent takes as long as it asked for, not as long as it takes.

use std::time::Duration;

use packhorse::clock::Clock;
use packhorse::delivery::State;
use packhorse::history::Entry;
use tokio::time::Instant;

use crate::bench::{To, devices, ours};
use crate::fake::{Fake, Packet};
use crate::world::{BODY_OVERHEAD, PATIENCE, VERSIONS, WINDOW, World};

async fn delivered(world: &World, n: u64) {
    let view = world.bench.wait_for(|view| ours(view).delivered >= n).await;
    assert_eq!(ours(&view).delivered, n);
}

/// An acknowledgement settles the record of its packet id and no other, in whatever order they come (DESIGN section 2).
#[tokio::test(start_paused = true)]
async fn acknowledgements_out_of_order_settle_the_right_records() {
    for version in VERSIONS {
        let fake = Fake::listen().await;
        let mut world = World::start_here(fake.port(), version, &devices(&[1; 8])).await;
        let mut peer = fake.welcome().await;
        let sent = peer.publishes(WINDOW).await;
        assert_eq!(sent.iter().map(|(_, record)| *record).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
        for at in [7, 2, 5] {
            peer.puback(sent[at].0).await;
        }
        delivered(&world, 3).await;
        drop(peer);

        let mut peer = fake.welcome().await;
        // After a failure one goes alone until it was accepted.
        for expected in [[0].as_slice(), &[1, 3, 4, 6]] {
            for (packet_id, record) in peer.publishes(expected.len()).await {
                assert!(expected.contains(&record), "{record} in {expected:?}");
                peer.puback(packet_id).await;
            }
        }
        delivered(&world, 8).await;
        world.wait_for_state(State::Active).await;
        world.stop().await.close();
    }
}

/// An acknowledgement that nothing waits for, twice or of the wrong kind settles nothing: the session starts anew.
#[tokio::test(start_paused = true)]
async fn acknowledgements_that_nothing_waits_for_settle_nothing() {
    let (puback, pubrec, pubcomp) = (0x40, 0x50, 0x70);
    // QoS, what the broker answers to packet ids 1 and 2 (0 to 2 records are written), what may be settled by it.
    let cases: [(u8, &[(u8, u16)]); 8] = [
        (1, &[(puback, 9)]),
        (1, &[(puback, 11)]),
        (1, &[(puback, 0)]),
        (1, &[(puback, 60_000)]),
        (1, &[(pubcomp, 1)]),
        (2, &[(puback, 1)]),
        (2, &[(pubcomp, 1)]),
        (2, &[(pubrec, 9)]),
    ];
    for (version, (qos, answers)) in
        VERSIONS.into_iter().flat_map(|version| cases.map(|case| (version, case)))
    {
        let fake = Fake::listen().await;
        let world =
            World::start_here(fake.port(), &format!("{version}qos = {qos}\n"), &devices(&[1, 2])).await;
        let mut peer = fake.welcome().await;
        assert_eq!(peer.publishes(2).await, [(1, 0), (2, 1)]);
        for (kind, packet_id) in answers {
            let [high, low] = packet_id.to_be_bytes();
            peer.send(&[*kind, 2, high, low]).await;
        }
        assert_eq!(peer.read().await, Packet::Closed, "qos {qos}, {answers:?}");
        let mut peer = fake.welcome().await;
        assert_eq!(peer.publishes(1).await[0].1, 0, "qos {qos}, {answers:?}");
        assert_eq!(ours(&world.bench.view()).delivered, 0, "qos {qos}, {answers:?}");
        world.stop().await;
    }
}

/// S18: QoS 2 is settled at PUBCOMP, not before.
#[tokio::test(start_paused = true)]
async fn qos_2_is_settled_by_pubcomp_alone() {
    for version in VERSIONS {
        let fake = Fake::listen().await;
        let world = World::start_here(fake.port(), &format!("{version}qos = 2\n"), &devices(&[1])).await;
        let mut peer = fake.welcome().await;
        assert_eq!(peer.read().await, Packet::Publish { qos: 2, packet_id: 1, record: 0 });
        peer.pubrec(1).await;
        assert_eq!(peer.read().await, Packet::PubRel(1));
        drop(peer);
        let mut peer = fake.welcome().await;
        assert_eq!(peer.publishes(1).await, [(1, 0)], "PUBREC alone is no receipt");
        peer.pubrec(1).await;
        assert_eq!(peer.read().await, Packet::PubRel(1));
        peer.pubcomp(1).await;
        delivered(&world, 1).await;
        world.stop().await;
    }
}

/// A broker that drops a publish and goes on answering pings (a throttling one does): the session ends when the oldest
/// publish has waited two keep-alives and a connect time-out, also while later ones are answered.
#[tokio::test(start_paused = true)]
async fn a_publish_that_is_never_answered_ends_the_session() {
    for version in VERSIONS {
        let fake = Fake::listen().await;
        let world =
            World::start_here(fake.port(), &format!("{version}keep_alive = \"10s\"\n"), &devices(&[1, 2]))
                .await;
        let mut peer = fake.welcome().await;
        let sent = peer.publishes(2).await;
        let start = Instant::now();
        peer.puback(sent[1].0).await;
        delivered(&world, 1).await;
        assert_eq!(peer.read().await, Packet::Closed);
        let waited = start.elapsed();
        assert!((Duration::from_secs(49)..Duration::from_secs(52)).contains(&waited), "{waited:?}");
        let mut peer = fake.welcome().await;
        let again = peer.publishes(1).await;
        assert_eq!(again[0].1, 0);
        peer.puback(again[0].0).await;
        delivered(&world, 2).await;
        world.stop().await;
    }
}

/// S31: a link-up signal ends a connection attempt that hangs, once it is two seconds old.
#[tokio::test(start_paused = true)]
async fn a_link_up_signal_ends_a_hanging_attempt() {
    let fake = Fake::listen().await;
    let world = World::start_here(fake.port(), "", &[]).await;
    for old in [Duration::ZERO, Duration::from_millis(1_500), Duration::from_secs(10)] {
        let _hanging = fake.accept().await;
        tokio::time::advance(old).await;
        let start = Instant::now();
        world.bench.link_up.signal();
        let mut next = fake.accept().await;
        assert!(start.elapsed() <= Duration::from_secs(2), "after {old:?}: {:?}", start.elapsed());
        // Refused, so that the next round starts with a new attempt of no age.
        assert_eq!(next.read().await, Packet::Connect);
        next.send(&[0x20, 2, 0, 3]).await;
    }
    world.stop().await;
}

/// Without a signal the attempt ends by itself, and the next one follows.
#[tokio::test(start_paused = true)]
async fn a_hanging_attempt_times_out() {
    for version in VERSIONS {
        let fake = Fake::listen().await;
        let mut world = World::start_here(fake.port(), version, &[]).await;
        let start = Instant::now();
        let _hanging = fake.accept().await;
        let _next = fake.accept().await;
        assert!(start.elapsed() < Duration::from_secs(32), "{:?}", start.elapsed());
        let error = world.seen.borrow_and_update().last_error.clone().unwrap();
        assert!(error.message.contains("did not answer within 30 s"), "{}", error.message);
        world.stop().await;
    }
}

/// A stop waits five seconds for answers and no longer, in whatever phase the connection is.
#[tokio::test(start_paused = true)]
async fn a_stop_never_hangs() {
    let will = "[integration.us.will]\ntopic = \"state\"\n[integration.us.birth]\ntopic = \"state\"\n";
    for (phase, keys) in [("connecting", ""), ("a publish is open", ""), ("the birth is open", will)] {
        let fake = Fake::listen().await;
        let mut world = World::start_here(fake.port(), keys, &devices(&[1])).await;
        let _peer = match phase {
            "connecting" => fake.accept().await,
            _ => fake.welcome().await,
        };
        if phase == "a publish is open" {
            world.wait_for(phase, |status| status.in_flight == 1).await;
        }
        let start = Instant::now();
        world.stop().await;
        assert!(start.elapsed() <= Duration::from_secs(5), "{phase}: {:?}", start.elapsed());
    }
}

/// The state comes on every connect and then as often as it was asked for, with the numbers of the spool; one that is not
/// answered yet holds up no other.
#[tokio::test(start_paused = true)]
async fn the_state_is_told_now_and_then() {
    for version in VERSIONS {
        let fake = Fake::listen().await;
        // A paused clock runs on to the next timer whenever everybody waits for the network, so pings are kept away.
        let state = "keep_alive = \"10m\"\n[integration.us.state]\ntopic = \"status\"\nevery = \"1m\"\n";
        let keys = format!("{version}{state}");
        let world = World::start_here(fake.port(), &keys, &devices(&[1])).await;
        for connection in 1..=2 {
            let mut peer = fake.welcome().await;
            let Packet::State { packet_id, body } = peer.read().await else { panic!() };
            assert_eq!(body["sequence"], connection);
            assert_eq!((&body["gateway"], &body["integration"]), (&"roof".into(), &"us".into()));
            assert_eq!((&body["backlog"], &body["delivered"]), (&1.into(), &0.into()));
            assert!(
                body["oldest_s"].is_u64() && body["uptime_s"].is_u64() && body["time"].is_string(),
                "{body}"
            );
            assert_eq!((&body["spool"]["state"], &body["spool"]["records"]), (&"ok".into(), &1.into()));
            if connection == 1 {
                continue;
            }
            // Unanswered for the moment, it holds up no record.
            let record = peer.publishes(1).await[0].0;
            peer.puback(record).await;
            peer.puback(packet_id).await;
            world.bench.wait_for(|view| ours(view).delivered == 1).await;
            let next = peer.read().await;
            let Packet::State { body, .. } = next else { panic!("{next:?}") };
            assert_eq!((&body["backlog"], &body["delivered"]), (&0.into(), &1.into()));
            assert_eq!((&body["oldest_s"], &body["state"]), (&serde_json::Value::Null, &"active".into()));
        }
        world.stop().await;
    }
}

/// CONNACK codes (S1, S8): 2, 4 and 5 block, 3 is a plain retry; the message says what to check.
#[tokio::test(start_paused = true)]
async fn connack_codes() {
    let keys = "username = \"gw\"\npassword = \"hunter2\"\n";
    for (code, state) in [
        (1, State::Blocked),
        (2, State::Blocked),
        (3, State::Degraded),
        (4, State::Blocked),
        (5, State::Blocked),
    ] {
        let fake = Fake::listen().await;
        let mut world = World::start_here(fake.port(), keys, &[]).await;
        let mut peer = fake.accept().await;
        assert_eq!(peer.read().await, Packet::Connect);
        peer.send(&[0x20, 2, 0, code]).await;
        world.wait_for_state(state).await;
        let error = world.seen.borrow().last_error.clone().unwrap();
        assert_eq!(error.layer.as_str(), "mqtt");
        assert!(error.message.contains(&format!("(CONNACK {code})")), "{}", error.message);
        assert!(!error.message.contains("hunter2"), "{}", error.message);
        world.stop().await;
    }
}

/// A port that closes at once, or is reset after CONNACK: the message names the layer and what to look at.
#[tokio::test(start_paused = true)]
async fn closed_connections_are_told_apart() {
    let fake = Fake::listen().await;
    let mut world = World::start_here(fake.port(), "", &[]).await;
    let mut peer = fake.accept().await;
    assert_eq!(peer.read().await, Packet::Connect);
    drop(peer);
    world.wait_for("it failed", |status| status.last_error.is_some()).await;
    let first = world.seen.borrow().last_error.clone().unwrap();
    assert!(first.message.contains("before CONNACK; is this port for TLS"), "{}", first.message);
    let peer = fake.welcome().await;
    drop(peer);
    let other = |status: &packhorse::delivery::LaneStatus| status.last_error.as_ref() != Some(&first);
    world.wait_for("it failed again", other).await;
    let second = world.seen.borrow().last_error.clone().unwrap();
    assert_eq!(second.layer.as_str(), "tcp", "{}", second.message);
    assert!(second.message.contains("closed the connection"), "{}", second.message);
    fake.welcome().await.reset();
    let other = |status: &packhorse::delivery::LaneStatus| status.last_error.as_ref() != Some(&second);
    world.wait_for("it failed again", other).await;
    let third = world.seen.borrow().last_error.clone().unwrap();
    assert_eq!(third.layer.as_str(), "tcp", "{}", third.message);
    assert!(third.message.contains("reset the connection"), "{}", third.message);
    world.stop().await;
}

/// A broker that is away shows in the history, be there an uplink or not: since when, how often it was tried, why, and that
/// it is back.
#[tokio::test(start_paused = true)]
async fn an_outage_is_one_entry_of_the_history() {
    let outages = |world: &World| {
        let entries = world.bench.history.entries().into_iter();
        let outages = entries.filter_map(|it| if let Entry::Outage(it) = it { Some(it) } else { None });
        outages.collect::<Vec<_>>()
    };
    let fake = Fake::listen().await;
    let mut world = World::start_here(fake.port(), "", &[]).await;
    let start = world.bench.clock.wall_us();
    for _ in 0..3 {
        let now = world.bench.clock.wall_us();
        drop(fake.answer(3).await);
        let failed_now = |status: &packhorse::delivery::LaneStatus| {
            status.last_error.as_ref().is_some_and(|error| error.at_us == now)
        };
        world.wait_for("it failed", failed_now).await;
        world.bench.clock.advance(Duration::from_secs(60));
    }
    let minutes = |from: i64, to: i64| (start + from * 60_000_000, start + to * 60_000_000);
    let [outage] = &outages(&world)[..] else { panic!("{:?}", outages(&world)) };
    assert_eq!((outage.as_str(), outage.attempts), ("offline", 3));
    assert_eq!((outage.since_us, outage.time_us), minutes(0, 2));
    assert_eq!(outage.error.0, "mqtt");
    assert!(outage.error.1.contains("CONNACK 3"), "{}", outage.error.1);

    let peer = fake.welcome().await;
    world.wait_for_state(State::Active).await;
    let [outage] = &outages(&world)[..] else { panic!("{:?}", outages(&world)) };
    assert_eq!((outage.as_str(), outage.attempts), ("back", 3));
    assert_eq!((outage.since_us, outage.time_us), minutes(0, 3));
    drop(peer);
    world.stop().await;
}

/// DESIGN section 4, invariant 5: no bytes of a broker panic the agent, and a good broker afterwards gets everything.
#[tokio::test(start_paused = true)]
async fn garbage_from_the_broker_does_no_harm() {
    for version in VERSIONS {
        let fake = Fake::listen().await;
        let world =
            World::start_here(fake.port(), &format!("{version}qos = 2\n"), &devices(&[1, 2, 3])).await;
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let connected = random.bool();
            let mut peer = if connected { fake.welcome().await } else { fake.accept().await };
            let kinds = [
                0x00, 0x10, 0x20, 0x32, 0x34, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xa2, 0xb0, 0xd0, 0xe0,
                0xff,
            ];
            for _ in 0..random.usize(1..6) {
                let len = random.u8(..8);
                let mut bytes = vec![kinds[random.usize(..kinds.len())], len];
                bytes.extend((0..len).map(|_| if random.bool() { random.u8(..4) } else { random.u8(..) }));
                peer.send(&bytes).await;
            }
        }
        // Garbage may spell an acknowledgement; a record that was not settled by one is delivered now.
        let mut peer = fake.welcome().await;
        while ours(&world.bench.view()).backlog > 0 {
            match tokio::time::timeout(PATIENCE, peer.read()).await {
                Ok(Packet::Publish { packet_id, .. }) => peer.pubrec(packet_id).await,
                Ok(Packet::PubRel(packet_id)) => peer.pubcomp(packet_id).await,
                Ok(Packet::Closed) => peer = fake.welcome().await,
                Ok(other) => panic!("{other:?}"),
                Err(_) => break,
            }
        }
        world.bench.wait_until_done().await;
        world.stop().await;
    }
}

/// S1: an oversize record is a dead letter and holds up nobody.
#[tokio::test(start_paused = true)]
async fn an_oversize_record_does_not_block_the_next() {
    let fake = Fake::listen().await;
    let largest = (256 * 1024 - "up/roof".len() - 9 - BODY_OVERHEAD) / 2;
    let backlog = [(1, 20), (1, largest + 1), (1, largest), (2, 20)];
    let world = World::start_here(fake.port(), "", &backlog).await;
    let mut peer = fake.welcome().await;
    for expected in [0, 2, 3] {
        let (packet_id, record) = peer.publishes(1).await[0];
        assert_eq!(record, expected);
        peer.puback(packet_id).await;
    }
    let account = world.bench.wait_until_done().await;
    assert_eq!((account.delivered, account.dead_letters), (3, 1));
    world.stop().await;
}

/// A password that ends is replaced in time: nothing is lost, and nobody is told that the gateway went away.
#[tokio::test(start_paused = true)]
async fn a_connection_ends_before_its_password_does() {
    const SAS: &str = "[integration.us.auth]\ntype = \"azure-sas\"\nkey = \"c2VjcmV0\"\ndevice = \"{{gateway.name}}\"\n\
                       ttl = \"5m\"\n";
    let fake = Fake::listen().await;
    let mut world = World::start_here(fake.port(), SAS, &devices(&[1])).await;
    for round in 0..3 {
        let (mut peer, identity) = fake.identified().await;
        let connected = Instant::now();
        assert_eq!(identity[..2], ["roof", "127.0.0.1/roof/?api-version=2021-04-12"]);
        let signature = "SharedAccessSignature sr=127.0.0.1%2Fdevices%2Froof&sig=";
        assert!(identity[2].starts_with(signature), "{identity:?}");
        let (packet_id, record) = peer.publishes(1).await[0];
        assert_eq!(record, round);
        peer.puback(packet_id).await;
        delivered(&world, u64::try_from(round).unwrap() + 1).await;
        assert_eq!(peer.read().await, Packet::Disconnect);
        let stayed = connected.elapsed().as_secs();
        assert!((235..245).contains(&stayed), "a fifth of the time is left, not {stayed} s");
        world.bench.append(To::Us, &devices(&[1])).await;
    }
    drop(fake.identified().await);
    world.stop().await;
}
