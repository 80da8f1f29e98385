//! The agent under measurement, and what feeds it.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use packhorse::control::client;
use packhorse::simulator::{MAX_PER_DATAGRAM, Simulator, SimulatorConfig};
use packhorse::uplink::Eui64;
use serde_json::Value;

/// The devices that uplinks come from.
const DEVICES: u16 = 64;

/// Uplinks that may be under way to the spool: less than the door's queue holds, so that it drops none.
const IN_HAND: u64 = 2_048;

pub(crate) struct Agent {
    child: Child,
    folder: PathBuf,
    config: PathBuf,
    udp: SocketAddr,
    feed: UdpSocket,
    simulator: Simulator,
}

fn program() -> PathBuf {
    std::env::var_os("PACKHORSE_BENCH_BINARY").unwrap_or(env!("CARGO_BIN_EXE_packhorse").into()).into()
}

impl Agent {
    /// Starts one in `folder`. `spool` are keys of `[spool]`, `more` the sections of integrations and other sources.
    pub(crate) fn start(folder: &Path, spool: &str, more: &str) -> Agent {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let at = folder.display();
        let text = format!(
            "[gateway]\nname = \"bench\"\n[spool]\npath = \"{at}/spool.redb\"\n{spool}\n[control]\n\
             socket = \"{at}/control.sock\"\n[source.radio]\ntype = \"semtech-udp\"\nlisten = \"{udp}\"\n\
             rate_limit = 0\n{more}"
        );
        let config = folder.join("packhorse.toml");
        std::fs::write(&config, text).unwrap();
        let feed = UdpSocket::bind("127.0.0.1:0").unwrap();
        feed.connect(udp).unwrap();
        feed.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let simulator =
            Simulator::new(SimulatorConfig { devices: DEVICES, gateway_eui: Eui64([0xaa; 8]), seed: 1 });
        let child = spawn(&config, folder);
        let agent = Agent { child, folder: folder.to_owned(), config, udp, feed, simulator };
        agent.wait_until_open();
        agent
    }

    fn wait_until_open(&self) {
        super::wait("an open spool", || {
            self.try_status().is_some_and(|status| status["spool"]["state"] == "ok")
        });
    }

    pub(crate) fn try_status(&self) -> Option<Value> {
        client::get(&self.folder.join("control.sock"), "/status").ok()
    }

    pub(crate) fn status(&self) -> Value {
        self.try_status().unwrap()
    }

    /// What waits for the one integration.
    pub(crate) fn backlog(&self) -> u64 {
        self.status()["integrations"][0]["backlog"].as_u64().unwrap()
    }

    /// Uplinks that the spool has taken in since this agent was started.
    fn taken(&self) -> u64 {
        let status = self.status();
        let lost = status["dropped"].as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>();
        assert_eq!(lost, 0, "{status}");
        let wear = &status["spool"]["flash"]["in_all"];
        wear["uplinks"].as_u64().unwrap()
    }

    /// Sends one datagram with `n` uplinks.
    pub(crate) fn send(&mut self, n: usize) {
        let push = self.simulator.datagram(n);
        self.feed.send(&push.bytes).unwrap();
        let mut ack = [0; 4];
        assert_eq!(self.feed.recv(&mut ack).unwrap(), 4, "PUSH_ACK");
    }

    /// Sends `n` uplinks as fast as the spool takes them, and waits until it has them.
    pub(crate) fn fill(&mut self, n: usize) -> Duration {
        let started = Instant::now();
        let mut left = n;
        let (mut taken, base) = (0, self.taken());
        let mut sent = 0;
        while left > 0 {
            if sent >= taken + IN_HAND {
                super::wait("the spool to keep up", || {
                    taken = self.taken() - base;
                    sent < taken + IN_HAND / 2
                });
            }
            let some = left.min(MAX_PER_DATAGRAM);
            self.send(some);
            sent += some as u64;
            left -= some;
        }
        super::wait("the last uplinks", || self.taken() - base >= sent);
        started.elapsed()
    }

    /// Runs a command of the program about the integration.
    pub(crate) fn order(&self, verb: &str, name: &str) {
        let done = Command::new(program()).args([verb, name, "--config"]).arg(&self.config).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    /// Resident memory in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Processor time so far, of all threads.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = [11, 12].iter().map(|n| fields[*n].parse::<u64>().unwrap()).sum::<u64>();
        Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
    }

    /// Kills it without a warning and starts it again: how long until the first acknowledgement, and until the spool is open.
    pub(crate) fn kill_and_start(&mut self) -> (Duration, Duration) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let started = Instant::now();
        self.child = spawn(&self.config, &self.folder);
        self.feed.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let mut ack = [0; 4];
        let ping = self.simulator.pull_data();
        super::wait("the first acknowledgement", || {
            let down = UdpSocket::bind("127.0.0.1:0").unwrap();
            down.connect(self.udp).unwrap();
            down.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
            down.send(&ping).is_ok() && down.recv(&mut ack).is_ok()
        });
        let acknowledged = started.elapsed();
        self.wait_until_open();
        self.feed.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        (acknowledged, started.elapsed())
    }

    pub(crate) fn spool_file(&self) -> PathBuf {
        self.folder.join("spool.redb")
    }
}

fn spawn(config: &Path, folder: &Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("agent.log")).unwrap();
    Command::new(program())
        .args(["run", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
