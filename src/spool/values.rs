//! The values as they lie in the file: read at the start, and what a round changed written in its transaction.

use std::fmt;

use redb::{Database, ReadableDatabase, ReadableTable, TableHandle, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::account::{Account, AccountId};
use super::losses::Losses;
use super::record::{Unsealed, seal, unseal};
use super::store::{DEAD, FORMAT, ID_END, KEPT, LOG, ROUTE, Route, RouteId, SEQ_END, STATE, State, Totals};
use super::{Note, wear};

/// All routes once more, among the values. They are written once and for good, in one page; without it nobody could tell
/// whom a record is for, and a salvage would be in vain.
pub(super) const ROUTES_KEY: &str = "routes";

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

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Damaged(reason) => f.write_str(reason),
            StoreError::Newer(format) => write!(f, "format {format} is newer than this program"),
            StoreError::Redb(error) => error.fmt(f),
        }
    }
}

impl From<StoreError> for super::OpenError {
    fn from(error: StoreError) -> Self {
        super::OpenError::Unavailable(error.to_string())
    }
}

/// Reads one account as stored.
pub(super) fn read_account(database: &Database, id: AccountId) -> Result<Option<Account>, StoreError> {
    let txn = database.begin_read()?;
    let values = txn.open_table(STATE)?;
    values.get(account_key(id).as_str())?.map(|value| open_value(value.value(), "account")).transpose()
}

/// Reads the totals as stored.
pub(super) fn read_totals(database: &Database) -> Result<Totals, StoreError> {
    let txn = database.begin_read()?;
    let values = txn.open_table(STATE)?;
    let totals = values.get("totals")?.map(|value| open_value(value.value(), "totals")).transpose()?;
    Ok(totals.unwrap_or_default())
}

/// Reads the routes of one account, with their flows.
pub(super) fn read_routes(database: &Database, id: AccountId) -> Result<Vec<(RouteId, String)>, StoreError> {
    let table = database.begin_read()?.open_table(ROUTE)?;
    let mut routes = Vec::new();
    for row in table.iter()? {
        let (route_id, value) = row?;
        let route: Route = open_value(value.value(), "route")?;
        if route.account == id.0 {
            routes.push((RouteId(route_id.value()), route.flow));
        }
    }
    Ok(routes)
}

/// Reads the values and makes the tables that are missing.
pub(super) fn read_state(txn: &WriteTransaction) -> Result<State, StoreError> {
    let tables: Vec<String> = txn.list_tables()?.map(|table| table.name().to_owned()).collect();
    let is_new = tables.is_empty() && txn.list_multimap_tables()?.next().is_none();
    let mut state = State::default();
    let values = txn.open_table(STATE)?;
    match values.get("totals")? {
        Some(value) => state.totals = open_value(value.value(), "totals")?,
        None if is_new => {}
        None => return Err(StoreError::Damaged("it is a redb file, but no spool".into())),
    }
    if let Some(value) = values.get(wear::KEY)? {
        state.wear = open_value(value.value(), "flash ledger")?;
    }
    txn.open_table(DEAD)?;
    txn.open_table(KEPT)?;
    for row in txn.open_table(ROUTE)?.iter()? {
        let (id, value) = row?;
        state.routes.insert(RouteId(id.value()), open_value(value.value(), "route")?);
    }
    for row in values.range("account/".."account0")? {
        let (key, value) = row?;
        let id = account_of_key(key.value())
            .ok_or_else(|| StoreError::Damaged(format!("the key `{}` names no account", key.value())))?;
        state.accounts.insert(id, open_value(value.value(), "account")?);
    }
    state.losses = Losses::read(txn, |range| {
        let is_it = |account: &Account| account.kind == range.kind && account.name == range.name;
        state.accounts.iter().find(|(_, account)| is_it(account)).map(|(id, _)| *id)
    })?;
    let log = txn.open_table(LOG)?;
    let after_last = log.last()?.map_or(0, |(seq, _)| seq.value().saturating_add(1));
    state.next_seq = state.totals.seq_limit.max(after_last);
    state.floor = log.first()?.map_or(state.next_seq, |(seq, _)| seq.value());
    check_values(&state)?;
    Ok(state)
}

/// Values that can be read may still contradict each other.
pub(super) fn check_values(state: &State) -> Result<(), StoreError> {
    let totals = &state.totals;
    let ids_fit = totals.next_route <= ID_END
        && totals.next_account <= ID_END
        && state.accounts.keys().all(|id| id.0 < totals.next_account)
        && state.routes.iter().all(|(id, route)| {
            id.0 < totals.next_route && state.accounts.contains_key(&AccountId(route.account))
        });
    if !ids_fit {
        return Err(StoreError::Damaged("its routes and accounts do not belong together".into()));
    }
    if state.next_seq > SEQ_END {
        return Err(StoreError::Damaged(format!("its sequence numbers reach {}", state.next_seq)));
    }
    Ok(())
}

pub(super) fn account_key(id: AccountId) -> String {
    format!("account/{:010}", id.0)
}

pub(super) fn account_of_key(key: &str) -> Option<AccountId> {
    key.strip_prefix("account/")?.parse().ok().map(AccountId)
}

pub(super) fn open_value<T: for<'a> Deserialize<'a>>(bytes: &[u8], what: &str) -> Result<T, StoreError> {
    match unseal(bytes) {
        Unsealed::Body(FORMAT, body) => postcard::from_bytes(body)
            .map_err(|_| StoreError::Damaged(format!("the stored {what} can't be decoded"))),
        Unsealed::Body(format, _) if format > FORMAT => Err(StoreError::Newer(format)),
        Unsealed::Body(..) | Unsealed::Damaged => {
            Err(StoreError::Damaged(format!("the stored {what} fails its checksum")))
        }
    }
}

pub(super) fn put<T: Serialize>(
    values: &mut redb::Table<'_, &'static str, &'static [u8]>,
    key: &str,
    value: &T,
) -> Result<(), redb::Error> {
    let bytes = seal(FORMAT, value).map_err(|error| redb::Error::Corrupted(error.to_string()))?;
    values.insert(key, bytes.as_slice())?;
    Ok(())
}

/// Writes the routes that are new and removes those that are gone.
pub(super) fn write_routes(txn: &WriteTransaction, before: &State, after: &State) -> Result<(), redb::Error> {
    if before.routes == after.routes {
        return Ok(());
    }
    let mut table = txn.open_table(ROUTE)?;
    for id in before.routes.keys().filter(|id| !after.routes.contains_key(id)) {
        table.remove(id.0)?;
    }
    for (id, route) in after.routes.iter().filter(|(id, route)| before.routes.get(id) != Some(route)) {
        let bytes = seal(FORMAT, route).map_err(|error| redb::Error::Corrupted(error.to_string()))?;
        table.insert(id.0, bytes.as_slice())?;
    }
    write_route_list(txn, after)
}

/// Writes the routes the second time.
pub(super) fn write_route_list(txn: &WriteTransaction, state: &State) -> Result<(), redb::Error> {
    let list: Vec<(u32, &Route)> = state.routes.iter().map(|(id, route)| (id.0, route)).collect();
    put(&mut txn.open_table(STATE)?, ROUTES_KEY, &list)
}

/// Writes what differs between the values before and after.
pub(super) fn write_state(
    txn: &WriteTransaction,
    before: &State,
    after: &State,
    notes: &[Note],
) -> Result<(), redb::Error> {
    let mut values = txn.open_table(STATE)?;
    if before.totals != after.totals {
        put(&mut values, "totals", &after.totals)?;
    }
    if before.wear != after.wear {
        put(&mut values, wear::KEY, &after.wear)?;
    }
    for (id, account) in &after.accounts {
        if before.accounts.get(id) != Some(account) {
            put(&mut values, &account_key(*id), account)?;
        }
    }
    for id in before.accounts.keys().filter(|id| !after.accounts.contains_key(id)) {
        values.remove(account_key(*id).as_str())?;
    }
    for note in notes {
        values.insert(format!("note/{}", note.key).as_str(), note.value.as_slice())?;
    }
    Ok(())
}
