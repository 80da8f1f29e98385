//! The records that a lane holds.
//!
//! A [`Window`] is the part of the log that one lane looks at: at most [`MAX_RANGES`] unsettled records, copied out of the
//! spool in order, some of them leased. It knows which numbers a record's settlement covers (those of others before it, so
//! that they leave no gaps), and it keeps that straight when the spool lets go of records or is reopened. It knows no time
//! and no state of the far end; that is the lane's.
//!
//! Invariants:
//! - Between two held records everything is settled, somebody else's, or of a format this version does not know; the last
//!   kind is never covered by a settlement.
//! - A lease of an earlier generation of the spool settles nothing: its number may mean another record now. It still counts
//!   as under way until it ends.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::lorawan;
use crate::spool::{Entry, Ledger, MAX_RANGES, ReadError, RouteId, Routed, Settled, Settlement};
use crate::uplink::{Moment, OrderKey, Uplink};

use super::lane::Ordering;

/// Refill when fewer records than this wait.
const LOW_WATER: usize = 16;

/// Rows a scan reads at a time, how many scans make a refill, and the bytes of content at which it stops. A backlog of
/// somebody else's is passed over in steps, so that a stop or an answer never waits for all of it.
const SCAN_ROWS: usize = 128;
const SCANS_AT_ONCE: usize = 32;
const WINDOW_BYTES: usize = 256 * 1024;

/// A record under way. Ends with [`Lane::settle`](super::Lane::settle) or [`Lane::release`](super::Lane::release); it can't
/// be copied.
#[derive(Debug)]
#[must_use = "a lease that is dropped keeps its record from being sent again until the agent restarts"]
pub struct Lease {
    generation: u64,
    seq: u64,
    /// How many back-offs the lane had seen when it was made.
    pub(super) epoch: u64,
    /// The uplink.
    pub uplink: Arc<Uplink>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Which of the integration's variants is to be sent: 0 is the plain one.
    pub variant: usize,
    /// The record was sent in another variant before: this one needs a key of its own (RULES S5).
    pub extra: bool,
}

/// The answer to [`Lane::try_next_beside`](super::Lane::try_next_beside).
#[derive(Debug)]
pub enum Beside {
    /// Another record for the same request.
    Leased(Lease),
    /// Nothing more has been heard so far.
    NotYet,
    /// The request is complete: what comes next does not belong into it.
    Never,
}

#[derive(Debug)]
pub(super) struct Item {
    /// The first number that is settled along with this record: those in between are not ours.
    from: u64,
    /// What its settlement must never reach below: one more than the last record of an unknown format before it.
    not_below: u64,
    seq: u64,
    pub(super) uplink: Arc<Uplink>,
    pub(super) key: OrderKey,
    pub(super) attempts: u32,
    leased: bool,
    /// The variants that are still to be sent, one after the other; the first is next.
    variants: VecDeque<usize>,
    /// How those that were sent ended; what the record is settled with in the end.
    ended: Option<Settlement>,
}

/// A lease from before the spool was reopened.
#[derive(Debug)]
struct Orphan {
    generation: u64,
    seq: u64,
    key: OrderKey,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Window {
    name: Arc<str>,
    ordering: Ordering,
    pub(super) ledger: Ledger,
    /// What a route is sent as; a route that is not here, as 0.
    variant_of: HashMap<RouteId, usize>,
    /// Ascending; at most [`MAX_RANGES`].
    items: VecDeque<Item>,
    orphans: Vec<Orphan>,
    /// What the spool had stored as settled when the window last started from it.
    settled: Settled,
    generation: Option<u64>,
    /// The next number to read, the end of the log, and the first number that the next record's settlement covers.
    cursor: u64,
    end: u64,
    span_from: u64,
    not_below: u64,
    /// The last row read was of an unknown format.
    in_unknown: bool,
}

impl Window {
    pub(super) fn new(
        name: Arc<str>,
        ordering: Ordering,
        ledger: Ledger,
        variant_of: HashMap<RouteId, usize>,
    ) -> Window {
        Window {
            name,
            ordering,
            ledger,
            variant_of,
            items: VecDeque::new(),
            orphans: Vec::new(),
            settled: Settled::default(),
            generation: None,
            cursor: 0,
            end: 0,
            span_from: 0,
            not_below: 0,
            in_unknown: false,
        }
    }

    /// Records under way.
    pub(super) fn in_flight(&self) -> usize {
        self.items.iter().filter(|item| item.leased).count() + self.orphans.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// When the oldest held record was heard.
    pub(super) fn oldest(&self) -> Option<Moment> {
        self.items.front().map(|item| item.uplink.at)
    }

    /// Leases the next record that its order allows.
    pub(super) fn lease(&mut self, epoch: u64) -> Option<Lease> {
        let at = self.pick()?;
        self.lease_at(at, epoch)
    }

    /// Leases the next record as well, if it goes out in the same variant as `first`, which is under way.
    pub(super) fn lease_beside(&mut self, first: &Lease) -> Beside {
        if self.generation != Some(first.generation) {
            return Beside::Never;
        }
        let Some(at) = self.pick() else {
            let all_leased = self.items.iter().all(|item| item.leased);
            return if all_leased && self.has_room() { Beside::NotYet } else { Beside::Never };
        };
        let variant = self.items.get(at).and_then(|item| item.variants.front()).copied().unwrap_or_default();
        if variant != first.variant {
            return Beside::Never;
        }
        self.lease_at(at, first.epoch).map_or(Beside::Never, Beside::Leased)
    }

    /// Ends a lease of a record that was not sent after all: as if it had never been made.
    pub(super) fn put_back(&mut self, lease: &Lease) {
        let attempts = self.give_back(lease).map(|item| item.attempts.saturating_sub(1));
        let item = self.items.iter_mut().find(|item| item.seq == lease.seq);
        if let (Some(attempts), Some(item)) = (attempts, item) {
            item.attempts = attempts;
        }
    }

    fn lease_at(&mut self, at: usize, epoch: u64) -> Option<Lease> {
        let generation = self.generation?;
        let item = self.items.get_mut(at)?;
        item.leased = true;
        Some(Lease {
            generation,
            seq: item.seq,
            epoch,
            uplink: Arc::clone(&item.uplink),
            attempt: item.attempts.saturating_add(1),
            variant: item.variants.front().copied().unwrap_or_default(),
            extra: item.ended.is_some(),
        })
    }

    fn pick(&self) -> Option<usize> {
        let free = |item: &Item| match self.ordering {
            Ordering::Stream => !item.leased,
            Ordering::PerKey => !item.leased && !self.is_busy(item.key),
        };
        self.items.iter().position(free)
    }

    fn is_busy(&self, key: OrderKey) -> bool {
        self.items.iter().any(|item| item.leased && item.key == key)
            || self.orphans.iter().any(|orphan| orphan.key == key)
    }

    /// Ends a lease without settling its record: it may be leased again, one attempt later. Returns the record, unless
    /// the lease is of an earlier generation.
    pub(super) fn give_back(&mut self, lease: &Lease) -> Option<&Item> {
        if self.generation != Some(lease.generation) {
            self.orphans.retain(|orphan| (orphan.generation, orphan.seq) != (lease.generation, lease.seq));
            return None;
        }
        let item = self.items.iter_mut().find(|item| item.seq == lease.seq)?;
        item.leased = false;
        item.attempts = item.attempts.saturating_add(1);
        Some(item)
    }

    /// Takes back all leases: none of them will end.
    pub(super) fn abandon(&mut self) {
        self.orphans.clear();
        for item in self.items.iter_mut().filter(|item| item.leased) {
            item.leased = false;
            item.attempts = item.attempts.saturating_add(1);
        }
    }

    /// Ends a variant of a record that was given back, and settles the record with its last one.
    pub(super) fn settle(&mut self, lease: &Lease, settlement: Settlement) {
        let Some(at) = self.items.iter().position(|item| item.seq == lease.seq) else { return };
        let Some(item) = self.items.get_mut(at) else { return };
        item.variants.pop_front();
        item.attempts = 0;
        let ended = worse(item.ended.take(), settlement);
        if !item.variants.is_empty() {
            item.ended = Some(ended);
        } else if let Some(item) = self.items.remove(at) {
            self.ledger.settle(item.from, item.seq, ended);
        }
    }

    /// Notices that the spool was reopened, or has let go of records that are still held here.
    pub(super) fn follow_spool(&mut self) -> Result<(), ReadError> {
        let (generation, floor, end) = {
            let view = self.ledger.view().borrow_and_update();
            (view.generation, view.floor, view.end)
        };
        if self.generation != Some(generation) {
            let settled = self.ledger.settled()?;
            self.start_again(generation, settled);
        }
        self.end = end;
        self.drop_below(floor);
        Ok(())
    }

    fn start_again(&mut self, generation: u64, settled: Settled) {
        if let Some(generation) = self.generation {
            let leased = self.items.iter().filter(|item| item.leased);
            self.orphans.extend(leased.map(|item| Orphan { generation, seq: item.seq, key: item.key }));
        }
        self.items.clear();
        self.generation = Some(generation);
        self.cursor = settled.low();
        self.span_from = settled.low();
        self.not_below = settled.low();
        self.settled = settled;
    }

    /// Lets go of records that the spool has evicted or expired. Whoever comes next settles the gap along with itself. A
    /// leased one stays until its lease ends.
    fn drop_below(&mut self, floor: u64) {
        let mut gap_from = None;
        self.items.retain_mut(|item| {
            if item.seq < floor && !item.leased {
                gap_from.get_or_insert(item.from);
                return false;
            }
            if let Some(from) = gap_from.take() {
                item.from = item.from.min(item.not_below.max(from));
            }
            true
        });
        if let Some(from) = gap_from {
            self.span_from = self.span_from.min(self.not_below.max(from));
        }
    }

    /// Whether few records wait, and there is room for more and more to be read.
    pub(super) fn wants_rows(&self) -> bool {
        let waiting = self.items.iter().filter(|item| !item.leased).count();
        waiting < LOW_WATER && self.has_room() && self.cursor < self.end
    }

    fn has_room(&self) -> bool {
        self.items.len() < MAX_RANGES && self.held_bytes() < WINDOW_BYTES
    }

    fn held_bytes(&self) -> usize {
        self.items.iter().map(|item| item.uplink.content.len()).sum()
    }

    /// Reads on, up to a bound: [`Window::wants_rows`] says whether there is more to do.
    pub(super) fn refill(&mut self) -> Result<(), ReadError> {
        if self.generation.is_none() || !self.wants_rows() {
            return Ok(());
        }
        for _ in 0..SCANS_AT_ONCE {
            if self.cursor >= self.end || !self.has_room() {
                break;
            }
            let rows = self.scan()?;
            if rows.is_empty() {
                self.cursor = self.end;
            }
            rows.into_iter().for_each(|(seq, entry)| self.take(seq, entry));
        }
        Ok(())
    }

    /// Copies a few rows out of a short read transaction: no more of ours than there is room for.
    fn scan(&self) -> Result<Vec<(u64, Entry)>, ReadError> {
        let mut room = MAX_RANGES.saturating_sub(self.items.len());
        let mut bytes = WINDOW_BYTES.saturating_sub(self.held_bytes());
        let mut rows = Vec::new();
        self.ledger.scan(self.cursor, SCAN_ROWS, |seq, entry| {
            if room == 0 || bytes == 0 {
                return;
            }
            if let Entry::Mine(mine) = &entry {
                room -= 1;
                bytes = bytes.saturating_sub(mine.uplink.content.len());
            }
            rows.push((seq, entry));
        })?;
        Ok(rows)
    }

    /// What a record with these routes is sent as: each variant once, in the order of the routes.
    fn variants_of(&self, routes: &[RouteId]) -> VecDeque<usize> {
        let mut variants = VecDeque::new();
        for variant in routes.iter().map(|route| self.variant_of.get(route).copied().unwrap_or_default()) {
            if !variants.contains(&variant) {
                variants.push_back(variant);
            }
        }
        variants
    }

    fn take(&mut self, seq: u64, entry: Entry) {
        let next = seq.saturating_add(1);
        self.cursor = next;
        let in_unknown = std::mem::replace(&mut self.in_unknown, matches!(entry, Entry::Unknown(_)));
        match entry {
            Entry::Mine(Routed { uplink, routes }) if !self.settled.contains(seq) => {
                self.items.push_back(Item {
                    from: self.span_from,
                    not_below: self.not_below,
                    seq,
                    key: lorawan::order_key(&uplink),
                    uplink: Arc::new(uplink),
                    attempts: 0,
                    leased: false,
                    variants: self.variants_of(&routes),
                    ended: None,
                });
                self.span_from = next;
            }
            Entry::Mine(_) | Entry::Other => {}
            Entry::Unknown(format) => {
                if !in_unknown {
                    // Once for a run of them: after a downgrade there may be a hundred thousand.
                    log::warn!(
                        "{}: records from {seq} on have format {format}, made by a newer version; they are kept, and \
                         delivered once that version runs again",
                        self.name
                    );
                }
                self.span_from = next;
                self.not_below = next;
            }
            Entry::Damaged => {
                log::error!("{}: record {seq} is damaged on the disk and can't be delivered", self.name);
                self.ledger.settle(self.span_from, seq, Settlement::Damaged);
                self.span_from = next;
            }
        }
    }
}

/// A record that was refused in one variant is a dead letter; one that was delivered in one was not dropped.
fn worse(before: Option<Settlement>, now: Settlement) -> Settlement {
    let weight = |settlement: &Settlement| match settlement {
        Settlement::Filtered => 0,
        Settlement::Delivered => 1,
        Settlement::Damaged => 2,
        Settlement::Refused { .. } => 3,
    };
    match before {
        Some(before) if weight(&before) >= weight(&now) => before,
        _ => now,
    }
}
