//! `packhorse status`

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::Config;
use crate::control::client;
use crate::printable::printable;

use super::{Exit, say};

pub(super) fn status(config: &Path, json: bool) -> Exit {
    let socket = match socket_of(config) {
        Ok(socket) => socket,
        Err(exit) => return exit,
    };
    match client::get(&socket, "/status") {
        Ok(status) => {
            if json {
                say(status);
            } else {
                say(table(&status));
            }
            Exit::Done
        }
        Err(error) => {
            eprintln!("packhorse: {error}");
            Exit::Usage
        }
    }
}

/// Commands find the agent through its config. A config that has become bad must not hide a running agent, so only what
/// makes the socket's path unknown stops them.
fn socket_of(config: &Path) -> Result<PathBuf, Exit> {
    match Config::load(config) {
        Ok(loaded) => Ok(loaded.config.control.socket.value.clone()),
        Err(problems) => {
            for problem in problems.iter().filter(|problem| problem.is_error()) {
                eprintln!("{problem}");
            }
            eprintln!(
                "packhorse: the config does not say where the agent is; `packhorse check` lists its mistakes"
            );
            Err(Exit::Usage)
        }
    }
}

/// A screen that fits 80 columns.
fn table(status: &Value) -> String {
    let mut lines = vec![head(status), counts(status), spool(status)];
    if let Some(aside) = status.pointer("/spool/set_aside").filter(|aside| !aside.is_null()) {
        lines.push(format!("  SET ASIDE {}: {}", text(aside, "path"), text(aside, "reason")));
    }
    let integrations = status.get("integrations").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    lines.push(String::new());
    if integrations.is_empty() {
        lines.push("no integrations".into());
        return lines.join("\n");
    }
    lines.push(row(["INTEGRATION", "TYPE", "STATE", "BACKLOG", "OLDEST", "DELIVERED", "DEAD", "LOST"]));
    for integration in integrations {
        lines.push(integration_row(integration));
        if let Some(error) = integration.get("last_error").filter(|error| !error.is_null()) {
            let time = text(error, "time");
            let time = time.split('.').next().unwrap_or_default();
            lines.push(format!("  {time}Z {}: {}", text(error, "layer"), text(error, "message")));
        }
    }
    lines.join("\n")
}

fn head(status: &Value) -> String {
    format!(
        "{}  packhorse {}  up {}",
        text(status, "gateway"),
        text(status, "version"),
        duration(number(status, "uptime_s"))
    )
}

fn counts(status: &Value) -> String {
    let dropped = status.get("dropped").and_then(Value::as_object);
    let dropped: Vec<String> = dropped
        .map(|reasons| reasons.iter().map(|(reason, n)| format!("{reason} {n}")).collect())
        .unwrap_or_default();
    let dropped =
        if dropped.is_empty() { String::new() } else { format!("  dropped: {}", dropped.join(", ")) };
    format!("heard {}  committed {}{dropped}", number(status, "heard"), number(status, "committed"))
}

fn spool(status: &Value) -> String {
    let spool = status.get("spool").unwrap_or(&Value::Null);
    let trouble = match spool.get("trouble").and_then(Value::as_str) {
        Some(trouble) => format!(" ({})", printable(trouble)),
        None => String::new(),
    };
    format!(
        "spool {}{trouble}: {} uplinks, {} of {}, {}",
        text(spool, "state"),
        number(spool, "records"),
        size(number(spool, "bytes")),
        size(number(spool, "max_size")),
        text(spool, "path")
    )
}

fn integration_row(integration: &Value) -> String {
    let lost: u64 = integration
        .get("dropped")
        .and_then(Value::as_object)
        .map_or(0, |reasons| reasons.values().filter_map(Value::as_u64).sum());
    let oldest = integration.get("oldest_s").and_then(Value::as_u64).map_or("-".to_owned(), duration);
    row([
        &text(integration, "name"),
        &text(integration, "type"),
        &text(integration, "state"),
        &number(integration, "backlog").to_string(),
        &oldest,
        &number(integration, "delivered").to_string(),
        &number(integration, "dead_letters").to_string(),
        &lost.to_string(),
    ])
}

fn row(cells: [&str; 8]) -> String {
    let [name, kind, state, backlog, oldest, delivered, dead, lost] = cells;
    format!("{name:<20} {kind:<4} {state:<8} {backlog:>9} {oldest:>7} {delivered:>10} {dead:>5} {lost:>6}")
}

fn text(value: &Value, key: &str) -> String {
    printable(value.get(key).and_then(Value::as_str).unwrap_or("-"))
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// Two units are enough to act on.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, ..) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes / 1_024),
        _ => format!("{}.{} MiB", bytes / 1_048_576, bytes % 1_048_576 * 10 / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_80_columns_and_shows_what_matters() {
        let status = serde_json::json!({
            "version": "0.1.0", "gateway": "barn-roof", "uptime_s": 11_520, "heard": 1_300, "committed": 1_300,
            "dropped": { "crc-bad": 3 },
            "spool": { "state": "ok", "trouble": null, "path": "/var/lib/packhorse/spool.redb", "records": 1_000,
                       "bytes": 260_000, "max_size": 67_108_864, "set_aside": null },
            "integrations": [{ "name": "factory-api", "type": "http", "enabled": true, "state": "down",
                "backlog": 1_000, "oldest_s": 725, "delivered": 300, "dead_letters": 1, "dropped": { "expired": 2 },
                "last_error": { "layer": "tcp", "message": "connection refused\u{1b}[31m",
                                "time": "2026-11-23T20:21:03.000001Z" } }]
        });
        let table = table(&status);
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        for part in ["barn-roof", "3h12m", "crc-bad 3", "12m5s", "down", "1000", "tcp: connection refused"] {
            assert!(table.contains(part), "{part} is missing in\n{table}");
        }
        assert!(!table.contains('\u{1b}'));
    }
}
