//! A disk in memory that forgets, tears, fills and fails like a cheap card does, under redb's own backend trait.
//!
//! It keeps two images: what programs see, and what would survive, that is the image at the last sync and the writes
//! since. A *power cut* makes the survivor the disk: of the writes since the last sync each 512-byte sector is kept or lost
//! by itself, in any combination. A *fault* makes one operation, or every one until it is lifted, fail. Being *full* is no
//! fault but a matter of blocks: what has none yet gets none while another program has taken them all. A sync that is
//! *held* takes as long as the test wants.
//!
//! A program sees the disk through a [`Life`]: it ends with the power or with a SIGKILL, and whatever of the program is
//! still running then reaches nothing any more.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use packhorse::spool::OpenBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend, StorageError};

/// What a disk writes in one piece.
const SECTOR: usize = 512;

/// What a file system hands out in one piece.
const BLOCK: usize = 4_096;

/// What a program asks of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    SetLen,
    Sync,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One operation fails and does nothing.
    Once(io::ErrorKind),
    /// A write arrives in part, then fails; of what is no write it is [`Fault::Once`].
    Short(io::ErrorKind),
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
    /// Handles of earlier lives reach nothing any more.
    life: u64,
    open: bool,
    cut_after: Option<usize>,
    off: bool,
    /// Each begins to count when the one before it has come to pass.
    faults: VecDeque<(Operation, usize, Fault)>,
    gone: Option<io::ErrorKind>,
    hits: Vec<(Operation, Fault)>,
    torn: usize,
    turned_away: usize,
    syncs: u64,
    /// The file's blocks.
    blocks: BTreeSet<usize>,
    /// How many it can get in all.
    most_blocks: usize,
    /// Whether a longer file takes no blocks before it is written to.
    has_holes: bool,
    holds_syncs: bool,
    syncs_held: usize,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// A sync is held, or is no longer.
    held: Condvar,
}

/// The disk; clones are the same disk.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Shared>);

/// Keeps syncs from ending.
#[derive(Debug)]
pub struct Hold(Disk);

impl Hold {
    /// Waits until a sync is held. Blocking.
    pub fn wait(&self) {
        let Hold(disk) = self;
        let none_is = |state: &mut State| state.syncs_held == 0;
        let waited = disk.0.held.wait_timeout_while(disk.state(), super::PATIENCE, none_is);
        assert!(!waited.unwrap_or_else(PoisonError::into_inner).1.timed_out(), "no sync came");
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.state().holds_syncs = false;
        self.0.0.held.notify_all();
    }
}

impl Disk {
    pub fn new(seed: u64) -> Disk {
        let state = Mutex::new(State {
            seen: Vec::new(),
            synced: Vec::new(),
            unsynced: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            life: 0,
            open: false,
            cut_after: None,
            off: false,
            faults: VecDeque::new(),
            gone: None,
            hits: Vec::new(),
            torn: 0,
            turned_away: 0,
            syncs: 0,
            blocks: BTreeSet::new(),
            most_blocks: usize::MAX,
            has_holes: true,
            holds_syncs: false,
            syncs_held: 0,
        });
        Disk(Arc::new(Shared { state, held: Condvar::new() }))
    }

    /// One whose file system has no holes: the length of a file is what it takes.
    pub fn without_holes(self) -> Disk {
        self.state().has_holes = false;
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk as a program sees it that starts now.
    pub fn life(&self) -> Life {
        Life { disk: self.clone(), life: self.state().life }
    }

    /// The power goes after so many more operations that change the disk.
    pub fn cut_after(&self, operations: usize) {
        self.state().cut_after = Some(operations);
    }

    /// The power stays after all.
    pub fn cut_never(&self) {
        self.state().cut_after = None;
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
        state.end_life();
    }

    /// Whether the power is gone.
    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// SIGKILL: the program is gone, and what it has written is not, be it synced or not.
    pub fn kill(&self) {
        self.state().end_life();
    }

    /// Another program takes all blocks but so many bytes.
    pub fn fill(&self, leave: usize) {
        let mut state = self.state();
        state.most_blocks = state.blocks.len() + leave / BLOCK;
    }

    /// And frees them.
    pub fn free(&self) {
        self.state().most_blocks = usize::MAX;
    }

    /// From now on a sync takes until what is returned is dropped.
    #[must_use]
    pub fn hold_syncs(&self) -> Hold {
        self.state().holds_syncs = true;
        Hold(self.clone())
    }

    /// The `nth` operation of a kind from now on (0: the next) fails; after other faults that are still to come, from the last
    /// of them on.
    pub fn fail(&self, operation: Operation, nth: usize, fault: Fault) {
        self.state().faults.push_back((operation, nth, fault));
    }

    /// It is gone, until [`heal`](Self::heal).
    pub fn break_now(&self) {
        self.state().gone = Some(io::ErrorKind::Other);
    }

    /// Ends a lasting fault, and takes back those that are still to come.
    pub fn heal(&self) {
        let mut state = self.state();
        state.gone = None;
        state.faults.clear();
    }

    /// How often an operation failed on purpose.
    pub fn faults_hit(&self) -> usize {
        self.state().hits.len()
    }

    /// Which operations failed on purpose.
    pub fn hits(&self) -> Vec<(Operation, Fault)> {
        self.state().hits.clone()
    }

    /// How many writes a power cut has torn: some of their sectors arrived and others did not.
    pub fn torn(&self) -> usize {
        self.state().torn
    }

    /// How often there was no space.
    pub fn turned_away(&self) -> usize {
        self.state().turned_away
    }

    /// How often data was forced to the disk.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }
}

impl State {
    fn end_life(&mut self) {
        self.cut_after = None;
        self.life += 1;
        self.open = false;
    }

    /// Of what was not synced, chance decides sector by sector.
    fn cut(&mut self) {
        if self.off {
            return;
        }
        self.off = true;
        let mut survivor = std::mem::take(&mut self.synced);
        // Everything, mostly everything or mostly nothing arrives; in between is where it gets interesting.
        let arrives = [0.02, 0.5, 0.9, 0.98, 1.0][self.random.usize(..5)];
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Unsynced::SetLen(len) => survivor.resize(len, 0),
                Unsynced::Write { at, data } => {
                    let sectors = data.chunks(SECTOR).enumerate();
                    let arrived: Vec<_> = sectors.filter(|_| self.random.f64() < arrives).collect();
                    let is_torn = !arrived.is_empty() && arrived.len() < data.len().div_ceil(SECTOR);
                    self.torn += usize::from(is_torn);
                    for (n, sector) in arrived {
                        put(&mut survivor, at + n * SECTOR, sector);
                    }
                }
            }
        }
        self.take_blocks_from(survivor.len());
        self.seen.clone_from(&survivor);
        self.synced = survivor;
    }

    /// What lies behind the end of the file is anybody's.
    fn take_blocks_from(&mut self, len: usize) {
        self.blocks.retain(|block| *block < len.div_ceil(BLOCK));
    }

    /// Gives blocks to what lies from `at` to `end`.
    fn give_blocks(&mut self, at: usize, end: usize) -> io::Result<()> {
        let wanted = (at / BLOCK..end.div_ceil(BLOCK)).filter(|block| !self.blocks.contains(block));
        let wanted: Vec<usize> = wanted.collect();
        if self.blocks.len() + wanted.len() > self.most_blocks {
            self.turned_away += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.blocks.extend(wanted);
        Ok(())
    }

    fn write(&mut self, at: usize, data: &[u8]) {
        put(&mut self.seen, at, data);
        self.unsynced.push(Unsynced::Write { at, data: data.to_vec() });
    }

    /// The fault that the operation has, if it is not one that keeps it from being done.
    fn before(&mut self, life: u64, operation: Operation) -> io::Result<Option<Fault>> {
        self.reachable(life)?;
        if let Some(left) = self.cut_after.as_mut().filter(|_| operation != Operation::Read) {
            if *left == 0 {
                self.cut();
                return Err(io::Error::other("power is gone"));
            }
            *left -= 1;
        }
        let Some((_, nth, fault)) = self.faults.front_mut().filter(|(kind, ..)| *kind == operation) else {
            return Ok(None);
        };
        if *nth > 0 {
            *nth -= 1;
            return Ok(None);
        }
        let fault = *fault;
        self.faults.pop_front();
        self.hits.push((operation, fault));
        match fault {
            Fault::Short(_) if operation == Operation::Write => Ok(Some(fault)),
            Fault::Once(kind) | Fault::Short(kind) => Err(kind.into()),
            Fault::DoneButReported(_) => Ok(Some(fault)),
            Fault::Lasting(kind) => {
                self.gone = Some(kind);
                Err(kind.into())
            }
        }
    }

    fn reachable(&self, life: u64) -> io::Result<()> {
        if self.off || life != self.life {
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

/// One run of a program; see the [module](self).
#[derive(Clone, Debug)]
pub struct Life {
    disk: Disk,
    life: u64,
}

/// The disk for a program that outlives its power: a card that is taken out and comes back.
impl OpenBackend for Disk {
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        self.life().open(builder)
    }

    fn rest(&self) -> Duration {
        self.life().rest()
    }
}

impl OpenBackend for Life {
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        let mut state = self.disk.state();
        if let Err(error) = state.reachable(self.life) {
            let error = if state.gone.is_some() { io::Error::other("the disk is gone") } else { error };
            return Err(DatabaseError::Storage(StorageError::Io(error)));
        }
        if std::mem::replace(&mut state.open, true) {
            return Err(DatabaseError::DatabaseAlreadyOpen);
        }
        drop(state);
        builder.create_with_backend(Handle(self.clone()))
    }

    fn rest(&self) -> Duration {
        Duration::from_millis(1)
    }
}

/// What redb holds of the disk.
#[derive(Debug)]
struct Handle(Life);

impl Handle {
    /// The disk, if the operation may begin.
    fn begin(&self, operation: Operation) -> io::Result<(MutexGuard<'_, State>, Option<Fault>)> {
        let mut state = self.0.disk.state();
        let fault = state.before(self.0.life, operation)?;
        Ok((state, fault))
    }
}

/// Reports an error of what was done all the same.
fn report(fault: Option<Fault>) -> io::Result<()> {
    match fault {
        Some(Fault::DoneButReported(kind)) => Err(kind.into()),
        _ => Ok(()),
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        let state = self.0.disk.state();
        state.reachable(self.0.life)?;
        Ok(state.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (state, fault) = self.begin(Operation::Read)?;
        let at = usize::try_from(offset).unwrap();
        let bytes = state.seen.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        report(fault)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut state, fault) = self.begin(Operation::SetLen)?;
        let len = usize::try_from(len).unwrap();
        state.take_blocks_from(len);
        if !state.has_holes {
            state.give_blocks(0, len)?;
        }
        state.seen.resize(len, 0);
        state.unsynced.push(Unsynced::SetLen(len));
        report(fault)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.disk.state();
        if state.holds_syncs {
            let held = &self.0.disk.0.held;
            state.syncs_held += 1;
            held.notify_all();
            let holds = |state: &mut State| state.holds_syncs;
            state = held.wait_while(state, holds).unwrap_or_else(PoisonError::into_inner);
            state.syncs_held -= 1;
        }
        let fault = state.before(self.0.life, Operation::Sync)?;
        state.synced = state.seen.clone();
        state.unsynced.clear();
        state.syncs += 1;
        report(fault)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (mut state, fault) = self.begin(Operation::Write)?;
        let at = usize::try_from(offset).unwrap();
        state.give_blocks(at, at + data.len())?;
        if let Some(Fault::Short(kind)) = fault {
            let arrives = state.random.usize(..data.len());
            state.write(at, &data[..arrives]);
            return Err(kind.into());
        }
        state.write(at, data);
        report(fault)
    }

    fn close(&self) -> io::Result<()> {
        let mut state = self.0.disk.state();
        if state.life == self.0.life {
            state.open = false;
        }
        Ok(())
    }
}
