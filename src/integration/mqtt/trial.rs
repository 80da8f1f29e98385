//! `test`: one publish beside the records (RULES S29).
//!
//! A broker knows a client by its id and ends the older of two connections. So a test goes out on the live session: it is
//! made here, waits in [`Trials`], and the session publishes it when it is online and has room. A session that waits for
//! its next attempt makes one now. Only where nobody drives the integration (it is the member of a group that is not used,
//! or no agent runs) does a test connect by itself, without the will.
//!
//! It is never retained: a made-up value must not become what a topic says to everybody who comes.

use std::collections::VecDeque;
use std::sync::Arc;

use rumqttc::mqttbytes::QoS;
use rustls::pki_types::ServerName;
use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};
use tokio::time::Instant;

use crate::delivery::outcome::{Failure, Layer, Outcome, Receipt, Report};
use crate::dial::reach::Reach;
use crate::history::Exchange;
use crate::uplink::Uplink;

use super::wire::{self, Answer, Event, Publication, Terms};
use super::{CONNECT_TIMEOUT, Made, Mqtt, Sending};

/// Tests that may wait.
const QUEUE: usize = 4;

/// A publish that somebody waits for.
#[derive(Debug)]
pub(super) struct Trial {
    publication: Publication,
    exchange: Box<Exchange>,
    reply: oneshot::Sender<Report>,
}

impl Trial {
    /// What is published, as far as the broker allows it.
    pub(super) fn on(&self, terms: Terms) -> Publication {
        let publication = self.publication.clone();
        Publication { qos: terms.qos(publication.qos), retain: false, ..publication }
    }

    /// Tells whoever asked what came of it, and what the broker's word was.
    pub(super) fn end(mut self, code: Option<&str>, since: Instant, outcome: Outcome) {
        self.exchange.code = code.map(str::to_owned);
        self.exchange.took = since.elapsed();
        // He may have gone.
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
            trial.end(None, Instant::now(), Outcome::Failed(failure.clone()));
        }
    }
}

impl Mqtt {
    /// Publishes `uplink` once, on the live session if there is one.
    pub(in crate::integration) async fn attempt(&self, uplink: &Uplink) -> Report {
        let snapshot = self.interpreter.now();
        let Some((way, _)) = self.ways.first() else { return Outcome::Filtered.into() };
        let meaning = way.interpret_async(&snapshot, uplink).await;
        let terms = Terms::usual(self.keep_alive, self.max_packet_bytes);
        let (publication, exchange) = match self.publication(Sending::first(terms), meaning) {
            Made::Publication { publication, exchange } => (publication, exchange),
            Made::Dropped => return Outcome::Filtered.into(),
            Made::Refused { failure, exchange } => {
                return Report { outcome: Outcome::Failed(failure), exchange: Some(*exchange) };
            }
        };
        let (reply, answer) = oneshot::channel();
        let trial = Trial { publication, exchange, reply };
        if let Ok(_ours) = self.door.trials.try_lock() {
            self.publish_alone(trial).await;
        } else if let Err(error) = self.door.queue.try_send(trial) {
            let (mpsc::error::TrySendError::Full(trial) | mpsc::error::TrySendError::Closed(trial)) = error;
            let failure = Failure::link(Layer::Mqtt, "other tests wait already; try again");
            trial.end(None, Instant::now(), Outcome::Failed(failure));
        }
        let stopped =
            || Failure::link(Layer::Mqtt, "the integration was stopped or changed meanwhile; try again");
        answer.await.unwrap_or_else(|_| Outcome::Failed(stopped()).into())
    }

    /// On a connection of its own, without the will.
    async fn publish_alone(&self, trial: Trial) {
        let since = Instant::now();
        let answered = tokio::time::timeout(CONNECT_TIMEOUT * 2, self.exchange_alone(&trial)).await;
        let (code, outcome) = match answered {
            Ok(Ok((code, receipt))) => (Some(code), Outcome::Delivered(receipt)),
            Ok(Err(failure)) => (None, Outcome::Failed(failure)),
            Err(_) => {
                let message = format!("{} did not acknowledge it", self.peer);
                (None, Outcome::Failed(Failure::link(Layer::Mqtt, message)))
            }
        };
        trial.end(code.as_deref(), since, outcome);
    }

    async fn exchange_alone(&self, trial: &Trial) -> Result<(String, Receipt), Failure> {
        let (outbox, mut inbox) = wire::open(self, &self.login.entry()?, None);
        let gone = || Failure::link(Layer::Mqtt, "the connection ended before it was sent");
        let mut is_qos0 = false;
        let answer = loop {
            match inbox.next().await.map_err(|broken| self.login.explained(broken.failure))? {
                Event::Connected(terms) => {
                    let publication = trial.on(terms);
                    is_qos0 = publication.qos == QoS::AtMostOnce;
                    outbox.publish(publication).map_err(|_| gone())?;
                }
                Event::Numbered(0) if is_qos0 => break ("written".to_owned(), Receipt::written_at_qos0()),
                Event::Answered(_, Answer { name, word, .. }) => {
                    break (name, word.map_err(|refusal| refusal.failure)?);
                }
                Event::Left => return Err(gone()),
                _ => {}
            }
        };
        // A clean goodbye; one that is not heard changes nothing about the answer.
        if outbox.disconnect().is_ok() {
            while matches!(inbox.next().await, Ok(event) if !matches!(event, Event::Left)) {}
        }
        Ok(answer)
    }

    /// Whom it dials.
    pub(in crate::integration) fn reach(&self) -> Option<Reach> {
        let tls = match &self.tls {
            Some(tls) => Some((tls.clone(), ServerName::try_from(self.peer.host.clone()).ok()?)),
            None => None,
        };
        Some(Reach { peer: self.peer.clone(), clock: Arc::clone(&self.clock), tls })
    }

    /// What the broker is told to call us.
    pub(in crate::integration) fn client_id(&self) -> &str {
        &self.own.client_id
    }
}
