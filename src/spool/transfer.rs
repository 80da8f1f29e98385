//! Brings what an [`Image`] holds into an open store, in rounds that are forced to the disk.
//!
//! Two ways. A *restored* file was the one before this one: accounts, routes and records keep their numbers, so that what is
//! stored as settled stays true and what lanes still hold in memory hits the right record; a second attempt finds what the
//! first has done in the log and adds the rest. An *imported* file is another one's: accounts and routes are found or made by
//! name, records go to the end of the log for those who still waited, and each round says how far it came.
//!
//! Either way a record keeps its id, its content and its time. What an account's backlog names and was not found is lost, and
//! counted against it as damaged (RULES S24); everything that is in the file and has somewhere to go is bounded as ever: by
//! the size of the log, the oldest first.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use crate::crash_point::CrashPoint;

use super::account::{Account, AccountId, Loss};
use super::dead::DeadV1;
use super::image::{Image, Letter, Record, Values, Whose};
use super::record::{self, Unreadable, seal};
use super::round::{Round, cost};
use super::store::{FORMAT, ID_END, Limits, RouteId, SEQ_BLOCK, State, Store, Totals, Work};
use super::values::open_value;
use super::{Note, RouteName};

/// What one round takes.
const RECORDS_A_ROUND: usize = 1_000;
const BYTES_A_ROUND: usize = 256 << 10;

/// The notes that say how far each came.
const NOTES: &str = "transfer/";

/// How it is done; see the [module](self). Stored; frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Way {
    Restore,
    Import,
}

/// How far a transfer has come; kept in the new file with each round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Its name.
    pub(super) what: &'static str,
    /// Which file it is from.
    pub(super) from: (u64, u64, i64),
    pub(super) way: Way,
    /// How often it was begun.
    pub(super) attempts: u8,
    pub(super) is_done: bool,
    /// Accounts and routes are here.
    has_values: bool,
    /// The last dead letter that is here.
    letter: Option<(u32, u64)>,
    /// No record below is to come any more.
    next: u64,
}

/// Progress as stored, under format byte 1. Frozen.
type ProgressV1 = ((u64, u64, i64), Way, u8, bool, bool, Option<(u32, u64)>, u64);

impl Progress {
    pub(super) fn new(what: &'static str, from: (u64, u64, i64), way: Way) -> Progress {
        Progress { what, from, way, attempts: 0, is_done: false, has_values: false, letter: None, next: 0 }
    }

    /// The one of this name.
    pub(super) fn read(note: &Note, what: &'static str) -> Option<Progress> {
        note.key.strip_prefix(NOTES).filter(|name| *name == what)?;
        let (from, way, attempts, is_done, has_values, letter, next): ProgressV1 =
            open_value(&note.value, "progress").ok()?;
        Some(Progress { what, from, way, attempts, is_done, has_values, letter, next })
    }

    pub(super) fn note(&self) -> Option<Note> {
        let Progress { from, way, attempts, is_done, has_values, letter, next, .. } = *self;
        let stored: ProgressV1 = (from, way, attempts, is_done, has_values, letter, next);
        // postcard fails to encode only when memory runs out.
        let value = seal(FORMAT, &stored).ok()?;
        Some(Note { key: format!("{NOTES}{}", self.what), value })
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) records: u64,
    pub(super) letters: u64,
    /// Waited for according to the counts, and not found; each integration counts its own.
    pub(super) lost: u64,
    /// Nobody can tell whom they are for.
    pub(super) nobodys: u64,
    /// Records of a format to come.
    pub(super) unknown: u64,
}

impl Tally {
    /// Nothing was left behind.
    pub(super) fn is_all(&self) -> bool {
        self.lost == 0 && self.nobodys == 0 && self.unknown == 0
    }
}

/// See the [module](self).
pub(super) struct Transfer<'t> {
    store: &'t mut Store,
    values: &'t Values,
    limits: &'t dyn Fn(&Totals) -> Limits,
    now_us: i64,
    /// How far an earlier attempt had come.
    before: Progress,
    progress: Progress,
    accounts: BTreeMap<AccountId, AccountId>,
    routes: BTreeMap<RouteId, RouteId>,
    batch: Batch,
    found: BTreeMap<AccountId, u64>,
    found_letters: BTreeMap<AccountId, u64>,
    tally: Tally,
}

/// What the next round puts in. Without a number it goes to the end.
#[derive(Debug, Default)]
struct Batch {
    records: Vec<(Option<u64>, Vec<u8>)>,
    letters: Vec<(AccountId, Option<u64>, Vec<u8>)>,
    bytes: usize,
}

impl<'t> Transfer<'t> {
    pub(super) fn new(
        store: &'t mut Store,
        values: &'t Values,
        limits: &'t dyn Fn(&Totals) -> Limits,
        now_us: i64,
        progress: Progress,
    ) -> Transfer<'t> {
        Transfer {
            store,
            values,
            limits,
            now_us,
            before: progress.clone(),
            progress,
            accounts: BTreeMap::new(),
            routes: BTreeMap::new(),
            batch: Batch::default(),
            found: BTreeMap::new(),
            found_letters: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// Does it.
    pub(super) fn run(mut self, image: &Image) -> Result<Tally, redb::Error> {
        self.progress.has_values = true;
        match self.progress.way {
            Way::Restore => self.restore_values()?,
            Way::Import => self.import_values()?,
        }
        let mut failed = None;
        let mut go_on = |result: Result<(), redb::Error>| match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        };
        let _ = image.letters(&mut |letter| go_on(self.take_letter(letter)));
        let end = self.values.numbers_end();
        let _ = image.records(end, &mut |record| go_on(self.take_record(record)));
        match failed {
            Some(error) => Err(error),
            None => self.finish(),
        }
    }

    fn round(
        &mut self,
        mut work: Work,
        change: impl FnOnce(&mut Round<'_>) -> Result<(), redb::Error>,
    ) -> Result<(), redb::Error> {
        work.notes.extend(self.progress.note());
        let limits = (self.limits)(&self.store.state().totals);
        self.store.round(&work, true, limits, self.now_us, change).map(drop)
    }

    fn restore_values(&mut self) -> Result<(), redb::Error> {
        let values = self.values;
        self.accounts = values.accounts.keys().map(|id| (*id, *id)).collect();
        self.routes = values.routes.keys().map(|id| (*id, *id)).collect();
        let is_first = !self.before.has_values;
        let notes = if is_first { values.notes() } else { Vec::new() };
        self.round(Work { notes, ..Work::default() }, |round| {
            if is_first {
                restore(round.state, values);
            }
            Ok(())
        })
    }

    fn import_values(&mut self) -> Result<(), redb::Error> {
        let values = self.values;
        let named: Vec<(RouteId, AccountId, RouteName)> = values
            .routes
            .iter()
            .filter_map(|(id, route)| {
                let from = AccountId(route.account);
                let account = values.accounts.get(&from)?;
                let (kind, name) = (account.kind.to_string(), account.name.to_string());
                Some((*id, from, RouteName { flow: route.flow.clone(), kind, name }))
            })
            .collect();
        let names: Vec<RouteName> = named.iter().map(|(_, _, name)| name.clone()).collect();
        let known: Vec<AccountId> = self.store.state().accounts.keys().copied().collect();
        let is_first = !self.before.has_values;
        self.round(Work { routes: names.clone(), ..Work::default() }, |round| {
            if is_first {
                import(round.state, values, &known);
            }
            Ok(())
        })?;
        // All of them are there now, in the same order.
        for ((route, account, _), (to_route, to_account)) in named.iter().zip(self.store.find_routes(&names))
        {
            self.routes.insert(*route, to_route);
            self.accounts.insert(*account, to_account);
        }
        Ok(())
    }

    fn take_letter(&mut self, letter: Letter<'_>) -> Result<(), redb::Error> {
        let key = (letter.account.0, letter.seq);
        let Some(dead) = DeadV1::read(letter.value) else { return Ok(()) };
        let Ok(outline) = record::outline(dead.record) else { return Ok(()) };
        let is_its = letter.sure || self.values.has_route_to(letter.account, &outline.routes);
        let Some(account) = self.accounts.get(&letter.account).copied().filter(|_| is_its) else {
            return Ok(());
        };
        let wanted = self.values.accounts.get(&letter.account).map_or(0, |account| account.dead);
        let found = self.found_letters.entry(letter.account).or_default();
        if !letter.sure && *found >= wanted {
            // It was sent again, or made room: the page is an old one.
            return Ok(());
        }
        *found += 1;
        if letter.sure && self.before.letter.is_some_and(|last| key <= last) {
            return Ok(());
        }
        self.tally.letters += 1;
        let (seq, value) = match self.progress.way {
            Way::Restore => (Some(letter.seq), letter.value.to_vec()),
            Way::Import => {
                let routes = self.routes_of(&outline.routes, |_| true);
                let Some(value) = dead.rerouted(&routes) else { return Ok(()) };
                self.progress.letter = self.progress.letter.max(Some(key));
                (None, value)
            }
        };
        self.batch.bytes += value.len();
        self.batch.letters.push((account, seq, value));
        self.flush_if_full()
    }

    fn take_record(&mut self, Record { seq, value, sure }: Record<'_>) -> Result<(), redb::Error> {
        let outline = match record::outline(value) {
            Ok(outline) => outline,
            Err(Unreadable::Damaged) => return Ok(()),
            Err(Unreadable::Unknown) => {
                self.tally.unknown += 1;
                return match self.progress.way {
                    Way::Restore => self.put(seq, Some(seq), value.to_vec()),
                    Way::Import => Ok(()),
                };
            }
        };
        let waiting = match self.values.whose(seq, &outline.routes) {
            Whose::Waited(accounts) => accounts,
            Whose::Settled => return Ok(()),
            Whose::Unknown => {
                self.tally.nobodys += 1;
                return Ok(());
            }
        };
        for id in &waiting {
            *self.found.entry(*id).or_default() += 1;
        }
        match self.progress.way {
            Way::Restore => self.put(seq, Some(seq), value.to_vec()),
            Way::Import if sure && seq < self.before.next => Ok(()),
            Way::Import => {
                let routes = self.routes_of(&outline.routes, |account| waiting.contains(&account));
                match record::rerouted(value, &routes) {
                    Ok(value) => self.put(seq, None, value),
                    Err(_) => Ok(()),
                }
            }
        }
    }

    /// The routes here of a record there, as far as they lead to an account that is wanted.
    fn routes_of(&self, routes: &[RouteId], is_wanted: impl Fn(AccountId) -> bool) -> Vec<RouteId> {
        let wanted = routes.iter().filter(|route| {
            self.values.routes.get(route).is_some_and(|route| is_wanted(AccountId(route.account)))
        });
        wanted.filter_map(|route| self.routes.get(route).copied()).collect()
    }

    fn put(&mut self, from: u64, seq: Option<u64>, value: Vec<u8>) -> Result<(), redb::Error> {
        self.tally.records += 1;
        self.progress.next = self.progress.next.max(from.saturating_add(1));
        self.batch.bytes += value.len();
        self.batch.records.push((seq, value));
        self.flush_if_full()
    }

    fn flush_if_full(&mut self) -> Result<(), redb::Error> {
        let n = self.batch.records.len() + self.batch.letters.len();
        if n >= RECORDS_A_ROUND || self.batch.bytes >= BYTES_A_ROUND { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), redb::Error> {
        let batch = std::mem::take(&mut self.batch);
        self.round(Work::default(), |round| {
            batch
                .letters
                .iter()
                .try_for_each(|(account, seq, value)| round.take_letter(*account, *seq, value))?;
            batch.records.iter().try_for_each(|(seq, value)| round.take_record(*seq, value))
        })?;
        CrashPoint::TransferPart.reached();
        Ok(())
    }

    /// Counts what was not found, lets jobs go on, and says that it is done.
    fn finish(mut self) -> Result<Tally, redb::Error> {
        self.flush()?;
        let mut missing = Vec::new();
        for (id, account) in &self.values.accounts {
            let found = |found: &BTreeMap<AccountId, u64>| found.get(id).copied().unwrap_or(0);
            // As many as there are of a format to come may be among those.
            let records =
                account.backlog.saturating_sub(found(&self.found)).saturating_sub(self.tally.unknown);
            let letters = account.dead.saturating_sub(found(&self.found_letters));
            self.tally.lost += records + letters;
            missing.extend(self.accounts.get(id).map(|to| (*to, records + letters)));
        }
        self.progress.is_done = true;
        let (way, values) = (self.progress.way, self.values);
        self.round(Work::default(), |round| {
            for (id, n) in missing {
                round.lose(id, Loss::Damaged, n, None);
            }
            for (id, account) in round.state.accounts.iter_mut().filter(|_| way == Way::Restore) {
                if let Some(before) = values.accounts.get(id) {
                    account.go_on_with_jobs_of(before);
                }
            }
            round.raise_floor()
        })?;
        Ok(self.tally)
    }
}

/// The values of the file before, without what is counted when it is found.
fn restore(state: &mut State, values: &Values) {
    let before = values.totals.unwrap_or_default();
    for (id, account) in values.accounts.iter().filter(|(id, _)| id.0 < ID_END) {
        state.accounts.insert(*id, account.emptied());
    }
    let routes = values
        .routes
        .iter()
        .filter(|(id, route)| id.0 < ID_END && state.accounts.contains_key(&AccountId(route.account)));
    state.routes = routes.map(|(id, route)| (*id, route.clone())).collect();
    state.next_seq = state.next_seq.max(values.numbers_after());
    let totals = &mut state.totals;
    (totals.appended, totals.unreadable, totals.gone) = (before.appended, before.unreadable, before.gone);
    totals.next_route = before.next_route.max(state.routes.keys().last().map_or(0, |id| id.0 + 1));
    totals.next_account = before.next_account.max(state.accounts.keys().last().map_or(0, |id| id.0 + 1));
    totals.seq_limit = totals.seq_limit.max(state.next_seq + SEQ_BLOCK);
    state.wear = values.wear.unwrap_or(state.wear);
    state.take_losses(values);
}

/// The counts of another file on top of ours.
fn import(state: &mut State, values: &Values, known: &[AccountId]) {
    for from in values.accounts.values() {
        let same = |account: &Account| account.kind == from.kind && account.name == from.name;
        let to = state.accounts.iter_mut().find(|(_, account)| same(account));
        if let Some((id, account)) = to {
            account.add_counts_of(from);
            // Where both know it, ours is the operator's last word.
            account.paused = if known.contains(id) { account.paused } else { from.paused };
        }
    }
    state.take_losses(values);
}

impl State {
    fn take_losses(&mut self, values: &Values) {
        let State { accounts, losses, .. } = self;
        for range in values.losses.values() {
            let is_it = |account: &Account| account.kind == range.kind && account.name == range.name;
            let id = accounts.iter().find(|(_, account)| is_it(account)).map(|(id, _)| *id);
            losses.take_in(id, range.clone());
        }
    }
}

impl Round<'_> {
    /// Puts a record back under its number, or at the end. One that is there already stays as it is.
    fn take_record(&mut self, seq: Option<u64>, value: &[u8]) -> Result<(), redb::Error> {
        let seq = seq.unwrap_or(self.state.next_seq);
        if self.log.get(seq)?.is_some() {
            return Ok(());
        }
        let outline = record::outline(value).ok();
        let accounts = outline.as_ref().map(|outline| self.state.accounts_of(&outline.routes));
        if accounts.as_ref().is_some_and(|accounts| self.state.is_settled(seq, accounts)) {
            // It was here before, and everybody has taken it.
            return Ok(());
        }
        self.log.insert(seq, value)?;
        self.number_is_used(seq);
        let totals = &mut self.state.totals;
        totals.records = totals.records.saturating_add(1);
        totals.bytes = totals.bytes.saturating_add(cost(value.len()));
        let is_unknown = outline.is_some_and(|outline| outline.is_unknown_device);
        totals.unknown = totals.unknown.saturating_add(u64::from(is_unknown));
        for id in accounts.into_iter().flatten() {
            if let Some(account) = self.state.accounts.get_mut(&id)
                && !account.settled.contains(seq)
            {
                account.backlog = account.backlog.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Likewise a dead letter.
    fn take_letter(&mut self, id: AccountId, seq: Option<u64>, value: &[u8]) -> Result<(), redb::Error> {
        let seq = seq.unwrap_or(self.state.next_seq);
        if self.dead.get((id.0, seq))?.is_some() {
            return Ok(());
        }
        self.dead.insert((id.0, seq), value)?;
        self.number_is_used(seq);
        let totals = &mut self.state.totals;
        totals.dead_bytes = totals.dead_bytes.saturating_add(cost(value.len()));
        if let Some(account) = self.state.accounts.get_mut(&id) {
            account.dead = account.dead.saturating_add(1);
        }
        Ok(())
    }

    /// No other record may ever get this number.
    fn number_is_used(&mut self, seq: u64) {
        self.state.next_seq = self.state.next_seq.max(seq + 1);
        let totals = &mut self.state.totals;
        if self.state.next_seq > totals.seq_limit {
            totals.seq_limit = self.state.next_seq + SEQ_BLOCK;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn format_1_is_frozen() {
        let progress = Progress {
            attempts: 1,
            is_done: true,
            has_values: true,
            letter: Some((3, 300)),
            next: 128,
            ..Progress::new("newer", (7, 70_000, -1), Way::Import)
        };
        let note = progress.note().unwrap();
        assert_eq!(note.key, "transfer/newer");
        assert_eq!(data_encoding::HEXLOWER.encode(&note.value), "011e29657807f0a20401010101010103ac028001");
        assert_eq!(Progress::read(&note, "newer"), Some(progress));
        assert_eq!(Progress::read(&note, "salvage"), None);
    }
}
