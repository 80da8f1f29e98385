//! What leaves the spool without having been delivered: by size (RULES S11) and by age (S2). All of it is counted.

use std::time::Duration;

use redb::ReadableTable;

use crate::clock::Clock;
use crate::uplink::TimeSource;

use super::account::Loss;
use super::record::{self, Outline};
use super::store::Round;

/// Records that one round looks at or expires at most (RULES S2).
const EXPIRE_AT_MOST: usize = 1_000;

impl Round<'_> {
    /// Frees the oldest records once the log takes more than `cap` bytes, down to one per cent below it, so that a full
    /// spool does not evict on every round.
    pub(super) fn evict(&mut self, cap: u64) -> Result<(), redb::Error> {
        if self.state.totals.bytes <= cap {
            return Ok(());
        }
        let target = cap - cap / 100;
        while self.state.totals.bytes > target {
            let Some((seq, value)) =
                self.log.pop_first()?.map(|(seq, value)| (seq.value(), value.value().to_vec()))
            else {
                self.state.totals.bytes = 0;
                break;
            };
            self.count_loss(seq, &value, Loss::Evicted);
        }
        self.raise_floor()
    }

    /// Lanes may still hold records in memory that are gone from the log; the floor tells them.
    fn raise_floor(&mut self) -> Result<(), redb::Error> {
        let first = self.log.first()?.map(|(seq, _)| seq.value());
        self.state.floor = first.unwrap_or(self.state.next_seq);
        Ok(())
    }

    /// Removes records older than `max_age`. Those whose age nobody can know are passed over.
    pub(super) fn expire(&mut self, max_age: Duration, clock: &dyn Clock) -> Result<(), redb::Error> {
        if !clock.settled() {
            return Ok(());
        }
        let mut expired = Vec::new();
        for row in self.log.iter()?.take(EXPIRE_AT_MOST) {
            let (seq, value) = row?;
            match record::outline(value.value()).and_then(|outline| age(&outline, clock)) {
                Some(age) if age > max_age => expired.push(seq.value()),
                Some(_) => break,
                None => {}
            }
        }
        for &seq in &expired {
            let value = self.log.remove(seq)?.map(|value| value.value().to_vec());
            if let Some(value) = value {
                self.count_loss(seq, &value, Loss::Expired);
            }
        }
        if expired.is_empty() { Ok(()) } else { self.raise_floor() }
    }
}

/// Age is a difference of boot times within a boot; across boots the wall clock counts, if it was and is believed.
fn age(outline: &Outline, clock: &dyn Clock) -> Option<Duration> {
    if outline.at.boot_id == clock.boot_id() {
        return Some(Duration::from_nanos(clock.boot_ns().saturating_sub(outline.at.boot_ns)));
    }
    let heard_trusted = outline.clock_trusted || outline.at.source == TimeSource::Gps;
    if heard_trusted && clock.trusted() {
        let us = clock.wall_us().saturating_sub(outline.at.wall_us);
        return Some(Duration::from_micros(u64::try_from(us).unwrap_or(0)));
    }
    None
}
