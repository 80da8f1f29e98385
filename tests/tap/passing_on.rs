//! What goes up: everything, to every server, whatever we or the other servers make of it.

use std::process::Command;

use serde_json::json;

use crate::support::{PATIENCE, free_udp_port};
use crate::world::{Forwarder, PULL_DATA, PUSH_DATA, Server, World, forward_to, tap, uplink};

/// All that a forwarder may send, in both versions: what we take in, what we refuse, and what we can't even read.
fn all_sorts(forwarder: &mut Forwarder) -> Vec<Vec<u8>> {
    let good = [uplink(1), uplink(5)];
    let crc_bad = uplink(2).replace("\"stat\":1", "\"stat\":-1");
    let both = format!(r#"{{"stat":{{"rxnb":1}},{}"#, &uplink(3)[1..]);
    let long = format!("{}{}", uplink(4), " ".repeat(60_000));
    let jsons: [&[u8]; 13] = [
        good[0].as_bytes(),
        crc_bad.as_bytes(),
        br#"{"stat":{"time":"2026-11-23 20:21:00 GMT","rxnb":2,"rxok":2,"rxfw":2,"ackr":100.0,"dwnb":0,"txnb":0}}"#,
        both.as_bytes(),
        long.as_bytes(),
        br#"{"something":{"nobody":["knows"]}}"#,
        br#"{"rxpk":[{"data":"QA"#,
        br#"{"rxpk":[{"modu":"FSK","datr":50000,"data":"====" }]}"#,
        b"{}\0",
        b"",
        b"\xff\xfe not JSON",
        b"[[[[[[[[",
        good[1].as_bytes(),
    ];
    let mut datagrams: Vec<Vec<u8>> =
        jsons.iter().map(|json| forwarder.datagram(2, PUSH_DATA, json)).collect();
    datagrams.push(forwarder.datagram(1, PUSH_DATA, uplink(6).as_bytes()));
    datagrams
}

/// The rule as a whole: byte for byte, to each of two servers, while `accept` takes in nothing and `rate_limit` next to nothing.
/// The forwarder hears one ACK for each, ours; those of the servers end here.
#[test]
fn everything_is_passed_on_as_it_came_and_acknowledged_once() {
    let (world, servers) = (World::new(), [Server::new(), Server::new()]);
    let to = forward_to(&servers.each_ref().map(Server::address));
    let mut agent = world.start(&format!("rate_limit = 1\naccept = [\"known\"]\n{to}"));
    let mut forwarder = world.forwarder(0xa1);
    let all = all_sorts(&mut forwarder);
    for datagram in &all {
        forwarder.send_up(datagram.clone());
        let [first, second] = servers.each_ref().map(|server| server.acknowledges(datagram));
        assert_ne!(first, second);
    }
    for version in [2, 1] {
        let pull = forwarder.datagram(version, PULL_DATA, b"\0");
        forwarder.send_pull(pull.clone());
        for server in &servers {
            server.acknowledges(&pull);
        }
    }
    let sent = all.len() as u64 + 2;
    let is_acked = |tap: &serde_json::Value| tap["acks"] == sent;
    let status = agent.wait_until("both have acknowledged all", |status| {
        is_acked(tap(status, 0)) && is_acked(tap(status, 1))
    });
    for (at, server) in servers.iter().enumerate() {
        let tap = tap(&status, at);
        assert_eq!(
            (&tap["source"], &tap["server"], &tap["state"]),
            (&json!("s"), &json!(server.address().to_string()), &json!("answers"))
        );
        assert_eq!((&tap["forwarded"], &tap["downlinks"]), (&json!(sent), &json!(0)));
        assert_eq!((&tap["dropped"], &tap["trouble"]), (&json!({}), &json!(null)), "{tap}");
        assert!(tap["last_ack_s"].is_u64(), "{tap}");
    }
    assert!(status["dropped"]["rate-limited"].as_u64() > Some(0), "{}", status["dropped"]);
    forwarder.has_heard_no_more();
    assert_eq!(world.arrivals.tally().unique, 0, "nothing was accepted");
}

/// A server that is away, one that never says a word, and one that is there: the forwarder is acknowledged, uplinks are
/// delivered, and the one that is there hears all. The one that was away comes back by itself.
#[test]
fn servers_that_are_away_disturb_nobody_and_come_back() {
    let (world, there, mute) = (World::new(), Server::new(), Server::new());
    let away = std::net::SocketAddr::from(([127, 0, 0, 1], free_udp_port()));
    let to = forward_to(&[away, mute.address(), there.address()]);
    let nowhere = to.replace(']', ", \"no-such-host.invalid:1700\"]");
    let mut agent = world.start(&nowhere);
    let mut forwarder = world.forwarder(0xa1);
    for n in 1..=20 {
        let sent = forwarder.push(uplink(n).as_bytes());
        there.acknowledges(&sent);
        mute.hears(&sent);
    }
    assert!(world.arrivals.wait_for_unique(20, PATIENCE), "{}", agent.log());
    let status = agent.wait_until("it is known who is away", |status| {
        tap(status, 0)["dropped"]["refused"].as_u64() > Some(0)
    });
    assert_eq!((&tap(&status, 0)["state"], &tap(&status, 0)["acks"]), (&json!("waiting"), &json!(0)));
    assert_eq!(tap(&status, 0)["trouble"]["reason"], "refused");
    assert_eq!((&tap(&status, 1)["state"], &tap(&status, 1)["trouble"]), (&json!("waiting"), &json!(null)));
    assert_eq!(tap(&status, 2)["state"], "answers");
    assert_eq!(
        (&tap(&status, 3)["trouble"]["reason"], &tap(&status, 3)["dropped"]["unresolved"]),
        (&json!("unresolved"), &json!(20))
    );

    let back = Server::at(away);
    let pull = forwarder.pull();
    let link = back.acknowledges(&pull);
    let downlink = back.sends_down([1, 2], "869.525", link);
    assert_eq!(forwarder.downlink(), downlink);
    let ack = forwarder.tx_ack(&downlink, b"");
    back.hears(&ack);
    let status = agent.wait_until("it answers", |status| tap(status, 0)["state"] == "answers");
    assert_eq!(tap(&status, 0)["trouble"], json!(null));
    assert!(agent.log().contains(&format!("forward_to {away} answers")), "{}", agent.log());
}

/// What an operator sees over SSH, and monitoring over HTTP.
#[test]
fn an_operator_sees_whether_each_server_answers() {
    let (world, server) = (World::new(), Server::new());
    let away = std::net::SocketAddr::from(([127, 0, 0, 1], free_udp_port()));
    let mut agent = world.start(&forward_to(&[server.address(), away]));
    let mut forwarder = world.forwarder(0xa1);
    for _ in 0..2 {
        let pull = forwarder.pull();
        server.acknowledges(&pull);
    }
    agent.wait_until("both are known", |status| {
        tap(status, 0)["acks"] == 2 && tap(status, 1)["trouble"]["reason"] == "refused"
    });
    let run = |command: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_packhorse"))
            .args([command, "--config"])
            .arg(world.folder.path().join("packhorse.toml"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let status = run("status");
    let up = format!("tap {} answers, ACK ", server.address());
    assert!(status.contains(&up) && status.contains("ago: 2 up, 0 down"), "{status}");
    let down =
        format!("tap {away} waiting, no ACK yet: 2 up, 0 down\n  refused: nothing listens on that port");
    assert!(status.contains(&down), "{status}");
    let doctor = run("doctor");
    assert!(doctor.contains(&format!("ok    tap {} answers", server.address())), "{doctor}");
    assert!(doctor.contains(&format!("bad   tap {away} waiting, no ACK yet; refused")), "{doctor}");

    let metrics = metrics(&world);
    for line in [
        format!("packhorse_tap_forwarded_total{{source=\"s\",server=\"{}\"}} 2", server.address()),
        format!("packhorse_tap_acks_total{{source=\"s\",server=\"{}\"}} 2", server.address()),
        format!("packhorse_tap_answers{{source=\"s\",server=\"{}\"}} 1", server.address()),
        format!("packhorse_tap_answers{{source=\"s\",server=\"{away}\"}} 0"),
        format!("packhorse_tap_dropped_total{{source=\"s\",server=\"{away}\",reason=\"flood\"}} 0"),
    ] {
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
}

fn metrics(world: &World) -> String {
    use std::io::{Read, Write};
    let mut stream =
        std::os::unix::net::UnixStream::connect(world.folder.path().join("control.sock")).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
