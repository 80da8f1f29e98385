//! `packhorse status`

use std::path::Path;

use serde_json::Value;

use crate::printable::printable;

use super::ask::Agent;
use super::table::{cut, duration, list, number, size, text, uplinks};
use super::{Exit, say};

pub(super) fn status(config: &Path, json: bool) -> Result<Exit, Exit> {
    let status = Agent::of(config)?.get("/status")?;
    if json {
        say(status);
    } else {
        say(table(&status));
    }
    Ok(Exit::Done)
}

/// A screen that fits 80 columns.
fn table(status: &Value) -> String {
    let mut lines = vec![head(status), counts(status), spool(status)];
    lines.extend(out_of_reach(status));
    lines.extend(small_disk(status));
    lines.extend(at_risk(status));
    lines.extend(flash(status));
    lines.extend(clock(status));
    for aside in status.get("spool").map_or(&[][..], |spool| list(spool, "set_aside")) {
        lines.push(format!("  SET ASIDE {}: {}", text(aside, "path"), text(aside, "reason")));
        if let Some(outcome) = aside.get("outcome").and_then(Value::as_str) {
            lines.push(format!("    {}", printable(outcome)));
        }
    }
    lines.extend(list(status, "taps").iter().flat_map(tap));
    let overdue: Vec<String> =
        list(status, "overdue").iter().filter_map(Value::as_str).map(printable).collect();
    if !overdue.is_empty() {
        lines.push(format!("OVERDUE {} (`packhorse devices` says since when)", overdue.join(", ")));
    }
    let integrations = list(status, "integrations");
    lines.push(String::new());
    if integrations.is_empty() {
        lines.push("no integrations".into());
        return lines.join("\n");
    }
    lines.push(row(["INTEGRATION", "TYPE", "STATE", "BACKLOG", "OLDEST", "DELIVERED", "DEAD", "LOST"]));
    for integration in integrations {
        lines.push(integration_row(integration));
        lines.extend(progress(integration));
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
    let dropped = dropped(status).unwrap_or_default();
    format!("heard {}  committed {}{dropped}", number(status, "heard"), number(status, "committed"))
}

/// What was dropped, by reason; `None` if nothing was.
fn dropped(of: &Value) -> Option<String> {
    let reasons = of.get("dropped").and_then(Value::as_object).filter(|reasons| !reasons.is_empty())?;
    let reasons: Vec<String> = reasons.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
    Some(format!("  dropped: {}", reasons.join(", ")))
}

/// A server that a source passes everything on to.
fn tap(tap: &Value) -> Vec<String> {
    let last = tap.get("last_ack_s").and_then(Value::as_u64);
    let last = last.map_or("no ACK yet".to_owned(), |s| format!("ACK {} ago", duration(s)));
    let mut lines = vec![format!(
        "tap {} {}, {last}: {} up, {} down",
        cut(&text(tap, "server"), 28),
        text(tap, "state"),
        number(tap, "forwarded"),
        number(tap, "downlinks")
    )];
    if let Some(trouble) = tap.get("trouble").filter(|trouble| !trouble.is_null()) {
        lines.push(format!("  {}: {}", text(trouble, "reason"), text(trouble, "message")));
    }
    lines.extend(dropped(tap));
    lines
}

fn spool(status: &Value) -> String {
    let spool = status.get("spool").unwrap_or(&Value::Null);
    let trouble = match spool.get("trouble").and_then(Value::as_str) {
        Some(trouble) => format!(" ({})", printable(trouble)),
        None => String::new(),
    };
    let kept = match number(spool, "kept") {
        0 => String::new(),
        kept => format!(" ({kept} kept)"),
    };
    format!(
        "spool {}{trouble}: {} uplinks{kept}, {} of {}, {}",
        text(spool, "state"),
        number(spool, "records"),
        size(number(spool, "bytes")),
        size(number(spool, "max_size")),
        text(spool, "path")
    )
}

/// The file can't be used.
fn out_of_reach(status: &Value) -> Option<String> {
    let n = status.pointer("/spool/out_of_reach").and_then(Value::as_u64).filter(|n| *n > 0)?;
    Some(format!("  {} more in the file, out of reach; new ones are held in memory (1 MiB)", uplinks(n)))
}

/// A disk with less room than the spool may take.
fn small_disk(status: &Value) -> Option<String> {
    let on_disk = status.pointer("/spool/on_disk").and_then(Value::as_u64)?;
    Some(format!("  the disk has room for {} of it only: the spool is smaller for now", size(on_disk)))
}

/// What the flash had to take.
fn flash(status: &Value) -> Option<String> {
    let flash = status.pointer("/spool/flash").filter(|flash| !flash.is_null())?;
    let of = |span: &str, key: &str| flash.get(span).map_or(0, |span| number(span, key));
    let each = of("in_all", "bytes").checked_div(of("in_all", "uplinks"));
    let each = each.map(|each| format!(", {} an uplink", size(each))).unwrap_or_default();
    let emmc = flash.get("emmc").filter(|emmc| !emmc.is_null());
    let emmc = emmc.map(|emmc| format!("; eMMC {} % used", number(emmc, "used_percent"))).unwrap_or_default();
    Some(format!(
        "flash today {} in {} syncs; in all {}{each}{emmc}",
        size(of("today", "bytes")),
        of("today", "syncs"),
        size(of("in_all", "bytes")),
    ))
}

/// What a power cut would cost.
fn at_risk(status: &Value) -> Option<String> {
    let spool = status.get("spool")?;
    let window = duration(number(spool, "loss_window_ms").div_ceil(1_000));
    Some(format!(
        "a power cut now loses {} (those of the last {window} that were not delivered)",
        uplinks(number(spool, "at_risk"))
    ))
}

/// Nothing to say about a clock that is trusted.
fn clock(status: &Value) -> Option<String> {
    let is_trusted = status.get("time_trusted").and_then(Value::as_bool) != Some(false);
    let time = text(status, "time");
    let time = time.split('.').next().unwrap_or_default();
    let then = match status.get("time_by").and_then(Value::as_str) {
        Some("gps") => "uplinks are dated by GPS",
        Some(_) => "uplinks are dated by what it showed before",
        None => "NTP or GPS will date what waits",
    };
    (!is_trusted).then(|| format!("CLOCK not trusted, {time}Z: {then}"))
}

/// What a group goes through now, and how a replay is getting on.
fn progress(integration: &Value) -> Option<String> {
    let via = integration.get("via").and_then(Value::as_str);
    let via = via.map(|via| format!("via {}", printable(via)));
    let replay = integration.get("replay").filter(|replay| !replay.is_null());
    let replay = replay.map(|replay| match number(replay, "missed") {
        0 => format!("replay: {} left", number(replay, "left")),
        missed => format!("replay: {} left, {missed} gone before their turn", number(replay, "left")),
    });
    let parts: Vec<String> = via.into_iter().chain(replay).collect();
    (!parts.is_empty()).then(|| format!("  {}", parts.join("; ")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_80_columns_and_shows_what_matters() {
        let status = serde_json::json!({
            "version": "0.1.0", "gateway": "barn-roof", "uptime_s": 11_520,
            "time": "1970-01-01T00:03:12.000000Z", "time_trusted": false, "time_by": null, "heard": 1_300, "committed": 1_300,
            "dropped": { "crc-bad": 3 },
            "spool": { "state": "ok", "trouble": null, "path": "/var/lib/packhorse/spool.redb", "records": 1_000,
                       "bytes": 260_000, "max_size": 67_108_864, "out_of_reach": 7, "at_risk": 3, "loss_window_ms": 3_000, "on_disk": 20_000_000, "set_aside": [],
                       "flash": { "today": { "bytes": 300_000, "syncs": 9, "uplinks": 100 },
                                  "in_all": { "bytes": 3_000_000_000u64, "syncs": 99_000, "uplinks": 1_300_000 },
                                  "emmc": { "used_percent": 10, "pre_eol": 1 } } },
            "taps": [{ "source": "concentrator", "server": "very-long-name-of-a-network-server.example.com:1700",
                       "state": "silent", "forwarded": 1_300_000, "downlinks": 12_000, "acks": 1, "last_ack_s": 725,
                       "trouble": { "reason": "unresolved", "message": crate::metrics::TapDrop::Unresolved.explained() },
                       "dropped": { "unresolved": 4 } }],
            "overdue": ["silo-7"],
            "integrations": [{ "name": "factory-api", "via": "backup", "replay": { "left": 12, "missed": 0 }, "type": "http", "enabled": true, "state": "down",
                "backlog": 1_000, "oldest_s": 725, "delivered": 300, "dead_letters": 1, "dropped": { "expired": 2 },
                "last_error": { "layer": "tcp", "message": "connection refused\u{1b}[31m",
                                "time": "2026-11-23T20:21:03.000001Z" } }]
        });
        let table = table(&status);
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        for part in [
            "barn-roof",
            "3h12m",
            "crc-bad 3",
            "12m5s",
            "down",
            "1000",
            "tcp: connection refused",
            "silent, ACK 12m5s ago: 1300000 up, 12000 down",
            "  unresolved: the name has no address",
            "  dropped: unresolved 4",
            "silo-7",
            "7 uplinks more in the file, out of reach",
            "room for 19.0 MiB of it only",
            "loses 3 uplinks (those of the last 3s",
            "flash today 292 KiB in 9 syncs; in all 2.7 GiB, 2 KiB an uplink; eMMC 10 % used",
            "via backup; replay: 12 left",
            "CLOCK not trusted, 1970-01-01T00:03:12Z: NTP or GPS will date what waits",
        ] {
            assert!(table.contains(part), "{part} is missing in\n{table}");
        }
        assert!(!table.contains('\u{1b}'));
    }
}
