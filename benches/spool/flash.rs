//! What the flash takes: bytes handed to the spool's file, and syncs.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::agent::Agent;
use super::rivals::{self, Counter};
use super::wait;

const A_SECOND: usize = 100;
const SECONDS: usize = 30;

pub(crate) fn run() {
    println!("FLASH, {A_SECOND} uplinks/s for {SECONDS} s   bytes an uplink   syncs an uplink");
    paced("write-behind, link up", "", true);
    paced("write-behind, link down", "", false);
    paced("immediate, link up", "durability = \"immediate\"", true);
    paced("immediate, link down", "durability = \"immediate\"", false);
}

fn paced(what: &str, spool: &str, link_is_up: bool) {
    let folder = tempfile::tempdir().unwrap();
    let (_broker, port) = rivals::broker(&folder.path().join("broker"), "");
    let counter = Counter::start(port);
    let far = if link_is_up { port } else { 1 };
    let integration = format!(
        "[integration.far]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{far}\"\n\
         topic = \"up/{{{{device.dev_addr}}}}\"\n"
    );
    let mut agent = Agent::start(folder.path(), &format!("max_size = \"64MiB\"\n{spool}"), &integration);
    if link_is_up {
        agent.send(1);
        wait("a connection", || counter.count() == 1);
        wait("its settlement", || agent.backlog() == 0);
        // What belongs to the start is on the disk by now, or never will be.
        std::thread::sleep(Duration::from_secs(4));
    }
    let before = written(&agent.status());
    let started = Instant::now();
    for n in 0..A_SECOND * SECONDS {
        let due =
            started + Duration::from_secs(1) * u32::try_from(n).unwrap() / u32::try_from(A_SECOND).unwrap();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        agent.send(1);
    }
    if link_is_up {
        wait("the last", || agent.backlog() == 0);
    } else {
        wait("the last on the disk", || agent.status()["spool"]["at_risk"] == 0);
    }
    let after = written(&agent.status());
    let n = (A_SECOND * SECONDS) as f64;
    let (bytes, syncs) = ((after.0 - before.0) as f64 / n, (after.1 - before.1) as f64 / n);
    println!("{what:<30} {bytes:>17.0} {syncs:>17.4}");
}

fn written(status: &Value) -> (u64, u64) {
    let all = &status["spool"]["flash"]["in_all"];
    (all["bytes"].as_u64().unwrap(), all["syncs"].as_u64().unwrap())
}
