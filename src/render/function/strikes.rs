//! Five time-outs in a row suspend a function (RULES S27).
//!
//! A script that hangs costs two seconds of a process that all functions share. After five such calls with no other in
//! between it is not called for five minutes; then it gets one try, and the next time-out suspends it again.

use std::time::{Duration, Instant};

const MOST: u32 = 5;
pub(super) const SUSPENDED: Duration = Duration::from_secs(300);

/// The record of one function.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strikes {
    in_a_row: u32,
    until: Option<Instant>,
}

impl Strikes {
    /// Whether it may not be called now.
    pub(super) fn suspended(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// A call was answered, well or badly.
    pub(super) fn answered(&mut self) {
        *self = Strikes::default();
    }

    /// A call timed out; whether that suspends the function.
    pub(super) fn timed_out(&mut self, now: Instant) -> bool {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let suspended = self.in_a_row >= MOST;
        if suspended {
            self.until = now.checked_add(SUSPENDED);
        }
        suspended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s27_five_in_a_row_suspend_for_five_minutes_then_one_try() {
        let mut strikes = Strikes::default();
        let start = Instant::now();
        assert_eq!(
            (1..=5).map(|_| strikes.timed_out(start)).collect::<Vec<_>>(),
            [false, false, false, false, true]
        );
        assert!(strikes.suspended(start + SUSPENDED - Duration::from_millis(1)));
        assert!(!strikes.suspended(start + SUSPENDED));
        assert!(strikes.timed_out(start + SUSPENDED), "the next time-out suspends again");
        strikes.answered();
        assert!(!strikes.suspended(start + SUSPENDED) && !strikes.timed_out(start + SUSPENDED));
    }

    #[test]
    fn s27_an_answer_between_starts_the_count_again() {
        let mut strikes = Strikes::default();
        for _ in 0..20 {
            for _ in 0..4 {
                assert!(!strikes.timed_out(Instant::now()));
            }
            strikes.answered();
        }
    }
}
