//! What the cases have met. What meets nothing shows nothing, so a run that lacks one of these has failed.

use std::collections::BTreeMap;

/// Everything that a run must meet.
const KINDS: [&str; 52] = [
    // How a life of the program ends.
    "closed",
    "killed",
    "power cut",
    "power cut in a step",
    "power cut while it was opened",
    "error while it was opened",
    // The disk.
    "failed read",
    "failed write",
    "short write",
    "failed growth",
    "failed sync",
    "sync that was done and reported",
    "disk away",
    "no space",
    "torn write",
    "slow sync",
    // What comes of these.
    "rolled back",
    "uplink lost that was at risk",
    "settlement undone",
    "opened again after an error",
    "refuge",
    "renumbered",
    "order out of reach",
    // How records end.
    "delivered",
    "expired",
    "evicted",
    "evicted for a removed integration",
    "damaged",
    "dead-letter-evicted",
    "purged",
    "filtered",
    "refused",
    "dead letter",
    "kept",
    "dead letter put in again",
    "replayed",
    "missed by a replay",
    // What lanes, sources and operators do.
    "settled with a gap",
    "settled what was settled",
    "promised",
    "refused in part",
    "refused in whole",
    "paused",
    "resumed",
    "integration removed",
    "integration put back",
    "account forgotten",
    "limit raised",
    "limit lowered",
    // The clock.
    "clock set forward",
    "clock set back",
    "clock not trusted",
];

/// How often each of them was met.
#[derive(Clone, Debug, Default)]
pub(crate) struct Met(BTreeMap<&'static str, u64>);

impl Met {
    /// Met so many times.
    pub(crate) fn note(&mut self, kind: &'static str, times: u64) {
        assert!(KINDS.contains(&kind), "{kind} is not in the list");
        *self.0.entry(kind).or_default() += times;
    }

    pub(crate) fn once(&mut self, kind: &'static str) {
        self.note(kind, 1);
    }

    /// Met if it is so.
    pub(crate) fn note_if(&mut self, is_so: bool, kind: &'static str) {
        self.note(kind, u64::from(is_so));
    }

    pub(crate) fn add(&mut self, other: &Met) {
        other.0.iter().for_each(|(kind, times)| self.note(kind, *times));
    }

    /// What was not.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        KINDS.into_iter().filter(|kind| self.0.get(kind).is_none_or(|times| *times == 0)).collect()
    }
}
