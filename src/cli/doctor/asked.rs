//! What the running agent says.

use serde_json::Value;

use crate::config::{Config, SourceKind};

use super::super::table::{duration, list, number, text, uplinks};
use super::Finding;

pub(super) fn agent(status: &Value, report: &mut impl FnMut(Finding)) {
    let up = duration(number(status, "uptime_s"));
    report(Finding::ok("agent", format!("{} runs for {up}", text(status, "version"))));
    let spool = status.get("spool").unwrap_or(&Value::Null);
    let trouble = spool.get("trouble").and_then(Value::as_str).unwrap_or("no reason given");
    report(match text(spool, "state").as_str() {
        "ok" => Finding::ok("spool", format!("open, {} in it", uplinks(number(spool, "records")))),
        "opening" => Finding::warn("spool", "being opened", "uplinks wait in memory meanwhile"),
        _ => Finding::bad(
            "spool",
            format!("degraded: {trouble}; a restart now loses what was heard since"),
            "check the disk: dmesg, df, mount",
        ),
    });
    for integration in list(status, "integrations") {
        report(lane(integration));
    }
    for server in list(status, "taps") {
        report(tap(server));
    }
}

/// A server that everything is passed on to.
fn tap(tap: &Value) -> Finding {
    let what = format!("tap {}", text(tap, "server"));
    let last = tap.get("last_ack_s").and_then(Value::as_u64);
    let last = last.map_or("no ACK yet".to_owned(), |last| format!("ACK {} ago", duration(last)));
    let says = format!("{}, {last}", text(tap, "state"));
    let trouble = tap.get("trouble").filter(|trouble| !trouble.is_null());
    match (text(tap, "state").as_str(), trouble) {
        (_, Some(trouble)) => {
            Finding::bad(what, format!("{says}; {}", text(trouble, "reason")), text(trouble, "message"))
        }
        ("silent", None) => Finding::bad(
            what,
            says,
            "see whether the server runs and takes this gateway's EUI; it is tried on with each datagram",
        ),
        ("waiting", None) => Finding::warn(what, says, "it is asked with the forwarder's next datagram"),
        _ => Finding::ok(what, says),
    }
}

fn lane(integration: &Value) -> Finding {
    let name = text(integration, "name");
    let (backlog, dead) = (number(integration, "backlog"), number(integration, "dead_letters"));
    let what = format!("{name} lane");
    let error = integration.get("last_error").filter(|error| !error.is_null());
    let error = error
        .map_or_else(String::new, |error| format!("; {}: {}", text(error, "layer"), text(error, "message")));
    let state = text(integration, "state");
    let says = format!("{state}, {} waiting", uplinks(backlog));
    match state.as_str() {
        "blocked" => {
            Finding::bad(what, format!("{says}{error}"), "repair what the error names, then: packhorse kick")
        }
        "down" => Finding::bad(what, format!("{says}{error}"), "it goes on by itself; see the far end below"),
        "degraded" => Finding::warn(what, format!("{says}{error}"), "it is tried again by itself"),
        "paused" => Finding::warn(what, says, format!("packhorse resume {name}")),
        "removed" => {
            Finding::warn(what, says, format!("put it back into the config, or packhorse purge {name}"))
        }
        _ if dead > 0 => Finding::warn(
            what,
            format!("{says}, {dead} refused for good"),
            format!("packhorse dead {name} says why"),
        ),
        _ => Finding::ok(what, says),
    }
}

/// Whether anything comes in.
pub(super) fn forwarder(config: &Config, status: Option<&Value>, devices: Option<&Value>) -> Finding {
    let Some(status) = status else {
        return Finding::warn("forwarder", "nobody knows: only a running agent hears it", "start the agent");
    };
    let silences = devices.map(|devices| list(devices, "devices")).unwrap_or_default().iter();
    let last = silences.filter_map(|device| device.get("silent_s")?.as_u64()).min();
    if let Some(last) = last {
        return Finding::ok("forwarder", format!("heard, last {} ago", duration(last)));
    }
    let listens = config.sources.iter().find_map(|source| match &source.kind {
        SourceKind::SemtechUdp(udp) => Some(udp.listen.value),
        _ => None,
    });
    let next = match listens {
        Some(listen) => format!(
            "point the packet forwarder to {} port {}, up and down, and restart it; packhorse watch shows what comes",
            listen.ip(),
            listen.port()
        ),
        None => "see whether the network server publishes or posts to this agent".to_owned(),
    };
    match number(status, "heard") {
        0 => Finding::warn("forwarder", "nothing was heard since the first start", next),
        n => Finding::warn("forwarder", format!("nothing since this start, {} before", uplinks(n)), next),
    }
}

pub(super) fn overdue(config: &Config, devices: Option<&Value>) -> Finding {
    let expected = config.devices.iter().filter(|device| !device.expect_every.is_zero()).count();
    let devices = devices.map(|devices| list(devices, "devices")).unwrap_or_default();
    let is_overdue = |device: &&Value| device.get("overdue").and_then(Value::as_bool) == Some(true);
    let overdue: Vec<String> =
        devices.iter().filter(is_overdue).map(|device| text(device, "device")).collect();
    match overdue.len() {
        0 => Finding::ok("devices", format!("none overdue of {expected} with expect_every")),
        n => Finding::warn(
            "devices",
            format!("{n} overdue: {}", overdue.join(", ")),
            "packhorse devices shows since when, and how they were heard",
        ),
    }
}
