//! What a store in memory hands over to the file when that can be used again; see the writer's refuge.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadableDatabase, ReadableTable};

use super::account::{Account, AccountId};
use super::kept::Gone;
use super::losses::{LossRange, read_losses};
use super::round::{Round, cost};
use super::store::{DEAD, RouteId, Store};
use super::unsynced::Forgotten;

/// The numbers that routes and accounts have in the file, by those that they had in memory, where they are others.
#[derive(Clone, Debug, Default)]
pub(super) struct Aliases {
    routes: BTreeMap<RouteId, RouteId>,
    accounts: BTreeMap<AccountId, AccountId>,
}

impl Aliases {
    pub(super) fn add(&mut self, here: RouteId, file: RouteId) {
        self.routes.insert(here, file);
    }

    pub(super) fn add_account(&mut self, here: AccountId, file: AccountId) {
        self.accounts.insert(here, file);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    pub(super) fn route(&self, here: RouteId) -> RouteId {
        self.routes.get(&here).copied().unwrap_or(here)
    }

    fn account(&self, here: AccountId) -> AccountId {
        self.accounts.get(&here).copied().unwrap_or(here)
    }
}

/// See the [module](self). Accounts go by the numbers of the file.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// How many uplinks had come in, without those that are put in with it.
    pub(super) appended: u64,
    accounts: BTreeMap<AccountId, Account>,
    dead: Vec<(AccountId, Vec<u8>)>,
    losses: Vec<(AccountId, LossRange)>,
    present: Option<BTreeSet<AccountId>>,
    gone: Option<Gone>,
}

impl Carried {
    /// Reads it.
    pub(super) fn read(memory: &Store, aliases: &Aliases) -> Result<Carried, redb::Error> {
        let file = |id: AccountId| aliases.account(id);
        let state = memory.state();
        let mut carried = Carried {
            accounts: state.accounts.iter().map(|(id, account)| (file(*id), account.clone())).collect(),
            present: state.present.as_ref().map(|present| present.iter().map(|id| file(*id)).collect()),
            gone: state.totals.gone,
            ..Carried::default()
        };
        let database = memory.database();
        for row in database.begin_read()?.open_table(DEAD)?.iter()? {
            let (key, value) = row?;
            carried.dead.push((file(AccountId(key.value().0)), value.value().to_vec()));
        }
        for range in read_losses(&database)? {
            let of_account = |account: &&Account| account.kind == range.kind && account.name == range.name;
            let id = carried.accounts.iter().find(|(_, account)| of_account(account)).map(|(id, _)| *id);
            carried.losses.extend(id.map(|id| (id, range)));
        }
        Ok(carried)
    }

    /// Who took what the file never had.
    pub(super) fn add(&mut self, forgotten: &Forgotten) {
        self.gone = self.gone.or(forgotten.gone);
        for (id, n) in &forgotten.delivered {
            if let Some(account) = self.accounts.get_mut(id) {
                account.delivered = account.delivered.saturating_add(*n);
            }
        }
    }
}

impl Round<'_> {
    /// Takes it over, before anything is put in.
    pub(super) fn take_over(&mut self, carried: &Carried) -> Result<(), redb::Error> {
        let totals = &mut self.state.totals;
        totals.appended = totals.appended.max(carried.appended);
        // Whatever number it had there, it came after all that is here.
        let gone = carried.gone.map(|gone| gone.numbered(self.state.next_seq));
        totals.gone = gone.or(totals.gone);
        for (id, account) in &carried.accounts {
            if let Some(ours) = self.state.accounts.get_mut(id) {
                ours.take_over(account);
            }
        }
        for (id, letter) in &carried.dead {
            let seq = self.state.next_seq;
            self.state.next_seq += 1;
            self.dead.insert((id.0, seq), letter.as_slice())?;
            let totals = &mut self.state.totals;
            totals.dead_bytes = totals.dead_bytes.saturating_add(cost(letter.len()));
        }
        for (id, range) in &carried.losses {
            self.state.losses.add(*id, range.clone());
        }
        if carried.present.is_some() {
            self.state.present.clone_from(&carried.present);
        }
        Ok(())
    }
}
