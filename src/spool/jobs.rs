//! What an operator asks of the spool, and how it gets done.
//!
//! A [`Command`] changes the values of an account in the round after it came; that round is forced to the disk. What can't
//! be done in one round (RULES S4: at most a thousand records) becomes a *job* of the account. A job is part of the
//! account's stored value and moves on in the transaction that does its work, so after a crash it goes on where it stopped,
//! and nothing is done or counted twice. Whoever asked is answered when the job is finished.
//!
//! A purge settles the account's records from the oldest on; nobody sends them meanwhile, because every lane lets go of what
//! is below [`AccountView::purged_below`](super::AccountView::purged_below).

use redb::ReadableTable;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::ReadError;
use super::account::{AccountId, Loss};
use super::losses::Lost;
use super::record::{self, Outline, Unreadable};
use super::replay::Replay;
use super::round::Round;
use super::store::{RoundDone, State, Store};

/// Records that the jobs of one round may touch together (RULES S4), and about how many bytes they may move.
const RECORDS_AT_ONCE: usize = 1_000;
const BYTES_AT_ONCE: usize = 256 << 10;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Pause(AccountId, bool),
    /// With `forget` the account itself goes, too.
    Purge {
        account: AccountId,
        forget: bool,
    },
    ReplayDead(AccountId),
    Replay(AccountId, Replay),
    /// The integrations of the present config.
    Present(Vec<AccountId>),
}

/// A purge under way. Stored; frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Purge {
    /// Where the rest begins.
    next: u64,
    /// The account goes, too.
    forget: bool,
    /// Records and dead letters that are gone so far.
    n: u64,
}

/// A replay of dead letters under way. Stored; frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeadReplay {
    /// Where the rest begins.
    pub(super) next: u64,
    /// Where it ends: what is refused meanwhile stays.
    pub(super) below: u64,
    /// How many went back into the log so far.
    pub(super) n: u64,
}

/// The kinds of jobs that somebody may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    Purge,
    DeadReplay,
}

/// A job that came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) account: AccountId,
    pub(super) job: Job,
    pub(super) n: u64,
}

/// How much the jobs of this round may still do.
#[derive(Debug)]
pub(super) struct Step {
    records: usize,
    bytes: usize,
}

impl Step {
    pub(super) fn goes_on(&self) -> bool {
        self.records > 0 && self.bytes > 0
    }

    pub(super) fn took(&mut self, bytes: usize) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Command {
    fn account(&self) -> Option<AccountId> {
        match self {
            Command::Pause(account, _)
            | Command::Purge { account, .. }
            | Command::ReplayDead(account)
            | Command::Replay(account, _) => Some(*account),
            Command::Present(_) => None,
        }
    }

    /// What has to come to its end before whoever asked is answered.
    fn job(&self) -> Option<Job> {
        match self {
            Command::Purge { .. } => Some(Job::Purge),
            Command::ReplayDead(_) => Some(Job::DeadReplay),
            Command::Pause(..) | Command::Replay(..) | Command::Present(_) => None,
        }
    }

    /// Whether it is no more than a word about this run of the program.
    pub(super) fn is_volatile(&self) -> bool {
        matches!(self, Command::Present(_))
    }
}

impl State {
    /// Whether there is a job whose rounds are forced to the disk.
    pub(super) fn has_durable_jobs(&self) -> bool {
        self.accounts.values().any(|account| account.purge.is_some() || account.dead_replay.is_some())
    }

    /// The account is in the config: no purge takes it away.
    pub(super) fn keep_account(&mut self, id: AccountId) {
        if let Some(purge) = self.accounts.get_mut(&id).and_then(|account| account.purge.as_mut()) {
            purge.forget = false;
        }
    }

    fn has_job(&self, id: AccountId, job: Job) -> bool {
        self.accounts.get(&id).is_some_and(|account| match job {
            Job::Purge => account.purge.is_some(),
            Job::DeadReplay => account.dead_replay.is_some(),
        })
    }
}

/// A record that an account has waited for.
pub(super) struct Waited {
    pub(super) seq: u64,
    pub(super) len: usize,
    pub(super) outline: Outline,
}

impl Round<'_> {
    /// Takes a command in.
    pub(super) fn obey(&mut self, command: &Command) {
        let end = self.state.next_seq;
        if let Command::Present(accounts) = command {
            self.state.present = Some(accounts.iter().copied().collect());
        }
        let account = command.account().and_then(|id| self.state.accounts.get_mut(&id));
        let Some(account) = account else { return };
        match *command {
            Command::Pause(_, paused) => account.paused = paused,
            Command::Replay(_, ref replay) => account.replay = Some(replay.clone()),
            Command::Present(_) => {}
            Command::Purge { forget, .. } => {
                account.replay = None;
                account.purged_below = end;
                account.dead_replay = None;
                let before = account.purge.take();
                let (next, n) = before.map_or((account.settled.low(), 0), |before| (before.next, before.n));
                account.purge = Some(Purge { next, forget, n });
            }
            Command::ReplayDead(_) => {
                let n = account.dead_replay.as_ref().map_or(0, |before| before.n);
                account.dead_replay = Some(DeadReplay { next: 0, below: end, n });
            }
        }
    }

    /// Carries all jobs on, within the bounds of a round.
    pub(super) fn do_jobs(&mut self, done: &mut RoundDone) -> Result<(), redb::Error> {
        let mut step = Step { records: RECORDS_AT_ONCE, bytes: BYTES_AT_ONCE };
        let ids: Vec<AccountId> = self.state.accounts.keys().copied().collect();
        for id in ids {
            self.purge(id, &mut step, done)?;
            self.replay_dead(id, &mut step, done)?;
            self.replay(id, &mut step, done)?;
        }
        self.keep_no_more(&mut step, done)
    }

    fn purge(&mut self, id: AccountId, step: &mut Step, done: &mut RoundDone) -> Result<(), redb::Error> {
        let Some(account) = self.state.accounts.get_mut(&id) else { return Ok(()) };
        let (Some(mut purge), below) = (account.purge.take(), account.purged_below) else { return Ok(()) };
        while step.goes_on() {
            let Some((seq, letter)) = self.next_dead(id, 0, below)? else { break };
            step.took(letter.len());
            let lost = self.exhume(id, seq)?;
            purge.n += 1;
            self.lose(id, Loss::Purged, 1, lost);
        }
        while step.goes_on() && purge.next < below {
            step.took(0);
            let (last, waited) = self.settle_next(id, purge.next, below, Loss::Purged)?;
            if let Some(waited) = waited {
                self.purge_record(waited)?;
                purge.n += 1;
            }
            purge.next = last + 1;
        }
        if purge.next < below || self.next_dead(id, 0, below)?.is_some() {
            done.more = true;
        } else if !purge.forget
            || self.state.accounts.get(&id).is_some_and(|it| it.backlog == 0 && it.dead == 0)
        {
            done.finished.push(Finished { account: id, job: Job::Purge, n: purge.n });
            if purge.forget {
                self.state.forget(id);
                self.state.losses.close(id);
            }
            return Ok(());
        } else if let Some(account) = self.state.accounts.get_mut(&id) {
            // Something came in behind its back; what nobody will ever fetch must not be left.
            account.purged_below = self.state.next_seq;
            done.more = true;
        }
        if let Some(account) = self.state.accounts.get_mut(&id) {
            account.purge = Some(purge);
        }
        Ok(())
    }

    /// Settles the next record from `from` on for the account, and everything up to it; up to `below` if there is none.
    /// Returns how far that was, and the record if it had waited: it is counted as `loss`, and whoever asked ends it.
    pub(super) fn settle_next(
        &mut self,
        id: AccountId,
        from: u64,
        below: u64,
        loss: Loss,
    ) -> Result<(u64, Option<Waited>), redb::Error> {
        let row = self.log.range(from..below)?.next().transpose()?;
        let row = row.map(|(seq, value)| (seq.value(), value.value().to_vec()));
        let last = row.as_ref().map_or(below - 1, |(seq, _)| *seq);
        let waited = row.and_then(|(seq, value)| {
            self.waited_for(id, seq, &value).map(|outline| Waited { seq, len: value.len(), outline })
        });
        if let Some(account) = self.state.accounts.get_mut(&id) {
            account.settled.insert(from, last);
            account.backlog = account.backlog.saturating_sub(u64::from(waited.is_some()));
        }
        if let Some(Waited { outline, .. }) = &waited {
            self.lose(id, loss, 1, Some(Lost::from(outline)));
        }
        Ok((last, waited))
    }

    /// The outline of a record that waits for the account.
    fn waited_for(&mut self, id: AccountId, seq: u64, value: &[u8]) -> Option<Outline> {
        let outline = match record::outline(value) {
            Ok(outline) => outline,
            // Nobody can tell whose it is; for the others it stays.
            Err(Unreadable::Unknown) => return None,
            Err(Unreadable::Damaged) => {
                self.met_unreadable(Loss::Damaged);
                return None;
            }
        };
        let ours = self.state.accounts_of(&outline.routes).contains(&id);
        let waits = ours && !self.state.is_settled(seq, &[id]);
        waits.then_some(outline)
    }

    /// Ends a record that a purge has settled, unless somebody else waits for it. What nobody else had is not kept: the
    /// operator wants it gone.
    fn purge_record(&mut self, Waited { seq, len, outline }: Waited) -> Result<(), redb::Error> {
        let accounts = self.state.accounts_of(&outline.routes);
        match accounts.as_slice() {
            [_] => {
                self.log.remove(seq)?;
                self.forget(seq, len, Some(&outline))
            }
            _ if self.state.is_settled(seq, &accounts) => self.finish(seq, len, &outline),
            _ => Ok(()),
        }
    }
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The spool was closed before it was finished; a job goes on after the next start.
    #[error("the spool is closed")]
    Closed,
    /// The spool has no such account.
    #[error("the spool knows no such integration")]
    NoAccount,
    /// It is about what lies in a file that can't be used at the moment.
    #[error("the spool's file can't be used at the moment ({0}); try again when `status` calls the spool ok")]
    OutOfReach(String),
    /// The spool could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Who is told how many records a command was about.
pub(super) type Reply = oneshot::Sender<Result<u64, CommandError>>;

/// A command that was not answered yet.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) command: Command,
    pub(super) reply: Reply,
}

/// After a round that took them in: answers those that are done, returns those that are not.
pub(super) fn answer(asked: Vec<Asked>, done: &RoundDone, store: &Store) -> Vec<Asked> {
    let mut left = Vec::new();
    for asked in asked {
        let (account, job) = (asked.command.account(), asked.command.job());
        let is_about = |finished: &&Finished| Some(finished.account) == account && Some(finished.job) == job;
        let answer = match (done.finished.iter().find(is_about), account) {
            (Some(finished), _) => Ok(finished.n),
            (None, Some(id)) if !store.state().accounts.contains_key(&id) => Err(CommandError::NoAccount),
            (None, Some(id)) if job.is_some_and(|job| store.state().has_job(id, job)) => {
                left.push(asked);
                continue;
            }
            // It is done, there was nothing to do, or another command has taken it back.
            (None, _) => Ok(0),
        };
        // Who asked may have gone; it is done all the same.
        let _ = asked.reply.send(answer);
    }
    left
}
