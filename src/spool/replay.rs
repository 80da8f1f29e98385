//! Replay: what an integration has settled is sent to it once more (RULES S13).
//!
//! A replay is one range of the log per account, stored with the account. When its backlog is low the writer copies up to
//! [`COPIES_AT_ONCE`] of the range's records to the end of the log, for this account alone, under their old ids and marked
//! as replayed, and moves the beginning of the range on in the same transaction. A lane sees ordinary records; a crash loses
//! and doubles none.
//!
//! The range pins nothing: what is freed before its turn is counted as missed. Copies never push out what waits. Where the
//! log is full they take the room of kept records that the range has passed, and if need be that of the record that was
//! just copied. When a copy is settled it goes; the original is what is kept, so that no uplink is replayed twice over. On
//! the flash a replayed uplink is written once more, as if it had been heard again. The file stays within `max_size`; only
//! one of less than 4 MiB may be larger by a few pages (3 % at 2 MiB) while a replay rewrites both ends of the log.

use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;

use super::account::AccountId;
use super::dead::routes_again;
use super::jobs::Step;
use super::record::{self, Outline};
use super::round::{Round, cost};
use super::settled::Settled;
use super::store::{LOG, RoundDone, RouteId, State};
use super::values::{StoreError, read_account, read_routes, read_totals};

/// Copies made in a round, and how low a backlog is when the next ones are made. Together they leave room in a lane that
/// sends what is heard now first.
const COPIES_AT_ONCE: u64 = 32;
const LOW_BACKLOG: u64 = 16;

/// Records that one step of a look back reads.
const LOOK_AT_ONCE: usize = 1_000;

/// What a replay will send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayReport {
    /// Uplinks that will be sent once more.
    pub n: u64,
    /// Of what was heard until then, microseconds since 1970, some or all is gone, and it was within what was asked for.
    pub gone_before: Option<i64>,
}

/// How a replay is getting on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayView {
    /// Uplinks that have not come up yet.
    pub left: u64,
    /// Uplinks that were freed before their turn.
    pub missed: u64,
}

/// A replay under way. Stored; frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replay {
    /// Where the rest begins.
    pub(super) next: u64,
    /// Where it ends.
    pub(super) below: u64,
    /// Records that were never routed to the account, too.
    pub(super) all: bool,
    pub(super) left: u64,
    pub(super) missed: u64,
    /// What the account had settled when it was asked for: the rest was in its backlog and is sent anyway.
    pub(super) settled: Settled,
}

impl Replay {
    pub(super) fn view(&self) -> ReplayView {
        ReplayView { left: self.left, missed: self.missed }
    }

    /// Whether it is about this record: not what was still in the backlog, and no copy.
    fn wants(&self, seq: u64, outline: &Outline, ours: &[RouteId]) -> bool {
        match outline.routes.iter().any(|route| ours.contains(route)) {
            _ if outline.copy => false,
            true => self.settled.contains(seq),
            false => self.all,
        }
    }
}

/// Looks back through the log for what a replay is about, a step at a time: each reads in a transaction of its own.
pub(super) struct LookBack {
    account: AccountId,
    ours: Vec<RouteId>,
    since: Duration,
    /// Where an earlier replay has got to: what it has left is part of this one.
    at_least: u64,
    found: Replay,
}

impl LookBack {
    /// Begins at the end of the log. `None`: there is no such account.
    pub(super) fn new(
        database: &Database,
        account: AccountId,
        since: Duration,
        all: bool,
        end: u64,
    ) -> Result<Option<LookBack>, StoreError> {
        let Some(stored) = read_account(database, account)? else { return Ok(None) };
        let ours = read_routes(database, account)?.into_iter().map(|(route, _)| route).collect();
        let before = stored.replay.as_ref();
        let found = Replay {
            next: end,
            below: end,
            all: all || before.is_some_and(|before| before.all),
            left: 0,
            missed: before.map_or(0, |before| before.missed),
            settled: stored.settled,
        };
        let at_least = before.map_or(u64::MAX, |before| before.next);
        Ok(Some(LookBack { account, ours, since, at_least, found }))
    }

    /// Looks at the records before; whether there may be more.
    pub(super) fn step(&mut self, database: &Database, clock: &dyn Clock) -> Result<bool, redb::Error> {
        let log = database.begin_read()?.open_table(LOG)?;
        let mut rows = 0;
        for row in log.range(..self.found.next)?.rev().take(LOOK_AT_ONCE) {
            let (seq, value) = row?;
            let seq = seq.value();
            if let Ok(outline) = record::outline(value.value()) {
                let is_old = outline.age(clock).is_some_and(|age| age > self.since);
                // What was put in again is young in the log and may be old all the same.
                if is_old && !outline.replayed && seq < self.at_least {
                    return Ok(false);
                }
                self.found.left += u64::from(self.found.wants(seq, &outline, &self.ours));
            }
            self.found.next = seq;
            rows += 1;
        }
        Ok(rows == LOOK_AT_ONCE)
    }

    /// What was found, and what there is to say about it.
    pub(super) fn end(
        self,
        database: &Database,
        clock: &dyn Clock,
    ) -> Result<((AccountId, Replay), ReplayReport), StoreError> {
        let gone = read_totals(database)?.gone;
        let is_within = |age: Option<Duration>| age.is_none_or(|age| age <= self.since);
        let gone_before = gone.filter(|gone| is_within(gone.age(clock))).map(|gone| gone.wall_us);
        let report = ReplayReport { n: self.found.left, gone_before };
        Ok(((self.account, self.found), report))
    }
}

impl Round<'_> {
    /// Carries a replay on while the account has little else to do.
    pub(super) fn replay(
        &mut self,
        id: AccountId,
        step: &mut Step,
        done: &mut RoundDone,
    ) -> Result<(), redb::Error> {
        let Some(mut replay) = self.state.accounts.get_mut(&id).and_then(|account| account.replay.take())
        else {
            return Ok(());
        };
        let ours = self.state.routes_of(id);
        let mut is_done = false;
        let mut copies = 0;
        while step.goes_on() && copies < COPIES_AT_ONCE {
            if copies == 0 && !self.has_little_to_do(id) {
                break;
            }
            let row = self.log.range(replay.next..replay.below.max(replay.next))?.next().transpose()?;
            let Some((seq, value)) = row.map(|(seq, value)| (seq.value(), value.value().to_vec())) else {
                is_done = true;
                break;
            };
            step.took(0);
            if let Some((bytes, routes)) = self.copy_of(seq, &value, &replay, &ours) {
                if !self.has_room_for(bytes.len(), seq, value.len())? {
                    // The next settlement may make some.
                    self.put_back(id, replay);
                    return Ok(());
                }
                done.bytes_again += self.put_again(&bytes, &routes)?;
                copies += 1;
                replay.left = replay.left.saturating_sub(1);
                if let Some(account) = self.state.accounts.get_mut(&id) {
                    account.replayed = account.replayed.saturating_add(1);
                }
            }
            replay.next = seq + 1;
        }
        if is_done {
            let name = self.state.accounts.get(&id).map_or("", |account| &account.name);
            log::info!("{name}: the replay is done; {} uplinks were gone before their turn", replay.missed);
            return Ok(());
        }
        done.more |= self.has_little_to_do(id);
        self.put_back(id, replay);
        Ok(())
    }

    /// The copy of a record, if the replay is about it.
    fn copy_of(
        &self,
        seq: u64,
        value: &[u8],
        replay: &Replay,
        ours: &[RouteId],
    ) -> Option<(Vec<u8>, Vec<RouteId>)> {
        let outline = record::outline(value).ok()?;
        if !replay.wants(seq, &outline, ours) {
            return None;
        }
        let routes = routes_again(value, ours).ok()?;
        Some((record::again(value, &routes, true).ok()?, routes))
    }

    /// Makes room for the copy of a kept record, if need be by giving up the record itself.
    fn has_room_for(&mut self, len: usize, seq: u64, own: usize) -> Result<bool, redb::Error> {
        if self.make_room_for(len, seq)? {
            return Ok(true);
        }
        let without = self.state.totals.bytes.saturating_sub(cost(own));
        if without.saturating_add(cost(len)) > self.limits.log_cap || self.kept.get(seq)?.is_none() {
            return Ok(false);
        }
        self.free(seq)?;
        Ok(true)
    }

    /// A record is gone that a replay may have meant to send.
    pub(super) fn miss_in_replays(&mut self, seq: u64, outline: &Outline) {
        let State { accounts, routes, .. } = &mut *self.state;
        for (id, account) in accounts {
            let Some(replay) = account.replay.as_mut() else { continue };
            let is_ours = |route: &RouteId| routes.get(route).is_some_and(|route| route.account == id.0);
            let ours: Vec<RouteId> = outline.routes.iter().copied().filter(is_ours).collect();
            if (replay.next..replay.below).contains(&seq) && replay.wants(seq, outline, &ours) {
                replay.left = replay.left.saturating_sub(1);
                replay.missed = replay.missed.saturating_add(1);
            }
        }
    }

    fn put_back(&mut self, id: AccountId, replay: Replay) {
        if let Some(account) = self.state.accounts.get_mut(&id) {
            account.replay = Some(replay);
        }
    }

    fn has_little_to_do(&self, id: AccountId) -> bool {
        self.state.accounts.get(&id).is_some_and(|account| account.backlog < LOW_BACKLOG)
    }
}
