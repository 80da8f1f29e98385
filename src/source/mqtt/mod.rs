//! The MQTT source: a network server's broker, subscribed to with a session that survives us.
//!
//! The room owns one connection and one thread a `[source.NAME]`. What a message means says
//! [`server_uplink`](crate::server_uplink).
//!
//! # Who acknowledges what
//!
//! ```text
//!  broker                               this thread                          ingest, spool
//!    |<-- 1. CONNECT, fixed client id -----|                                       |
//!    |--- 2. CONNACK, session present? --->|                                       |
//!    |<-- 3. SUBSCRIBE, QoS 1 -------------| if not, or for the first time         |
//!    |--- 4. PUBLISH (QoS 1, id 7) ------->|                                       |
//!    |                                     |--- 5. offer ------------------------->|
//!    |                                     |<-- 6. accepted: it is safe -----------|
//!    |<-- 7. PUBACK 7 ---------------------|                                       |
//! ```
//!
//! The session is persistent (`clean_session` false) and acknowledged by hand: what was not acknowledged (7) is the broker's
//! still, and comes again on the next connection, over any crash of ours. So nothing is kept here for longer than a
//! connection lives, and every connection gets a new client and a new event loop: rumqttc would otherwise carry requests
//! over that belong to the one before. What comes again is told from the first by its id (RULES S20); a message without an
//! id that comes again is a new uplink.
//!
//! # Invariants
//!
//! - A PUBACK goes out only for what is safe, for what is no uplink, and for what was accepted before (S6); in the order the
//!   messages came, as MQTT demands. QoS 0 has no acknowledgement, and no promise.
//! - At most [`IN_HAND`] messages are not acknowledged; while there are so many the socket is not read.
//! - Nobody is connected to before the spool is open: the broker keeps what comes until then.
//! - A message larger than the limit can't be received and not refused either, so it would close every connection that it is
//!   offered on: the limit is then raised for it, up to [`LARGEST_EVER`], and it is counted `oversize`.
//!
//! # Refused when the room is built
//!
//! WebSocket, `format = "helium"` (nobody sends it over MQTT in a form that names an uplink), filters that are none.

mod explain;
mod session;

use std::sync::Arc;
use std::time::Duration;

use rumqttc::{Publish, matches, valid_filter};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::{self, Format, MqttScheme, MqttSource, Problem, Spot};
use crate::dial::{Dial, Peer, TlsSource};
use crate::metrics::{DoorCounters, DropReason};

use super::running::Running;
use super::server::{self, Intake, Told};
use super::tally::Dropped;
use crate::own_thread::Stop;

pub use super::server::IN_HAND;

/// Pings, and with them the longest silence of a broker that is well.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// DNS, TCP, TLS and CONNACK together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest packet at first: the longest text of an uplink and room for whoever is a bit too long.
const LARGEST: usize = 256 * 1024;

/// The largest packet that is ever taken in, to be put aside.
pub const LARGEST_EVER: usize = 16 << 20;

/// Waits between attempts to connect: doubling, with jitter.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_LAST: Duration = Duration::from_secs(30);

/// A connection that lived for so long was a good one.
const STABLE: Duration = Duration::from_secs(60);

/// An `mqtt` source that can be started.
#[derive(Debug)]
pub struct Mqtt {
    name: Arc<str>,
    peer: Peer,
    client_id: String,
    credentials: Option<(String, config::Secret)>,
    tls: Option<TlsSource>,
    topics: Vec<String>,
}

impl Mqtt {
    /// Checks what can be checked without starting.
    ///
    /// # Errors
    /// What is wrong with its settings, and what this version does not do.
    pub fn try_new(
        gateway: &str,
        name: &Spot<String>,
        config: &MqttSource,
        dial: &Dial,
    ) -> Result<Mqtt, Vec<Problem>> {
        let key = |key: &str| format!("source.{}.{key}", name.value);
        let mut problems = Vec::new();
        if matches!(config.scheme, MqttScheme::Ws | MqttScheme::Wss) {
            let message = "MQTT over WebSocket is not available in this version";
            problems
                .push(Problem::error(&config.url.place, key("url"), message).hint("use mqtt:// or mqtts://"));
        }
        if config.format.value == Format::Helium {
            let message = "a source can't read \"helium\"";
            let hint =
                "use \"chirpstack\", \"tts\" or \"json\"; which of them a message is in is told from itself";
            problems.push(Problem::error(&config.format.place, key("format"), message).hint(hint));
        }
        for topic in config.topics.iter().filter(|topic| !valid_filter(bare(topic))) {
            let message = "this is not an MQTT topic filter";
            let hint = "+ stands for one whole level, # for the rest and only at the end";
            problems.push(Problem::error(&topic.place, key("topics"), message).hint(hint));
        }
        let tls = if config.scheme.is_tls() {
            dial.tls(&key("tls"), &config::Tls::default())
                .map(Some)
                .map_err(|more| problems.extend(more))
                .ok()
        } else {
            Some(None)
        };
        match tls {
            Some(tls) if problems.is_empty() => Ok(Mqtt {
                name: Arc::from(name.value.as_str()),
                peer: Peer { host: config.host.clone(), port: config.port },
                client_id: client_id(gateway, &name.value),
                credentials: credentials(config),
                tls,
                topics: config.topics.iter().map(|topic| topic.value.clone()).collect(),
            }),
            _ => Err(problems),
        }
    }

    /// Starts the thread. It connects once `intake` is open, and again whenever it must, until it is stopped.
    ///
    /// # Errors
    /// The system's, when it has no thread or no timer left.
    pub fn start(
        self,
        intake: Intake,
        counters: Arc<DoorCounters>,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Running> {
        let client = Client {
            mqtt: self,
            intake,
            counters,
            clock,
            dropped: Dropped::default(),
            subscribed: false,
            largest: LARGEST,
        };
        Running::start(Arc::clone(&client.mqtt.name), "mqtt-source", None, |stop| client.run(stop))
    }
}

/// The same over restarts, or the broker's session would be somebody else's. Letters, digits, `-`, `_` and `.` only, which
/// every broker takes.
fn client_id(gateway: &str, source: &str) -> String {
    let fine = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    format!("packhorse-{gateway}-{source}").chars().map(fine).collect()
}

fn credentials(config: &MqttSource) -> Option<(String, config::Secret)> {
    let password = config.password.clone().unwrap_or_else(|| config::Secret::new(String::new()));
    config.username.clone().map(|username| (username, password))
}

/// The filter that topics are matched with: a shared subscription (`$share/GROUP/FILTER`) has it at its end.
fn bare(filter: &str) -> &str {
    let shared = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    shared.map_or(filter, |(_, filter)| filter)
}

/// A source that runs.
struct Client {
    mqtt: Mqtt,
    intake: Intake,
    counters: Arc<DoorCounters>,
    clock: Arc<dyn Clock>,
    dropped: Dropped,
    /// The broker's session has the topics of this config.
    subscribed: bool,
    /// The largest packet that is received.
    largest: usize,
}

impl Client {
    async fn run(mut self, mut stop: Stop) {
        tokio::select! {
            () = stop.stopped() => return,
            () = self.intake.opened() => {}
        }
        let mut wait = AGAIN_FIRST;
        let mut told = String::new();
        loop {
            let started = Instant::now();
            let session::End::Failed(why) = session::Session::new(&mut self).run(&mut stop).await else {
                return;
            };
            if started.elapsed() >= STABLE {
                wait = AGAIN_FIRST;
                told.clear();
            }
            if told == why {
                log::debug!("source {}: {why}", self.mqtt.name);
            } else {
                log::warn!("source {}: {why}; trying again until it works", self.mqtt.name);
                told = why;
            }
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)) => {}
            }
            wait = (wait * 2).min(AGAIN_LAST);
        }
    }

    /// The uplink of a message; what is none is counted.
    fn read(&mut self, message: &Publish) -> Option<Told> {
        // A session remembers the filters of an earlier config.
        if !self.mqtt.topics.iter().any(|filter| matches(&message.topic, bare(filter))) {
            self.drop(DropReason::NotSubscribed, &message.topic, "this topic is no longer among `topics`");
            return None;
        }
        match Told::read(&message.payload, self.clock.now()) {
            Ok(mut told) => {
                if message.retain && told.id.is_none() {
                    // The broker says it again at every subscription: it is told from the first by what it says.
                    told.id = Some(String::from_utf8_lossy(&told.text).into_owned());
                }
                Some(told)
            }
            Err(why) => {
                self.drop(server::drop_reason(&why), &message.topic, &why.to_string());
                None
            }
        }
    }

    fn drop(&mut self, reason: DropReason, topic: &str, why: &str) {
        self.counters.dropped(reason, 1);
        let Some(times) = self.dropped.again(reason) else { return };
        let topic = crate::printable::printable(topic);
        log::warn!("source {}: {} on {topic}: {why} ({times} so far)", self.mqtt.name, reason.as_str());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::clock::SystemClock;
    use crate::config::{Config, SourceKind};

    fn try_new(keys: &str) -> Result<Mqtt, Vec<Problem>> {
        let text = format!("[gateway]\nname = \"Barn roof/1\"\n[source.lns]\ntype = \"mqtt\"\n{keys}");
        let config = Config::parse(&text, std::path::Path::new("/nowhere/packhorse.toml")).unwrap().config;
        let SourceKind::Mqtt(mqtt) = &config.sources[0].kind else { panic!() };
        let dial = Dial::new(Arc::new(SystemClock::new()));
        Mqtt::try_new(&config.gateway.name, &config.sources[0].name, mqtt, &dial)
    }

    #[test]
    fn the_client_id_is_the_gateways_and_the_sources() {
        let mqtt = try_new("url = \"mqtt://[::1]\"\ntopics = [\"application/+/device/+/event/up\"]").unwrap();
        assert_eq!(mqtt.client_id, "packhorse-Barn-roof-1-lns");
        assert_eq!(mqtt.peer.to_string(), "[::1]:1883");
    }

    #[test]
    fn what_can_not_work_is_named() {
        let problems = |keys: &str| -> Vec<String> {
            let mut keys: Vec<String> =
                try_new(keys).err().into_iter().flatten().map(|problem| problem.key).collect();
            keys.sort();
            keys
        };
        assert_eq!(problems("url = \"ws://h/mqtt\"\ntopics = [\"a\"]"), ["source.lns.url"]);
        assert_eq!(
            problems("url = \"mqtt://h\"\ntopics = [\"a\"]\nformat = \"helium\""),
            ["source.lns.format"]
        );
        assert_eq!(
            problems("url = \"mqtt://h\"\ntopics = [\"a/#/b\", \"ok/+\", \"a+\", \"$share/g/a/#\"]"),
            ["source.lns.topics"; 2]
        );
    }
}
