//! Builds the rooms from a config and runs them: start, change, stop.
//!
//! # Start
//!
//! 1. The sources begin to listen. A radio source acknowledges at once, into the bounded hand-over queue: an unclean spool
//!    takes seconds to open on an SD card, and no forwarder should wait for that. One of a network server takes nothing yet.
//! 2. The control socket answers, so that `status` can say that the spool is being opened.
//! 3. The spool opens. What keeps its file from being opened and is not damage (a held lock, a missing permission) is tried
//!    again for ever, behind a store in memory. When the file comes, routes get the numbers that they have there, which
//!    is a change like any other.
//! 4. Routes are made, each integration gets its lane and its thread, and the queue begins to flow.
//!
//! # Change
//!
//! A running agent is handed another one, built of another config, and takes its rooms over (RULES S23): devices,
//! functions, flows, integrations and what sources accept. The spool, the control socket and the sources stay; what they
//! would need a restart for is named. See [`running`].
//!
//! # Stop
//!
//! In the direction of the flow, so that nothing is left between two rooms: sources stop listening and acknowledge what
//! they have in hand, the queues run empty into the spool, the integrations finish what is under way and say goodbye, the spool commits everything and closes.

mod destination;
mod running;
mod silence;
mod thread;
mod time;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, Problem, SourceKind};
use crate::control::api::Api;
use crate::control::listener::{self, Listener};
use crate::control::orders::Asked;
use crate::control::server::{BindError, Server};
use crate::control::status::StatusSource;
use crate::delivery::Stop;
use crate::dial::Dial;
use crate::flow::Flows;
use crate::ingest;
use crate::integration::{Integration, Tester};
use crate::lorawan::Devices;
use crate::lorawan::accept::Accept;
use crate::metrics::DoorCounters;
use crate::render::function::Functions;
use crate::render::{Interpreter, Snapshot};
use crate::sightings::Sightings;
use crate::source::server::{IN_HAND, Intake as ServerIntake};
use crate::source::{self, Doors, Source};
use crate::spool::{Backend, OpenError, ReadError, Settings, Spool};

use destination::Destination;
pub use running::Changes;
use running::{Queues, Running, Shared};
use thread::in_thread;

/// Why the agent can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A source can't listen.
    #[error(transparent)]
    Source(#[from] source::StartError),
    /// The control socket can't be made.
    #[error(transparent)]
    Control(#[from] BindError),
    /// The listener for monitoring can't be made.
    #[error(transparent)]
    Metrics(#[from] listener::BindError),
    /// Not even a spool in memory could be made.
    #[error(transparent)]
    NoSpool(#[from] OpenError),
    /// The spool was opened and can't be read.
    #[error(transparent)]
    Spool(#[from] ReadError),
    /// No thread, no timer.
    #[error("the system refused a thread or timer: {0}")]
    System(#[from] std::io::Error),
}

/// What is known once the agent listens.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    /// The address of each source that listens, in the order of the config; interesting where the port was 0.
    pub sources: Vec<std::net::SocketAddr>,
}

/// What an uplink passes between the door and the spool.
#[derive(Debug)]
struct Rooms {
    devices: Arc<Devices>,
    flows: Flows,
    /// Each source's rules.
    accept: HashMap<Arc<str>, Accept>,
}

/// What agents that follow each other share.
#[derive(Clone, Debug)]
pub struct Basis {
    clock: Arc<dyn Clock>,
    dial: Dial,
    /// Gives the integrations that run the devices and functions of now.
    interpreter: Option<Interpreter>,
}

impl Default for Basis {
    fn default() -> Self {
        Basis::new()
    }
}

impl Basis {
    /// For the first agent of a process.
    pub fn new() -> Basis {
        Basis::on(Arc::new(SystemClock::new()))
    }

    /// The same on another clock than the machine's.
    pub fn on(clock: Arc<dyn Clock>) -> Basis {
        Basis { dial: Dial::new(Arc::clone(&clock)), clock, interpreter: None }
    }
}

/// The rooms, built but not started.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    settings: Settings,
    clock: Arc<dyn Clock>,
    rooms: Rooms,
    sources: Vec<Source>,
    destinations: Vec<Destination>,
    functions: Functions,
    interpreter: Interpreter,
    dial: Dial,
}

/// Another agent for a running one to become, and where it says what came of it.
#[derive(Debug)]
pub struct Change {
    /// Built on the [`Basis`] of the running one.
    pub agent: Agent,
    /// Gets what changed, or why not all of it could.
    pub reply: oneshot::Sender<Result<Changes, String>>,
}

/// Who changes a running agent.
#[derive(Debug)]
pub struct Steering {
    /// What to become.
    pub changes: mpsc::Receiver<Change>,
    /// Where the control socket passes such orders on.
    pub orders: mpsc::Sender<Asked>,
}

impl Steering {
    /// Nobody: the agent stays what it is.
    pub fn none() -> Steering {
        Steering { changes: mpsc::channel(1).1, orders: mpsc::channel(1).0 }
    }
}

impl Agent {
    /// Builds every room. Touches no network and no spool.
    ///
    /// # Errors
    /// Everything that any room finds wrong with the config.
    pub fn try_new(config: Config) -> Result<Agent, Vec<Problem>> {
        Agent::try_new_on(&Basis::new(), config)
    }

    /// Builds every room, to follow the agent that `basis` is of.
    ///
    /// # Errors
    /// Everything that any room finds wrong with the config.
    pub fn try_new_on(basis: &Basis, config: Config) -> Result<Agent, Vec<Problem>> {
        let mut problems = Vec::new();
        let (clock, dial) = (Arc::clone(&basis.clock), basis.dial.clone());
        let mut sources = Vec::new();
        for source in &config.sources {
            match Source::try_new(&config.gateway.name, source, &dial) {
                Ok(source) => sources.push(source),
                Err(more) => problems.extend(more),
            }
        }
        let devices = Devices::try_new(&config.devices).map_err(|more| problems.extend(more)).ok();
        let flows = Flows::try_new(&config).map_err(|more| problems.extend(more)).ok();
        let functions = Functions::try_new(&config.functions).map_err(|more| problems.extend(more)).ok();
        let accept = accept_rules(&config).map_err(|more| problems.extend(more)).ok();
        let (Some(devices), Some(flows), Some(accept), Some(functions)) =
            (devices.map(Arc::new), flows, accept, functions)
        else {
            return Err(problems);
        };
        // Under another name every integration is another one.
        let interpreter = basis.interpreter.clone().filter(|now| now.gateway() == config.gateway.name);
        let interpreter = interpreter.unwrap_or_else(|| {
            Interpreter::new(snapshot(&config, Arc::clone(&devices), functions.clone(), Arc::clone(&clock)))
        });
        let destinations = destination::build(&config, &flows, &dial, &interpreter);
        match destinations {
            Ok(destinations) if problems.is_empty() => {
                let settings = Settings::from_config(&config.spool);
                let rooms = Rooms { devices, flows, accept };
                Ok(Agent {
                    config,
                    settings,
                    clock,
                    rooms,
                    sources,
                    destinations,
                    functions,
                    interpreter,
                    dial,
                })
            }
            Ok(_) => Err(problems),
            Err(more) => Err([problems, more].concat()),
        }
    }

    /// What the agent after this one is to be built on.
    pub fn basis(&self) -> Basis {
        Basis {
            clock: Arc::clone(&self.clock),
            dial: self.dial.clone(),
            interpreter: Some(self.interpreter.clone()),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let devices = Arc::clone(&self.rooms.devices);
        snapshot(&self.config, devices, self.functions.clone(), Arc::clone(&self.clock))
    }

    /// Makes attempts for `test`, by the name of an integration, switched off ones included, or of a failover group.
    pub fn tester(&self, name: &str) -> Option<Tester> {
        let own = self.destinations.iter().find(|it| *it.name == *name).map(|it| it.client.tester());
        let of_config = || {
            let integration = self.config.integrations.iter().find(|it| it.name.value == name)?;
            let plan = self.rooms.flows.plan(name);
            let built = Integration::try_new(integration, &self.dial, &self.interpreter, &plan.variants);
            // It was built before, so there is nothing wrong with it.
            built.ok().map(|client| client.tester())
        };
        own.or_else(of_config)
    }

    /// The names of the integrations.
    pub fn integrations(&self) -> Vec<&str> {
        self.config.integrations.iter().map(|integration| integration.name.value.as_str()).collect()
    }

    /// The configured devices.
    pub fn devices(&self) -> &Devices {
        &self.rooms.devices
    }

    /// What can be run, but should be known.
    pub fn warnings(&self) -> &[Problem] {
        self.functions.warnings()
    }

    /// Runs until `stop`, and becomes what `steering` brings. `ready` is called once the sources listen and the spool is
    /// open.
    ///
    /// # Errors
    /// Why it can't start. Once started it does not give up.
    pub async fn run(
        mut self,
        mut stop: Stop,
        steering: Steering,
        ready: impl FnOnce(Ready),
    ) -> Result<(), StartError> {
        let Steering { mut changes, orders } = steering;
        let clock = Arc::clone(&self.clock);
        let counters = Arc::new(DoorCounters::default());
        let sightings = Sightings::new();
        let status = Arc::new(StatusSource {
            gateway: self.config.gateway.name.clone(),
            spool_path: self.settings.path.clone(),
            spool_max_size: self.settings.max_size,
            spool_commit_window: self.settings.commit_window,
            counters: Arc::clone(&counters),
            taps: self.sources.iter().flat_map(Source::taps).cloned().collect(),
            sightings: sightings.clone(),
            clock: Arc::clone(&clock),
            started_ns: clock.boot_ns(),
            delivering: Mutex::default(),
        });
        let mut control = start_control(&self.config, &status, orders).await?;
        let (heard, heard_queue) = mpsc::channel(ingest::HAND_OVER_QUEUE);
        // Nothing is taken from a network server before there is a spool to put it into.
        let (open, is_open) = watch::channel(false);
        let (told, told_queue) = mpsc::channel(IN_HAND * self.sources.len().max(1));
        let told = ServerIntake::new(told, is_open);
        let doors = Doors { heard, told, counters: Arc::clone(&counters), clock: Arc::clone(&clock) };
        let listening = start_sources(std::mem::take(&mut self.sources), doors)?;
        let sources = listening.iter().filter_map(source::Running::local_addr).collect();

        let opened = tokio::select! {
            opened = open_spool(&self.settings, &clock) => Some(opened?),
            () = stop.stopped() => None,
        };
        if let Some(spool) = opened {
            let interpreter = self.interpreter.clone();
            let shared = Shared { clock, counters, sightings, interpreter, status };
            let queues = Queues { heard: heard_queue, told: told_queue };
            let destinations = std::mem::take(&mut self.destinations);
            let mut running =
                Running::start(shared, spool, &self.config, &self.rooms, destinations, queues).await?;
            open.send_replace(true);
            log::info!("running as {}; spool {}", self.config.gateway.name, self.settings.path.display());
            ready(Ready { sources });
            loop {
                tokio::select! {
                    () = stop.stopped() => break,
                    Some(Change { agent, reply }) = changes.recv() => {
                        let changed = self.become_other(agent, &mut running).await;
                        // Whoever asked may have gone; the log has it, too.
                        let _ = reply.send(changed);
                    }
                    () = running.renumbered() => self.begin_again(&mut running).await,
                }
            }
            log::info!("stopping");
            stop_sources(listening).await;
            running.stop().await;
        } else {
            stop_sources(listening).await;
        }
        // Waits until each task has let go of its socket, so that its file is gone when we are.
        control.shutdown().await;
        Ok(())
    }

    /// The spool's file came, and routes have other numbers there: all rooms behind the spool ask for them again.
    async fn begin_again(&mut self, running: &mut Running) {
        let changed = match Agent::try_new_on(&self.basis(), self.config.clone()) {
            Ok(same) => self.become_other(same, running).await.map(drop),
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        };
        if let Err(error) = changed {
            log::error!("what runs could not be moved to the spool's file, and waits for a restart: {error}");
        }
    }

    async fn become_other(&mut self, mut other: Agent, running: &mut Running) -> Result<Changes, String> {
        let after_restart = needs_restart(&self.config, &other.config);
        other.interpreter.set(other.snapshot());
        let destinations = std::mem::take(&mut other.destinations);
        let changed = running.change(&other.config, &other.rooms, &other.interpreter, destinations).await;
        // What waits for a restart is still what runs.
        other.config.spool = self.config.spool.clone();
        other.config.control = self.config.control.clone();
        other.config.metrics = self.config.metrics.clone();
        other.config.sources = with_accept(&self.config.sources, &other.config.sources);
        other.settings = self.settings.clone();
        *self = other;
        let mut changes = changed.map_err(|error| error.to_string())?;
        changes.after_restart = after_restart;
        log::info!("the config was changed: {changes}");
        Ok(changes)
    }
}

fn snapshot(config: &Config, devices: Arc<Devices>, functions: Functions, clock: Arc<dyn Clock>) -> Snapshot {
    Snapshot::new(&config.gateway.name, devices, functions, &config.functions, clock)
}

/// Keys whose new values count only after a restart (RULES S23).
fn needs_restart(before: &Config, after: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    if before.spool != after.spool {
        keys.push("spool".to_owned());
    }
    if before.control != after.control {
        keys.push("control".to_owned());
    }
    if before.metrics != after.metrics {
        keys.push("metrics".to_owned());
    }
    let is_as_before = |source: &config::Source| {
        let old = before.sources.iter().find(|old| old.name == source.name);
        old.is_some_and(|old| with_accept_of(old, source) == *source)
    };
    let changed = after.sources.iter().filter(|source| !is_as_before(source));
    let gone = before.sources.iter().filter(|old| !after.sources.iter().any(|new| new.name == old.name));
    keys.extend(changed.chain(gone).map(|source| format!("source.{}", source.name.value)));
    keys
}

/// `old`, but for what can be changed while it runs.
fn with_accept_of(old: &config::Source, new: &config::Source) -> config::Source {
    let mut same = old.clone();
    if let (SourceKind::SemtechUdp(same), SourceKind::SemtechUdp(new)) = (&mut same.kind, &new.kind) {
        same.accept = new.accept.clone();
    }
    same
}

fn with_accept(old: &[config::Source], new: &[config::Source]) -> Vec<config::Source> {
    let newer = |old: &config::Source| new.iter().find(|new| new.name == old.name);
    old.iter().map(|old| newer(old).map_or_else(|| old.clone(), |new| with_accept_of(old, new))).collect()
}

/// Everything that answers questions about the agent, and the look at who is silent.
async fn start_control(
    config: &Config,
    status: &Arc<StatusSource>,
    orders: mpsc::Sender<Asked>,
) -> Result<JoinSet<()>, StartError> {
    let api = Api::new(Arc::clone(status), orders);
    let mut tasks = JoinSet::new();
    if let Some(listen) = &config.metrics.listen {
        tasks.spawn(Listener::bind(listen.value).await?.serve(api.clone()));
    }
    let server = Server::bind(&config.control.socket)?;
    tasks.spawn(async move { server.serve(api).await });
    tasks.spawn(silence::watch(Arc::clone(status)));
    Ok(tasks)
}

fn accept_rules(config: &Config) -> Result<HashMap<Arc<str>, Accept>, Vec<Problem>> {
    let (mut rules, mut problems) = (HashMap::new(), Vec::new());
    for source in &config.sources {
        let SourceKind::SemtechUdp(udp) = &source.kind else { continue };
        match Accept::try_new(&udp.accept, &format!("source.{}.accept", source.name.value)) {
            Ok(accept) => _ = rules.insert(Arc::from(source.name.value.as_str()), accept),
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok(rules) } else { Err(problems) }
}

fn start_sources(sources: Vec<Source>, doors: Doors) -> Result<Vec<source::Running>, StartError> {
    let mut running = Vec::new();
    for source in sources {
        running.push(source.start(doors.clone())?);
    }
    Ok(running)
}

/// Each is stopped by being dropped, which waits for it; all of them at the same time.
async fn stop_sources(listening: Vec<source::Running>) {
    in_thread(move || {
        std::thread::scope(|scope| {
            for source in listening {
                scope.spawn(move || drop(source));
            }
        });
    })
    .await;
}

/// Opens it, or one in memory until it can be opened (RULES S3).
async fn open_spool(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Spool, StartError> {
    let (settings, clock) = (settings.clone(), Arc::clone(clock));
    let opened = in_thread(move || Spool::open_or_go_without(settings, &Backend::File, clock)).await;
    match opened {
        Some(opened) => Ok(opened?),
        None => Err(std::io::Error::from(std::io::ErrorKind::OutOfMemory).into()),
    }
}
