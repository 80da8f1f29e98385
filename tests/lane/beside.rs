//! More than one record for one attempt (RULES S16).

use packhorse::delivery::{Beside, Lane, Lease, Ordering};

use crate::bench::{
    Bench, ROOMY, To, delivered, devices, fixed, next_after, number, numbers, ours, take_all, unreachable_now,
};

/// The first record that may be sent, and everything that goes along with it.
fn batch(lane: &mut Lane) -> Vec<Lease> {
    let mut leases = vec![lane.try_next().unwrap()];
    while let Beside::Leased(lease) = lane.try_next_beside(&leases[0]) {
        leases.push(lease);
    }
    leases
}

/// After a failure one attempt goes first, alone: a batch is one.
#[tokio::test(start_paused = true)]
async fn a_batch_is_one_attempt() {
    let mut bench = Bench::new(ROOMY).await;
    bench.append(To::Us, &devices(&[1, 1, 2, 1])).await;
    let (mut lane, seen) = bench.lane(Ordering::Stream, fixed(10));
    let leases = batch(&mut lane);
    assert_eq!(numbers(&leases), [0, 1, 2, 3]);
    for lease in leases {
        lane.settle(lease, unreachable_now());
    }
    let (first, waited) = next_after(&mut lane).await;
    assert_eq!((number(&first), first.attempt, waited.as_secs()), (0, 2, 10), "one failure, one wait");
    let second = match lane.try_next_beside(&first) {
        Beside::Leased(second) => second,
        other => panic!("{other:?}"),
    };
    assert_eq!((number(&second), second.attempt), (1, 2));
    assert!(lane.try_next().is_none(), "no second attempt while the first is under way");
    assert_eq!(seen.borrow().in_flight, 2);
    for lease in [first, second] {
        lane.settle(lease, delivered());
    }
    bench.wait_for(|view| ours(view).delivered == 2).await;
}

/// What had no room was never sent: it is the next, and its attempt is still the first.
#[tokio::test(start_paused = true)]
async fn what_is_put_back_made_no_attempt() {
    let mut bench = Bench::new(ROOMY).await;
    bench.append(To::Us, &devices(&[1, 2, 3])).await;
    let (mut lane, _) = bench.lane(Ordering::Stream, fixed(10));
    for _ in 0..3 {
        batch(&mut lane).into_iter().for_each(|lease| lane.put_back(lease));
    }
    let leases = take_all(&mut lane);
    assert_eq!(
        leases.iter().map(|lease| (number(lease), lease.attempt)).collect::<Vec<_>>(),
        [(0, 1), (1, 1), (2, 1)]
    );
}

/// A request ends where the next record does not belong into it, or may not be sent; else more may come.
#[tokio::test(start_paused = true)]
async fn a_batch_knows_where_it_ends() {
    let mut bench = Bench::new(ROOMY).await;
    bench.add_flows().await;
    let ways = bench.ways();
    bench.append_by(&ways[..1], &devices(&[1])).await;
    bench.append_by(&ways[1..2], &devices(&[1])).await;
    bench.wait_for(|view| view.end == 2).await;
    let (mut lane, _) = bench.lane(Ordering::Stream, fixed(10));
    let first = lane.try_next().unwrap();
    assert!(matches!(lane.try_next_beside(&first), Beside::Never), "another variant");
    let second = lane.try_next().unwrap();
    assert!(matches!(lane.try_next_beside(&second), Beside::NotYet));

    // In a failover group with one that sends requests in parallel, a device is in a batch once.
    let (mut lane, _) = bench.lane(Ordering::PerKey, fixed(10));
    let first = lane.try_next().unwrap();
    assert!(matches!(lane.try_next_beside(&first), Beside::Never), "the device is busy");
}
