//! The log: standard error, one line an event.
//!
//! Under systemd a line starts with its priority (`<4>`, sd-daemon(3)) and journald adds the time; elsewhere it starts
//! with the time.

use std::io::Write;

use crate::clock::{Clock, SystemClock, rfc3339};

/// Of other people's crates only warnings; of ours what an operator wants to know.
const DEFAULT: &str = "warn,packhorse=info";
const VERBOSE: &str = "info,packhorse=debug";

/// Starts logging. `PACKHORSE_LOG` overrides the level.
pub(super) fn start(verbose: bool, default: Option<&str>) {
    let default = if verbose { VERBOSE } else { default.unwrap_or(DEFAULT) };
    let filter = std::env::var("PACKHORSE_LOG").unwrap_or_else(|_| default.to_owned());
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let clock = SystemClock::new();
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(&filter).target(env_logger::Target::Stderr).format(move |out, record| {
        let text = record.args();
        if journal {
            writeln!(out, "<{}>{text}", priority(record.level()))
        } else {
            let time = rfc3339(clock.wall_us()).unwrap_or_default();
            let seconds = time.split('.').next().unwrap_or_default();
            writeln!(out, "{seconds}Z {:5} {text}", record.level())
        }
    });
    // A second start (the demo inside a test) keeps the first.
    let _ = builder.try_init();
}

/// syslog(3)
fn priority(level: log::Level) -> u8 {
    match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
    }
}
