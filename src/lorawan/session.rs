//! Whose a frame is: the MIC and the 32-bit counter (RULES S19, S21).
//!
//! A frame says an address, which several devices may share, strangers among them, and the low half of a counter. So for
//! each configured device of that address the MIC is computed under the counters that may be meant, until one fits:
//!
//! | known of the session | high words tried | why |
//! |---|---|---|
//! | its last counter | that one's, the next 16, the one before | roll-over, outages of up to a million frames, replays |
//! | nothing | 0 to 255 | a first start, or a state that was lost |
//! | it restarts at 0 (`reset_counters`) | also 0 | the device was switched off and on |
//!
//! # What becomes of a frame
//!
//! - It fits, above the last counter: an uplink of that device.
//! - It fits at the last counter: the device says it again; delivered as a *retransmission*.
//! - It fits below: *replayed*, not delivered.
//! - It fits no device of its address: *MIC failed*, not delivered, never decoded.
//! - No configured device with a session has its address: it goes on as it is, for flows that take everything.
//!
//! # Invariants
//!
//! - No more than [`MIC_PER_SECOND`] MICs are computed a second: a flood of forged frames costs no CPU that matters.
//! - A counter is remembered with a fingerprint of its session, so that new keys begin anew.
//! - Nothing is written here. What changed is handed to the spool as notes, which ride in rounds that are made anyway.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::spool::Note;

use super::device::{Device, Devices};
use super::frame::Data;

/// MICs a second (RULES S21), and how many may be owed at once.
const MIC_PER_SECOND: u64 = 2_000;

/// High words beyond the present one that an outage may have skipped.
const HIGH_WORDS_AHEAD: u32 = 16;

/// High words tried of a session whose counter is not known.
const HIGH_WORDS_AT_FIRST: u32 = 256;

/// Notes of this room begin with this; then comes what names the device.
const NOTE: &str = "fcnt/";

/// What is known of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    fingerprint: u32,
    last: u32,
}

/// Whose a frame is.
#[derive(Clone, Copy, Debug)]
pub enum Sender<'d> {
    /// Proved by the MIC.
    Proved {
        /// The device.
        device: &'d Device,
        /// The whole counter.
        f_cnt: u32,
        /// It had sent this counter before.
        repeated: bool,
    },
    /// The only configured device with that address, which has no keys to prove it by.
    Presumed(&'d Device),
    /// No configured device.
    Stranger,
    /// A configured device has that address, and did not send this.
    MicFailed,
    /// It was sent before a later one.
    Replayed,
    /// Too many frames at once to compute more MICs.
    TooMany,
}

/// The counters of all sessions.
#[derive(Debug)]
pub struct Sessions {
    /// By the device's note key.
    states: HashMap<String, State>,
    changed: Vec<String>,
    budget: Budget,
}

impl Sessions {
    /// With what `notes` remember.
    pub fn new(notes: &[Note]) -> Sessions {
        let ours = notes.iter().filter(|note| note.key.starts_with(NOTE));
        let states =
            ours.filter_map(|note| Some((note.key.clone(), postcard::from_bytes(&note.value).ok()?)));
        Sessions { states: states.collect(), changed: Vec::new(), budget: Budget::new() }
    }

    /// Says whose `phy` is, which arrived at `boot_ns`, and moves its counter on.
    pub fn sender_of<'d>(
        &mut self,
        devices: &'d Devices,
        phy: &[u8],
        data: &Data<'_>,
        boot_ns: u64,
    ) -> Sender<'d> {
        let (sessions, without): (Vec<_>, Vec<_>) =
            devices.of_address(data.dev_addr).partition(|device| device.has_session());
        match self.search(&sessions, phy, data, boot_ns) {
            Search::Found(device, f_cnt) => self.arrived(device, f_cnt),
            Search::Broke => Sender::TooMany,
            Search::Nobody => match (without.as_slice(), sessions.as_slice()) {
                ([device], _) => Sender::Presumed(device),
                ([], []) => Sender::Stranger,
                (_, []) => Sender::Stranger,
                _ => Sender::MicFailed,
            },
        }
    }

    /// The likeliest counter of each device first: most frames cost one MIC.
    fn search<'d>(
        &mut self,
        sessions: &[&'d Device],
        phy: &[u8],
        data: &Data<'_>,
        boot_ns: u64,
    ) -> Search<'d> {
        let mut all: Vec<_> = sessions
            .iter()
            .map(|device| (*device, candidates(self.last(device), data.f_cnt, device)))
            .collect();
        let rounds = all.iter().map(|(_, candidates)| candidates.len()).max().unwrap_or(0);
        for _ in 0..rounds {
            for (device, candidates) in &mut all {
                let Some(f_cnt) = candidates.next() else { continue };
                if !self.budget.take(boot_ns) {
                    return Search::Broke;
                }
                if device.has_sent(phy, data, f_cnt) {
                    return Search::Found(device, f_cnt);
                }
            }
        }
        Search::Nobody
    }

    fn last(&self, device: &Device) -> Option<u32> {
        let state = self.states.get(&note_key(device))?;
        (state.fingerprint == device.session_fingerprint()).then_some(state.last)
    }

    fn arrived<'d>(&mut self, device: &'d Device, f_cnt: u32) -> Sender<'d> {
        let last = self.last(device);
        let restarted = device.reset_counters && last.is_some_and(|last| f_cnt < last);
        if last.is_some_and(|last| f_cnt < last) && !restarted {
            return Sender::Replayed;
        }
        let repeated = last == Some(f_cnt);
        if !repeated {
            let key = note_key(device);
            self.states.insert(key.clone(), State { fingerprint: device.session_fingerprint(), last: f_cnt });
            if !self.changed.contains(&key) {
                self.changed.push(key);
            }
        }
        Sender::Proved { device, f_cnt, repeated }
    }

    /// What has changed since the last call, to be kept with the next round.
    pub fn take_notes(&mut self) -> Vec<Note> {
        let changed = std::mem::take(&mut self.changed);
        let note = |key: String| {
            let value = postcard::to_allocvec(self.states.get(&key)?).ok()?;
            Some(Note { key, value })
        };
        changed.into_iter().filter_map(note).collect()
    }
}

enum Search<'d> {
    Found(&'d Device, u32),
    Nobody,
    Broke,
}

/// By its DevEUI, which survives a new address; else by address and name, which together are unique.
fn note_key(device: &Device) -> String {
    match (device.dev_eui, device.dev_addr) {
        (Some(eui), _) => format!("{NOTE}{eui}"),
        (None, Some(addr)) => format!("{NOTE}{addr}/{}", device.name),
        (None, None) => format!("{NOTE}{}", device.name),
    }
}

/// The whole counters that the low half `low` may stand for, the likeliest first.
fn candidates(last: Option<u32>, low: u16, device: &Device) -> impl ExactSizeIterator<Item = u32> + use<> {
    let whole = |high: u32| high.checked_mul(1 << 16)?.checked_add(u32::from(low));
    let mut candidates: Vec<u32> = match last {
        None => (0..HIGH_WORDS_AT_FIRST).filter_map(whole).collect(),
        Some(last) => {
            let high = last >> 16;
            let around = (high.saturating_sub(1)..=high.saturating_add(HIGH_WORDS_AHEAD)).filter_map(whole);
            // What lies behind the last counter is tried after what lies just ahead: it is replayed, or a restart.
            let (mut likely, behind): (Vec<u32>, Vec<u32>) = around.partition(|f_cnt| *f_cnt >= last);
            likely.splice(1.min(likely.len())..1.min(likely.len()), behind);
            likely
        }
    };
    let restart = u32::from(low);
    if device.reset_counters && !candidates.contains(&restart) {
        candidates.insert(1.min(candidates.len()), restart);
    }
    candidates.into_iter()
}

/// MICs that may be computed: a bucket that fills with time.
#[derive(Debug)]
struct Budget {
    left: u64,
    /// Boot time up to which it was filled, ns.
    filled_ns: u64,
}

impl Budget {
    const NS_EACH: u64 = 1_000_000_000 / MIC_PER_SECOND;

    fn new() -> Budget {
        Budget { left: MIC_PER_SECOND, filled_ns: 0 }
    }

    fn take(&mut self, boot_ns: u64) -> bool {
        let earned = boot_ns.saturating_sub(self.filled_ns) / Budget::NS_EACH;
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(MIC_PER_SECOND);
            self.filled_ns = boot_ns;
        }
        let had = self.left > 0;
        self.left = self.left.saturating_sub(1);
        had
    }
}

#[cfg(test)]
mod tests;
