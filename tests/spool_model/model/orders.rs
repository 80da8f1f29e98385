//! What an operator can ask for: to forget what waits, and to send once more what was refused (RULES S12) or delivered (S13).

use std::time::Duration;

use packhorse::spool::Loss;

use super::{Account, Heard, Record, Replay, Route, Rules, State, cost};

impl State {
    pub(super) fn purge(&mut self, account: Account, forget: bool, rules: Rules<'_>) {
        let Some(side) = self.sides.get_mut(&account) else { return };
        side.replay = None;
        for letter in std::mem::take(&mut side.letters).into_values() {
            self.lose(account, Loss::Purged, letter.heard.number);
        }
        for seq in self.waiting(account) {
            let Some(record) = self.log.get_mut(&seq) else { continue };
            record.waiting.remove(&account);
            record.all_delivered = false;
            let record = record.clone();
            self.lose(account, Loss::Purged, record.heard.number);
            if self.accounts_of(&record.heard.routes).len() == 1 {
                // What was nobody else's is not kept either.
                self.take_out(seq);
            } else if record.waiting.is_empty() {
                self.finish(seq, rules);
            }
        }
        if forget {
            self.sides.remove(&account);
            self.routes.retain(|_, (_, its)| *its != account);
        }
    }

    /// S12: dead letters go back to the end of the log, as far as there is room.
    pub(super) fn replay_dead(&mut self, account: Account, rules: Rules<'_>) {
        let Some(side) = self.sides.get(&account) else { return };
        for (seq, letter) in side.letters.clone() {
            let room = rules.log_cap().saturating_sub(self.bytes() - self.kept_bytes());
            if cost(letter.len) > room {
                return;
            }
            self.take_letter(account, seq);
            let routes = self.routes_again(account, &letter.heard.routes);
            self.put(Heard { routes, ..letter.heard }, true, letter.copy);
        }
    }

    /// The account's own of a record's routes, or its first where there is none.
    fn routes_again(&self, account: Account, routes: &[Route]) -> Vec<Route> {
        let ours = self.ours(account, routes);
        if !ours.is_empty() {
            return ours;
        }
        self.routes.iter().filter(|(_, (_, its))| *its == account).map(|(route, _)| *route).take(1).collect()
    }

    /// S13: what a replay of everything heard within `since` is about, and how many records those are; since when some or all
    /// of it is gone.
    pub(crate) fn look_back(
        &self,
        account: Account,
        since: Duration,
        all: bool,
        rules: Rules<'_>,
    ) -> Option<(Replay, Option<i64>)> {
        let before = self.sides.get(&account)?.replay.as_ref();
        let mut replay = Replay {
            next: self.next_seq,
            below: self.next_seq,
            all: all || before.is_some_and(|before| before.all),
            left: 0,
            missed: before.map_or(0, |before| before.missed),
            waited: self.waiting(account).into_iter().collect(),
        };
        let at_least = before.map_or(u64::MAX, |before| before.next);
        for (&seq, record) in self.log.iter().rev() {
            let age = rules.age(record.heard.at, record.heard.trusted);
            if age.is_some_and(|age| age > since) && !record.replayed && seq < at_least {
                break;
            }
            let ours = self.ours(account, &record.heard.routes);
            replay.left += u64::from(replay.wants(seq, record, &ours));
            replay.next = seq;
        }
        let is_within = |age: Option<Duration>| age.is_none_or(|age| age <= since);
        let gone = self.gone.filter(|(_, at, trusted)| is_within(rules.age(*at, *trusted)));
        Some((replay, gone.map(|(_, at, _)| at.wall_us)))
    }

    /// S13: the next copies of a replay, at most 32 while the backlog is below 16.
    pub(super) fn replay(&mut self, account: Account, rules: Rules<'_>) {
        let Some(mut replay) = self.sides.get_mut(&account).and_then(|side| side.replay.take()) else {
            return;
        };
        let mut copies = 0;
        let mut is_done = false;
        while copies < 32 && (copies > 0 || self.backlog(account) < 16) {
            let next = self.log.range(replay.next..replay.below.max(replay.next)).next();
            let Some((seq, record)) = next.map(|(seq, record)| (*seq, record.clone())) else {
                is_done = true;
                break;
            };
            let ours = self.ours(account, &record.heard.routes);
            if replay.wants(seq, &record, &ours) {
                let routes = self.routes_again(account, &record.heard.routes);
                let copy = Heard { routes, ..record.heard.clone() };
                if !self.make_room_for(copy.cost(), seq, rules) {
                    break;
                }
                self.put(copy, true, true);
                copies += 1;
                replay.left = replay.left.saturating_sub(1);
                if let Some(side) = self.sides.get_mut(&account) {
                    side.replayed += 1;
                }
            }
            replay.next = seq + 1;
        }
        if let Some(side) = self.sides.get_mut(&account).filter(|_| !is_done) {
            side.replay = Some(replay);
        }
    }

    /// Copies take the room of kept records that the replay has passed, if need be of the original.
    fn make_room_for(&mut self, copy: u64, seq: u64, rules: Rules<'_>) -> bool {
        let most = rules.log_cap().saturating_sub(copy);
        self.free_kept(most, seq);
        if self.bytes() <= most {
            return true;
        }
        let own = self.log.get(&seq).filter(|record| record.kept).map(|record| record.heard.cost());
        let enough = own.is_some_and(|own| self.bytes() - own + copy <= rules.log_cap());
        if enough {
            self.take_out(seq);
        }
        enough
    }
}

impl Replay {
    /// Whether it is about this record, of whose routes `ours` are the account's.
    pub(super) fn wants(&self, seq: u64, record: &Record, ours: &[Route]) -> bool {
        !record.copy && if ours.is_empty() { self.all } else { !self.waited.contains(&seq) }
    }
}
