//! Builds every room without starting it and collects what each finds wrong, and what is valid but a trap.

mod traps;

use std::path::Path;

use crate::agent::{Agent, Basis};
use crate::config::{Config, Place, Problem};

/// A config that the agent can run, with what should be known about it.
#[derive(Debug)]
pub struct Checked {
    /// The rooms, ready to run.
    pub agent: Agent,
    /// Name of the gateway.
    pub gateway: String,
    /// Where the agent answers commands.
    pub socket: std::path::PathBuf,
    /// Where the spool is.
    pub spool: std::path::PathBuf,
    /// Warnings.
    pub warnings: Vec<Problem>,
}

/// Loads and checks a config file.
///
/// # Errors
/// All problems, warnings included, if at least one is an error.
pub fn check(path: &Path) -> Result<Checked, Vec<Problem>> {
    check_as(&Basis::new(), path, path)
}

/// The same for a file that stands for the config at `path`, to follow the agent of `basis`.
///
/// # Errors
/// As for [`check`].
pub fn check_as(basis: &Basis, file: &Path, path: &Path) -> Result<Checked, Vec<Problem>> {
    let loaded = Config::load_as(file, path)?;
    let config = loaded.config;
    let mut warnings = loaded.warnings;
    let top = Place { file: path.into(), line: 1, column: 1 };
    warnings.extend(advice(&config, &top));
    let (errors, traps): (Vec<_>, Vec<_>) = traps::of(&config).into_iter().partition(Problem::is_error);
    warnings.extend(traps);
    let (gateway, socket, spool) =
        (config.gateway.name.clone(), config.control.socket.value.clone(), config.spool.path.value.clone());
    let agent = if config.sources.is_empty() {
        Err(vec![
            Problem::error(&top, "source", "there is no source, so nothing can be heard")
                .hint("add [source.concentrator] with type = \"semtech-udp\""),
        ])
    } else {
        Agent::try_new_on(basis, config)
    };
    match agent {
        Ok(agent) if errors.is_empty() => {
            warnings.extend_from_slice(agent.warnings());
            Ok(Checked { agent, gateway, socket, spool, warnings })
        }
        built => {
            let mut problems = built.err().unwrap_or_default();
            problems.extend(errors);
            problems.extend(warnings);
            sort(&mut problems);
            Err(problems)
        }
    }
}

/// In the order of the file.
fn sort(problems: &mut [Problem]) {
    problems.sort_by_key(|problem| {
        problem.place.as_ref().map(|place| (place.file.clone(), place.line, place.column))
    });
}

/// What can be run, but not as somebody may expect.
fn advice(config: &Config, top: &Place) -> Vec<Problem> {
    let mut advice = Vec::new();
    if !config.integrations.iter().any(|integration| integration.enabled) {
        advice.push(
            Problem::warning(
                top,
                "integration",
                "no integration is enabled: what is heard is counted and dropped",
            )
            .hint("add [integration.NAME] with type = \"http\" or \"mqtt\""),
        );
    }
    advice
}
