//! Batches over HTTP (RULES S16), on a real spool and against a real socket whose answers the test decides.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../lane/bench.rs"]
mod bench;
mod endpoint;

use std::path::Path;
use std::thread::JoinHandle;

use packhorse::clock::{Clock, SystemClock};
use packhorse::config::{Config, Format};
use packhorse::delivery::{LaneStatus, State, Stopper};
use packhorse::dial::Dial;
use packhorse::flow::Variant;
use packhorse::integration::Integration;
use packhorse::render::Interpreter;
use tokio::sync::watch;
use tokio::time::Instant;

use bench::{Bench, Frame, ROOMY, To, devices, ours};
use endpoint::{Endpoint, Reply, Seen};

/// What is sent for a record: its number, which is its id, its device, and two characters for each byte of its frame.
const BODY: &str = r#"{"id":"{{id}}","device":"{{device.dev_eui}}","frame":"{{phy_payload_hex}}"}"#;

struct World {
    bench: Bench,
    seen: watch::Receiver<LaneStatus>,
    stopper: Stopper,
    thread: JoinHandle<()>,
}

impl World {
    fn start(bench: Bench, port: u16, keys: &str, variants: &[Variant]) -> World {
        let text = format!(
            "[gateway]\nname = \"roof\"\n[integration.us]\ntype = \"http\"\nurl = \"http://127.0.0.1:{port}/up\"\n\
             retry.initial = \"50ms\"\nretry.max = \"50ms\"\n{keys}"
        );
        let config = Config::parse(&text, Path::new("/nowhere/packhorse.toml")).unwrap().config;
        let clock: std::sync::Arc<dyn Clock> = std::sync::Arc::new(SystemClock::new());
        let integration = &config.integrations[0];
        let interpreter = Interpreter::plain(&config.gateway.name);
        let client = Integration::try_new(integration, &Dial::new(clock), &interpreter, variants).unwrap();
        let (lane, seen) = bench.lane(client.ordering(), integration.retry.clone());
        let (stopper, stop) = Stopper::new();
        let thread = client.start(lane, stop).unwrap();
        World { bench, seen, stopper, thread }
    }

    /// With a backlog that is there before the integration is.
    async fn with_backlog(endpoint: &Endpoint, keys: &str, backlog: &[Frame]) -> World {
        let mut bench = Bench::new(ROOMY).await;
        bench.append(To::Us, backlog).await;
        World::start(bench, endpoint.port, &format!("body = '{BODY}'\n{keys}"), &[Variant::default()])
    }

    async fn wait_for_state(&mut self, state: State) {
        self.seen.wait_for(|status| status.state(Instant::now()) == state).await.unwrap();
    }

    async fn stop(self) -> Bench {
        self.stopper.stop();
        tokio::task::spawn_blocking(move || self.thread.join().unwrap()).await.unwrap();
        self.bench
    }
}

/// The records of the requests that were accepted, in the order in which they were.
fn accepted(seen: &[Seen]) -> Vec<usize> {
    seen.iter().filter(|it| it.status == 200).flat_map(|it| it.records.clone()).collect()
}

/// A backlog goes out in the order of the log, in requests as large as they may be, one at a time.
#[tokio::test]
async fn a_backlog_goes_out_in_batches_and_in_order() {
    for (format, content_type) in [("array", "application/json"), ("ndjson", "application/x-ndjson")] {
        let endpoint = Endpoint::start(|_| Reply::Status(200)).await;
        let keys = format!("batch = 16\nbatch_format = \"{format}\"\n");
        let world = World::with_backlog(&endpoint, &keys, &devices(&[1, 1, 2, 3, 1].repeat(20))).await;
        let account = world.bench.wait_until_done().await;
        assert_eq!((account.delivered, account.dead_letters), (100, 0));
        let seen = endpoint.seen();
        assert_eq!(accepted(&seen), (0..100).collect::<Vec<_>>());
        assert_eq!(seen.iter().map(|it| it.records.len()).collect::<Vec<_>>(), [16, 16, 16, 16, 16, 16, 4]);
        assert!(seen.iter().all(|it| it.content_type == content_type && it.attempt == 1), "{seen:?}");
        assert_eq!(endpoint.most_at_once(), 1);
        let mut keys: Vec<_> = seen.iter().map(|it| it.key.clone()).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), seen.len());
        world.stop().await;
    }
}

/// Whatever is no word about a record: the same members again, under the same key, one attempt later.
#[tokio::test]
async fn the_same_members_go_out_again_under_the_same_key() {
    let endpoint = Endpoint::start(|n| match n {
        0 => Reply::Status(503),
        1 => Reply::Cut,
        2 => Reply::Status(429),
        _ => Reply::Status(200),
    })
    .await;
    let mut world = World::with_backlog(&endpoint, "batch = 8\n", &devices(&[1, 2].repeat(10))).await;
    assert_eq!(world.bench.wait_until_done().await.delivered, 20);
    let seen = endpoint.seen();
    for (n, it) in seen.iter().take(4).enumerate() {
        assert_eq!((it.records.clone(), it.attempt), ((0..8).collect(), n + 1));
        assert_eq!(it.key, seen[0].key);
    }
    assert_eq!(accepted(&seen), (0..20).collect::<Vec<_>>());
    world.wait_for_state(State::Active).await;
    world.stop().await;
}

/// An endpoint that refuses us keeps its backlog; the probe is the batch that it refused.
#[tokio::test]
async fn a_refusing_endpoint_is_probed_with_the_same_batch() {
    let endpoint = Endpoint::start(|n| Reply::Status(if n == 0 { 401 } else { 200 })).await;
    let mut world = World::with_backlog(&endpoint, "batch = 8\n", &devices(&[1; 10])).await;
    world.wait_for_state(State::Blocked).await;
    assert_eq!(ours(&world.bench.view()).backlog, 10);
    world.bench.link_up.signal();
    assert_eq!(world.bench.wait_until_done().await.delivered, 10);
    let seen = endpoint.seen();
    assert_eq!((&seen[0].records, &seen[0].key), (&seen[1].records, &seen[1].key));
    world.stop().await;
}

/// 400, 413, 422 do not say which: halves, until the one is found. It alone is a dead letter, and the order stays.
#[tokio::test]
async fn a_refused_batch_is_halved_until_the_culprit_is_found() {
    for status in [400, 413, 422] {
        let culprits = [5, 11];
        let endpoint = Endpoint::start_with(move |_, records| {
            let bad = records.iter().any(|record| culprits.contains(record));
            Reply::Status(if bad { status } else { 200 })
        })
        .await;
        let mut world =
            World::with_backlog(&endpoint, "batch = 16\n", &devices(&[1, 2, 3, 4].repeat(8))).await;
        let account = world.bench.wait_until_done().await;
        assert_eq!((account.delivered, account.dead_letters), (30, 2), "{status}");
        let seen = endpoint.seen();
        let expected: Vec<_> = (0..32).filter(|record| !culprits.contains(record)).collect();
        assert_eq!(accepted(&seen), expected, "{status}");
        let sizes: Vec<_> = seen.iter().take(5).map(|it| it.records.len()).collect();
        assert_eq!(sizes, [16, 8, 4, 4, 2], "{status}");
        assert_eq!(endpoint.most_at_once(), 1);
        world.wait_for_state(State::Active).await;
        world.stop().await;
    }
}

/// An endpoint that takes no more than four at once is not asked again for more.
#[tokio::test]
async fn a_batch_that_is_too_large_is_remembered() {
    let endpoint =
        Endpoint::start_with(|_, records| Reply::Status(if records.len() > 4 { 413 } else { 200 }));
    let endpoint = endpoint.await;
    let world = World::with_backlog(&endpoint, "batch = 16\n", &devices(&[1; 64])).await;
    assert_eq!(world.bench.wait_until_done().await.delivered, 64);
    let seen = endpoint.seen();
    assert_eq!(seen.iter().filter(|it| it.status == 413).count(), 3, "16, 8, 8");
    assert_eq!(accepted(&seen), (0..64).collect::<Vec<_>>());
    world.stop().await;
}

/// No request has more than 64 KiB, but for a single uplink that has more by itself.
#[tokio::test]
async fn bodies_are_bounded() {
    let endpoint = Endpoint::start(|_| Reply::Status(200)).await;
    let sizes = [10_000, 10_000, 10_000, 10_000, 10_000, 40_000, 10, 10, 20_000, 20_000];
    let frames: Vec<Frame> = sizes.iter().map(|len| (1, *len)).collect();
    let world = World::with_backlog(&endpoint, "batch = 16\n", &frames).await;
    assert_eq!(world.bench.wait_until_done().await.delivered, 10);
    let seen = endpoint.seen();
    assert_eq!(accepted(&seen), (0..10).collect::<Vec<_>>());
    for it in &seen {
        assert!(it.bytes <= 64 * 1024 || it.records == [5], "{} bytes for {:?}", it.bytes, it.records);
    }
    assert!(seen.len() < 8, "{seen:?}");
    assert!(seen.iter().all(|it| it.attempt == 1), "what had no room made no attempt");
    world.stop().await;
}

/// What is heard while a request is under way goes out together with the next.
#[tokio::test]
async fn what_comes_meanwhile_is_the_next_batch() {
    let endpoint = Endpoint::start_held().await;
    let mut world = World::with_backlog(&endpoint, "batch = 16\n", &devices(&[1])).await;
    endpoint.wait_until_asked().await;
    world.bench.append(To::Us, &devices(&[1, 2, 1, 3, 1])).await;
    endpoint.let_go();
    assert_eq!(world.bench.wait_until_done().await.delivered, 6);
    let seen = endpoint.seen();
    assert_eq!(seen.iter().map(|it| it.records.clone()).collect::<Vec<_>>(), [vec![0], vec![1, 2, 3, 4, 5]]);
    world.stop().await;
}

/// A batch is of one variant: what goes out by two flows is in two requests.
#[tokio::test]
async fn variants_do_not_mix() {
    let endpoint = Endpoint::start(|_| Reply::Status(200)).await;
    let mut bench = Bench::new(ROOMY).await;
    bench.add_flows().await;
    let ways = bench.ways();
    for routes in [&ways[..1], &ways[..2], &ways[..2], &ways[1..2]] {
        bench.append_by(routes, &devices(&[1])).await;
    }
    bench.wait_for(|view| view.end >= 4).await;
    let other = Variant { flow: "raw".into(), format: Some(Format::Chirpstack), ..Variant::default() };
    let world = World::start(bench, endpoint.port, "batch = 16\n", &[Variant::default(), other]);
    assert_eq!(world.bench.wait_until_done().await.delivered, 4);
    let seen = endpoint.seen();
    for it in &seen {
        assert!(it.words == ["id"] || it.words == ["deduplicationId"], "{:?}", it.words);
    }
    let plain: Vec<_> =
        seen.iter().filter(|it| it.words == ["id"]).flat_map(|it| it.records.clone()).collect();
    let other: Vec<_> =
        seen.iter().filter(|it| it.words != ["id"]).flat_map(|it| it.records.clone()).collect();
    assert_eq!((plain, other), (vec![0, 1, 2], vec![1, 2, 3]));
    world.stop().await;
}

/// A stop while a batch waits for more gives it back untouched, and one while a request hangs ends in time: the spool
/// still has everything, and the next start sends it as a first attempt or the next.
#[tokio::test]
async fn a_stop_loses_nothing() {
    let endpoint = Endpoint::start_held().await;
    let world = World::with_backlog(&endpoint, "batch = 16\n", &devices(&[1, 2, 3])).await;
    endpoint.wait_until_asked().await;
    let bench = world.stop().await;
    assert_eq!(ours(&bench.view()).backlog, 3);
    endpoint.let_go();
    let keys = format!("body = '{BODY}'\nbatch = 16\n");
    let world = World::start(bench, endpoint.port, &keys, &[Variant::default()]);
    assert_eq!(world.bench.wait_until_done().await.delivered, 3);
    world.stop().await;

    let mut world = World::with_backlog(&endpoint, "batch = 16\n", &devices(&[1])).await;
    world.seen.wait_for(|status| status.in_flight == 1).await.unwrap();
    world.stop().await;
}
