//! The values of a spool file: totals, accounts, routes, notes and the loss ledger.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use redb::TableHandle;

use super::super::Note;
use super::super::account::{Account, AccountId};
use super::super::losses::{LOSS, LossRange};
use super::super::store::{ROUTE, Route, RouteId, SEQ_BLOCK, SEQ_END, STATE, State, Totals};
use super::super::values::{ROUTES_KEY, StoreError, account_of_key, open_value};
use super::super::wear::{self, Wear};
use super::tree::{self, Key, Step};
use super::{Image, Tables};

/// See the [module](self).
#[derive(Debug, Default)]
pub(in super::super) struct Values {
    pub(in super::super) totals: Option<Totals>,
    pub(in super::super) accounts: BTreeMap<AccountId, Account>,
    pub(in super::super) routes: BTreeMap<RouteId, Route>,
    pub(in super::super) wear: Option<Wear>,
    notes: BTreeMap<String, Vec<u8>>,
    pub(in super::super) losses: BTreeMap<u64, LossRange>,
    /// What is there and can't be read.
    pub(in super::super) bad: Vec<String>,
    /// A newer version wrote them, in this format.
    pub(in super::super) newer: Option<u8>,
    /// Some may be missing.
    has_holes: bool,
    /// All routes are known, whatever became of their table.
    has_route_list: bool,
}

/// Whom a record is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Whose {
    /// These wait for it.
    Waited(Vec<AccountId>),
    /// Everybody has settled it.
    Settled,
    /// What would tell can't be read.
    Unknown,
}

impl Values {
    /// Who waits for a record.
    pub(in super::super) fn whose(&self, seq: u64, routes: &[RouteId]) -> Whose {
        let mut waited = Vec::new();
        let mut is_known = self.newer.is_none();
        for route in routes {
            let id = self.routes.get(route).map(|route| AccountId(route.account));
            match id.and_then(|id| Some((id, self.accounts.get(&id)?))) {
                Some((id, account)) if !account.settled.contains(seq) => waited.push(id),
                Some(_) => {}
                // A route that is really gone is one whose integration was purged.
                None => {
                    let is_gone = self.has_route_list && !self.routes.contains_key(route);
                    is_known &= is_gone || !self.has_holes;
                }
            }
        }
        waited.sort_unstable();
        waited.dedup();
        match (waited.is_empty(), is_known) {
            (false, _) => Whose::Waited(waited),
            (true, true) => Whose::Settled,
            (true, false) => Whose::Unknown,
        }
    }

    /// Whether one of `routes` leads to the account.
    pub(in super::super) fn has_route_to(&self, id: AccountId, routes: &[RouteId]) -> bool {
        routes.iter().any(|route| self.routes.get(route).is_some_and(|route| route.account == id.0))
    }

    /// One more than the greatest number that the log can have.
    pub(in super::super) fn numbers_end(&self) -> u64 {
        self.totals.map_or(SEQ_END, |totals| totals.seq_limit.min(SEQ_END))
    }

    /// Nothing is missing, as far as anybody can tell.
    pub(in super::super) fn is_complete(&self) -> bool {
        self.newer.is_some() || (self.totals.is_some() && !self.has_holes)
    }

    /// A number behind every one that was ever given out.
    pub(in super::super) fn numbers_after(&self) -> u64 {
        let settled = self.accounts.values().map(|account| &account.settled);
        let ends =
            settled.flat_map(|it| it.ranges().last().map(|(_, to)| to + 1).into_iter().chain([it.low()]));
        let end = self.totals.map(|totals| totals.seq_limit).into_iter().chain(ends).max().unwrap_or(0);
        end.min(SEQ_END - SEQ_BLOCK)
    }

    pub(in super::super) fn notes(&self) -> Vec<Note> {
        self.notes.iter().map(|(key, value)| Note { key: key.clone(), value: value.clone() }).collect()
    }

    /// The values as a store holds them.
    pub(in super::super) fn state(&self) -> State {
        let totals = self.totals.unwrap_or_default();
        State {
            totals,
            routes: self.routes.clone(),
            accounts: self.accounts.clone(),
            next_seq: totals.seq_limit,
            ..State::default()
        }
    }

    /// Takes in a value that is not known yet.
    fn take<K: Ord, V: for<'a> serde::Deserialize<'a>>(
        &mut self,
        key: K,
        bytes: &[u8],
        what: &str,
        sure: bool,
        into: fn(&mut Values) -> &mut BTreeMap<K, V>,
    ) {
        match open_value(bytes, what) {
            Ok(value) => _ = into(self).entry(key).or_insert(value),
            Err(error) => self.note_bad(error, sure),
        }
    }

    fn note_bad(&mut self, error: StoreError, sure: bool) {
        match error {
            StoreError::Newer(format) => self.newer = Some(format),
            error if sure => {
                self.has_holes = true;
                self.bad.push(error.to_string());
            }
            _ => {}
        }
    }

    fn take_state(&mut self, key: &str, value: &[u8], sure: bool) {
        if key == "totals" {
            match open_value(value, "totals") {
                Ok(totals) => _ = self.totals.get_or_insert(totals),
                Err(error) => self.note_bad(error, sure),
            }
        } else if key == ROUTES_KEY {
            if let Ok(routes) = open_value::<Vec<(u32, Route)>>(value, "routes") {
                self.has_route_list = true;
                self.routes.extend(routes.into_iter().map(|(id, route)| (RouteId(id), route)));
            }
        } else if key == wear::KEY {
            self.wear = self.wear.or(open_value(value, "flash ledger").ok());
        } else if let Some(note) = key.strip_prefix("note/") {
            // Nothing but the page vouches for it.
            if sure {
                self.notes.entry(note.to_owned()).or_insert_with(|| value.to_vec());
            }
        } else if key.starts_with("account/") {
            match account_of_key(key) {
                Some(id) => self.take(id, value, "account", sure, |values| &mut values.accounts),
                None if sure => self.bad.push(format!("the key `{key}` names no account")),
                None => {}
            }
        }
    }
}

impl Image {
    /// What can be read of the values.
    pub(in super::super) fn values(&self) -> Values {
        self.values_of(&self.commits)
    }

    /// An earlier commit of `commits` counts where the later ones have holes, and what no page vouches for comes last.
    pub(super) fn values_of(&self, commits: &[Tables]) -> Values {
        let mut values = Values { has_holes: commits.is_empty(), ..Values::default() };
        for tables in commits {
            let holes = self.read_values(tables, true, &mut values);
            values.has_holes |= holes;
            if !holes && values.totals.is_some() {
                return values;
            }
        }
        if values.has_holes {
            let sure = values.accounts.clone();
            for tables in commits {
                self.read_values(tables, false, &mut values);
            }
            // A flipped bit in a key makes an account of the same integration under another id.
            let Values { accounts, routes, .. } = &mut values;
            accounts
                .retain(|id, _| sure.contains_key(id) || routes.values().any(|route| route.account == id.0));
        }
        values
    }

    /// Takes in the values of one commit: those that are sure, or the others. Says whether there are holes.
    fn read_values(&self, tables: &Tables, wanted: bool, values: &mut Values) -> bool {
        let mut holes = self.each(tables, STATE.name(), wanted, &mut |key: String, value| {
            values.take_state(&key, value, wanted);
        });
        holes |= self.each(tables, ROUTE.name(), wanted, &mut |key: u32, value| {
            if wanted || !values.has_route_list {
                values.take(RouteId(key), value, "route", wanted, |values| &mut values.routes);
            }
        });
        holes |= self.each(tables, LOSS.name(), wanted, &mut |key: u64, value| {
            if let Some(range) = LossRange::read(value) {
                values.losses.entry(key).or_insert(range);
            }
        });
        holes
    }

    /// Visits the entries of a small table: those that are sure, or the others. Says whether it has holes.
    fn each<K: Key>(
        &self,
        tables: &Tables,
        name: &str,
        wanted: bool,
        visit: &mut dyn FnMut(K, &[u8]),
    ) -> bool {
        let mut holes = false;
        let table = tables.get(name).filter(|table| table.is_of::<K>(None));
        let root = table.and_then(|table| table.root);
        let widths = super::Widths { key: K::WIDTH, value: None };
        let _ = tree::walk::<K>(&self.pages, root, widths, &mut |step| {
            match step {
                Step::Entry { key, value, sure } if sure == wanted => visit(key, value),
                Step::Entry { .. } => {}
                Step::Hole => holes = true,
            }
            ControlFlow::Continue(())
        });
        holes
    }
}
