//! Builds the rooms from a config and runs them: start, stop.
//!
//! # Start
//!
//! 1. The sources begin to listen. A radio source acknowledges at once, into the bounded hand-over queue: an unclean spool
//!    takes seconds to open on an SD card, and no forwarder should wait for that. One of a network server takes nothing yet.
//! 2. The control socket answers, so that `status` can say that the spool is being opened, or why it can't be.
//! 3. The spool opens. What is not damage (a full disk, a held lock, a missing permission) is tried again for ever.
//! 4. Routes are made, each integration gets its lane and its thread, and the queue begins to flow.
//!
//! # Stop
//!
//! In the direction of the flow, so that nothing is left between two rooms: sources stop listening and acknowledge what
//! they have in hand, the queues run empty into the spool, the integrations finish what is under way and say goodbye, the spool commits everything and closes.

use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Problem};
use crate::control::server::{BindError, Server};
use crate::control::status::{Delivering, IntegrationStatus, StatusSource};
use crate::delivery::{Lane, LaneSettings, LaneStatus, LinkUp, Stop, Stopper, link};
use crate::dial::Dial;
use crate::flow::{Flows, Router};
use crate::ingest::{self, server as told};
use crate::integration::Integration;
use crate::metrics::DoorCounters;
use crate::source::server::{FromServer, IN_HAND, Intake};
use crate::source::{self, Doors, FromSource, Source};
use crate::spool::{Backend, OpenError, RouteId, Settings, Spool};

/// Waits between attempts to open a spool that can't be opened.
const OPEN_AGAIN_FIRST: Duration = Duration::from_secs(1);
const OPEN_AGAIN_LAST: Duration = Duration::from_secs(30);

/// Why the agent can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A source can't listen.
    #[error(transparent)]
    Source(#[from] source::StartError),
    /// The control socket can't be made.
    #[error(transparent)]
    Control(#[from] BindError),
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

/// One enabled integration, ready to run.
#[derive(Debug)]
struct Destination {
    client: Integration,
    settings: LaneSettings,
}

/// The rooms, built but not started.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    settings: Settings,
    clock: Arc<dyn Clock>,
    flows: Flows,
    sources: Vec<Source>,
    /// One entry an enabled integration, in the order of the routes.
    destinations: Vec<Destination>,
}

impl Agent {
    /// Builds every room. Touches no network and no spool.
    ///
    /// # Errors
    /// Everything that any room finds wrong with the config.
    pub fn try_new(config: Config) -> Result<Agent, Vec<Problem>> {
        let mut problems = Vec::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let dial = Dial::new(Arc::clone(&clock));
        let mut sources = Vec::new();
        for source in &config.sources {
            match Source::try_new(&config.gateway.name, source, &dial) {
                Ok(source) => sources.push(source),
                Err(more) => problems.extend(more),
            }
        }
        let mut destinations = Vec::new();
        for integration in &config.integrations {
            match Integration::try_new(&config.gateway.name, integration, &dial) {
                Ok(client) if integration.enabled => {
                    let name: Arc<str> = Arc::from(integration.name.value.as_str());
                    let seed = seed(&config.gateway.name, &name);
                    let ordering = client.ordering();
                    let retry = integration.retry.clone();
                    destinations
                        .push(Destination { client, settings: LaneSettings { name, retry, ordering, seed } });
                }
                Ok(_) => {}
                Err(more) => problems.extend(more),
            }
        }
        let flows = Flows::try_new(&config).map_err(|more| problems.extend(more)).ok();
        match flows {
            Some(flows) if problems.is_empty() => {
                let settings = Settings::from_config(&config.spool);
                Ok(Agent { config, settings, clock, flows, sources, destinations })
            }
            _ => Err(problems),
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
        let (heard, heard_queue) = mpsc::channel(ingest::HAND_OVER_QUEUE);
        // Nothing is taken from a network server before there is a spool to put it into.
        let (open, is_open) = watch::channel(false);
        let (told, told_queue) = mpsc::channel(IN_HAND * self.sources.len().max(1));
        let told = Intake::new(told, is_open);
        let doors = Doors { heard, told, counters: Arc::clone(&counters), clock: Arc::clone(&clock) };
        let listening = start_sources(self.sources, doors)?;
        let sources = listening.iter().filter_map(source::Running::local_addr).collect();

        let opened = tokio::select! {
            opened = open_spool(&self.settings, &clock, &status) => Some(opened),
            () = stop.stopped() => None,
        };
        if let Some(spool) = opened {
            let rooms =
                Delivery { config: &self.config, clock: &clock, counters: &counters, status: &status };
            let queues = Queues { heard: heard_queue, told: told_queue };
            let running = rooms.start(&spool, &self.flows, self.destinations, queues).await?;
            open.send_replace(true);
            log::info!("running as {}; spool {}", self.config.gateway.name, self.settings.path.display());
            ready(Ready { sources });
            stop.stopped().await;
            log::info!("stopping");
            stop_sources(listening).await;
            running.stop().await;
            in_thread(move || spool.close()).await;
        } else {
            stop_sources(listening).await;
        }
        control.abort();
        // Waits until the task has let go of the socket, so that its file is gone when we are.
        let _ = control.await;
        Ok(())
    }
}

fn seed(gateway: &str, integration: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (gateway, integration).hash(&mut hasher);
    hasher.finish()
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

/// The ids that network servers gave before this start. Without them a repeat is delivered twice, under the same id.
async fn known_ids(spool: &Spool) -> ingest::ids::KnownIds {
    let (notes, tail) = (spool.notes().to_vec(), spool.tail());
    match in_thread(move || told::known_ids(&notes, &tail)).await {
        Some(Ok(known)) => known,
        Some(Err(error)) => {
            log::warn!("ids of earlier uplinks can't be read: {error}; repeats may be delivered twice");
            ingest::ids::KnownIds::default()
        }
        None => ingest::ids::KnownIds::default(),
    }
}

/// What the rooms behind the spool are started with.
struct Delivery<'a> {
    config: &'a Config,
    clock: &'a Arc<dyn Clock>,
    counters: &'a Arc<DoorCounters>,
    status: &'a Arc<StatusSource>,
}

/// The queues behind the sources.
struct Queues {
    heard: mpsc::Receiver<FromSource>,
    told: mpsc::Receiver<FromServer>,
}

/// The rooms behind the spool, running.
struct Running {
    ingest: [tokio::task::JoinHandle<()>; 2],
    kernel: tokio::task::JoinHandle<()>,
    integrations: Vec<JoinHandle<()>>,
    stopper: Stopper,
}

impl Delivery<'_> {
    async fn start(
        &self,
        spool: &Spool,
        flows: &Flows,
        destinations: Vec<Destination>,
        queues: Queues,
    ) -> Result<Running, StartError> {
        for note in spool.notes().iter().filter(|note| note.key == ingest::DOOR_NOTE) {
            self.counters.add_note(&note.value);
        }
        // The spool was opened a moment ago and lives as long as this scope: it is not closed.
        let routes = spool.routes(flows.route_names().to_vec()).await.unwrap_or_default();
        let link_up = LinkUp::new();
        let (stopper, stop) = Stopper::new();
        let mut integrations = Vec::new();
        let mut lanes = Vec::new();
        for (destination, (route, account)) in destinations.into_iter().zip(&routes) {
            let ledger = spool.ledger(*account, vec![*route]);
            let name = Arc::clone(&destination.settings.name);
            let (lane, seen) =
                Lane::new(destination.settings, ledger, Arc::clone(self.clock), link_up.clone());
            integrations.push(destination.client.start(lane, stop.clone())?);
            lanes.push((name, seen));
        }
        // Whoever asks for the status twice gets the same answer; it is set once.
        let _ = self
            .status
            .delivering
            .set(Delivering { view: spool.view(), integrations: self.show_integrations(&lanes) });
        let ids: Vec<RouteId> = routes.iter().map(|(route, _)| *route).collect();
        let router = Router::new(ids);
        let counters = || Arc::clone(self.counters);
        let server = told::Server {
            router: router.clone(),
            spool: spool.appender(),
            counters: counters(),
            known: known_ids(spool).await,
        };
        let ingest = [
            tokio::spawn(ingest::run(queues.heard, router, spool.appender(), counters())),
            tokio::spawn(server.run(queues.told)),
        ];
        let kernel = tokio::spawn(async move {
            if let Err(error) = link::watch_kernel(link_up).await {
                log::info!(
                    "link: the kernel can't be asked for network changes ({error}); back-off alone decides"
                );
            }
        });
        Ok(Running { ingest, kernel, integrations, stopper })
    }

    fn show_integrations(&self, lanes: &[(Arc<str>, watch::Receiver<LaneStatus>)]) -> Vec<IntegrationStatus> {
        let show = |integration: &crate::config::Integration| {
            let running = lanes.iter().find(|(name, _)| **name == *integration.name.value);
            let inactive = || watch::channel(LaneStatus::inactive(self.clock.wall_us())).1;
            IntegrationStatus {
                name: integration.name.value.clone(),
                kind: integration.type_name(),
                enabled: integration.enabled,
                lane: running.map_or_else(inactive, |(_, seen)| seen.clone()),
            }
        };
        self.config.integrations.iter().map(show).collect()
    }
}

impl Running {
    /// The sources have stopped by now, so the queue ends; then the integrations take their leave.
    async fn stop(self) {
        for task in self.ingest {
            if task.await.is_err() {
                log::error!("an ingest task died; uplinks of the last moments may be lost");
            }
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
