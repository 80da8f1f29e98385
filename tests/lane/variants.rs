//! One record that reaches an integration by several flows (RULES S5).

use packhorse::delivery::Ordering;
use packhorse::delivery::outcome::Outcome;
use packhorse::spool::Loss;

use super::bench::{Bench, bad_record, delivered, fixed, unreachable_now};

/// Equal overrides are sent once, others apart, one after the other; the record is settled with the last.
#[tokio::test(start_paused = true)]
async fn s5_each_variant_is_sent_once_and_settled_together() {
    let mut bench = Bench::new(1 << 20).await;
    bench.add_flows().await;
    let (mut lane, _) = bench.lane(Ordering::PerKey, fixed(1));
    let ways = bench.ways();
    bench.append_by(&ways, &[(1, 20)]).await;
    bench.append_by(&ways[1..3], &[(1, 20)]).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let lease = lane.next().await;
        assert!(lane.try_next().is_none(), "one device, one at a time");
        seen.push((lease.uplink.id.as_u128(), lease.variant, lease.extra, lease.attempt));
        lane.settle(lease, delivered());
    }
    assert_eq!(seen, [(0, 0, false, 1), (0, 1, true, 1), (0, 2, true, 1), (1, 1, false, 1)]);
    let view = bench.wait_for(|view| view.records == 0).await;
    assert_eq!(view.accounts[0].delivered, 2, "records, not messages");
}

/// An attempt that fails repeats its own variant and no other; attempts are counted by variant.
#[tokio::test(start_paused = true)]
async fn a_variant_that_fails_is_tried_again_alone() {
    let mut bench = Bench::new(1 << 20).await;
    bench.add_flows().await;
    let (mut lane, _) = bench.lane(Ordering::Stream, fixed(1));
    let ways = bench.ways();
    bench.append_by(&ways[..2], &[(1, 20)]).await;
    let lease = lane.next().await;
    lane.settle(lease, delivered());
    let lease = lane.next().await;
    assert_eq!((lease.variant, lease.attempt), (1, 1));
    lane.settle(lease, unreachable_now());
    let lease = lane.next().await;
    assert_eq!((lease.variant, lease.attempt), (1, 2));
    lane.settle(lease, delivered());
    assert_eq!(bench.wait_for(|view| view.records == 0).await.accounts[0].delivered, 1);
}

/// A function that drops an uplink on one flow does not drop it on another; dropped on all, it is counted as filtered.
#[tokio::test(start_paused = true)]
async fn filtered_counts_only_if_nothing_was_sent() {
    let mut bench = Bench::new(1 << 20).await;
    bench.add_flows().await;
    let (mut lane, seen) = bench.lane(Ordering::PerKey, fixed(1));
    let ways = bench.ways();
    bench.append_by(&ways[..2], &[(1, 20), (2, 20), (3, 20)]).await;
    for outcomes in [
        [Outcome::Filtered, delivered()],
        [Outcome::Filtered, Outcome::Filtered],
        [delivered(), bad_record()],
    ] {
        for outcome in outcomes {
            let lease = lane.next().await;
            lane.settle(lease, outcome);
        }
    }
    let account = bench.wait_for(|view| view.records == 0).await.accounts[0].clone();
    assert_eq!((account.delivered, account.dead_letters), (1, 1));
    assert_eq!(account.lost, [(Loss::Filtered, 1)]);
    assert!(seen.borrow().last_error.is_some());
}
