//! What is leased, in which order, and what a settlement covers.

use packhorse::delivery::Ordering;
use packhorse::spool::{MAX_RANGES, Settled};
use redb::TableDefinition;

use crate::bench::*;

/// A spool of which the log takes 60,000 bytes, and makes room by one per cent.
const SMALL: u64 = 100_000;

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

fn settled_for_us(bench: &Bench) -> Settled {
    bench.ledger(To::Us).settled().unwrap()
}

/// S15: one request a device; others go meanwhile; the device's next goes when the first is answered.
#[tokio::test(start_paused = true)]
async fn per_key_has_one_of_a_device_under_way() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, _) = bench.lane(Ordering::PerKey, fixed(10));
    bench.append(To::Us, &devices(&[1, 1, 2, 1, 3, 2])).await;
    let mut leases = take_all(&mut lane);
    assert_eq!(numbers(&leases), [0, 2, 4]);
    lane.settle(leases.remove(1), delivered());
    let more = take_all(&mut lane);
    assert_eq!(numbers(&more), [5]);
    assert_eq!(lane.in_flight(), 3);
}

/// S15: MQTT's stream keeps the order of the log, and keeps it when the connection is lost.
#[tokio::test(start_paused = true)]
async fn stream_leases_in_log_order_and_again_after_a_loss() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, _) = bench.lane(Ordering::Stream, fixed(10));
    bench.append(To::Us, &devices(&[1, 1, 2, 1, 3, 2])).await;
    let mut leases: Vec<_> = std::iter::from_fn(|| lane.try_next()).take(4).collect();
    assert_eq!(numbers(&leases), [0, 1, 2, 3]);
    lane.settle(leases.remove(1), delivered());
    leases.into_iter().rev().for_each(|lease| lane.release(lease));
    let again = take_all(&mut lane);
    assert_eq!(numbers(&again), [0, 2, 3, 4, 5]);
    assert_eq!(again.iter().map(|lease| lease.attempt).collect::<Vec<_>>(), [2, 2, 2, 1, 1]);
}

/// S4: whatever is settled out of order, at most 64 unsettled records are held and at most 64 ranges stored.
#[tokio::test(start_paused = true)]
async fn no_lease_could_make_a_65th_range() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, _) = bench.lane(Ordering::PerKey, fixed(10));
    bench.append(To::Us, &(0..=250).map(|device| (device, 20)).collect::<Vec<_>>()).await;
    let mut held = Vec::new();
    loop {
        let mut fresh = take_all(&mut lane);
        assert!(held.len() + fresh.len() <= MAX_RANGES);
        if fresh.is_empty() {
            break;
        }
        while !fresh.is_empty() {
            held.push(fresh.remove(0));
            if !fresh.is_empty() {
                lane.settle(fresh.remove(0), delivered());
            }
        }
    }
    assert_eq!(held.len(), MAX_RANGES);
    let settled = bench.ledger(To::Us);
    bench.wait_for(|_| settled.settled().unwrap().ranges().len() >= MAX_RANGES - 1).await;
    let ranges = settled_for_us(&bench).ranges().len();
    assert!((MAX_RANGES - 1..=MAX_RANGES).contains(&ranges), "{ranges}");
    held.into_iter().for_each(|lease| lane.settle(lease, delivered()));
    drain(&mut lane, |got| got.contains(&250)).await;
    bench.wait_until_done().await;
    assert_eq!(settled_for_us(&bench).ranges(), []);
}

/// S4: what lies between two of ours and belongs to others is settled along, so it leaves no gaps.
#[tokio::test(start_paused = true)]
async fn a_settlement_covers_the_gap_before_it() {
    let mut bench = Bench::new(ROOMY).await;
    for _ in 0..70 {
        bench.append(To::Them, &devices(&[1, 2])).await;
        bench.append(To::Us, &devices(&[1])).await;
    }
    let (mut lane, _) = bench.lane(Ordering::Stream, fixed(10));
    let mut last = None;
    for _ in 0..70 {
        let lease = lane.next().await;
        last = Some(number(&lease));
        lane.settle(lease, delivered());
    }
    assert_eq!(last, Some(209));
    bench.wait_until_done().await;
    let settled = settled_for_us(&bench);
    assert_eq!((settled.low(), settled.ranges()), (bench.view().end, [].as_slice()));
}

/// A long backlog of somebody else's is passed over in steps that can be interrupted, and what is ours behind it is found.
#[tokio::test(start_paused = true)]
async fn ours_is_found_behind_many_of_others() {
    let mut bench = Bench::new(ROOMY).await;
    for _ in 0..5 {
        bench.append(To::Them, &[(1, 1); 2_000]).await;
    }
    bench.append(To::Us, &devices(&[1])).await;
    let (mut lane, _) = bench.lane(Ordering::Stream, fixed(10));
    assert!(lane.try_next().is_none(), "10,000 rows in one step");
    assert_eq!(number(&lane.next().await), 10_000);
}

/// S11: what the spool evicts is let go of, and the hole it leaves is covered, also around a record that is under way.
#[tokio::test(start_paused = true)]
async fn evicted_records_leave_no_hole() {
    let mut bench = Bench::new(SMALL).await;
    let (mut lane, _) = bench.lane(Ordering::Stream, fixed(10));
    bench.append(To::Us, &[(1, 1_000); 30]).await;
    let first = lane.next().await;
    let second = lane.next().await;
    lane.release(first);
    // Now the first and the third to tenth are held, the second is under way.
    while bench.view().floor < 5 {
        bench.append(To::Them, &[(1, 1_000); 4]).await;
    }
    let evicted =
        bench.view().accounts.iter().flat_map(|account| &account.lost).map(|(_, n)| *n).sum::<u64>();
    assert!((5..25).contains(&evicted), "{evicted}");
    let next = lane.next().await;
    assert_eq!((number(&second), number(&next) as u64), (1, evicted));
    lane.settle(second, delivered());
    lane.settle(next, delivered());
    let order = drain(&mut lane, |got| got.contains(&29)).await;
    assert_eq!(order, (usize::try_from(evicted).unwrap() + 1..30).collect::<Vec<_>>());
    let account = bench.wait_until_done().await;
    assert_eq!(account.delivered + evicted, 30, "evicted while under way: counted once");
    let settled = settled_for_us(&bench);
    assert_eq!(settled.ranges(), [], "{settled:?}");
}

/// A record of a format that this version does not know is kept, and no settlement covers it: not that of the record behind
/// it, and not when what was before it is gone (DESIGN section 8).
#[tokio::test(start_paused = true)]
async fn unknown_formats_are_never_settled_over() {
    let mut bench = Bench::new(SMALL).await;
    bench.append(To::Us, &[(1, 1_200)]).await;
    let unknown = bench.view().end;
    bench.close();
    insert_unknown(&bench.file(), unknown);
    bench.open().await;
    bench.append(To::Us, &devices(&[2, 2])).await;
    let last = bench.view().end - 1;
    let (mut lane, _) = bench.lane(Ordering::Stream, fixed(10));
    let mut held = take_all(&mut lane);
    assert_eq!(numbers(&held), [0, 1, 2]);
    held.drain(..).for_each(|lease| lane.release(lease));
    // Until the first record alone has made room.
    while bench.view().floor == 0 {
        bench.append(To::Them, &[(1, 300)]).await;
    }
    assert_eq!(bench.view().floor, unknown);
    assert_eq!(drain(&mut lane, |got| got.contains(&2)).await, [1, 2]);
    bench.wait_until_done().await;
    let settled = settled_for_us(&bench);
    assert!(!settled.contains(unknown), "{settled:?}");
    assert!(settled.contains(last), "{settled:?}");
    drop(lane);
    bench.close();
    let log = redb::Database::create(bench.file()).unwrap();
    let txn = redb::ReadableDatabase::begin_read(&log).unwrap();
    assert!(txn.open_table(LOG).unwrap().get(unknown).unwrap().is_some(), "it is gone");
}

/// Format 9 with a good checksum (CRC-32C of format byte and body, between the two).
fn insert_unknown(file: &std::path::Path, seq: u64) {
    let log = redb::Database::create(file).unwrap();
    let txn = log.begin_write().unwrap();
    {
        let body = b"from the future";
        let mut bytes = vec![9];
        bytes.extend(crc32c::crc32c_append(crc32c::crc32c(&[9]), body).to_le_bytes());
        bytes.extend(body);
        txn.open_table(LOG).unwrap().insert(seq, bytes.as_slice()).unwrap();
    }
    txn.commit().unwrap();
}

/// A wait that is given up at any point loses no record: whatever was leased was returned.
#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_leaks_no_lease() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, _) = bench.lane(Ordering::PerKey, fixed(1));
    let mut got = Vec::new();
    for n in 0..300u16 {
        if n % 3 == 0 {
            bench.append(To::Us, &devices(&[n.to_le_bytes()[0]])).await;
        }
        let lease = tokio::select! {
            biased;
            lease = lane.next() => Some(lease),
            () = std::future::ready(()) => None,
        };
        assert_eq!(lane.in_flight(), usize::from(lease.is_some()));
        if let Some(lease) = lease {
            got.push(number(&lease));
            lane.settle(lease, delivered());
        }
    }
    drain(&mut lane, |more| got.len() + more.len() == 100).await;
    assert_eq!(bench.wait_until_done().await.delivered, 100);
}
