//! The HTTP source, end to end with the real binary: what was answered with 202 arrives, over a crash, once.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use packhorse::simulator::{Arrivals, Endpoint};
use serde_json::{Value, json};
use support::site::endpoint;
use support::{Agent, PATIENCE, free_port, integration};

const TOKEN: &str = "a-token-that-nobody-may-read";

struct World {
    folder: tempfile::TempDir,
    source: u16,
    endpoint: Option<Endpoint>,
    address: SocketAddr,
    arrivals: Arc<Arrivals>,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), TOKEN).unwrap();
        let (endpoint, arrivals) = endpoint();
        World { source: free_port(), address: endpoint.address(), endpoint: Some(endpoint), arrivals, folder }
    }

    fn start_agent(&self) -> Agent {
        let (folder, source, port) = (self.folder.path().display(), self.source, self.address.port());
        let config = format!(
            r#"
            [gateway]
            name = "barn-roof"
            [spool]
            path = "{folder}/spool.redb"
            [control]
            socket = "{folder}/control.sock"
            [source.webhook]
            type = "http"
            listen = "127.0.0.1:{source}"
            token = {{ file = "token" }}
            [integration.factory-api]
            type = "http"
            url = "http://127.0.0.1:{port}/uplinks"
            retry = {{ max = "2s" }}
            "#
        );
        Agent::start(self.folder.path(), &config)
    }

    /// Posts and returns the answer; `None` if the agent went away before it.
    fn post(&self, headers: &str, body: &Value) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.source)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = body.to_string();
        let request = format!(
            "POST /uplinks HTTP/1.1\r\nHost: gw\r\nContent-Type: application/json\r\nAuthorization: Bearer {TOKEN}\r\n\
             Connection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.get(9..12)?.parse().ok()?, serde_json::from_str(body).ok()?))
    }

    fn accepted(&self, headers: &str, body: &Value) -> Vec<String> {
        let (status, answer) = self.post(headers, body).unwrap();
        assert_eq!(status, 202, "{answer}");
        answer["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// The `Idempotency-Key` of everything that arrived, in order.
    fn keys(&self) -> Vec<String> {
        self.arrivals.all().into_iter().map(|arrival| arrival.key.unwrap()).collect()
    }

    fn wait_for(&self, n: usize, agent: &Agent) {
        let enough = self.arrivals.wait_until(PATIENCE, |log| log.len() >= n);
        assert!(enough, "{} of {n} arrived\n{:#?}\n{}", self.keys().len(), agent.try_status(), agent.log());
    }
}

fn uplink(n: u64) -> Value {
    json!({ "id": format!("reading {n}"), "dev_eui": "0004a30b001c0530", "f_cnt": n, "payload": "AQID" })
}

#[test]
fn what_was_accepted_arrives_under_the_id_that_was_answered() {
    let world = World::new();
    let mut agent = world.start_agent();
    let mut ids = world.accepted("", &uplink(1));
    ids.extend(world.accepted("", &json!([uplink(2), uplink(3)])));
    let key = "3ac7e3c4-4401-4b8d-9386-a5c902f9202d";
    let keyed = world.accepted(&format!("Idempotency-Key: {key}\r\n"), &uplink(4));
    assert_eq!(keyed, [key]);
    ids.extend(keyed);
    // Said again, it is accepted again and goes nowhere.
    assert_eq!(world.accepted("", &uplink(2)), ids[1..2]);
    assert_eq!(world.accepted(&format!("Idempotency-Key: {key}\r\n"), &uplink(4)), [key]);
    world.wait_for(4, &agent);
    let status =
        agent.wait_until("nothing waits", |status| integration(status, "factory-api")["backlog"] == 0);
    assert_eq!(world.keys(), ids, "in the order they came, each once");
    assert_eq!(status["dropped"]["repeated"], 2);
    assert_eq!((&status["heard"], &status["committed"]), (&json!(6), &json!(4)));

    let (status, answer) = world.post("", &json!([uplink(5), { "f_cnt": 6 }])).unwrap();
    assert_eq!((status, &answer["element"]), (400, &json!(1)));
    assert!(!agent.log().contains(TOKEN), "the token is in the log");
    assert!(agent.terminate().success());
    assert_eq!(world.keys().len(), 4);
}

/// The agent is killed while clients post: whatever was answered with 202 arrives, and what is posted again for want of an
/// answer arrives once.
#[test]
fn nothing_accepted_is_lost_when_the_agent_is_killed() {
    const CLIENTS: u64 = 4;
    const BEFORE: usize = 30;
    let mut world = World::new();
    // Nothing can be delivered, so all of it is the spool's.
    world.endpoint = None;
    let agent = world.start_agent();
    let (told, heard) = std::sync::mpsc::channel();
    let accepted: Vec<(u64, String)> = std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (told, world) = (told.clone(), &world);
            scope.spawn(move || {
                // Until the agent is gone.
                for n in (client..).step_by(usize::try_from(CLIENTS).unwrap()) {
                    let Some((202, answer)) = world.post("", &uplink(n)) else { return };
                    told.send((n, answer["ids"][0].as_str().unwrap().to_owned())).unwrap();
                }
            });
        }
        drop(told);
        let mut accepted: Vec<_> = heard.iter().take(BEFORE).collect();
        agent.kill();
        accepted.extend(heard.iter());
        accepted
    });
    let mut agent = world.start_agent();
    world.endpoint = Some(Endpoint::start(world.address, None, Arc::clone(&world.arrivals)).unwrap());
    agent.wait_until("nothing waits", |status| integration(status, "factory-api")["backlog"] == 0);
    let keys = world.keys();
    for (n, id) in &accepted {
        assert!(keys.contains(id), "uplink {n} was accepted and is lost");
    }
    // Whoever got no answer asks again; here everybody does, for everything.
    let last = accepted.iter().map(|(n, _)| *n).max().unwrap() + CLIENTS;
    for n in 0..=last {
        let id = world.accepted("", &uplink(n)).remove(0);
        if let Some((_, first)) = accepted.iter().find(|(it, _)| *it == n) {
            assert_eq!(*first, id);
        }
    }
    agent.wait_until("nothing waits", |status| integration(status, "factory-api")["backlog"] == 0);
    let mut numbers: Vec<u64> =
        world.arrivals.all().iter().map(|arrival| arrival.json()["f_cnt"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..=last).collect::<Vec<_>>(), "each once");
    assert!(agent.terminate().success());
}

/// An address that can't be had is said with the next step, and the agent ends.
#[test]
fn a_taken_port_is_named() {
    let world = World::new();
    let taken = std::net::TcpListener::bind(("127.0.0.1", world.source)).unwrap();
    let config = world.folder.path().join("packhorse.toml");
    let folder = world.folder.path().display();
    let text = format!(
        "[spool]\npath = \"{folder}/spool.redb\"\n[control]\nsocket = \"{folder}/control.sock\"\n[source.webhook]\n\
         type = \"http\"\nlisten = \"{}\"\n",
        taken.local_addr().unwrap()
    );
    std::fs::write(&config, text).unwrap();
    let output = run(&config);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("source webhook: can't listen on TCP") && said.contains("ss -tlpn"), "{said}");
}

fn run(config: &Path) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_packhorse"))
        .args(["run", "--config"])
        .arg(config)
        .output()
        .unwrap()
}
