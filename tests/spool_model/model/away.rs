//! The same spool in a file that was opened again, and without one (RULES S3).

use super::{Heard, Side, State};

impl State {
    /// The same state in a file that was opened again, where the next number is `next_seq`. Who is in the config is not
    /// stored.
    pub(crate) fn reopened(&self, next_seq: u64) -> State {
        State { present: None, next_seq, ..self.clone() }
    }

    /// The same state, with what is only said anew with every start.
    pub(crate) fn with_config_of(self, other: &State) -> State {
        State { present: other.present.clone(), ..self }
    }

    /// An uplink came and went without the disk: the counts go on.
    pub(crate) fn count_unseen(&mut self, heard: &Heard, seq: u64) {
        self.appended += 1;
        self.ever.insert(heard.number);
        self.finished.insert(heard.number, seq);
        self.remember_gone((seq, heard.at, heard.trusted));
        for account in self.accounts_of(&heard.routes) {
            if let Some(side) = self.sides.get_mut(&account) {
                side.delivered += 1;
            }
        }
    }

    /// The uplinks that have come in and that not everybody has got.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = u64> {
        self.ever.iter().copied().filter(|number| !self.finished.contains_key(number))
    }

    /// S3: the store in memory that takes the place of this one while its file can't be used.
    pub(crate) fn refuge(&self) -> State {
        let emptied = |side: &Side| Side { paused: side.paused, ..Side::of(side.who) };
        State {
            sides: self.sides.iter().map(|(account, side)| (*account, emptied(side))).collect(),
            routes: self.routes.clone(),
            next_seq: self.next_seq,
            present: self.present.clone(),
            next_route: self.next_route,
            next_account: self.next_account,
            ..State::default()
        }
    }

    /// Takes over what happened in it. Returns what still waits, for those who still wait for it.
    pub(crate) fn take_over(&mut self, refuge: &State) -> Vec<Heard> {
        self.make_known(refuge);
        for (account, theirs) in &refuge.sides {
            let Some(side) = self.sides.get_mut(account) else { continue };
            side.delivered += theirs.delivered;
            side.paused = theirs.paused;
            for (loss, n) in &theirs.lost {
                *side.lost.entry(loss).or_default() += n;
            }
            for letter in theirs.letters.values() {
                side.letters.insert(self.next_seq, letter.clone());
                self.next_seq += 1;
            }
        }
        for (key, numbers) in &refuge.losses {
            self.losses.entry(*key).or_default().extend(numbers);
        }
        self.ever.extend(&refuge.ever);
        self.finished.extend(&refuge.finished);
        if let Some((_, at, trusted)) = refuge.gone {
            self.gone = Some((self.next_seq, at, trusted));
        }
        let wanted = refuge.log.values().filter(|record| !record.waiting.is_empty()).map(|record| {
            let mut heard = record.heard.clone();
            heard.routes.retain(|route| !refuge.accounts_of(&[*route]).is_disjoint(&record.waiting));
            heard
        });
        wanted.collect()
    }

    /// Routes and accounts that were made while the file was away.
    fn make_known(&mut self, refuge: &State) {
        for (account, side) in &refuge.sides {
            self.sides.entry(*account).or_insert_with(|| Side { paused: side.paused, ..Side::of(side.who) });
        }
        for (route, to) in &refuge.routes {
            self.routes.entry(*route).or_insert(*to);
        }
        self.next_route = self.next_route.max(refuge.next_route);
        self.next_account = self.next_account.max(refuge.next_account);
    }

    /// What was numbered from `from` on has numbers that are `by` higher.
    pub(crate) fn shift(&mut self, from: u64, by: u64) {
        let shifted = |seq: u64| if seq >= from { seq + by } else { seq };
        self.log = std::mem::take(&mut self.log).into_iter().map(|(seq, it)| (shifted(seq), it)).collect();
        self.next_seq = shifted(self.next_seq);
        for side in self.sides.values_mut() {
            let letters = std::mem::take(&mut side.letters).into_iter();
            side.letters = letters.map(|(seq, it)| (shifted(seq), it)).collect();
        }
        let deliveries = std::mem::take(&mut self.deliveries).into_iter();
        self.deliveries = deliveries.map(|(account, seq)| (account, shifted(seq))).collect();
        self.gone = self.gone.map(|(seq, at, trusted)| (shifted(seq), at, trusted));
    }
}
