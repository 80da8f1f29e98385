//! The tables, and the values that belong to them.
//!
//! A [`Store`] is the open database and, in memory, the few values that belong to it: totals, routes, accounts. A
//! [`Round`] works on a draft of those values and on the tables of one write transaction, and replaces the values only when
//! the transaction was committed; so memory never runs ahead of the file. Nothing here waits, sleeps or knows a channel.
//!
//! A database that is not empty and has no totals is somebody else's: it is refused before anything is written to it. The
//! totals are read before any other table, because a newer version may have changed all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::config::OnFull;
use crate::crash_point::CrashPoint;

use super::account::{Account, AccountId, Loss};
use super::carried::Carried;
use super::full::Refused;
use super::jobs::{Command, Finished};
use super::kept::Gone;
use super::losses::Losses;
use super::round::{Round, cost};
use super::unsynced::Forgotten;
use super::values::{StoreError, put, read_state, write_route_list, write_routes, write_state};
use super::wear::{Gauge, Wear};
use super::writer::Settle;
use super::{Note, RouteName, Routed, View};

pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
pub(super) const DEAD: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("dead");
pub(super) const KEPT: TableDefinition<'_, u64, ()> = TableDefinition::new("kept");
pub(super) const ROUTE: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("route");
pub(super) const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");

/// Format byte of the values in `dead`, `route` and `state`, and of the file as a whole.
pub(super) const FORMAT: u8 = 1;

/// Sequence numbers reserved at a time: one durable write for a million records.
pub(super) const SEQ_BLOCK: u64 = 1 << 20;

/// No spool gets here: half of what a sequence number can hold. More is damage, and adding to less overflows nothing.
pub(super) const SEQ_END: u64 = u64::MAX / 2;

/// Likewise for the ids of routes and accounts.
pub(super) const ID_END: u32 = u32::MAX / 2;

/// A route: small, persistent, never reused (RULES S5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub(super) u32);

impl RouteId {
    /// The number that stands for it in the file.
    pub fn number(self) -> u32 {
        self.0
    }

    /// A route that no spool made.
    #[cfg(test)]
    pub(crate) fn for_test(number: u32) -> RouteId {
        RouteId(number)
    }
}

/// Counts over the life of the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Records ever put in.
    pub appended: u64,
    /// Records in the log now.
    pub records: u64,
    /// Bytes they take, overhead included.
    pub bytes: u64,
    /// Bytes the dead letters take.
    pub dead_bytes: u64,
    /// Records in the log that everybody has settled and that stay for a while.
    pub kept: u64,
    /// Bytes they take.
    pub kept_bytes: u64,
    /// The last of what was settled by everybody and has gone.
    pub gone: Option<Gone>,
    /// Uplinks in the log of which nobody knows the device.
    pub unknown: u64,
    /// None of those lies below.
    pub unknown_from: u64,
    /// Records that left without this version being able to tell whose they were.
    pub unreadable: u64,
    pub(super) seq_limit: u64,
    pub(super) next_route: u32,
    pub(super) next_account: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Route {
    pub(super) flow: String,
    pub(super) account: u32,
}

/// The values that belong to the tables. Cloned for each round; small.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) totals: Totals,
    pub(super) routes: BTreeMap<RouteId, Route>,
    pub(super) accounts: BTreeMap<AccountId, Account>,
    pub(super) next_seq: u64,
    /// See [`View::floor`].
    pub(super) floor: u64,
    /// Where the next look for expired records begins.
    pub(super) expire_from: u64,
    /// Likewise for records that were kept long enough.
    pub(super) expire_kept_from: u64,
    pub(super) losses: Losses,
    pub(super) wear: Wear,
    /// The accounts of the present config, once somebody has said which they are.
    pub(super) present: Option<BTreeSet<AccountId>>,
}

impl State {
    /// The accounts that a record with these routes goes to, each once.
    pub(super) fn accounts_of(&self, routes: &[RouteId]) -> Vec<AccountId> {
        let mut accounts: Vec<AccountId> = routes
            .iter()
            .filter_map(|id| self.routes.get(id))
            .map(|route| AccountId(route.account))
            .collect();
        accounts.sort_unstable();
        accounts.dedup();
        accounts
    }

    /// Whether all of these have settled a record. An account that is gone waits for nothing.
    pub(super) fn is_settled(&self, seq: u64, accounts: &[AccountId]) -> bool {
        let has_settled =
            |id: &AccountId| self.accounts.get(id).is_none_or(|account| account.settled.contains(seq));
        accounts.iter().all(has_settled)
    }

    /// The routes of an account, the oldest first.
    pub(super) fn routes_of(&self, id: AccountId) -> Vec<RouteId> {
        let ours = self.routes.iter().filter(|(_, route)| route.account == id.0);
        ours.map(|(route, _)| *route).collect()
    }

    /// The account and its routes are gone for good; their ids are never given out again.
    pub(super) fn forget(&mut self, id: AccountId) {
        self.accounts.remove(&id);
        self.routes.retain(|_, route| route.account != id.0);
    }
}

/// What a round has to do.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) uplinks: Vec<Routed>,
    /// About what they will take on the disk.
    pub(super) bytes: u64,
    pub(super) notes: Vec<Note>,
    pub(super) settles: Vec<Settle>,
    pub(super) routes: Vec<RouteName>,
    pub(super) commands: Vec<Command>,
    pub(super) refused: Vec<Refused>,
    /// What a store in memory hands over.
    pub(super) carried: Option<Carried>,
}

impl Work {
    fn has_lasting_commands(&self) -> bool {
        self.commands.iter().any(|command| !command.is_volatile())
    }
}

/// About what an uplink will take on the disk: its content, and as much again as a frame's metadata.
pub(super) fn estimate(routed: &Routed) -> u64 {
    const METADATA_BYTES: usize = 128;
    cost(routed.uplink.content.len() + METADATA_BYTES)
}

/// What a round did.
#[derive(Debug, Default)]
pub(super) struct RoundDone {
    /// It was forced to the disk.
    pub(super) durable: bool,
    /// One more than the number of the last uplink that was put in.
    pub(super) after_uplinks: u64,
    /// What jobs put into the log again, bytes.
    pub(super) bytes_again: u64,
    /// Jobs that came to their end.
    pub(super) finished: Vec<Finished>,
    /// There is more to do at once.
    pub(super) more: bool,
}

/// The limits that a round keeps to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) log_cap: u64,
    pub(super) dead_cap: u64,
    /// What everybody has settled stays.
    pub(super) keeps: bool,
    pub(super) on_full: OnFull,
}

/// The open database with its values.
#[derive(Debug)]
pub(super) struct Store {
    database: Arc<Database>,
    pub(super) state: State,
    /// The values as of the last forced commit.
    on_disk: State,
    syncs: u64,
    gauge: Gauge,
}

impl Store {
    /// Reads the values, or writes them into a new file; reserves sequence numbers durably.
    pub(super) fn new(database: Database, gauge: Gauge) -> Result<Store, StoreError> {
        let txn = database.begin_write()?;
        let mut state = read_state(&txn)?;
        state.totals.seq_limit = state.next_seq + SEQ_BLOCK;
        put(&mut txn.open_table(STATE)?, "totals", &state.totals)?;
        write_route_list(&txn, &state)?;
        txn.commit()?;
        let gauge = gauge.after_uplinks(state.totals.appended);
        Ok(Store { database: Arc::new(database), on_disk: state.clone(), state, syncs: 1, gauge })
    }

    pub(super) fn database(&self) -> Arc<Database> {
        Arc::clone(&self.database)
    }

    #[cfg(test)]
    pub(super) fn into_database(self) -> Arc<Database> {
        self.database
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// After a reopening in mid-run, which may have brought a fresh file: brings back the routes that the rooms already hold,
    /// under their ids, and goes on counting where the numbers that lanes still hold end. A late settlement would otherwise
    /// hit another record.
    pub(super) fn adopt(&mut self, before: &State, forgotten: &Forgotten) -> Result<(), redb::Error> {
        let mut draft = self.state.clone();
        draft.totals.appended = draft.totals.appended.saturating_add(forgotten.records);
        draft.next_seq = draft.next_seq.max(before.next_seq);
        draft.present.clone_from(&before.present);
        draft.totals.seq_limit = draft.next_seq + SEQ_BLOCK;
        for (id, route) in &before.routes {
            draft.routes.entry(*id).or_insert_with(|| route.clone());
        }
        for (id, account) in &before.accounts {
            let fresh = || {
                let mut fresh = Account::starting_at(&account.kind, &account.name, draft.next_seq);
                // The operator has not taken it back.
                fresh.paused = account.paused;
                fresh
            };
            draft.accounts.entry(*id).or_insert_with(fresh);
        }
        for (id, n) in &forgotten.delivered {
            if let Some(account) = draft.accounts.get_mut(id) {
                account.delivered = account.delivered.saturating_add(*n);
            }
        }
        draft.totals.gone =
            forgotten.gone.map_or(draft.totals.gone, |gone| Gone::later(draft.totals.gone, gone));
        draft.totals.next_route = draft.totals.next_route.max(before.totals.next_route);
        draft.totals.next_account = draft.totals.next_account.max(before.totals.next_account);
        let txn = self.database.begin_write()?;
        write_routes(&txn, &State::default(), &draft)?;
        write_state(&txn, &State::default(), &draft, &[])?;
        txn.commit()?;
        self.on_disk.clone_from(&draft);
        self.state = draft;
        Ok(())
    }

    /// The values as of the last forced commit.
    pub(super) fn on_disk(&self) -> &State {
        &self.on_disk
    }

    /// Nothing was ever put into it.
    pub(super) fn is_fresh(&self) -> bool {
        self.state.totals.appended == 0 && self.state.accounts.is_empty()
    }

    /// Whether everybody whom a record with these routes is for has settled it.
    pub(super) fn is_settled(&self, seq: u64, routes: &[RouteId]) -> bool {
        self.state.is_settled(seq, &self.state.accounts_of(routes))
    }

    /// The accounts of a record with these routes, if all of them have settled it.
    pub(super) fn takers(&self, seq: u64, routes: &[RouteId]) -> Option<Vec<AccountId>> {
        let accounts = self.state.accounts_of(routes);
        self.state.is_settled(seq, &accounts).then_some(accounts)
    }

    /// Which of these records the log has.
    pub(super) fn holds(&self, seqs: impl Iterator<Item = u64>) -> Result<BTreeSet<u64>, StoreError> {
        let log = self.database.begin_read()?.open_table(LOG)?;
        let mut held = BTreeSet::new();
        for seq in seqs {
            if log.get(seq)?.is_some() {
                held.insert(seq);
            }
        }
        Ok(held)
    }

    /// The notes stored last.
    pub(super) fn notes(&self) -> Result<Vec<Note>, StoreError> {
        let txn = self.database.begin_read()?;
        let values = txn.open_table(STATE)?;
        let mut notes = Vec::new();
        for row in values.range("note/".."note0")? {
            let (key, value) = row?;
            let key = key.value().strip_prefix("note/").unwrap_or_default().to_owned();
            notes.push(Note { key, value: value.value().to_vec() });
        }
        Ok(notes)
    }

    /// Does the work in one transaction and commits it, forced to the disk where `durable` says so or where it must be.
    pub(super) fn round(
        &mut self,
        work: &Work,
        durable: bool,
        limits: Limits,
        now_us: i64,
        retain: impl FnOnce(&mut Round<'_>) -> Result<(), redb::Error>,
    ) -> Result<RoundDone, redb::Error> {
        let mut txn = self.database.begin_write()?;
        let mut draft = self.state.clone();
        let made_routes = find_or_make_routes(&mut draft, &work.routes);
        let mut done = RoundDone::default();
        // New numbers and new ids must be on the disk before anybody can have seen them.
        let reserve = draft.next_seq + work.uplinks.len() as u64 > draft.totals.seq_limit;
        if reserve {
            draft.totals.seq_limit = draft.next_seq + work.uplinks.len() as u64 + SEQ_BLOCK;
        }
        // Whoever asked for a job, or carries one on after a crash, must not find its work undone.
        let mut durable =
            durable || reserve || made_routes || work.has_lasting_commands() || draft.has_durable_jobs();
        {
            let mut round = Round::new(&txn, &mut draft, limits, now_us)?;
            if let Some(carried) = &work.carried {
                round.take_over(carried)?;
            }
            for routed in &work.uplinks {
                round.append(routed)?;
            }
            if !work.uplinks.is_empty() {
                CrashPoint::UplinksInRound.reached();
            }
            for refused in &work.refused {
                round.lose(refused.account, Loss::Refused, 1, Some(refused.lost));
            }
            done.after_uplinks = round.state.next_seq;
            for settle in &work.settles {
                round.settle(settle)?;
            }
            for command in &work.commands {
                round.obey(command);
            }
            retain(&mut round)?;
            round.do_jobs(&mut done)?;
            round.evict(limits.log_cap)?;
            round.bound_dead()?;
            round.settle_accounts_of_unreadable()?;
            if round.ends_undelivered {
                CrashPoint::UndeliveredInRound.reached();
                durable = true;
            }
        }
        txn.set_durability(if durable { Durability::Immediate } else { Durability::None })
            .map_err(redb::Error::from)?;
        let written = self.gauge.since(draft.totals.appended);
        if durable {
            draft.wear.add(written, now_us);
        }
        write_routes(&txn, &self.state, &draft)?;
        write_state(&txn, &self.state, &draft, &work.notes)?;
        draft.losses.write(&self.state.losses, &txn)?;
        if durable {
            CrashPoint::BeforeCommit.reached();
        }
        txn.commit()?;
        if durable {
            CrashPoint::AfterCommit.reached();
            if done.more {
                CrashPoint::JobUnderWay.reached();
            }
        }
        self.state = draft;
        if durable {
            self.gauge.note(written);
            self.on_disk.clone_from(&self.state);
            self.syncs += 1;
        }
        done.durable = durable;
        Ok(done)
    }

    /// The ids of routes that exist.
    pub(super) fn find_routes(&self, names: &[RouteName]) -> Vec<(RouteId, AccountId)> {
        names.iter().filter_map(|name| find_route(&self.state, name)).collect()
    }

    pub(super) fn view(&self, generation: u64) -> View {
        let totals = &self.state.totals;
        View {
            generation,
            end: self.state.next_seq,
            floor: self.state.floor,
            records: totals.records,
            bytes: totals.bytes,
            kept: totals.kept,
            kept_bytes: totals.kept_bytes,
            losses: self.state.losses.len(),
            appended: totals.appended,
            durable: self.on_disk.totals.appended,
            committed: self.on_disk.totals.appended,
            at_risk: totals.appended.saturating_sub(self.on_disk.totals.appended),
            syncs: self.syncs,
            numbering: 0,
            out_of_reach: 0,
            wear: self.state.wear.plus(self.gauge.since(totals.appended)),
            on_disk: None,
            accounts: self.state.accounts.iter().map(|(id, account)| account.view(*id)).collect(),
            trouble: None,
            set_aside: Vec::new(),
        }
    }
}

fn find_route(state: &State, name: &RouteName) -> Option<(RouteId, AccountId)> {
    state.routes.iter().find_map(|(id, route)| {
        let account_id = AccountId(route.account);
        let account = state.accounts.get(&account_id)?;
        (route.flow == name.flow && *account.kind == *name.kind && *account.name == *name.name)
            .then_some((*id, account_id))
    })
}

/// Makes what is missing; returns whether anything was.
fn find_or_make_routes(state: &mut State, names: &[RouteName]) -> bool {
    let mut made = false;
    for name in names {
        if let Some((_, account)) = find_route(state, name) {
            state.keep_account(account);
            continue;
        }
        made = true;
        let same = |account: &Account| *account.kind == *name.kind && *account.name == *name.name;
        let existing = state.accounts.iter().find(|(_, account)| same(account)).map(|(id, _)| *id);
        let account = existing.unwrap_or_else(|| {
            let id = AccountId(state.totals.next_account);
            state.totals.next_account += 1;
            state.accounts.insert(id, Account::starting_at(&name.kind, &name.name, state.next_seq));
            id
        });
        state.keep_account(account);
        let id = RouteId(state.totals.next_route);
        state.totals.next_route += 1;
        state.routes.insert(id, Route { flow: name.flow.clone(), account: account.0 });
    }
    made
}

#[cfg(test)]
pub(super) mod tests;
