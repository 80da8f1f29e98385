//! The threads behind an HTTP integration.

use std::sync::mpsc as jobs;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::delivery::Lease;
use crate::delivery::outcome::Report;

use super::client::{HttpClient, Sending};

/// Stack of a worker: a request, its TLS and its rendering need less than half of it.
const STACK_BYTES: usize = 256 * 1024;

/// Threads that send one request at a time each; as many as were ever needed together.
pub(super) struct Workers {
    client: Arc<HttpClient>,
    name: Arc<str>,
    jobs: jobs::Sender<Lease>,
    queue: Arc<Mutex<jobs::Receiver<Lease>>>,
    report: mpsc::UnboundedSender<(Lease, Report)>,
    reports: mpsc::UnboundedReceiver<(Lease, Report)>,
    threads: usize,
    busy: usize,
}

impl Workers {
    pub(super) fn new(client: Arc<HttpClient>, name: Arc<str>) -> Workers {
        let (jobs, queue) = jobs::channel();
        let (report, reports) = mpsc::unbounded_channel();
        let queue = Arc::new(Mutex::new(queue));
        Workers { client, name, jobs, queue, report, reports, threads: 0, busy: 0 }
    }

    /// Hands a lease to a thread that is free, or to a new one; gives it back when the system has no thread left.
    pub(super) fn send(&mut self, lease: Lease) -> Result<(), Lease> {
        if self.busy == self.threads {
            match self.start_thread() {
                Ok(()) => self.threads += 1,
                Err(error) if self.threads == 0 => {
                    log::error!("{}: no thread for a request: {error}", self.name);
                    return Err(lease);
                }
                // The others will take it in their turn.
                Err(error) => log::warn!("{}: no further thread for requests: {error}", self.name),
            }
        }
        self.jobs.send(lease).map_err(|jobs::SendError(lease)| lease)?;
        self.busy += 1;
        Ok(())
    }

    /// Waits for the next finished request; for ever when there is none. Safe to cancel.
    pub(super) async fn done(&mut self) -> (Lease, Report) {
        match self.reports.recv().await {
            Some(done) => {
                self.busy = self.busy.saturating_sub(1);
                done
            }
            // Not reached while `report` lives in this struct.
            None => std::future::pending().await,
        }
    }

    /// Breaks off the requests under way.
    pub(super) fn shutdown(&self) {
        self.client.shutdown();
    }

    fn start_thread(&self) -> std::io::Result<()> {
        let (client, queue, report) =
            (Arc::clone(&self.client), Arc::clone(&self.queue), self.report.clone());
        let work = move || {
            // The lock is held while waiting for a job, never during one. An error means the integration has stopped.
            while let Ok(lease) = { queue.lock().unwrap_or_else(PoisonError::into_inner).recv() } {
                let answered = client.send(&Sending::of(&lease));
                if report.send((lease, answered)).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name(format!("{}/{}", self.name, self.threads + 1))
            .stack_size(STACK_BYTES)
            .spawn(work)
            .map(drop)
    }
}
