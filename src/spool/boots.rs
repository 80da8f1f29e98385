//! The boots that the records were heard in: what their moments mean after a restart ([`Boots`]).
//!
//! The clock owns the table. The spool keeps it with the records, as the note `boots`, because one is worth nothing without
//! the other: it is in the transaction of the first record of a boot, and goes along with uplinks once in [`FRESH`], so that a
//! boot that ends in a power cut is known to have lasted until then. What is learnt of a boot that has records makes the next
//! round one that is forced to the disk; nothing else is ever forced for its sake.

use std::time::Duration;

use super::Note;
use crate::clock::{Boots, Clock};

/// Name of the note.
const KEY: &str = "boots";

/// How old what is stored of this boot may be while uplinks come in.
const FRESH: Duration = Duration::from_secs(60);

/// Tells the clock what was stored, and takes it from the notes: it is no other room's.
pub(super) fn restore(notes: &mut Vec<Note>, clock: &dyn Clock) {
    for note in notes.extract_if(.., |note| note.key == KEY) {
        clock.boots().restore(&note.value);
    }
    clock.look();
}

/// What the clock knows now.
pub(super) fn note(clock: &dyn Clock) -> Note {
    Note { key: KEY.to_owned(), value: clock.boots().to_bytes() }
}

/// The boots of a file that is only looked at.
pub(super) fn of(notes: &[Note]) -> Boots {
    let boots = Boots::default();
    notes.iter().filter(|note| note.key == KEY).for_each(|note| boots.restore(&note.value));
    boots
}

/// What the file has of them.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// What was put into a round last: the revision, and when by the boot clock.
    put: Option<(u64, u64)>,
    /// The revision that is on the disk, or goes there with the first records of the boot.
    durable: Option<u64>,
}

impl Noted {
    /// The note, if a round should carry it; `last`: there may be no other. The clock has looked just now.
    pub(super) fn due(&mut self, clock: &dyn Clock, last: bool) -> Option<Note> {
        let (revision, now_ns) = (clock.boots().revision(), clock.boot_ns());
        let is_fresh = |(put, put_ns): (u64, u64)| {
            put == revision && u128::from(now_ns.saturating_sub(put_ns)) < FRESH.as_nanos()
        };
        if !last && self.put.is_some_and(is_fresh) {
            return None;
        }
        self.put = Some((revision, now_ns));
        self.durable.get_or_insert(revision);
        Some(note(clock))
    }

    /// Whether something was learnt that dates records, and is not on the disk.
    pub(super) fn is_news(&self, clock: &dyn Clock) -> bool {
        self.durable.is_some_and(|durable| durable != clock.boots().revision())
    }

    /// A round was forced to the disk.
    pub(super) fn are_durable(&mut self) {
        self.durable = self.put.map(|(revision, _)| revision);
    }

    /// The file is another one.
    pub(super) fn forget(&mut self) {
        *self = Noted::default();
    }
}
