//! One integration's side of the spool.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use redb::ReadableDatabase;
use tokio::sync::{mpsc, watch};

use super::account::{AccountId, AccountView};
use super::record::{self, Entry};
use super::settled::Settled;
use super::store::{LOG, RouteId};
use super::values::read_account;
use super::writer::Settle;
use super::{ReadError, Settlement, Shared, View};

/// Settlements of one lane that may wait for the writer before the lane leases no more. As many again may be committed and not
/// yet forced to the disk (RULES S30), so a kill in a slow sync undoes no more than twice this.
const SETTLE_CREDIT: usize = 256;

/// One integration's side of the spool: read its records in order, settle them.
#[derive(Debug)]
pub struct Ledger {
    account: AccountId,
    routes: Vec<RouteId>,
    shared: Arc<Shared>,
    settle: mpsc::UnboundedSender<Settle>,
    waiting: Arc<AtomicUsize>,
    view: watch::Receiver<Arc<View>>,
}

impl Ledger {
    pub(super) fn new(
        account: AccountId,
        routes: Vec<RouteId>,
        shared: Arc<Shared>,
        settle: mpsc::UnboundedSender<Settle>,
        view: watch::Receiver<Arc<View>>,
    ) -> Ledger {
        Ledger { account, routes, shared, settle, waiting: Arc::new(AtomicUsize::new(0)), view }
    }

    /// Its account as of the present view.
    pub fn account<'v>(&self, view: &'v View) -> Option<&'v AccountView> {
        view.account(self.account)
    }

    /// What is stored as settled for this account.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn settled(&self) -> Result<Settled, ReadError> {
        let account = self.shared.read(|database| read_account(database, self.account))?;
        Ok(account.map(|account| account.settled).unwrap_or_default())
    }

    /// Visits at most `limit` records from sequence `from` on, in order, inside one short read transaction, until `visit`
    /// has enough. Each costs its decoding.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn scan(
        &self,
        from: u64,
        limit: usize,
        mut visit: impl FnMut(u64, Entry) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.shared.read(|database| -> Result<(), redb::Error> {
            let log = database.begin_read()?.open_table(LOG)?;
            for row in log.range(from..)?.take(limit) {
                let (seq, value) = row?;
                if visit(seq.value(), record::read(value.value(), &self.routes)).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Ends the record `to`. Everything from `from` up to it that is not this account's is settled along with it, so that
    /// records of others leave no gaps in the ranges.
    pub fn settle(&self, from: u64, to: u64, settlement: Settlement) {
        self.send(from, to, Some(settlement));
    }

    /// Says that nothing from `from` to `to` is waited for: there are none, or others', or the spool has let go of them.
    pub fn cover(&self, from: u64, to: u64) {
        self.send(from, to, None);
    }

    fn send(&self, from: u64, to: u64, settlement: Option<Settlement>) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let settle =
            Settle { account: self.account, from, to, settlement, credit: Arc::clone(&self.waiting) };
        // A closed spool means the agent is stopping: the record stays unsettled and is sent again after the restart.
        let _ = self.settle.send(settle);
    }

    /// Whether the writer keeps up: more than [`SETTLE_CREDIT`] settlements of this lane waiting means it does not.
    pub fn has_credit(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < SETTLE_CREDIT
    }

    /// What the spool is like now, and a signal when it changes.
    pub fn view(&mut self) -> &mut watch::Receiver<Arc<View>> {
        &mut self.view
    }
}
