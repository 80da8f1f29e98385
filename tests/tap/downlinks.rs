//! What comes down, and whose it was.

use serde_json::json;

use crate::world::{Server, World, forward_to, tap};

/// Two forwarders behind one agent: the server tells them apart by port, and each downlink reaches its own.
#[test]
fn downlinks_reach_the_forwarder_that_they_are_for() {
    let (world, server) = (World::new(), Server::new());
    let mut agent = world.start(&forward_to(&[server.address()]));
    let mut forwarders = [world.forwarder(0xa1), world.forwarder(0xb2)];
    let links = forwarders.each_mut().map(|forwarder| server.acknowledges(&forwarder.pull()));
    assert_ne!(links[0], links[1]);
    // Uplinks leave by the same port, or the server would send downlinks nowhere.
    for (forwarder, link) in forwarders.iter_mut().zip(links) {
        assert_eq!(server.acknowledges(&forwarder.push(b"{}")), link);
    }
    // The same token for both: it is one forwarder's alone.
    for (forwarder, link) in forwarders.iter().zip(links).rev() {
        let downlink = server.sends_down([7, 7], "868.1", link);
        assert_eq!(forwarder.downlink(), downlink);
    }
    for (forwarder, link) in forwarders.iter().zip(links) {
        let ack = forwarder.tx_ack(&[2, 7, 7], br#"{"txpk_ack":{"error":"NONE"}}"#);
        assert_eq!(server.hears(&ack), link);
    }

    // A forwarder that was restarted has other ports. The server need not know.
    let mut restarted = world.forwarder(0xa1);
    assert_eq!(server.acknowledges(&restarted.pull()), links[0]);
    let downlink = server.sends_down([7, 9], "868.3", links[0]);
    assert_eq!(restarted.downlink(), downlink);
    let status = agent.wait_until("all is counted", |status| tap(status, 0)["downlinks"] == 3);
    assert_eq!(tap(&status, 0)["dropped"], json!({}));
    forwarders.iter().for_each(crate::world::Forwarder::has_heard_no_more);
}

/// Two servers that know nothing of each other choose the same token. The forwarder sees two, each server its own.
#[test]
fn tokens_that_collide_are_told_apart() {
    let (world, servers) = (World::new(), [Server::new(), Server::new()]);
    let mut agent = world.start(&forward_to(&servers.each_ref().map(Server::address)));
    let mut forwarder = world.forwarder(0xa1);
    let pull = forwarder.pull();
    let links = servers.each_ref().map(|server| server.acknowledges(&pull));
    let first = servers[0].sends_down([0xca, 0xfe], "868.1", links[0]);
    let first_seen = forwarder.downlink();
    let second = servers[1].sends_down([0xca, 0xfe], "868.3", links[1]);
    let second_seen = forwarder.downlink();
    assert_eq!(first_seen, first, "the first is as it came");
    assert_ne!(second_seen[1..3], second[1..3]);
    assert_eq!((second_seen[0], &second_seen[3..]), (second[0], &second[3..]), "nothing but the token");

    let late = br#"{"txpk_ack":{"error":"TOO_LATE"}}"#;
    let ack = forwarder.tx_ack(&second_seen, late);
    servers[1].hears(&[&[2, 0xca, 0xfe][..], &ack[3..]].concat());
    let ack = forwarder.tx_ack(&first_seen, b"\0");
    servers[0].hears(&ack);

    // For no downlink at all: nobody's.
    forwarder.tx_ack(&[2, 0, 0], b"");
    let status = agent
        .wait_until("it is counted", |status| !tap(status, 1)["dropped"].as_object().unwrap().is_empty());
    for at in 0..2 {
        assert_eq!(tap(&status, at)["dropped"], json!({ "unknown-token": 1 }));
        assert_eq!((&tap(&status, at)["forwarded"], &tap(&status, at)["downlinks"]), (&json!(2), &json!(1)));
    }
}

/// What was under way is forgotten with the agent; what comes next is not.
#[test]
fn a_restart_of_the_agent_costs_what_it_takes_and_no_more() {
    let (world, server) = (World::new(), Server::new());
    let keys = forward_to(&[server.address()]);
    let mut forwarder = world.forwarder(0xa1);
    let mut links = Vec::new();
    for _ in 0..2 {
        let agent = world.start(&keys);
        links.push(server.acknowledges(&forwarder.pull()));
        let downlink = server.sends_down([1, 1], "868.1", *links.last().unwrap());
        assert_eq!(forwarder.downlink(), downlink);
        assert!(agent.terminate().success());
    }
    assert_ne!(links[0], links[1], "the server sees a forwarder with another port");
}
