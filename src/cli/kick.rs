//! `packhorse kick`: the link is up, try now.

use std::path::Path;

use super::ask::Agent;
use super::{Exit, say};

pub(super) fn kick(config: &Path) -> Result<Exit, Exit> {
    Agent::of(config)?.post("/kick")?;
    say("every integration that waits tries within two seconds; `packhorse status` shows how it went");
    Ok(Exit::Done)
}
