//! A thread with a runtime of its own, and the signal that ends it. Sources and integrations have one each, so that none
//! waits for another.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// Threads that a runtime may use for name resolution. A look-up that hangs keeps its thread; the next one finds the
/// other, and no more pile up.
const RESOLVER_THREADS: usize = 2;

/// Gives the stop signal; dropping it gives it too.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Hears the stop signal.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stopper {
    /// A fresh pair.
    pub fn new() -> (Stopper, Stop) {
        let (say, hear) = watch::channel(false);
        (Stopper(say), Stop(hear))
    }

    /// Everybody who listens is to stop.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Waits for the signal. Safe to cancel.
    pub async fn stopped(&mut self) {
        // An error means the stopper is gone, which means stop.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Whether it was given.
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

/// Runs `work` on a new thread.
///
/// # Errors
/// The system's, when it has no thread or no timer left.
pub(crate) fn spawn<F: Future<Output = ()>>(
    name: String,
    work: impl FnOnce() -> F + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let runtime = runtime()?;
    std::thread::Builder::new().name(name).spawn(move || block_on(runtime, work()))
}

/// Runs `work` on this thread.
///
/// # Errors
/// As [`spawn`].
pub(crate) fn run<T>(work: impl Future<Output = T>) -> io::Result<T> {
    Ok(block_on(runtime()?, work))
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().max_blocking_threads(RESOLVER_THREADS).build()
}

fn block_on<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    let result = runtime.block_on(work);
    // A look-up that hangs must not hold up the end.
    runtime.shutdown_background();
    result
}
