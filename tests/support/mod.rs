//! What the tests that run the real binary share: certificates, the agent as a child process, and its status.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub(crate) mod site;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use packhorse::control::client;
use packhorse::simulator::{Forwarder, Simulator, SimulatorConfig};
use packhorse::uplink::Eui64;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

/// How long anything may take before the test gives up. Nothing is measured against it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A CA made for one test, and a certificate of it for `localhost`.
pub(crate) struct Pki {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pki {
    pub(crate) fn make(folder: &Path) -> Pki {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca_params = CertificateParams::default();
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca_params.distinguished_name.push(rcgen::DnType::CommonName, "test CA");
        let ca_cert = ca_params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(ca_params, ca_key);
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let cert = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        Pki {
            ca: write("ca.pem", ca_cert.pem()),
            cert: write("server.pem", cert.pem()),
            key: write("server.key", key.serialize_pem()),
        }
    }

    pub(crate) fn server_config(&self) -> Arc<rustls::ServerConfig> {
        let chain = CertificateDer::pem_file_iter(&self.cert).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&self.key).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .unwrap();
        Arc::new(config)
    }

    pub(crate) fn client_config(&self) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca).unwrap()).unwrap();
        let config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        Arc::new(config)
    }
}

/// A loopback port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

pub(crate) fn free_udp_port() -> u16 {
    UdpSocket::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// The binary under test. `PACKHORSE_TEST_BINARY` names another one, such as one of another processor behind an emulator
/// (`tests/arm.sh`).
pub(crate) fn packhorse() -> PathBuf {
    std::env::var_os("PACKHORSE_TEST_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_packhorse").into(), PathBuf::from)
}

/// The real binary, running.
pub(crate) struct Agent {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Agent {
    /// Starts `packhorse run` with `config` and waits until its spool is open.
    pub(crate) fn start(folder: &Path, config: &str) -> Agent {
        let mut agent = Agent::launch(folder, config);
        agent.wait_until("its spool is open", |status| status["spool"]["state"] == "ok");
        agent
    }

    /// The same, without waiting.
    pub(crate) fn launch(folder: &Path, config: &str) -> Agent {
        Agent::launch_by(Command::new(packhorse()), folder, config)
    }

    /// The same, by a command that becomes the agent.
    pub(crate) fn launch_by(mut command: Command, folder: &Path, config: &str) -> Agent {
        let file = folder.join("packhorse.toml");
        std::fs::write(&file, config).unwrap();
        let log = folder.join("agent.log");
        let mut log_file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        writeln!(log_file, "--- start").unwrap();
        let child = command
            .args(["run", "--verbose", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file)
            .spawn()
            .unwrap();
        Agent { child, socket: folder.join("control.sock"), log }
    }

    pub(crate) fn try_status(&self) -> Option<Value> {
        client::get(&self.socket, "/status").ok()
    }

    /// Asks for the status until `enough` of it.
    pub(crate) fn wait_until(&mut self, what: &str, enough: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.try_status();
            if let Some(status) = &status
                && enough(status)
            {
                return status.clone();
            }
            if let Some(ended) = self.child.try_wait().unwrap() {
                panic!("the agent ended with {ended} before {what}\n{}", self.log());
            }
            assert!(Instant::now() < until, "gave up waiting until {what}: {status:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn wait_until_committed(&mut self, n: u64) -> Value {
        self.wait_until(&format!("{n} uplinks are committed"), |status| {
            status["committed"].as_u64().unwrap() >= n
        })
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// SIGHUP: read the config again.
    pub(crate) fn hang_up(&self) {
        kill_process(self.pid(), Signal::HUP).unwrap();
    }

    /// Waits for a line of the log.
    pub(crate) fn wait_until_logged(&mut self, text: &str) {
        self.wait_until_logged_times(text, 1);
    }

    pub(crate) fn wait_until_logged_times(&mut self, text: &str, times: usize) {
        let log = self.log.clone();
        self.wait_until(&format!("the log says {text:?}"), |_| {
            std::fs::read_to_string(&log).unwrap_or_default().matches(text).count() >= times
        });
    }

    /// SIGKILL: no goodbye, no flush.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert!(is_killed(status), "the agent had ended by itself, with {status}\n{}", self.log());
    }

    /// Whether it is still there.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(self) -> ExitStatus {
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.end()
    }

    /// How it ends by itself.
    pub(crate) fn end(mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the agent does not end\n{}", self.log());
    }

    /// Resident memory in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn whole_log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of it.
    pub(crate) fn log(&self) -> String {
        let log = self.whole_log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // A test that fails must not leave it running; one that ended it already finds it gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this is how a process ends that got a SIGKILL.
pub(crate) fn is_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}

/// A forwarder of `devices` devices to `port` on loopback. The machine may be busy, so it waits long for its acks.
pub(crate) fn forwarder(port: u16, devices: u16, seed: u64) -> Forwarder {
    let gateway_eui = Eui64([0xaa, 0x55, 0x5a, 0, 0, 0, 1, 1]);
    let simulator = Simulator::new(SimulatorConfig { devices, gateway_eui, seed });
    Forwarder::connect(SocketAddr::from(([127, 0, 0, 1], port)), simulator, Duration::from_secs(20)).unwrap()
}

/// Status entry of an integration.
pub(crate) fn integration<'a>(status: &'a Value, name: &str) -> &'a Value {
    let entries = status["integrations"].as_array().unwrap();
    entries.iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("no {name} in {status}"))
}
