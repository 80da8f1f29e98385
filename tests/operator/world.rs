//! A gateway with two HTTP integrations: one whose endpoint does what the test wants, one with nobody at the far end.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;

use packhorse::simulator::{Arrivals, Endpoint};
use serde_json::Value;

use crate::support::site::endpoint;
use crate::support::{Agent, PATIENCE, forwarder, free_udp_port, integration};

/// Shows up nowhere but on the wire.
pub(crate) const TOKEN: &str = "swordfish-4711";

/// Published keys, so that a device has a session.
pub(crate) const NWK: &str = "44024241ed4ce9a68c6a8bc055233fd3";
pub(crate) const APP: &str = "ec925802ae430ca77fd3dd73cb2cc588";

const AWAY: &str =
    "[integration.away]\ntype = \"http\"\nurl = \"http://127.0.0.1:1/\"\nretry = { max = \"1s\" }";

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) endpoint: Endpoint,
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) udp: u16,
    /// The integration with nobody at the far end.
    pub(crate) away: &'static str,
    /// Further lines of the config; tables first.
    pub(crate) extra: String,
    /// Further lines of `[spool]`.
    pub(crate) spool: String,
}

impl World {
    pub(crate) fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let (endpoint, arrivals) = endpoint();
        World {
            folder,
            endpoint,
            arrivals,
            udp: free_udp_port(),
            away: AWAY,
            extra: String::new(),
            spool: String::new(),
        }
    }

    pub(crate) fn config(&self) -> String {
        let (folder, port, udp) = (self.folder.path().display(), self.endpoint.address().port(), self.udp);
        let World { extra, spool, away, .. } = self;
        format!(
            r#"
            [gateway]
            name = "barn-roof"
            [spool]
            path = "{folder}/spool.redb"
            {spool}
            [control]
            socket = "{folder}/control.sock"
            [source.concentrator]
            type = "semtech-udp"
            listen = "127.0.0.1:{udp}"
            [integration.api]
            type = "http"
            url = "http://127.0.0.1:{port}/uplinks"
            auth = {{ type = "bearer", token = "{TOKEN}" }}
            retry = {{ initial = "100ms", max = "1s" }}
            {away}
            {extra}
            "#
        )
    }

    /// Makes up a `timedatectl` that says whether the kernel's clock is synchronised. Without one nobody says anything.
    pub(crate) fn clock_is_synchronised(&self, word: &str) {
        let bin = self.folder.path().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let program = bin.join("timedatectl");
        std::fs::write(&program, format!("#!/bin/sh\necho {word}\n")).unwrap();
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("packhorse.toml")
    }

    pub(crate) fn start(&self) -> Agent {
        Agent::start(self.folder.path(), &self.config())
    }

    /// Uplinks of two devices, heard and on the disk.
    pub(crate) fn hear(&self, agent: &mut Agent, n: usize) {
        let before = agent.try_status().unwrap()["committed"].as_u64().unwrap();
        forwarder(self.udp, 2, before).send_uplinks(n).unwrap();
        agent.wait_until_committed(before + u64::try_from(n).unwrap());
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packhorse"));
        command.args(words).arg("--config").arg(self.file()).stdin(Stdio::null());
        command.env("PATH", self.folder.path().join("bin"));
        command
    }

    /// Runs a command: its exit code, what it said, and what it complained of.
    pub(crate) fn run(&self, words: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(words).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    /// Runs a command that must succeed.
    pub(crate) fn done(&self, words: &[&str]) -> String {
        let (code, said, complaint) = self.run(words);
        assert_eq!(code, 0, "{words:?}: {said}{complaint}");
        said
    }

    /// The lines of a command that prints JSON.
    pub(crate) fn json(&self, words: &[&str]) -> Vec<Value> {
        self.done(words).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn wait_for(&self, n: usize, agent: &Agent) {
        assert!(self.arrivals.wait_for_unique(n, PATIENCE), "{:?}\n{}", self.arrivals.tally(), agent.log());
    }
}

/// Waits until `enough` of an integration's status.
pub(crate) fn wait(agent: &mut Agent, name: &str, what: &str, enough: impl Fn(&Value) -> bool) {
    agent.wait_until(what, |status| enough(integration(status, name)));
}

/// A command that runs on.
pub(crate) struct Going {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Going {
    /// Starts it and waits for the first line that it says to standard error.
    pub(crate) fn start(mut command: Command) -> Going {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Going { child, out }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
