//! RULES S22 from the socket to the body: a gateway that hears uplinks before it knows the time. The agent is the real one,
//! with its spool on a disk, a socket of a forwarder in front and an endpoint behind; its clock alone is turned by hand.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use packhorse::agent::{Agent, Basis, Steering};
use packhorse::clock::{Clock, ManualClock, RELEASE_FLOOR_US, us_of_rfc3339};
use packhorse::config::Config;
use packhorse::control::client;
use packhorse::delivery::Stopper;
use packhorse::simulator::{Arrival, Arrivals, Endpoint};
use serde_json::Value;
use support::site::endpoint;
use support::{PATIENCE, free_udp_port};

const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_US: i64 = 3_600_000_000;

/// An hour after the boot of [`ManualClock::new`], which is an hour after the release of this program.
const GOOD_US: i64 = RELEASE_FLOOR_US + 1_000 * HOUR_US;

/// A gateway whose one integration is paused until what was heard is to go out: nothing is under way before that.
struct Gateway {
    folder: tempfile::TempDir,
    udp: u16,
    endpoint: Endpoint,
    arrivals: Arc<Arrivals>,
    heard: u8,
}

/// Time, quality and bounds of a body.
type Dated = (i64, String, Option<(i64, i64)>);

/// The agent, running.
struct Running {
    stopper: Stopper,
    thread: JoinHandle<()>,
}

impl Gateway {
    fn new() -> Gateway {
        let (endpoint, arrivals) = endpoint();
        Gateway { folder: tempfile::tempdir().unwrap(), udp: free_udp_port(), endpoint, arrivals, heard: 0 }
    }

    /// Starts an agent on the spool that the last one has left.
    fn start(&self, clock: &Arc<ManualClock>) -> Running {
        let at = self.folder.path().display();
        let config = format!(
            "[gateway]\nname = \"shed\"\n[spool]\npath = \"{at}/spool.redb\"\n[control]\nsocket = \"{at}/control.sock\"\n\
             [source.s]\ntype = \"semtech-udp\"\nlisten = \"127.0.0.1:{}\"\n\
             [integration.api]\ntype = \"http\"\nurl = \"http://{}/uplinks\"\n",
            self.udp,
            self.endpoint.address()
        );
        let config = Config::parse(&config, std::path::Path::new("test.toml")).unwrap().config;
        let agent = Agent::try_new_on(&Basis::on(clock.clone()), config).unwrap();
        let (stopper, stop) = Stopper::new();
        let (ready, is_ready) = mpsc::channel();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(agent.run(stop, Steering::none(), move |_| ready.send(()).unwrap())).unwrap();
        };
        let thread = std::thread::spawn(run);
        is_ready.recv_timeout(PATIENCE).unwrap();
        self.order("/pause");
        Running { stopper, thread }
    }

    /// A forwarder sends one uplink, whose element has `more` members, and waits until it is acknowledged.
    fn hear(&mut self, more: &str) {
        self.heard += 1;
        let frame = [0x40, 1, 2, 3, 4, 0, self.heard, 0, 1, 0xaa, 9, 9, 9, self.heard];
        let data = data_encoding::BASE64.encode(&frame);
        let json = format!(
            r#"{{"rxpk":[{{"tmst":1,"freq":868.1,"stat":1,"modu":"LORA","datr":"SF7BW125","codr":"4/5","rssi":-60,"lsnr":9,{more}"size":14,"data":"{data}"}}]}}"#
        );
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let datagram = [&[2, 0, self.heard, 0, 0xaa, 0, 0, 0, 0, 0, 0, 1], json.as_bytes()].concat();
        socket.send_to(&datagram, ("127.0.0.1", self.udp)).unwrap();
        assert_eq!(socket.recv(&mut [0; 4]).unwrap(), 4);
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    fn status(&self) -> Value {
        client::get(&self.socket(), "/status").unwrap()
    }

    fn order(&self, verb: &str) {
        client::post(&self.socket(), &format!("{verb}?integration=api"), None).unwrap();
    }

    /// What the endpoint gets once the integration goes on, in the order it was heard in.
    fn deliver(&self) -> Vec<Dated> {
        self.order("/resume");
        let n = usize::from(self.heard);
        assert!(self.arrivals.wait_for_unique(n, PATIENCE), "{:#?}", self.status());
        let mut bodies: Vec<Value> = self.arrivals.all().iter().map(Arrival::json).collect();
        bodies.sort_by_key(|body| body["f_cnt"].as_u64());
        assert_eq!(bodies.len(), n, "{bodies:#?}");
        let us = |time: &Value| us_of_rfc3339(time.as_str().unwrap()).unwrap();
        let dated = bodies.iter().map(|body| {
            let bounds = body.get("time_bounds").map(|it| (us(&it["after"]), us(&it["before"])));
            (us(&body["time"]), body["time_quality"].as_str().unwrap().to_owned(), bounds)
        });
        dated.collect()
    }
}

impl Running {
    /// An orderly stop: what was heard is in the spool.
    fn stop(self) {
        self.stopper.stop();
        self.thread.join().unwrap();
    }
}

/// A clock that shows `wall_us`, so many boots after that of [`ManualClock::new`].
fn clock(boots: usize, wall_us: i64) -> Arc<ManualClock> {
    let clock = ManualClock::new();
    for _ in 0..boots {
        clock.reboot();
    }
    set(&clock, wall_us);
    Arc::new(clock)
}

/// It is believed if it could be right.
fn set(clock: &ManualClock, wall_us: i64) {
    clock.step_wall(wall_us - clock.wall_us());
    clock.set_trusted(wall_us >= RELEASE_FLOOR_US);
}

fn corrected(us: i64) -> Dated {
    (us, "corrected".to_owned(), None)
}

#[test]
fn what_was_heard_in_1970_is_corrected_when_ntp_comes() {
    let mut gateway = Gateway::new();
    let clock = clock(0, 0);
    let agent = gateway.start(&clock);
    gateway.hear("");
    clock.advance(HOUR);
    gateway.hear("");
    let status = gateway.status();
    assert_eq!((&status["time_trusted"], &status["time_by"]), (&false.into(), &Value::Null));
    clock.advance(HOUR);
    set(&clock, GOOD_US);
    gateway.hear("");
    let ntp = (GOOD_US, "ntp".to_owned(), None);
    assert_eq!(gateway.deliver(), [corrected(GOOD_US - 2 * HOUR_US), corrected(GOOD_US - HOUR_US), ntp]);
    agent.stop();
}

#[test]
fn what_was_learnt_outlasts_the_agent_within_the_boot() {
    let mut gateway = Gateway::new();
    let first = clock(0, 0);
    let agent = gateway.start(&first);
    gateway.hear("");
    first.advance(HOUR);
    set(&first, GOOD_US);
    agent.stop();
    // The same boot, and somebody has set the clock back since.
    let again = clock(0, 0);
    again.advance(2 * HOUR);
    let agent = gateway.start(&again);
    gateway.hear("");
    assert_eq!(gateway.deliver(), [corrected(GOOD_US - HOUR_US), corrected(GOOD_US + HOUR_US)]);
    assert_eq!(gateway.status()["time_by"], "clock");
    agent.stop();
}

#[test]
fn a_boot_that_never_learnt_the_time_leaves_bounds() {
    let mut gateway = Gateway::new();
    // The last good time, a boot in 1970 in which two are heard an hour apart, and a good boot again. The pause lasts.
    gateway.start(&clock(0, GOOD_US)).stop();
    let dark = clock(1, 0);
    let agent = gateway.start(&dark);
    gateway.hear("");
    dark.advance(HOUR);
    gateway.hear("");
    agent.stop();
    let began = GOOD_US + 10 * HOUR_US;
    let agent = gateway.start(&clock(2, began));
    gateway.hear("");
    let heard = gateway.deliver();
    // An hour on a clock that nobody steers may be 1.8 s less.
    let (first, second) = (GOOD_US, GOOD_US + HOUR_US - 1_800_000);
    let expected = [
        (first, "bounds".to_owned(), Some((first, began - HOUR_US + 1_800_000))),
        (second, "bounds".to_owned(), Some((second, began))),
        (began, "ntp".to_owned(), None),
    ];
    assert_eq!(heard, expected);
    agent.stop();
}

/// Two frames with GPS time say when all of the boot were heard, whatever the clock of the gateway shows.
#[test]
fn gps_dates_what_was_heard_before_it() {
    let mut gateway = Gateway::new();
    let clock = clock(0, 0);
    let agent = gateway.start(&clock);
    gateway.hear("");
    clock.advance(HOUR);
    let gps_ms = |us: i64| us / 1_000 - 315_964_800_000 + 18_000;
    gateway.hear(&format!(r#""tmms":{},"#, gps_ms(GOOD_US)));
    gateway.hear(&format!(r#""tmms":{},"#, gps_ms(GOOD_US)));
    gateway.hear("");
    let gps = (GOOD_US, "gps".to_owned(), None);
    assert_eq!(gateway.deliver(), [corrected(GOOD_US - HOUR_US), gps.clone(), gps, corrected(GOOD_US)]);
    let status = gateway.status();
    assert_eq!((&status["time_trusted"], &status["time_by"]), (&false.into(), &"gps".into()));
    agent.stop();
}
