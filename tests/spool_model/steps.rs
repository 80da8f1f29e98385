//! What happens to a spool in one case, as plain values that proptest can make and make smaller.

use std::fmt;
use std::time::Duration;

use packhorse::config::OnFull;
use proptest::collection::vec;
use proptest::prelude::*;

/// Integrations that a config may have.
pub(crate) const INTEGRATIONS: usize = 3;

/// A spool's life from the first start on.
#[derive(Clone)]
pub(crate) struct Case {
    /// Of the disk's chances.
    pub(crate) seed: u64,
    /// Whether the file system knows holes.
    pub(crate) holes: bool,
    /// A commit at once, or only where the spool itself finds that one is due.
    pub(crate) immediate: bool,
    /// Whether the clock is believed at first.
    pub(crate) trusted: bool,
    pub(crate) config: Config,
    pub(crate) steps: Vec<Step>,
}

/// What a restart may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) max_size: u64,
    pub(crate) on_full: OnFull,
    pub(crate) keep_hours: u64,
    pub(crate) max_age_hours: u64,
}

/// How a life of the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Close,
    /// SIGKILL.
    Kill,
    PowerCut,
}

/// How a lane ends a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Deliver,
    Refuse,
    Damage,
    Filter,
}

/// What goes wrong with the disk, once it is so many operations on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    PowerFails,
    FailedWrite,
    ShortWrite,
    FailedGrowth,
    FailedSync,
    /// The sync is done, and reported to have failed.
    LyingSync,
    FailedRead,
    /// The disk stays away until somebody looks after it.
    Away,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Uplinks of `len` bytes arrive at once; `to` has a bit for each route there may be.
    Ingest {
        n: u16,
        len: u16,
        to: u8,
        /// Of devices that nobody knows.
        unknown: bool,
        /// The source waits until they are safe.
        durable: bool,
        /// Another room's note rides along.
        note: bool,
    },
    /// A commit becomes due.
    Commit,
    /// A lane ends some of what it holds, after passing over the first `skip`.
    Settle {
        who: usize,
        skip: u8,
        n: u16,
        end: End,
    },
    /// A lane that is behind ends records that are not its own any more.
    SettleStale {
        who: usize,
        back: u8,
    },
    /// A lane lets go of what was evicted or has expired.
    Cover {
        who: usize,
    },
    /// Time passes.
    Pass {
        minutes: u16,
    },
    /// The wall clock is set, forward or back.
    SetClock {
        hours: i32,
    },
    /// Whether it is believed.
    Trust(bool),
    /// Whether ages may be judged.
    Calm(bool),
    Pause {
        who: usize,
        paused: bool,
    },
    ReplayDead {
        who: usize,
    },
    Replay {
        who: usize,
        hours: u16,
        all: bool,
    },
    Purge {
        who: usize,
    },
    /// Another config is loaded: a bit for each integration.
    Configure {
        mask: u8,
    },
    /// The program ends and starts again.
    Restart {
        ending: Ending,
        /// What goes wrong when it starts.
        at_start: Option<(Mishap, u8)>,
        config: Config,
    },
    Trouble {
        what: Mishap,
        after: u8,
    },
    /// Another program takes all but a few KiB of the disk.
    Fill {
        leave_kib: u8,
    },
    /// A sync takes long.
    SlowSync,
}

impl fmt::Debug for Case {
    /// As a test for `found.rs`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { seed, holes, immediate, trusted, config, steps } = self;
        write!(
            f,
            "#[test]\nfn what_went_wrong() {{\n    live(&Case {{ seed: {seed}, holes: {holes}, immediate: {immediate}, \
             trusted: {trusted}, config: {config:?}, steps: vec!{steps:?} }});\n}}\n"
        )
    }
}

impl Config {
    pub(crate) fn max_age(&self) -> Duration {
        Duration::from_secs(self.max_age_hours * 3_600)
    }

    pub(crate) fn keep_delivered(&self) -> Duration {
        Duration::from_secs(self.keep_hours * 3_600)
    }
}

fn config() -> impl Strategy<Value = Config> {
    (
        prop_oneof![3 => Just(64 << 20), 2 => Just(100_000), 3 => Just(24_000), 2 => Just(12_000)],
        prop_oneof![3 => Just(OnFull::DropOldest), 2 => Just(OnFull::RefuseNew)],
        prop_oneof![2 => Just(0u64), 1 => Just(5), 1 => Just(10_000)],
        prop_oneof![1 => Just(20u64), 1 => Just(10_000)],
    )
        .prop_map(|(max_size, on_full, keep_hours, max_age_hours)| Config {
            max_size,
            on_full,
            keep_hours,
            max_age_hours,
        })
}

fn ingest() -> impl Strategy<Value = Step> {
    let n = prop_oneof![12 => 1u16..8, 4 => 8u16..40, 1 => Just(120)];
    let len = prop_oneof![8 => 8u16..60, 2 => 60u16..300, 1 => 300u16..3_000];
    (n, len, 1u8..16, prop::bool::weighted(0.2), prop::bool::weighted(0.4), any::<bool>())
        .prop_map(|(n, len, to, unknown, durable, note)| Step::Ingest { n, len, to, unknown, durable, note })
}

fn settle() -> impl Strategy<Value = Step> {
    let end = prop_oneof![
        10 => Just(End::Deliver),
        3 => Just(End::Refuse),
        1 => Just(End::Damage),
        1 => Just(End::Filter)
    ];
    let n = prop_oneof![8 => 1u16..6, 2 => 6u16..40, 2 => Just(u16::MAX)];
    (0..INTEGRATIONS, prop_oneof![3 => Just(0u8), 1 => 1u8..5], n, end).prop_map(|(who, skip, n, end)| {
        // What is not delivered is forced to the disk one by one.
        let n = if end == End::Deliver { n } else { n.min(20) };
        Step::Settle { who, skip, n, end }
    })
}

fn restart() -> impl Strategy<Value = Step> {
    let ending = prop_oneof![2 => Just(Ending::Close), 2 => Just(Ending::Kill), 3 => Just(Ending::PowerCut)];
    let mishap = prop_oneof![
        3 => Just(Mishap::PowerFails),
        1 => Just(Mishap::FailedRead),
        1 => Just(Mishap::FailedWrite),
        1 => Just(Mishap::FailedSync)
    ];
    let at_start = prop_oneof![3 => Just(None), 1 => (mishap, 0u8..40).prop_map(Some)];
    (ending, at_start, config()).prop_map(|(ending, at_start, config)| Step::Restart {
        ending,
        at_start,
        config,
    })
}

fn mishap() -> impl Strategy<Value = Step> {
    let mishap = prop_oneof![
        4 => Just(Mishap::PowerFails),
        1 => Just(Mishap::FailedWrite),
        1 => Just(Mishap::ShortWrite),
        1 => Just(Mishap::FailedGrowth),
        1 => Just(Mishap::FailedSync),
        1 => Just(Mishap::LyingSync),
        2 => Just(Mishap::FailedRead),
        2 => Just(Mishap::Away),
    ];
    (mishap, prop_oneof![3 => 0u8..12, 1 => 12u8..120])
        .prop_map(|(what, after)| Step::Trouble { what, after })
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..INTEGRATIONS;
    prop_oneof![
        20 => ingest(),
        16 => settle(),
        3 => Just(Step::Commit),
        2 => (who.clone(), 0u8..40).prop_map(|(who, back)| Step::SettleStale { who, back }),
        3 => who.clone().prop_map(|who| Step::Cover { who }),
        4 => (1u16..1_500).prop_map(|minutes| Step::Pass { minutes }),
        2 => (-300i32..300).prop_map(|hours| Step::SetClock { hours }),
        3 => any::<bool>().prop_map(Step::Trust),
        1 => prop::bool::weighted(0.8).prop_map(Step::Calm),
        3 => (who.clone(), any::<bool>()).prop_map(|(who, paused)| Step::Pause { who, paused }),
        3 => who.clone().prop_map(|who| Step::ReplayDead { who }),
        4 => (who.clone(), 0u16..40, prop::bool::weighted(0.3))
            .prop_map(|(who, hours, all)| Step::Replay { who, hours, all }),
        2 => who.prop_map(|who| Step::Purge { who }),
        3 => (0u8..8).prop_map(|mask| Step::Configure { mask }),
        6 => restart(),
        4 => mishap(),
        1 => (0u8..30).prop_map(|leave_kib| Step::Fill { leave_kib }),
        1 => Just(Step::SlowSync),
    ]
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let trusted = prop::bool::weighted(0.7);
    (any::<u64>(), any::<bool>(), any::<bool>(), trusted, config(), vec(step(), 1..40)).prop_map(
        |(seed, holes, immediate, trusted, config, steps)| Case {
            seed,
            holes,
            immediate,
            trusted,
            config,
            steps,
        },
    )
}
