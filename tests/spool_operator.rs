//! What an operator asks of the spool: dead letters once more, pause, purge. All of it survives a crash in its middle, and
//! every record is counted exactly once (RULES S24).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod spool_stage;

use std::time::Duration;

use packhorse::clock::ManualClock;
use packhorse::spool::{CommandError, Entry, Loss, RouteName, Routed, Settlement, Spool, View};
use packhorse::uplink::Uplink;
use spool_stage::disk::Disk;
use spool_stage::{
    Stage, Two, account, append, barrier, counts, entries, lost, mine, number, open_on, route, seqs, two,
    until, uplink,
};

fn refused(n: u64) -> Settlement {
    Settlement::Refused { reason: format!("http: 422, no {n}"), attempts: 2 }
}

/// A spool with `n` uplinks for both, of which the first account has refused all.
async fn with_letters(spool: &Spool, clock: &ManualClock, n: u64) -> Two {
    let two = two(spool).await;
    append(&spool.appender(), &two.routes, (0..n).map(|n| uplink(n, 24, clock))).await;
    until(&mut spool.view(), "the records", |view| view.records == n).await;
    for (seq, n) in mine(&two.ledgers[0]) {
        two.ledgers[0].settle(seq, seq, refused(n));
    }
    barrier(spool).await;
    two
}

fn letters(spool: &Spool, two: &Two) -> Vec<u64> {
    spool
        .operator()
        .dead_letters(two.accounts[0], 0, usize::MAX)
        .unwrap()
        .iter()
        .map(|letter| number(&letter.uplink))
        .collect()
}

fn unsettled(two: &Two, who: usize) -> Vec<(u64, Uplink)> {
    let settled = two.ledgers[who].settled().unwrap();
    entries(&two.ledgers[who])
        .into_iter()
        .filter(|(seq, _)| !settled.contains(*seq))
        .filter_map(|(seq, entry)| match entry {
            Entry::Mine(mine) => Some((seq, mine.uplink)),
            _ => None,
        })
        .collect()
}

/// S12: dead letters can be looked at page by page, with what is known of them.
#[tokio::test]
async fn dead_letters_can_be_read_in_pages() {
    let stage = Stage::new();
    let spool = stage.open();
    let two = with_letters(&spool, &stage.clock, 5).await;
    two.ledgers[1].settle(0, unsettled(&two, 1)[0].0, refused(9));
    barrier(&spool).await;
    let page = spool.operator().dead_letters(two.accounts[0], 0, 2).unwrap();
    assert_eq!(page.iter().map(|letter| number(&letter.uplink)).collect::<Vec<_>>(), [0, 1]);
    assert_eq!((page[1].reason.as_str(), page[1].attempts), ("http: 422, no 1", 2));
    assert_eq!(page[1].uplink, stage.uplink(1), "as it was heard");
    let rest = spool.operator().dead_letters(two.accounts[0], page[1].seq + 1, 9).unwrap();
    assert_eq!(rest.iter().map(|letter| number(&letter.uplink)).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(
        spool.operator().dead_letters(two.accounts[1], 0, 9).unwrap().len(),
        1,
        "each account its own"
    );
}

/// S12: a replayed letter is an ordinary record for this account alone, under its old id, marked; a second refusal makes it
/// a dead letter again.
#[tokio::test]
async fn a_replayed_letter_is_a_record_again() {
    let stage = Stage::new();
    let spool = stage.open();
    let two_of = with_letters(&spool, &stage.clock, 3).await;
    assert_eq!(spool.operator().replay_dead(two_of.accounts[0]).await, Ok(3));
    let view = spool.view().borrow().clone();
    assert_eq!(counts(&view, two_of.accounts[0]), (3, 0, 0));
    assert_eq!(counts(&view, two_of.accounts[1]), (3, 0, 0), "nothing new for the other one");
    let again = unsettled(&two_of, 0);
    assert_eq!(again.iter().map(|(_, uplink)| number(uplink)).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(again.iter().all(|(_, uplink)| uplink.flags.replayed));
    let mut heard = again[2].1.clone();
    heard.flags.replayed = false;
    assert_eq!(heard, stage.uplink(2));
    two_of.ledgers[0].settle(again[0].0, again[0].0, refused(0));
    two_of.ledgers[0].settle(again[1].0, again[1].0, Settlement::Delivered);
    let view = barrier(&spool).await;
    assert_eq!(counts(&view, two_of.accounts[0]), (1, 1, 1));
    spool.close();

    let spool = stage.open();
    let two = two(&spool).await;
    assert_eq!(letters(&spool, &two), [0]);
    assert_eq!(unsettled(&two, 0).len(), 1);
    assert_eq!(spool.operator().replay_dead(two.accounts[0]).await, Ok(1));
    assert_eq!(spool.operator().replay_dead(two.accounts[0]).await, Ok(0), "none is left");
}

/// S4, S24: however many they are, a replay moves them in rounds of at most a thousand, and counts each once.
#[tokio::test]
async fn many_letters_go_back_in_several_rounds() {
    let stage = Stage::new();
    let spool = stage.open();
    let two = with_letters(&spool, &stage.clock, 2_500).await;
    let syncs = spool.view().borrow().syncs;
    assert_eq!(spool.operator().replay_dead(two.accounts[0]).await, Ok(2_500));
    let view = spool.view().borrow().clone();
    assert_eq!(counts(&view, two.accounts[0]), (2_500, 0, 0));
    assert!(view.syncs >= syncs + 3, "2,500 in {} rounds", view.syncs - syncs);
    let numbers: Vec<u64> = unsettled(&two, 0).iter().map(|(_, uplink)| number(uplink)).collect();
    assert_eq!(numbers, (0..2_500).collect::<Vec<_>>());
}

/// S12: letters go back only where there is room: nothing that waits makes way for them.
#[tokio::test]
async fn a_replay_evicts_nothing() {
    let mut stage = Stage::new();
    stage.settings.max_size = 1 << 20;
    let cap = stage.settings.max_size / 5 * 3;
    let spool = stage.open();
    let two = two(&spool).await;
    let big = |n: u64| uplink(n, 3_000, &*stage.clock);
    append(&spool.appender(), &two.routes[..1], (0..20).map(big)).await;
    until(&mut spool.view(), "20 records", |view| view.records == 20).await;
    for (seq, n) in mine(&two.ledgers[0]) {
        two.ledgers[0].settle(seq, seq, refused(n));
    }
    barrier(&spool).await;
    let fits = cap / 4_096;
    append(&spool.appender(), &two.routes[1..], (20..20 + fits - 5).map(big)).await;
    let view = barrier(&spool).await;
    assert_eq!(lost(&view, two.accounts[1], Loss::Evicted), 0);
    let n = spool.operator().replay_dead(two.accounts[0]).await.unwrap();
    assert!((1..=5).contains(&n), "{n}");
    let view = spool.view().borrow().clone();
    assert_eq!(counts(&view, two.accounts[0]), (n, 0, 20 - n), "the others stay what they are");
    assert_eq!(counts(&view, two.accounts[1]), (fits - 5, 0, 0));
    assert!(view.bytes <= cap);
}

/// S8: a pause is kept across restarts, and whoever looks sees it.
#[tokio::test]
async fn a_pause_is_kept() {
    let stage = Stage::new();
    let spool = stage.open();
    let two_of = two(&spool).await;
    spool.operator().set_paused(two_of.accounts[1], true).await.unwrap();
    let paused = |spool: &Spool| {
        let view = spool.view().borrow().clone();
        two_of.accounts.map(|id| account(&view, id).paused)
    };
    assert_eq!(paused(&spool), [false, true]);
    spool.close();
    let spool = stage.open();
    assert_eq!(paused(&spool), [false, true]);
    append(&spool.appender(), &two_of.routes, [stage.uplink(0)]).await;
    let view = until(&mut spool.view(), "a record", |view| view.records == 1).await;
    assert_eq!(counts(&view, two_of.accounts[1]), (1, 0, 0), "routes accumulate");
    spool.operator().set_paused(two_of.accounts[1], false).await.unwrap();
    assert_eq!(paused(&spool), [false, false]);
}

/// What is asked of an account that does not exist, or of a spool that is closed, is an error.
#[tokio::test]
async fn commands_need_an_account_and_a_spool() {
    let stage = Stage::new();
    let spool = stage.open();
    let two = two(&spool).await;
    spool.operator().purge(two.accounts[1], true).await.unwrap();
    assert_eq!(spool.operator().purge(two.accounts[1], true).await, Err(CommandError::NoAccount));
    assert_eq!(spool.operator().set_paused(two.accounts[1], true).await, Err(CommandError::NoAccount));
    assert_eq!(spool.operator().replay_dead(two.accounts[1]).await, Err(CommandError::NoAccount));
}

/// S24: a purge takes the whole backlog and all dead letters of one account, counted, and nothing of anybody else's. What
/// comes afterwards is not touched.
#[tokio::test]
async fn a_purge_is_exact() {
    let stage = Stage::new();
    let spool = stage.open();
    let two_of = two(&spool).await;
    let [api, broker] = &two_of.ledgers;
    append(&spool.appender(), &two_of.routes[..1], (0..1_500).map(|n| stage.uplink(n))).await;
    append(&spool.appender(), &two_of.routes, (1_500..3_000).map(|n| stage.uplink(n))).await;
    until(&mut spool.view(), "3,000 records", |view| view.records == 3_000).await;
    let seqs = seqs(api);
    // Out of order, so that there are ranges; some are dead letters; the other one is done with some.
    for (n, seq) in seqs.iter().enumerate().skip(10).step_by(60) {
        let settlement = if n % 7 == 0 { refused(1) } else { Settlement::Delivered };
        api.settle(*seq, *seq, settlement);
    }
    for seq in &seqs[1_500..1_600] {
        broker.settle(*seq, *seq, Settlement::Delivered);
    }
    let before = barrier(&spool).await;
    let (backlog, delivered, dead) = counts(&before, two_of.accounts[0]);
    assert!(delivered > 0 && dead > 0);
    let records = before.records;

    assert_eq!(spool.operator().purge(two_of.accounts[0], false).await, Ok(backlog + dead));
    let view = spool.view().borrow().clone();
    assert_eq!(counts(&view, two_of.accounts[0]), (0, delivered, 0));
    assert_eq!(lost(&view, two_of.accounts[0], Loss::Purged), backlog + dead);
    assert_eq!(counts(&view, two_of.accounts[1]), (1_400, 100, 0));
    assert_eq!(view.records, 1_401, "what the other one waits for, and the barrier; before: {records}");
    assert!(!account(&view, two_of.accounts[0]).is_purging);
    assert_eq!(api.settled().unwrap().ranges(), []);
    append(&spool.appender(), &two_of.routes, [stage.uplink(9)]).await;
    let view = until(&mut spool.view(), "one more", |view| view.records == 1_402).await;
    assert_eq!(counts(&view, two_of.accounts[0]), (1, delivered, 0));
    assert_eq!(unsettled(&two_of, 0).len(), 1);
    spool.close();
    let spool = stage.open();
    let two = two(&spool).await;
    assert_eq!(unsettled(&two, 0).len(), 1);
    assert_eq!(unsettled(&two, 1).len(), 1_401);
}

/// S5: a purged integration that is no longer in the config is gone, and its ids are not given out again.
#[tokio::test]
async fn a_removed_integration_vanishes_with_its_purge() {
    let stage = Stage::new();
    let spool = stage.open();
    let two_of = two(&spool).await;
    append(&spool.appender(), &two_of.routes, (0..10).map(|n| stage.uplink(n))).await;
    until(&mut spool.view(), "10 records", |view| view.records == 10).await;
    assert_eq!(spool.operator().purge(two_of.accounts[1], true).await, Ok(10));
    let view = spool.view().borrow().clone();
    assert_eq!(view.accounts.iter().map(|account| account.id).collect::<Vec<_>>(), [two_of.accounts[0]]);
    assert_eq!(view.records, 10, "the other one still waits for all of them");
    spool.close();

    let spool = stage.open();
    let made = spool.routes(vec![route("http", "api"), route("mqtt", "broker")]).await.unwrap();
    assert_eq!(made[0], (two_of.routes[0], two_of.accounts[0]));
    assert!(made[1].0 != two_of.routes[1] && made[1].1 != two_of.accounts[1]);
    let ledger = spool.ledger(made[0].1, vec![made[0].0]);
    for (seq, _) in mine(&ledger) {
        ledger.settle(seq, seq, Settlement::Delivered);
    }
    let view = barrier(&spool).await;
    assert_eq!(view.records, 1, "the barrier alone: the purged one waits for nothing");
}

fn open(disk: &Disk) -> Spool {
    open_on(disk, Duration::ZERO, Duration::ZERO)
}

fn done(view: &View) -> bool {
    view.accounts.iter().all(|account| !account.is_purging)
}

/// S4: power goes in the middle of a purge and of a replay of dead letters. Both go on by themselves, and the counts are
/// exact whenever one looks.
#[tokio::test]
async fn a_power_cut_in_the_middle_loses_and_doubles_nothing() {
    const N: u64 = 3_200;
    let mut cut_short = [0; 2];
    for seed in 0..24 {
        let is_purge = seed % 2 == 0;
        let disk = Disk::new(seed);
        let clock = ManualClock::new();
        let spool = open(&disk);
        let two_of = with_letters(&spool, &clock, N).await;
        append(&spool.appender(), &two_of.routes, (N..N + 1_500).map(|n| uplink(n, 24, &clock))).await;
        until(&mut spool.view(), "all durable", |view| view.durable == N + 1_501).await;
        disk.cut_after(usize::try_from(seed).unwrap() * 8 + 3);
        let asked = async {
            if is_purge {
                spool.operator().purge(two_of.accounts[0], false).await
            } else {
                spool.operator().replay_dead(two_of.accounts[0]).await
            }
        };
        let mut view = spool.view();
        let answered = tokio::select! {
            biased;
            answer = asked => Some(answer),
            _ = until(&mut view, "trouble", |view| view.trouble.is_some()) => None,
        };
        disk.power_cycle();
        spool.close();

        let spool = open(&disk);
        let mut view = spool.view();
        let sum = |view: &View| {
            let (backlog, delivered, dead) = counts(view, two_of.accounts[0]);
            assert_eq!(delivered, 0);
            backlog + dead + lost(view, two_of.accounts[0], Loss::Purged)
        };
        let now = view.borrow_and_update().clone();
        assert_eq!(sum(&now), N + 1_500, "seed {seed}");
        let dead = account(&now, two_of.accounts[0]).dead_letters;
        let is_halfway = !done(&now) || (0 < dead && dead < N);
        cut_short[usize::from(is_purge)] += usize::from(is_halfway);
        let after = if is_halfway {
            // It was durable that it was asked for: nobody has to ask again.
            until(&mut view, "the end", |view| {
                done(view) && account(view, two_of.accounts[0]).dead_letters == 0
            })
            .await
        } else {
            now
        };
        assert!(answered.is_none() || account(&after, two_of.accounts[0]).dead_letters == 0, "seed {seed}");
        assert_eq!(sum(&after), N + 1_500, "seed {seed}");
        let two = two(&spool).await;
        let backlog = counts(&after, two.accounts[0]).0;
        assert_eq!(unsettled(&two, 0).len() as u64, backlog, "seed {seed}");
        assert_eq!(unsettled(&two, 1).len() as u64, N + 1_500, "seed {seed}");
        let mut numbers: Vec<u64> = unsettled(&two, 0).iter().map(|(_, uplink)| number(uplink)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len() as u64, backlog, "seed {seed}: none twice");
    }
    assert!(cut_short.iter().all(|n| *n >= 2), "cut short: {cut_short:?}");
}

/// A flow of its own keeps its route through refusal and replay.
#[tokio::test]
async fn a_letter_goes_back_by_the_routes_it_had() {
    let stage = Stage::new();
    let spool = stage.open();
    let name = |flow: &str| RouteName { flow: flow.into(), ..route("http", "api") };
    let made = spool.routes(vec![name("one"), name("two"), route("mqtt", "broker")]).await.unwrap();
    let ledger = spool.ledger(made[0].1, vec![made[0].0, made[1].0]);
    let broker = spool.ledger(made[2].1, vec![made[2].0]);
    append(&spool.appender(), &[made[1].0, made[2].0], [stage.uplink(1)]).await;
    until(&mut spool.view(), "a record", |view| view.records == 1).await;
    let seq = seqs(&ledger)[0];
    ledger.settle(seq, seq, refused(1));
    barrier(&spool).await;
    assert_eq!(spool.operator().replay_dead(made[0].1).await, Ok(1));
    let Some((_, Entry::Mine(Routed { routes, .. }))) = entries(&ledger).pop() else { panic!() };
    assert_eq!(routes, [made[1].0]);
    assert_eq!(entries(&broker).pop().unwrap().1, Entry::Other);
}
