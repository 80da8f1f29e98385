//! The session against a real mosquitto.

use std::net::TcpListener;
use std::sync::Arc;

use packhorse::delivery::State;
use packhorse::simulator::{Arrival, Arrivals, Broker, BrokerConfig, Subscriber};

use crate::bench::{Bench, ROOMY, To, devices};
use crate::proxy::Proxy;
use crate::world::{PATIENCE, V5, VERSIONS, WINDOW, World, number};

/// RULES S30: acknowledgements that a broker's stop may catch between PUBLISH and PUBACK come on top of the window.
const ACK_ALLOWANCE: usize = 256;

const STATE: &str = "[integration.us.will]\ntopic = \"state/roof\"\npayload = \"offline\"\n\
                     [integration.us.birth]\ntopic = \"state/roof\"\npayload = \"online\"\n";

struct Site {
    folder: tempfile::TempDir,
    config: BrokerConfig,
    broker: Option<Broker>,
}

impl Site {
    fn new() -> Site {
        Site::with_extra("")
    }

    fn with_extra(extra: &str) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let config = BrokerConfig {
            port: TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port(),
            folder: folder.path().to_owned(),
            tls: None,
            extra: extra.replace("{folder}", &folder.path().display().to_string()),
        };
        for empty in ["nobody", "acl"] {
            std::fs::write(folder.path().join(empty), "").unwrap();
        }
        let broker = Some(Broker::start(&config).unwrap());
        Site { folder, config, broker }
    }

    fn subscribe(&self, client_id: &str, filter: &str) -> (Subscriber, Arc<Arrivals>) {
        let arrivals = Arc::new(Arrivals::default());
        let subscriber =
            Subscriber::start(self.config.port, None, client_id, filter, Arc::clone(&arrivals)).unwrap();
        (subscriber, arrivals)
    }
}

/// Waits on a thread of its own, so that proxy and test go on meanwhile.
async fn wait_until(
    arrivals: &Arc<Arrivals>,
    enough: impl FnMut(&[Arrival]) -> bool + Send + 'static,
) -> bool {
    let arrivals = Arc::clone(arrivals);
    tokio::task::spawn_blocking(move || arrivals.wait_until(PATIENCE, enough)).await.unwrap()
}

fn bodies(arrivals: &Arrivals) -> Vec<String> {
    arrivals.all().iter().map(|arrival| String::from_utf8(arrival.body.clone()).unwrap()).collect()
}

/// QoS 0, 1 and 2 deliver in order and settle, on the topic of the template.
#[tokio::test]
async fn every_qos_delivers_and_settles() {
    for (version, qos) in VERSIONS.into_iter().flat_map(|version| [0, 1, 2].map(|qos| (version, qos))) {
        let site = Site::new();
        let (_subscriber, arrivals) = site.subscribe("audience", "up/#");
        let mut world = World::start(site.config.port, &format!("{version}qos = {qos}\n")).await;
        world.bench.append(To::Us, &devices(&[1, 2].repeat(50))).await;
        assert!(wait_until(&arrivals, |log| log.len() >= 100).await, "{version}QoS {qos}");
        let account = world.bench.wait_until_done().await;
        assert_eq!((account.delivered, account.dead_letters), (100, 0), "{version}QoS {qos}");
        let records: Vec<_> = arrivals.all().iter().map(|arrival| number(&arrival.id().unwrap())).collect();
        assert_eq!(records, (0..100).collect::<Vec<_>>(), "{version}QoS {qos}");
        assert!(arrivals.all().iter().all(|arrival| arrival.place == "up/roof"));
        world.wait_for_state(State::Active).await;
        world.stop().await;
    }
}

/// `retain = true`: whoever subscribes later gets the last one; without it, nothing.
#[tokio::test]
async fn retained_records_wait_for_late_subscribers() {
    for (version, retain) in VERSIONS.into_iter().flat_map(|version| [(version, true), (version, false)]) {
        let site = Site::new();
        let mut world = World::start(site.config.port, &format!("{version}retain = {retain}\n")).await;
        world.bench.append(To::Us, &devices(&[1, 2, 3])).await;
        world.bench.wait_until_done().await;
        let (_subscriber, arrivals) = site.subscribe("late", "up/#");
        world.bench.append(To::Us, &devices(&[1])).await;
        assert!(
            wait_until(&arrivals, |log| log.last().and_then(Arrival::id).is_some_and(|id| number(&id) == 3))
                .await
        );
        assert_eq!(arrivals.all().len(), if retain { 2 } else { 1 });
        world.stop().await;
    }
}

/// Birth on every connect, will when the connection is cut, farewell on a stop and then no will; all retained.
#[tokio::test]
async fn birth_will_and_farewell() {
    for version in VERSIONS {
        let site = Site::new();
        let (_subscriber, arrivals) = site.subscribe("audience", "state/#");
        let proxy = Proxy::start(site.config.port, 1, None).await;
        let world = World::start(proxy.port, &format!("{version}{STATE}")).await;
        assert!(wait_until(&arrivals, |log| log.len() == 1).await);
        proxy.cut();
        assert!(wait_until(&arrivals, |log| log.len() == 3).await);
        let (_late, retained) = site.subscribe("late", "state/#");
        assert!(wait_until(&retained, |log| log.len() == 1).await);
        assert_eq!(bodies(&retained), ["online"]);
        world.stop().await;
        assert!(wait_until(&arrivals, |log| log.len() == 4).await);
        // Another agent comes and goes: had the broker published the will of the first, it would stand between.
        let next = World::start(site.config.port, &format!("{version}{STATE}")).await;
        assert!(wait_until(&arrivals, |log| log.len() >= 5).await);
        next.stop().await;
        assert!(wait_until(&arrivals, |log| log.len() >= 6).await);
        assert_eq!(bodies(&arrivals), ["online", "offline", "online", "offline", "online", "offline"]);
    }
}

/// Will and farewell have the number of the birth before them.
#[tokio::test]
async fn birth_and_will_name_the_connection() {
    let site = Site::new();
    let (_subscriber, arrivals) = site.subscribe("audience", "state/#");
    let proxy = Proxy::start(site.config.port, 1, None).await;
    let state = STATE.replace("line\"", "line {{sequence}}\"");
    let world = World::start(proxy.port, &state).await;
    assert!(wait_until(&arrivals, |log| log.len() == 1).await);
    proxy.cut();
    assert!(wait_until(&arrivals, |log| log.len() == 3).await);
    world.stop().await;
    assert!(wait_until(&arrivals, |log| log.len() == 4).await);
    assert_eq!(bodies(&arrivals), ["online 1", "offline 1", "online 2", "offline 2"]);
}

/// S1, S8: a broker that refuses us blocks the integration, with a message that says what to check and holds no password;
/// once it accepts us, a link-up signal is enough.
#[tokio::test]
async fn a_refused_login_blocks_until_the_broker_accepts_it() {
    for version in VERSIONS {
        let mut site = Site::with_extra("allow_anonymous false\npassword_file {folder}/nobody\n");
        let keys = format!("{version}username = \"gw\"\npassword = \"hunter2\"\n");
        let mut world = World::start(site.config.port, &keys).await;
        world.bench.append(To::Us, &devices(&[1, 2, 3])).await;
        world.wait_for_state(State::Blocked).await;
        let error = world.seen.borrow().last_error.clone().unwrap();
        assert_eq!(error.layer.as_str(), "mqtt");
        assert!(error.message.contains("CONNACK") && error.message.contains("check"), "{}", error.message);
        assert!(!error.message.contains("hunter2"), "{}", error.message);
        assert_eq!(crate::bench::ours(&world.bench.view()).dead_letters, 0);

        site.broker = None;
        site.config.extra = String::new();
        site.broker = Some(Broker::start(&site.config).unwrap());
        world.bench.link_up.signal();
        assert_eq!(world.bench.wait_until_done().await.delivered, 3);
        world.wait_for_state(State::Active).await;
        world.stop().await;
    }
}

/// The promise over a bad link: 5,000 records, connections cut at random, the broker restarted five times. Nothing is
/// lost, and duplicates stay within a window a cut (DESIGN section 2, RULES S30).
async fn nothing_is_lost_over_a_bad_link(version: &str, seed: u64) {
    const RECORDS: usize = 5_000;
    let mut site = Site::new();
    let (_subscriber, arrivals) = site.subscribe("audience", "up/#");
    let proxy = Proxy::start(site.config.port, seed, Some(500..12_000)).await;
    let mut world = World::with_bench(Bench::new(ROOMY).await, proxy.port, version);
    for part in 1..=5 {
        world.bench.append(To::Us, &devices(&[1, 2, 3, 4].repeat(RECORDS / 20))).await;
        let enough = part * RECORDS / 5 - RECORDS / 20;
        assert!(wait_until(&arrivals, move |log| log.len() >= enough).await, "part {part}");
        site.broker = None;
        site.broker = Some(Broker::start(&site.config).unwrap());
        world.bench.link_up.signal();
    }
    let account = world.bench.wait_until_done().await;
    assert_eq!((account.delivered, account.dead_letters), (RECORDS as u64, 0));
    let all = Arc::clone(&arrivals);
    assert!(tokio::task::spawn_blocking(move || all.wait_for_unique(RECORDS, PATIENCE)).await.unwrap());
    let (tally, cuts) = (arrivals.tally(), proxy.ended());
    assert_eq!(tally.unique, RECORDS);
    assert!(tally.duplicates <= WINDOW * cuts + ACK_ALLOWANCE, "{tally:?} after {cuts} cuts");
    assert!(cuts >= 10, "only {cuts} cuts: the link was too good");
    world.stop().await;
}

#[tokio::test]
async fn nothing_is_lost_over_a_bad_link_with_mqtt_3() {
    nothing_is_lost_over_a_bad_link(VERSIONS[0], 4711).await;
}

#[tokio::test]
async fn nothing_is_lost_over_a_bad_link_with_mqtt_5() {
    nothing_is_lost_over_a_bad_link(V5, 4712).await;
}

/// What mosquitto refuses by its own rules: a topic that we may not write to blocks (0x87), a message that it finds too
/// large is a dead letter (0x95, which a PUBACK can't have; it says so all the same).
#[tokio::test]
async fn mosquitto_says_why() {
    let mut site = Site::with_extra("acl_file {folder}/acl\n");
    // No line allows anything.
    let mut world = World::start(site.config.port, V5).await;
    world.bench.append(To::Us, &devices(&[1, 2])).await;
    world.wait_for_state(State::Blocked).await;
    let error = world.seen.borrow().last_error.clone().unwrap();
    assert!(error.message.contains("PUBACK 0x87 (not authorized)"), "{}", error.message);

    site.broker = None;
    site.config.extra = "message_size_limit 200\n".to_owned();
    site.broker = Some(Broker::start(&site.config).unwrap());
    world.bench.link_up.signal();
    world.bench.wait_until_done().await;
    world.bench.append(To::Us, &[(1, 100), (2, 20)]).await;
    let account = world.bench.wait_until_done().await;
    assert_eq!((account.delivered, account.dead_letters), (3, 1));
    world.stop().await;
}
