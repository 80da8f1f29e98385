//! Opening the file: what is damage, what is not, and what happens to a damaged one (RULES S3).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redb::{Builder, Database, DatabaseError};

use crate::crash_point::CrashPoint;

use super::Settings;
use super::file::{Holding, Meter, SpoolFile};
use super::salvage::{DAMAGED, NEWER, OWED};
use super::store::Store;
use super::values::StoreError;
use super::wear::Gauge;

/// redb's page cache. Its own default is 1 GiB; at 1 MiB a million records cost no more memory than a thousand.
const CACHE_BYTES: usize = 1 << 20;

/// The size of a file that redb has just made, bytes.
const NEW_FILE: u64 = 18 * 4_096;

/// The length of its magic number, and the page that its header is in.
const MAGIC_LEN: usize = 9;
const PAGE_BYTES: usize = 4_096;

/// Deaths shortly after opening that make a file count as damaged.
const DEATHS: usize = 3;

/// A breath before a file is opened again after an I/O error.
const REST: Duration = Duration::from_millis(500);

/// Where the bytes go: a file, or what a test wants instead.
#[derive(Clone, Debug, Default)]
pub enum Backend {
    /// The file named in the settings.
    #[default]
    File,
    /// Something else under the same store.
    Custom(Arc<dyn OpenBackend>),
}

/// Opens a database on a backend of its own.
pub trait OpenBackend: fmt::Debug + Send + Sync {
    /// Opens or creates it.
    ///
    /// # Errors
    /// redb's.
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError>;

    /// How long it is left alone after an I/O error before it is opened again.
    fn rest(&self) -> Duration {
        REST
    }
}

impl Backend {
    pub(super) fn rest(&self) -> Duration {
        match self {
            Backend::File => REST,
            Backend::Custom(custom) => custom.rest(),
        }
    }
}

/// A spool file that could not be used and was moved out of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now; the reason stands beside it in a file of the same name with `.reason`.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
    /// What came of what is in it: how much was salvaged, how much is lost.
    pub outcome: Option<String>,
}

/// Why the spool can't be opened although it is not damaged.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds it.
    #[error(
        "{} is open in another process; is a second agent running? (`packhorse status` asks the first one)",
        .0.display()
    )]
    InUse(PathBuf),
    /// The file or its folder can't be used.
    #[error("{0}")]
    Unavailable(String),
}

/// An open store, and what had to be moved away for it.
pub(super) struct Opened {
    pub(super) store: Store,
    /// The file's space; a test's backend has none.
    pub(super) holding: Option<Holding>,
    pub(super) set_aside: Vec<SetAside>,
}

impl Opened {
    /// What the file may take on the disk, bytes.
    pub(super) fn limit(&self) -> Option<u64> {
        self.holding.as_ref().map(Holding::limit)
    }
}

/// Opens the spool; sets a damaged or newer file aside and starts a fresh one.
pub(super) fn open(settings: &Settings, backend: &Backend, meter: &Arc<Meter>) -> Result<Opened, OpenError> {
    let path = settings.path.as_path();
    if matches!(backend, Backend::File) {
        make_folder(path)?;
        let deaths = Deaths::beside(path);
        if deaths.count() >= DEATHS && path.exists() {
            let reason = format!(
                "the agent died {DEATHS} times within a minute of opening it, so what is in it was not salvaged"
            );
            let opened = start_fresh(settings, backend, meter, DAMAGED, reason)?;
            deaths.forget();
            return Ok(opened);
        }
        if !path.exists() {
            // Marks of a file that somebody took away say nothing about the one that is made now.
            deaths.forget();
        }
    }
    match try_open(settings, backend, meter) {
        Ok((store, holding)) => Ok(Opened { store, holding, set_aside: Vec::new() }),
        Err(Trouble::Damaged(_)) if matches!(backend, Backend::File) && is_unmade(path) => {
            log::warn!("spool: {} was never finished, and nothing is in it; making it again", path.display());
            std::fs::remove_file(path).map_err(|error| {
                OpenError::Unavailable(format!("cannot remove {}: {error}", path.display()))
            })?;
            let (store, holding) = try_open(settings, backend, meter).map_err(not_even_fresh)?;
            Ok(Opened { store, holding, set_aside: Vec::new() })
        }
        Err(Trouble::Damaged(reason)) => {
            // While another one is owed, this is what an unfinished salvage of that one has made.
            let suffix = if with_suffix(path, OWED).exists() { DAMAGED } else { OWED };
            start_fresh(settings, backend, meter, suffix, reason)
        }
        Err(Trouble::Newer(reason)) => start_fresh(settings, backend, meter, NEWER, reason),
        Err(Trouble::Other(error)) => Err(error),
    }
}

fn start_fresh(
    settings: &Settings,
    backend: &Backend,
    meter: &Arc<Meter>,
    suffix: &str,
    reason: String,
) -> Result<Opened, OpenError> {
    if matches!(backend, Backend::Custom(_)) {
        return Err(OpenError::Unavailable(reason));
    }
    let set_aside = set_aside(&settings.path, suffix, reason)?;
    log::error!(
        "spool: {} can't be used and was set aside as {}: {}; starting a fresh one",
        settings.path.display(),
        set_aside.path.display(),
        set_aside.reason
    );
    let (store, holding) = try_open(settings, backend, meter).map_err(not_even_fresh)?;
    Ok(Opened { store, holding, set_aside: vec![set_aside] })
}

fn not_even_fresh(trouble: Trouble) -> OpenError {
    match trouble {
        Trouble::Damaged(reason) | Trouble::Newer(reason) => {
            OpenError::Unavailable(format!("a fresh spool can't be used either: {reason}"))
        }
        Trouble::Other(error) => error,
    }
}

/// Whether it is a file whose making was cut short: it has the size that redb gives to a new one, and neither the magic
/// number, which is written last, nor anything but its header.
fn is_unmade(path: &Path) -> bool {
    let is_new = std::fs::metadata(path).is_ok_and(|file| file.len() == NEW_FILE);
    let bytes = if is_new { std::fs::read(path).unwrap_or_default() } else { Vec::new() };
    let parts = [bytes.get(..MAGIC_LEN), bytes.get(PAGE_BYTES..)];
    parts.iter().all(|part| part.is_some_and(|part| part.iter().all(|byte| *byte == 0)))
}

enum Trouble {
    Damaged(String),
    Newer(String),
    Other(OpenError),
}

fn try_open(
    settings: &Settings,
    backend: &Backend,
    meter: &Arc<Meter>,
) -> Result<(Store, Option<Holding>), Trouble> {
    let mut builder = builder();
    let gauge = Gauge::new(Arc::clone(meter));
    let mut holding = None;
    let database = match backend {
        Backend::File => {
            builder.set_repair_callback(|session| {
                log::debug!("spool: checking the file, {:.0} %", session.progress() * 100.0);
            });
            SpoolFile::open(&settings.path, settings.max_size, Arc::clone(meter)).and_then(|file| {
                holding = Some(file.holding());
                builder.create_with_backend(file)
            })
        }
        Backend::Custom(custom) => custom.open(&builder),
    }
    .map_err(|error| judge(&settings.path, &error.into()))?;
    CrashPoint::BeforeReservation.reached();
    let store = Store::new(database, gauge).map_err(|error| match error {
        StoreError::Damaged(reason) => Trouble::Damaged(reason),
        StoreError::Newer(format) => Trouble::Newer(newer(format)),
        StoreError::Redb(error) => judge(&settings.path, &error),
    })?;
    CrashPoint::AfterReservation.reached();
    Ok((store, holding))
}

/// A builder with our settings.
pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// Why a file of a later format can't be used.
pub(super) fn newer(format: u8) -> String {
    format!("its format is {format}, made by a newer version of this program")
}

/// Likewise of redb's.
pub(super) fn newer_redb(version: u8) -> String {
    format!("its redb file format {version} is not the one of this version")
}

/// Only what is about the bytes is damage; what is about the disk, the folder or the rights is not.
fn judge(path: &Path, error: &redb::Error) -> Trouble {
    use redb::Error;
    match error {
        Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => {
            Trouble::Other(OpenError::InUse(path.to_owned()))
        }
        Error::UpgradeRequired(version) => Trouble::Newer(newer_redb(*version)),
        Error::Corrupted(reason) => Trouble::Damaged(reason.clone()),
        Error::TableTypeMismatch { table, .. } | Error::TableIsMultimap(table) => {
            Trouble::Damaged(format!("its table `{table}` is not a spool's"))
        }
        Error::TypeDefinitionChanged { name, .. } => {
            Trouble::Damaged(format!("its type `{}` is not a spool's", name.name()))
        }
        Error::Io(error)
            if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            Trouble::Damaged(error.to_string())
        }
        other => Trouble::Other(OpenError::Unavailable(format!("{}: {other}", path.display()))),
    }
}

fn make_folder(path: &Path) -> Result<(), OpenError> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    std::fs::create_dir_all(folder).map_err(|error| {
        OpenError::Unavailable(format!(
            "cannot make the folder {}: {error}; set spool.path to a folder that this user may write",
            folder.display()
        ))
    })
}

fn set_aside(path: &Path, suffix: &str, reason: String) -> Result<SetAside, OpenError> {
    let aside = with_suffix(path, suffix);
    std::fs::rename(path, &aside).map_err(|error| {
        OpenError::Unavailable(format!(
            "{} can't be used ({reason}) and can't be moved to {}: {error}",
            path.display(),
            aside.display()
        ))
    })?;
    let note = with_suffix(&aside, "reason");
    if let Err(error) = std::fs::write(&note, format!("{reason}\n")) {
        log::warn!("spool: the reason can't be kept in {}: {error}", note.display());
    }
    CrashPoint::SetAside.reached();
    Ok(SetAside { path: aside, reason, outcome: None })
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Remembers in a small file beside the spool how often the agent died by a panic within a minute of opening it: a damaged
/// page that the integrity check missed would otherwise be opened for ever. Being killed or losing power leaves no mark.
#[derive(Clone, Debug)]
pub struct Deaths(PathBuf);

impl Deaths {
    /// The mark that belongs to the spool at `path`.
    pub fn beside(path: &Path) -> Deaths {
        Deaths(with_suffix(path, "died"))
    }

    /// Called from the panic hook: adds a death.
    pub fn add(&self) {
        use std::io::Write;
        // On the way to abort there is nobody left to tell.
        let _ = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.0)
            .and_then(|mut mark| mark.write_all(b"x"));
    }

    /// The agent has lived: forgets them.
    pub fn forget(&self) {
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("spool: cannot remove {}: {error}", self.0.display());
        }
    }

    fn count(&self) -> usize {
        std::fs::metadata(&self.0).map_or(0, |mark| usize::try_from(mark.len()).unwrap_or(usize::MAX))
    }
}
