//! The clocks: wall, boot, and whether the wall clock can be believed.
//!
//! A gateway without a battery starts in 1970 or at the time of its last shutdown, and NTP steps it later. So a moment is
//! taken on two clocks at once: the wall clock, which people want, and `CLOCK_BOOTTIME`, which only ever goes forward.
//! Whether the wall clock is *trusted* is a matter of grounds, any of which is enough (RULES S22; see [`SystemClock`]).
//! What a moment means is found out when it is asked for, by what is known then: see [`Boots`].
//!
//! | what | by which clock |
//! |---|---|
//! | age and expiry of records, silence of devices | the boot clock; across boots see [`Clock::age`] (S2) |
//! | the time in a body | [`Clock::date`] |
//! | certificates and signatures | [`Clock::now_us`], [`Clock::known_us`] |
//! | retries and timers | tokio's, which is monotonic |
//!
//! Everything that needs time gets a [`Clock`], so that a test can hand over a [`ManualClock`] and turn its hands.

mod boots;
mod manual;
mod synchronised;
mod system;

use std::time::Duration;

use crate::uplink::{Moment, TimeSource};

pub use boots::{Boots, Bounds, By, Dated, Offset, Quality};
pub use manual::ManualClock;
pub use synchronised::is_synchronised;
pub use system::SystemClock;

use boots::boot_us;

/// No clock that is right shows less: 2026-11-01 00:00 UTC, raised with each release. In microseconds since 1970.
pub const RELEASE_FLOOR_US: i64 = 1_793_491_200_000_000;

/// A difference between wall and boot clock of more than this is a step.
pub const STEP: Duration = Duration::from_micros(STEP_US.unsigned_abs());

/// The same in microseconds.
const STEP_US: i64 = 2_000_000;

/// How long a step is remembered, and how long nothing expires after it or after a start (RULES S2).
pub const STEP_WINDOW: Duration = Duration::from_secs(600);

/// What tells the time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// This boot's id.
    fn boot_id(&self) -> [u8; 16];
    /// Nanoseconds since boot.
    fn boot_ns(&self) -> u64;
    /// Microseconds since 1970 UTC, right or wrong.
    fn wall_us(&self) -> i64;
    /// Both, taken at one moment.
    fn hands(&self) -> (i64, u64);
    /// Whether the wall clock is believed.
    fn trusted(&self) -> bool;
    /// Whether records may be judged by age now: not within [`STEP_WINDOW`] of a start or a step.
    fn settled(&self) -> bool;

    /// What is known of this boot's clocks, and of those before.
    fn boots(&self) -> &Boots;

    /// This moment, by our own clock.
    fn now(&self) -> Moment {
        let trusted = self.trusted();
        Moment {
            boot_id: self.boot_id(),
            boot_ns: self.boot_ns(),
            wall_us: self.wall_us(),
            source: if trusted { TimeSource::Ntp } else { TimeSource::Untrusted },
        }
    }

    /// Notes how far this boot has come, and how far apart its clocks are where the wall clock says anything.
    fn look(&self) {
        let (wall_us, boot_ns) = self.hands();
        // Asked last: a step until then is seen by it.
        let by = match self.trusted() {
            true => Some(By::Clock),
            false => (wall_us >= RELEASE_FLOOR_US).then_some(By::Guess),
        };
        let us = wall_us.saturating_sub(boot_us(boot_ns));
        self.boots().see(self.boot_id(), boot_ns, by.map(|by| Offset { us, by }));
    }

    /// What the moment of a record means now, for people: see [`Boots`].
    fn date(&self, at: Moment) -> Dated {
        if at.source == TimeSource::Untrusted && at.boot_id == self.boot_id() {
            // The clock may have been set a moment ago.
            self.look();
        }
        self.boots().date(at)
    }

    /// How old something is that arrived at this moment, if anybody can know (RULES S2): by the boot clock within a boot.
    /// Across boots by the wall clock, if that is trusted now, and either the other boot's offset is known or the wall time
    /// was `trusted` then. Of several times that were trusted in the same boot those count that leave the smaller age: a
    /// step makes nothing old.
    fn age(&self, at: Moment, trusted: bool) -> Option<Duration> {
        let (boot_id, boot_ns) = (self.boot_id(), self.boot_ns());
        if at.boot_id == boot_id {
            return Some(Duration::from_nanos(boot_ns.saturating_sub(at.boot_ns)));
        }
        if !self.trusted() {
            return None;
        }
        let wall_us = self.wall_us();
        let now_us = self.boots().now_at_least(boot_id, boot_ns).map_or(wall_us, |least| least.min(wall_us));
        let then_us = self.boots().arrived_by(at).or_else(|| trusted.then_some(at.wall_us))?;
        Some(Duration::from_micros(u64::try_from(now_us.saturating_sub(then_us)).unwrap_or(0)))
    }

    /// Whole seconds since then, for people: as [`age`](Self::age), and where it has no answer by the best idea of both
    /// times. `None` if nobody has one.
    fn age_s(&self, at: Moment) -> Option<u64> {
        if let Some(age) = self.age(at, false) {
            return Some(age.as_secs());
        }
        let then = self.date(at);
        let us = self.now_us().saturating_sub(then.wall_us);
        u64::try_from(us / 1_000_000).ok().filter(|_| then.quality != Quality::Untrusted)
    }

    /// What time it is, microseconds since 1970, if anybody can say: the trusted wall clock; GPS; a wall clock that shows
    /// what it could; what it showed when it was last trusted in this boot.
    fn known_us(&self) -> Option<i64> {
        let (wall_us, boot_id, boot_ns) = (self.wall_us(), self.boot_id(), self.boot_ns());
        if self.trusted() {
            return Some(wall_us);
        }
        let known = self.boots().known(boot_id);
        let by_offset = |offset: Offset| offset.us.saturating_add(boot_us(boot_ns));
        let by_gps = known.filter(|offset| offset.by == By::Gps).map(by_offset);
        let is_possible = wall_us >= self.boots().not_before(boot_id, boot_ns).saturating_sub(STEP_US);
        by_gps.or(is_possible.then_some(wall_us)).or(known.map(by_offset))
    }

    /// The best idea of what time it is. Where nobody can say: the earliest that it can be, which is later than the last
    /// good time that a boot before this one has seen, and than the release of this program.
    fn now_us(&self) -> i64 {
        self.known_us().unwrap_or_else(|| self.boots().not_before(self.boot_id(), self.boot_ns()))
    }
}

/// A moment as RFC 3339 in UTC with microseconds, such as `2026-11-23T20:21:00.123456Z`. `None` where RFC 3339 has no
/// words: before the year 0 and after 9999.
pub fn rfc3339(wall_us: i64) -> Option<String> {
    const FORMAT: &[time::format_description::BorrowedFormatItem<'_>] = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z"
    );
    let moment = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(wall_us) * 1_000).ok()?;
    (0..=9999).contains(&moment.year()).then(|| moment.format(FORMAT).ok()).flatten()
}

/// What RFC 3339 text says, in microseconds since 1970.
pub fn us_of_rfc3339(text: &str) -> Option<i64> {
    let moment = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    us_of(moment)
}

/// A moment in microseconds since 1970.
pub(crate) fn us_of(moment: time::OffsetDateTime) -> Option<i64> {
    i64::try_from(moment.unix_timestamp_nanos() / 1_000).ok()
}

/// Waits until then, or for ever.
pub(crate) async fn sleep_until(until: Option<tokio::time::Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
