//! Newer records first (RULES S14), and how fast those that have waited are sent (`replay_rate`).

use std::time::Duration;

use packhorse::config::Order;
use packhorse::delivery::outcome::Outcome;
use packhorse::delivery::{Lane, Ordering};
use packhorse::spool::MAX_RANGES;
use tokio::time::Instant;

use crate::bench::*;

const SECOND: Duration = Duration::from_secs(1);

/// The connection breaks and comes back; for MQTT the far end says so, for HTTP the first answer does.
fn reconnect(lane: &mut Lane) {
    let Outcome::Failed(failure) = unreachable_now() else { panic!() };
    lane.failed(&failure);
    lane.reached();
}

/// Sends everything that may be sent without waiting.
fn send_all(lane: &mut Lane) -> Vec<usize> {
    let mut order = Vec::new();
    while let Some(lease) = lane.try_next() {
        order.push(number(&lease));
        lane.settle(lease, delivered());
    }
    order
}

/// S14: what is heard after the reconnect goes first, the backlog with what is left, each oldest-first.
#[tokio::test(start_paused = true)]
async fn newer_records_go_before_the_backlog() {
    for ordering in [Ordering::Stream, Ordering::PerKey] {
        let mut bench = Bench::new(ROOMY).await;
        bench.order = Order::LiveFirst;
        bench.append(To::Us, &(0..200).map(|device| (device, 20)).collect::<Vec<_>>()).await;
        let (mut lane, _) = bench.lane(ordering, fixed(1));
        lane.reached();
        let mut order = Vec::new();
        for n in 0..50 {
            let lease = lane.next().await;
            order.push(number(&lease));
            lane.settle(lease, delivered());
            if n % 10 == 9 {
                bench.append(To::Us, &[(250, 20), (251, 20)]).await;
            }
        }
        order.extend(drain(&mut lane, |got| got.len() == 160).await);
        let old: Vec<usize> = order.iter().copied().filter(|n| *n < 200).collect();
        assert_eq!(old, (0..200).collect::<Vec<_>>(), "{ordering:?}");
        for n in 200..210 {
            let at = order.iter().position(|it| *it == n).unwrap();
            assert!(at <= (n - 200) / 2 * 10 + 12, "{n} came as number {at}: {order:?}");
        }
        bench.wait_until_done().await;
        let settled = bench.ledger(To::Us).settled().unwrap();
        assert_eq!((settled.low(), settled.ranges()), (bench.view().end, [].as_slice()));
    }
}

/// With HTTP there is no connection to come back: the first answer after an outage is the reconnect.
#[tokio::test(start_paused = true)]
async fn the_first_answer_after_an_outage_is_a_reconnect() {
    let mut bench = Bench::new(ROOMY).await;
    bench.order = Order::LiveFirst;
    let (mut lane, _) = bench.lane(Ordering::PerKey, fixed(10));
    bench.append(To::Us, &devices(&[1, 2, 3])).await;
    assert_eq!(send_all(&mut lane), [0, 1, 2]);
    bench.append(To::Us, &(0..100).map(|device| (device, 20)).collect::<Vec<_>>()).await;
    let lease = lane.next().await;
    lane.settle(lease, unreachable_now());
    let (lease, wait) = next_after(&mut lane).await;
    assert_eq!((number(&lease), wait), (3, 10 * SECOND));
    lane.settle(lease, delivered());
    bench.append(To::Us, &devices(&[200, 200])).await;
    let order = drain(&mut lane, |got| got.len() == 101).await;
    let at = |n| order.iter().position(|it| *it == n).unwrap();
    assert!(at(103) <= 1 && at(104) <= 2, "{order:?}");
}

/// S4: however often the connection comes back before the backlog is done, 64 ranges are enough, and nothing is forgotten.
#[tokio::test(start_paused = true)]
async fn many_reconnects_need_no_65th_range() {
    for (seed, to) in [(1, To::Us), (2, To::Both), (3, To::Us)] {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bench = Bench::new(ROOMY).await;
        bench.order = Order::LiveFirst;
        let (mut lane, _) = bench.lane(Ordering::Stream, fixed(1));
        let mut sent = 0;
        for _ in 0..120 {
            bench.append(to, &(0..90).map(|device| (device, 20)).collect::<Vec<_>>()).await;
            bench.append(To::Them, &devices(&[1, 2])).await;
            reconnect(&mut lane);
            bench.append(to, &devices(&[1, 2, 3, 4])).await;
            bench.append(To::Them, &devices(&[1])).await;
            tokio::time::advance(SECOND).await;
            let mut held: Vec<_> = (0..random.usize(1..40)).map_while(|_| lane.try_next()).collect();
            // A lane that failed sends one alone until that is accepted.
            while !held.is_empty() {
                let lease = held.swap_remove(random.usize(..held.len()));
                if random.u8(..10) > 0 {
                    lane.settle(lease, delivered());
                    sent += 1;
                    held.extend((0..random.usize(..4)).map_while(|_| lane.try_next()).take(2));
                } else {
                    lane.release(lease);
                }
                if sent % 200 > 120 {
                    break;
                }
            }
            held.drain(..).for_each(|lease| lane.release(lease));
            let ranges = bench.ledger(To::Us).settled().unwrap().ranges().len();
            assert!(ranges <= MAX_RANGES, "{ranges} ranges");
        }
        let left = 120 * 94 - sent;
        drain(&mut lane, |got| got.len() == left).await;
        assert_eq!(bench.wait_until_done().await.delivered, 120 * 94);
        let end = bench.view().end;
        // What is behind the last of ours is others', and is covered with the next.
        bench.append(To::Us, &devices(&[1])).await;
        drain(&mut lane, |got| got.len() == 1).await;
        bench.wait_until_done().await;
        let settled = bench.ledger(To::Us).settled().unwrap();
        assert_eq!((settled.low(), settled.ranges()), (end + 1, [].as_slice()));
    }
}

/// A restart in the middle, in either order, goes on with what is left.
#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_goes_on() {
    for after in [Order::LiveFirst, Order::OldestFirst] {
        let mut bench = Bench::new(ROOMY).await;
        bench.order = Order::LiveFirst;
        bench.append(To::Us, &[(1, 20); 100]).await;
        let (mut lane, _) = bench.lane(Ordering::Stream, fixed(1));
        let mut got = Vec::new();
        for _ in 0..6 {
            bench.append(To::Us, &[(2, 20); 30]).await;
            lane.reached();
            bench.append(To::Us, &[(3, 20); 5]).await;
            for _ in 0..12 {
                let lease = lane.next().await;
                got.push(number(&lease));
                lane.settle(lease, delivered());
            }
            reconnect(&mut lane);
            tokio::time::advance(SECOND).await;
        }
        drop(lane);
        bench.close();
        bench.order = after;
        bench.open().await;
        let (mut lane, _) = bench.lane(Ordering::Stream, fixed(1));
        got.extend(drain(&mut lane, |more| more.len() + 72 == 310).await);
        got.sort_unstable();
        assert_eq!(got, (0..310).collect::<Vec<_>>());
        bench.wait_until_done().await;
        assert_eq!(bench.ledger(To::Us).settled().unwrap().ranges(), []);
    }
}

/// `replay_rate`: what has waited goes at the rate, what is heard now does not wait for it.
#[tokio::test(start_paused = true)]
async fn a_backlog_is_sent_at_its_rate() {
    let mut bench = Bench::new(ROOMY).await;
    (bench.order, bench.replay_rate) = (Order::LiveFirst, 10);
    bench.append(To::Us, &[(1, 20); 101]).await;
    let (mut lane, _) = bench.lane(Ordering::Stream, fixed(1));
    lane.reached();
    let start = Instant::now();
    let mut n = 0;
    while n < 101 {
        if n == 50 {
            bench.append(To::Us, &devices(&[2, 2, 2])).await;
            let now = Instant::now();
            let order = send_all(&mut lane);
            assert!(order.starts_with(&[101, 102, 103]), "{order:?}");
            assert_eq!(Instant::now(), now);
            n += order.len() - 3;
        }
        let lease = lane.next().await;
        lane.settle(lease, delivered());
        n += 1;
    }
    let took = start.elapsed();
    assert!((98 * SECOND / 10..=101 * SECOND / 10).contains(&took), "{took:?}");
}

/// With the oldest first nothing overtakes the backlog, whatever its rate.
#[tokio::test(start_paused = true)]
async fn the_rate_does_not_change_the_order() {
    let mut bench = Bench::new(ROOMY).await;
    bench.replay_rate = 20;
    bench.append(To::Us, &(0..41).map(|device| (device, 20)).collect::<Vec<_>>()).await;
    let (mut lane, _) = bench.lane(Ordering::PerKey, fixed(1));
    let first = lane.next().await;
    lane.settle(first, delivered());
    bench.append(To::Us, &devices(&[100, 101, 102])).await;
    let start = Instant::now();
    let order = drain(&mut lane, |got| got.len() == 43).await;
    assert_eq!(order, (1..44).collect::<Vec<_>>());
    let took = start.elapsed();
    assert!((190 * SECOND / 100..=205 * SECOND / 100).contains(&took), "{took:?}");
    // The backlog is gone: what comes now is not held up.
    bench.append(To::Us, &[(1, 20); 50]).await;
    let start = Instant::now();
    drain(&mut lane, |got| got.len() == 50).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// What is sent once more has waited, too: it goes after what is heard now, at the rate.
#[tokio::test(start_paused = true)]
async fn a_replay_goes_after_what_is_heard_now() {
    let mut bench = Bench::new(ROOMY).await;
    (bench.order, bench.replay_rate, bench.keep_delivered) =
        (Order::LiveFirst, 100, Duration::from_secs(86_400));
    bench.close();
    bench.open().await;
    let (mut lane, _) = bench.lane(Ordering::Stream, fixed(1));
    bench.append(To::Us, &[(1, 20); 200]).await;
    drain(&mut lane, |got| got.len() == 200).await;
    bench.wait_until_done().await;
    assert_eq!(bench.replay_since(Duration::from_secs(3_600)).await, 200);
    let first = lane.next().await;
    assert!(first.uplink.flags.replayed);
    lane.settle(first, delivered());
    let start = Instant::now();
    bench.append(To::Us, &devices(&[2, 2])).await;
    let mut order = Vec::new();
    while order.len() < 201 {
        let lease = lane.next().await;
        order.push(number(&lease));
        lane.settle(lease, delivered());
    }
    let at = |n| order.iter().position(|it| *it == n).unwrap();
    assert!(at(200) <= 1 && at(201) <= 2, "{order:?}");
    let took = start.elapsed();
    assert!((170 * SECOND / 100..=270 * SECOND / 100).contains(&took), "{took:?}");
    let mut replayed: Vec<usize> = order.into_iter().filter(|n| *n < 200).collect();
    replayed.sort_unstable();
    assert_eq!(replayed, (1..200).collect::<Vec<_>>());
}
