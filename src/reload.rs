//! Changing the config of a running agent: reload, and apply with a way back (RULES S9, S23).
//!
//! A [`Reloader`] owns the paths of the config and of its candidate. It builds the agent that a file asks for, which
//! checks everything, and hands it to the one that runs. A file with a mistake changes nothing and says why.
//!
//! # The way of a candidate
//!
//! ```text
//!  operator               state folder              agent                   config folder
//!     |-- writes candidate ----->|                     |                          |
//!     |-- apply, confirm 120s ------------------------>| runs the candidate       |
//!     |      (is the gateway still reachable?)         |                          |
//!     |-- copies the candidate over, with his own rights ------------------------>|
//!     |-- confirm ------------------------------------>| runs on; candidate gone  |
//!     |                          |                     |                          |
//!     |   nothing for 120 s, or any restart:           | candidate gone, runs the old config again
//! ```
//!
//! # Invariants
//!
//! - The agent writes nothing into the config folder, ever.
//! - A candidate that is not confirmed is gone with the process that ran it: a start finds the old config, and deletes what
//!   an earlier process left.
//! - Relative paths in a candidate start where those of the config start.
//! - One change at a time, in the order asked for.

use std::path::{Path, PathBuf};

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::agent::{Basis, Change};
use crate::check;
use crate::clock::sleep_until;
use crate::config::Problem;
use crate::control::orders::{Asked, Order};

/// Name of the candidate in the folder of the spool.
const CANDIDATE: &str = "candidate.toml";

/// Where the candidate of a config is put, whose spool lies at `spool`.
pub fn candidate_beside(spool: &Path) -> PathBuf {
    spool.parent().unwrap_or(Path::new("")).join(CANDIDATE)
}

/// See the [module](self).
#[derive(Debug)]
pub struct Reloader {
    config: PathBuf,
    candidate: PathBuf,
    basis: Basis,
    changes: mpsc::Sender<Change>,
    /// A candidate runs and must be confirmed by then.
    confirm_by: Option<Instant>,
}

impl Reloader {
    /// For an agent of `basis` that runs `config` and takes `changes`. Deletes a candidate that was never confirmed.
    pub fn new(config: &Path, candidate: PathBuf, basis: Basis, changes: mpsc::Sender<Change>) -> Reloader {
        if delete(&candidate) {
            log::warn!(
                "a config that was applied and not confirmed was dropped; running {}",
                config.display()
            );
        }
        Reloader { config: config.to_owned(), candidate, basis, changes, confirm_by: None }
    }

    /// Obeys until nobody can ask any more or the agent has gone. SIGHUP means reload.
    pub async fn run(mut self, mut asked: mpsc::Receiver<Asked>, mut hangup: Signal) {
        loop {
            let confirm_by = self.confirm_by;
            tokio::select! {
                asked = asked.recv() => match asked {
                    Some(Asked { order, reply }) => {
                        let answer = self.obey(order).await;
                        // Whoever asked may have gone; the log has it, too.
                        let _ = reply.send(answer);
                    }
                    None => return,
                },
                Some(()) = hangup.recv() => {
                    if let Err(why) = self.obey(Order::Reload).await {
                        log::error!("SIGHUP: the config was not reloaded:\n{why}");
                    }
                }
                () = sleep_until(confirm_by) => self.roll_back().await,
            }
        }
    }

    async fn obey(&mut self, order: Order) -> Result<String, String> {
        match order {
            Order::Reload if self.confirm_by.is_some() => {
                Err("a config that was applied waits to be confirmed: `packhorse confirm` first, or let it run out".into())
            }
            Order::Reload => self.become_file(&self.config.clone()).await,
            Order::Apply { confirm_within } => {
                let changed = self.become_file(&self.candidate.clone()).await;
                if changed.is_err() {
                    delete(&self.candidate);
                    // An earlier candidate, if one ran, is as unconfirmed as before.
                    return changed;
                }
                self.confirm_by = Some(Instant::now() + confirm_within);
                log::info!("a candidate is applied; back to the old config in {confirm_within:?} unless confirmed");
                changed
            }
            Order::Confirm if self.confirm_by.take().is_none() => {
                Err("nothing waits to be confirmed; was it rolled back already? see the log".into())
            }
            Order::Confirm => {
                delete(&self.candidate);
                log::info!("the applied config is confirmed");
                Ok("confirmed".into())
            }
        }
    }

    async fn roll_back(&mut self) {
        self.confirm_by = None;
        delete(&self.candidate);
        log::warn!("the applied config was not confirmed in time: back to {}", self.config.display());
        if let Err(why) = self.become_file(&self.config.clone()).await {
            log::error!("the old config can't be run any more, the applied one stays:\n{why}");
        }
    }

    /// Has the agent become what `file` says, which stands for the config.
    async fn become_file(&mut self, file: &Path) -> Result<String, String> {
        let (basis, file, config) = (self.basis.clone(), file.to_owned(), self.config.clone());
        let building = tokio::task::spawn_blocking(move || check::check_as(&basis, &file, &config));
        let checked =
            building.await.map_err(|_| "the config could not be checked".to_owned())?.map_err(lines)?;
        for warning in &checked.warnings {
            log::warn!("{warning}");
        }
        let basis = checked.agent.basis();
        let (reply, answer) = oneshot::channel();
        let gone = |_| "the agent is not running yet, or is stopping; try again in a moment".to_owned();
        self.changes
            .try_send(Change { agent: checked.agent, reply })
            .map_err(|_| "the agent is not running yet, or is busy; try again in a moment".to_owned())?;
        let changes = answer.await.map_err(gone)??;
        self.basis = basis;
        Ok(changes.to_string())
    }
}

fn lines(problems: Vec<Problem>) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// Whether there was something to delete.
fn delete(candidate: &Path) -> bool {
    match std::fs::remove_file(candidate) {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => {
            log::warn!("cannot remove {}: {error}", candidate.display());
            false
        }
    }
}
