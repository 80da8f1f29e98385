//! What was sent where, when, and what was said to it: the last attempts of each integration, in memory.
//!
//! A [`History`] is one integration's ring. Its lane writes to it when an attempt ends; `history` and `test` read it. There
//! is one entry an uplink ([`Sent`]): its attempts are folded into it, so that an endpoint that is dead for a week shows the
//! uplink that it is dead for, and not a thousand times the same line. A connection that fails or breaks as a whole, with
//! uplinks waiting or without, is an [`Outage`]: one entry for all failures of one kind from the first until the far end is
//! there again, so that it shows when a broker was away. Nothing of this is ever written to the disk.
//!
//! Bounded by [`config`](crate::config::History): so many entries, and [`MAX_BYTES`] of text an integration, whichever is
//! less; every text is cut to [`MAX_TEXT`]; at most a quarter of the entries are outages, so that a link that comes and goes
//! all day leaves room for the uplinks. The oldest go first.
//!
//! It is for people: every text in it went through [`printable`](crate::printable::printable), and whoever hands one over has taken the secrets out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::printable::printable_up_to;

/// What the texts of one integration's entries may take together, in bytes (DESIGN section 5).
const MAX_BYTES: usize = 64 << 10;

/// What is kept of one text, in characters.
const MAX_TEXT: usize = 1_024;

/// A far end that lets us in and fails in the same way within a minute was not there again, in microseconds.
const SAME_OUTAGE_US: i64 = 60_000_000;

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

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "most of them are of the large kind")]
pub enum Entry {
    /// An uplink's attempts.
    Uplink(Sent),
    /// A time without a connection.
    Outage(Outage),
}

/// An uplink's way to one integration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
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
    pub error: Option<Error>,
}

/// The layer in which something went wrong, and what happened.
pub type Error = (&'static str, String);

/// A time in which there was no connection: every attempt to have one failed, and for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When the first of them failed, microseconds since 1970.
    pub since_us: i64,
    /// When the last of them failed, or when the far end was there again, microseconds since 1970.
    pub time_us: i64,
    /// Whether it was.
    pub is_over: bool,
    /// How many failed.
    pub attempts: u32,
    /// How.
    pub error: Error,
}

impl Outage {
    /// As in `history`.
    pub fn as_str(&self) -> &'static str {
        if self.is_over { "back" } else { "offline" }
    }

    fn goes_on(&self, error: &Error, now_us: i64) -> bool {
        self.error == *error
            && (!self.is_over || now_us.abs_diff(self.time_us) < SAME_OUTAGE_US.unsigned_abs())
    }
}

impl Entry {
    /// The moment it is listed under, microseconds since 1970.
    pub fn time_us(&self) -> i64 {
        match self {
            Entry::Uplink(sent) => sent.time_us,
            Entry::Outage(outage) => outage.time_us,
        }
    }

    /// What went wrong, if something did.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Entry::Uplink(sent) => sent.error.as_ref(),
            Entry::Outage(outage) => Some(&outage.error),
        }
    }

    fn outage(&self) -> Option<&Outage> {
        match self {
            Entry::Uplink(_) => None,
            Entry::Outage(outage) => Some(outage),
        }
    }

    fn bytes(&self) -> usize {
        let own = match self {
            Entry::Uplink(sent) => sent.bytes(),
            Entry::Outage(_) => 0,
        };
        size_of::<Entry>() + own + self.error().map_or(0, |(_, message)| message.len())
    }
}

impl Sent {
    fn bytes(&self) -> usize {
        let Exchange { device, target, headers, body, answer, notes, .. } = &self.exchange;
        let notes: usize = notes.iter().chain(headers).map(String::len).sum();
        device.len() + self.input.len() + target.len() + body.len() + answer.len() + notes
    }

    fn fit(mut self) -> Sent {
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

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an attempt; an earlier entry of the same uplink gives way to it.
    pub fn note(&self, sent: Sent) {
        let sent = sent.fit();
        let mut ring = self.ring();
        ring.take_last(|earlier| matches!(earlier, Entry::Uplink(earlier) if earlier.id == sent.id));
        ring.push(Entry::Uplink(sent));
    }

    /// Notes that there is no connection, or that it broke, at `now_us`, microseconds since 1970.
    pub fn note_offline(&self, (layer, message): Error, now_us: i64) {
        let error = (layer, printable_up_to(&message, MAX_TEXT));
        let mut ring = self.ring();
        let earlier = ring.take_last(|it| it.outage().is_some_and(|outage| outage.goes_on(&error, now_us)));
        let (since_us, attempts) = match earlier {
            Some(Entry::Outage(earlier)) => (earlier.since_us, earlier.attempts),
            _ => (now_us, 0),
        };
        let attempts = attempts.saturating_add(1);
        if ring.entries.iter().filter(|entry| entry.outage().is_some()).count() >= (ring.limit / 4).max(1) {
            ring.take_first(|entry| entry.outage().is_some());
        }
        ring.push(Entry::Outage(Outage { since_us, time_us: now_us, is_over: false, attempts, error }));
    }

    /// Notes that the far end is there again; every outage so far is over.
    pub fn note_back(&self, now_us: i64) {
        let mut ring = self.ring();
        while let Some(Entry::Outage(outage)) =
            ring.take_first(|entry| entry.outage().is_some_and(|outage| !outage.is_over))
        {
            ring.push(Entry::Outage(Outage { is_over: true, time_us: now_us, ..outage }));
        }
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.ring().entries.iter().cloned().collect()
    }
}

impl Ring {
    fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while self.entries.len() > self.limit || self.bytes > MAX_BYTES {
            if self.take(0).is_none() {
                break;
            }
        }
    }

    /// What is tried again was tried a moment ago, so it stands near the end.
    fn take_last(&mut self, wanted: impl FnMut(&Entry) -> bool) -> Option<Entry> {
        let at = self.entries.iter().rposition(wanted)?;
        self.take(at)
    }

    fn take_first(&mut self, wanted: impl FnMut(&Entry) -> bool) -> Option<Entry> {
        let at = self.entries.iter().position(wanted)?;
        self.take(at)
    }

    fn take(&mut self, at: usize) -> Option<Entry> {
        let entry = self.entries.remove(at)?;
        self.bytes -= entry.bytes();
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    fn sent(n: u128, attempts: u32, body: &str) -> Sent {
        Sent {
            id: Uuid::from_u128(n),
            time_us: 0,
            input: "0102".into(),
            standing: Standing::Retrying,
            attempts,
            exchange: Exchange { body: body.into(), ..Exchange::default() },
            error: None,
        }
    }

    fn uplinks(history: &History) -> Vec<Sent> {
        let entries = history.entries().into_iter();
        entries.filter_map(|entry| if let Entry::Uplink(sent) = entry { Some(sent) } else { None }).collect()
    }

    /// Message, status, attempts, and from when to when, in seconds.
    fn outages(history: &History) -> Vec<(String, &'static str, u32, i64, i64)> {
        let entries = history.entries();
        let outages = entries.iter().filter_map(Entry::outage).map(|it| {
            let (since, time) = (it.since_us / 1_000_000, it.time_us / 1_000_000);
            (it.error.1.clone(), it.as_str(), it.attempts, since, time)
        });
        outages.collect()
    }

    fn offline(history: &History, message: &str, second: i64) {
        history.note_offline(("tcp", message.to_owned()), second * 1_000_000);
    }

    #[test]
    fn one_entry_an_uplink_and_no_more_than_configured() {
        let history = History::new(3);
        for n in 0..5 {
            history.note(sent(n, 1, "x"));
        }
        for attempts in 2..1_000 {
            history.note(sent(3, attempts, "x"));
        }
        let seen: Vec<(u128, u32)> =
            uplinks(&history).iter().map(|sent| (sent.id.as_u128(), sent.attempts)).collect();
        assert_eq!(seen, [(2, 1), (4, 1), (3, 999)]);
    }

    #[test]
    fn texts_are_cut_cleaned_and_bounded_together() {
        let history = History::new(1_000);
        let long = "\u{1b}[31mü".repeat(10_000);
        for n in 0..1_000 {
            history.note(sent(n, 1, &long));
        }
        offline(&history, &long, 0);
        offline(&history, &long, 0);
        let entries = history.entries();
        assert!(entries.iter().map(Entry::bytes).sum::<usize>() <= MAX_BYTES);
        assert!(entries.len() > 20);
        let [Entry::Uplink(sent), Entry::Outage(outage)] = &entries[entries.len() - 2..] else { panic!() };
        assert_eq!((sent.id.as_u128(), outage.attempts), (999, 2));
        for text in [&sent.exchange.body, &outage.error.1] {
            assert_eq!(text.chars().count(), MAX_TEXT);
            assert!(!text.contains('\u{1b}'));
        }
    }

    #[test]
    fn failures_of_one_kind_are_one_outage_until_the_far_end_is_back() {
        let history = History::new(100);
        for second in 10..20 {
            offline(&history, ["refused", "no route"][usize::from(second % 5 == 0)], second);
        }
        history.note(sent(1, 1, "x"));
        history.note_back(25);
        history.note_back(26_000_000);
        let (refused, no_route) = ("refused".to_owned(), "no route".to_owned());
        assert_eq!(
            outages(&history),
            [(no_route.clone(), "back", 2, 10, 0), (refused.clone(), "back", 8, 11, 0)]
        );
        // The same again a minute later is another one; sooner, it was never over.
        history.note_back(30_000_000);
        offline(&history, "refused", 100);
        history.note_back(101_000_000);
        offline(&history, "refused", 160);
        assert_eq!(
            outages(&history),
            [
                (no_route, "back", 2, 10, 0),
                (refused.clone(), "back", 8, 11, 0),
                (refused, "offline", 2, 100, 160)
            ]
        );
    }

    #[test]
    fn outages_leave_room_for_uplinks() {
        let history = History::new(8);
        for n in 0..6 {
            history.note(sent(n, 1, "x"));
        }
        for second in 0..1_000 {
            offline(&history, &format!("broker says {second}"), second);
        }
        assert_eq!(uplinks(&history).len(), 6);
        let kept: Vec<String> = outages(&history).into_iter().map(|outage| outage.0).collect();
        assert_eq!(kept, ["broker says 998", "broker says 999"]);
    }
}
