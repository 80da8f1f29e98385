//! Several uplinks in one request (RULES S16).
//!
//! ```text
//!   Lane ──next──> first ──beside, up to 1 s──> batch ──one worker──> POST [ …, …, … ]
//!     ^                                                                  │
//!     └── one outcome for all of them <───────────────────────────────────┘
//! ```
//!
//! A batch is records that follow each other, of one variant, at most `batch` of them and [`MAX_BYTES`]. One is under way at
//! a time, and all of it ends before the next begins: so a device's uplinks stay in order though several of them may be in
//! one request.
//!
//! What became of the request became of each of its members, with one exception: an answer that blames the record (400,
//! 413, 422) does not say which. Then the batch is halved, and the halves sent one after the other, until one record alone
//! is refused. Nothing else splits a batch: after any other failure the same members go out again, under the same
//! `Idempotency-Key`, which is made of their ids. That holds within a process, as long as the spool keeps them all, and
//! unless what is heard meanwhile goes before them ("live-first") in the middle of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::config::BatchFormat;
use crate::delivery::outcome::{Blame, Failure, Layer, Outcome, Report};
use crate::delivery::{Beside, Lane, Lease, Stop};
use crate::history::Exchange;
use crate::render::Rendered;
use crate::spool::MAX_RANGES;

use super::client::{HttpClient, Sending};
use super::workers::{Done, Workers};
use super::{STOP_GRACE, put_back};

/// The largest body; a single uplink that is larger goes alone.
const MAX_BYTES: usize = 64 << 10;

/// How long a batch waits for more uplinks.
const FILL: Duration = Duration::from_secs(1);

/// In whose namespace the keys of batches are (RFC 9562, section 5.5); made up once and never changed.
const NAMESPACE: Uuid = Uuid::from_u128(0x7c1f_0d52_96a4_4b7e_9d0b_3c5a_e1f2_8a64);

/// The body of a batch while it is put together.
pub(super) struct BatchBody {
    format: BatchFormat,
    bytes: Vec<u8>,
    content_type: Option<Arc<str>>,
    /// The members' keys, a line each.
    keys: String,
    full: bool,
}

impl BatchBody {
    pub(super) fn new(format: BatchFormat) -> BatchBody {
        BatchBody { format, bytes: Vec::new(), content_type: None, keys: String::new(), full: false }
    }

    /// Whether one was turned away: the next must not overtake it.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Adds a body if there is room for it.
    pub(super) fn add(&mut self, body: &Rendered, key: String) -> bool {
        // Brackets or a last line feed, and what separates it from the one before.
        if !self.bytes.is_empty() && self.bytes.len() + body.bytes.len() + 2 > MAX_BYTES {
            self.full = true;
            return false;
        }
        self.content_type.get_or_insert_with(|| Arc::clone(&body.content_type));
        match self.format {
            BatchFormat::Array => {
                self.bytes.push(if self.bytes.is_empty() { b'[' } else { b',' });
                self.bytes.extend(&body.bytes);
            }
            BatchFormat::Ndjson => {
                // In JSON a bare line break can only be white space between values.
                let is_break = |byte: u8| matches!(byte, b'\n' | b'\r');
                self.bytes.extend(body.bytes.iter().map(|byte| if is_break(*byte) { b' ' } else { *byte }));
                self.bytes.push(b'\n');
            }
        }
        self.keys.push_str(&key);
        self.keys.push('\n');
        true
    }

    /// The body, its MIME type and its key.
    pub(super) fn finish(mut self) -> (Vec<u8>, String, String) {
        let content_type = self.content_type.as_deref().unwrap_or("application/json");
        let content_type = match self.format {
            BatchFormat::Ndjson if content_type == "application/json" => "application/x-ndjson",
            _ => content_type,
        };
        if self.format == BatchFormat::Array {
            self.bytes.push(b']');
        }
        let key = Uuid::new_v5(&NAMESPACE, self.keys.as_bytes()).to_string();
        (self.bytes, content_type.to_owned(), key)
    }
}

/// What became of one of the uplinks that were to be sent together.
pub(super) enum Member {
    /// It was in the request.
    Sent(Box<Exchange>),
    /// There was nothing to be sent for it.
    Ended(Box<Report>),
    /// There was no room for it.
    Unsent,
}

/// What became of them all.
pub(super) struct Batched {
    /// One for each, in order.
    pub(super) members: Vec<Member>,
    /// What became of the request; `None`: there was none.
    pub(super) outcome: Option<Outcome>,
    /// The status of the answer.
    pub(super) status: Option<u16>,
}

/// A record in one of its variants.
type Name = (Uuid, usize);

fn name(lease: &Lease) -> Name {
    (lease.uplink.id, lease.variant)
}

/// Which batches come next, and how large they may be.
#[derive(Debug)]
struct Plan {
    /// Batches that were sent already: halves, or the same again.
    again: VecDeque<Vec<Name>>,
    /// What was found to fit lately.
    size: usize,
    /// What the far end was found to take.
    most: usize,
}

impl Plan {
    fn new(batch: usize) -> Plan {
        Plan { again: VecDeque::new(), size: batch, most: batch }
    }

    /// What goes out with `first` again. Others may come before it: with "live-first", what is heard meanwhile.
    fn again_with(&mut self, first: Name) -> Option<Vec<Name>> {
        let at = self.again.iter().position(|planned| planned.first() == Some(&first))?;
        self.again.remove(at)
    }

    /// Whether a batch that is to go out again begins with it: then it is in no other.
    fn begins_with(&self, next: Name) -> bool {
        self.again.iter().any(|planned| planned.first() == Some(&next))
    }

    /// The same members, next time.
    fn plan(&mut self, batch: Vec<Name>) {
        self.again.push_front(batch);
        // Of those that never come any more (expired, purged) the oldest go: a lane holds no more than so many records.
        self.again.truncate(MAX_RANGES);
    }

    /// The halves of a batch that was refused.
    fn halve(&mut self, batch: &[Name], status: Option<u16>) {
        let (first, second) = batch.split_at(batch.len().div_ceil(2));
        for half in [second, first].into_iter().filter(|half| !half.is_empty()) {
            self.plan(half.to_vec());
        }
        if status == Some(413) {
            self.most = first.len().max(1);
            self.size = self.size.min(self.most);
        }
    }

    /// So many were to be sent, and so many had room.
    fn learn(&mut self, sent: usize, unsent: usize) {
        self.size = match unsent {
            0 => self.size.saturating_mul(2).min(self.most),
            _ => sent.clamp(1, self.most),
        };
    }
}

/// Drives the lane until `stop`.
pub(super) async fn run(client: Arc<HttpClient>, batch: usize, lane: &mut Lane, stop: &mut Stop) {
    let sender = Arc::clone(&client);
    let mut workers = Workers::new(Arc::clone(lane.name()), 1, move |leases: Vec<Lease>| {
        let sendings: Vec<_> = leases.iter().map(Sending::of).collect();
        let batched = sender.send_batch(&sendings);
        // There is never another one that waits.
        Done { report: (leases, batched), goes_on: true }
    });
    let mut plan = Plan::new(batch);
    loop {
        let first = tokio::select! {
            biased;
            () = stop.stopped() => return,
            first = lane.next() => first,
        };
        let leases = match fill(first, &mut plan, lane, stop).await {
            Ok(leases) => leases,
            Err(leases) => return put_back(leases, lane),
        };
        if let Err(leases) = workers.send(leases) {
            put_back(leases, lane);
            lane.failed(&Failure::link(Layer::Http, "the system has no thread left for a request"));
            continue;
        }
        let mut answered = tokio::select! {
            done = workers.done() => Some(done),
            () = stop.stopped() => None,
        };
        if answered.is_none() {
            answered = tokio::time::timeout(STOP_GRACE, workers.done()).await.ok();
        }
        let Some((leases, batched)) = answered else {
            client.shutdown();
            return lane.abandon();
        };
        settle(leases, batched, &mut plan, lane);
    }
}

/// Puts more to the first one: what was with it before, or what is there and comes within a second. `Err`: the agent stops.
async fn fill(
    first: Lease,
    plan: &mut Plan,
    lane: &mut Lane,
    stop: &mut Stop,
) -> Result<Vec<Lease>, Vec<Lease>> {
    let planned = plan.again_with(name(&first));
    let most = planned.as_ref().map_or(plan.size, Vec::len);
    let deadline = Instant::now() + FILL;
    let mut leases = vec![first];
    while leases.len() < most {
        let Some(first) = leases.first() else { break };
        match lane.try_next_beside(first) {
            Beside::Leased(lease) => {
                let belongs = match &planned {
                    Some(planned) => planned.get(leases.len()) == Some(&name(&lease)),
                    None => !plan.begins_with(name(&lease)),
                };
                if !belongs {
                    lane.put_back(lease);
                    break;
                }
                leases.push(lease);
            }
            Beside::NotYet if planned.is_none() => {
                tokio::select! {
                    () = stop.stopped() => return Err(leases),
                    () = lane.changed() => {}
                    () = tokio::time::sleep_until(deadline) => break,
                }
            }
            Beside::NotYet | Beside::Never => break,
        }
    }
    Ok(leases)
}

fn settle(leases: Vec<Lease>, batched: Batched, plan: &mut Plan, lane: &mut Lane) {
    let Batched { members, outcome, status } = batched;
    let mut sent = Vec::new();
    let mut unsent = Vec::new();
    for (lease, member) in leases.into_iter().zip(members) {
        match member {
            Member::Sent(exchange) => sent.push((lease, exchange)),
            Member::Ended(report) => lane.settle(lease, *report),
            Member::Unsent => unsent.push(lease),
        }
    }
    plan.learn(sent.len(), unsent.len());
    let names: Vec<Name> = sent.iter().map(|(lease, _)| name(lease)).collect();
    match &outcome {
        Some(Outcome::Failed(failure)) if failure.blame == Blame::Record && names.len() > 1 => {
            log::debug!("{}: a batch of {} is halved: {failure}", lane.name(), names.len());
            plan.halve(&names, status);
            put_back(sent.into_iter().map(|(lease, _)| lease), lane);
        }
        Some(outcome) => {
            if matches!(outcome, Outcome::Failed(_)) && names.len() > 1 {
                plan.plan(names);
            }
            for (lease, exchange) in sent {
                lane.settle(lease, Report { outcome: outcome.clone(), exchange: Some(*exchange) });
            }
        }
        None => {}
    }
    put_back(unsent, lane);
}

#[cfg(test)]
mod tests;
