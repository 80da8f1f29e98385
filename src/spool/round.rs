//! A round: everything that changes the tables, on a draft of the values and inside one write
//! transaction. Every count changes in the transaction that makes it true (RULES S24).
//!
//! A record that can't be read any more does not say whose it was. It is told from the counts: a backlog is exact, so what it
//! names and the readable records do not explain is what was lost. See [`Round::settle_accounts_of_unreadable`].

use std::collections::BTreeMap;

use redb::{ReadableTable, WriteTransaction};

use super::account::{AccountId, Loss};
use super::losses::Lost;
use super::record::{self, Outline, Unreadable};
use super::store::{DEAD, KEPT, LOG, Limits, RouteId, State};
use super::writer::Settle;
use super::{Routed, Settlement};

/// What a record costs beside its value: key, page slots, its share of the tree.
const RECORD_OVERHEAD: u64 = 32;

/// redb's page.
const PAGE: u64 = 4_096;

/// The tables of a round and the draft of the values.
pub(super) struct Round<'t> {
    pub(super) log: redb::Table<'t, u64, &'static [u8]>,
    pub(super) dead: redb::Table<'t, (u32, u64), &'static [u8]>,
    /// The numbers of the records that are only kept.
    pub(super) kept: redb::Table<'t, u64, ()>,
    pub(super) state: &'t mut State,
    pub(super) limits: Limits,
    /// The wall clock.
    pub(super) now_us: i64,
    /// A record ends without being delivered: it is lost, or becomes a dead letter. That is forced to the disk: lanes and
    /// sources let go of what they see ended, and if it was undone by an I/O error nobody would ever end it again.
    pub(super) ends_undelivered: bool,
    /// A record that nobody can read was met or left, and what its loss is called.
    unreadable: Option<Loss>,
}

impl<'t> Round<'t> {
    pub(super) fn new(
        txn: &'t WriteTransaction,
        state: &'t mut State,
        limits: Limits,
        now_us: i64,
    ) -> Result<Round<'t>, redb::Error> {
        let (log, dead, kept) = (txn.open_table(LOG)?, txn.open_table(DEAD)?, txn.open_table(KEPT)?);
        state.losses.begin_round();
        Ok(Round { log, dead, kept, state, limits, now_us, ends_undelivered: false, unreadable: None })
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
        let uplink = &routed.uplink;
        if uplink.dev_eui.is_none() && uplink.f_cnt.is_none() {
            self.state.totals.unknown = self.state.totals.unknown.saturating_add(1);
        }
        self.put(&bytes, &routed.routes)
    }

    /// Puts a record in again; returns what it takes.
    pub(super) fn put_again(&mut self, bytes: &[u8], routes: &[RouteId]) -> Result<u64, redb::Error> {
        if record::outline(bytes).is_ok_and(|outline| outline.is_unknown_device) {
            self.state.totals.unknown = self.state.totals.unknown.saturating_add(1);
        }
        self.put(bytes, routes)?;
        Ok(cost(bytes.len()))
    }

    /// Puts a record at the end of the log, into the backlog of everybody it is for.
    fn put(&mut self, bytes: &[u8], routes: &[RouteId]) -> Result<(), redb::Error> {
        let seq = self.state.next_seq;
        self.log.insert(seq, bytes)?;
        self.state.next_seq += 1;
        let totals = &mut self.state.totals;
        totals.records = totals.records.saturating_add(1);
        totals.bytes = totals.bytes.saturating_add(cost(bytes.len()));
        for id in self.state.accounts_of(routes) {
            if let Some(account) = self.state.accounts.get_mut(&id) {
                account.backlog = account.backlog.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Settles what a lane reports; a repeat, or a record that is already gone, changes no count.
    pub(super) fn settle(&mut self, settle: &Settle) -> Result<(), redb::Error> {
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
        let Some(settlement) = &settle.settlement else { return Ok(()) };
        let (Some(value), Some(outline), false) = (value, outline, repeat) else { return Ok(()) };
        let Ok(outline) = outline else {
            if *settlement == Settlement::Delivered {
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
        self.count_settled(settle.account, settlement, &outline);
        if let Settlement::Refused { reason, attempts } = settlement {
            self.bury(settle, reason, *attempts, &value)?;
        }
        if self.state.is_settled(seq, &accounts) {
            self.finish(seq, value.len(), &outline)?;
        }
        Ok(())
    }

    fn count_settled(&mut self, id: AccountId, settlement: &Settlement, outline: &Outline) {
        let Some(account) = self.state.accounts.get_mut(&id) else { return };
        account.backlog = account.backlog.saturating_sub(1);
        let loss = match settlement {
            Settlement::Delivered => return account.delivered = account.delivered.saturating_add(1),
            Settlement::Refused { .. } => return account.dead = account.dead.saturating_add(1),
            Settlement::Damaged => Loss::Damaged,
            Settlement::Filtered => Loss::Filtered,
        };
        self.lose(id, loss, 1, Some(Lost::from(outline)));
    }

    /// Counts a record that was taken out unsettled against every account that still waited for it.
    pub(super) fn count_loss(&mut self, seq: u64, value: &[u8], loss: Loss) -> Result<(), redb::Error> {
        let outline = match record::outline(value) {
            Ok(outline) => outline,
            Err(unreadable) => {
                let totals = &mut self.state.totals;
                totals.unreadable = totals.unreadable.saturating_add(1);
                let loss = if unreadable == Unreadable::Damaged { Loss::Damaged } else { loss };
                self.unreadable.get_or_insert(loss);
                return self.forget(seq, value.len(), None);
            }
        };
        self.forget(seq, value.len(), Some(&outline))?;
        for id in self.state.accounts_of(&outline.routes) {
            if let Some(account) = self.state.accounts.get_mut(&id)
                && !account.settled.contains(seq)
            {
                account.backlog = account.backlog.saturating_sub(1);
                self.lose(id, loss, 1, Some(Lost::from(&outline)));
            }
        }
        Ok(())
    }

    /// A record that nobody can read was met: the counts must be set right before the round ends.
    pub(super) fn met_unreadable(&mut self, loss: Loss) {
        self.unreadable.get_or_insert(loss);
    }

    /// A record was taken out of the log: nothing in the totals stands for it any more.
    pub(super) fn forget(
        &mut self,
        seq: u64,
        len: usize,
        outline: Option<&Outline>,
    ) -> Result<(), redb::Error> {
        let was_kept = self.state.totals.kept > 0 && self.kept.remove(seq)?.is_some();
        let totals = &mut self.state.totals;
        totals.records = totals.records.saturating_sub(1);
        totals.bytes = totals.bytes.saturating_sub(cost(len));
        if was_kept {
            totals.kept = totals.kept.saturating_sub(1);
            totals.kept_bytes = totals.kept_bytes.saturating_sub(cost(len));
        }
        let Some(outline) = outline else { return Ok(()) };
        if outline.is_unknown_device {
            totals.unknown = totals.unknown.saturating_sub(1);
        }
        if was_kept {
            self.remember_gone(seq, outline);
        }
        self.miss_in_replays(seq, outline);
        Ok(())
    }

    /// When a record was met that nobody can read: removes every damaged one and sets the backlogs right by counting what can
    /// be read. What was in a backlog and is not found is lost, but as much of it as there are records of an unknown format
    /// may still be among those. Reads the whole log, so one damaged page costs one pass, and a healthy file none.
    pub(super) fn settle_accounts_of_unreadable(&mut self) -> Result<(), redb::Error> {
        let Some(loss) = self.unreadable.take() else { return Ok(()) };
        let state = &*self.state;
        let mut found: BTreeMap<AccountId, u64> = BTreeMap::new();
        let (mut unknown, mut unknown_devices) = (0u64, 0);
        let mut damaged = Vec::new();
        for row in self.log.iter()? {
            let (seq, value) = row?;
            match record::outline(value.value()) {
                Ok(outline) => {
                    unknown_devices += u64::from(outline.is_unknown_device);
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
            self.forget(seq, len, None)?;
            self.state.totals.unreadable = self.state.totals.unreadable.saturating_add(1);
        }
        self.state.totals.unknown = unknown_devices;
        let ids: Vec<AccountId> = self.state.accounts.keys().copied().collect();
        for id in ids {
            let Some(account) = self.state.accounts.get_mut(&id) else { continue };
            let found = found.get(&id).copied().unwrap_or(0);
            let missing = account.backlog.saturating_sub(found);
            account.backlog = found + missing.min(unknown);
            self.lose(id, loss, missing.saturating_sub(unknown), None);
        }
        Ok(())
    }
}

/// What a value of so many bytes takes on the disk. Small ones share a page; of those over a third of a page fewer fit than
/// their size lets one hope, and from a page on redb hands out powers of two.
pub(super) fn cost(len: usize) -> u64 {
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

    use super::super::store::Work;
    use super::super::store::tests::{LIMITS, do_round, fresh, settle, waiting, work};
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
}
