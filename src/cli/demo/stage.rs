//! The parts of the story: destinations that can be taken away and brought back, and the agent.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::agent::{Agent, StartError};
use crate::config::{Config, Problem};
use crate::control::client;
use crate::delivery::Stopper;
use crate::simulator::{
    Arrivals, Broker, BrokerConfig, Endpoint, Forwarder, Simulator, SimulatorConfig, Subscriber,
};
use crate::uplink::Eui64;

/// How long the agent may take until it listens with its spool open.
const START_TIME: Duration = Duration::from_secs(30);

/// Patience of the simulated forwarder: the machine may be busy, and the demo is not about that.
const ACK_TIME: Duration = Duration::from_secs(2);

/// A destination that remembers what arrived.
pub(super) struct Destination {
    pub(super) name: &'static str,
    pub(super) arrivals: Arc<Arrivals>,
}

/// Everything on the stage.
pub(super) struct Stage {
    folder: tempfile::TempDir,
    http: SocketAddr,
    endpoint: Option<Endpoint>,
    broker_config: Option<BrokerConfig>,
    broker: Option<Broker>,
    _subscriber: Option<Subscriber>,
    pub(super) destinations: Vec<Destination>,
    listen: SocketAddr,
    agent: Option<RunningAgent>,
    pub(super) forwarder: Forwarder,
}

struct RunningAgent {
    stopper: Stopper,
    thread: JoinHandle<Result<(), StartError>>,
}

impl Stage {
    /// Sets everything up but the agent.
    pub(super) fn set(with_broker: bool) -> io::Result<Stage> {
        let folder = tempfile::Builder::new().prefix("packhorse-demo-").tempdir()?;
        let http_arrivals = Arc::new(Arrivals::default());
        let endpoint =
            Endpoint::start(SocketAddr::from(([127, 0, 0, 1], 0)), None, Arc::clone(&http_arrivals))?;
        let http = endpoint.address();
        let mut destinations = vec![Destination { name: "http", arrivals: http_arrivals }];
        let (mut broker_config, mut broker, mut subscriber) = (None, None, None);
        if with_broker {
            let arrivals = Arc::new(Arrivals::default());
            let config = BrokerConfig {
                port: free_port()?,
                folder: folder.path().to_owned(),
                tls: None,
                extra: String::new(),
            };
            broker = Some(Broker::start(&config)?);
            let filter = "packhorse/demo/+/up";
            subscriber =
                Some(Subscriber::start(config.port, None, "audience", filter, Arc::clone(&arrivals))?);
            broker_config = Some(config);
            destinations.push(Destination { name: "mqtt", arrivals });
        }
        let listen = SocketAddr::from(([127, 0, 0, 1], free_udp_port()?));
        let gateway_eui = Eui64([0xaa, 0x55, 0x5a, 0, 0, 0, 1, 1]);
        let simulator = Simulator::new(SimulatorConfig { devices: 16, gateway_eui, seed: fastrand::u64(..) });
        let forwarder = Forwarder::connect(listen, simulator, ACK_TIME)?;
        Ok(Stage {
            folder,
            http,
            endpoint: Some(endpoint),
            broker_config,
            broker,
            _subscriber: subscriber,
            destinations,
            listen,
            agent: None,
            forwarder,
        })
    }

    /// Where the spool lies.
    pub(super) fn spool(&self) -> PathBuf {
        self.folder.path().join("spool.redb")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    fn config_text(&self) -> String {
        let mut text = format!(
            "[gateway]\nname = \"demo\"\n[spool]\npath = {:?}\n[control]\nsocket = {:?}\n\
             [source.forwarder]\ntype = \"semtech-udp\"\nlisten = \"{}\"\n\
             [integration.http]\ntype = \"http\"\nurl = \"http://{}/uplinks\"\nretry = {{ max = \"2s\" }}\n",
            self.spool(),
            self.socket(),
            self.listen,
            self.http
        );
        if let Some(broker) = &self.broker_config {
            text.push_str(&format!(
                "[integration.mqtt]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{}\"\nclient_id = \"demo\"\n\
                 topic = \"packhorse/{{{{gateway.name}}}}/{{{{device.dev_addr}}}}/up\"\nretry = {{ max = \"2s\" }}\n",
                broker.port
            ));
        }
        text
    }

    /// Starts the agent and returns when it listens with its spool open.
    pub(super) fn start_agent(&mut self) -> io::Result<()> {
        let problems = |problems: Vec<Problem>| {
            io::Error::other(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        };
        let loaded =
            Config::parse(&self.config_text(), std::path::Path::new("demo.toml")).map_err(problems)?;
        let agent = Agent::try_new(loaded.config).map_err(problems)?;
        let (stopper, stop) = Stopper::new();
        let (ready, is_ready) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            runtime.block_on(agent.run(stop, crate::agent::Steering::none(), move |_| {
                // Whoever waited has lost patience.
                let _ = ready.send(());
            }))
        };
        let thread = std::thread::Builder::new().name("agent".into()).spawn(run)?;
        if is_ready.recv_timeout(START_TIME).is_err() {
            stopper.stop();
            let why = match thread.join() {
                Ok(Err(error)) => error.to_string(),
                _ => "it does not get ready".to_owned(),
            };
            return Err(io::Error::other(format!("the agent does not start: {why}")));
        }
        self.agent = Some(RunningAgent { stopper, thread });
        Ok(())
    }

    /// Stops the agent as SIGTERM would.
    pub(super) fn stop_agent(&mut self) -> io::Result<()> {
        let Some(agent) = self.agent.take() else { return Ok(()) };
        agent.stopper.stop();
        match agent.thread.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(io::Error::other(error)),
            Err(_) => Err(io::Error::other("the agent panicked")),
        }
    }

    /// The destinations go away: ports closed, connections cut.
    pub(super) fn take_destinations_away(&mut self) {
        self.endpoint = None;
        self.broker = None;
    }

    /// They return, on the same ports.
    pub(super) fn bring_destinations_back(&mut self) -> io::Result<()> {
        let arrivals = self.destinations.first().map(|http| Arc::clone(&http.arrivals)).unwrap_or_default();
        self.endpoint = Some(Endpoint::start(self.http, None, arrivals)?);
        if let Some(config) = &self.broker_config {
            self.broker = Some(Broker::start(config)?);
        }
        Ok(())
    }

    /// What the agent says of itself.
    pub(super) fn status(&self) -> Value {
        client::get(&self.socket(), "/status").unwrap_or(Value::Null)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = self.stop_agent() {
            log::warn!("demo: {error}");
        }
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn free_udp_port() -> io::Result<u16> {
    Ok(std::net::UdpSocket::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
