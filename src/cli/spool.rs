//! `packhorse spool check` and `packhorse spool export`: the spool of an agent that does not run, or a file set aside.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use serde_json::{Map, Value, json};

use crate::clock::rfc3339;
use crate::config::{Config, nearest};
use crate::printable::printable;
use crate::spool::AccountView;
use crate::spool::inspect::{Exported, Exports, Inspection, Report, Selection, Soundness};
use crate::uplink::{Crc, Eui64, Kind, Rx};

use super::args::SpoolOptions;
use super::ask::complain_of_config;
use super::table::{size, uplinks};
use super::{Exit, say};

/// Which file, and the names that the config has for devices.
struct Place {
    path: PathBuf,
    names: HashMap<Eui64, String>,
}

impl Place {
    /// A file that is named needs no config; if there is one, it still knows the names of the devices.
    fn of(config: &Path, file: Option<&Path>) -> Result<Place, Exit> {
        let loaded = Config::load(config);
        let names = loaded.iter().flat_map(|loaded| &loaded.config.devices);
        let names = names.filter_map(|device| Some((Eui64(device.dev_eui?), device.name.value.clone())));
        let names = names.collect();
        match (file, loaded) {
            (Some(file), _) => Ok(Place { path: file.to_owned(), names }),
            (None, Ok(loaded)) => Ok(Place { path: loaded.config.spool.path.value.clone(), names }),
            (None, Err(problems)) => Err(complain_of_config(&problems, "where the spool is")),
        }
    }

    fn open(&self) -> Result<Inspection, Exit> {
        Inspection::open(&self.path).map_err(|error| {
            eprintln!("packhorse: {error}");
            Exit::Usage
        })
    }
}

pub(super) fn check(config: &Path, options: &SpoolOptions) -> Result<Exit, Exit> {
    let report = Place::of(config, options.file.as_deref())?.open()?.check();
    if options.json {
        say(json_of(&report));
    } else {
        table(&report, options.file.is_some()).iter().for_each(say);
    }
    Ok(match report.soundness {
        Soundness::New | Soundness::Sound => Exit::Done,
        Soundness::Damaged | Soundness::Newer => Exit::Bad,
    })
}

fn json_of(report: &Report) -> Value {
    let integrations: Vec<Value> = report
        .accounts
        .iter()
        .map(|account| {
            let dropped: Map<String, Value> =
                account.lost.iter().map(|(loss, n)| (loss.as_str().to_owned(), json!(n))).collect();
            json!({
                "name": &*account.name,
                "type": &*account.kind,
                "backlog": account.backlog,
                "delivered": account.delivered,
                "dead_letters": account.dead_letters,
                "dropped": dropped,
            })
        })
        .collect();
    json!({
        "path": report.path,
        "size": report.len,
        "state": state(report),
        "closed": report.closed,
        "problems": report.problems,
        "records": report.records,
        "bytes": report.bytes,
        "settled": report.settled,
        "unassigned": report.nobodys,
        "unknown_format": report.unknown,
        "damaged": report.damaged,
        "dead_letters": report.dead_letters,
        "damaged_dead_letters": report.damaged_letters,
        "losses": report.losses,
        "integrations": integrations,
    })
}

fn state(report: &Report) -> &'static str {
    match report.soundness {
        Soundness::New => "new",
        Soundness::Sound => "sound",
        Soundness::Damaged => "damaged",
        Soundness::Newer => "newer",
    }
}

/// Lines of 80 columns, but for paths.
fn table(report: &Report, is_named: bool) -> Vec<String> {
    let closed = match (&report.soundness, report.closed) {
        (Soundness::New, _) => "",
        (_, true) => ", closed",
        (_, false) => ", not closed when its agent ended",
    };
    let path = printable(&report.path.display().to_string());
    let mut lines = vec![format!("{path}: {}, {}{closed}", state(report).to_uppercase(), size(report.len))];
    lines.extend(report.problems.iter().map(|problem| format!("  {}", printable(problem))));
    let mut counts = vec![format!("{} ({})", uplinks(report.records), size(report.bytes))];
    for (n, what) in [
        (report.settled, "of them settled"),
        (report.nobodys, "whose destination can't be read"),
        (report.unknown, "of a newer format"),
        (report.damaged, "damaged"),
        (report.dead_letters, "dead letters"),
        (report.damaged_letters, "damaged dead letters"),
        (report.losses, "ranges of losses"),
    ] {
        if n > 0 {
            counts.push(format!("{n} {what}"));
        }
    }
    lines.push(counts.join(", "));
    if !report.accounts.is_empty() {
        lines.push(String::new());
        lines.push(row(["INTEGRATION", "TYPE", "BACKLOG", "DELIVERED", "DEAD", "LOST"]));
        lines.extend(report.accounts.iter().map(account_row));
    }
    lines.extend(next_steps(report, is_named));
    lines
}

fn next_steps(report: &Report, is_named: bool) -> Option<String> {
    let file = if is_named { format!(" --file {}", report.path.display()) } else { String::new() };
    let export = format!("`packhorse spool export{}` prints what can be read.", printable(&file));
    match report.soundness {
        Soundness::New | Soundness::Sound => None,
        _ if is_named => Some(format!("\n{export}")),
        Soundness::Damaged => {
            Some(format!("\nThe agent goes on with what can be read and tells what is lost.\n{export}"))
        }
        Soundness::Newer => {
            Some(format!("\nThe agent keeps it aside for the version that made it.\n{export}"))
        }
    }
}

fn account_row(account: &AccountView) -> String {
    let lost: u64 = account.lost.iter().map(|(_, n)| n).sum();
    row([
        &printable(&account.name),
        &account.kind,
        &account.backlog.to_string(),
        &account.delivered.to_string(),
        &account.dead_letters.to_string(),
        &lost.to_string(),
    ])
}

fn row(cells: [&str; 6]) -> String {
    let [name, kind, backlog, delivered, dead, lost] = cells;
    format!("{name:<28} {kind:<8} {backlog:>9} {delivered:>10} {dead:>8} {lost:>8}")
}

pub(super) fn export(config: &Path, options: &SpoolOptions) -> Result<Exit, Exit> {
    let place = Place::of(config, options.file.as_deref())?;
    let file = place.open()?;
    if let Some(wanted) = &options.integration {
        knows(&file, wanted)?;
    }
    let selection = Selection { dead: options.dead, integration: options.integration.clone() };
    let mut out = BufWriter::new(std::io::stdout().lock());
    // A reader that has gone (`… | head -1`) has what it wanted.
    let mut is_read = true;
    let exports = file.export(&selection, &mut |one| match writeln!(out, "{}", line(&one, &place.names)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => {
            is_read = false;
            ControlFlow::Break(())
        }
    });
    if !is_read || out.flush().is_err() {
        return Ok(Exit::Done);
    }
    Ok(told(exports, options.dead))
}

/// What came out goes to standard error: standard output is for programs.
fn told(exports: Exports, dead: bool) -> Exit {
    let n = match exports.exported {
        1 if dead => "1 dead letter".to_owned(),
        n if dead => format!("{n} dead letters"),
        n => uplinks(n),
    };
    let mut missing = Vec::new();
    if exports.unreadable > 0 {
        missing.push(format!("{} more can't be read", exports.unreadable));
    }
    if exports.has_holes {
        missing.push("parts of the file can't be read: what was there is missing".to_owned());
    }
    if missing.is_empty() {
        eprintln!("{n}");
        return Exit::Done;
    }
    eprintln!("{n}; {}", missing.join("; "));
    Exit::Bad
}

fn knows(file: &Inspection, wanted: &str) -> Result<(), Exit> {
    let known = file.integrations();
    if known.contains(&wanted) {
        return Ok(());
    }
    let hint = match nearest(wanted, known.iter().copied()) {
        Some(near) => format!("; did you mean {:?}?", printable(near)),
        None if known.is_empty() => "; none can be read from it".to_owned(),
        None => format!("; it knows {}", printable(&known.join(", "))),
    };
    eprintln!("packhorse: the spool knows no integration {:?}{hint}", printable(wanted));
    Err(Exit::Usage)
}

/// One line, a contract. What is not known is absent.
fn line(one: &Exported, names: &HashMap<Eui64, String>) -> Value {
    let uplink = &one.uplink;
    let mut line = Map::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            line.insert(key.to_owned(), value);
        }
    };
    put("seq", json!(one.seq));
    put("id", json!(uplink.id.to_string()));
    // As it was heard: what another boot's time is worth, only the agent knows.
    put("time", json!(rfc3339(one.heard.wall_us)));
    put("time_quality", json!(one.heard.quality.as_str()));
    if let Some(bounds) = one.heard.bounds {
        put("time_bounds", json!({ "after": rfc3339(bounds.after_us), "before": rfc3339(bounds.before_us) }));
    }
    put("kind", json!(kind(uplink.kind)));
    put("source", json!(&*uplink.source));
    if let Some(eui) = uplink.dev_eui {
        let name = names.get(&eui);
        let eui = eui.to_string();
        put(
            "device",
            name.map_or_else(|| json!({ "dev_eui": eui }), |name| json!({ "name": name, "dev_eui": eui })),
        );
    }
    put("f_cnt", json!(uplink.f_cnt));
    let destinations = one.destinations.iter().map(|it| {
        let flow = Some(&it.flow).filter(|flow| !flow.is_empty());
        let mut destination = json!({ "name": it.name, "type": it.kind });
        if let (Some(flow), Some(members)) = (flow, destination.as_object_mut()) {
            members.insert("flow".to_owned(), json!(flow));
        }
        destination
    });
    put("integrations", destinations.collect());
    if let Some((reason, attempts, refused_us)) = &one.refused {
        put("reason", json!(reason));
        put("attempts", json!(attempts));
        put("refused", json!(rfc3339(*refused_us)));
    }
    put("content", json!(BASE64.encode(&uplink.content)));
    put("rx", rx(&uplink.rx));
    for (name, is_so) in [
        ("retransmission", uplink.flags.retransmission),
        ("simulated", uplink.flags.simulated),
        ("replay", uplink.flags.replayed),
    ] {
        put(name, if is_so { Value::Bool(true) } else { Value::Null });
    }
    Value::Object(line)
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Lorawan => "lorawan",
        Kind::Join => "join",
        Kind::Other => "other",
        Kind::App => "app",
    }
}

/// Hz, dBm, dB and microseconds, under the names of the default body where it has them.
fn rx(rx: &Rx) -> Value {
    if *rx == Rx::default() {
        return Value::Null;
    }
    let crc = match rx.crc {
        Crc::Ok => Some("ok"),
        Crc::Absent => Some("absent"),
        Crc::Unknown => None,
    };
    let data_rate = Some(rx.data_rate.as_str()).filter(|rate| !rate.is_empty());
    let all = [
        ("gateway_eui", json!(rx.gateway_eui.map(|eui| eui.to_string()))),
        ("frequency", json!(rx.frequency_hz)),
        ("data_rate", json!(data_rate)),
        ("coding_rate", json!(rx.coding_rate.as_deref())),
        ("rssi", json!(rx.rssi_dbm)),
        ("rssi_signal", json!(rx.rssi_signal_dbm)),
        ("snr", json!(rx.snr_db)),
        ("channel", json!(rx.channel)),
        ("rf_chain", json!(rx.rf_chain)),
        ("antenna", json!(rx.antenna)),
        ("frequency_offset", json!(rx.frequency_offset_hz)),
        ("tmst", json!(rx.tmst)),
        ("fine_time_ns", json!(rx.fine_time_ns)),
        ("crc", json!(crc)),
    ];
    let known = all.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(known.map(|(name, value)| (name.to_owned(), value)).collect())
}
