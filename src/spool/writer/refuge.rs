//! While the file can't be opened: the same store in memory (RULES S3).
//!
//! A full disk without a reserve, a missing permission, a file system that has become read-only, a card that is gone: none of that is
//! damage, and each of it may last for days. The writer then takes *refuge*: it goes on with a store in memory that takes at
//! most [`REFUGE_SIZE`]. Uplinks come in, are delivered, settled, counted and bounded there as ever (RULES S11).
//!
//! - Nothing in it is safe. A source that waits is answered only when everybody has its uplinks (RULES S6), everything else
//!   is `at_risk`, and [`View::trouble`] says why.
//! - What lies in the file is out of reach. The view goes on counting it, and an order about it is refused.
//! - The file is tried again after twice the breath that it is given after an error, then in twice the time, at most
//!   [`TRY_LAST`].
//!
//! # Back to the file
//!
//! One forced round takes everything along ([`Carried`]): what still waits, for those who still wait for it; dead letters;
//! losses; counts; settlements of records in the file that came too late for it. If that round fails, the store in memory goes
//! on as if it had not been tried.
//!
//! A round whose commit was reported to have failed may be in the file all the same, and that can't be seen before the file is
//! opened. Its uplinks are not put in twice then, but what became of them in memory counts beside what becomes of them in the
//! file: one that was delivered goes out once more, and one that made room counts as evicted although the file has it.
//!
//! # Numbers
//!
//! A spool that found no file at its start made its routes and accounts in memory, with numbers from
//! [`FOREIGN`] on that no file gives out. The file gives them others: [`View::numbering`] rises, on which whoever holds some
//! asks for them again; until then the writer translates what comes in.

use std::time::Duration;

use tokio::time::Instant;

use crate::crash_point::CrashPoint;

use super::super::account::{Account, AccountId};
use super::super::boots;
use super::super::carried::{Aliases, Carried};
use super::super::jobs::{Asked, Command, CommandError};
use super::super::open::{self, Opened};
use super::super::salvage;
use super::super::store::{Limits, RouteId, State, Store, Totals, Work};
use super::super::unsynced::Forgotten;
use super::super::waiters::Done;
use super::super::wear::Gauge;
use super::super::{OpenError, RouteName, Routed, View};
use super::{Settle, Writer, keep_last};

/// What the store in memory may take, with everything that belongs to it.
const REFUGE_SIZE: u64 = 1 << 20;

/// Routes and accounts that were made without a file have numbers from here on.
pub(in super::super) const FOREIGN: u32 = 1 << 30;

/// The longest wait between attempts to use the file again.
const TRY_LAST: Duration = Duration::from_secs(30);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Refuge {
    /// The values that are in the file, as far as is known; nothing if there was none.
    file: State,
    /// What the view last said of the file.
    durable: u64,
    syncs: u64,
    /// Records with smaller numbers are in the file, or were to be.
    first_seq: u64,
    /// Settlements of those.
    settles: Vec<Settle>,
    try_at: Instant,
    wait: Duration,
}

impl Refuge {
    fn new(file: State, first_seq: u64, view: &View, wait: Duration) -> Refuge {
        Refuge {
            file,
            durable: view.durable,
            syncs: view.syncs,
            first_seq,
            settles: Vec::new(),
            try_at: Instant::now() + wait,
            wait,
        }
    }

    fn is_foreign(&self) -> bool {
        self.file.totals.next_account == FOREIGN
    }

    pub(super) fn try_at(&self) -> Instant {
        self.try_at
    }

    /// Adds what lies in the file to the view of the store in memory.
    pub(super) fn complete(&self, view: &mut View) {
        view.durable = self.durable;
        view.syncs = self.syncs;
        view.wear = self.file.wear;
        view.out_of_reach = self.file.totals.records;
        for account in &mut view.accounts {
            if let Some(in_file) = self.file.accounts.get(&account.id) {
                account.add(&in_file.view(account.id));
            }
        }
    }
}

/// A store in memory that goes on where `before` was, with `in_hand` uplinks to be put in again.
fn in_memory(before: &State, in_hand: usize) -> Result<Store, String> {
    let backend = redb::backends::InMemoryBackend::new();
    let database = open::builder().create_with_backend(backend).map_err(|error| error.to_string())?;
    let mut store = Store::new(database, Gauge::default()).map_err(|error| error.to_string())?;
    let records = before.totals.appended.saturating_sub(in_hand as u64);
    let counted = Forgotten { records, ..Forgotten::default() };
    store.adopt(before, &counted).map_err(|error| error.to_string())?;
    Ok(store)
}

/// The store of a spool that has no file yet.
pub(in super::super) fn without_a_file() -> Result<Opened, OpenError> {
    let store = in_memory(&foreign(), 0).map_err(OpenError::Unavailable)?;
    Ok(Opened { store, holding: None, set_aside: Vec::new() })
}

fn foreign() -> State {
    let totals = Totals { next_route: FOREIGN, next_account: FOREIGN, ..Totals::default() };
    State { totals, ..State::default() }
}

impl Writer {
    /// Begins in the refuge, because there is no file.
    pub(in super::super) fn begin_in_refuge(&mut self, error: String) {
        self.durable_end = 0;
        self.refuge = Some(self.new_refuge(foreign(), 0));
        self.report_trouble(error);
    }

    fn new_refuge(&self, file: State, first_seq: u64) -> Refuge {
        Refuge::new(file, first_seq, &self.ends.publish.borrow(), self.backend.rest() * 2)
    }

    pub(super) fn refuge_limits(&self) -> Limits {
        Limits { keeps: false, ..self.settings.limits(Some(REFUGE_SIZE), &Totals::default()) }
    }

    /// Goes on in memory.
    pub(super) fn take_refuge(&mut self, error: String, work: &mut Work) -> Result<(), String> {
        self.let_go();
        let in_hand = self.unsynced.begin_refuge();
        let mut store = in_memory(&self.known, in_hand.len())?;
        let first_seq = store.state().next_seq;
        let again = Work { uplinks: in_hand, ..Work::default() };
        let limits = self.refuge_limits();
        store
            .round(&again, false, limits, self.clock.wall_us(), |_| Ok(()))
            .map_err(|error| error.to_string())?;
        self.unsynced.renumber(first_seq);
        self.waiters.forget_numbers();
        self.refuge = Some(self.new_refuge(self.on_disk.clone(), first_seq));
        self.keep_settles(work);
        self.unsynced_settles = 0;
        self.durable_end = 0;
        self.keep_by = None;
        work.commands.clear();
        for asked in std::mem::take(&mut self.asked) {
            self.refuse(asked);
        }
        self.shared.set(Some(store.database()));
        self.store = Some(store);
        self.generation += 1;
        self.report_trouble(error);
        Ok(())
    }

    /// Sorts out what is about records in the file.
    pub(super) fn keep_settles(&mut self, work: &mut Work) {
        let Some(refuge) = &mut self.refuge else { return };
        let settles = std::mem::take(&mut work.settles);
        let (in_file, here): (Vec<Settle>, _) =
            settles.into_iter().partition(|settle| settle.to < refuge.first_seq);
        in_file.iter().for_each(Settle::give_credit);
        refuge.settles.extend(in_file);
        work.settles = here;
    }

    /// An order about what lies in the file. `None`: it is refused.
    pub(super) fn can_obey(&self, command: &Command) -> bool {
        self.refuge.is_none() || matches!(command, Command::Present(_) | Command::Pause(..))
    }

    pub(super) fn refuse(&self, asked: Asked) {
        let why = self.trouble.clone().unwrap_or_default();
        // Whoever asked may have gone.
        let _ = asked.reply.send(Err(CommandError::OutOfReach(why)));
    }

    /// What the store in memory had to let go of is no longer at risk: it is lost, and counted.
    pub(super) fn forget_evicted(&mut self) {
        let Some(store) = &self.store else { return };
        if store.state().totals.records < self.unsynced.len() as u64
            && let Err(error) = self.unsynced.retain_in(store)
        {
            log::error!("spool: the store in memory can't be read: {error}");
        }
    }

    /// Tries to go back to the file.
    pub(super) fn try_the_file(&mut self) {
        let Err(error) = self.leave_refuge() else { return };
        if let Some(refuge) = &mut self.refuge {
            refuge.wait = (refuge.wait * 2).min(TRY_LAST);
            refuge.try_at = Instant::now() + refuge.wait;
        }
        self.report_trouble(error);
    }

    fn leave_refuge(&mut self) -> Result<(), String> {
        let (Some(refuge), Some(memory)) = (&self.refuge, &self.store) else { return Ok(()) };
        let opened = salvage::open(&self.settings, &self.backend, &self.meter, &*self.clock)
            .map_err(|error| error.to_string())?;
        let limits = self.settings.limits(opened.limit(), &opened.store.state().totals);
        let mut file = opened.store;
        let now_us = self.clock.wall_us();
        let on_disk = file.state().totals.appended;
        let aliases =
            go_back(&mut file, refuge, memory, limits, now_us).map_err(|error| error.to_string())?;
        let mut carried = Carried::read(memory, &aliases).map_err(|error| error.to_string())?;
        carried.add(&self.unsynced.lacking_before_refuge(on_disk));
        let was_foreign = refuge.is_foreign();
        // Of a file that was not there they can't be in it.
        let arrived = if was_foreign { 0 } else { on_disk };
        let missing = self.unsynced.missing(arrived, self.known.totals.appended);
        let uplinks = missing.filter_map(|(routed, seq)| still_wanted(memory, &aliases, routed, seq));
        let uplinks: Vec<Routed> = uplinks.collect();
        let n = uplinks.len();
        let before = memory.state().totals.appended.saturating_sub(n as u64);
        carried.appended = if was_foreign { on_disk.saturating_add(before) } else { before };
        let mut notes = self.unsynced_notes.clone();
        // What earlier boots knew lies in the file, and may not have been known until now.
        let mut stored = file.notes().map_err(|error| error.to_string())?;
        boots::restore(&mut stored, &*self.clock);
        keep_last(&mut notes, self.boots_noted.due(&*self.clock, true).into_iter().collect());
        let work = Work {
            uplinks,
            notes,
            settles: refuge.settles.clone(),
            carried: Some(carried),
            ..Work::default()
        };
        file.round(&work, true, limits, now_us, |_| Ok(())).map_err(|error| error.to_string())?;
        CrashPoint::LeavingRefuge.reached();
        self.set_aside = opened.set_aside;
        self.holding = opened.holding;
        self.move_in(file, aliases, was_foreign);
        log::warn!("spool: the file can be used again; {n} uplinks that waited in memory are in it");
        Ok(())
    }

    fn move_in(&mut self, file: Store, aliases: Aliases, was_foreign: bool) {
        self.refuge = None;
        self.trouble = None;
        self.durable_end = file.state().next_seq;
        self.unsynced.clear(file.state().totals.appended);
        self.unsynced_notes.clear();
        self.boots_noted.are_durable();
        self.unsynced_settles = 0;
        self.shared.set(Some(file.database()));
        self.store = Some(file);
        self.more = true;
        self.generation += 1;
        if was_foreign {
            self.numbering += 1;
            self.aliases = aliases;
        }
        // Before the answers: who is told that its uplinks are safe finds them so in the view.
        self.publish();
        self.waiters.answer(Done { durable: true, all_safe: true, first_seq: None }, |_, _| true);
    }

    /// Gives uplinks of rooms that do not know the numbers of the file yet those numbers.
    pub(super) fn translate(&self, uplinks: &mut [Routed]) {
        if self.aliases.is_empty() {
            return;
        }
        for route in uplinks.iter_mut().flat_map(|routed| &mut routed.routes) {
            *route = self.aliases.route(*route);
        }
    }
}

/// Makes the file know the routes that were made in memory; returns the numbers that differ. May be done any number of times.
fn go_back(
    file: &mut Store,
    refuge: &Refuge,
    memory: &Store,
    limits: Limits,
    now_us: i64,
) -> Result<Aliases, redb::Error> {
    if !refuge.is_foreign() {
        file.adopt(memory.state(), &Forgotten::default())?;
        return Ok(Aliases::default());
    }
    let state = memory.state();
    let named = state.routes.iter().filter_map(|(id, route)| {
        let Account { kind, name, .. } = state.accounts.get(&AccountId(route.account))?;
        Some((*id, RouteName { flow: route.flow.clone(), kind: kind.to_string(), name: name.to_string() }))
    });
    let (ids, names): (Vec<RouteId>, Vec<RouteName>) = named.unzip();
    let make = Work { routes: names.clone(), ..Work::default() };
    file.round(&make, true, limits, now_us, |_| Ok(()))?;
    let mut aliases = Aliases::default();
    for (id, (route, account)) in ids.into_iter().zip(file.find_routes(&names)) {
        aliases.add(id, route);
        if let Some(before) = state.routes.get(&id) {
            aliases.add_account(AccountId(before.account), account);
        }
    }
    Ok(aliases)
}

/// An uplink for those in the file who have not settled it in memory; `None`: all have.
fn still_wanted(memory: &Store, aliases: &Aliases, mut routed: Routed, seq: Option<u64>) -> Option<Routed> {
    if let Some(seq) = seq {
        routed.routes.retain(|route| !memory.is_settled(seq, &[*route]));
    }
    for route in &mut routed.routes {
        *route = aliases.route(*route);
    }
    (!routed.routes.is_empty()).then_some(routed)
}
