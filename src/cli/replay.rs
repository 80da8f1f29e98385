//! `packhorse replay`: sends once more.

use std::path::Path;

use serde_json::Value;

use super::args::{ReplayOptions, Replayed};
use super::ask::{self, Agent};
use super::table::{number, text, uplinks};
use super::{Exit, say};

pub(super) fn replay(config: &Path, options: &ReplayOptions) -> Result<Exit, Exit> {
    let agent = Agent::of(config)?;
    let name = ("integration", Some(options.integration.as_str()));
    match options.what {
        Replayed::Dead => {
            let answer = agent.post(&ask::path("/replay", &[name, ("dead", Some("1"))]))?;
            say_dead(&answer);
        }
        Replayed::Since { since, all } => {
            let since = since.as_secs().to_string();
            let query = [name, ("since", Some(since.as_str())), ("all", all.then_some("1"))];
            say_since(&agent.post(&ask::path("/replay", &query))?);
        }
    }
    Ok(Exit::Done)
}

fn say_dead(answer: &Value) {
    let (name, left) = (text(answer, "integration"), number(answer, "left"));
    match answer.get("replayed").and_then(Value::as_u64) {
        Some(0) if left == 0 => say(format_args!("{name} has no dead letters")),
        Some(n) => say(format_args!("{name}: {} queued once more, under the same ids", uplinks(n))),
        None => say(format_args!("{name}: the replay is under way; `packhorse status` shows what is left")),
    }
    if left > 0 {
        say(format_args!("{left} are dead letters still: refused again, or the spool had no room for them"));
    }
}

fn say_since(answer: &Value) {
    let name = text(answer, "integration");
    match number(answer, "replayed") {
        0 => say(format_args!("{name}: nothing of that time is kept")),
        n => say(format_args!("{name}: {} to be sent once more, under the same ids", uplinks(n))),
    }
    if let Some(time) = answer.get("gone_before").and_then(Value::as_str) {
        say(format_args!(
            "what was heard until {time} is gone, at least in part;\n\
             `spool.keep_delivered` says how long delivered uplinks are kept"
        ));
    }
}
