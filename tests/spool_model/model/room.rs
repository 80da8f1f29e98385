//! What leaves the log by age (RULES S2), or because there is no room for it (S11, S12), and what is not let in.

use std::collections::BTreeSet;

use packhorse::config::OnFull;
use packhorse::spool::Loss;

use super::{Account, Heard, Record, Rules, Side, State, cost};

impl State {
    pub(super) fn free_kept(&mut self, target: u64, below: u64) {
        while self.bytes() > target {
            let kept = self.log.range(..below).find(|(_, record)| record.kept);
            let Some(seq) = kept.map(|(seq, _)| *seq) else { return };
            self.take_out(seq);
        }
    }

    /// S2: from the front, up to the first that is young; what is of unknown age, or was put in again, is passed over.
    pub(super) fn expire(&mut self, rules: Rules<'_>) {
        for seq in self.log.keys().copied().collect::<Vec<_>>() {
            let record = &self.log[&seq];
            let age = rules.age(record.heard.at, record.heard.trusted).filter(|_| !record.replayed);
            match age {
                Some(age) if age > rules.config.max_age() => self.drop_record(seq, Loss::Expired),
                Some(_) => return,
                None => {}
            }
        }
    }

    pub(super) fn expire_kept(&mut self, rules: Rules<'_>) {
        let kept = self.log.iter().filter(|(_, record)| record.kept).map(|(seq, _)| *seq);
        for seq in kept.collect::<Vec<_>>() {
            let heard = &self.log[&seq].heard;
            match rules.age(heard.at, heard.trusted) {
                Some(age) if age > rules.config.keep_delivered() => _ = self.take_out(seq),
                Some(_) => return,
                None => {}
            }
        }
    }

    fn is_removed(&self, account: Account) -> bool {
        let present = self.present.as_ref();
        present.is_some_and(|present| self.sides.get(&account).is_some_and(|it| !present.contains(&it.who)))
    }

    /// S11: in this order, down to one per cent below the cap.
    pub(super) fn evict(&mut self, rules: Rules<'_>) {
        let cap = rules.log_cap();
        if rules.config.on_full == OnFull::RefuseNew {
            let (from, kept) = (cap / 10 * 9, self.kept_bytes());
            if self.bytes() - kept > from {
                self.evict_removed(from - from / 100 + kept);
            }
        }
        if self.bytes() <= cap {
            return;
        }
        let target = cap - cap / 100;
        self.free_kept(target, u64::MAX);
        self.evict_removed(target);
        if rules.config.on_full == OnFull::DropOldest {
            self.evict_first(target, |record| record.heard.unknown);
            self.evict_first(target, |_| true);
        }
    }

    fn evict_first(&mut self, target: u64, goes: impl Fn(&Record) -> bool) {
        while self.bytes() > target {
            let Some(seq) = self.log.iter().find(|(_, record)| goes(record)).map(|(seq, _)| *seq) else {
                return;
            };
            self.drop_record(seq, Loss::Evicted);
        }
    }

    /// What waits for integrations that are no longer in the config, the oldest first; for everybody else it stays.
    fn evict_removed(&mut self, target: u64) {
        for seq in self.log.keys().copied().collect::<Vec<_>>() {
            let removed = self.log[&seq].waiting.iter().copied().filter(|it| self.is_removed(*it));
            for account in removed.collect::<Vec<_>>() {
                if self.bytes() <= target {
                    return;
                }
                let Some(record) = self.log.get_mut(&seq) else { continue };
                record.waiting.remove(&account);
                record.all_delivered = false;
                let (number, is_last) = (record.heard.number, record.waiting.is_empty());
                self.lose(account, Loss::Evicted, number);
                if is_last {
                    self.take_out(seq);
                }
            }
        }
    }

    /// S12: at most a tenth of `max_size`, the oldest out.
    pub(super) fn bound_letters(&mut self, rules: Rules<'_>) {
        loop {
            let letters = || {
                let of_side = |(account, side): (&Account, &Side)| {
                    let account = *account;
                    side.letters
                        .iter()
                        .map(move |(seq, it)| (*seq, account, cost(it.len)))
                        .collect::<Vec<_>>()
                };
                self.sides.iter().flat_map(of_side)
            };
            if letters().map(|(_, _, cost)| cost).sum::<u64>() <= rules.config.max_size / 10 {
                return;
            }
            let Some((seq, account, _)) = letters().min() else { return };
            if let Some(letter) = self.take_letter(account, seq) {
                self.lose(account, Loss::DeadEvicted, letter.heard.number);
            }
        }
    }

    /// S11 at the door of a spool that refuses: which uplinks get in and for whom, which are refused for whom, and the places
    /// of those that nobody gets.
    pub(crate) fn admit(
        &self,
        uplinks: Vec<Heard>,
        rules: Rules<'_>,
    ) -> (Vec<Heard>, Vec<(Account, u64)>, Vec<usize>) {
        if rules.config.on_full == OnFull::DropOldest {
            return (uplinks, Vec::new(), Vec::new());
        }
        let cap = rules.log_cap();
        let mut taken = self.bytes() - self.kept_bytes();
        let has_backlog = |account: &Account| self.backlog(*account) > 0;
        let removed = self.sides.keys().any(|it| has_backlog(it) && self.is_removed(*it));
        let fullest = self.sides.keys().copied().filter(has_backlog).max_by_key(|it| self.backlog(*it));
        let fullest = fullest.filter(|_| !removed);
        let (mut admitted, mut refused, mut nowhere) = (Vec::new(), Vec::new(), Vec::new());
        for (place, mut heard) in uplinks.into_iter().enumerate() {
            let after = taken + heard.estimate;
            let refuses = |it: &Account| after > cap || (after > cap / 10 * 9 && Some(*it) == fullest);
            let who: BTreeSet<Account> =
                self.accounts_of(&heard.routes).into_iter().filter(refuses).collect();
            refused.extend(who.iter().map(|account| (*account, heard.number)));
            heard.routes.retain(|route| self.accounts_of(&[*route]).is_disjoint(&who));
            if heard.routes.is_empty() {
                nowhere.push(place);
            } else {
                taken += heard.estimate;
                admitted.push(heard);
            }
        }
        (admitted, refused, nowhere)
    }
}
