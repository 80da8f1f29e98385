//! Whose downlink a TX_ACK is about.
//!
//! A PULL_RESP carries a token of the server's choice, two bytes, and the forwarder's TX_ACK echoes it. Servers know nothing
//! of each other, so two of them may choose the same. One forwarder has one of these tables: for each PULL_RESP it says
//! under which token it goes to the forwarder, its own unless another server's downlink is under way under that, and for a
//! TX_ACK whose it was and what to call it there.
//!
//! A token is remembered for [`KEPT_NS`] after its last PULL_RESP (RULES S25), whether a TX_ACK came or not: a forwarder that
//! sends two for one downlink is none of our business. A server has at most [`OF_A_SERVER`], its oldest gives way, so a
//! server that floods spoils its own acknowledgements and nobody else's.

/// How long, in nanoseconds. Forwarders send the TX_ACK when they queue the downlink, within milliseconds.
const KEPT_NS: u64 = 60_000_000_000;

/// Tokens of one server; a radio can't send as many downlinks in that time.
const OF_A_SERVER: usize = 256;

/// From a token that is taken to the one that is tried next. Far, because some servers count: next to it is the token of their
/// next downlink. Odd, so that all are tried.
const STRIDE: u16 = 0x9e37;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// The most recent last.
    lent: Vec<Lent>,
}

#[derive(Clone, Copy, Debug)]
struct Lent {
    /// What the forwarder knows.
    shown: u16,
    /// What the server knows.
    theirs: u16,
    server: u16,
    until_ns: u64,
}

/// A downlink that a TX_ACK is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// Whose it is, by its place.
    pub(super) server: u16,
    /// Its token there.
    pub(super) token: [u8; 2],
}

impl Tokens {
    /// The token under which a PULL_RESP of `server` with token `theirs` goes to the forwarder at `now_ns`.
    pub(super) fn lend(&mut self, server: u16, theirs: [u8; 2], now_ns: u64) -> [u8; 2] {
        let theirs = u16::from_be_bytes(theirs);
        self.forget(now_ns);
        let before = self.lent.iter().position(|lent| lent.server == server && lent.theirs == theirs);
        let shown = match before {
            Some(at) => self.lent.remove(at).shown,
            None => {
                self.make_room(server);
                self.free_from(theirs)
            }
        };
        self.lent.push(Lent { shown, theirs, server, until_ns: now_ns.saturating_add(KEPT_NS) });
        shown.to_be_bytes()
    }

    /// Whose downlink a TX_ACK with token `shown` is about.
    pub(super) fn owner(&mut self, shown: [u8; 2], now_ns: u64) -> Option<Owner> {
        self.forget(now_ns);
        let lent = self.lent.iter().find(|lent| lent.shown == u16::from_be_bytes(shown))?;
        Some(Owner { server: lent.server, token: lent.theirs.to_be_bytes() })
    }

    fn forget(&mut self, now_ns: u64) {
        self.lent.retain(|lent| lent.until_ns > now_ns);
    }

    fn make_room(&mut self, server: u16) {
        let of_server = |lent: &Lent| lent.server == server;
        if self.lent.iter().filter(|lent| of_server(lent)).count() >= OF_A_SERVER
            && let Some(oldest) = self.lent.iter().position(of_server)
        {
            self.lent.remove(oldest);
        }
    }

    /// `wanted`, or else one that the forwarder does not know; there are far more tokens than are ever lent.
    fn free_from(&self, wanted: u16) -> u16 {
        let is_free = |token: &u16| self.lent.iter().all(|lent| lent.shown != *token);
        let mut tried = (0..=u16::MAX).map(|step| wanted.wrapping_add(step.wrapping_mul(STRIDE)));
        tried.find(is_free).unwrap_or(wanted)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    fn owner(server: u16, token: [u8; 2]) -> Option<Owner> {
        Some(Owner { server, token })
    }

    #[test]
    fn a_token_alone_stays_as_it_is() {
        let mut tokens = Tokens::default();
        assert_eq!(tokens.lend(1, [7, 8], 0), [7, 8]);
        assert_eq!(tokens.owner([7, 8], 1), owner(1, [7, 8]));
        assert_eq!(tokens.owner([7, 8], 1), owner(1, [7, 8]), "a second TX_ACK goes the same way");
        assert_eq!(tokens.owner([8, 7], 1), None);
    }

    /// RULES S25.
    #[test]
    fn colliding_tokens_of_two_servers_are_told_apart() {
        let mut tokens = Tokens::default();
        assert_eq!(tokens.lend(0, [255, 255], 0), [255, 255]);
        let other = tokens.lend(1, [255, 255], 0);
        let third = tokens.lend(2, other, 0);
        assert!(
            other != [255, 255] && third != [255, 255] && third != other,
            "taken by the one that gave way"
        );
        assert_eq!(tokens.owner([255, 255], 1), owner(0, [255, 255]));
        assert_eq!(tokens.owner(other, 1), owner(1, [255, 255]));
        assert_eq!(tokens.owner(third, 1), owner(2, other));
        assert_eq!(tokens.lend(1, [255, 255], 2), other, "used again by its own server");
        assert_eq!(tokens.lend(0, [0, 0], 2), [0, 0], "the next of one that counts");
    }

    #[test]
    fn a_token_is_free_again_after_a_minute() {
        let mut tokens = Tokens::default();
        tokens.lend(0, [0, 1], 0);
        tokens.lend(0, [0, 2], 0);
        tokens.lend(0, [0, 1], 30_000_000_000);
        assert_eq!(tokens.owner([0, 2], 59_999_999_999), owner(0, [0, 2]));
        assert_eq!(tokens.owner([0, 2], 60_000_000_000), None);
        assert_eq!(tokens.lend(1, [0, 2], 60_000_000_000), [0, 2]);
        assert_ne!(tokens.lend(1, [0, 1], 89_999_999_999), [0, 1], "used again in between");
        assert_eq!(tokens.owner([0, 1], 90_000_000_000), None);
    }

    #[test]
    fn a_server_that_floods_spoils_its_own_alone() {
        let mut tokens = Tokens::default();
        tokens.lend(0, [99, 0], 0);
        for n in 0..1_000u16 {
            tokens.lend(1, n.to_be_bytes(), 0);
        }
        assert_eq!(tokens.lent.len(), OF_A_SERVER + 1);
        assert_eq!(tokens.owner([99, 0], 1), owner(0, [99, 0]));
        assert_eq!(tokens.owner(743u16.to_be_bytes(), 1), None);
        assert_eq!(tokens.owner(999u16.to_be_bytes(), 1), owner(1, 999u16.to_be_bytes()));
    }

    proptest! {
        /// Whatever is lent, a forwarder never sees one token for two servers, and each finds its own again.
        #[test]
        fn no_two_downlinks_are_mixed_up(
            downlinks in prop::collection::vec((0u16..3, 0u16..8, 0u64..20_000_000_000), 1..60)
        ) {
            let (mut tokens, mut now) = (Tokens::default(), 0);
            let mut live: Vec<(u16, [u8; 2], [u8; 2], u64)> = Vec::new();
            for (server, theirs, later) in downlinks {
                now += later;
                let theirs = theirs.to_be_bytes();
                let shown = tokens.lend(server, theirs, now);
                live.retain(|(other, token, _, until)| *until > now && (*other, *token) != (server, theirs));
                prop_assert!(live.iter().all(|(_, _, other, _)| *other != shown));
                live.push((server, theirs, shown, now + KEPT_NS));
                for (server, theirs, shown, _) in &live {
                    prop_assert_eq!(tokens.owner(*shown, now), owner(*server, *theirs));
                }
            }
        }
    }
}
