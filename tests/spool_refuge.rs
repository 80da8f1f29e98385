//! RULES S3: while the file can't be used, the same store in memory takes its place, and hands everything over afterwards.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod spool_stage;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use packhorse::clock::ManualClock;
use packhorse::config::OnFull;
use packhorse::spool::{
    Acceptance, Backend, CommandError, Loss, Note, Routed, Settings, Settlement, Spool, View,
};
use spool_stage::disk::{Disk, Fault, Operation};
use spool_stage::{
    NEVER, Two, account, append, barrier, counts, lost, mine, open_on, put, route, seqs, two, until, uplink,
};

const REFUSED: &str = "http: 422";

fn settings() -> Settings {
    Settings {
        path: "in-memory".into(),
        max_size: 64 << 20,
        max_age: NEVER,
        commit_window: Duration::ZERO,
        keep_delivered: Duration::ZERO,
        on_full: OnFull::DropOldest,
    }
}

fn open_or_go_without(disk: &Disk) -> Spool {
    let backend = Backend::Custom(Arc::new(disk.clone()));
    Spool::open_or_go_without(settings(), &backend, Arc::new(ManualClock::new())).unwrap()
}

fn refused() -> Settlement {
    Settlement::Refused { reason: REFUSED.into(), attempts: 1 }
}

/// Everything so far is on the disk.
async fn open_again(spool: Spool, disk: &Disk) -> (Spool, Two) {
    spool.close();
    let spool = open_on(disk, Duration::ZERO, Duration::ZERO);
    let two = two(&spool).await;
    (spool, two)
}

/// Takes the disk away under an open spool and waits until the store in memory has taken over.
async fn lose(spool: &Spool, disk: &Disk, two: &Two, n: u64) -> Arc<View> {
    disk.fail(Operation::Write, 0, Fault::Lasting(io::ErrorKind::ReadOnlyFilesystem));
    append(&spool.appender(), &two.routes, [uplink(n, 24, &ManualClock::new())]).await;
    until(&mut spool.view(), "the refuge", |view| view.generation == 1 && view.end > n).await
}

async fn regain(spool: &Spool, disk: &Disk) -> Arc<View> {
    disk.heal();
    until(&mut spool.view(), "the file", |view| view.trouble.is_none()).await
}

fn numbers(ledger: &packhorse::spool::Ledger) -> Vec<u64> {
    mine(ledger).into_iter().map(|(_, number)| number).collect()
}

/// Everything goes on in memory: delivery, refusals, the bound on space, an operator's pause; and all of it is in the file
/// afterwards, exactly counted, while the view never forgets what lies there.
#[tokio::test]
async fn a_lost_disk_costs_neither_uplinks_nor_counts() {
    let disk = Disk::new(1);
    let spool = open_on(&disk, Duration::ZERO, Duration::ZERO);
    let before = two(&spool).await;
    let clock = ManualClock::new();
    put(&spool, &before.routes, (0..10).map(|n| uplink(n, 24, &clock))).await;
    let in_file = seqs(&before.ledgers[0]);
    before.ledgers[0].settle(in_file[0], in_file[0], Settlement::Delivered);
    let (spool, two) = open_again(spool, &disk).await;
    let [api, broker] = two.accounts;

    let view = lose(&spool, &disk, &two, 10).await;
    assert!(view.trouble.as_ref().unwrap().contains("the disk is gone"), "{:?}", view.trouble);
    assert_eq!((view.out_of_reach, view.at_risk), (10, 1));
    assert_eq!((counts(&view, api), counts(&view, broker)), ((10, 1, 0), (11, 0, 0)));

    put(&spool, &two.routes, (11..16).map(|n| uplink(n, 24, &clock))).await;
    assert_eq!(numbers(&two.ledgers[0]), [10, 11, 12, 13, 14, 15], "what is in the file can't be read");
    let here = seqs(&two.ledgers[0]);
    // 10 and 11 are with everybody, 12 waits for the broker, 13 was refused by it.
    for ledger in &two.ledgers {
        ledger.settle(here[0], here[0], Settlement::Delivered);
        ledger.settle(here[1], here[1], Settlement::Delivered);
    }
    two.ledgers[0].settle(here[2], here[2], Settlement::Delivered);
    two.ledgers[1].settle(here[3], here[3], refused());
    // It was under way when the disk went.
    two.ledgers[0].settle(in_file[1], in_file[1], Settlement::Delivered);
    let order = spool.operator();
    order.set_paused(broker, true).await.unwrap();
    let purge = order.purge(api, false).await;
    assert!(matches!(purge, Err(CommandError::OutOfReach(_))), "{purge:?}");
    let note = Note { key: "door".into(), value: vec![7] };
    spool.appender().append(Vec::new(), vec![note]).await.unwrap();
    let view = until(&mut spool.view(), "the settlements", |view| counts(view, broker) == (13, 2, 1)).await;
    assert_eq!(counts(&view, api), (12, 4, 0));

    let view = regain(&spool, &disk).await;
    assert_eq!((view.generation, view.numbering, view.out_of_reach, view.at_risk), (2, 0, 0, 0));
    assert_eq!((counts(&view, api), counts(&view, broker)), ((11, 5, 0), (13, 2, 1)));
    assert!(account(&view, broker).paused && !account(&view, api).paused);
    spool.close();

    let spool = open_on(&disk, Duration::ZERO, Duration::ZERO);
    let view = spool.view().borrow().clone();
    assert_eq!((counts(&view, api), counts(&view, broker)), ((11, 5, 0), (13, 2, 1)));
    let again = spool_stage::two(&spool).await;
    let waits = |which: usize| {
        let settled = again.ledgers[which].settled().unwrap();
        let waiting = mine(&again.ledgers[which]).into_iter().filter(|(seq, _)| !settled.contains(*seq));
        waiting.map(|(_, number)| number).collect::<Vec<_>>()
    };
    assert_eq!(waits(0), [2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15]);
    assert_eq!(waits(1), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15]);
    let letters = spool.operator().dead_letters(broker, 0, 9).unwrap();
    assert_eq!(letters.iter().map(|letter| spool_stage::number(&letter.uplink)).collect::<Vec<_>>(), [13]);
    assert_eq!(letters[0].reason, REFUSED);
    assert!(spool.notes().iter().any(|note| note.key == "door" && note.value == [7]));
    assert_eq!(spool.operator().replay_dead(broker).await, Ok(1));
}

/// The store in memory is small: what makes room is counted and listed, there and in the file.
#[tokio::test]
async fn what_the_refuge_cannot_hold_is_counted() {
    let disk = Disk::new(2);
    let spool = open_on(&disk, Duration::ZERO, Duration::ZERO);
    let two = two(&spool).await;
    lose(&spool, &disk, &two, 0).await;
    let clock = ManualClock::new();
    for batch in 0..20 {
        put(&spool, &two.routes, (0..500).map(|n| uplink(1 + batch * 500 + n, 200, &clock))).await;
    }
    let view = barrier(&spool).await;
    assert!(view.bytes <= 1 << 20, "{}", view.bytes);
    let [api, broker] = two.accounts;
    let (waits, evicted) = (counts(&view, api).0, lost(&view, api, Loss::Evicted));
    assert!(evicted > 1_000 && waits > 1_000, "{waits} wait, {evicted} evicted");
    assert_eq!(waits + evicted, 10_001);
    assert_eq!(view.at_risk, waits);
    let view = regain(&spool, &disk).await;
    for id in [api, broker] {
        assert_eq!((counts(&view, id).0, lost(&view, id, Loss::Evicted)), (waits, evicted));
    }
    let ranges = spool.operator().losses().unwrap();
    assert_eq!(ranges.iter().map(|range| range.n).collect::<Vec<_>>(), [evicted, evicted]);
    let kept: Vec<u64> = (10_001 - waits..10_001).collect();
    assert_eq!(numbers(&two.ledgers[0]), kept, "in the order heard");
}

/// RULES S6: memory is not safe. Who waits is answered when everybody has it, or when it is in the file.
#[tokio::test]
async fn nothing_in_memory_is_acknowledged() {
    let disk = Disk::new(3);
    let spool = open_on(&disk, Duration::ZERO, Duration::ZERO);
    let two = two(&spool).await;
    lose(&spool, &disk, &two, 0).await;
    let routed = |n: u64| Routed { uplink: uplink(n, 24, &ManualClock::new()), routes: two.routes.clone() };
    let appender = spool.appender();
    let mut delivered = Box::pin(appender.append_durable(vec![routed(1)], Vec::new()).await.unwrap().wait());
    let mut waiting = Box::pin(appender.append_durable(vec![routed(2)], Vec::new()).await.unwrap().wait());
    barrier(&spool).await;
    let is_open = |answer: std::task::Poll<_>| answer.is_pending();
    assert!(is_open(futures_poll(&mut delivered)) && is_open(futures_poll(&mut waiting)));
    let seq = seqs(&two.ledgers[0])[1];
    for ledger in &two.ledgers {
        ledger.settle(seq, seq, Settlement::Delivered);
    }
    assert_eq!(delivered.await.unwrap(), Acceptance::Full);
    assert!(is_open(futures_poll(&mut waiting)));
    disk.heal();
    assert_eq!(waiting.await.unwrap(), Acceptance::Full);
    until(&mut spool.view(), "the file", |view| view.trouble.is_none() && view.at_risk == 0).await;
}

fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

async fn comes_back(operation: Operation, nth: usize) {
    let disk = Disk::new(4);
    let spool = open_on(&disk, Duration::ZERO, Duration::ZERO);
    let before = two(&spool).await;
    put(&spool, &before.routes, (0..3).map(|n| uplink(n, 24, &ManualClock::new()))).await;
    let (spool, two) = open_again(spool, &disk).await;
    let [api, broker] = two.accounts;
    lose(&spool, &disk, &two, 3).await;
    put(&spool, &two.routes, (4..6).map(|n| uplink(n, 24, &ManualClock::new()))).await;
    let here = seqs(&two.ledgers[0]);
    two.ledgers[0].settle(here[0], here[0], refused());
    two.ledgers[1].settle(here[1], here[1], Settlement::Delivered);
    let done = |view: &View| counts(view, api).2 == 1 && counts(view, broker).1 == 1;
    until(&mut spool.view(), "the settlements", done).await;
    disk.heal();
    disk.fail(operation, nth, Fault::Once(io::ErrorKind::Other));
    let view = until(&mut spool.view(), "the file", |view| view.trouble.is_none()).await;
    assert_eq!((counts(&view, api), counts(&view, broker)), ((5, 0, 1), (5, 1, 0)), "{operation:?} {nth}");
    assert_eq!(view.at_risk, 0);
    assert_eq!(numbers(&two.ledgers[0]), [0, 1, 2, 4, 5], "{operation:?} {nth}");
    assert_eq!(numbers(&two.ledgers[1]), [0, 1, 2, 3, 5], "{operation:?} {nth}");
}

/// A way back that fails takes nothing along twice and loses nothing, wherever it fails.
#[tokio::test]
async fn a_way_back_that_fails_changes_nothing() {
    let writes = (0..12).map(|nth| (Operation::Write, nth));
    let syncs = (0..3).map(|nth| (Operation::Sync, nth));
    let local = tokio::task::LocalSet::new();
    let runs = writes.chain(syncs).map(|(operation, nth)| local.spawn_local(comes_back(operation, nth)));
    let runs: Vec<_> = runs.collect();
    local.await;
    for run in runs {
        run.await.unwrap();
    }
}

/// A spool whose file can't be opened at the start works without it. What it made gets the file's numbers when there is one, and what
/// waits there goes on.
#[tokio::test]
async fn a_start_without_a_file_is_a_start() {
    let disk = Disk::new(5);
    let clock = ManualClock::new();
    let before = open_on(&disk, Duration::ZERO, Duration::ZERO);
    let other = before.routes(vec![route("mqtt", "broker"), route("http", "other")]).await.unwrap();
    put(&before, &[other[0].0, other[1].0], (0..3).map(|n| uplink(n, 24, &clock))).await;
    before.close();

    disk.break_now();
    let spool = open_or_go_without(&disk);
    assert!(spool.view().borrow().trouble.as_ref().unwrap().contains("the disk is gone"));
    let made = two(&spool).await;
    put(&spool, &made.routes, (3..6).map(|n| uplink(n, 24, &clock))).await;
    let here = seqs(&made.ledgers[1]);
    made.ledgers[1].settle(here[0], here[0], Settlement::Delivered);
    made.ledgers[1].settle(here[1], here[1], refused());
    until(&mut spool.view(), "both", |view| counts(view, made.accounts[1]) == (1, 1, 1)).await;

    let view = regain(&spool, &disk).await;
    assert_eq!((view.numbering, view.appended, view.at_risk), (1, 6, 0));
    // Rooms that do not know the new numbers yet.
    put(&spool, &made.routes, [uplink(6, 24, &clock)]).await;
    let two = two(&spool).await;
    assert_eq!(two.routes[1], other[0].0, "the file's own");
    assert_ne!(two.routes, made.routes);
    let view = barrier(&spool).await;
    assert_eq!((counts(&view, two.accounts[0]), counts(&view, two.accounts[1])), ((4, 0, 0), (5, 1, 1)));
    assert_eq!(counts(&view, other[1].1), (3, 0, 0));
    assert_eq!(view.accounts.len(), 3);
    assert_eq!(numbers(&two.ledgers[0]), [3, 4, 5, 6]);
    let settled = two.ledgers[1].settled().unwrap();
    let waiting = mine(&two.ledgers[1]).into_iter().filter(|(seq, _)| !settled.contains(*seq));
    assert_eq!(waiting.map(|(_, number)| number).collect::<Vec<_>>(), [0, 1, 2, 5, 6]);
    assert_eq!(spool.operator().replay_dead(two.accounts[1]).await, Ok(1));
}
