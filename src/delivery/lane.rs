//! One integration's way through the log: when the next attempt may start, and what an attempt's outcome means.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::{Clock, sleep_until};
use crate::config::{OnReject, Order, Retry, Strategy};
use crate::crash_point::CrashPoint;
use crate::history::{Exchange, History, Sent, Standing};
use crate::lorawan;
use crate::spool::{Ledger, ReadError, RouteId, Settlement};
use crate::uplink::{Kind, OrderKey, Uplink};

use super::backoff::Backoff;
use super::link::LinkUp;
use super::outcome::{Blame, Failure, Outcome, Receipt, Report};
use super::pace::Pace;
use super::status::LaneStatus;
use super::window::{Beside, Lease, Window};

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
    /// Whether newer or older uplinks go first (RULES S14).
    pub order: Order,
    /// How many uplinks that have waited are sent a second; 0: no limit. Waited has what was heard before the last reconnect,
    /// or is sent once more.
    pub replay_rate: u32,
    /// Which variant of the integration a route is sent as; a route that is not here, as the plain one, 0.
    pub variant_of: HashMap<RouteId, usize>,
    /// Where its attempts are noted.
    pub history: History,
}

/// See the [module](super).
#[derive(Debug)]
pub struct Lane {
    pub(super) name: Arc<str>,
    retry: Retry,
    pub(super) clock: Arc<dyn Clock>,
    link_up: LinkUp,
    pub(super) status: watch::Sender<LaneStatus>,
    history: History,
    pub(super) window: Window,
    backoff: Backoff,
    pace: Pace,
    /// No attempt before this.
    not_before: Option<Instant>,
    /// Back-offs and blocks so far. What was leased before the last one says nothing about the time after it.
    epoch: u64,
    /// The far end was out of reach or refused us, so that its next success is news for the other lanes.
    out_of_reach: bool,
    /// The far end has not been reached since it failed, or at all: the next time is a reconnect.
    was_away: bool,
    /// The log has a line about the present trouble, and is owed one about its end.
    told: bool,
    refusals: u32,
    /// The key of the first refusal in the row; `None` once a second device joined it.
    refused_key: Option<OrderKey>,
    /// Dead letters and failed reads in a row: logged at powers of two.
    buried: u64,
    unread: u64,
}

impl Lane {
    /// A lane over a ledger, and where its status can be seen.
    pub fn new(
        settings: LaneSettings,
        ledger: Ledger,
        clock: Arc<dyn Clock>,
        link_up: LinkUp,
    ) -> (Lane, watch::Receiver<LaneStatus>) {
        let LaneSettings { name, retry, ordering, seed, order, replay_rate, variant_of, history } = settings;
        let (status, seen) = watch::channel(LaneStatus::starting(clock.wall_us()));
        let lane = Lane {
            window: Window::new(Arc::clone(&name), ordering, order, ledger, variant_of),
            backoff: Backoff::new(&retry, seed),
            name,
            retry,
            clock,
            link_up,
            status,
            history,
            pace: Pace::new(replay_rate),
            not_before: None,
            epoch: 0,
            out_of_reach: false,
            was_away: true,
            told: false,
            refusals: 0,
            refused_key: None,
            buried: 0,
            unread: 0,
        };
        (lane, seen)
    }

    /// The integration's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Records under way.
    pub fn in_flight(&self) -> usize {
        self.window.in_flight()
    }

    /// The next record that may be sent now, if there is one.
    pub fn try_next(&mut self) -> Option<Lease> {
        self.look();
        if !self.may_send() {
            return None;
        }
        let now = Instant::now();
        let lease = self.window.lease(self.epoch, self.pace.wait_until(now).is_none())?;
        if lease.has_waited {
            self.pace.take(now);
        }
        self.show(|_| {});
        Some(lease)
    }

    /// One more record for the request that `first` is for (RULES S16): the next one, whatever the lane's state, for it is
    /// the same attempt.
    pub fn try_next_beside(&mut self, first: &Lease) -> Beside {
        self.look();
        let now = Instant::now();
        let beside = self.window.lease_beside(first, self.pace.wait_until(now).is_none());
        if matches!(&beside, Beside::Leased(lease) if lease.has_waited) {
            self.pace.take(now);
        }
        self.show(|_| {});
        beside
    }

    /// Gives a lease back that was not sent after all: no attempt was made.
    pub fn put_back(&mut self, lease: Lease) {
        self.window.put_back(&lease);
        self.show(|_| {});
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
        if self.may_send() && self.window.wants_rows() {
            // A long backlog of somebody else's is passed over in steps.
            tokio::task::yield_now().await;
            return;
        }
        let until = self.not_before.into_iter().chain(self.paced_until()).min();
        let kicked = tokio::select! {
            changed = self.window.ledger.view().changed() => {
                wait_if_closed(changed).await;
                false
            }
            () = self.link_up.heard() => true,
            () = sleep_until(until) => {
                self.not_before = self.not_before.filter(|until| *until > Instant::now());
                false
            }
        };
        if kicked {
            self.kick();
        }
    }

    /// When the next record may go, if it has waited and has to wait some more.
    fn paced_until(&self) -> Option<Instant> {
        self.pace.wait_until(Instant::now()).filter(|_| self.window.next_has_waited())
    }

    /// Waits until an attempt may start, be there a record or not (MQTT connects for its birth alone). Safe to cancel.
    pub async fn may_attempt(&mut self) {
        // Nothing is leased before there is a connection, but the status can say how old the oldest record is.
        self.look();
        self.show(|_| {});
        loop {
            let until = self.not_before.filter(|until| *until > Instant::now());
            let is_paused = self.window.is_paused();
            if until.is_none() && !is_paused {
                break;
            }
            let kicked = tokio::select! {
                () = self.link_up.heard() => true,
                () = sleep_until(until), if until.is_some() => false,
                changed = self.window.ledger.view().changed() => {
                    wait_if_closed(changed).await;
                    self.look();
                    self.show(|_| {});
                    false
                }
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
    pub fn settle(&mut self, lease: Lease, report: impl Into<Report>) {
        let Report { outcome, exchange } = report.into();
        let error = match &outcome {
            Outcome::Failed(failure) => Some(failure.clone()),
            Outcome::Delivered(_) | Outcome::Filtered => None,
        };
        let standing = self.end(&lease, outcome);
        self.remember(&lease, standing, error.as_ref(), exchange);
        self.show(|_| {});
    }

    fn end(&mut self, lease: &Lease, outcome: Outcome) -> Standing {
        let ours = self.window.give_back(lease).map(|item| (item.key, item.attempts));
        match (outcome, ours) {
            (Outcome::Delivered(receipt), Some(_)) => {
                self.delivered(lease, receipt);
                Standing::Delivered
            }
            (Outcome::Failed(failure), Some((key, attempts))) => {
                self.failed_record(lease, key, attempts, &failure)
            }
            (Outcome::Filtered, Some(_)) => {
                self.window.settle(lease, Settlement::Filtered);
                Standing::Filtered
            }
            // The spool was reopened meanwhile; the record will be read and sent once more.
            (Outcome::Delivered(_), None) => {
                self.succeeded(lease.epoch);
                Standing::Delivered
            }
            (Outcome::Failed(failure), None) if failure.blame != Blame::Record => {
                self.fail(&failure, Some(lease.epoch));
                Standing::Retrying
            }
            (Outcome::Failed(_) | Outcome::Filtered, None) => Standing::Retrying,
        }
    }

    fn remember(
        &self,
        lease: &Lease,
        standing: Standing,
        failure: Option<&Failure>,
        exchange: Option<Exchange>,
    ) {
        let mut exchange = exchange.unwrap_or_default();
        if exchange.device.is_empty() {
            exchange.device = lorawan::order_key(&lease.uplink).to_string();
        }
        self.history.note(Sent {
            id: lease.uplink.id,
            time_us: self.clock.wall_us(),
            input: input_of(&lease.uplink),
            standing,
            attempts: lease.attempt,
            exchange,
            error: failure.map(shown),
        });
    }

    /// Gives a lease back: the connection went before there was an answer. The record is not to blame.
    pub fn release(&mut self, lease: Lease) {
        self.window.give_back(&lease);
        self.show(|_| {});
    }

    /// Gives a lease back whose connection broke with `failure`, for the history; the lane itself hears of it by
    /// [`Lane::failed`].
    pub fn break_off(&mut self, lease: Lease, failure: &Failure, exchange: Exchange) {
        self.remember(&lease, Standing::Retrying, Some(failure), Some(exchange));
        self.release(lease);
    }

    /// Takes back whatever is still under way: nobody will end those leases any more.
    pub fn abandon(&mut self) {
        self.window.abandon();
        self.show(|_| {});
    }

    /// The records go another way from here on, called `via`; what the last way was like says nothing about it (RULES S10).
    pub fn switch_to(&mut self, via: &Arc<str>) {
        self.not_before = None;
        self.epoch = self.epoch.wrapping_add(1);
        self.refusals = 0;
        self.refused_key = None;
        self.told = false;
        self.backoff.start_again();
        let now_us = self.clock.wall_us();
        self.show(|status| status.switch_to(via, now_us));
    }

    /// What it hears of the link, for those who hear it beside the lane.
    pub fn link(&self) -> LinkUp {
        self.link_up.clone()
    }

    /// Where its status can be seen.
    pub fn watch(&self) -> watch::Receiver<LaneStatus> {
        self.status.subscribe()
    }

    /// The integration as a whole failed (a connection that did not come about, or broke).
    pub fn failed(&mut self, failure: &Failure) {
        self.history.note_offline(shown(failure), self.clock.wall_us());
        self.fail(failure, None);
    }

    /// The far end let us in (CONNACK). That proves it well only if there is nothing to deliver; otherwise the first
    /// acknowledged record does.
    pub fn reached(&mut self) {
        self.look();
        self.is_back();
        if self.window.is_empty() && !self.window.wants_rows() {
            self.well(None);
        }
    }

    fn delivered(&mut self, lease: &Lease, receipt: Receipt) {
        log::trace!("{}: {} delivered, {receipt}", self.name, lease.uplink.id);
        CrashPoint::BeforeSettle.reached();
        self.window.settle(lease, Settlement::Delivered);
        self.buried = 0;
        self.succeeded(lease.epoch);
    }

    /// A success of a request that was sent before the last back-off or block is a success, but no word about what made
    /// the lane wait: that stands until the next attempt.
    fn succeeded(&mut self, epoch: u64) {
        self.refusals = 0;
        self.refused_key = None;
        let now_us = self.clock.wall_us();
        if epoch == self.epoch {
            self.well(Some(now_us));
        } else {
            self.show(|status| status.last_success_us = Some(now_us));
        }
    }

    fn well(&mut self, delivered_us: Option<i64>) {
        self.backoff.success(Instant::now());
        let failures = self.status.borrow().failures();
        let now_us = self.clock.wall_us();
        self.show(|status| status.success(delivered_us, now_us));
        self.is_back();
        // Refused records were answered: the link was up all the time, and the others need not be told.
        if std::mem::take(&mut self.out_of_reach) {
            self.link_up.signal_others();
        }
        if std::mem::take(&mut self.told) {
            log::info!("{}: well again after {failures} failed attempts", self.name);
        }
    }

    /// The far end is there. If it was away, what is in the log by now has waited.
    fn is_back(&mut self) {
        if std::mem::take(&mut self.was_away) {
            self.history.note_back(self.clock.wall_us());
            self.window.reconnected();
        }
    }

    fn failed_record(&mut self, lease: &Lease, key: OrderKey, attempts: u32, failure: &Failure) -> Standing {
        let refused = failure.blame == Blame::Record && self.retry.on_reject == OnReject::DeadLetter;
        let given_up = matches!(failure.blame, Blame::Link { .. }) && self.is_exhausted(attempts);
        if refused || given_up {
            self.bury(lease, failure, attempts);
        }
        if refused {
            self.count_refusal(key, failure);
        } else {
            self.fail(failure, Some(lease.epoch));
        }
        if refused || given_up { Standing::DeadLetter } else { Standing::Retrying }
    }

    fn is_exhausted(&self, attempts: u32) -> bool {
        match self.retry.strategy {
            Strategy::None => true,
            Strategy::Exponential | Strategy::Fixed => {
                self.retry.max_attempts > 0 && attempts >= self.retry.max_attempts
            }
        }
    }

    fn bury(&mut self, lease: &Lease, failure: &Failure, attempts: u32) {
        CrashPoint::BeforeBurial.reached();
        self.buried = self.buried.saturating_add(1);
        let level = if self.buried.is_power_of_two() { log::Level::Warn } else { log::Level::Debug };
        let (name, id, n) = (&self.name, lease.uplink.id, self.buried);
        log::log!(
            level,
            "{name}: uplink {id} is a dead letter after attempt {attempts} ({n} in a row): {failure}"
        );
        self.window.settle(lease, Settlement::Refused { reason: failure.to_string(), attempts });
    }

    /// The far end answered, so the link is well; but twenty refusals in a row over several devices are no accident of
    /// the records (RULES S1). Once blocked, a probe that is refused costs its record and waits for the next probe.
    fn count_refusal(&mut self, key: OrderKey, failure: &Failure) {
        let several = self.refusals > 0 && self.refused_key != Some(key);
        self.refused_key = if several { None } else { Some(key) };
        self.refusals = self.refusals.saturating_add(1);
        let all = self.refusals >= REFUSALS_THAT_BLOCK && self.refused_key.is_none();
        if all || self.status.borrow().is_blocked() {
            let message = format!(
                "{} records in a row were refused, the last with: {}",
                self.refusals, failure.message
            );
            self.fail(&Failure::endpoint(failure.layer, message), None);
        } else {
            let (now, now_us) = (Instant::now(), self.clock.wall_us());
            self.show(|status| status.failure(failure, false, now, now_us));
        }
    }

    /// The attempt of this epoch failed, or the integration as a whole. A refusal means little while our own clock may be
    /// to blame (RULES S8).
    fn fail(&mut self, failure: &Failure, epoch: Option<u64>) {
        self.out_of_reach |= failure.blame != Blame::Record;
        self.was_away |= failure.blame != Blame::Record;
        match failure.blame {
            Blame::Endpoint if self.clock.trusted() => self.block(failure),
            Blame::Endpoint | Blame::Record => self.back_off(failure, None, epoch),
            Blame::Link { retry_after } => self.back_off(failure, retry_after, epoch),
        }
    }

    fn back_off(&mut self, failure: &Failure, retry_after: Option<Duration>, epoch: Option<u64>) {
        let now = Instant::now();
        // Requests that were under way together fail together, now or after the wait: that is one failure.
        let again = match epoch {
            Some(epoch) => epoch != self.epoch,
            None => self.not_before.is_some_and(|until| until > now),
        };
        let wait = if again { Duration::ZERO } else { self.backoff.failure(now) };
        self.wait_until(now + retry_after.map_or(wait, |asked| asked.max(wait)));
        if again {
            let now_us = self.clock.wall_us();
            self.show(|status| status.failed_with_others(failure, now_us));
        } else {
            // A far end that lets us in and throws us out all day is one trouble, too.
            let worth_a_line = self.backoff.failures().is_power_of_two();
            self.report(failure, false, worth_a_line);
        }
    }

    fn block(&mut self, failure: &Failure) {
        self.wait_until(Instant::now() + self.retry.probe);
        let failures = self.status.borrow().failures().saturating_add(1);
        self.report(failure, true, failures.is_power_of_two());
    }

    fn wait_until(&mut self, until: Instant) {
        self.not_before = Some(self.not_before.map_or(until, |before| before.max(until)));
    }

    /// An outage of a week must not fill the log: the first failure, then every power of two.
    fn report(&mut self, failure: &Failure, blocks: bool, worth_a_line: bool) {
        self.epoch = self.epoch.wrapping_add(1);
        let newly_blocked = blocks && !self.status.borrow().is_blocked();
        let (now, now_us) = (Instant::now(), self.clock.wall_us());
        self.show(|status| status.failure(failure, blocks, now, now_us));
        let failures = self.status.borrow().failures();
        self.told |= newly_blocked || worth_a_line;
        if newly_blocked {
            log::error!(
                "{}: BLOCKED, the far end refuses us: {failure}. The backlog is kept; trying again every {:?}",
                self.name,
                self.retry.probe
            );
        } else if worth_a_line {
            log::warn!("{}: attempt failed ({failures} in a row): {failure}", self.name);
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
        let held_back = waiting || self.window.is_paused() || (careful && self.in_flight() > 0);
        !held_back && self.window.ledger.has_credit()
    }

    /// Follows the spool and reads on where records are wanted.
    fn look(&mut self) {
        let was_paused = self.window.is_paused();
        self.follow();
        let is_paused = self.window.is_paused();
        if was_paused != is_paused {
            // Whoever says "go on" does not mean "after the back-off".
            self.not_before = self.not_before.filter(|_| is_paused);
            let now_us = self.clock.wall_us();
            self.show(|status| status.pause(is_paused, now_us));
            log::info!("{}: {}", self.name, if is_paused { "paused" } else { "goes on" });
        }
    }

    fn follow(&mut self) {
        match self.window.follow_spool().and_then(|()| self.window.refill()) {
            Ok(()) => self.unread = 0,
            Err(error) => self.cannot_read(&error),
        }
    }

    /// A disk that is gone for a week must not fill the log either; while the spool is reopened it speaks for itself.
    fn cannot_read(&mut self, error: &ReadError) {
        self.unread = self.unread.saturating_add(1);
        if *error != ReadError::Reopening && self.unread.is_power_of_two() {
            log::warn!("{}: {error}; trying again every {READ_AGAIN:?}", self.name);
        }
        self.wait_until(Instant::now() + READ_AGAIN);
    }

    fn show(&mut self, change: impl FnOnce(&mut LaneStatus)) {
        let (oldest, in_flight) = (self.window.oldest(), self.in_flight());
        self.status.send_modify(|status| {
            status.oldest = oldest;
            status.in_flight = in_flight;
            change(status);
        });
    }
}

/// The frame in hexadecimal, or the network server's JSON.
fn input_of(uplink: &Uplink) -> String {
    match uplink.kind {
        Kind::App => String::from_utf8_lossy(&uplink.content).into_owned(),
        Kind::Lorawan | Kind::Join | Kind::Other => data_encoding::HEXLOWER.encode(&uplink.content),
    }
}

/// A failure as the history has it.
fn shown(failure: &Failure) -> crate::history::Error {
    (failure.layer.as_str(), failure.message.clone())
}

/// A closed spool means that the agent is stopping and nothing will come any more.
async fn wait_if_closed(changed: Result<(), watch::error::RecvError>) {
    if changed.is_err() {
        std::future::pending::<()>().await;
    }
}
