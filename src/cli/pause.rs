//! `packhorse pause`, `packhorse resume`.

use std::path::Path;

use super::ask::{self, Agent};
use super::table::{number, text, uplinks};
use super::{Exit, say};

pub(super) fn pause(config: &Path, integration: &str) -> Result<Exit, Exit> {
    let answer = Agent::of(config)?.post(&ask::path("/pause", &[("integration", Some(integration))]))?;
    let (name, backlog) = (text(&answer, "integration"), uplinks(number(&answer, "backlog")));
    say(format_args!("{name} is paused: {backlog} waiting, what comes is kept, also over a restart"));
    say(format_args!("go on with: packhorse resume {name}"));
    Ok(Exit::Done)
}

pub(super) fn resume(config: &Path, integration: &str) -> Result<Exit, Exit> {
    let answer = Agent::of(config)?.post(&ask::path("/resume", &[("integration", Some(integration))]))?;
    let (name, backlog) = (text(&answer, "integration"), uplinks(number(&answer, "backlog")));
    say(format_args!("{name} goes on: {backlog} waiting"));
    Ok(Exit::Done)
}
