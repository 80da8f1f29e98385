//! What the sources of network servers and scripts have in common.
//!
//! ```text
//!  network server          source                        ingest                       spool
//!        |                    |                             |                            |
//!        |--- 1. a text ----->|                             |                            |
//!        |                    | 2. is it an uplink?         |                            |
//!        |                    |--- 3. offer(FromServer) --->|                            |
//!        |                    |                             | 4. id, repeat?, routes     |
//!        |                    |                             |--- 5. append_durable ----->|
//!        |                    |                             |<-- 6. it is safe ----------|
//!        |                    |<-- 7. accepted(ids) --------|                            |
//!        |<-- 8. ack ---------|                             |                            |
//! ```
//!
//! The acknowledgement (8) is a promise, so it waits for (6): on the disk, or with everybody it is for (RULES S6). Whatever
//! goes wrong before it ends with no acknowledgement, and the server, or the broker between, has the uplink still. If only
//! the acknowledgement is lost the uplink comes again under the same id and is told from the first by it (S20).
//!
//! What is no uplink (2) is acknowledged at once, or refused where the protocol can say so, and counted: it would be no
//! better the next time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use uuid::Uuid;

use crate::metrics::DropReason;
use crate::server_uplink::{NoUplink, ServerUplink};
use crate::uplink::{Eui64, Moment, Rx};

use super::time;

/// What a source may have handed over and not got back: messages of a broker, connections of clients (RULES S32).
pub const IN_HAND: usize = 64;

/// One uplink of a network server or script.
#[derive(Clone, Debug)]
pub struct Told {
    /// The text as it came.
    pub text: Vec<u8>,
    /// What its sender calls it, the same if it is sent again.
    pub id: Option<String>,
    /// The device.
    pub dev_eui: Eui64,
    /// The 32-bit counter.
    pub f_cnt: Option<u32>,
    /// FPort.
    pub f_port: Option<u8>,
    /// The gateway and radio of the best copy.
    pub rx: Rx,
    /// When it was heard.
    pub at: Moment,
}

impl Told {
    /// Reads a text that arrived `at`.
    ///
    /// # Errors
    /// Why it is no uplink.
    pub fn read(text: &[u8], at: Moment) -> Result<Told, NoUplink> {
        let uplink = ServerUplink::parse(text)?;
        Ok(Told {
            text: text.to_vec(),
            id: uplink.id,
            dev_eui: uplink.dev_eui.ok_or(NoUplink::NoDevice)?,
            f_cnt: uplink.f_cnt,
            f_port: uplink.f_port,
            rx: uplink.rx,
            at: time::of_server(at, uplink.time_us),
        })
    }
}

/// Under which reason a text that is no uplink is counted.
pub fn drop_reason(why: &NoUplink) -> DropReason {
    match why {
        NoUplink::NotJson { .. } | NoUplink::NotAnObject | NoUplink::TooDeep => DropReason::BadJson,
        NoUplink::NoDevice => DropReason::NoDevice,
        NoUplink::OtherEvent => DropReason::OtherEvent,
        NoUplink::TooLong => DropReason::Oversize,
    }
}

/// Uplinks on their way out of a source, accepted together or not at all.
#[derive(Debug)]
pub struct FromServer {
    /// Name of the source, as in `[source.NAME]`.
    pub source: Arc<str>,
    /// What it was told.
    pub uplinks: Vec<Told>,
    /// Gets their ids once they are safe. Dropped without an answer: not accepted. Closed: the source no longer waits, and
    /// what was not taken yet is not to be taken.
    pub accepted: oneshot::Sender<Vec<Uuid>>,
    /// The source's own limit of what may be in memory counts this until they are safe, also if it no longer waits.
    pub room: Option<OwnedSemaphorePermit>,
}

/// Where a source hands over.
#[derive(Clone, Debug)]
pub struct Intake {
    queue: mpsc::Sender<FromServer>,
    open: watch::Receiver<bool>,
}

impl Intake {
    /// An intake into `queue`, which is open once `open` says so. The queue needs [`IN_HAND`] places a source.
    pub fn new(queue: mpsc::Sender<FromServer>, open: watch::Receiver<bool>) -> Intake {
        Intake { queue, open }
    }

    /// Whether the spool is open.
    pub fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Waits until it is.
    pub async fn opened(&mut self) {
        if self.open.wait_for(|open| *open).await.is_err() {
            // Nobody will open it any more: the agent is stopping, and says so to the source by other means.
            std::future::pending::<()>().await;
        }
    }

    /// Hands uplinks over; the answer comes when they are safe. `None`: nothing more is taken, or more was handed over than
    /// a source may have in hand.
    pub fn offer(
        &self,
        source: &Arc<str>,
        uplinks: Vec<Told>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Option<oneshot::Receiver<Vec<Uuid>>> {
        let (accepted, answer) = oneshot::channel();
        self.queue.try_send(FromServer { source: Arc::clone(source), uplinks, accepted, room }).ok()?;
        Some(answer)
    }
}
