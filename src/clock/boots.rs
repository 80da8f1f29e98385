//! What is known of this boot's clocks, and of those before it: what the moments in the spool mean (RULES S22).
//!
//! A record is never rewritten. It has the boot that it was heard in and that boot's clock, so one number a boot is enough to
//! say when all of its records were heard: the *offset*, wall clock minus boot clock. A gateway without a battery starts in
//! 1970 and learns that number minutes or days later, from NTP or from the GPS of its concentrator; until then its records
//! wait under a time that is wrong. [`Boots`] keeps the offsets, and [`Boots::date`] says what a moment means by them now.
//!
//! # The life of a boot
//!
//! 1. It is *seen*: it gets an entry, which says that it began no earlier than the one before it was last seen. Where
//!    nothing is known of one before, no earlier than this program was made.
//! 2. While it goes on, its entry says how far its clock has come.
//! 3. It gets an offset, once somebody knows the time. Who is a matter of rank: the wall clock while it is only plausible
//!    ([`By::Guess`]), the wall clock while it is trusted ([`By::Clock`]), GPS ([`By::Gps`]). A lower rank changes nothing
//!    that a higher one has said. Within a rank the later word counts, for steps are made by what sets clocks right; a
//!    difference that may be the way of asking is none. GPS counts once two frames agree, so that no single one can move
//!    all that waits.
//! 4. It is over. If it got no offset, the next boot that gets one closes the bounds of its records: they were heard after
//!    the one and before the other, and the boot clock tells how long after and how long before at least. Clocks that nobody
//!    steers run wrong, so only what they count for certain is counted ([`at_least`]).
//!
//! # Invariants
//!
//! - What is trusted is never moved by what is not.
//! - A time that steps makes nothing old: where a boot was told several times by the same rank, [`Boots::now_at_least`] and
//!   [`Boots::arrived_by`] know all of them, and age is what is left between the nearest two.
//! - At most [`MAX`] boots are kept, the newest. Records of older ones are dated as they were heard.
//! - Whatever the stored bytes say, nothing here panics or overflows; bytes of another format count as none.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{RELEASE_FLOOR_US, STEP};
use crate::uplink::{Moment, TimeSource};

/// Boots that are kept: a solar gateway that browns out each night, for a month. about 45 bytes each in the spool.
const MAX: usize = 32;

/// Format byte of the stored table.
const FORMAT: u8 = 1;

/// Less than this is what passes between one look at two clocks and the next, microseconds.
const JITTER_US: u64 = 100_000;

/// The most that Linux steers a clock by, and more than any crystal is off: 500 in a million (`MAXFREQ` in linux/timex.h).
const DRIFT: i64 = 2_000;

/// How good a time is: the `time_quality` of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// The concentrator's GPS.
    Gps,
    /// Our own clock, trusted when the uplink was heard.
    Ntp,
    /// The packet forwarder's, or a network server's.
    Forwarder,
    /// Our own clock was not to be trusted, or wrong; counted back from a time that is.
    Corrected,
    /// Nobody knew the time in that boot; it lies within bounds.
    Bounds,
    /// Our own clock, and it may be wrong.
    Untrusted,
}

impl Quality {
    /// As in bodies.
    pub fn as_str(self) -> &'static str {
        match self {
            Quality::Gps => "gps",
            Quality::Ntp => "ntp",
            Quality::Forwarder => "forwarder",
            Quality::Corrected => "corrected",
            Quality::Bounds => "bounds",
            Quality::Untrusted => "untrusted",
        }
    }
}

/// Between which moments something happened, microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Not before this.
    pub after_us: i64,
    /// Not after this.
    pub before_us: i64,
}

/// A moment, as far as it is known now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dated {
    /// Microseconds since 1970 UTC.
    pub wall_us: i64,
    /// How good that is.
    pub quality: Quality,
    /// With [`Quality::Bounds`] alone.
    pub bounds: Option<Bounds>,
}

impl Dated {
    /// As it was heard.
    pub fn as_heard(at: Moment) -> Dated {
        let quality = match at.source {
            TimeSource::Gps => Quality::Gps,
            TimeSource::Ntp => Quality::Ntp,
            TimeSource::Forwarder => Quality::Forwarder,
            TimeSource::Untrusted => Quality::Untrusted,
        };
        Dated { wall_us: at.wall_us, quality, bounds: None }
    }
}

/// Who says how far apart the clocks of a boot are; a higher rank overrules a lower one. Stored; frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum By {
    /// The wall clock shows what it could, and is not trusted.
    Guess,
    /// The wall clock, trusted.
    Clock,
    /// The concentrator's GPS.
    Gps,
}

impl By {
    /// As in `status`; `None`: nobody who is trusted.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            By::Guess => None,
            By::Clock => Some("clock"),
            By::Gps => Some("gps"),
        }
    }
}

/// Wall clock minus boot clock. Stored; frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offset {
    /// Microseconds; also when the boot began, since 1970.
    pub us: i64,
    /// Who says so.
    pub by: By,
}

/// One boot of the machine. Stored; frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Boot {
    id: [u8; 16],
    /// It began no earlier, microseconds since 1970.
    not_before_us: i64,
    /// It has gone on for so long at least, microseconds.
    seen_us: i64,
    offset: Option<Offset>,
    /// The least and the most that its rank has said, where that was more than one thing.
    disputed: Option<(i64, i64)>,
}

impl Boot {
    /// What is trusted.
    fn known(&self) -> Option<Offset> {
        self.offset.filter(|offset| offset.by > By::Guess)
    }

    /// The least and the most that may be true of what is trusted.
    fn range(&self) -> Option<(i64, i64)> {
        let us = self.known()?.us;
        Some(self.disputed.unwrap_or((us, us)))
    }

    fn take(&mut self, new: Offset) {
        let others = self.range().filter(|_| self.offset.is_some_and(|old| old.by == new.by));
        self.disputed = others.map(|(least, most)| (least.min(new.us), most.max(new.us)));
        self.offset = Some(new);
    }

    /// No moment of it on its boot clock was before this.
    fn not_before(&self, boot_us: i64) -> i64 {
        self.not_before_us.saturating_add(at_least(boot_us))
    }

    /// It ended no earlier.
    fn end_not_before(&self) -> i64 {
        match self.known() {
            Some(offset) => offset.us.saturating_add(self.seen_us),
            None => self.not_before(self.seen_us),
        }
    }
}

/// What an unsteered clock that has counted `us` has measured for certain.
fn at_least(us: i64) -> i64 {
    us.saturating_sub(us / DRIFT)
}

/// The boot clock in microseconds.
pub(super) fn boot_us(boot_ns: u64) -> i64 {
    i64::try_from(boot_ns / 1_000).unwrap_or(i64::MAX)
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Boots(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// The oldest first.
    boots: Vec<Boot>,
    /// What GPS said last and nothing has confirmed yet.
    gps: Option<i64>,
    revision: u64,
}

impl Boots {
    /// This boot goes on, and its clock shows `boot_ns`; `offset` is what its wall clock says, if that means anything.
    pub fn see(&self, id: [u8; 16], boot_ns: u64, offset: Option<Offset>) {
        let mut table = self.table();
        table.see(id, boot_us(boot_ns));
        if let Some(offset) = offset {
            table.learn(id, offset);
        }
    }

    /// A frame came with GPS time and was not held back by anybody.
    pub fn hear_gps(&self, at: Moment) {
        let mut table = self.table();
        let boot_us = boot_us(at.boot_ns);
        table.see(at.boot_id, boot_us);
        table.hear_gps(at.boot_id, at.wall_us.saturating_sub(boot_us));
    }

    /// What the moment of a record means now.
    pub fn date(&self, at: Moment) -> Dated {
        self.table().date(at)
    }

    /// When something has arrived for certain, by the boot clock, in a boot whose offset is known; microseconds since 1970.
    pub fn arrived_by(&self, at: Moment) -> Option<i64> {
        let (_, most) = self.table().boot(at.boot_id)?.range()?;
        Some(most.saturating_add(boot_us(at.boot_ns)))
    }

    /// What time it is at least, now that the boot clock of a boot whose offset is known shows `boot_ns`.
    pub fn now_at_least(&self, id: [u8; 16], boot_ns: u64) -> Option<i64> {
        let (least, _) = self.table().boot(id)?.range()?;
        Some(least.saturating_add(boot_us(boot_ns)))
    }

    /// The offset of a boot, if it is trusted.
    pub fn known(&self, id: [u8; 16]) -> Option<Offset> {
        self.table().boot(id)?.known()
    }

    /// It was certainly not earlier than this when the boot clock of that boot showed `boot_ns`, microseconds since 1970.
    /// What the boot's own wall clock says has no part in it. A boot that was not seen yet comes after the others.
    pub fn not_before(&self, id: [u8; 16], boot_ns: u64) -> i64 {
        let table = self.table();
        let began = table.boot(id).map_or_else(|| table.next_not_before(), |boot| boot.not_before_us);
        began.saturating_add(at_least(boot_us(boot_ns)))
    }

    /// Rises when a boot begins and when a trusted offset is learnt or moves.
    pub fn revision(&self) -> u64 {
        self.table().revision
    }

    /// The table, to be stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Writing into a vector can't fail.
        postcard::to_extend(&self.table().boots, vec![FORMAT]).unwrap_or_default()
    }

    /// Takes up what was stored. What this agent has learnt comes on top of it.
    pub fn restore(&self, stored: &[u8]) {
        let Some((&FORMAT, body)) = stored.split_first() else { return };
        let Ok(boots) = postcard::from_bytes::<Vec<Boot>>(body) else { return };
        let mut table = self.table();
        let ours = std::mem::replace(&mut table.boots, boots);
        for boot in ours {
            table.add(boot);
        }
        table.bound();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn boot(&self, id: [u8; 16]) -> Option<&Boot> {
        self.boots.iter().rev().find(|boot| boot.id == id)
    }

    /// The boot after these began no earlier.
    fn next_not_before(&self) -> i64 {
        self.boots.last().map_or(RELEASE_FLOOR_US, |last| last.end_not_before().max(RELEASE_FLOOR_US))
    }

    fn see(&mut self, id: [u8; 16], boot_us: i64) {
        if let Some(boot) = self.boots.iter_mut().rev().find(|boot| boot.id == id) {
            boot.seen_us = boot.seen_us.max(boot_us);
            return;
        }
        let not_before_us = self.next_not_before();
        self.boots.push(Boot { id, not_before_us, seen_us: boot_us, offset: None, disputed: None });
        self.bound();
        self.revision += 1;
    }

    /// Puts in what this agent knows of a boot, on top of what was stored.
    fn add(&mut self, boot: Boot) {
        if self.boot(boot.id).is_none() {
            let not_before_us = boot.not_before_us.max(self.next_not_before());
            self.boots.push(Boot { not_before_us, ..boot });
            return;
        }
        self.see(boot.id, boot.seen_us);
        if let Some(offset) = boot.offset {
            self.learn(boot.id, offset);
        }
    }

    fn bound(&mut self) {
        let surplus = self.boots.len().saturating_sub(MAX);
        self.boots.drain(..surplus);
    }

    fn hear_gps(&mut self, id: [u8; 16], us: i64) {
        let is_confirmed = self.gps.replace(us).is_some_and(|before| !differs(before, us, gps_tolerance()));
        if is_confirmed {
            self.learn(id, Offset { us, by: By::Gps });
        }
    }

    fn learn(&mut self, id: [u8; 16], new: Offset) {
        let Some(boot) = self.boots.iter_mut().rev().find(|boot| boot.id == id) else { return };
        if new.by == By::Guess && new.us < boot.not_before_us {
            // That clock is wrong for certain.
            return;
        }
        let counts = match boot.offset {
            Some(old) if old.by > new.by => false,
            // Where NTP and GPS agree NTP is the more exact: a frame takes its time from the antenna to us.
            Some(old) if new.by == By::Gps => old.by == By::Guess || differs(old.us, new.us, gps_tolerance()),
            Some(old) => old.by < new.by || differs(old.us, new.us, JITTER_US),
            None => true,
        };
        if counts {
            boot.take(new);
            self.revision += u64::from(new.by > By::Guess);
        }
    }

    fn date(&self, at: Moment) -> Dated {
        let as_heard = Dated::as_heard(at);
        let place = self.boots.iter().rposition(|boot| boot.id == at.boot_id);
        let Some((place, boot)) = place.and_then(|place| Some((place, self.boots.get(place)?))) else {
            return as_heard;
        };
        let boot_us = boot_us(at.boot_ns);
        match (at.source, boot.offset) {
            // Said by others, and plausible when it was said.
            (TimeSource::Gps | TimeSource::Forwarder, _) => as_heard,
            (source, Some(offset)) if offset.by > By::Guess => {
                let wall_us = offset.us.saturating_add(boot_us);
                if source == TimeSource::Ntp && !differs(wall_us, at.wall_us, step_us()) {
                    return as_heard;
                }
                Dated { wall_us, quality: Quality::Corrected, bounds: None }
            }
            (TimeSource::Ntp, _) => as_heard,
            (TimeSource::Untrusted, guess) => {
                let wall_us = guess.map_or(at.wall_us, |guess| guess.us.saturating_add(boot_us));
                match self.bounds(place, boot_us) {
                    Some(bounds) => Dated {
                        wall_us: wall_us.clamp(bounds.after_us, bounds.before_us),
                        quality: Quality::Bounds,
                        bounds: Some(bounds),
                    },
                    None => Dated { wall_us, ..as_heard },
                }
            }
        }
    }

    /// When a boot without an offset had this on its clock. `None` while no later boot has one, and where clocks have lied.
    fn bounds(&self, place: usize, boot_us: i64) -> Option<Bounds> {
        let (boot, later) = self.boots.get(place..)?.split_first()?;
        let next_known = later.iter().position(|boot| boot.known().is_some())?;
        let (between, known) = later.split_at(next_known);
        let began = known.first()?.known()?.us;
        let ended = between.iter().fold(began, |end, boot| end.saturating_sub(at_least(boot.seen_us)));
        let went_on = at_least(boot.seen_us.saturating_sub(boot_us).max(0));
        let (after_us, before_us) = (boot.not_before(boot_us), ended.saturating_sub(went_on));
        (after_us <= before_us).then_some(Bounds { after_us, before_us })
    }
}

fn differs(one: i64, other: i64, tolerance_us: u64) -> bool {
    one.abs_diff(other) > tolerance_us
}

/// Frames differ by what they wait on their way to us.
fn gps_tolerance() -> u64 {
    step_us()
}

fn step_us() -> u64 {
    u64::try_from(STEP.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
