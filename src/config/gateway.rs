//! The tables about the agent itself: `[gateway]`, `[spool]`, `[control]`, `[history]`, `[metrics]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::problem::Problem;
use super::reader::Table;
use super::schema::{Control, Durability, Gateway, History, Metrics, OnFull, Spool};
use super::source::warn_if_reachable;

/// Bytes that fit `sun_path` (`man 7 unix`), without the final zero.
const SOCKET_PATH: usize = 107;

/// Seconds a day.
const DAY: u64 = 86_400;

pub(super) fn gateway(table: &mut Table<'_>) -> Gateway {
    let name = table.text("name");
    if let Some(name) =
        name.as_ref().filter(|name| name.chars().count() > 100 || name.chars().any(char::is_control))
    {
        let message = "a gateway's name has at most 100 characters and no control characters";
        table.report(Problem::error(&name.place, table.path("name"), message));
    }
    Gateway { name: name.map_or_else(host_name, |name| name.value) }
}

/// The kernel's host name (`uname -n`).
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "gateway".to_owned() } else { name }
}

pub(super) fn spool(table: &mut Table<'_>) -> Spool {
    let days = |days: u64| Duration::from_secs(days * DAY);
    let seconds = Duration::from_secs;
    let (age, kept) = (seconds(1)..=days(3650), seconds(0)..=days(3650));
    let window = Duration::from_millis(100)..=seconds(3600);
    Spool {
        path: table
            .file("path")
            .unwrap_or_else(|| table.absent(PathBuf::from("/var/lib/packhorse/spool.redb"))),
        max_size: table.size("max_size", 1 << 20..=1 << 40),
        max_age: table.duration("max_age", days(30), age).value,
        on_full: table.choice("on_full", OnFull::DropOldest, OnFull::NAMES),
        durability: table.choice("durability", Durability::WriteBehind, Durability::NAMES),
        commit_after: table.duration("commit_after", seconds(3), window).value,
        keep_delivered: table.duration("keep_delivered", seconds(0), kept),
    }
}

pub(super) fn control(table: &mut Table<'_>) -> Control {
    let default = || PathBuf::from("/run/packhorse/control.sock");
    let socket = table.file("socket").unwrap_or_else(|| table.absent(default()));
    if length(&socket) > SOCKET_PATH {
        let message =
            format!("a Unix socket's path has at most {SOCKET_PATH} bytes; this has {}", length(&socket));
        table.report(
            Problem::error(&socket.place, table.path("socket"), message).hint("choose a shorter path"),
        );
    }
    Control { socket }
}

fn length(path: &Path) -> usize {
    path.as_os_str().len()
}

pub(super) fn history(table: &mut Table<'_>) -> History {
    let records = table.number("records", 100u32, 0..=10_000).value;
    History { records: usize::try_from(records).unwrap_or(usize::MAX) }
}

pub(super) fn metrics(table: &mut Table<'_>) -> Metrics {
    let value = table.get("listen");
    if value.is_some_and(|value| value.raw().as_str() == Some("")) {
        return Metrics { listen: None };
    }
    let listen = table.listen("listen");
    if let Some(listen) = &listen {
        warn_if_reachable(table, listen, "/metrics and /healthz");
    }
    Metrics { listen }
}
