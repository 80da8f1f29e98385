//! What becomes of uplinks when the far end is slow, refuses, or stays away; with the real binary and real sockets.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use packhorse::simulator::{Arrivals, Endpoint};
use serde_json::{Value, json};
use support::site::{endpoint, http};
use support::{Agent, PATIENCE, forwarder, free_port, free_udp_port, integration};

/// A folder, a UDP port and a config that ends with `integrations`.
struct Site {
    folder: tempfile::TempDir,
    udp: u16,
    config: String,
}

impl Site {
    fn new(spool: &str, integrations: &str) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let udp = free_udp_port();
        let at = folder.path().display();
        let config = format!(
            "[gateway]\nname = \"shed\"\n[spool]\npath = \"{at}/spool.redb\"\n{spool}\n\
             [control]\nsocket = \"{at}/control.sock\"\n\
             [source.s]\ntype = \"semtech-udp\"\nlisten = \"127.0.0.1:{udp}\"\nrate_limit = 0\n{integrations}"
        );
        Site { folder, udp, config }
    }

    fn start(&self) -> Agent {
        Agent::start(self.folder.path(), &self.config)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn state_is(name: &'static str, state: &'static str) -> impl Fn(&Value) -> bool {
    move |status| integration(status, name)["state"] == state
}

fn counters(arrivals: &Arrivals) -> Vec<u64> {
    arrivals.all().iter().map(|arrival| arrival.json()["f_cnt"].as_u64().unwrap()).collect()
}

/// RULES S1, S8: 401 blames the endpoint. The backlog waits, is probed, and goes on by itself, in order.
#[test]
fn an_endpoint_that_refuses_is_blocked_and_goes_on_by_itself() {
    let (endpoint, arrivals) = endpoint();
    endpoint.answer_with(401);
    let site = Site::new("", &http("api", endpoint.address(), "retry = { probe = \"1s\" }"));
    let mut agent = site.start();
    forwarder(site.udp, 1, 1).send_uplinks(30).unwrap();
    let status = agent.wait_until("it is blocked", state_is("api", "blocked"));
    let entry = integration(&status, "api");
    assert_eq!(entry["last_error"]["layer"], "http");
    assert!(entry["last_error"]["message"].as_str().unwrap().contains("401"), "{entry}");
    agent.wait_until_committed(30);
    endpoint.answer_with(200);
    assert!(arrivals.wait_for_unique(30, PATIENCE), "{:?}", agent.try_status());
    let status = agent.wait_until("it is well", state_is("api", "active"));
    assert_eq!(integration(&status, "api")["dead_letters"], 0, "no record was blamed");
    assert_eq!(counters(&arrivals), (0..30).collect::<Vec<_>>(), "in the order heard");
}

/// RULES S1: 422 blames the record, which becomes a dead letter; the ones behind it go on.
#[test]
fn a_refused_record_is_a_dead_letter_and_blocks_nobody() {
    let (endpoint, arrivals) = endpoint();
    endpoint.answer_with(422);
    let site = Site::new("", &http("api", endpoint.address(), ""));
    let mut agent = site.start();
    let mut forwarder = forwarder(site.udp, 1, 1);
    forwarder.send_uplinks(3).unwrap();
    agent.wait_until("they are dead letters", |status| integration(status, "api")["dead_letters"] == 3);
    endpoint.answer_with(200);
    forwarder.send_uplinks(5).unwrap();
    assert!(arrivals.wait_for_unique(5, PATIENCE), "{:?}", agent.try_status());
    let status = agent.wait_until("nothing waits", |status| integration(status, "api")["backlog"] == 0);
    let entry = integration(&status, "api");
    assert_eq!((&entry["delivered"], &entry["dead_letters"]), (&json!(5), &json!(3)), "{entry}");
    assert!(agent.terminate().success());
    let mut agent = site.start();
    let status = agent.wait_until("it is back", |status| status["spool"]["state"] == "ok");
    assert_eq!(integration(&status, "api")["dead_letters"], 3, "dead letters survive a restart");
}

/// RULES S11 and DESIGN invariant 1: at `max_size` the oldest go; every one is counted, the rest arrives.
#[test]
fn a_full_spool_drops_the_oldest_and_counts_them() {
    const HEARD: u64 = 20_000;
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let more = "parallel = 32\nretry = { max = \"1s\" }";
    let site = Site::new("max_size = \"1MiB\"", &http("api", address, more));
    let mut agent = site.start();
    let mut forwarder = forwarder(site.udp, 64, 1);
    // No more at once than the hand-over queue holds: a busy machine would drop the rest, which is another test's matter.
    let mut status = serde_json::Value::Null;
    for sent in (2_000..=HEARD).step_by(2_000) {
        forwarder.send_uplinks(2_000).unwrap();
        status = agent.wait_until_committed(sent);
    }
    let entry = integration(&status, "api").clone();
    let (backlog, evicted) =
        (entry["backlog"].as_u64().unwrap(), entry["dropped"]["evicted"].as_u64().unwrap());
    assert_eq!(backlog + evicted, HEARD, "{entry}");
    assert!(status["spool"]["bytes"].as_u64().unwrap() <= 1 << 20, "{status}");
    let file = std::fs::metadata(site.path().join("spool.redb")).unwrap();
    let on_disk = std::os::unix::fs::MetadataExt::blocks(&file) * 512;
    assert!(on_disk <= 1 << 20, "the file takes {on_disk} bytes of the disk");

    let arrivals = Arc::new(Arrivals::default());
    let _endpoint = Endpoint::start(address, None, Arc::clone(&arrivals)).unwrap();
    agent.wait_until("nothing waits", |status| integration(status, "api")["backlog"] == 0);
    let status = agent.try_status().unwrap();
    let entry = integration(&status, "api");
    assert_eq!(entry["delivered"].as_u64().unwrap() + evicted, HEARD, "{entry}");
    assert_eq!(arrivals.tally().unique as u64, HEARD - evicted);
    assert!(agent.terminate().success());
}

/// RULES S3: what is no spool is set aside with its reason, visibly, and the agent runs.
#[test]
fn a_damaged_spool_is_set_aside_and_shown() {
    let (endpoint, arrivals) = endpoint();
    let site = Site::new("", &http("api", endpoint.address(), ""));
    std::fs::write(site.path().join("spool.redb"), vec![0x5a; 100_000]).unwrap();
    let mut agent = site.start();
    forwarder(site.udp, 1, 1).send_uplinks(3).unwrap();
    assert!(arrivals.wait_for_unique(3, PATIENCE));
    let status = agent.wait_until("it runs", |status| status["spool"]["state"] == "ok");
    let aside = &status["spool"]["set_aside"][0];
    assert!(aside["path"].as_str().unwrap().ends_with("spool.redb.damaged"), "{status}");
    assert!(!aside["reason"].as_str().unwrap().is_empty());
    assert!(aside["outcome"].as_str().unwrap().contains("nothing that waits was salvaged"), "{status}");
    assert_eq!(std::fs::read(site.path().join("spool.redb.damaged")).unwrap(), vec![0x5a; 100_000]);
    assert!(site.path().join("spool.redb.damaged.reason").exists());
}
