//! The spool as the rooms around it see it: put in, read, settle, close, open again; its bounds and its counts.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod spool_stage;

use std::time::Duration;

use packhorse::spool::{Entry, Loss, Note, RouteName, Routed, Settlement};
use spool_stage::{
    NEVER, Stage, account, append, barrier, counts, entries, lost, mine, mine_of, number, put, route, seqs,
    two, until, uplink,
};

fn refused() -> Settlement {
    Settlement::Refused { reason: "http: 422 Unprocessable Entity".into(), attempts: 1 }
}

/// S4: one stored copy, gone when the last account settled it; backlog and delivered are exact on the way (S24).
#[tokio::test]
async fn a_record_leaves_when_its_last_account_has_settled_it() {
    let stage = Stage::new();
    let spool = stage.open();
    let two = two(&spool).await;
    let [api, broker] = &two.ledgers;
    append(&spool.appender(), &two.routes, (0..4).map(|n| stage.uplink(n))).await;
    let view = until(&mut spool.view(), "4 records", |view| view.records == 4).await;
    assert_eq!(two.accounts.map(|id| counts(&view, id)), [(4, 0, 0), (4, 0, 0)]);
    let seqs = seqs(api);
    assert_eq!(mine(api).iter().map(|(_, n)| *n).collect::<Vec<_>>(), [0, 1, 2, 3], "oldest first");
    assert_eq!(
        entries(broker)[2].1,
        Entry::Mine(mine_of(stage.uplink(2), two.routes[1])),
        "what comes out is what went in"
    );

    // Out of order, and with a gap below.
    api.settle(seqs[2], seqs[2], Settlement::Delivered);
    api.settle(seqs[0], seqs[0], Settlement::Delivered);
    let view = barrier(&spool).await;
    assert_eq!(two.accounts.map(|id| counts(&view, id)), [(2, 2, 0), (4, 0, 0)]);
    assert_eq!(mine(broker).len(), 4, "the other one still needs all of them");
    let settled = api.settled().unwrap();
    assert_eq!(seqs.iter().map(|seq| settled.contains(*seq)).collect::<Vec<_>>(), [true, false, true, false]);

    broker.settle(seqs[2], seqs[2], Settlement::Delivered);
    let view = barrier(&spool).await;
    assert_eq!(two.accounts.map(|id| counts(&view, id)), [(2, 2, 0), (3, 1, 0)]);
    assert_eq!(mine(api), [(seqs[0], 0), (seqs[1], 1), (seqs[3], 3)]);
    spool.close();
}

/// S4, S24: settling again, in whatever way, changes no count and brings nothing back.
#[tokio::test]
async fn a_repeated_settlement_changes_nothing() {
    let stage = Stage::new();
    let spool = stage.open();
    let two = two(&spool).await;
    append(&spool.appender(), &two.routes, (0..2).map(|n| stage.uplink(n))).await;
    until(&mut spool.view(), "2 records", |view| view.records == 2).await;
    let seqs = seqs(&two.ledgers[0]);
    two.ledgers[0].settle(seqs[0], seqs[0], Settlement::Delivered);
    let before = barrier(&spool).await;
    for settlement in [Settlement::Delivered, refused(), Settlement::Damaged] {
        two.ledgers[0].settle(0, seqs[0], settlement);
    }
    let after = barrier(&spool).await;
    assert_eq!(after.accounts, before.accounts);
    assert_eq!(after.records, before.records + 1, "the barrier alone");
    assert_eq!(mine(&two.ledgers[1]).len(), 2);
}

/// S4: a span that ends before it begins is a lane's slip; it must not count one delivery twice.
#[tokio::test]
async fn a_span_that_runs_backwards_settles_its_record_once() {
    let stage = Stage::new();
    let spool = stage.open();
    let two = two(&spool).await;
    append(&spool.appender(), &two.routes, (0..2).map(|n| stage.uplink(n))).await;
    until(&mut spool.view(), "2 records", |view| view.records == 2).await;
    let first = seqs(&two.ledgers[0])[0];
    for _ in 0..2 {
        two.ledgers[0].settle(first + 1, first, Settlement::Delivered);
    }
    let view = barrier(&spool).await;
    assert_eq!(counts(&view, two.accounts[0]), (1, 1, 0));
}

/// S4: what a lane skips because it is somebody else's is settled along with its own record and leaves no ranges.
#[tokio::test]
async fn records_of_others_leave_no_gaps() {
    let stage = Stage::new();
    let spool = stage.open();
    let two = two(&spool).await;
    let [api, broker] = &two.ledgers;
    for n in 0..100 {
        append(&spool.appender(), &two.routes[n % 2..=n % 2], [stage.uplink(n as u64)]).await;
    }
    until(&mut spool.view(), "100 records", |view| view.records == 100).await;
    let mut from = api.settled().unwrap().low();
    for seq in seqs(api) {
        api.settle(from, seq, Settlement::Delivered);
        from = seq + 1;
    }
    let view = barrier(&spool).await;
    assert_eq!(api.settled().unwrap().ranges(), []);
    assert_eq!(two.accounts.map(|id| counts(&view, id)), [(0, 50, 0), (50, 0, 0)]);
    assert_eq!(mine(broker).len(), 50);
}

/// DESIGN section 2: stopping loses nothing, whether the spool is closed or dropped, and however much still waits.
#[tokio::test]
async fn closing_and_dropping_keep_everything() {
    for drop_it in [false, true] {
        let mut stage = Stage::new();
        stage.settings.commit_window = NEVER;
        let spool = stage.open();
        let two_of = two(&spool).await;
        let note = |n: u8| Note { key: "note/door".into(), value: vec![n] };
        append(&spool.appender(), &two_of.routes, (0..3).map(|n| stage.uplink(n))).await;
        until(&mut spool.view(), "3 records", |view| view.records == 3).await;
        let first = seqs(&two_of.ledgers[0])[0];
        two_of.ledgers[0].settle(first, first, Settlement::Delivered);
        for n in 3..50 {
            let routed = Routed { uplink: stage.uplink(n), routes: two_of.routes.clone() };
            spool
                .appender()
                .append(vec![routed], vec![note(1), note(u8::try_from(n).unwrap())])
                .await
                .unwrap();
        }
        if drop_it {
            drop(spool)
        } else {
            spool.close()
        }

        let spool = stage.open();
        let view = spool.view().borrow().clone();
        assert_eq!((view.records, view.durable, view.set_aside.len()), (50, 50, 0));
        let two = two(&spool).await;
        assert_eq!(two.accounts.map(|id| counts(&view, id)), [(49, 1, 0), (50, 0, 0)]);
        assert!(two.ledgers[0].settled().unwrap().contains(first));
        let numbers: Vec<u64> = mine(&two.ledgers[1]).into_iter().map(|(_, n)| n).collect();
        assert_eq!(numbers, (0..50).collect::<Vec<_>>());
        let notes: Vec<_> =
            spool.notes().iter().map(|note| (note.key.as_str(), note.value.clone())).collect();
        assert_eq!(notes, [("note/door", vec![49])], "the last value of a note, under its own key");
    }
}

/// More settlements than a round takes wait while the spool is closed: all of them are taken in.
#[tokio::test]
async fn closing_takes_in_a_long_queue() {
    let stage = Stage::new();
    let spool = stage.open();
    let two_of = two(&spool).await;
    append(&spool.appender(), &two_of.routes, [stage.uplink(1)]).await;
    until(&mut spool.view(), "a record", |view| view.records == 1).await;
    let seq = seqs(&two_of.ledgers[0])[0];
    for n in 0..60_000 {
        // Numbers far above the log: work for the writer, and nothing that changes a count.
        two_of.ledgers[0].settle(seq + 1 + n, seq + 1 + n, Settlement::Delivered);
    }
    two_of.ledgers[1].settle(seq, seq, Settlement::Delivered);
    spool.close();
    let spool = stage.open();
    let two = two(&spool).await;
    let view = spool.view().borrow().clone();
    assert_eq!(two.accounts.map(|id| counts(&view, id)), [(1, 0, 0), (0, 1, 0)]);
}

/// S5: ids are found again by name and type, also across a restart, and no id is given out twice.
#[tokio::test]
async fn routes_keep_their_ids_and_never_share_them() {
    let stage = Stage::new();
    let with_flow = |flow: &str, kind: &str, name: &str| RouteName { flow: flow.into(), ..route(kind, name) };
    let first =
        [with_flow("", "http", "api"), with_flow("silos", "http", "api"), with_flow("", "mqtt", "api")];
    let spool = stage.open();
    let made = spool.routes(first.to_vec()).await.unwrap();
    assert_eq!(made[0].1, made[1].1, "two flows to one integration are one account");
    assert_ne!(made[0].1, made[2].1, "the type is part of the identity");
    let shown: Vec<_> = spool.view().borrow().accounts.iter().map(|account| account.id).collect();
    assert_eq!(shown, [made[0].1, made[2].1], "whoever is told of an account finds it in the view");
    assert!(made[0].0 != made[1].0 && made[1].0 != made[2].0 && made[0].0 != made[2].0);
    drop(spool);

    let spool = stage.open();
    let asked = vec![first[2].clone(), with_flow("", "http", "new"), first[0].clone(), first[2].clone()];
    let again = spool.routes(asked).await.unwrap();
    assert_eq!((again[0], again[2], again[3]), (made[2], made[0], made[2]), "in the order asked for");
    assert!(made.iter().all(|(route, account)| *route != again[1].0 && *account != again[1].1));
}

/// S5: an integration that is taken out keeps its backlog in the view, resumes it when it is put back, and a new one
/// starts at now.
#[tokio::test]
async fn a_removed_integration_resumes_and_a_new_one_starts_at_now() {
    let stage = Stage::new();
    let spool = stage.open();
    let two_of = two(&spool).await;
    append(&spool.appender(), &two_of.routes, (0..3).map(|n| stage.uplink(n))).await;
    until(&mut spool.view(), "3 records", |view| view.records == 3).await;
    let first = seqs(&two_of.ledgers[1])[0];
    two_of.ledgers[1].settle(first, first, Settlement::Delivered);
    drop(spool);

    // The broker is gone from the config; another integration is new in it.
    let spool = stage.open();
    let made = spool.routes(vec![route("http", "api"), route("http", "late")]).await.unwrap();
    let late = spool.ledger(made[1].1, vec![made[1].0]);
    assert_eq!(mine(&late), []);
    append(&spool.appender(), &[made[0].0, made[1].0], [stage.uplink(3)]).await;
    let view = until(&mut spool.view(), "a fourth record", |view| view.records == 4).await;
    assert_eq!(counts(&view, two_of.accounts[1]), (2, 1, 0), "the removed one's backlog stays visible");
    assert_eq!(counts(&view, made[1].1), (1, 0, 0));
    let settled = late.settled().unwrap();
    assert!(settled.contains(first) && !settled.contains(mine(&late)[0].0));
    drop(spool);

    let spool = stage.open();
    let two = two(&spool).await;
    assert_eq!(two.accounts, two_of.accounts);
    let settled = two.ledgers[1].settled().unwrap();
    let waits: Vec<u64> = mine(&two.ledgers[1])
        .into_iter()
        .filter(|(seq, _)| !settled.contains(*seq))
        .map(|(_, n)| n)
        .collect();
    assert_eq!(waits, [1, 2]);
}

/// S11: the oldest make room, with one per cent hysteresis; every account that waited for one has it counted, the one that
/// had settled it has not.
#[tokio::test]
async fn a_full_spool_drops_the_oldest_and_counts_exactly() {
    let mut stage = Stage::new();
    stage.settings.max_size = 1 << 20;
    let cap = stage.settings.max_size / 5 * 3;
    let spool = stage.open();
    let two = two(&spool).await;
    let appender = spool.appender();
    let big = |n: u64| uplink(n, 3_000, &*stage.clock);
    append(&appender, &two.routes, (0..10).map(big)).await;
    until(&mut spool.view(), "10 records", |view| view.records == 10).await;
    let early = seqs(&two.ledgers[0]);
    for seq in &early[..4] {
        two.ledgers[0].settle(*seq, *seq, Settlement::Delivered);
    }
    barrier(&spool).await;

    let mut view = spool.view().borrow().clone();
    let (mut evicted_before, mut jumps) = (0, 0);
    for n in 10..400 {
        let end = view.end;
        append(&appender, &two.routes, [big(n)]).await;
        view = until(&mut spool.view(), "one more", |view| view.end > end).await;
        assert!(view.bytes <= cap, "{} bytes with a cap of {cap}", view.bytes);
        let evicted = lost(&view, two.accounts[1], Loss::Evicted);
        if evicted > evicted_before {
            jumps += 1;
            assert!(view.bytes <= cap - cap / 100, "evicts down to one per cent below the cap");
        }
        evicted_before = evicted;
    }
    assert!(jumps < evicted_before, "{jumps} evictions for {evicted_before} records: no hysteresis");

    let left = mine(&two.ledgers[1]);
    let evicted = 400 - left.len() as u64;
    assert_eq!(left.first().unwrap().1, evicted, "exactly the oldest are gone");
    assert_eq!(lost(&view, two.accounts[1], Loss::Evicted), evicted);
    assert_eq!(lost(&view, two.accounts[0], Loss::Evicted), evicted - 4, "what it had settled is no loss");
    assert_eq!(counts(&view, two.accounts[0]), (left.len() as u64, 4, 0));
    assert_eq!(counts(&view, two.accounts[1]), (left.len() as u64, 0, 0));
    assert_eq!(view.floor, left[0].0, "the floor tells lanes what is gone");

    // A lane that still holds an evicted record and settles it: too late to count.
    two.ledgers[1].settle(early[5], early[5], Settlement::Delivered);
    two.ledgers[1].settle(early[6], early[6], refused());
    let after = barrier(&spool).await;
    assert_eq!(after.accounts, view.accounts);
}

/// S11: a single uplink larger than the whole spool passes through it and is counted.
#[tokio::test]
async fn an_uplink_larger_than_the_spool_is_evicted_at_once() {
    let mut stage = Stage::new();
    stage.settings.max_size = 1 << 20;
    let spool = stage.open();
    let two = two(&spool).await;
    append(&spool.appender(), &two.routes, [uplink(1, 700_000, &*stage.clock)]).await;
    let view =
        until(&mut spool.view(), "the eviction", |view| lost(view, two.accounts[0], Loss::Evicted) == 1)
            .await;
    assert_eq!((view.records, view.bytes, view.floor), (0, 0, view.end));
}

/// DESIGN section 5: `max_size` is disk space. A spool that is full, and stays so, keeps within it: with frames of a few
/// hundred bytes, and with messages of which only one fits a page.
#[tokio::test]
async fn the_file_stays_within_max_size() {
    for (batches, batch, len) in [(60, 250, 250), (200, 20, 2_200)] {
        let mut stage = Stage::new();
        stage.settings.max_size = 4 << 20;
        stage.settings.commit_window = Duration::ZERO;
        let spool = stage.open();
        let two = two(&spool).await;
        for n in 0..batches {
            let uplinks = (0..batch).map(|m| uplink(n * batch + m, len, &*stage.clock));
            append(&spool.appender(), &two.routes, uplinks).await;
            barrier(&spool).await;
            if n % 3 == 0 {
                for seq in seqs(&two.ledgers[0]) {
                    two.ledgers[0].settle(seq, seq, refused());
                }
            }
        }
        let view = barrier(&spool).await;
        assert!(
            lost(&view, two.accounts[0], Loss::DeadEvicted) > 0
                && lost(&view, two.accounts[1], Loss::Evicted) > 0
        );
        let file = std::fs::metadata(&stage.settings.path).unwrap();
        let allocated = std::os::unix::fs::MetadataExt::blocks(&file) * 512;
        assert!(allocated <= stage.settings.max_size, "{allocated} bytes on the disk, {len} bytes each");
    }
}

/// S12: dead letters are kept up to a tenth of `max_size`; the oldest go first, counted. A refusal settles.
#[tokio::test]
async fn dead_letters_are_bounded_and_the_oldest_go_first() {
    let mut stage = Stage::new();
    stage.settings.max_size = 1 << 20;
    let spool = stage.open();
    let two = two(&spool).await;
    append(&spool.appender(), &two.routes, (0..60).map(|n| uplink(n, 3_000, &*stage.clock))).await;
    until(&mut spool.view(), "60 records", |view| view.records == 60).await;
    for seq in seqs(&two.ledgers[0]) {
        two.ledgers[0].settle(seq, seq, refused());
    }
    let view = barrier(&spool).await;
    let [api, broker] = two.accounts;
    let kept = account(&view, api).dead_letters;
    assert_eq!(counts(&view, api), (0, 0, kept));
    assert_eq!(counts(&view, broker), (60, 0, 0), "the other one still waits");
    assert_eq!(lost(&view, api, Loss::DeadEvicted), 60 - kept);
    assert!((20..=26).contains(&kept), "{kept} of a page each in a tenth of 1 MiB");
    drop(spool);

    let dead = redb::TableDefinition::<(u32, u64), &[u8]>::new("dead");
    let database = redb::Database::create(&stage.settings.path).unwrap();
    let txn = redb::ReadableDatabase::begin_read(&database).unwrap();
    let table = txn.open_table(dead).unwrap();
    let stored: Vec<u64> =
        redb::ReadableTable::iter(&table).unwrap().map(|row| row.unwrap().0.value().1).collect();
    assert_eq!(stored.len() as u64, kept);
    assert!(stored.iter().all(|seq| *seq >= 60 - kept), "the oldest went: {stored:?}");
}

/// DESIGN section 5, `durability = "immediate"`: a record is durable a commit window after it came, without another event.
#[tokio::test]
async fn what_came_is_durable_after_the_commit_window() {
    let stage = Stage::new();
    let spool = stage.open();
    let two = two(&spool).await;
    let mut view = spool.view();
    for n in 0..20 {
        append(&spool.appender(), &two.routes, [stage.uplink(n)]).await;
        if n % 5 == 4 {
            until(&mut view, "all durable", |view| view.durable == n + 1).await;
        }
    }
    let syncs = view.borrow().syncs;
    assert!(syncs < 2 + 20, "{syncs} forced commits for 20 uplinks: rounds are not grouped");
}

/// S30: acknowledgements alone are not worth a write to flash until 256 of them wait.
#[tokio::test]
async fn a_trickle_of_settlements_is_forced_at_256_and_not_before() {
    let mut stage = Stage::new();
    stage.settings.commit_window = NEVER;
    let spool = stage.open();
    let two_of = two(&spool).await;
    append(&spool.appender(), &two_of.routes, (0..600).map(|n| stage.uplink(n))).await;
    until(&mut spool.view(), "600 records", |view| view.records == 600).await;
    spool.close();
    let spool = stage.open();
    let two = two(&spool).await;
    let syncs = spool.view().borrow().syncs;
    let seqs = seqs(&two.ledgers[0]);
    for batch in 0u64..2 {
        for n in 0..256 {
            let settled = batch * 256 + n;
            let view = spool.view().borrow().clone();
            assert_eq!(view.syncs, syncs + batch, "forced after {n} settlements");
            let seq = seqs[usize::try_from(settled).unwrap()];
            two.ledgers[0].settle(seq, seq, Settlement::Delivered);
            let delivered = |view: &_| account(view, two.accounts[0]).delivered == settled + 1;
            until(&mut spool.view(), "one more delivered", delivered).await;
        }
    }
    assert_eq!(spool.view().borrow().syncs, syncs + 2);
}

/// DESIGN section 10: with write-behind, what everybody takes in time costs the flash nothing: no commit is forced, nothing is
/// at risk, however many there were.
#[tokio::test]
async fn what_is_delivered_in_time_is_never_written() {
    let mut stage = Stage::new();
    stage.settings.commit_window = NEVER;
    let spool = stage.open();
    let two = two(&spool).await;
    let syncs = spool.view().borrow().syncs;
    for round in 0..100u64 {
        append(&spool.appender(), &two.routes, (0..20).map(|n| stage.uplink(round * 20 + n))).await;
        let view = until(&mut spool.view(), "20 records", |view| view.records == 20).await;
        assert_eq!((view.at_risk, view.committed), (20, round * 20));
        for ledger in &two.ledgers {
            for seq in seqs(ledger) {
                ledger.settle(seq, seq, Settlement::Delivered);
            }
        }
        let view = until(&mut spool.view(), "none left", |view| view.records == 0).await;
        assert_eq!((view.at_risk, view.committed, view.durable), (0, (round + 1) * 20, 0));
    }
    assert_eq!(spool.view().borrow().syncs, syncs, "not one forced commit");
    // One that nobody takes is on the disk when its time is up.
    append(&spool.appender(), &two.routes, [stage.uplink(9_999)]).await;
    until(&mut spool.view(), "it", |view| view.records == 1).await;
    spool.close();
    let spool = stage.open();
    let view = spool.view().borrow().clone();
    assert_eq!((view.records, view.durable, view.appended), (1, 2_001, 2_001));
}

/// A settlement in the same window as uplinks rides in their commit (RULES S30).
#[tokio::test]
async fn settlements_ride_in_the_commit_of_uplinks() {
    let stage = Stage::new();
    let spool = stage.open();
    let two_of = two(&spool).await;
    append(&spool.appender(), &two_of.routes, [stage.uplink(0)]).await;
    until(&mut spool.view(), "a record", |view| view.records == 1).await;
    let seq = seqs(&two_of.ledgers[0])[0];
    two_of.ledgers[0].settle(seq, seq, Settlement::Delivered);
    append(&spool.appender(), &two_of.routes, [stage.uplink(1)]).await;
    let view = until(&mut spool.view(), "both durable", |view| view.durable == 2).await;
    assert_eq!(counts(&view, two_of.accounts[0]), (1, 1, 0));
    let uplinks: Vec<u64> = entries(&two_of.ledgers[0])
        .iter()
        .filter_map(
            |(_, entry)| if let Entry::Mine(mine) = entry { Some(number(&mine.uplink)) } else { None },
        )
        .collect();
    assert_eq!(uplinks, [0, 1]);
}

/// S24: what the flash has taken is counted in the commits that cost it, and goes on counting after a restart.
#[tokio::test]
async fn the_flash_ledger_outlives_a_restart() {
    let stage = Stage::new();
    let spool = stage.open();
    let two = two(&spool).await;
    put(&spool, &two.routes, (0..10).map(|n| stage.uplink(n))).await;
    let view = until(&mut spool.view(), "a commit", |view| view.durable == 10).await;
    assert_eq!((view.wear.today, view.wear.in_all.uplinks), (view.wear.in_all, 10));
    assert!(view.wear.in_all.bytes > 4_096 && view.wear.in_all.syncs >= view.syncs, "{:?}", view.wear);
    spool.close();
    let spool = stage.open();
    let again = spool.view().borrow().wear.in_all;
    assert!(again.bytes >= view.wear.in_all.bytes && again.syncs >= view.wear.in_all.syncs);
    assert_eq!(again.uplinks, 10);
}
