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
//! HTTP with OPTIONS, MQTT with a connection. A whole minute of good answers ends the turn. While it does not answer well
//! it is asked less and less often (a handshake costs kilobytes, and the link may be paid by them), but at once when the
//! link may have come up.
//!
//! When every member has failed and none was well since, the lane stays with the first, whose back-off and probing it
//! follows, and the others are asked; the first that answers well takes over at once. A circle of turns would defeat the
//! back-off: each turn begins with an attempt of its own.
//!
//! A member may answer well when asked and refuse every uplink nevertheless. Each turn in which it was not well once makes
//! the next wait for it twice as long, up to [`LONGEST_WELL_FOR`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::delivery::outcome::Failure;
use crate::delivery::{Lane, LaneStatus, LinkUp, State, Stop, Stopper};

use super::{Integration, Tester};

/// How long a member must have answered well before it is used again (RULES S10).
const WELL_FOR: Duration = Duration::from_secs(60);

/// The longest that it becomes for a member that answers well and takes nothing.
const LONGEST_WELL_FOR: Duration = Duration::from_secs(3_600);

/// How often it is asked, and how rarely at most.
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBE_AT_LEAST_EVERY: Duration = Duration::from_secs(240);

/// How often a lane is looked at that fails: that it is down is a matter of time alone.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A failover group, ready to run.
#[derive(Debug)]
pub struct Group {
    members: Vec<(Arc<str>, Integration)>,
}

/// Why a member's turn ended.
enum Turn {
    Stopped,
    /// It is down or blocked, and this one is next.
    Failed(usize),
    /// This one answers well.
    Better(usize),
}

/// What a turn has shown of its member so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    Well,
    Down,
}

/// What the turns so far say of the members.
struct Record {
    members: Vec<Past>,
}

#[derive(Clone, Copy, Default)]
struct Past {
    /// It failed, and nobody was well since.
    failed: bool,
    /// How often it failed since it was well.
    failures: u32,
}

impl Record {
    fn new(members: usize) -> Record {
        Record { members: vec![Past::default(); members] }
    }

    fn was_well(&mut self, member: usize) {
        self.members.iter_mut().for_each(|past| past.failed = false);
        if let Some(past) = self.members.get_mut(member) {
            past.failures = 0;
        }
    }

    fn went_down(&mut self, member: usize) {
        if let Some(past) = self.members.get_mut(member) {
            past.failed = true;
            past.failures = past.failures.saturating_add(1);
        }
    }

    fn all_failed(&self) -> bool {
        self.members.iter().all(|past| past.failed)
    }

    /// Whose turn it is after `member` went down: the next one that has not failed yet, or else the first.
    fn next_after(&self, member: usize) -> usize {
        let others = (member + 1..self.members.len()).chain(0..member);
        let untried = |n: &usize| self.members.get(*n).is_some_and(|past| !past.failed);
        others.into_iter().find(untried).unwrap_or(0)
    }

    /// Who is asked during the turn of `used`, and how long each must be well.
    fn asked(&self, used: usize) -> Vec<(usize, Duration)> {
        let end = if self.all_failed() { self.members.len() } else { used };
        let others = self.members.iter().enumerate().take(end).filter(|(n, _)| *n != used);
        others.map(|(n, past)| (n, self.well_for(*past))).collect()
    }

    fn well_for(&self, past: Past) -> Duration {
        // Nobody is better off waiting where nobody takes anything.
        let doubts = match (self.all_failed(), past.failures) {
            (true, 0..=1) => return Duration::ZERO,
            (true, failures) => failures - 2,
            (false, failures) => failures.saturating_sub(1),
        };
        WELL_FOR.saturating_mul(2u32.saturating_pow(doubts)).min(LONGEST_WELL_FOR)
    }
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
    pub async fn run(&self, lane: &mut Lane, stop: &mut Stop) {
        let mut record = Record::new(self.members.len());
        let mut used = 0;
        while let Some((name, member)) = self.members.get(used) {
            lane.switch_to(name);
            let turn = self.turn(used, member, &mut record, lane, stop).await;
            // A stop may have come while the turn was ending; the next must not begin with an attempt.
            if stop.is_stopped() {
                return;
            }
            used = match turn {
                Turn::Stopped => return,
                Turn::Failed(to) => {
                    let (group, to_name) = (lane.name(), self.name_of(to));
                    let all = if record.all_failed() { ", as are all others" } else { "" };
                    log::warn!("{group}: {name} is down{all}; {to_name} takes over");
                    to
                }
                Turn::Better(to) => {
                    log::info!("{}: {} is well and takes over from {name}", lane.name(), self.name_of(to));
                    to
                }
            };
        }
    }

    fn name_of(&self, member: usize) -> &str {
        self.members.get(member).map_or("", |(name, _)| name)
    }

    async fn turn(
        &self,
        used: usize,
        member: &Integration,
        record: &mut Record,
        lane: &mut Lane,
        stop: &mut Stop,
    ) -> Turn {
        let (stopper, mut turn_stop) = Stopper::new();
        let (mut status, link_up) = (lane.watch(), lane.link());
        let mut driving = Box::pin(member.drive(lane, &mut turn_stop));
        let mut shown = Shown::Nothing;
        let ended = loop {
            let asked = record.asked(used);
            tokio::select! {
                () = &mut driving => return Turn::Stopped,
                () = stop.stopped() => break Turn::Stopped,
                news = news(&mut status, shown) => {
                    shown = news;
                    match news {
                        Shown::Down => {
                            record.went_down(used);
                            let next = record.next_after(used);
                            if next != used {
                                break Turn::Failed(next);
                            }
                        }
                        Shown::Well | Shown::Nothing => record.was_well(used),
                    }
                }
                better = self.one_is_well(&asked, link_up.clone()) => break Turn::Better(better),
            }
        };
        stopper.stop();
        driving.await;
        ended
    }

    /// Waits until one of these members has been well for as long as it must; for ever if there is none to ask.
    async fn one_is_well(&self, asked: &[(usize, Duration)], mut link_up: LinkUp) -> usize {
        if asked.is_empty() {
            return std::future::pending().await;
        }
        let mut well_since: Vec<Option<Instant>> = vec![None; asked.len()];
        let mut wait = PROBE_EVERY;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(PROBE_AT_LEAST_EVERY),
                () = link_up.heard() => wait = PROBE_EVERY,
            }
            for ((n, well_for), since) in asked.iter().zip(&mut well_since) {
                let Some((name, member)) = self.members.get(*n) else { continue };
                match member.probe().await {
                    Ok(()) => {
                        wait = PROBE_EVERY;
                        let since = *since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= *well_for {
                            return *n;
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

/// Waits until the lane's member shows something else than it has `shown` in this turn: well with its first success, down
/// when it is down or blocked.
async fn news(status: &mut watch::Receiver<LaneStatus>, shown: Shown) -> Shown {
    loop {
        let (state, is_proved) = {
            let status = status.borrow_and_update();
            (status.state(Instant::now()), status.is_proved_well())
        };
        match state {
            State::Down | State::Blocked if shown != Shown::Down => return Shown::Down,
            State::Active if is_proved && shown != Shown::Well => return Shown::Well,
            _ => {}
        }
        tokio::select! {
            // A lane that is gone has nothing to tell any more.
            changed = status.changed() => if changed.is_err() { std::future::pending().await },
            () = tokio::time::sleep(LOOK_EVERY), if state == State::Degraded => {}
        }
    }
}

/// What is asked of a member that is not used.
pub(super) type Probe = Result<(), Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    /// S10, and what it becomes for a member that answers well and takes nothing.
    #[test]
    fn s10_a_member_that_takes_nothing_is_waited_for_longer_and_longer() {
        let mut record = Record::new(2);
        let mut waits = Vec::new();
        for _ in 0..9 {
            record.went_down(0);
            assert_eq!(record.next_after(0), 1);
            record.was_well(1);
            waits.extend(record.asked(1).into_iter().map(|(n, wait)| (n, wait.as_secs())));
        }
        assert_eq!(waits, [60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600].map(|seconds| (0, seconds)));
        record.was_well(0);
        record.went_down(0);
        record.was_well(1);
        assert_eq!(record.asked(1), [(0, WELL_FOR)], "it was well in between");
        assert_eq!(record.asked(0), [], "nobody is better than the first");
    }

    #[test]
    fn each_has_a_turn_and_then_the_first_stays() {
        let mut record = Record::new(3);
        let mut turns = vec![0];
        for _ in 0..4 {
            let used = turns.last().copied().unwrap_or_default();
            record.went_down(used);
            turns.push(record.next_after(used));
        }
        assert_eq!(turns, [0, 1, 2, 0, 0]);
        assert_eq!(record.asked(0), [(1, Duration::ZERO), (2, Duration::ZERO)], "whoever answers is welcome");
        // The second answered, and failed: not at once again.
        record.went_down(1);
        assert_eq!((record.next_after(1), record.asked(0).first().copied()), (0, Some((1, WELL_FOR))));
        // It is well: everybody is worth a turn again.
        record.was_well(1);
        record.went_down(1);
        assert_eq!(record.next_after(1), 2);
    }

    #[test]
    fn one_alone_has_nobody_to_hand_over_to() {
        let mut record = Record::new(1);
        record.went_down(0);
        assert_eq!((record.next_after(0), record.asked(0)), (0, Vec::new()));
    }
}
