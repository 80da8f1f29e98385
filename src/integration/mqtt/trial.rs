//! `test`: one publish beside the records (RULES S29).
//!
//! A broker knows a client by its id and ends the older of two connections. So a test goes out on the live session: it is
//! made here, waits in [`Trials`], and the session publishes it when it is online and has room. A session that waits for
//! its next attempt makes one now. Only where nobody drives the integration (it is the member of a group that is not used,
//! or no agent runs) does a test connect by itself, without the will.
//!
//! It is never retained: a made-up value must not become what a topic says to everybody who comes.

use std::collections::VecDeque;

use rumqttc::{Event, Outgoing, Packet};
use rustls::pki_types::ServerName;
use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};
use tokio::time::Instant;

use crate::delivery::outcome::{Failure, Layer, Outcome, Receipt, Report};
use crate::dial::reach::Reach;
use crate::history::Exchange;
use crate::uplink::Uplink;

use super::connect::classify;
use super::{CONNECT_TIMEOUT, Made, Mqtt};

/// Tests that may wait.
const QUEUE: usize = 4;

/// A publish that somebody waits for.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) exchange: Box<Exchange>,
    pub(super) reply: oneshot::Sender<Report>,
}

impl Trial {
    fn end(self, outcome: Outcome) {
        // Whoever asked may have gone.
        let _ = self.reply.send(Report { outcome, exchange: Some(*self.exchange) });
    }
}

/// Where they come in.
#[derive(Debug)]
pub(super) struct Door {
    queue: mpsc::Sender<Trial>,
    /// Held by whoever drives the integration.
    trials: Mutex<Trials>,
}

impl Door {
    pub(super) fn new() -> Door {
        let (queue, queued) = mpsc::channel(QUEUE);
        Door { queue, trials: Mutex::new(Trials { queue: queued, waiting: VecDeque::new() }) }
    }

    /// For whoever drives the integration, for as long as he does.
    pub(super) async fn open(&self) -> MutexGuard<'_, Trials> {
        self.trials.lock().await
    }
}

/// Those that were not published yet.
#[derive(Debug)]
pub(super) struct Trials {
    queue: mpsc::Receiver<Trial>,
    waiting: VecDeque<Trial>,
}

impl Trials {
    /// Waits until there is one. Safe to cancel.
    pub(super) async fn come(&mut self) {
        if !self.waiting.is_empty() {
            return;
        }
        match self.queue.recv().await {
            Some(trial) => self.waiting.push_back(trial),
            // The sender lives beside this very queue.
            None => std::future::pending().await,
        }
    }

    /// The next one, if there is one.
    pub(super) fn take(&mut self) -> Option<Trial> {
        self.waiting.pop_front().or_else(|| self.queue.try_recv().ok())
    }

    /// The connection that they waited for did not come about.
    pub(super) fn fail_all(&mut self, failure: &Failure) {
        while let Some(trial) = self.take() {
            trial.end(Outcome::Failed(failure.clone()));
        }
    }
}

impl Mqtt {
    /// Publishes `uplink` once, on the live session if there is one.
    pub(in crate::integration) async fn attempt(&self, uplink: &Uplink) -> Report {
        let snapshot = self.interpreter.now();
        let Some((way, _)) = self.ways.first() else { return Outcome::Filtered.into() };
        let meaning = way.interpret_async(&snapshot, uplink).await;
        let (topic, payload, exchange) = match self.publication(0, meaning) {
            Made::Publication { topic, payload, exchange } => (topic, payload, exchange),
            Made::Dropped => return Outcome::Filtered.into(),
            Made::Refused { failure, exchange } => {
                return Report { outcome: Outcome::Failed(failure), exchange: Some(*exchange) };
            }
        };
        let (reply, answer) = oneshot::channel();
        let trial = Trial { topic, payload, exchange, reply };
        if let Ok(_ours) = self.door.trials.try_lock() {
            self.publish_alone(trial).await;
        } else if let Err(error) = self.door.queue.try_send(trial) {
            let (mpsc::error::TrySendError::Full(trial) | mpsc::error::TrySendError::Closed(trial)) = error;
            trial.end(Outcome::Failed(Failure::link(Layer::Mqtt, "other tests wait already; try again")));
        }
        let stopped =
            || Failure::link(Layer::Mqtt, "the integration was stopped or changed meanwhile; try again");
        answer.await.unwrap_or_else(|_| Outcome::Failed(stopped()).into())
    }

    /// On a connection of its own, without the will.
    async fn publish_alone(&self, mut trial: Trial) {
        let started = Instant::now();
        let outcome = match tokio::time::timeout(CONNECT_TIMEOUT * 2, self.exchange_alone(&trial)).await {
            Ok(Ok((code, receipt))) => {
                trial.exchange.code = Some(code.to_owned());
                Outcome::Delivered(receipt)
            }
            Ok(Err(failure)) => Outcome::Failed(failure),
            Err(_) => {
                Outcome::Failed(Failure::link(Layer::Mqtt, format!("{} did not acknowledge it", self.peer)))
            }
        };
        trial.exchange.took = started.elapsed();
        trial.end(outcome);
    }

    async fn exchange_alone(&self, trial: &Trial) -> Result<(&'static str, Receipt), Failure> {
        let (client, mut events) = self.new_connection(&self.login.entry()?, None);
        let mut receipt = None;
        let mut connected = false;
        let gone = || Failure::link(Layer::Mqtt, "the connection ended before it was sent");
        loop {
            let event = match events.poll().await {
                Ok(event) => event,
                // Ours to end.
                Err(error) => match receipt {
                    Some(receipt) => return Ok(receipt),
                    None => return Err(self.login.explained(classify(&error, &self.peer, connected))),
                },
            };
            let answered = match event {
                Event::Incoming(Packet::ConnAck(_)) => {
                    connected = true;
                    let (topic, payload) = (trial.topic.clone(), trial.payload.clone());
                    client.try_publish(topic, self.qos, false, payload).map_err(|_| gone())?;
                    None
                }
                Event::Outgoing(Outgoing::Publish(0)) => Some(("written", Receipt::written_at_qos0())),
                Event::Incoming(Packet::PubAck(ack)) => Some(("PUBACK", Receipt::puback(&ack))),
                Event::Incoming(Packet::PubComp(comp)) => Some(("PUBCOMP", Receipt::pubcomp(&comp))),
                Event::Outgoing(Outgoing::Disconnect) => return receipt.ok_or_else(gone),
                _ => None,
            };
            if let Some(answered) = answered {
                receipt = Some(answered);
                if client.try_disconnect().is_err() {
                    return Ok(answered);
                }
            }
        }
    }

    /// Whom it dials.
    pub(in crate::integration) fn reach(&self) -> Option<Reach> {
        let tls = match &self.tls {
            Some(tls) => Some((tls.clone(), ServerName::try_from(self.peer.host.clone()).ok()?)),
            None => None,
        };
        Some(Reach { peer: self.peer.clone(), tls })
    }

    /// What the broker is told to call us.
    pub(in crate::integration) fn client_id(&self) -> &str {
        &self.client_id
    }
}
