//! Builds the rooms from a config and runs them: start, stop.
//!
//! # Start
//!
//! 1. The sources begin to listen and acknowledge, into the bounded hand-over queue. An unclean spool takes seconds to
//!    open on an SD card, and no forwarder should wait for that.
//! 2. The control socket answers, so that `status` can say that the spool is being opened, or why it can't be.
//! 3. The spool opens. What is not damage (a full disk, a held lock, a missing permission) is tried again for ever.
//! 4. Routes are made, each integration gets its lane and its thread, and the queue begins to flow.
//!
//! # Stop
//!
//! In the direction of the flow, so that nothing is left between two rooms: sources stop listening, the queue runs empty
//! into the spool, the integrations finish what is under way and say goodbye, the spool commits everything and closes.

mod destination;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Problem, SourceKind};
use crate::control::server::{BindError, Server};
use crate::control::status::{Delivering, IntegrationStatus, StatusSource};
use crate::delivery::{LaneStatus, LinkUp, Stop, Stopper, link};
use crate::flow::{Flows, GROUP_KIND, Router};
use crate::ingest::{self, Intake};
use crate::integration::dial::Dial;
use crate::lorawan::accept::Accept;
use crate::lorawan::{Devices, Recognizer};
use crate::metrics::DoorCounters;
use crate::render::Interpreter;
use crate::source::FromSource;
use crate::source::semtech_udp::{self, Listener};
use crate::spool::{AccountId, AccountView, Backend, OpenError, ReadError, RouteId, Settings, Spool};
use destination::Destination;

/// Waits between attempts to open a spool that can't be opened.
const OPEN_AGAIN_FIRST: Duration = Duration::from_secs(1);
const OPEN_AGAIN_LAST: Duration = Duration::from_secs(30);

/// Why the agent can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A source can't listen.
    #[error(transparent)]
    Source(#[from] semtech_udp::BindError),
    /// The control socket can't be made.
    #[error(transparent)]
    Control(#[from] BindError),
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
    /// The address of each source, in the order of the config; interesting where the port was 0.
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

/// The rooms, built but not started.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    settings: Settings,
    clock: Arc<dyn Clock>,
    rooms: Rooms,
    listeners: Vec<Listener>,
    destinations: Vec<Destination>,
}

impl Agent {
    /// Builds every room. Touches no network and no spool.
    ///
    /// # Errors
    /// Everything that any room finds wrong with the config.
    pub fn try_new(config: Config) -> Result<Agent, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut listeners = Vec::new();
        for source in &config.sources {
            match &source.kind {
                SourceKind::SemtechUdp(udp) => match Listener::try_new(&source.name, udp) {
                    Ok(listener) => listeners.push(listener),
                    Err(more) => problems.extend(more),
                },
                SourceKind::Mqtt(_) | SourceKind::Http(_) => problems.push(
                    Problem::error(
                        &source.name.place,
                        format!("source.{}", source.name.value),
                        "only sources of type \"semtech-udp\" are available in this version",
                    )
                    .hint("set type = \"semtech-udp\" or leave the source out"),
                ),
            }
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let dial = Dial::new(Arc::clone(&clock));
        let devices = Devices::try_new(&config.devices).map_err(|more| problems.extend(more)).ok();
        let flows = Flows::try_new(&config).map_err(|more| problems.extend(more)).ok();
        let accept = accept_rules(&config).map_err(|more| problems.extend(more)).ok();
        let (Some(devices), Some(flows), Some(accept)) = (devices.map(Arc::new), flows, accept) else {
            return Err(problems);
        };
        let interpreter = Interpreter::new(&config.gateway.name, Arc::clone(&devices));
        let destinations = destination::build(&config, &flows, &dial, &interpreter);
        match destinations {
            Ok(destinations) if problems.is_empty() => {
                let settings = Settings::from_config(&config.spool);
                let rooms = Rooms { devices, flows, accept };
                Ok(Agent { config, settings, clock, rooms, listeners, destinations })
            }
            Ok(_) => Err(problems),
            Err(more) => Err([problems, more].concat()),
        }
    }

    /// Runs until `stop`. `ready` is called once the sources listen and the spool is open.
    ///
    /// # Errors
    /// Why it can't start. Once started it does not give up.
    pub async fn run(self, mut stop: Stop, ready: impl FnOnce(Ready)) -> Result<(), StartError> {
        let clock = Arc::clone(&self.clock);
        let counters = Arc::new(DoorCounters::default());
        let status = Arc::new(StatusSource {
            gateway: self.config.gateway.name.clone(),
            spool_path: self.settings.path.clone(),
            spool_max_size: self.settings.max_size,
            counters: Arc::clone(&counters),
            clock: Arc::clone(&clock),
            started_ns: clock.boot_ns(),
            opening: Mutex::default(),
            delivering: OnceLock::new(),
        });
        let server = Server::bind(&self.config.control.socket)?;
        let control = tokio::spawn({
            let status = Arc::clone(&status);
            async move { server.serve(status).await }
        });
        let (hand_over, queue) = mpsc::channel(ingest::HAND_OVER_QUEUE);
        let listening = start_listeners(self.listeners, hand_over, &counters, &clock)?;
        let sources = listening.iter().map(semtech_udp::Running::local_addr).collect();

        let opened = tokio::select! {
            opened = open_spool(&self.settings, &clock, &status) => Some(opened),
            () = stop.stopped() => None,
        };
        if let Some(spool) = opened {
            let delivery = Delivery {
                config: &self.config,
                rooms: &self.rooms,
                clock: &clock,
                counters: &counters,
                status: &status,
            };
            let running = delivery.start(&spool, self.destinations, queue).await?;
            log::info!("running as {}; spool {}", self.config.gateway.name, self.settings.path.display());
            ready(Ready { sources });
            stop.stopped().await;
            log::info!("stopping");
            stop_listeners(listening).await;
            running.stop().await;
            in_thread(move || spool.close()).await;
        } else {
            stop_listeners(listening).await;
        }
        control.abort();
        // Waits until the task has let go of the socket, so that its file is gone when we are.
        let _ = control.await;
        Ok(())
    }
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

fn start_listeners(
    listeners: Vec<Listener>,
    hand_over: mpsc::Sender<FromSource>,
    counters: &Arc<DoorCounters>,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<semtech_udp::Running>, StartError> {
    let mut running = Vec::new();
    for listener in listeners {
        running.push(listener.start(hand_over.clone(), Arc::clone(counters), Arc::clone(clock))?);
    }
    Ok(running)
}

/// Each listener notices within a second; all of them at the same time.
async fn stop_listeners(listening: Vec<semtech_udp::Running>) {
    in_thread(move || {
        std::thread::scope(|scope| {
            for listener in listening {
                scope.spawn(move || listener.stop());
            }
        });
    })
    .await;
}

/// Runs blocking work on a thread of its own and waits for it.
async fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, wait) = oneshot::channel();
    let started = std::thread::Builder::new().name("blocking".into()).spawn(move || {
        // Nobody waits any more when the agent was told to stop meanwhile.
        let _ = done.send(work());
    });
    match started {
        Ok(_) => wait.await.ok(),
        Err(error) => {
            log::error!("the system refused a thread: {error}");
            None
        }
    }
}

async fn open_spool(settings: &Settings, clock: &Arc<dyn Clock>, status: &StatusSource) -> Spool {
    let mut wait = OPEN_AGAIN_FIRST;
    loop {
        let (settings, clock) = (settings.clone(), Arc::clone(clock));
        let opened = in_thread(move || Spool::open(settings, &Backend::File, clock)).await;
        let error = match opened {
            Some(Ok(spool)) => return spool,
            Some(Err(error)) => error,
            None => OpenError::Unavailable("no thread to open it on".into()),
        };
        log::error!("spool: {error}; trying again in {} s. Uplinks wait in memory", wait.as_secs());
        status.set_opening(error.to_string());
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(OPEN_AGAIN_LAST);
    }
}

/// What the rooms behind the spool are started with.
struct Delivery<'a> {
    config: &'a Config,
    rooms: &'a Rooms,
    clock: &'a Arc<dyn Clock>,
    counters: &'a Arc<DoorCounters>,
    status: &'a Arc<StatusSource>,
}

/// Kind and name of a lane, and where its status can be seen.
type SeenLane = (&'static str, Arc<str>, watch::Receiver<LaneStatus>);

/// The rooms behind the spool, running.
struct Running {
    ingest: tokio::task::JoinHandle<()>,
    kernel: tokio::task::JoinHandle<()>,
    integrations: Vec<JoinHandle<()>>,
    stopper: Stopper,
}

impl Delivery<'_> {
    async fn start(
        &self,
        spool: &Spool,
        destinations: Vec<Destination>,
        queue: mpsc::Receiver<FromSource>,
    ) -> Result<Running, StartError> {
        for note in spool.notes().iter().filter(|note| note.key == ingest::DOOR_NOTE) {
            self.counters.add_note(&note.value);
        }
        // The spool was opened a moment ago and lives as long as this scope: it is not closed.
        let routes = spool.routes(self.rooms.flows.route_names().to_vec()).await.unwrap_or_default();
        // Likewise; what is no longer in the config is the first to make room.
        let _ = spool.set_present(self.present(spool)).await;
        let link_up = LinkUp::new();
        let (stopper, stop) = Stopper::new();
        let mut integrations = Vec::new();
        let mut lanes = Vec::new();
        for destination in destinations {
            // Without an account nothing was ever routed there, and nothing will be under this config.
            let Some(account) = destination.account(spool) else { continue };
            let (lane, seen) = destination.lane(account, spool, self.clock, &link_up)?;
            lanes.push((destination.kind, Arc::clone(&destination.name), seen));
            integrations.push(destination.client.start(lane, stop.clone())?);
        }
        // Whoever asks for the status twice gets the same answer; it is set once.
        let _ = self
            .status
            .delivering
            .set(Delivering { view: spool.view(), integrations: self.show_integrations(&lanes) });
        let ids: Vec<RouteId> = routes.iter().map(|(route, _)| *route).collect();
        let intake = Intake {
            recognizer: Recognizer::new(
                Arc::clone(&self.rooms.devices),
                spool.notes(),
                self.rooms.accept.clone(),
            ),
            router: Router::new(&self.rooms.flows, ids),
            spool: spool.appender(),
            counters: Arc::clone(self.counters),
        };
        let ingest = tokio::spawn(intake.run(queue));
        let kernel = tokio::spawn(async move {
            if let Err(error) = link::watch_kernel(link_up).await {
                log::info!(
                    "link: the kernel can't be asked for network changes ({error}); back-off alone decides"
                );
            }
        });
        Ok(Running { ingest, kernel, integrations, stopper })
    }

    /// The accounts of the integrations and groups that the config has, switched off or not.
    fn present(&self, spool: &Spool) -> Vec<AccountId> {
        let is_present = |account: &&AccountView| {
            let is_it = |it: &&crate::config::Integration| {
                it.type_name() == &*account.kind && it.name.value == *account.name
            };
            let is_group = |group: &crate::flow::Group| group.flow == *account.name;
            self.config.integrations.iter().find(is_it).is_some()
                || (&*account.kind == GROUP_KIND && self.rooms.flows.groups().iter().any(is_group))
        };
        spool.view().borrow().accounts.iter().filter(is_present).map(|account| account.id).collect()
    }

    /// The integrations of the config, then the failover groups.
    fn show_integrations(&self, lanes: &[SeenLane]) -> Vec<IntegrationStatus> {
        let seen = |kind: &str, name: &str| {
            let found = lanes.iter().find(|lane| lane.0 == kind && *lane.1 == *name);
            found.map(|(_, _, seen)| seen.clone())
        };
        let silent = |status: LaneStatus| watch::channel(status).1;
        let now_us = self.clock.wall_us();
        let integrations = self.config.integrations.iter().map(|integration| {
            let (kind, name) = (integration.type_name(), integration.name.value.clone());
            let lane = seen(kind, &name).unwrap_or_else(|| match integration.enabled {
                true => silent(LaneStatus::starting(now_us)),
                false => silent(LaneStatus::inactive(now_us)),
            });
            IntegrationStatus { name, kind, enabled: integration.enabled, lane }
        });
        let groups = self.rooms.flows.groups().iter().filter_map(|group| {
            let lane = seen(GROUP_KIND, &group.flow)?;
            Some(IntegrationStatus { name: group.flow.clone(), kind: GROUP_KIND, enabled: true, lane })
        });
        integrations.chain(groups).collect()
    }
}

impl Running {
    /// The sources have stopped by now, so the queue ends; then the integrations take their leave.
    async fn stop(self) {
        if self.ingest.await.is_err() {
            log::error!("the ingest task died; uplinks of the last moments may be lost");
        }
        self.kernel.abort();
        self.stopper.stop();
        in_thread(move || {
            for integration in self.integrations {
                if integration.join().is_err() {
                    log::error!("an integration's thread died");
                }
            }
        })
        .await;
    }
}
