//! The thread that owns the socket.
//!
//! One datagram at a time: receive, judge the sender, read the header, acknowledge, pass on through the tap, take the JSON
//! apart, hand over. It waits in [`Readiness`] and nowhere else: an acknowledgement that the kernel has no room for is
//! dropped, and so is an uplink that the queue has no room for; both are counted or logged. Its log lines are thinned, because
//! whatever goes wrong here goes wrong a thousand times: of each kind the first and then each power of two.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::{Level, debug, log, warn};
use rustix::net::sockopt;
use tokio::sync::mpsc;

use super::codec::{self, BadDatagram, Datagram, Message};
use super::rate::RateLimit;
use super::readiness::{Key, Readiness, Ready, Stopper};
use super::tap::{self, Tap};
use crate::clock::Clock;
use crate::config::{Network, Problem, SemtechUdp, Spot};
use crate::metrics::{DoorCounters, DropReason, TapCounters};
use crate::source::FromSource;
use crate::source::bind::BindError;
use crate::source::tally::{Dropped, Tally};
use crate::uplink::{Eui64, Heard, Moment, TimeSource};

/// The largest UDP datagram; no MTU is assumed, because forwarders on the same host send up to this.
const LARGEST_DATAGRAM: usize = 65_535;

/// What the kernel may hold for us while the thread gets no CPU: about a thousand datagrams of one uplink.
const RECEIVE_BUFFER: usize = 1 << 20;

/// The thread reads the socket and little else; its one large buffer is on the heap.
const STACK: usize = 256 << 10;

/// How many datagrams of forwarders are taken before the others that wait get their turn.
const IN_A_ROW: usize = 64;

/// A breath after an error of the socket, so that one that stays costs no CPU.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// A `semtech-udp` source that can be started.
#[derive(Debug)]
pub struct Listener {
    name: Arc<str>,
    listen: SocketAddr,
    allow: Vec<Network>,
    rate_limit: u32,
    taps: Vec<Arc<TapCounters>>,
}

impl Listener {
    /// Checks what can be checked without starting.
    ///
    /// # Errors
    /// An `allow` that allows nobody; servers in `forward_to` that stand there twice, or are too many.
    pub fn try_new(name: &Spot<String>, config: &SemtechUdp) -> Result<Listener, Vec<Problem>> {
        let key = |key: &str| format!("source.{}.{key}", name.value);
        let mut problems = Vec::new();
        if config.allow.is_empty() {
            problems.push(
                Problem::error(&name.place, key("allow"), "nobody may send to this source")
                    .hint("leave the key out to allow this machine, or name the forwarder's network"),
            );
        }
        if let Some(first_too_many) = config.forward_to.get(tap::SERVERS) {
            let message = format!("at most {} servers can be passed everything on to", tap::SERVERS);
            problems.push(Problem::error(&first_too_many.place, key("forward_to"), message));
        }
        for (at, server) in config.forward_to.iter().enumerate() {
            if config.forward_to.iter().take(at).any(|other| other.value.eq_ignore_ascii_case(server)) {
                let message = "this server stands here twice: it would hear everything twice";
                problems.push(Problem::error(&server.place, key("forward_to"), message));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let name: Arc<str> = Arc::from(name.value.as_str());
        let counters =
            |server: &Spot<String>| Arc::new(TapCounters::new(Arc::clone(&name), server.value.clone()));
        Ok(Listener {
            listen: config.listen.value,
            allow: config.allow.clone(),
            rate_limit: config.rate_limit,
            taps: config.forward_to.iter().map(counters).collect(),
            name,
        })
    }

    /// What is counted of the servers that everything is passed on to.
    pub fn taps(&self) -> &[Arc<TapCounters>] {
        &self.taps
    }

    /// Binds the socket and starts the thread. What it hears goes to `out`, and is dropped while that is full; what it
    /// takes in and drops is counted in `counters`.
    ///
    /// # Errors
    /// If the address can't be had, or no thread.
    pub fn start(
        self,
        out: mpsc::Sender<FromSource>,
        counters: Arc<DoorCounters>,
        clock: Arc<dyn Clock>,
    ) -> Result<Running, BindError> {
        let (name, listen) = (self.name, self.listen);
        let no_bind = |error| BindError::udp(&name, listen, error);
        let socket = UdpSocket::bind(listen).map_err(no_bind)?;
        let local = socket.local_addr().map_err(no_bind)?;
        socket.set_nonblocking(true).map_err(no_bind)?;
        enlarge_receive_buffer(&socket, &name);
        let (readiness, stopper) = Readiness::new().map_err(no_bind)?;
        readiness.watch(&socket, Key::Door).map_err(no_bind)?;

        let stopping = Arc::new(AtomicBool::new(false));
        let door = Door {
            name: name.clone(),
            socket,
            readiness,
            allow: self.allow,
            rate_limit: RateLimit::new(self.rate_limit),
            tap: Tap::new(self.taps, local, clock.boot_ns()),
            out,
            counters,
            clock,
            troubles: Troubles::default(),
        };
        let seen_by_thread = stopping.clone();
        let thread = thread::Builder::new()
            .name(format!("semtech-udp/{name}"))
            .stack_size(STACK)
            .spawn(move || door.run(&seen_by_thread))
            .map_err(|error| BindError::Thread { source_name: name, error })?;
        Ok(Running { local, stopper, stopping, thread: Some(thread) })
    }
}

/// The kernel caps an ordinary request at `net.core.rmem_max`; a privileged one it grants.
fn enlarge_receive_buffer(socket: &UdpSocket, name: &str) {
    let set = sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(socket, RECEIVE_BUFFER));
    match set.and_then(|()| sockopt::socket_recv_buffer_size(socket)) {
        Ok(size) => debug!("source {name}: the kernel holds up to {size} bytes of datagrams"),
        Err(error) => debug!("source {name}: the receive buffer stays as it is: {error}"),
    }
}

/// A source that listens. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    local: SocketAddr,
    stopper: Stopper,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Where it listens; tells the port where the configuration said 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether the thread is still there; it ends when it is stopped, and never by itself.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Closes the socket; returns when the thread is done with the datagram in its hands.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                warn!("the thread that listened on UDP {} had panicked; please report this", self.local);
            }
        }
    }
}

/// What the thread owns.
struct Door {
    name: Arc<str>,
    socket: UdpSocket,
    readiness: Readiness,
    allow: Vec<Network>,
    rate_limit: RateLimit,
    tap: Tap,
    out: mpsc::Sender<FromSource>,
    counters: Arc<DoorCounters>,
    clock: Arc<dyn Clock>,
    troubles: Troubles,
}

impl Door {
    fn run(mut self, stopping: &AtomicBool) {
        let mut buffer = vec![0; LARGEST_DATAGRAM];
        let mut ready = Ready::none();
        loop {
            let waited = self.readiness.wait(&mut ready);
            if stopping.load(Ordering::Acquire) {
                return;
            }
            if let Err(error) = waited {
                self.pause_after(&error);
            }
            for key in ready.take() {
                match key {
                    Key::Door => self.receive(&mut buffer),
                    Key::Link(link) => {
                        self.tap.down(link, &mut buffer, &self.socket, self.clock.boot_ns());
                    }
                    Key::Stop => {}
                }
            }
        }
    }

    /// Takes what has come, up to [`IN_A_ROW`].
    fn receive(&mut self, buffer: &mut [u8]) {
        for _ in 0..IN_A_ROW {
            match self.socket.recv_from(buffer) {
                Ok((len, from)) => self.take(buffer.get(..len).unwrap_or_default(), from),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.pause_after(&error),
            }
        }
    }

    fn pause_after(&mut self, error: &io::Error) {
        if let Some(times) = self.troubles.receive.again() {
            warn!("source {}: can't read the UDP socket: {error} ({times} so far)", self.name);
        }
        thread::park_timeout(AFTER_ERROR);
    }

    fn take(&mut self, bytes: &[u8], from: SocketAddr) {
        let at = self.clock.now();
        if !self.allow.iter().any(|network| network.contains(from.ip())) {
            return self.refuse(DropReason::NotAllowed, from, None);
        }
        let datagram = match Datagram::read(bytes) {
            Ok(datagram) => datagram,
            Err(why) => return self.refuse(DropReason::BadDatagram, from, Some(why)),
        };
        if let Some(ack) = datagram.ack() {
            self.acknowledge(ack, from);
        }
        self.tap.up(bytes, &datagram, from, at.boot_ns, &self.readiness);
        if let Message::PushData { gateway, json } = datagram.message {
            // Copies of one transmission, by several antennas, are one uplink (RULES S19).
            let mut heard: Vec<Heard> = Vec::new();
            codec::parse_push(json, gateway, at, |result| match result {
                Ok(next) => match heard.iter_mut().find(|first| first.phy == next.phy) {
                    Some(first) => {
                        first.rx.keep_better(next.rx);
                        self.counters.heard();
                        self.counters.dropped(DropReason::Duplicate, 1);
                    }
                    None => heard.push(next),
                },
                Err(reason) => self.refuse(reason, from, None),
            });
            for heard in heard {
                if heard.at.source == TimeSource::Gps && !heard.rx.delayed {
                    self.clock.boots().hear_gps(heard.at);
                }
                match self.hand_over(heard, gateway, at) {
                    Ok(()) => self.counters.heard(),
                    Err(reason) => self.refuse(reason, from, None),
                }
            }
        }
    }

    /// Sends without waiting for room in the socket's buffer: an acknowledgement that is late is worth nothing.
    fn acknowledge(&mut self, ack: [u8; 4], to: SocketAddr) {
        if let Err(error) = self.socket.send_to(&ack, to)
            && let Some(times) = self.troubles.acknowledge.again()
        {
            warn!("source {}: can't acknowledge to {to}: {error} ({times} so far)", self.name);
        }
    }

    fn hand_over(&mut self, heard: Heard, gateway: Eui64, at: Moment) -> Result<(), DropReason> {
        if !self.rate_limit.admits(gateway, at.boot_ns) {
            return Err(DropReason::RateLimited);
        }
        // A queue without a receiver belongs to an agent that is stopping: the uplink is as lost as if it were full.
        let uplink = FromSource { source: self.name.clone(), heard };
        self.out.try_send(uplink).map_err(|_| DropReason::QueueFull)
    }

    fn refuse(&mut self, reason: DropReason, from: SocketAddr, detail: Option<BadDatagram>) {
        self.counters.dropped(reason, 1);
        let Some(times) = self.troubles.dropped.again(reason) else { return };
        let what = detail.map_or_else(|| sentence_for(reason).to_owned(), |why| why.to_string());
        let level = if reason == DropReason::CrcBad { Level::Debug } else { Level::Warn };
        log!(level, "source {}: {} from {from}: {what} ({times} so far)", self.name, reason.as_str());
    }
}

fn sentence_for(reason: DropReason) -> &'static str {
    match reason {
        DropReason::NotAllowed => "add the sender's network to `allow` of this source to take its uplinks in",
        DropReason::BadDatagram => "not Semtech UDP version 1 or 2; is something else sent to this port?",
        DropReason::BadJson => "the JSON breaks off; what stood before the break was taken in",
        DropReason::BadElement => "an element has no data, or data that is not base64",
        DropReason::TooManyElements => "more uplinks in one datagram than are looked at",
        DropReason::CrcBad => "the frame was damaged on the air; the forwarder need not send these",
        DropReason::RateLimited => {
            "this gateway sends more uplinks a second than `rate_limit` of this source"
        }
        DropReason::QueueFull => {
            "uplinks come in faster than they are stored; `packhorse status` shows the spool"
        }
        DropReason::Oversize => "an element holds more bytes than a frame can have",
        // What is dropped behind the door is logged there.
        behind => behind.as_str(),
    }
}

/// How often each kind of trouble was met by this thread.
#[derive(Default)]
struct Troubles {
    receive: Tally,
    acknowledge: Tally,
    dropped: Dropped,
}
