//! HTTP: one request an uplink, several under way, order per device kept.
//!
//! ```text
//!   Lane ──next──> driver ──job──> worker 1..parallel ──POST──> far end
//!     ^              │  ^                 │
//!     └── settle ────┘  └── outcome ──────┘
//! ```
//!
//! ureq blocks, so each request under way has a thread, started when first needed. The driver is the only one that touches
//! the lane. Whose turn it is (one request a device, one probe after a failure) is the lane's business. With `batch` one
//! request takes several uplinks and one is under way at a time ([`batch`]).
//!
//! [`HttpClient`] makes one request of one uplink and says what became of it:
//!
//! ```text
//! Uplink ──request──> URL, headers, body, credentials ──client──> ureq over dial ──answer──> Outcome
//!               └── RenderError: the record                  └── dial::http_failure: the link
//! ```
//!
//! Its invariants:
//! - Delivered means that a status among `success_codes` was read. Redirects are not followed and no proxy is asked,
//!   so no stranger can answer for the endpoint.
//! - The id of an uplink is on every attempt (`Idempotency-Key`); only `X-Attempt` and `X-Hold-Ms`, how long it was held,
//!   tell attempts apart.
//! - An attempt ends within `timeout`, whatever the far end does, and holds a bounded amount of memory. Where a token must
//!   be had first, that may take as long again.
//! - What a [`Failure`] repeats of an answer has no control characters (RULES S37)
//!   and none of our secrets (invariant 8).

mod answer;
mod batch;
mod client;
mod compress;
mod request;
mod target;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, IntegrationKind, Problem};
use crate::delivery::outcome::{Failure, Layer, Outcome, Report};
use crate::delivery::{Lane, Lease, Ordering, Stop};
use crate::dial::Dial;
use crate::flow::Variant;
use crate::integration::Tester;
use crate::render::Interpreter;

pub use client::{HttpClient, Sending};
use workers::{Done, Workers};

/// How long requests under way may take to finish once the agent is to stop; after that they are broken off, stay in the
/// spool and are sent again after the start.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// An HTTP integration, ready to run.
#[derive(Debug)]
pub struct Http {
    client: HttpClient,
    parallel: usize,
    /// Uplinks a request.
    batch: usize,
}

impl Http {
    /// Builds the client.
    ///
    /// # Errors
    /// What is wrong with its settings.
    pub fn try_new(
        integration: &config::Integration,
        dial: &Dial,
        interpreter: &Interpreter,
        variants: &[Variant],
    ) -> Result<Http, Vec<Problem>> {
        let (parallel, batch) = match &integration.kind {
            IntegrationKind::Http(http) => (usize::from(http.parallel), usize::from(*http.batch)),
            IntegrationKind::Mqtt(_) => (1, 1),
        };
        Ok(Http { client: HttpClient::try_new(integration, dial, interpreter, variants)?, parallel, batch })
    }

    /// How its lane keeps order: batches go one after the other, so they keep the log's.
    pub(super) fn ordering(&self) -> Ordering {
        if self.batch > 1 { Ordering::Stream } else { Ordering::PerKey }
    }

    /// Drives the lane until `stop`.
    pub async fn run(&self, lane: &mut Lane, stop: &mut Stop) {
        let client = Arc::new(self.client.reopened());
        if self.batch > 1 {
            return batch::run(client, self.batch, lane, stop).await;
        }
        let sender = Arc::clone(&client);
        let mut workers = Workers::new(Arc::clone(lane.name()), self.parallel, move |lease: Lease| {
            let report = sender.send(&Sending::of(&lease));
            let goes_on = !matches!(report.outcome, Outcome::Failed(_));
            Done { report: (lease, report), goes_on }
        });
        while !stop.is_stopped() {
            while let Some((lease, report)) = workers.take_report() {
                lane.settle(lease, report);
            }
            put_back(workers.unsent(), lane);
            while workers.wants()
                && let Some(lease) = lane.try_next()
            {
                if let Err(lease) = workers.send(lease) {
                    lane.release(lease);
                    lane.failed(&Failure::link(Layer::Http, "the system has no thread left for a request"));
                }
            }
            tokio::select! {
                biased;
                () = stop.stopped() => break,
                () = workers.reported() => {}
                () = lane.changed(), if workers.wants() => {}
            }
        }
        put_back(workers.take_back(), lane);
        finish(lane, &mut workers, &client).await;
    }

    /// A client of its own for `test`, with the credentials of this one.
    pub(super) fn tester(&self) -> Tester {
        Tester::Http { client: Arc::new(self.client.reopened()), in_batches: self.batch > 1 }
    }

    /// Whether the endpoint can be reached and does not refuse us, asked without an uplink.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn probe(&self) -> Result<(), Failure> {
        let client = self.client.reopened();
        let asking = client.clone();
        // Nobody waits for the answer of a probe that is given up, and its thread is wanted for other things.
        let _given_up = BreakOff(client);
        let asked = tokio::task::spawn_blocking(move || asking.probe());
        asked.await.unwrap_or_else(|_| Err(Failure::link(Layer::Http, "the probe was broken off")))
    }
}

/// Ends the requests of a client when it is dropped.
struct BreakOff(HttpClient);

impl Drop for BreakOff {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

/// Gives back what was not sent after all.
fn put_back(leases: impl IntoIterator<Item = Lease>, lane: &mut Lane) {
    for lease in leases {
        lane.put_back(lease);
    }
}

/// Waits for what is under way, then breaks it off and takes it back.
async fn finish(lane: &mut Lane, workers: &mut Workers<Lease, (Lease, Report)>, client: &HttpClient) {
    let deadline = tokio::time::Instant::now() + STOP_GRACE;
    while lane.in_flight() > 0 {
        tokio::select! {
            (lease, report) = workers.done() => lane.settle(lease, report),
            () = tokio::time::sleep_until(deadline) => break,
        }
    }
    client.shutdown();
    lane.abandon();
}

/// What was made, or nothing and one problem more or several.
fn kept<T>(made: Result<T, Vec<Problem>>, problems: &mut Vec<Problem>) -> Option<T> {
    made.map_err(|more| problems.extend(more)).ok()
}

#[cfg(test)]
mod tests;
