//! The commands as a person meets them: exit codes, and words that help.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::process::{Command, Output};

use support::{Agent, forwarder, free_udp_port};

fn packhorse(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_packhorse")).args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// DESIGN section 6: 2 is wrong usage.
#[test]
fn wrong_usage_is_exit_2_and_names_the_word() {
    for (words, part) in [
        (&["statsu"][..], "did you mean `status`"),
        (&["run", "--jsn"], "--jsn"),
        (&["simulate", "--rate", "fast"], "fast"),
        (&["check", "--config"], "--config"),
    ] {
        let output = packhorse(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(text(&output.stderr).contains(part), "{words:?}: {}", text(&output.stderr));
    }
}

#[test]
fn help_fits_a_terminal_and_knows_every_command() {
    let overview = text(&packhorse(&[]).stdout);
    for command in [
        "run", "check", "status", "history", "devices", "watch", "pause", "resume", "kick", "dead", "replay",
        "purge", "decode", "simulate", "demo",
    ] {
        assert!(overview.contains(&format!("  {command} ")), "{command}");
        let output = packhorse(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        let help = text(&output.stdout);
        assert!(help.starts_with(&format!("Usage: packhorse {command}")), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 84), "{help}");
    }
}

#[test]
fn status_without_an_agent_is_exit_2() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("packhorse.toml");
    std::fs::write(&config, "[control]\nsocket = \"none.sock\"\n").unwrap();
    let output = packhorse(&["status", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("none.sock"), "{}", text(&output.stderr));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let config = folder.path().join("packhorse.toml");
    std::fs::write(&config, small_config(folder.path(), address.port())).unwrap();
    let output = packhorse(&["run", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&address.to_string()), "{}", text(&output.stderr));
}

fn small_config(folder: &std::path::Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "[gateway]\nname = \"shed\"\n[spool]\npath = \"{folder}/spool.redb\"\n\
         [control]\nsocket = \"{folder}/control.sock\"\n\
         [source.s]\ntype = \"semtech-udp\"\nlisten = \"127.0.0.1:{port}\"\n\
         [integration.off]\ntype = \"http\"\nenabled = false\nurl = \"http://127.0.0.1:1/\"\n\
         [integration.away]\ntype = \"http\"\nurl = \"http://127.0.0.1:1/\"\nretry = {{ max = \"1s\" }}\n"
    )
}

/// The contract of `status --json` (DESIGN section 6), and the counters across a restart (RULES S24).
#[test]
fn status_tells_what_was_heard_kept_and_why_it_waits() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_udp_port();
    let config = small_config(folder.path(), port);
    let mut agent = Agent::start(folder.path(), &config);
    let sent = forwarder(port, 3, 1).send_uplinks(10).unwrap();
    assert_eq!(sent.acked, 10);
    agent.wait_until_committed(10);
    agent.wait_until("an attempt failed", |status| !status["integrations"][1]["last_error"].is_null());

    let file = folder.path().join("packhorse.toml");
    let output = packhorse(&["status", "--json", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&status["heard"], &status["committed"]), (&10.into(), &10.into()));
    assert_eq!(status["dropped"], serde_json::json!({}));
    let entries = status["integrations"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!((&entries[0]["name"], &entries[0]["state"]), (&"off".into(), &"inactive".into()));
    assert_eq!(entries[0]["backlog"], 0, "inactive: no new routes");
    let away = &entries[1];
    for (key, wanted) in [
        ("name", serde_json::json!("away")),
        ("type", serde_json::json!("http")),
        ("enabled", serde_json::json!(true)),
        ("state", serde_json::json!("degraded")),
        ("backlog", serde_json::json!(10)),
        ("delivered", serde_json::json!(0)),
        ("dead_letters", serde_json::json!(0)),
        ("dropped", serde_json::json!({})),
        ("last_success", serde_json::Value::Null),
    ] {
        assert_eq!(away[key], wanted, "{key} in {away}");
    }
    assert_eq!(away["last_error"]["layer"], "tcp");
    assert!(away["last_error"]["message"].as_str().unwrap().contains("127.0.0.1:1"), "{away}");
    assert!(away["oldest_s"].is_u64() && away["since"].is_string());

    let table = text(&packhorse(&["status", "--config", file.to_str().unwrap()]).stdout);
    assert!(table.contains("heard 10  committed 10") && table.contains("away"), "{table}");

    assert!(agent.terminate().success());
    let mut agent = Agent::start(folder.path(), &config);
    let status = agent.wait_until_committed(10);
    assert_eq!(status["heard"], 10, "the door's counters survive a restart");
    assert_eq!(support::integration(&status, "away")["backlog"], 10);
}

#[test]
fn a_second_agent_on_the_same_socket_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = small_config(folder.path(), free_udp_port());
    let _agent = Agent::start(folder.path(), &config);
    let second = folder.path().join("second.toml");
    std::fs::write(&second, small_config(folder.path(), free_udp_port())).unwrap();
    let output = packhorse(&["run", "--config", second.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("another agent answers"), "{}", text(&output.stderr));
}

/// A config that is taken out keeps its backlog visible (RULES S5).
#[test]
fn a_removed_integration_keeps_its_backlog_visible() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_udp_port();
    let config = small_config(folder.path(), port);
    let mut agent = Agent::start(folder.path(), &config);
    forwarder(port, 3, 1).send_uplinks(5).unwrap();
    agent.wait_until_committed(5);
    assert!(agent.terminate().success());
    let without = config.split("[integration.away]").next().unwrap();
    let mut agent = Agent::start(folder.path(), without);
    let status = agent.wait_until("it is running", |status| status["spool"]["state"] == "ok");
    let removed = support::integration(&status, "away");
    assert_eq!((&removed["state"], &removed["backlog"]), (&"removed".into(), &5.into()));
}
