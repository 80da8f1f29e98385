//! From the door to the spool: takes what the sources hand over, makes uplinks of it, routes them, appends them.
//!
//! The queue in front of it is bounded and never awaited by a source; the queue behind it is awaited here. So when the
//! disk is slow the uplinks wait in the front queue, and when that is full the source counts what it drops.
//!
//! What waits together is taken together. (Copies within one datagram were folded at the door.) Within such a batch the copies of a transmission are folded to the best of them
//! (RULES S19); a copy that comes later finds its first gone to the spool, and is dropped.
//!
//! What network servers and scripts hand over goes its own way, with an answer: [`server`].

pub mod ids;
pub mod server;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::flow::Router;
use crate::lorawan::accept::Accept;
use crate::lorawan::{Devices, Recognized, Recognizer};
use crate::metrics::{DoorCounters, DropReason};
use crate::sightings::{ACCEPTED, Sighting, Sightings};
use crate::source::FromSource;
use crate::spool::{Appender, Note, Routed};
use crate::uplink::{Rx, Uplink};

/// Uplinks a source may have handed over that were not taken yet (RULES S32).
pub const HAND_OVER_QUEUE: usize = 4_096;

/// Uplinks that go to the spool together at most.
const BATCH: usize = 64;

/// Name of the note that carries the door counters across restarts (RULES S24).
pub const DOOR_NOTE: &str = "door";

/// What decides about an uplink on its way in. A reload puts another in its place.
#[derive(Debug)]
pub struct Rooms {
    /// Who may have sent it.
    pub devices: Arc<Devices>,
    /// Where it goes.
    pub router: Router,
    /// What each source takes in.
    pub accept: HashMap<Arc<str>, Accept>,
}

/// The way of what is heard, from the door to the spool.
#[derive(Debug)]
pub struct Intake {
    /// The rooms of now; looked at with each batch.
    pub rooms: watch::Receiver<Arc<Rooms>>,
    /// Whose a frame is.
    pub recognizer: Recognizer,
    /// Where it waits.
    pub spool: Appender,
    /// What is counted.
    pub counters: Arc<DoorCounters>,
    /// Who is heard.
    pub sightings: Sightings,
}

impl Intake {
    /// Runs until every source has gone and the queue is empty, or the spool is closed.
    pub async fn run(mut self, mut queue: mpsc::Receiver<FromSource>) {
        let mut taken = Vec::with_capacity(BATCH);
        while queue.recv_many(&mut taken, BATCH).await > 0 {
            let batch = self.batch_of(taken.drain(..));
            let notes = self.notes();
            if self.spool.append(batch, notes).await.is_err() {
                return;
            }
        }
        // What was counted since the last uplink. A spool that is closed keeps what it has.
        let notes = self.notes();
        let _ = self.spool.append(Vec::new(), notes).await;
    }

    fn batch_of(&mut self, taken: impl Iterator<Item = FromSource>) -> Vec<Routed> {
        let rooms = Arc::clone(&self.rooms.borrow_and_update());
        let mut batch: Vec<(u64, Routed)> = Vec::with_capacity(taken.size_hint().0);
        for from in taken {
            let (recognized, seen) =
                self.recognizer.recognize(&rooms.devices, &rooms.accept, from.source, from.heard);
            let fate = match recognized {
                Recognized::Uplink { uplink, device, f_port, number } => {
                    let routes = rooms.router.routes(uplink.kind, device, f_port);
                    let watched = self.sightings.is_watched().then(|| Arc::new(uplink.clone()));
                    let fate = if routes.is_empty() {
                        Err(DropReason::Unrouted)
                    } else {
                        batch.push((number, Routed { uplink, routes }));
                        Ok(())
                    };
                    (fate, watched)
                }
                Recognized::Copy { number, rx } => {
                    fold(&mut batch, number, rx);
                    (Err(DropReason::Duplicate), None)
                }
                Recognized::Dropped(reason) => (Err(reason), None),
            };
            self.note(fate, seen);
        }
        batch.into_iter().map(|(_, routed)| routed).collect()
    }

    fn note(&self, (fate, uplink): (Result<(), DropReason>, Option<Arc<Uplink>>), seen: Option<Sighting>) {
        if let Err(reason) = fate {
            self.counters.dropped(reason, 1);
        }
        if let Some(seen) = seen {
            let fate = fate.err().map_or(ACCEPTED, DropReason::as_str);
            self.sightings.note(Sighting { fate, uplink, ..seen });
        }
    }

    fn notes(&mut self) -> Vec<Note> {
        let mut notes = self.recognizer.take_notes();
        notes.push(door_note(&self.counters));
        notes
    }
}

fn door_note(counters: &DoorCounters) -> Note {
    Note { key: DOOR_NOTE.to_owned(), value: counters.to_note() }
}

/// Puts the copy's metadata in the place of those of its first, if that is still here and was heard less well.
fn fold(batch: &mut [(u64, Routed)], number: u64, rx: Rx) {
    if let Some((_, first)) = batch.iter_mut().rev().find(|(n, _)| *n == number) {
        first.uplink.rx.keep_better(rx);
    }
}
