//! Operators and configs say what is to be done (RULES S5, S8, S12, S13).

use std::time::Duration;

use packhorse::spool::{Loss, RouteName};

use super::{Done, ROUTES};
use crate::model::{Account, Act, Order, Route, State};
use crate::picture::{FLOWS, NAMES};
use crate::world::World;

impl World {
    pub(super) async fn pause(&mut self, who: usize, paused: bool) -> Done {
        let Some(account) = self.state().account_of(who) else { return Ok(()) };
        let (operator, id) = (self.spool().operator(), self.id_of(who));
        let act = Act { order: Some(Order::Pause(account, paused)), ..Act::default() };
        let was_paused = self.state().sides[&account].paused;
        self.met.note_if(paused && !was_paused, "paused");
        self.met.note_if(!paused && was_paused, "resumed");
        self.order(act, async move { operator.set_paused(id, paused).await }).await.map(drop)
    }

    pub(super) async fn replay_dead(&mut self, who: usize) -> Done {
        let Some(account) = self.configured(who) else { return Ok(()) };
        let (operator, id) = (self.spool().operator(), self.id_of(who));
        let before = (self.said.generation, self.state().sides[&account].letters.len());
        let act = Act { order: Some(Order::ReplayDead(account)), ..Act::default() };
        let n = self.order(act, async move { operator.replay_dead(id).await }).await?;
        if self.said.generation == before.0 {
            let put_in = (before.1 - self.state().sides[&account].letters.len()) as u64;
            assert_eq!(n, Some(put_in), "dead letters put in again");
            self.met.note("dead letter put in again", put_in);
        }
        Ok(())
    }

    /// Its account; nobody asks for a replay to an integration that is not in the config.
    fn configured(&self, who: usize) -> Option<Account> {
        self.state().account_of(who).filter(|_| self.in_config.contains(&who))
    }

    pub(super) async fn replay(&mut self, who: usize, hours: u16, all: bool) -> Done {
        let Some(account) = self.configured(who) else { return Ok(()) };
        let (operator, id) = (self.spool().operator(), self.id_of(who));
        let since = Duration::from_secs(u64::from(hours) * 3_600);
        let found = self.state().look_back(account, since, all, self.rules(false));
        let Some((replay, gone_before)) = found else { return Ok(()) };
        let n = replay.left;
        let act = Act { order: Some(Order::Replay(account, replay)), ..Act::default() };
        let call = async move { operator.replay_since(id, since, all).await };
        if let Some(report) = self.order(act, call).await? {
            assert_eq!((report.n, report.gone_before), (n, gone_before), "S13: the report");
        }
        Ok(())
    }

    pub(super) async fn purge(&mut self, who: usize) -> Done {
        let Some(account) = self.state().account_of(who) else { return Ok(()) };
        let forget = !self.in_config.contains(&who);
        let (operator, id) = (self.spool().operator(), self.id_of(who));
        let generation = self.said.generation;
        let purged =
            |state: &State| state.losses.get(&(who, Loss::Purged.as_str())).map_or(0, Vec::len) as u64;
        let before = purged(self.state());
        let act = Act { order: Some(Order::Purge(account, forget)), ..Act::default() };
        let n = self.order(act, async move { operator.purge(id, forget).await }).await?;
        if self.said.generation == generation {
            assert_eq!(n, Some(purged(self.state()) - before), "how many were purged");
            self.met.note_if(forget, "account forgotten");
        }
        Ok(())
    }

    /// What the agent does with a config: routes are found or made, and the spool learns who is in it.
    pub(crate) async fn configure(&mut self) -> Done {
        let wanted: Vec<(usize, usize)> =
            ROUTES.iter().filter(|(_, who)| self.in_config.contains(who)).copied().collect();
        let name = |(flow, who): &(usize, usize)| {
            let (kind, name) = NAMES[*who];
            RouteName { flow: FLOWS[*flow].into(), kind: kind.into(), name: name.into() }
        };
        let names: Vec<RouteName> = wanted.iter().map(name).collect();
        let spool = self.spool();
        let call = async move { spool.routes(names).await.unwrap() };
        let is_new = wanted.iter().any(|(flow, who)| self.route(*flow, *who).is_none());
        let act = Act { routes: wanted.clone(), ..Act::default() };
        let routes = self.act(act, is_new, |_| true, call).await?;
        let numbers: Vec<Route> = routes.iter().map(|(route, _)| route.number()).collect();
        let expected = wanted.iter().filter_map(|(flow, who)| self.route(*flow, *who));
        assert_eq!(
            numbers,
            expected.collect::<Vec<_>>(),
            "S5: a route keeps its number, and no other gets it"
        );

        self.route_ids.extend(routes.iter().map(|(route, _)| (route.number(), *route)));

        let operator = self.spool().operator();
        let mut ids: Vec<_> = routes.into_iter().map(|(_, account)| account).collect();
        ids.dedup();
        let act = Act { order: Some(Order::Present(self.in_config.clone())), ..Act::default() };
        self.act(act, false, Result::is_ok, async move { operator.set_present(ids).await }).await.map(drop)
    }
}
