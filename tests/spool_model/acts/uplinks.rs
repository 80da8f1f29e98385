//! Uplinks come in (RULES S6, S11).

use std::pin::pin;

use packhorse::clock::Clock;
use packhorse::spool::{Acceptance, Note, RouteId, Routed, record};
use packhorse::uplink::{Flags, Uplink};

use super::{Done, ROUTES};
use crate::model::{Act, Heard, Route, cost};
use crate::spool_stage;
use crate::world::{NOTE, World};

/// More records than this are not put in: a round's jobs look at a thousand at most, and the model's at all.
const ENOUGH: usize = 200;

/// What the door takes a frame's metadata for (`spool::store`).
const METADATA: usize = 128;

impl World {
    /// Uplinks of this moment, to those of the wanted routes that the config has.
    pub(super) fn hear(&mut self, n: u16, len: u16, to: u8, unknown: bool) -> Vec<Heard> {
        let there: Vec<(usize, (usize, usize))> =
            ROUTES.into_iter().enumerate().filter(|(_, (_, who))| self.in_config.contains(who)).collect();
        let mut names: Vec<(usize, usize)> =
            there.iter().filter(|(bit, _)| to & (1 << bit) != 0).map(|(_, name)| *name).collect();
        if names.is_empty() {
            names.extend(there.first().map(|(_, name)| *name));
        }
        let routes: Vec<Route> = names.iter().filter_map(|(flow, who)| self.route(*flow, *who)).collect();
        let n = if routes.is_empty() || self.state().log.len() > ENOUGH { 0 } else { n };
        (0..n).map(|_| self.heard(len.into(), unknown, routes.clone())).collect()
    }

    pub(super) fn route(&self, flow: usize, who: usize) -> Option<Route> {
        let state = self.state();
        let account = state.account_of(who)?;
        state.routes.iter().find(|(_, it)| **it == (flow, account)).map(|(route, _)| *route)
    }

    fn heard(&mut self, len: usize, unknown: bool, routes: Vec<Route>) -> Heard {
        let number = self.uplinks.len() as u64;
        let clock = &*self.clock;
        let trusted = clock.trusted();
        let made = spool_stage::uplink(number, len, clock);
        let uplink = Uplink {
            f_cnt: made.f_cnt.filter(|_| !unknown),
            flags: Flags { clock_trusted: trusted, ..Flags::default() },
            ..made
        };
        let heard = Heard {
            number,
            len: record::encode(&uplink, &[]).unwrap().len(),
            estimate: cost(len + METADATA),
            unknown,
            at: uplink.at,
            trusted,
            routes,
        };
        self.uplinks.insert(number, uplink);
        heard
    }

    pub(super) async fn ingest(&mut self, uplinks: Vec<Heard>, durable: bool, note: bool) -> Done {
        let Some(first) = uplinks.first().cloned() else { return Ok(()) };
        let ids: Vec<RouteId> = first.routes.iter().map(|route| self.route_ids[route]).collect();
        let routed: Vec<Routed> = uplinks
            .iter()
            .map(|it| Routed { uplink: self.uplinks[&it.number].clone(), routes: ids.clone() })
            .collect();
        let note = note.then_some(first.number);
        let notes: Vec<Note> =
            note.map(|n| Note { key: NOTE.into(), value: n.to_le_bytes().to_vec() }).into_iter().collect();
        let (admitted, refused, nowhere) = self.state().admit(uplinks, self.rules(false));
        self.heard.extend(admitted.iter().map(|heard| (heard.number, heard.clone())));
        let numbers: Vec<u64> = admitted.iter().map(|heard| heard.number).collect();
        let expected = match (refused.is_empty(), nowhere.is_empty()) {
            (true, _) => Acceptance::Full,
            (false, true) => Acceptance::Partial,
            (false, false) => Acceptance::Refused(nowhere),
        };
        let act = Act { uplinks: admitted, note, refused, ..Act::default() };
        let appender = self.spool().appender();
        if !durable {
            let call = async move { appender.append(routed, notes).await.unwrap() };
            return self.act(act, false, |()| true, call).await;
        }
        let commit = self.forced_commit();
        let (act, immediate) = (Act { order: self.same_pause(), ..act }, self.immediate);
        let is_taken = !numbers.is_empty();
        let (spool, view) = (self.spool(), self.spool().view());
        let call = async move {
            let mut accepted = pin!(appender.append_durable(routed, notes).await.unwrap().wait());
            if !immediate {
                // A commit would come by itself within 200 ms, and does if this one is refused. Nobody is told before it.
                spool.routes(Vec::new()).await.unwrap();
                tokio::select! {
                    biased;
                    acceptance = &mut accepted => {
                        assert!(!is_taken || view.borrow().at_risk == 0, "S6: told before it was safe");
                        return acceptance.unwrap();
                    }
                    () = std::future::ready(()) => drop(commit.await),
                }
            }
            accepted.await.unwrap()
        };
        let acceptance = self.act(act, is_taken, |_| true, call).await?;
        assert_eq!(acceptance, expected);
        self.met.note_if(acceptance == Acceptance::Partial, "refused in part");
        self.met.note_if(matches!(acceptance, Acceptance::Refused(_)), "refused in whole");
        self.met.note("promised", numbers.len() as u64);
        self.promised.extend(numbers);
        Ok(())
    }
}
