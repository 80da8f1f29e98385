//! What the spool is told by the config, and what follows from it for its parts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Durability, OnFull};

use super::COMMIT_WINDOW;
use super::file::reserve_of;
use super::store::{Limits, Totals};

/// What the spool needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file.
    pub path: PathBuf,
    /// Disk space it may take, bytes.
    pub max_size: u64,
    /// Age at which an uplink expires.
    pub max_age: Duration,
    /// How long a record that is not settled may wait for its commit: what a power cut can cost.
    pub commit_window: Duration,
    /// How long a record stays that everybody has settled.
    pub keep_delivered: Duration,
    /// What happens when the log takes all it may.
    pub on_full: OnFull,
}

impl Settings {
    /// The settings of a config.
    pub fn from_config(config: &crate::config::Spool) -> Settings {
        let path = config.path.value.clone();
        let max_size = config.max_size.unwrap_or_else(|| {
            default_max_size(free_near(&path), own_blocks(&path) + own_blocks(&reserve_of(&path)))
        });
        Settings {
            path,
            max_size,
            max_age: config.max_age,
            commit_window: match config.durability.value {
                Durability::Immediate => COMMIT_WINDOW,
                Durability::WriteBehind => config.commit_after,
            },
            keep_delivered: config.keep_delivered.value,
            on_full: config.on_full.value,
        }
    }

    /// What the records of `log` may take together: three fifths of the disk space. redb's own pages add up to a fifth,
    /// dead letters a tenth, and the rest is room for the copy that every change of a page needs.
    pub(super) fn log_cap(&self) -> u64 {
        self.max_size / 5 * 3
    }

    /// How much may wait for a forced commit: a small part of the log, and at most a quarter of a MiB of memory.
    pub(super) fn unsynced_cap(&self) -> u64 {
        (self.log_cap() / 16).min(256 << 10)
    }

    /// What dead letters may take together (RULES S12).
    fn dead_cap(&self) -> u64 {
        self.max_size / 10
    }

    /// What a round keeps to. If the disk has no room for `max_size`, the spool is smaller, but nothing is given up for that
    /// which is in it: `totals` is what there is.
    pub(super) fn limits(&self, on_disk: Option<u64>, totals: &Totals) -> Limits {
        let limit = on_disk.unwrap_or(u64::MAX).min(self.max_size);
        Limits {
            log_cap: (limit / 5 * 3).max(totals.bytes.min(self.log_cap())),
            dead_cap: (limit / 10).max(totals.dead_bytes.min(self.dead_cap())),
            keeps: !self.keep_delivered.is_zero(),
            on_full: self.on_full,
        }
    }
}

/// The smaller of 64 MiB and a quarter of what is free, but never less than 1 MiB. What the spool itself takes and holds counts
/// as free: it would otherwise shrink with every start, and drop uplinks to do so.
fn default_max_size(free: u64, own: u64) -> u64 {
    (free.saturating_add(own) / 4).clamp(1 << 20, 64 << 20)
}

/// Bytes free for us where the file is or will be: its folder may not have been made yet.
fn free_near(path: &Path) -> u64 {
    let mut folders = path
        .ancestors()
        .skip(1)
        .map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let found = folders.find_map(|folder| rustix::fs::statvfs(folder).ok());
    found.map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// Bytes that the file takes on the disk, holes excluded (`st_blocks` counts 512 bytes everywhere).
fn own_blocks(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map_or(0, |file| file.blocks().saturating_mul(512))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a disk with less room the spool stops growing; what it has stays.
    #[test]
    fn a_smaller_disk_stops_growth_and_takes_nothing_away() {
        let folder = Path::new("/nowhere/spool.redb").to_owned();
        let settings = Settings {
            path: folder,
            max_size: 1_000,
            max_age: Duration::ZERO,
            commit_window: Duration::ZERO,
            keep_delivered: Duration::ZERO,
            on_full: OnFull::DropOldest,
        };
        let limits = |on_disk, bytes, dead_bytes| {
            let limits = settings.limits(on_disk, &Totals { bytes, dead_bytes, ..Totals::default() });
            (limits.log_cap, limits.dead_cap)
        };
        assert_eq!(limits(None, 0, 0), (600, 100));
        assert_eq!(limits(Some(5_000), 700, 0), (600, 100));
        assert_eq!(limits(Some(500), 100, 10), (300, 50));
        assert_eq!(limits(Some(500), 400, 70), (400, 70));
        assert_eq!(limits(Some(500), 900, 200), (600, 100), "max_size counts in any case");
    }

    /// DESIGN section 5: 25 % of what is free, at most 64 MiB; the same at the next start, when the spool has filled.
    #[test]
    fn the_default_size_does_not_shrink_as_the_spool_fills() {
        const MIB: u64 = 1 << 20;
        assert_eq!(default_max_size(100 * MIB, 0), 25 * MIB);
        assert_eq!(default_max_size(75 * MIB, 25 * MIB), 25 * MIB);
        assert_eq!(default_max_size(u64::MAX, 1), 64 * MIB);
        assert_eq!(default_max_size(0, 0), MIB);
    }

    /// Before the first start there is no folder; the disk it will be on is asked all the same.
    #[test]
    fn free_space_is_found_above_a_folder_that_is_not_there_yet() {
        assert_ne!(free_near(Path::new("/no/such/folder/spool.redb")), u64::MAX);
        assert_ne!(free_near(Path::new("spool.redb")), u64::MAX);
    }
}
