//! Blocking work of the main runtime, on threads of their own.

use tokio::sync::oneshot;

/// Runs blocking work on a thread of its own and waits for it.
pub(super) async fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, wait) = oneshot::channel();
    let started = std::thread::Builder::new().name("blocking".into()).spawn(move || {
        // Nobody waits any more when the agent was told to stop meanwhile.
        let _ = done.send(work());
    });
    match started {
        Ok(_) => wait.await.ok(),
        Err(error) => {
            log::error!("the system refused a thread: {error}");
            None
        }
    }
}
