//! The parts of the log that a window has not read yet.
//!
//! There is always a *tail*, up to the end of the log. With `order = "live-first"` (RULES S14) there may be older regions
//! below it: at a reconnect the unread part of the tail becomes a region of its own and a new tail begins at the end of the
//! log, so that what is heard from now on can be sent first.
//!
//! What is settled above an unread region is a range of its own in the spool. [`Unread::gaps`] says how many such ranges the
//! regions may cost at most; a window holds that many fewer records, so that 64 ranges are always enough (S4), and where too
//! many regions are open a reconnect opens none: the next uplinks then wait their turn behind the older ones.

use std::collections::VecDeque;

use crate::spool::{MAX_RANGES, Settled};

/// More gaps than this leave too little room for records.
const MAX_GAPS: usize = MAX_RANGES / 2;

/// A part of the log that is read from its oldest record on.
#[derive(Clone, Debug)]
pub(super) struct Region {
    /// The next number to read.
    pub(super) cursor: u64,
    /// Where it ends; `None`: the tail.
    pub(super) end: Option<u64>,
    /// The first number that the next record's settlement covers.
    pub(super) span_from: u64,
    /// The last row read was of an unknown format.
    pub(super) in_unknown: bool,
}

impl Region {
    fn tail_at(seq: u64) -> Region {
        Region { cursor: seq, end: None, span_from: seq, in_unknown: false }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Unread {
    /// Ascending.
    older: VecDeque<Region>,
    tail: Region,
    /// What the spool had stored as settled when this began.
    settled: Settled,
}

impl Unread {
    /// Everything that is not settled.
    pub(super) fn after(settled: Settled) -> Unread {
        Unread { older: VecDeque::new(), tail: Region::tail_at(settled.low()), settled }
    }

    pub(super) fn was_settled(&self, seq: u64) -> bool {
        self.settled.contains(seq)
    }

    pub(super) fn tail(&mut self) -> &mut Region {
        &mut self.tail
    }

    /// The region that holds the oldest, if there is one below the tail.
    pub(super) fn oldest(&mut self) -> Option<&mut Region> {
        self.older.front_mut()
    }

    pub(super) fn has_older(&self) -> bool {
        !self.older.is_empty()
    }

    /// Whether the tail has more, the log ending at `end`.
    pub(super) fn tail_has_more(&self, end: u64) -> bool {
        self.tail.cursor < end
    }

    /// A new tail begins at `at`, if there is anything unread before it and few enough regions are open.
    pub(super) fn split(&mut self, at: u64) {
        if self.tail.cursor < at && self.gaps() < MAX_GAPS {
            let older = std::mem::replace(&mut self.tail, Region::tail_at(at));
            self.older.push_back(Region { end: Some(at), ..older });
        }
    }

    /// The oldest region was read to its end; returns what is left of it to be covered: numbers that are nobody's or others'.
    pub(super) fn close_oldest(&mut self) -> Option<(u64, u64)> {
        let region = self.older.pop_front()?;
        let last = region.end?.checked_sub(1)?;
        (region.span_from <= last).then_some((region.span_from, last))
    }

    /// Nothing below is to be read or covered any more. Whether that changed anything.
    pub(super) fn skip_below(&mut self, below: u64) -> bool {
        let mut regions = self.older.iter().chain(std::iter::once(&self.tail));
        let skipped = regions.any(|region| region.span_from < below);
        self.older.retain(|region| region.end > Some(below));
        for region in self.older.iter_mut().chain(std::iter::once(&mut self.tail)) {
            region.cursor = region.cursor.max(below);
            region.span_from = region.span_from.max(below);
        }
        skipped
    }

    /// How many ranges may come about because something above an unread part is settled.
    pub(super) fn gaps(&self) -> usize {
        let regions = self.older.iter().chain(std::iter::once(&self.tail));
        let stored_in = |region: &Region| {
            let is_above =
                |range: &&(u64, u64)| range.0 > region.cursor && region.end.is_none_or(|end| range.0 < end);
            self.settled.ranges().iter().filter(is_above).count()
        };
        regions.map(stored_in).sum::<usize>() + self.older.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// S4: reconnects without end open no more regions than there is room for, and none where nothing is unread.
    #[test]
    fn splits_end_before_the_ranges_do() {
        let mut unread = Unread::after(Settled::below(10));
        unread.split(10);
        assert!(!unread.has_older());
        for at in 1..200 {
            unread.split(10 + at * 10);
        }
        assert_eq!(unread.gaps(), MAX_GAPS);
        let ends: Vec<_> = std::iter::from_fn(|| unread.close_oldest()).collect();
        assert_eq!(ends.len(), MAX_GAPS);
        assert_eq!((ends.first(), ends.last()), (Some(&(10, 19)), Some(&(320, 329))));
    }

    /// Ranges that were stored before count until they are passed.
    #[test]
    fn stored_ranges_are_gaps_until_they_are_passed() {
        let mut settled = Settled::below(10);
        settled.insert(20, 29);
        settled.insert(40, 49);
        let mut unread = Unread::after(settled);
        assert_eq!(unread.gaps(), 2);
        unread.tail().cursor = 20;
        assert_eq!(unread.gaps(), 1, "what is unread below the first is nothing");
        unread.split(60);
        assert_eq!(unread.gaps(), 2);
        assert!(unread.skip_below(60));
        assert_eq!((unread.gaps(), unread.has_older()), (0, false));
    }
}
