//! `packhorse devices`: who is heard, how well, and who is not.

use std::path::Path;

use serde_json::Value;

use super::ask::Agent;
use super::table::{cut, digits, duration, list, number, sender, text, whole};
use super::{Exit, say};

pub(super) fn devices(config: &Path, json: bool) -> Result<Exit, Exit> {
    let answer = Agent::of(config)?.get("/devices")?;
    let devices = list(&answer, "devices");
    if json {
        devices.iter().for_each(say);
    } else if devices.is_empty() {
        say("nobody was heard since the agent started; `packhorse doctor` looks for the reason");
    } else {
        say(table(devices));
    }
    Ok(Exit::Done)
}

fn table(devices: &[Value]) -> String {
    let mut lines = vec![row(["DEVICE", "SILENT", "HEARD", "MISSED", "FCNT", "RSSI", "SNR", "RATE"], "")];
    for device in devices {
        let silent = device.get("silent_s").and_then(Value::as_u64);
        let is_overdue = device.get("overdue").and_then(Value::as_bool) == Some(true);
        lines.push(row(
            [
                &sender(device),
                &silent.map_or_else(|| "never".to_owned(), duration),
                &number(device, "heard").to_string(),
                &number(device, "missed").to_string(),
                &digits(device, "f_cnt"),
                &whole(device, "rssi"),
                &digits(device, "snr"),
                &text(device, "data_rate"),
            ],
            if is_overdue { " OVERDUE" } else { "" },
        ));
    }
    lines.push("SILENT: since the last frame. MISSED: counters that never came, lost by radio".to_owned());
    lines.join("\n")
}

fn row(cells: [&str; 8], mark: &str) -> String {
    let [name, silent, heard, missed, f_cnt, rssi, snr, rate] = cells;
    let name = cut(name, 18);
    let line = format!(
        "{name:<18} {silent:>7} {heard:>6} {missed:>6} {f_cnt:>7} {rssi:>5} {snr:>5} {rate:<9}{mark}"
    );
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_80_columns() {
        let devices = [
            serde_json::json!({ "device": "a-device-with-a-long-name", "silent_s": 90_061, "heard": 123_456,
                "missed": 0, "f_cnt": 1_234_567, "rssi": -117.5, "snr": -12.5, "data_rate": "SF12BW125", "overdue": true }),
            serde_json::json!({ "dev_addr": "78000001", "network": "Helium", "silent_s": null, "overdue": false }),
        ];
        let table = table(&devices);
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        for part in ["1d1h", "OVERDUE", "78000001 Helium", "never"] {
            assert!(table.contains(part), "{part} is missing in\n{table}");
        }
    }
}
