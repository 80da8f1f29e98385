//! Lanes end what they hold (RULES S4).

use packhorse::spool::{MAX_RANGES, Settlement};

use super::Done;
use crate::model::{ATTEMPTS, Account, Act, REASON};
use crate::steps::End;
use crate::world::{UNDONE, World};

impl World {
    /// Ends records of a lane in order, each with the numbers before it that are not the lane's.
    pub(super) async fn settle(&mut self, who: usize, skip: usize, n: usize, end: End) -> Done {
        let Some((ledger, account)) = self.ledger(who) else { return Ok(()) };
        // A lane holds no more than it may leave gaps for (S4).
        let room = ledger.settled().map_or(0, |it| (MAX_RANGES - 1).saturating_sub(it.ranges().len()));
        let n = if skip == 0 { n } else { n.min(room) };
        let waiting = self.state().waiting(account).into_iter().skip(skip).take(n);
        let settles: Vec<(u64, u64)> =
            waiting.map(|seq| (self.after_own_before(account, seq), seq)).collect();
        self.met.note_if(skip > 0 && !settles.is_empty(), "settled with a gap");
        let mut left = settles.as_slice();
        while !left.is_empty() {
            let (settles, later) = left.split_at(self.at_once(left.len(), end));
            left = later;
            let act = Act {
                settles: settles.iter().map(|(_, seq)| (account, *seq, end)).collect(),
                ..Act::default()
            };
            for &(from, seq) in settles {
                ledger.settle(from, seq, settlement(end));
            }
            let generation = self.said.generation;
            self.round_of(act).await?;
            self.unforced += settles.len();
            if self.said.generation != generation {
                // The lane starts again from what is stored.
                return Ok(());
            }
        }
        Ok(())
    }

    /// How many settlements may share an act. The spool may make several rounds of them, so all of these must come to the same:
    /// none may force a commit, be about an error, or make room for a copy.
    fn at_once(&mut self, n: usize, end: End) -> usize {
        if self.said.syncs != self.syncs_seen {
            (self.syncs_seen, self.unforced) = (self.said.syncs, 0);
        }
        let is_alike = end == End::Deliver && !self.is_ailing && !self.any_replay();
        let at_most = if is_alike { UNDONE.saturating_sub(self.unforced + 1) } else { 1 };
        n.min(at_most.max(1))
    }

    fn any_replay(&self) -> bool {
        self.state().sides.values().any(|side| side.replay.is_some())
    }

    /// Where the numbers before a record begin that are nobody's or others': they are settled along with it.
    fn after_own_before(&self, account: Account, seq: u64) -> u64 {
        let own = self.given.get(&account).and_then(|own| own.range(..seq).next_back());
        own.map_or(0, |own| own + 1).max(self.said.floor.min(seq))
    }

    /// A lane that has not seen yet what became of a record, or that it is in another place now.
    pub(super) async fn settle_stale(&mut self, who: usize, back: usize) -> Done {
        let Some((ledger, account)) = self.ledger(who) else { return Ok(()) };
        let Some(seq) = self.state().next_seq.checked_sub(back as u64 + 1) else { return Ok(()) };
        if self.state().log.get(&seq).is_some_and(|record| record.waiting.contains(&account)) {
            return Ok(());
        }
        let act = Act { settles: vec![(account, seq, End::Deliver)], ..Act::default() };
        self.met.once("settled what was settled");
        ledger.settle(seq, seq, Settlement::Delivered);
        self.unforced += 1;
        self.round_of(act).await
    }

    /// A lane has seen that the spool has let go of its oldest records.
    pub(super) async fn cover(&mut self, who: usize) -> Done {
        let Some((ledger, _)) = self.ledger(who) else { return Ok(()) };
        if let Some(last) = self.said.floor.checked_sub(1) {
            ledger.cover(0, last);
            self.unforced += 1;
        }
        self.nothing().await
    }
}

fn settlement(end: End) -> Settlement {
    match end {
        End::Deliver => Settlement::Delivered,
        End::Refuse => Settlement::Refused { reason: REASON.into(), attempts: ATTEMPTS },
        End::Damage => Settlement::Damaged,
        End::Filter => Settlement::Filtered,
    }
}
