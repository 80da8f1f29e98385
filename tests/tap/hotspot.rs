//! The tap in front of a Helium hotspot.
//!
//! [`GatewayRs`] answers as helium gateway-rs does, as its source has it:
//!
//! - helium/semtech-udp, `src/server_runtime/mod.rs`: PULL_DATA makes or moves a client (`NewClient`, `UpdateClient`) by its
//!   EUI and is acknowledged; PUSH_DATA is acknowledged after its JSON was parsed and its elements were queued, and not at all
//!   if it was not. A downlink goes to the address of its client, under a random token; a TX_ACK is looked up by token alone,
//!   taken once, and unknown ones are ignored. A client that has not sent a PULL_DATA for 60 s is forgotten. An error of a send
//!   forgets it at once (`FailedSend`).
//! - helium/semtech-udp, `src/packet/parser.rs`: version 2 alone; EUI and JSON must be there; a NUL at the end of a TX_ACK is
//!   taken off (`null_terminate` in `src/packet/tx_ack.rs`); no JSON means good.
//! - helium/gateway-rs, `src/gateway.rs`: downlinks and beacons go to the EUI of the last `NewClient`; a TX_ACK is waited for
//!   for 5 s (`DOWNLINK_TIMEOUT`); TOO_EARLY and TOO_LATE are answered by another downlink, with a token of its own, for the
//!   second window.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{
    Forwarder, PULL_ACK, PULL_DATA, PULL_RESP, PUSH_ACK, PUSH_DATA, Server, TX_ACK, World, forward_to,
    receive, tap, uplink,
};

/// See the [module](self). Driven by the test, one datagram at a time.
struct GatewayRs {
    server: Server,
    clients: HashMap<[u8; 8], SocketAddr>,
    downlink_mac: [u8; 8],
    random: fastrand::Rng,
}

#[derive(Debug, PartialEq)]
enum Event {
    NewClient([u8; 8]),
    UpdateClient([u8; 8]),
    SameClient,
    Received { uplinks: usize, has_stat: bool },
    UnableToParse,
    Acked { token: [u8; 2], error: Option<String> },
}

impl GatewayRs {
    fn at(server: Server) -> GatewayRs {
        // DOWNLINK_TIMEOUT: gateway-rs gives a downlink up then.
        server.0.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        GatewayRs {
            server,
            clients: HashMap::new(),
            downlink_mac: [0; 8],
            random: fastrand::Rng::with_seed(7),
        }
    }

    /// Takes the next datagram.
    fn next(&mut self) -> Event {
        let (bytes, from) = receive(&self.server.0);
        self.take(&bytes, from).unwrap_or(Event::UnableToParse)
    }

    fn take(&mut self, bytes: &[u8], from: SocketAddr) -> Option<Event> {
        let (&[version, high, low, identifier], rest) = bytes.split_first_chunk()?;
        let (mac, json) = rest.split_first_chunk::<8>()?;
        if version != 2 {
            return None;
        }
        let ack = |identifier| self.server.send(&[2, high, low, identifier], from);
        Some(match identifier {
            PUSH_DATA => {
                let data: Value = serde_json::from_slice(json).ok()?;
                let uplinks = data.get("rxpk").and_then(Value::as_array).map_or(0, Vec::len);
                ack(PUSH_ACK);
                Event::Received { uplinks, has_stat: data.get("stat").is_some() }
            }
            PULL_DATA => {
                ack(PULL_ACK);
                match self.clients.insert(*mac, from) {
                    Some(before) if before == from => Event::SameClient,
                    Some(_) => Event::UpdateClient(*mac),
                    None => {
                        self.downlink_mac = *mac;
                        Event::NewClient(*mac)
                    }
                }
            }
            TX_ACK => {
                let json = json.strip_suffix(b"\0").unwrap_or(json);
                let error = match json {
                    b"" => None,
                    json => serde_json::from_slice::<Value>(json).ok()?["txpk_ack"]["error"]
                        .as_str()
                        .filter(|error| *error != "NONE")
                        .map(str::to_owned),
                };
                Event::Acked { token: [high, low], error }
            }
            _ => return None,
        })
    }

    /// Sends a downlink to the last new client; its token.
    fn dispatch(&mut self, window: &str) -> [u8; 2] {
        let token: [u8; 2] = self.random.u16(..).to_be_bytes();
        let json = json!({ "txpk": { "imme": false, "tmst": 5_000, "freq": 868.1, "rfch": 0, "powe": 14, "modu": "LORA",
            "datr": window, "codr": "4/5", "ipol": true, "size": 3, "data": "AQID" } });
        let datagram = [&[2], &token[..], &[PULL_RESP], json.to_string().as_bytes()].concat();
        self.server.send(&datagram, self.clients[&self.downlink_mac]);
        token
    }
}

/// What a hotspot does all day: a stat, an uplink, the answer that is too late for the first window and goes out in the second.
#[test]
fn a_hotspot_hears_and_answers_as_if_it_stood_beside_the_forwarder() {
    let world = World::new();
    let mut hotspot = GatewayRs::at(Server::new());
    let mut agent = world.start(&forward_to(&[hotspot.server.address()]));
    let mut forwarder = world.forwarder(0xa1);

    forwarder.pull();
    assert_eq!(hotspot.next(), Event::NewClient([0xa1; 8]));
    forwarder.pull();
    assert_eq!(hotspot.next(), Event::SameClient);
    forwarder.push(br#"{"stat":{"time":"2026-11-23 20:21:00 GMT","rxnb":0,"rxok":0,"rxfw":0,"ackr":0.0,"dwnb":0,"txnb":0}}"#);
    assert_eq!(hotspot.next(), Event::Received { uplinks: 0, has_stat: true });
    forwarder.push(uplink(1).as_bytes());
    assert_eq!(hotspot.next(), Event::Received { uplinks: 1, has_stat: false });

    let rx1 = hotspot.dispatch("SF7BW125");
    let downlink = forwarder.downlink();
    assert_eq!(downlink[1..3], rx1);
    forwarder.tx_ack(&downlink, br#"{"txpk_ack":{"error":"TOO_LATE"}}"#);
    assert_eq!(hotspot.next(), Event::Acked { token: rx1, error: Some("TOO_LATE".into()) });
    let rx2 = hotspot.dispatch("SF12BW125");
    assert_ne!(rx1, rx2);
    // A Kerlink's TX_ACK is a NUL after the header.
    forwarder.tx_ack(&forwarder.downlink(), b"\0");
    assert_eq!(hotspot.next(), Event::Acked { token: rx2, error: None });

    let status = agent.wait_until("all is counted", |status| tap(status, 0)["forwarded"] == 6);
    assert_eq!((&tap(&status, 0)["acks"], &tap(&status, 0)["downlinks"]), (&json!(4), &json!(2)));
    assert_eq!((&tap(&status, 0)["state"], &tap(&status, 0)["dropped"]), (&json!("answers"), &json!({})));
}

/// It knows nobody after a restart, until the forwarder's next PULL_DATA; its own socket may be gone for a while.
#[test]
fn a_hotspot_that_restarts_finds_its_forwarder_again() {
    let world = World::new();
    let mut hotspot = GatewayRs::at(Server::new());
    let address = hotspot.server.address();
    let mut agent = world.start(&forward_to(&[address]));
    let mut forwarder = world.forwarder(0xa1);
    forwarder.pull();
    assert_eq!(hotspot.next(), Event::NewClient([0xa1; 8]));
    drop(hotspot);
    forwarder.push(uplink(1).as_bytes());
    forwarder.pull();
    agent.wait_until("both went nowhere", |status| tap(status, 0)["forwarded"] == 3);

    let mut hotspot = GatewayRs::at(Server::at(address));
    forwarder.push(uplink(2).as_bytes());
    assert_eq!(hotspot.next(), Event::Received { uplinks: 1, has_stat: false });
    forwarder.pull();
    assert_eq!(hotspot.next(), Event::NewClient([0xa1; 8]));
    let token = hotspot.dispatch("SF7BW125");
    let downlink = forwarder.downlink();
    forwarder.tx_ack(&downlink, b"");
    assert_eq!(hotspot.next(), Event::Acked { token, error: None });
}

/// A forwarder of version 1, and JSON that gateway-rs does not read: it acknowledges neither, and we do both.
#[test]
fn what_a_hotspot_does_not_read_is_acknowledged_by_us_all_the_same() {
    let world = World::new();
    let mut hotspot = GatewayRs::at(Server::new());
    let mut agent = world.start(&forward_to(&[hotspot.server.address()]));
    let mut forwarder = world.forwarder(0xa1);
    let old = forwarder.datagram(1, PUSH_DATA, uplink(1).as_bytes());
    forwarder.send_up(old);
    assert_eq!(hotspot.next(), Event::UnableToParse);
    forwarder.push(b"{\"rxpk\":[{]}");
    assert_eq!(hotspot.next(), Event::UnableToParse);
    forwarder.push(uplink(2).as_bytes());
    assert_eq!(hotspot.next(), Event::Received { uplinks: 1, has_stat: false });
    let status = agent.wait_until("its only ACK has come", |status| tap(status, 0)["acks"] == 1);
    assert_eq!(tap(&status, 0)["forwarded"], 3);
}

/// Two concentrators behind one agent: gateway-rs sends downlinks to the one that it met last, and the tap takes them there.
#[test]
fn two_concentrators_are_two_clients() {
    let world = World::new();
    let mut hotspot = GatewayRs::at(Server::new());
    let _agent = world.start(&forward_to(&[hotspot.server.address()]));
    let mut forwarders: [Forwarder; 2] = [world.forwarder(0xa1), world.forwarder(0xb2)];
    for forwarder in &mut forwarders {
        forwarder.pull();
        assert_eq!(hotspot.next(), Event::NewClient(forwarder.eui));
    }
    // The other one's ports change; for gateway-rs nothing does.
    let mut moved = world.forwarder(0xa1);
    moved.pull();
    assert_eq!(hotspot.next(), Event::SameClient);
    let token = hotspot.dispatch("SF7BW125");
    let downlink = forwarders[1].downlink();
    forwarders[1].tx_ack(&downlink, b"");
    assert_eq!(hotspot.next(), Event::Acked { token, error: None });
}
