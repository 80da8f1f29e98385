//! What an operator can see: history, frames, devices, metrics.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::support::{PATIENCE, forwarder, free_port, integration};
use crate::world::{APP, Going, NWK, TOKEN, World, wait};

#[test]
fn history_shows_each_success_and_each_failure_with_its_layer() {
    let mut world = World::new();
    world.extra = "[integration.nowhere]\ntype = \"http\"\nurl = \"http://no-such-host.invalid/x\"\n\
                   retry = { max = \"1s\" }"
        .to_owned();
    let mut agent = world.start();
    world.hear(&mut agent, 3);
    world.wait_for(3, &agent);
    for name in ["away", "nowhere"] {
        wait(&mut agent, name, "an attempt failed", |it| !it["last_error"].is_null());
    }
    wait(&mut agent, "api", "all are settled", |it| it["delivered"] == 3);

    let good = world.json(&["history", "api", "--json"]);
    assert_eq!(good.len(), 3);
    let entry = &good[0];
    assert_eq!((&entry["integration"], &entry["status"]), (&"api".into(), &"delivered".into()));
    assert_eq!((&entry["attempts"], &entry["error"]), (&1.into(), &Value::Null));
    assert_eq!(entry["response"]["code"], "200");
    assert!(entry["request"]["target"].as_str().unwrap().starts_with("POST http://127.0.0.1:"), "{entry}");
    assert!(entry["request"]["body"].as_str().unwrap().contains("\"type\":\"uplink\""), "{entry}");
    assert!(entry["duration_ms"].is_u64() && entry["time"].is_string() && entry["id"].is_string());

    let failed = world.json(&["history", "--failed", "--json", "--since", "1h"]);
    let layer = |name: &str| {
        let entry = failed.iter().find(|entry| entry["integration"] == name).unwrap();
        (entry["status"].as_str().unwrap(), entry["error"]["layer"].as_str().unwrap())
    };
    assert_eq!(layer("away"), ("retrying", "tcp"));
    assert_eq!(layer("nowhere"), ("retrying", "dns"));
    assert!(failed.iter().all(|entry| entry["integration"] != "api"), "nothing failed there");

    world.endpoint.answer_with(503);
    world.hear(&mut agent, 1);
    wait(&mut agent, "api", "it is refused", |it| it["state"] == "degraded");
    let failed = world.json(&["history", "api", "--failed", "--json"]);
    assert_eq!(
        (&failed[0]["response"]["code"], &failed[0]["error"]["layer"]),
        (&"503".into(), &"http".into())
    );

    let device = good[0]["device"].as_str().unwrap();
    let theirs = world.json(&["history", "api", "--device", device, "--json"]);
    assert!(!theirs.is_empty() && theirs.iter().all(|entry| entry["device"] == device));
    let table = world.done(&["history"]);
    assert!(table.contains("delivered") && table.contains("tcp: "), "{table}");
}

/// Invariant 8: the token is on the wire and nowhere else.
#[test]
fn secrets_appear_nowhere() {
    let world = World::new();
    world.endpoint.answer_with(401);
    let mut agent = world.start();
    world.hear(&mut agent, 2);
    wait(&mut agent, "api", "it is blocked", |it| it["state"] == "blocked");
    world.endpoint.answer_with(422);
    world.done(&["kick"]);
    wait(&mut agent, "api", "it is refused", |it| it["dead_letters"] != 0);
    for words in [
        &["history", "--json"][..],
        &["history"],
        &["status", "--json"],
        &["dead", "api", "--json"],
        &["devices", "--json"],
    ] {
        let said = world.done(words);
        assert!(!said.contains(TOKEN) && !said.is_empty(), "{words:?}: {said}");
    }
    assert!(!agent.log().contains(TOKEN));
}

#[test]
fn frames_are_seen_as_they_are_heard() {
    let world = World::new();
    let mut agent = world.start();
    let mut json = Going::start(world.command(&["watch", "--json"]));
    let mut table = Going::start(world.command(&["watch"]));
    assert!(table.line().starts_with("TIME "));
    world.hear(&mut agent, 2);
    for _ in 0..2 {
        let seen: Value = serde_json::from_str(&json.line()).unwrap();
        assert_eq!((&seen["type"], &seen["fate"]), (&"uplink".into(), &"accepted".into()));
        assert_eq!((&seen["net_id"], &seen["network"]), (&"000001".into(), &"private".into()));
        assert!(seen["rssi"].is_number() && seen["f_cnt"].is_u64() && seen["id"].is_string(), "{seen}");
        let line = table.line();
        assert!(line.contains(seen["dev_addr"].as_str().unwrap()) && line.contains("accepted"), "{line}");
    }
    let devices = world.json(&["devices", "--json"]);
    assert_eq!(devices.len(), 2);
    assert!(devices.iter().all(|device| device["heard"] == 1 && device["silent_s"].is_u64()));
    drop((json, table));
    // Their places are free again.
    for _ in 0..8 {
        drop(Going::start(world.command(&["watch", "--json"])));
    }
}

/// A watcher must not take a command's connection away.
#[test]
fn watchers_leave_room_for_commands() {
    let world = World::new();
    let _agent = world.start();
    let _watching: Vec<Going> = (0..4).map(|_| Going::start(world.command(&["watch", "--json"]))).collect();
    let (code, _, complaint) = world.run(&["watch"]);
    assert_eq!(code, 1, "{complaint}");
    assert!(complaint.contains("end one of them"), "{complaint}");
    world.done(&["status"]);
}

#[test]
fn a_configured_device_stands_in_devices_before_it_was_heard() {
    let mut world = World::new();
    world.extra = format!(
        "[[device]]\nname = \"silo-7\"\ndev_eui = \"0004a30b001c0530\"\ndev_addr = \"49be7df1\"\n\
         nwk_s_key = \"{NWK}\"\napp_s_key = \"{APP}\"\nexpect_every = \"1h\""
    );
    let _agent = world.start();
    let devices = world.json(&["devices", "--json"]);
    assert_eq!((&devices[0]["device"], &devices[0]["overdue"]), (&"silo-7".into(), &false.into()));
    assert_eq!((&devices[0]["last_seen"], &devices[0]["heard"]), (&Value::Null, &0.into()));
    assert!(world.done(&["devices"]).contains("never"));
}

/// Value by name and labels.
fn metrics(text: &str) -> HashMap<String, f64> {
    let mut typed = HashMap::new();
    let mut values = HashMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(matches!(kind, "counter" | "gauge"), "{line}");
            assert!(typed.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is typed twice");
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            assert!(typed.contains_key(name), "{name} has no type");
            assert!(values.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{series} twice");
        }
    }
    values
}

fn http(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn metrics_are_on_tcp_where_the_config_says_so_and_nothing_else_is() {
    let mut world = World::new();
    let port = free_port();
    world.extra = format!("[metrics]\nlisten = \"127.0.0.1:{port}\"");
    std::fs::write(world.file(), world.config()).unwrap();
    assert!(!world.done(&["check"]).contains("metrics"));
    let mut agent = world.start();
    world.hear(&mut agent, 6);
    world.wait_for(6, &agent);
    wait(&mut agent, "api", "all are settled", |it| it["delivered"] == 6);

    let answer = http(port, &format!("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/plain; version=0.0.4"), "{head}");
    let values = metrics(body);
    let status = agent.try_status().unwrap();
    for (series, wanted) in [
        ("packhorse_heard_total", 6.0),
        ("packhorse_committed_total", 6.0),
        ("packhorse_dropped_total{reason=\"crc-bad\"}", 0.0),
        ("packhorse_delivered_total{integration=\"api\",type=\"http\"}", 6.0),
        ("packhorse_backlog{integration=\"away\",type=\"http\"}", 6.0),
        ("packhorse_integration_state{integration=\"api\",type=\"http\",state=\"active\"}", 1.0),
        ("packhorse_integration_state{integration=\"api\",type=\"http\",state=\"down\"}", 0.0),
        ("packhorse_spool_ok", 1.0),
        ("packhorse_spool_records", status["spool"]["records"].as_f64().unwrap()),
    ] {
        assert_eq!(values.get(series), Some(&wanted), "{series} in {body}");
    }
    assert!(values.contains_key("packhorse_oldest_seconds{integration=\"away\",type=\"http\"}"));
    assert_eq!(integration(&status, "away")["backlog"], 6);

    let healthz = http(port, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(healthz.starts_with("HTTP/1.1 200 ") && healthz.ends_with("ok\n"), "{healthz}");
    for (request, code) in [
        ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", "421"),
        ("GET /metrics HTTP/1.1\r\n\r\n", "421"),
        ("GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        ("POST /pause?integration=api HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let answer = http(port, request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{request:?}: {answer}");
    }
    forwarder(world.udp, 1, 9).send_uplinks(1).unwrap();
}
