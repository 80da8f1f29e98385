//! A spool that takes all it may (RULES S11): who makes room for whom, what is refused, and that all of it is counted and
//! listed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod spool_stage;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use packhorse::config::OnFull;
use packhorse::spool::{Acceptance, Entry, Loss, RouteId, Routed, Settlement, Spool, View};
use packhorse::uplink::Uplink;
use spool_stage::{
    Stage, account, append, barrier, counts, lost, mine, put, route, seqs, two, until, uplink,
};

/// What a record of [`big`] takes.
const PAGE: u64 = 4_096;

fn stage() -> (Stage, u64) {
    let mut stage = Stage::new();
    stage.settings.max_size = 1 << 20;
    let cap = stage.settings.max_size / 5 * 3;
    (stage, cap)
}

fn big(stage: &Stage, n: u64) -> Uplink {
    uplink(n, 3_000, &*stage.clock)
}

/// As [`big`], of a device that nobody knows.
fn unknown(stage: &Stage, n: u64) -> Uplink {
    Uplink { f_cnt: None, ..big(stage, n) }
}

async fn one_more(spool: &Spool, routes: &[RouteId], uplink: Uplink) -> Arc<View> {
    let before = spool.view().borrow().clone();
    let lost = |view: &View| view.accounts.iter().flat_map(|it| &it.lost).map(|(_, n)| n).sum::<u64>();
    append(&spool.appender(), routes, [uplink]).await;
    let taken_or_refused = |view: &View| view.end > before.end || lost(view) > lost(&before);
    until(&mut spool.view(), "one more", taken_or_refused).await
}

/// S11: kept records go first, then the backlog of a removed integration, then unknown devices, then the oldest.
#[tokio::test]
async fn room_is_made_in_order() {
    let (mut stage, cap) = stage();
    stage.settings.keep_delivered = Duration::from_secs(86_400);
    let spool = stage.open();
    let two = two(&spool).await;
    let [api, broker] = two.accounts;
    // The oldest of all are known and wait, so that "oldest first" alone would take them.
    put(&spool, &two.routes[..1], (0..20).map(|n| big(&stage, n))).await;
    put(&spool, &two.routes, (20..40).map(|n| big(&stage, n))).await;
    put(&spool, &two.routes[1..], (40..60).map(|n| big(&stage, n))).await;
    put(&spool, &two.routes[..1], (60..80).map(|n| unknown(&stage, n))).await;
    put(&spool, &two.routes[..1], (80..100).map(|n| big(&stage, n))).await;
    barrier(&spool).await;
    for (seq, _) in mine(&two.ledgers[0]).into_iter().filter(|(_, n)| *n >= 80) {
        two.ledgers[0].settle(seq, seq, Settlement::Delivered);
    }
    let view = barrier(&spool).await;
    assert_eq!((view.kept, view.kept_bytes), (20, 20 * PAGE));
    assert_eq!(counts(&view, api), (60, 20, 0), "kept is nobody's backlog");
    spool.operator().set_present(vec![api]).await.unwrap();

    let waits =
        |numbers: &[u64], range: std::ops::Range<u64>| numbers.iter().filter(|n| range.contains(n)).count();
    let mut seen = [false; 4];
    for n in 100..300 {
        let view = one_more(&spool, &two.routes[..1], big(&stage, n)).await;
        assert!(view.bytes <= cap);
        let settled = two.ledgers[0].settled().unwrap();
        let numbers: Vec<u64> = mine(&two.ledgers[0])
            .into_iter()
            .filter(|(seq, _)| !settled.contains(*seq))
            .map(|(_, n)| n)
            .collect();
        let (kept, theirs) = (view.kept, account(&view, broker).backlog);
        let (strangers, old) = (waits(&numbers, 60..80), waits(&numbers, 0..60));
        match (kept, theirs, strangers, old) {
            (20, 40, 20, 40) => {}
            (0..20, 40, 20, 40) => seen[0] = true,
            (0, 0..40, 20, 40) => seen[1] = true,
            (0, 0, 0..20, 40) => seen[2] = true,
            (0, 0, 0, 0..40) => seen[3] = true,
            other => panic!("out of order: {other:?}"),
        }
    }
    assert_eq!(seen, [true; 4]);
    let view = spool.view().borrow().clone();
    assert_eq!(lost(&view, broker, Loss::Evicted), 40);
    let (backlog, delivered, _) = counts(&view, api);
    assert_eq!(backlog + delivered + lost(&view, api, Loss::Evicted), 280, "S24");

    // What was lost is listed, as ranges, with its numbers.
    let listed = spool.operator().losses().unwrap();
    assert_eq!(listed.len() as u64, view.losses);
    let of =
        |name: &str| listed.iter().filter(|range| &*range.name == name).map(|range| range.n).sum::<u64>();
    assert_eq!((of("broker"), of("api")), (40, lost(&view, api, Loss::Evicted)));
    let theirs = listed.iter().find(|range| &*range.name == "broker").unwrap();
    assert_eq!((&*theirs.kind, theirs.loss), ("mqtt", Loss::Evicted));
    assert_eq!(theirs.first.map(|id| id.as_u128()), Some(20));
    spool.close();
    let spool = stage.open();
    assert_eq!(spool.operator().losses().unwrap(), listed, "a restart forgets none");
}

/// S11: before anybody has said which integrations there are, none counts as removed; one that is switched off does not
/// either.
#[tokio::test]
async fn only_a_removed_integration_makes_room_early() {
    let (stage, cap) = stage();
    for says in [false, true] {
        let spool = stage.open();
        let two = two(&spool).await;
        if says {
            spool.operator().set_present(two.accounts.to_vec()).await.unwrap();
        }
        put(&spool, &two.routes[..1], (0..10).map(|n| big(&stage, n))).await;
        put(&spool, &two.routes[1..], (10..20).map(|n| big(&stage, n))).await;
        put(&spool, &two.routes[..1], (20..=cap / PAGE).map(|n| big(&stage, n))).await;
        let view = barrier(&spool).await;
        assert_eq!(lost(&view, two.accounts[1], Loss::Evicted), 0);
        assert!(lost(&view, two.accounts[0], Loss::Evicted) > 0);
        spool.operator().purge(two.accounts[0], true).await.unwrap();
        spool.operator().purge(two.accounts[1], true).await.unwrap();
        spool.close();
    }
}

/// S11: from nine tenths on nothing more is taken in for the integration with the largest backlog; the others go on up to
/// the cap; nothing that was taken in is dropped.
#[tokio::test]
async fn refuse_new_refuses_the_fullest() {
    let (mut stage, cap) = stage();
    stage.settings.on_full = OnFull::RefuseNew;
    let spool = stage.open();
    let two = two(&spool).await;
    let [api, broker] = two.accounts;
    let (mut n, mut refused_at) = (0, None);
    while refused_at.is_none() {
        let view = one_more(&spool, &two.routes, big(&stage, n)).await;
        n += 1;
        // The broker keeps up.
        for seq in seqs(&two.ledgers[1]).into_iter().filter(|seq| *seq + 3 < view.end) {
            two.ledgers[1].settle(seq, seq, Settlement::Delivered);
        }
        refused_at = (lost(&view, api, Loss::Refused) > 0).then_some(view.bytes);
        assert!(n < 1_000);
    }
    let bytes = refused_at.unwrap();
    assert!((cap / 10 * 9 - PAGE..=cap / 10 * 9 + PAGE).contains(&bytes), "{bytes} of {cap}");
    for _ in 0..500 {
        one_more(&spool, &two.routes, big(&stage, n)).await;
        n += 1;
        for seq in seqs(&two.ledgers[1]) {
            two.ledgers[1].settle(seq, seq, Settlement::Delivered);
        }
    }
    let view = barrier(&spool).await;
    let refused = lost(&view, api, Loss::Refused);
    assert!(refused >= 500);
    assert_eq!(counts(&view, api).0 + refused, n, "S24");
    assert_eq!((counts(&view, broker).1, lost(&view, broker, Loss::Refused)), (n, 0), "isolation");
    assert!([api, broker].iter().all(|id| lost(&view, *id, Loss::Evicted) == 0));
    let listed: u64 = spool.operator().losses().unwrap().iter().map(|range| range.n).sum();
    assert_eq!(listed, refused);

    // Room again: it is taken in again.
    for seq in seqs(&two.ledgers[0]).into_iter().take(40) {
        two.ledgers[0].settle(seq, seq, Settlement::Delivered);
    }
    let before = barrier(&spool).await;
    let view = one_more(&spool, &two.routes, big(&stage, n)).await;
    assert_eq!(counts(&view, api).0, counts(&before, api).0 + 1);
}

/// S6, S11: a source that waits is told what was refused, and at the cap everything is.
#[tokio::test]
async fn who_waits_is_told_what_was_refused() {
    let (mut stage, cap) = stage();
    stage.settings.on_full = OnFull::RefuseNew;
    let spool = stage.open();
    let two = two(&spool).await;
    let appender = spool.appender();
    let send = |routes: &[RouteId], numbers: std::ops::Range<u64>| {
        let routed = numbers.map(|n| Routed { uplink: big(&stage, n), routes: routes.to_vec() }).collect();
        let appender = appender.clone();
        async move { appender.append_durable(routed, Vec::new()).await.unwrap().wait().await.unwrap() }
    };
    let nearly = cap / 10 * 9 / PAGE;
    assert_eq!(send(&two.routes[..1], 0..nearly).await, Acceptance::Full);
    assert_eq!(send(&two.routes, 200..201).await, Acceptance::Partial, "the broker has it");
    assert_eq!(send(&two.routes[..1], 201..203).await, Acceptance::Refused(vec![0, 1]));
    assert_eq!(send(&two.routes[1..], 203..204).await, Acceptance::Full);
    let left = cap / PAGE - nearly - 2;
    let last = send(&two.routes[1..], 204..204 + left + 3).await;
    assert_eq!(last, Acceptance::Refused((left..left + 3).map(|n| usize::try_from(n).unwrap()).collect()));
    let view = barrier(&spool).await;
    assert_eq!(two.accounts.map(|id| lost(&view, id, Loss::Refused)), [3, 3]);
    assert_eq!(two.accounts.map(|id| counts(&view, id).0), [nearly, 2 + left]);
    assert!(view.bytes <= cap);
    // An integration that is gone makes room for those that are not, down to the last tenth.
    spool.operator().set_present(vec![two.accounts[0]]).await.unwrap();
    let view = barrier(&spool).await;
    assert_eq!(lost(&view, two.accounts[1], Loss::Evicted), 2 + left);
    assert_eq!(two.accounts.map(|id| counts(&view, id).0), [nearly, 0]);
}

/// A full spool of which a removed integration shares every record gives up that one's claim, once, and then the oldest.
#[tokio::test]
async fn a_removed_integration_shares_its_records() {
    let (stage, cap) = stage();
    let spool = stage.open();
    let made = spool.routes(vec![route("http", "api"), route("mqtt", "gone")]).await.unwrap();
    let routes = [made[0].0, made[1].0];
    spool.operator().set_present(vec![made[0].1]).await.unwrap();
    let fits = cap / PAGE;
    put(&spool, &routes, (0..fits).map(|n| big(&stage, n))).await;
    barrier(&spool).await;
    let view = one_more(&spool, &routes[..1], big(&stage, fits)).await;
    assert_eq!(account(&view, made[1].1).backlog, 0);
    assert_eq!(lost(&view, made[1].1, Loss::Evicted), fits);
    let evicted = lost(&view, made[0].1, Loss::Evicted);
    assert!(0 < evicted && evicted < 10, "{evicted}");
    assert_eq!(counts(&view, made[0].1).0 + evicted, fits + 1);
}

/// DESIGN section 5: `max_size` is disk space, also for a spool that keeps all it can and replays it.
#[tokio::test]
async fn keeping_and_replaying_stay_within_max_size() {
    let len = 250;
    let mut stage = Stage::new();
    stage.settings.max_size = 4 << 20;
    stage.settings.commit_window = Duration::ZERO;
    stage.settings.keep_delivered = Duration::from_secs(86_400);
    let spool = stage.open();
    let two = two(&spool).await;
    let deliver = || {
        for ledger in &two.ledgers {
            let settled = ledger.settled().unwrap();
            let deliver = |seq, entry| {
                if matches!(entry, Entry::Mine(_)) && !settled.contains(seq) {
                    ledger.settle(seq, seq, Settlement::Delivered);
                }
                ControlFlow::Continue(())
            };
            ledger.scan(settled.low(), usize::MAX, deliver).unwrap();
        }
    };
    for n in 0..30 {
        put(&spool, &two.routes, (n * 400..n * 400 + 400).map(|n| uplink(n, len, &*stage.clock))).await;
        deliver();
        if n % 15 == 14 {
            spool.operator().replay_since(two.accounts[0], Duration::from_secs(3_600), false).await.unwrap();
        }
    }
    let mut view = spool.view();
    while account(&view.borrow(), two.accounts[0]).replay.is_some() {
        let replayed = account(&view.borrow(), two.accounts[0]).replayed;
        deliver();
        until(&mut view, "the replay to go on", |view| {
            let account = account(view, two.accounts[0]);
            account.replay.is_none() || account.replayed > replayed
        })
        .await;
    }
    let view = barrier(&spool).await;
    assert!(view.kept > 1_000, "{view:?}");
    let file = std::fs::metadata(&stage.settings.path).unwrap();
    let allocated = std::os::unix::fs::MetadataExt::blocks(&file) * 512;
    assert!(allocated <= stage.settings.max_size, "{allocated} bytes on the disk, {len} bytes each");
    assert!(view.accounts.iter().all(|account| account.lost.is_empty()));
}
