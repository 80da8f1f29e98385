//! What was sent where, when, and what was said to it: the last attempts of each integration, in memory.
//!
//! A [`History`] is one integration's ring. Its lane writes to it when an attempt ends; `history` and `test` read it. There
//! is one entry an uplink: its attempts are folded into it, so that an endpoint that is dead for a week shows the uplink
//! that it is dead for, and not a thousand times the same line. Nothing of this is ever written to the disk.
//!
//! Bounded by [`config`](crate::config::History): so many entries, and [`MAX_BYTES`] of text an integration, whichever is
//! less; every text is cut to [`MAX_TEXT`]. The oldest go first.
//!
//! It is for people: every text in it went through [`printable`](crate::printable::printable), and whoever hands one over has taken the secrets out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::printable::printable_up_to;

/// What the texts of one integration's entries may take together, in bytes (DESIGN section 5).
const MAX_BYTES: usize = 64 << 10;

/// What is kept of one text, in characters.
const MAX_TEXT: usize = 1_024;

/// How an uplink stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The far end has it.
    Delivered,
    /// It will be tried again.
    Retrying,
    /// It was refused for good.
    DeadLetter,
    /// A function dropped it.
    Filtered,
}

impl Standing {
    /// As in `history`.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Delivered => "delivered",
            Standing::Retrying => "retrying",
            Standing::DeadLetter => "dead-letter",
            Standing::Filtered => "filtered",
        }
    }
}

/// What went over the wire, and what came back, fit to be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// What sent the uplink: a device's name, EUI or address.
    pub device: String,
    /// `POST https://…`, or a topic.
    pub target: String,
    /// The headers that were sent, for `test` alone: the history has no room for what is always the same.
    pub headers: Vec<String>,
    /// What was sent.
    pub body: String,
    /// The answer's code: an HTTP status, `PUBACK`.
    pub code: Option<String>,
    /// The beginning of the answer.
    pub answer: String,
    /// What the renderer and the function had to say.
    pub notes: Vec<String>,
    /// From the first byte to the answer.
    pub took: Duration,
}

/// An uplink's way to one integration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The uplink.
    pub id: Uuid,
    /// When the last attempt ended, microseconds since 1970.
    pub time_us: i64,
    /// What came in, in hexadecimal or as JSON.
    pub input: String,
    /// How it stands.
    pub standing: Standing,
    /// Attempts so far.
    pub attempts: u32,
    /// The last attempt.
    pub exchange: Exchange,
    /// What went wrong with it: the layer, and what happened.
    pub error: Option<(&'static str, String)>,
}

impl Entry {
    fn bytes(&self) -> usize {
        let Exchange { device, target, headers, body, answer, notes, .. } = &self.exchange;
        let error = self.error.as_ref().map_or(0, |(_, message)| message.len());
        let notes: usize = notes.iter().chain(headers).map(String::len).sum();
        size_of::<Entry>()
            + device.len()
            + self.input.len()
            + target.len()
            + body.len()
            + answer.len()
            + notes
            + error
    }

    fn fit(mut self) -> Entry {
        let Exchange { device, target, body, answer, notes, .. } = &mut self.exchange;
        for text in [device, &mut self.input, target, body, answer].into_iter().chain(notes) {
            *text = printable_up_to(text, MAX_TEXT);
        }
        if let Some((_, message)) = &mut self.error {
            *message = printable_up_to(message, MAX_TEXT);
        }
        self
    }
}

/// One integration's entries. Cloning it shares it.
#[derive(Clone, Debug)]
pub struct History {
    ring: Arc<Mutex<Ring>>,
}

#[derive(Debug)]
struct Ring {
    entries: VecDeque<Entry>,
    bytes: usize,
    limit: usize,
}

impl History {
    /// An empty one that keeps at most `records` entries.
    pub fn new(records: usize) -> History {
        History { ring: Arc::new(Mutex::new(Ring { entries: VecDeque::new(), bytes: 0, limit: records })) }
    }

    /// Notes an attempt; an earlier entry of the same uplink gives way to it.
    pub fn note(&self, entry: Entry) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entry.fit();
        // What is tried again was tried a moment ago, so it stands near the end.
        if let Some(at) = ring.entries.iter().rposition(|earlier| earlier.id == entry.id) {
            let earlier = ring.entries.remove(at);
            ring.bytes -= earlier.map_or(0, |earlier| earlier.bytes());
        }
        ring.bytes += entry.bytes();
        ring.entries.push_back(entry);
        while ring.entries.len() > ring.limit || ring.bytes > MAX_BYTES {
            let Some(oldest) = ring.entries.pop_front() else { break };
            ring.bytes -= oldest.bytes();
        }
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).entries.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn entry(n: u128, attempts: u32, body: &str) -> Entry {
        Entry {
            id: Uuid::from_u128(n),
            time_us: 0,
            input: "0102".into(),
            standing: Standing::Retrying,
            attempts,
            exchange: Exchange { body: body.into(), ..Exchange::default() },
            error: None,
        }
    }

    #[test]
    fn one_entry_an_uplink_and_no_more_than_configured() {
        let history = History::new(3);
        for n in 0..5 {
            history.note(entry(n, 1, "x"));
        }
        for attempts in 2..1_000 {
            history.note(entry(3, attempts, "x"));
        }
        let seen: Vec<(u128, u32)> =
            history.entries().iter().map(|entry| (entry.id.as_u128(), entry.attempts)).collect();
        assert_eq!(seen, [(2, 1), (4, 1), (3, 999)]);
    }

    #[test]
    fn texts_are_cut_cleaned_and_bounded_together() {
        let history = History::new(1_000);
        let long = "\u{1b}[31mü".repeat(10_000);
        for n in 0..1_000 {
            history.note(entry(n, 1, &long));
        }
        let entries = history.entries();
        assert!(entries.iter().map(Entry::bytes).sum::<usize>() <= MAX_BYTES);
        assert!(entries.len() > 20);
        assert_eq!(entries[0].exchange.body.chars().count(), MAX_TEXT);
        assert!(!entries[0].exchange.body.contains('\u{1b}'));
        assert_eq!(entries.last().unwrap().id.as_u128(), 999);
    }
}
