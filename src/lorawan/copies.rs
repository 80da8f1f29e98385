//! The same frame heard more than once (RULES S19).
//!
//! A gateway with several antennas or boards hears one transmission several times and reports each; a device that got no
//! acknowledgement transmits the same bytes again. What tells them apart is time: copies of one transmission arrive within
//! [`COPY_WINDOW`], a second transmission comes no sooner than a second later.
//!
//! Nothing is held back to wait for copies. While the first is still in the hands of the caller, the best copy's metadata
//! is put in its place; afterwards a copy is dropped.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Copies of one transmission arrive within this (RULES S19).
const COPY_WINDOW: Duration = Duration::from_millis(200);

/// Frames that are remembered: minutes of what a busy concentrator hears.
const REMEMBERED: usize = 1_024;

/// What a frame is to those heard before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// New.
    First,
    /// A copy of a transmission just heard, the number of which is given.
    Copy(u64),
    /// The same bytes, transmitted again.
    Again,
}

/// The frames heard lately. Bounded.
#[derive(Debug, Default)]
pub struct Copies {
    /// Keyed by a seed of this process, so that nobody can make frames that collide.
    hasher: RandomState,
    /// By the hash of its bytes: when it was transmitted last, and its number.
    heard: HashMap<u64, (u64, u64)>,
    order: VecDeque<u64>,
    count: u64,
}

impl Copies {
    /// Nothing heard yet.
    pub fn new() -> Copies {
        Copies::default()
    }

    /// Notes that `phy` arrived at `boot_ns`. A frame that is no copy gets the next number; see [`Copies::number`].
    pub fn hear(&mut self, phy: &[u8], boot_ns: u64) -> Hearing {
        let hash = self.hasher.hash_one(phy);
        let before = self.heard.get(&hash).copied();
        if let Some((then, number)) = before
            && u128::from(boot_ns.abs_diff(then)) <= COPY_WINDOW.as_nanos()
        {
            return Hearing::Copy(number);
        }
        self.count += 1;
        self.heard.insert(hash, (boot_ns, self.count));
        if before.is_some() {
            return Hearing::Again;
        }
        self.order.push_back(hash);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.heard.remove(&oldest);
        }
        Hearing::First
    }

    /// The number of the last frame that was no copy.
    pub fn number(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn s19_copies_within_200_ms_and_retransmissions_after() {
        let mut copies = Copies::new();
        assert_eq!(copies.hear(b"a", 1_000 * MS), Hearing::First);
        let number = copies.number();
        assert_eq!(copies.hear(b"b", 1_000 * MS), Hearing::First);
        assert_eq!(copies.hear(b"a", 1_200 * MS), Hearing::Copy(number));
        assert_eq!(copies.hear(b"a", 1_000 * MS), Hearing::Copy(number));
        assert_eq!(copies.hear(b"a", 1_201 * MS), Hearing::Again);
        assert_eq!(copies.hear(b"a", 1_300 * MS), Hearing::Copy(copies.number()));
    }

    #[test]
    fn memory_is_bounded() {
        let mut copies = Copies::new();
        for n in 0..10_000u32 {
            copies.hear(&n.to_le_bytes(), u64::from(n) * MS);
        }
        assert_eq!((copies.heard.len(), copies.order.len()), (REMEMBERED, REMEMBERED));
        assert_eq!(copies.hear(&0u32.to_le_bytes(), 20_000 * MS), Hearing::First, "long forgotten");
    }
}
