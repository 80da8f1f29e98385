//! Where uplinks go in, and what whoever hands them over is told.

use tokio::sync::{mpsc, oneshot};

use super::writer::Message;
use super::{Closed, Note, Routed};

/// Hands uplinks to the writer.
#[derive(Clone, Debug)]
pub struct Appender {
    queue: mpsc::Sender<Message>,
}

impl Appender {
    pub(super) fn new(queue: mpsc::Sender<Message>) -> Appender {
        Appender { queue }
    }

    /// Queues uplinks, and notes to keep with them, for the next round. Waits while the writer is behind.
    ///
    /// # Errors
    /// The spool was closed.
    pub async fn append(&self, uplinks: Vec<Routed>, notes: Vec<Note>) -> Result<(), Closed> {
        self.queue.send(Message::Append { uplinks, notes, waiter: None }).await.map_err(|_| Closed)
    }

    /// As [`append`](Self::append), for a source that acknowledges only what is safe: [`Accepted::wait`] returns once the
    /// uplinks are on the disk or everybody they are for has settled them, whichever is first (RULES S6). A commit comes
    /// within [`COMMIT_WINDOW`](super::COMMIT_WINDOW) whatever the durability. Without uplinks it waits for everything that was queued before.
    ///
    /// # Errors
    /// The spool was closed.
    pub async fn append_durable(&self, uplinks: Vec<Routed>, notes: Vec<Note>) -> Result<Accepted, Closed> {
        let (waiter, answer) = oneshot::channel();
        let message = Message::Append { uplinks, notes, waiter: Some(waiter) };
        self.queue.send(message).await.map_err(|_| Closed)?;
        Ok(Accepted(answer))
    }
}

/// What became of uplinks that were waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "what was refused must not be acknowledged"]
pub enum Acceptance {
    /// All are safe, for everybody they are for.
    Full,
    /// All are safe, but the spool is full: some were refused on behalf of the integration with the largest backlog, and
    /// counted there. The others have them, so the source may acknowledge.
    Partial,
    /// The spool is full: the uplinks at these places of the batch were refused on behalf of everybody, and counted. The
    /// source must not acknowledge them (an MQTT source), or say so (HTTP 429); all others are safe.
    Refused(Vec<usize>),
}

/// Uplinks that the writer's queue has taken and that are not safe yet.
#[derive(Debug)]
#[must_use = "nothing is accepted before it has been waited for"]
pub struct Accepted(oneshot::Receiver<Acceptance>);

impl Accepted {
    /// Waits until those that were taken in are safe. An I/O error only makes that take longer: the writer opens the file again and puts in what
    /// is not there.
    ///
    /// # Errors
    /// The spool was closed without being able to say so: nothing is known, and nothing may be acknowledged.
    pub async fn wait(self) -> Result<Acceptance, Closed> {
        self.0.await.map_err(|_| Closed)
    }
}
