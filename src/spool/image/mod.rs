//! What is in a spool file, read without redb: the file of an agent that does not run, or one that was set aside.
//!
//! # Why not with redb
//!
//! redb opens a file that was not closed cleanly only to write to it, refuses one with a single bad page as a whole, and
//! panics on a bad page that it was not asked to look for. This reader never writes, never panics, and gets what is whole out
//! of a file whatever else is in it. It knows format version 3 and no other; [`pages`] and [`tree`] are all that it knows.
//!
//! # What it can tell
//!
//! redb keeps a tree of checksums: a page is told by the checksum that its parent holds. What is reached that way from a
//! commit slot is *sure*: it is what a commit wrote. A file has two slots, the last commit and the one before, which shares
//! almost all of its pages; what the first does not give, the second is asked for. If neither leads to all the values (the
//! first page is the one that is written most), every page is looked at for a root whose children prove it: that of an earlier
//! commit, whose pages were freed and not written over.
//!
//! Records that no sure page leads to are looked for in every leaf of the file: each carries a CRC-32C of its own, and its
//! number must lie where the sure pages have a hole. Such a leaf may be an old one that was freed and not written over, so a
//! record found there counts only if somebody still waits for it according to what is stored as settled. What was evicted or
//! has expired may come back that way; it was never delivered, and is sent late rather than not at all. Likewise dead letters,
//! of which there are never more than were counted.
//!
//! # Bounds
//!
//! Each page is read a few times at most; nothing is held but one page a level, the values of the accounts, and where the
//! holes are. Whoever reads can stop at every step, and a time can be set after which no page is read any more.

mod pages;
mod records;
mod tree;
mod values;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Instant;

use redb::{StorageBackend, TableHandle};

use super::losses::LOSS;
use super::store::{DEAD, KEPT, LOG, ROUTE, STATE};
use super::values::{StoreError, check_values};

use pages::{Header, Pages, Widths};
use tree::{Key, Table};

pub(super) use records::{Letter, Record};
pub(super) use values::{Values, Whose};

/// Roots that are looked at if the header leads to none, and how many of them are kept.
const ROOTS_AT_MOST: usize = 1_000;
const ROOTS_KEPT: usize = 2;

/// What a commit left: its tables by name.
type Tables = BTreeMap<String, Table>;

/// A spool file.
#[derive(Debug)]
pub(super) struct Image {
    pages: Pages,
    header: Option<Header>,
    /// The tables of the last commit that can be read, then those of earlier ones.
    commits: Vec<Tables>,
    /// The first is the last that there was.
    is_last: bool,
}

/// What is to be thought of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The agent will open it.
    Sound,
    /// The agent will set it aside.
    Damaged(String),
    /// A newer version made it.
    Newer(String),
}

impl Image {
    /// Opens it for reading; `until` bounds how long that may take.
    pub(super) fn open(file: Box<dyn StorageBackend>, until: Option<Instant>) -> Result<Image, String> {
        let pages = Pages::new(file, until)?;
        let header = pages.header();
        let slots = header.iter().flat_map(Header::slots);
        let mut commits: Vec<Tables> = slots.map(|slot| tree::tables(&pages, slot.user).0).collect();
        let has_values = |tables: &Tables| tables.contains_key(STATE.name());
        let is_last =
            header.as_ref().is_some_and(Header::has_whole_slots) && commits.first().is_some_and(has_values);
        commits.retain(has_values);
        let mut image = Image { pages, header, commits, is_last };
        let is_readable = image.header.as_ref().and_then(Header::other_version).is_none();
        if is_readable && !image.values().is_complete() {
            let more = image.look_for_roots();
            image.commits.extend(more);
        }
        Ok(image)
    }

    /// Bytes.
    pub(super) fn len(&self) -> u64 {
        self.pages.len()
    }

    /// Whether the last commit could be found. Of an earlier one it is not known what was settled since.
    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    /// Time was up before everything was read.
    pub(super) fn is_late(&self) -> bool {
        self.pages.is_late()
    }

    /// Why only a newer version can read it, if that is so.
    pub(super) fn newer(&self) -> Option<String> {
        match self.header.as_ref().and_then(Header::other_version) {
            Some(version) => Some(super::open::newer_redb(version)),
            None => self.values().newer.map(super::open::newer),
        }
    }

    /// Whether the program that had it open last closed it. One that did not left nothing wrong.
    pub(super) fn was_closed(&self) -> bool {
        self.header.as_ref().is_some_and(|header| header.is_clean)
    }

    /// Reads all of it, and says what the agent will: the commit that redb will open it by is from then on the only one.
    pub(super) fn judge(&mut self) -> Verdict {
        let Some(header) = &self.header else {
            return Verdict::Damaged(format!("it is {} bytes long, too short for a spool", self.len()));
        };
        if let Some(version) = header.other_version() {
            return Verdict::Newer(super::open::newer_redb(version));
        }
        if let Some(fault) = &header.fault {
            return Verdict::Damaged(fault.clone());
        }
        let holes_of = |slot: &pages::Slot| {
            tree::holes_under(&self.pages, slot.user) + tree::holes_under(&self.pages, slot.system)
        };
        let mut fewest = None;
        for slot in header.accepted() {
            match holes_of(slot) {
                0 => {
                    let tables = tree::tables(&self.pages, slot.user).0;
                    let is_new = slot.user.is_none();
                    self.commits = vec![tables];
                    self.is_last = true;
                    return self.judge_values(is_new);
                }
                holes => fewest = Some(fewest.unwrap_or(holes).min(holes)),
            }
        }
        Verdict::Damaged(match fewest {
            Some(1) => "one of its pages fails its checksum".into(),
            Some(holes) => format!("{holes} of its pages fail their checksums"),
            None => "both commit slots in its header are damaged".into(),
        })
    }

    fn judge_values(&self, is_new: bool) -> Verdict {
        if is_new {
            return Verdict::Sound;
        }
        let values = self.values();
        if let Some(format) = values.newer {
            return Verdict::Newer(super::open::newer(format));
        }
        let fits = [
            (STATE.name(), self.fits::<String>(STATE.name(), None)),
            (ROUTE.name(), self.fits::<u32>(ROUTE.name(), None)),
            (LOG.name(), self.fits::<u64>(LOG.name(), None)),
            (LOSS.name(), self.fits::<u64>(LOSS.name(), None)),
            (DEAD.name(), self.fits::<(u32, u64)>(DEAD.name(), None)),
            (KEPT.name(), self.fits::<u64>(KEPT.name(), Some(0))),
        ];
        if let Some((name, _)) = fits.into_iter().find(|(_, fits)| !fits) {
            return Verdict::Damaged(format!("its table `{name}` is not a spool's"));
        }
        if values.totals.is_none() && values.bad.is_empty() {
            return Verdict::Damaged("it is a redb file, but no spool".into());
        }
        let problem = values.bad.first().cloned();
        match problem.map_or_else(|| check_values(&values.state()), |what| Err(StoreError::Damaged(what))) {
            Ok(()) => Verdict::Sound,
            Err(error) => Verdict::Damaged(error.to_string()),
        }
    }

    /// Whether a table is like ours, if there is one of that name.
    fn fits<K: Key>(&self, name: &str, value: Option<usize>) -> bool {
        let table = self.commits.first().and_then(|tables| tables.get(name));
        table.is_none_or(|table| table.is_of::<K>(value))
    }

    /// Tables under pages that look like the root of all tables; the latest ones first.
    fn look_for_roots(&self) -> Vec<Tables> {
        let mut found: Vec<((u64, u64), Tables)> = Vec::new();
        let roots = self.pages.leaves(Widths::default()).filter_map(|leaf| {
            let entry = |n: usize| {
                leaf.entry(n).and_then(|(key, value)| Some((String::read(key)?, Table::read(value)?)))
            };
            let tables: Tables = (0..leaf.len()).map_while(entry).collect();
            (tables.len() == leaf.len() && tables.contains_key(STATE.name())).then_some(tables)
        });
        for tables in roots.take(ROOTS_AT_MOST) {
            let values = self.values_of(std::slice::from_ref(&tables));
            // Every forced commit has written something.
            let written = values.wear.map_or(0, |wear| wear.in_all.bytes);
            let appended = values.totals.map_or(0, |totals| totals.appended);
            found.push(((written, appended), tables));
            found.sort_by_key(|(age, _)| Reverse(*age));
            found.truncate(ROOTS_KEPT);
        }
        found.into_iter().map(|(_, tables)| tables).collect()
    }
}
