//! The options of all commands as they were given, each read once and in one way. Which command takes which is the
//! business of the [parent](super).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::duration;
use crate::control::orders::CONFIRM_WITHIN;
use crate::printable::printable;

/// Fastest `simulate` rate, uplinks a second: a concentrator hears far fewer.
const MAX_RATE: f64 = 10_000.0;

/// What was given; what was not is absent.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) all: bool,
    pub(super) batch: bool,
    pub(super) before: Option<u64>,
    pub(super) confirm: Option<Duration>,
    pub(super) count: Option<u64>,
    pub(super) dead: bool,
    pub(super) device: Option<String>,
    pub(super) devices: Option<u16>,
    pub(super) failed: bool,
    pub(super) file: Option<PathBuf>,
    pub(super) integration: Option<String>,
    pub(super) json: bool,
    pub(super) outage: Option<u64>,
    pub(super) payload: Option<Vec<u8>>,
    pub(super) port: Option<u8>,
    pub(super) rate: Option<f64>,
    pub(super) since: Option<Duration>,
    pub(super) to: Option<SocketAddr>,
    pub(super) yes: bool,
}

impl Given {
    /// Takes the option `name`, with its value if it has one.
    pub(super) fn take(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<(), lexopt::Error> {
        use lexopt::ValueExt;
        let mut value = || parser.value();
        match name {
            "all" => self.all = true,
            "batch" => self.batch = true,
            "dead" => self.dead = true,
            "failed" => self.failed = true,
            "json" => self.json = true,
            "yes" => self.yes = true,
            "before" => self.before = Some(value()?.parse()?),
            "confirm" => self.confirm = Some(confirm(&value()?.string()?)?),
            "count" => self.count = Some(value()?.parse()?),
            "device" => self.device = Some(value()?.string()?),
            "devices" => self.devices = Some(value()?.parse::<u16>()?.max(1)),
            "file" => self.file = Some(value()?.into()),
            "integration" => self.integration = Some(value()?.string()?),
            "hex" | "payload" => self.payload = Some(hex(&value()?.string()?)?),
            "outage" => self.outage = Some(value()?.parse()?),
            "port" => self.port = Some(value()?.parse()?),
            "rate" => self.rate = Some(rate(&value()?.string()?)?),
            "since" => self.since = Some(since(&value()?.string()?)?),
            "to" => self.to = Some(value()?.parse()?),
            // The parent's table names no other.
            other => return Err(format!("--{other} is no option").into()),
        }
        Ok(())
    }
}

/// Hexadecimal as people copy it: any case, with or without blanks, colons, dashes and a leading `0x`.
pub(crate) fn hex(text: &str) -> Result<Vec<u8>, String> {
    let plain = text.trim().trim_start_matches("0x").trim_start_matches("0X");
    let digits: String = plain.chars().filter(|c| !matches!(c, ' ' | ':' | '-')).collect();
    let decoded = data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes());
    decoded.map_err(|_| format!("{:?} is not hexadecimal: two digits a byte, such as 01a2", printable(text)))
}

fn rate(text: &str) -> Result<f64, String> {
    match text.trim_end_matches("/s").parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= MAX_RATE => Ok(rate),
        _ => Err(format!("--rate takes uplinks a second, above 0 and up to {MAX_RATE}; got `{text}`")),
    }
}

fn since(text: &str) -> Result<Duration, String> {
    let bad = || format!("--since takes a time such as 30m, 2h or 7d; got `{}`", printable(text));
    duration(text).filter(|since| since.as_secs() > 0).ok_or_else(bad)
}

fn confirm(text: &str) -> Result<Duration, String> {
    let bad = || format!("--confirm takes a time from 10s to 1d, such as 120s; got `{}`", printable(text));
    duration(text).filter(|within| CONFIRM_WITHIN.contains(within)).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn hexadecimal_is_read_as_people_copy_it() {
        for text in ["01a2ff", "01A2FF", "0x01a2ff", "01 a2 ff", "01:A2:ff", " 01-a2-ff"] {
            assert_eq!(hex(text).unwrap(), [1, 0xa2, 0xff], "{text}");
        }
        assert!(hex("").unwrap().is_empty());
        assert!(hex("1").is_err() && hex("zz").is_err());
    }
}
