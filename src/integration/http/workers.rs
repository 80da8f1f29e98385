//! The threads behind an HTTP integration.

use std::sync::mpsc as jobs;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

/// Stack of a worker: a request, its TLS and its rendering need less than half of it.
const STACK_BYTES: usize = 256 * 1024;

/// What a thread does with a job: makes its request and waits for the answer.
type Work<J, R> = dyn Fn(J) -> R + Send + Sync;

/// Threads that send one request at a time each; as many as were ever needed together.
pub(super) struct Workers<J, R> {
    work: Arc<Work<J, R>>,
    name: Arc<str>,
    jobs: jobs::Sender<J>,
    queue: Arc<Mutex<jobs::Receiver<J>>>,
    report: mpsc::UnboundedSender<R>,
    reports: mpsc::UnboundedReceiver<R>,
    threads: usize,
    busy: usize,
}

impl<J: Send + 'static, R: Send + 'static> Workers<J, R> {
    pub(super) fn new(name: Arc<str>, work: impl Fn(J) -> R + Send + Sync + 'static) -> Workers<J, R> {
        let (jobs, queue) = jobs::channel();
        let (report, reports) = mpsc::unbounded_channel();
        let queue = Arc::new(Mutex::new(queue));
        Workers { work: Arc::new(work), name, jobs, queue, report, reports, threads: 0, busy: 0 }
    }

    /// Hands a job to a thread that is free, or to a new one; gives it back when the system has no thread left.
    pub(super) fn send(&mut self, job: J) -> Result<(), J> {
        if self.busy == self.threads {
            match self.start_thread() {
                Ok(()) => self.threads += 1,
                Err(error) if self.threads == 0 => {
                    log::error!("{}: no thread for a request: {error}", self.name);
                    return Err(job);
                }
                // The others will take it in their turn.
                Err(error) => log::warn!("{}: no further thread for requests: {error}", self.name),
            }
        }
        self.jobs.send(job).map_err(|jobs::SendError(job)| job)?;
        self.busy += 1;
        Ok(())
    }

    /// Waits for the next finished request; for ever when there is none. Safe to cancel.
    pub(super) async fn done(&mut self) -> R {
        match self.reports.recv().await {
            Some(done) => {
                self.busy = self.busy.saturating_sub(1);
                done
            }
            // Not reached while `report` lives in this struct.
            None => std::future::pending().await,
        }
    }

    fn start_thread(&self) -> std::io::Result<()> {
        let (work, queue, report) = (Arc::clone(&self.work), Arc::clone(&self.queue), self.report.clone());
        let run = move || {
            // The lock is held while waiting for a job, never during one. An error means the integration has stopped.
            while let Ok(job) = { queue.lock().unwrap_or_else(PoisonError::into_inner).recv() } {
                if report.send(work(job)).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name(format!("{}/{}", self.name, self.threads + 1))
            .stack_size(STACK_BYTES)
            .spawn(run)
            .map(drop)
    }
}
