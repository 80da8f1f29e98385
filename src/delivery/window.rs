//! The records that a lane holds.
//!
//! A [`Window`] is the part of the log that one lane looks at: at most [`MAX_RANGES`] unsettled records, copied out of the
//! spool in order, some of them leased. It knows which numbers a record's settlement covers (those of others before it, so
//! that they leave no gaps), and it keeps that straight when the spool lets go of records or is reopened. It knows no time
//! and no state of the far end; that is the lane's.
//!
//! Invariants:
//! - Within a part of the log that is read ([`unread`](super::unread)) everything between two held records is settled,
//!   somebody else's, or of a format this version does not know; the last kind is never covered by a settlement.
//! - A lease of an earlier generation of the spool settles nothing: its number may mean another record now. It still counts
//!   as under way until it ends.
//! - What was purged is the spool's to settle: it is let go of, and no settlement of ours reaches over it.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::config::Order;
use crate::lorawan;
use crate::spool::{Entry, Ledger, MAX_RANGES, ReadError, RouteId, Routed, Settled, Settlement};
use crate::uplink::{Moment, OrderKey, Uplink};

use super::lane::Ordering;
use super::unread::{Region, Unread};

/// Refill when fewer records than this wait.
const LOW_WATER: usize = 16;

/// Records from before the last reconnect that are held while newer ones go first: the others need room.
const MAX_OLDER: usize = 32;

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
    /// It was heard before the last reconnect, or is sent once more.
    pub(super) has_waited: bool,
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
    order: Order,
    pub(super) ledger: Ledger,
    /// What a route is sent as; a route that is not here, as 0.
    variant_of: HashMap<RouteId, usize>,
    /// Ascending; at most [`MAX_RANGES`].
    items: VecDeque<Item>,
    orphans: Vec<Orphan>,
    unread: Unread,
    generation: Option<u64>,
    /// The end of the log.
    end: u64,
    /// The end of the log at the last reconnect: what lies below has waited.
    waited_below: u64,
    /// No record below was left by eviction and expiry.
    floor: u64,
    /// Nothing below is ours any more, and the spool may still be at settling it.
    purged_below: u64,
    is_purging: bool,
    paused: bool,
    /// It has started from what is stored, and has not seen the end of the log since.
    is_new: bool,
}

/// A part of the log that may be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Tail,
    Oldest,
}

impl Window {
    pub(super) fn new(
        name: Arc<str>,
        ordering: Ordering,
        order: Order,
        ledger: Ledger,
        variant_of: HashMap<RouteId, usize>,
    ) -> Window {
        Window {
            name,
            ordering,
            order,
            ledger,
            variant_of,
            items: VecDeque::new(),
            orphans: Vec::new(),
            unread: Unread::after(Settled::default()),
            generation: None,
            end: 0,
            waited_below: 0,
            floor: 0,
            purged_below: 0,
            is_purging: false,
            paused: false,
            is_new: false,
        }
    }

    /// Records under way.
    pub(super) fn in_flight(&self) -> usize {
        self.items.iter().filter(|item| item.leased).count() + self.orphans.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether the operator wants nothing sent.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// When the oldest held record was heard.
    pub(super) fn oldest(&self) -> Option<Moment> {
        self.items.front().map(|item| item.uplink.at)
    }

    /// Leases the next record that its order allows; one that has waited only if `may_catch_up`.
    pub(super) fn lease(&mut self, epoch: u64, may_catch_up: bool) -> Option<Lease> {
        let at = self.pick().filter(|(_, has_waited)| may_catch_up || !has_waited);
        let (at, has_waited) = at?;
        self.lease_at(at, has_waited, epoch)
    }

    /// Leases the next record as well, if it goes out in the same variant as `first`, which is under way.
    pub(super) fn lease_beside(&mut self, first: &Lease, may_catch_up: bool) -> Beside {
        if self.generation != Some(first.generation) || self.paused {
            return Beside::Never;
        }
        let Some((at, has_waited)) = self.pick() else {
            let all_leased = self.items.iter().all(|item| item.leased);
            let has_room = self.room() > 0 && self.held_bytes() < WINDOW_BYTES;
            return if all_leased && has_room { Beside::NotYet } else { Beside::Never };
        };
        let variant = self.items.get(at).and_then(|item| item.variants.front()).copied().unwrap_or_default();
        if variant != first.variant {
            return Beside::Never;
        }
        if has_waited && !may_catch_up {
            return Beside::NotYet;
        }
        self.lease_at(at, has_waited, first.epoch).map_or(Beside::Never, Beside::Leased)
    }

    /// Ends a lease of a record that was not sent after all: as if it had never been made.
    pub(super) fn put_back(&mut self, lease: &Lease) {
        if let Some(item) = self.give_back(lease) {
            item.attempts = item.attempts.saturating_sub(1);
        }
    }

    fn lease_at(&mut self, at: usize, has_waited: bool, epoch: u64) -> Option<Lease> {
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
            has_waited,
            extra: item.ended.is_some(),
        })
    }

    /// Whether the next record to be leased is one that has waited.
    pub(super) fn next_has_waited(&self) -> bool {
        self.pick().is_some_and(|(_, has_waited)| has_waited)
    }

    /// The place of the next record, and whether it has waited.
    fn pick(&self) -> Option<(usize, bool)> {
        let is_free = |item: &Item| match self.ordering {
            Ordering::Stream => !item.leased,
            Ordering::PerKey => !item.leased && !self.is_busy(item.key),
        };
        let newer = match self.order {
            Order::OldestFirst => None,
            Order::LiveFirst => self.items.iter().position(|item| is_free(item) && !self.has_waited(item)),
        };
        let at = newer.or_else(|| self.items.iter().position(is_free))?;
        Some((at, self.items.get(at).is_some_and(|item| self.has_waited(item))))
    }

    fn has_waited(&self, item: &Item) -> bool {
        item.seq < self.waited_below || item.uplink.flags.replayed
    }

    fn is_busy(&self, key: OrderKey) -> bool {
        self.items.iter().any(|item| item.leased && item.key == key)
            || self.orphans.iter().any(|orphan| orphan.key == key)
    }

    /// Ends a lease without settling its record: it may be leased again, one attempt later. Returns the record, unless
    /// the lease is of an earlier generation.
    pub(super) fn give_back(&mut self, lease: &Lease) -> Option<&mut Item> {
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
        let view = Arc::clone(&self.ledger.view().borrow_and_update());
        let (generation, floor, end) = (view.generation, view.floor, view.end);
        if self.generation != Some(generation) {
            let settled = self.ledger.settled()?;
            self.start_again(generation, settled);
        }
        self.end = end;
        if std::mem::take(&mut self.is_new) {
            self.reconnected();
        }
        self.drop_below(floor);
        if let Some(account) = self.ledger.account(&view) {
            self.paused = account.paused;
            self.is_purging = account.is_purging;
            self.drop_purged(account.purged_below);
        }
        Ok(())
    }

    fn start_again(&mut self, generation: u64, settled: Settled) {
        if let Some(generation) = self.generation {
            let leased = self.items.iter().filter(|item| item.leased);
            self.orphans.extend(leased.map(|item| Orphan { generation, seq: item.seq, key: item.key }));
        }
        self.items.clear();
        self.generation = Some(generation);
        self.unread = Unread::after(settled);
        self.is_new = true;
        self.floor = 0;
        self.purged_below = 0;
    }

    /// What is in the log now has waited; with "live-first" what comes from now on goes before it (RULES S14).
    pub(super) fn reconnected(&mut self) {
        self.waited_below = self.end;
        if self.order == Order::LiveFirst {
            self.unread.split(self.end);
        }
    }

    /// Lets go of records that the spool has evicted or expired: nothing is left below the floor, whosever it was. A leased
    /// one stays until its lease ends.
    fn drop_below(&mut self, floor: u64) {
        if floor <= self.floor {
            return;
        }
        self.floor = floor;
        let held = self.items.len();
        self.items.retain(|item| item.seq >= floor || item.leased);
        let skipped = self.unread.skip_below(floor);
        if skipped || self.items.len() < held {
            self.ledger.cover(0, floor - 1);
        }
    }

    /// Lets go of what was purged. A leased record stays until its lease ends; by then it may have been purged all the same.
    fn drop_purged(&mut self, below: u64) {
        if below <= self.purged_below {
            return;
        }
        self.purged_below = below;
        self.items.retain(|item| item.seq >= below || item.leased);
        for item in self.items.iter_mut().filter(|item| item.seq >= below) {
            item.from = item.from.max(below);
        }
        self.unread.skip_below(below);
    }

    /// Whether few records wait, and there is room for more and more to be read.
    pub(super) fn wants_rows(&self) -> bool {
        self.next_part(false).is_some()
    }

    /// Which part of the log is to be read on: newer records first where they go first. When `filling`, as long as there is
    /// room; else only where few wait.
    fn next_part(&self, filling: bool) -> Option<Part> {
        if self.room() == 0 || self.held_bytes() >= WINDOW_BYTES {
            return None;
        }
        let (mut newer, mut older, mut held_older) = (0, 0, 0);
        for item in &self.items {
            let has_waited = self.order == Order::LiveFirst && self.has_waited(item);
            newer += usize::from(!item.leased && !has_waited);
            older += usize::from(!item.leased && has_waited);
            held_older += usize::from(has_waited);
        }
        if (filling || newer < LOW_WATER) && self.unread.tail_has_more(self.end) {
            Some(Part::Tail)
        } else if (filling || older < LOW_WATER) && held_older < MAX_OLDER && self.unread.has_older() {
            Some(Part::Oldest)
        } else {
            None
        }
    }

    /// How many more records may be held (RULES S4). A purge under way leaves a gap below, too.
    fn room(&self) -> usize {
        let gaps = self.unread.gaps() + usize::from(self.is_purging);
        let room = MAX_RANGES.saturating_sub(self.items.len() + gaps);
        // The oldest unsettled record of all can be settled without a range, whatever there was before.
        if self.items.is_empty() { room.max(1) } else { room }
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
            let Some(part) = self.next_part(true) else { break };
            self.read_on(part)?;
        }
        Ok(())
    }

    /// Copies a few rows out of a short read transaction: no more of ours than there is room for.
    fn read_on(&mut self, part: Part) -> Result<(), ReadError> {
        let mut room = self.room();
        let mut bytes = WINDOW_BYTES.saturating_sub(self.held_bytes());
        let Some(region) = self.region(part) else { return Ok(()) };
        let (cursor, end) = (region.cursor, region.end);
        let mut rows = Vec::new();
        self.ledger.scan(cursor, SCAN_ROWS, |seq, entry| {
            if end.is_some_and(|end| seq >= end) {
                return ControlFlow::Break(());
            }
            if let Entry::Mine(mine) = &entry {
                room -= 1;
                bytes = bytes.saturating_sub(mine.uplink.content.len());
            }
            rows.push((seq, entry));
            if room == 0 || bytes == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        match part {
            Part::Tail if rows.is_empty() => self.unread.tail().cursor = self.end,
            // What is left at its end is nobody's or others'; no record of ours comes to settle it along.
            Part::Oldest if rows.is_empty() => {
                if let Some((from, to)) = self.unread.close_oldest() {
                    self.ledger.cover(from, to);
                }
            }
            Part::Tail | Part::Oldest => {
                rows.into_iter().for_each(|(seq, entry)| self.take(part, seq, entry))
            }
        }
        Ok(())
    }

    fn region(&mut self, part: Part) -> Option<&mut Region> {
        match part {
            Part::Tail => Some(self.unread.tail()),
            Part::Oldest => self.unread.oldest(),
        }
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

    fn take(&mut self, part: Part, seq: u64, entry: Entry) {
        let was_settled = self.unread.was_settled(seq);
        let Some(region) = self.region(part) else { return };
        let next = seq.saturating_add(1);
        region.cursor = next;
        let span_from = region.span_from;
        let in_unknown = std::mem::replace(&mut region.in_unknown, matches!(entry, Entry::Unknown(_)));
        match entry {
            Entry::Mine(Routed { uplink, routes }) if !was_settled => {
                region.span_from = next;
                let item = Item {
                    from: span_from,
                    seq,
                    key: lorawan::order_key(&uplink),
                    uplink: Arc::new(uplink),
                    attempts: 0,
                    leased: false,
                    variants: self.variants_of(&routes),
                    ended: None,
                };
                let at = self.items.partition_point(|held| held.seq < seq);
                self.items.insert(at, item);
            }
            Entry::Mine(_) | Entry::Other => {}
            Entry::Unknown(format) => {
                region.span_from = next;
                if !in_unknown {
                    // Once for a run of them: after a downgrade there may be a hundred thousand.
                    log::warn!(
                        "{}: records from {seq} on have format {format}, made by a newer version; they are kept, and \
                         delivered once that version runs again",
                        self.name
                    );
                }
            }
            Entry::Damaged => {
                region.span_from = next;
                log::error!("{}: record {seq} is damaged on the disk and can't be delivered", self.name);
                self.ledger.settle(span_from, seq, Settlement::Damaged);
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
