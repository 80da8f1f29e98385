//! One integration's way through the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::{OnReject, Retry, Strategy};
use crate::lorawan;
use crate::spool::{Entry, Ledger, MAX_RANGES, Settled, Settlement};
use crate::uplink::{OrderKey, Uplink};

use super::backoff::Backoff;
use super::link::LinkUp;
use super::outcome::{Blame, Failure, Outcome, Receipt};
use super::status::LaneStatus;

/// Refill when fewer records than this wait.
const LOW_WATER: usize = 16;

/// Rows a refill reads at a time, and the bytes of content at which it stops.
const SCAN_ROWS: usize = 128;
const WINDOW_BYTES: usize = 256 * 1024;

/// Record refusals in a row, over two devices or more, that blame the endpoint after all (RULES S1).
const REFUSALS_THAT_BLOCK: u32 = 20;

/// How long to wait before reading again when the spool could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// In what order records may be under way together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// One a device at a time (HTTP).
    PerKey,
    /// In the order of the log; the stream keeps it (MQTT).
    Stream,
}

/// What a lane needs to know of its integration.
#[derive(Clone, Debug)]
pub struct LaneSettings {
    /// The integration's name.
    pub name: Arc<str>,
    /// Its retry strategy.
    pub retry: Retry,
    /// How it keeps order.
    pub ordering: Ordering,
    /// Seed of the jitter: of this gateway and integration.
    pub seed: u64,
}

/// A record under way. Ends with [`Lane::settle`] or [`Lane::release`]; it can't be copied.
#[derive(Debug)]
pub struct Lease {
    seq: u64,
    /// The uplink.
    pub uplink: Arc<Uplink>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
}

#[derive(Debug)]
struct Item {
    /// The first number that is settled along with this record: those in between are not ours.
    from: u64,
    seq: u64,
    uplink: Arc<Uplink>,
    key: OrderKey,
    attempts: u32,
    leased: bool,
}

/// See the [module](super).
#[derive(Debug)]
pub struct Lane {
    settings: LaneSettings,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    link_up: LinkUp,
    status: watch::Sender<LaneStatus>,
    backoff: Backoff,
    /// No attempt before this.
    not_before: Option<Instant>,
    /// The unsettled records that are held, ascending; at most [`MAX_RANGES`].
    items: VecDeque<Item>,
    /// What the spool had stored as settled when the lane last started from it.
    settled: Settled,
    generation: Option<u64>,
    /// The next number to read, and the first that the next record's settlement covers.
    cursor: u64,
    span_from: u64,
    refusals: u32,
    /// The key of the first refusal in the row; `None` once a second device joined it.
    refused_key: Option<OrderKey>,
}

impl Lane {
    /// A lane over a ledger, and where its status can be seen.
    pub fn new(
        settings: LaneSettings,
        ledger: Ledger,
        clock: Arc<dyn Clock>,
        link_up: LinkUp,
    ) -> (Lane, watch::Receiver<LaneStatus>) {
        let (status, seen) = watch::channel(LaneStatus::starting(clock.wall_us()));
        let backoff = Backoff::new(&settings.retry, settings.seed);
        let lane = Lane {
            settings,
            ledger,
            clock,
            link_up,
            status,
            backoff,
            not_before: None,
            items: VecDeque::new(),
            settled: Settled::default(),
            generation: None,
            cursor: 0,
            span_from: 0,
            refusals: 0,
            refused_key: None,
        };
        (lane, seen)
    }

    /// The integration's name.
    pub fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// Records under way.
    pub fn in_flight(&self) -> usize {
        self.items.iter().filter(|item| item.leased).count()
    }

    /// The next record that may be sent now, if there is one.
    pub fn try_next(&mut self) -> Option<Lease> {
        self.follow_spool();
        if !self.may_send() {
            return None;
        }
        if self.items.iter().filter(|item| !item.leased).count() < LOW_WATER {
            self.refill();
        }
        let at = self.pick()?;
        let item = self.items.get_mut(at)?;
        item.leased = true;
        let lease = Lease { seq: item.seq, uplink: Arc::clone(&item.uplink), attempt: item.attempts + 1 };
        self.show(|_| {});
        Some(lease)
    }

    /// Waits for the next record that may be sent. Safe to cancel: a record is leased only when it is returned.
    pub async fn next(&mut self) -> Lease {
        loop {
            if let Some(lease) = self.try_next() {
                return lease;
            }
            self.changed().await;
        }
    }

    /// Waits until something happened that may let [`Lane::try_next`] return a record. Safe to cancel.
    pub async fn changed(&mut self) {
        let until = self.not_before;
        let kicked = tokio::select! {
            changed = self.ledger.view().changed() => {
                if changed.is_err() {
                    // The spool is closed: the agent is stopping and nothing will come any more.
                    std::future::pending::<()>().await;
                }
                false
            }
            () = self.link_up.heard() => true,
            () = sleep_until(until) => {
                self.not_before = None;
                false
            }
        };
        if kicked {
            self.kick();
        }
    }

    /// Waits until an attempt may start, be there a record or not (MQTT connects for its birth alone). Safe to cancel.
    pub async fn may_attempt(&mut self) {
        while let Some(until) = self.not_before.filter(|until| *until > Instant::now()) {
            let kicked = tokio::select! {
                () = self.link_up.heard() => true,
                () = tokio::time::sleep_until(until) => false,
            };
            if kicked {
                self.kick();
            }
        }
        self.not_before = None;
    }

    /// Waits for a link-up signal that is worth giving up a hanging connection attempt for. Safe to cancel.
    pub async fn link_up(&mut self) {
        self.link_up.heard().await;
    }

    /// Ends a lease with what became of it.
    pub fn settle(&mut self, lease: Lease, outcome: Outcome) {
        let Some(at) = self.items.iter().position(|item| item.seq == lease.seq) else {
            // The lane started again from the spool meanwhile; the record will be read and sent once more.
            return;
        };
        match outcome {
            Outcome::Delivered(receipt) => self.delivered(at, receipt),
            Outcome::Failed(failure) => self.failed_record(at, failure),
        }
        self.show(|_| {});
    }

    /// Gives a lease back: the connection went before there was an answer. The record is not to blame.
    pub fn release(&mut self, lease: Lease) {
        if let Some(item) = self.items.iter_mut().find(|item| item.seq == lease.seq) {
            item.leased = false;
            item.attempts += 1;
        }
        self.show(|_| {});
    }

    /// The integration as a whole failed (a connection that did not come about, or broke).
    pub fn failed(&mut self, failure: &Failure) {
        match failure.blame {
            Blame::Endpoint if self.clock.trusted() => self.block(failure),
            Blame::Endpoint | Blame::Record => self.back_off(failure, None),
            Blame::Link { retry_after } => self.back_off(failure, retry_after),
        }
    }

    fn delivered(&mut self, at: usize, receipt: Receipt) {
        let Some(item) = self.items.remove(at) else { return };
        log::trace!("{}: {} delivered, {receipt}", self.settings.name, item.uplink.id);
        self.ledger.settle(item.from, item.seq, Settlement::Delivered);
        self.refusals = 0;
        self.refused_key = None;
        self.well(Some(self.clock.wall_us()));
    }

    /// The far end let us in (CONNACK). That proves it well only if there is nothing to deliver; otherwise the first
    /// acknowledged record does.
    pub fn reached(&mut self) {
        self.follow_spool();
        self.refill();
        if self.items.is_empty() {
            self.well(None);
        }
    }

    fn well(&mut self, delivered_us: Option<i64>) {
        self.backoff.success(Instant::now());
        let failures = self.status.borrow().failures();
        let now_us = self.clock.wall_us();
        self.show(|status| status.success(delivered_us, now_us));
        if failures > 0 {
            log::info!("{}: well again after {failures} failed attempts", self.settings.name);
            self.link_up.signal();
        }
    }

    fn failed_record(&mut self, at: usize, failure: Failure) {
        let Some(item) = self.items.get_mut(at) else { return };
        item.leased = false;
        item.attempts += 1;
        let (attempts, key) = (item.attempts, item.key);
        let refused = failure.blame == Blame::Record && self.settings.retry.on_reject == OnReject::DeadLetter;
        let given_up = matches!(failure.blame, Blame::Link { .. }) && self.is_exhausted(attempts);
        if refused || given_up {
            self.bury(at, &failure, attempts);
        }
        if refused {
            self.count_refusal(key, &failure);
        } else {
            self.failed(&failure);
        }
    }

    fn is_exhausted(&self, attempts: u32) -> bool {
        let retry = &self.settings.retry;
        match retry.strategy {
            Strategy::None => true,
            Strategy::Exponential | Strategy::Fixed => {
                retry.max_attempts > 0 && attempts >= retry.max_attempts
            }
        }
    }

    fn bury(&mut self, at: usize, failure: &Failure, attempts: u32) {
        let Some(item) = self.items.remove(at) else { return };
        log::warn!(
            "{}: uplink {} is a dead letter after attempt {attempts}: {failure}",
            self.settings.name,
            item.uplink.id
        );
        let settlement = Settlement::Refused { reason: failure.to_string(), attempts };
        self.ledger.settle(item.from, item.seq, settlement);
    }

    /// The far end answered, so the link is well; but twenty refusals in a row over several devices are no accident of
    /// the records (RULES S1).
    fn count_refusal(&mut self, key: OrderKey, failure: &Failure) {
        let several = self.refusals > 0 && self.refused_key != Some(key);
        self.refused_key = if several { None } else { Some(key) };
        self.refusals += 1;
        if self.refusals >= REFUSALS_THAT_BLOCK && self.refused_key.is_none() {
            self.block(&Failure::endpoint(
                failure.layer,
                format!(
                    "{} records in a row were refused, the last with: {}",
                    self.refusals, failure.message
                ),
            ));
        } else {
            let (now, now_us) = (Instant::now(), self.clock.wall_us());
            self.show(|status| status.failure(failure, false, now, now_us));
        }
    }

    fn back_off(&mut self, failure: &Failure, retry_after: Option<Duration>) {
        let now = Instant::now();
        // Requests that were under way together fail together: that is one failure.
        let waiting = self.not_before.is_some_and(|until| until > now);
        let wait = if waiting { Duration::ZERO } else { self.backoff.failure(now) };
        let until = now + retry_after.map_or(wait, |asked| asked.max(wait));
        self.not_before = Some(self.not_before.map_or(until, |before| before.max(until)));
        self.report(failure, false, now);
    }

    fn block(&mut self, failure: &Failure) {
        let now = Instant::now();
        self.not_before = Some(now + self.settings.retry.probe);
        self.refusals = 0;
        self.report(failure, true, now);
    }

    /// An outage of a week must not fill the log: the first failure, then every power of two.
    fn report(&mut self, failure: &Failure, blocks: bool, now: Instant) {
        let newly_blocked = blocks && !self.status.borrow().is_blocked();
        let now_us = self.clock.wall_us();
        self.show(|status| status.failure(failure, blocks, now, now_us));
        let failures = self.status.borrow().failures();
        if newly_blocked {
            log::error!(
                "{}: BLOCKED, the far end refuses us: {failure}. The backlog is kept; trying again every {:?}",
                self.settings.name,
                self.settings.retry.probe
            );
        } else if failures.is_power_of_two() {
            log::warn!("{}: attempt failed ({failures} in a row): {failure}", self.settings.name);
        }
    }

    fn kick(&mut self) {
        if self.not_before.is_some() {
            let soon = Instant::now() + self.backoff.after_kick();
            self.not_before = self.not_before.map(|until| until.min(soon));
        }
    }

    fn may_send(&self) -> bool {
        let waiting = self.not_before.is_some_and(|until| until > Instant::now());
        let status = self.status.borrow();
        let careful = status.is_blocked() || status.failing();
        !waiting && self.ledger.has_credit() && !(careful && self.in_flight() > 0)
    }

    fn pick(&self) -> Option<usize> {
        let busy = |key: &OrderKey| self.items.iter().any(|other| other.leased && other.key == *key);
        self.items
            .iter()
            .position(|item| !item.leased && (self.settings.ordering == Ordering::Stream || !busy(&item.key)))
    }

    /// Notices that the spool was reopened or has let go of records that are still held here.
    fn follow_spool(&mut self) {
        let (generation, floor) = {
            let view = self.ledger.view().borrow_and_update();
            (view.generation, view.floor)
        };
        if self.generation != Some(generation) {
            self.start_again(generation);
        }
        let mut gap_from = None;
        self.items.retain(|item| {
            let gone = item.seq < floor && !item.leased;
            if gone {
                gap_from.get_or_insert(item.from);
            }
            !gone
        });
        if let Some(from) = gap_from {
            // Whoever comes next settles the gap along with itself.
            match self.items.iter_mut().find(|item| item.from > from) {
                Some(next) => next.from = next.from.min(from),
                None => self.span_from = self.span_from.min(from),
            }
        }
    }

    fn start_again(&mut self, generation: u64) {
        match self.ledger.settled() {
            Ok(settled) => {
                self.items.clear();
                self.cursor = settled.low();
                self.span_from = settled.low();
                self.settled = settled;
                self.generation = Some(generation);
            }
            Err(error) => self.cannot_read(&error),
        }
    }

    fn cannot_read(&mut self, error: &crate::spool::ReadError) {
        log::warn!("{}: {error}", self.settings.name);
        let again = Instant::now() + READ_AGAIN;
        self.not_before = Some(self.not_before.map_or(again, |before| before.max(again)));
    }

    fn refill(&mut self) {
        if self.generation.is_none() {
            return;
        }
        let end = self.ledger.view().borrow().end;
        while self.cursor < end && self.items.len() < MAX_RANGES && self.held_bytes() < WINDOW_BYTES {
            let before = self.cursor;
            let rows = self.scan();
            match rows {
                Ok(rows) if rows.is_empty() => {
                    self.cursor = end;
                }
                Ok(rows) => rows.into_iter().for_each(|(seq, entry)| self.take(seq, entry)),
                Err(error) => {
                    self.cannot_read(&error);
                    return;
                }
            }
            if self.cursor == before {
                return;
            }
        }
    }

    fn held_bytes(&self) -> usize {
        self.items.iter().map(|item| item.uplink.content.len()).sum()
    }

    /// Copies a few rows out of a short read transaction: no more of ours than there is room for.
    fn scan(&self) -> Result<Vec<(u64, Entry)>, crate::spool::ReadError> {
        let room = MAX_RANGES.saturating_sub(self.items.len());
        let mut rows = Vec::new();
        let mut mine = 0;
        self.ledger.scan(self.cursor, SCAN_ROWS, |seq, entry| {
            if mine < room {
                mine += usize::from(matches!(entry, Entry::Mine(_)));
                rows.push((seq, entry));
            }
        })?;
        Ok(rows)
    }

    fn take(&mut self, seq: u64, entry: Entry) {
        self.cursor = seq + 1;
        match entry {
            Entry::Mine(uplink) if !self.settled.contains(seq) => {
                let key = lorawan::order_key(&uplink);
                let uplink = Arc::new(uplink);
                self.items.push_back(Item {
                    from: self.span_from,
                    seq,
                    uplink,
                    key,
                    attempts: 0,
                    leased: false,
                });
                self.span_from = seq + 1;
            }
            Entry::Mine(_) | Entry::Other => {}
            Entry::Unknown(format) => {
                log::warn!(
                    "{}: record {seq} has format {format}, made by a newer version; it is kept",
                    self.settings.name
                );
                self.span_from = seq + 1;
            }
            Entry::Damaged => {
                log::error!(
                    "{}: record {seq} is damaged on the disk and can't be delivered",
                    self.settings.name
                );
                self.ledger.settle(self.span_from, seq, Settlement::Damaged);
                self.span_from = seq + 1;
            }
        }
    }

    fn show(&mut self, change: impl FnOnce(&mut LaneStatus)) {
        let oldest = self.items.front().map(|item| item.uplink.at);
        let in_flight = self.in_flight();
        self.status.send_modify(|status| {
            status.oldest = oldest;
            status.in_flight = in_flight;
            change(status);
        });
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
