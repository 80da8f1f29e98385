//! The clocks: wall, boot, and whether the wall clock can be believed.
//!
//! A gateway without a battery starts in 1970 or at the time of its last shutdown, and NTP steps it later. So a moment is
//! taken on two clocks at once: the wall clock, which people want, and `CLOCK_BOOTTIME`, which only ever goes forward.
//! The wall clock is *trusted* when it lies past the release date of this program and has not been seen to step by more
//! than [`STEP`] within [`STEP_WINDOW`], or a time daemon says that it is right ([`is_synchronised`], RULES S22). Everything that needs time gets a [`Clock`], so that a test can hand
//! over a [`ManualClock`] and turn its hands.

mod synchronised;

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::uplink::{Moment, TimeSource};

pub use synchronised::is_synchronised;

/// No clock that is right shows less: 2026-11-01 00:00 UTC, raised with each release. In microseconds since 1970.
pub const RELEASE_FLOOR_US: i64 = 1_793_491_200_000_000;

/// A difference between wall and boot clock of more than this is a step.
pub const STEP: Duration = Duration::from_secs(2);

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
    /// Whether the wall clock is believed.
    fn trusted(&self) -> bool;
    /// Whether records may be judged by age now: not within [`STEP_WINDOW`] of a start or a step.
    fn settled(&self) -> bool;

    /// Whole seconds since then: by the boot clock within a boot, else by the wall clock, right or wrong. `None` if it
    /// would be before.
    fn age_s(&self, at: Moment) -> Option<u64> {
        if at.boot_id == self.boot_id() {
            return Some(self.boot_ns().saturating_sub(at.boot_ns) / 1_000_000_000);
        }
        u64::try_from(self.wall_us().saturating_sub(at.wall_us) / 1_000_000).ok()
    }

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

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    boot_id: [u8; 16],
    started_ns: u64,
    /// Wall minus boot clock at the last look, microseconds; a change is a step.
    offset_us: AtomicI64,
    /// Boot time of the last step seen; 0: none.
    stepped_ns: AtomicU64,
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

    fn trusted(&self) -> bool {
        wall_now_us() >= RELEASE_FLOOR_US && (!self.stepped_lately() || is_synchronised())
    }

    fn settled(&self) -> bool {
        !self.stepped_lately() && !self.is_within_window_of(self.started_ns)
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
    wall_now_us().saturating_sub(i64::try_from(boot_ns / 1_000).unwrap_or(i64::MAX))
}

/// A clock for tests: stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(Mutex<ManualState>);

#[derive(Debug, Clone, Copy)]
struct ManualState {
    boot_id: [u8; 16],
    boot_ns: u64,
    wall_us: i64,
    trusted: bool,
    settled: bool,
}

impl ManualClock {
    /// A trusted, settled clock one hour after a boot.
    pub fn new() -> Self {
        ManualClock(Mutex::new(ManualState {
            boot_id: [7; 16],
            boot_ns: 3_600_000_000_000,
            wall_us: RELEASE_FLOOR_US + 3_600_000_000,
            trusted: true,
            settled: true,
        }))
    }

    fn with<T>(&self, act: impl FnOnce(&mut ManualState) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Time passes.
    pub fn advance(&self, by: Duration) {
        self.with(|state| {
            state.boot_ns += u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
            state.wall_us += i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        });
    }

    /// The wall clock jumps; the boot clock does not.
    pub fn step_wall(&self, by_us: i64) {
        self.with(|state| state.wall_us += by_us);
    }

    /// Says whether the wall clock is believed.
    pub fn set_trusted(&self, trusted: bool) {
        self.with(|state| state.trusted = trusted);
    }

    /// Says whether ages may be judged.
    pub fn set_settled(&self, settled: bool) {
        self.with(|state| state.settled = settled);
    }

    /// The machine boots again: a new boot id, the boot clock from zero, the wall clock untouched.
    pub fn reboot(&self) {
        self.with(|state| {
            state.boot_id = state.boot_id.map(|byte| byte.wrapping_add(1));
            state.boot_ns = 0;
        });
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        ManualClock::new()
    }
}

impl Clock for ManualClock {
    fn boot_id(&self) -> [u8; 16] {
        self.with(|state| state.boot_id)
    }

    fn boot_ns(&self) -> u64 {
        self.with(|state| state.boot_ns)
    }

    fn wall_us(&self) -> i64 {
        self.with(|state| state.wall_us)
    }

    fn trusted(&self) -> bool {
        self.with(|state| state.trusted)
    }

    fn settled(&self) -> bool {
        self.with(|state| state.settled)
    }
}
