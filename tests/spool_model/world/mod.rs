//! The real spool on its disk, in lock step with the model.
//!
//! Every step is a few [`Act`]s. Of each the model foresees all rounds that it takes until the spool rests; then it is done
//! for real and the two are compared. What the spool may be found as after a crash are the states of all rounds since the
//! last one that is known to be on the disk: the *history*. Exactly one of them must be there, whole.

mod after;

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use packhorse::clock::{Clock, ManualClock};
use packhorse::spool::{
    AccountId, AccountView, Backend, Ledger, Loss, OpenError, RouteId, Settings, Spool, View,
};
use packhorse::uplink::Uplink;

use crate::met::Met;
use crate::model::{Account, Act, Heard, Route, Rules, State};
use crate::picture::{NAMES, Picture, Side, ledger_of, who_is};
use crate::spool_stage::disk::{Disk, Fault, Operation};
use crate::spool_stage::{NEVER, number, until};
use crate::steps::{Case, Config};

/// How often the log is looked through for what is too old.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Rounds until a spool must have come to rest.
const RESTS_AFTER: usize = 300;

/// RULES S30: fewer settlements than this may be undone.
pub(crate) const UNDONE: usize = 256;

/// The one note of these tests.
pub(crate) const NOTE: &str = "door";

/// The power went while something was under way.
#[derive(Debug)]
pub(crate) struct PowerGone;

/// An act under way.
struct Doing {
    act: Act,
    /// The log is looked through for what is too old.
    look: bool,
    /// What was answered is on the disk.
    durable: bool,
    /// Rounds of the history that were refused: an error may have come after their bytes.
    refused: usize,
}

/// See the [module](self).
pub(crate) struct World {
    pub(crate) disk: Disk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) config: Config,
    pub(crate) immediate: bool,
    pub(crate) spool: Option<Arc<Spool>>,
    /// The last one is what the spool is; never empty.
    pub(crate) history: Vec<State>,
    /// So many of the history are over; the others are under way.
    over: usize,
    /// Every uplink that was ever made, by its number, and as it was let in.
    pub(crate) uplinks: HashMap<u64, Uplink>,
    pub(crate) heard: HashMap<u64, Heard>,
    /// Those that a source was told are safe (RULES S6).
    pub(crate) promised: BTreeSet<u64>,
    /// The uplink that each sequence number has stood for.
    number_of: HashMap<u64, u64>,
    /// The sequence number that each uplink has come in with last.
    seq_of: HashMap<u64, u64>,
    /// The records that were ever an account's: a lane that has read one knows its place.
    pub(crate) given: HashMap<Account, BTreeSet<u64>>,
    /// The integrations of the config.
    pub(crate) in_config: BTreeSet<usize>,
    /// Its routes, as the real spool names them.
    pub(crate) route_ids: HashMap<Route, RouteId>,
    looked_ns: u64,
    /// Settlements since the spool had forced so many commits; at least those that a crash would undo.
    pub(crate) unforced: usize,
    pub(crate) syncs_seen: u64,
    /// What the spool has said when it rested last.
    pub(crate) said: Arc<View>,
    /// Uplinks that may count twice: the file had them although it had reported an error, and was not to be had for longer.
    in_doubt: u64,
    /// Something may go wrong with the disk.
    pub(crate) is_ailing: bool,
    pub(crate) met: Met,
}

impl World {
    pub(crate) fn new(case: &Case) -> World {
        let disk = Disk::new(case.seed);
        let mut world = World {
            disk: if case.holes { disk } else { disk.without_holes() },
            clock: Arc::new(ManualClock::new()),
            config: case.config,
            immediate: case.immediate,
            spool: None,
            history: vec![State::default()],
            over: 1,
            uplinks: HashMap::new(),
            heard: HashMap::new(),
            promised: BTreeSet::new(),
            number_of: HashMap::new(),
            seq_of: HashMap::new(),
            given: HashMap::new(),
            in_config: (0..NAMES.len()).collect(),
            route_ids: HashMap::new(),
            looked_ns: 0,
            unforced: 0,
            syncs_seen: 0,
            said: Arc::default(),
            in_doubt: 0,
            is_ailing: false,
            met: Met::default(),
        };
        world.clock.set_trusted(case.trusted);
        // A disk that fails before there ever was a spool leaves nothing to compare.
        world.spool = Some(Arc::new(world.try_open().unwrap()));
        world
    }

    /// Opens the spool; only what redb says of the disk keeps it from that.
    pub(crate) fn try_open(&mut self) -> Result<Spool, OpenError> {
        let settings = Settings {
            path: "in-memory".into(),
            max_size: self.config.max_size,
            max_age: self.config.max_age(),
            commit_window: if self.immediate { Duration::ZERO } else { NEVER },
            keep_delivered: self.config.keep_delivered(),
            on_full: self.config.on_full,
        };
        self.looked_ns = self.clock.boot_ns();
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        let spool = Spool::open(settings, &Backend::Custom(Arc::new(self.disk.life())), clock)?;
        Ok(spool)
    }

    pub(crate) fn spool(&self) -> Arc<Spool> {
        Arc::clone(self.spool.as_ref().unwrap())
    }

    pub(crate) fn state(&self) -> &State {
        self.history.last().unwrap()
    }

    /// Nothing but what is now can be found after a crash.
    pub(crate) fn keep_last(&mut self) {
        self.history.drain(..self.history.len() - 1);
        self.over = 1;
    }

    pub(crate) fn rules(&self, look: bool) -> Rules<'_> {
        Rules { config: self.config, clock: &self.clock, look }
    }

    /// The real account of an integration.
    pub(crate) fn id_of(&self, who: usize) -> AccountId {
        let (kind, name) = NAMES[who];
        self.spool().view().borrow().account_of(kind, name).unwrap().id
    }

    /// The real ledger of an integration, and its account in the model.
    pub(crate) fn ledger(&self, who: usize) -> Option<(Ledger, Account)> {
        let account = self.state().account_of(who)?;
        Some((ledger_of(&self.spool(), self.id_of(who)).ok()?, account))
    }

    /// All rounds that an act takes, the last being the one that it rests in.
    pub(crate) fn foresee(&self, from: State, act: &Act, look: bool) -> Vec<State> {
        let mut rounds = vec![from];
        rounds[0].round(act, self.rules(look));
        loop {
            let before = rounds.last().unwrap();
            let mut next = before.clone();
            next.round(&Act::default(), self.rules(false));
            if next == *before {
                return rounds;
            }
            rounds.push(next);
        }
    }

    /// Does something and compares. `durable`: an answer means that it is on the disk. `happens`: whether it came to pass,
    /// going by the answer.
    pub(crate) async fn act<T>(
        &mut self,
        act: Act,
        durable: bool,
        happens: impl FnOnce(&T) -> bool,
        call: impl Future<Output = T>,
    ) -> Result<T, PowerGone> {
        let since = Duration::from_nanos(self.clock.boot_ns() - self.looked_ns);
        let look = since >= LOOK_EVERY;
        if look {
            self.looked_ns = self.clock.boot_ns();
        }
        self.clock.look();
        self.over = self.history.len();
        let before = self.state().clone();
        let rounds = self.foresee(before.clone(), &act, look);
        self.history.extend(rounds);
        let answer = self.through(call).await?;
        let mut doing = Doing { act, look, durable, refused: 0 };
        if !happens(&answer) {
            doing =
                Doing { act: Act::default(), look, durable: false, refused: self.history.len() - self.over };
            let rounds = self.foresee(before, &doing.act, look);
            self.history.extend(rounds);
        }
        self.rest(&doing).await?;
        let durable = self.said.durable;
        let first = self.history.iter().position(|state| state.appended >= durable);
        self.history.drain(..first.unwrap_or(0));
        self.over = self.history.len();
        Ok(answer)
    }

    /// Waits for an answer, and looks after a disk that fails for good or is full.
    pub(crate) async fn through<T>(&mut self, call: impl Future<Output = T>) -> Result<T, PowerGone> {
        let mut view = self.spool().view();
        let mut call = pin!(call);
        loop {
            tokio::select! {
                biased;
                answer = &mut call => return Ok(answer),
                _ = until(&mut view, "an answer, or trouble", |view| view.trouble.is_some()) => {}
            }
            if self.disk.is_off() {
                return Err(PowerGone);
            }
            // Not before the file was opened again, or could not be and the writer goes on in memory.
            let (disk, generation) = (self.disk.clone(), self.said.generation);
            let is_over = |view: &View| view.trouble.is_none() || disk.is_off();
            let goes_on = |view: &View| is_over(view) || view.generation > generation;
            until(&mut view, "another generation", goes_on).await;
            self.mend();
            tokio::select! {
                biased;
                answer = &mut call => return Ok(answer),
                _ = until(&mut view, "the end of the trouble", is_over) => {}
            }
        }
    }

    /// Waits until nothing is left to do, and compares. What came before the round of a `durable` act is history no more.
    async fn rest(&mut self, doing: &Doing) -> Result<(), PowerGone> {
        let generation = self.said.generation;
        let picture = self.look().await?;
        if self.spool().view().borrow().generation == generation {
            let model = Picture::of_model(self.state());
            assert!(
                picture == model,
                "after {:?} the spool is not what the model is:\n{}",
                doing.act,
                picture.difference(&model)
            );
            self.history.drain(self.over..self.over + doing.refused);
            self.history.drain(..if doing.durable { self.over } else { 0 });
        } else {
            self.met.once("opened again after an error");
            self.follow_reopening(&picture, doing);
        }
        self.check(&picture);
        Ok(())
    }

    /// A picture of the spool at rest.
    pub(crate) async fn look(&mut self) -> Result<Picture, PowerGone> {
        let immediate = self.immediate;
        let is_quiet = move |view: &View| view.trouble.is_none() && (!immediate || view.at_risk == 0);
        let foreseen = Picture::of_model(self.state());
        let mut before = None;
        for _ in 0..RESTS_AFTER {
            let spool = self.spool();
            self.through(async move { spool.routes(Vec::new()).await.unwrap() }).await?;
            let mut view = self.spool().view();
            self.through(async move { until(&mut view, "a quiet spool", is_quiet).await }).await?;
            let picture = Picture::of_spool(&self.spool(), |uplink| self.check_content(uplink));
            // After a read error a round fails, and the file is opened again.
            let Ok(picture) = picture else { continue };
            if picture == foreseen || before.as_ref() == Some(&picture) {
                return Ok(picture);
            }
            before = Some(picture);
        }
        panic!("the spool does not come to rest: {before:#?}");
    }

    fn check_content(&self, seen: &Uplink) {
        let mut made = self.uplinks[&number(seen)].clone();
        made.flags.replayed = seen.flags.replayed;
        assert_eq!(*seen, made, "the content of an uplink");
    }

    /// What must hold of every spool at rest, whatever has happened to it.
    fn check(&mut self, picture: &Picture) {
        let view = self.spool().view().borrow().clone();
        assert_eq!((&view.trouble, view.set_aside.len(), view.out_of_reach), (&None, 0, 0));
        assert_eq!(view.committed + view.at_risk, view.appended);
        assert!(view.durable <= view.committed, "{view:?}");
        assert!(view.end >= self.said.end, "S4: numbers go up only");
        for record in &picture.records {
            assert!(view.floor <= record.seq && record.seq < view.end, "{record:?}");
            let Some(number) = record.number else { continue };
            let stood_for = *self.number_of.entry(record.seq).or_insert(number);
            assert_eq!(stood_for, number, "S4: the sequence number {} was used twice", record.seq);
            if !record.replayed {
                let before = self.seq_of.insert(number, record.seq);
                self.met.note_if(before.is_some_and(|seq| seq != record.seq), "renumbered");
            }
        }
        for (who, side) in &picture.sides {
            let theirs = picture.records.iter().filter(|it| it.waiting.contains(who) && !it.replayed);
            let numbers: Vec<_> = theirs.map(|record| record.number).collect();
            assert!(numbers.is_sorted(), "DESIGN section 4, invariant 2: {numbers:?}");
            self.check_side(*who, side, picture);
        }
        self.note_evicted_for_removed(&view);
        let state = self.history.last().unwrap();
        for (seq, record) in &state.log {
            for account in state.accounts_of(&record.heard.routes) {
                self.given.entry(account).or_default().insert(*seq);
            }
        }
        self.said = view;
    }

    /// DESIGN section 4, invariant 1: what came in for an integration waits, or has ended in a way that is counted, and if it
    /// was lost is listed. It is told from the uplinks that ever were, not from what the model has made of them.
    fn check_side(&mut self, who: usize, side: &Side, picture: &Picture) {
        let state = self.history.last().unwrap();
        let account = state.account_of(who).unwrap();
        let is_theirs = |number: &&u64| state.accounts_of(&self.heard[number].routes).contains(&account);
        let came = state.ever.iter().filter(is_theirs).count() as u64 + side.replayed;
        let never_in = side.lost.get(Loss::Refused.as_str()).copied().unwrap_or(0);
        let lost = side.lost.values().sum::<u64>() - never_in;
        let ended = side.delivered + side.dead + lost;
        let counted = came..=came + self.in_doubt;
        assert!(
            counted.contains(&(side.backlog + ended)),
            "DESIGN section 4, invariant 1: {came} are {side:?}"
        );
        for (reason, n) in side.lost.iter().filter(|(reason, _)| **reason != Loss::Filtered.as_str()) {
            let listed = picture.losses.get(&(who, *reason)).copied().unwrap_or(0);
            assert!(listed >= *n, "S11: {n} are {reason}, and {listed} are listed");
        }
        self.met.note_if(side.dead > 0, "dead letter");
        self.met.note_if(side.replay.is_some_and(|(_, missed)| missed > 0), "missed by a replay");
    }

    fn note_evicted_for_removed(&mut self, view: &View) {
        let evicted = |account: &AccountView| {
            account.lost.iter().find(|(loss, _)| *loss == Loss::Evicted).map_or(0, |(_, n)| *n)
        };
        for account in &view.accounts {
            let before = self.said.account(account.id).map_or(u64::MAX, evicted);
            let is_removed = !self.in_config.contains(&who_is(&account.kind, &account.name));
            let grew = is_removed && evicted(account) > before;
            self.met.note_if(grew, "evicted for a removed integration");
        }
        self.met.note_if(view.kept > 0, "kept");
    }

    /// What the case has met, once it is over.
    pub(crate) fn into_met(mut self) -> Met {
        for (operation, fault) in self.disk.hits() {
            self.met.once(match (operation, fault) {
                (_, Fault::Lasting(_)) => "disk away",
                (_, Fault::Short(_)) => "short write",
                (_, Fault::DoneButReported(_)) => "sync that was done and reported",
                (Operation::Read, _) => "failed read",
                (Operation::Write, _) => "failed write",
                (Operation::SetLen, _) => "failed growth",
                (Operation::Sync, _) => "failed sync",
            });
        }
        self.met.note("torn write", self.disk.torn() as u64);
        self.met.note("no space", self.disk.turned_away() as u64);
        let state = self.history.last().unwrap();
        for ((_, reason), numbers) in &state.losses {
            self.met.note(reason, numbers.len() as u64);
        }
        for side in state.sides.values() {
            self.met.note("delivered", side.delivered);
            self.met.note("replayed", side.replayed);
            self.met.note("filtered", side.lost.get(Loss::Filtered.as_str()).copied().unwrap_or(0));
        }
        self.met
    }
}
