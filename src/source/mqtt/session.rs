//! One connection, from CONNECT to its end. See the [module](super) for who acknowledges what.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use rumqttc::mqttbytes::{self, QoS};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Outgoing, Packet, Publish,
    StateError, SubAck, SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::explain::explain;
use super::{CONNECT_TIMEOUT, Client, IN_HAND, KEEP_ALIVE, LARGEST_EVER, Stop};

/// How long a stop waits for what is in hand.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How long a connection may stand still.
const PATIENCE: Duration = KEEP_ALIVE.saturating_mul(2).saturating_add(CONNECT_TIMEOUT);

/// Requests that may wait in the library: more than there are packet ids to acknowledge, so that it is never full.
const REQUESTS: usize = 70_000;

/// What we publish.
const LARGEST_SENT: usize = 64 * 1024;

/// How a connection ended.
pub(super) enum End {
    /// As asked.
    Stopped,
    /// Why.
    Failed(String),
}

/// A message that is not acknowledged yet.
struct InHand {
    /// Without its payload.
    message: Publish,
    /// Comes when it is safe; `None`: there is nothing to wait for.
    answer: Option<oneshot::Receiver<Vec<Uuid>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Online,
    /// Nothing more is taken; waiting for what is in hand.
    Draining,
    /// DISCONNECT is under way.
    Leaving,
}

pub(super) struct Session<'a> {
    client: &'a mut Client,
    requests: AsyncClient,
    events: Option<EventLoop>,
    phase: Phase,
    /// In the order they came, which is the order they are acknowledged in.
    in_hand: VecDeque<InHand>,
}

/// Polls once. The event loop travels through the future, so that there is always exactly one poll, and it is never
/// cancelled: a cancelled one may lose a packet.
async fn pump(mut events: EventLoop) -> (EventLoop, Result<Event, ConnectionError>) {
    let event = events.poll().await;
    (events, event)
}

/// Waits until the oldest message in hand is safe, or is never going to be. Safe to cancel.
async fn oldest_answer(in_hand: &mut VecDeque<InHand>) -> Result<(), oneshot::error::RecvError> {
    match in_hand.front_mut() {
        None => std::future::pending().await,
        Some(InHand { answer: None, .. }) => Ok(()),
        Some(InHand { answer: Some(answer), .. }) => answer.await.map(drop),
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(client: &'a mut Client) -> Session<'a> {
        let (requests, events) = new_connection(client);
        let in_hand = VecDeque::with_capacity(IN_HAND);
        Session { client, requests, events: Some(events), phase: Phase::Connecting, in_hand }
    }

    /// Runs the connection to its end. What is in hand then comes again on the next one.
    pub(super) async fn run(mut self, stop: &mut Stop) -> End {
        let Some(events) = self.events.take() else { return End::Stopped };
        let mut poll = pin!(pump(events));
        let mut last_event = Instant::now();
        let mut stop_by = None;
        loop {
            if self.phase == Phase::Draining && self.in_hand.is_empty() {
                self.phase = Phase::Leaving;
                // Behind the acknowledgements, which are written first.
                if self.requests.try_disconnect().is_err() {
                    return End::Stopped;
                }
            }
            // Unread messages stay with the broker. Its pings are answered late then, which it may take for our end; what is
            // in hand comes again in that case.
            let reads = stop_by.is_some() || self.in_hand.len() < IN_HAND;
            tokio::select! {
                (events, event) = &mut poll, if reads => {
                    match self.handle(event) {
                        Some(end) => return end,
                        None => poll.set(pump(events)),
                    }
                    last_event = Instant::now();
                }
                answer = oldest_answer(&mut self.in_hand) => {
                    if answer.is_err() {
                        return End::Failed("the spool takes nothing more".to_owned());
                    }
                    if let Some(end) = self.acknowledge_oldest() {
                        return end;
                    }
                    last_event = Instant::now();
                }
                () = stop.stopped(), if stop_by.is_none() => {
                    if self.phase == Phase::Connecting {
                        return End::Stopped;
                    }
                    self.phase = Phase::Draining;
                    stop_by = Some(Instant::now() + STOP_GRACE);
                }
                () = tokio::time::sleep_until(stop_by.unwrap_or(last_event + PATIENCE)), if reads => {
                    return match stop_by {
                        Some(_) => End::Stopped,
                        None => End::Failed(format!("the link to {} hangs", self.client.mqtt.peer)),
                    };
                }
            }
        }
    }

    fn handle(&mut self, event: Result<Event, ConnectionError>) -> Option<End> {
        match event {
            Ok(Event::Incoming(Packet::ConnAck(ack))) => self.connected(ack.session_present),
            Ok(Event::Incoming(Packet::SubAck(ack))) => self.subscribed(&ack),
            Ok(Event::Incoming(Packet::Publish(message))) => self.take(message),
            Ok(Event::Outgoing(Outgoing::Disconnect)) => Some(End::Stopped),
            Ok(_) => None,
            Err(_) if self.phase == Phase::Leaving => Some(End::Stopped),
            Err(error) => Some(End::Failed(self.failed(&error))),
        }
    }

    /// The broker may have a session of ours that knows the topics; those of a new config it does not know.
    fn connected(&mut self, session_present: bool) -> Option<End> {
        self.phase = Phase::Online;
        let mqtt = &self.client.mqtt;
        log::info!("source {}: connected to {} as {}", mqtt.name, mqtt.peer, mqtt.client_id);
        if session_present && self.client.subscribed {
            return None;
        }
        let filters = mqtt.topics.iter().map(|topic| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce));
        match self.requests.try_subscribe_many(filters) {
            Ok(()) => None,
            Err(_) => Some(End::Failed("the topics can't be subscribed to".to_owned())),
        }
    }

    fn subscribed(&mut self, ack: &SubAck) -> Option<End> {
        let mut answers = self.client.mqtt.topics.iter().zip(&ack.return_codes);
        if let Some((topic, _)) = answers.find(|(_, code)| **code == SubscribeReasonCode::Failure) {
            let peer = &self.client.mqtt.peer;
            return Some(End::Failed(format!(
                "{peer} refuses the subscription to {topic}; check the user's access rules"
            )));
        }
        self.client.subscribed = true;
        log::info!("source {}: subscribed", self.client.mqtt.name);
        None
    }

    fn take(&mut self, mut message: Publish) -> Option<End> {
        if self.phase != Phase::Online {
            // Not acknowledged, so it comes again.
            return None;
        }
        let answer = match self.client.read(&message) {
            None => None,
            Some(told) => match self.client.intake.offer(&self.client.mqtt.name, vec![told], None) {
                Some(answer) => Some(answer),
                None => return Some(End::Failed("the spool takes nothing more".to_owned())),
            },
        };
        message.payload.clear();
        self.in_hand.push_back(InHand { message, answer });
        None
    }

    fn acknowledge_oldest(&mut self) -> Option<End> {
        let InHand { message, .. } = self.in_hand.pop_front()?;
        match self.requests.try_ack(&message) {
            Ok(()) => None,
            Err(_) => Some(End::Failed("the session takes no acknowledgement".to_owned())),
        }
    }

    /// The sentence for an error; a message that is too large is let in next time.
    fn failed(&mut self, error: &ConnectionError) -> String {
        if let ConnectionError::MqttState(StateError::Deserialization(
            mqttbytes::Error::PayloadSizeLimitExceeded(size),
        )) = error
        {
            let before = self.client.largest;
            // The header comes on top.
            self.client.largest = size.saturating_add(16).clamp(before, LARGEST_EVER);
            return if self.client.largest > before {
                format!("a message of {size} bytes is no uplink; it is taken in once to put it aside")
            } else {
                let (peer, id) = (&self.client.mqtt.peer, &self.client.mqtt.client_id);
                format!(
                    "a message of {size} bytes can't be taken in, and {peer} offers it again and again: narrow `topics`, and \
                     remove the session of client {id} at the broker"
                )
            };
        }
        explain(error, &self.client.mqtt.peer, &*self.client.clock)
    }
}

/// A new client and event loop, for one connection.
fn new_connection(client: &Client) -> (AsyncClient, EventLoop) {
    let mqtt = &client.mqtt;
    let mut options = MqttOptions::new(&mqtt.client_id, &mqtt.peer.host, mqtt.peer.port);
    options
        .set_clean_session(false)
        .set_manual_acks(true)
        .set_keep_alive(KEEP_ALIVE)
        .set_max_packet_size(client.largest, LARGEST_SENT);
    if let Some((username, password)) = &mqtt.credentials {
        options.set_credentials(username, password.expose());
    }
    if let Some(tls) = &mqtt.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.current())));
    }
    let (requests, mut events) = AsyncClient::new(options, REQUESTS);
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    network.set_tcp_nodelay(true);
    events.set_network_options(network);
    (requests, events)
}
