//! How the commands ask the running agent, and what they say when it can't be asked.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::{Config, Problem};
use crate::control::client::{self, AskError};

use super::Exit;

/// The agent of a config.
pub(super) struct Agent {
    pub(super) socket: PathBuf,
}

impl Agent {
    /// Commands find the agent through its config. A config that has become bad must not hide a running agent, so only
    /// what makes the socket's path unknown stops them.
    pub(super) fn of(config: &Path) -> Result<Agent, Exit> {
        match Config::load(config) {
            Ok(loaded) => Ok(Agent { socket: loaded.config.control.socket.value.clone() }),
            Err(problems) => Err(complain_of_config(&problems, "where the agent is")),
        }
    }

    pub(super) fn get(&self, path: &str) -> Result<Value, Exit> {
        client::get(&self.socket, path).map_err(|error| complain(&error))
    }

    pub(super) fn post(&self, path: &str) -> Result<Value, Exit> {
        client::post(&self.socket, path, None).map_err(|error| complain(&error))
    }
}

/// Says that the config can't be read for what a command needs of it.
pub(super) fn complain_of_config(problems: &[Problem], what: &str) -> Exit {
    for problem in problems.iter().filter(|problem| problem.is_error()) {
        eprintln!("{problem}");
    }
    eprintln!("packhorse: the config does not say {what}; `packhorse check` lists its mistakes");
    Exit::Usage
}

/// Says why there is no answer. Wrong names and a missing agent are the caller's to repair, the rest is not.
pub(super) fn complain(error: &AskError) -> Exit {
    eprintln!("packhorse: {error}");
    match error {
        AskError::Refused { status: 400 | 404, .. } => Exit::Usage,
        AskError::Refused { .. } => Exit::Bad,
        _ => Exit::Usage,
    }
}

/// `path?key=value&…` of what is given.
pub(super) fn path(path: &str, query: &[(&str, Option<&str>)]) -> String {
    let given = query.iter().filter_map(|(key, value)| Some((key, (*value)?)));
    let pairs: Vec<String> = given.map(|(key, value)| format!("{key}={}", client::escaped(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_holds_what_is_given() {
        assert_eq!(path("/history", &[("device", None)]), "/history");
        let query = [("device", Some("silo 7&x=y")), ("since", None), ("failed", Some(""))];
        assert_eq!(path("/history", &query), "/history?device=silo%207%26x%3Dy&failed=");
    }
}
