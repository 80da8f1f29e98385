//! Kept records, and sending them once more (RULES S13): after the backlog, under the same ids, each once, whatever happens
//! in between.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod spool_stage;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use packhorse::clock::{Clock, ManualClock};
use packhorse::config::OnFull;
use packhorse::spool::{Entry, Ledger, Settlement, Spool, View};
use spool_stage::disk::Disk;
use spool_stage::{
    Stage, Two, account, append, barrier, counts, entries, number, open_on, put, two, until, uplink,
};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn keeping() -> Stage {
    let mut stage = Stage::new();
    stage.settings.keep_delivered = DAY;
    stage
}

/// What waits for a ledger: sequence, number, and whether it is marked as replayed.
fn waiting(ledger: &Ledger) -> Vec<(u64, u64, bool)> {
    let settled = ledger.settled().unwrap();
    entries(ledger)
        .into_iter()
        .filter(|(seq, _)| !settled.contains(*seq))
        .filter_map(|(seq, entry)| match entry {
            Entry::Mine(mine) => Some((seq, number(&mine.uplink), mine.uplink.flags.replayed)),
            _ => None,
        })
        .collect()
}

/// Delivers everything until no replay is under way and nothing waits; how often each number came.
async fn drain(spool: &Spool, two: &Two, who: usize) -> BTreeMap<u64, u32> {
    let mut came = BTreeMap::new();
    let mut view = spool.view();
    loop {
        let ledger = &two.ledgers[who];
        let batch = waiting(ledger);
        for (seq, n, _) in &batch {
            *came.entry(*n).or_default() += 1;
            ledger.settle(*seq, *seq, Settlement::Delivered);
        }
        let is_idle = |view: &View| {
            let account = account(view, two.accounts[who]);
            account.backlog == 0 && account.replay.is_none()
        };
        let last = batch.last().map(|(seq, ..)| *seq);
        let settled = |ledger: &Ledger| last.is_none_or(|seq| ledger.settled().unwrap().contains(seq));
        let more = |view: &View| is_idle(view) || account(view, two.accounts[who]).backlog > 0;
        let seen = until(&mut view, "progress", |view| settled(ledger) && more(view)).await;
        if is_idle(&seen) {
            return came;
        }
    }
}

async fn heard(spool: &Spool, two: &Two, clock: &ManualClock, numbers: std::ops::Range<u64>) {
    put(spool, &two.routes, numbers.map(|n| uplink(n, 24, clock))).await;
}

/// Everything heard within the time is sent once more, marked, to the one that asked for it alone; what is older is not.
#[tokio::test]
async fn what_was_heard_lately_is_sent_once_more() {
    let stage = keeping();
    let spool = stage.open();
    let two = two(&spool).await;
    heard(&spool, &two, &stage.clock, 0..100).await;
    stage.clock.advance(3 * HOUR);
    heard(&spool, &two, &stage.clock, 100..400).await;
    drain(&spool, &two, 0).await;
    drain(&spool, &two, 1).await;
    let view = spool.view().borrow().clone();
    assert_eq!((view.kept, account(&view, two.accounts[0]).backlog), (400, 0));

    let report = spool.operator().replay_since(two.accounts[0], 2 * HOUR, false).await.unwrap();
    assert_eq!((report.n, report.gone_before), (300, None));
    let view = spool.view().borrow().clone();
    let replay = account(&view, two.accounts[0]).replay.unwrap();
    assert_eq!((replay.left, replay.missed), (300 - 32, 0), "a few at a time");
    assert!(waiting(&two.ledgers[0]).iter().all(|(_, _, replayed)| *replayed));
    assert_eq!(waiting(&two.ledgers[1]), []);
    let came = drain(&spool, &two, 0).await;
    assert_eq!(came.keys().copied().collect::<Vec<_>>(), (100..400).collect::<Vec<_>>());
    assert!(came.values().all(|times| *times == 1));
    let view = barrier(&spool).await;
    let account = account(&view, two.accounts[0]);
    assert_eq!((account.delivered, account.replayed), (700, 300));
    assert_eq!((view.kept, view.records - view.kept), (400, 1), "the copies are gone; the barrier is not");

    // Again, and further back: a copy is never what is copied.
    let report = spool.operator().replay_since(two.accounts[0], 4 * HOUR, false).await.unwrap();
    assert_eq!(report.n, 400);
    assert!(drain(&spool, &two, 0).await.values().all(|times| *times == 1));
}

/// S13: a replay comes after the backlog, and what is in the backlog is not sent twice for it.
#[tokio::test]
async fn a_replay_comes_after_the_backlog() {
    let stage = keeping();
    let spool = stage.open();
    let two = two(&spool).await;
    heard(&spool, &two, &stage.clock, 0..200).await;
    drain(&spool, &two, 0).await;
    heard(&spool, &two, &stage.clock, 200..400).await;
    let report = spool.operator().replay_since(two.accounts[0], HOUR, false).await.unwrap();
    assert_eq!(report.n, 200);
    let first: Vec<bool> = waiting(&two.ledgers[0]).iter().map(|(_, _, replayed)| *replayed).collect();
    assert_eq!(first, vec![false; 200], "nothing before there is little left");
    let came = drain(&spool, &two, 0).await;
    assert_eq!(came.len(), 400);
    assert!(came.values().all(|times| *times == 1), "{came:?}");
    assert_eq!(waiting(&two.ledgers[1]).len(), 400, "the other one's backlog is untouched");
}

/// S13: `--all` adds what was never routed there.
#[tokio::test]
async fn all_adds_what_was_never_routed_there() {
    let stage = keeping();
    let spool = stage.open();
    let two = two(&spool).await;
    put(&spool, &two.routes[1..], (0..50).map(|n| stage.uplink(n))).await;
    put(&spool, &two.routes[..1], (50..60).map(|n| stage.uplink(n))).await;
    drain(&spool, &two, 0).await;
    assert_eq!(spool.operator().replay_since(two.accounts[0], HOUR, false).await.unwrap().n, 10);
    drain(&spool, &two, 0).await;
    let report = spool.operator().replay_since(two.accounts[0], HOUR, true).await.unwrap();
    let came = drain(&spool, &two, 0).await;
    assert_eq!(came.into_keys().collect::<Vec<_>>(), (0..60).collect::<Vec<_>>());
    assert_eq!(report.n, 60);
    assert_eq!(waiting(&two.ledgers[1]).len(), 50);
}

/// Without `keep_delivered`, and where records were freed, the report says how much of the time asked for is gone.
#[tokio::test]
async fn the_report_says_what_is_gone() {
    let stage = Stage::new();
    let spool = stage.open();
    let two = two(&spool).await;
    heard(&spool, &two, &stage.clock, 0..10).await;
    drain(&spool, &two, 0).await;
    assert_eq!(
        spool.operator().replay_since(two.accounts[0], HOUR, false).await.unwrap().n,
        10,
        "the other one has them"
    );
    drain(&spool, &two, 0).await;
    drain(&spool, &two, 1).await;
    let heard_us = stage.clock.wall_us();
    stage.clock.advance(HOUR / 2);
    let report = spool.operator().replay_since(two.accounts[0], HOUR, false).await.unwrap();
    assert_eq!((report.n, report.gone_before), (0, Some(heard_us)));
    stage.clock.advance(HOUR);
    let report = spool.operator().replay_since(two.accounts[0], HOUR, false).await.unwrap();
    assert_eq!((report.n, report.gone_before), (0, None), "what is gone is older than that");
}

/// S13: a replay pins nothing. In a full spool it frees what it has passed, loses nothing that waits, and counts what went
/// before its turn.
#[tokio::test]
async fn a_replay_in_a_full_spool() {
    let mut stage = keeping();
    stage.settings.max_size = 1 << 20;
    let cap = stage.settings.max_size / 5 * 3;
    let spool = stage.open();
    let two = two(&spool).await;
    let big = |n: u64| uplink(n, 3_000, &*stage.clock);
    let fits = cap / 4_096;
    put(&spool, &two.routes[..1], (0..fits - 10).map(big)).await;
    drain(&spool, &two, 0).await;
    let view = put(&spool, &two.routes[1..], (1_000..1_010).map(big)).await;
    assert_eq!((view.kept, view.bytes <= cap), (fits - 10, true));

    let report = spool.operator().replay_since(two.accounts[0], HOUR, false).await.unwrap();
    assert_eq!(report.n, fits - 10);
    assert!(spool.view().borrow().bytes <= cap);
    // New uplinks push out kept records before their turn.
    put(&spool, &two.routes[1..], (1_010..1_020).map(big)).await;
    let missed = account(&spool.view().borrow(), two.accounts[0]).replay.map_or(0, |replay| replay.missed);
    let came = drain(&spool, &two, 0).await;
    assert!(came.values().all(|times| *times == 1));
    let view = barrier(&spool).await;
    assert_eq!(came.len() as u64 + missed, fits - 10, "sent or missed");
    assert_eq!(counts(&view, two.accounts[1]).0, 20, "what waits stays");
    assert!(view.accounts.iter().all(|account| account.lost.is_empty()));
    assert!(view.bytes <= cap);
}

fn open(disk: &Disk) -> Spool {
    open_on(disk, Duration::ZERO, DAY)
}

/// Delivers what waits for the first until there is nothing left or the power is gone.
async fn deliver_until_trouble(spool: &Spool, two: &Two) {
    let mut view = spool.view();
    loop {
        let (ledger, mut batch) = (&two.ledgers[0], Vec::new());
        let Ok(settled) = ledger.settled() else { return };
        let visit = |seq, entry| {
            if matches!(entry, Entry::Mine(_)) && !settled.contains(seq) {
                batch.push(seq);
            }
            ControlFlow::Continue(())
        };
        if ledger.scan(0, usize::MAX, visit).is_err() {
            return;
        }
        let delivered = account(&view.borrow(), two.accounts[0]).delivered + batch.len() as u64;
        batch.iter().for_each(|seq| ledger.settle(*seq, *seq, Settlement::Delivered));
        let seen = until(&mut view, "progress or trouble", |view| {
            view.trouble.is_some() || account(view, two.accounts[0]).delivered >= delivered
        })
        .await;
        let account = account(&seen, two.accounts[0]);
        if seen.trouble.is_some() || (account.replay.is_none() && account.backlog == 0) {
            return;
        }
    }
}

/// Power goes in the middle of a replay: it goes on by itself, and what was delivered and is durable is not sent again.
#[tokio::test]
async fn a_power_cut_in_the_middle_of_a_replay() {
    const N: u64 = 1_000;
    let mut cut_short = 0;
    for seed in 0..16 {
        let disk = Disk::new(seed);
        let clock = ManualClock::new();
        let spool = open(&disk);
        let two_of = two(&spool).await;
        heard(&spool, &two_of, &clock, 0..N).await;
        drain(&spool, &two_of, 0).await;
        drain(&spool, &two_of, 1).await;
        spool.close();
        let spool = open(&disk);
        let two_of = two(&spool).await;
        assert_eq!(spool.operator().replay_since(two_of.accounts[0], HOUR, false).await.unwrap().n, N);
        disk.cut_after(usize::try_from(seed).unwrap() * 9);
        deliver_until_trouble(&spool, &two_of).await;
        disk.power_cycle();
        spool.close();

        let spool = open(&disk);
        let two = two(&spool).await;
        let now = account(&spool.view().borrow(), two.accounts[0]);
        let left = now.replay.map_or(0, |replay| replay.left);
        cut_short += usize::from(0 < left && left < N);
        assert_eq!(now.delivered + now.backlog, N + now.replayed, "seed {seed}: S24");
        assert_eq!(now.replayed + left, N, "seed {seed}");
        let came = drain(&spool, &two, 0).await;
        assert!(came.values().all(|times| *times == 1), "seed {seed}");
        assert_eq!(came.len() as u64, now.backlog + left, "seed {seed}");
        let end = account(&spool.view().borrow(), two.accounts[0]);
        assert_eq!((end.delivered, end.replayed), (2 * N, N), "seed {seed}");
    }
    assert!(cut_short >= 3, "{cut_short} of 16");
}

/// S24: whatever is asked for in whatever order, in a spool that is too small, the counts agree with what is there.
#[tokio::test]
async fn anything_in_any_order() {
    for seed in 0..8 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut stage = keeping();
        stage.settings.max_size = 512 << 10;
        stage.settings.on_full = [OnFull::DropOldest, OnFull::RefuseNew][random.usize(..2)];
        let cap = stage.settings.max_size / 5 * 3;
        let mut spool = stage.open();
        let mut two_of = two(&spool).await;
        let (mut routed, mut next) = ([0u64; 2], 0);
        for step in 0..90 {
            let who = random.usize(..2);
            let id = two_of.accounts[who];
            match random.u8(..16) {
                0..5 => {
                    let to =
                        [&two_of.routes[..1], &two_of.routes[1..], &two_of.routes[..]][random.usize(..3)];
                    let n = random.u64(1..120);
                    let uplinks = (next..next + n).map(|n| {
                        let mut uplink = uplink(n, usize::try_from(n * 37 % 400).unwrap(), &*stage.clock);
                        uplink.f_cnt = uplink.f_cnt.filter(|n| n % 5 > 0);
                        uplink
                    });
                    append(&spool.appender(), to, uplinks.collect::<Vec<_>>()).await;
                    next += n;
                    for (count, route) in routed.iter_mut().zip(&two_of.routes) {
                        *count += if to.contains(route) { n } else { 0 };
                    }
                }
                5..12 => {
                    // As a lane does: few gaps.
                    for (seq, ..) in waiting(&two_of.ledgers[who]).into_iter().take(random.usize(..200)) {
                        let refused = Settlement::Refused { reason: "no".into(), attempts: 1 };
                        let how = if random.u8(..4) == 0 { refused } else { Settlement::Delivered };
                        two_of.ledgers[who].settle(seq, seq, how);
                    }
                }
                12 => {
                    _ = spool
                        .operator()
                        .replay_since(id, [HOUR, DAY][random.usize(..2)], random.bool())
                        .await
                        .unwrap()
                }
                13 => _ = spool.operator().replay_dead(id).await.unwrap(),
                14 if random.u8(..3) == 0 => _ = spool.operator().purge(id, false).await.unwrap(),
                14 => spool.operator().set_present(vec![two_of.accounts[random.usize(..2)]]).await.unwrap(),
                _ if random.u8(..4) == 0 => {
                    spool.close();
                    spool = stage.open();
                    two_of = two(&spool).await;
                }
                _ => stage.clock.advance(HOUR / 4),
            }
            let view = check(&spool, &two_of, &routed, &format!("seed {seed}, step {step}")).await;
            assert!(view.bytes <= cap, "seed {seed}, step {step}: {} of {cap}", view.bytes);
        }
        let listed: u64 = spool.operator().losses().unwrap().iter().map(|range| range.n).sum();
        let view = spool.view().borrow().clone();
        let counted: u64 = view.accounts.iter().flat_map(|account| &account.lost).map(|(_, n)| n).sum();
        assert_eq!(listed, counted, "seed {seed}: everything that is lost is listed");
    }
}

/// Compares the counts with what is there. A job may still be at work, and the view a round behind what is read.
async fn check(spool: &Spool, two: &Two, routed: &[u64; 2], place: &str) -> Arc<View> {
    let mut wrong = String::new();
    for _ in 0..20 {
        let view = barrier(spool).await;
        wrong = compare(&view, two, routed);
        if wrong.is_empty() {
            return view;
        }
    }
    panic!("{place}: {wrong}");
}

fn compare(view: &View, two: &Two, routed: &[u64; 2]) -> String {
    let mut wrong = String::new();
    let rows = entries(&two.ledgers[0]).len() as u64;
    if view.records != rows || view.kept > rows || view.kept_bytes > view.bytes {
        wrong += &format!("{rows} rows in {view:?}");
    }
    for (who, routed) in routed.iter().enumerate() {
        let account = account(view, two.accounts[who]);
        let lost: u64 = account.lost.iter().map(|(_, n)| n).sum();
        let ended = account.delivered + account.dead_letters + lost;
        let waiting = waiting(&two.ledgers[who]).len() as u64;
        if account.backlog != waiting || account.backlog + ended != routed + account.replayed {
            wrong += &format!("{waiting} wait, {routed} were routed: {account:?}");
        }
    }
    wrong
}
