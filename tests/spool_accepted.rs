//! What a source may acknowledge (RULES S6): an uplink that was waited for is on the disk, whatever happened on the way.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod spool_stage;

use std::io;
use std::time::Duration;

use packhorse::clock::ManualClock;
use packhorse::spool::{Acceptance, RouteId, Routed, Spool};
use packhorse::uplink::{Kind, Uplink};
use spool_stage::disk::{Disk, Fault, Operation};
use spool_stage::{NEVER, Stage, append, mine, open_on, two, until, uplink};

fn open(disk: &Disk) -> Spool {
    // Nobody but the one who waits makes a commit.
    open_on(disk, NEVER, Duration::ZERO)
}

fn routed(n: u64, routes: &[RouteId]) -> Vec<Routed> {
    vec![Routed { uplink: uplink(n, 40, &ManualClock::new()), routes: routes.to_vec() }]
}

/// After a power cut: the numbers of what is there.
async fn survivors(disk: &Disk) -> Vec<u64> {
    disk.heal();
    disk.power_cycle();
    let spool = open(disk);
    let two = two(&spool).await;
    mine(&two.ledgers[0]).into_iter().map(|(_, n)| n).collect()
}

/// A commit comes although the durability would let it wait, and takes along what came before.
#[tokio::test]
async fn what_was_waited_for_survives_a_power_cut() {
    let disk = Disk::new(1);
    let spool = open(&disk);
    let two = two(&spool).await;
    append(&spool.appender(), &two.routes, [uplink(0, 40, &ManualClock::new())]).await;
    let accepted = spool.appender().append_durable(routed(1, &two.routes), Vec::new()).await.unwrap();
    assert_eq!(accepted.wait().await, Ok(Acceptance::Full));
    assert_eq!(survivors(&disk).await, [0, 1]);
}

/// Waiting with nothing of one's own waits for what is under way.
#[tokio::test]
async fn a_barrier_waits_for_what_came_before_it() {
    let disk = Disk::new(2);
    let spool = open(&disk);
    let two = two(&spool).await;
    append(&spool.appender(), &two.routes, [uplink(0, 40, &ManualClock::new())]).await;
    let barrier = spool.appender().append_durable(Vec::new(), Vec::new()).await.unwrap();
    assert_eq!(barrier.wait().await, Ok(Acceptance::Full));
    let syncs = spool.view().borrow().syncs;
    // Now there is nothing to wait for, and no commit to make.
    let barrier = spool.appender().append_durable(Vec::new(), Vec::new()).await.unwrap();
    assert_eq!(barrier.wait().await, Ok(Acceptance::Full));
    assert_eq!(spool.view().borrow().syncs, syncs);
    assert_eq!(survivors(&disk).await, [0]);
}

/// A commit that fails acknowledges nothing: the answer comes after the one that worked, and nothing goes in twice.
#[tokio::test]
async fn no_failed_commit_is_taken_for_one_that_worked() {
    let mut hit = 0;
    for operation in [Operation::Write, Operation::Sync] {
        for fault in [Fault::Once(io::ErrorKind::Other), Fault::DoneButReported(io::ErrorKind::StorageFull)] {
            for nth in 0..4 {
                let disk = Disk::new(3);
                let spool = open(&disk);
                let two = two(&spool).await;
                let appender = spool.appender();
                let first = appender.append_durable(routed(0, &two.routes), Vec::new()).await.unwrap();
                assert_eq!(first.wait().await, Ok(Acceptance::Full));
                disk.fail(operation, nth, fault);
                let second = appender.append_durable(routed(1, &two.routes), Vec::new()).await.unwrap();
                let third = appender.append_durable(routed(2, &two.routes), Vec::new()).await.unwrap();
                assert_eq!(second.wait().await, Ok(Acceptance::Full));
                assert_eq!(third.wait().await, Ok(Acceptance::Full));
                hit += disk.faults_hit();
                assert_eq!(survivors(&disk).await, [0, 1, 2], "{operation:?} {nth} {fault:?}");
            }
        }
    }
    assert!(hit >= 8, "only {hit} faults came to pass");
}

/// When the disk is gone for good and the agent stops, whoever waits hears that nothing is known.
#[tokio::test]
async fn a_dead_disk_accepts_nothing() {
    let disk = Disk::new(4);
    let spool = open(&disk);
    let two = two(&spool).await;
    disk.fail(Operation::Sync, 0, Fault::Lasting(io::ErrorKind::Other));
    let accepted = spool.appender().append_durable(routed(0, &two.routes), Vec::new()).await.unwrap();
    until(&mut spool.view(), "trouble", |view| view.trouble.is_some()).await;
    tokio::task::spawn_blocking(|| spool.close()).await.unwrap();
    assert!(accepted.wait().await.is_err());
}

/// The tail finds the last ids of a kind, and does not look further back than it is told.
#[tokio::test]
async fn the_tail_knows_the_last_ids() {
    let stage = Stage::new();
    let spool = stage.open();
    let two = two(&spool).await;
    let of_kind = |n: u64, kind: Kind| Uplink { kind, ..stage.uplink(n) };
    let kind_of = |n: u64| if n.is_multiple_of(2) { Kind::App } else { Kind::Lorawan };
    append(&spool.appender(), &two.routes, (0..20).map(|n| of_kind(n, kind_of(n)))).await;
    until(&mut spool.view(), "20 records", |view| view.records == 20).await;
    let ids = |limit, within| -> Vec<u128> {
        let ids = spool.tail().last_ids(Kind::App, limit, within).unwrap();
        ids.iter().map(|id| id.as_u128()).collect()
    };
    assert_eq!(ids(3, 100), [14, 16, 18]);
    assert_eq!(ids(100, 5), [16, 18]);
    assert_eq!(ids(100, 100).len(), 10);
    spool.close();
}
