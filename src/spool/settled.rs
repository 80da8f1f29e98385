//! Which sequence numbers are settled: `low`, and a few ranges above it (RULES S4).

use serde::{Deserialize, Serialize};

/// How many ranges a lane may need above `low`. The lane keeps to it by holding at most this many unsettled records.
pub const MAX_RANGES: usize = 64;

/// A set of sequence numbers: all below `low`, and disjoint, ascending, non-adjacent ranges above it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    low: u64,
    ranges: Vec<(u64, u64)>,
}

impl Settled {
    /// Everything below `low`.
    pub fn below(low: u64) -> Settled {
        Settled { low, ranges: Vec::new() }
    }

    /// Everything below is settled.
    pub fn low(&self) -> u64 {
        self.low
    }

    /// The ranges above `low`, first and last number included.
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Whether `seq` is settled.
    pub fn contains(&self, seq: u64) -> bool {
        seq < self.low || self.ranges.iter().any(|&(from, to)| from <= seq && seq <= to)
    }

    /// Adds `from` to `to`, both included.
    pub fn insert(&mut self, from: u64, to: u64) {
        if to < from || to < self.low {
            return;
        }
        let mut merged = (from.max(self.low), to);
        let touches =
            |&(a, b): &(u64, u64), m: (u64, u64)| a <= m.1.saturating_add(1) && m.0 <= b.saturating_add(1);
        self.ranges.retain(|range| {
            let absorbed = touches(range, merged);
            if absorbed {
                merged = (merged.0.min(range.0), merged.1.max(range.1));
            }
            !absorbed
        });
        if merged.0 <= self.low {
            self.low = merged.1.saturating_add(1);
        } else {
            let at = self.ranges.partition_point(|range| range.0 < merged.0);
            self.ranges.insert(at, merged);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn ranges_merge_with_each_other_and_with_low() {
        let mut settled = Settled::below(10);
        settled.insert(12, 12);
        settled.insert(14, 15);
        assert_eq!(settled.ranges(), [(12, 12), (14, 15)]);
        settled.insert(13, 13);
        assert_eq!(settled.ranges(), [(12, 15)]);
        settled.insert(10, 11);
        assert_eq!((settled.low(), settled.ranges()), (16, [].as_slice()));
    }

    proptest! {
        /// S4: the compact form holds exactly the numbers that were put in, in its normal form.
        #[test]
        fn is_the_set_it_stands_for(inserts in proptest::collection::vec((0u64..200, 0u64..12), 0..60)) {
            let mut settled = Settled::below(20);
            let mut model: BTreeSet<u64> = (0..20).collect();
            for (from, len) in inserts {
                settled.insert(from, from + len);
                model.extend(from..=from + len);
                for seq in 0..240 {
                    prop_assert_eq!(settled.contains(seq), model.contains(&seq), "seq {}", seq);
                }
                let mut edge = settled.low();
                for &(a, b) in settled.ranges() {
                    prop_assert!(a > edge && a <= b, "{:?}", settled);
                    edge = b + 1;
                }
            }
        }
    }
}
