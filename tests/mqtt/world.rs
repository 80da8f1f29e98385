//! An MQTT integration over a spool of its own.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use packhorse::clock::Clock;
use packhorse::config::Config;
use packhorse::delivery::{LaneStatus, Ordering, State, Stopper};
use packhorse::dial::Dial;
use packhorse::flow::Variant;
use packhorse::integration::{Group, Integration};
use packhorse::render::Interpreter;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::bench::{Bench, Frame, ROOMY, To};

/// Long enough that only a broken agent runs into it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const WINDOW: usize = 8;

/// The key for each version of the protocol.
pub(crate) const VERSIONS: [&str; 2] = ["version = \"3.1.1\"\n", "version = \"5\"\n"];
pub(crate) const V5: &str = VERSIONS[1];

/// What is sent for a record: its number, which is its id, and two characters for each byte of its frame.
const BODY: &str = r#"{"id":"{{id}}","frame":"{{phy_payload_hex}}"}"#;

/// The bytes of [`BODY`] without the frame.
pub(crate) const BODY_OVERHEAD: usize = 56;

pub(crate) struct World {
    pub(crate) bench: Bench,
    pub(crate) seen: watch::Receiver<LaneStatus>,
    stopper: Stopper,
    running: Running,
}

enum Running {
    Thread(JoinHandle<()>),
    Task(tokio::task::JoinHandle<()>),
}

impl World {
    /// Runs on a thread of its own, as in the agent.
    pub(crate) async fn start(port: u16, keys: &str) -> World {
        World::with_bench(Bench::new(ROOMY).await, port, keys)
    }

    pub(crate) fn with_bench(bench: Bench, port: u16, keys: &str) -> World {
        World::with_url(bench, &format!("mqtt://127.0.0.1:{port}"), keys)
    }

    pub(crate) fn with_url(bench: Bench, url: &str, keys: &str) -> World {
        let (integration, lane, seen) = make(&bench, url, keys);
        let (stopper, stop) = Stopper::new();
        let running = Running::Thread(integration.start(lane, stop).unwrap());
        World { bench, seen, stopper, running }
    }

    /// Runs as a task of the test's runtime, whose clock is paused, with a backlog.
    pub(crate) async fn start_here(port: u16, keys: &str, backlog: &[Frame]) -> World {
        let mut bench = Bench::new(ROOMY).await;
        bench.append(To::Us, backlog).await;
        let (integration, lane, seen) = make(&bench, &format!("mqtt://127.0.0.1:{port}"), keys);
        let Integration::Mqtt(mqtt) = integration else { panic!() };
        let (stopper, mut stop) = Stopper::new();
        let mut lane = lane;
        let running = Running::Task(tokio::spawn(async move { mqtt.run(&mut lane, &mut stop).await }));
        World { bench, seen, stopper, running }
    }

    /// A failover group of brokers on these ports, as a task of the test's runtime.
    pub(crate) async fn start_group(ports: &[u16], backlog: &[Frame]) -> World {
        let mut bench = Bench::new(ROOMY).await;
        bench.append(To::Us, backlog).await;
        let url = |port: &u16| format!("mqtt://127.0.0.1:{port}");
        let members = ports.iter().map(|port| (Arc::from(port.to_string()), make(&bench, &url(port), "").0));
        let group = Group::new(members.collect()).unwrap();
        let (_, mut lane, seen) = make(&bench, &url(&ports[0]), "");
        let (stopper, mut stop) = Stopper::new();
        let running = Running::Task(tokio::spawn(async move { group.run(&mut lane, &mut stop).await }));
        World { bench, seen, stopper, running }
    }

    /// The port of the member that is used.
    pub(crate) fn via(&self) -> u16 {
        self.seen.borrow().via.as_ref().unwrap().parse().unwrap()
    }

    pub(crate) async fn wait_for(&mut self, what: &str, mut enough: impl FnMut(&LaneStatus) -> bool) {
        let wait = self.seen.wait_for(|status| enough(status));
        let reached = tokio::time::timeout(PATIENCE, wait).await.is_ok_and(|status| status.is_ok());
        assert!(reached, "gave up waiting until {what}: {:?}", self.seen.borrow());
    }

    pub(crate) async fn wait_for_state(&mut self, state: State) {
        self.wait_for(state.as_str(), |status| status.state(Instant::now()) == state).await;
    }

    /// Asks the integration to stop and waits until it has.
    pub(crate) async fn stop(self) -> Bench {
        self.stopper.stop();
        match self.running {
            Running::Thread(thread) => {
                tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
            }
            Running::Task(task) => task.await.unwrap(),
        }
        self.bench
    }
}

fn make(
    bench: &Bench,
    url: &str,
    keys: &str,
) -> (Integration, packhorse::delivery::Lane, watch::Receiver<LaneStatus>) {
    let text = format!(
        "[gateway]\nname = \"roof\"\n[integration.us]\ntype = \"mqtt\"\nurl = \"{url}\"\n\
         topic = \"up/{{{{gateway.name}}}}\"\nbody = '{BODY}'\nmax_inflight = {WINDOW}\nretry.initial = \"50ms\"\nretry.max = \"50ms\"\n{keys}"
    );
    let config = Config::parse(&text, Path::new("/nowhere/packhorse.toml")).unwrap().config;
    let clock: Arc<dyn Clock> = bench.clock.clone();
    let integration = &config.integrations[0];
    let client = {
        let interpreter = Interpreter::plain(&config.gateway.name);
        Integration::try_new(integration, &Dial::new(clock), &interpreter, &[Variant::default()]).unwrap()
    };
    let (lane, seen) = bench.lane(Ordering::Stream, integration.retry.clone());
    (client, lane, seen)
}

/// The record that has this id.
pub(crate) fn number(id: &str) -> usize {
    usize::try_from(uuid::Uuid::parse_str(id).unwrap().as_u128()).unwrap()
}
