//! The rooms behind the spool, running: the intake, and a lane with its thread for each destination.
//!
//! # Change
//!
//! A reload brings new rooms (RULES S23). Nothing is lost on the way, because nothing but the spool holds an uplink:
//!
//! 1. The routes of the new flows are made in the spool, durably.
//! 2. What is sent from here on is interpreted by the new devices and functions.
//! 3. Lanes that are gone or other than before are told to stop, all at once: what is under way is answered or taken back.
//! 4. New lanes start where the spool says that they are.
//! 5. The intake recognizes and routes by the new rooms from its next batch on. It goes last: what it routes to a new
//!    integration finds a lane there.
//!
//! A lane whose settings, overrides and routes are as before is not touched; its connection stays.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::control::status::{Delivering, IntegrationStatus, StatusSource};
use crate::delivery::{LaneStatus, LinkUp, Stopper, link};
use crate::flow::{Flows, GROUP_KIND, Group, Router};
use crate::history::History;
use crate::ingest::{self, Intake, server as told};
use crate::integration::Tester;
use crate::lorawan::Recognizer;
use crate::metrics::DoorCounters;
use crate::render::Interpreter;
use crate::sightings::Sightings;
use crate::source::FromSource;
use crate::source::server::FromServer;
use crate::spool::{AccountView, ReadError, RouteId, Spool, View};

use super::destination::{Destination, Identity};
use super::thread::in_thread;
use super::time;
use super::{Rooms, StartError};

/// The queues behind the sources.
pub(super) struct Queues {
    pub(super) heard: mpsc::Receiver<FromSource>,
    pub(super) told: mpsc::Receiver<FromServer>,
}

/// What all rooms share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Arc<DoorCounters>,
    pub(super) sightings: Sightings,
    pub(super) interpreter: Interpreter,
    pub(super) status: Arc<StatusSource>,
}

/// A lane with the thread that drives it.
struct RunningLane {
    kind: &'static str,
    name: Arc<str>,
    identity: Identity,
    /// The routes it was started with: a flow that is new needs another lane.
    routes: Vec<RouteId>,
    history: History,
    tester: Tester,
    seen: watch::Receiver<LaneStatus>,
    stopper: Stopper,
    thread: JoinHandle<()>,
}

/// See the [module](self).
pub(super) struct Running {
    shared: Shared,
    spool: Spool,
    /// To learn when routes got other numbers.
    view: watch::Receiver<Arc<View>>,
    /// As of when the rooms asked for theirs.
    numbering: u64,
    link_up: LinkUp,
    lanes: Vec<RunningLane>,
    intake: watch::Sender<Arc<ingest::Rooms>>,
    ingest: [tokio::task::JoinHandle<()>; 2],
    kernel: tokio::task::JoinHandle<()>,
    time: tokio::task::JoinHandle<()>,
}

/// What a change did, by the names of integrations and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// New, or other than before.
    pub started: Vec<String>,
    /// Gone.
    pub stopped: Vec<String>,
    /// As before.
    pub kept: usize,
    /// Keys that count only after a restart.
    pub after_restart: Vec<String>,
}

impl std::fmt::Display for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |names: &[String]| match names {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        write!(f, "started {}, stopped {}, kept {}", list(&self.started), list(&self.stopped), self.kept)?;
        if !self.after_restart.is_empty() {
            write!(f, "; only after a restart: {}", self.after_restart.join(", "))?;
        }
        Ok(())
    }
}

impl Running {
    /// Starts them.
    pub(super) async fn start(
        shared: Shared,
        spool: Spool,
        config: &Config,
        rooms: &Rooms,
        destinations: Vec<Destination>,
        queues: Queues,
    ) -> Result<Running, StartError> {
        for note in spool.notes().iter().filter(|note| note.key == ingest::DOOR_NOTE) {
            shared.counters.add_note(&note.value);
        }
        let numbering = spool.view().borrow().numbering;
        let router = prepare(&spool, config, &rooms.flows).await;
        let intake_rooms = Arc::new(ingest::Rooms {
            devices: Arc::clone(&rooms.devices),
            router,
            accept: rooms.accept.clone(),
        });
        let recognizer = Recognizer::new(spool.notes());
        let known = known_ids(&spool).await;
        let (intake, intake_seen) = watch::channel(intake_rooms);
        let ingest = [
            tokio::spawn(
                Intake {
                    rooms: intake_seen.clone(),
                    recognizer,
                    spool: spool.appender(),
                    counters: Arc::clone(&shared.counters),
                    sightings: shared.sightings.clone(),
                }
                .run(queues.heard),
            ),
            tokio::spawn(
                told::Server {
                    rooms: intake_seen,
                    spool: spool.appender(),
                    counters: Arc::clone(&shared.counters),
                    sightings: shared.sightings.clone(),
                    known,
                }
                .run(queues.told),
            ),
        ];
        let link_up = LinkUp::new();
        let kernel = tokio::spawn({
            let link_up = link_up.clone();
            async move {
                if let Err(error) = link::watch_kernel(link_up).await {
                    log::info!(
                        "link: the kernel can't be asked for network changes ({error}); back-off alone decides"
                    );
                }
            }
        });
        let time = time::watch(Arc::clone(&shared.clock), spool.appender(), link_up.clone());
        let time = tokio::spawn(time);
        let view = spool.view();
        let mut running = Running {
            shared,
            spool,
            view,
            numbering,
            link_up,
            lanes: Vec::new(),
            intake,
            ingest,
            kernel,
            time,
        };
        for destination in destinations {
            running.start_lane(destination, None)?;
        }
        running.show(config, &rooms.flows);
        Ok(running)
    }

    /// Puts new rooms in the place of the old ones; see the [module](self).
    ///
    /// # Errors
    /// The system has no thread left, or the spool can't be read: some lanes are not running then, and the next change
    /// starts them.
    pub(super) async fn change(
        &mut self,
        config: &Config,
        rooms: &Rooms,
        interpreter: &Interpreter,
        destinations: Vec<Destination>,
    ) -> Result<Changes, StartError> {
        // Under another name of the gateway it is another one.
        self.shared.interpreter = interpreter.clone();
        self.numbering = self.view.borrow().numbering;
        let router = prepare(&self.spool, config, &rooms.flows).await;
        // Asked before any lane is touched: one that is forgotten here would run on beside its successor.
        let as_before = destinations.iter().map(|destination| self.is_as_before(destination));
        let as_before = as_before.collect::<Result<Vec<bool>, ReadError>>()?;
        let mut changes = Changes::default();
        let (mut kept, mut going, mut coming) = (Vec::new(), Vec::new(), Vec::new());
        for (destination, as_before) in destinations.into_iter().zip(as_before) {
            let before = self.lane_of(&destination).map(|at| self.lanes.swap_remove(at));
            match before {
                Some(lane) if as_before => kept.push(lane),
                Some(lane) => {
                    coming.push((destination, Some(lane.history.clone())));
                    going.push(lane);
                }
                None => coming.push((destination, None)),
            }
        }
        let gone = std::mem::take(&mut self.lanes);
        changes.stopped = gone.iter().map(|lane| lane.name.to_string()).collect();
        changes.kept = kept.len();
        self.lanes = kept;
        stop_lanes(gone.into_iter().chain(going).collect()).await;
        for (destination, history) in coming {
            changes.started.push(destination.name.to_string());
            self.start_lane(destination, history)?;
        }
        self.show(config, &rooms.flows);
        let accept = rooms.accept.clone();
        self.intake.send_replace(Arc::new(ingest::Rooms {
            devices: Arc::clone(&rooms.devices),
            router,
            accept,
        }));
        Ok(changes)
    }

    /// Waits until accounts and routes have other numbers than the rooms know.
    pub(super) async fn renumbered(&mut self) {
        let numbering = self.numbering;
        if self.view.wait_for(|view| view.numbering != numbering).await.is_err() {
            // The spool is closed by its owner alone, who is asking.
            std::future::pending::<()>().await;
        }
    }

    fn lane_of(&self, destination: &Destination) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.kind == destination.kind && lane.name == destination.name)
    }

    fn is_as_before(&self, destination: &Destination) -> Result<bool, ReadError> {
        let lane = self.lane_of(destination).and_then(|at| self.lanes.get(at));
        let (Some(lane), Some(account)) = (lane, destination.account(&self.spool)) else { return Ok(false) };
        let routes: Vec<RouteId> =
            self.spool.routes_of(account)?.into_iter().map(|(route, _)| route).collect();
        Ok(lane.identity == destination.identity && lane.routes == routes && !lane.thread.is_finished())
    }

    fn start_lane(
        &mut self,
        mut destination: Destination,
        history: Option<History>,
    ) -> Result<(), StartError> {
        // Without an account nothing was ever routed there, and nothing will be under this config.
        let Some(account) = destination.account(&self.spool) else { return Ok(()) };
        if let Some(history) = history {
            destination.history = history;
        }
        let (lane, seen, routes) =
            destination.lane(account, &self.spool, &self.shared.clock, &self.link_up)?;
        let (stopper, stop) = Stopper::new();
        let Destination { kind, name, client, identity, history, .. } = destination;
        let tester = client.tester();
        let thread = client.start(lane, stop)?;
        self.lanes.push(RunningLane { kind, name, identity, routes, history, tester, seen, stopper, thread });
        Ok(())
    }

    /// The integrations of the config, then the failover groups.
    fn show(&self, config: &Config, flows: &Flows) {
        let seen = |kind: &str, name: &str| {
            let found = self.lanes.iter().find(|lane| lane.kind == kind && *lane.name == *name);
            found.map(|lane| (lane.seen.clone(), lane.history.clone()))
        };
        let silent = |status: LaneStatus| (watch::channel(status).1, History::new(0));
        let tester = |kind: &str, name: &str| {
            let own = self.lanes.iter().find(|lane| lane.kind == kind && *lane.name == *name);
            let of_group = || self.lanes.iter().find_map(|lane| lane.tester.member(name));
            own.map(|lane| &lane.tester).or_else(of_group).cloned()
        };
        let now_us = self.shared.clock.wall_us();
        let integrations = config.integrations.iter().map(|integration| {
            let (kind, name) = (integration.type_name(), integration.name.value.clone());
            let (lane, history) = seen(kind, &name).unwrap_or_else(|| match integration.enabled {
                true => silent(LaneStatus::starting(now_us)),
                false => silent(LaneStatus::inactive(now_us)),
            });
            let tester = tester(kind, &name);
            IntegrationStatus { name, kind, enabled: integration.enabled, lane, history, tester }
        });
        let groups = flows.groups().iter().filter_map(|group| {
            let (lane, history) = seen(GROUP_KIND, &group.flow)?;
            let name = group.flow.clone();
            let tester = tester(GROUP_KIND, &name);
            Some(IntegrationStatus { name, kind: GROUP_KIND, enabled: true, lane, history, tester })
        });
        let integrations = integrations.chain(groups).collect();
        let expected = config.devices.iter().filter(|device| !device.expect_every.is_zero());
        self.shared.status.show(Delivering {
            operator: self.spool.operator(),
            integrations,
            link_up: self.link_up.clone(),
            interpreter: self.shared.interpreter.clone(),
            expected: expected.map(|device| (device.name.value.clone(), device.expect_every)).collect(),
        });
    }

    /// The sources have stopped by now, so the queues end; then the integrations take their leave, and the spool commits
    /// everything and closes.
    pub(super) async fn stop(self) {
        for task in self.ingest {
            if task.await.is_err() {
                log::error!("an ingest task died; uplinks of the last moments may be lost");
            }
        }
        self.kernel.abort();
        self.time.abort();
        stop_lanes(self.lanes).await;
        let spool = self.spool;
        in_thread(move || spool.close()).await;
    }
}

/// Finds or makes the routes of the flows in the spool, and tells it who is in the config: what is not is the first to
/// make room (RULES S11).
async fn prepare(spool: &Spool, config: &Config, flows: &Flows) -> Router {
    // The spool is closed by its owner alone, who is the caller.
    let routes = spool.routes(flows.route_names().to_vec()).await.unwrap_or_default();
    let is_present = |account: &&AccountView| {
        let is_it =
            |it: &config::Integration| it.type_name() == &*account.kind && it.name.value == *account.name;
        let is_group = |group: &Group| &*account.kind == GROUP_KIND && group.flow == *account.name;
        config.integrations.iter().any(is_it) || flows.groups().iter().any(is_group)
    };
    let present =
        spool.view().borrow().accounts.iter().filter(is_present).map(|account| account.id).collect();
    // Likewise.
    let _ = spool.operator().set_present(present).await;
    Router::new(flows, routes.into_iter().map(|(route, _)| route).collect())
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

/// Tells all of them, then waits for each.
async fn stop_lanes(lanes: Vec<RunningLane>) {
    for lane in &lanes {
        lane.stopper.stop();
    }
    in_thread(move || {
        for lane in lanes {
            if lane.thread.join().is_err() {
                log::error!("the thread of {} died", lane.name);
            }
        }
    })
    .await;
}
