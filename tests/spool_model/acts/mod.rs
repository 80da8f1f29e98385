//! What each step does to the real spool, and what the model is told of it.

mod lanes;
mod life;
mod orders;
mod uplinks;

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use packhorse::spool::CommandError;

use crate::model::{Account, Act, Order, State};
use crate::steps::{Ending, Step};
use crate::world::{PowerGone, World};

/// Flow and integration of every route there may be.
const ROUTES: [(usize, usize); 4] = [(0, 0), (0, 1), (0, 2), (1, 0)];

type Done = Result<(), PowerGone>;

impl World {
    /// Does one step. Where the power goes meanwhile it comes back, and the program starts again.
    pub(crate) async fn step(&mut self, step: Step) {
        if let Err(PowerGone) = self.try_step(step).await {
            self.met.once("power cut in a step");
            self.disk.power_cycle();
            self.mend();
            self.start_after(Ending::PowerCut, None).await;
        }
    }

    async fn try_step(&mut self, step: Step) -> Done {
        match step {
            Step::Ingest { n, len, to, unknown, durable, note } => {
                let uplinks = self.hear(n, len, to, unknown);
                self.ingest(uplinks, durable, note).await
            }
            Step::Commit => self.commit().await,
            Step::Settle { who, skip, n, end } => self.settle(who, skip.into(), n.into(), end).await,
            Step::SettleStale { who, back } => self.settle_stale(who, back.into()).await,
            Step::Cover { who } => self.cover(who).await,
            Step::Pass { minutes } => {
                self.clock.advance(Duration::from_secs(u64::from(minutes) * 60));
                self.nothing().await
            }
            Step::SetClock { hours } => {
                self.met.note_if(hours > 0, "clock set forward");
                self.met.note_if(hours < 0, "clock set back");
                self.clock.step_wall(i64::from(hours) * 3_600_000_000);
                self.nothing().await
            }
            Step::Trust(trusted) => {
                self.met.note_if(!trusted, "clock not trusted");
                self.clock.set_trusted(trusted);
                Ok(())
            }
            Step::Calm(settled) => {
                self.clock.set_settled(settled);
                Ok(())
            }
            Step::Pause { who, paused } => self.pause(who, paused).await,
            Step::ReplayDead { who } => self.replay_dead(who).await,
            Step::Replay { who, hours, all } => self.replay(who, hours, all).await,
            Step::Purge { who } => self.purge(who).await,
            Step::Configure { mask } => {
                let before = std::mem::replace(&mut self.in_config, State::integrations(mask));
                self.met.note_if(!before.is_subset(&self.in_config), "integration removed");
                self.met.note_if(!self.in_config.is_subset(&before), "integration put back");
                self.configure().await
            }
            Step::Restart { ending, at_start, config } => {
                self.end(ending);
                self.met.note_if(config.max_size > self.config.max_size, "limit raised");
                self.met.note_if(config.max_size < self.config.max_size, "limit lowered");
                self.config = config;
                self.start_after(ending, at_start).await;
                Ok(())
            }
            Step::Trouble { what, after } => {
                self.arrange(what, after.into());
                Ok(())
            }
            Step::Fill { leave_kib } => {
                self.is_ailing = true;
                self.disk.cut_never();
                self.disk.fill(usize::from(leave_kib) << 10);
                Ok(())
            }
            Step::SlowSync => self.slow_sync().await,
        }
    }

    /// A round in which nothing happens but what is due.
    async fn nothing(&mut self) -> Done {
        self.round_of(Act::default()).await
    }

    /// A round of what was handed over before.
    async fn round_of(&mut self, act: Act) -> Done {
        let spool = self.spool();
        let barrier = async move { spool.routes(Vec::new()).await.unwrap() };
        self.act(act, false, |_| true, barrier).await.map(drop)
    }

    /// Some integration that the spool knows: pausing it as it is changes nothing, and is on the disk when it is answered.
    fn any_side(&self) -> Option<(Account, usize, bool)> {
        self.state().sides.iter().map(|(account, side)| (*account, side.who, side.paused)).next()
    }

    fn same_pause(&self) -> Option<Order> {
        self.any_side().map(|(account, _, paused)| Order::Pause(account, paused))
    }

    fn forced_commit(&self) -> impl Future<Output = Result<(), CommandError>> + use<> {
        let side = self.any_side().map(|(_, who, paused)| (self.id_of(who), paused));
        let operator = self.spool().operator();
        async move {
            match side {
                Some((id, paused)) => operator.set_paused(id, paused).await,
                None => Ok(()),
            }
        }
    }

    async fn commit(&mut self) -> Done {
        let Some(order) = self.same_pause() else { return Ok(()) };
        let act = Act { order: Some(order), ..Act::default() };
        let commit = self.forced_commit();
        self.order(act, commit).await.map(drop)
    }

    /// As [`World::act`], for an order: it may be out of reach for a moment, and is on the disk if it is not.
    async fn order<T>(
        &mut self,
        act: Act,
        call: impl Future<Output = Result<T, CommandError>>,
    ) -> Result<Option<T>, PowerGone> {
        match self.act(act, true, Result::is_ok, call).await? {
            Ok(answer) => Ok(Some(answer)),
            Err(CommandError::OutOfReach(_) | CommandError::Read(_)) => {
                self.met.once("order out of reach");
                Ok(None)
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// The disk takes its time: nobody is told that anything is on it meanwhile. (That lanes can read is tested by itself:
    /// while redb makes the file longer they can't.)
    async fn slow_sync(&mut self) -> Done {
        let Some(order) = self.same_pause().filter(|_| !self.is_ailing) else { return Ok(()) };
        self.met.once("slow sync");
        let act = Act { order: Some(order), ..Act::default() };
        let (commit, disk) = (self.forced_commit(), self.disk.clone());
        let call = async move {
            let hold = disk.hold_syncs();
            let mut commit = pin!(commit);
            tokio::select! {
                biased;
                done = &mut commit => panic!("a commit was answered that the disk has not: {done:?}"),
                () = std::future::ready(()) => hold.wait(),
            }
            drop(hold);
            commit.await
        };
        self.order(act, call).await.map(drop)
    }
}
