//! An agent with one device and an integration for each line of a table.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::Agent;
use crate::support::site::{Site, device, sensor};
use crate::{Authority, Leaf};

/// The value of a secret variable of the device; shows up nowhere but on the wire.
pub(crate) const SECRET_VARIABLE: &str = "v4riable-s3cret";

/// The value of every other secret begins so.
pub(crate) const SECRET: &str = "c0nfig-s3cret";

pub(crate) struct World {
    pub(crate) site: Site,
}

impl World {
    /// `integrations` are tables; files in them lie where [`World::write`] puts them.
    pub(crate) fn new(integrations: &str) -> World {
        let variables =
            "variables = { site = \"north field/7\", topic = \"$SYS\", token = { file = \"variable\" } }";
        let site = Site::new(&format!("{}{integrations}", device(1, variables)));
        site.write("variable", SECRET_VARIABLE);
        World { site }
    }

    /// Starts the agent, which hears one uplink of the device.
    pub(crate) fn start(&self) -> Agent {
        let agent = self.site.start();
        self.hear();
        agent
    }

    /// Number 5, on port 2.
    pub(crate) fn hear(&self) {
        let frame = sensor(1).at(5).uplink(2, b"cold");
        assert_eq!(self.site.forwarder().send_phys(&[frame]).unwrap().acked, 1);
    }

    /// Writes a file into the folder of the config.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        self.site.write(name, text);
        self.site.path().join(name)
    }

    /// Writes a certificate and its key: `NAME.pem` and `NAME.key`.
    pub(crate) fn write_leaf(&self, name: &str, leaf: &Leaf) {
        self.write(&format!("{name}.pem"), &leaf.cert);
        self.write(&format!("{name}.key"), &leaf.key);
    }

    pub(crate) fn write_ca(&self, name: &str, ca: &Authority) {
        self.write(&format!("{name}.pem"), &ca.pem());
    }

    /// What a command says, which must succeed.
    pub(crate) fn said(&self, words: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packhorse"));
        let file = self.site.path().join("packhorse.toml");
        let output = command.args(words).arg("--config").arg(file).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The last entry of an integration's history.
    pub(crate) fn last_entry(&self, integration: &str) -> Option<Value> {
        let said = self.said(&["history", integration, "--json"]);
        said.lines().last().map(|line| serde_json::from_str(line).unwrap())
    }

    /// DESIGN invariant 8.
    pub(crate) fn assert_no_secrets(&self, agent: &Agent) {
        let mut told = agent.whole_log();
        for words in [&["history", "--json"][..], &["history"], &["status", "--json"], &["status"]] {
            told += &self.said(words);
        }
        for secret in [SECRET, SECRET_VARIABLE] {
            let at = told.find(secret);
            assert_eq!(at.map(|at| &told[at.saturating_sub(200)..]), None, "{secret}");
        }
    }
}
