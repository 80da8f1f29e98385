//! Those who send, and what they were promised.
//!
//! A [`Clients`] thread is one device behind the HTTP source. It posts its readings one after the other; one that was not
//! answered is posted again to the next life of the agent, under the id that it has from the start. So the answers promise
//! each of them once and in order. A [`Radio`] is a packet forwarder: what it sends is promised when `status` counts it as
//! committed, and no sooner.

use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use packhorse::simulator::{Forwarder, Simulator, SimulatorConfig};
use packhorse::uplink::Eui64;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::PATIENCE;

/// The upper half of the id of every reading: an id without it was made up by somebody else.
const MARK: u64 = 0x7ead_1265_0000_8000;

/// What one device sends: its `n`th reading. Its id says which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Reading {
    pub(crate) client: u32,
    pub(crate) n: u32,
}

impl Reading {
    pub(crate) fn id(self) -> Uuid {
        // The variant bits of RFC 9562.
        Uuid::from_u64_pair(MARK, 1 << 63 | u64::from(self.client) << 32 | u64::from(self.n))
    }

    pub(crate) fn of(id: Uuid) -> Option<Reading> {
        let (mark, number) = id.as_u64_pair();
        let client = u32::try_from(number >> 32 & 0x7fff_ffff).unwrap();
        let n = u32::try_from(number & 0xffff_ffff).unwrap();
        (mark == MARK).then_some(Reading { client, n })
    }

    /// Nobody else's, and of any length.
    pub(crate) fn payload(self) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(u64::from(self.client) << 32 | u64::from(self.n));
        (0..random.usize(4..200)).map(|_| random.u8(..)).collect()
    }

    pub(crate) fn dev_eui(self) -> String {
        format!("0004a30b001d{:04x}", self.client)
    }

    fn body(self) -> Value {
        let payload = data_encoding::BASE64.encode(&self.payload());
        json!({ "id": self.id().to_string(), "dev_eui": self.dev_eui(), "f_cnt": self.n, "payload": payload })
    }
}

/// Devices that post to the HTTP source.
pub(crate) struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    source: SocketAddr,
    /// How many lives of the agent they have been told of, and whether they shall stop.
    told: Mutex<(u64, bool)>,
    changed: Condvar,
    /// Readings that were posted at least once, of each client.
    posted: Vec<AtomicU32>,
    attempts: AtomicU64,
    accepted: Mutex<BTreeSet<Reading>>,
}

impl Clients {
    pub(crate) fn start(source: SocketAddr, n: u32) -> Clients {
        let shared = Arc::new(Shared {
            source,
            told: Mutex::default(),
            changed: Condvar::new(),
            posted: (0..n).map(|_| AtomicU32::default()).collect(),
            attempts: AtomicU64::default(),
            accepted: Mutex::default(),
        });
        let run = |client| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.run(client))
        };
        Clients { threads: (0..n).map(run).collect(), shared }
    }

    /// An agent listens.
    pub(crate) fn go_on(&self) {
        self.shared.told.lock().unwrap().0 += 1;
        self.shared.changed.notify_all();
    }

    /// Each has its last reading accepted, by an agent that stays, and posts no other.
    pub(crate) fn finish(&mut self) {
        self.shared.told.lock().unwrap().1 = true;
        self.go_on();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }

    /// How often anything was posted so far.
    pub(crate) fn attempts(&self) -> u64 {
        self.shared.attempts.load(Ordering::SeqCst)
    }

    pub(crate) fn was_posted(&self, reading: Reading) -> bool {
        let posted = self.shared.posted.get(reading.client as usize);
        posted.is_some_and(|posted| reading.n < posted.load(Ordering::SeqCst))
    }

    pub(crate) fn n_accepted(&self) -> usize {
        self.shared.accepted.lock().unwrap().len()
    }

    pub(crate) fn wait_for_accepted(&self, n: usize) {
        let accepted = self.shared.accepted.lock().unwrap();
        let few = |accepted: &mut BTreeSet<Reading>| accepted.len() < n;
        let (accepted, wait) = self.shared.changed.wait_timeout_while(accepted, PATIENCE, few).unwrap();
        assert!(!wait.timed_out(), "{} of {n} were accepted", accepted.len());
    }

    /// What was answered with 202.
    pub(crate) fn accepted(&self) -> BTreeSet<Reading> {
        self.shared.accepted.lock().unwrap().clone()
    }
}

impl Drop for Clients {
    /// A test that fails leaves nobody behind who waits.
    fn drop(&mut self) {
        if let Ok(mut told) = self.shared.told.lock() {
            *told = (u64::MAX, true);
        }
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn run(&self, client: u32) {
        let mut before = 0;
        for n in 0.. {
            let reading = Reading { client, n };
            self.posted[client as usize].store(n + 1, Ordering::SeqCst);
            loop {
                let Some(life) = self.life_after(before) else { return };
                self.attempts.fetch_add(1, Ordering::SeqCst);
                match post(self.source, &reading.body()) {
                    Some(Ok(ids)) => {
                        assert_eq!(ids, json!([reading.id().to_string()]), "the id that was answered");
                        break;
                    }
                    // It was told to try again.
                    Some(Err(429 | 503)) => {}
                    Some(Err(status)) => panic!("{reading:?} was answered with {status}"),
                    None => before = life,
                }
            }
            self.accepted.lock().unwrap().insert(reading);
            self.changed.notify_all();
            if self.told.lock().unwrap().1 {
                return;
            }
        }
    }

    /// Waits for a life of the agent that has not left us without an answer yet.
    fn life_after(&self, before: u64) -> Option<u64> {
        let none = |told: &mut (u64, bool)| told.0 <= before;
        let told = self.changed.wait_while(self.told.lock().unwrap(), none).unwrap();
        (told.0 < u64::MAX).then_some(told.0)
    }
}

/// The ids that were answered with 202, or another status; `None` if the agent went away before it.
fn post(source: SocketAddr, body: &Value) -> Option<Result<Value, u16>> {
    let mut stream = TcpStream::connect(source).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = body.to_string();
    let head = "POST /uplinks HTTP/1.1\r\nHost: gw\r\nConnection: close\r\nContent-Length:";
    stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.get(9..12)?.parse().ok()?;
    let ids = serde_json::from_str::<Value>(body).ok()?["ids"].clone();
    Some(if status == 202 { Ok(ids) } else { Err(status) })
}

/// A packet forwarder, and what it has sent.
pub(crate) struct Radio {
    forwarder: Forwarder,
    /// Each frame, and its place.
    frames: HashMap<Vec<u8>, u32>,
    /// Frames that were sent to one life of the agent, and how many of them at least were committed there.
    pub(crate) lives: Vec<(Range<u32>, u64)>,
}

impl Radio {
    pub(crate) fn new(agent: SocketAddr, seed: u64) -> Radio {
        let gateway_eui = Eui64([0xaa, 0x55, 0x5a, 0, 0, 0, 1, 1]);
        let simulator = Simulator::new(SimulatorConfig { devices: 8, gateway_eui, seed });
        // Nobody waits for an agent that is dead. One that is merely slow gets them all the same.
        let forwarder = Forwarder::connect(agent, simulator, Duration::from_millis(200)).unwrap();
        Radio { forwarder, frames: HashMap::new(), lives: Vec::new() }
    }

    fn end(&self) -> u32 {
        u32::try_from(self.frames.len()).unwrap()
    }

    /// Another agent hears it.
    pub(crate) fn begin_life(&mut self) {
        self.lives.push((self.end()..self.end(), 0));
    }

    pub(crate) fn send(&mut self, n: usize) {
        for phy in self.forwarder.send_uplinks(n).unwrap().phys {
            let place = self.end();
            assert!(self.frames.insert(phy, place).is_none(), "the simulator repeats itself");
        }
        let end = self.end();
        self.lives.last_mut().unwrap().0.end = end;
    }

    /// Of what was sent in this life at least so many were committed.
    pub(crate) fn are_committed(&mut self, n: u64) {
        let (frames, committed) = self.lives.last_mut().unwrap();
        assert!(n <= frames.len() as u64, "{n} committed of {frames:?}");
        *committed = n.max(*committed);
    }

    pub(crate) fn place_of(&self, phy: &[u8]) -> Option<u32> {
        self.frames.get(phy).copied()
    }
}
