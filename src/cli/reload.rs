//! `packhorse reload`, `apply`, `confirm`: changing the config of the running agent (RULES S9, S23).
//!
//! The agent writes nothing into the config folder. `apply` puts the candidate into the state folder, `confirm` copies it
//! over the config, both with the rights of whoever calls them.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::agent::Basis;
use crate::check;
use crate::config::Config;
use crate::reload::candidate_beside;

use super::ask::{Agent, path};
use super::{Exit, say};

pub(super) fn reload(config: &Path) -> Result<Exit, Exit> {
    say(changed(&Agent::of(config)?.post("/reload")?));
    Ok(Exit::Done)
}

/// Has the agent run `new` for `within`, unless it is confirmed.
pub(super) fn apply(config: &Path, new: &Path, within: Duration) -> Result<Exit, Exit> {
    let agent = Agent::of(config)?;
    if let Err(problems) = check::check_as(&Basis::new(), new, config) {
        for problem in &problems {
            eprintln!("{problem}");
        }
        eprintln!(
            "packhorse: {} has mistakes (named as if they stood in {}); nothing was changed",
            new.display(),
            config.display()
        );
        return Err(Exit::Bad);
    }
    let candidate = candidate_of(config)?;
    replace(&candidate, new).map_err(|error| failed(&candidate, &error))?;
    let seconds = within.as_secs().to_string();
    let answer = agent.post(&path("/apply", &[("confirm", Some(&seconds))]))?;
    say(changed(&answer));
    say(format_args!(
        "it runs until `packhorse confirm`; without that, in {seconds} s the old config runs again by itself"
    ));
    Ok(Exit::Done)
}

/// Makes the candidate the config.
pub(super) fn confirm(config: &Path) -> Result<Exit, Exit> {
    let agent = Agent::of(config)?;
    let candidate = candidate_of(config)?;
    if !candidate.exists() {
        eprintln!("packhorse: nothing waits to be confirmed; it was confirmed or rolled back already");
        return Err(Exit::Bad);
    }
    replace(config, &candidate).map_err(|error| failed(config, &error))?;
    agent.post("/confirm")?;
    say(format_args!("{} is what the agent runs", config.display()));
    Ok(Exit::Done)
}

/// The state folder is where the spool of the config that runs lies.
fn candidate_of(config: &Path) -> Result<PathBuf, Exit> {
    match Config::load(config) {
        Ok(loaded) => Ok(candidate_beside(&loaded.config.spool.path)),
        Err(_) => {
            eprintln!(
                "packhorse: {} is not good, so where its spool lies is not known; see `packhorse check`",
                config.display()
            );
            Err(Exit::Usage)
        }
    }
}

/// Puts a copy of `from` in the place of `to`, whole or not at all, with owner and rights that `to` had; where nothing was,
/// they are the folder's owner and the rights of `from`. Whoever calls may be root, and the agent has to read it.
fn replace(to: &Path, from: &Path) -> std::io::Result<()> {
    let text = std::fs::read(from)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut fresh = tempfile::NamedTempFile::new_in(folder)?;
    fresh.write_all(&text)?;
    let before = std::fs::metadata(to).ok();
    let owner = before.clone().map_or_else(|| std::fs::metadata(folder), Ok)?;
    let rights = before.map_or_else(|| std::fs::metadata(from), Ok)?.permissions();
    match std::os::unix::fs::fchown(fresh.as_file(), Some(owner.uid()), Some(owner.gid())) {
        // Only root can give a file away; with anybody else the rights of the group have to do.
        Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => return Err(error),
        _ => {}
    }
    fresh.as_file().set_permissions(rights)?;
    fresh.as_file().sync_all()?;
    fresh.persist(to).map_err(|error| error.error)?;
    Ok(())
}

fn failed(path: &Path, error: &std::io::Error) -> Exit {
    eprintln!(
        "packhorse: {} can't be written: {error}; use sudo, or the rights of the agent's group",
        path.display()
    );
    Exit::Usage
}

fn changed(answer: &Value) -> String {
    answer.get("changed").and_then(Value::as_str).unwrap_or("done").to_owned()
}
