//! What `spool check` and `spool export` see in a file, held against what redb and the agent make of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod spool_stage;

use std::ops::ControlFlow;
use std::path::Path;

use packhorse::spool::inspect::{Exported, InspectError, Inspection, Report, Selection, Soundness};
use packhorse::spool::{Settlement, Spool};
use spool_stage::{Stage, Two, number, put, seqs, two, until};

const PAGE: usize = 4096;

fn check(path: &Path) -> Report {
    Inspection::open(path).unwrap().check()
}

fn exported(path: &Path, selection: &Selection) -> Vec<Exported> {
    let mut all = Vec::new();
    let file = Inspection::open(path).unwrap();
    let exports = file.export(selection, &mut |one| {
        all.push(one);
        ControlFlow::Continue(())
    });
    assert_eq!((exports.exported, exports.unreadable), (all.len() as u64, 0));
    all
}

fn numbers(all: &[Exported]) -> Vec<u64> {
    all.iter().map(|one| number(&one.uplink)).collect()
}

/// Uplinks of many sizes, some of more than a page, some delivered to one of the two, some to both, some refused.
async fn lived_in(stage: &Stage, n: u64, random: &mut fastrand::Rng) -> (Spool, Two) {
    let spool = stage.open();
    let two = two(&spool).await;
    let mut of = 0..n;
    while !of.is_empty() {
        let uplinks: Vec<_> = of
            .by_ref()
            .take(random.usize(1..60))
            .map(|n| {
                let len =
                    if random.u8(..20) == 0 { random.usize(1_000..20_000) } else { random.usize(1..200) };
                spool_stage::uplink(n, len, &*stage.clock)
            })
            .collect();
        put(&spool, &two.routes, uplinks).await;
    }
    for (n, seq) in seqs(&two.ledgers[0]).into_iter().enumerate() {
        let end = match (n % 10, random.u8(..10)) {
            (7, _) => Settlement::Refused { reason: "http: 422".into(), attempts: 1 },
            (_, 0..4) => Settlement::Delivered,
            _ => continue,
        };
        two.ledgers[0].settle(seq, seq, end);
        if random.bool() {
            two.ledgers[1].settle(seq, seq, Settlement::Delivered);
        }
    }
    spool_stage::barrier(&spool).await;
    (spool, two)
}

/// The counts are those of the agent, whether it closed the file or not; and looking changes nothing.
#[tokio::test]
async fn check_counts_what_the_agent_counts() {
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..8 {
        let stage = Stage::new();
        let n = random.u64(1..1_500);
        let (spool, two) = lived_in(&stage, n, &mut random).await;
        // One more, durably: then the file is complete although it is open.
        put(&spool, &two.routes, [stage.uplink(n)]).await;
        let view = until(&mut spool.view(), "everything on the disk", |view| view.at_risk == 0).await;
        let path = stage.settings.path.clone();
        let copy = stage.beside("copy");
        std::fs::copy(&path, &copy).unwrap();
        assert!(matches!(Inspection::open(&path), Err(InspectError::InUse(_))));
        spool.close();
        for (file, closed) in [(&path, true), (&copy, false)] {
            let before = std::fs::read(file).unwrap();
            let report = check(file);
            assert_eq!(report.problems, Vec::<String>::new(), "round {round}");
            assert_eq!((&report.soundness, report.closed), (&Soundness::Sound, closed));
            assert_eq!((report.records, report.bytes), (view.records, view.bytes), "round {round}");
            assert_eq!(report.accounts, view.accounts, "round {round}");
            assert_eq!(std::fs::read(file).unwrap(), before);
        }
    }
}

/// What waits comes out in order, and nothing else.
#[tokio::test]
async fn export_gives_what_waits() {
    let stage = Stage::new();
    let spool = stage.open();
    let two_of = two(&spool).await;
    put(&spool, &two_of.routes, (0..300).map(|n| stage.uplink(n))).await;
    let all = seqs(&two_of.ledgers[0]);
    for (n, &seq) in all.iter().enumerate() {
        for (which, ledger) in two_of.ledgers.iter().enumerate() {
            let refused = Settlement::Refused { reason: "http: 422 no".into(), attempts: 4 };
            match (n % 3, which) {
                (0, _) | (1, 0) => ledger.settle(seq, seq, Settlement::Delivered),
                (2, 0) if n > 290 => ledger.settle(seq, seq, refused),
                _ => {}
            }
        }
    }
    spool_stage::barrier(&spool).await;
    spool.close();
    let path = &stage.settings.path;
    let waits = |wanted: &dyn Fn(u64) -> bool| (0..300).filter(|n| wanted(*n)).collect::<Vec<u64>>();
    let of = |name: &str| Selection { integration: Some(name.into()), dead: false };
    let everything = exported(path, &Selection::default());
    assert_eq!(numbers(&everything), waits(&|n| n % 3 != 0));
    assert_eq!(everything[0].uplink, stage.uplink(1));
    assert_eq!(everything[0].seq, all[1]);
    let names = |one: &Exported| one.destinations.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    assert_eq!(
        (names(&everything[0]), names(&everything[1])),
        (vec!["broker".into()], vec!["api".into(), "broker".into()])
    );
    assert_eq!(numbers(&exported(path, &of("api"))), waits(&|n| n % 3 == 2 && n <= 290));
    assert_eq!(numbers(&exported(path, &of("broker"))), waits(&|n| n % 3 != 0));
    assert_eq!(exported(path, &of("nobody")).len(), 0);
    let dead = exported(path, &Selection { dead: true, integration: None });
    assert_eq!(numbers(&dead), waits(&|n| n % 3 == 2 && n > 290));
    let (reason, attempts, _) = dead[0].refused.clone().unwrap();
    assert_eq!((reason.as_str(), attempts, names(&dead[0])), ("http: 422 no", 4, vec!["api".to_owned()]));
    let nobodys = exported(path, &Selection { dead: true, integration: Some("broker".into()) });
    assert_eq!(nobodys.len(), 0);
}

/// DESIGN invariant 7: whatever happened to a byte or a page, the verdict is that of the agent, and neither panics.
#[tokio::test]
async fn the_verdict_is_what_the_agent_will_do() {
    let mut random = fastrand::Rng::with_seed(4);
    let made = Stage::new();
    let (spool, _) = lived_in(&made, 400, &mut random).await;
    let unclean = made.beside("copy");
    std::fs::copy(&made.settings.path, &unclean).unwrap();
    spool.close();
    let images = [std::fs::read(&made.settings.path).unwrap(), std::fs::read(&unclean).unwrap()];
    let mut damaged = 0;
    for round in 0..160 {
        let stage = Stage::new();
        let path = &stage.settings.path;
        let mut bytes = images[round % 2].clone();
        let at = if round % 3 == 0 { random.usize(..400) } else { random.usize(..bytes.len()) };
        let page = at / PAGE * PAGE;
        match round % 5 {
            0 => bytes[page..page + PAGE].fill(0),
            1 => bytes[page..page + PAGE].iter_mut().for_each(|byte| *byte = random.u8(..)),
            2 => bytes.truncate(at),
            _ => bytes[at] ^= 1 << random.u8(..8),
        }
        std::fs::write(path, &bytes).unwrap();
        let report = check(path);
        let spool = stage.try_open().unwrap_or_else(|error| panic!("round {round}, byte {at}: {error}"));
        let view = spool.view().borrow().clone();
        let is_set_aside = !view.set_aside.is_empty();
        let wanted = if is_set_aside { Soundness::Damaged } else { Soundness::Sound };
        let soundness =
            if report.soundness == Soundness::New { Soundness::Sound } else { report.soundness.clone() };
        assert_eq!(soundness, wanted, "round {round}, byte {at}: {:?} {:?}", report.problems, view.set_aside);
        damaged += usize::from(is_set_aside);
    }
    assert!((60..140).contains(&damaged), "{damaged} of 160 were damaged");
}

/// A spool whose agent runs is left alone; one that is not there is named.
#[tokio::test]
async fn only_a_stopped_agents_spool_is_looked_at() {
    let stage = Stage::new();
    let path = &stage.settings.path;
    assert!(matches!(Inspection::open(path), Err(InspectError::Missing(_))));
    let spool = stage.open();
    let error = Inspection::open(path).unwrap_err();
    assert!(error.to_string().contains("stop the agent first"), "{error}");
    spool.close();
    let looking = Inspection::open(path).unwrap();
    let error = stage.try_open().unwrap_err();
    assert!(matches!(error, packhorse::spool::OpenError::InUse(_)), "{error}");
    drop(looking);
    stage.open().close();
    assert!(matches!(Inspection::open(stage.folder.path()), Err(InspectError::Unreadable { .. })));
    std::fs::write(path, b"").unwrap();
    assert_eq!(check(path).soundness, Soundness::New);
}
