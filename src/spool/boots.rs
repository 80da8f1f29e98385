//! The boots that the records were heard in: what their moments mean after a restart ([`Boots`](crate::clock::Boots)).
//!
//! The clock owns the table. The spool keeps it with the records, as the note `boots`, because one is worth nothing without
//! the other: it is in the transaction of the first record of a boot, in every one that is forced to the disk after something
//! was learnt, and otherwise with uplinks once in [`FRESH`], so that a boot that ends in a power cut is known to have lasted
//! until then. No round is made for its sake.

use std::time::Duration;

use super::Note;
use crate::clock::Clock;

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

/// What was put into a round last.
#[derive(Debug, Default)]
pub(super) struct Noted(Option<(u64, u64)>);

impl Noted {
    /// The note, if a round should carry it; `last`: there may be no other.
    pub(super) fn due(&mut self, clock: &dyn Clock, last: bool) -> Option<Note> {
        clock.look();
        let (revision, now_ns) = (clock.boots().revision(), clock.boot_ns());
        let is_fresh = |(noted, noted_ns): (u64, u64)| {
            noted == revision && u128::from(now_ns.saturating_sub(noted_ns)) < FRESH.as_nanos()
        };
        if !last && self.0.is_some_and(is_fresh) {
            return None;
        }
        self.0 = Some((revision, now_ns));
        Some(Note { key: KEY.to_owned(), value: clock.boots().to_bytes() })
    }

    /// The file is another one.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }
}
