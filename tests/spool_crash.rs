//! What power cuts and failing disks may take from the spool, and what they may not.
//!
//! The runs are seeded. `PACKHORSE_CRASH_CYCLES` sets how many power cuts there are (60 without it).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod spool_stage;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use packhorse::clock::ManualClock;
use packhorse::config::OnFull;
use packhorse::spool::{Backend, Entry, Note, OpenError, Routed, Settings, Settlement, Spool, View};
use spool_stage::disk::{Disk, Fault, Operation};
use spool_stage::{NEVER, Two, account, append, counts, entries, mine, number, two, until, uplink};
use tokio::sync::watch;

/// Power cuts that one disk lives through.
const CYCLES_A_DISK: u64 = 20;

/// Small, so that eviction is a part of every life.
const MAX_SIZE: u64 = 256 << 10;

/// RULES S30: fewer settlements than this may be undone by a crash.
const SETTLED_IN_VAIN: usize = 256;

fn settings(max_size: u64, commit_window: Duration) -> Settings {
    Settings {
        path: "in-memory".into(),
        max_size,
        max_age: NEVER,
        commit_window,
        keep_delivered: Duration::ZERO,
        on_full: OnFull::DropOldest,
    }
}

fn open(disk: &Disk, settings: &Settings) -> Result<Spool, OpenError> {
    Spool::open(settings.clone(), &Backend::Custom(Arc::new(disk.clone())), Arc::new(ManualClock::new()))
}

/// Waits for `ok`, or for trouble: then the answer is false.
async fn unless_trouble(view: &mut watch::Receiver<Arc<View>>, mut ok: impl FnMut(&View) -> bool) -> bool {
    until(view, "progress or trouble", |view| view.trouble.is_some() || ok(view)).await.trouble.is_none()
}

/// Everything that was ever done to one disk, and what has to be on it.
struct Model {
    random: fastrand::Rng,
    /// Every other disk keeps what everybody has settled.
    keep_delivered: Duration,
    next: u64,
    /// Uplinks that are in the file for good, and the accounts they are for.
    durable: BTreeMap<u64, Vec<usize>>,
    /// Uplinks of this life, in order; `View::durable` says how many of them are durable.
    life: Vec<(u64, Vec<usize>)>,
    /// `View::durable` when this life began.
    base: u64,
    sent: [BTreeSet<u64>; 2],
    /// Settlements that were seen to be done.
    done: [BTreeSet<u64>; 2],
    number_of: HashMap<u64, u64>,
    /// What the runs have met, so that a run that meets nothing is noticed.
    met: Met,
}

#[derive(Clone, Copy, Debug, Default)]
struct Met {
    evicted: u64,
    in_vain: usize,
    uncommitted: usize,
    recovered: usize,
}

impl Model {
    fn new(seed: u64) -> Model {
        Model {
            random: fastrand::Rng::with_seed(seed),
            keep_delivered: if seed.is_multiple_of(2) { Duration::ZERO } else { NEVER },
            next: 0,
            durable: BTreeMap::new(),
            life: Vec::new(),
            base: 0,
            sent: Default::default(),
            done: Default::default(),
            number_of: HashMap::new(),
            met: Met::default(),
        }
    }

    /// Appends a few, waits until they are visible; false: the power is gone.
    async fn append(&mut self, spool: &Spool, two: &Two) -> bool {
        let clock = ManualClock::new();
        let mut batch = Vec::new();
        let mut view = spool.view();
        let end = view.borrow().end + self.random.u64(1..60);
        for _ in view.borrow().end..end {
            let targets = [vec![0], vec![1], vec![0, 1], vec![0, 1]][self.random.usize(..4)].clone();
            let routes = targets.iter().map(|n| two.routes[*n]).collect();
            batch.push(Routed { uplink: uplink(self.next, self.len_of(self.next), &clock), routes });
            self.life.push((self.next, targets));
            self.next += 1;
        }
        spool.appender().append(batch, Vec::new()).await.unwrap();
        unless_trouble(&mut view, |view| view.end >= end).await
    }

    fn len_of(&self, number: u64) -> usize {
        usize::try_from(number * 97 % 300).unwrap()
    }

    /// Settles some of what one integration waits for, and waits until it is done.
    async fn settle(&mut self, spool: &Spool, two: &Two) -> bool {
        let who = self.random.usize(..2);
        let ledger = &two.ledgers[who];
        let Ok(settled) = ledger.settled() else { return false };
        let mut waiting = Vec::new();
        let mut visit = |seq, entry| {
            if let Entry::Mine(mine) = entry {
                see(&mut self.number_of, seq, number(&mine.uplink));
                if !settled.contains(seq) {
                    waiting.push((seq, number(&mine.uplink)));
                }
            }
            ControlFlow::Continue(())
        };
        if ledger.scan(0, 400, &mut visit).is_err() {
            return false;
        }
        // A lane holds few at a time, so it leaves few gaps.
        waiting.truncate(60);
        let mut sent = Vec::new();
        for (seq, number) in waiting {
            if self.random.f64() < 0.4 {
                let settlement = if self.random.u8(..50) == 0 {
                    Settlement::Refused { reason: "no".into(), attempts: 1 }
                } else {
                    Settlement::Delivered
                };
                ledger.settle(seq, seq, settlement);
                self.sent[who].insert(number);
                sent.push(number);
            }
        }
        let ok = self.append(spool, two).await;
        if ok {
            self.done[who].extend(sent);
        }
        ok
    }

    /// What the disk was seen to have promised when the power went.
    fn learn(&mut self, view: &View) {
        let durable = usize::try_from(view.durable - self.base).unwrap();
        assert!(durable <= self.life.len(), "more is committed than was put in");
        self.durable.extend(self.life.drain(..durable));
        self.base = view.durable;
    }

    /// Compares what is on the disk with what has to be.
    fn check(&mut self, spool: &Spool, two: &Two) {
        let view = spool.view().borrow().clone();
        // A commit may have arrived that nobody was told of.
        let told = self.base;
        self.learn(&view);
        self.met.recovered += usize::from(self.base > told);
        self.met.uncommitted += self.life.len();
        self.life.clear();

        let mut present = BTreeMap::new();
        for who in 0..2 {
            for (seq, entry) in entries(&two.ledgers[who]) {
                match entry {
                    Entry::Mine(packhorse::spool::Routed { uplink, .. }) => {
                        let number = number(&uplink);
                        let clock = ManualClock::new();
                        assert_eq!(uplink, spool_stage::uplink(number, self.len_of(number), &clock));
                        present.insert(number, seq);
                    }
                    Entry::Other => {}
                    other => panic!("{seq} is {other:?}"),
                }
            }
        }
        assert_eq!(view.records, present.len() as u64);
        for (number, seq) in &present {
            assert!(self.durable.contains_key(number), "{number} came out of nowhere");
            see(&mut self.number_of, *seq, *number);
        }
        self.check_missing(&present);
        self.check_accounts(&view, two, &present);
    }

    /// What is durable is in the log, or all its accounts have settled it, or it was the oldest and made room.
    fn check_missing(&self, present: &BTreeMap<u64, u64>) {
        let oldest = present.keys().next().copied().unwrap_or(u64::MAX);
        for (number, targets) in &self.durable {
            let all_settled = targets.iter().all(|who| self.sent[*who].contains(number));
            assert!(
                present.contains_key(number) || all_settled || *number < oldest,
                "{number} was durable and is gone; {oldest} is there"
            );
        }
    }

    /// RULES S24: backlog and losses are exact. S30: few settlements were in vain.
    fn check_accounts(&mut self, view: &View, two: &Two, present: &BTreeMap<u64, u64>) {
        let mut in_vain = 0;
        for who in 0..2 {
            let settled = two.ledgers[who].settled().unwrap();
            let for_it = |number: &u64| self.durable[number].contains(&who);
            let waiting: BTreeSet<u64> = present
                .iter()
                .filter(|(number, seq)| for_it(number) && !settled.contains(**seq))
                .map(|(number, _)| *number)
                .collect();
            let now = account(view, two.accounts[who]);
            assert_eq!(now.backlog, waiting.len() as u64);
            let ever = self.durable.keys().filter(|number| for_it(number)).count() as u64;
            let lost: u64 = now.lost.iter().map(|(_, n)| n).sum();
            self.met.evicted = self.met.evicted.max(lost);
            assert_eq!(now.backlog + now.delivered + now.dead_letters + lost, ever, "{now:?}");
            in_vain += waiting.intersection(&self.done[who]).count();
            self.done[who].retain(|number| !waiting.contains(number));
            self.sent[who].retain(|number| !waiting.contains(number));
        }
        self.met.in_vain += in_vain;
        assert!(in_vain < SETTLED_IN_VAIN, "{in_vain} settlements were in vain");
    }

    /// One life: open, check, work until the power goes. Sometimes it goes while the file is being opened and repaired.
    async fn live(&mut self, disk: &Disk) {
        let window = [Duration::ZERO, Duration::from_millis(1), NEVER][self.random.usize(..3)];
        let early = self.random.u8(..6) == 0;
        if early {
            disk.cut_after(self.random.usize(..40));
        }
        let spool =
            match open(disk, &Settings { keep_delivered: self.keep_delivered, ..settings(MAX_SIZE, window) })
            {
                Ok(spool) => spool,
                Err(error) => {
                    assert!(early && error.to_string().contains("power"), "{error}");
                    return;
                }
            };
        if let Some(two) = self.introduce(&spool).await
            && !early
        {
            self.check(&spool, &two);
            disk.cut_after(self.random.usize(..300));
            self.work(&spool, &two).await;
        }
        // Mostly the process is gone with the power. Sometimes only the card was, and comes back under a process that lives.
        if self.random.u8(..4) == 0 {
            disk.power_cycle();
        } else {
            disk.cut();
        }
        let view = spool.view().borrow().clone();
        if !early {
            self.learn(&view);
        }
        spool.close();
    }

    /// Appends and settles, until the power goes or enough was done.
    async fn work(&mut self, spool: &Spool, two: &Two) {
        for _ in 0..self.random.usize(2..40) {
            let alive = if self.random.bool() {
                self.append(spool, two).await
            } else {
                self.settle(spool, two).await
            };
            if !alive {
                return;
            }
        }
    }

    /// The routes, unless the power goes before they are made.
    async fn introduce(&self, spool: &Spool) -> Option<Two> {
        let mut view = spool.view();
        tokio::select! {
            two = two(spool) => Some(two),
            _ = until(&mut view, "trouble", |view| view.trouble.is_some()) => None,
        }
    }
}

/// A sequence number means one uplink, also if a crash took that uplink before it was durable.
fn see(number_of: &mut HashMap<u64, u64>, seq: u64, number: u64) {
    let known = *number_of.entry(seq).or_insert(number);
    assert_eq!(known, number, "sequence number {seq} was used twice");
}

/// DESIGN invariants 1 and 7: whatever a power cut leaves of the unsynced writes, the spool opens again, holds everything
/// that it said was committed, counts exactly, and uses no sequence number twice.
#[tokio::test]
async fn power_cuts_take_nothing_that_was_committed() {
    let cycles = std::env::var("PACKHORSE_CRASH_CYCLES").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let (mut disk, mut model) = (Disk::new(0), Model::new(0));
    for cycle in 0..cycles {
        if cycle % CYCLES_A_DISK == 0 {
            let met = model.met;
            (disk, model) = (Disk::new(cycle), Model { met, ..Model::new(cycle) });
            // A cut while the very first file is being made leaves no database, and nothing in it to lose.
            open(&disk, &settings(MAX_SIZE, NEVER)).unwrap().close();
        }
        println!("cycle {cycle}: {} durable uplinks so far", model.durable.len());
        model.live(&disk).await;
        disk.power_cycle();
    }
    let spool = open(&disk, &settings(MAX_SIZE, NEVER)).unwrap();
    let two = two(&spool).await;
    model.check(&spool, &two);
    spool.close();
    let Met { evicted, in_vain, uncommitted, recovered } = model.met;
    assert!(
        cycles < 60 || (evicted > 0 && in_vain > 0 && uncommitted > 0 && recovered > 0),
        "the runs met too little: {:?}",
        model.met
    );
}

/// S30: of a run of settlements a power cut undoes what came after the last full 256, and no more.
#[tokio::test]
async fn a_power_cut_undoes_less_than_256_settlements() {
    for (settled, undone) in [(200, 200), (255, 255), (256, 0), (300, 44)] {
        let disk = Disk::new(settled);
        let settings = settings(64 << 20, NEVER);
        let spool = open(&disk, &settings).unwrap();
        let two_of = two(&spool).await;
        let clock = ManualClock::new();
        append(&spool.appender(), &two_of.routes, (0..400).map(|n| uplink(n, 20, &clock))).await;
        until(&mut spool.view(), "400 records", |view| view.records == 400).await;
        spool.close();

        let spool = open(&disk, &settings).unwrap();
        let two_of = two(&spool).await;
        let mut view = spool.view();
        for (n, (seq, _)) in (1..=settled).zip(mine(&two_of.ledgers[0])) {
            two_of.ledgers[0].settle(seq, seq, Settlement::Delivered);
            until(&mut view, "one more", |view| account(view, two_of.accounts[0]).delivered == n).await;
        }
        disk.power_cycle();
        spool.close();
        let spool = open(&disk, &settings).unwrap();
        let two = two(&spool).await;
        let view = spool.view().borrow().clone();
        assert_eq!(counts(&view, two.accounts[0]), (400 - settled + undone, settled - undone, 0));
    }
}

/// Puts 36 uplinks in, 3 at a time, each batch with a note, while one operation fails; returns whether one did.
async fn survives(operation: Operation, nth: usize, fault: Fault) -> bool {
    let disk = Disk::new(1);
    let settings = settings(64 << 20, Duration::ZERO);
    let spool = open(&disk, &settings).unwrap();
    let two = two(&spool).await;
    let clock = ManualClock::new();
    let mut view = spool.view();
    disk.fail(operation, nth, fault);
    for batch in 0..12 {
        let uplinks = (0..3)
            .map(|n| Routed { uplink: uplink(batch * 3 + n, 20_000, &clock), routes: two.routes.clone() });
        let note = Note { key: format!("door/{batch:02}"), value: vec![1] };
        spool.appender().append(uplinks.collect(), vec![note]).await.unwrap();
        // One at a time, so that the fault finds a round of every kind to hit.
        until(&mut view, "progress or trouble", |view| {
            view.trouble.is_some() || view.durable >= batch * 3 + 3
        })
        .await;
    }
    let after = until(&mut view, "everything committed and no trouble", |view| {
        view.durable >= 36 && view.trouble.is_none()
    });
    let after = after.await;
    let hit = disk.faults_hit() > 0;
    assert_eq!(after.generation > 0, hit, "{operation:?} {nth} {fault:?}");
    let numbers: Vec<u64> = mine(&two.ledgers[0]).into_iter().map(|(_, n)| n).collect();
    assert_eq!(numbers, (0..36).collect::<Vec<_>>(), "{operation:?} {nth} {fault:?}");
    assert_eq!(counts(&after, two.accounts[1]), (36, 0, 0));
    spool.close();
    let spool = open(&disk, &settings).unwrap();
    assert_eq!(spool.notes().len(), 12, "{operation:?} {nth} {fault:?}: {:?}", spool.notes());
    hit
}

/// RULES S3: an I/O error is no damage. The file is opened again and everything goes in once; lanes learn of it from the
/// generation, people from the trouble in the view.
#[tokio::test]
async fn an_io_error_costs_nothing_while_the_process_lives() {
    let mut cases = Vec::new();
    for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
        for nth in [0, 1, 2, 3, 5, 8, 13, 21, 34] {
            cases.push((Operation::Write, nth, Fault::Once(kind)));
            cases.push((Operation::Write, nth, Fault::Short(kind)));
        }
        cases.extend([(Operation::SetLen, 0, Fault::Once(kind)), (Operation::SetLen, 1, Fault::Once(kind))]);
        for nth in [0, 1, 2, 7] {
            cases.push((Operation::Sync, nth, Fault::Once(kind)));
            cases.push((Operation::Sync, nth, Fault::DoneButReported(kind)));
        }
    }
    let local = tokio::task::LocalSet::new();
    let runs: Vec<_> = cases.into_iter().map(|(a, b, c)| local.spawn_local(survives(a, b, c))).collect();
    local.await;
    let mut hit = 0;
    for run in runs {
        hit += usize::from(run.await.unwrap());
    }
    assert!(hit >= 48, "only {hit} faults came to pass");
}

/// RULES S3: while the disk stays away the view says what is wrong now, and uplinks that came meanwhile are not lost.
#[tokio::test]
async fn a_disk_that_comes_back_is_used_again() {
    let disk = Disk::new(2);
    let spool = open(&disk, &settings(64 << 20, Duration::ZERO)).unwrap();
    let two = two(&spool).await;
    let clock = ManualClock::new();
    let mut view = spool.view();
    append(&spool.appender(), &two.routes, [uplink(0, 10, &clock)]).await;
    until(&mut view, "the first", |view| view.durable == 1).await;
    disk.fail(Operation::Sync, 0, Fault::Lasting(io::ErrorKind::StorageFull));
    append(&spool.appender(), &two.routes, [uplink(1, 10, &clock)]).await;
    let trouble = until(&mut view, "trouble", |view| view.trouble.is_some()).await;
    assert!(trouble.trouble.as_ref().unwrap().contains("space"), "{:?}", trouble.trouble);
    append(&spool.appender(), &two.routes, [uplink(2, 10, &clock)]).await;
    let says =
        |view: &View| view.trouble.as_ref().is_some_and(|trouble| trouble.contains("the disk is gone"));
    until(&mut view, "why it can't be opened", says).await;
    disk.heal();
    let after = until(&mut view, "all three", |view| view.durable == 3 && view.trouble.is_none()).await;
    assert_eq!(after.generation, 2, "to memory and back");
    assert_eq!(mine(&two.ledgers[0]).into_iter().map(|(_, n)| n).collect::<Vec<_>>(), [0, 1, 2]);
    spool.close();
}

/// DESIGN section 6: `run` ends within 15 s of SIGTERM, also when the disk is gone for good; what was committed stays.
#[tokio::test]
async fn closing_does_not_wait_for_a_dead_disk() {
    let disk = Disk::new(3);
    let settings = settings(64 << 20, Duration::ZERO);
    let spool = open(&disk, &settings).unwrap();
    let two_of = two(&spool).await;
    let clock = ManualClock::new();
    append(&spool.appender(), &two_of.routes, [uplink(0, 10, &clock)]).await;
    until(&mut spool.view(), "the first", |view| view.durable == 1).await;
    disk.fail(Operation::Write, 0, Fault::Lasting(io::ErrorKind::Other));
    append(&spool.appender(), &two_of.routes, [uplink(1, 10, &clock)]).await;
    until(&mut spool.view(), "trouble", |view| view.trouble.is_some()).await;
    let (closed, is_closed) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        spool.close();
        closed.send(())
    });
    tokio::time::timeout(Duration::from_secs(60), is_closed).await.expect("still not closed").unwrap();

    disk.heal();
    let spool = open(&disk, &settings).unwrap();
    let two = two(&spool).await;
    assert_eq!(mine(&two.ledgers[0]).len(), 1);
}
