//! A spool as plain as it gets: a map of records, each with the accounts that wait for it, and no count that is not counted
//! anew each time it is asked for. No ranges, no tables, no transactions, no file.
//!
//! # What a round does, in this order
//!
//! 1. Routes that are wanted and not there get the next number; so does the account of an integration that is new, for which
//!    nothing waits (RULES S5).
//! 2. Uplinks go to the end of the log under the next numbers, once, and wait for the accounts of their routes (S7).
//! 3. What the door has refused is counted against those that it was refused for (S11; [`State::admit`]).
//! 4. Lanes end records. An account that does not wait for a record, or not any more, changes nothing. A refused one is
//!    copied to the dead letters (S12). What nobody waits for leaves the log, or is kept for a replay (S4).
//! 5. What an operator or the config says is done ([`orders`]: S8, S12, S13).
//! 6. Once a minute, unless the clock was set or started less than ten minutes ago, what is too old goes (S2).
//! 7. Replays put their next copies in (S13).
//! 8. What does not fit goes ([`room`]: S11), and so do the oldest dead letters (S12).
//!
//! Whatever ends a record but its delivery is counted by reason and, if it was not meant, listed (S11, S24).
//!
//! A state is cloned for every round; which of them a crash or an I/O error leaves behind is the world's to find out ([`away`]:
//! S3).

mod away;
mod orders;
mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use packhorse::clock::{Clock, ManualClock};
use packhorse::spool::Loss;
use packhorse::uplink::Moment;

use crate::steps::{Config, End, INTEGRATIONS};

/// An account's number: the how manieth that was ever made.
pub(crate) type Account = u32;
pub(crate) type Route = u32;

/// An uplink on its way in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heard {
    pub(crate) number: u64,
    /// Encoded, without its routes; each of these takes one byte.
    pub(crate) len: usize,
    /// What the door takes it for, bytes on the disk.
    pub(crate) estimate: u64,
    pub(crate) unknown: bool,
    pub(crate) at: Moment,
    pub(crate) trusted: bool,
    pub(crate) routes: Vec<Route>,
}

/// A record of the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) heard: Heard,
    pub(crate) waiting: BTreeSet<Account>,
    pub(crate) replayed: bool,
    pub(crate) copy: bool,
    pub(crate) kept: bool,
    /// Whoever has ended it so far has delivered it.
    all_delivered: bool,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Letter {
    pub(crate) heard: Heard,
    copy: bool,
    pub(crate) attempts: u32,
    pub(crate) refused_us: i64,
    len: usize,
}

/// A replay under way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Replay {
    next: u64,
    below: u64,
    all: bool,
    pub(crate) left: u64,
    pub(crate) missed: u64,
    /// What waited when it was asked for, and is sent anyway.
    waited: BTreeSet<u64>,
}

/// An integration's side.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Side {
    pub(crate) who: usize,
    pub(crate) delivered: u64,
    pub(crate) letters: BTreeMap<u64, Letter>,
    pub(crate) lost: BTreeMap<&'static str, u64>,
    pub(crate) paused: bool,
    pub(crate) replay: Option<Replay>,
    pub(crate) replayed: u64,
}

/// S3: what a store in memory may take that stands in for the file.
const REFUGE_SIZE: u64 = 1 << 20;

/// What a round has to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Act {
    pub(crate) uplinks: Vec<Heard>,
    pub(crate) note: Option<u64>,
    pub(crate) refused: Vec<(Account, u64)>,
    pub(crate) settles: Vec<(Account, u64, End)>,
    /// Flow and integration of routes to find or make.
    pub(crate) routes: Vec<(usize, usize)>,
    pub(crate) order: Option<Order>,
}

/// What an operator, or the config, says.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    Pause(Account, bool),
    Purge(Account, bool),
    ReplayDead(Account),
    Replay(Account, Replay),
    Present(BTreeSet<usize>),
}

/// What a round keeps to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'c> {
    pub(crate) config: Config,
    pub(crate) clock: &'c ManualClock,
    /// The log is looked through for what is too old.
    pub(crate) look: bool,
}

impl Rules<'_> {
    pub(crate) fn log_cap(&self) -> u64 {
        self.config.max_size / 5 * 3
    }

    /// S2; the clock knows, and has tests of its own.
    fn age(&self, at: Moment, trusted: bool) -> Option<Duration> {
        self.clock.age(at, trusted)
    }

    /// What the store in memory keeps to, while there is no file.
    pub(crate) fn in_refuge(self) -> Self {
        let max_size = self.config.max_size.min(REFUGE_SIZE);
        Rules { config: Config { max_size, keep_hours: 0, ..self.config }, ..self }
    }
}

/// See the [module](self).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) log: BTreeMap<u64, Record>,
    pub(crate) sides: BTreeMap<Account, Side>,
    /// Flow and account of each route.
    pub(crate) routes: BTreeMap<Route, (usize, Account)>,
    pub(crate) next_seq: u64,
    pub(crate) appended: u64,
    pub(crate) notes: Option<u64>,
    present: Option<BTreeSet<usize>>,
    next_route: Route,
    next_account: Account,
    /// Place and moment of the youngest that everybody had and that is gone.
    gone: Option<(u64, Moment, bool)>,
    /// Every uplink that was ever put in.
    pub(crate) ever: BTreeSet<u64>,
    /// Those that everybody they were for has got, with the places where they were.
    pub(crate) finished: BTreeMap<u64, u64>,
    /// Which records were delivered to whom.
    pub(crate) deliveries: BTreeSet<(Account, u64)>,
    /// The uplinks that were lost, by integration and reason, as often as they were; of accounts that are gone, too.
    pub(crate) losses: BTreeMap<(usize, &'static str), Vec<u64>>,
}

/// What a record of so many bytes takes on the disk (`spool::round`).
pub(crate) fn cost(len: usize) -> u64 {
    let bytes = len as u64 + 32;
    match bytes {
        0..=1_365 => bytes,
        1_366..=2_048 => 2_048,
        _ => bytes.next_power_of_two().max(4_096),
    }
}

impl Heard {
    pub(crate) fn cost(&self) -> u64 {
        cost(self.len + self.routes.len())
    }
}

impl State {
    pub(crate) fn bytes(&self) -> u64 {
        self.log.values().map(|record| record.heard.cost()).sum()
    }

    pub(crate) fn kept_bytes(&self) -> u64 {
        self.log.values().filter(|record| record.kept).map(|record| record.heard.cost()).sum()
    }

    pub(crate) fn backlog(&self, account: Account) -> u64 {
        self.log.values().filter(|record| record.waiting.contains(&account)).count() as u64
    }

    pub(crate) fn account_of(&self, who: usize) -> Option<Account> {
        self.sides.iter().find(|(_, side)| side.who == who).map(|(account, _)| *account)
    }

    pub(crate) fn accounts_of(&self, routes: &[Route]) -> BTreeSet<Account> {
        routes.iter().filter_map(|route| self.routes.get(route)).map(|(_, account)| *account).collect()
    }

    /// The routes of these that are an account's.
    pub(crate) fn ours(&self, account: Account, routes: &[Route]) -> Vec<Route> {
        let is_ours = |route: &&Route| self.routes.get(route).is_some_and(|(_, it)| *it == account);
        routes.iter().filter(is_ours).copied().collect()
    }

    /// The records that wait for an account, in order.
    pub(crate) fn waiting(&self, account: Account) -> Vec<u64> {
        let waits = |(_, record): &(&u64, &Record)| record.waiting.contains(&account);
        self.log.iter().filter(waits).map(|(seq, _)| *seq).collect()
    }

    /// Does one round.
    pub(crate) fn round(&mut self, act: &Act, rules: Rules<'_>) {
        self.make_routes(&act.routes);
        for heard in &act.uplinks {
            self.appended += 1;
            self.ever.insert(heard.number);
            self.put(heard.clone(), false, false);
        }
        self.notes = act.note.or(self.notes);
        for (account, number) in &act.refused {
            self.lose(*account, Loss::Refused, *number);
        }
        for (account, seq, end) in &act.settles {
            self.settle(*account, *seq, *end, rules);
        }
        if let Some(order) = &act.order {
            self.obey(order, rules);
        }
        if rules.look && rules.clock.settled() {
            self.expire(rules);
            self.expire_kept(rules);
        }
        for account in self.sides.keys().copied().collect::<Vec<_>>() {
            self.replay(account, rules);
        }
        if rules.config.keep_hours == 0 {
            self.free_kept(0, u64::MAX);
        }
        self.evict(rules);
        self.bound_letters(rules);
    }

    fn put(&mut self, heard: Heard, replayed: bool, copy: bool) {
        let waiting = self.accounts_of(&heard.routes);
        self.log.insert(
            self.next_seq,
            Record { heard, waiting, replayed, copy, kept: false, all_delivered: true },
        );
        self.next_seq += 1;
    }

    /// S24, S11: a loss is counted, and unless it was meant listed.
    fn lose(&mut self, account: Account, loss: Loss, number: u64) {
        let Some(side) = self.sides.get_mut(&account) else { return };
        *side.lost.entry(loss.as_str()).or_default() += 1;
        if loss != Loss::Filtered {
            self.losses.entry((side.who, loss.as_str())).or_default().push(number);
        }
    }

    /// S5: by name; a new integration starts at now.
    fn make_routes(&mut self, wanted: &[(usize, usize)]) {
        for &(flow, who) in wanted {
            let is_there = |(its_flow, account): &(usize, Account)| {
                *its_flow == flow && self.sides.get(account).is_some_and(|side| side.who == who)
            };
            if self.routes.values().any(is_there) {
                continue;
            }
            let account = self.account_of(who).unwrap_or_else(|| {
                self.sides.insert(self.next_account, Side::of(who));
                self.next_account += 1;
                self.next_account - 1
            });
            self.routes.insert(self.next_route, (flow, account));
            self.next_route += 1;
        }
    }

    fn settle(&mut self, account: Account, seq: u64, end: End, rules: Rules<'_>) {
        let Some(record) = self.log.get_mut(&seq) else { return };
        if !record.waiting.remove(&account) {
            return;
        }
        record.all_delivered &= end == End::Deliver;
        let record = record.clone();
        let Some(side) = self.sides.get_mut(&account) else { return };
        match end {
            End::Deliver => {
                side.delivered += 1;
                self.deliveries.insert((account, seq));
            }
            End::Refuse => {
                let letter = Letter::new(&record, rules.clock.wall_us());
                side.letters.insert(seq, letter);
            }
            End::Damage => self.lose(account, Loss::Damaged, record.heard.number),
            End::Filter => self.lose(account, Loss::Filtered, record.heard.number),
        }
        if record.waiting.is_empty() {
            self.finish(seq, rules);
        }
    }

    /// Nobody waits for it any more.
    fn finish(&mut self, seq: u64, rules: Rules<'_>) {
        let Some(record) = self.log.get_mut(&seq) else { return };
        if record.all_delivered {
            self.finished.insert(record.heard.number, seq);
        }
        if rules.config.keep_hours > 0 && !record.copy {
            record.kept = true;
            return;
        }
        if !record.copy {
            let gone = (seq, record.heard.at, record.heard.trusted);
            self.remember_gone(gone);
        }
        self.take_out(seq);
    }

    fn remember_gone(&mut self, gone: (u64, Moment, bool)) {
        if self.gone.is_none_or(|before| before.0 <= gone.0) {
            self.gone = Some(gone);
        }
    }

    /// A record leaves the log. What a replay wanted of it is missed.
    fn take_out(&mut self, seq: u64) -> Option<Record> {
        let record = self.log.remove(&seq)?;
        if record.kept {
            self.remember_gone((seq, record.heard.at, record.heard.trusted));
        }
        for account in self.sides.keys().copied().collect::<Vec<_>>() {
            let ours = self.ours(account, &record.heard.routes);
            let replay = self.sides.get_mut(&account).and_then(|side| side.replay.as_mut());
            if let Some(replay) = replay.filter(|it| (it.next..it.below).contains(&seq))
                && replay.wants(seq, &record, &ours)
            {
                replay.left = replay.left.saturating_sub(1);
                replay.missed += 1;
            }
        }
        Some(record)
    }

    /// A record leaves the log, and everybody who waited for it has lost it.
    fn drop_record(&mut self, seq: u64, loss: Loss) {
        let Some(record) = self.take_out(seq) else { return };
        for account in record.waiting {
            self.lose(account, loss, record.heard.number);
        }
    }

    fn obey(&mut self, order: &Order, rules: Rules<'_>) {
        match order {
            Order::Present(present) => self.present = Some(present.clone()),
            Order::Pause(account, paused) => {
                if let Some(side) = self.sides.get_mut(account) {
                    side.paused = *paused;
                }
            }
            Order::Replay(account, replay) => {
                if let Some(side) = self.sides.get_mut(account) {
                    side.replay = Some(replay.clone());
                }
            }
            Order::Purge(account, forget) => self.purge(*account, *forget, rules),
            Order::ReplayDead(account) => self.replay_dead(*account, rules),
        }
    }

    fn take_letter(&mut self, account: Account, seq: u64) -> Option<Letter> {
        self.sides.get_mut(&account)?.letters.remove(&seq)
    }

    pub(crate) fn integrations(mask: u8) -> BTreeSet<usize> {
        (0..INTEGRATIONS).filter(|who| mask & (1 << who) != 0).collect()
    }
}

impl Side {
    fn of(who: usize) -> Side {
        Side {
            who,
            delivered: 0,
            letters: BTreeMap::new(),
            lost: BTreeMap::new(),
            paused: false,
            replay: None,
            replayed: 0,
        }
    }
}

impl Letter {
    fn new(record: &Record, refused_us: i64) -> Letter {
        let stored = vec![0u8; record.heard.len + record.heard.routes.len()];
        let body = postcard::to_allocvec(&(REASON, ATTEMPTS, refused_us, stored.as_slice()));
        Letter {
            heard: record.heard.clone(),
            copy: record.copy,
            attempts: ATTEMPTS,
            refused_us,
            len: 5 + body.unwrap().len(),
        }
    }
}

/// What every refusal of these tests says.
pub(crate) const REASON: &str = "http: 422";
pub(crate) const ATTEMPTS: u32 = 3;
