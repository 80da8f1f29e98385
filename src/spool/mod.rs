//! The spool: the durable queue, and the only memory there is.
//!
//! # What it owns
//!
//! One redb file. Every uplink that has somewhere to go is in it once, whatever the number of integrations, until each of
//! them has settled it. What is settled is remembered per integration as `low` (everything below is settled) and at most
//! 64 disjoint ranges above it (RULES S4), so that parallel sends, dead letters and poison records are one mechanism.
//!
//! | table | key -> value |
//! |---|---|
//! | `log` | sequence `u64` -> record: format byte, CRC-32C, postcard ([`record`]) |
//! | `dead` | (account, sequence) -> refused record with the reason ([`dead`], RULES S12) |
//! | `route` | route id `u32` -> flow, account; never reused (RULES S5) |
//! | `kept` | sequence of a record that is only kept ([`kept`]) |
//! | `loss` | number -> range of losses ([`losses`], RULES S11) |
//! | `state` | name -> totals, `account/<id>`, `note/<key>`, flash ledger ([`wear`]), boots of the machine ([`boots`]) |
//!
//! The disk space that it does not take yet is held by a second one beside it ([`mod@file`]).
//!
//! An *account* is the spool's side of an integration: what it has settled, its backlog, its losses. Its identity is the
//! integration's type and name, so an integration that is taken out of the config and put back resumes its backlog.
//!
//! # The life of a record
//!
//! 1. [`Appender::append`] hands uplinks with their routes to the writer's queue.
//! 2. The writer takes all that waits and makes one transaction of it, a *round*: inserts, settlements, trimming,
//!    eviction. The round is visible at once; it is *durable* when its commit was forced to the disk. With
//!    `durability = "immediate"` that is at most [`COMMIT_WINDOW`] after the first record of the window, and likewise after
//!    one that a source waits for ([`Appender::append_durable`]).
//! 3. Each lane reads the log through its [`Ledger`] (copy out, drop the read transaction, then do network I/O) and ends
//!    every record with [`Ledger::settle`]. Settlements ride in the next round (RULES S30).
//! 4. The round in which the last account settles a record deletes it, or, with `keep_delivered`, marks it as [`kept`] for a
//!    later [`replay`].
//!
//! It may end before that: by age ([`retention`]), because the log is [`full`], or on the word of an operator ([`jobs`]). All
//! of that is counted per account and listed in the loss ledger ([`losses`]).
//!
//! # Invariants
//!
//! - Only the writer thread writes. Counters of backlog and loss change in the transaction that makes them true (S24).
//! - A sequence number is used once, also across a crash: numbers are reserved durably in blocks before use.
//! - RAM does not grow with the backlog: the writer holds one round, a lane at most 64 records.
//! - Nothing here knows what an integration is or does.
//!
//! # What it refuses
//!
//! A file that redb calls corrupted, that fails its integrity check, is no spool, or in which the agent died three times
//! within a minute of opening it, is damaged: set aside, and a fresh one is started into which what can be read of it is
//! [salvaged](salvage). (One whose making was cut short holds nothing and is made again.) A file of a newer format is set
//! aside as newer, and imported by the version that can read it. Nothing else is damage (RULES S3): a full disk, a held
//! lock, a missing permission are reported and tried again, and meanwhile a store of a MiB in memory takes the file's place
//! (see the writer's refuge). It hands everything over when the file can be used.

mod account;
mod appender;
mod boots;
mod carried;
mod dead;
mod file;
mod full;
mod image;
pub mod inspect;
mod jobs;
mod kept;
mod ledger;
mod losses;
mod open;
mod operator;
pub mod record;
mod replay;
mod retention;
mod round;
mod salvage;
mod settings;
mod settled;
mod store;
mod tail;
mod transfer;
mod unsynced;
mod values;
mod waiters;
mod wear;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::uplink::Uplink;

pub use account::{AccountId, AccountView, Loss};
pub use appender::{Acceptance, Accepted, Appender};
pub use dead::DeadLetter;
pub use jobs::CommandError;
pub use kept::Gone;
pub use ledger::Ledger;
pub use losses::LossRange;
pub use open::{Backend, Deaths, OpenBackend, OpenError, SetAside};
pub use operator::Operator;
pub use record::Entry;
pub use replay::{ReplayReport, ReplayView};
pub use retention::age;
pub use salvage::set_aside_beside;
pub use settings::Settings;
pub use settled::{MAX_RANGES, Settled};
pub use store::{RouteId, Totals};
pub use tail::Tail;
pub use wear::{DeviceLife, Wear, Written};

use writer::Message;

/// `durability = "immediate"`: a commit at most this long after the first waiting record (DESIGN section 5).
pub const COMMIT_WINDOW: Duration = Duration::from_millis(200);

/// Batches of uplinks that may wait for the writer.
const APPEND_QUEUE: usize = 64;

/// An uplink and where it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Routed {
    /// The uplink.
    pub uplink: Uplink,
    /// Its routes; never empty.
    pub routes: Vec<RouteId>,
}

/// A small value of another room that is kept with a round that is made anyway (frame counters, door counters).
#[derive(Clone, Debug)]
pub struct Note {
    /// Its name.
    pub key: String,
    /// Its value, in the owner's own format.
    pub value: Vec<u8>,
}

/// A route to look up or to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteName {
    /// The flow's name; empty for the implicit flow of a config without flows.
    pub flow: String,
    /// `http` or `mqtt`.
    pub kind: String,
    /// The integration's name.
    pub name: String,
}

/// How a lane ends a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The far end has it.
    Delivered,
    /// The far end refused it for good; the text says why and holds no secret.
    Refused {
        /// Layer and reason.
        reason: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// Its bytes on the disk are damaged: nobody can deliver it.
    Damaged,
    /// A function dropped it on purpose.
    Filtered,
}

/// What the spool is like after a round.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Rises when the file was reopened after an I/O error: lanes start again from what is stored.
    pub generation: u64,
    /// One more than the last sequence number in the log.
    pub end: u64,
    /// No record below was left by eviction and expiry.
    pub floor: u64,
    /// Records in the log.
    pub records: u64,
    /// Bytes they take, overhead included.
    pub bytes: u64,
    /// Of the records those that everybody has settled and that are only kept (`keep_delivered`).
    pub kept: u64,
    /// Bytes these take.
    pub kept_bytes: u64,
    /// Ranges in the loss ledger.
    pub losses: u64,
    /// Records ever put in.
    pub appended: u64,
    /// Of those, how many were on the disk at the last forced commit.
    pub durable: u64,
    /// Of those, what is safe: on the disk, or settled by everybody (RULES S6).
    pub committed: u64,
    /// The others: what a power cut now would lose.
    pub at_risk: u64,
    /// Forced commits since start.
    pub syncs: u64,
    /// Rises when accounts and routes got other numbers: whoever holds some must ask for them again ([`Spool::routes`]).
    pub numbering: u64,
    /// Records in a file that can't be used at the moment; what has come since is in memory.
    pub out_of_reach: u64,
    /// What was written, today and in all.
    pub wear: Wear,
    /// What the disk has room for, if that is less than the spool may take, bytes.
    pub on_disk: Option<u64>,
    /// One entry an account, removed integrations included.
    pub accounts: Vec<AccountView>,
    /// The file is unusable at the moment, and why.
    pub trouble: Option<String>,
    /// Files that were found damaged or too new, for as long as they lie beside this one.
    pub set_aside: Vec<SetAside>,
}

impl View {
    /// The account with this id.
    pub fn account(&self, id: AccountId) -> Option<&AccountView> {
        self.accounts.iter().find(|account| account.id == id)
    }

    /// The account of this integration or group.
    pub fn account_of(&self, kind: &str, name: &str) -> Option<&AccountView> {
        self.accounts.iter().find(|account| *account.kind == *kind && *account.name == *name)
    }
}

/// The open spool.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    append: mpsc::Sender<Message>,
    settle: mpsc::UnboundedSender<writer::Settle>,
    view: watch::Receiver<Arc<View>>,
    close: Option<oneshot::Sender<()>>,
    notes: Vec<Note>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What the writer shares with the readers: the database, absent while it is being reopened.
#[derive(Debug, Default)]
struct Shared {
    database: Mutex<Option<Arc<redb::Database>>>,
}

impl Shared {
    fn get(&self) -> Option<Arc<redb::Database>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads something; the handle is let go of before anybody waits.
    fn read<T, E: std::fmt::Display>(
        &self,
        read: impl FnOnce(&redb::Database) -> Result<T, E>,
    ) -> Result<T, ReadError> {
        let database = self.get().ok_or(ReadError::Reopening)?;
        read(&database).map_err(|error| ReadError::Storage(error.to_string()))
    }

    fn set(&self, database: Option<Arc<redb::Database>>) {
        *self.database.lock().unwrap_or_else(PoisonError::into_inner) = database;
    }
}

impl Spool {
    /// Opens the spool on a file or a test's backend and starts the writer thread. Blocking: an unclean file is read
    /// through, which takes seconds on an SD card.
    ///
    /// # Errors
    /// What keeps the file from being opened and is no damage. Damage is not an error: see [`View::set_aside`].
    pub fn open(settings: Settings, backend: &Backend, clock: Arc<dyn Clock>) -> Result<Spool, OpenError> {
        let meter = Arc::default();
        let opened = salvage::open(&settings, backend, &meter, &*clock)?;
        Spool::start(settings, (backend.clone(), meter), clock, opened, None)
    }

    /// As [`open`](Self::open), but what keeps the file from being opened only keeps it from being used yet: until it can be,
    /// a store in memory takes its place (RULES S3), and [`View::trouble`] says why. Blocking.
    ///
    /// # Errors
    /// The system refuses memory or a thread.
    pub fn open_or_go_without(
        settings: Settings,
        backend: &Backend,
        clock: Arc<dyn Clock>,
    ) -> Result<Spool, OpenError> {
        let meter = Arc::default();
        let (opened, trouble) = match salvage::open(&settings, backend, &meter, &*clock) {
            Ok(opened) => (opened, None),
            Err(error) => (writer::without_a_file()?, Some(error.to_string())),
        };
        Spool::start(settings, (backend.clone(), meter), clock, opened, trouble)
    }

    fn start(
        settings: Settings,
        backend: (Backend, Arc<file::Meter>),
        clock: Arc<dyn Clock>,
        opened: open::Opened,
        trouble: Option<String>,
    ) -> Result<Spool, OpenError> {
        let mut notes = opened.store.notes()?;
        boots::restore(&mut notes, &*clock);
        let shared = Arc::new(Shared::default());
        shared.set(Some(opened.store.database()));
        let (append, append_queue) = mpsc::channel(APPEND_QUEUE);
        let (settle, settle_queue) = mpsc::unbounded_channel();
        let (close, closed) = oneshot::channel();
        let mut first = opened.store.view(0);
        first.on_disk = opened.holding.as_ref().and_then(|it| it.less_than(settings.max_size));
        first.set_aside.clone_from(&opened.set_aside);
        let (publish, view) = watch::channel(Arc::new(first));
        let mut writer = writer::Writer::new(
            opened,
            settings,
            backend,
            Arc::clone(&shared),
            Arc::clone(&clock),
            writer::Ends { append: append_queue, settle: settle_queue, close: closed, publish },
        );
        if let Some(trouble) = trouble {
            writer.begin_in_refuge(trouble);
        }
        let thread = std::thread::Builder::new()
            .name("spool".into())
            .spawn(move || writer.run())
            .map_err(|error| OpenError::Unavailable(format!("cannot start the writer thread: {error}")))?;
        Ok(Spool { shared, clock, append, settle, view, close: Some(close), notes, thread: Some(thread) })
    }

    /// The notes that were stored last.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Where uplinks go in.
    pub fn appender(&self) -> Appender {
        Appender::new(self.append.clone())
    }

    /// Finds or makes the routes of this configuration, durably, in the order given.
    ///
    /// # Errors
    /// The writer's word for why it could not.
    pub async fn routes(&self, names: Vec<RouteName>) -> Result<Vec<(RouteId, AccountId)>, Closed> {
        let (reply, answer) = oneshot::channel();
        self.append.send(Message::Routes { names, reply }).await.map_err(|_| Closed)?;
        answer.await.map_err(|_| Closed)
    }

    /// The routes of an account that were ever made, those of flows that are gone included, with their flows.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn routes_of(&self, account: AccountId) -> Result<Vec<(RouteId, String)>, ReadError> {
        self.shared.read(|database| values::read_routes(database, account))
    }

    /// What an operator can ask of it: a handle that is cheap to clone and keeps nothing open.
    pub fn operator(&self) -> Operator {
        Operator {
            shared: Arc::clone(&self.shared),
            clock: Arc::clone(&self.clock),
            append: self.append.clone(),
            view: self.view.clone(),
        }
    }

    /// What the spool is like now, and a signal when it changes.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// The young end of the log, to look back from.
    pub fn tail(&self) -> Tail {
        Tail::new(Arc::clone(&self.shared))
    }

    /// One integration's side of the spool.
    pub fn ledger(&self, account: AccountId, routes: Vec<RouteId>) -> Ledger {
        let settle = self.settle.clone();
        Ledger::new(account, routes, Arc::clone(&self.shared), settle, self.view.clone())
    }

    /// Takes in what is queued, makes everything durable and closes the file. Blocking.
    pub fn close(mut self) {
        self.stop_writer();
    }

    fn stop_writer(&mut self) {
        if let Some(close) = self.close.take() {
            // A writer that is gone already has nothing left to close.
            let _ = close.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("spool: the writer thread died; what was not committed yet is lost");
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.stop_writer();
    }
}

/// The spool's writer has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the spool is closed")]
pub struct Closed;

/// Why a read did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The file is being reopened; the next [`View`] says more.
    #[error("the spool is being reopened")]
    Reopening,
    /// redb could not read.
    #[error("the spool can't be read: {0}")]
    Storage(String),
}
