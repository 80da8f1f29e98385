//! A gateway whose agent may be killed at any time, and the far ends, which may be away.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use packhorse::simulator::{Arrivals, Broker, BrokerConfig, Endpoint, Subscriber};
use serde_json::Value;

use crate::seen::{FrameIds, Known, Seen};
use crate::sent::{Clients, Radio};
use crate::support::{Agent, PATIENCE, free_port, integration, packhorse};

pub(crate) const HTTP_PARALLEL: usize = 4;
pub(crate) const MQTT_WINDOW: usize = 16;
/// Settlements that a kill may undo: 256 that no round has forced to the disk (RULES S30), and those that come in while one
/// with as many is being forced, for which as many again are allowed.
pub(crate) const SETTLEMENTS: usize = 2 * 256;
/// Devices behind the HTTP source; each has one reading under way.
pub(crate) const CLIENTS: u32 = 4;

/// The integrations.
pub(crate) const API: &str = "api";
pub(crate) const BROKER: &str = "broker";

pub(crate) struct World {
    folder: tempfile::TempDir,
    source: SocketAddr,
    radio_port: u16,
    api_at: SocketAddr,
    api: Option<Endpoint>,
    broker_config: BrokerConfig,
    broker: Option<Broker>,
    _subscriber: Subscriber,
    /// Further keys of `[spool]`.
    pub(crate) spool: String,
    pub(crate) clients: Clients,
    pub(crate) radio: Radio,
    pub(crate) at_api: Seen,
    pub(crate) at_broker: Seen,
    frame_ids: FrameIds,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let folder = tempfile::tempdir().unwrap();
        let [source, radio, api_at, broker] = lasting_ports();
        let (source, api_at) = (loopback(source), loopback(api_at));
        let (api_arrivals, broker_arrivals) = (Arc::<Arrivals>::default(), Arc::<Arrivals>::default());
        let broker_config =
            BrokerConfig { port: broker, folder: folder.path().into(), tls: None, extra: String::new() };
        let running = Broker::start(&broker_config).unwrap();
        let arrivals = Arc::clone(&broker_arrivals);
        let subscriber = Subscriber::start(broker, None, "audience", "up/#", arrivals).unwrap();
        World {
            source,
            radio_port: radio,
            api_at,
            api: Some(Endpoint::start(api_at, None, Arc::clone(&api_arrivals)).unwrap()),
            broker_config,
            broker: Some(running),
            _subscriber: subscriber,
            spool: String::new(),
            clients: Clients::start(source, CLIENTS),
            radio: Radio::new(loopback(radio), seed),
            at_api: Seen::new(API, api_arrivals),
            at_broker: Seen::new(BROKER, broker_arrivals),
            frame_ids: FrameIds::default(),
            folder,
        }
    }

    fn config(&self) -> String {
        let World { folder, source, radio_port, api_at, broker_config, spool, .. } = self;
        let (folder, broker) = (folder.path().display(), broker_config.port);
        let retry = "retry = { initial = \"10ms\", max = \"100ms\" }";
        format!(
            r#"
            [gateway]
            name = "shed"
            [spool]
            path = "{folder}/spool.redb"
            {spool}
            [control]
            socket = "{folder}/control.sock"
            [source.posts]
            type = "http"
            listen = "{source}"
            [source.radio]
            type = "semtech-udp"
            listen = "127.0.0.1:{radio_port}"
            rate_limit = 0
            [integration.{API}]
            type = "http"
            url = "http://{api_at}/"
            parallel = {HTTP_PARALLEL}
            {retry}
            [integration.{BROKER}]
            type = "mqtt"
            url = "mqtt://127.0.0.1:{broker}"
            topic = "up/{{{{id}}}}"
            max_inflight = {MQTT_WINDOW}
            {retry}
            "#
        )
    }

    pub(crate) fn launch(&self) -> Agent {
        self.launch_by(Command::new(packhorse()))
    }

    /// By a command that becomes the agent.
    pub(crate) fn launch_by(&self, command: Command) -> Agent {
        Agent::launch_by(command, self.folder.path(), &self.config())
    }

    /// Its spool is open.
    pub(crate) fn start(&self) -> Agent {
        let mut agent = self.launch();
        agent.wait_until("its spool is open", is_open);
        agent
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn api(&self) -> Option<&Endpoint> {
        self.api.as_ref()
    }

    pub(crate) fn set_api(&mut self, is_there: bool) {
        if is_there != self.api.is_some() {
            let start = || Endpoint::start(self.api_at, None, Arc::clone(self.at_api.arrivals())).unwrap();
            self.api = is_there.then(start);
        }
    }

    pub(crate) fn has_api(&self) -> bool {
        self.api.is_some()
    }

    pub(crate) fn has_broker(&self) -> bool {
        self.broker.is_some()
    }

    pub(crate) fn set_broker(&mut self, is_there: bool) {
        if is_there != self.broker.is_some() {
            self.broker = is_there.then(|| Broker::start(&self.broker_config).unwrap());
        }
    }

    /// Looks at what has arrived; returns the duplicates of each.
    pub(crate) fn look(&mut self) -> [usize; 2] {
        let World { clients, radio, frame_ids, .. } = self;
        [&mut self.at_api, &mut self.at_broker].map(|seen| seen.look(clients, radio, frame_ids))
    }

    /// An agent that nobody kills gets everybody's last, and delivers all there is.
    pub(crate) fn drain(&mut self) -> (Agent, Value) {
        self.set_api(true);
        self.set_broker(true);
        let mut agent = self.start();
        self.clients.finish();
        let status = agent.wait_until("nothing waits", |status| {
            [API, BROKER].iter().all(|name| integration(status, name)["backlog"] == 0)
        });
        (agent, status)
    }

    /// Waits until both far ends have what was promised: all that was accepted, and of each life of the agent at least as
    /// many frames as were committed in it.
    pub(crate) fn wait_for_promised(&mut self) {
        self.look_until(|world| world.missing().is_empty(), |world| format!("lost: {:#?}", world.missing()));
    }

    /// Looks at what arrives until there is `enough`: what is settled may still be on its way through the broker.
    pub(crate) fn look_until(
        &mut self,
        enough: impl Fn(&World) -> bool,
        complaint: impl Fn(&World) -> String,
    ) {
        let until = Instant::now() + PATIENCE;
        loop {
            self.look();
            if enough(self) {
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            let arrived = self.at_broker.arrivals().wait_until(left, |log| !log.is_empty());
            assert!(arrived, "{}", complaint(self));
        }
    }

    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (name, seen) in [(API, &self.at_api), (BROKER, &self.at_broker)] {
            let accepted = self.clients.accepted().into_iter().map(Known::Reading);
            missing.extend(accepted.filter(|it| !seen.has(it)).map(|it| format!("{name}: {it:?}")));
        }
        let [api, broker] = [&self.at_api, &self.at_broker].map(Seen::frames);
        for (life, committed) in &self.radio.lives {
            let arrived = life.clone().filter(|place| api.contains(place) && broker.contains(place)).count();
            if (arrived as u64) < *committed {
                missing.push(format!(
                    "of frames {life:?} {committed} were committed, {arrived} arrived at both"
                ));
            }
        }
        missing
    }
}

pub(crate) fn is_open(status: &Value) -> bool {
    status["spool"]["state"] == "ok"
}

/// Nothing ended in any other way than by being delivered, and the file was never damaged.
pub(crate) fn assert_nothing_else_happened(status: &Value) {
    for name in [API, BROKER] {
        let entry = integration(status, name);
        let (dead, dropped) = (&entry["dead_letters"], &entry["dropped"]);
        assert!(*dead == 0 && dropped.as_object().unwrap().is_empty(), "{entry}");
    }
    let spool = &status["spool"];
    assert_eq!((spool["set_aside"].as_array().unwrap().len(), &spool["losses"]), (0, &0.into()), "{spool}");
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Ports that stay free while who listens there is dead: below those that the system gives to outgoing connections, of
/// which there are many meanwhile.
fn lasting_ports() -> [u16; 4] {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first_given = range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0);
    let mut ports = [0; 4];
    for at in 0..ports.len() {
        let is_free = |port: &u16| {
            let at = (Ipv4Addr::LOCALHOST, *port);
            !ports.contains(port) && TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
        };
        let lasting = (10_000 < first_given)
            .then(|| std::iter::repeat_with(|| fastrand::u16(10_000..first_given)).find(is_free));
        ports[at] = lasting.flatten().unwrap_or_else(free_port);
    }
    ports
}
