//! What `status` says. The JSON is a contract (DESIGN section 6).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::{Clock, rfc3339};
use crate::delivery::{LaneStatus, LinkUp};
use crate::history::History;
use crate::integration::Tester;
use crate::metrics::{DoorCounters, DropReason, TapCounters, TapDrop};
use crate::render::Interpreter;
use crate::sightings::{Sightings, Who};
use crate::spool::{AccountView, DeviceLife, Operator, SetAside, View, Written};

/// An integration of the config, and where its lane shows its status.
#[derive(Debug)]
pub struct IntegrationStatus {
    /// Its name.
    pub name: String,
    /// `http` or `mqtt`.
    pub kind: &'static str,
    /// `enabled` of the config.
    pub enabled: bool,
    /// Its lane's status.
    pub lane: watch::Receiver<LaneStatus>,
    /// Its last attempts.
    pub history: History,
    /// Makes an attempt beside its lane; `None` while it is switched off.
    pub tester: Option<Tester>,
}

/// What becomes known once the spool is open.
#[derive(Debug)]
pub struct Delivering {
    /// What can be asked of the spool.
    pub operator: Operator,
    /// The integrations, in the order of the config, then the failover groups.
    pub integrations: Vec<IntegrationStatus>,
    /// Wakes the lanes.
    pub link_up: LinkUp,
    /// What uplinks mean.
    pub interpreter: Interpreter,
    /// Devices that must not be silent for longer than this, by name.
    pub expected: Vec<(String, Duration)>,
}

/// Everything that a status is made of.
#[derive(Debug)]
pub struct StatusSource {
    /// Name of the gateway.
    pub gateway: String,
    /// The spool's file.
    pub spool_path: PathBuf,
    /// Its limit, bytes.
    pub spool_max_size: u64,
    /// How long what is not delivered may wait for the disk.
    pub spool_commit_window: Duration,
    /// The door.
    pub counters: Arc<DoorCounters>,
    /// The servers that sources pass everything on to, in the order of the config.
    pub taps: Vec<Arc<TapCounters>>,
    /// Who is heard.
    pub sightings: Sightings,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// When the agent started, boot clock.
    pub started_ns: u64,
    /// Set once it is.
    pub delivering: Mutex<Option<Arc<Delivering>>>,
}

impl StatusSource {
    /// What is running behind the spool, from now on.
    pub fn show(&self, delivering: Delivering) {
        *self.delivering.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(delivering));
    }

    /// What is running behind the spool; `None` before it is open.
    pub fn delivering(&self) -> Option<Arc<Delivering>> {
        self.delivering.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why uplinks can't be stored as they should; `None`: all is well.
    pub fn trouble(&self) -> Option<String> {
        match self.delivering() {
            Some(delivering) => delivering.operator.view().trouble.clone(),
            None => Some("the spool is being opened".to_owned()),
        }
    }

    /// The status now. Costs the same whatever the backlog: nothing is read from the disk.
    pub fn snapshot(&self) -> Value {
        let delivering = self.delivering();
        let view = delivering.as_ref().map(|delivering| delivering.operator.view());
        let integrations = match (&delivering, &view) {
            (Some(delivering), Some(view)) => self.integrations(delivering, view),
            _ => Vec::new(),
        };
        let uptime_ns = self.clock.boot_ns().saturating_sub(self.started_ns);
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "gateway": self.gateway,
            "time": rfc3339(self.clock.wall_us()),
            "time_trusted": self.clock.trusted(),
            // Who tells the time of what is heard in this boot; null: nobody yet.
            "time_by": self.clock.boots().known(self.clock.boot_id()).and_then(|offset| offset.by.as_str()),
            "uptime_s": uptime_ns / 1_000_000_000,
            "heard": self.counters.heard_total(),
            "committed": view.as_ref().map_or(0, |view| view.committed),
            "dropped": self.dropped(),
            "taps": self.taps.iter().map(|tap| self.tap(tap)).collect::<Vec<_>>(),
            "spool": self.spool(view.as_deref()),
            "integrations": integrations,
            "overdue": self.overdue(),
        })
    }

    /// Devices that are silent for longer than they may be.
    fn overdue(&self) -> Vec<String> {
        let rows = self.sightings.rows().into_iter().filter(|row| row.overdue);
        rows.filter_map(|row| if let Who::Device(name) = row.who { Some(name) } else { None }).collect()
    }

    fn dropped(&self) -> Map<String, Value> {
        DropReason::ALL
            .iter()
            .map(|reason| (reason.as_str().to_owned(), self.counters.dropped_total(*reason)))
            .filter(|(_, n)| *n > 0)
            .map(|(reason, n)| (reason, json!(n)))
            .collect()
    }

    fn tap(&self, tap: &TapCounters) -> Value {
        let now_ns = self.clock.boot_ns();
        let dropped = TapDrop::ALL.iter().map(|reason| (reason.as_str(), tap.dropped_total(*reason)));
        let dropped: Map<String, Value> =
            dropped.filter(|(_, n)| *n > 0).map(|(reason, n)| (reason.to_owned(), json!(n))).collect();
        json!({
            "source": tap.source(),
            "server": tap.server(),
            "state": tap.state(now_ns).as_str(),
            "forwarded": tap.forwarded_total(),
            "downlinks": tap.returned_total(),
            "acks": tap.acks_total(),
            "last_ack_s": tap.last_ack_ns().map(|at| now_ns.saturating_sub(at) / 1_000_000_000),
            "trouble": tap.trouble().map(|trouble| {
                json!({ "reason": trouble.as_str(), "message": trouble.explained() })
            }),
            "dropped": dropped,
        })
    }

    fn spool(&self, view: Option<&View>) -> Value {
        let (state, trouble) = match view {
            None => ("opening", None),
            Some(view) if view.trouble.is_some() => ("degraded", view.trouble.clone()),
            Some(_) => ("ok", None),
        };
        let set_aside: Vec<Value> = view.map_or(&[][..], |view| &view.set_aside).iter().map(aside).collect();
        json!({
            "state": state,
            "trouble": trouble,
            "path": self.spool_path,
            "records": view.map_or(0, |view| view.records),
            "bytes": view.map_or(0, |view| view.bytes),
            "kept": view.map_or(0, |view| view.kept),
            "kept_bytes": view.map_or(0, |view| view.kept_bytes),
            "losses": view.map_or(0, |view| view.losses),
            "max_size": self.spool_max_size,
            "out_of_reach": view.map_or(0, |view| view.out_of_reach),
            "on_disk": view.and_then(|view| view.on_disk),
            "syncs": view.map_or(0, |view| view.syncs),
            "loss_window_ms": u64::try_from(self.spool_commit_window.as_millis()).unwrap_or(u64::MAX),
            "at_risk": view.map_or(0, |view| view.at_risk),
            "flash": view.map(|view| self.flash(view)),
            "set_aside": set_aside,
        })
    }

    /// What was written to the flash, and what an eMMC says of itself.
    fn flash(&self, view: &View) -> Value {
        let written = |written: Written| json!({ "bytes": written.bytes, "syncs": written.syncs, "uplinks": written.uplinks });
        let life = DeviceLife::of(&self.spool_path);
        json!({
            "today": written(view.wear.today),
            "in_all": written(view.wear.in_all),
            "emmc": life.map(|life| json!({ "used_percent": life.used_percent, "pre_eol": life.pre_eol })),
        })
    }

    fn integrations(&self, delivering: &Delivering, view: &View) -> Vec<Value> {
        let is_configured = |account: &AccountView| {
            delivering
                .integrations
                .iter()
                .any(|ours| ours.name == *account.name && ours.kind == &*account.kind)
        };
        let configured = delivering.integrations.iter().map(|ours| {
            let account = view.account_of(ours.kind, &ours.name);
            let lane = ours.lane.borrow();
            let state = lane.state(Instant::now()).as_str();
            let mut entry = entry(&ours.name, ours.kind, ours.enabled, state, account);
            self.add_lane(&mut entry, &lane);
            Value::Object(entry)
        });
        // What was taken out of the config keeps its backlog visible (RULES S5).
        let removed = view.accounts.iter().filter(|account| !is_configured(account)).map(|account| {
            Value::Object(entry(&account.name, &account.kind, false, "removed", Some(account)))
        });
        configured.chain(removed).collect()
    }

    fn add_lane(&self, entry: &mut Map<String, Value>, lane: &LaneStatus) {
        entry.insert("since".into(), json!(rfc3339(lane.since_us)));
        entry.insert("in_flight".into(), json!(lane.in_flight));
        entry.insert("oldest_s".into(), json!(lane.oldest.and_then(|at| self.clock.age_s(at))));
        entry.insert("last_success".into(), json!(lane.last_success_us.and_then(rfc3339)));
        if let Some(via) = &lane.via {
            entry.insert("via".into(), json!(&**via));
        }
        let last_error = lane.last_error.as_ref().map(|error| {
            json!({ "layer": error.layer.as_str(), "message": error.message, "time": rfc3339(error.at_us) })
        });
        entry.insert("last_error".into(), json!(last_error));
    }
}

fn aside(aside: &SetAside) -> Value {
    json!({ "path": aside.path, "reason": aside.reason, "outcome": aside.outcome })
}

fn entry(
    name: &str,
    kind: &str,
    enabled: bool,
    state: &str,
    account: Option<&AccountView>,
) -> Map<String, Value> {
    let lost: Map<String, Value> = account
        .map(|account| account.lost.iter().map(|(loss, n)| (loss.as_str().to_owned(), json!(n))).collect())
        .unwrap_or_default();
    let mut entry = Map::new();
    entry.insert("name".into(), json!(name));
    entry.insert("type".into(), json!(kind));
    entry.insert("enabled".into(), json!(enabled));
    entry.insert("state".into(), json!(state));
    entry.insert("backlog".into(), json!(account.map_or(0, |account| account.backlog)));
    entry.insert("delivered".into(), json!(account.map_or(0, |account| account.delivered)));
    entry.insert("dead_letters".into(), json!(account.map_or(0, |account| account.dead_letters)));
    entry.insert("dropped".into(), Value::Object(lost));
    let replay = account.and_then(|account| account.replay);
    let replay = replay.map(|replay| json!({ "left": replay.left, "missed": replay.missed }));
    entry.insert("replay".into(), json!(replay));
    // Every entry has every key; only a lane can fill these.
    for key in ["since", "in_flight", "oldest_s", "last_success", "last_error"] {
        entry.insert(key.into(), Value::Null);
    }
    entry
}
