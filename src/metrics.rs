//! What is counted at the door: heard, and dropped by reason.
//!
//! Backlog, delivered and losses of the spool are counted by the spool itself, in the transaction that makes them true.
//! Here are the counts of what never reached it. They start from the totals of the last durable commit (RULES S24) and
//! go up only. What a tap passes on is counted apart, in [`TapCounters`], from the start of the process.

mod tap;

use std::sync::atomic::{AtomicU64, Ordering};

pub use tap::{SILENT_AFTER, TapCounters, TapDrop, TapState};

/// Why something that arrived at a source was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum DropReason {
    /// The sender's address is not in `allow`, or its token is not the right one.
    NotAllowed,
    /// The datagram is not GWMP version 1 or 2.
    BadDatagram,
    /// The JSON of a datagram or of a network server's message does not parse.
    BadJson,
    /// An `rxpk` element lacks its data or holds data that can't be read.
    BadElement,
    /// More elements in a datagram than are looked at (RULES S32).
    TooManyElements,
    /// The concentrator's checksum failed (`stat` -1).
    CrcBad,
    /// The gateway sent faster than `rate_limit`.
    RateLimited,
    /// The hand-over queue was full.
    QueueFull,
    /// No flow wanted it.
    Unrouted,
    /// Larger than any frame, or any uplink of a network server, can be.
    Oversize,
    /// A copy of a transmission that was heard better, or first (RULES S19).
    Duplicate,
    /// No rule of `accept` takes it in.
    NotAccepted,
    /// A configured device has its address and did not send it.
    MicFailed,
    /// The device had sent a later one before (RULES S21).
    Replayed,
    /// More frames of configured addresses than MICs are computed for (RULES S21).
    MicLimited,
    /// A network server's message that names no device.
    NoDevice,
    /// A network server's message about something else than an uplink.
    OtherEvent,
    /// An uplink that a network server had handed over before (RULES S20).
    Repeated,
    /// A message on a topic that is no longer subscribed to.
    NotSubscribed,
}

impl DropReason {
    /// All of them, in the order they are reported in.
    pub const ALL: [DropReason; 19] = [
        DropReason::NotAllowed,
        DropReason::BadDatagram,
        DropReason::BadJson,
        DropReason::BadElement,
        DropReason::TooManyElements,
        DropReason::CrcBad,
        DropReason::RateLimited,
        DropReason::QueueFull,
        DropReason::Unrouted,
        DropReason::Oversize,
        DropReason::Duplicate,
        DropReason::NotAccepted,
        DropReason::MicFailed,
        DropReason::Replayed,
        DropReason::MicLimited,
        DropReason::NoDevice,
        DropReason::OtherEvent,
        DropReason::Repeated,
        DropReason::NotSubscribed,
    ];

    /// As in `status` and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::NotAllowed => "not-allowed",
            DropReason::BadDatagram => "bad-datagram",
            DropReason::BadJson => "bad-json",
            DropReason::BadElement => "bad-element",
            DropReason::TooManyElements => "too-many-elements",
            DropReason::CrcBad => "crc-bad",
            DropReason::RateLimited => "rate-limited",
            DropReason::QueueFull => "queue-full",
            DropReason::Unrouted => "unrouted",
            DropReason::Oversize => "oversize",
            DropReason::Duplicate => "duplicate",
            DropReason::NotAccepted => "not-accepted",
            DropReason::MicFailed => "mic-failed",
            DropReason::Replayed => "replayed",
            DropReason::MicLimited => "mic-limited",
            DropReason::NoDevice => "no-device",
            DropReason::OtherEvent => "other-event",
            DropReason::Repeated => "repeated",
            DropReason::NotSubscribed => "not-subscribed",
        }
    }
}

/// The counters of the door. Shared by reference between the source's thread and whoever reports.
#[derive(Debug, Default)]
pub struct DoorCounters {
    heard: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
}

impl DoorCounters {
    /// One uplink was taken in.
    pub fn heard(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// `n` things were dropped.
    pub fn dropped(&self, reason: DropReason, n: u64) {
        if let Some(counter) = self.dropped.get(reason as usize) {
            counter.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// How many were taken in.
    pub fn heard_total(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// How many were dropped for `reason`.
    pub fn dropped_total(&self, reason: DropReason) -> u64 {
        self.dropped.get(reason as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// All counts, for safe keeping: postcard of heard, then the drops in the order of [`DropReason::ALL`], which may only
    /// grow at the end.
    pub fn to_note(&self) -> Vec<u8> {
        let counts: Vec<u64> =
            std::iter::once(&self.heard).chain(&self.dropped).map(|n| n.load(Ordering::Relaxed)).collect();
        postcard::to_allocvec(&counts).unwrap_or_default()
    }

    /// Adds the counts that were kept; a note that can't be read adds nothing.
    pub fn add_note(&self, note: &[u8]) {
        let counts: Vec<u64> = postcard::from_bytes(note).unwrap_or_default();
        for (counter, count) in std::iter::once(&self.heard).chain(&self.dropped).zip(counts) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
}
