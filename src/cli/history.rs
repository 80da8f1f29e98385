//! `packhorse history`: what was sent where, when, and what was said to it.

use std::path::Path;

use serde_json::Value;

use super::args::HistoryOptions;
use super::ask::{self, Agent};
use super::table::{WIDTH, cut, day_and_time, digits, list, number, text};
use super::{Exit, say};

pub(super) fn history(config: &Path, options: &HistoryOptions) -> Result<Exit, Exit> {
    let since = options.since.map(|since| since.as_secs().to_string());
    let query = [
        ("integration", options.integration.as_deref()),
        ("device", options.device.as_deref()),
        ("since", since.as_deref()),
        ("failed", options.failed.then_some("1")),
    ];
    let answer = Agent::of(config)?.get(&ask::path("/history", &query))?;
    let entries = list(&answer, "history");
    if options.json {
        entries.iter().for_each(say);
    } else if entries.is_empty() {
        say("no attempt of that kind since the agent started; `packhorse status` says how it is");
    } else {
        say(table(entries));
    }
    Ok(Exit::Done)
}

fn table(entries: &[Value]) -> String {
    let mut lines = vec![row("TIME", "INTEGRATION", "DEVICE", "STATUS", "TRY", "MS", "CODE")];
    for entry in entries {
        let code = entry.pointer("/response/code").and_then(Value::as_str).unwrap_or("-");
        lines.push(row(
            &day_and_time(entry, "time"),
            &text(entry, "integration"),
            &text(entry, "device"),
            &text(entry, "status"),
            &number(entry, "attempts").to_string(),
            &digits(entry, "duration_ms"),
            &cut(code, 6),
        ));
        if let Some(error) = entry.get("error").filter(|error| !error.is_null()) {
            let from = entry.get("since").map(|_| format!("from {} on, ", day_and_time(entry, "since")));
            let (layer, message) = (text(error, "layer"), text(error, "message"));
            lines.push(format!("  {}{layer}: {message}", from.unwrap_or_default()));
        }
        let notes = list(entry, "notes").iter().filter_map(Value::as_str);
        lines.extend(notes.map(|note| cut(&format!("  note: {note}"), WIDTH)));
    }
    lines.push("--json shows what was sent and answered".to_owned());
    lines.join("\n")
}

#[allow(clippy::too_many_arguments)]
fn row(
    time: &str,
    integration: &str,
    device: &str,
    status: &str,
    tries: &str,
    ms: &str,
    code: &str,
) -> String {
    let (integration, device) = (cut(integration, 15), cut(device, 16));
    format!("{time:<14} {integration:<15} {device:<16} {status:<11} {tries:>4} {ms:>6} {code:>6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_80_columns_but_for_errors_which_are_whole() {
        let entry = serde_json::json!({
            "id": "x", "time": "2026-11-23T20:21:03.000001Z", "integration": "a-rather-long-integration",
            "device": "0004a30b001c0530", "status": "dead-letter", "attempts": 1_200, "duration_ms": 10_012,
            "response": { "code": "PUBACK", "body": "" }, "error": { "layer": "http", "message": "no\u{1b}[2J" },
            "notes": ["the body has null for {{decoded.level_cm}}, which this uplink does not have, and so on"],
        });
        let outage = serde_json::json!({
            "id": null, "time": "2026-11-23T21:00:00.000001Z", "since": "2026-11-23T20:30:00.000001Z",
            "integration": "plant-broker", "status": "offline", "attempts": 57,
            "error": { "layer": "tcp", "message": "no connection to h:1" },
        });
        let table = table(&[entry, outage]);
        assert!(table.lines().all(|line| line.chars().count() <= WIDTH), "{table}");
        for part in ["11-23 20:21:03", "dead-letter", "1200", "PUBACK", "  http: no\n", "note: the body"]
            .into_iter()
            .chain([
                "offline       57      -      -\n",
                "  from 11-23 20:30:00 on, tcp: no connection to h:1\n",
            ])
        {
            assert!(table.contains(part), "{part} is missing in\n{table}");
        }
    }
}
