//! A round: everything that changes the log and the dead letters, on a draft of the values and inside one write
//! transaction. Every count changes in the transaction that makes it true (RULES S24).
//!
//! A record that can't be read any more does not say whose it was. It is told from the counts: a backlog is exact, so what it
//! names and the readable records do not explain is what was lost. See [`Round::settle_accounts_of_unreadable`].

use std::collections::BTreeMap;

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::account::{AccountId, Loss};
use super::record::{self, Unreadable, seal};
use super::store::{DEAD, FORMAT, LOG, State};
use super::writer::Settle;
use super::{Routed, Settlement};

/// What a record costs beside its value: key, page slots, its share of the tree.
const RECORD_OVERHEAD: u64 = 32;

/// redb's page.
const PAGE: u64 = 4_096;

/// A dead letter as stored, under format byte 1. Frozen.
#[derive(Serialize, Deserialize)]
struct DeadV1<'a> {
    reason: &'a str,
    attempts: u32,
    refused_us: i64,
    record: &'a [u8],
}

/// The tables of a round and the draft of the values.
pub(super) struct Round<'t> {
    pub(super) log: redb::Table<'t, u64, &'static [u8]>,
    dead: redb::Table<'t, (u64, u32), &'static [u8]>,
    pub(super) state: &'t mut State,
    /// A record that nobody can read was met or left, and what its loss is called.
    unreadable: Option<Loss>,
}

impl<'t> Round<'t> {
    pub(super) fn new(txn: &'t WriteTransaction, state: &'t mut State) -> Result<Round<'t>, redb::Error> {
        Ok(Round { log: txn.open_table(LOG)?, dead: txn.open_table(DEAD)?, state, unreadable: None })
    }

    pub(super) fn append(&mut self, routed: &Routed) -> Result<(), redb::Error> {
        let totals = &mut self.state.totals;
        // Counted even if it goes no further: the writer tells from this count what arrived on the disk.
        totals.appended = totals.appended.saturating_add(1);
        let bytes = match record::encode(&routed.uplink, &routed.routes) {
            Ok(bytes) => bytes,
            Err(error) => {
                // postcard fails to encode only when memory runs out; losing one record beats losing the round.
                log::error!("spool: uplink {} can't be encoded: {error}", routed.uplink.id);
                totals.unreadable = totals.unreadable.saturating_add(1);
                return Ok(());
            }
        };
        let seq = self.state.next_seq;
        self.log.insert(seq, bytes.as_slice())?;
        self.state.next_seq += 1;
        let totals = &mut self.state.totals;
        totals.records = totals.records.saturating_add(1);
        totals.bytes = totals.bytes.saturating_add(cost(bytes.len()));
        for id in self.state.accounts_of(&routed.routes) {
            if let Some(account) = self.state.accounts.get_mut(&id) {
                account.backlog = account.backlog.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Settles what a lane reports; a repeat, or a record that is already gone, changes no count.
    pub(super) fn settle(&mut self, settle: &Settle, now_us: i64) -> Result<(), redb::Error> {
        let seq = settle.to;
        let value = self.log.get(seq)?.map(|value| value.value().to_vec());
        let outline = value.as_deref().map(record::outline);
        if matches!(outline, Some(Err(Unreadable::Unknown))) {
            // Kept for the version that knows it, whatever is said about it.
            return Ok(());
        }
        let Some(account) = self.state.accounts.get_mut(&settle.account) else { return Ok(()) };
        let repeat = account.settled.contains(seq);
        account.settled.insert(settle.from.min(seq), seq);
        let (Some(value), Some(outline), false) = (value, outline, repeat) else { return Ok(()) };
        let Ok(outline) = outline else {
            if settle.settlement == Settlement::Delivered {
                // It was whole when it was sent.
                account.backlog = account.backlog.saturating_sub(1);
                account.delivered = account.delivered.saturating_add(1);
            }
            self.unreadable.get_or_insert(Loss::Damaged);
            return Ok(());
        };
        let accounts = self.state.accounts_of(&outline.routes);
        if !accounts.contains(&settle.account) {
            return Ok(());
        }
        self.count_settled(settle);
        if let Settlement::Refused { reason, attempts } = &settle.settlement {
            self.bury(settle, reason, *attempts, now_us, &value)?;
        }
        let done =
            |id: &AccountId| self.state.accounts.get(id).is_none_or(|account| account.settled.contains(seq));
        if accounts.iter().all(done) {
            self.log.remove(seq)?;
            self.forget_bytes(value.len());
        }
        Ok(())
    }

    fn count_settled(&mut self, settle: &Settle) {
        let Some(account) = self.state.accounts.get_mut(&settle.account) else { return };
        account.backlog = account.backlog.saturating_sub(1);
        match &settle.settlement {
            Settlement::Delivered => account.delivered = account.delivered.saturating_add(1),
            Settlement::Refused { .. } => account.dead = account.dead.saturating_add(1),
            Settlement::Damaged => account.lose(Loss::Damaged, 1),
            Settlement::Filtered => account.lose(Loss::Filtered, 1),
        }
    }

    fn bury(
        &mut self,
        settle: &Settle,
        reason: &str,
        attempts: u32,
        now_us: i64,
        record: &[u8],
    ) -> Result<(), redb::Error> {
        let dead = DeadV1 { reason, attempts, refused_us: now_us, record };
        let Ok(bytes) = seal(FORMAT, &dead) else { return Ok(()) };
        self.dead.insert((settle.to, settle.account.0), bytes.as_slice())?;
        let totals = &mut self.state.totals;
        totals.dead_bytes = totals.dead_bytes.saturating_add(cost(bytes.len()));
        Ok(())
    }

    /// RULES S12: dead letters are bounded, the oldest make room.
    pub(super) fn bound_dead(&mut self, cap: u64) -> Result<(), redb::Error> {
        while self.state.totals.dead_bytes > cap {
            let Some((account, len)) =
                self.dead.pop_first()?.map(|(key, value)| (key.value().1, value.value().len()))
            else {
                self.state.totals.dead_bytes = 0;
                break;
            };
            self.state.totals.dead_bytes = self.state.totals.dead_bytes.saturating_sub(cost(len));
            if let Some(account) = self.state.accounts.get_mut(&AccountId(account)) {
                account.dead = account.dead.saturating_sub(1);
                account.lose(Loss::DeadEvicted, 1);
            }
        }
        Ok(())
    }

    /// Counts a record that leaves unsettled against every account that still waited for it.
    pub(super) fn count_loss(&mut self, seq: u64, value: &[u8], loss: Loss) {
        self.forget_bytes(value.len());
        let outline = match record::outline(value) {
            Ok(outline) => outline,
            Err(unreadable) => {
                let totals = &mut self.state.totals;
                totals.unreadable = totals.unreadable.saturating_add(1);
                let loss = if unreadable == Unreadable::Damaged { Loss::Damaged } else { loss };
                self.unreadable.get_or_insert(loss);
                return;
            }
        };
        for id in self.state.accounts_of(&outline.routes) {
            if let Some(account) = self.state.accounts.get_mut(&id)
                && !account.settled.contains(seq)
            {
                account.backlog = account.backlog.saturating_sub(1);
                account.lose(loss, 1);
            }
        }
    }

    fn forget_bytes(&mut self, len: usize) {
        let totals = &mut self.state.totals;
        totals.records = totals.records.saturating_sub(1);
        totals.bytes = totals.bytes.saturating_sub(cost(len));
    }

    /// When a record was met that nobody can read: removes every damaged one and sets the backlogs right by counting what can
    /// be read. What was in a backlog and is not found is lost, but as much of it as there are records of an unknown format
    /// may still be among those. Reads the whole log, so one damaged page costs one pass, and a healthy file none.
    pub(super) fn settle_accounts_of_unreadable(&mut self) -> Result<(), redb::Error> {
        let Some(loss) = self.unreadable.take() else { return Ok(()) };
        let state = &*self.state;
        let mut found: BTreeMap<AccountId, u64> = BTreeMap::new();
        let mut unknown = 0u64;
        let mut damaged = Vec::new();
        for row in self.log.iter()? {
            let (seq, value) = row?;
            match record::outline(value.value()) {
                Ok(outline) => {
                    for id in state.accounts_of(&outline.routes) {
                        if state
                            .accounts
                            .get(&id)
                            .is_some_and(|account| !account.settled.contains(seq.value()))
                        {
                            *found.entry(id).or_default() += 1;
                        }
                    }
                }
                Err(Unreadable::Unknown) => unknown += 1,
                Err(Unreadable::Damaged) => damaged.push(seq.value()),
            }
        }
        for seq in damaged {
            let len = self.log.remove(seq)?.map_or(0, |value| value.value().len());
            self.forget_bytes(len);
            self.state.totals.unreadable = self.state.totals.unreadable.saturating_add(1);
        }
        for (id, account) in &mut self.state.accounts {
            let found = found.get(id).copied().unwrap_or(0);
            let missing = account.backlog.saturating_sub(found);
            account.backlog = found + missing.min(unknown);
            account.lose(loss, missing.saturating_sub(unknown));
        }
        Ok(())
    }
}

/// What a value of so many bytes takes on the disk. Small ones share a page; of those over a third of a page fewer fit than
/// their size lets one hope, and from a page on redb hands out powers of two.
fn cost(len: usize) -> u64 {
    let bytes = len as u64 + RECORD_OVERHEAD;
    match bytes {
        0..=1_365 => bytes,
        1_366..=2_048 => PAGE / 2,
        _ => bytes.checked_next_power_of_two().unwrap_or(bytes).max(PAGE),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use redb::ReadableDatabase;

    use super::super::record::{Entry, Unsealed, read, unseal};
    use super::super::store::tests::{LIMITS, do_round, fresh, settle, waiting, work};
    use super::super::store::{RouteId, Work};
    use super::*;
    use crate::clock::ManualClock;

    /// S24: a damaged record that makes room before anybody met it leaves the right backlog behind, and a count.
    #[test]
    fn evicting_a_damaged_record_keeps_the_backlog_exact() {
        let clock = ManualClock::new();
        let mut store = fresh();
        do_round(&mut store, &work(0..5, &clock));
        let first = store.state.floor.max(store.state.next_seq - 5);
        let spoil = |round: &mut Round<'_>, seq: u64, bytes: &[u8]| -> Result<(), redb::Error> {
            // As many bytes as before: damage does not change a length.
            let len = round.log.get(seq)?.unwrap().value().len();
            let mut value = bytes.to_vec();
            value.resize(len, 0);
            round.log.insert(seq, value.as_slice())?;
            Ok(())
        };
        store.round(&Work::default(), true, LIMITS, 0, |round| spoil(round, first, b"xx")).unwrap();
        let bytes = store.view(0).bytes;
        store.round(&Work::default(), true, LIMITS, 0, |round| round.evict(bytes - 1)).unwrap();
        let view = store.view(0);
        assert_eq!((view.records, waiting(&store), store.state.totals.unreadable), (4, 4, 1));
        assert_eq!(view.accounts[0].lost, [(Loss::Damaged, 1)]);
        assert_eq!(view.bytes, bytes / 5 * 4);
    }

    /// A record that was whole when it was sent and is damaged when it is settled was delivered all the same.
    #[test]
    fn a_delivery_of_what_is_damaged_by_now_counts() {
        let clock = ManualClock::new();
        let mut store = fresh();
        do_round(&mut store, &work(0..2, &clock));
        let first = store.state.next_seq - 2;
        let spoil = |round: &mut Round<'_>| Ok(round.log.insert(first, b"xx".as_slice()).map(|_| ())?);
        store.round(&Work::default(), true, LIMITS, 0, spoil).unwrap();
        do_round(&mut store, &settle(0, first, Settlement::Delivered));
        let view = &store.view(0).accounts[0];
        assert_eq!((view.backlog, view.delivered, view.lost.as_slice()), (1, 1, [].as_slice()));
    }

    /// The record that a dead letter keeps is the one that was refused, byte for byte.
    #[test]
    fn a_dead_letter_keeps_the_record() {
        let clock = ManualClock::new();
        let mut store = fresh();
        do_round(&mut store, &work(0..1, &clock));
        let seq = store.state.next_seq - 1;
        let refused = Settlement::Refused { reason: "http: 422".into(), attempts: 3 };
        store.round(&settle(0, seq, refused), true, LIMITS, 1_795_465_260_123_456, |_| Ok(())).unwrap();
        let txn = store.database().begin_read().unwrap();
        let dead = txn.open_table(DEAD).unwrap();
        let stored = dead.get((seq, 0)).unwrap().unwrap().value().to_vec();
        let Unsealed::Body(1, body) = unseal(&stored) else { panic!("{stored:?}") };
        let (reason, attempts, refused_us, record): (&str, u32, i64, &[u8]) =
            postcard::from_bytes(body).unwrap();
        assert_eq!((reason, attempts, refused_us), ("http: 422", 3, 1_795_465_260_123_456));
        let heard = work(0..1, &clock).uplinks.remove(0).uplink;
        assert_eq!(
            read(record, &[RouteId(0)]),
            Entry::Mine(Routed { uplink: heard, routes: vec![RouteId(0)] })
        );
        assert_eq!(store.view(0).records, 0, "it left the log");
    }
}
