//! A folder with a config, a UDP port and devices with keys: what an agent is started on, and what it hears.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use packhorse::simulator::{Arrival, Arrivals, Endpoint, Forwarder, Sensor};
use serde_json::Value;

use super::{Agent, PATIENCE, forwarder, free_udp_port};

/// Where one agent lives.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    udp: u16,
    config: String,
}

impl Site {
    /// With a config that ends with `more`. `{folder}` in it is the site's folder.
    pub(crate) fn new(more: &str) -> Site {
        Site::with_source("", more)
    }

    /// The same; `source` are further keys of the UDP source.
    pub(crate) fn with_source(source: &str, more: &str) -> Site {
        let mut site =
            Site { folder: tempfile::tempdir().unwrap(), udp: free_udp_port(), config: String::new() };
        site.configure(source, more);
        site
    }

    /// Puts another config in the place of the first; the spool stays.
    pub(crate) fn configure(&mut self, source: &str, more: &str) {
        let (at, udp) = (self.folder.path().display(), self.udp);
        // Keys of the root table come before every other.
        let (root, tables) = more.split_once("[root]\n").map_or(("", more), |(root, tables)| (root, tables));
        let tables = tables.replace("{folder}", &at.to_string());
        self.config = format!(
            "{root}\n[gateway]\nname = \"shed\"\n[spool]\npath = \"{at}/spool.redb\"\ndurability = \"immediate\"\n\
             [control]\nsocket = \"{at}/control.sock\"\n\
             [source.s]\ntype = \"semtech-udp\"\nlisten = \"127.0.0.1:{udp}\"\nrate_limit = 0\n{source}\n{tables}"
        );
    }

    pub(crate) fn start(&self) -> Agent {
        Agent::start(self.path(), &self.config)
    }

    /// Without waiting for its spool.
    pub(crate) fn launch(&self) -> Agent {
        Agent::launch(self.path(), &self.config)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, and the folders that it lies in.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn udp(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.udp))
    }

    /// A forwarder that plays what sensors send.
    pub(crate) fn forwarder(&self) -> Forwarder {
        forwarder(self.udp, 1, 1)
    }
}

/// An HTTP endpoint, and what it has accepted.
pub(crate) fn endpoint() -> (Endpoint, Arc<Arrivals>) {
    let arrivals = Arc::new(Arrivals::default());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    (Endpoint::start(any, None, Arc::clone(&arrivals)).unwrap(), arrivals)
}

/// The table of an HTTP integration.
pub(crate) fn http(name: &str, address: SocketAddr, more: &str) -> String {
    format!("[integration.{name}]\ntype = \"http\"\nurl = \"http://{address}/{name}\"\n{more}\n")
}

/// Sensor number `n`, whose table is [`device`].
pub(crate) fn sensor(n: u16) -> Sensor {
    let [high, low] = n.to_be_bytes();
    Sensor::new([0x26, 0x0b, high, low], key(n, 0xa5), key(n, 0x5a))
}

/// The `[[device]]` of sensor number `n`, which has the name `sensor-n`. `more` are further keys.
pub(crate) fn device(n: u16, more: &str) -> String {
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    format!(
        "[[device]]\nname = \"sensor-{n}\"\ndev_eui = \"0004a30b001c{n:04x}\"\ndev_addr = \"260b{n:04x}\"\n\
         nwk_s_key = \"{}\"\napp_s_key = \"{}\"\n{more}\n",
        hex(&key(n, 0xa5)),
        hex(&key(n, 0x5a)),
    )
}

fn key(n: u16, mask: u8) -> [u8; 16] {
    let [high, low] = n.to_be_bytes();
    let mut key = [mask; 16];
    (key[0], key[1]) = (high, low);
    key
}

/// The uplinks among the arrivals as JSON, once there are `n` of them.
pub(crate) fn uplinks(arrivals: &Arrivals, n: usize, agent: &Agent) -> Vec<Value> {
    assert!(
        arrivals.wait_for_unique(n, PATIENCE),
        "{:?} arrived, not {n}\n{:#?}\n{}",
        arrivals.tally(),
        agent.try_status(),
        agent.log()
    );
    let all: Vec<Value> = arrivals.all().iter().map(Arrival::json).collect();
    assert_eq!(all.len(), n, "{all:#?}");
    all
}

/// What a body says was the payload.
pub(crate) fn payload(uplink: &Value) -> String {
    let bytes = data_encoding::BASE64.decode(uplink["payload"].as_str().unwrap().as_bytes()).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// How many were dropped at the door for `reason`.
pub(crate) fn dropped(status: &Value, reason: &str) -> u64 {
    status["dropped"][reason].as_u64().unwrap_or(0)
}
