//! The machine's clocks.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::boots::boot_us;
use super::synchronised::is_synchronised;
use super::{Boots, By, Clock, RELEASE_FLOOR_US, STEP, STEP_US, STEP_WINDOW};

/// On a busy machine a thread may lose its turn between the looks at two clocks. Looks that are so close are one.
const ONE_MOMENT_NS: u64 = 5_000_000;

/// How often that is tried.
const LOOKS: usize = 10;

/// The machine's clocks. The wall clock is trusted (RULES S22) on any of these grounds:
///
/// - It agrees with the GPS of a concentrator, to [`STEP`].
/// - It lies past the release date, and a time daemon says that it is right ([`is_synchronised`]).
/// - It is *steady*: it lies past the release date of this program, has not been seen to step by more than [`STEP`] within
///   [`STEP_WINDOW`], and is not known to be wrong. That is known of a clock that came up before the last good time of the
///   boots before (a battery that is flat, a firmware that begins at its build date) for as long as nobody has set it.
#[derive(Debug)]
pub struct SystemClock {
    boot_id: [u8; 16],
    started_ns: u64,
    /// Wall minus boot clock at the last look, microseconds; a change is a step.
    offset_us: AtomicI64,
    /// Boot time of the last step seen; 0: none.
    stepped_ns: AtomicU64,
    boots: Boots,
}

impl SystemClock {
    /// Reads the boot id; a machine without one gets the nil id, which no record of another boot shares either.
    pub fn new() -> Self {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .ok()
            .and_then(|text| uuid::Uuid::try_parse(text.trim()).ok())
            .unwrap_or_else(uuid::Uuid::now_v7)
            .into_bytes();
        let started_ns = boot_now_ns();
        SystemClock {
            boot_id,
            started_ns,
            offset_us: AtomicI64::new(offset_us(started_ns)),
            stepped_ns: AtomicU64::new(0),
            boots: Boots::default(),
        }
    }

    fn look_for_step(&self) {
        let boot_ns = boot_now_ns();
        let offset = offset_us(boot_ns);
        let before = self.offset_us.swap(offset, Ordering::Relaxed);
        if u128::from(offset.abs_diff(before)) > STEP.as_micros() {
            self.stepped_ns.store(boot_ns, Ordering::Relaxed);
        }
    }

    fn is_within_window_of(&self, then_ns: u64) -> bool {
        u128::from(boot_now_ns().saturating_sub(then_ns)) < STEP_WINDOW.as_nanos()
    }

    fn stepped_lately(&self) -> bool {
        self.look_for_step();
        let stepped = self.stepped_ns.load(Ordering::Relaxed);
        stepped != 0 && self.is_within_window_of(stepped)
    }

    fn agrees_with_gps(&self) -> bool {
        let gps = self.boots.known(self.boot_id).filter(|offset| offset.by == By::Gps);
        gps.is_some_and(|gps| u128::from(gps.us.abs_diff(offset_us(boot_now_ns()))) <= STEP.as_micros())
    }

    fn is_steady(&self) -> bool {
        let (wall_us, boot_ns) = (wall_now_us(), boot_now_ns());
        wall_us >= RELEASE_FLOOR_US && !self.stepped_lately() && !self.is_known_to_be_wrong(wall_us, boot_ns)
    }

    fn is_known_to_be_wrong(&self, wall_us: i64, boot_ns: u64) -> bool {
        let was_set = self.stepped_ns.load(Ordering::Relaxed) != 0;
        !was_set && wall_us < self.boots.not_before(self.boot_id, boot_ns).saturating_sub(STEP_US)
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn boot_id(&self) -> [u8; 16] {
        self.boot_id
    }

    fn boot_ns(&self) -> u64 {
        boot_now_ns()
    }

    fn wall_us(&self) -> i64 {
        wall_now_us()
    }

    fn hands(&self) -> (i64, u64) {
        let mut boot_ns = boot_now_ns();
        for _ in 0..LOOKS {
            let wall_us = wall_now_us();
            let after_ns = boot_now_ns();
            if after_ns.saturating_sub(boot_ns) <= ONE_MOMENT_NS {
                return (wall_us, boot_ns);
            }
            boot_ns = after_ns;
        }
        (wall_now_us(), boot_ns)
    }

    fn trusted(&self) -> bool {
        let is_said_to_be = || wall_now_us() >= RELEASE_FLOOR_US && is_synchronised();
        self.is_steady() || self.agrees_with_gps() || is_said_to_be()
    }

    fn settled(&self) -> bool {
        !self.stepped_lately() && !self.is_within_window_of(self.started_ns)
    }

    fn boots(&self) -> &Boots {
        &self.boots
    }
}

fn boot_now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

fn wall_now_us() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
    }
}

fn offset_us(boot_ns: u64) -> i64 {
    wall_now_us().saturating_sub(boot_us(boot_ns))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::clock::Offset;

    const YEAR_US: i64 = 365 * 86_400 * 1_000_000;

    /// A clock that remembers an earlier boot which saw a good time so long after (or before) now.
    fn after_a_boot(ended_us: i64) -> SystemClock {
        let clock = SystemClock::new();
        clock.boots.see([1; 16], 0, Some(Offset { us: wall_now_us() + ended_us, by: By::Clock }));
        clock.look();
        clock
    }

    /// S22: past the release date, steady, and not before the last good time of another boot.
    #[test]
    fn a_clock_that_came_up_before_the_last_good_time_is_not_trusted() {
        assert!(SystemClock::new().trusted());
        assert!(after_a_boot(-YEAR_US).trusted());
        let behind = after_a_boot(YEAR_US);
        assert!(!behind.trusted());
        assert!(behind.now_us() > wall_now_us() + YEAR_US - STEP_US, "it is at least as late as that");
        // Set, and steady since then.
        behind.stepped_ns.store(1, Ordering::Relaxed);
        assert_eq!(behind.trusted(), boot_now_ns() > 1 + u64::try_from(STEP_WINDOW.as_nanos()).unwrap());
    }

    /// S22: GPS is ground enough, for a clock that agrees with it.
    #[test]
    fn a_clock_that_agrees_with_gps_is_trusted() {
        for (ahead_us, trusted) in [(0, true), (YEAR_US, false)] {
            let clock = after_a_boot(YEAR_US);
            let gps = Offset { us: offset_us(boot_now_ns()) + ahead_us, by: By::Gps };
            clock.boots.see(clock.boot_id(), clock.boot_ns(), Some(gps));
            assert_eq!(clock.trusted(), trusted, "GPS is {ahead_us} us ahead");
            assert!(clock.now_us().abs_diff(wall_now_us() + ahead_us) < STEP_US.unsigned_abs());
        }
    }
}
