//! One HTTP request: sent, answered, judged.
//!
//! The client is called from the worker threads of its lane, several at a time, and blocks. ureq keeps the connections;
//! the numbers here keep them small and bounded. A connection goes back to the pool only if its answer was read to the
//! end, so that is done, up to [`MAX_BODY_BYTES`]; an endpoint that sends more gets a new connection the next time.

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

use ureq::Agent;
use ureq::http::header::{DATE, HeaderName, LOCATION, RETRY_AFTER};
use ureq::http::{HeaderMap, Response, StatusCode};

use super::answer::{Answer, retry_after};
use super::batch::{Batched, Member};
use super::compress;
use super::kept;
use super::request::{Attempt, RequestMaker};
use super::target::Target;
use crate::clock::Clock;
use crate::config::{Integration, IntegrationKind, Problem, SuccessCodes, Tls};
use crate::delivery::Lease;
use crate::delivery::outcome::{Failure, Layer, Outcome, Report};
use crate::dial::reach::Reach;
use crate::dial::{Dial, HttpConnector, Limits, Peer, http_failure};
use crate::flow::Variant;
use crate::history::Exchange;
use crate::integration::way::hold_ms;
use crate::printable::printable;
use crate::render::{Interpreter, Meaning};
use crate::uplink::Uplink;

/// What is read of an answer's body, in bytes.
const MAX_BODY_BYTES: usize = 64 << 10;

/// What is kept of it to be shown, in bytes: 256 characters (RULES S37) of at most 4.
const KEPT_BODY_BYTES: usize = 1_024;

/// Sends the uplinks of one integration. Shared by its workers.
#[derive(Clone)]
pub struct HttpClient {
    name: String,
    interpreter: Interpreter,
    agent: Agent,
    /// What an agent is made of.
    limits: Limits,
    connector: HttpConnector,
    requests: Arc<RequestMaker>,
    success: SuccessCodes,
    peer: Peer,
    shown_url: String,
    clock: Arc<dyn Clock>,
}

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// The uplink.
    pub uplink: &'a Uplink,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Which of the integration's variants.
    pub variant: usize,
    /// It was sent in another variant before: this one needs a key of its own (RULES S5).
    pub extra: bool,
}

impl<'a> Sending<'a> {
    /// What a lease asks for.
    pub fn of(lease: &'a Lease) -> Sending<'a> {
        Sending { uplink: &lease.uplink, attempt: lease.attempt, variant: lease.variant, extra: lease.extra }
    }

    /// The first attempt of an uplink, in the plain variant.
    pub fn first(uplink: &'a Uplink) -> Sending<'a> {
        Sending { uplink, attempt: 1, variant: 0, extra: false }
    }
}

impl HttpClient {
    /// Checks everything about `integration` that can be checked without sending, and reads its certificates.
    pub fn try_new(
        integration: &Integration,
        dial: &Dial,
        interpreter: &Interpreter,
        variants: &[Variant],
    ) -> Result<HttpClient, Vec<Problem>> {
        let key = |name: &str| format!("integration.{}.{name}", *integration.name);
        let IntegrationKind::Http(http) = &integration.kind else {
            let message = format!("a {} integration is not sent over HTTP", integration.type_name());
            return Err(vec![Problem::error(&integration.name.place, key("type"), message)]);
        };
        let mut problems = Vec::new();
        problems.extend(compress::unavailable(http, &key("compress")));
        let target = Target::try_new(integration, http)?;
        let limits = Limits { timeout: http.timeout, connections: usize::from(http.parallel) };
        let connector = kept(connector(integration, &target, dial), &mut problems);
        let gateway = interpreter.gateway();
        let requests = RequestMaker::try_new(gateway, integration, http, &target, variants, dial);
        let requests = kept(requests, &mut problems);
        match (connector, requests) {
            (Some(connector), Some(requests)) if problems.is_empty() => Ok(HttpClient {
                name: integration.name.value.clone(),
                agent: limits.agent(&connector),
                limits,
                connector,
                requests: Arc::new(requests),
                interpreter: interpreter.clone(),
                success: http.success_codes.clone(),
                peer: target.peer,
                shown_url: target.shown,
                clock: Arc::clone(dial.clock()),
            }),
            _ => Err(problems),
        }
    }

    /// Sends an uplink and waits for the answer, no longer than `timeout`, the function's time apart.
    pub fn send(&self, sending: &Sending<'_>) -> Report {
        let Some(way) = self.requests.way(sending.variant) else {
            // A lane has as many variants as its integration was built with.
            let failure = Failure::link(Layer::Render, "this way to send it is not configured any more");
            return Outcome::Failed(failure).into();
        };
        let snapshot = self.interpreter.now();
        let message = match way.interpret(&snapshot, sending.uplink) {
            Meaning::Message(message) => message,
            Meaning::Dropped => return Outcome::Filtered.into(),
        };
        let made = match self.requests.make(way, &message, sending, self.attempt(sending)) {
            Ok(made) => made,
            Err(failure) => {
                let exchange = Exchange { device: message.shown_device(), ..Exchange::default() };
                return Report { outcome: Outcome::Failed(failure), exchange: Some(exchange) };
            }
        };
        let mut exchange = made.exchange;
        let started = Instant::now();
        let outcome = match self.agent.run(made.request) {
            Ok(response) => {
                let answer = self.read(response, |foreign| message.hide(foreign));
                exchange.code = Some(answer.status.as_u16().to_string());
                exchange.answer.clone_from(&answer.body);
                self.judged(&answer)
            }
            Err(error) => Outcome::Failed(self.unanswered(&error)),
        };
        exchange.took = started.elapsed();
        Report { outcome, exchange: Some(exchange) }
    }

    /// Sends as many of these uplinks in one request as fit into it, from the first on, and waits for the answer.
    pub(super) fn send_batch(&self, batch: &[Sending<'_>]) -> Batched {
        let mut members = Vec::new();
        let mut messages = Vec::new();
        let mut body = self.requests.batch_body();
        let snapshot = self.interpreter.now();
        for sending in batch {
            if body.is_full() {
                members.push(Member::Unsent);
                continue;
            }
            let Some(way) = self.requests.way(sending.variant) else {
                let failure = Failure::link(Layer::Render, "this way to send it is not configured any more");
                members.push(Member::Ended(Box::new(Outcome::Failed(failure).into())));
                continue;
            };
            let message = match way.interpret(&snapshot, sending.uplink) {
                Meaning::Message(message) => message,
                Meaning::Dropped => {
                    members.push(Member::Ended(Box::new(Outcome::Filtered.into())));
                    continue;
                }
            };
            members.push(match way.renderer.body(&message) {
                Ok(made) if body.add(&made, way.key(sending.uplink, sending.extra)) => {
                    let exchange = Exchange {
                        device: message.shown_device(),
                        // Whoever tests wants all of it.
                        body: match sending.uplink.flags.simulated {
                            true => way.renderer.body_shown(&message).unwrap_or(made.shown),
                            false => made.shown,
                        },
                        notes: message.notes(made.warnings),
                        ..Exchange::default()
                    };
                    messages.push(message);
                    Member::Sent(Box::new(exchange))
                }
                Ok(_) => Member::Unsent,
                Err(failure) => {
                    let exchange = Exchange { device: message.shown_device(), ..Exchange::default() };
                    let outcome = Outcome::Failed(failure);
                    Member::Ended(Box::new(Report { outcome, exchange: Some(exchange) }))
                }
            });
        }
        let size = messages.len();
        let (Some(first), 1..) = (batch.first(), size) else {
            return Batched { members, outcome: None, status: None };
        };
        let attempt = self.attempt(first);
        let started = Instant::now();
        let hide = |foreign: &str| messages.iter().fold(foreign.to_owned(), |text, it| it.hide(&text));
        let mut answer = None;
        let (mut target, mut headers) = (String::new(), Vec::new());
        let outcome = match self.requests.make_batch(body, self.interpreter.gateway(), attempt) {
            Err(failure) => Outcome::Failed(failure),
            Ok(mut request) => {
                if let Some(test) = messages.iter().find(|it| it.uplink.flags.simulated) {
                    headers = self.requests.mark_simulated(&mut request, test);
                }
                target = format!("{} {}", request.method(), self.requests.hide(&request.uri().to_string()));
                match self.agent.run(request) {
                    Ok(response) => {
                        let answer = answer.insert(self.read(response, hide));
                        self.judged(answer)
                    }
                    Err(error) => Outcome::Failed(self.unanswered(&error)),
                }
            }
        };
        let took = started.elapsed();
        for member in &mut members {
            let Member::Sent(exchange) = member else { continue };
            exchange.target.clone_from(&target);
            exchange.headers.clone_from(&headers);
            exchange.code = answer.as_ref().map(|answer| answer.status.as_u16().to_string());
            exchange.answer = answer.as_ref().map(|answer| answer.body.clone()).unwrap_or_default();
            exchange.took = took;
            exchange.notes.push(format!("in a batch of {size}"));
        }
        Batched { members, outcome: Some(outcome), status: answer.map(|answer| answer.status.as_u16()) }
    }

    /// Sends an uplink alone, for `test`: in a batch of one where the far end gets batches.
    pub(in crate::integration) fn send_alone(&self, uplink: &Uplink, in_batches: bool) -> Report {
        let sending = Sending::first(uplink);
        if !in_batches {
            return self.send(&sending);
        }
        let Batched { mut members, outcome, .. } = self.send_batch(&[sending]);
        match (members.pop(), outcome) {
            (Some(Member::Sent(exchange)), Some(outcome)) => Report { outcome, exchange: Some(*exchange) },
            (Some(Member::Ended(report)), _) => *report,
            // An empty batch has room for whatever comes first.
            _ => Outcome::Failed(Failure::link(Layer::Http, "nothing was sent")).into(),
        }
    }

    /// Ends the requests in flight and refuses new ones, for good; see [`HttpClient::reopened`].
    pub fn shutdown(&self) {
        self.agent.clone().shutdown();
    }

    /// The same client with connections of its own, and open whatever became of this one.
    pub fn reopened(&self) -> HttpClient {
        let agent = self.limits.agent(&self.connector);
        HttpClient { agent, ..self.clone() }
    }

    /// Whether the endpoint can be reached and does not refuse us, asked without an uplink: by OPTIONS (RFC 9110, section
    /// 9.3.7), to which every answer is welcome that would not make an integration wait.
    ///
    /// # Errors
    /// What is in the way.
    pub fn probe(&self) -> Result<(), Failure> {
        let response = self.agent.run(self.requests.probe()?);
        let response = response.map_err(|error| self.unanswered(&error))?;
        let answer = self.read(response, str::to_owned);
        // 501 is what many say that do not know OPTIONS.
        let is_in_the_way =
            matches!(answer.status.as_u16(), 300..=399 | 401 | 403 | 407 | 408 | 425 | 429 | 500 | 502..);
        match self.judged(&answer) {
            Outcome::Failed(failure) if is_in_the_way => Err(failure),
            _ => Ok(()),
        }
    }

    /// Whom it dials.
    pub(crate) fn reach(&self) -> Reach {
        Reach { peer: self.peer.clone(), clock: Arc::clone(&self.clock), tls: self.connector.tls().cloned() }
    }

    /// The URL for people: its placeholders as they are, no query.
    pub fn shown_url(&self) -> &str {
        &self.shown_url
    }

    fn unanswered(&self, error: &ureq::Error) -> Failure {
        http_failure(error, &self.peer, self.limits.timeout, &*self.clock)
    }

    fn attempt(&self, sending: &Sending<'_>) -> Attempt {
        Attempt { number: sending.attempt, hold_ms: hold_ms(sending.uplink, &*self.clock) }
    }

    fn judged(&self, answer: &Answer) -> Outcome {
        match answer.judge(&self.success, &self.peer.host, &self.name) {
            Outcome::Failed(failure) if answer.status == StatusCode::UNAUTHORIZED => {
                Outcome::Failed(self.requests.refused(failure))
            }
            outcome => outcome,
        }
    }

    fn read(&self, mut response: Response<ureq::Body>, hide: impl Fn(&str) -> String) -> Answer {
        let headers = response.headers();
        let retry_after = retry_after(text(headers, RETRY_AFTER), text(headers, DATE), self.clock.wall_us());
        let location = self.shown(&hide(text(headers, LOCATION).unwrap_or_default()));
        let status = response.status();
        let body = drained(response.body_mut().as_reader());
        let body = self.shown(&hide(&String::from_utf8_lossy(&body)));
        Answer { status, retry_after, location, body }
    }

    /// Foreign text, fit for people: none of our secrets, nothing that a terminal obeys.
    fn shown(&self, foreign: &str) -> String {
        printable(&self.requests.hide(foreign))
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("name", &self.name)
            .field("url", &self.shown_url)
            .finish_non_exhaustive()
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Reads a body to its end or the limit; gives its beginning. An error ends it too: the status has been given already.
fn drained(mut body: impl Read) -> Vec<u8> {
    let mut beginning = Vec::new();
    let mut chunk = [0; 2_048];
    let mut total = 0;
    while total < MAX_BODY_BYTES {
        let read = match body.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(n) => chunk.get(..n).unwrap_or_default(),
        };
        total += read.len();
        let wanted = KEPT_BODY_BYTES.saturating_sub(beginning.len());
        beginning.extend(read.iter().take(wanted));
    }
    beginning
}

fn connector(integration: &Integration, target: &Target, dial: &Dial) -> Result<HttpConnector, Vec<Problem>> {
    let key = format!("integration.{}.tls", *integration.name);
    let Some(server_name) = &target.server_name else {
        let Tls { ca, cert, key: private_key, .. } = &integration.tls;
        return match [ca, cert, private_key].into_iter().flatten().next() {
            None => Ok(HttpConnector::plain()),
            Some(path) => {
                let message = "the URL says http://, so nothing of this is used";
                Err(vec![
                    Problem::error(&path.place, key, message).hint("use https://, or take the table out"),
                ])
            }
        };
    };
    let mut settings = integration.tls.clone();
    if settings.alpn.is_empty() {
        settings.alpn.push("http/1.1".to_owned());
    }
    if settings.alpn.iter().any(|protocol| protocol == "h2") {
        let message = "h2 can't be offered: requests are made in HTTP/1.1";
        return Err(vec![Problem::error(&integration.name.place, format!("{key}.alpn"), message)]);
    }
    Ok(HttpConnector::secure(dial.tls(&key, &settings)?, server_name.clone()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    #[test]
    fn a_body_is_read_up_to_the_limit_and_its_beginning_kept() {
        let whole = vec![b'x'; 3_000];
        assert_eq!(drained(&whole[..]), vec![b'x'; KEPT_BODY_BYTES]);
        assert_eq!(drained(&b"short"[..]), b"short");
        let mut endless = std::io::repeat(b'y');
        assert_eq!(drained(&mut endless).len(), KEPT_BODY_BYTES);
    }
}
