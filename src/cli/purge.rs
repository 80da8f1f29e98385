//! `packhorse purge`: drops what waits for an integration.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use serde_json::Value;

use super::ask::{self, Agent};
use super::table::{list, number, text, uplinks};
use super::{Exit, say};

pub(super) fn purge(config: &Path, integration: &str, yes: bool) -> Result<Exit, Exit> {
    let agent = Agent::of(config)?;
    if !yes && !confirmed(&agent, integration)? {
        return Ok(Exit::Done);
    }
    let answer = agent.post(&ask::path("/purge", &[("integration", Some(integration))]))?;
    let name = text(&answer, "integration");
    match answer.get("purged").and_then(Value::as_u64) {
        Some(n) => say(format_args!("{name}: {} dropped, and counted as purged", uplinks(n))),
        None => say(format_args!("{name}: the purge is under way; `packhorse status` shows what is left")),
    }
    Ok(Exit::Done)
}

/// Asks on the terminal. Without one nobody can be asked, and nothing is dropped by mistake.
fn confirmed(agent: &Agent, integration: &str) -> Result<bool, Exit> {
    let status = agent.get("/status")?;
    let of = |key: &str| {
        let is_it = |entry: &&Value| {
            let (name, kind) = (text(entry, "name"), text(entry, "type"));
            name == integration || format!("{kind}:{name}") == integration
        };
        list(&status, "integrations").iter().find(is_it).map(|entry| number(entry, key))
    };
    if !std::io::stdin().is_terminal() {
        eprintln!("packhorse: nobody is there to be asked; say --yes to drop what waits");
        return Err(Exit::Usage);
    }
    let waiting = of("backlog").map_or_else(String::new, |backlog| {
        format!(": {} waiting, {} dead letters", uplinks(backlog), of("dead_letters").unwrap_or(0))
    });
    eprint!("drop everything for {integration}{waiting}? It can't be brought back. [y/N] ");
    // A prompt that can't be shown is answered all the same.
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    let is_yes = read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes");
    if !is_yes {
        say("nothing was dropped");
    }
    Ok(is_yes)
}
