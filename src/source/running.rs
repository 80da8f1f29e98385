//! A source that has a thread and a runtime of its own.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;

/// Threads that the runtime of a source may use for name resolution.
const RESOLVER_THREADS: usize = 2;

/// Hears that the source is to stop.
#[derive(Clone, Debug)]
pub(super) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Waits for it. Safe to cancel.
    pub(super) async fn stopped(&mut self) {
        // An error means that whoever could say it has gone, which says it.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Whether it was said.
    pub(super) fn is_stopped(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

/// A source on a thread of its own. Dropping it stops it: it takes nothing more, and returns when what it has in hand is
/// acknowledged, or after a few seconds.
#[derive(Debug)]
pub struct Running {
    name: Arc<str>,
    local: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Runs `work` on a new thread with a runtime of its own.
    pub(super) fn start<F>(
        name: Arc<str>,
        kind: &str,
        local: Option<SocketAddr>,
        work: impl FnOnce(Stop) -> F + Send + 'static,
    ) -> std::io::Result<Running>
    where
        F: Future<Output = ()>,
    {
        let (stop, stopping) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(RESOLVER_THREADS)
            .build()?;
        let thread = std::thread::Builder::new().name(format!("{kind}/{name}")).spawn(move || {
            runtime.block_on(work(Stop(stopping)));
            // A look-up that hangs must not hold up the stop.
            runtime.shutdown_background();
        })?;
        Ok(Running { name, local, stop, thread: Some(thread) })
    }

    /// Where it listens, if it does; tells the port where the configuration said 0.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local
    }

    /// See the [type](Self).
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread of source {} had panicked; please report this", self.name);
        }
    }
}
