//! When the next attempt starts, and what an outcome does to the state.

use std::time::Duration;

use packhorse::config::{OnReject, Retry, Strategy};
use packhorse::delivery::outcome::{Failure, Layer, Outcome};
use packhorse::delivery::{Ordering, State};
use tokio::time::advance;

use crate::bench::*;

const SECOND: Duration = Duration::from_secs(1);

/// S15, S31: nothing is sent during a back-off; then one attempt goes alone until the far end has accepted something.
#[tokio::test(start_paused = true)]
async fn after_a_failure_one_attempt_goes_alone() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, seen) = bench.lane(Ordering::PerKey, fixed(10));
    bench.append(To::Us, &devices(&[1, 2, 3, 4])).await;
    let lease = lane.next().await;
    lane.settle(lease, unreachable_now());
    assert_eq!(state(&seen), State::Degraded);
    assert!(lane.try_next().is_none());
    advance(10 * SECOND - Duration::from_millis(1)).await;
    assert!(lane.try_next().is_none());
    advance(Duration::from_millis(1)).await;
    let probe = lane.try_next().unwrap();
    assert_eq!((number(&probe), probe.attempt), (0, 2));
    assert!(lane.try_next().is_none(), "a second one beside the probe");
    lane.settle(probe, delivered());
    assert_eq!(numbers(&take_all(&mut lane)), [1, 2, 3]);
    assert_eq!(state(&seen), State::Active);
}

fn doubling() -> Retry {
    Retry {
        strategy: Strategy::Exponential,
        initial: Duration::from_secs(1),
        max: Duration::from_secs(1 << 20),
        ..fixed(0)
    }
}

/// Requests that were under way together fail as one, whether the others fail before or after the back-off has ended.
#[tokio::test(start_paused = true)]
async fn parallel_failures_count_once() {
    let mut waits = Vec::new();
    for parallel in [1, 4] {
        let mut bench = Bench::new(ROOMY).await;
        let (mut lane, seen) = bench.lane(Ordering::PerKey, doubling());
        bench.append(To::Us, &devices(&[1, 2, 3, 4])).await;
        for _ in 0..12 {
            let mut leases = vec![lane.next().await];
            // Only the first round has more than one: afterwards a probe goes alone.
            leases.extend((1..parallel).filter_map(|_| lane.try_next()));
            let late = leases.split_off(leases.len().min(2));
            leases.into_iter().for_each(|lease| lane.settle(lease, unreachable_now()));
            if !late.is_empty() {
                advance(5 * SECOND).await;
                assert!(lane.try_next().is_none(), "two are still under way");
                late.into_iter().for_each(|lease| lane.settle(lease, unreachable_now()));
                assert_eq!(state(&seen), State::Degraded);
            }
        }
        let (lease, wait) = next_after(&mut lane).await;
        lane.release(lease);
        waits.push(wait);
    }
    assert!(waits[0] > 60 * SECOND, "{waits:?}");
    assert_eq!(waits[0], waits[1], "the same seed waits the same time");
}

/// `Retry-After` is honoured, and a success of a request that was under way beside it does not cut it short.
#[tokio::test(start_paused = true)]
async fn a_success_does_not_cancel_a_wait_that_another_request_asked_for() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, seen) = bench.lane(Ordering::PerKey, fixed(10));
    bench.append(To::Us, &devices(&[1, 2, 3])).await;
    let mut leases = take_all(&mut lane);
    lane.settle(leases.remove(0), asked_to_wait(200));
    lane.settle(leases.remove(0), delivered());
    assert_eq!(state(&seen), State::Degraded);
    assert!(seen.borrow().last_success_us.is_some());
    lane.settle(leases.remove(0), unreachable_now());
    let (lease, wait) = next_after(&mut lane).await;
    assert_eq!((number(&lease), wait), (0, 200 * SECOND));
    assert!(lane.try_next().is_none());
}

/// The same for a refusal of the endpoint: a success from before it does not make the integration look well.
#[tokio::test(start_paused = true)]
async fn a_success_from_before_a_refusal_does_not_unblock() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, seen) = bench.lane(Ordering::PerKey, fixed(10));
    bench.append(To::Us, &devices(&[1, 2])).await;
    let mut leases = take_all(&mut lane);
    lane.settle(leases.remove(0), turned_away());
    lane.settle(leases.remove(0), delivered());
    assert_eq!(state(&seen), State::Blocked);
    let (probe, wait) = next_after(&mut lane).await;
    assert_eq!(wait, 300 * SECOND);
    lane.settle(probe, delivered());
    assert_eq!(state(&seen), State::Active);
}

/// S31: a link-up signal starts an attempt within two seconds (a second of spread, and the attempt itself).
#[tokio::test(start_paused = true)]
async fn a_link_up_signal_shortens_the_wait() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, _) = bench.lane(Ordering::PerKey, fixed(3_600));
    bench.append(To::Us, &devices(&[1])).await;
    for _ in 0..20 {
        let lease = lane.next().await;
        lane.settle(lease, unreachable_now());
        bench.link_up.signal();
        let (lease, wait) = next_after(&mut lane).await;
        assert!(wait <= SECOND, "{wait:?}");
        lane.release(lease);
    }
    let lease = lane.next().await;
    lane.settle(lease, unreachable_now());
    bench.link_up.signal();
    let start = tokio::time::Instant::now();
    lane.may_attempt().await;
    assert!(start.elapsed() <= SECOND, "for a connection, too");
}

/// S31: the first success of one integration is a link-up signal for the others; a refused record on the way is none.
#[tokio::test(start_paused = true)]
async fn a_success_kicks_the_others_only_after_an_outage() {
    let mut bench = Bench::new(ROOMY).await;
    bench.append(To::Both, &devices(&[1, 2, 3])).await;
    let (mut well, _) = bench.lane(Ordering::Stream, fixed(1));
    let (mut waiting, _) = bench.lane_of(To::Them, Ordering::Stream, fixed(3_600));
    let lease = waiting.next().await;
    waiting.settle(lease, unreachable_now());

    let refused = well.next().await;
    well.settle(refused, bad_record());
    let lease = well.next().await;
    well.settle(lease, delivered());
    hear(&mut waiting).await;
    advance(2 * SECOND).await;
    assert!(waiting.try_next().is_none(), "a refused record said nothing about the link");

    let lease = well.next().await;
    well.settle(lease, unreachable_now());
    let lease = well.next().await;
    well.settle(lease, delivered());
    let (_, wait) = next_after(&mut waiting).await;
    assert!(wait <= SECOND, "{wait:?}");
}

/// S1, S8: an endpoint that refuses is probed with the head record, on time and on link-up, and nothing is lost by it.
#[tokio::test(start_paused = true)]
async fn a_refusing_endpoint_is_blocked_and_probed() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, seen) = bench.lane(Ordering::PerKey, fixed(10));
    bench.append(To::Us, &devices(&[1, 2, 3])).await;
    let lease = lane.next().await;
    lane.settle(lease, turned_away());
    assert_eq!(state(&seen), State::Blocked);
    for _ in 0..3 {
        let (probe, wait) = next_after(&mut lane).await;
        assert_eq!((number(&probe), wait), (0, 300 * SECOND));
        assert!(lane.try_next().is_none(), "one probe");
        lane.settle(probe, turned_away());
        assert_eq!(state(&seen), State::Blocked);
    }
    bench.link_up.signal();
    let (probe, wait) = next_after(&mut lane).await;
    assert!(wait <= SECOND);
    lane.settle(probe, delivered());
    assert_eq!(state(&seen), State::Active);
    drain(&mut lane, |got| got.len() == 2).await;
    let account = bench.wait_until_done().await;
    assert_eq!((account.delivered, account.dead_letters), (3, 0));
}

/// S8: while our clock may be wrong, a refusal is a plain retry.
#[tokio::test(start_paused = true)]
async fn a_refusal_under_an_untrusted_clock_is_a_retry() {
    let mut bench = Bench::new(ROOMY).await;
    bench.clock.set_trusted(false);
    let (mut lane, seen) = bench.lane(Ordering::PerKey, fixed(10));
    bench.append(To::Us, &devices(&[1])).await;
    let lease = lane.next().await;
    lane.settle(lease, turned_away());
    assert_eq!(state(&seen), State::Degraded);
    let (lease, wait) = next_after(&mut lane).await;
    assert_eq!(wait, 10 * SECOND);
    bench.clock.set_trusted(true);
    lane.settle(lease, turned_away());
    assert_eq!(state(&seen), State::Blocked);
}

/// The same for twenty refused records: without a clock to trust they do not block.
#[tokio::test(start_paused = true)]
async fn refused_records_under_an_untrusted_clock_do_not_block() {
    let mut bench = Bench::new(ROOMY).await;
    bench.clock.set_trusted(false);
    let (mut lane, seen) = bench.lane(Ordering::PerKey, fixed(10));
    bench.append(To::Us, &devices(&[1, 2].repeat(15))).await;
    for _ in 0..25 {
        let lease = lane.next().await;
        lane.settle(lease, bad_record());
    }
    assert_ne!(state(&seen), State::Blocked);
}

/// S1: twenty refused records in a row over two devices blame the endpoint; then each probe costs at most its record.
#[tokio::test(start_paused = true)]
async fn twenty_refusals_over_two_devices_block() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, seen) = bench.lane(Ordering::Stream, fixed(10));
    bench.append(To::Us, &devices(&[1, 2].repeat(15))).await;
    for n in 0..20 {
        assert_ne!(state(&seen), State::Blocked, "after {n}");
        let (lease, wait) = next_after(&mut lane).await;
        assert_eq!((number(&lease), wait), (n, Duration::ZERO));
        lane.settle(lease, bad_record());
    }
    assert_eq!(state(&seen), State::Blocked);
    assert_eq!(seen.borrow().last_error.as_ref().unwrap().layer, Layer::Http);
    for n in 20..23 {
        let (probe, wait) = next_after(&mut lane).await;
        assert_eq!((number(&probe), wait), (n, 300 * SECOND));
        lane.settle(probe, bad_record());
        assert_eq!(state(&seen), State::Blocked);
    }
    let probe = lane.next().await;
    lane.settle(probe, delivered());
    assert_eq!(state(&seen), State::Active);
    drain(&mut lane, |got| got.len() == 6).await;
    let account = bench.wait_until_done().await;
    assert_eq!((account.delivered, account.dead_letters), (7, 23));
}

/// S1: one device alone does not block, and a success in between starts the count again.
#[tokio::test(start_paused = true)]
async fn refusals_of_one_device_or_with_a_success_between_do_not_block() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, seen) = bench.lane(Ordering::Stream, fixed(10));
    bench.append(To::Us, &devices(&[7; 45])).await;
    for _ in 0..45 {
        let lease = lane.next().await;
        lane.settle(lease, bad_record());
        assert_ne!(state(&seen), State::Blocked);
    }
    bench.append(To::Us, &devices(&[1, 2].repeat(20))).await;
    for n in 0..40 {
        let lease = lane.next().await;
        lane.settle(lease, if n % 20 == 0 { delivered() } else { bad_record() });
        assert_ne!(state(&seen), State::Blocked);
    }
    assert_eq!(bench.wait_until_done().await.dead_letters, 45 + 38);
}

/// S1: `on_reject = "retry"`.
#[tokio::test(start_paused = true)]
async fn refused_records_are_retried_if_the_operator_says_so() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, _) = bench.lane(Ordering::Stream, Retry { on_reject: OnReject::Retry, ..fixed(10) });
    bench.append(To::Us, &devices(&[1])).await;
    for attempt in 1..30 {
        let (lease, wait) = next_after(&mut lane).await;
        assert_eq!(lease.attempt, attempt);
        assert_eq!(wait, if attempt == 1 { Duration::ZERO } else { 10 * SECOND });
        lane.settle(lease, bad_record());
    }
    let lease = lane.next().await;
    lane.settle(lease, delivered());
    let account = bench.wait_until_done().await;
    assert_eq!((account.delivered, account.dead_letters), (1, 0));
}

/// S8: `strategy = "none"` and `max_attempts` give a record up, after failures of the link; never because the endpoint
/// refuses.
#[tokio::test(start_paused = true)]
async fn attempts_are_limited_where_the_operator_limits_them() {
    let none = Retry { strategy: Strategy::None, initial: SECOND, max: SECOND, ..fixed(1) };
    let three = Retry { max_attempts: 3, ..fixed(10) };
    for (retry, attempts) in [(none, 1), (three, 3)] {
        let mut bench = Bench::new(ROOMY).await;
        let (mut lane, _) = bench.lane(Ordering::Stream, retry);
        bench.append(To::Us, &devices(&[1, 2])).await;
        for attempt in 1..=attempts {
            let lease = lane.next().await;
            assert_eq!((number(&lease), lease.attempt), (0, attempt));
            lane.settle(lease, unreachable_now());
        }
        for _ in 0..5 {
            let lease = lane.next().await;
            assert_eq!(number(&lease), 1);
            lane.settle(lease, turned_away());
        }
        let view = bench.wait_for(|view| ours(view).backlog == 1).await;
        assert_eq!(ours(&view).dead_letters, 1);
    }
}

/// S8: active, degraded, down, active; three failures and thirty seconds make it down.
#[tokio::test(start_paused = true)]
async fn the_states_of_an_outage() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, seen) = bench.lane(Ordering::Stream, fixed(10));
    bench.append(To::Us, &devices(&[1])).await;
    assert_eq!(state(&seen), State::Active);
    for _ in 0..3 {
        let lease = lane.next().await;
        lane.settle(lease, unreachable_now());
        assert_eq!(state(&seen), State::Degraded);
    }
    advance(10 * SECOND - Duration::from_millis(1)).await;
    assert_eq!(state(&seen), State::Degraded, "three failures in 29.999 s");
    advance(Duration::from_millis(1)).await;
    assert_eq!(state(&seen), State::Down);
    let lease = lane.next().await;
    lane.settle(lease, delivered());
    assert_eq!(state(&seen), State::Active);

    lane.failed(&Failure::link(Layer::Dns, "no such name"));
    advance(100 * SECOND).await;
    assert_eq!(state(&seen), State::Degraded, "one failure, however long ago");
    let Outcome::Failed(refusal) = turned_away() else { panic!() };
    lane.failed(&refusal);
    assert_eq!(state(&seen), State::Blocked);
    lane.reached();
    assert_eq!(state(&seen), State::Active, "let in, and nothing to deliver");
}

/// A connection alone proves nothing while records wait: the first acknowledged one does.
#[tokio::test(start_paused = true)]
async fn being_let_in_is_no_success_while_records_wait() {
    let mut bench = Bench::new(ROOMY).await;
    let (mut lane, seen) = bench.lane(Ordering::Stream, fixed(10));
    bench.append(To::Us, &devices(&[1, 2])).await;
    lane.failed(&Failure::link(Layer::Tcp, "refused"));
    lane.may_attempt().await;
    assert!(seen.borrow().oldest.is_some(), "what waits can be seen before there is a connection");
    lane.reached();
    assert_eq!(state(&seen), State::Degraded);
    let lease = lane.next().await;
    assert!(lane.try_next().is_none());
    lane.settle(lease, delivered());
    assert_eq!(state(&seen), State::Active);
}
