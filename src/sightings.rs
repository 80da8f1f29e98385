//! Who was heard, and how: the table behind `devices`, and the live view behind `watch`.
//!
//! It is told of every frame that came through the door, also of those that go no further, because the first question on a
//! roof is "does it hear the device at all?", and of the uplinks that network servers hand over. It keeps one row a configured device and at most [`MAX_STRANGERS`] rows of
//! others, the longest silent of which makes room. Whoever watches gets each frame as it comes; a watcher who is too slow
//! misses some, and nobody waits for him.
//!
//! A gap in a device's counters is what the radio lost: nothing behind the door can make one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;

use crate::uplink::{DevAddr, Eui64, Kind, Moment, Rx, Uplink};

/// Rows of senders that are not configured.
const MAX_STRANGERS: usize = 256;

/// Frames that a slow watcher may lag behind.
const WATCH_QUEUE: usize = 64;

/// The fate of a frame that goes to the spool.
pub const ACCEPTED: &str = "accepted";

/// Who a row is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// A configured device, by its name.
    Device(String),
    /// An address.
    Address(DevAddr),
    /// A device that asks to join.
    Joining(Eui64),
    /// A device that a network server told of.
    Told(Eui64),
    /// Nobody can tell.
    Unknown,
}

/// One frame, as it was heard and what became of it.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// Who sent it.
    pub who: Who,
    /// The configured device's DevEUI, or the one that the frame says.
    pub dev_eui: Option<Eui64>,
    /// Its address.
    pub dev_addr: Option<DevAddr>,
    /// What it is.
    pub kind: Kind,
    /// The counter: whole where the session gave it.
    pub f_cnt: Option<u32>,
    /// FPort.
    pub f_port: Option<u8>,
    /// Bytes of the frame.
    pub len: usize,
    /// How it was heard.
    pub rx: Rx,
    /// When.
    pub at: Moment,
    /// What became of it: `accepted`, or why it was dropped.
    pub fate: &'static str,
    /// Counters missing since the last one.
    pub gap: u32,
    /// The uplink it became.
    pub uplink: Option<Arc<Uplink>>,
}

/// What is known of a sender since the agent started.
#[derive(Clone, Debug)]
pub struct Row {
    /// Who.
    pub who: Who,
    /// DevEUI, where known.
    pub dev_eui: Option<Eui64>,
    /// Address, where known.
    pub dev_addr: Option<DevAddr>,
    /// Frames heard, copies apart.
    pub heard: u64,
    /// Counters that never came.
    pub missed: u64,
    /// The last counter.
    pub f_cnt: Option<u32>,
    /// How the last one was heard.
    pub rx: Rx,
    /// When; `None`: a configured device that was not heard yet.
    pub last: Option<Moment>,
    /// Silent for longer than its `expect_every`.
    pub overdue: bool,
}

/// See the [module](self). Cloning it shares it.
#[derive(Clone, Debug)]
pub struct Sightings {
    rows: Arc<Mutex<HashMap<Who, Row>>>,
    watchers: broadcast::Sender<Arc<Sighting>>,
}

impl Default for Sightings {
    fn default() -> Self {
        Sightings::new()
    }
}

impl Sightings {
    /// Nobody heard yet.
    pub fn new() -> Sightings {
        Sightings { rows: Arc::default(), watchers: broadcast::channel(WATCH_QUEUE).0 }
    }

    /// Notes a frame.
    pub fn note(&self, mut sighting: Sighting) {
        {
            let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            match rows.get_mut(&sighting.who) {
                Some(row) => sighting.gap = row.note(&sighting),
                None => {
                    let mut row = Row::unheard(sighting.who.clone());
                    sighting.gap = row.note(&sighting);
                    rows.insert(sighting.who.clone(), row);
                    make_room(&mut rows);
                }
            }
        }
        if self.is_watched() {
            // A watcher that left in this moment is no loss.
            let _ = self.watchers.send(Arc::new(sighting));
        }
    }

    /// Whether anybody watches, so that what only they need is not made for nobody.
    pub fn is_watched(&self) -> bool {
        self.watchers.receiver_count() > 0
    }

    /// Each frame from now on.
    pub fn watch(&self) -> broadcast::Receiver<Arc<Sighting>> {
        self.watchers.subscribe()
    }

    /// The table, the last heard first.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> =
            self.rows.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.last.map(|at| at.boot_ns)));
        rows
    }

    /// Marks the devices that are silent for longer than they may be, and gives the names of those that were not marked
    /// before: one event each. `expected`: name and `expect_every`; `since_ns`: when the agent began to listen.
    pub fn overdue<'n>(
        &self,
        expected: impl Iterator<Item = (&'n str, Duration)>,
        since_ns: u64,
        now_ns: u64,
    ) -> Vec<(&'n str, Duration)> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut newly = Vec::new();
        for (name, every) in expected.filter(|(_, every)| !every.is_zero()) {
            let who = Who::Device(name.to_owned());
            let last_ns = rows.get(&who).and_then(|row| row.last).map_or(since_ns, |at| at.boot_ns);
            let silent = Duration::from_nanos(now_ns.saturating_sub(last_ns));
            let row = rows.entry(who.clone()).or_insert_with(|| Row::unheard(who));
            if silent > every && !row.overdue {
                row.overdue = true;
                newly.push((name, silent));
            }
        }
        newly
    }
}

impl Row {
    /// One of whom nothing was heard.
    pub fn unheard(who: Who) -> Row {
        Row {
            who,
            dev_eui: None,
            dev_addr: None,
            heard: 0,
            missed: 0,
            f_cnt: None,
            rx: Rx::default(),
            last: None,
            overdue: false,
        }
    }

    /// Returns how many counters are missing before this one.
    fn note(&mut self, sighting: &Sighting) -> u32 {
        let proved = matches!(sighting.who, Who::Device(_)) && sighting.fate == ACCEPTED;
        let gap = match (self.f_cnt, sighting.f_cnt) {
            (Some(last), Some(now)) if proved && now > last => now - last - 1,
            _ => 0,
        };
        self.heard += 1;
        self.missed += u64::from(gap);
        self.dev_eui = sighting.dev_eui.or(self.dev_eui);
        self.dev_addr = sighting.dev_addr.or(self.dev_addr);
        self.f_cnt = sighting.f_cnt.or(self.f_cnt);
        self.rx = sighting.rx.clone();
        self.last = Some(sighting.at);
        self.overdue = false;
        gap
    }
}

fn make_room(rows: &mut HashMap<Who, Row>) {
    let is_stranger = |who: &Who| !matches!(who, Who::Device(_));
    if rows.keys().filter(|who| is_stranger(who)).count() <= MAX_STRANGERS {
        return;
    }
    let silent_longest = rows
        .values()
        .filter(|row| is_stranger(&row.who))
        .min_by_key(|row| row.last.map_or(0, |at| at.boot_ns))
        .map(|row| row.who.clone());
    if let Some(who) = silent_longest {
        rows.remove(&who);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::clock::{Clock, ManualClock};

    fn sighting(who: Who, f_cnt: u32, clock: &ManualClock) -> Sighting {
        clock.advance(Duration::from_secs(1));
        Sighting {
            who,
            dev_eui: None,
            dev_addr: None,
            kind: Kind::Lorawan,
            f_cnt: Some(f_cnt),
            f_port: Some(1),
            len: 20,
            rx: Rx::default(),
            at: clock.now(),
            fate: "accepted",
            gap: 0,
            uplink: None,
        }
    }

    #[test]
    fn gaps_are_counters_that_never_came() {
        let (clock, sightings) = (ManualClock::new(), Sightings::new());
        let mut watch = sightings.watch();
        for f_cnt in [10, 11, 11, 15, 3, 4] {
            sightings.note(sighting(Who::Device("silo".into()), f_cnt, &clock));
        }
        let row = &sightings.rows()[0];
        assert_eq!((row.heard, row.missed, row.f_cnt), (6, 3, Some(4)));
        let gaps: Vec<u32> = std::iter::from_fn(|| watch.try_recv().ok()).map(|seen| seen.gap).collect();
        assert_eq!(gaps, [0, 0, 0, 3, 0, 0]);
    }

    #[test]
    fn strangers_are_bounded_and_devices_are_not_pushed_out() {
        let (clock, sightings) = (ManualClock::new(), Sightings::new());
        sightings.note(sighting(Who::Device("silo".into()), 1, &clock));
        for n in 0..1_000u32 {
            sightings.note(sighting(Who::Address(DevAddr(n.to_be_bytes())), 1, &clock));
        }
        let rows = sightings.rows();
        assert_eq!(rows.len(), MAX_STRANGERS + 1);
        assert_eq!(rows[0].who, Who::Address(DevAddr(999u32.to_be_bytes())));
        assert!(rows.iter().any(|row| row.who == Who::Device("silo".into())));
    }

    #[test]
    fn silence_is_one_event_until_it_ends() {
        let (clock, sightings) = (ManualClock::new(), Sightings::new());
        let start = clock.boot_ns();
        let hour = Duration::from_secs(3_600);
        let look = |sightings: &Sightings, clock: &ManualClock| {
            let expected = [("silo", hour), ("never-expected", Duration::ZERO)];
            sightings.overdue(expected.into_iter(), start, clock.boot_ns()).len()
        };
        clock.advance(hour);
        assert_eq!(look(&sightings, &clock), 0);
        clock.advance(Duration::from_secs(1));
        assert_eq!([look(&sightings, &clock), look(&sightings, &clock)], [1, 0]);
        sightings.note(sighting(Who::Device("silo".into()), 1, &clock));
        assert!(!sightings.rows()[0].overdue);
        clock.advance(hour * 2);
        assert_eq!([look(&sightings, &clock), look(&sightings, &clock)], [1, 0]);
    }
}
