//! From the door to the spool: takes what the sources hand over, makes uplinks of it, routes them, appends them.
//!
//! The queue in front of it is bounded and never awaited by a source; the queue behind it is awaited here. So when the
//! disk is slow the uplinks wait in the front queue, and when that is full the source counts what it drops.
//!
//! What network servers and scripts hand over goes its own way, with an answer: [`server`].

pub mod ids;
pub mod server;

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::flow::Router;
use crate::lorawan;
use crate::metrics::{DoorCounters, DropReason};
use crate::source::FromSource;
use crate::spool::{Appender, Note, Routed};

/// Uplinks a source may have handed over that were not taken yet (RULES S32).
pub const HAND_OVER_QUEUE: usize = 4_096;

/// Uplinks that go to the spool together at most.
const BATCH: usize = 64;

/// Name of the note that carries the door counters across restarts (RULES S24).
pub const DOOR_NOTE: &str = "door";

/// Runs until every source has gone and the queue is empty, or the spool is closed.
pub async fn run(
    mut queue: mpsc::Receiver<FromSource>,
    router: Router,
    spool: Appender,
    counters: Arc<DoorCounters>,
) {
    let mut taken = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut taken, BATCH).await > 0 {
        let mut batch = Vec::with_capacity(taken.len());
        for from in taken.drain(..) {
            let uplink = lorawan::identify(from.source, from.heard);
            let routes = router.routes(&uplink).to_vec();
            if routes.is_empty() {
                counters.dropped(DropReason::Unrouted, 1);
            } else {
                batch.push(Routed { uplink, routes });
            }
        }
        if spool.append(batch, vec![door_note(&counters)]).await.is_err() {
            return;
        }
    }
    // What was counted since the last uplink. A spool that is closed keeps what it has.
    let _ = spool.append(Vec::new(), vec![door_note(&counters)]).await;
}

fn door_note(counters: &DoorCounters) -> Note {
    Note { key: DOOR_NOTE.to_owned(), value: counters.to_note() }
}
