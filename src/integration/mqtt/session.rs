//! One connection, from CONNECT to its end. See the [module](super) for its life.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::delivery::outcome::{Blame, Failure, Layer, Outcome, Receipt, Report};
use crate::delivery::{Lane, Lease, Stop};

use super::flight::{Flight, Numbered, What};
use super::poison::{Poison, Verdict};
use super::trial::{Trial, Trials};
use super::wire::{self, Answer, Broken, Event, Inbox, Outbox, Publication, Refusal, Terms};
use super::{CONNECT_TIMEOUT, Made, Mqtt, Sending};

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
    Failed(Broken),
    /// With the answer to a publish, which the lane has been told of.
    Told(Failure),
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
    poison: &'a mut Poison,
    trials: &'a mut Trials,
    outbox: Outbox,
    inbox: Option<Inbox>,
    /// Which connection it is.
    sequence: u64,
    will: Option<Publication>,
    /// When the next state is due, if one is wanted and we are connected.
    state_due: Option<Instant>,
    phase: Phase,
    /// What the broker allows; known from CONNACK on.
    terms: Terms,
    /// Whether a record was answered.
    acknowledged: bool,
    flight: Flight,
    /// The record that comes next, as long as its function is at work. One at a time, so that the order stays.
    rendering: Option<Rendering<'a>>,
    /// When the password will have ended, less a margin.
    renew_at: Option<Instant>,
    /// The connection is given up for one with a new password: nobody is to hear that we went.
    renewing: bool,
}

/// Polls once. The inbox travels through the future, so that there is always exactly one poll, and it is never
/// cancelled: a cancelled one may lose a packet that the library counts as written.
async fn pump(mut inbox: Inbox) -> (Inbox, Result<Event, Broken>) {
    let event = inbox.next().await;
    (inbox, event)
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

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Connects, waits for CONNACK and leaves again.
pub(super) async fn knock(mqtt: &Mqtt) -> Result<(), Failure> {
    let (outbox, mut inbox) = wire::open(mqtt, &mqtt.login.entry()?, None);
    let mut connected = false;
    loop {
        match inbox.next().await {
            Ok(Event::Connected(_)) => {
                connected = true;
                if outbox.disconnect().is_err() {
                    return Ok(());
                }
            }
            Ok(Event::Left) => return Ok(()),
            Ok(_) => {}
            Err(_) if connected => return Ok(()),
            Err(broken) => return Err(mqtt.login.explained(broken.failure)),
        }
    }
}

impl<'a> Session<'a> {
    /// A new connection, the next in the row.
    ///
    /// # Errors
    /// Why no password can be made for it.
    pub(super) fn new(
        mqtt: &'a Mqtt,
        lane: &'a mut Lane,
        poison: &'a mut Poison,
        trials: &'a mut Trials,
    ) -> Result<Session<'a>, Failure> {
        let entry = mqtt.login.entry()?;
        let sequence = mqtt.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let will = mqtt.own.will.as_ref().map(|will| will.publication(mqtt.interpreter.gateway(), sequence));
        let (outbox, inbox) = wire::open(mqtt, &entry, will.clone());
        Ok(Session {
            mqtt,
            lane,
            poison,
            trials,
            outbox,
            inbox: Some(inbox),
            sequence,
            will,
            state_due: None,
            phase: Phase::Connecting,
            terms: Terms::usual(mqtt.keep_alive, mqtt.max_packet_bytes),
            acknowledged: false,
            flight: Flight::new(),
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
        let end = match end {
            End::Failed(broken) if !self.acknowledged => self.judge(broken),
            end => end,
        };
        for what in self.flight.drain() {
            match (what, &end) {
                (What::Record(lease, mut exchange, since), End::Failed(Broken { failure, .. }))
                | (What::Record(lease, mut exchange, since), End::Told(failure)) => {
                    exchange.took = since.elapsed();
                    self.lane.break_off(lease, failure, *exchange);
                }
                (What::Record(lease, ..), End::Stopped | End::TryAgain) => self.lane.release(lease),
                (What::Trial(trial, since), End::Failed(Broken { failure, .. }) | End::Told(failure)) => {
                    trial.end(None, since, Outcome::Failed(failure.clone()));
                }
                // Dropped, its end is told to whoever waits.
                (What::Trial(..) | What::Own, _) => {}
            }
        }
        end
    }

    /// Whether the connection broke because of the first record that was under way (RULES S17).
    fn judge(&mut self, broken: Broken) -> End {
        let Some((suspect, others)) = self.flight.first_record() else { return End::Failed(broken) };
        let message = &broken.failure.message;
        match self.poison.broke(broken.cause, suspect, others) {
            Verdict::Wait => End::Failed(broken),
            Verdict::Record => {
                let message = format!("closed on this record, again and again: {message}");
                if let Some(What::Record(lease, mut exchange, since)) = self.flight.take_first_record() {
                    exchange.took = since.elapsed();
                    let outcome = Outcome::Failed(Failure::record(Layer::Mqtt, message));
                    self.lane.settle(lease, Report { outcome, exchange: Some(*exchange) });
                }
                End::TryAgain
            }
            Verdict::Endpoint => {
                let message = format!("every record ends the connection, one after the other: {message}");
                End::Failed(Broken { failure: Failure::endpoint(Layer::Mqtt, message), ..broken })
            }
        }
    }

    async fn serve(&mut self, stop: &mut Stop) -> End {
        let Some(inbox) = self.inbox.take() else { return End::TryAgain };
        let mut poll = pin!(pump(inbox));
        let started = Instant::now();
        let mut last_event = started;
        let mut link_is_up = false;
        let mut stop_by = None;
        loop {
            if let Some(end) = self.advance() {
                return end;
            }
            let hurry = link_is_up && self.phase == Phase::Connecting;
            let until = match stop_by {
                Some(stop_by) => stop_by,
                None if hurry => started + FRESH_ATTEMPT,
                None => self.flight.waiting_since().unwrap_or(last_event) + self.patience(),
            };
            let password_ends_at = self.renew_at.filter(|_| self.phase == Phase::Online);
            let state_due = self.state_due.filter(|_| self.phase == Phase::Online && self.has_room());
            tokio::select! {
                (inbox, event) = &mut poll => {
                    match self.handle(event) {
                        Some(end) => return end,
                        None => poll.set(pump(inbox)),
                    }
                    last_event = Instant::now();
                }
                woken = self.woken() => match woken {
                    Woken::LinkUp => link_is_up = true,
                    Woken::Records => {}
                    Woken::Made(made) => self.rendered(made),
                },
                () = due(state_due) => self.tell_state(),
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
                () = due(password_ends_at), if stop_by.is_none() => {
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
    /// something is unanswered only an answer to the oldest counts. A broker may want fewer pings than we would send, but
    /// not that we wait longer for its answers.
    fn patience(&self) -> Duration {
        let keep_alive = match self.flight.waiting_since() {
            Some(_) => self.mqtt.keep_alive,
            None => self.terms.keep_alive.max(self.mqtt.keep_alive),
        };
        keep_alive * 2 + CONNECT_TIMEOUT
    }

    /// Does what the phase allows: lease and publish, or take leave step by step.
    fn advance(&mut self) -> Option<End> {
        let idle = self.flight.is_empty();
        match self.phase {
            Phase::Connecting | Phase::Leaving => {}
            Phase::Online => self.fill(),
            Phase::Draining if idle => {
                self.phase = Phase::Farewell;
                if let Some(will) = self.will.take().filter(|_| !self.renewing) {
                    self.announce(will);
                }
                return self.advance_if_idle();
            }
            Phase::Farewell if idle => {
                self.phase = Phase::Leaving;
                if self.outbox.disconnect().is_err() {
                    return Some(self.left());
                }
            }
            Phase::Draining | Phase::Farewell => {}
        }
        None
    }

    /// Without a will there is no farewell to wait for.
    fn advance_if_idle(&mut self) -> Option<End> {
        if self.flight.is_empty() { self.advance() } else { None }
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
                tokio::select! {
                    () = self.lane.changed() => {}
                    () = self.trials.come() => {}
                }
                Woken::Records
            }
            _ => std::future::pending().await,
        }
    }

    fn has_room(&self) -> bool {
        let window = if self.poison.goes_alone() { 1 } else { self.mqtt.window.min(self.terms.receive_max) };
        self.flight.len() < usize::from(window)
    }

    fn fill(&mut self) {
        while self.has_room()
            && let Some(trial) = self.trials.take()
        {
            self.publish_trial(trial);
        }
        while self.has_room() && self.rendering.is_none() {
            let Some(lease) = self.lane.try_next() else { return };
            let mqtt = self.mqtt;
            let way = mqtt.ways.get(lease.variant).or(mqtt.ways.first()).map(|(way, _)| way);
            let snapshot = mqtt.interpreter.now();
            let meaning = way.and_then(|way| way.interpret_now(&snapshot, &lease.uplink));
            match (meaning, way) {
                (None, Some(way)) => {
                    let (sending, uplink, snapshot) =
                        (Sending::of(&lease, self.terms), Arc::clone(&lease.uplink), Arc::clone(&snapshot));
                    let making = async move {
                        let meaning = way.interpret_async(&snapshot, &uplink).await;
                        mqtt.publication(sending, meaning)
                    };
                    self.rendering = Some((lease, Box::pin(making)));
                }
                (meaning, _) => {
                    let sending = Sending::of(&lease, self.terms);
                    let made = meaning.map_or(Made::Dropped, |meaning| mqtt.publication(sending, meaning));
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
            Made::Publication { publication, exchange } => {
                let qos = publication.qos;
                if self.outbox.publish(publication).is_err() {
                    // The topic is valid and the queue as long as the window, so it is the event loop that has gone.
                    self.lane.release(lease);
                    return;
                }
                self.flight.add(qos, What::Record(lease, exchange, Instant::now()));
            }
        }
    }

    /// One that the event loop does not take is dropped, and whoever waits for it is told so by that.
    fn publish_trial(&mut self, trial: Trial) {
        let publication = trial.on(self.terms);
        let qos = publication.qos;
        if self.outbox.publish(publication).is_ok() {
            self.flight.add(qos, What::Trial(trial, Instant::now()));
        }
    }

    fn end(&mut self, what: What, code: &str, outcome: Outcome) {
        match what {
            What::Record(lease, mut exchange, since) => {
                exchange.code = Some(code.to_owned());
                exchange.took = since.elapsed();
                self.lane.settle(lease, Report { outcome, exchange: Some(*exchange) });
            }
            What::Trial(trial, since) => trial.end(Some(code), since, outcome),
            What::Own => {}
        }
    }

    /// Publishes a message of our own, as far as the broker allows it.
    fn announce(&mut self, mut publication: Publication) {
        publication.qos = self.terms.qos(publication.qos);
        publication.retain &= self.terms.retains;
        let qos = publication.qos;
        if wire::packet_bytes(self.mqtt.is_v5, &publication) > self.terms.max_packet_bytes {
            log::warn!("{}: an announcement is larger than the broker takes and not sent", self.mqtt.name);
        } else if self.outbox.publish(publication).is_ok() {
            self.flight.add(qos, What::Own);
        } else {
            log::warn!("{}: an announcement can't be sent", self.mqtt.name);
        }
    }

    /// Publishes the state and says when the next one is due.
    fn tell_state(&mut self) {
        let Some(state) = &self.mqtt.own.state else { return };
        self.state_due = Some(Instant::now() + state.every);
        let publication = self.mqtt.state(state, self.sequence, self.lane);
        self.announce(publication);
    }

    fn handle(&mut self, event: Result<Event, Broken>) -> Option<End> {
        match event {
            Ok(Event::Connected(terms)) => self.connected(terms),
            Ok(Event::Numbered(packet_id)) => self.numbered(packet_id),
            Ok(Event::Answered(packet_id, answer)) => self.answered(packet_id, answer),
            Ok(Event::Left) => Some(self.left()),
            Ok(Event::StillOpen(packet_id)) => Some(
                self.confused(&format!("acknowledges out of order (packet id {packet_id} is still open)")),
            ),
            Ok(Event::Other) => None,
            Err(_) if self.phase == Phase::Leaving => Some(self.left()),
            Err(Broken { failure, cause }) => {
                Some(End::Failed(Broken { failure: self.mqtt.login.explained(failure), cause }))
            }
        }
    }

    fn connected(&mut self, terms: Terms) -> Option<End> {
        log::info!("{}: connected to {}", self.mqtt.name, self.mqtt.peer);
        self.terms = terms;
        if let Some(failure) = self.mqtt.unacceptable(terms) {
            return Some(End::Failed(Broken::other(failure)));
        }
        self.phase = Phase::Online;
        if let Some(birth) = &self.mqtt.own.birth {
            self.announce(birth.publication(self.mqtt.interpreter.gateway(), self.sequence));
        }
        self.tell_state();
        self.lane.reached();
        None
    }

    fn numbered(&mut self, packet_id: u16) -> Option<End> {
        match self.flight.numbered(packet_id) {
            Numbered::Waits => None,
            Numbered::Done(what) => {
                self.end(what, "written", Outcome::Delivered(Receipt::written_at_qos0()));
                None
            }
            Numbered::MixedUp => {
                Some(self.confused(&format!("left packet id {packet_id} open, which is used again")))
            }
        }
    }

    /// An answer to an id that nothing waits for, or of the wrong kind, settles nothing.
    fn answered(&mut self, packet_id: u16, answer: Answer) -> Option<End> {
        let Answer { of, name, word } = answer;
        let Some(what) = self.flight.answered(packet_id, of) else {
            return Some(
                self.confused(&format!("answered packet id {packet_id}, which does not wait for that")),
            );
        };
        if matches!(what, What::Record(..)) {
            self.acknowledged = true;
            self.poison.acknowledged();
        }
        match word {
            Ok(receipt) => {
                self.end(what, &name, Outcome::Delivered(receipt));
                None
            }
            Err(refusal) => self.refused(what, &name, refusal),
        }
    }

    /// The record is settled or given back. What is not its fault would overtake it if the session went on (RULES S15).
    fn refused(&mut self, what: What, code: &str, refusal: Refusal) -> Option<End> {
        let Refusal { failure, ends_session } = refusal;
        // A test is none either: what becomes of it is between the broker and whoever asked.
        let is_own = !matches!(what, What::Record(..));
        if matches!(what, What::Own) {
            log::warn!("{}: an announcement was refused: {failure}", self.mqtt.name);
        }
        let is_records_fault = failure.blame == Blame::Record;
        self.end(what, code, Outcome::Failed(failure.clone()));
        match is_own || is_records_fault {
            true if ends_session && self.phase == Phase::Online => Some(End::TryAgain),
            true => None,
            false => Some(End::Told(failure)),
        }
    }

    fn confused(&self, what: &str) -> End {
        End::Failed(Broken::confused(&self.mqtt.peer, what))
    }

    fn stuck(&self) -> End {
        let seconds = self.patience().as_secs();
        End::Failed(Broken::other(Failure::link(
            Layer::Tcp,
            format!("nothing was acknowledged for {seconds} s; the link to {} hangs", self.mqtt.peer),
        )))
    }
}
