//! RULES S23: a running agent becomes what a changed config says, without losing anything; a bad file changes nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use packhorse::simulator::{Arrivals, Endpoint};
use serde_json::Value;
use support::site::endpoint;
use support::{Agent, PATIENCE, forwarder, free_port, free_udp_port, integration};

struct Site {
    folder: tempfile::TempDir,
    udp: u16,
}

impl Site {
    fn new() -> Site {
        Site { folder: tempfile::tempdir().unwrap(), udp: free_udp_port() }
    }

    fn config(&self, rest: &str) -> String {
        let (folder, udp) = (self.folder.path().display(), self.udp);
        format!(
            "[gateway]\nname = \"shed\"\n[spool]\npath = \"{folder}/spool.redb\"\n[control]\nsocket = \"{folder}/control.sock\"\n\
             [source.s]\ntype = \"semtech-udp\"\nlisten = \"127.0.0.1:{udp}\"\n{rest}"
        )
    }

    fn write(&self, rest: &str) {
        std::fs::write(self.folder.path().join("packhorse.toml"), self.config(rest)).unwrap();
    }
}

fn http(name: &str, address: SocketAddr) -> String {
    format!(
        "[integration.{name}]\ntype = \"http\"\nurl = \"http://{address}/\"\nretry = {{ max = \"1s\" }}\n"
    )
}

fn names(status: &Value) -> Vec<&str> {
    status["integrations"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect()
}

#[test]
fn integrations_come_and_go_while_uplinks_flow() {
    let site = Site::new();
    let ((one, one_arrivals), (two, two_arrivals)) = (endpoint(), endpoint());
    let away = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (first, second, dead) = (http("one", one.address()), http("two", two.address()), http("dead", away));
    let mut agent = Agent::start(site.folder.path(), &site.config(&format!("{first}{dead}")));
    let mut forwarder = forwarder(site.udp, 4, 1);
    forwarder.send_uplinks(50).unwrap();
    assert!(one_arrivals.wait_for_unique(50, PATIENCE));
    let before = agent.wait_until_committed(50);

    // One stays, a second comes, the dead one goes and keeps its backlog.
    site.write(&format!("{first}{second}"));
    agent.hang_up();
    let status = agent.wait_until("the second is there", |status| names(status).contains(&"two"));
    assert_eq!(integration(&status, "dead")["state"], "removed");
    assert_eq!(integration(&status, "dead")["backlog"], 50);
    assert_eq!(integration(&status, "one")["since"], integration(&before, "one")["since"], "untouched");
    forwarder.send_uplinks(30).unwrap();
    assert!(one_arrivals.wait_for_unique(80, PATIENCE) && two_arrivals.wait_for_unique(30, PATIENCE));
    assert_eq!(two_arrivals.tally().unique, 30, "S5: a new integration starts at now");

    // A bad file changes nothing and says why.
    site.write("[integration.one]\ntype = \"http\"\nurl = \"ftp://nowhere/\"\n");
    agent.hang_up();
    agent.wait_until_logged("SIGHUP: the config was not reloaded");
    forwarder.send_uplinks(20).unwrap();
    assert!(one_arrivals.wait_for_unique(100, PATIENCE) && two_arrivals.wait_for_unique(50, PATIENCE));

    // The dead one comes back under its name, finds its endpoint alive, and goes on with its backlog.
    let revived = Arc::new(Arrivals::default());
    let _endpoint = Endpoint::start(away, None, Arc::clone(&revived)).unwrap();
    site.write(&format!("{first}{second}{dead}"));
    agent.hang_up();
    assert!(revived.wait_for_unique(50, PATIENCE), "{}", agent.log());
    forwarder.send_uplinks(5).unwrap();
    assert!(revived.wait_for_unique(55, PATIENCE));
    assert_eq!(one_arrivals.tally().duplicates, 0);
    assert!(agent.terminate().success());
}

#[test]
fn devices_and_flows_count_from_the_next_frame_on() {
    let site = Site::new();
    let (one, arrivals) = endpoint();
    let integration = http("one", one.address());
    let mut agent = Agent::start(site.folder.path(), &site.config(&integration));
    let mut forwarder = forwarder(site.udp, 1, 1);
    forwarder.send_uplinks(1).unwrap();
    assert!(arrivals.wait_for_unique(1, PATIENCE));
    assert!(arrivals.all()[0].json()["device"].get("name").is_none());

    site.write(&format!("{integration}[[device]]\nname = \"silo\"\ndev_addr = \"02530000\"\n"));
    agent.hang_up();
    agent.wait_until_logged("the config was changed");
    forwarder.send_uplinks(1).unwrap();
    assert!(arrivals.wait_for_unique(2, PATIENCE));
    assert_eq!(arrivals.all()[1].json()["device"]["name"], "silo");

    site.write(&format!(
        "{integration}[[device]]\nname = \"silo\"\ndev_addr = \"02530000\"\n[[flow]]\nname = \"none\"\nports = [200]\nto = [\"one\"]\n"
    ));
    agent.hang_up();
    agent.wait_until_logged_times("the config was changed", 2);
    forwarder.send_uplinks(3).unwrap();
    agent.wait_until("they are counted", |status| status["dropped"]["unrouted"] == 3);
    assert!(agent.terminate().success());
}

/// What was not taken into use is said again, until it is: after the second reload as after the first.
#[test]
fn what_waits_for_a_restart_is_said_each_time() {
    let site = Site::new();
    let mut agent = Agent::start(site.folder.path(), &site.config(""));
    site.write(&format!("[metrics]\nlisten = \"127.0.0.1:{}\"\n", free_port()));
    for times in 1..=2 {
        agent.hang_up();
        agent.wait_until_logged_times("only after a restart: metrics", times);
    }
    site.write("");
    agent.hang_up();
    agent.wait_until_logged_times("the config was changed", 3);
    assert_eq!(agent.log().matches("only after a restart").count(), 2, "{}", agent.log());
    assert!(agent.terminate().success());
}

/// A gateway with another name knows the devices of the new config, for commands as well as for uplinks.
#[test]
fn a_gateway_of_another_name_knows_the_new_devices() {
    let site = Site::new();
    let (one, arrivals) = endpoint();
    let integration = http("one", one.address());
    let mut agent = Agent::start(site.folder.path(), &site.config(&integration));
    forwarder(site.udp, 1, 1).send_uplinks(1).unwrap();
    assert!(arrivals.wait_for_unique(1, PATIENCE));
    let device = "[[device]]\nname = \"silo\"\ndev_addr = \"02530000\"\n";
    let renamed = site.config(&format!("{integration}{device}")).replace("\"shed\"", "\"barn\"");
    let path = site.folder.path().join("packhorse.toml");
    std::fs::write(&path, renamed).unwrap();
    agent.hang_up();
    agent.wait_until_logged("the config was changed");
    let test = std::process::Command::new(env!("CARGO_BIN_EXE_packhorse"))
        .args(["test", "one", "--device", "silo", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(test.status.success(), "{}", String::from_utf8_lossy(&test.stderr));
    assert!(arrivals.wait_for_unique(2, PATIENCE));
    let body = arrivals.all()[1].json();
    assert_eq!((&body["gateway"]["name"], &body["device"]["name"]), (&"barn".into(), &"silo".into()));
    assert!(agent.terminate().success());
}

/// RULES S9: a candidate runs until it is confirmed; a restart runs the old config, and so does the end of its time.
#[test]
fn a_candidate_is_confirmed_or_gone() {
    let site = Site::new();
    let ((one, one_arrivals), (two, two_arrivals)) = (endpoint(), endpoint());
    let old = http("one", one.address());
    let new = site.folder.path().join("new.toml");
    std::fs::write(&new, site.config(&format!("{old}{}", http("two", two.address())))).unwrap();
    let mut agent = Agent::start(site.folder.path(), &site.config(&old));
    let mut forwarder = forwarder(site.udp, 4, 1);
    let config = site.folder.path().join("packhorse.toml");
    let packhorse = |words: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_packhorse"))
            .args(words)
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    };

    // One that is wrong changes nothing.
    let bad = site.folder.path().join("bad.toml");
    std::fs::write(&bad, site.config("[integration.one]\ntype = \"smtp\"\n")).unwrap();
    let (code, said) = packhorse(&["apply", bad.to_str().unwrap()]);
    assert!(code == 1 && said.contains("smtp") && said.contains("nothing was changed"), "{said}");
    assert_eq!(packhorse(&["confirm"]).0, 1);

    // Applied, and killed before it was confirmed.
    let before = std::fs::read(&config).unwrap();
    let (code, said) = packhorse(&["apply", new.to_str().unwrap(), "--confirm", "1h"]);
    assert!(code == 0 && said.contains("two") && said.contains("confirm"), "{said}");
    agent.wait_until("the candidate runs", |status| names(status).contains(&"two"));
    assert_eq!(std::fs::read(&config).unwrap(), before, "the config folder is not the agent's to write");
    let (code, said) = packhorse(&["reload"]);
    assert!(code == 1 && said.contains("confirm"), "{said}");
    agent.kill();
    let agent = Agent::start(site.folder.path(), &site.config(&old));
    let status = agent.try_status().unwrap();
    assert_eq!(names(&status).first(), Some(&"one"));
    assert_ne!(
        status["integrations"].as_array().unwrap().get(1).map(|two| &two["state"]),
        Some(&Value::from("active"))
    );
    assert!(!site.folder.path().join("candidate.toml").exists());

    // Applied and confirmed.
    assert_eq!(packhorse(&["apply", new.to_str().unwrap()]).0, 0);
    let (code, said) = packhorse(&["confirm"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(std::fs::read(&config).unwrap(), std::fs::read(&new).unwrap());
    assert!(!site.folder.path().join("candidate.toml").exists());
    assert_eq!(packhorse(&["reload"]).0, 0);
    forwarder.send_uplinks(10).unwrap();
    assert!(one_arrivals.wait_for_unique(10, PATIENCE) && two_arrivals.wait_for_unique(10, PATIENCE));
    assert!(agent.terminate().success());
}
