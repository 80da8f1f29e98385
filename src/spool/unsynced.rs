//! Uplinks that a power cut now would lose, kept in memory until it would not.
//!
//! An uplink that went into the log by a round that was not forced to the disk is in here until a round is forced, or until
//! everybody it is for has settled it: then there is nothing left that could be lost. With `durability = "write-behind"`
//! that is the usual end, and the flash never hears of it.
//!
//! After an I/O error the file is opened again, and what is in here goes back in. How many records the file has ever taken
//! in (`appended`) tells which of them have arrived in spite of the error. Those that were let go because everybody had
//! taken them do not go back, but they were put in and delivered: [`Forgotten`] brings the counts along.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::Routed;
use super::account::AccountId;
use super::kept::Gone;
use super::store::{self, RouteId, Store};
use super::values::StoreError;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    entries: Vec<Entry>,
    bytes: u64,
    /// What jobs put in again, which is in the file already.
    bytes_again: u64,
    forgotten: Forgotten,
    /// The same, of the time before a store in memory took over.
    before_refuge: Forgotten,
    /// How many records the file had taken in when it was forced the last time.
    since: u64,
}

/// Counts of records that came and went without the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Forgotten {
    /// How many.
    pub(super) records: u64,
    /// Who took them.
    pub(super) delivered: BTreeMap<AccountId, u64>,
    /// The youngest of them.
    pub(super) gone: Option<Gone>,
}

#[derive(Debug)]
struct Entry {
    routed: Routed,
    /// Its number in the log; `None` if records of its round were numbered with gaps.
    seq: Option<u64>,
    /// Which record it is of all that the file ever took in, from 1.
    ordinal: u64,
    /// When it must be on the disk.
    by: Instant,
    bytes: u64,
}

impl Unsynced {
    /// None, of a file that has taken in so many records and was forced to the disk.
    pub(super) fn since(appended: u64) -> Unsynced {
        Unsynced { since: appended, ..Unsynced::default() }
    }

    /// A round put `uplinks` in, after `appended` others, beginning with the number `first_seq`.
    pub(super) fn add(&mut self, uplinks: Vec<Routed>, first_seq: Option<u64>, appended: u64, by: Instant) {
        for (n, routed) in (0u64..).zip(uplinks) {
            let bytes = store::estimate(&routed);
            self.bytes += bytes;
            let seq = first_seq.map(|first| first + n);
            self.entries.push(Entry { routed, seq, ordinal: appended + n + 1, by, bytes });
        }
    }

    /// Lets go of what everybody has taken. `takers` gives the accounts of a record that has been settled by all of them.
    pub(super) fn forget_settled(&mut self, takers: impl Fn(u64, &[RouteId]) -> Option<Vec<AccountId>>) {
        let forgotten = &mut self.forgotten;
        self.entries.retain(|entry| {
            let Some(seq) = entry.seq else { return true };
            let Some(accounts) = takers(seq, &entry.routed.routes) else { return true };
            forgotten.records += 1;
            forgotten.gone = Gone::later(forgotten.gone, Gone::new(seq, &entry.routed.uplink));
            for account in accounts {
                *forgotten.delivered.entry(account).or_default() += 1;
            }
            false
        });
        self.bytes = self.entries.iter().map(|entry| entry.bytes).sum();
    }

    /// Everything is on the disk, which has taken in `appended` records.
    pub(super) fn clear(&mut self, appended: u64) {
        *self = Unsynced::since(appended);
    }

    /// When the first of them must be there.
    pub(super) fn due(&self) -> Option<Instant> {
        self.entries.iter().map(|entry| entry.by).min()
    }

    /// About what they take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + self.bytes_again
    }

    /// Adds to what they take: jobs put records in again.
    pub(super) fn add_bytes(&mut self, bytes: u64) {
        self.bytes_again += bytes;
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A store in memory takes the file's place: gives what is to be put into it, in order. From here on it counts itself
    /// what comes and goes.
    pub(super) fn begin_refuge(&mut self) -> Vec<Routed> {
        self.bytes_again = 0;
        self.before_refuge = std::mem::take(&mut self.forgotten);
        self.entries.iter().map(|entry| entry.routed.clone()).collect()
    }

    /// They were put in again, beginning with this number.
    pub(super) fn renumber(&mut self, first_seq: u64) {
        for (n, entry) in (0u64..).zip(&mut self.entries) {
            entry.seq = Some(first_seq + n);
        }
    }

    /// Lets go of those that are not in the store any more.
    pub(super) fn retain_in(&mut self, store: &Store) -> Result<(), StoreError> {
        let held = store.holds(self.entries.iter().filter_map(|entry| entry.seq))?;
        self.entries.retain(|entry| entry.seq.is_none_or(|seq| held.contains(&seq)));
        self.bytes = self.entries.iter().map(|entry| entry.bytes).sum();
        Ok(())
    }

    /// Those that are not in a file which has taken in `appended` records, with their numbers. There were `known` in all when
    /// it could be used last.
    pub(super) fn missing(&self, appended: u64, known: u64) -> impl Iterator<Item = (Routed, Option<u64>)> {
        let last = last_arrived(appended, known);
        let missing = self.entries.iter().filter(move |entry| entry.ordinal > last);
        missing.map(|entry| (entry.routed.clone(), entry.seq))
    }

    /// What came and went without such a file: a forced commit brings all or nothing.
    pub(super) fn lacking(&self, appended: u64) -> Forgotten {
        if appended <= self.since { self.forgotten.clone() } else { Forgotten::default() }
    }

    /// Likewise, up to the time when a store in memory took over.
    pub(super) fn lacking_before_refuge(&self, appended: u64) -> Forgotten {
        if appended <= self.since { self.before_refuge.clone() } else { Forgotten::default() }
    }
}

/// The last record of which all up to it are in the file. A forced commit brings all or nothing: if there are fewer than there
/// were, those that are there are others, of which the counts were brought along before ([`Forgotten`]).
fn last_arrived(appended: u64, known: u64) -> u64 {
    if appended >= known { appended } else { 0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::super::store::tests::work;
    use super::*;
    use crate::clock::ManualClock;

    fn filled() -> (Unsynced, Instant) {
        let (mut unsynced, now) = (Unsynced::since(7), Instant::now());
        let clock = ManualClock::new();
        unsynced.add(work(0..3, &clock).uplinks, Some(100), 7, now);
        unsynced.add(work(3..5, &clock).uplinks, None, 10, now + Duration::from_secs(1));
        (unsynced, now)
    }

    #[test]
    fn what_everybody_settled_is_no_longer_at_risk() {
        let (mut unsynced, now) = filled();
        let all = unsynced.bytes();
        unsynced.forget_settled(|seq, _| (seq != 101).then(|| vec![AccountId(4)]));
        assert_eq!((unsynced.len(), unsynced.bytes()), (3, all / 5 * 3));
        assert_eq!(unsynced.due(), Some(now));
        unsynced.forget_settled(|_, _| Some(Vec::new()));
        assert_eq!(unsynced.len(), 2, "without a number nothing is known of them");
        assert_eq!(unsynced.due(), Some(now + Duration::from_secs(1)));
        unsynced.clear(12);
        assert_eq!((unsynced.due(), unsynced.bytes(), unsynced.is_empty()), (None, 0, true));
    }

    #[test]
    fn what_arrived_in_spite_of_an_error_does_not_go_in_twice() {
        // Twelve were known: seven on the disk, five in here.
        for (appended, missing) in [(7, 5), (9, 5), (12, 0), (99, 0)] {
            let (unsynced, _) = filled();
            assert_eq!(unsynced.missing(appended, 12).count(), missing, "{appended}");
        }
    }

    /// Counts that were brought along are no records that have arrived.
    #[test]
    fn counts_are_brought_along_once() {
        for (appended, lacks) in [(7, 1), (8, 0)] {
            let (mut unsynced, _) = filled();
            unsynced.forget_settled(|seq, _| (seq == 102).then(|| vec![AccountId(4)]));
            let forgotten = unsynced.lacking(appended);
            assert_eq!((forgotten.records, forgotten.delivered.values().sum::<u64>()), (lacks, lacks));
            assert_eq!(forgotten.gone.is_some(), lacks > 0);
            let missing = unsynced.missing(appended, 12);
            let ids: Vec<u128> = missing.map(|(routed, _)| routed.uplink.id.as_u128()).collect();
            assert_eq!(ids, [0, 1, 3, 4]);
        }
    }
}
