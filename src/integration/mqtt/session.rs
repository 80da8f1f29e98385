//! One connection, from CONNECT to its end. See the [module](super) for its life.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, Outgoing, Packet};
use tokio::time::Instant;

use crate::delivery::outcome::{Failure, Layer, Outcome, Receipt, Report};
use crate::delivery::{Lane, Lease, Stop};
use crate::history::Exchange;

use super::connect::classify;
use super::{Announcement, CONNECT_TIMEOUT, Made, Mqtt};

/// How long a stop waits for answers before it just drops the connection (the broker then publishes the will).
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A link-up signal gives up a connection attempt that is older than this, or once it is (RULES S31).
const FRESH_ATTEMPT: Duration = Duration::from_secs(2);

/// How a connection ended.
pub(super) enum End {
    /// As asked.
    Stopped,
    /// The link may have come up while a connection attempt was hanging: try a new one at once.
    TryAgain,
    /// With an error.
    Failed(Failure),
}

/// A publish that was handed to the library.
struct Sent {
    qos: QoS,
    what: What,
}

enum What {
    /// Birth or farewell.
    Own,
    /// An uplink, what is shown of it, and since when it is under way.
    Record(Lease, Box<Exchange>, Instant),
}

/// A lease whose function is still at work.
type Rendering<'a> = (Lease, Pin<Box<dyn Future<Output = Made> + Send + 'a>>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Online,
    /// No new leases; waiting for answers.
    Draining,
    /// The farewell is under way.
    Farewell,
    /// DISCONNECT is under way.
    Leaving,
}

pub(super) struct Session<'a> {
    mqtt: &'a Mqtt,
    lane: &'a mut Lane,
    client: AsyncClient,
    events: Option<EventLoop>,
    phase: Phase,
    /// Handed over, no packet id yet, in order.
    unnumbered: VecDeque<Sent>,
    /// Written, waiting for the answer to their packet id, in order.
    unanswered: VecDeque<(u16, Sent)>,
    /// Since when the oldest of them is the oldest.
    oldest_since: Instant,
    /// The record that comes next, as long as its function is at work. One at a time, so that the order stays.
    rendering: Option<Rendering<'a>>,
    /// When the password will have ended, less a margin.
    renew_at: Option<Instant>,
    /// The connection is given up for one with a new password: nobody is to hear that we went.
    renewing: bool,
}

/// Polls once. The event loop travels through the future, so that there is always exactly one poll, and it is never
/// cancelled: a cancelled one may lose a packet that the library counts as written.
async fn pump(mut events: EventLoop) -> (EventLoop, Result<Event, ConnectionError>) {
    let event = events.poll().await;
    (events, event)
}

/// What there is to do beside the connection.
enum Woken {
    /// The link may have come up.
    LinkUp,
    /// There may be records to lease.
    Records,
    /// A function has done its work.
    Made(Made),
}

/// What the function at work made; for ever, if none is.
async fn rendered(rendering: &mut Option<Rendering<'_>>) -> Made {
    match rendering {
        Some((_, making)) => making.await,
        None => std::future::pending().await,
    }
}

/// Waits for the end of a password, once there is a connection to give up for it; for ever if it does not end.
async fn password_ends(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Connects, waits for CONNACK and leaves again.
pub(super) async fn knock(mqtt: &Mqtt) -> Result<(), Failure> {
    let (client, mut events) = mqtt.new_connection(&mqtt.login.entry()?, None);
    let mut connected = false;
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                connected = true;
                if client.try_disconnect().is_err() {
                    return Ok(());
                }
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return Ok(()),
            Ok(_) => {}
            Err(_) if connected => return Ok(()),
            Err(error) => return Err(mqtt.login.explained(classify(&error, &mqtt.peer, false))),
        }
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(mqtt: &'a Mqtt, lane: &'a mut Lane) -> Result<Session<'a>, Failure> {
        let entry = mqtt.login.entry()?;
        let (client, events) = mqtt.new_connection(&entry, mqtt.will.as_ref());
        Ok(Session {
            mqtt,
            lane,
            client,
            events: Some(events),
            phase: Phase::Connecting,
            unnumbered: VecDeque::new(),
            unanswered: VecDeque::new(),
            oldest_since: Instant::now(),
            rendering: None,
            renew_at: entry.stay.map(|stay| Instant::now() + stay),
            renewing: false,
        })
    }

    /// Runs the connection to its end and gives back what was not answered.
    pub(super) async fn run(mut self, stop: &mut Stop) -> End {
        let end = self.serve(stop).await;
        if let Some((lease, _)) = self.rendering.take() {
            self.lane.release(lease);
        }
        let unanswered = self.unanswered.drain(..).map(|(_, sent)| sent);
        for sent in unanswered.chain(self.unnumbered.drain(..)) {
            match (sent.what, &end) {
                (What::Record(lease, mut exchange, since), End::Failed(failure)) => {
                    exchange.took = since.elapsed();
                    self.lane.break_off(lease, failure, *exchange);
                }
                (What::Record(lease, ..), _) => self.lane.release(lease),
                (What::Own, _) => {}
            }
        }
        end
    }

    async fn serve(&mut self, stop: &mut Stop) -> End {
        let Some(events) = self.events.take() else { return End::TryAgain };
        let mut poll = pin!(pump(events));
        let started = Instant::now();
        let mut last_event = started;
        let mut link_is_up = false;
        let mut stop_by = None;
        loop {
            if let Some(end) = self.advance() {
                return end;
            }
            let password_ends_at = self.renew_at.filter(|_| self.phase == Phase::Online);
            let hurry = link_is_up && self.phase == Phase::Connecting;
            let until = match stop_by {
                Some(stop_by) => stop_by,
                None if hurry => started + FRESH_ATTEMPT,
                None => self.waiting_since(last_event) + self.patience(),
            };
            tokio::select! {
                (events, event) = &mut poll => {
                    match self.handle(event) {
                        Some(end) => return end,
                        None => poll.set(pump(events)),
                    }
                    last_event = Instant::now();
                }
                woken = self.woken() => match woken {
                    Woken::LinkUp => link_is_up = true,
                    Woken::Records => {}
                    Woken::Made(made) => self.rendered(made),
                },
                () = stop.stopped(), if stop_by.is_none() || self.renewing => {
                    if self.phase == Phase::Connecting {
                        return End::Stopped;
                    }
                    self.renewing = false;
                    if self.phase != Phase::Leaving {
                        self.phase = Phase::Draining;
                    }
                    stop_by = Some(Instant::now() + STOP_GRACE);
                }
                () = password_ends(password_ends_at), if stop_by.is_none() => {
                    log::debug!("{}: the password ends soon; reconnecting with a new one", self.mqtt.name);
                    self.renewing = true;
                    self.phase = Phase::Draining;
                    stop_by = Some(Instant::now() + STOP_GRACE);
                }
                () = tokio::time::sleep_until(until) => {
                    return match stop_by {
                        Some(_) => self.left(),
                        None if hurry => End::TryAgain,
                        None => self.stuck(),
                    };
                }
            }
        }
    }

    /// How long the connection may stand still. Pings are answered by a broker that has dropped a publish, too, so while
    /// something is unanswered only an answer to the oldest counts.
    fn patience(&self) -> Duration {
        self.mqtt.keep_alive * 2 + CONNECT_TIMEOUT
    }

    fn waiting_since(&self, last_event: Instant) -> Instant {
        if self.unanswered.is_empty() { last_event } else { self.oldest_since }
    }

    /// Does what the phase allows: lease and publish, or take leave step by step.
    fn advance(&mut self) -> Option<End> {
        let idle = self.unnumbered.is_empty() && self.unanswered.is_empty();
        match self.phase {
            Phase::Connecting | Phase::Leaving => {}
            Phase::Online => self.fill(),
            Phase::Draining if idle => {
                self.phase = Phase::Farewell;
                if let Some(will) = self.mqtt.will.as_ref().filter(|_| !self.renewing) {
                    self.announce(will.clone());
                }
                return self.advance_if_idle();
            }
            Phase::Farewell if idle => {
                self.phase = Phase::Leaving;
                if self.client.try_disconnect().is_err() {
                    return Some(self.left());
                }
            }
            Phase::Draining | Phase::Farewell => {}
        }
        None
    }

    /// Without a will there is no farewell to wait for.
    fn advance_if_idle(&mut self) -> Option<End> {
        if self.unnumbered.is_empty() && self.unanswered.is_empty() { self.advance() } else { None }
    }

    /// The end of a connection that we took leave of.
    fn left(&self) -> End {
        if self.renewing { End::TryAgain } else { End::Stopped }
    }

    /// While connecting: the link may have come up. Online: there may be records to lease.
    async fn woken(&mut self) -> Woken {
        match self.phase {
            Phase::Connecting => {
                self.lane.link_up().await;
                Woken::LinkUp
            }
            _ if self.rendering.is_some() => Woken::Made(rendered(&mut self.rendering).await),
            Phase::Online if self.has_room() => {
                self.lane.changed().await;
                Woken::Records
            }
            _ => std::future::pending().await,
        }
    }

    fn has_room(&self) -> bool {
        self.unnumbered.len() + self.unanswered.len() < usize::from(self.mqtt.window)
    }

    fn fill(&mut self) {
        while self.has_room() && self.rendering.is_none() {
            let Some(lease) = self.lane.try_next() else { return };
            let mqtt = self.mqtt;
            let way = mqtt.ways.get(lease.variant).or(mqtt.ways.first()).map(|(way, _)| way);
            let snapshot = mqtt.interpreter.now();
            let meaning = way.and_then(|way| way.interpret_now(&snapshot, &lease.uplink));
            match (meaning, way) {
                (None, Some(way)) => {
                    let (variant, uplink, snapshot) =
                        (lease.variant, Arc::clone(&lease.uplink), Arc::clone(&snapshot));
                    let making = async move {
                        let meaning = way.interpret_async(&snapshot, &uplink).await;
                        mqtt.publication(variant, meaning)
                    };
                    self.rendering = Some((lease, Box::pin(making)));
                }
                (meaning, _) => {
                    let made =
                        meaning.map_or(Made::Dropped, |meaning| mqtt.publication(lease.variant, meaning));
                    self.publish(lease, made);
                }
            }
        }
    }

    fn rendered(&mut self, made: Made) {
        let Some((lease, _)) = self.rendering.take() else { return };
        match self.phase {
            Phase::Online => self.publish(lease, made),
            // The agent is stopping: no new publishes.
            _ => self.lane.release(lease),
        }
    }

    fn publish(&mut self, lease: Lease, made: Made) {
        match made {
            Made::Refused { failure, exchange } => {
                let outcome = Outcome::Failed(failure);
                self.lane.settle(lease, Report { outcome, exchange: Some(*exchange) });
            }
            Made::Dropped => self.lane.settle(lease, Outcome::Filtered),
            Made::Publication { topic, payload, exchange } => {
                let (qos, retain) = (self.mqtt.qos, self.mqtt.retain);
                if self.client.try_publish(topic, qos, retain, payload).is_err() {
                    // The topic is valid and the queue as long as the window, so it is the event loop that has gone.
                    self.lane.release(lease);
                    return;
                }
                self.unnumbered.push_back(Sent { qos, what: What::Record(lease, exchange, Instant::now()) });
            }
        }
    }

    fn delivered(&mut self, what: What, code: &str, receipt: Receipt) {
        if let What::Record(lease, mut exchange, since) = what {
            exchange.code = Some(code.to_owned());
            exchange.took = since.elapsed();
            let outcome = Outcome::Delivered(receipt);
            self.lane.settle(lease, Report { outcome, exchange: Some(*exchange) });
        }
    }

    fn announce(&mut self, message: Announcement) {
        let Announcement { topic, payload, qos, retain } = message;
        match self.client.try_publish(topic, qos, retain, payload) {
            Ok(()) => self.unnumbered.push_back(Sent { qos, what: What::Own }),
            Err(error) => log::warn!("{}: an announcement can't be sent: {error}", self.mqtt.name),
        }
    }

    fn handle(&mut self, event: Result<Event, ConnectionError>) -> Option<End> {
        match event {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                log::info!("{}: connected to {}", self.mqtt.name, self.mqtt.peer);
                self.phase = Phase::Online;
                if let Some(birth) = &self.mqtt.birth {
                    self.announce(birth.clone());
                }
                self.lane.reached();
                None
            }
            Ok(Event::Outgoing(Outgoing::Publish(packet_id))) => self.numbered(packet_id),
            Ok(Event::Incoming(Packet::PubAck(ack))) => {
                self.answered(ack.pkid, QoS::AtLeastOnce, Receipt::puback(&ack))
            }
            Ok(Event::Incoming(Packet::PubComp(comp))) => {
                self.answered(comp.pkid, QoS::ExactlyOnce, Receipt::pubcomp(&comp))
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) => Some(self.left()),
            Ok(Event::Outgoing(Outgoing::AwaitAck(packet_id))) => Some(
                self.confused(&format!("acknowledges out of order (packet id {packet_id} is still open)")),
            ),
            Ok(_) => None,
            Err(_) if self.phase == Phase::Leaving => Some(self.left()),
            Err(error) => {
                let connected = self.phase != Phase::Connecting;
                let failure = classify(&error, &self.mqtt.peer, connected);
                Some(End::Failed(self.mqtt.login.explained(failure)))
            }
        }
    }

    /// The library wrote the oldest publish that had no packet id yet. QoS 0 has none (0) and no answer.
    fn numbered(&mut self, packet_id: u16) -> Option<End> {
        let known = self.unanswered.iter().any(|(id, _)| *id == packet_id);
        match self.unnumbered.pop_front() {
            Some(Sent { qos: QoS::AtMostOnce, what }) if packet_id == 0 => {
                self.delivered(what, "written", Receipt::written_at_qos0());
                None
            }
            Some(sent) if packet_id != 0 && sent.qos != QoS::AtMostOnce && !known => {
                if self.unanswered.is_empty() {
                    self.oldest_since = Instant::now();
                }
                self.unanswered.push_back((packet_id, sent));
                None
            }
            mixed_up => {
                // Back in the queue, so that it is given back to the lane with the rest.
                self.unnumbered.extend(mixed_up);
                Some(self.confused(&format!("left packet id {packet_id} open, which is used again")))
            }
        }
    }

    /// An answer to an id that nothing waits for, or of the wrong kind, settles nothing.
    fn answered(&mut self, packet_id: u16, of: QoS, receipt: Receipt) -> Option<End> {
        let at = self.unanswered.iter().position(|(id, sent)| *id == packet_id && sent.qos == of);
        let Some((at, (_, sent))) = at.and_then(|at| Some((at, self.unanswered.remove(at)?))) else {
            return Some(
                self.confused(&format!("answered packet id {packet_id}, which does not wait for that")),
            );
        };
        if at == 0 {
            self.oldest_since = Instant::now();
        }
        self.delivered(sent.what, if of == QoS::ExactlyOnce { "PUBCOMP" } else { "PUBACK" }, receipt);
        None
    }

    fn confused(&self, what: &str) -> End {
        End::Failed(Failure::link(Layer::Mqtt, format!("{} {what}; starting a new session", self.mqtt.peer)))
    }

    fn stuck(&self) -> End {
        let seconds = self.patience().as_secs();
        End::Failed(Failure::link(
            Layer::Tcp,
            format!("nothing was acknowledged for {seconds} s; the link to {} hangs", self.mqtt.peer),
        ))
    }
}
