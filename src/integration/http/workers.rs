//! The threads behind an HTTP integration, and the jobs that wait for them.
//!
//! ```text
//!   driver ──send──> waiting ──> thread 1..parallel ──work──> reports ──take_report──> driver
//!                       └───────────────unsent──────────────────────────────────────────┘
//! ```
//!
//! A small request over a good link takes less time than waking a thread, so where answers come quickly neither side wakes
//! the other for each of them: some jobs wait for the threads ([`Workers::wants`]), and the driver is woken for several
//! reports at once. How many adapts itself: as long as each waking finds one report, no job waits and each report wakes
//! the driver, as behind a slow link.
//!
//! Invariants:
//! - A job is worked on once or given back untouched ([`Workers::unsent`]).
//! - After a report that does not let the others go on no thread starts a job before the driver has taken that report and
//!   has had the jobs back: a failure meets no more requests than were under way.
//! - A report reaches the driver within [`LINGER`] however few there are.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// Stack of a worker: a request, its TLS and its rendering need less than half of it.
const STACK_BYTES: usize = 256 * 1024;

/// The most jobs that wait for a thread: enough for the threads while the driver wakes up.
const MAX_AHEAD: usize = 32;

/// How long a report may lie there while jobs wait.
const LINGER: Duration = Duration::from_millis(2);

/// As a low water: each report wakes the driver.
const ALWAYS: usize = usize::MAX;

/// What a thread does with a job: makes its request and waits for the answer.
type Work<J, R> = dyn Fn(J) -> Done<R> + Send + Sync;

/// What came of a job.
pub(super) struct Done<R> {
    pub(super) report: R,
    /// Whether the jobs that wait may be started, whatever the driver makes of it.
    pub(super) goes_on: bool,
}

/// Threads that send one request at a time each; as many as were ever needed together.
pub(super) struct Workers<J, R> {
    name: Arc<str>,
    shared: Arc<Shared<J, R>>,
    parallel: usize,
    threads: usize,
    /// Sent, and neither reported nor given back.
    under_way: usize,
    /// How many jobs more than threads are wanted.
    ahead: usize,
    /// Taken from the threads, for the driver.
    reports: VecDeque<R>,
}

struct Shared<J, R> {
    work: Box<Work<J, R>>,
    state: Mutex<State<J, R>>,
    /// A job was put in, or all is over.
    put_in: Condvar,
    /// The driver should look.
    reported: Notify,
}

struct State<J, R> {
    waiting: VecDeque<J>,
    reports: VecDeque<R>,
    /// Threads that wait for a job.
    idle: usize,
    /// No job is to be started.
    held: bool,
    /// The driver is not woken for a report while more jobs than these wait.
    low_water: usize,
    closed: bool,
}

impl<J: Send + 'static, R: Send + 'static> Workers<J, R> {
    /// At most `parallel` threads, none of them started yet.
    pub(super) fn new(
        name: Arc<str>,
        parallel: usize,
        work: impl Fn(J) -> Done<R> + Send + Sync + 'static,
    ) -> Workers<J, R> {
        let state = State {
            waiting: VecDeque::new(),
            reports: VecDeque::new(),
            idle: 0,
            held: false,
            low_water: ALWAYS,
            closed: false,
        };
        let shared = Shared {
            work: Box::new(work),
            state: Mutex::new(state),
            put_in: Condvar::new(),
            reported: Notify::new(),
        };
        Workers {
            name,
            shared: Arc::new(shared),
            parallel,
            threads: 0,
            under_way: 0,
            ahead: 0,
            reports: VecDeque::new(),
        }
    }

    /// Whether another job is welcome.
    pub(super) fn wants(&self) -> bool {
        self.under_way < self.parallel + self.ahead
    }

    /// Hands a job to the threads; gives it back when the system has none.
    pub(super) fn send(&mut self, job: J) -> Result<(), J> {
        if self.under_way >= self.threads && self.threads < self.parallel {
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
        self.under_way += 1;
        let mut state = self.shared.lock();
        state.waiting.push_back(job);
        // Those that wait before it have woken theirs.
        if state.waiting.len() <= state.idle {
            drop(state);
            self.shared.put_in.notify_one();
        }
        Ok(())
    }

    /// Waits until there may be something for [`Workers::take_report`]; for ever when nothing is under way. Safe to cancel.
    pub(super) async fn reported(&mut self) {
        if !self.reports.is_empty() {
            return;
        }
        let may_linger = {
            let state = self.shared.lock();
            state.waiting.len() > state.low_water
        };
        if may_linger {
            // The time is up or there is a report: it looks either way.
            let _ = tokio::time::timeout(LINGER, self.shared.reported.notified()).await;
        } else {
            self.shared.reported.notified().await;
        }
        let mut state = self.shared.lock();
        std::mem::swap(&mut self.reports, &mut state.reports);
        (self.ahead, state.low_water) = match self.reports.len() {
            0 | 1 => (self.ahead / 2, ALWAYS),
            several => {
                let ahead = (self.ahead + several).min(MAX_AHEAD);
                (ahead, ahead / 2)
            }
        };
    }

    /// What has become of a job.
    pub(super) fn take_report(&mut self) -> Option<R> {
        let report = self.reports.pop_front()?;
        self.under_way = self.under_way.saturating_sub(1);
        Some(report)
    }

    /// Waits for the next report; for ever when nothing is under way. Safe to cancel.
    pub(super) async fn done(&mut self) -> R {
        loop {
            if let Some(report) = self.take_report() {
                return report;
            }
            self.reported().await;
        }
    }

    /// The jobs that must not be started after what was reported: ask once the reports are taken.
    pub(super) fn unsent(&mut self) -> VecDeque<J> {
        let held = self.shared.lock().held;
        if held { self.take_back() } else { VecDeque::new() }
    }

    /// All jobs that no thread has started.
    pub(super) fn take_back(&mut self) -> VecDeque<J> {
        let back = {
            let mut state = self.shared.lock();
            state.held = false;
            std::mem::take(&mut state.waiting)
        };
        self.under_way = self.under_way.saturating_sub(back.len());
        back
    }

    fn start_thread(&self) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new()
            .name(format!("{}/{}", self.name, self.threads + 1))
            .stack_size(STACK_BYTES)
            .spawn(move || shared.work_on())
            .map(drop)
    }
}

impl<J, R> Shared<J, R> {
    fn lock(&self) -> MutexGuard<'_, State<J, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does job after job, until all is over.
    fn work_on(&self) {
        let mut state = self.lock();
        while !state.closed {
            let job = if state.held { None } else { state.waiting.pop_front() };
            if !state.reports.is_empty() && (job.is_none() || state.waiting.len() <= state.low_water) {
                self.reported.notify_one();
            }
            let Some(job) = job else {
                state.idle += 1;
                state = self.put_in.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            drop(state);
            let Done { report, goes_on } = (self.work)(job);
            state = self.lock();
            state.reports.push_back(report);
            state.held |= !goes_on;
        }
    }
}

impl<J, R> Drop for Workers<J, R> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.put_in.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc;

    use super::*;

    /// Workers that end a job when they are told how: whether the others may go on.
    fn workers(parallel: usize) -> (Workers<u32, u32>, mpsc::Sender<bool>) {
        let (tell, told) = mpsc::channel();
        let told = Mutex::new(told);
        let work = move |job| Done { report: job, goes_on: told.lock().unwrap().recv().unwrap_or(true) };
        (Workers::new("far".into(), parallel, work), tell)
    }

    /// Sends jobs until no more are wanted; how many.
    fn fill(workers: &mut Workers<u32, u32>, next: &mut u32) -> usize {
        let mut sent = 0;
        while workers.wants() {
            workers.send(*next).unwrap();
            *next += 1;
            sent += 1;
        }
        sent
    }

    #[tokio::test]
    async fn every_job_is_reported_once_however_many_wait() {
        let (mut workers, tell) = workers(4);
        let mut next = 0;
        assert_eq!(fill(&mut workers, &mut next), 4);
        (0..4).for_each(|_| tell.send(true).unwrap());
        let mut reported = Vec::new();
        while reported.len() < 500 {
            workers.reported().await;
            while let Some(job) = workers.take_report() {
                reported.push(job);
            }
            (0..fill(&mut workers, &mut next)).for_each(|_| tell.send(true).unwrap());
            assert!(workers.under_way <= 4 + MAX_AHEAD);
        }
        while reported.len() < next as usize {
            reported.push(workers.done().await);
        }
        reported.sort_unstable();
        assert_eq!(reported, (0..next).collect::<Vec<_>>());
        assert!(workers.unsent().is_empty());
    }

    #[tokio::test]
    async fn s8_after_a_failure_nothing_that_waits_is_sent() {
        let (mut workers, tell) = workers(1);
        (0..4).for_each(|job| workers.send(job).unwrap());
        tell.send(true).unwrap();
        tell.send(false).unwrap();
        assert_eq!(workers.done().await, 0);
        assert_eq!(workers.done().await, 1);
        // The thread could go on: it is told how the next would end.
        tell.send(true).unwrap();
        assert_eq!(workers.unsent(), [2, 3]);
        workers.send(4).unwrap();
        assert_eq!(workers.done().await, 4);
    }

    #[tokio::test]
    async fn a_report_comes_though_the_next_job_hangs() {
        let (mut workers, tell) = workers(1);
        (0..20).for_each(|job| workers.send(job).unwrap());
        workers.shared.lock().low_water = 0;
        tell.send(true).unwrap();
        assert_eq!(workers.done().await, 0, "after a while, for 18 wait and the second one hangs");
        tell.send(true).unwrap();
        assert_eq!(workers.done().await, 1);
        assert_eq!(workers.shared.lock().low_water, ALWAYS, "from then on at once");
    }
}
