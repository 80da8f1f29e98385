//! `packhorse dead`: what an integration refused for good.

use std::path::Path;

use serde_json::Value;

use super::ask::{self, Agent};
use super::table::{day_and_time, list, number, text, uplinks};
use super::{Exit, say};

pub(super) fn dead(config: &Path, integration: &str, json: bool) -> Result<Exit, Exit> {
    let answer = Agent::of(config)?.get(&ask::path("/dead", &[("integration", Some(integration))]))?;
    let letters = list(&answer, "dead_letters");
    if json {
        letters.iter().for_each(say);
        return Ok(Exit::Done);
    }
    let total = number(&answer, "total");
    if letters.is_empty() {
        say("no dead letters");
        return Ok(Exit::Done);
    }
    letters.iter().for_each(|letter| say(lines(letter)));
    let shown = u64::try_from(letters.len()).unwrap_or(total);
    if total > shown {
        say(format_args!("the oldest {shown} of {}", uplinks(total)));
    }
    say(format_args!("`packhorse replay {integration} --dead` sends them once more, `purge` drops them"));
    Ok(Exit::Done)
}

fn lines(letter: &Value) -> String {
    let error = letter.get("error").unwrap_or(&Value::Null);
    format!(
        "{}  {}  {}  attempts {}\n  {}: {}",
        day_and_time(letter, "time"),
        text(letter, "device"),
        text(letter, "id"),
        number(letter, "attempts"),
        text(error, "layer"),
        text(error, "message"),
    )
}
