//! A disk in memory that forgets, tears and fails like a cheap card does, under redb's own backend trait.
//!
//! It keeps two images: what programs see, and what would survive, that is the image at the last sync and the writes
//! since. A *power cut* makes the survivor the disk: of the writes since the last sync each 512-byte sector is kept or lost
//! by itself, in any combination. A *fault* makes one operation, or every one until it is lifted, fail.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use packhorse::spool::OpenBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend, StorageError};

/// What a disk writes in one piece.
const SECTOR: usize = 512;

/// The operations that change a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Write,
    SetLen,
    Sync,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One operation fails and does nothing.
    Once(io::ErrorKind),
    /// A sync does its work and reports an error all the same.
    DoneButReported(io::ErrorKind),
    /// All fail, opening too, until [`Disk::heal`].
    Lasting(io::ErrorKind),
}

#[derive(Debug)]
enum Unsynced {
    Write { at: usize, data: Vec<u8> },
    SetLen(usize),
}

#[derive(Debug)]
struct State {
    seen: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Unsynced>,
    random: fastrand::Rng,
    /// Handles of earlier boots reach nothing any more.
    boot: u64,
    open: bool,
    cut_after: Option<usize>,
    off: bool,
    fault: Option<(Option<Operation>, usize, Fault)>,
    gone: Option<io::ErrorKind>,
    faults_hit: usize,
    syncs: u64,
}

/// The disk; clones are the same disk.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub fn new(seed: u64) -> Disk {
        Disk(Arc::new(Mutex::new(State {
            seen: Vec::new(),
            synced: Vec::new(),
            unsynced: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            boot: 0,
            open: false,
            cut_after: None,
            off: false,
            fault: None,
            gone: None,
            faults_hit: 0,
            syncs: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes after so many more operations that change the disk.
    pub fn cut_after(&self, operations: usize) {
        self.state().cut_after = Some(operations);
    }

    /// The power goes, if it has not gone yet.
    pub fn cut(&self) {
        self.state().cut();
    }

    /// The power goes, if it has not gone yet, and comes back: the disk is what survived.
    pub fn power_cycle(&self) {
        let mut state = self.state();
        state.cut();
        state.off = false;
        state.cut_after = None;
        state.boot += 1;
        state.open = false;
    }

    /// The `nth` operation of a kind from now on (0: the next) fails.
    pub fn fail(&self, operation: Operation, nth: usize, fault: Fault) {
        self.state().fault = Some((Some(operation), nth, fault));
    }

    /// It is gone, until [`heal`](Self::heal).
    pub fn break_now(&self) {
        self.state().gone = Some(io::ErrorKind::Other);
    }

    /// Ends a lasting fault.
    pub fn heal(&self) {
        let mut state = self.state();
        state.gone = None;
        state.fault = None;
    }

    /// How often an operation failed on purpose.
    pub fn faults_hit(&self) -> usize {
        self.state().faults_hit
    }

    /// How often data was forced to the disk.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }
}

impl State {
    /// Of what was not synced, chance decides sector by sector.
    fn cut(&mut self) {
        if self.off {
            return;
        }
        self.off = true;
        let mut survivor = std::mem::take(&mut self.synced);
        // Mostly everything or mostly nothing arrives; in between is where it gets interesting.
        let arrives = [0.02, 0.5, 0.5, 0.9, 0.98][self.random.usize(..5)];
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Unsynced::SetLen(len) => survivor.resize(len, 0),
                Unsynced::Write { at, data } => {
                    for (n, sector) in data.chunks(SECTOR).enumerate() {
                        if self.random.f64() < arrives {
                            put(&mut survivor, at + n * SECTOR, sector);
                        }
                    }
                }
            }
        }
        self.seen.clone_from(&survivor);
        self.synced = survivor;
    }

    fn before(&mut self, boot: u64, operation: Operation) -> io::Result<bool> {
        self.reachable(boot)?;
        if let Some(left) = &mut self.cut_after {
            if *left == 0 {
                self.cut();
                return Err(io::Error::other("power is gone"));
            }
            *left -= 1;
        }
        let Some((kind, nth, fault)) = &mut self.fault else { return Ok(false) };
        if kind.is_some_and(|kind| kind != operation) {
            return Ok(false);
        }
        if *nth > 0 {
            *nth -= 1;
            return Ok(false);
        }
        let fault = *fault;
        self.fault = None;
        self.faults_hit += 1;
        match fault {
            Fault::Once(kind) => Err(kind.into()),
            Fault::DoneButReported(_) => Ok(true),
            Fault::Lasting(kind) => {
                self.gone = Some(kind);
                Err(kind.into())
            }
        }
    }

    fn reachable(&self, boot: u64) -> io::Result<()> {
        if self.off || boot != self.boot {
            return Err(io::Error::other("power is gone"));
        }
        self.gone.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

fn put(image: &mut Vec<u8>, at: usize, data: &[u8]) {
    if image.len() < at + data.len() {
        image.resize(at + data.len(), 0);
    }
    image[at..at + data.len()].copy_from_slice(data);
}

impl OpenBackend for Disk {
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        let boot = {
            let mut state = self.state();
            if state.off {
                return Err(DatabaseError::Storage(StorageError::Io(io::Error::other(
                    "the disk has no power",
                ))));
            }
            if state.gone.is_some() {
                return Err(DatabaseError::Storage(StorageError::Io(io::Error::other("the disk is gone"))));
            }
            if std::mem::replace(&mut state.open, true) {
                return Err(DatabaseError::DatabaseAlreadyOpen);
            }
            state.boot
        };
        builder.create_with_backend(Handle { disk: self.clone(), boot })
    }
}

/// What redb holds of the disk.
#[derive(Debug)]
struct Handle {
    disk: Disk,
    boot: u64,
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.reachable(self.boot)?;
        Ok(state.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.state();
        state.reachable(self.boot)?;
        let at = usize::try_from(offset).unwrap();
        let bytes = state.seen.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.before(self.boot, Operation::SetLen)?;
        let len = usize::try_from(len).unwrap();
        state.seen.resize(len, 0);
        state.unsynced.push(Unsynced::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let report = state.before(self.boot, Operation::Sync)?;
        let seen = state.seen.clone();
        state.synced = seen;
        state.unsynced.clear();
        state.syncs += 1;
        if report { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.before(self.boot, Operation::Write)?;
        let at = usize::try_from(offset).unwrap();
        put(&mut state.seen, at, data);
        state.unsynced.push(Unsynced::Write { at, data: data.to_vec() });
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.boot == self.boot {
            state.open = false;
        }
        Ok(())
    }
}
