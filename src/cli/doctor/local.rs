//! What this machine says: clock, route, disk, permissions.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::clock::{Clock, RELEASE_FLOOR_US, SystemClock, is_synchronised, rfc3339};
use crate::config::{Config, Durability};
use crate::spool::set_aside_beside;

use super::super::table::size;
use super::{Finding, kernel};

/// A forced write that takes longer wears on everything that waits for it.
const SLOW_SYNC: Duration = Duration::from_millis(500);

/// Less free space than this is none.
const NO_SPACE: u64 = 1 << 20;

pub(super) fn clock(status: Option<&Value>) -> Finding {
    let now_us = SystemClock::new().wall_us();
    let now = rfc3339(now_us).unwrap_or_default();
    let now = now.split('.').next().unwrap_or_default();
    let trusted = status.and_then(|status| status.get("time_trusted")).and_then(Value::as_bool);
    if now_us < RELEASE_FLOOR_US {
        let dated = match status.and_then(|status| status.get("time_by")).and_then(Value::as_str) {
            Some("gps") => "uplinks are dated by GPS",
            _ => "uplinks that wait are dated once it is set",
        };
        let says = format!("{now}Z: that is before this program was made; {dated}");
        return Finding::bad("clock", says, "set it, and see that NTP reaches its server: timedatectl");
    }
    match (kernel::is_synchronised().or(is_synchronised().then_some(true)), trusted) {
        (_, Some(false)) => Finding::warn(
            "clock",
            format!(
                "{now}Z, not trusted: it has stepped within the last 10 minutes, or stands before the last good time"
            ),
            "10 minutes after NTP has set it it is trusted; if that never happens, look at NTP: timedatectl",
        ),
        (Some(true), _) => Finding::ok("clock", format!("{now}Z, synchronised")),
        (Some(false), _) => Finding::warn(
            "clock",
            format!("{now}Z, but the kernel says that it follows no time server"),
            "start NTP, and see that it reaches its server: timedatectl, chronyc tracking, ntpd",
        ),
        (None, Some(true)) => Finding::ok("clock", format!("{now}Z, steady; no word from NTP")),
        (None, None) => Finding::ok("clock", format!("{now}Z, plausible; no word from NTP or the agent")),
    }
}

/// `needed`: there is something beyond the own network.
pub(super) fn route(needed: bool) -> Finding {
    let v4 = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let found: Vec<String> = default_v4(&v4).into_iter().chain(default_v6(&v6)).collect();
    match (found.is_empty(), needed) {
        (false, _) => Finding::ok("route", format!("default by {}", found.join(", "))),
        (true, false) => Finding::ok("route", "no default route, and no integration that needs one"),
        (true, true) => {
            Finding::bad("route", "no default route", "bring the modem or Ethernet up: ip route; ip link")
        }
    }
}

/// Interface, destination, gateway, flags, …, the eighth is the mask (proc(5)).
fn default_v4(table: &str) -> Option<String> {
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_default = columns.get(1) == Some(&"00000000") && columns.get(7) == Some(&"00000000");
        columns.first().filter(|_| is_default).map(|name| (*name).to_owned())
    })
}

/// Destination, its length, …, the tenth is the interface. Unreachable defaults are on `lo`.
fn default_v6(table: &str) -> Option<String> {
    table.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_default = columns.first().is_some_and(|to| to.bytes().all(|digit| digit == b'0'))
            && columns.get(1) == Some(&"00");
        let name = columns.get(9).filter(|name| is_default && **name != "lo");
        name.map(|name| format!("{name} (IPv6)"))
    })
}

pub(super) fn spool(config: &Config, is_open: bool, report: &mut impl FnMut(Finding)) {
    let path = &config.spool.path.value;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::metadata(path) {
        Ok(file) if !is_open => {
            report(Finding::ok("spool", format!("{}, {}", path.display(), size(file.blocks() * 512))));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            report(Finding::ok("spool", format!("{} will be made at the first start", path.display())));
        }
        Err(error) => {
            let says = format!("{}: {error}", path.display());
            report(Finding::bad("spool", says, "say it with sudo, or as the user of the agent"));
        }
    }
    for aside in set_aside_beside(path) {
        let outcome = aside.outcome.map_or_else(String::new, |outcome| format!("; {outcome}"));
        report(Finding::warn(
            "set aside",
            format!("{}: {}{outcome}", aside.path.display(), aside.reason),
            "`packhorse spool export --file` prints what can be read of it; delete it when nobody needs it",
        ));
    }
    report(space(config, folder));
    report(sync(folder));
}

fn space(config: &Config, folder: &Path) -> Finding {
    let existing = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let Ok(fs) = rustix::fs::statvfs(existing) else {
        let says = format!("{} can't be asked", existing.display());
        return Finding::bad("disk", says, "check spool.path, and whether its disk is mounted");
    };
    let free = fs.f_bavail.saturating_mul(fs.f_frsize);
    let own = fs::metadata(&config.spool.path.value).map_or(0, |file| file.blocks().saturating_mul(512));
    let wanted = config.spool.max_size.unwrap_or(0).saturating_sub(own);
    let says = format!("{} free at {}", size(free), existing.display());
    match free {
        0..NO_SPACE => {
            Finding::bad("disk", says, "free some: journalctl --vacuum-size=20M, old logs, packages")
        }
        free if free < wanted => Finding::warn(
            "disk",
            format!("{says}, and the spool may want {} more", size(wanted)),
            "free some, or lower spool.max_size",
        ),
        _ => Finding::ok("disk", says),
    }
}

/// Writes a small file beside the spool and forces it to the disk.
fn sync(folder: &Path) -> Finding {
    let write = || -> std::io::Result<Duration> {
        let mut file = tempfile::Builder::new().prefix(".packhorse-doctor-").tempfile_in(folder)?;
        file.write_all(&[0; 4_096])?;
        let started = Instant::now();
        file.as_file().sync_all()?;
        Ok(started.elapsed())
    };
    match write() {
        Ok(took) if took > SLOW_SYNC => Finding::warn(
            "fsync",
            format!("{} ms to force 4 KiB to the disk", took.as_millis()),
            "a worn SD card does this: durability = \"write-behind\" spares it, a new one helps",
        ),
        Ok(took) => Finding::ok("fsync", format!("{} ms to force 4 KiB to the disk", took.as_millis())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Finding::ok("fsync", format!("not tried: {} is made at the first start", folder.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Finding::warn(
            "fsync",
            format!("not tried: {} is not for this user to write", folder.display()),
            "say it with sudo, or as the user of the agent",
        ),
        Err(error) => {
            let says = format!("{} can't be written: {error}", folder.display());
            Finding::bad("fsync", says, "check the disk: dmesg, mount (read-only?), df")
        }
    }
}

pub(super) fn power_cut(config: &Config) -> Finding {
    let says = match config.spool.durability.value {
        Durability::Immediate => "a power cut now loses what was heard within the last 200 ms".to_owned(),
        Durability::WriteBehind => format!(
            "a power cut now loses what was heard within the last {:?} and not delivered yet",
            config.spool.commit_after
        ),
    };
    Finding::ok("power cut", says)
}

pub(super) fn permissions(path: &Path, config: &Config, report: &mut impl FnMut(Finding)) {
    let mode = |path: &Path| fs::metadata(path).ok().map(|file| file.permissions().mode());
    let mut all_well = true;
    let mut tell = |finding: Finding| {
        all_well = false;
        report(finding);
    };
    if mode(path).is_some_and(|mode| mode & 0o022 != 0) {
        let says = format!("others than its owner may change {}", path.display());
        tell(Finding::bad("permissions", says, format!("chmod go-w {}", path.display())));
    }
    for integration in &config.integrations {
        let Some(key) = &integration.tls.key else { continue };
        if mode(key).is_some_and(|mode| mode & 0o004 != 0) {
            let says = format!("everybody on this machine can read the private key {}", key.display());
            tell(Finding::warn("permissions", says, format!("chmod 640 {}", key.display())));
        }
    }
    let socket = &config.control.socket.value;
    if mode(socket).is_some_and(|mode| mode & 0o007 != 0) {
        let says = format!("everybody on this machine may steer the agent by {}", socket.display());
        tell(Finding::bad("permissions", says, format!("chmod o= {}", socket.display())));
    }
    if all_well {
        report(Finding::ok("permissions", "config, keys and control socket are for whom they should be"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_found() {
        let v4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                  eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                  wwan0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(default_v4(v4).as_deref(), Some("wwan0"));
        assert_eq!(default_v4(v4.rsplit_once("wwan0").map_or("", |(head, _)| head)), None);
        let line = |to: &str, len: &str, name: &str| {
            let zeros = "0".repeat(32);
            format!(
                "{to} {len} {zeros} 00 fe800000000000000000000000000001 00000400 00000000 00000000 00000003 {name}\n"
            )
        };
        let zeros = "0".repeat(32);
        let v6 = line(&zeros, "00", "lo") + &line(&zeros, "00", "eth0");
        assert_eq!(default_v6(&v6).as_deref(), Some("eth0 (IPv6)"));
        assert_eq!(default_v6(&line(&zeros, "00", "lo")), None);
    }
}
