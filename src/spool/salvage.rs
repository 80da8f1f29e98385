//! Opening the spool, and taking over what an earlier file of it held that was set aside.
//!
//! # A damaged file
//!
//! [`open`](mod@super::open) moves it to `spool.redb.salvage` and makes a fresh one. Under that name it is *owed*: before the spool
//! is handed out, everything that can be read of it is [restored](super::transfer) into the fresh one, and then it becomes
//! `spool.redb.damaged`, which nobody opens again by himself. One is kept; the next one takes its place. Beside it lies
//! `.reason`: why, and what came of it.
//!
//! Where the file could not be read at that start, the spool has a life of its own by the next one: then it is
//! [imported](super::transfer) instead.
//!
//! The reader ([`image`](super::image)) panics at nothing, but a start must not hang on that: how often a salvage was begun is
//! written into the fresh file before each attempt, and one that did not come to its end twice, be it a crash, a power cut or
//! a full disk, is not tried a third time. It has five minutes, after which the rest counts as unreadable. The sources listen
//! meanwhile; uplinks are only taken in behind what was restored, so that their order stays.
//!
//! A file in which the agent died three times is not salvaged: redb found it whole, so what killed the agent may well be one
//! of its records.
//!
//! # A newer file
//!
//! It is kept as `spool.redb.newer`, and looked at again at every start. The version that can read it [imports](super::transfer)
//! what waits in it and removes it; if it turns out to be damaged, too, it is kept as such. Where that was cut short it goes on.
//!
//! # What the operator is told
//!
//! What lies beside the spool is in every [`View`](super::View), with the reason and what came of it, for as long as it lies
//! there.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::crash_point::CrashPoint;

use super::boots;
use super::file::{Holding, Meter};
use super::image::{Image, Values};
use super::inspect::{self, InspectError};
use super::open::{self, Backend, OpenError, Opened, SetAside, with_suffix};
use super::store::{Store, Totals, Work};
use super::transfer::{Progress, Tally, Transfer, Way};
use super::{Note, Settings};

/// What is appended to the spool's name: for a file that is owed a salvage, one that has had it, one that is too new.
pub(super) const OWED: &str = "salvage";
pub(super) const DAMAGED: &str = "damaged";
pub(super) const NEWER: &str = "newer";

/// How long one may take.
const AT_MOST: Duration = Duration::from_secs(300);

/// How often one is begun.
const ATTEMPTS: u8 = 2;

const NO_REASON: &str = "the reason was not kept";
const BY_HAND: &str = "`packhorse spool export --file` prints what can be read of it";

/// Opens the spool, with what earlier files of it held.
pub(super) fn open(
    settings: &Settings,
    backend: &Backend,
    meter: &Arc<Meter>,
    clock: &dyn Clock,
) -> Result<Opened, OpenError> {
    let mut opened = open::open(settings, backend, meter)?;
    if matches!(backend, Backend::File) {
        let mut debts = Debts { settings, clock, holding: opened.holding.clone(), store: &mut opened.store };
        debts.salvage()?;
        debts.import()?;
        opened.set_aside = beside(&settings.path, &opened.set_aside);
    }
    Ok(opened)
}

/// Files that were set aside and lie beside the spool at `path`.
pub fn set_aside_beside(path: &Path) -> Vec<SetAside> {
    beside(path, &[])
}

/// What lies beside the spool. The reason of one that was set aside just now is known even where it could not be written.
fn beside(path: &Path, just_now: &[SetAside]) -> Vec<SetAside> {
    let files = [OWED, DAMAGED, NEWER].map(|suffix| with_suffix(path, suffix));
    let there = files.into_iter().filter(|file| file.exists());
    there
        .map(|path| {
            let (reason, outcome) = Reason::of(&path).read();
            let known = just_now.first().map(|aside| aside.reason.clone());
            let reason = reason.or(known).unwrap_or_else(|| NO_REASON.to_owned());
            SetAside { path, reason, outcome }
        })
        .collect()
}

/// The small file that says why another one was set aside, and in a second line what came of it.
struct Reason(PathBuf);

impl Reason {
    fn of(path: &Path) -> Reason {
        Reason(with_suffix(path, "reason"))
    }

    fn read(&self) -> (Option<String>, Option<String>) {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let mut lines = text.lines().filter(|line| !line.is_empty()).map(str::to_owned);
        (lines.next(), lines.next())
    }

    fn write(&self, reason: &str, outcome: &str) {
        if let Err(error) = std::fs::write(&self.0, format!("{reason}\n{outcome}\n")) {
            log::warn!("spool: what came of it can't be kept in {}: {error}", self.0.display());
        }
    }
}

struct Debts<'d> {
    settings: &'d Settings,
    clock: &'d dyn Clock,
    holding: Option<Holding>,
    store: &'d mut Store,
}

impl Debts<'_> {
    fn beside(&self, suffix: &str) -> PathBuf {
        with_suffix(&self.settings.path, suffix)
    }

    /// Restores what a damaged file held.
    fn salvage(&mut self) -> Result<(), OpenError> {
        let path = self.beside(OWED);
        let Some(progress) = self.progress(&path, OWED)? else { return Ok(()) };
        if progress.is_done {
            keep(&path, &self.beside(DAMAGED), "it was salvaged");
        } else if progress.attempts >= ATTEMPTS {
            let outcome =
                format!("{ATTEMPTS} attempts to salvage what is in it did not come to an end; {BY_HAND}");
            keep(&path, &self.beside(DAMAGED), &outcome);
        } else if let Some((image, progress)) = self.begin(&path, progress)? {
            if image.newer().is_some() {
                keep(&path, &self.beside(NEWER), "it is for a newer version");
                return Ok(());
            }
            let (_, outcome) = self.transfer(&image, progress)?;
            keep(&path, &self.beside(DAMAGED), &outcome);
        }
        Ok(())
    }

    /// Imports what a file holds that was too new for the version before this one.
    fn import(&mut self) -> Result<(), OpenError> {
        let path = self.beside(NEWER);
        let Some(progress) = self.progress(&path, NEWER)? else { return Ok(()) };
        if progress.is_done {
            remove(&path);
        } else if progress.attempts >= ATTEMPTS {
            let outcome =
                format!("{ATTEMPTS} attempts to import what is in it did not come to an end; {BY_HAND}");
            keep(&path, &self.beside(DAMAGED), &outcome);
        } else if let Some((image, mut progress)) = self.begin(&path, progress)? {
            if let Some(why) = image.newer() {
                log::warn!("spool: {} is kept for the version that can read it: {why}", path.display());
                progress.attempts = 0;
                return self.note(&progress);
            }
            match self.transfer(&image, progress)? {
                (true, outcome) => {
                    log::warn!("spool: {}: {outcome}", path.display());
                    remove(&path);
                }
                (false, outcome) => keep(&path, &self.beside(DAMAGED), &outcome),
            }
        }
        Ok(())
    }

    /// Opens a file that was set aside. That it was begun is on the disk before anything in it is looked at. One that can't be
    /// opened now may be at the next start.
    fn begin(&mut self, path: &Path, mut progress: Progress) -> Result<Option<(Image, Progress)>, OpenError> {
        let file = match inspect::locked(path) {
            Ok(file) => file,
            // Somebody looks at it; that ends.
            Err(InspectError::InUse(path)) => return Err(OpenError::InUse(path)),
            Err(error) => {
                log::error!("spool: {error}");
                return Ok(None);
            }
        };
        progress.attempts = progress.attempts.saturating_add(1);
        self.note(&progress)?;
        CrashPoint::TransferBegun.reached();
        log::warn!("spool: reading what can be read of {}", path.display());
        match Image::open(file, Some(Instant::now() + AT_MOST)) {
            Ok(image) => Ok(Some((image, progress))),
            Err(error) => {
                log::error!("spool: {}: {error}", path.display());
                Ok(None)
            }
        }
    }

    /// How far it has come with a file, if there is one.
    fn progress(&self, path: &Path, what: &'static str) -> Result<Option<Progress>, OpenError> {
        let Ok(file) = std::fs::metadata(path) else { return Ok(None) };
        // A name says nothing: another file may have come under it.
        let changed_ns = file.mtime().saturating_mul(1_000_000_000).saturating_add(file.mtime_nsec());
        let from = (file.ino(), file.len(), changed_ns);
        let notes = self.store.notes()?;
        let known = notes.iter().find_map(|note| Progress::read(note, what)).filter(|it| it.from == from);
        // Only in a fresh file the numbers of the one before are free.
        let way = if what == OWED && self.store.is_fresh() { Way::Restore } else { Way::Import };
        Ok(Some(known.unwrap_or_else(|| Progress::new(what, from, way))))
    }

    /// Takes over what a file holds; says whether that was all, and what came of it.
    fn transfer(&mut self, image: &Image, progress: Progress) -> Result<(bool, String), OpenError> {
        let values = image.values();
        if progress.way == Way::Import {
            // Its records were heard in boots of which this file knows nothing.
            boots::restore(&mut values.notes(), self.clock);
            self.put_down(boots::note(self.clock))?;
        }
        let (settings, holding) = (self.settings, &self.holding);
        let limits = |totals: &Totals| settings.limits(holding.as_ref().map(Holding::limit), totals);
        let verb = if progress.what == OWED { "salvaged" } else { "imported" };
        let transfer = Transfer::new(self.store, &values, &limits, self.clock.wall_us(), progress);
        let tally = transfer.run(image).map_err(|error| unavailable(settings, &error))?;
        CrashPoint::TransferDone.reached();
        let is_all = tally.is_all() && values.is_complete() && image.is_last() && !image.is_late();
        Ok((is_all, told(&tally, verb, &values, image)))
    }

    fn note(&mut self, progress: &Progress) -> Result<(), OpenError> {
        progress.note().map_or(Ok(()), |note| self.put_down(note))
    }

    fn put_down(&mut self, note: Note) -> Result<(), OpenError> {
        let limits =
            self.settings.limits(self.holding.as_ref().map(Holding::limit), &self.store.state().totals);
        let work = Work { notes: vec![note], ..Work::default() };
        let done = self.store.round(&work, true, limits, self.clock.wall_us(), |_| Ok(()));
        done.map(drop).map_err(|error| unavailable(self.settings, &error))
    }
}

fn unavailable(settings: &Settings, error: &redb::Error) -> OpenError {
    OpenError::Unavailable(format!("{}: {error}", settings.path.display()))
}

/// Gives a file the name under which it stays, with what came of it.
fn keep(from: &Path, to: &Path, outcome: &str) {
    let reason = Reason::of(from);
    let why = reason.read().0.unwrap_or_else(|| NO_REASON.to_owned());
    if let Err(error) = std::fs::rename(from, to) {
        log::error!("spool: {} can't be moved to {}: {error}", from.display(), to.display());
        return;
    }
    log::error!("spool: {} is kept: {why}; {outcome}", to.display());
    Reason::of(to).write(&why, outcome);
    // Left behind, it would only say the same.
    let _ = std::fs::remove_file(&reason.0);
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Ok(()) => _ = std::fs::remove_file(Reason::of(path).0),
        Err(error) => {
            log::error!("spool: {} was imported and can't be removed: {error}", path.display());
        }
    }
}

/// What came of it, in a sentence.
fn told(tally: &Tally, verb: &str, values: &Values, image: &Image) -> String {
    let count = |n: u64, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
    let mut said = vec![match (tally.records, tally.letters) {
        (0, 0) => format!("nothing that waits was {verb}"),
        (records, 0) => format!("{} {verb}", count(records, "uplink")),
        (records, letters) => {
            format!("{} and {} {verb}", count(records, "uplink"), count(letters, "dead letter"))
        }
    }];
    if tally.lost > 0 {
        said.push(format!("{} lost, counted as damaged", tally.lost));
    }
    if tally.nobodys > 0 {
        said.push(format!("{} left in it, whose destination can't be read", count(tally.nobodys, "uplink")));
    }
    if tally.unknown > 0 {
        said.push(format!("{} of a newer version", count(tally.unknown, "uplink")));
    }
    if !values.is_complete() {
        said.push("nobody knows what else was in it".to_owned());
    } else if !image.is_last() {
        said.push("some of it may be sent again, for its last commit can't be read".to_owned());
    }
    if image.is_late() {
        said.push(format!("not all of it was read within {} min", AT_MOST.as_secs() / 60));
    }
    said.join("; ")
}
