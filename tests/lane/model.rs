//! Random far ends against a plain model of what may happen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use packhorse::config::{Order, Retry};
use packhorse::delivery::outcome::Outcome;
use packhorse::delivery::{Lane, Lease, Ordering};
use packhorse::spool::{Loss, MAX_RANGES};
use tokio::time::advance;

use crate::bench::*;

/// Records under way at a time, as many as the widest MQTT window.
const MOST_UNDER_WAY: usize = 64;

/// What the far end has seen, and what may therefore still come.
struct Model {
    ordering: Ordering,
    order: Order,
    random: fastrand::Rng,
    /// Under way, in the order of leasing.
    leases: Vec<Lease>,
    /// Accepted or refused for good: never to be seen again.
    ended: BTreeSet<usize>,
    accepted: usize,
    /// The last first attempt of each device.
    last_first: BTreeMap<u8, usize>,
    routed_to_us: u64,
    made: usize,
}

impl Model {
    fn check(&mut self, lease: &Lease) {
        let (n, device) = (number(lease), device(lease));
        assert!(!self.ended.contains(&n), "record {n} came again after it was settled");
        assert!(self.leases.iter().all(|other| number(other) != n), "record {n} is under way twice");
        if self.ordering == Ordering::PerKey {
            assert!(self.leases.iter().all(|other| super::bench::device(other) != device), "device {device}");
        }
        // Newer records first means: of a device, too.
        if lease.attempt == 1 && self.order == Order::OldestFirst {
            let before = self.last_first.insert(device, n);
            assert!(
                before < Some(n),
                "device {device}: {n} after {before:?} (DESIGN section 4, invariant 2)"
            );
        }
    }

    fn lease(&mut self, lane: &mut Lane) {
        for _ in 0..self.random.usize(1..20) {
            if self.leases.len() >= MOST_UNDER_WAY {
                return;
            }
            let Some(lease) = lane.try_next() else { return };
            self.check(&lease);
            self.leases.push(lease);
            assert_eq!(lane.in_flight(), self.leases.len());
        }
    }

    fn end_one(&mut self, lane: &mut Lane, outcome: Outcome) {
        if self.leases.is_empty() {
            return;
        }
        let lease = self.leases.remove(self.random.usize(..self.leases.len()));
        if outcome == delivered() || outcome == bad_record() {
            self.ended.insert(number(&lease));
            self.accepted += usize::from(outcome == delivered());
        }
        lane.settle(lease, outcome);
    }

    fn break_connection(&mut self, lane: &mut Lane) {
        self.leases.drain(..).for_each(|lease| lane.release(lease));
        let Outcome::Failed(failure) = unreachable_now() else { panic!() };
        lane.failed(&failure);
    }

    async fn append(&mut self, bench: &mut Bench) {
        let to = [To::Us, To::Us, To::Them, To::Both][self.random.usize(..4)];
        let frames: Vec<Frame> = (0..self.random.usize(1..15))
            .map(|_| (self.random.u8(..12), self.random.usize(10..1_200)))
            .collect();
        self.made += frames.len();
        if to != To::Them {
            self.routed_to_us += frames.len() as u64;
        }
        bench.append(to, &frames).await;
    }

    async fn step(&mut self, bench: &mut Bench, lane: &mut Lane) {
        match self.random.u8(..100) {
            0..18 => self.append(bench).await,
            18..45 => self.lease(lane),
            45..75 => self.end_one(lane, delivered()),
            75..79 => self.end_one(lane, bad_record()),
            79..83 => self.end_one(lane, unreachable_now()),
            83 => self.end_one(lane, asked_to_wait(30)),
            84 => self.end_one(lane, turned_away()),
            85 => self.break_connection(lane),
            86..89 => bench.link_up.signal(),
            89..94 => hear(lane).await,
            _ => advance(Duration::from_millis(self.random.u64(..20_000))).await,
        }
        let ranges = bench.ledger(To::Us).settled().unwrap().ranges().len();
        assert!(ranges <= MAX_RANGES, "{ranges} ranges (S4)");
    }
}

async fn run(ordering: Ordering, order: Order, max_size: u64, seed: u64) {
    let mut bench = Bench::new(max_size).await;
    bench.order = order;
    let (mut lane, seen) = bench.lane(ordering, Retry { probe: Duration::from_secs(60), ..fixed(5) });
    let mut model = Model {
        ordering,
        order,
        random: fastrand::Rng::with_seed(seed),
        leases: Vec::new(),
        ended: BTreeSet::new(),
        accepted: 0,
        last_first: BTreeMap::new(),
        routed_to_us: 0,
        made: 0,
    };
    for _ in 0..1_500 {
        model.step(&mut bench, &mut lane).await;
    }
    // A last record that everything before it has to make way for.
    bench.append(To::Us, &devices(&[200])).await;
    model.routed_to_us += 1;
    let last = model.made;
    model.leases.drain(..).for_each(|lease| lane.release(lease));
    while order == Order::LiveFirst || !model.ended.contains(&last) {
        // Where newer records go first the last one is not the end.
        let lease = tokio::select! {
            biased;
            lease = lane.next() => lease,
            () = bench.gone() => break,
        };
        model.check(&lease);
        model.ended.insert(number(&lease));
        model.accepted += 1;
        lane.settle(lease, delivered());
    }

    let account = bench.wait_until_done().await;
    let lost = |reason| account.lost.iter().find(|(loss, _)| *loss == reason).map_or(0, |(_, n)| *n);
    let ended = account.delivered + account.dead_letters + lost(Loss::DeadEvicted);
    assert_eq!(ended + lost(Loss::Evicted), model.routed_to_us, "seed {seed}: {account:?}");
    assert!(account.delivered <= model.accepted as u64, "seed {seed}: delivered means acknowledged");
    // A record that was evicted while it was under way counts as evicted, whatever the far end said.
    let never_ended = model.routed_to_us - model.ended.len() as u64;
    assert!(
        never_ended <= lost(Loss::Evicted),
        "seed {seed}: {never_ended} gone without a trace, {account:?}"
    );
    // Of an older part of the log others' records may be left to pass over.
    assert!(lane.try_next().is_none());
    let ledger = bench.ledger(To::Us);
    bench.wait_for(|view| ledger.settled().unwrap().low() == view.end).await;
    let settled = ledger.settled().unwrap();
    assert_eq!((settled.low(), settled.ranges()), (bench.view().end, [].as_slice()), "seed {seed}");
    assert_eq!((lane.in_flight(), seen.borrow().oldest), (0, None), "seed {seed}");

    // What was also theirs has waited for them, and for nobody else. The writer may fall behind here: the lane then waits.
    let (mut theirs, _) = bench.lane_of(To::Them, Ordering::Stream, fixed(1));
    let waiting = usize::try_from(bench.view().records).unwrap();
    drain(&mut theirs, |got| got.len() == waiting).await;
    bench.wait_for(|view| view.records == 0).await;
}

/// Whatever far end and link do, every record is delivered or a dead letter, once, and nothing is left.
#[tokio::test(start_paused = true)]
async fn per_key_with_room() {
    for seed in 0..12 {
        run(Ordering::PerKey, Order::OldestFirst, ROOMY, seed).await;
    }
}

/// The same for MQTT.
#[tokio::test(start_paused = true)]
async fn stream_with_room() {
    for seed in 100..112 {
        run(Ordering::Stream, Order::OldestFirst, ROOMY, seed).await;
    }
}

/// The same where newer records go first and a reconnect opens a new end of the log.
#[tokio::test(start_paused = true)]
async fn newer_first_with_room() {
    for seed in 300..312 {
        run(Ordering::PerKey, Order::LiveFirst, ROOMY, seed).await;
        run(Ordering::Stream, Order::LiveFirst, ROOMY, seed).await;
    }
}

/// The same in a spool that is too small, where records are evicted while they are held, waiting or under way.
#[tokio::test(start_paused = true)]
async fn with_evictions() {
    for seed in 200..212 {
        for order in [Order::OldestFirst, Order::LiveFirst] {
            run(Ordering::PerKey, order, 150_000, seed).await;
            run(Ordering::Stream, order, 150_000, seed).await;
        }
    }
}
