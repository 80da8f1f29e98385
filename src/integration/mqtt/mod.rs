//! MQTT 3.1.1 and 5: a publisher whose only memory is the spool.
//!
//! rumqttc forgets what is under way whenever the broker has no session for us, repeats stale packet ids when an event
//! loop outlives a connection, and can stop publishing for good after acknowledgements out of order. So every connection
//! gets a new client and a new event loop ([`session`]), nothing is ever left in the library for the next one, and a
//! record that was not acknowledged goes back to its lane. Both versions are the same to a session ([`wire`]); MQTT 5 can
//! say why it refuses something, which decides what becomes of it, and carries `id`, `attempt`, `hold_ms` and the rest of what
//! is about the sending and not about the uplink as user properties.
//!
//! # The life of a connection
//!
//! 1. Wait until the lane allows an attempt. Connect with a clean session and the will.
//! 2. CONNACK: publish the birth, then lease records up to the window, or what the broker allows if that is less.
//! 3. Each `Outgoing::Publish` takes the packet id of the oldest publish that has none (the library writes in the order
//!    it was asked); each PUBACK or PUBCOMP settles the publish of its id.
//!    A refusal that is the record's fault makes it a dead letter; any other ends the session, for the order's sake (S15).
//! 4. On an error, when nothing moved for two keep-alives and a connect time-out, or when the oldest publish waited that
//!    long for its answer: everything unanswered goes back, the lane backs off. If it is always the same record that the
//!    broker hangs up on, that one is given up ([`poison`]).
//! 5. Before a password ends that was made for the connection (Azure): no new leases, wait for the answers, DISCONNECT, and
//!    on with 1. Nobody hears of it but those who see the birth again.
//! 6. Now and then: the state, if one is wanted ([`own`]).
//! 7. On stop: no new leases, wait for the answers, publish the will's payload ourselves and wait for its answer, then
//!    DISCONNECT (a clean one makes the broker forget the will), so that the far end hears "offline" either way.
//!
//! PUBACK is the broker's word, not its disk: a broker that crashes may lose what it acknowledged.

mod flight;
mod login;
mod own;
mod poison;
mod session;
mod trial;
mod wire;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rumqttc::mqttbytes::{QoS, valid_topic};

use crate::clock::Clock;
use crate::config::{self, IntegrationKind, MqttVersion, Problem};
use crate::delivery::outcome::{Failure, Layer};
use crate::delivery::{Lane, Lease, Stop};
use crate::dial::{Dial, Peer, TlsSource};
use crate::flow::Variant;
use crate::history::Exchange;
use crate::integration::platform::Platform;
use crate::integration::way::{Way, hold_ms};
use crate::render::{Interpreter, Meaning, Message, Purpose, Template};

use login::Login;
use own::{About, Own, StateMessage};
use poison::Poison;
use session::{End, Session};
use trial::Door;
use wire::{Broken, Properties, Publication, Socket, Terms, packet_bytes};

/// DNS, TCP, TLS and CONNACK together. Long enough for a 2G or satellite link.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest PUBLISH we send, topic and header included (AWS IoT Core takes 128 KiB, most brokers 256 KiB and more).
const MAX_PACKET_BYTES: usize = 256 * 1024;

/// The longest string that MQTT can carry (3.1.1, section 1.5.3).
const MAX_TOPIC_BYTES: usize = 65_535;

/// An MQTT integration, ready to run.
#[derive(Debug)]
pub struct Mqtt {
    name: String,
    is_v5: bool,
    interpreter: Interpreter,
    peer: Peer,
    socket: Socket,
    own: Own,
    /// Connections so far.
    sequence: AtomicU64,
    clock: Arc<dyn Clock>,
    started_ns: u64,
    login: Login,
    max_packet_bytes: usize,
    keep_alive: Duration,
    window: u16,
    tls: Option<TlsSource>,
    /// The variants, each with its topic.
    ways: Vec<(Way, Template)>,
    qos: QoS,
    retain: bool,
    door: Door,
}

impl Mqtt {
    /// Builds the client.
    ///
    /// # Errors
    /// What is wrong with its settings.
    pub fn try_new(
        integration: &config::Integration,
        dial: &Dial,
        interpreter: &Interpreter,
        variants: &[Variant],
    ) -> Result<Mqtt, Vec<Problem>> {
        let IntegrationKind::Mqtt(mqtt) = &integration.kind else { return Err(Vec::new()) };
        let key = |key: &str| format!("integration.{}.{key}", integration.name.value);
        let mut problems: Vec<Problem> = wire::unavailable(&integration.name, mqtt).into_iter().collect();
        let socket = Socket::try_new(&integration.name, mqtt).map_err(|problem| problems.push(problem)).ok();
        let gateway = interpreter.gateway();
        let platform = Platform::of(&mqtt.host);
        let max_packet_bytes = platform.and_then(Platform::max_packet_bytes).unwrap_or(MAX_PACKET_BYTES);
        let own = Own::try_new(&integration.name, mqtt, gateway).map_err(|more| problems.extend(more)).ok();
        let client_id = own.as_ref().map_or("", |own| own.client_id.as_str());
        let login = Login::try_new(gateway, integration, mqtt, client_id, dial);
        let login = login.map_err(|more| problems.extend(more)).ok();
        let ways = ways(integration, mqtt, variants).map_err(|more| problems.extend(more)).ok();
        let tls = if mqtt.scheme.value.is_tls() {
            dial.tls(&key("tls"), &integration.tls).map(Some).map_err(|more| problems.extend(more)).ok()
        } else {
            Some(None)
        };
        match (own, socket, ways, tls, login) {
            (Some(own), Some(socket), Some(ways), Some(tls), Some(login)) if problems.is_empty() => {
                Ok(Mqtt {
                    name: integration.name.value.clone(),
                    is_v5: mqtt.version.value == MqttVersion::V5,
                    interpreter: interpreter.clone(),
                    peer: Peer { host: wire::host(mqtt), port: mqtt.port },
                    socket,
                    own,
                    sequence: AtomicU64::new(0),
                    clock: Arc::clone(dial.clock()),
                    started_ns: dial.clock().boot_ns(),
                    login,
                    max_packet_bytes,
                    keep_alive: mqtt.keep_alive,
                    window: mqtt.max_inflight.clamp(1, 64),
                    tls,
                    ways,
                    qos: qos(mqtt.qos),
                    retain: mqtt.retain,
                    door: Door::new(),
                })
            }
            _ => Err(problems),
        }
    }

    /// Drives the lane until `stop`.
    pub async fn run(&self, lane: &mut Lane, stop: &mut Stop) {
        let mut poison = Poison::default();
        let mut trials = self.door.open().await;
        loop {
            tokio::select! {
                () = stop.stopped() => return,
                () = lane.may_attempt() => {}
                () = trials.come() => {}
            }
            let end = match Session::new(self, lane, &mut poison, &mut trials) {
                Ok(session) => session.run(stop).await,
                Err(failure) => End::Failed(Broken::other(failure)),
            };
            match end {
                End::Stopped => return,
                End::TryAgain | End::Told(_) => {}
                End::Failed(broken) => {
                    trials.fail_all(&broken.failure);
                    lane.failed(&broken.failure);
                }
            }
        }
    }

    /// Whether the broker lets us in, asked with a connection that announces nothing.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn probe(&self) -> Result<(), Failure> {
        session::knock(self).await
    }

    /// What a lane says of itself.
    fn state(&self, state: &StateMessage, sequence: u64, lane: &mut Lane) -> Publication {
        let about = About {
            gateway: self.interpreter.gateway(),
            time_us: self.clock.wall_us(),
            uptime_s: self.clock.boot_ns().saturating_sub(self.started_ns) / 1_000_000_000,
            sequence,
        };
        state.publication(&about, lane.bulletin(), self.is_v5)
    }

    /// Why nothing can be published on these terms.
    fn unacceptable(&self, terms: Terms) -> Option<Failure> {
        let endpoint =
            |message: &str| Some(Failure::endpoint(Layer::Mqtt, format!("{} {message}", self.peer)));
        if self.qos != QoS::AtMostOnce && terms.max_qos == QoS::AtMostOnce {
            return endpoint("takes QoS 0 alone, which is never acknowledged; set qos = 0 if that will do");
        }
        if self.retain && !terms.retains {
            return endpoint("does not retain messages; set retain = false");
        }
        None
    }

    /// What goes over the wire for an uplink.
    fn publication(&self, sending: Sending, meaning: Meaning<'_>) -> Made {
        let Meaning::Message(message) = meaning else { return Made::Dropped };
        self.publish(sending, &message).unwrap_or_else(|failure| {
            let exchange = Exchange { device: message.shown_device(), ..Exchange::default() };
            Made::Refused { failure, exchange: Box::new(exchange) }
        })
    }

    fn publish(&self, sending: Sending, message: &Message<'_>) -> Result<Made, Failure> {
        let Some((way, topic)) = self.ways.get(sending.variant) else {
            // A lane has as many variants as its integration was built with.
            return Err(Failure::link(Layer::Render, "this way to send it is not configured any more"));
        };
        let topic = topic
            .render(&message.context_for(std::iter::once(topic)))
            .map_err(|error| Failure::record(Layer::Render, format!("topic: {error}")))?;
        if topic.is_empty() || topic.len() > MAX_TOPIC_BYTES || !valid_topic(&topic) {
            let message = format!(
                "a topic of {} bytes can't be used; a broker takes 1 to {MAX_TOPIC_BYTES}, without + and #",
                topic.len()
            );
            return Err(Failure::record(Layer::Render, message));
        }
        let body = way.renderer.body(message)?;
        let exchange = Exchange {
            device: message.shown_device(),
            target: message.hide(&topic),
            // Whoever tests wants all of it.
            body: if message.uplink.flags.simulated { way.renderer.body_shown(message)? } else { body.shown },
            notes: message.notes(body.warnings),
            ..Exchange::default()
        };
        let properties = self.is_v5.then(|| Properties {
            content_type: body.content_type.to_string(),
            user: user_properties(way, sending, message, &*self.clock),
        });
        let (qos, retain) = (sending.terms.qos(self.qos), self.retain);
        let publication = Publication { topic, payload: body.bytes, qos, retain, properties };
        let (size, limit) = (packet_bytes(self.is_v5, &publication), sending.terms.max_packet_bytes);
        if size > limit {
            let message =
                format!("the message has {size} bytes, more than the {limit} that the broker takes");
            return Err(Failure::record(Layer::Mqtt, message));
        }
        Ok(Made::Publication { publication, exchange: Box::new(exchange) })
    }
}

/// What is about this sending of an uplink and not about the uplink: in no body, so that every attempt has the same.
fn user_properties(
    way: &Way,
    sending: Sending,
    message: &Message<'_>,
    clock: &dyn Clock,
) -> Vec<(&'static str, String)> {
    let flags = message.uplink.flags;
    let so = |name: &'static str, is_so: bool| is_so.then(|| (name, "true".to_owned()));
    let mut user =
        vec![("id", way.key(message.uplink, sending.extra)), ("attempt", sending.attempt.to_string())];
    user.extend(hold_ms(message.uplink, clock).map(|ms| ("hold_ms", ms.to_string())));
    user.extend(so("replay", message.replay));
    user.extend(so("retransmission", flags.retransmission));
    user.extend(so("simulated", flags.simulated));
    user
}

/// What a publication depends on beside its uplink.
#[derive(Clone, Copy, Debug)]
struct Sending {
    variant: usize,
    attempt: u32,
    extra: bool,
    terms: Terms,
}

impl Sending {
    fn of(lease: &Lease, terms: Terms) -> Sending {
        Sending { variant: lease.variant, attempt: lease.attempt, extra: lease.extra, terms }
    }

    /// The first attempt, in the plain variant.
    fn first(terms: Terms) -> Sending {
        Sending { variant: 0, attempt: 1, extra: false, terms }
    }
}

/// What was made of an uplink, with what may be shown of it.
#[derive(Debug)]
enum Made {
    /// A message to be published.
    Publication { publication: Publication, exchange: Box<Exchange> },
    /// None can be made.
    Refused { failure: Failure, exchange: Box<Exchange> },
    /// A function dropped it.
    Dropped,
}

/// The variants, each with the topic of its flow or the integration's own.
fn ways(
    integration: &config::Integration,
    mqtt: &config::Mqtt,
    variants: &[Variant],
) -> Result<Vec<(Way, Template)>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut ways = Vec::new();
    for (way, variant) in Way::all(integration, variants)?.into_iter().zip(variants) {
        let (text, key) = match &variant.topic {
            Some(text) => (text, format!("flow.{}.to", variant.flow)),
            None => (&mqtt.topic, format!("integration.{}.topic", integration.name.value)),
        };
        match topic(text, &key) {
            Ok(topic) => ways.push((way, topic)),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(ways) } else { Err(problems) }
}

/// The topic of uplinks, tried on a sample.
fn topic(text: &config::Spot<String>, key: &str) -> Result<Template, Problem> {
    let problem = |message: String| Problem::error(&text.place, key, message);
    let topic = Template::parse(text, Purpose::Topic).map_err(|error| problem(error.to_string()))?;
    topic.sample().map_err(|error| problem(error.to_string()))?;
    Ok(topic)
}

fn qos(qos: config::QoS) -> QoS {
    match qos {
        config::QoS::AtMostOnce => QoS::AtMostOnce,
        config::QoS::AtLeastOnce => QoS::AtLeastOnce,
        config::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

#[cfg(test)]
mod tests;
