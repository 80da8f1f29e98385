//! Life far from anybody: what an outage of weeks does to a log that lies on the flash.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;

use support::{Agent, PATIENCE, forwarder, free_udp_port, integration};

/// Answers nobody: hangs up on each connection, and says so.
fn hangs_up() -> (SocketAddr, mpsc::Receiver<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (say, heard) = mpsc::channel();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            drop(connection);
            if say.send(()).is_err() {
                break;
            }
        }
    });
    (address, heard)
}

/// The first failure of an outage is a line, then the 2nd, 4th, 8th …: a year of attempts is two dozen lines. What is
/// heard meanwhile is none.
#[test]
fn an_outage_does_not_fill_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let udp = free_udp_port();
    let ((http, http_tried), (mqtt, mqtt_tried)) = (hangs_up(), hangs_up());
    let path = folder.path().display();
    let retry = "retry = { strategy = \"fixed\", initial = \"100ms\", max = \"100ms\" }";
    let config = format!(
        "[spool]\npath = \"{path}/spool.redb\"\n[control]\nsocket = \"{path}/control.sock\"\n\
         [source.s]\ntype = \"semtech-udp\"\nlisten = \"127.0.0.1:{udp}\"\n\
         [integration.api]\ntype = \"http\"\nurl = \"http://{http}/\"\n{retry}\n\
         [integration.broker]\ntype = \"mqtt\"\nurl = \"mqtt://{mqtt}\"\n{retry}\n"
    );
    let mut agent = Agent::start(folder.path(), &config);
    forwarder(udp, 8, 1).send_uplinks(200).unwrap();
    agent.wait_until_committed(200);
    for tried in [http_tried, mqtt_tried] {
        for attempt in 0..40 {
            assert!(tried.recv_timeout(PATIENCE).is_ok(), "attempt {attempt}: {}", agent.log());
        }
    }
    let status = agent.wait_until("both are known to be down", |status| {
        ["api", "broker"].iter().all(|name| integration(status, name)["last_error"].is_object())
    });
    let all = std::fs::read_to_string(folder.path().join("agent.log")).unwrap();
    let told = |name: &str| all.lines().filter(|line| line.contains(name) && line.contains(" WARN ")).count();
    for name in ["api", "broker"] {
        assert!((1..=8).contains(&told(name)), "{name} told {} lines: {status:#}\n{all}", told(name));
    }
    assert!(agent.terminate().success());
}
