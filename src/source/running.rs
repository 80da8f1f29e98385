//! A source that has a thread and a runtime of its own.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::own_thread::{self, Stop, Stopper};

/// A source on a thread of its own. Dropping it stops it: it takes nothing more, and returns when what it has in hand is
/// acknowledged, or after a few seconds.
#[derive(Debug)]
pub struct Running {
    name: Arc<str>,
    local: Option<SocketAddr>,
    stopper: Stopper,
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
        let (stopper, stop) = Stopper::new();
        let thread = own_thread::spawn(format!("{kind}/{name}"), || work(stop))?;
        Ok(Running { name, local, stopper, thread: Some(thread) })
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
        self.stopper.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread of source {} had panicked; please report this", self.name);
        }
    }
}
