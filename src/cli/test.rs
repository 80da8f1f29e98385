//! `packhorse test`: renders one made-up uplink and sends it, once.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::agent::Agent as Rooms;
use crate::clock::SystemClock;
use crate::config::{Config, Problem};
use crate::control::client::{self, AskError};
use crate::control::names::hint;
use crate::control::test::{self, Wanted};
use crate::own_thread;
use crate::printable::printable;

use super::args::TestOptions;
use super::ask::{self, Agent, complain};
use super::table::{digits, list, text};
use super::{Exit, say};

/// A token, a slow far end and a function together take no longer.
const PATIENCE: Duration = Duration::from_secs(150);

pub(super) fn test(config: &Path, options: &TestOptions) -> Result<Exit, Exit> {
    let result = match Agent::of(config).and_then(|agent| live(&agent, options))? {
        Some(result) => result,
        None => alone(config, options)?,
    };
    let is_good = result.get("status").and_then(Value::as_str) != Some("failed");
    if options.json {
        say(&result);
    } else {
        say(shown(&result));
    }
    Ok(if is_good { Exit::Done } else { Exit::Bad })
}

/// By the running agent; `None` if it can't, and why is said.
fn live(agent: &Agent, options: &TestOptions) -> Result<Option<Value>, Exit> {
    let payload = options.payload.as_ref().map(|payload| data_encoding::HEXLOWER.encode(payload));
    let port = options.port.map(|port| port.to_string());
    let query = [
        ("integration", Some(options.integration.as_str())),
        ("device", options.device.as_deref()),
        ("payload", payload.as_deref()),
        ("port", port.as_deref()),
    ];
    match client::post(&agent.socket, &ask::path("/test", &query), Some(PATIENCE)) {
        Ok(result) => Ok(Some(result)),
        Err(AskError::NoAgent { .. }) => {
            eprintln!("packhorse: no agent runs; testing from the config alone");
            Ok(None)
        }
        Err(AskError::Refused { status: 409, message }) => {
            eprintln!("packhorse: {message}; testing from the config alone");
            Ok(None)
        }
        Err(error) => Err(complain(&error)),
    }
}

/// From the config, without an agent.
fn alone(config: &Path, options: &TestOptions) -> Result<Value, Exit> {
    let loaded = Config::load(config).map_err(|problems| refuse(&problems))?;
    let rooms = Rooms::try_new(loaded.config).map_err(|problems| refuse(&problems))?;
    let name = options.integration.as_str();
    let Some(tester) = rooms.tester(name) else {
        eprintln!(
            "packhorse: there is no integration {:?}{}",
            printable(name),
            hint(name, rooms.integrations().into_iter())
        );
        return Err(Exit::Usage);
    };
    if let Some(client_id) = tester.client_id() {
        eprintln!(
            "packhorse: a connection of its own, without the will; a broker ends any other with the client id {}",
            printable(client_id)
        );
    }
    let wanted =
        Wanted { device: options.device.clone(), payload: options.payload.clone(), port: options.port };
    let uplink = wanted.uplink(rooms.devices(), &SystemClock::new()).map_err(|why| {
        eprintln!("packhorse: {why}");
        Exit::Usage
    })?;
    own_thread::run(test::run(name, &tester, uplink, None)).map_err(|error| {
        eprintln!("packhorse: the system refused a thread or timer: {error}");
        Exit::Bad
    })
}

fn refuse(problems: &[Problem]) -> Exit {
    problems.iter().filter(|problem| problem.is_error()).for_each(|problem| eprintln!("{problem}"));
    Exit::Bad
}

/// Request, answer, time.
fn shown(result: &Value) -> String {
    let empty = Value::Null;
    let request = result.get("request").unwrap_or(&empty);
    let mut lines = Vec::new();
    let via = result.get("via").and_then(Value::as_str);
    let via = via.map_or_else(String::new, |via| format!(" via {}", printable(via)));
    lines.push(format!("simulated uplink {} of {}{via}", text(result, "id"), text(result, "device")));
    if let Some(target) = request.get("target").and_then(Value::as_str).filter(|target| !target.is_empty()) {
        lines.push(String::new());
        lines.push(format!("> {target}"));
        lines.extend(
            list(request, "headers").iter().filter_map(Value::as_str).map(|header| format!("> {header}")),
        );
        lines.push(format!("> {}", request.get("body").and_then(Value::as_str).unwrap_or_default()));
    }
    if let Some(response) = result.get("response").filter(|response| !response.is_null()) {
        let body = response.get("body").and_then(Value::as_str).unwrap_or_default();
        lines.push(format!("< {} {}", text(response, "code"), printable(body)).trim_end().to_owned());
    }
    lines.push(String::new());
    lines.extend(list(result, "notes").iter().filter_map(Value::as_str).map(|note| format!("note: {note}")));
    let took = format!("{} ms", digits(result, "duration_ms"));
    lines.push(
        match (text(result, "status").as_str(), result.get("error").filter(|error| !error.is_null())) {
            (_, Some(error)) => {
                format!("FAILED after {took}: {}: {}", text(error, "layer"), text(error, "message"))
            }
            ("filtered", None) => "a function dropped it: nothing was sent".to_owned(),
            (status, None) => format!("{status} in {took}"),
        },
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_answer_and_time_are_shown() {
        let result = serde_json::json!({
            "id": "1", "device": "silo-7", "status": "failed", "duration_ms": 12, "notes": ["console: hello"],
            "request": { "target": "POST http://x/y", "headers": ["x-attempt: 1"], "body": "{}" },
            "response": { "code": "401", "body": "who are you" },
            "error": { "layer": "http", "message": "x answered 401" },
        });
        assert_eq!(
            shown(&result),
            "simulated uplink 1 of silo-7\n\n> POST http://x/y\n> x-attempt: 1\n> {}\n< 401 who are you\n\n\
             note: console: hello\nFAILED after 12 ms: http: x answered 401"
        );
    }
}
