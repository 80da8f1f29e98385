//! What the spool's tests share: a spool on a file of its own, uplinks that can be told apart, and patience.
//!
//! Nothing here sleeps: a test waits for a [`View`] that shows what it waits for. The limit of [`until`] only turns a hang
//! into a failure that says what was seen last.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

pub mod disk;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use packhorse::clock::{Clock, ManualClock};
use packhorse::config::OnFull;
use packhorse::spool::{
    AccountId, AccountView, Appender, Backend, Entry, Ledger, Loss, OpenError, RouteId, RouteName, Routed,
    Settings, Spool, View,
};
use packhorse::uplink::{Flags, Kind, Rx, Uplink};
use tokio::sync::watch;

use disk::Disk;

/// A commit window that no test lives to see.
pub const NEVER: Duration = Duration::from_secs(86_400);

/// How long a hang is given: so many slices, because a machine that stood still for a while is no hang.
const PATIENCE: Duration = Duration::from_secs(60);
const SLICE: Duration = Duration::from_secs(1);

/// A folder with a spool file in it, and a clock that stands still.
pub struct Stage {
    pub folder: tempfile::TempDir,
    pub clock: Arc<ManualClock>,
    pub settings: Settings,
}

impl Stage {
    pub fn new() -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            path: folder.path().join("spool.redb"),
            max_size: 64 << 20,
            max_age: Duration::from_secs(30 * 86_400),
            commit_window: Duration::from_millis(20),
            keep_delivered: Duration::ZERO,
            on_full: OnFull::DropOldest,
        };
        Stage { folder, clock: Arc::new(ManualClock::new()), settings }
    }

    pub fn try_open(&self) -> Result<Spool, OpenError> {
        Spool::open(self.settings.clone(), &Backend::File, self.clock.clone())
    }

    pub fn open(&self) -> Spool {
        self.try_open().unwrap()
    }

    /// The spool's file with something appended to its name.
    pub fn beside(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("spool.redb.{suffix}"))
    }

    pub fn uplink(&self, n: u64) -> Uplink {
        uplink(n, 24, &*self.clock)
    }
}

/// A spool on a [`Disk`].
pub fn in_memory(max_size: u64, commit_window: Duration) -> Settings {
    Settings {
        path: "in-memory".into(),
        max_size,
        max_age: NEVER,
        commit_window,
        keep_delivered: Duration::ZERO,
        on_full: OnFull::DropOldest,
    }
}

/// Opens a spool on `disk`, with a clock that stands still.
pub fn try_open_on(disk: &Disk, settings: &Settings) -> Result<Spool, OpenError> {
    Spool::open(settings.clone(), &Backend::Custom(Arc::new(disk.life())), Arc::new(ManualClock::new()))
}

/// A roomy one.
pub fn open_on(disk: &Disk, commit_window: Duration, keep_delivered: Duration) -> Spool {
    try_open_on(disk, &Settings { keep_delivered, ..in_memory(64 << 20, commit_window) }).unwrap()
}

/// An uplink whose id is `n` and whose content of `len` bytes follows from it.
pub fn uplink(n: u64, len: usize, clock: &dyn Clock) -> Uplink {
    Uplink {
        id: uuid::Uuid::from_u128(u128::from(n)),
        source: "concentrator".into(),
        kind: Kind::Lorawan,
        content: n.to_le_bytes().into_iter().cycle().take(len).collect(),
        dev_eui: None,
        f_cnt: u32::try_from(n).ok(),
        rx: Rx::default(),
        at: clock.now(),
        flags: Flags { clock_trusted: clock.trusted(), ..Flags::default() },
    }
}

/// The number that an uplink was made from.
pub fn number(uplink: &Uplink) -> u64 {
    u64::try_from(uplink.id.as_u128()).unwrap()
}

pub fn route(kind: &str, name: &str) -> RouteName {
    RouteName { flow: String::new(), kind: kind.into(), name: name.into() }
}

/// Two integrations, each with its route and its ledger.
pub struct Two {
    pub routes: Vec<RouteId>,
    pub accounts: [AccountId; 2],
    pub ledgers: [Ledger; 2],
}

pub async fn two(spool: &Spool) -> Two {
    let made = spool.routes(vec![route("http", "api"), route("mqtt", "broker")]).await.unwrap();
    let ledgers = [spool.ledger(made[0].1, vec![made[0].0]), spool.ledger(made[1].1, vec![made[1].0])];
    Two { routes: vec![made[0].0, made[1].0], accounts: [made[0].1, made[1].1], ledgers }
}

/// What one of the ledgers sees of a record.
pub fn mine_of(uplink: Uplink, route: RouteId) -> Routed {
    Routed { uplink, routes: vec![route] }
}

pub async fn append(appender: &Appender, routes: &[RouteId], uplinks: impl IntoIterator<Item = Uplink>) {
    let routed = uplinks.into_iter().map(|uplink| Routed { uplink, routes: routes.to_vec() }).collect();
    appender.append(routed, Vec::new()).await.unwrap();
}

/// Appends records and waits until they are in, in however many rounds.
pub async fn put(spool: &Spool, routes: &[RouteId], uplinks: impl IntoIterator<Item = Uplink>) -> Arc<View> {
    let uplinks: Vec<Uplink> = uplinks.into_iter().collect();
    let end = spool.view().borrow().end + uplinks.len() as u64;
    append(&spool.appender(), routes, uplinks).await;
    until(&mut spool.view(), "the records", |view| view.end >= end).await
}

/// Waits for a view of which `ok` is true.
pub async fn until(
    view: &mut watch::Receiver<Arc<View>>,
    what: &str,
    mut ok: impl FnMut(&View) -> bool,
) -> Arc<View> {
    for _ in 0..PATIENCE.as_secs() / SLICE.as_secs() {
        match tokio::time::timeout(SLICE, view.wait_for(|view| ok(view))).await {
            Ok(Ok(found)) => return Arc::clone(&found),
            Ok(Err(_)) => break,
            Err(_) => {}
        }
    }
    panic!("never came: {what}; the last view is {:#?}", view.borrow())
}

/// Appends a record that is nobody's and waits until it is in: everything that was sent before it has been done then,
/// because a round takes all that waits.
pub async fn barrier(spool: &Spool) -> Arc<View> {
    let end = spool.view().borrow().end;
    let clock = ManualClock::new();
    append(&spool.appender(), &[], [uplink(u64::MAX, 8, &clock)]).await;
    until(&mut spool.view(), "the barrier", |view| view.end > end).await
}

/// All that a ledger sees, with sequence numbers.
pub fn entries(ledger: &Ledger) -> Vec<(u64, Entry)> {
    let mut entries = Vec::new();
    let visit = |seq, entry| {
        entries.push((seq, entry));
        ControlFlow::Continue(())
    };
    ledger.scan(0, usize::MAX, visit).unwrap();
    entries
}

/// The uplinks in the log that are this ledger's, as (sequence, number).
pub fn mine(ledger: &Ledger) -> Vec<(u64, u64)> {
    entries(ledger)
        .into_iter()
        .filter_map(|(seq, entry)| match entry {
            Entry::Mine(mine) => Some((seq, number(&mine.uplink))),
            _ => None,
        })
        .collect()
}

/// The sequence numbers of [`mine`].
pub fn seqs(ledger: &Ledger) -> Vec<u64> {
    mine(ledger).into_iter().map(|(seq, _)| seq).collect()
}

pub fn account(view: &View, id: AccountId) -> AccountView {
    view.accounts.iter().find(|account| account.id == id).unwrap().clone()
}

/// Backlog, delivered and dead letters of an account.
pub fn counts(view: &View, id: AccountId) -> (u64, u64, u64) {
    let account = account(view, id);
    (account.backlog, account.delivered, account.dead_letters)
}

pub fn lost(view: &View, id: AccountId, loss: Loss) -> u64 {
    account(view, id).lost.iter().find(|(reason, _)| *reason == loss).map_or(0, |(_, n)| *n)
}
