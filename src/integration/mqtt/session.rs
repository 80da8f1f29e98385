//! One connection, from CONNECT to its end. See the [module](super) for its life.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::time::Duration;

use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, Outgoing, Packet};
use tokio::time::Instant;

use crate::delivery::outcome::{Failure, Layer, Outcome, Receipt};
use crate::delivery::{Lane, Lease, Stop};

use super::connect::classify;
use super::{Announcement, CONNECT_TIMEOUT, Mqtt};

/// How long a stop waits for answers before it just drops the connection (the broker then publishes the will).
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A connection attempt younger than this is not given up for a link-up signal.
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
enum Sent {
    Birth,
    Farewell,
    Record(Lease),
}

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
    /// Written, waiting for the answer to their packet id.
    unanswered: BTreeMap<u16, Sent>,
}

/// Polls once. The event loop travels through the future, so that there is always exactly one poll, and it is never
/// cancelled: a cancelled one may lose a packet that the library counts as written.
async fn pump(mut events: EventLoop) -> (EventLoop, Result<Event, ConnectionError>) {
    let event = events.poll().await;
    (events, event)
}

impl<'a> Session<'a> {
    pub(super) fn new(mqtt: &'a Mqtt, lane: &'a mut Lane) -> Session<'a> {
        let (client, events) = mqtt.new_connection();
        Session {
            mqtt,
            lane,
            client,
            events: Some(events),
            phase: Phase::Connecting,
            unnumbered: VecDeque::new(),
            unanswered: BTreeMap::new(),
        }
    }

    /// Runs the connection to its end and gives back what was not answered.
    pub(super) async fn run(mut self, stop: &mut Stop) -> End {
        let end = self.serve(stop).await;
        let unanswered = std::mem::take(&mut self.unanswered).into_values();
        for sent in unanswered.chain(std::mem::take(&mut self.unnumbered)) {
            if let Sent::Record(lease) = sent {
                self.lane.release(lease);
            }
        }
        end
    }

    async fn serve(&mut self, stop: &mut Stop) -> End {
        let Some(events) = self.events.take() else { return End::TryAgain };
        let mut poll = pin!(pump(events));
        let started = Instant::now();
        let patience = self.mqtt.keep_alive * 2 + CONNECT_TIMEOUT;
        let mut watchdog = started + patience;
        let mut give_up_at = None;
        loop {
            if let Some(end) = self.advance() {
                return end;
            }
            tokio::select! {
                (events, event) = &mut poll => {
                    match self.handle(event) {
                        Some(end) => return end,
                        None => poll.set(pump(events)),
                    }
                    watchdog = Instant::now() + patience;
                }
                () = self.woken() => {
                    if self.phase == Phase::Connecting && started.elapsed() >= FRESH_ATTEMPT {
                        return End::TryAgain;
                    }
                }
                () = stop.stopped(), if give_up_at.is_none() => {
                    if self.phase == Phase::Connecting {
                        return End::Stopped;
                    }
                    self.phase = Phase::Draining;
                    give_up_at = Some(Instant::now() + STOP_GRACE);
                }
                () = tokio::time::sleep_until(give_up_at.unwrap_or(watchdog)) => {
                    return if give_up_at.is_some() { End::Stopped } else { self.stuck(patience) };
                }
            }
        }
    }

    /// Does what the phase allows: lease and publish, or take leave step by step.
    fn advance(&mut self) -> Option<End> {
        let idle = self.unnumbered.is_empty() && self.unanswered.is_empty();
        match self.phase {
            Phase::Connecting | Phase::Leaving => {}
            Phase::Online => self.fill(),
            Phase::Draining if idle => {
                self.phase = Phase::Farewell;
                if let Some(will) = &self.mqtt.will {
                    self.announce(will.clone(), Sent::Farewell);
                }
                return self.advance_if_idle();
            }
            Phase::Farewell if idle => {
                self.phase = Phase::Leaving;
                if self.client.try_disconnect().is_err() {
                    return Some(End::Stopped);
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

    /// While connecting: the link may have come up. Online: there may be records to lease.
    async fn woken(&mut self) {
        match self.phase {
            Phase::Connecting => self.lane.link_up().await,
            Phase::Online if self.has_room() => self.lane.changed().await,
            _ => std::future::pending().await,
        }
    }

    fn has_room(&self) -> bool {
        self.unnumbered.len() + self.unanswered.len() < usize::from(self.mqtt.window)
    }

    fn fill(&mut self) {
        while self.has_room() {
            let Some(lease) = self.lane.try_next() else { return };
            match self.mqtt.publish_of(&lease.uplink) {
                Err(failure) => self.lane.settle(lease, Outcome::Failed(failure)),
                Ok((topic, payload)) => {
                    let handed_over =
                        self.client.try_publish(topic, self.mqtt.qos, self.mqtt.retain, payload);
                    if handed_over.is_err() {
                        // The queue is as long as the window, so it is the event loop that has gone.
                        self.lane.release(lease);
                        return;
                    }
                    self.unnumbered.push_back(Sent::Record(lease));
                }
            }
        }
    }

    fn announce(&mut self, message: Announcement, as_what: Sent) {
        let Announcement { topic, payload, qos, retain } = message;
        match self.client.try_publish(topic, qos, retain, payload) {
            Ok(()) => self.unnumbered.push_back(as_what),
            Err(error) => log::warn!("{}: an announcement can't be sent: {error}", self.mqtt.name),
        }
    }

    fn handle(&mut self, event: Result<Event, ConnectionError>) -> Option<End> {
        match event {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                log::info!("{}: connected to {}", self.mqtt.name, self.mqtt.peer);
                self.phase = Phase::Online;
                if let Some(birth) = &self.mqtt.birth {
                    self.announce(birth.clone(), Sent::Birth);
                }
                self.lane.reached();
                None
            }
            Ok(Event::Outgoing(Outgoing::Publish(packet_id))) => self.numbered(packet_id),
            Ok(Event::Incoming(Packet::PubAck(ack))) => {
                self.answered(ack.pkid, Receipt::puback(&ack));
                None
            }
            Ok(Event::Incoming(Packet::PubComp(comp))) => {
                self.answered(comp.pkid, Receipt::pubcomp(&comp));
                None
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) => Some(End::Stopped),
            Ok(Event::Outgoing(Outgoing::AwaitAck(packet_id))) => Some(End::Failed(Failure::link(
                Layer::Mqtt,
                format!(
                    "{} acknowledges out of order (id {packet_id}); starting a new session",
                    self.mqtt.peer
                ),
            ))),
            Ok(_) => None,
            Err(_) if self.phase == Phase::Leaving => Some(End::Stopped),
            Err(error) => {
                let connected = self.phase != Phase::Connecting;
                Some(End::Failed(classify(&error, &self.mqtt.peer, connected)))
            }
        }
    }

    /// The library wrote the oldest publish that had no packet id yet. QoS 0 has none (0) and no answer.
    fn numbered(&mut self, packet_id: u16) -> Option<End> {
        let sent = self.unnumbered.pop_front();
        let mixed_up = match (packet_id, sent) {
            (0, Some(Sent::Record(lease))) => {
                self.lane.settle(lease, Outcome::Delivered(Receipt::written_at_qos0()));
                false
            }
            (0, Some(Sent::Birth | Sent::Farewell)) => false,
            (_, Some(sent)) => match self.unanswered.insert(packet_id, sent) {
                Some(Sent::Record(lease)) => {
                    self.lane.release(lease);
                    true
                }
                other => other.is_some(),
            },
            (_, None) => true,
        };
        mixed_up.then(|| {
            End::Failed(Failure::link(
                Layer::Mqtt,
                format!("packet id {packet_id} can't be paired with a message; starting a new session"),
            ))
        })
    }

    /// An answer to an id that nothing waits for means nothing and settles nothing.
    fn answered(&mut self, packet_id: u16, receipt: Receipt) {
        if let Some(Sent::Record(lease)) = self.unanswered.remove(&packet_id) {
            self.lane.settle(lease, Outcome::Delivered(receipt));
        }
    }

    fn stuck(&self, patience: Duration) -> End {
        End::Failed(Failure::link(
            Layer::Tcp,
            format!("nothing moved for {} s; the link to {} hangs", patience.as_secs(), self.mqtt.peer),
        ))
    }
}
