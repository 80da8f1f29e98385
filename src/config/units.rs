//! Durations ("30s", "1h30m") and sizes ("64MiB"): from text, and back for messages.

use std::time::Duration;

/// Milliseconds a unit, largest first; the order is that within a compound duration.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Bytes a unit (IEC 80000-13), largest first.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// What a duration looks like, for hints.
pub(super) const TIME_UNITS: &str = "units are ms, s, m, h and d, largest first, as in \"1h30m\"";

/// What a size looks like, for hints.
pub(super) const SIZE_UNITS: &str = "units are B, KiB, MiB and GiB, as in \"64MiB\"";

/// Reads a duration: whole numbers, each with a unit, in falling order of the units.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut milliseconds = 0u64;
    let mut below = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(unit_end)?;
        let (_, size) = TIMES.iter().find(|(name, _)| *name == unit)?;
        if *size >= below {
            return None;
        }
        below = *size;
        milliseconds = milliseconds.checked_add(number.checked_mul(*size)?)?;
        rest = next;
    }
    (below != u64::MAX).then(|| Duration::from_millis(milliseconds))
}

/// Reads a size in bytes; without a unit the number is bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let factor = if unit.is_empty() { 1 } else { SIZES.iter().find(|(name, _)| *name == unit)?.1 };
    number.checked_mul(factor)
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

/// A duration as the file would hold it, in milliseconds at the finest.
pub(super) fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, size) in TIMES {
        if rest >= size {
            text.push_str(&format!("{}{name}", rest / size));
            rest %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A size as the file would hold it.
pub(super) fn show_size(bytes: u64) -> String {
    let unit = SIZES.iter().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size));
    match unit {
        Some((name, size)) => format!("{}{name}", bytes / size),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("30d", 2_592_000_000),
            ("0s", 0),
            ("1h30m", 5_400_000),
            ("1m500ms", 60_500),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in
            ["", "5", "s", "1.5h", "-1s", "30m1h", "1s1s", "1 s", "9999999999999999999999s", "1é", "5M"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("512KiB", 512 << 10),
            ("1000000", 1_000_000),
            ("7B", 7),
            ("8 MiB", 8 << 20),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "64MB", "-1", "1.5GiB", "99999999999GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for milliseconds in [0, 1, 999, 1_000, 5_400_000, 86_400_000, 90_061_001] {
            let it = Duration::from_millis(milliseconds);
            assert_eq!(duration(&show_duration(it)), Some(it));
        }
        for bytes in [0, 1, 1024, 1 << 20, (1 << 20) + 1] {
            assert_eq!(size(&show_size(bytes)), Some(bytes));
        }
    }
}
