//! A spool with two integrations, and lanes over it. Shared with the tests of MQTT.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use packhorse::clock::ManualClock;
use packhorse::config::{OnFull, OnReject, Order, Retry, Strategy, SuccessCodes};
use packhorse::delivery::outcome::{Failure, Layer, Outcome, Receipt};
use packhorse::delivery::{Lane, LaneSettings, LaneStatus, Lease, LinkUp, Ordering, State};
use packhorse::history::History;
use packhorse::spool::{
    AccountId, AccountView, Backend, Ledger, RouteId, RouteName, Routed, Settings, Spool, View,
};
use packhorse::uplink::{Eui64, Flags, Kind, Moment, Rx, TimeSource, Uplink};
use tokio::sync::watch;
use tokio::time::Instant;

/// Larger than anything a test stores.
pub(crate) const ROOMY: u64 = 64 << 20;

/// To whom a record goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Us,
    Them,
    Both,
}

/// A device and how many bytes it sends.
pub(crate) type Frame = (u8, usize);

pub(crate) struct Bench {
    folder: tempfile::TempDir,
    max_size: u64,
    backend: Backend,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) link_up: LinkUp,
    spool: Option<Spool>,
    routes: Vec<(RouteId, AccountId)>,
    /// Further routes to us, of flows with overrides of their own.
    flows: Vec<RouteId>,
    pub(crate) variant_of: HashMap<RouteId, usize>,
    pub(crate) order: Order,
    pub(crate) replay_rate: u32,
    pub(crate) keep_delivered: Duration,
    /// What our lane notes.
    pub(crate) history: History,
    made: u128,
}

impl Bench {
    pub(crate) async fn new(max_size: u64) -> Bench {
        Bench::with_backend(max_size, Backend::File).await
    }

    pub(crate) async fn with_backend(max_size: u64, backend: Backend) -> Bench {
        let mut bench = Bench {
            folder: tempfile::tempdir().unwrap(),
            max_size,
            backend,
            clock: Arc::new(ManualClock::new()),
            link_up: LinkUp::new(),
            spool: None,
            routes: Vec::new(),
            flows: Vec::new(),
            variant_of: HashMap::new(),
            order: Order::OldestFirst,
            replay_rate: 0,
            keep_delivered: Duration::ZERO,
            history: History::new(100),
            made: 0,
        };
        bench.open().await;
        bench
    }

    pub(crate) async fn open(&mut self) {
        let settings = Settings {
            path: self.file(),
            max_size: self.max_size,
            max_age: Duration::from_secs(86_400),
            commit_window: Duration::from_millis(200),
            keep_delivered: self.keep_delivered,
            on_full: OnFull::DropOldest,
        };
        let spool = Spool::open(settings, &self.backend, self.clock.clone()).unwrap();
        let name = |name: &str| RouteName { flow: String::new(), kind: "http".into(), name: name.into() };
        self.routes = spool.routes(vec![name("us"), name("them")]).await.unwrap();
        self.spool = Some(spool);
    }

    /// Closes the spool, which takes in what the lanes have settled.
    pub(crate) fn close(&mut self) {
        self.spool.take().unwrap().close();
    }

    pub(crate) fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("spool.redb")
    }

    fn spool(&self) -> &Spool {
        self.spool.as_ref().unwrap()
    }

    pub(crate) fn ledger(&self, to: To) -> Ledger {
        let (route, account) = self.routes[usize::from(to == To::Them)];
        let routes = if to == To::Them { vec![route] } else { self.ways() };
        self.spool().ledger(account, routes)
    }

    /// Two flows to us that override alike, and one that overrides otherwise.
    pub(crate) async fn add_flows(&mut self) {
        let name = |flow: &str| RouteName { flow: flow.into(), kind: "http".into(), name: "us".into() };
        let made = self.spool().routes(["raw", "raw-too", "other"].map(name).to_vec()).await.unwrap();
        self.flows = made.into_iter().map(|(route, _)| route).collect();
        self.variant_of = self.flows.iter().copied().zip([1, 1, 2]).collect();
    }

    /// Every route to us.
    pub(crate) fn ways(&self) -> Vec<RouteId> {
        std::iter::once(self.routes[0].0).chain(self.flows.iter().copied()).collect()
    }

    pub(crate) fn lane(&self, ordering: Ordering, retry: Retry) -> (Lane, watch::Receiver<LaneStatus>) {
        self.lane_of(To::Us, ordering, retry)
    }

    pub(crate) fn lane_of(
        &self,
        to: To,
        ordering: Ordering,
        retry: Retry,
    ) -> (Lane, watch::Receiver<LaneStatus>) {
        let settings = LaneSettings {
            name: Arc::from("us"),
            retry,
            ordering,
            seed: 1,
            order: self.order,
            replay_rate: self.replay_rate,
            variant_of: self.variant_of.clone(),
            history: if to == To::Us { self.history.clone() } else { History::new(100) },
        };
        Lane::new(settings, self.ledger(to), self.clock.clone(), self.link_up.clone())
    }

    /// Appends records and waits until they can be seen. Their numbers count all records of the bench from 0.
    pub(crate) async fn append(&mut self, to: To, frames: &[Frame]) {
        let end = self.view().end + frames.len() as u64;
        self.append_unseen(to, frames).await;
        self.wait_for(|view| view.end >= end).await;
    }

    pub(crate) async fn append_unseen(&mut self, to: To, frames: &[Frame]) {
        let routes: Vec<RouteId> = match to {
            To::Us => vec![self.routes[0].0],
            To::Them => vec![self.routes[1].0],
            To::Both => self.routes.iter().map(|(route, _)| *route).collect(),
        };
        self.append_by(&routes, frames).await;
    }

    /// Appends records with these routes.
    pub(crate) async fn append_by(&mut self, routes: &[RouteId], frames: &[Frame]) {
        let routed = frames.iter().map(|(device, len)| {
            self.made += 1;
            Routed { uplink: uplink(self.made - 1, *device, *len), routes: routes.to_vec() }
        });
        let routed = routed.collect();
        self.spool().appender().append(routed, Vec::new()).await.unwrap();
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.spool().view().borrow().clone()
    }

    /// Says that we are paused, or go on.
    pub(crate) async fn pause(&self, paused: bool) {
        self.hold(self.spool().operator().set_paused(self.routes[0].1, paused)).await.unwrap();
    }

    /// Purges us.
    pub(crate) async fn purge(&self) -> u64 {
        self.hold(self.spool().operator().purge(self.routes[0].1, false)).await.unwrap()
    }

    /// Sends us once more what was heard within `since`; how many that are.
    pub(crate) async fn replay_since(&self, since: Duration) -> u64 {
        self.hold(self.spool().operator().replay_since(self.routes[0].1, since, false)).await.unwrap().n
    }

    /// Waits until nothing is left for us, while time passes.
    pub(crate) async fn gone(&self) {
        self.spool().view().wait_for(|view| ours(view).backlog == 0).await.unwrap();
    }

    /// Waits for the spool's writer, which has a thread of its own; a paused clock stands still meanwhile (as long as a
    /// blocking task runs).
    pub(crate) async fn wait_for(&self, mut enough: impl FnMut(&View) -> bool) -> Arc<View> {
        let mut view = self.spool().view();
        self.hold(async { view.wait_for(|view| enough(view)).await.unwrap().clone() }).await
    }

    async fn hold<T>(&self, answer: impl Future<Output = T>) -> T {
        let (done, until_done) = std::sync::mpsc::channel::<()>();
        let no_time_passes = tokio::task::spawn_blocking(move || until_done.recv());
        let answer = answer.await;
        drop(done);
        no_time_passes.await.unwrap().unwrap_err();
        answer
    }

    /// Waits until nothing is left for `us`.
    pub(crate) async fn wait_until_done(&self) -> AccountView {
        let view = self.wait_for(|view| ours(view).backlog == 0).await;
        ours(&view).clone()
    }
}

pub(crate) fn ours(view: &View) -> &AccountView {
    view.accounts.iter().find(|account| &*account.name == "us").unwrap()
}

pub(crate) fn uplink(n: u128, device: u8, len: usize) -> Uplink {
    let at = Moment { boot_id: [7; 16], boot_ns: 3_600_000_000_000, wall_us: 0, source: TimeSource::Ntp };
    Uplink {
        id: uuid::Uuid::from_u128(n),
        source: Arc::from("test"),
        kind: Kind::Other,
        content: vec![0; len],
        dev_eui: Some(Eui64([device; 8])),
        f_cnt: None,
        rx: Rx::default(),
        at,
        flags: Flags::default(),
    }
}

/// The number of the record in the order of appending.
pub(crate) fn number(lease: &Lease) -> usize {
    usize::try_from(lease.uplink.id.as_u128()).unwrap()
}

pub(crate) fn device(lease: &Lease) -> u8 {
    lease.uplink.dev_eui.unwrap().0[0]
}

pub(crate) fn numbers(leases: &[Lease]) -> Vec<usize> {
    leases.iter().map(number).collect()
}

/// Everything that may be sent now.
pub(crate) fn take_all(lane: &mut Lane) -> Vec<Lease> {
    std::iter::from_fn(|| lane.try_next()).collect()
}

pub(crate) fn devices(devices: &[u8]) -> Vec<Frame> {
    devices.iter().map(|device| (*device, 20)).collect()
}

/// Waits of exactly `seconds`.
pub(crate) fn fixed(seconds: u64) -> Retry {
    Retry {
        strategy: Strategy::Fixed,
        initial: Duration::from_secs(seconds),
        max: Duration::from_secs(seconds),
        max_attempts: 0,
        probe: Duration::from_secs(300),
        on_reject: OnReject::DeadLetter,
    }
}

pub(crate) fn delivered() -> Outcome {
    let success = SuccessCodes(vec![200..=299]);
    Outcome::Delivered(Receipt::http(200, &success).unwrap())
}

pub(crate) fn unreachable_now() -> Outcome {
    Outcome::Failed(Failure::link(Layer::Tcp, "no route"))
}

pub(crate) fn asked_to_wait(seconds: u64) -> Outcome {
    let mut failure = Failure::link(Layer::Http, "429");
    failure.blame =
        packhorse::delivery::outcome::Blame::Link { retry_after: Some(Duration::from_secs(seconds)) };
    Outcome::Failed(failure)
}

pub(crate) fn bad_record() -> Outcome {
    Outcome::Failed(Failure::record(Layer::Http, "400"))
}

pub(crate) fn turned_away() -> Outcome {
    Outcome::Failed(Failure::endpoint(Layer::Http, "401"))
}

pub(crate) fn state(seen: &watch::Receiver<LaneStatus>) -> State {
    seen.borrow().state(Instant::now())
}

/// The next lease, and how long the lane let us wait for it on the paused clock.
pub(crate) async fn next_after(lane: &mut Lane) -> (Lease, Duration) {
    let start = Instant::now();
    let lease = lane.next().await;
    (lease, start.elapsed())
}

/// Lets the lane hear what it can hear without waiting, and gives the wait up again.
pub(crate) async fn hear(lane: &mut Lane) {
    tokio::select! {
        biased;
        () = lane.changed() => {}
        () = std::future::ready(()) => {}
    }
}

/// Sends everything to a far end that accepts everything; which records it got, in order.
pub(crate) async fn drain(lane: &mut Lane, mut enough: impl FnMut(&BTreeSet<usize>) -> bool) -> Vec<usize> {
    let (mut got, mut order) = (BTreeSet::new(), Vec::new());
    while !enough(&got) {
        let lease = lane.next().await;
        got.insert(number(&lease));
        order.push(number(&lease));
        lane.settle(lease, delivered());
    }
    order
}
