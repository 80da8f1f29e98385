//! The one thread that writes: it turns what waits into rounds and decides which of them are forced to the disk.
//!
//! ```text
//!  append queue (bounded) ──┐
//!                           ├──> round: one transaction ──> visible at once (a new View)
//!  settlements (by credit) ─┘              │
//!                                          └── durable when the first uplink that somebody still waits for is as old as
//!                                              the commit window (200 ms, or `commit_after`), when 256 KiB of uplinks
//!                                              (less in a small spool) or 256 settlements wait (RULES S30), when a
//!                                              record ends undelivered, when numbers or routes are new, when a source
//!                                              waits for it, and at the end
//! ```
//!
//! A round that is not forced costs no I/O: redb keeps it in its write buffer. An I/O error poisons a redb handle for
//! good, so the writer then drops the database, opens it again, puts the uplinks and notes that are not in the
//! file back in, and raises the generation, on which every lane starts again from what is stored. A commit whose error came
//! after its bytes is noticed by the count of appended records: nothing goes in twice. If that does not help, the writer takes
//! [refuge] in memory.
//!
//! Once the spool is being closed nothing more is let in; what waits is taken in and forced to the disk. A disk that does not
//! work is then tried once more, not waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::crash_point::CrashPoint;

use super::account::AccountId;
use super::boots::Noted;
use super::carried::Aliases;
use super::file::{Holding, Meter};
use super::full;
use super::jobs::{self, Asked};
use super::open::{self, Backend, SetAside};
use super::salvage;
use super::store::{self, Limits, RoundDone, RouteId, State, Store, Work};
use super::unsynced::Unsynced;
use super::waiters::{Done, Waiters};
use super::{Acceptance, COMMIT_WINDOW, Note, RouteName, Routed, Settings, Settlement, Shared, View};

/// Settlements that may wait for a durable round (RULES S30).
const SETTLES_UNTIL_DURABLE: usize = 256;

/// Uplinks and settlements a round takes at most, which bounds its memory and how long a stop takes.
const ROUND_AT_MOST: usize = 4_096;

/// About what a replay's round frees of the pages that it changes, at both ends of the log: without uplinks that make a
/// commit due, many such rounds would pile up before one is forced.
const PAGES_A_ROUND: u64 = 8 * 4_096;

/// How often the log is looked through for expired records, by the boot clock, which is the one that they age by.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// How long kept records and counters may wait for a commit that is made for another reason (RULES S30).
const KEEP_EVERY: Duration = Duration::from_secs(3_600);

/// How long a settlement may wait for others to share its round.
const SETTLE_TOGETHER: Duration = Duration::from_millis(2);

mod refuge;

use refuge::Refuge;
pub(super) use refuge::without_a_file;

const NOT_OPEN: &str = "the file is not open";

/// What rooms ask of the writer.
#[derive(Debug)]
pub(super) enum Message {
    Append {
        uplinks: Vec<Routed>,
        notes: Vec<Note>,
        /// Told when they are safe.
        waiter: Option<oneshot::Sender<Acceptance>>,
    },
    Routes {
        names: Vec<RouteName>,
        reply: oneshot::Sender<Vec<(RouteId, AccountId)>>,
    },
    Command(Asked),
}

/// A lane's word about one record.
#[derive(Clone, Debug)]
pub(super) struct Settle {
    pub(super) account: AccountId,
    pub(super) from: u64,
    pub(super) to: u64,
    /// `None`: the numbers are covered, and no record of the account is among them.
    pub(super) settlement: Option<Settlement>,
    pub(super) credit: Arc<AtomicUsize>,
}

impl Settle {
    /// The lane may send another one.
    fn give_credit(&self) {
        self.credit.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The writer's ends of its channels.
pub(super) struct Ends {
    pub(super) append: mpsc::Receiver<Message>,
    pub(super) settle: mpsc::UnboundedReceiver<Settle>,
    pub(super) close: oneshot::Receiver<()>,
    pub(super) publish: watch::Sender<Arc<View>>,
}

type RoutesReply = (Vec<RouteName>, oneshot::Sender<Vec<(RouteId, AccountId)>>);

pub(super) struct Writer {
    /// Absent only while the file is being reopened.
    store: Option<Store>,
    /// The values of the store that was open last: the rooms hold its routes.
    known: State,
    /// Those of its last forced commit.
    on_disk: State,
    settings: Settings,
    backend: Backend,
    /// Counts what is written, through all reopenings.
    meter: Arc<Meter>,
    /// The open file's space.
    holding: Option<Holding>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    ends: Ends,
    set_aside: Vec<SetAside>,
    generation: u64,
    /// Set once, by the signal to close.
    closing: bool,
    /// Uplinks that a crash now would lose.
    unsynced: Unsynced,
    /// Notes likewise, the last value of each.
    unsynced_notes: Vec<Note>,
    boots_noted: Noted,
    /// Settlements of records that are on the disk, which a crash now would undo.
    unsynced_settles: usize,
    /// Records from this number on are not on the disk.
    durable_end: u64,
    /// When kept records and counters are written if nothing else is (RULES S30).
    keep_by: Option<Instant>,
    replies: Vec<RoutesReply>,
    asked: Vec<Asked>,
    /// A job can go on at once.
    more: bool,
    waiters: Waiters,
    /// Why the file can't be used at the moment.
    trouble: Option<String>,
    /// A store in memory takes its place.
    refuge: Option<Refuge>,
    /// See [`View::numbering`].
    numbering: u64,
    /// Numbers that rooms got before there was a file, until they ask again.
    aliases: Aliases,
}

impl Writer {
    pub(super) fn new(
        opened: open::Opened,
        settings: Settings,
        (backend, meter): (Backend, Arc<Meter>),
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
        ends: Ends,
    ) -> Writer {
        Writer {
            durable_end: opened.store.state().next_seq,
            unsynced: Unsynced::since(opened.store.state().totals.appended),
            store: Some(opened.store),
            known: State::default(),
            on_disk: State::default(),
            settings,
            backend,
            meter,
            holding: opened.holding,
            shared,
            clock,
            ends,
            set_aside: opened.set_aside,
            generation: 0,
            closing: false,
            unsynced_notes: Vec::new(),
            boots_noted: Noted::default(),
            unsynced_settles: 0,
            keep_by: None,
            replies: Vec::new(),
            asked: Vec::new(),
            // A job that the last run left behind.
            more: true,
            waiters: Waiters::default(),
            trouble: None,
            refuge: None,
            numbering: 0,
            aliases: Aliases::default(),
        }
    }

    /// Runs until the spool is closed; then makes everything durable.
    pub(super) fn run(mut self) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                log::error!("spool: the writer can't start its timer: {error}");
                return;
            }
        };
        runtime.block_on(self.serve());
        self.shared.set(None);
        drop(self.store.take());
        CrashPoint::Closed.reached();
        log::debug!("spool: closed");
    }

    async fn serve(&mut self) {
        let mut looked_ns = self.clock.boot_ns();
        loop {
            if self.refuge.as_ref().is_some_and(|refuge| Instant::now() >= refuge.try_at()) {
                self.try_the_file();
            }
            let mut work = Work::default();
            if !self.closing && !self.more {
                let look_in = EXPIRE_EVERY.saturating_sub(self.since(looked_ns));
                self.wait(&mut work, Instant::now() + look_in).await;
            }
            self.take_waiting(&mut work);
            let expire = self.since(looked_ns) >= EXPIRE_EVERY;
            if expire {
                looked_ns = self.clock.boot_ns();
            }
            self.round(work, expire).await;
            if self.closing && self.ends.append.is_empty() && self.ends.settle.is_empty() {
                return self.end();
            }
        }
    }

    fn since(&self, boot_ns: u64) -> Duration {
        Duration::from_nanos(self.clock.boot_ns().saturating_sub(boot_ns))
    }

    /// Waits for something to do.
    async fn wait(&mut self, work: &mut Work, expire_at: Instant) {
        let due = self.due().unwrap_or(expire_at).min(expire_at);
        tokio::select! {
            Some(message) = self.ends.append.recv() => return self.take(work, message),
            Some(settle) = self.ends.settle.recv() => work.settles.push(settle),
            _ = &mut self.ends.close => return self.begin_closing(),
            () = tokio::time::sleep_until(due) => return,
        }
        // Nobody waits for a settlement, and a round costs as much as many of them: more may come along.
        tokio::select! {
            Some(message) = self.ends.append.recv() => self.take(work, message),
            _ = &mut self.ends.close => self.begin_closing(),
            () = tokio::time::sleep_until(due.min(Instant::now() + SETTLE_TOGETHER)) => {}
        }
    }

    /// The last word: what is not on the disk now is lost.
    fn end(&mut self) {
        if self.refuge.is_some() {
            self.try_the_file();
        }
        if self.refuge.is_some() {
            log::error!(
                "spool: closed without its file; uplinks that were in memory alone: {}",
                self.unsynced.len()
            );
        }
    }

    /// When something must be done about the file: the next durable round, or the next attempt to have one.
    fn due(&self) -> Option<Instant> {
        if let Some(refuge) = &self.refuge {
            return Some(refuge.try_at());
        }
        self.unsynced.due().into_iter().chain(self.waiters.due()).chain(self.keep_by).min()
    }

    fn begin_closing(&mut self) {
        CrashPoint::Closing.reached();
        self.closing = true;
        self.ends.append.close();
        self.ends.settle.close();
    }

    fn take(&mut self, work: &mut Work, message: Message) {
        match message {
            Message::Append { mut uplinks, notes, waiter } => {
                self.translate(&mut uplinks);
                let had_uplinks = !uplinks.is_empty();
                let acceptance = self.admit(work, &mut uplinks);
                match waiter {
                    // Nothing is left to wait for.
                    Some(reply) if had_uplinks && uplinks.is_empty() => _ = reply.send(acceptance),
                    Some(reply) => {
                        let by = Instant::now() + self.settings.commit_window.min(COMMIT_WINDOW);
                        self.waiters.add((reply, acceptance), &uplinks, work.uplinks.len(), by);
                    }
                    None => {}
                }
                work.bytes += uplinks.iter().map(store::estimate).sum::<u64>();
                work.uplinks.extend(uplinks);
                keep_last(&mut work.notes, notes);
            }
            Message::Routes { names, reply } => {
                work.routes.extend(names.iter().cloned());
                self.replies.push((names, reply));
            }
            Message::Command(asked) if !self.can_obey(&asked.command) => self.refuse(asked),
            Message::Command(asked) => {
                work.commands.push(asked.command.clone());
                self.asked.push(asked);
            }
        }
    }

    fn limits(&self, store: &Store) -> Limits {
        if self.refuge.is_some() {
            return self.refuge_limits();
        }
        self.settings.limits(self.holding.as_ref().map(Holding::limit), &store.state().totals)
    }

    /// Refuses what a full spool does not take in.
    fn admit(&self, work: &mut Work, uplinks: &mut Vec<Routed>) -> Acceptance {
        // While the file is being reopened nothing is taken from the queue.
        let Some(store) = &self.store else { return Acceptance::Full };
        let (acceptance, refused) = full::admit(store.state(), self.limits(store), work.bytes, uplinks);
        work.refused.extend(refused);
        acceptance
    }

    fn take_waiting(&mut self, work: &mut Work) {
        while work.uplinks.len() < ROUND_AT_MOST && !self.is_much(work) {
            let Ok(message) = self.ends.append.try_recv() else { break };
            self.take(work, message);
        }
        while work.settles.len() < ROUND_AT_MOST {
            let Ok(settle) = self.ends.settle.try_recv() else { break };
            work.settles.push(settle);
        }
    }

    /// Does one round: on the file, on the file opened again, or in memory.
    async fn round(&mut self, mut work: Work, expire: bool) {
        self.clock.look();
        if !work.uplinks.is_empty() || self.closing || self.must_be_durable(&work) {
            let note = self.boots_noted.due(&*self.clock, self.closing);
            keep_last(&mut work.notes, note.into_iter().collect());
        }
        let mut is_again = false;
        loop {
            self.keep_settles(&mut work);
            let durable = self.closing || self.must_be_durable(&work);
            let first_seq = self.store.as_ref().map(|store| store.state().next_seq);
            let error = match self.try_round(&work, durable, expire) {
                Ok(done) => return self.after_round(work, &done, first_seq),
                Err(error) => error,
            };
            if let Err(error) = self.recover(error, &mut work, is_again).await {
                let lost = self.unsynced.len() + work.uplinks.len();
                log::error!("spool: {error}; uplinks not on the disk that are lost: {lost}");
                return;
            }
            is_again = true;
        }
    }

    /// Opens the file again, once; if that does not help, goes on in memory.
    async fn recover(&mut self, error: String, work: &mut Work, is_again: bool) -> Result<(), String> {
        self.report_trouble(error.clone());
        if is_again || self.refuge.is_some() {
            return self.take_refuge(error, work);
        }
        if !self.closing {
            tokio::select! {
                () = tokio::time::sleep(self.backend.rest()) => {}
                _ = &mut self.ends.close => self.begin_closing(),
            }
        }
        match self.reopen(work) {
            Ok(()) => Ok(()),
            Err(error) => self.take_refuge(error, work),
        }
    }

    /// Pages that rounds free before a forced commit can't be used again until it, so a burst would outgrow `max_size`, and
    /// what is not durable is held in memory too.
    fn is_much(&self, work: &Work) -> bool {
        let waiting = if self.refuge.is_some() { 0 } else { self.unsynced.bytes() };
        waiting + work.bytes >= self.settings.unsynced_cap()
    }

    fn must_be_durable(&self, work: &Work) -> bool {
        if self.refuge.is_some() {
            return false;
        }
        self.due().is_some_and(|due| Instant::now() >= due)
            || self.boots_noted.is_news(&*self.clock)
            || self.is_much(work)
            || self.unsynced_settles + self.undoable(work) >= SETTLES_UNTIL_DURABLE
    }

    /// Settlements that a crash would undo: those of records on the disk. Of a record that is not there yet nothing would be
    /// left to send again.
    fn undoable(&self, work: &Work) -> usize {
        work.settles.iter().filter(|settle| settle.to < self.durable_end).count()
    }

    fn try_round(&mut self, work: &Work, durable: bool, expire: bool) -> Result<RoundDone, String> {
        if expire && let Some(holding) = &self.holding {
            holding.look_again();
        }
        let limits = self.limits(self.store.as_ref().ok_or(NOT_OPEN)?);
        let (max_age, keep, clock) = (self.settings.max_age, self.settings.keep_delivered, &*self.clock);
        let store = self.store.as_mut().ok_or(NOT_OPEN)?;
        store
            .round(work, durable, limits, clock.wall_us(), |round| {
                if expire {
                    round.expire(max_age, clock)?;
                    round.expire_kept(keep, clock)?;
                }
                Ok(())
            })
            .map_err(|error| error.to_string())
    }

    fn after_round(&mut self, work: Work, done: &RoundDone, first_seq: Option<u64>) {
        let put_in = work.uplinks.len() as u64;
        let first_seq = first_seq.filter(|first| first + put_in == done.after_uplinks);
        self.more = done.more;
        let Some(store) = &self.store else { return };
        let durable = done.durable && self.refuge.is_none();
        if durable {
            self.unsynced.clear(store.state().totals.appended);
            self.unsynced_notes.clear();
            self.boots_noted.are_durable();
            self.unsynced_settles = 0;
            self.durable_end = store.state().next_seq;
            self.keep_by = None;
        } else {
            self.unsynced_settles += self.undoable(&work);
            if done.bytes_again > 0 {
                self.unsynced.add_bytes(done.bytes_again + PAGES_A_ROUND);
            }
            keep_last(&mut self.unsynced_notes, work.notes);
            let before = store.state().totals.appended.saturating_sub(put_in);
            self.unsynced.add(work.uplinks, first_seq, before, Instant::now() + self.settings.commit_window);
            self.unsynced.forget_settled(|seq, routes| store.takers(seq, routes));
            if !self.settings.keep_delivered.is_zero() && self.refuge.is_none() {
                self.keep_by.get_or_insert(Instant::now() + KEEP_EVERY);
            }
        }
        work.settles.iter().for_each(Settle::give_credit);
        if self.refuge.is_some() {
            self.forget_evicted();
        } else {
            self.trouble = None;
        }
        // Before the replies: who is told of a route finds its account in the view.
        self.publish();
        if let Some(store) = &self.store {
            for (names, reply) in self.replies.drain(..) {
                // Whoever asked may have gone; then nobody needs the answer.
                let _ = reply.send(store.find_routes(&names));
            }
            let all_safe = self.unsynced.is_empty();
            self.asked = jobs::answer(std::mem::take(&mut self.asked), done, store);
            let done = Done { durable, all_safe, first_seq };
            self.waiters.answer(done, |seq, routes| store.is_settled(seq, routes));
        }
    }

    fn publish(&self) {
        let mut view = match &self.store {
            Some(store) => store.view(self.generation),
            None => View::clone(&self.ends.publish.borrow()),
        };
        if let Some(refuge) = &self.refuge {
            refuge.complete(&mut view);
        }
        view.at_risk = self.unsynced.len() as u64;
        view.committed = view.appended.saturating_sub(view.at_risk);
        view.numbering = self.numbering;
        view.on_disk = self.holding.as_ref().and_then(|it| it.less_than(self.settings.max_size));
        view.trouble.clone_from(&self.trouble);
        view.set_aside.clone_from(&self.set_aside);
        self.ends.publish.send_replace(Arc::new(view));
    }

    fn report_trouble(&mut self, error: String) {
        if self.trouble.as_ref() != Some(&error) {
            log::error!(
                "spool: {error}; trying again. What is on the disk is safe; new uplinks wait in memory"
            );
        }
        self.trouble = Some(error);
        self.publish();
    }

    /// Lets go of the database, which an I/O error has poisoned.
    fn let_go(&mut self) {
        self.shared.set(None);
        self.holding = None;
        if let Some(store) = self.store.take() {
            self.known = store.state().clone();
            self.on_disk = store.on_disk().clone();
        }
    }

    /// Drops the poisoned database and opens the file again; what is not in it goes back in with the next round.
    fn reopen(&mut self, work: &mut Work) -> Result<(), String> {
        self.let_go();
        CrashPoint::Reopening.reached();
        let opened = salvage::open(&self.settings, &self.backend, &self.meter, &*self.clock)
            .map_err(|error| error.to_string())?;
        self.holding = opened.holding;
        self.set_aside = opened.set_aside;
        self.install(opened.store, work).map_err(|error| error.to_string())
    }

    fn install(&mut self, mut store: Store, work: &mut Work) -> Result<(), redb::Error> {
        let (on_disk, known) = (store.state().totals.appended, self.known.totals.appended);
        store.adopt(&self.known, &self.unsynced.lacking(on_disk))?;
        let missing: Vec<Routed> = self.unsynced.missing(on_disk, known).map(|(routed, _)| routed).collect();
        self.unsynced.clear(store.state().totals.appended);
        self.waiters.forget_numbers();
        self.boots_noted.forget();
        self.more = true;
        self.durable_end = store.state().next_seq;
        self.shared.set(Some(store.database()));
        self.store = Some(store);
        self.generation += 1;
        // The round that failed put its uplinks behind all others.
        let arrived = on_disk.saturating_sub(known);
        let arrived = usize::try_from(arrived).unwrap_or(usize::MAX).min(work.uplinks.len());
        work.uplinks.drain(..arrived);
        work.uplinks.splice(..0, missing);
        work.bytes = work.uplinks.iter().map(store::estimate).sum();
        let later = std::mem::replace(&mut work.notes, std::mem::take(&mut self.unsynced_notes));
        keep_last(&mut work.notes, later);
        log::warn!("spool: open again; {} uplinks that were not on the disk go back in", work.uplinks.len());
        Ok(())
    }
}

/// Of a note only the last value counts.
fn keep_last(notes: &mut Vec<Note>, later: Vec<Note>) {
    for note in later {
        notes.retain(|earlier| earlier.key != note.key);
        notes.push(note);
    }
}
