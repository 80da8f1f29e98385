//! Thinned log lines: whatever goes wrong at a door goes wrong a thousand times, so of each kind the first and then each
//! power of two is told.

use crate::metrics::DropReason;

/// Counts, and says which counts deserve a line in the log.
#[derive(Debug, Default)]
pub(super) struct Tally(u64);

impl Tally {
    /// One more; how many that makes, if it is the first or a power of two.
    pub(super) fn again(&mut self) -> Option<u64> {
        self.0 = self.0.saturating_add(1);
        self.0.is_power_of_two().then_some(self.0)
    }
}

/// A tally for each reason to drop something.
#[derive(Debug, Default)]
pub(super) struct Dropped([Tally; DropReason::ALL.len()]);

impl Dropped {
    /// One more for `reason`; how many that makes, if it deserves a line.
    pub(super) fn again(&mut self, reason: DropReason) -> Option<u64> {
        self.0.get_mut(reason as usize).and_then(Tally::again)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn a_thousand_troubles_are_ten_lines() {
        let mut tally = Tally::default();
        let lines: Vec<u64> = (0..1_000).filter_map(|_| tally.again()).collect();
        assert_eq!(lines, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
    }

    #[test]
    fn each_reason_has_a_tally_of_its_own() {
        let mut dropped = Dropped::default();
        for reason in DropReason::ALL {
            assert_eq!(dropped.again(reason), Some(1), "{}", reason.as_str());
        }
    }
}
