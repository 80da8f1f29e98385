//! How a lane is doing, for those who look (RULES S8).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::uplink::Moment;

use super::outcome::{Failure, Layer};

/// Failures and time without success that make an integration *down*.
const DOWN_FAILURES: u32 = 3;
const DOWN_AFTER: Duration = Duration::from_secs(30);

/// The states of an integration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is wrong.
    Active,
    /// `enabled = false`: no new routes, backlog kept.
    Inactive,
    /// The last attempt failed.
    Degraded,
    /// The operator wants nothing sent; the backlog grows.
    Paused,
    /// At least three failures and 30 s without success; retried.
    Down,
    /// The far end refuses us; probed.
    Blocked,
}

impl State {
    /// All of them.
    pub const ALL: [State; 6] =
        [State::Active, State::Inactive, State::Degraded, State::Paused, State::Down, State::Blocked];

    /// As in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Inactive => "inactive",
            State::Degraded => "degraded",
            State::Paused => "paused",
            State::Down => "down",
            State::Blocked => "blocked",
        }
    }
}

/// The last failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// Where it happened.
    pub layer: Layer,
    /// What happened. Never a secret.
    pub message: String,
    /// When, microseconds since 1970.
    pub at_us: i64,
}

/// A snapshot of a lane.
#[derive(Clone, Debug)]
pub struct LaneStatus {
    inactive: bool,
    paused: bool,
    blocked: bool,
    /// The far end was well since the lane began, or began anew.
    proved: bool,
    failures: u32,
    failing_since: Option<Instant>,
    /// When the present state began, microseconds since 1970.
    pub since_us: i64,
    /// When the far end last accepted something, microseconds since 1970.
    pub last_success_us: Option<i64>,
    /// The last failure.
    pub last_error: Option<LastError>,
    /// When the oldest record that waits was heard.
    pub oldest: Option<Moment>,
    /// Records under way.
    pub in_flight: usize,
    /// The member of a failover group that is used now.
    pub via: Option<Arc<str>>,
}

impl LaneStatus {
    /// The status of an integration that has not tried anything yet.
    pub fn starting(now_us: i64) -> LaneStatus {
        LaneStatus {
            inactive: false,
            paused: false,
            blocked: false,
            proved: false,
            failures: 0,
            failing_since: None,
            since_us: now_us,
            last_success_us: None,
            last_error: None,
            oldest: None,
            in_flight: 0,
            via: None,
        }
    }

    /// The status of an integration that is switched off.
    pub fn inactive(now_us: i64) -> LaneStatus {
        LaneStatus { inactive: true, ..LaneStatus::starting(now_us) }
    }

    /// The state at `now`.
    pub fn state(&self, now: Instant) -> State {
        let failing_for = self.failing_since.map_or(Duration::ZERO, |since| now.duration_since(since));
        if self.inactive {
            State::Inactive
        } else if self.paused {
            State::Paused
        } else if self.blocked {
            State::Blocked
        } else if self.failures == 0 {
            State::Active
        } else if self.failures >= DOWN_FAILURES && failing_for >= DOWN_AFTER {
            State::Down
        } else {
            State::Degraded
        }
    }

    /// Begins anew with another member of a group. What went wrong with the last one stays to be seen.
    pub(super) fn switch_to(&mut self, via: &Arc<str>, now_us: i64) {
        self.via = Some(Arc::clone(via));
        self.blocked = false;
        self.proved = false;
        self.failures = 0;
        self.failing_since = None;
        self.since_us = now_us;
    }

    /// Whether the far end was well since the lane began, or went another way: only then is *active* more than hope.
    pub fn is_proved_well(&self) -> bool {
        self.proved
    }

    /// Failures since the last success.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the last attempt failed: then one attempt goes first, alone.
    pub(super) fn failing(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(super) fn pause(&mut self, paused: bool, now_us: i64) {
        self.paused = paused;
        self.since_us = now_us;
    }

    pub(super) fn success(&mut self, delivered_us: Option<i64>, now_us: i64) {
        if self.failures > 0 {
            self.since_us = now_us;
        }
        self.blocked = false;
        self.proved = true;
        self.failures = 0;
        self.failing_since = None;
        self.last_success_us = delivered_us.or(self.last_success_us);
    }

    /// A request failed that was under way together with one that was counted: news about the reason, no new failure.
    pub(super) fn failed_with_others(&mut self, failure: &Failure, now_us: i64) {
        self.last_error =
            Some(LastError { layer: failure.layer, message: failure.message.clone(), at_us: now_us });
    }

    pub(super) fn failure(&mut self, failure: &Failure, blocks: bool, now: Instant, now_us: i64) {
        if self.failures == 0 || (blocks && !self.blocked) {
            self.since_us = now_us;
        }
        self.blocked |= blocks;
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        self.failed_with_others(failure, now_us);
    }
}
