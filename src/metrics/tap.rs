//! What is counted of a tap (RULES S25), for each server that a source passes its datagrams on to.
//!
//! *Forwarded* means given to the network: UDP says no more. What is known of the far end is when it answered last. A port
//! that nobody listens on is reported by the kernel after the datagram was forwarded, so `refused` counts reports; every
//! other reason counts datagrams that went nowhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// A server that owes an answer for longer than this is silent. Forwarders ask for downlinks every 5 to 10 seconds, and every
/// server answers that at once.
pub const SILENT_AFTER: Duration = Duration::from_secs(30);

/// Why a datagram was not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum TapDrop {
    /// The server's name has no address.
    Unresolved,
    /// The kernel heard that nobody listens there.
    Refused,
    /// There is no way to it.
    Unreachable,
    /// It is this source itself.
    Loop,
    /// The kernel had no room for it.
    NoRoom,
    /// No socket, or an error of one that has no better name.
    Socket,
    /// More gateway EUIs than there are sockets for.
    TooManyGateways,
    /// More datagrams than any gateway has to send or to receive.
    Flood,
    /// A TX_ACK for no downlink of the last minute.
    UnknownToken,
    /// A downlink for a gateway that has not asked for any.
    NoForwarder,
    /// A downlink that could not be sent to its forwarder.
    NotReturned,
    /// The server sent something that is none of the protocol.
    BadAnswer,
}

impl TapDrop {
    /// All of them, in the order they are reported in.
    pub const ALL: [TapDrop; 12] = [
        TapDrop::Unresolved,
        TapDrop::Refused,
        TapDrop::Unreachable,
        TapDrop::Loop,
        TapDrop::NoRoom,
        TapDrop::Socket,
        TapDrop::TooManyGateways,
        TapDrop::Flood,
        TapDrop::UnknownToken,
        TapDrop::NoForwarder,
        TapDrop::NotReturned,
        TapDrop::BadAnswer,
    ];

    /// As in `status` and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            TapDrop::Unresolved => "unresolved",
            TapDrop::Refused => "refused",
            TapDrop::Unreachable => "unreachable",
            TapDrop::Loop => "loop",
            TapDrop::NoRoom => "no-room",
            TapDrop::Socket => "socket",
            TapDrop::TooManyGateways => "too-many-gateways",
            TapDrop::Flood => "flood",
            TapDrop::UnknownToken => "unknown-token",
            TapDrop::NoForwarder => "no-forwarder",
            TapDrop::NotReturned => "not-returned",
            TapDrop::BadAnswer => "bad-answer",
        }
    }

    /// What it means, and what to do.
    pub fn explained(self) -> &'static str {
        match self {
            TapDrop::Unresolved => "the name has no address; is it right, and does DNS work?",
            TapDrop::Refused => "nothing listens on that port; does the server run?",
            TapDrop::Unreachable => "no way there; is the network up?",
            TapDrop::Loop => "this is the source itself; take it out of forward_to",
            TapDrop::NoRoom => "the kernel can't send as fast as datagrams come",
            TapDrop::Socket => "no socket; the log says why",
            TapDrop::TooManyGateways => "more gateway EUIs than a tap passes on",
            TapDrop::Flood => "more datagrams a second than a gateway can have",
            TapDrop::UnknownToken => "a TX_ACK for no downlink of the last minute",
            TapDrop::NoForwarder => "a downlink for a gateway that has not asked for any",
            TapDrop::NotReturned => "a downlink that could not be sent to its forwarder",
            TapDrop::BadAnswer => "not Semtech UDP; is it the right port?",
        }
    }

    /// Whether it says that the server can't be had.
    fn is_trouble(self) -> bool {
        matches!(
            self,
            TapDrop::Unresolved
                | TapDrop::Refused
                | TapDrop::Unreachable
                | TapDrop::Loop
                | TapDrop::NoRoom
                | TapDrop::Socket
        )
    }
}

/// Whether a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapState {
    /// It has not answered yet, for want of time or of anything to answer.
    Waiting,
    /// It does.
    Answers,
    /// It has owed an answer for longer than [`SILENT_AFTER`].
    Silent,
}

impl TapState {
    /// As in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            TapState::Waiting => "waiting",
            TapState::Answers => "answers",
            TapState::Silent => "silent",
        }
    }
}

/// The counters of one server. Shared by reference between the source's thread and whoever reports.
#[derive(Debug)]
pub struct TapCounters {
    source: Arc<str>,
    server: String,
    forwarded: AtomicU64,
    returned: AtomicU64,
    acks: AtomicU64,
    dropped: [AtomicU64; TapDrop::ALL.len()],
    /// Boot clock; 0: never.
    last_ack_ns: AtomicU64,
    /// Since when it owes an answer, boot clock; 0: it owes none.
    owes_since_ns: AtomicU64,
    /// The place in [`TapDrop::ALL`] of the last trouble since the last answer, plus one; 0: none.
    trouble: AtomicUsize,
}

impl TapCounters {
    /// Of what `source` passes on to `server`, an address or a name with a port.
    pub fn new(source: Arc<str>, server: String) -> TapCounters {
        TapCounters {
            source,
            server,
            forwarded: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            acks: AtomicU64::new(0),
            dropped: Default::default(),
            last_ack_ns: AtomicU64::new(0),
            owes_since_ns: AtomicU64::new(0),
            trouble: AtomicUsize::new(0),
        }
    }

    /// Name of the source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The server, as in `forward_to`.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// A datagram was given to the network. `owed`: the server has to answer it.
    pub fn forwarded(&self, owed: bool, now_ns: u64) {
        self.forwarded.fetch_add(1, Ordering::Relaxed);
        if owed {
            // Where it owes an answer already, it stays owed since then.
            let since = &self.owes_since_ns;
            let _ = since.compare_exchange(0, now_ns.max(1), Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// A downlink was given to its forwarder.
    pub fn returned(&self) {
        self.returned.fetch_add(1, Ordering::Relaxed);
    }

    /// The server acknowledged something.
    pub fn acked(&self, now_ns: u64) {
        self.acks.fetch_add(1, Ordering::Relaxed);
        self.last_ack_ns.store(now_ns.max(1), Ordering::Relaxed);
    }

    /// The server sent something of the protocol: it is there.
    pub fn answered(&self) {
        self.owes_since_ns.store(0, Ordering::Relaxed);
        self.trouble.store(0, Ordering::Relaxed);
    }

    /// A datagram was not passed on.
    pub fn dropped(&self, reason: TapDrop) {
        if let Some(counter) = self.dropped.get(reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if reason.is_trouble() {
            self.trouble.store(reason as usize + 1, Ordering::Relaxed);
        }
    }

    /// How many datagrams of forwarders were given to the network.
    pub fn forwarded_total(&self) -> u64 {
        self.forwarded.load(Ordering::Relaxed)
    }

    /// How many downlinks were given to their forwarders.
    pub fn returned_total(&self) -> u64 {
        self.returned.load(Ordering::Relaxed)
    }

    /// How many acknowledgements came.
    pub fn acks_total(&self) -> u64 {
        self.acks.load(Ordering::Relaxed)
    }

    /// How often something was not passed on for `reason`.
    pub fn dropped_total(&self, reason: TapDrop) -> u64 {
        self.dropped.get(reason as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// When the last acknowledgement came, by the boot clock.
    pub fn last_ack_ns(&self) -> Option<u64> {
        Some(self.last_ack_ns.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    /// Whether it answers, now.
    pub fn state(&self, now_ns: u64) -> TapState {
        let owes_since = self.owes_since_ns.load(Ordering::Relaxed);
        let owes_for = Duration::from_nanos(now_ns.saturating_sub(owes_since));
        match self.acks_total() {
            _ if owes_since > 0 && owes_for > SILENT_AFTER => TapState::Silent,
            0 => TapState::Waiting,
            _ => TapState::Answers,
        }
    }

    /// What has kept datagrams from it since it answered last.
    pub fn trouble(&self) -> Option<TapDrop> {
        let place = self.trouble.load(Ordering::Relaxed).checked_sub(1)?;
        TapDrop::ALL.get(place).copied()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn reasons_are_where_they_are_counted() {
        for (place, reason) in TapDrop::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{}", reason.as_str());
        }
    }

    #[test]
    fn a_server_is_silent_when_it_owes_an_answer_for_too_long() {
        let server = TapCounters::new("s".into(), "lns:1700".into());
        assert_eq!(server.state(100 * SECOND), TapState::Waiting, "nothing was sent");
        server.forwarded(false, 100 * SECOND);
        assert_eq!(server.state(900 * SECOND), TapState::Waiting, "a TX_ACK has no answer");
        server.forwarded(true, 900 * SECOND);
        server.forwarded(true, 929 * SECOND);
        assert_eq!(server.state(930 * SECOND), TapState::Waiting);
        assert_eq!(server.state(931 * SECOND), TapState::Silent, "counted from the first");
        server.answered();
        server.acked(932 * SECOND);
        assert_eq!(server.state(9_999 * SECOND), TapState::Answers, "it owes nothing");
        assert_eq!(server.last_ack_ns(), Some(932 * SECOND));
    }

    #[test]
    fn an_answer_ends_the_trouble() {
        let server = TapCounters::new("s".into(), "lns:1700".into());
        for (reason, trouble) in [
            (TapDrop::UnknownToken, None),
            (TapDrop::Unresolved, Some(TapDrop::Unresolved)),
            (TapDrop::Refused, Some(TapDrop::Refused)),
            (TapDrop::Flood, Some(TapDrop::Refused)),
        ] {
            server.dropped(reason);
            assert_eq!(server.trouble(), trouble);
        }
        server.answered();
        assert_eq!(server.trouble(), None);
        assert_eq!(server.dropped_total(TapDrop::Refused), 1);
    }
}
