//! What can be seen of a spool, as one value that the real one and the model can both be asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;

use packhorse::spool::{AccountId, Entry, Ledger, Loss, ReadError, RouteId, Spool};
use packhorse::uplink::Uplink;

use crate::model::{REASON, Route, State};
use crate::spool_stage::number;

/// Integrations by kind and name; two flows lead to the first.
pub(crate) const NAMES: [(&str, &str); 3] = [("http", "api"), ("mqtt", "broker"), ("http", "spare")];
pub(crate) const FLOWS: [&str; 2] = ["", "second"];

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Picture {
    pub(crate) records: Vec<Seen>,
    /// How many it says there are.
    pub(crate) n: u64,
    pub(crate) bytes: u64,
    pub(crate) kept: u64,
    pub(crate) kept_bytes: u64,
    pub(crate) appended: u64,
    /// By integration.
    pub(crate) sides: BTreeMap<usize, Side>,
    /// Of the ledger of losses: how many by integration and reason.
    pub(crate) losses: BTreeMap<(usize, &'static str), u64>,
}

/// A record as those who may read it see it.
#[derive(Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) seq: u64,
    /// `None`: nobody may read it.
    pub(crate) number: Option<u64>,
    pub(crate) replayed: bool,
    pub(crate) routes: Vec<Route>,
    /// The integrations that it waits for.
    pub(crate) waiting: Vec<usize>,
}

impl fmt::Debug for Seen {
    /// A line, so that two pictures of a hundred records can be laid side by side.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { seq, number, replayed, routes, waiting } = self;
        let number = number.map_or("?".into(), |number| number.to_string());
        write!(f, "{seq}: uplink {number} by {routes:?} waits for {waiting:?}")?;
        f.write_str(if *replayed { ", replayed" } else { "" })
    }
}

#[derive(Clone, PartialEq)]
pub(crate) struct Side {
    pub(crate) backlog: u64,
    pub(crate) dead: u64,
    pub(crate) delivered: u64,
    pub(crate) paused: bool,
    pub(crate) lost: BTreeMap<&'static str, u64>,
    /// What is left and what is missed.
    pub(crate) replay: Option<(u64, u64)>,
    pub(crate) replayed: u64,
    /// Place, uplink, attempts and time of each dead letter.
    pub(crate) letters: Vec<(u64, u64, u32, i64)>,
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Side { backlog, dead, delivered, paused, lost, replay, replayed, letters } = self;
        write!(
            f,
            "backlog {backlog}, delivered {delivered}, dead {dead}, lost {lost:?}, paused {paused}, replay {replay:?}, \
             replayed {replayed}, letters {letters:?}"
        )
    }
}

impl Picture {
    /// What is in one and not in the other.
    pub(crate) fn difference(&self, model: &Picture) -> String {
        let lines =
            |picture: &Picture| format!("{picture:#?}").lines().map(str::to_owned).collect::<Vec<_>>();
        let (ours, theirs) = (lines(self), lines(model));
        let only = |of: &[String], not: &[String], mark: &str| {
            let of = of.iter().filter(|line| !not.contains(line)).map(|line| format!("{mark} {line}\n"));
            of.collect::<String>()
        };
        only(&ours, &theirs, "spool:") + &only(&theirs, &ours, "model:")
    }

    pub(crate) fn of_model(state: &State) -> Picture {
        let who = |account: &u32| state.sides.get(account).map(|side| side.who);
        let records = state.log.iter().map(|(seq, record)| {
            let mut routes = record.heard.routes.clone();
            routes.retain(|route| state.routes.contains_key(route));
            routes.sort_unstable();
            let mut waiting: Vec<usize> = record.waiting.iter().filter_map(who).collect();
            waiting.sort_unstable();
            let is_anybodys = !routes.is_empty();
            Seen {
                seq: *seq,
                number: is_anybodys.then_some(record.heard.number),
                replayed: is_anybodys && record.replayed,
                routes,
                waiting,
            }
        });
        let sides = state.sides.iter().map(|(account, side)| {
            let letters = side.letters.iter();
            let letters = letters.map(|(seq, it)| (*seq, it.heard.number, it.attempts, it.refused_us));
            let picture = Side {
                backlog: state.backlog(*account),
                dead: side.letters.len() as u64,
                delivered: side.delivered,
                paused: side.paused,
                lost: side.lost.clone(),
                replay: side.replay.as_ref().map(|replay| (replay.left, replay.missed)),
                replayed: side.replayed,
                letters: letters.collect(),
            };
            (side.who, picture)
        });
        Picture {
            n: if state.sides.is_empty() { 0 } else { state.log.len() as u64 },
            records: if state.sides.is_empty() { Vec::new() } else { records.collect() },
            bytes: state.bytes(),
            kept: state.log.values().filter(|record| record.kept).count() as u64,
            kept_bytes: state.kept_bytes(),
            appended: state.appended,
            sides: sides.collect(),
            losses: state.losses.iter().map(|(key, numbers)| (*key, numbers.len() as u64)).collect(),
        }
    }

    /// Looks at a real spool; `check` is shown every uplink that it gives out.
    pub(crate) fn of_spool(spool: &Spool, mut check: impl FnMut(&Uplink)) -> Result<Picture, ReadError> {
        let view = spool.view().borrow().clone();
        let mut records: BTreeMap<u64, Seen> = BTreeMap::new();
        let mut sides = BTreeMap::new();
        for account in &view.accounts {
            let who = who_is(&account.kind, &account.name);
            let ledger = ledger_of(spool, account.id)?;
            let settled = ledger.settled()?;
            assert!(settled.ranges().len() <= packhorse::spool::MAX_RANGES, "S4: {settled:?}");
            ledger.scan(0, usize::MAX, |seq, entry| {
                let nobodys =
                    Seen { seq, number: None, replayed: false, routes: Vec::new(), waiting: Vec::new() };
                let seen = records.entry(seq).or_insert(nobodys);
                match entry {
                    Entry::Mine(mine) => {
                        check(&mine.uplink);
                        seen.number = Some(number(&mine.uplink));
                        seen.replayed = mine.uplink.flags.replayed;
                        seen.routes.extend(mine.routes.iter().map(|route| route.number()));
                        seen.waiting.extend(Some(who).filter(|_| !settled.contains(seq)));
                    }
                    Entry::Other => {}
                    other => panic!("record {seq} is {other:?}"),
                }
                ControlFlow::Continue(())
            })?;
            let letters = spool.operator().dead_letters(account.id, 0, usize::MAX)?;
            letters.iter().for_each(|letter| check(&letter.uplink));
            assert!(letters.iter().all(|letter| letter.reason == REASON));
            let letters = letters.iter();
            let letters = letters.map(|it| (it.seq, number(&it.uplink), it.attempts, it.refused_us));
            sides.insert(
                who,
                Side {
                    backlog: account.backlog,
                    dead: account.dead_letters,
                    delivered: account.delivered,
                    paused: account.paused,
                    lost: account.lost.iter().map(|(loss, n)| (loss.as_str(), *n)).collect(),
                    replay: account.replay.map(|replay| (replay.left, replay.missed)),
                    replayed: account.replayed,
                    letters: letters.collect(),
                },
            );
        }
        let mut records: Vec<Seen> = records.into_values().collect();
        for record in &mut records {
            record.routes.sort_unstable();
            record.waiting.sort_unstable();
        }
        Ok(Picture {
            // Without a ledger there is nobody to read them.
            n: if view.accounts.is_empty() { 0 } else { view.records },
            records,
            bytes: view.bytes,
            kept: view.kept,
            kept_bytes: view.kept_bytes,
            appended: view.appended,
            sides,
            losses: listed(spool)?,
        })
    }
}

/// What the ledger of losses adds up to.
fn listed(spool: &Spool) -> Result<BTreeMap<(usize, &'static str), u64>, ReadError> {
    let mut losses = BTreeMap::new();
    let ranges = spool.operator().losses()?;
    assert_eq!(spool.view().borrow().losses, ranges.len() as u64, "the ranges are counted");
    for range in ranges {
        assert!(range.loss != Loss::Filtered && range.n > 0, "{range:?}");
        *losses.entry((who_is(&range.kind, &range.name), range.loss.as_str())).or_default() += range.n;
    }
    Ok(losses)
}

pub(crate) fn who_is(kind: &str, name: &str) -> usize {
    NAMES.iter().position(|it| *it == (kind, name)).unwrap()
}

/// An account's ledger, with all routes that it ever had.
pub(crate) fn ledger_of(spool: &Spool, account: AccountId) -> Result<Ledger, ReadError> {
    let routes = spool.routes_of(account)?;
    let routes: Vec<RouteId> = routes.into_iter().map(|(route, _)| route).collect();
    Ok(spool.ledger(account, routes))
}
