//! `packhorse watch`: frames as they are heard.

use std::io::Write;
use std::path::Path;

use serde_json::Value;

use crate::clock::Quality;
use crate::control::client;

use super::ask::{Agent, complain};
use super::table::{WIDTH, cut, digits, number, sender, text, time_of_day, whole};
use super::{Exit, say};

pub(super) fn watch(config: &Path, json: bool) -> Result<Exit, Exit> {
    let agent = Agent::of(config)?;
    let lines = client::lines(&agent.socket, "/watch").map_err(|error| complain(&error))?;
    eprintln!("watching; Ctrl-C ends it");
    if !json {
        say(row(["TIME", "DEVICE", "RSSI", "SNR", "RATE", "FCNT", "GAP", "LEN", "FATE"]));
    }
    let mut warned = false;
    for seen in lines {
        if !warned && text(&seen, "time_quality") == Quality::Untrusted.as_str() {
            warned = true;
            eprintln!("the gateway's clock is not trusted: the times may be wrong (`packhorse doctor`)");
        }
        let line = if json { seen.to_string() } else { shown(&seen) };
        // Into a pipe, too, each as it comes; who no longer reads ends the watch.
        let mut out = std::io::stdout();
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            return Ok(Exit::Done);
        }
    }
    eprintln!("packhorse: the agent has stopped");
    Ok(Exit::Usage)
}

fn shown(seen: &Value) -> String {
    if seen.get("missed").is_some() {
        return format!("({} more than this connection could carry)", number(seen, "missed"));
    }
    let kind = text(seen, "type");
    let who = if kind == "join" { format!("{} joins", sender(seen)) } else { sender(seen) };
    let gap = number(seen, "gap");
    let line = row([
        &time_of_day(seen, "time"),
        &who,
        &whole(seen, "rssi"),
        &digits(seen, "snr"),
        &text(seen, "data_rate"),
        &digits(seen, "f_cnt"),
        &if gap == 0 { String::new() } else { gap.to_string() },
        &number(seen, "bytes").to_string(),
        &text(seen, "fate"),
    ]);
    let decoded = seen.get("decoded").map(Value::to_string);
    let failed = seen.pointer("/decode_errors/0").and_then(Value::as_str);
    let meaning = decoded.or_else(|| failed.map(|why| format!("not decoded: {why}")));
    match meaning {
        Some(meaning) => format!("{line}\n{:9}{}", "", cut(&meaning, WIDTH - 9)),
        None => line,
    }
}

fn row(cells: [&str; 9]) -> String {
    let [time, who, rssi, snr, rate, f_cnt, gap, len, fate] = cells;
    let (who, rate) = (cut(who, 20), cut(rate, 9));
    format!("{time:<8} {who:<20} {rssi:>5} {snr:>5} {rate:<9} {f_cnt:>6} {gap:>3} {len:>3} {}", cut(fate, 13))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_80_columns() {
        let seen = serde_json::json!({
            "time": "2026-11-23T20:21:03.000001Z", "dev_addr": "260b1f2e", "network": "The Things Network",
            "type": "uplink", "f_cnt": 65_535, "gap": 12, "bytes": 255, "rssi": -117.5, "snr": -12.5,
            "data_rate": "SF12BW125", "fate": "too-many-elements", "decoded": { "text": "x".repeat(100) },
        });
        let shown = shown(&seen);
        assert!(shown.lines().all(|line| line.chars().count() <= WIDTH), "{shown}");
        for part in ["20:21:03", "260b1f2e The Things", "65535  12 255"] {
            assert!(shown.contains(part), "{part} is missing in\n{shown}");
        }
    }
}
