//! The loss ledger: which uplinks left without being delivered, as ranges (RULES S11).
//!
//! How many were lost, and why, an [account](super::AccountView) counts. The ledger says which: a range is a run of losses
//! of one integration for one reason, of uplinks that were heard with no gap of more than [`GAP_US`] between them. It is
//! written in the round that makes it true, so it is as exact as the counts. The newest [`AT_MOST`] are kept. A range
//! carries the integration's name, because it may outlive the account.
//!
//! What a function drops on purpose is counted and is no loss.

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::account::{AccountId, Loss};
use super::record::{Outline, Unsealed, seal, unseal};
use super::round::Round;
use super::store::{FORMAT, State};

pub(super) const LOSS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("loss");

/// Ranges that are kept.
const AT_MOST: u64 = 1_000;

/// A longer silence between two lost uplinks begins another range.
const GAP_US: u64 = 3_600_000_000;

/// A run of losses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossRange {
    /// `http`, `mqtt` or `failover`.
    pub kind: Arc<str>,
    /// The integration's name.
    pub name: Arc<str>,
    /// Why.
    pub loss: Loss,
    /// The first uplink; nobody knows the id of one that can't be read.
    pub first: Option<Uuid>,
    /// The last one.
    pub last: Option<Uuid>,
    /// When the first was heard, or found to be lost where that is unknown; microseconds since 1970.
    pub first_us: i64,
    /// Likewise the last.
    pub last_us: i64,
    /// How many.
    pub n: u64,
}

/// A range as stored, under format byte 1. Frozen.
#[derive(Serialize, Deserialize)]
struct LossV1<'a> {
    kind: &'a str,
    name: &'a str,
    loss: u8,
    first: Option<[u8; 16]>,
    last: Option<[u8; 16]>,
    first_us: i64,
    last_us: i64,
    n: u64,
}

impl LossRange {
    fn seal(&self) -> Result<Vec<u8>, redb::Error> {
        let stored = LossV1 {
            kind: &self.kind,
            name: &self.name,
            loss: self.loss as u8,
            first: self.first.map(Uuid::into_bytes),
            last: self.last.map(Uuid::into_bytes),
            first_us: self.first_us,
            last_us: self.last_us,
            n: self.n,
        };
        seal(FORMAT, &stored).map_err(|error| redb::Error::Corrupted(error.to_string()))
    }

    /// `None`: damaged, or of a later version.
    pub(super) fn read(bytes: &[u8]) -> Option<LossRange> {
        let Unsealed::Body(FORMAT, body) = unseal(bytes) else { return None };
        let stored: LossV1<'_> = postcard::from_bytes(body).ok()?;
        Some(LossRange {
            kind: Arc::from(stored.kind),
            name: Arc::from(stored.name),
            loss: *Loss::ALL.get(usize::from(stored.loss))?,
            first: stored.first.map(Uuid::from_bytes),
            last: stored.last.map(Uuid::from_bytes),
            first_us: stored.first_us,
            last_us: stored.last_us,
            n: stored.n,
        })
    }

    fn takes_in(&self, us: i64) -> bool {
        self.last_us.abs_diff(us) <= GAP_US
    }
}

/// What the writer holds of the ledger: of each account and reason the range that may go on.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses {
    /// Number of the next range.
    next: u64,
    open: BTreeMap<(AccountId, u8), (u64, LossRange)>,
    /// Ranges that ended in the round under way.
    ended: Vec<(u64, LossRange)>,
}

impl Losses {
    /// Reads the open ranges, and makes the table where it is missing.
    pub(super) fn read(
        txn: &WriteTransaction,
        account_of: impl Fn(&LossRange) -> Option<AccountId>,
    ) -> Result<Losses, redb::Error> {
        let mut losses = Losses::default();
        for row in txn.open_table(LOSS)?.iter()? {
            let (key, value) = row?;
            losses.next = key.value().saturating_add(1);
            if let Some(range) = LossRange::read(value.value())
                && let Some(id) = account_of(&range)
            {
                losses.open.insert((id, range.loss as u8), (key.value(), range));
            }
        }
        Ok(losses)
    }

    /// How many ranges the ledger has, at most [`AT_MOST`].
    pub(super) fn len(&self) -> u64 {
        self.next.min(AT_MOST)
    }

    /// A new round begins.
    pub(super) fn begin_round(&mut self) {
        self.ended.clear();
    }

    pub(super) fn add(&mut self, id: AccountId, range: LossRange) {
        let key = (id, range.loss as u8);
        let oldest = self.next.saturating_sub(AT_MOST);
        if let Some((number, open)) = self.open.get_mut(&key) {
            if *number >= oldest && open.takes_in(range.first_us) {
                open.first = open.first.or(range.first);
                open.last = range.last.or(open.last);
                open.last_us = range.last_us;
                open.n = open.n.saturating_add(range.n);
                return;
            }
            self.ended.push((*number, open.clone()));
        }
        self.open.insert(key, (self.next, range));
        self.next = self.next.saturating_add(1);
    }

    /// Takes in a range of another file's ledger; its account may be gone.
    pub(super) fn take_in(&mut self, id: Option<AccountId>, range: LossRange) {
        let Some(id) = id else {
            self.ended.push((self.next, range));
            self.next = self.next.saturating_add(1);
            return;
        };
        self.add(id, range);
    }

    /// Writes what changed since `before`.
    pub(super) fn write(&self, before: &Losses, txn: &WriteTransaction) -> Result<(), redb::Error> {
        let changed = self.open.iter().filter(|(key, open)| before.open.get(key) != Some(open));
        let mut changed = changed.map(|(_, open)| open).chain(&self.ended).peekable();
        if changed.peek().is_none() {
            return Ok(());
        }
        let mut table = txn.open_table(LOSS)?;
        for (number, range) in changed {
            table.insert(*number, range.seal()?.as_slice())?;
        }
        table.retain_in(..self.next.saturating_sub(AT_MOST), |_, _| false)?;
        Ok(())
    }

    /// Of an account that is gone the ledger says what it has said.
    pub(super) fn close(&mut self, id: AccountId) {
        let gone: Vec<_> = self.open.keys().filter(|(account, _)| *account == id).copied().collect();
        for key in gone {
            self.ended.extend(self.open.remove(&key));
        }
    }
}

/// All ranges, the oldest first; those that can't be read are left out.
pub(super) fn read_losses(database: &Database) -> Result<Vec<LossRange>, redb::Error> {
    let table = database.begin_read()?.open_table(LOSS)?;
    let mut ranges = Vec::new();
    for row in table.iter()? {
        ranges.extend(LossRange::read(row?.1.value()));
    }
    Ok(ranges)
}

/// A lost uplink: its id, and when it was heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    pub(super) id: Uuid,
    pub(super) heard_us: i64,
}

impl From<&Outline> for Lost {
    fn from(outline: &Outline) -> Lost {
        Lost { id: outline.id, heard_us: outline.at.wall_us }
    }
}

impl Round<'_> {
    /// Counts `n` losses of an account and lists them; `lost` is the uplink, where it is known.
    pub(super) fn lose(&mut self, id: AccountId, loss: Loss, n: u64, lost: Option<Lost>) {
        let now_us = self.now_us;
        let State { accounts, losses, .. } = &mut *self.state;
        let Some(account) = accounts.get_mut(&id).filter(|_| n > 0) else { return };
        account.lose(loss, n);
        // What was refused at the door was never a record.
        self.ends_undelivered |= loss != Loss::Refused;
        if loss == Loss::Filtered {
            return;
        }
        let us = lost.map_or(now_us, |lost| lost.heard_us);
        let uplink = lost.map(|lost| lost.id);
        let (kind, name) = (Arc::clone(&account.kind), Arc::clone(&account.name));
        losses.add(
            id,
            LossRange { kind, name, loss, first: uplink, last: uplink, first_us: us, last_us: us, n },
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use super::super::Settlement;
    use super::super::store::tests::{LIMITS, do_round, fresh, settle, work};
    use super::super::store::{Store, Work};
    use super::*;
    use crate::clock::{Clock, ManualClock};
    use std::time::Duration;

    fn ranges(store: &Store) -> Vec<(Loss, u64, Option<u128>, Option<u128>)> {
        let ranges = read_losses(&store.database()).unwrap();
        let number = |id: Option<Uuid>| id.map(|id| id.as_u128());
        ranges.iter().map(|range| (range.loss, range.n, number(range.first), number(range.last))).collect()
    }

    fn evict(store: &mut Store, n: u64) {
        let evict =
            |round: &mut Round<'_>| (0..n).try_for_each(|_| round.evict_oldest(round.state.totals.bytes - 1));
        store.round(&Work::default(), false, LIMITS, 0, evict).unwrap();
    }

    #[test]
    fn format_1_is_frozen() {
        let range = LossRange {
            kind: "http".into(),
            name: "api".into(),
            loss: Loss::Evicted,
            first: Some(Uuid::from_u128(1)),
            last: None,
            first_us: -1,
            last_us: 300,
            n: 128,
        };
        const GOLDEN: &str = "0171cbaa9c0468747470036170690101000000000000000000000000000000010001d8048001";
        let bytes = range.seal().unwrap();
        assert_eq!(data_encoding::HEXLOWER.encode(&bytes), GOLDEN);
        assert_eq!(LossRange::read(&bytes), Some(range));
    }

    /// S11: losses that go on make one range; a silence of more than an hour, or another reason, another one.
    #[test]
    fn a_range_goes_on_until_there_is_a_gap() {
        let clock = ManualClock::new();
        let mut store = fresh();
        do_round(&mut store, &work(0..10, &clock));
        clock.advance(Duration::from_secs(3_600));
        do_round(&mut store, &work(10..20, &clock));
        clock.advance(Duration::from_secs(3_601));
        do_round(&mut store, &work(20..30, &clock));
        evict(&mut store, 5);
        assert_eq!(ranges(&store), [(Loss::Evicted, 5, Some(0), Some(4))]);
        evict(&mut store, 10);
        assert_eq!(ranges(&store), [(Loss::Evicted, 15, Some(0), Some(14))]);
        let seq = store.state.next_seq - 15;
        do_round(&mut store, &settle(0, seq, Settlement::Damaged));
        evict(&mut store, 7);
        let found = ranges(&store);
        assert_eq!(found[0], (Loss::Evicted, 19, Some(0), Some(19)));
        assert!(found.contains(&(Loss::Damaged, 1, Some(15), Some(15))), "{found:?}");
        assert!(found.contains(&(Loss::Evicted, 3, Some(20), Some(22))), "{found:?}");
        assert_eq!(read_losses(&store.database()).unwrap()[0].first_us, ManualClock::new().wall_us());
        assert_eq!(store.view(0).losses, 3);
        let total: u64 = store.view(0).accounts[0].lost.iter().map(|(_, n)| n).sum();
        assert_eq!(found.iter().map(|range| range.1).sum::<u64>(), total, "S24");
    }

    /// The newest thousand ranges are kept, also across a reopening, after which the last one goes on.
    #[test]
    fn the_newest_thousand_are_kept() {
        let clock = ManualClock::new();
        let mut store = fresh();
        for n in 0..1_010 {
            do_round(&mut store, &work(n..n + 1, &clock));
            clock.advance(Duration::from_secs(4_000));
        }
        do_round(&mut store, &work(2_000..2_010, &clock));
        evict(&mut store, 1_012);
        let found = ranges(&store);
        assert_eq!(found.len(), 1_000);
        assert_eq!(found[0].2, Some(11));
        assert_eq!(found[999], (Loss::Evicted, 2, Some(2_000), Some(2_001)));
        assert_eq!(store.view(0).losses, 1_000);
        let database = std::sync::Arc::into_inner(store.into_database()).unwrap();
        let mut store = Store::new(database, super::super::wear::Gauge::default()).unwrap();
        evict(&mut store, 3);
        let found = ranges(&store);
        assert_eq!((found.len(), found[999]), (1_000, (Loss::Evicted, 5, Some(2_000), Some(2_004))));
    }
}
