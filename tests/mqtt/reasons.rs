//! MQTT 5: what a broker says, and what becomes of it (RULES S1, S15, S18). In real time, but for what waits for a timer.

use std::time::Duration;

use packhorse::delivery::State;
use tokio::time::Instant;

use crate::bench::{devices, ours};
use crate::fake::{Fake, Packet};
use crate::world::{BODY_OVERHEAD, V5, World};

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBCOMP: u8 = 0x70;

fn error(world: &World) -> packhorse::delivery::LastError {
    world.seen.borrow().last_error.clone().unwrap()
}

/// CONNACK: what is the configuration's fault blocks, what passes is tried again; each is named, with what to check.
#[tokio::test]
async fn connack_reasons() {
    let keys = format!("{V5}username = \"gw\"\npassword = \"hunter2\"\n");
    for (code, state, words) in [
        (0x80, State::Degraded, "unspecified error"),
        (0x81, State::Blocked, "malformed packet"),
        (0x82, State::Blocked, "protocol error"),
        (0x83, State::Degraded, "implementation specific"),
        (0x84, State::Blocked, "set version = \"3.1.1\""),
        (0x85, State::Blocked, "check client_id"),
        (0x86, State::Blocked, "check username and password"),
        (0x87, State::Blocked, "not authorized"),
        (0x88, State::Degraded, "server unavailable"),
        (0x89, State::Degraded, "server busy"),
        (0x8a, State::Blocked, "banned"),
        (0x8c, State::Blocked, "bad authentication method"),
        (0x90, State::Blocked, "topic and payload of the will"),
        (0x95, State::Blocked, "packet too large"),
        (0x97, State::Degraded, "quota exceeded"),
        (0x99, State::Blocked, "topic and payload of the will"),
        (0x9a, State::Blocked, "retain = false"),
        (0x9b, State::Blocked, "qos of the will"),
        (0x9c, State::Degraded, "use another server"),
        (0x9d, State::Blocked, "server moved"),
        (0x9f, State::Degraded, "connection rate exceeded"),
        (0xee, State::Degraded, "unknown reason"),
    ] {
        let fake = Fake::listen().await;
        let mut world = World::start_here(fake.port(), &keys, &[]).await;
        let mut peer = fake.accept().await;
        assert_eq!(peer.read().await, Packet::Connect);
        peer.connack(code, &[]).await;
        world.wait_for_state(state).await;
        let error = error(&world);
        assert_eq!(error.layer.as_str(), "mqtt");
        assert!(error.message.contains(&format!("CONNACK 0x{code:02x}")), "{}", error.message);
        assert!(error.message.contains(words), "{}", error.message);
        assert!(!error.message.contains("hunter2"), "{}", error.message);
        world.stop().await;
    }
}

/// A broker of the older version answers in it, or hangs up: the message says what to set.
#[tokio::test]
async fn a_broker_that_speaks_the_older_version_is_recognised() {
    let fake = Fake::listen().await;
    let mut world = World::start_here(fake.port(), V5, &[]).await;
    let mut peer = fake.accept().await;
    assert_eq!(peer.read().await, Packet::Connect);
    peer.send(&[0x20, 2, 0, 1]).await;
    drop(peer);
    world.wait_for("it failed", |status| status.last_error.is_some()).await;
    assert!(error(&world).message.contains("set version = \"3.1.1\""), "{}", error(&world).message);
    world.stop().await;
}

/// PUBACK and PUBREC: 0x90 and 0x99 are the record's fault and make a dead letter of it alone.
#[tokio::test]
async fn a_refused_record_is_a_dead_letter_and_holds_up_nobody() {
    for (qos, kind) in [(1, PUBACK), (2, PUBREC)] {
        for code in [0x90, 0x99] {
            let fake = Fake::listen().await;
            let keys = format!("{V5}qos = {qos}\n");
            let world = World::start_here(fake.port(), &keys, &devices(&[1, 1, 2])).await;
            let mut peer = fake.welcome().await;
            let sent = peer.publishes(3).await;
            peer.answer(kind, sent[0].0, code, "no thanks").await;
            world.bench.wait_for(|view| ours(view).dead_letters == 1).await;
            let mut rest = sent[1..].to_vec();
            if qos == 2 {
                // The library leaks a place of its window by that answer, so the session begins anew (S18).
                assert_eq!(peer.read().await, Packet::Closed);
                peer = fake.welcome().await;
                rest = peer.publishes(1).await;
            }
            for record in [1, 2] {
                if rest.is_empty() {
                    rest = peer.publishes(1).await;
                }
                let (packet_id, got) = rest.remove(0);
                assert_eq!(got, record);
                if qos == 2 {
                    peer.pubrec(packet_id).await;
                    assert_eq!(peer.read().await, Packet::PubRel(packet_id));
                    peer.pubcomp(packet_id).await;
                } else {
                    peer.puback(packet_id).await;
                }
            }
            let account = world.bench.wait_until_done().await;
            assert_eq!((account.delivered, account.dead_letters), (2, 1), "QoS {qos}, {code:#x}");
            world.stop().await;
        }
    }
}

/// S15: any other refusal ends the connection, so that nothing overtakes the record; nothing is given up for it.
#[tokio::test]
async fn any_other_refusal_ends_the_session_and_gives_nothing_up() {
    for (qos, kind, code, state) in [
        (1, PUBACK, 0x80, State::Degraded),
        (1, PUBACK, 0x83, State::Degraded),
        (1, PUBACK, 0x87, State::Blocked),
        (1, PUBACK, 0x91, State::Degraded),
        (1, PUBACK, 0x97, State::Degraded),
        (2, PUBREC, 0x80, State::Degraded),
        (2, PUBREC, 0x87, State::Blocked),
        (2, PUBREC, 0x97, State::Degraded),
        (2, PUBCOMP, 0x92, State::Degraded),
    ] {
        let fake = Fake::listen().await;
        let keys = format!("{V5}qos = {qos}\n");
        let mut world = World::start_here(fake.port(), &keys, &devices(&[1, 1])).await;
        let mut peer = fake.welcome().await;
        let sent = peer.publishes(2).await;
        if kind == PUBCOMP {
            peer.pubrec(sent[0].0).await;
            assert_eq!(peer.read().await, Packet::PubRel(sent[0].0));
        }
        peer.answer(kind, sent[0].0, code, "come\x1b back").await;
        assert_eq!(peer.read().await, Packet::Closed, "{code:#x}");
        world.wait_for_state(state).await;
        let message = error(&world).message;
        assert!(message.contains(&format!("0x{code:02x}")), "{message}");
        assert!(message.contains("come") && !message.contains('\x1b'), "{message}");
        world.bench.link_up.signal();
        let mut peer = fake.welcome().await;
        assert_eq!(peer.publishes(1).await[0].1, 0, "the same one first, alone");
        let account = ours(&world.bench.view()).clone();
        assert_eq!((account.backlog, account.dead_letters), (2, 0), "{code:#x}");
        drop(peer);
        world.stop().await;
    }
}

/// No subscriber is no refusal.
#[tokio::test]
async fn no_matching_subscribers_is_a_receipt() {
    for (qos, kind) in [(1, PUBACK), (2, PUBREC)] {
        let fake = Fake::listen().await;
        let world = World::start_here(fake.port(), &format!("{V5}qos = {qos}\n"), &devices(&[1])).await;
        let mut peer = fake.welcome().await;
        let packet_id = peer.publishes(1).await[0].0;
        peer.answer(kind, packet_id, 0x10, "").await;
        if qos == 2 {
            assert_eq!(peer.read().await, Packet::PubRel(packet_id));
            peer.answer(PUBCOMP, packet_id, 0x00, "").await;
        }
        assert_eq!(world.bench.wait_until_done().await.delivered, 1);
        world.stop().await;
    }
}

/// A DISCONNECT names its reason; some of them say that we are not wanted.
#[tokio::test]
async fn the_reason_of_a_disconnect_is_named() {
    for (code, state, words) in [
        (0x87, State::Blocked, "not authorized"),
        (0x89, State::Degraded, "server busy"),
        (0x8b, State::Degraded, "server shutting down"),
        (0x8e, State::Degraded, "client id"),
        (0x98, State::Degraded, "administrative action"),
        (0x9d, State::Blocked, "server moved"),
    ] {
        let fake = Fake::listen().await;
        let mut world = World::start_here(fake.port(), V5, &devices(&[1])).await;
        let mut peer = fake.welcome().await;
        peer.publishes(1).await;
        peer.send(&[0xe0, 2, code, 0]).await;
        world.wait_for_state(state).await;
        let message = error(&world).message;
        assert!(message.contains(words), "{message}");
        drop(peer);
        world.stop().await;
    }
}

/// What is about the sending goes along as user properties; the body is the same on every attempt.
#[tokio::test]
async fn properties_say_what_is_about_the_sending() {
    let fake = Fake::listen().await;
    let world = World::start_here(fake.port(), V5, &devices(&[1])).await;
    for (attempt, hold_ms) in [("1", "0"), ("2", "1500")] {
        let mut peer = fake.welcome().await;
        let packet_id = peer.publishes(1).await[0].0;
        let own =
            |name: &str| peer.properties.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        assert_eq!(own("id"), Some("00000000-0000-0000-0000-000000000000"));
        assert_eq!((own("attempt"), own("hold_ms")), (Some(attempt), Some(hold_ms)));
        assert_eq!(own("content-type"), Some("application/json"));
        assert_eq!(peer.properties.len(), 4);
        world.bench.clock.advance(Duration::from_millis(1_500));
        if attempt == "2" {
            peer.puback(packet_id).await;
        }
    }
    world.bench.wait_until_done().await;
    world.stop().await;
}

/// Maximum packet size: what is larger is a dead letter without having been sent; what just fits is sent.
#[tokio::test]
async fn what_is_too_large_for_this_broker_is_never_sent() {
    let fake = Fake::listen().await;
    // Fixed header 3, topic 9, packet id 2, and the properties: length 1, content type 19, id 43, attempt 13, hold_ms 13.
    let overhead = 3 + 9 + 2 + 1 + 19 + 43 + 13 + 13 + BODY_OVERHEAD;
    let max = overhead + 2 * 50;
    let backlog = [(1, 50), (1, 51), (2, 20)];
    let world = World::start_here(fake.port(), V5, &backlog).await;
    let [high, low] = u16::try_from(max).unwrap().to_be_bytes();
    let mut peer = fake.welcome_with(&[0x27, 0, 0, high, low]).await;
    for record in [0, 2] {
        let (packet_id, got) = peer.publishes(1).await[0];
        assert_eq!(got, record);
        if record == 0 {
            assert_eq!(peer.size, max);
        }
        peer.puback(packet_id).await;
    }
    let account = world.bench.wait_until_done().await;
    assert_eq!((account.delivered, account.dead_letters), (2, 1));
    world.stop().await;
}

/// Receive maximum: no more publishes wait for their answers than the broker allows.
#[tokio::test]
async fn receive_maximum_is_the_window() {
    let fake = Fake::listen().await;
    let mut world = World::start_here(fake.port(), V5, &devices(&[1, 2, 3, 4, 5])).await;
    let mut peer = fake.welcome_with(&[0x21, 0, 2]).await;
    for round in [2, 2, 1] {
        let sent = peer.publishes(round).await;
        world.wait_for("as many are under way as may be", |status| status.in_flight == round).await;
        for (packet_id, _) in sent {
            peer.puback(packet_id).await;
        }
    }
    world.bench.wait_until_done().await;
    world.stop().await;
}

/// A broker that allows none breaks the protocol, and one that acknowledges nothing can't be used: neither gets a record.
#[tokio::test]
async fn impossible_terms_are_refused() {
    for (keys, properties, state, words) in [
        ("", &[0x21, 0, 0][..], State::Degraded, "no publish at all"),
        ("", &[0x24, 0], State::Blocked, "set qos = 0"),
        ("retain = true\n", &[0x25, 0], State::Blocked, "set retain = false"),
    ] {
        let fake = Fake::listen().await;
        let mut world = World::start_here(fake.port(), &format!("{V5}{keys}"), &devices(&[1])).await;
        let mut peer = fake.welcome_with(properties).await;
        assert_eq!(peer.read().await, Packet::Closed);
        world.wait_for_state(state).await;
        assert!(error(&world).message.contains(words), "{}", error(&world).message);
        world.stop().await;
    }
}

/// A broker whose highest QoS is 1 gets QoS 1 from an integration with QoS 2: as good, across connections (S18).
#[tokio::test]
async fn qos_2_becomes_1_where_the_broker_has_no_2() {
    let fake = Fake::listen().await;
    let keys = format!(
        "{V5}qos = 2\n[integration.us.birth]\ntopic = \"state\"\npayload = '{{\"id\":\"{}\"}}'\nqos = 2\n",
        uuid::Uuid::nil()
    );
    let world = World::start_here(fake.port(), &keys, &devices(&[1])).await;
    let mut peer = fake.welcome_with(&[0x24, 1, 0x25, 0]).await;
    for _ in 0..2 {
        match peer.read().await {
            Packet::Publish { qos: 1, packet_id, .. } => peer.puback(packet_id).await,
            other => panic!("{other:?}"),
        }
    }
    world.bench.wait_until_done().await;
    world.stop().await;
}

/// A keep-alive that the broker sets is kept, in both directions; 0 does not make us ping without end.
#[tokio::test(start_paused = true)]
async fn the_keep_alive_of_the_broker_is_kept() {
    for (seconds, ours_is, expected) in [(200, "10s", 200), (0, "50s", 50)] {
        let fake = Fake::listen().await;
        let keys = format!("{V5}keep_alive = \"{ours_is}\"\n");
        let world = World::start_here(fake.port(), &keys, &[]).await;
        let mut peer = fake.welcome_with(&[0x13, 0, seconds]).await;
        if seconds == 0 {
            peer.ping().await;
        }
        let start = Instant::now();
        peer.ping().await;
        let waited = start.elapsed();
        let expected = Duration::from_secs(expected);
        assert!(waited.abs_diff(expected) < Duration::from_secs(2), "{waited:?}");
        world.stop().await;
    }
}
