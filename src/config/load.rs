//! The way in: a file, or its text, becomes a [`Config`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::cross::{self, Names};
use super::device_files::{self, FromFiles};
use super::problem::{Place, Problem, Severity};
use super::reader::{Named, Reader, Table};
use super::schema::Config;
use super::text::{self, Text};
use super::{device, flow, function, gateway, integration, source};

/// A configuration that the agent can run, and what its operator should know about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings alone, sorted by place.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads `path` and what it refers to: device files, secrets, environment variables.
    ///
    /// # Errors
    /// Everything that is wrong, warnings included, sorted by place; at least one is an error.
    pub fn load(path: &Path) -> Result<Loaded, Vec<Problem>> {
        Config::load_as(path, path)
    }

    /// Reads `path`, which stands for the file `config`: that is where relative paths start, and what problems name.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn load_as(path: &Path, config: &Path) -> Result<Loaded, Vec<Problem>> {
        let text = text::read(path).map_err(|why| {
            vec![Problem {
                severity: Severity::Error,
                place: None,
                key: String::new(),
                message: format!("the configuration {} {why}", path.display()),
                hint: Some("name another file with --config FILE".to_owned()),
            }]
        })?;
        Config::parse(&text, config)
    }

    /// The same for a text that stands for the file `path`: relative paths start at its folder.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Loaded, Vec<Problem>> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let text = Text::new(path, text);
        let (reader, tree) = Reader::new(&text, folder);
        let (config, names, files) = reader.root(&tree, |table| root(table, folder));
        let lossy = reader.is_lossy() || files.lossy;
        let mut problems = reader.into_problems();
        problems.extend(files.problems);
        problems.extend(cross::clashes(&config));
        if !lossy {
            problems.extend(cross::dangling(&config, &names));
        }
        problems.sort_by_cached_key(|problem| order(problem, path));
        if problems.iter().any(Problem::is_error) {
            return Err(problems);
        }
        Ok(Loaded { config, warnings: few_alike(problems) })
    }
}

/// Of the warnings of one file that say the same, this many are told.
const ALIKE: usize = 10;

/// A file with the keys of a thousand devices is worth a few warnings, not two thousand at each start. The last one that is
/// told says how many are not.
fn few_alike(warnings: Vec<Problem>) -> Vec<Problem> {
    let mut seen: HashMap<(Option<PathBuf>, String), usize> = HashMap::new();
    let kind = |warning: &Problem| {
        (warning.place.as_ref().map(|place| place.file.to_path_buf()), warning.message.clone())
    };
    for warning in &warnings {
        *seen.entry(kind(warning)).or_default() += 1;
    }
    let mut told: HashMap<_, usize> = HashMap::new();
    let keep = |mut warning: Problem| {
        let kind = kind(&warning);
        let told = told.entry(kind.clone()).or_default();
        *told += 1;
        let more = seen.get(&kind).map_or(0, |all| all.saturating_sub(ALIKE));
        if *told == ALIKE && more > 0 {
            warning.message = format!("{}, and {more} times more in this file", warning.message);
        }
        (*told <= ALIKE).then_some(warning)
    };
    warnings.into_iter().filter_map(keep).collect()
}

/// The main file first, then the others by name; within a file from top to bottom.
fn order(problem: &Problem, main: &Path) -> Option<(bool, PathBuf, u32, u32)> {
    let Place { file, line, column } = problem.place.as_ref()?;
    Some((file.as_ref() != main, file.to_path_buf(), *line, *column))
}

/// Reads the whole tree. What could not be read is left out; the problems in the reader say so.
fn root(table: &mut Table<'_>, folder: &Path) -> (Config, Names, FromFiles) {
    let mut devices = table.list("device", device::SHAPE, device::read);
    let entries = table.get("device_files");
    let entries = entries.map(|value| value.items("a list of file names such as [\"devices.d/*.toml\"]"));
    let mut files = device_files::read(&entries.unwrap_or_default(), folder);
    devices.append(&mut files.devices);
    let (functions, integrations) = (table.named("function"), table.named("integration"));
    let names = Names { functions: names(&functions), integrations: names(&integrations) };
    let any_devices = !devices.is_empty() || files.lossy;
    let config = Config {
        gateway: table.sub("gateway", gateway::gateway),
        spool: table.sub("spool", gateway::spool),
        control: table.sub("control", gateway::control),
        sources: table.named("source").into_iter().filter_map(source::read).collect(),
        devices,
        functions: functions.into_iter().filter_map(function::read).collect(),
        integrations: integrations.into_iter().filter_map(integration::read).collect(),
        flows: table.list("flow", "a list of tables: [[flow]]", |value| flow::read(value, any_devices)),
        history: table.sub("history", gateway::history),
        metrics: table.sub("metrics", gateway::metrics),
    };
    (config, names, files)
}

fn names(entries: &[Named<'_>]) -> Vec<String> {
    entries.iter().map(|entry| entry.name.value.clone()).collect()
}
