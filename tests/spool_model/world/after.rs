//! After a crash or an I/O error: finds out which of the states that the spool has gone through it is in now.
//!
//! After a *crash* it is one of the history, with a gap in the numbers, and it has done what a start does. What that costs is
//! held against the rules: nothing that was promised is gone (S6), what is gone was at risk (S24), and fewer than 256
//! settlements are undone (S30).
//!
//! After an *error* the program goes on: what is in its memory and not in the file is put in again, under new numbers. Which
//! round failed, and whether its bytes have arrived all the same, can't be told from outside, so all that is possible is
//! tried: each state that was in memory, over each that may be in the file; with the file opened again at once, or after a
//! while in memory (S3). Several may lead to the same spool, and are then all kept as what may be found later.

use std::sync::Arc;

use packhorse::spool::View;

use super::{Doing, PowerGone, UNDONE, World};
use crate::model::{Act, Heard, Rules, State};
use crate::picture::Picture;

impl World {
    /// After an I/O error the file was opened again: finds out what was in it, and what the writer has put in again.
    pub(super) fn follow_reopening(&mut self, picture: &Picture, doing: &Doing) {
        let (mut found, mut by_refuge, mut is_doubled) = (Found::default(), false, false);
        for failure in self.failures(doing) {
            for (is_refuge, mut rounds) in
                [(false, self.by_reopening(&failure)), (true, self.by_refuge(&failure))]
            {
                if doing.durable && failure.is_first {
                    // The file as it was opened was on the disk, but the act has come after and is there.
                    rounds.remove(0);
                }
                if self.is_it(&mut rounds, failure.from, picture) {
                    found.add(failure.at, rounds);
                    by_refuge |= is_refuge;
                    is_doubled |= is_refuge && failure.has_arrived;
                }
            }
        }
        assert!(
            found.latest.is_some(),
            "after an I/O error in {:?} the spool is nothing that it may be; against what it was to be:\n{}",
            doing.act,
            picture.difference(&Picture::of_model(self.state()))
        );
        self.history = found.into_history();
        // The writer begins anew with each store: in memory, and with the file again.
        let began_anew = self.spool().view().borrow().generation - self.said.generation;
        self.met.note_if(by_refuge && began_anew > 1, "refuge");
        if is_doubled {
            self.in_doubt += self.said.at_risk + doing.act.uplinks.len() as u64;
        }
    }

    /// All the ways in which the rounds of an act may have failed.
    fn failures(&self, doing: &Doing) -> Vec<Failure<'_>> {
        let from = self.first_unused();
        let refused = self.over..self.over + doing.refused;
        let at_risk = self.said.at_risk as usize;
        let mut failures = Vec::new();
        for failed in (self.over - 1..self.history.len()).filter(|it| !refused.contains(it)) {
            let is_first = failed < self.over;
            let (act, look) =
                if is_first { (doing.act.clone(), doing.look) } else { (Act::default(), false) };
            let memory = &self.history[failed];
            let n = if is_first { at_risk } else { at_risk + doing.act.uplinks.len() };
            for (at, disk) in self.history.iter().enumerate().take(failed + 2) {
                let has_arrived = at > failed;
                let mut failure = Failure {
                    is_first,
                    at,
                    memory,
                    disk,
                    has_arrived,
                    from,
                    act: act.clone(),
                    look,
                    in_hand: n,
                };
                failures.push(failure.clone());
                // Or a round that was forced before it has taken some of them out of the writer's hands.
                failure.in_hand = failure.lacking();
                failures.extend(Some(failure).filter(|it| it.in_hand != n));
            }
        }
        failures
    }

    /// The file is opened again, and what it lacks goes in with the next round.
    fn by_reopening(&self, failure: &Failure<'_>) -> Vec<State> {
        let Failure { memory, disk, .. } = failure;
        let (mut state, mut again) =
            (disk.reopened(failure.from).with_config_of(memory), failure.act.clone());
        again.uplinks.retain(|heard| !disk.ever.contains(&heard.number));
        again.uplinks.splice(..0, self.bring_along(memory, disk, &mut state));
        again.note = again.note.or(memory.notes);
        let mut rounds = vec![state.clone()];
        rounds.extend(self.foresee(state, &again, failure.look));
        rounds
    }

    /// A store in memory stands in for the file, and hands everything over when that can be used again (S3).
    fn by_refuge(&self, failure: &Failure<'_>) -> Vec<State> {
        let Failure { memory, disk, act, .. } = failure;
        let mut state = disk.reopened(failure.from);
        self.bring_along(memory, disk, &mut state);
        let mut refuge = memory.refuge();
        let rules = self.rules(failure.look).in_refuge();
        refuge
            .round(&Act { uplinks: self.in_hand(failure), ..Act::default() }, Rules { look: false, ..rules });
        refuge.round(&Act { settles: Vec::new(), order: None, ..act.clone() }, rules);
        let opened = state.clone().with_config_of(&refuge);
        let mut uplinks = state.take_over(&refuge);
        uplinks.retain(|heard| !disk.ever.contains(&heard.number));
        state = state.with_config_of(&refuge);
        state.appended = memory.appended + act.uplinks.len() as u64 - uplinks.len() as u64;
        let note = act.note.or(memory.notes);
        let last = Act { uplinks, note, settles: act.settles.clone(), ..Act::default() };
        let mut rounds = vec![opened];
        rounds.extend(self.foresee(state, &last, false));
        rounds
    }

    /// What the writer has in its hands besides the round that failed: the last that came in.
    fn in_hand(&self, failure: &Failure<'_>) -> Vec<Heard> {
        let unfinished: Vec<u64> = failure.memory.unfinished().collect();
        let first = unfinished.len().saturating_sub(failure.in_hand);
        unfinished[first..].iter().map(|number| self.heard[number].clone()).collect()
    }

    /// What a program that goes on has in memory and the disk lacks: uplinks, which are returned, and counts of those that
    /// everybody has got.
    fn bring_along(&self, memory: &State, disk: &State, state: &mut State) -> Vec<Heard> {
        let mut uplinks = Vec::new();
        for number in memory.ever.difference(&disk.ever) {
            let heard = self.heard[number].clone();
            if let Some(seq) = memory.finished.get(number) {
                state.count_unseen(&heard, *seq);
            } else {
                uplinks.push(heard);
            }
        }
        uplinks
    }

    fn first_unused(&self) -> u64 {
        self.history.iter().map(|state| state.next_seq).max().unwrap()
    }

    /// Whether the last of some states is what is seen, once the numbers from `from` on are those that were given.
    fn is_it(&self, rounds: &mut [State], from: u64, picture: &Picture) -> bool {
        let end = self.spool().view().borrow().end;
        let Some(by) = end.checked_sub(rounds.last().unwrap().next_seq) else { return false };
        rounds.iter_mut().for_each(|state| state.shift(from, by));
        Picture::of_model(rounds.last().unwrap()) == *picture
    }

    /// The program has died or was closed, and another one has opened the file: finds out what was on the disk.
    pub(crate) async fn follow_crash(&mut self) -> Result<(), PowerGone> {
        let from = self.first_unused();
        let note =
            self.spool().notes().first().map(|note| u64::from_le_bytes(note.value[..].try_into().unwrap()));
        let opened = |world: &World, disk: &State| {
            let state = disk.reopened(from);
            let mut rounds = vec![state.clone()];
            rounds.extend(world.foresee(state, &Act::default(), false));
            rounds
        };
        let picture = match self.look().await {
            Ok(picture) => picture,
            Err(PowerGone) => {
                // Any of its first rounds may be on the disk now.
                let more: Vec<State> = self.history.iter().flat_map(|disk| opened(self, disk)).collect();
                self.history.extend(more);
                return Err(PowerGone);
            }
        };
        let mut found = Found::default();
        for (at, disk) in self.history.iter().enumerate().filter(|(_, disk)| disk.notes == note) {
            let mut rounds = opened(self, disk);
            if self.is_it(&mut rounds, from, &picture) {
                found.add(at, rounds);
            }
        }
        let last = Picture::of_model(self.state());
        let latest = found.latest.unwrap_or_else(|| {
            panic!(
                "after a crash the spool is nothing that it may be (note {note:?}); against what it was last:\n{}",
                picture.difference(&last)
            )
        });
        self.check_loss(latest);
        self.said = Arc::new(View { end: self.said.end, ..View::default() });
        self.history = found.into_history();
        self.over = self.history.len();
        self.check(&picture);
        Ok(())
    }

    /// What a crash may cost (RULES S6, S30, S24).
    fn check_loss(&mut self, found: usize) {
        let disk = &self.history[found];
        let before = &self.history[self.over - 1];
        let is_safe = |number: &&u64| disk.ever.contains(number) || before.finished.contains_key(number);
        let broken: Vec<&u64> = self.promised.iter().filter(|number| !is_safe(number)).collect();
        assert!(broken.is_empty(), "S6: these were said to be safe and are gone: {broken:?}");
        let lost = before.ever.iter().filter(|number| !is_safe(number)).count() as u64;
        assert!(lost <= self.said.at_risk, "{lost} uplinks are gone, of {} at risk", self.said.at_risk);
        let waits_again = |(account, seq): &&(u32, u64)| {
            disk.log.get(seq).is_some_and(|record| record.waiting.contains(account))
        };
        let undone = before.deliveries.iter().filter(waits_again).count();
        assert!(undone < UNDONE, "S30: {undone} settlements were undone");
        self.met.note_if(found + 1 < self.over, "rolled back");
        self.met.note("settlement undone", undone as u64);
        self.met.note("uplink lost that was at risk", lost);
    }
}

/// A way in which a round may have failed.
#[derive(Clone)]
struct Failure<'h> {
    /// It is the act's own, not one of those that came of it.
    is_first: bool,
    /// What was in memory before it.
    memory: &'h State,
    /// What is in the file, and where in the history that is.
    disk: &'h State,
    at: usize,
    /// The round is in there in spite of the error.
    has_arrived: bool,
    /// The first number that nobody has had.
    from: u64,
    act: Act,
    look: bool,
    /// How many uplinks the writer has in its hands, because they are not known to be on the disk.
    in_hand: usize,
}

impl Failure<'_> {
    /// How many the file lacks.
    fn lacking(&self) -> usize {
        self.memory.unfinished().filter(|number| !self.disk.ever.contains(number)).count()
    }
}

/// What was on a disk, as far as can be told: several states may have become the same one.
#[derive(Default)]
struct Found {
    /// Where in the history the latest of them is.
    latest: Option<usize>,
    before: Vec<State>,
    rest: Option<State>,
}

impl Found {
    fn add(&mut self, at: usize, mut rounds: Vec<State>) {
        self.latest = self.latest.max(Some(at));
        self.rest = rounds.pop();
        self.before.extend(rounds);
    }

    fn into_history(self) -> Vec<State> {
        let mut history: Vec<State> = Vec::new();
        for state in self.before {
            if !history.contains(&state) {
                history.push(state);
            }
        }
        history.extend(self.rest);
        history
    }
}
