//! Records that everybody has settled and that stay for a while all the same: `keep_delivered`, for a later replay.
//!
//! # What it costs
//!
//! A kept record stays where it is in the log; the table `kept` has its number and nothing else. On the flash that is eight
//! bytes more for an uplink, written in the round of its last settlement, and nothing is forced to the disk for it (RULES
//! S30). In memory it costs nothing. Of `max_size` kept records take what nobody else needs: they count towards the size of
//! the log, are part of nobody's backlog, and are the first to be freed when it is full, the oldest first (S11). A log with
//! kept records is therefore as large as it may be after some time, and so is the file.
//!
//! # How long
//!
//! Until they are older than `keep_delivered`, age being what it is for everything else (S2), or until they have to make
//! room, or, a thousand a round, when the config no longer keeps anything. That is no loss: everybody has them. What was
//! freed last is remembered ([`Gone`]), so that a replay can say how far back it reaches.

use std::time::Duration;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::uplink::{Moment, TimeSource, Uplink};

use super::jobs::Step;
use super::record::{self, Outline};
use super::retention::{EXPIRE_AT_MOST, is_trusted};
use super::round::{Round, cost};
use super::store::RoundDone;

/// The youngest record that was settled by everybody and is gone. Stored as a part of the totals; frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    seq: u64,
    boot_id: [u8; 16],
    boot_ns: u64,
    /// When it was heard, microseconds since 1970.
    pub wall_us: i64,
    trusted: bool,
}

impl Gone {
    /// An uplink that had this number.
    pub(super) fn new(seq: u64, uplink: &Uplink) -> Gone {
        let Uplink { at, flags, .. } = uplink;
        Gone::heard(seq, *at, is_trusted(*at, flags.clock_trusted))
    }

    fn heard(seq: u64, at: Moment, trusted: bool) -> Gone {
        Gone { seq, boot_id: at.boot_id, boot_ns: at.boot_ns, wall_us: at.wall_us, trusted }
    }

    /// The one that came in later.
    pub(super) fn later(before: Option<Gone>, gone: Gone) -> Option<Gone> {
        before.filter(|before| before.seq > gone.seq).or(Some(gone))
    }

    /// The same with another number: it came from another store.
    pub(super) fn numbered(self, seq: u64) -> Gone {
        Gone { seq, ..self }
    }

    /// How old it is, if anybody can know.
    pub(super) fn age(&self, clock: &dyn Clock) -> Option<Duration> {
        let source = if self.trusted { TimeSource::Ntp } else { TimeSource::Untrusted };
        let at = Moment { boot_id: self.boot_id, boot_ns: self.boot_ns, wall_us: self.wall_us, source };
        clock.age(at, self.trusted)
    }
}

impl Round<'_> {
    /// Everybody has settled a record: it is kept or goes.
    pub(super) fn finish(&mut self, seq: u64, len: usize, outline: &Outline) -> Result<(), redb::Error> {
        // Of a copy the original is kept.
        if self.limits.keeps && !outline.copy {
            if self.kept.insert(seq, ())?.is_none() {
                let totals = &mut self.state.totals;
                totals.kept = totals.kept.saturating_add(1);
                totals.kept_bytes = totals.kept_bytes.saturating_add(cost(len));
            }
            return Ok(());
        }
        self.log.remove(seq)?;
        if !outline.copy {
            self.remember_gone(seq, outline);
        }
        self.forget(seq, len, Some(outline))
    }

    pub(super) fn remember_gone(&mut self, seq: u64, outline: &Outline) {
        let gone = Gone::heard(seq, outline.at, outline.is_time_trusted());
        self.state.totals.gone = Gone::later(self.state.totals.gone, gone);
    }

    /// Frees a kept record.
    pub(super) fn free(&mut self, seq: u64) -> Result<(), redb::Error> {
        let value = self.log.remove(seq)?.map(|value| value.value().to_vec());
        let Some(value) = value else {
            self.kept.remove(seq)?;
            return Ok(());
        };
        let outline = record::outline(&value).ok();
        self.forget(seq, value.len(), outline.as_ref())
    }

    /// Frees kept records, the oldest first and only below `below`, until the log takes no more than `target` bytes.
    pub(super) fn free_kept(&mut self, target: u64, below: u64) -> Result<(), redb::Error> {
        while self.state.totals.bytes > target {
            let Some(seq) = self.kept.range(..below)?.next().transpose()?.map(|(seq, _)| seq.value()) else {
                break;
            };
            self.free(seq)?;
        }
        Ok(())
    }

    /// Frees kept records that are older than they are to be kept. Those whose age nobody can know are passed over.
    pub(super) fn expire_kept(&mut self, keep: Duration, clock: &dyn Clock) -> Result<(), redb::Error> {
        if !clock.settled() || self.state.totals.kept == 0 {
            return Ok(());
        }
        let (mut old, mut next) = (Vec::new(), 0);
        for (n, row) in self.kept.range(self.state.expire_kept_from..)?.take(EXPIRE_AT_MOST).enumerate() {
            let seq = row?.0.value();
            let value = self.log.get(seq)?;
            let outline = value.and_then(|value| record::outline(value.value()).ok());
            match outline.and_then(|outline| outline.age(clock)) {
                Some(age) if age > keep => old.push(seq),
                Some(_) => break,
                None => {}
            }
            if n + 1 == EXPIRE_AT_MOST {
                next = seq + 1;
            }
        }
        self.state.expire_kept_from = next;
        old.into_iter().try_for_each(|seq| self.free(seq))
    }

    /// Frees what an earlier config kept, within the bounds of a round.
    pub(super) fn keep_no_more(&mut self, step: &mut Step, done: &mut RoundDone) -> Result<(), redb::Error> {
        while !self.limits.keeps && step.goes_on() {
            let Some(seq) = self.kept.first()?.map(|(seq, _)| seq.value()) else { break };
            step.took(0);
            self.free(seq)?;
        }
        done.more |= !self.limits.keeps && self.kept.first()?.is_some();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use super::super::Settlement;
    use super::super::account::AccountId;
    use super::super::store::tests::{LIMITS, do_round, fresh, work};
    use super::super::store::{Limits, Store, Work};
    use super::super::writer::Settle;
    use super::*;
    use crate::clock::ManualClock;

    const HOUR: Duration = Duration::from_secs(3_600);
    const KEEPING: Limits = Limits { keeps: true, ..LIMITS };

    fn deliver(store: &mut Store, range: std::ops::Range<u64>) {
        let settles = range
            .map(|seq| Settle {
                account: AccountId(0),
                from: seq,
                to: seq,
                settlement: Some(Settlement::Delivered),
                credit: std::sync::Arc::default(),
            })
            .collect();
        store.round(&Work { settles, ..Work::default() }, false, KEEPING, 0, |_| Ok(())).unwrap();
    }

    fn kept(store: &Store) -> (u64, u64, u64) {
        let view = store.view(0);
        (view.records, view.kept, view.accounts[0].backlog)
    }

    fn look(store: &mut Store, limits: Limits, keep: Duration, clock: &ManualClock) {
        store.round(&Work::default(), false, limits, 0, |round| round.expire_kept(keep, clock)).unwrap();
    }

    /// S2: kept records go when they are too old, and not while the clock is not settled; that is no loss.
    #[test]
    fn kept_records_go_by_age() {
        let clock = ManualClock::new();
        let mut store = fresh();
        do_round(&mut store, &work(0..10, &clock));
        clock.advance(HOUR);
        do_round(&mut store, &work(10..15, &clock));
        let first = store.state.floor.max(store.state.next_seq - 15);
        deliver(&mut store, first..first + 13);
        assert_eq!(kept(&store), (15, 13, 2));
        assert!(store.view(0).kept_bytes > 0 && store.view(0).kept_bytes < store.view(0).bytes);
        clock.advance(Duration::from_secs(1));
        clock.set_settled(false);
        look(&mut store, KEEPING, HOUR, &clock);
        assert_eq!(kept(&store), (15, 13, 2));
        clock.set_settled(true);
        look(&mut store, KEEPING, HOUR, &clock);
        assert_eq!(kept(&store), (5, 3, 2));
        clock.advance(10 * HOUR);
        look(&mut store, KEEPING, HOUR, &clock);
        assert_eq!(kept(&store), (2, 0, 2), "what waits is not touched");
        let view = store.view(0);
        assert_eq!((view.kept_bytes, view.accounts[0].lost.len(), view.losses), (0, 0, 0));
        assert_eq!(store.state.totals.gone.map(|gone| gone.seq), Some(first + 12));
    }

    /// A config that keeps nothing any more frees what an earlier one kept, a thousand a round.
    #[test]
    fn what_is_kept_no_more_is_swept() {
        let clock = ManualClock::new();
        let mut store = fresh();
        do_round(&mut store, &work(0..2_200, &clock));
        let first = store.state.next_seq - 2_200;
        deliver(&mut store, first..first + 2_200);
        assert_eq!(kept(&store), (2_200, 2_200, 0));
        let mut records = Vec::new();
        while store.round(&Work::default(), false, LIMITS, 0, |_| Ok(())).unwrap().more {
            records.push(store.view(0).records);
        }
        assert_eq!((records, kept(&store)), (vec![1_200, 200], (0, 0, 0)));
    }

    /// A settlement that is repeated, or comes for what is kept, changes nothing.
    #[test]
    fn a_repeat_changes_nothing() {
        let clock = ManualClock::new();
        let mut store = fresh();
        do_round(&mut store, &work(0..3, &clock));
        let first = store.state.next_seq - 3;
        deliver(&mut store, first..first + 2);
        deliver(&mut store, first..first + 2);
        assert_eq!(kept(&store), (3, 2, 1));
    }
}
