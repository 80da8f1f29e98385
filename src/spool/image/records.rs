//! The records and dead letters of a spool file.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use redb::TableHandle;

use super::super::account::AccountId;
use super::super::dead::DeadV1;
use super::super::record;
use super::super::store::{DEAD, LOG};
use super::tree::{self, Holes, Key, Step};
use super::{Image, Tables, Widths};

/// Letters that no commit leads to: the keys of those that were met are held.
const LOOSE_LETTERS: usize = 10_000;

/// A record as it was found.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Record<'a> {
    pub(in super::super) seq: u64,
    pub(in super::super) value: &'a [u8],
    /// A commit leads to it.
    pub(in super::super) sure: bool,
}

/// A dead letter as it was found.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Letter<'a> {
    pub(in super::super) account: AccountId,
    pub(in super::super) seq: u64,
    pub(in super::super) value: &'a [u8],
    /// A commit leads to it.
    pub(in super::super) sure: bool,
}

type VisitRecord<'v> = &'v mut dyn FnMut(Record<'_>) -> ControlFlow<()>;
type VisitLetter<'v> = &'v mut dyn FnMut(Letter<'_>) -> ControlFlow<()>;

impl Image {
    /// Visits every record once: in order those that a commit leads to, then, if some could not be read, those with a number
    /// below `end` that are found anywhere else and can be read. Breaks off when `visit` does; says whether there were holes.
    pub(in super::super) fn records(&self, end: u64, visit: VisitRecord<'_>) -> ControlFlow<(), bool> {
        let holes = match self.commits.first() {
            Some(tables) => self.sure_records(tables, visit)?,
            None => Holes::everywhere(),
        };
        if !holes.is_empty() {
            self.loose_records(&holes, end, visit)?;
        }
        ControlFlow::Continue(!holes.is_empty())
    }

    fn sure_records(&self, tables: &Tables, visit: VisitRecord<'_>) -> ControlFlow<(), Holes<u64>> {
        let Some(table) = tables.get(LOG.name()).filter(|table| table.is_of::<u64>(None)) else {
            // Every spool has a log.
            return ControlFlow::Continue(Holes::everywhere());
        };
        let mut holes = Holes::none();
        tree::walk::<u64>(&self.pages, table.root, table.widths, &mut |step| match step {
            Step::Entry { key: seq, value, sure: true } => {
                holes.key(seq);
                visit(Record { seq, value, sure: true })
            }
            // Of leaves that are not whole all are looked at below.
            Step::Entry { .. } => ControlFlow::Continue(()),
            Step::Hole => {
                holes.hole();
                ControlFlow::Continue(())
            }
        })?;
        if !self.is_last {
            // What came after an earlier commit stands behind it.
            holes.hole();
        }
        holes.end();
        ControlFlow::Continue(holes)
    }

    fn loose_records(&self, holes: &Holes<u64>, end: u64, visit: VisitRecord<'_>) -> ControlFlow<()> {
        let mut seen = Numbers::default();
        let widths = Widths { key: u64::WIDTH, value: None };
        for leaf in self.pages.leaves(widths) {
            tree::ordered::<u64>(&leaf, false, &mut |step| match step {
                Step::Entry { key: seq, value, .. }
                    if seq < end
                        && holes.contains(&seq)
                        && record::outline(value).is_ok()
                        && seen.insert(seq) =>
                {
                    visit(Record { seq, value, sure: false })
                }
                _ => ControlFlow::Continue(()),
            })?;
        }
        ControlFlow::Continue(())
    }

    /// Visits every dead letter that is found, each once; says whether there were holes. One that is not sure may be worth
    /// nothing.
    pub(in super::super) fn letters(&self, visit: VisitLetter<'_>) -> ControlFlow<(), bool> {
        let mut wanted = Holes::everywhere();
        let mut had_holes = self.commits.is_empty();
        let mut loose = BTreeSet::new();
        for tables in &self.commits {
            let table = tables.get(DEAD.name()).filter(|table| table.is_of::<(u32, u64)>(None));
            let mut holes = Holes::none();
            let root = table.and_then(|table| table.root);
            let widths = Widths { key: <(u32, u64)>::WIDTH, value: None };
            tree::walk::<(u32, u64)>(&self.pages, root, widths, &mut |step| match step {
                Step::Entry { key, value, sure } => {
                    let is_new = wanted.contains(&key) && !loose.contains(&key);
                    if sure {
                        holes.key(key);
                    } else {
                        loose.insert(key);
                    }
                    let letter = Letter { account: AccountId(key.0), seq: key.1, value, sure };
                    if is_new { visit(letter) } else { ControlFlow::Continue(()) }
                }
                Step::Hole => {
                    holes.hole();
                    ControlFlow::Continue(())
                }
            })?;
            holes.end();
            if holes.is_empty() {
                break;
            }
            had_holes = true;
            wanted = holes;
        }
        if had_holes {
            self.loose_letters(&wanted, &mut loose, visit)?;
        }
        ControlFlow::Continue(had_holes)
    }

    fn loose_letters(
        &self,
        holes: &Holes<(u32, u64)>,
        seen: &mut BTreeSet<(u32, u64)>,
        visit: VisitLetter<'_>,
    ) -> ControlFlow<()> {
        let widths = Widths { key: <(u32, u64)>::WIDTH, value: None };
        for leaf in self.pages.leaves(widths) {
            tree::ordered::<(u32, u64)>(&leaf, false, &mut |step| match step {
                Step::Entry { key, value, .. }
                    if holes.contains(&key)
                        && DeadV1::read(value).is_some()
                        && seen.len() < LOOSE_LETTERS
                        && seen.insert(key) =>
                {
                    visit(Letter { account: AccountId(key.0), seq: key.1, value, sure: false })
                }
                _ => ControlFlow::Continue(()),
            })?;
        }
        ControlFlow::Continue(())
    }
}

/// A set of numbers that mostly follow each other.
#[derive(Debug, Default)]
struct Numbers(BTreeMap<u64, u64>);

impl Numbers {
    /// Whether `n` was not in it yet.
    fn insert(&mut self, n: u64) -> bool {
        let below = self.0.range(..=n).next_back().map(|(from, to)| (*from, *to));
        if below.is_some_and(|(_, to)| n <= to) {
            return false;
        }
        let joined = below.filter(|(_, to)| to + 1 == n).map_or(n, |(from, _)| from);
        let to = n.checked_add(1).and_then(|next| self.0.remove(&next)).unwrap_or(n);
        self.0.insert(joined, to);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_the_set_they_stand_for(inserts in proptest::collection::vec(0u64..60, 0..80)) {
            let (mut numbers, mut model) = (Numbers::default(), BTreeSet::new());
            for n in inserts {
                prop_assert_eq!(numbers.insert(n), model.insert(n));
            }
            let runs = model.iter().filter(|n| !model.contains(&(*n + 1))).count();
            prop_assert_eq!(numbers.0.len(), runs);
        }
    }
}
