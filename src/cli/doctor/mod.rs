//! `packhorse doctor`: what may be wrong, from the clock to the far end, one line each with the next step. It needs no agent
//! and no internet; where one of them is missing, that is a finding.

mod asked;
mod far;
mod kernel;
mod local;

use std::path::Path;

use serde_json::{Value, json};

use crate::agent::Agent as Rooms;
use crate::config::{Config, Problem};
use crate::control::client::{self, AskError};
use crate::printable::printable_up_to;

use super::{Exit, say};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Ok,
    Warn,
    Bad,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Bad => "bad",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
struct Finding {
    what: String,
    level: Level,
    says: String,
    next: Option<String>,
}

impl Finding {
    fn new(level: Level, what: impl Into<String>, says: impl Into<String>) -> Finding {
        Finding { what: what.into(), level, says: says.into(), next: None }
    }

    fn ok(what: impl Into<String>, says: impl Into<String>) -> Finding {
        Finding::new(Level::Ok, what, says)
    }

    fn warn(what: impl Into<String>, says: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding { next: Some(next.into()), ..Finding::new(Level::Warn, what, says) }
    }

    fn bad(what: impl Into<String>, says: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding { next: Some(next.into()), ..Finding::new(Level::Bad, what, says) }
    }

    fn line(&self) -> String {
        let says = printable_up_to(&self.says, 400);
        let line = format!("{:<5} {:<18} {says}", self.level.as_str(), self.what);
        match &self.next {
            Some(next) => format!("{line}\n{:>27} {}", "->", printable_up_to(next, 400)),
            None => line,
        }
    }

    fn json(&self) -> Value {
        json!({
            "check": self.what,
            "level": self.level.as_str(),
            "message": printable_up_to(&self.says, 400),
            "next": self.next.as_ref().map(|next| printable_up_to(next, 400)),
        })
    }
}

pub(super) fn doctor(config: &Path, json: bool) -> Exit {
    let mut findings = Vec::new();
    let mut report = |finding: Finding| {
        if !json {
            // Each as it is found: a far end may take its time.
            say(finding.line());
        }
        findings.push(finding);
    };
    look(config, &mut report);
    let count = |level: Level| findings.iter().filter(|finding| finding.level == level).count();
    let (bad, warn) = (count(Level::Bad), count(Level::Warn));
    if json {
        let checks: Vec<Value> = findings.iter().map(Finding::json).collect();
        say(json!({ "ok": bad == 0, "bad": bad, "warn": warn, "checks": checks }));
    } else {
        say(format_args!("{bad} bad, {warn} to know"));
    }
    if bad == 0 { Exit::Done } else { Exit::Bad }
}

fn look(path: &Path, report: &mut impl FnMut(Finding)) {
    let loaded = match Config::load(path) {
        Ok(loaded) => loaded,
        Err(problems) => {
            report(unusable(&problems));
            report(local::clock(None));
            report(local::route(true));
            return;
        }
    };
    let config = loaded.config;
    let rooms = Rooms::try_new(config.clone());
    match &rooms {
        Ok(_) => report(settings(&loaded.warnings)),
        Err(problems) => report(unusable(problems)),
    }
    let status = match client::get(&config.control.socket, "/status") {
        Ok(status) => Some(status),
        Err(error) => {
            report(no_agent(&error));
            None
        }
    };
    if let Some(status) = &status {
        asked::agent(status, report);
    }
    report(local::clock(status.as_ref()));
    report(local::route(far::needs_a_route(&config)));
    if let Ok(rooms) = &rooms {
        far::integrations(&config, rooms, report);
    }
    local::spool(&config, status.is_some(), report);
    report(local::power_cut(&config));
    local::permissions(path, &config, report);
    let devices = client::get(&config.control.socket, "/devices").ok();
    report(asked::forwarder(&config, status.as_ref(), devices.as_ref()));
    report(asked::overdue(&config, devices.as_ref()));
}

fn settings(warnings: &[Problem]) -> Finding {
    match warnings.len() {
        0 => Finding::ok("config", "good"),
        1 => Finding::warn("config", "good, with 1 warning", "packhorse check shows it"),
        n => Finding::warn("config", format!("good, with {n} warnings"), "packhorse check shows them"),
    }
}

fn unusable(problems: &[Problem]) -> Finding {
    let errors = problems.iter().filter(|problem| problem.is_error());
    let first = errors.clone().next().map(|problem| problem.message.clone()).unwrap_or_default();
    let n = errors.count();
    Finding::bad(
        "config",
        format!("{n} errors; the first: {first}"),
        "packhorse check shows them with their lines",
    )
}

fn no_agent(error: &AskError) -> Finding {
    let next = match error {
        AskError::Denied(_) => "say it with sudo, or join the group of the socket",
        _ => "start it: systemctl start packhorse, or packhorse run",
    };
    Finding::warn("agent", error.to_string(), next)
}
