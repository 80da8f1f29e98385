//! A failover group: one lane, several integrations, of which one is used at a time (RULES S10).
//!
//! ```text
//!            ┌────────── member 1 is down or blocked ─────────┐
//!            │                                                v
//!   member 1 is used                                member 2 is used, member 1 is probed
//!            ^                                                │
//!            └────── member 1 was well for a minute ──────────┘   (… and so on to member n, then 1 again)
//! ```
//!
//! The group drives its lane through the member that is used, with a stop signal of that turn. A turn ends as every stop
//! does: what is under way is answered or taken back, so that what a member has settled is never sent by another, and what
//! it has not settled is sent by the next.
//!
//! A member before the one in use is asked every [`PROBE_EVERY`] whether it is there and would take us, without an uplink:
//! HTTP with OPTIONS, MQTT with a connection. A whole minute of good answers ends the turn.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::delivery::outcome::Failure;
use crate::delivery::{Lane, LaneStatus, State, Stop, Stopper};

use super::{Integration, Tester};

/// How long a member must have answered well before it is used again (RULES S10).
const WELL_FOR: Duration = Duration::from_secs(60);

/// How often it is asked.
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// How often a lane is looked at that has no news: that it is down is a matter of time alone.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A failover group, ready to run.
#[derive(Debug)]
pub struct Group {
    members: Vec<(Arc<str>, Integration)>,
}

/// Why a member's turn ended.
enum Turn {
    Stopped,
    Next,
    Back(usize),
}

impl Group {
    /// A group of these members, in the order of preference; `None` without any.
    pub fn new(members: Vec<(Arc<str>, Integration)>) -> Option<Group> {
        (!members.is_empty()).then_some(Group { members })
    }

    /// How its lane keeps order: as the strictest member needs it.
    pub(super) fn ordering(&self) -> crate::delivery::Ordering {
        let per_key = |(_, member): &(_, Integration)| member.ordering() == crate::delivery::Ordering::PerKey;
        match self.members.iter().any(per_key) {
            true => crate::delivery::Ordering::PerKey,
            false => crate::delivery::Ordering::Stream,
        }
    }

    /// Those of its members.
    pub(super) fn testers(&self) -> Vec<(Arc<str>, Tester)> {
        self.members.iter().map(|(name, member)| (Arc::clone(name), member.tester())).collect()
    }

    /// Drives the lane until `stop`.
    pub(super) async fn run(&self, lane: &mut Lane, stop: &mut Stop) {
        let mut used = 0;
        while let Some((name, member)) = self.members.get(used) {
            lane.switch_to(name);
            match self.turn(used, member, lane, stop).await {
                Turn::Stopped => return,
                Turn::Next => {
                    used = (used + 1) % self.members.len();
                    log::warn!("{}: {name} is down; {} takes over", lane.name(), self.name_of(used));
                }
                Turn::Back(to) => {
                    log::info!(
                        "{}: {} is well again and takes over from {name}",
                        lane.name(),
                        self.name_of(to)
                    );
                    used = to;
                }
            }
        }
    }

    fn name_of(&self, member: usize) -> &str {
        self.members.get(member).map_or("", |(name, _)| name)
    }

    async fn turn(&self, used: usize, member: &Integration, lane: &mut Lane, stop: &mut Stop) -> Turn {
        let (stopper, mut turn_stop) = Stopper::new();
        let status = lane.watch();
        let mut driving = Box::pin(member.drive(lane, &mut turn_stop));
        let ended = tokio::select! {
            () = &mut driving => return Turn::Stopped,
            () = stop.stopped() => Turn::Stopped,
            () = went_down(status) => Turn::Next,
            back = self.one_is_well(used) => Turn::Back(back),
        };
        stopper.stop();
        driving.await;
        ended
    }

    /// Waits until a member before `used` has been well for a minute; for ever if there is none.
    async fn one_is_well(&self, used: usize) -> usize {
        let before: Vec<_> = self.members.iter().take(used).collect();
        let mut well_since: Vec<Option<Instant>> = vec![None; before.len()];
        loop {
            tokio::time::sleep(PROBE_EVERY).await;
            for (n, ((name, member), since)) in before.iter().zip(&mut well_since).enumerate() {
                match member.probe().await {
                    Ok(()) => {
                        let since = *since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= WELL_FOR {
                            return n;
                        }
                    }
                    Err(failure) => {
                        log::debug!("{name}: still not well: {failure}");
                        *since = None;
                    }
                }
            }
        }
    }
}

/// Waits until the lane's member is down or blocked.
async fn went_down(mut status: watch::Receiver<LaneStatus>) {
    loop {
        let state = status.borrow_and_update().state(Instant::now());
        if matches!(state, State::Down | State::Blocked) {
            return;
        }
        tokio::select! {
            // A lane that is gone has nothing to tell any more.
            changed = status.changed() => if changed.is_err() { std::future::pending().await },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// What is asked of a member that is not used.
pub(super) type Probe = Result<(), Failure>;
