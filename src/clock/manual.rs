//! A clock whose hands are turned by a test.

use std::sync::Mutex;
use std::time::Duration;

use super::{Boots, Clock, RELEASE_FLOOR_US};

/// A clock for tests: stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<ManualState>,
    boots: Boots,
}

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
        let state = ManualState {
            boot_id: [7; 16],
            boot_ns: 3_600_000_000_000,
            wall_us: RELEASE_FLOOR_US + 3_600_000_000,
            trusted: true,
            settled: true,
        };
        ManualClock { state: Mutex::new(state), boots: Boots::default() }
    }

    fn with<T>(&self, act: impl FnOnce(&mut ManualState) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
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

    fn hands(&self) -> (i64, u64) {
        self.with(|state| (state.wall_us, state.boot_ns))
    }

    fn trusted(&self) -> bool {
        self.with(|state| state.trusted)
    }

    fn settled(&self) -> bool {
        self.with(|state| state.settled)
    }

    fn boots(&self) -> &Boots {
        &self.boots
    }
}
