//! The spool of an agent that does not run, looked at from outside: `spool check` and `spool export`.
//!
//! A file is locked while it is read, as redb's readers lock it: one that an agent holds is refused, and an agent that starts
//! meanwhile waits. It is opened for reading only, so nothing in it changes; one that was not closed cleanly is read as it
//! will be opened, by its last whole commit. The same goes for a file that was set aside: what can be read is, the rest is
//! counted. See [`image`](super::image) for how.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;

use crate::clock::{Boots, Dated};
use crate::uplink::Uplink;

use super::account::{AccountId, AccountView};
use super::boots;
use super::dead::DeadV1;
use super::image::{Image, Letter, Record, Values, Verdict, Whose};
use super::record::{self, Unreadable};
use super::round::cost;
use super::store::SEQ_END;

/// Why a file can't be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is none.
    #[error("there is no {}", .0.display())]
    Missing(PathBuf),
    /// An agent has it open.
    #[error(
        "{} is in use: stop the agent first, or ask it, `packhorse status`", .0.display()
    )]
    InUse(PathBuf),
    /// Something else.
    #[error("{}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
}

/// What is to be thought of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Soundness {
    /// Nothing was ever put into it.
    New,
    /// The agent opens it, and everything adds up.
    Sound,
    /// The agent sets it aside, or something in it is not as it should be; the problems say what.
    Damaged,
    /// A newer version made it.
    Newer,
}

/// What `spool check` found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The file.
    pub path: PathBuf,
    /// Its length, bytes.
    pub len: u64,
    /// What to think of it.
    pub soundness: Soundness,
    /// What is wrong; empty for a sound one.
    pub problems: Vec<String>,
    /// It was closed when the agent stopped; if not, it is repaired when one starts.
    pub closed: bool,
    /// Records that can be read.
    pub records: u64,
    /// What they take, overhead included; bytes.
    pub bytes: u64,
    /// Of the records those that nobody waits for any more.
    pub settled: u64,
    /// Records of which nobody can tell whom they were for.
    pub nobodys: u64,
    /// Records of a format to come: kept for the version that knows it.
    pub unknown: u64,
    /// Records whose checksum or encoding is wrong.
    pub damaged: u64,
    /// Dead letters that can be read.
    pub dead_letters: u64,
    /// Dead letters that can't.
    pub damaged_letters: u64,
    /// Ranges in the loss ledger.
    pub losses: u64,
    /// The integrations, with the backlog and the dead letters that were found.
    pub accounts: Vec<AccountView>,
}

/// An integration that a record is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// `http`, `mqtt` or `failover`.
    pub kind: String,
    /// The integration's name.
    pub name: String,
    /// By which flow; empty for the implicit one.
    pub flow: String,
}

/// A record on its way out of the file.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Its number in the log, or among the dead letters of an integration.
    pub seq: u64,
    /// What was heard.
    pub uplink: Uplink,
    /// When, as far as the file knows.
    pub heard: Dated,
    /// Who waits for it, or has refused it; empty where nobody can tell.
    pub destinations: Vec<Destination>,
    /// Why, how often it was tried and when it was refused (microseconds since 1970): of dead letters alone.
    pub refused: Option<(String, u32, i64)>,
}

/// What to export.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Dead letters, not what waits.
    pub dead: bool,
    /// Only what is for the integration of this name.
    pub integration: Option<String>,
}

/// How an export went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exports {
    /// What came out.
    pub exported: u64,
    /// What is there and can't be read.
    pub unreadable: u64,
    /// Parts of the file can't be read; nobody knows what was there.
    pub has_holes: bool,
}

/// A file that is open for looking at it.
#[derive(Debug)]
pub struct Inspection {
    path: PathBuf,
    image: Image,
    verdict: Verdict,
    values: Values,
    boots: Boots,
}

impl Inspection {
    /// Opens it and reads it through once. Blocking.
    ///
    /// # Errors
    /// See [`InspectError`].
    pub fn open(path: &Path) -> Result<Inspection, InspectError> {
        let unreadable = |why: String| InspectError::Unreadable { path: path.to_owned(), why };
        let mut image = Image::open(locked(path)?, None).map_err(unreadable)?;
        let verdict = image.judge();
        let values = image.values();
        let boots = boots::of(&values.notes());
        Ok(Inspection { path: path.to_owned(), image, verdict, values, boots })
    }

    /// The integrations that it knows.
    pub fn integrations(&self) -> Vec<&str> {
        self.values.accounts.values().map(|account| &*account.name).collect()
    }

    /// Reads every record and every dead letter, and counts.
    pub fn check(&self) -> Report {
        let mut report = Report {
            path: self.path.clone(),
            len: self.image.len(),
            soundness: Soundness::Sound,
            problems: Vec::new(),
            closed: self.image.was_closed(),
            records: 0,
            bytes: 0,
            settled: 0,
            nobodys: 0,
            unknown: 0,
            damaged: 0,
            dead_letters: 0,
            damaged_letters: 0,
            losses: self.values.losses.len() as u64,
            accounts: Vec::new(),
        };
        match &self.verdict {
            // An empty file is what `touch` leaves.
            _ if report.len == 0 => report.soundness = Soundness::New,
            Verdict::Sound => {}
            Verdict::Damaged(why) => report.problems.push(why.clone()),
            Verdict::Newer(why) => {
                report.soundness = Soundness::Newer;
                report.problems.push(why.clone());
            }
        }
        let last = self.count_records(&mut report);
        self.count_letters(&mut report);
        if last.is_some_and(|last| last >= SEQ_END) {
            report.problems.push(format!("its sequence numbers reach {}", last.unwrap_or_default()));
        }
        if self.verdict == Verdict::Sound {
            self.compare(&mut report);
        }
        if report.soundness == Soundness::Sound && !report.problems.is_empty() {
            report.soundness = Soundness::Damaged;
        }
        report
    }

    fn count_records(&self, report: &mut Report) -> Option<u64> {
        let (mut backlogs, mut last) = (BTreeMap::<AccountId, u64>::new(), None);
        let _ = self.image.records(self.values.numbers_end(), &mut |Record { seq, value, .. }| {
            last = Some(seq);
            report.bytes += cost(value.len());
            let outline = match record::outline(value) {
                Ok(outline) => outline,
                Err(unreadable) => {
                    let is_unknown = unreadable == Unreadable::Unknown;
                    *(if is_unknown { &mut report.unknown } else { &mut report.damaged }) += 1;
                    return ControlFlow::Continue(());
                }
            };
            report.records += 1;
            match self.values.whose(seq, &outline.routes) {
                Whose::Waited(accounts) => {
                    accounts.into_iter().for_each(|id| *backlogs.entry(id).or_default() += 1);
                }
                Whose::Settled => report.settled += 1,
                Whose::Unknown => report.nobodys += 1,
            }
            ControlFlow::Continue(())
        });
        report.accounts = self.values.accounts.iter().map(|(id, account)| account.view(*id)).collect();
        for account in &mut report.accounts {
            account.backlog = backlogs.get(&account.id).copied().unwrap_or(0);
            account.dead_letters = 0;
        }
        last
    }

    fn count_letters(&self, report: &mut Report) {
        let _ = self.image.letters(&mut |letter| {
            let account = report.accounts.iter_mut().find(|account| account.id == letter.account);
            match self.read_letter(letter) {
                Some(_) => {
                    report.dead_letters += 1;
                    account.into_iter().for_each(|account| account.dead_letters += 1);
                }
                None => report.damaged_letters += 1,
            }
            ControlFlow::Continue(())
        });
    }

    /// Of a file that is whole: whether its counts are those of what is in it (RULES S24).
    fn compare(&self, report: &mut Report) {
        let Some(totals) = self.values.totals else { return };
        let all = report.records + report.unknown + report.damaged;
        let mut problems = Vec::new();
        let mut count = |what: &str, found: u64, stored: u64| {
            if found != stored {
                problems.push(format!("{what}: {found} found, {stored} counted"));
            }
        };
        count("records", all, totals.records);
        count("bytes", report.bytes, totals.bytes);
        for found in &report.accounts {
            let Some(stored) = self.values.accounts.get(&found.id) else { continue };
            // Nobody can tell for whom the others are.
            if report.unknown + report.damaged == 0 {
                count(&format!("uplinks for {}", found.name), found.backlog, stored.backlog);
            }
            if report.damaged_letters == 0 {
                count(&format!("dead letters of {}", found.name), found.dead_letters, stored.dead);
            }
        }
        for (n, what) in [(report.damaged, "record"), (report.damaged_letters, "dead letter")] {
            match n {
                0 => {}
                1 => problems.push(format!("one {what} fails its checksum")),
                n => problems.push(format!("{n} {what}s fail their checksums")),
            }
        }
        report.problems.extend(problems);
    }

    /// A letter, if it can be read and is for the one under whose name it lies.
    fn read_letter<'l>(&self, letter: Letter<'l>) -> Option<DeadV1<'l>> {
        let dead = DeadV1::read(letter.value)?;
        let outline = record::outline(dead.record).ok()?;
        let is_its = letter.sure || self.values.has_route_to(letter.account, &outline.routes);
        is_its.then_some(dead)
    }

    /// Hands out what is selected, one after the other, until `each` breaks.
    pub fn export(
        &self,
        selection: &Selection,
        each: &mut dyn FnMut(Exported) -> ControlFlow<()>,
    ) -> Exports {
        if selection.dead {
            self.export_letters(selection, each)
        } else {
            self.export_records(selection, each)
        }
    }

    fn export_records(
        &self,
        selection: &Selection,
        each: &mut dyn FnMut(Exported) -> ControlFlow<()>,
    ) -> Exports {
        let mut exports = Exports::default();
        let done = self.image.records(self.values.numbers_end(), &mut |Record { seq, value, .. }| {
            let (Ok(outline), Some(uplink)) = (record::outline(value), record::uplink(value)) else {
                exports.unreadable += 1;
                return ControlFlow::Continue(());
            };
            let accounts = match self.values.whose(seq, &outline.routes) {
                Whose::Waited(accounts) => accounts,
                Whose::Settled => return ControlFlow::Continue(()),
                Whose::Unknown => Vec::new(),
            };
            let destinations = self.destinations(selection, &accounts, &outline.routes);
            if destinations.is_empty() && (selection.integration.is_some() || !accounts.is_empty()) {
                return ControlFlow::Continue(());
            }
            exports.exported += 1;
            each(Exported { seq, heard: self.boots.date(uplink.at), uplink, destinations, refused: None })
        });
        exports.has_holes = done == ControlFlow::Continue(true);
        exports
    }

    fn export_letters(
        &self,
        selection: &Selection,
        each: &mut dyn FnMut(Exported) -> ControlFlow<()>,
    ) -> Exports {
        let mut exports = Exports::default();
        let done = self.image.letters(&mut |letter| {
            let Some(dead) = self.read_letter(letter) else {
                exports.unreadable += 1;
                return ControlFlow::Continue(());
            };
            let Some(uplink) = record::uplink(dead.record) else { return ControlFlow::Continue(()) };
            let account = self.values.accounts.get(&letter.account);
            let destination = account.map(|account| Destination {
                kind: account.kind.to_string(),
                name: account.name.to_string(),
                flow: String::new(),
            });
            let is_wanted = selection.integration.as_ref().is_none_or(|wanted| {
                destination.as_ref().is_some_and(|destination| destination.name == *wanted)
            });
            if !is_wanted {
                return ControlFlow::Continue(());
            }
            exports.exported += 1;
            let refused = Some((dead.reason.to_owned(), dead.attempts, dead.refused_us));
            each(Exported {
                seq: letter.seq,
                heard: self.boots.date(uplink.at),
                uplink,
                destinations: destination.into_iter().collect(),
                refused,
            })
        });
        exports.has_holes = done == ControlFlow::Continue(true);
        exports
    }

    fn destinations(
        &self,
        selection: &Selection,
        accounts: &[AccountId],
        routes: &[super::RouteId],
    ) -> Vec<Destination> {
        let values = &self.values;
        let routes = routes.iter().filter_map(|route| values.routes.get(route));
        let waiting = routes.filter(|route| accounts.contains(&AccountId(route.account)));
        let named = waiting.filter_map(|route| {
            let account = values.accounts.get(&AccountId(route.account))?;
            let (kind, name) = (account.kind.to_string(), account.name.to_string());
            Some(Destination { kind, name, flow: route.flow.clone() })
        });
        named.filter(|it| selection.integration.as_ref().is_none_or(|wanted| it.name == *wanted)).collect()
    }
}

/// Opens a file for reading, and keeps agents from opening it meanwhile.
pub(super) fn locked(path: &Path) -> Result<Box<dyn StorageBackend>, InspectError> {
    let unreadable = |why: String| InspectError::Unreadable { path: path.to_owned(), why };
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => InspectError::Missing(path.to_owned()),
        _ => unreadable(error.to_string()),
    })?;
    if file.metadata().is_ok_and(|file| !file.is_file()) {
        return Err(unreadable("it is no file".into()));
    }
    let backend = FileBackend::new(file).map_err(|error| unreadable(error.to_string()))?;
    match backend.try_lock_shared_range(Bound::Unbounded, Bound::Unbounded) {
        Ok(false) => Err(InspectError::InUse(path.to_owned())),
        // A file system without locks: then redb could not lock it either.
        Ok(true) | Err(_) => Ok(Box::new(backend)),
    }
}
