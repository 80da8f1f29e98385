//! The forwarders whose datagrams are passed on, by their gateway EUIs.
//!
//! EUIs are whatever the datagrams say, and each costs a socket a server, so there are at most [`GATEWAYS`]. One that is known
//! keeps its place against any number of new ones; only when it has been silent for [`GONE_NS`], so long that servers have
//! forgotten it too, a new one takes it.

use std::net::SocketAddr;

use super::super::rate::Bucket;
use super::link::Link;
use super::tokens::{Owner, Tokens};
use crate::uplink::Eui64;

/// How many.
pub(super) const GATEWAYS: usize = 64;

/// Datagrams a second, of a gateway and to it. A concentrator can't hear a third of that.
pub(super) const FLOOD: u32 = 1_000;

/// Silent for this many nanoseconds a gateway may lose its place.
const GONE_NS: u64 = 120_000_000_000;

/// One forwarder.
#[derive(Debug)]
pub(super) struct Gateway {
    eui: Eui64,
    seen_ns: u64,
    /// Where its last PULL_DATA came from: downlinks go there.
    pub(super) pulls_from: Option<SocketAddr>,
    /// What may still go up, and down.
    pub(super) up: Bucket,
    pub(super) down: Bucket,
    /// The downlinks that it may send TX_ACKs for.
    pub(super) tokens: Tokens,
    /// Its sockets, one a server, in the order of the servers.
    pub(super) links: Vec<Option<Link>>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Gateways(Vec<Gateway>);

impl Gateways {
    /// The place of the gateway that has just sent something, which is made if it had none; `None` if there is no room.
    pub(super) fn place_of(&mut self, eui: Eui64, servers: usize, now_ns: u64) -> Option<u16> {
        let known = self.0.iter().position(|gateway| gateway.eui == eui);
        let at = match known {
            Some(at) => at,
            None => self.make_place(eui, servers, now_ns)?,
        };
        self.0.get_mut(at)?.seen_ns = now_ns;
        u16::try_from(at).ok()
    }

    fn make_place(&mut self, eui: Eui64, servers: usize, now_ns: u64) -> Option<usize> {
        let fresh = Gateway {
            eui,
            seen_ns: now_ns,
            pulls_from: None,
            up: Bucket::full(FLOOD, now_ns),
            down: Bucket::full(FLOOD, now_ns),
            tokens: Tokens::default(),
            links: std::iter::repeat_with(|| None).take(servers).collect(),
        };
        if self.0.len() < GATEWAYS {
            self.0.push(fresh);
            return self.0.len().checked_sub(1);
        }
        let (at, idle) = self.0.iter_mut().enumerate().min_by_key(|(_, gateway)| gateway.seen_ns)?;
        if now_ns.saturating_sub(idle.seen_ns) < GONE_NS {
            return None;
        }
        *idle = fresh;
        Some(at)
    }

    /// The gateway at a place.
    pub(super) fn at(&mut self, place: u16) -> Option<&mut Gateway> {
        self.0.get_mut(usize::from(place))
    }

    /// Whose downlink a TX_ACK is about that came from `from`, and the place of its gateway. A TX_ACK that does not say which
    /// gateway it is of is of one that asks for downlinks from there.
    pub(super) fn owner(
        &mut self,
        eui: Option<Eui64>,
        from: SocketAddr,
        token: [u8; 2],
        now_ns: u64,
    ) -> Option<(u16, Owner)> {
        let mut of = |is_it: &dyn Fn(&Gateway) -> bool| {
            self.0.iter_mut().enumerate().filter(|(_, gateway)| is_it(gateway)).find_map(|(at, gateway)| {
                Some((u16::try_from(at).ok()?, gateway.tokens.owner(token, now_ns)?))
            })
        };
        of(&|gateway| Some(gateway.eui) == eui).or_else(|| of(&|gateway| gateway.pulls_from == Some(from)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn eui(n: u8) -> Eui64 {
        Eui64([n; 8])
    }

    #[test]
    fn a_gateway_keeps_its_place_against_new_ones() {
        let mut gateways = Gateways::default();
        for n in 0..64u8 {
            assert_eq!(gateways.place_of(eui(n), 2, u64::from(n)), Some(u16::from(n)));
        }
        for n in 64..=255u8 {
            assert_eq!(gateways.place_of(eui(n), 2, GONE_NS - 1), None);
        }
        assert_eq!(gateways.place_of(eui(0), 2, GONE_NS - 1), Some(0), "heard of again");
        assert_eq!(gateways.place_of(eui(99), 2, GONE_NS + 1), Some(1), "silent for longest, and for long");
        assert_eq!(gateways.place_of(eui(1), 2, GONE_NS + 1), None);
        assert_eq!(gateways.at(1).unwrap().links.len(), 2);
        assert_eq!(gateways.at(64).map(|gateway| gateway.eui), None);
    }

    #[test]
    fn a_tx_ack_without_an_eui_is_known_by_where_it_comes_from() {
        let mut gateways = Gateways::default();
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        for n in 1..=2u8 {
            let place = gateways.place_of(eui(n), 1, 0).unwrap();
            let gateway = gateways.at(place).unwrap();
            gateway.pulls_from = Some(address(u16::from(n)));
            gateway.tokens.lend(0, [n, n], 0);
        }
        let place = |found: Option<(u16, Owner)>| found.map(|(place, _)| place);
        assert_eq!(place(gateways.owner(Some(eui(2)), address(7), [2, 2], 1)), Some(1));
        assert_eq!(place(gateways.owner(None, address(2), [2, 2], 1)), Some(1));
        assert_eq!(place(gateways.owner(Some(eui(9)), address(2), [2, 2], 1)), Some(1), "it was no EUI");
        assert_eq!(place(gateways.owner(None, address(1), [2, 2], 1)), None);
        assert_eq!(place(gateways.owner(Some(eui(1)), address(7), [2, 2], 1)), None);
    }
}
