//! Who waits until uplinks are safe: on the disk, or taken by everybody they were for (RULES S6).
//!
//! A source that must not acknowledge before that hands its uplinks over with the sending end of a reply. The reply is
//! given after the first round that makes them durable, or after the round that settled the last of them, whichever is
//! first. A reply that is dropped means that the writer has gone: nothing is known, and the source acknowledges nothing.
//!
//! Who waits with no uplinks at all waits for everything that was queued before: that is what a repeat of an uplink under
//! way needs.
//!
//! After an I/O error records may have other numbers than before, so from then on only a durable round answers.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::store::RouteId;
use super::{Acceptance, Routed};

#[derive(Debug)]
struct Waiter {
    reply: oneshot::Sender<Acceptance>,
    /// What it will be told.
    acceptance: Acceptance,
    /// When a durable round must have come.
    by: Instant,
    wants: Wants,
}

#[derive(Debug)]
enum Wants {
    /// Everything that is not durable yet.
    Everything,
    /// A durable round.
    DurableRound,
    /// Of the round under way, the uplinks of these places.
    InRound(Vec<(u64, Vec<RouteId>)>),
    /// The records of these numbers.
    Records(Vec<(u64, Vec<RouteId>)>),
}

/// All that wait.
#[derive(Debug, Default)]
pub(super) struct Waiters(Vec<Waiter>);

/// What a round did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) durable: bool,
    /// There is no uplink that a crash would lose.
    pub(super) all_safe: bool,
    /// Number of the first uplink that it put in, if they were numbered without a gap.
    pub(super) first_seq: Option<u64>,
}

impl Waiters {
    /// Somebody waits for `uplinks`, which stand at `place` of the round under way, until a durable round at the time `by`.
    pub(super) fn add(
        &mut self,
        (reply, acceptance): (oneshot::Sender<Acceptance>, Acceptance),
        uplinks: &[Routed],
        place: usize,
        by: Instant,
    ) {
        let places = (place as u64..).zip(uplinks.iter().map(|routed| routed.routes.clone()));
        let wants = if uplinks.is_empty() { Wants::Everything } else { Wants::InRound(places.collect()) };
        self.0.push(Waiter { reply, acceptance, by, wants });
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the next durable round must come.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.iter().map(|waiter| waiter.by).min()
    }

    /// The numbers of records no longer hold.
    pub(super) fn forget_numbers(&mut self) {
        for waiter in &mut self.0 {
            if matches!(waiter.wants, Wants::InRound(_) | Wants::Records(_)) {
                waiter.wants = Wants::DurableRound;
            }
        }
    }

    /// Answers whom a round has satisfied. `is_settled` says whether nobody waits for a record any more.
    pub(super) fn answer(&mut self, done: Done, is_settled: impl Fn(u64, &[RouteId]) -> bool) {
        for mut waiter in std::mem::take(&mut self.0) {
            if let Wants::InRound(places) = waiter.wants {
                waiter.wants = match done.first_seq {
                    Some(first) => Wants::Records(
                        places.into_iter().map(|(place, routes)| (first + place, routes)).collect(),
                    ),
                    None => Wants::DurableRound,
                };
            }
            let satisfied = done.durable
                || match &waiter.wants {
                    Wants::Everything => done.all_safe,
                    Wants::Records(records) => records.iter().all(|(seq, routes)| is_settled(*seq, routes)),
                    Wants::DurableRound | Wants::InRound(_) => false,
                };
            if satisfied {
                // Whoever gave up waiting does not need it.
                let _ = waiter.reply.send(waiter.acceptance);
            } else {
                self.0.push(waiter);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use super::super::store::tests::work;
    use super::*;
    use crate::clock::ManualClock;

    const NOT_DURABLE: Done = Done { durable: false, all_safe: false, first_seq: None };

    fn waiting(
        waiters: &mut Waiters,
        uplinks: std::ops::Range<u64>,
        place: usize,
    ) -> oneshot::Receiver<Acceptance> {
        let (reply, answer) = oneshot::channel();
        waiters.add(
            (reply, Acceptance::Full),
            &work(uplinks, &ManualClock::new()).uplinks,
            place,
            Instant::now(),
        );
        answer
    }

    #[test]
    fn a_durable_round_answers_everybody() {
        let mut waiters = Waiters::default();
        let mut answers =
            [waiting(&mut waiters, 0..2, 0), waiting(&mut waiters, 2..2, 2), waiting(&mut waiters, 2..3, 2)];
        waiters.answer(NOT_DURABLE, |_, _| true);
        assert!(
            answers.iter_mut().all(|answer| answer.try_recv().is_err()),
            "without numbers nothing is known"
        );
        waiters.answer(Done { durable: true, ..NOT_DURABLE }, |_, _| false);
        assert!(answers.iter_mut().all(|answer| answer.try_recv().is_ok()));
        assert!(waiters.is_empty());
    }

    /// S6: settled everywhere before it is durable is as good, but only when all of them are.
    #[test]
    fn records_that_everybody_settled_are_safe() {
        let mut waiters = Waiters::default();
        let (mut two, mut one) = (waiting(&mut waiters, 0..2, 0), waiting(&mut waiters, 2..3, 2));
        let mut everything = waiting(&mut waiters, 3..3, 3);
        waiters.answer(Done { first_seq: Some(100), ..NOT_DURABLE }, |seq, _| seq == 100);
        assert!(two.try_recv().is_err() && one.try_recv().is_err());
        waiters.answer(NOT_DURABLE, |seq, _| seq <= 101);
        assert!(two.try_recv().is_ok() && one.try_recv().is_err());
        waiters.answer(Done { all_safe: true, ..NOT_DURABLE }, |_, _| false);
        assert!(everything.try_recv().is_ok() && one.try_recv().is_err());
    }

    #[test]
    fn after_a_reopening_only_a_durable_round_answers() {
        let mut waiters = Waiters::default();
        let mut answer = waiting(&mut waiters, 0..1, 0);
        waiters.answer(Done { first_seq: Some(7), ..NOT_DURABLE }, |_, _| false);
        waiters.forget_numbers();
        waiters.answer(Done { first_seq: Some(7), ..NOT_DURABLE }, |_, _| true);
        assert!(answer.try_recv().is_err());
        waiters.answer(Done { durable: true, ..NOT_DURABLE }, |_, _| false);
        assert!(answer.try_recv().is_ok());
    }
}
