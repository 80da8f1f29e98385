//! `GET /metrics`: the Prometheus text format (version 0.0.4).
//!
//! Labels are names of the config and reasons of ours; nothing that was heard or answered becomes one (RULES S37), so no
//! stranger can make the number of series grow. What was taken out of the config is in `status` alone.

use std::fmt::{Display, Write as _};

use tokio::time::Instant;

use crate::delivery::State;
use crate::metrics::{DropReason, TapCounters, TapDrop, TapState};
use crate::spool::AccountView;

use super::status::{Delivering, StatusSource};

/// MIME type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What tells integrations apart, name and type, or taps, source and server.
type Labels<'a> = [(&'a str, &'a str); 2];

/// All metrics now.
pub(super) fn render(status: &StatusSource) -> String {
    let mut page = Page(String::new());
    page.begin("build_info", "gauge", "The version that runs");
    page.value("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let uptime_ns = status.clock.boot_ns().saturating_sub(status.started_ns);
    page.single("uptime_seconds", "gauge", "Time since the start", uptime_ns / 1_000_000_000);
    let is_trusted = u8::from(status.clock.trusted());
    page.single("clock_trusted", "gauge", "1 while the wall clock is trusted", is_trusted);
    page.single("heard_total", "counter", "Uplinks taken in", status.counters.heard_total());
    page.begin("dropped_total", "counter", "What sources did not take in, by reason");
    for reason in DropReason::ALL {
        page.value("dropped_total", &[("reason", reason.as_str())], status.counters.dropped_total(reason));
    }
    taps(&mut page, status);
    let overdue = status.sightings.rows().iter().filter(|row| row.overdue).count();
    page.single("devices_overdue", "gauge", "Devices silent for longer than expect_every", overdue);
    let is_well = u8::from(status.trouble().is_none());
    page.single("spool_ok", "gauge", "1 while the spool can be written", is_well);
    page.single("spool_max_bytes", "gauge", "What the spool may take", status.spool_max_size);
    if let Some(delivering) = status.delivering() {
        spool(&mut page, &delivering);
        integrations(&mut page, status, &delivering);
    }
    page.0
}

fn taps(page: &mut Page, status: &StatusSource) {
    let all: Vec<(Labels<'_>, &TapCounters)> = status
        .taps
        .iter()
        .map(|tap| ([("source", tap.source()), ("server", tap.server())], &**tap))
        .collect();
    if all.is_empty() {
        return;
    }
    for (name, help, value) in [
        (
            "tap_forwarded_total",
            "Datagrams passed on to a server",
            TapCounters::forwarded_total as fn(&TapCounters) -> u64,
        ),
        ("tap_downlinks_total", "Downlinks of a server passed back", TapCounters::returned_total),
        ("tap_acks_total", "Acknowledgements of a server", TapCounters::acks_total),
    ] {
        page.begin(name, "counter", help);
        for (labels, tap) in &all {
            page.value(name, labels, value(tap));
        }
    }
    page.begin("tap_dropped_total", "counter", "What was not passed on to or from a server, by reason");
    for ([source, server], tap) in &all {
        for reason in TapDrop::ALL {
            let labels = [*source, *server, ("reason", reason.as_str())];
            page.value("tap_dropped_total", &labels, tap.dropped_total(reason));
        }
    }
    page.begin("tap_answers", "gauge", "1 while the server answers");
    let now_ns = status.clock.boot_ns();
    for (labels, tap) in &all {
        page.value("tap_answers", labels, u8::from(tap.state(now_ns) == TapState::Answers));
    }
}

fn spool(page: &mut Page, delivering: &Delivering) {
    let view = delivering.operator.view();
    page.single("committed_total", "counter", "Uplinks that were safe on the disk", view.committed);
    page.single("spool_records", "gauge", "Uplinks in the spool", view.records);
    page.single("spool_bytes", "gauge", "Bytes they take", view.bytes);
    page.single("spool_syncs_total", "counter", "Commits forced to the disk since the start", view.syncs);
    let ever = view.wear.in_all;
    page.single("flash_written_bytes_total", "counter", "Bytes ever written to the spool", ever.bytes);
    page.single("flash_syncs_total", "counter", "Commits ever forced to the disk", ever.syncs);
    page.single("flash_uplinks_total", "counter", "Uplinks ever taken in by this spool", ever.uplinks);
}

fn integrations(page: &mut Page, status: &StatusSource, delivering: &Delivering) {
    let view = delivering.operator.view();
    let all: Vec<(Labels<'_>, Option<&AccountView>)> = delivering
        .integrations
        .iter()
        .map(|it| {
            ([("integration", it.name.as_str()), ("type", it.kind)], view.account_of(it.kind, &it.name))
        })
        .collect();
    for (name, kind, help, value) in [
        ("backlog", "gauge", "Uplinks that wait", (|it| it.backlog) as fn(&AccountView) -> u64),
        ("delivered_total", "counter", "Uplinks that the far end acknowledged", |it| it.delivered),
        ("dead_letters", "gauge", "Refused uplinks that are kept", |it| it.dead_letters),
    ] {
        page.begin(name, kind, help);
        for (labels, account) in &all {
            page.value(name, labels, account.map_or(0, value));
        }
    }
    page.begin("lost_total", "counter", "Stored uplinks that were given up, by reason");
    for ([integration, kind], account) in &all {
        for (loss, n) in account.map_or(&[][..], |account| &account.lost) {
            page.value("lost_total", &[*integration, *kind, ("reason", loss.as_str())], n);
        }
    }
    page.begin("oldest_seconds", "gauge", "Age of the uplink that waits longest");
    for (it, (labels, _)) in delivering.integrations.iter().zip(&all) {
        let oldest = it.lane.borrow().oldest;
        if let Some(age) = oldest.and_then(|at| status.clock.age_s(at)) {
            page.value("oldest_seconds", labels, age);
        }
    }
    page.begin("integration_state", "gauge", "1 for the state that it is in");
    let now = Instant::now();
    for (it, ([integration, kind], _)) in delivering.integrations.iter().zip(&all) {
        let is = it.lane.borrow().state(now);
        for state in State::ALL {
            let labels = [*integration, *kind, ("state", state.as_str())];
            page.value("integration_state", &labels, u8::from(is == state));
        }
    }
}

struct Page(String);

impl Page {
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String can't fail, here and below.
        let _ = writeln!(self.0, "# HELP packhorse_{name} {help}\n# TYPE packhorse_{name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "packhorse_{name}{labels} {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.begin(name, kind, help);
        self.value(name, &[], value);
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
