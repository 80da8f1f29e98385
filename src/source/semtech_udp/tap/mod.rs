//! The tap: everything that forwarders send goes on to other servers too, and their downlinks come back (`forward_to`, RULES
//! S25).
//!
//! Packhorse stands between a packet forwarder and servers that speak to forwarders themselves (helium gateway-rs, the
//! ChirpStack Gateway Bridge, any network server with a Semtech UDP port). Each of them sees what it would see of the
//! forwarder itself.
//!
//! ```text
//!  packet forwarder          listener thread                         each server
//!        |--- PUSH_DATA ----------->|--- the same, by the link of its EUI ->|
//!        |<-- PUSH_ACK (ours) ------|<-- PUSH_ACK, consumed ----------------|
//!        |--- PULL_DATA ----------->|--- the same -------------------------->|
//!        |<-- PULL_ACK (ours) ------|<-- PULL_ACK, consumed ----------------|
//!        |                          |                                       |
//!        |<-- PULL_RESP ------------|<-- PULL_RESP --------- one of them ---|
//!        |--- TX_ACK -------------->|--- TX_ACK ---------- to that one ---->|
//! ```
//!
//! # What is passed on
//!
//! Every datagram of an allowed sender with a header of the protocol, version 1 or 2, whatever stands behind it: frames whose
//! checksum failed, `stat`, JSON that we can't read. `accept` and `rate_limit` say what *we* take in and have no say here. A
//! PULL_RESP goes to where the last PULL_DATA of its gateway came from; a TX_ACK goes to the one server whose downlink it is
//! about.
//!
//! *Unchanged* means: byte for byte, with one exception. If two servers choose the same token for downlinks to one forwarder
//! within a minute, the later one reaches the forwarder under another, and its TX_ACK the server under its own again (see
//! [`tokens`]). Neither end can tell. Version 1 has no TX_ACK, and nothing is ever changed in it.
//!
//! # Invariants
//!
//! - The forwarder is acknowledged before anything is passed on, whatever the servers do.
//! - The thread waits for none of them: a datagram is given to the kernel or dropped, counted by server and reason. Nothing is
//!   kept for later: a downlink is due within a second or two, and what is to outlive an outage is the spool's.
//! - A server that is away, refuses, or has no address (yet) changes nothing for the others or for us, and comes back by itself
//!   (see [`server`]). Names are looked up on other threads (see [`addresses`]).
//! - Everything is bounded: servers ([`SERVERS`]), gateways (see [`gateways`]) and so sockets, tokens, and datagrams a second
//!   and gateway, each way. The last is what ends a circle that two agents make by pointing at each other; it is far above what
//!   any radio can hear or send.
//!
//! # Refused
//!
//! What was no datagram of a forwarder at the door is none here. From a server: what is neither an acknowledgement nor a
//! PULL_RESP. A server that turns out to be this source (`check` finds what it can, the kernel knows the rest).

mod addresses;
mod gateways;
mod link;
mod server;
#[cfg(test)]
mod tests;
mod tokens;

use std::borrow::Cow;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use super::codec::{Datagram, Message};
use super::readiness::{LinkKey, Readiness};
use crate::metrics::{TapCounters, TapDrop};
use gateways::{FLOOD, Gateway, Gateways};
use server::{Parcel, Received, Server};
use tokens::Owner;

/// How many servers a source passes its datagrams on to at most.
pub(super) const SERVERS: usize = 4;

/// How many datagrams of a server are taken before others that wait get their turn.
const IN_A_ROW: usize = 16;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Tap {
    servers: Vec<Server>,
    gateways: Gateways,
}

impl Tap {
    /// To the servers that `counters` are of, in that order. `door` is where forwarders send to.
    pub(super) fn new(counters: Vec<Arc<TapCounters>>, door: SocketAddr, now_ns: u64) -> Tap {
        let servers = counters.into_iter().map(|counters| Server::new(counters, door, now_ns)).collect();
        Tap { servers, gateways: Gateways::default() }
    }

    /// Passes on what a forwarder sent from `from`: `bytes`, which `datagram` was read from.
    pub(super) fn up(
        &mut self,
        bytes: &[u8],
        datagram: &Datagram<'_>,
        from: SocketAddr,
        now_ns: u64,
        readiness: &Readiness,
    ) {
        if self.servers.is_empty() {
            return;
        }
        let parcel = Parcel { bytes, is_answered: true, now_ns, readiness };
        let eui = match datagram.message {
            Message::PushData { gateway, .. } | Message::PullData { gateway } => gateway,
            Message::TxAck { gateway } => {
                let found = self.gateways.owner(gateway, from, datagram.token(), now_ns);
                return self.tx_ack(found, Parcel { is_answered: false, ..parcel });
            }
        };
        let place = self.gateways.place_of(eui, self.servers.len(), now_ns);
        let Some((place, gateway)) = place.and_then(|place| Some((place, self.gateways.at(place)?))) else {
            return self.drop(TapDrop::TooManyGateways);
        };
        if matches!(datagram.message, Message::PullData { .. }) {
            gateway.pulls_from = Some(from);
        }
        if !gateway.up.admits(FLOOD, now_ns) {
            return self.drop(TapDrop::Flood);
        }
        for (at, (server, link)) in (0..).zip(self.servers.iter_mut().zip(&mut gateway.links)) {
            server.send(link, LinkKey { gateway: place, server: at }, parcel);
        }
    }

    fn tx_ack(&mut self, found: Option<(u16, Owner)>, parcel: Parcel<'_>) {
        let Some((place, Owner { server: at, token })) = found else {
            return self.drop(TapDrop::UnknownToken);
        };
        let Some(gateway) = self.gateways.at(place) else { return };
        let at_server = usize::from(at);
        let (Some(server), Some(link)) = (self.servers.get_mut(at_server), gateway.links.get_mut(at_server))
        else {
            return;
        };
        if !gateway.up.admits(FLOOD, parcel.now_ns) {
            return server.drop(TapDrop::Flood, None);
        }
        let bytes = with_token(parcel.bytes, token);
        server.send(link, LinkKey { gateway: place, server: at }, Parcel { bytes: &bytes, ..parcel });
    }

    /// Counts what no server gets.
    fn drop(&mut self, reason: TapDrop) {
        for server in &mut self.servers {
            server.drop(reason, None);
        }
    }

    /// Takes what came through a link; downlinks go out by `door`.
    pub(super) fn down(&mut self, key: LinkKey, buffer: &mut [u8], door: &UdpSocket, now_ns: u64) {
        let at = usize::from(key.server);
        let (Some(server), Some(gateway)) = (self.servers.get_mut(at), self.gateways.at(key.gateway)) else {
            return;
        };
        let Gateway { pulls_from, down, tokens, links, .. } = gateway;
        let Some(link) = links.get_mut(at) else { return };
        for _ in 0..IN_A_ROW {
            let (bytes, token) = match server.receive(link, buffer, now_ns) {
                Received::Nothing => return,
                Received::Other => continue,
                Received::Downlink { bytes, token } => (bytes, token),
            };
            let Some(to) = *pulls_from else {
                server.drop(TapDrop::NoForwarder, None);
                continue;
            };
            if !down.admits(FLOOD, now_ns) {
                server.drop(TapDrop::Flood, None);
                continue;
            }
            let bytes = match token {
                Some(token) => with_token(bytes, tokens.lend(key.server, token, now_ns)),
                None => Cow::Borrowed(bytes),
            };
            match door.send_to(&bytes, to) {
                Ok(_) => server.returned(),
                Err(error) => server.drop(TapDrop::NotReturned, Some(&error)),
            }
        }
    }
}

/// The datagram with this token in its header.
fn with_token(datagram: &[u8], token: [u8; 2]) -> Cow<'_, [u8]> {
    match datagram {
        [version, high, low, rest @ ..] if [*high, *low] != token => {
            Cow::Owned([&[*version], &token[..], rest].concat())
        }
        _ => Cow::Borrowed(datagram),
    }
}
