//! How fast a backlog drains, and how long an uplink takes when there is none.

use std::path::Path;
use std::time::Instant;

use super::agent::Agent;
use super::rivals::{self, Counter, Sink};
use super::{per_second, uplinks, wait};

const WINDOW: u16 = 16;
const CONNECTIONS: usize = 4;

/// A mosquitto that writes its whole database after every change needs an afternoon for more.
const SAFE_BRIDGE_UPLINKS: usize = 1_000;

pub(crate) fn over_mqtt() {
    head("MQTT");
    let (bare, ours) = (bare_mqtt(), agent_mqtt());
    line("MQTT QoS 1, bare rumqttc loop, no store", bare, bare);
    line("MQTT QoS 1, Packhorse", ours, bare);
    line("MQTT QoS 1, mosquitto bridge", bridge(uplinks(), ""), bare);
    let safe = bridge(SAFE_BRIDGE_UPLINKS, "autosave_interval 1\nautosave_on_changes true\n");
    line("MQTT QoS 1, mosquitto bridge made safe", safe, bare);
}

pub(crate) fn over_http() {
    head("HTTP");
    let (bare, ours) = http();
    line("HTTP, bare ureq loop, no store", bare, bare);
    line("HTTP, Packhorse", ours, bare);
}

fn head(how: &str) {
    println!(
        "{:<42} {:>8}   of the bare loop",
        format!("DRAIN, {how} ({} uplinks of 64 devices)", uplinks()),
        "/s"
    );
}

fn line(what: &str, rate: f64, bare: f64) {
    println!("{what:<42} {rate:>8.0} {:>8.2}", rate / bare);
}

fn bare_mqtt() -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let (_broker, port) = rivals::broker(folder.path(), "");
    let counter = Counter::start(port);
    let publish = || std::thread::spawn(move || rivals::publish(port, uplinks(), WINDOW));
    let (time, publishing) = counter.time(uplinks(), publish);
    publishing.join().unwrap();
    per_second(uplinks(), time)
}

fn mqtt(port: u16) -> String {
    format!(
        "[integration.far]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\nmax_inflight = {WINDOW}\n\
         topic = \"up/{{{{device.dev_addr}}}}\"\n"
    )
}

/// An agent with a backlog for an integration that is paused.
fn filled(folder: &Path, integration: &str, n: usize) -> Agent {
    let mut agent = Agent::start(folder, "max_size = \"1GiB\"", integration);
    agent.order("pause", "far");
    agent.fill(n);
    wait("all of them durable", || agent.status()["spool"]["at_risk"] == 0);
    agent
}

fn agent_mqtt() -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let (_broker, port) = rivals::broker(&folder.path().join("broker"), "");
    let counter = Counter::start(port);
    let agent = filled(folder.path(), &mqtt(port), uplinks());
    per_second(uplinks(), counter.time(uplinks(), || agent.order("resume", "far")).0)
}

/// A mosquitto takes them in while its far end is away, as durably as `extra` makes it.
fn bridge(n: usize, extra: &str) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let far = rivals::free_port();
    let bridge = format!(
        "{extra}connection far\naddress 127.0.0.1:{far}\ntopic up/# out 1\ncleansession false\n\
         restart_timeout 1\nmax_inflight_messages {WINDOW}\nbridge_protocol_version mqttv311\n"
    );
    // The far end knows its subscriber before it goes away, so that nothing passes it by when it is back.
    let at_far = folder.path().join("far");
    let first = rivals::start_broker(&at_far, far, "");
    let counter = Counter::start(far);
    drop(first);
    let (_near, port) = rivals::broker(&folder.path().join("near"), &bridge);
    rivals::publish(port, n, WINDOW);
    let (time, _far) = counter.time(n, || rivals::start_broker(&at_far, far, ""));
    per_second(n, time)
}

fn http() -> (f64, f64) {
    let sink = Sink::start();
    let bare = sink.time(uplinks(), || rivals::post(sink.address, uplinks(), CONNECTIONS));

    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let integration = format!(
        "[integration.far]\ntype = \"http\"\nurl = \"http://{}/up\"\nparallel = {CONNECTIONS}\n",
        sink.address
    );
    let agent = filled(folder.path(), &integration, uplinks());
    let ours = sink.time(uplinks(), || agent.order("resume", "far"));
    (per_second(uplinks(), bare), per_second(uplinks(), ours))
}

pub(crate) fn latency() {
    const N: usize = 500;
    let folder = tempfile::tempdir().unwrap();
    let (_broker, port) = rivals::broker(&folder.path().join("broker"), "");
    let counter = Counter::start(port);
    let mut agent = Agent::start(folder.path(), "", &mqtt(port));
    agent.send(1);
    wait("the first", || counter.count() == 1);
    let mut times = Vec::with_capacity(N);
    for _ in 0..N {
        let before = counter.count();
        let sent = Instant::now();
        agent.send(1);
        while counter.count() == before {
            std::thread::yield_now();
        }
        times.push(sent.elapsed());
    }
    times.sort_unstable();
    let at = |percent: usize| times[(N - 1) * percent / 100].as_secs_f64() * 1_000.0;
    println!("LATENCY, datagram to subscriber, link up: p50 {:.2} ms, p99 {:.2} ms", at(50), at(99));
}
