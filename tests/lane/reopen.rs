//! The spool goes away under a lane: a restart of the agent, an I/O error in mid-run.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering as Atomic};
use std::sync::{Arc, Mutex};

use packhorse::delivery::Ordering;
use packhorse::spool::{Backend, OpenBackend};
use redb::{Builder, Database, DatabaseError, StorageBackend};

use crate::bench::*;

/// After a restart a new lane continues with what is not settled, in order, and only that.
#[tokio::test(start_paused = true)]
async fn a_new_lane_continues_after_a_restart() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, _) = bench.lane(Ordering::PerKey, fixed(10));
    bench.append(To::Us, &(0..60).map(|device| (device, 20)).collect::<Vec<_>>()).await;
    let mut unsettled = Vec::new();
    for (n, lease) in take_all(&mut lane).into_iter().enumerate() {
        match n % 5 {
            0 => lane.settle(lease, delivered()),
            1 => lane.settle(lease, bad_record()),
            // Under way when the agent stops.
            _ => unsettled.push(number(&lease)),
        }
    }
    drop(lane);
    bench.close();
    bench.open().await;
    bench.append(To::Us, &devices(&[1])).await;
    unsettled.push(60);
    let (mut lane, _) = bench.lane(Ordering::PerKey, fixed(10));
    assert_eq!(drain(&mut lane, |got| got.contains(&60)).await, unsettled);
    let account = bench.wait_until_done().await;
    assert_eq!((account.delivered, account.dead_letters), (49, 12));
    assert_eq!(bench.ledger(To::Us).settled().unwrap().ranges(), []);
}

/// A disk in memory that can be told to fail.
#[derive(Debug, Default)]
struct Disk {
    bytes: Mutex<Vec<u8>>,
    broken: AtomicBool,
}

impl Disk {
    fn check(&self) -> io::Result<()> {
        if self.broken.load(Atomic::SeqCst) { Err(io::Error::other("the card is gone")) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct Handle(Arc<Disk>);

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        self.0.check()?;
        Ok(self.0.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.check()?;
        let offset = usize::try_from(offset).unwrap();
        let bytes = self.0.bytes.lock().unwrap();
        let from = bytes.get(offset..offset + out.len());
        out.copy_from_slice(from.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.check()?;
        self.0.bytes.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.check()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.check()?;
        let offset = usize::try_from(offset).unwrap();
        self.0.bytes.lock().unwrap()[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

#[derive(Debug)]
struct Shared(Arc<Disk>);

impl OpenBackend for Shared {
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create_with_backend(Handle(Arc::clone(&self.0)))
    }
}

async fn lose_and_regain_the_disk(bench: &mut Bench, disk: &Disk) {
    let generation = bench.view().generation;
    disk.broken.store(true, Atomic::SeqCst);
    bench.append_unseen(To::Us, &devices(&[9])).await;
    bench.wait_for(|view| view.trouble.is_some()).await;
    disk.broken.store(false, Atomic::SeqCst);
    bench.wait_for(|view| view.generation > generation && view.trouble.is_none()).await;
}

/// The spool was reopened: the lane starts again from what is stored. Leases from before settle nothing, still count as
/// under way, and hold their device back (S15); nothing is lost.
#[tokio::test]
async fn a_reopened_spool_resets_the_lane_and_loses_nothing() {
    let disk = Arc::new(Disk::default());
    let backend = Backend::Custom(Arc::new(Shared(Arc::clone(&disk))));
    let mut bench = Bench::with_backend(ROOMY, backend).await;
    let (mut lane, seen) = bench.lane(Ordering::PerKey, fixed(1));
    bench.append(To::Us, &devices(&[1, 2, 3, 1, 4])).await;
    let mut before: Vec<_> = std::iter::from_fn(|| lane.try_next()).take(3).collect();
    assert_eq!(numbers(&before), [0, 1, 2]);

    lose_and_regain_the_disk(&mut bench, &disk).await;
    let after = take_all(&mut lane);
    assert_eq!(after.iter().map(device).collect::<Vec<_>>(), [4, 9], "1 to 3 are still being answered");
    assert_eq!((lane.in_flight(), seen.borrow().in_flight), (5, 5));

    lane.settle(before.remove(0), delivered());
    let again = lane.try_next().unwrap();
    assert_eq!((number(&again), again.attempt), (0, 1), "it is not known to be the same record any more");
    lane.settle(again, delivered());
    lane.settle(before.remove(0), bad_record());
    lane.release(before.remove(0));
    let mut got: BTreeSet<usize> = BTreeSet::from([0]);
    for lease in after {
        got.insert(number(&lease));
        lane.settle(lease, delivered());
    }
    drain(&mut lane, |more| got.len() + more.len() == 6).await;
    let account = bench.wait_until_done().await;
    assert_eq!((account.delivered, account.dead_letters), (6, 0));
    assert_eq!(lane.in_flight(), 0);
}
