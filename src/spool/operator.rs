//! What an operator can ask of the spool; see [`jobs`](super::jobs) for how it gets done.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;

use super::account::AccountId;
use super::dead::{self, DeadLetter};
use super::jobs::{Asked, Command, CommandError};
use super::losses::{self, LossRange};
use super::replay::{LookBack, ReplayReport};
use super::writer::Message;
use super::{ReadError, Shared, View};

/// The operator's side of the spool. Cloning it shares it; it keeps nothing open: once the spool is closed, every answer
/// says so.
#[derive(Clone, Debug)]
pub struct Operator {
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) append: mpsc::Sender<Message>,
    pub(super) view: watch::Receiver<Arc<View>>,
}

impl Operator {
    /// What the spool is like now.
    pub fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// Dead letters of an account, the oldest first: at most `limit` of them, from the place `from` on. Blocking, and
    /// short.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn dead_letters(
        &self,
        account: AccountId,
        from: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        self.shared.read(|database| dead::read_dead(database, account, from, limit))
    }

    /// Sends the dead letters of an account once more: they go back to the end of the log (RULES S12), as far as there is
    /// room for them. Returns how many did, when the last one has.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn replay_dead(&self, account: AccountId) -> Result<u64, CommandError> {
        self.command(Command::ReplayDead(account)).await
    }

    /// Pauses an account or lets it go on (RULES S8). Kept across restarts; what is under way is finished.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_paused(&self, account: AccountId, paused: bool) -> Result<(), CommandError> {
        self.command(Command::Pause(account, paused)).await.map(drop)
    }

    /// Drops the backlog and the dead letters of an account, counted as [`Loss::Purged`](super::Loss::Purged). Returns how many they were, when
    /// the last one is gone. With `forget` the account goes, too, and with it its counts: that is for an integration that
    /// is no longer in the config.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn purge(&self, account: AccountId, forget: bool) -> Result<u64, CommandError> {
        self.command(Command::Purge { account, forget }).await
    }

    /// Sends what the account has settled once more (RULES S13): everything still there that was heard within `since`, after
    /// its backlog, under the same ids; with `all` also what was never routed to it. Answers as soon as the replay is sure
    /// to happen. What an earlier replay has not got to yet becomes a part of this one.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn replay_since(
        &self,
        account: AccountId,
        since: Duration,
        all: bool,
    ) -> Result<ReplayReport, CommandError> {
        let end = self.view.borrow().end;
        let look = self.shared.read(|database| LookBack::new(database, account, since, all, end))?;
        let mut look = look.ok_or(CommandError::NoAccount)?;
        // In steps, so that whoever shares this thread gets a turn.
        while self.shared.read(|database| look.step(database, &*self.clock))? {
            tokio::task::yield_now().await;
        }
        let ((account, replay), report) = self.shared.read(|database| look.end(database, &*self.clock))?;
        self.command(Command::Replay(account, replay)).await?;
        Ok(report)
    }

    /// Says which accounts belong to integrations of the present config, switched off ones included. The backlog of any
    /// other is among the first to go when the spool is full (RULES S11); before this was said there is no other.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_present(&self, accounts: Vec<AccountId>) -> Result<(), CommandError> {
        self.command(Command::Present(accounts)).await.map(drop)
    }

    /// Which uplinks were lost, the oldest range first: at most the newest thousand (RULES S11). Blocking, and short.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn losses(&self) -> Result<Vec<LossRange>, ReadError> {
        self.shared.read(losses::read_losses)
    }

    async fn command(&self, command: Command) -> Result<u64, CommandError> {
        let (reply, answer) = oneshot::channel();
        let asked = Message::Command(Asked { command, reply });
        self.append.send(asked).await.map_err(|_| CommandError::Closed)?;
        answer.await.unwrap_or(Err(CommandError::Closed))
    }
}
