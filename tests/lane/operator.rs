//! What the operator says reaches a lane at once: pause, go on, purge.

use std::time::Duration;

use packhorse::config::{Order, Retry};
use packhorse::delivery::{Ordering, State};
use packhorse::spool::{Loss, MAX_RANGES};
use tokio::time::advance;

use crate::bench::*;

/// S8: nothing is leased while paused, what is under way is finished, and then it goes on at once: also out of a back-off.
#[tokio::test(start_paused = true)]
async fn a_paused_lane_sends_nothing_and_goes_on_at_once() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, seen) = bench.lane(Ordering::PerKey, fixed(3_600));
    bench.append(To::Us, &devices(&[1, 2, 3])).await;
    let first = lane.next().await;
    bench.pause(true).await;
    assert!(lane.try_next().is_none());
    assert_eq!(state(&seen), State::Paused);
    lane.settle(first, delivered());
    bench.append(To::Us, &devices(&[4])).await;
    bench.link_up.signal();
    hear(&mut lane).await;
    assert!(lane.try_next().is_none());
    bench.pause(false).await;
    let (second, wait) = next_after(&mut lane).await;
    assert_eq!((number(&second), wait), (1, Duration::ZERO));
    assert_eq!(state(&seen), State::Active);

    lane.settle(second, unreachable_now());
    bench.pause(true).await;
    assert!(lane.try_next().is_none());
    bench.pause(false).await;
    let (again, wait) = next_after(&mut lane).await;
    assert_eq!((number(&again), wait), (1, Duration::ZERO), "an operator does not wait for a back-off");
}

/// S8: a paused integration makes no connection either, and makes one as soon as it goes on.
#[tokio::test(start_paused = true)]
async fn a_paused_lane_makes_no_attempt() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, _) = bench.lane(Ordering::Stream, fixed(10));
    bench.append(To::Us, &devices(&[1])).await;
    bench.pause(true).await;
    let waits = tokio::select! {
        biased;
        () = lane.may_attempt() => false,
        () = std::future::ready(()) => true,
    };
    assert!(waits);
    bench.pause(false).await;
    lane.may_attempt().await;
    assert_eq!(number(&lane.next().await), 0);
}

/// A lane that starts while its integration is paused knows it.
#[tokio::test(start_paused = true)]
async fn a_pause_outlives_a_restart() {
    let mut bench = Bench::new(ROOMY).await;
    bench.append(To::Us, &devices(&[1])).await;
    bench.pause(true).await;
    bench.close();
    bench.open().await;
    let (mut lane, seen) = bench.lane(Ordering::PerKey, fixed(10));
    assert!(lane.try_next().is_none());
    assert_eq!(state(&seen), State::Paused);
}

/// A purge takes what the lane holds; what is under way ends as it ends; what comes later is sent.
#[tokio::test(start_paused = true)]
async fn what_was_purged_is_let_go_of() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, _) = bench.lane(Ordering::PerKey, fixed(10));
    bench.append(To::Us, &(0..100).map(|device| (device, 20)).collect::<Vec<_>>()).await;
    let mut held: Vec<_> = std::iter::from_fn(|| lane.try_next()).take(10).collect();
    lane.settle(held.remove(5), delivered());
    bench.wait_for(|view| ours(view).delivered == 1).await;
    let n = bench.purge().await;
    assert_eq!(n, 99, "what is under way is still in the backlog");
    bench.append(To::Us, &devices(&[7, 200])).await;
    held.drain(..4).for_each(|lease| lane.settle(lease, delivered()));
    held.drain(..).for_each(|lease| lane.release(lease));
    let order = drain(&mut lane, |got| got.contains(&101)).await;
    assert!(order.ends_with(&[100, 101]), "{order:?}");
    let account = bench.wait_until_done().await;
    assert_eq!(account.delivered, 3, "one before, two after: too late for the others");
    assert_eq!(account.lost, [(Loss::Purged, 99)]);
    let settled = bench.ledger(To::Us).settled().unwrap();
    assert_eq!((settled.low(), settled.ranges()), (bench.view().end, [].as_slice()));
}

/// S4, S24: pauses and purges at any time among deliveries, refusals and failures leave exact counts and few ranges.
#[tokio::test(start_paused = true)]
async fn pauses_and_purges_at_any_time() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bench = Bench::new(ROOMY).await;
        let ordering = if seed % 2 == 0 { Ordering::PerKey } else { Ordering::Stream };
        bench.order = if seed % 4 < 2 { Order::OldestFirst } else { Order::LiveFirst };
        let (mut lane, _) = bench.lane(ordering, Retry { probe: Duration::from_secs(60), ..fixed(5) });
        let (mut routed, mut leases) = (0, Vec::new());
        for _ in 0..400 {
            match random.u8(..20) {
                0..5 => {
                    let frames: Vec<Frame> =
                        (0..random.usize(1..40)).map(|_| (random.u8(..20), 20)).collect();
                    routed += frames.len() as u64;
                    bench.append([To::Us, To::Both][random.usize(..2)], &frames).await;
                }
                5..10 => leases.extend((0..random.usize(1..30)).map_while(|_| lane.try_next())),
                10..16 if !leases.is_empty() => {
                    let lease = leases.swap_remove(random.usize(..leases.len()));
                    let outcomes = [delivered(), delivered(), delivered(), bad_record(), unreachable_now()];
                    lane.settle(lease, outcomes[random.usize(..5)].clone());
                }
                16 => bench.pause(true).await,
                17 => bench.pause(false).await,
                18 if random.u8(..3) == 0 => _ = bench.purge().await,
                _ => advance(Duration::from_secs(random.u64(..8))).await,
            }
            let ranges = bench.ledger(To::Us).settled().unwrap().ranges().len();
            assert!(ranges <= MAX_RANGES, "{ranges} ranges, seed {seed}");
        }
        leases.drain(..).for_each(|lease| lane.release(lease));
        bench.pause(false).await;
        bench.append(To::Us, &devices(&[250])).await;
        routed += 1;
        loop {
            tokio::select! {
                biased;
                lease = lane.next() => lane.settle(lease, delivered()),
                () = bench.gone() => break,
            }
        }
        let account = bench.wait_until_done().await;
        let lost: u64 = account.lost.iter().map(|(_, n)| n).sum();
        assert_eq!(account.delivered + account.dead_letters + lost, routed, "seed {seed}: {account:?}");
        assert!(lane.try_next().is_none());
        let ledger = bench.ledger(To::Us);
        bench.wait_for(|view| ledger.settled().unwrap().low() == view.end).await;
        assert_eq!(ledger.settled().unwrap().ranges(), [], "seed {seed}");
    }
}
