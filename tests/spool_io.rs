//! What a disk that fails, fills or takes its time may take from the spool of a program that goes on: nothing (RULES S3).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod spool_stage;

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use packhorse::clock::ManualClock;
use packhorse::spool::{Acceptance, Loss, ReadError, Routed, Settlement};
use spool_stage::disk::{Disk, Fault, Operation};
use spool_stage::{
    NEVER, append, counts, in_memory, lost, mine, open_on, put, seqs, try_open_on, two, until, uplink,
};

/// The file is opened again, and that fails once more, at any step of it: what is in memory stays there, and what came and went
/// without the disk is counted once.
#[tokio::test]
async fn an_error_while_the_file_is_opened_again_costs_nothing() {
    let other = io::ErrorKind::Other;
    let mut hit = 0;
    for again in [Fault::Once(other), Fault::DoneButReported(other)] {
        for nth in 0..8 {
            let disk = Disk::new(nth);
            let settings = in_memory(64 << 20, NEVER);
            let spool = try_open_on(&disk, &settings).unwrap();
            let two = two(&spool).await;
            let clock = ManualClock::new();
            let view = put(&spool, &two.routes, (0..4).map(|n| uplink(n, 20, &clock))).await;
            // The third is the one that is gone before the disk hears of it.
            two.ledgers
                .iter()
                .for_each(|ledger| ledger.settle(view.end - 2, view.end - 2, Settlement::Delivered));
            until(&mut spool.view(), "one less", |view| view.records == 3).await;
            assert_eq!(spool.view().borrow().at_risk, 3);

            disk.fail(Operation::Write, 0, Fault::Once(other));
            disk.fail(Operation::Sync, usize::try_from(nth).unwrap(), again);
            let last = Routed { uplink: uplink(4, 20, &clock), routes: two.routes.clone() };
            let accepted = spool.appender().append_durable(vec![last], Vec::new()).await.unwrap();
            assert_eq!(accepted.wait().await, Ok(Acceptance::Full));
            hit += disk.faults_hit();

            let view = spool.view().borrow().clone();
            assert_eq!((view.appended, view.durable, view.at_risk), (5, 5, 0), "{again:?} {nth}");
            for (ledger, account) in two.ledgers.iter().zip(two.accounts) {
                let numbers: Vec<u64> = mine(ledger).into_iter().map(|(_, number)| number).collect();
                assert_eq!(numbers, [0, 1, 3, 4], "{again:?} {nth}");
                assert_eq!(counts(&view, account), (4, 1, 0), "{again:?} {nth}");
            }
            spool.close();
        }
    }
    assert!(hit > 22, "only {hit} faults came to pass");
}

/// S24: what made room has left for good once a lane has seen it. An I/O error would else bring it back after the lane let go
/// of it: in the backlog for ever, and never sent.
#[tokio::test]
async fn an_io_error_brings_nothing_back_that_made_room() {
    // Every fifth uplink a commit is due for their size. Of the first ones, in one round, there are so many that in most runs
    // it is another one that makes something make room.
    for put_before in 5..10 {
        let disk = Disk::new(1);
        let spool = try_open_on(&disk, &in_memory(24_000, NEVER)).unwrap();
        let two = two(&spool).await;
        let clock = ManualClock::new();
        let mut heard = put_before;
        put(&spool, &two.routes, (0..heard).map(|n| uplink(n, 20, &clock))).await;
        while spool.view().borrow().losses == 0 {
            put(&spool, &two.routes, [uplink(heard, 20, &clock)]).await;
            heard += 1;
        }
        disk.fail(Operation::Write, 0, Fault::Once(io::ErrorKind::Other));
        let floor = spool.view().borrow().floor;
        two.ledgers.iter().for_each(|ledger| ledger.cover(0, floor - 1));
        // In the same round, which it has forced to the disk.
        spool.operator().set_paused(two.accounts[0], false).await.unwrap();
        assert_eq!(disk.faults_hit(), 1);

        let view = spool.view().borrow().clone();
        for (ledger, account) in two.ledgers.iter().zip(two.accounts) {
            let settled = ledger.settled().unwrap();
            let waiting = seqs(ledger).into_iter().filter(|seq| !settled.contains(*seq)).count() as u64;
            assert_eq!(counts(&view, account), (waiting, 0, 0));
            assert_eq!(waiting + lost(&view, account, Loss::Evicted), heard);
        }
        spool.close();
    }
}

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
    let failed = two.ledgers[0].scan(0, usize::MAX, |_, _| ControlFlow::Continue(()));
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
