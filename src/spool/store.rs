//! The tables, and a round: everything that changes them.
//!
//! A [`Store`] is the open database and, in memory, the few values that belong to it: totals, routes, accounts. A round
//! works on a draft of those values and on the tables of one write transaction, and replaces the values only when the
//! transaction was committed; so memory never runs ahead of the file. Nothing here waits, sleeps or knows a channel.

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::account::{Account, AccountId, Loss};
use super::record::{self, Unsealed, seal, unseal};
use super::writer::Settle;
use super::{Note, RouteName, Routed, Settlement, View};

pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const DEAD: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("dead");
const ROUTE: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("route");
const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");

/// Format byte of the values in `dead`, `route` and `state`, and of the file as a whole.
const FORMAT: u8 = 1;

/// Sequence numbers reserved at a time: one durable write for a million records.
const SEQ_BLOCK: u64 = 1 << 20;

/// What a record costs beside its value: key, page slots, its share of the tree.
const RECORD_OVERHEAD: u64 = 32;

/// A route: small, persistent, never reused (RULES S5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub(super) u32);

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
    /// Records that left without this version being able to tell whose they were.
    pub unreadable: u64,
    seq_limit: u64,
    next_route: u32,
    next_account: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Route {
    flow: String,
    account: u32,
}

#[derive(Serialize, Deserialize)]
struct DeadV1<'a> {
    reason: &'a str,
    attempts: u32,
    refused_us: i64,
    record: &'a [u8],
}

/// Why a store can't be made of an open database.
#[derive(Debug)]
pub(super) enum StoreError {
    Damaged(String),
    Newer(u8),
    Redb(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        StoreError::Redb(error.into())
    }
}

impl From<StoreError> for super::OpenError {
    fn from(error: StoreError) -> Self {
        super::OpenError::Unavailable(match error {
            StoreError::Damaged(reason) => reason,
            StoreError::Newer(format) => format!("format {format} is newer than this program"),
            StoreError::Redb(error) => error.to_string(),
        })
    }
}

/// The values that belong to the tables. Cloned for each round; small.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) totals: Totals,
    routes: BTreeMap<RouteId, Route>,
    pub(super) accounts: BTreeMap<AccountId, Account>,
    pub(super) next_seq: u64,
    /// See [`View::floor`].
    pub(super) floor: u64,
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
}

/// What a round has to do.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) uplinks: Vec<Routed>,
    pub(super) notes: Vec<Note>,
    pub(super) settles: Vec<Settle>,
    pub(super) routes: Vec<RouteName>,
}

/// The limits that a round keeps to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) log_cap: u64,
    pub(super) dead_cap: u64,
}

/// The open database with its values.
#[derive(Debug)]
pub(super) struct Store {
    database: Arc<Database>,
    pub(super) state: State,
    committed: u64,
    syncs: u64,
}

impl Store {
    /// Reads the values, or writes them into a new file; reserves sequence numbers durably.
    pub(super) fn new(database: Database) -> Result<Store, StoreError> {
        let txn = database.begin_write()?;
        let mut state = State::default();
        {
            let mut log = txn.open_table(LOG)?;
            txn.open_table(DEAD)?;
            let routes = txn.open_table(ROUTE)?;
            let mut values = txn.open_table(STATE)?;
            if let Some(value) = values.get("totals")? {
                state.totals = open_value(value.value(), "totals")?;
            }
            for row in routes.iter()? {
                let (id, value) = row?;
                state.routes.insert(RouteId(id.value()), open_value(value.value(), "route")?);
            }
            for row in values.range("account/".."account0")? {
                let (key, value) = row?;
                let id = key.value().trim_start_matches("account/").parse::<u32>();
                let id = id.map_err(|_| StoreError::Damaged(format!("account key `{}`", key.value())))?;
                state.accounts.insert(AccountId(id), open_value(value.value(), "account")?);
            }
            let after_last = log.last()?.map_or(0, |(seq, _)| seq.value().saturating_add(1));
            state.next_seq = state.totals.seq_limit.max(after_last);
            state.totals.seq_limit = state.next_seq + SEQ_BLOCK;
            // Opening a table for writing is what creates it; the log stays as it is.
            let _ = &mut log;
            put(&mut values, "totals", &state.totals)?;
        }
        txn.commit()?;
        let committed = state.totals.appended;
        Ok(Store { database: Arc::new(database), state, committed, syncs: 1 })
    }

    pub(super) fn database(&self) -> Arc<Database> {
        Arc::clone(&self.database)
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// After a fresh start in mid-run: brings back the routes that the rooms already hold, under their ids.
    pub(super) fn adopt_routes(&mut self, before: &State) -> Result<(), redb::Error> {
        let mut draft = self.state.clone();
        for (id, route) in &before.routes {
            draft.routes.entry(*id).or_insert_with(|| route.clone());
        }
        for (id, account) in &before.accounts {
            let fresh = || Account::starting_at(&account.kind, &account.name, draft.next_seq);
            draft.accounts.entry(*id).or_insert_with(fresh);
        }
        draft.totals.next_route = draft.totals.next_route.max(before.totals.next_route);
        draft.totals.next_account = draft.totals.next_account.max(before.totals.next_account);
        let txn = self.database.begin_write()?;
        write_routes(&txn, &draft)?;
        write_state(&txn, &State::default(), &draft, &[])?;
        txn.commit()?;
        self.state = draft;
        Ok(())
    }

    /// The notes stored last.
    pub(super) fn notes(&self) -> Result<Vec<Note>, StoreError> {
        let txn = self.database.begin_read()?;
        let values = txn.open_table(STATE)?;
        let mut notes = Vec::new();
        for row in values.range("note/".."note0")? {
            let (key, value) = row?;
            let key = key.value().trim_start_matches("note/").to_owned();
            notes.push(Note { key, value: value.value().to_vec() });
        }
        Ok(notes)
    }

    /// Does the work in one transaction and commits it, forced to the disk where `durable` says so or where it must be.
    /// Returns whether it was.
    pub(super) fn round(
        &mut self,
        work: &Work,
        durable: bool,
        limits: Limits,
        now_us: i64,
        retain: impl FnOnce(&mut Round<'_>) -> Result<(), redb::Error>,
    ) -> Result<bool, redb::Error> {
        let mut txn = self.database.begin_write()?;
        let mut draft = self.state.clone();
        let made_routes = find_or_make_routes(&mut draft, &work.routes);
        // New numbers and new ids must be on the disk before anybody can have seen them.
        let reserve = draft.next_seq + work.uplinks.len() as u64 > draft.totals.seq_limit;
        if reserve {
            draft.totals.seq_limit = draft.next_seq + work.uplinks.len() as u64 + SEQ_BLOCK;
        }
        let durable = durable || reserve || made_routes;
        txn.set_durability(if durable { Durability::Immediate } else { Durability::None })
            .map_err(redb::Error::from)?;
        {
            let mut round =
                Round { log: txn.open_table(LOG)?, dead: txn.open_table(DEAD)?, state: &mut draft };
            for routed in &work.uplinks {
                round.append(routed)?;
            }
            for settle in &work.settles {
                round.settle(settle, now_us)?;
            }
            retain(&mut round)?;
            round.evict(limits.log_cap)?;
            round.bound_dead(limits.dead_cap)?;
        }
        if made_routes {
            write_routes(&txn, &draft)?;
        }
        write_state(&txn, &self.state, &draft, &work.notes)?;
        txn.commit()?;
        self.state = draft;
        if durable {
            self.committed = self.state.totals.appended;
            self.syncs += 1;
        }
        Ok(durable)
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
            committed: self.committed,
            syncs: self.syncs,
            accounts: self.state.accounts.iter().map(|(id, account)| account.view(*id)).collect(),
            trouble: None,
            set_aside: None,
        }
    }
}

/// Reads one account as stored.
pub(super) fn read_account(database: &Database, id: AccountId) -> Result<Option<Account>, redb::Error> {
    let txn = database.begin_read()?;
    let values = txn.open_table(STATE)?;
    let value = values.get(account_key(id).as_str())?;
    Ok(value.and_then(|value| open_value(value.value(), "account").ok()))
}

/// The tables of a round and the draft of the values.
pub(super) struct Round<'t> {
    pub(super) log: redb::Table<'t, u64, &'static [u8]>,
    dead: redb::Table<'t, (u64, u32), &'static [u8]>,
    pub(super) state: &'t mut State,
}

impl Round<'_> {
    fn append(&mut self, routed: &Routed) -> Result<(), redb::Error> {
        let bytes = match record::encode(&routed.uplink, &routed.routes) {
            Ok(bytes) => bytes,
            Err(error) => {
                // postcard fails to encode only when memory runs out; losing one record beats losing the round.
                log::error!("spool: uplink {} can't be encoded: {error}", routed.uplink.id);
                return Ok(());
            }
        };
        let seq = self.state.next_seq;
        self.log.insert(seq, bytes.as_slice())?;
        self.state.next_seq += 1;
        self.state.totals.appended += 1;
        self.state.totals.records += 1;
        self.state.totals.bytes += cost(bytes.len());
        for id in self.state.accounts_of(&routed.routes) {
            if let Some(account) = self.state.accounts.get_mut(&id) {
                account.backlog += 1;
            }
        }
        Ok(())
    }

    /// Settles what a lane reports; a repeat, or a record that is already gone, changes no count.
    fn settle(&mut self, settle: &Settle, now_us: i64) -> Result<(), redb::Error> {
        let Some(account) = self.state.accounts.get_mut(&settle.account) else { return Ok(()) };
        let repeat = account.settled.contains(settle.to);
        account.settled.insert(settle.from, settle.to);
        if repeat {
            return Ok(());
        }
        let Some(value) = self.log.get(settle.to)?.map(|value| value.value().to_vec()) else { return Ok(()) };
        let Some(outline) = record::outline(&value) else {
            return self.settle_damaged(settle);
        };
        let accounts = self.state.accounts_of(&outline.routes);
        if !accounts.contains(&settle.account) {
            return Ok(());
        }
        if let Some(account) = self.state.accounts.get_mut(&settle.account) {
            account.backlog = account.backlog.saturating_sub(1);
            match &settle.settlement {
                Settlement::Delivered => account.delivered += 1,
                Settlement::Refused { .. } => account.dead += 1,
                Settlement::Damaged => account.lose(Loss::Damaged),
            }
        }
        if let Settlement::Refused { reason, attempts } = &settle.settlement {
            self.bury(settle, reason, *attempts, now_us, &value)?;
        }
        let done = |id: &AccountId| {
            self.state.accounts.get(id).is_none_or(|account| account.settled.contains(settle.to))
        };
        if accounts.iter().all(done) {
            self.log.remove(settle.to)?;
            self.forget_bytes(value.len());
        }
        Ok(())
    }

    /// A record whose routes can't be read waits for nobody in particular: every account that has not passed it is told of
    /// the loss, and it is removed.
    fn settle_damaged(&mut self, settle: &Settle) -> Result<(), redb::Error> {
        let Some(len) = self.log.remove(settle.to)?.map(|value| value.value().len()) else { return Ok(()) };
        self.forget_bytes(len);
        self.state.totals.unreadable += 1;
        for (id, account) in &mut self.state.accounts {
            if *id == settle.account || !account.settled.contains(settle.to) {
                account.backlog = account.backlog.saturating_sub(1);
                account.lose(Loss::Damaged);
            }
        }
        Ok(())
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
        self.state.totals.dead_bytes += cost(bytes.len());
        Ok(())
    }

    /// RULES S12: dead letters are bounded, the oldest make room.
    fn bound_dead(&mut self, cap: u64) -> Result<(), redb::Error> {
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
                account.lose(Loss::DeadEvicted);
            }
        }
        Ok(())
    }

    /// Counts a record that leaves unsettled against every account that still waited for it.
    pub(super) fn count_loss(&mut self, seq: u64, value: &[u8], loss: Loss) {
        self.forget_bytes(value.len());
        let Some(outline) = record::outline(value) else {
            self.state.totals.unreadable += 1;
            return;
        };
        for id in self.state.accounts_of(&outline.routes) {
            if let Some(account) = self.state.accounts.get_mut(&id)
                && !account.settled.contains(seq)
            {
                account.backlog = account.backlog.saturating_sub(1);
                account.lose(loss);
            }
        }
    }

    fn forget_bytes(&mut self, len: usize) {
        let totals = &mut self.state.totals;
        totals.records = totals.records.saturating_sub(1);
        totals.bytes = totals.bytes.saturating_sub(cost(len));
    }
}

fn cost(len: usize) -> u64 {
    len as u64 + RECORD_OVERHEAD
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
        if find_route(state, name).is_some() {
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
        let id = RouteId(state.totals.next_route);
        state.totals.next_route += 1;
        state.routes.insert(id, Route { flow: name.flow.clone(), account: account.0 });
    }
    made
}

fn account_key(id: AccountId) -> String {
    format!("account/{:010}", id.0)
}

fn open_value<T: for<'a> Deserialize<'a>>(bytes: &[u8], what: &str) -> Result<T, StoreError> {
    match unseal(bytes) {
        Unsealed::Body(FORMAT, body) => postcard::from_bytes(body)
            .map_err(|_| StoreError::Damaged(format!("the stored {what} can't be decoded"))),
        Unsealed::Body(format, _) if format > FORMAT => Err(StoreError::Newer(format)),
        Unsealed::Body(..) | Unsealed::Damaged => {
            Err(StoreError::Damaged(format!("the stored {what} fails its checksum")))
        }
    }
}

fn put<T: Serialize>(
    values: &mut redb::Table<'_, &'static str, &'static [u8]>,
    key: &str,
    value: &T,
) -> Result<(), redb::Error> {
    let bytes = seal(FORMAT, value).map_err(|error| redb::Error::Corrupted(error.to_string()))?;
    values.insert(key, bytes.as_slice())?;
    Ok(())
}

fn write_routes(txn: &WriteTransaction, state: &State) -> Result<(), redb::Error> {
    let mut table = txn.open_table(ROUTE)?;
    for (id, route) in &state.routes {
        let bytes = seal(FORMAT, route).map_err(|error| redb::Error::Corrupted(error.to_string()))?;
        table.insert(id.0, bytes.as_slice())?;
    }
    Ok(())
}

/// Writes what differs between the values before and after.
fn write_state(
    txn: &WriteTransaction,
    before: &State,
    after: &State,
    notes: &[Note],
) -> Result<(), redb::Error> {
    let mut values = txn.open_table(STATE)?;
    if before.totals != after.totals {
        put(&mut values, "totals", &after.totals)?;
    }
    for (id, account) in &after.accounts {
        if before.accounts.get(id) != Some(account) {
            put(&mut values, &account_key(*id), account)?;
        }
    }
    for note in notes {
        values.insert(format!("note/{}", note.key).as_str(), note.value.as_slice())?;
    }
    Ok(())
}
