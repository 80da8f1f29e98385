//! The flash ledger: what the spool has written, today and since it was made.
//!
//! It counts bytes handed to the file, forced commits and uplinks taken in. The counts ride in rounds that are forced to the
//! disk anyway, so they may fall back to the last of those (RULES S24). A day is one of UTC by the wall clock, right or
//! wrong.
//!
//! What the card itself thinks of its life, an eMMC tells the kernel: see [`DeviceLife`].

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::file::Meter;

/// Key of the stored value.
pub(super) const KEY: &str = "wear";

const DAY_US: i64 = 86_400_000_000;

/// What was written in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Bytes handed to the file; what the file system adds is not seen.
    pub bytes: u64,
    /// Commits forced to the disk.
    pub syncs: u64,
    /// Uplinks taken in meanwhile.
    pub uplinks: u64,
}

impl Written {
    fn add(&mut self, more: Written) {
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.syncs = self.syncs.saturating_add(more.syncs);
        self.uplinks = self.uplinks.saturating_add(more.uplinks);
    }
}

/// See the [module](self). Stored under format byte 1; frozen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wear {
    /// Since the file was made.
    pub in_all: Written,
    /// Since midnight UTC.
    pub today: Written,
    /// Days since 1970.
    day: i64,
}

impl Wear {
    /// Adds what was written up to now.
    pub(super) fn add(&mut self, more: Written, now_us: i64) {
        let day = now_us.div_euclid(DAY_US);
        if day != self.day {
            self.day = day;
            self.today = Written::default();
        }
        *self = self.plus(more);
    }

    /// With what has not been added yet.
    pub(super) fn plus(mut self, more: Written) -> Wear {
        self.in_all.add(more);
        self.today.add(more);
        self
    }
}

/// Reads the meter of a file for the ledger.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    meter: Arc<Meter>,
    /// What the ledger has.
    noted: Written,
}

impl Gauge {
    /// From here on: to be made before the file is opened, which writes too.
    pub(super) fn new(meter: Arc<Meter>) -> Gauge {
        let noted = Gauge { meter: Arc::clone(&meter), noted: Written::default() }.read(0);
        Gauge { meter, noted }
    }

    /// The file had taken in so many uplinks before.
    pub(super) fn after_uplinks(mut self, uplinks: u64) -> Gauge {
        self.noted.uplinks = uplinks;
        self
    }

    fn read(&self, uplinks: u64) -> Written {
        Written { bytes: self.meter.bytes(), syncs: self.meter.syncs(), uplinks }
    }

    /// What the ledger does not have yet.
    pub(super) fn since(&self, uplinks: u64) -> Written {
        let now = self.read(uplinks);
        Written {
            bytes: now.bytes.saturating_sub(self.noted.bytes),
            syncs: now.syncs.saturating_sub(self.noted.syncs),
            uplinks: now.uplinks.saturating_sub(self.noted.uplinks),
        }
    }

    /// The ledger has what [`since`](Self::since) said.
    pub(super) fn note(&mut self, since: Written) {
        self.noted.add(since);
    }
}

/// How worn an eMMC says it is (JEDEC JESD84-B51, EXT_CSD `DEVICE_LIFE_TIME_EST_TYP_A`, `_B` and `PRE_EOL_INFO`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceLife {
    /// The upper end of the estimate, in percent of its life: the larger of its two kinds of memory. Above 100: beyond it.
    pub used_percent: u8,
    /// Reserved blocks: 1 normal, 2 four fifths used, 3 nine tenths used; 0: not said.
    pub pre_eol: u8,
}

impl DeviceLife {
    /// Asks the kernel about the disk that holds `path`. `None` where there is no eMMC, or it does not say.
    pub fn of(path: &Path) -> Option<DeviceLife> {
        let device = path.ancestors().find_map(|place| std::fs::metadata(place).ok())?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let block = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
        // A partition lies in its disk.
        block.ancestors().take(2).find_map(DeviceLife::read)
    }

    fn read(block: &Path) -> Option<DeviceLife> {
        let text = |name: &str| std::fs::read_to_string(block.join(PathBuf::from("device").join(name))).ok();
        // Steps of ten percent: 0x01 is up to 10, 0x0b is beyond 100; 0x00 is not said.
        let steps =
            text("life_time")?.split_whitespace().filter_map(of_hex).max().filter(|step| *step > 0)?;
        let pre_eol = text("pre_eol_info").and_then(|text| of_hex(text.trim())).unwrap_or(0);
        Some(DeviceLife { used_percent: steps.saturating_mul(10), pre_eol })
    }
}

fn of_hex(text: &str) -> Option<u8> {
    u8::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_day_ends_at_midnight() {
        let mut wear = Wear::default();
        let written = |bytes| Written { bytes, syncs: 1, uplinks: 2 };
        wear.add(written(10), 5 * DAY_US);
        wear.add(written(20), 6 * DAY_US - 1);
        assert_eq!((wear.today.bytes, wear.in_all.bytes), (30, 30));
        wear.add(written(40), 6 * DAY_US);
        assert_eq!((wear.today, wear.in_all.bytes, wear.in_all.syncs), (written(40), 70, 3));
        wear.add(written(1), -1);
        assert_eq!(wear.today, written(1), "a clock before 1970 is a day like any other");
    }

    #[test]
    fn an_emmc_says_how_worn_it_is() {
        let block = tempfile::tempdir().unwrap();
        let device = block.path().join("device");
        std::fs::create_dir(&device).unwrap();
        assert_eq!(DeviceLife::read(block.path()), None);
        std::fs::write(device.join("life_time"), "0x00 0x00\n").unwrap();
        assert_eq!(DeviceLife::read(block.path()), None, "it does not say");
        std::fs::write(device.join("life_time"), "0x02 0x0b\n").unwrap();
        std::fs::write(device.join("pre_eol_info"), "0x01\n").unwrap();
        assert_eq!(DeviceLife::read(block.path()), Some(DeviceLife { used_percent: 110, pre_eol: 1 }));
    }
}
