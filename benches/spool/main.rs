//! What storing and forwarding costs: `cargo bench --bench spool`.
//!
//! Drives the real binary over loopback and prints, side by side and from one run, Packhorse, a mosquitto bridge that does the
//! same job, and the floor: a bare client loop that stores nothing, a bare file that is appended to and synced. Only ratios of
//! one run mean anything: machines differ and are busy. Asserts nothing. What each line means, and figures to compare
//! with, are in benches/README.md.
//!
//! | variable | |
//! |---|---|
//! | `PACKHORSE_BENCH_BINARY` | measure this binary instead of the one that cargo just built |
//! | `PACKHORSE_BENCH_UPLINKS` | uplinks to drain, 20000 |
//! | `PACKHORSE_BENCH_BACKLOG` | uplinks of the backlog part, 100000; the budgets are about 1000000 |
//! | `PACKHORSE_BENCH_ONLY` | one part: enqueue, mqtt, http, latency, flash, backlog |
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod agent;
mod backlog;
mod drain;
mod enqueue;
mod flash;
mod rivals;

use std::time::{Duration, Instant};

fn main() {
    let only = std::env::var("PACKHORSE_BENCH_ONLY").ok();
    let parts: [(&str, fn()); 6] = [
        ("enqueue", enqueue::run),
        ("mqtt", drain::over_mqtt),
        ("http", drain::over_http),
        ("latency", drain::latency),
        ("flash", flash::run),
        ("backlog", backlog::run),
    ];
    for (name, run) in parts {
        if only.as_deref().is_none_or(|only| only == name) {
            run();
            println!();
        }
    }
}

/// A number from the environment.
fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Uplinks to drain.
fn uplinks() -> usize {
    setting("PACKHORSE_BENCH_UPLINKS", 20_000)
}

fn per_second(n: usize, time: Duration) -> f64 {
    n as f64 / time.as_secs_f64().max(1e-9)
}

/// Waits until `done`, and gives up on what will never come.
fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(900);
    while !done() {
        assert!(Instant::now() < until, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
