//! The spool's file under redb: it has a reserve of disk space, and it counts what is written.
//!
//! # A full disk
//!
//! redb copies a page to change it, so on a full disk not even a deletion works: the queue could not be drained any more.
//! Therefore all the disk space of `max_size` that the file does not take yet is held by a second file, the *reserve*
//! (`spool.redb.reserve`). Where a write of ours finds the disk full, the reserve is made smaller by a
//! [step](STEP) and the write is done again; so what another program does to the disk is no concern of ours. The blocks of
//! the reserve are allocated and never written (`fallocate`). (To allocate them in the spool's own file would be simpler, but redb
//! takes pages anywhere in a file that it makes twice as long at a time.)
//!
//! Both together take `max_size`: as the file grows, the reserve shrinks. If less is free than that, what is free less a
//! [margin](KEEP_FREE) is taken, and [`Holding::limit`] tells the spool that it is smaller for now. All of that is looked at again
//! when the file was forced to the disk, when redb made it shorter, and whenever the spool looks for expired records.
//!
//! A file system that can't allocate without writing (UBIFS, JFFS2, FAT) gets a small reserve of noise, enough to delete and
//! to go on with what is there.
//!
//! # What is counted
//!
//! [`Meter`]: bytes handed to the file and how often they were forced to the disk. What the file system adds to it (its
//! journal, and whole erase blocks) is not seen from here.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend, StorageError};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use crate::crash_point::CrashPoint;

/// What is left free for the others on the disk.
const KEEP_FREE: u64 = 1 << 20;

/// How much of the reserve is given up at a time.
const STEP: u64 = 256 << 10;

/// The reserve where it has to be written.
const NOISE: u64 = 1 << 20;

/// What was written and forced since the process began; shared by all handles that follow each other.
#[derive(Debug, Default)]
pub(super) struct Meter {
    bytes: AtomicU64,
    syncs: AtomicU64,
}

impl Meter {
    /// Bytes written.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Syncs.
    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }
}

/// The disk space of an open file.
#[derive(Debug)]
struct Space {
    file: File,
    reserve: File,
    folder: PathBuf,
    /// `max_size`.
    wanted: u64,
    /// What the file may take now.
    limit: AtomicU64,
    /// The file system allocates without writing.
    allocates: bool,
}

impl Space {
    fn open(path: &Path, file: File, wanted: u64, allocates: bool) -> io::Result<Space> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let reserve = options.open(reserve_of(path))?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).to_owned();
        let mut space = Space { file, reserve, folder, wanted, limit: AtomicU64::new(u64::MAX), allocates };
        // What was written on another file system, or before, is as good.
        if space.allocates {
            space.allocates = can_allocate(&space.reserve)?;
        }
        space.look_again();
        Ok(space)
    }

    /// Takes what `max_size` asks for and the disk has, and not more.
    fn balance(&self) -> io::Result<()> {
        let (own, held) = (blocks(&self.file)?, self.reserve.metadata()?.len());
        let ours = own.saturating_add(held);
        let limit = match free_in(&self.folder)?.checked_sub(KEEP_FREE) {
            Some(spare) => ours.saturating_add(spare),
            // What the file has grown by, the reserve gives back; what others took, it does not make up for.
            None => ours.min(self.limit.load(Ordering::Relaxed)),
        };
        let limit = limit.min(self.wanted);
        let most = if self.allocates { u64::MAX } else { NOISE };
        let target = limit.saturating_sub(own).min(most);
        if target.saturating_add(STEP) <= held {
            self.reserve.set_len(target)?;
        } else if target >= held.saturating_add(STEP) {
            self.grow(target)?;
        }
        self.limit.store(limit, Ordering::Relaxed);
        Ok(())
    }

    fn grow(&self, target: u64) -> io::Result<()> {
        if self.allocates {
            return Ok(fallocate(&self.reserve, FallocateFlags::empty(), 0, target)?);
        }
        // A file system may compress.
        let mut noise = vec![0; usize::try_from(target).unwrap_or(0)];
        fastrand::Rng::new().fill(&mut noise);
        self.reserve.write_all_at(&noise, 0)?;
        self.reserve.sync_data()
    }

    /// As [`balance`](Self::balance), where nothing depends on it.
    fn look_again(&self) {
        if let Err(error) = self.balance() {
            log::warn!(
                "spool: the reserve of disk space in {} can't be changed: {error}",
                self.folder.display()
            );
        }
    }

    /// Does something that may need room, with what the reserve has.
    fn with_room<T>(&self, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match attempt() {
                Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                    let held = self.reserve.metadata()?.len();
                    if held == 0 {
                        return Err(error);
                    }
                    self.reserve.set_len(held.saturating_sub(STEP))?;
                }
                result => return result,
            }
        }
    }
}

/// Where the reserve of the spool at `path` is.
pub(super) fn reserve_of(path: &Path) -> PathBuf {
    super::open::with_suffix(path, "reserve")
}

/// Whether the file system allocates without writing: tried with one block, which stays.
fn can_allocate(file: &File) -> io::Result<bool> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, 4_096) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
        // A full disk: it could have.
        Err(Errno::NOSPC) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Bytes free for us.
fn free_in(folder: &Path) -> io::Result<u64> {
    let fs = statvfs(folder)?;
    Ok(fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// Holes excluded (`st_blocks` counts 512 bytes everywhere).
fn blocks(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.blocks().saturating_mul(512))
}

/// The file as redb sees it.
#[derive(Debug)]
pub(super) struct SpoolFile {
    file: FileBackend,
    space: Arc<Space>,
    meter: Arc<Meter>,
}

/// What the writer holds of the open file.
#[derive(Clone, Debug)]
pub(super) struct Holding(Arc<Space>);

impl Holding {
    /// What the file may take on the disk, bytes.
    pub(super) fn limit(&self) -> u64 {
        self.0.limit.load(Ordering::Relaxed)
    }

    /// The same, if it is noticeably less than `max_size`.
    pub(super) fn less_than(&self, max_size: u64) -> Option<u64> {
        Some(self.limit()).filter(|limit| limit.saturating_add(2 * STEP) < max_size)
    }

    /// There may be more on the disk by now, or less.
    pub(super) fn look_again(&self) {
        self.0.look_again();
    }
}

impl SpoolFile {
    /// Opens or creates it and takes its space.
    pub(super) fn open(path: &Path, wanted: u64, meter: Arc<Meter>) -> Result<SpoolFile, DatabaseError> {
        SpoolFile::open_as(path, wanted, meter, true)
    }

    fn open_as(
        path: &Path,
        wanted: u64,
        meter: Arc<Meter>,
        allocates: bool,
    ) -> Result<SpoolFile, DatabaseError> {
        let io = |error: io::Error| DatabaseError::Storage(StorageError::Io(error));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let handle = file.try_clone().map_err(io)?;
        let space = Arc::new(Space::open(path, handle, wanted, allocates).map_err(io)?);
        Ok(SpoolFile { file: FileBackend::new(file)?, space, meter })
    }

    /// For the writer.
    pub(super) fn holding(&self) -> Holding {
        Holding(Arc::clone(&self.space))
    }
}

impl StorageBackend for SpoolFile {
    fn len(&self) -> Result<u64, io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let before = self.file.len()?;
        self.space.with_room(|| self.file.set_len(len))?;
        if before == 0 {
            CrashPoint::FileSized.reached();
        }
        if len < before {
            self.space.look_again();
        }
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.meter.syncs.fetch_add(1, Ordering::Relaxed);
        self.space.with_room(|| self.file.sync_data())?;
        self.space.look_again();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.meter.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.space.with_room(|| self.file.write(offset, data))
    }

    fn close(&self) -> Result<(), io::Error> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const WANTED: u64 = 4 << 20;

    fn open(path: &Path, wanted: u64, allocates: bool) -> SpoolFile {
        SpoolFile::open_as(path, wanted, Arc::default(), allocates).unwrap()
    }

    fn taken(file: &SpoolFile) -> (u64, u64) {
        (blocks(&file.space.file).unwrap(), file.space.reserve.metadata().unwrap().len())
    }

    /// File and reserve take `max_size` together, whichever way the file goes.
    #[test]
    fn the_reserve_holds_what_the_file_does_not_take() {
        let folder = tempfile::tempdir().unwrap();
        let file = open(&folder.path().join("spool.redb"), WANTED, true);
        assert_eq!((file.len().unwrap(), file.holding().limit()), (0, WANTED));
        let is_all_there = || {
            let (own, held) = taken(&file);
            assert!((own + held).abs_diff(WANTED) <= STEP, "{own} + {held}");
            own
        };
        is_all_there();
        file.set_len(2 << 20).unwrap();
        file.write(0, &vec![1; 2 << 20]).unwrap();
        file.sync_data().unwrap();
        assert!(is_all_there() >= 2 << 20);
        file.set_len(64 << 10).unwrap();
        assert!(is_all_there() <= 1 << 20);
        assert_eq!((file.meter.bytes(), file.meter.syncs()), (2 << 20, 1));
    }

    #[test]
    fn where_nothing_can_be_allocated_a_little_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool.redb");
        let file = open(&path, WANTED, false);
        assert_eq!(taken(&file).1, NOISE);
        assert_eq!(file.holding().limit(), WANTED);
    }

    /// A write that finds the disk full gets the reserve, step by step, and an error only when that is used up.
    #[test]
    fn a_full_disk_uses_the_reserve_up() {
        let folder = tempfile::tempdir().unwrap();
        let file = open(&folder.path().join("spool.redb"), WANTED, true);
        let held = || file.space.reserve.metadata().unwrap().len();
        let before = held();
        let mut attempts = 0;
        let done = file.space.with_room(|| {
            attempts += 1;
            if attempts < 3 { Err(ErrorKind::StorageFull.into()) } else { Ok(attempts) }
        });
        assert_eq!((done.unwrap(), held()), (3, before - 2 * STEP));
        let never = file.space.with_room(|| io::Result::<()>::Err(ErrorKind::StorageFull.into()));
        assert_eq!((never.unwrap_err().kind(), held()), (ErrorKind::StorageFull, 0));
        let other = file.space.with_room(|| io::Result::<()>::Err(ErrorKind::PermissionDenied.into()));
        assert_eq!(other.unwrap_err().kind(), ErrorKind::PermissionDenied);
        file.holding().look_again();
        assert!(held() > 0, "there is room for it again");
    }
}
