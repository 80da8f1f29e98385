//! The spool against a plain model, in lock step, on a disk that fails (DESIGN section 4; RULES S2 to S7, S11 to S13, S24, S30).
//!
//! proptest makes [cases](steps): uplinks, settlements, orders, configs, clocks, faults of the disk and crashes, in any order.
//! The [world] does each to a real spool and tells the [model], then asks both for a [picture] of everything that can be
//! seen, and the two must be equal. In what a crash leaves it must find one of the states that the model went through
//! since the last one known to be on the disk, whole, and no worse than the rules allow. At the end everything is
//! delivered. A failure is made as small as it gets and printed as a test for [`found`]; what a run has [met] is counted,
//! and one that has not met everything fails.
//!
//! That it can fail was tried with defects put into the spool one at a time: a forced commit that is not synced, an answer before
//! the commit, an eviction too many, a count left behind, a number given out twice, uplinks put in twice or not at all after
//! an error, and a dozen of that kind. Each was found within the usual run, most within seconds; two of them, a limit of RULES S30
//! that is raised and a count that an I/O error drops, only by what is kept in [`found`].
//!
//! | variable | |
//! |---|---|
//! | `PACKHORSE_MODEL_CASES` | how many cases, 320 |
//! | `PACKHORSE_MODEL_SEED` | which, 0 |
//! | `PACKHORSE_MODEL_SHRINK` | attempts to make a failure smaller, 3,000 |

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod acts;
mod found;
mod met;
mod model;
mod picture;
#[path = "../spool_stage/mod.rs"]
mod spool_stage;
mod steps;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock};

use met::Met;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use steps::{Case, case};
use world::World;

/// Cases of a usual run; `PACKHORSE_MODEL_CASES` asks for others.
const CASES: u64 = 320;

/// While one case waits for its spool another one works.
const SIDE_BY_SIDE: u64 = 4;

/// Lives through a case; returns what it has met.
fn live(case: &Case) -> Met {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(case);
        world.configure().await.unwrap();
        for step in &case.steps {
            world.step(*step).await;
        }
        world.finish().await;
        world.into_met()
    })
}

/// The number in an environment variable.
fn asked_for(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

/// The share of the cases that failed first: it is made smaller, and the others end.
#[derive(Clone)]
struct FirstFailure(Arc<OnceLock<u64>>);

/// Runs one share of the cases; what fails is made as small as can be.
fn run(cases: u32, share: u64, FirstFailure(first): &FirstFailure) -> Result<Met, String> {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: asked_for("PACKHORSE_MODEL_SHRINK").map_or(3_000, |n| n as u32),
        max_shrink_time: 90_000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&share.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let met = RefCell::new(Met::default());
    let done = runner.run(&case(), |case| {
        if first.get().is_some_and(|first| *first != share) {
            return Ok(());
        }
        match catch_unwind(AssertUnwindSafe(|| live(&case))) {
            Ok(theirs) => met.borrow_mut().add(&theirs),
            Err(panic) if *first.get_or_init(|| share) == share => resume_unwind(panic),
            Err(_) => {}
        }
        Ok(())
    });
    match done {
        Ok(()) => Ok(met.into_inner()),
        Err(TestError::Fail(reason, case)) => Err(format!("share {share}: {reason}\n\n{case:?}")),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn whatever_happens_the_spool_is_what_the_model_says() {
    let cases = asked_for("PACKHORSE_MODEL_CASES").unwrap_or(CASES);
    let seed = asked_for("PACKHORSE_MODEL_SEED").unwrap_or(0);
    let first = FirstFailure(Arc::default());
    let share_of = u32::try_from(cases / SIDE_BY_SIDE).unwrap();
    let runs: Vec<_> = (seed * SIDE_BY_SIDE..(seed + 1) * SIDE_BY_SIDE)
        .map(|share| (share, first.clone()))
        .map(|(share, first)| std::thread::spawn(move || run(share_of, share, &first)))
        .collect();
    let mut met = Met::default();
    for run in runs {
        match run.join().unwrap() {
            Ok(theirs) => met.add(&theirs),
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{met:#?}");
    assert!(cases < CASES || met.missing().is_empty(), "not met: {:?}", met.missing());
}
