//! The way of uplinks that a network server or a script hands over: they get their id, repeats are dropped, the rest is
//! routed and appended, and the source hears when all of it is safe (see [`crate::source::server`] for who acknowledges
//! what).
//!
//! # Invariants
//!
//! - An answer is given only for what is safe: on the disk, or with everybody it is for (RULES S6). What nobody wants is
//!   counted `unrouted` and needs no disk.
//! - What came together is accepted together.
//! - An uplink whose id is among the last [`ids::REMEMBERED`] is a repeat: not stored again, counted, and answered no
//!   earlier than its first copy. After a restart the ids come from the log, which has those that still wait somewhere,
//!   and from the last orderly stop. A repeat of what was delivered before a crash goes out twice, under the same id.
//! - Nobody is waited for but the spool's queue: answers are waited for in tasks of their own, so many uplinks share a
//!   commit. Their number is bounded by what sources may have in hand.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::crash_point::CrashPoint;
use crate::lorawan::{self, Device};
use crate::metrics::{DoorCounters, DropReason};
use crate::sightings::{ACCEPTED, Sighting, Sightings, Who};
use crate::source::server::{FromServer, Told};
use crate::spool::{Appender, Closed, Note, ReadError, Routed, Tail};
use crate::uplink::{Flags, Kind, TimeSource, Uplink};

use super::Rooms;
use super::ids::{self, KnownIds};

/// Name of the note that carries the ids over an orderly stop.
pub const IDS_NOTE: &str = "source-ids";

/// How far back a start looks for them, in records.
const LOOK_BACK: usize = 65_536;

/// The ids of before this start, from the spool's notes and its log. Blocking.
///
/// # Errors
/// The log can't be read.
pub fn known_ids(notes: &[Note], tail: &Tail) -> Result<KnownIds, ReadError> {
    let mut known = KnownIds::default();
    for note in notes.iter().filter(|note| note.key == IDS_NOTE) {
        known.add_note(&note.value);
    }
    for id in tail.last_ids(Kind::App, ids::REMEMBERED, LOOK_BACK)? {
        known.add(id);
    }
    Ok(known)
}

/// What this task owns.
#[derive(Debug)]
pub struct Server {
    /// The rooms of now; looked at with each hand-over.
    pub rooms: watch::Receiver<Arc<Rooms>>,
    /// Where it is kept.
    pub spool: Appender,
    /// Where it is counted.
    pub counters: Arc<DoorCounters>,
    /// Who is heard.
    pub sightings: Sightings,
    /// What came before.
    pub known: KnownIds,
}

/// What is to be done for uplinks that came together.
struct Sorted {
    ids: Vec<Uuid>,
    fresh: Vec<Routed>,
    has_repeats: bool,
}

impl Server {
    /// Runs until every source has gone and the queue is empty, or the spool is closed.
    pub async fn run(mut self, mut queue: mpsc::Receiver<FromServer>) {
        let mut answering = JoinSet::new();
        while let Some(from) = queue.recv().await {
            while answering.try_join_next().is_some() {}
            if self.take(from, &mut answering).await.is_err() {
                return;
            }
        }
        while answering.join_next().await.is_some() {}
        let ids = Note { key: IDS_NOTE.to_owned(), value: self.known.to_note() };
        // A spool that is closed keeps what it has.
        let _ = self.spool.append(Vec::new(), vec![ids, super::door_note(&self.counters)]).await;
    }

    async fn take(&mut self, from: FromServer, answering: &mut JoinSet<()>) -> Result<(), Closed> {
        if from.accepted.is_closed() {
            // Whoever sent it was told that it was not taken, or is gone: it comes again.
            return Ok(());
        }
        let Sorted { ids, fresh, has_repeats } = self.sort(&from.source, from.uplinks);
        let note = vec![super::door_note(&self.counters)];
        let mut safe = Vec::new();
        if has_repeats {
            safe.push(self.spool.append_durable(Vec::new(), Vec::new()).await?);
        }
        if fresh.is_empty() {
            self.spool.append(Vec::new(), note).await?;
        } else {
            safe.push(self.spool.append_durable(fresh, note).await?);
        }
        answering.spawn(async move {
            for accepted in safe {
                if accepted.wait().await.is_err() {
                    return;
                }
            }
            CrashPoint::BeforeAnswer.reached();
            // A source that no longer waits gets the uplink again, and this id tells it from the first.
            let _ = from.accepted.send(ids);
            drop(from.room);
        });
        Ok(())
    }

    fn sort(&mut self, source: &Arc<str>, uplinks: Vec<Told>) -> Sorted {
        let rooms = Arc::clone(&self.rooms.borrow_and_update());
        let mut sorted =
            Sorted { ids: Vec::with_capacity(uplinks.len()), fresh: Vec::new(), has_repeats: false };
        for told in uplinks {
            self.counters.heard();
            let given = ids::of(&told);
            if let Some(id) = given.filter(|id| self.known.contains(id)) {
                self.counters.dropped(DropReason::Repeated, 1);
                sorted.has_repeats = true;
                sorted.ids.push(id);
                continue;
            }
            let id = given.unwrap_or_else(|| lorawan::new_id(told.at.wall_us));
            sorted.ids.push(id);
            let device = rooms.devices.of_eui(told.dev_eui);
            let routes = rooms.router.routes(Kind::App, device, told.f_port);
            let seen = sighting_of(&told, device);
            let uplink = uplink_of(source, told, id);
            let watched = self.sightings.is_watched().then(|| Arc::new(uplink.clone()));
            let fate = if routes.is_empty() { DropReason::Unrouted.as_str() } else { ACCEPTED };
            self.sightings.note(Sighting { fate, uplink: watched, ..seen });
            if routes.is_empty() {
                self.counters.dropped(DropReason::Unrouted, 1);
                continue;
            }
            if given.is_some() {
                self.known.add(id);
            }
            sorted.fresh.push(Routed { uplink, routes });
        }
        sorted
    }
}

/// A repeat is none of its own.
fn sighting_of(told: &Told, device: Option<&Device>) -> Sighting {
    Sighting {
        who: device.map_or(Who::Told(told.dev_eui), |device| Who::Device(device.name.clone())),
        dev_eui: Some(told.dev_eui),
        dev_addr: None,
        kind: Kind::App,
        f_cnt: told.f_cnt,
        f_port: told.f_port,
        len: told.text.len(),
        rx: told.rx.clone(),
        at: told.at,
        fate: "",
        gap: 0,
        uplink: None,
    }
}

fn uplink_of(source: &Arc<str>, told: Told, id: Uuid) -> Uplink {
    Uplink {
        id,
        source: Arc::clone(source),
        kind: Kind::App,
        content: told.text,
        dev_eui: Some(told.dev_eui),
        f_cnt: told.f_cnt,
        rx: told.rx,
        flags: Flags { clock_trusted: told.at.source != TimeSource::Untrusted, ..Flags::default() },
        at: told.at,
    }
}

#[cfg(test)]
mod tests;
