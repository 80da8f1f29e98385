//! What the tables of the commands have in common: 80 columns, no word that a terminal obeys, units to act on.

use serde_json::Value;

use crate::printable::{printable, printable_up_to};

/// Columns of a terminal that nobody has made wider.
pub(super) const WIDTH: usize = 80;

/// A text of the answer; `-` where it has none.
pub(super) fn text(value: &Value, key: &str) -> String {
    printable(value.get(key).and_then(Value::as_str).unwrap_or("-"))
}

/// The same, cut to so many columns.
pub(super) fn cut(text: &str, columns: usize) -> String {
    printable_up_to(text, columns)
}

/// A number of the answer.
pub(super) fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// A number as it is written in the answer; `-` where it has none.
pub(super) fn digits(value: &Value, key: &str) -> String {
    value.get(key).filter(|it| it.is_number()).map_or_else(|| "-".to_owned(), Value::to_string)
}

/// The same without what is behind the point.
pub(super) fn whole(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_f64).map_or_else(|| "-".to_owned(), |it| format!("{it:.0}"))
}

/// The list behind a key.
pub(super) fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Day and time of RFC 3339, to the second: `11-23 20:21:03`.
pub(super) fn day_and_time(value: &Value, key: &str) -> String {
    let time = text(value, key);
    match (time.get(5..10), time.get(11..19)) {
        (Some(day), Some(time)) => format!("{day} {time}"),
        _ => "-".to_owned(),
    }
}

/// The time of day alone.
pub(super) fn time_of_day(value: &Value, key: &str) -> String {
    text(value, key).get(11..19).unwrap_or("-").to_owned()
}

/// Two units are enough to act on.
pub(super) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, ..) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// Bytes.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes / 1_024),
        1_048_576..1_073_741_824 => tenths(bytes, 1 << 20, "MiB"),
        _ => tenths(bytes, 1 << 30, "GiB"),
    }
}

fn tenths(bytes: u64, unit: u64, name: &str) -> String {
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

/// `1 uplink`, `2 uplinks`.
pub(super) fn uplinks(n: u64) -> String {
    if n == 1 { "1 uplink".to_owned() } else { format!("{n} uplinks") }
}

/// Who sent something: a device by its name, an address with its network.
pub(super) fn sender(value: &Value) -> String {
    let known = ["device", "dev_addr", "dev_eui"].into_iter().find_map(|key| value.get(key)?.as_str());
    let name = printable(known.unwrap_or("unknown"));
    match value.get("network").and_then(Value::as_str) {
        Some(network) if value.get("device").is_none() => format!("{name} {}", printable(network)),
        _ => name,
    }
}
