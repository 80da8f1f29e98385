//! What a disk that fails, fills or takes its time may take from the spool of a program that goes on: nothing (RULES S3).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod spool_stage;

use std::io;
use std::time::Duration;

use packhorse::clock::ManualClock;
use packhorse::spool::{Acceptance, ReadError, Routed};
use spool_stage::disk::{Disk, Fault, Operation};
use spool_stage::{append, mine, open_on, put, two, until, uplink};

/// S3: a read that fails is told to whoever reads. The writer learns of it with its next round, and then it is over.
#[tokio::test]
async fn a_read_error_is_over_with_the_next_round() {
    let disk = Disk::new(4);
    let spool = open_on(&disk, Duration::ZERO, Duration::ZERO);
    let two = two(&spool).await;
    let clock = ManualClock::new();
    // More than redb keeps in memory.
    put(&spool, &two.routes, (0..40).map(|n| uplink(n, 100_000, &clock))).await;
    until(&mut spool.view(), "all of them", |view| view.durable == 40).await;
    disk.fail(Operation::Read, 0, Fault::Once(io::ErrorKind::Other));
    let failed = two.ledgers[0].scan(0, usize::MAX, |_, _| {});
    assert!(matches!(failed, Err(ReadError::Storage(_))), "{failed:?}");
    append(&spool.appender(), &two.routes, [uplink(40, 10, &clock)]).await;
    until(&mut spool.view(), "one more", |view| view.durable == 41 && view.trouble.is_none()).await;
    assert_eq!(mine(&two.ledgers[0]).len(), 41);
    spool.close();
}

/// S3: a disk that another program has filled is no damage. Once there is room again everything goes on.
#[tokio::test]
async fn a_full_disk_is_used_again_when_there_is_room() {
    for disk in [Disk::new(5), Disk::new(5).without_holes()] {
        let spool = open_on(&disk, Duration::ZERO, Duration::ZERO);
        let two = two(&spool).await;
        let clock = ManualClock::new();
        put(&spool, &two.routes, (0..3).map(|n| uplink(n, 1_000, &clock))).await;
        disk.fill(16 << 10);
        // Less than what the store in memory holds.
        let many = (3..15).map(|n| Routed { uplink: uplink(n, 20_000, &clock), routes: two.routes.clone() });
        let accepted = spool.appender().append_durable(many.collect(), Vec::new()).await.unwrap();
        let troubled = until(&mut spool.view(), "trouble", |view| view.trouble.is_some()).await;
        assert!(troubled.trouble.as_ref().unwrap().contains("space"), "{:?}", troubled.trouble);
        disk.free();
        assert_eq!(accepted.wait().await, Ok(Acceptance::Full));
        let numbers: Vec<u64> = mine(&two.ledgers[0]).into_iter().map(|(_, number)| number).collect();
        assert_eq!(numbers, (0..15).collect::<Vec<_>>());
        spool.close();
    }
}

/// S6: while a sync takes its time nobody is told that anything is safe, and lanes read all the same.
#[tokio::test]
async fn a_slow_sync_holds_up_no_reader() {
    let disk = Disk::new(6);
    let spool = open_on(&disk, Duration::ZERO, Duration::ZERO);
    let two = two(&spool).await;
    let clock = ManualClock::new();
    put(&spool, &two.routes, [uplink(0, 10, &clock)]).await;
    until(&mut spool.view(), "the first", |view| view.durable == 1).await;
    let hold = disk.hold_syncs();
    let routed = Routed { uplink: uplink(1, 10, &clock), routes: two.routes.clone() };
    let accepted = spool.appender().append_durable(vec![routed], Vec::new()).await.unwrap();
    hold.wait();
    assert_eq!(mine(&two.ledgers[0]).len(), 1);
    assert_eq!(spool.view().borrow().durable, 1);
    drop(hold);
    assert_eq!(accepted.wait().await, Ok(Acceptance::Full));
    assert_eq!(mine(&two.ledgers[0]).len(), 2);
    spool.close();
}
