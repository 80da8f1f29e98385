//! The one thread that writes: it turns what waits into rounds and decides which of them are forced to the disk.
//!
//! ```text
//!  append queue (bounded) ──┐
//!                           ├──> round: one transaction ──> visible at once (a new View)
//!  settlements (by credit) ─┘              │
//!                                          └── durable when the first uplink waited COMMIT_WINDOW, when 256 settlements
//!                                              wait (RULES S30), when numbers or routes are new, and at the end
//! ```
//!
//! A round that is not forced costs no I/O: redb keeps it in its write buffer. An I/O error poisons a redb handle for
//! good, so the writer then drops the database, opens it again with back-off, puts the uplinks that were not durable back
//! in, and raises the generation, on which every lane starts again from what is stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::clock::Clock;

use super::account::AccountId;
use super::open::{self, Backend, SetAside};
use super::store::{Limits, RouteId, State, Store, Work};
use super::{Note, RouteName, Routed, Settings, Settlement, Shared, View};

/// Settlements that may wait for a durable round (RULES S30).
const SETTLES_UNTIL_DURABLE: usize = 256;

/// Uplinks and settlements a round takes at most, which bounds its memory and how long a stop takes.
const ROUND_AT_MOST: usize = 4_096;

/// How often the log is looked through for expired records.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// Waits between attempts to open the file again after an I/O error.
const REOPEN_FIRST: Duration = Duration::from_millis(500);
const REOPEN_LAST: Duration = Duration::from_secs(30);

/// What rooms ask of the writer.
#[derive(Debug)]
pub(super) enum Message {
    Append { uplinks: Vec<Routed>, notes: Vec<Note> },
    Routes { names: Vec<RouteName>, reply: oneshot::Sender<Vec<(RouteId, AccountId)>> },
}

/// A lane's word about one record.
#[derive(Debug)]
pub(super) struct Settle {
    pub(super) account: AccountId,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) settlement: Settlement,
    pub(super) credit: Arc<AtomicUsize>,
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
    settings: Settings,
    backend: Backend,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    ends: Ends,
    set_aside: Option<SetAside>,
    generation: u64,
    /// Uplinks that a crash now would lose.
    unsynced: Vec<Routed>,
    /// When the first of them must be durable.
    due: Option<Instant>,
    unsynced_settles: usize,
    replies: Vec<RoutesReply>,
}

impl Writer {
    pub(super) fn new(
        opened: open::Opened,
        settings: Settings,
        backend: Backend,
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
        ends: Ends,
    ) -> Writer {
        Writer {
            store: Some(opened.store),
            known: State::default(),
            settings,
            backend,
            shared,
            clock,
            ends,
            set_aside: opened.set_aside,
            generation: 0,
            unsynced: Vec::new(),
            due: None,
            unsynced_settles: 0,
            replies: Vec::new(),
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
        log::debug!("spool: closed");
    }

    async fn serve(&mut self) {
        let mut expire_at = Instant::now() + EXPIRE_EVERY;
        loop {
            let mut work = Work::default();
            let due = self.due.unwrap_or(expire_at).min(expire_at);
            let closing = tokio::select! {
                Some(message) = self.ends.append.recv() => { self.take(&mut work, message); false }
                Some(settle) = self.ends.settle.recv() => { work.settles.push(settle); false }
                _ = &mut self.ends.close => true,
                () = tokio::time::sleep_until(due) => false,
            };
            self.take_waiting(&mut work);
            let expire = Instant::now() >= expire_at;
            if expire {
                expire_at = Instant::now() + EXPIRE_EVERY;
            }
            self.round(work, closing, expire).await;
            if closing && self.ends.append.is_empty() && self.ends.settle.is_empty() {
                return;
            }
        }
    }

    fn take(&mut self, work: &mut Work, message: Message) {
        match message {
            Message::Append { uplinks, notes } => {
                work.uplinks.extend(uplinks);
                // Of a note only the last value counts.
                for note in notes {
                    work.notes.retain(|earlier| earlier.key != note.key);
                    work.notes.push(note);
                }
            }
            Message::Routes { names, reply } => {
                work.routes.extend(names.iter().cloned());
                self.replies.push((names, reply));
            }
        }
    }

    fn take_waiting(&mut self, work: &mut Work) {
        while work.uplinks.len() < ROUND_AT_MOST {
            let Ok(message) = self.ends.append.try_recv() else { break };
            self.take(work, message);
        }
        while work.settles.len() < ROUND_AT_MOST {
            let Ok(settle) = self.ends.settle.try_recv() else { break };
            work.settles.push(settle);
        }
    }

    /// Does one round, reopening the file for as long as it takes; on the way out once only.
    async fn round(&mut self, mut work: Work, closing: bool, expire: bool) {
        let mut wait = REOPEN_FIRST;
        loop {
            let durable = closing || self.must_be_durable(&work);
            match self.try_round(&work, durable, expire) {
                Ok(was_durable) => {
                    self.after_round(work, was_durable);
                    return;
                }
                Err(error) if closing => {
                    let lost = self.unsynced.len() + work.uplinks.len();
                    log::error!(
                        "spool: the last commit failed: {error}; uplinks not yet on the disk: {lost}"
                    );
                    return;
                }
                Err(error) => {
                    self.report_trouble(&error);
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(REOPEN_LAST);
                    self.reopen(&mut work);
                }
            }
        }
    }

    fn must_be_durable(&self, work: &Work) -> bool {
        self.due.is_some_and(|due| Instant::now() >= due)
            || self.unsynced_settles + work.settles.len() >= SETTLES_UNTIL_DURABLE
    }

    fn try_round(&mut self, work: &Work, durable: bool, expire: bool) -> Result<bool, String> {
        let limits = Limits { log_cap: self.settings.log_cap(), dead_cap: self.settings.dead_cap() };
        let (max_age, clock) = (self.settings.max_age, &*self.clock);
        let store = self.store.as_mut().ok_or("the file is not open")?;
        store
            .round(work, durable, limits, clock.wall_us(), |round| {
                if expire { round.expire(max_age, clock) } else { Ok(()) }
            })
            .map_err(|error| error.to_string())
    }

    fn after_round(&mut self, work: Work, durable: bool) {
        if durable {
            self.unsynced.clear();
            self.due = None;
            self.unsynced_settles = 0;
        } else {
            self.unsynced_settles += work.settles.len();
            if !work.uplinks.is_empty() {
                self.due.get_or_insert(Instant::now() + self.settings.commit_window);
                self.unsynced.extend(work.uplinks);
            }
        }
        for settle in &work.settles {
            settle.credit.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(store) = &self.store {
            for (names, reply) in self.replies.drain(..) {
                // Whoever asked may have gone; then nobody needs the answer.
                let _ = reply.send(store.find_routes(&names));
            }
        }
        self.publish(None);
    }

    fn publish(&self, trouble: Option<String>) {
        let mut view = match &self.store {
            Some(store) => store.view(self.generation),
            None => View::clone(&self.ends.publish.borrow()),
        };
        view.trouble = trouble;
        view.set_aside.clone_from(&self.set_aside);
        self.ends.publish.send_replace(Arc::new(view));
    }

    fn report_trouble(&mut self, error: &str) {
        let before = self.ends.publish.borrow().trouble.clone();
        if before.as_deref() != Some(error) {
            log::error!(
                "spool: {error}; trying again. What is on the disk is safe; new uplinks wait in memory"
            );
        }
        self.publish(Some(error.to_owned()));
    }

    /// Drops the poisoned database and opens the file again; what was not durable goes back in with the next round.
    fn reopen(&mut self, work: &mut Work) {
        self.shared.set(None);
        if let Some(store) = self.store.take() {
            self.known = store.state().clone();
        }
        match open::open(&self.settings, &self.backend) {
            Ok(opened) => {
                if opened.set_aside.is_some() {
                    self.set_aside = opened.set_aside;
                }
                self.install(opened.store, work);
            }
            Err(error) => log::debug!("spool: reopening: {error}"),
        }
    }

    fn install(&mut self, mut store: Store, work: &mut Work) {
        if let Err(error) = store.adopt_routes(&self.known) {
            log::error!("spool: {error}");
            return;
        }
        self.shared.set(Some(store.database()));
        self.store = Some(store);
        self.generation += 1;
        let mut uplinks = std::mem::take(&mut self.unsynced);
        uplinks.append(&mut work.uplinks);
        work.uplinks = uplinks;
        log::warn!("spool: open again; {} uplinks that were not on the disk go back in", work.uplinks.len());
    }
}
