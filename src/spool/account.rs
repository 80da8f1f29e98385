//! The spool's side of an integration: what it settled, what waits for it, what it lost.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::jobs::{DeadReplay, Purge};
use super::replay::{Replay, ReplayView};
use super::settled::Settled;

/// Names an account in the file; small, persistent, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(pub(super) u32);

/// Why a committed record left the spool without being delivered. Every one is counted (DESIGN invariant 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Loss {
    /// It grew older than `max_age`.
    Expired,
    /// It made room at `max_size`.
    Evicted,
    /// Its bytes on the disk were damaged.
    Damaged,
    /// It was a dead letter and made room for younger ones.
    DeadEvicted,
    /// The operator purged it.
    Purged,
    /// A function dropped it on purpose.
    Filtered,
    /// The spool was full, and it was not taken in (`on_full = "refuse-new"`).
    Refused,
}

impl Loss {
    /// All, in their order on disk: it may only grow at the end.
    pub const ALL: [Loss; 7] = [
        Loss::Expired,
        Loss::Evicted,
        Loss::Damaged,
        Loss::DeadEvicted,
        Loss::Purged,
        Loss::Filtered,
        Loss::Refused,
    ];

    /// As in `status` and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Loss::Expired => "expired",
            Loss::Evicted => "evicted",
            Loss::Damaged => "damaged",
            Loss::DeadEvicted => "dead-letter-evicted",
            Loss::Purged => "purged",
            Loss::Filtered => "filtered",
            Loss::Refused => "refused",
        }
    }
}

/// An account as stored, under format byte 1. Frozen; `losses` may grow at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    /// `http` or `mqtt`.
    pub(super) kind: Arc<str>,
    /// The integration's name.
    pub(super) name: Arc<str>,
    pub(super) settled: Settled,
    /// Records in the log that are routed here and not settled.
    pub(super) backlog: u64,
    pub(super) delivered: u64,
    /// Dead letters kept now.
    pub(super) dead: u64,
    losses: Vec<u64>,
    /// The operator's word (RULES S8).
    pub(super) paused: bool,
    /// No record below is sent any more: the last purge.
    pub(super) purged_below: u64,
    /// A purge that is under way.
    pub(super) purge: Option<Purge>,
    /// Dead letters on their way back into the log.
    pub(super) dead_replay: Option<DeadReplay>,
    /// Records on their way to be sent once more.
    pub(super) replay: Option<Replay>,
    /// How many of them were put into the backlog, ever.
    pub(super) replayed: u64,
}

impl Account {
    /// A new integration starts at now (RULES S5).
    pub(super) fn starting_at(kind: &str, name: &str, seq: u64) -> Account {
        Account {
            kind: Arc::from(kind),
            name: Arc::from(name),
            settled: Settled::below(seq),
            backlog: 0,
            delivered: 0,
            dead: 0,
            losses: vec![0; Loss::ALL.len()],
            paused: false,
            purged_below: 0,
            purge: None,
            dead_replay: None,
            replay: None,
            replayed: 0,
        }
    }

    /// The same account without what is counted when it is found, and without jobs.
    pub(super) fn emptied(&self) -> Account {
        Account { backlog: 0, dead: 0, purge: None, dead_replay: None, replay: None, ..self.clone() }
    }

    /// Takes over the jobs that the same account had in an earlier file.
    pub(super) fn go_on_with_jobs_of(&mut self, before: &Account) {
        self.purge.clone_from(&before.purge);
        self.dead_replay.clone_from(&before.dead_replay);
        self.replay.clone_from(&before.replay);
    }

    /// Adds what the account of the same integration in another file had counted.
    pub(super) fn add_counts_of(&mut self, other: &Account) {
        self.delivered = self.delivered.saturating_add(other.delivered);
        self.replayed = self.replayed.saturating_add(other.replayed);
        for (loss, n) in Loss::ALL.into_iter().zip(&other.losses) {
            self.lose(loss, *n);
        }
    }

    pub(super) fn lose(&mut self, loss: Loss, n: u64) {
        if self.losses.len() < Loss::ALL.len() {
            self.losses.resize(Loss::ALL.len(), 0);
        }
        if let Some(count) = self.losses.get_mut(loss as usize) {
            *count = count.saturating_add(n);
        }
    }

    /// Adds what happened to the same account in memory while its file could not be used.
    pub(super) fn take_over(&mut self, in_memory: &Account) {
        self.add_counts_of(in_memory);
        self.dead = self.dead.saturating_add(in_memory.dead);
        self.paused = in_memory.paused;
    }

    pub(super) fn view(&self, id: AccountId) -> AccountView {
        AccountView {
            id,
            kind: Arc::clone(&self.kind),
            name: Arc::clone(&self.name),
            backlog: self.backlog,
            delivered: self.delivered,
            dead_letters: self.dead,
            paused: self.paused,
            purged_below: self.purged_below,
            is_purging: self.purge.is_some(),
            replay: self.replay.as_ref().map(Replay::view),
            replayed: self.replayed,
            lost: Loss::ALL
                .iter()
                .map(|&loss| (loss, self.losses.get(loss as usize).copied().unwrap_or(0)))
                .filter(|(_, n)| *n > 0)
                .collect(),
        }
    }
}

/// What `status` shows of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountView {
    /// Its id.
    pub id: AccountId,
    /// `http` or `mqtt`.
    pub kind: Arc<str>,
    /// The integration's name.
    pub name: Arc<str>,
    /// Records that wait for it.
    pub backlog: u64,
    /// Records that its far end acknowledged.
    pub delivered: u64,
    /// Dead letters that are kept.
    pub dead_letters: u64,
    /// Nothing is sent for now; the operator said so (RULES S8).
    pub paused: bool,
    /// Records below were purged, or are about to be: a lane lets go of them.
    pub purged_below: u64,
    /// A purge is under way.
    pub is_purging: bool,
    /// A replay is under way.
    pub replay: Option<ReplayView>,
    /// Records that a replay put into the backlog once more, ever.
    pub replayed: u64,
    /// What was lost, by reason; only what is not zero.
    pub lost: Vec<(Loss, u64)>,
}

impl AccountView {
    /// Adds what another store has of the same account.
    pub(super) fn add(&mut self, other: &AccountView) {
        self.backlog = self.backlog.saturating_add(other.backlog);
        self.delivered = self.delivered.saturating_add(other.delivered);
        self.dead_letters = self.dead_letters.saturating_add(other.dead_letters);
        self.replayed = self.replayed.saturating_add(other.replayed);
        for &(loss, n) in &other.lost {
            match self.lost.iter_mut().find(|(reason, _)| *reason == loss) {
                Some((_, count)) => *count = count.saturating_add(n),
                None => self.lost.push((loss, n)),
            }
        }
    }
}
