//! Dead letters: uplinks that a far end refused for good (RULES S12).
//!
//! A refused record is copied to `dead` in the round that settles it, with the reason. There it stays until it is replayed,
//! is purged, or makes room: together they take at most a tenth of `max_size`, and the oldest go first, counted.
//!
//! A replay moves letters back: out of `dead` and to the end of the log in one transaction, as a record for this account
//! alone, with the id they always had and marked as replayed. From then on it is a record like any other; if it is refused
//! again it is a dead letter again. A replay takes up free room and what [kept](super::kept) records take, and makes none at the cost of what waits:
//! the letters that do not fit stay where they are.

use redb::{Database, ReadableDatabase, ReadableTable};
use serde::{Deserialize, Serialize};

use crate::uplink::Uplink;

use super::account::{AccountId, Loss};
use super::jobs::{Finished, Job, Step};
use super::losses::Lost;
use super::record::{self, Unreadable, Unsealed, seal, unseal};
use super::round::{Round, cost};
use super::store::{DEAD, FORMAT, RoundDone, RouteId};
use super::writer::Settle;

/// A dead letter as stored, under format byte 1. Frozen.
#[derive(Serialize, Deserialize)]
pub(super) struct DeadV1<'a> {
    pub(super) reason: &'a str,
    pub(super) attempts: u32,
    pub(super) refused_us: i64,
    pub(super) record: &'a [u8],
}

impl DeadV1<'_> {
    pub(super) fn read(bytes: &[u8]) -> Option<DeadV1<'_>> {
        match unseal(bytes) {
            Unsealed::Body(FORMAT, body) => postcard::from_bytes(body).ok(),
            Unsealed::Body(..) | Unsealed::Damaged => None,
        }
    }

    /// The same letter for other routes.
    pub(super) fn rerouted(&self, routes: &[RouteId]) -> Option<Vec<u8>> {
        let record = record::rerouted(self.record, routes).ok()?;
        seal(FORMAT, &DeadV1 { record: &record, ..*self }).ok()
    }
}

/// An uplink that the far end of an integration refused.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Its place among the dead letters of its account; the next page begins behind the last one's.
    pub seq: u64,
    /// The uplink.
    pub uplink: Uplink,
    /// Layer and reason; holds no secret.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was refused, microseconds since 1970.
    pub refused_us: i64,
}

/// Reads at most `limit` dead letters of an account from `from` on, the oldest first. One that can't be read is left out.
pub(super) fn read_dead(
    database: &Database,
    account: AccountId,
    from: u64,
    limit: usize,
) -> Result<Vec<DeadLetter>, redb::Error> {
    let table = database.begin_read()?.open_table(DEAD)?;
    let mut letters = Vec::new();
    for row in table.range((account.0, from)..=(account.0, u64::MAX))? {
        if letters.len() >= limit {
            break;
        }
        let (key, value) = row?;
        let Some(dead) = DeadV1::read(value.value()) else { continue };
        letters.extend(record::uplink(dead.record).map(|uplink| DeadLetter {
            seq: key.value().1,
            uplink,
            reason: dead.reason.to_owned(),
            attempts: dead.attempts,
            refused_us: dead.refused_us,
        }));
    }
    Ok(letters)
}

impl Round<'_> {
    /// Keeps a refused record.
    pub(super) fn bury(
        &mut self,
        settle: &Settle,
        reason: &str,
        attempts: u32,
        record: &[u8],
    ) -> Result<(), redb::Error> {
        let dead = DeadV1 { reason, attempts, refused_us: self.now_us, record };
        let Ok(bytes) = seal(FORMAT, &dead) else { return Ok(()) };
        self.dead.insert((settle.account.0, settle.to), bytes.as_slice())?;
        self.ends_undelivered = true;
        let totals = &mut self.state.totals;
        totals.dead_bytes = totals.dead_bytes.saturating_add(cost(bytes.len()));
        Ok(())
    }

    /// RULES S12: dead letters are bounded, the oldest make room.
    pub(super) fn bound_dead(&mut self) -> Result<(), redb::Error> {
        while self.state.totals.dead_bytes > self.limits.dead_cap {
            let Some((account, seq)) = self.oldest_dead()? else {
                self.state.totals.dead_bytes = 0;
                break;
            };
            let lost = self.exhume(account, seq)?;
            self.lose(account, Loss::DeadEvicted, 1, lost);
        }
        Ok(())
    }

    fn oldest_dead(&self) -> Result<Option<(AccountId, u64)>, redb::Error> {
        let mut oldest = None;
        for &id in self.state.accounts.keys() {
            if let Some((seq, _)) = self.next_dead(id, 0, u64::MAX)?
                && oldest.is_none_or(|(_, before)| seq < before)
            {
                oldest = Some((id, seq));
            }
        }
        Ok(oldest)
    }

    /// The first dead letter of an account from `from` on and below `below`.
    pub(super) fn next_dead(
        &self,
        account: AccountId,
        from: u64,
        below: u64,
    ) -> Result<Option<(u64, Vec<u8>)>, redb::Error> {
        let first = self.dead.range((account.0, from)..(account.0, below))?.next().transpose()?;
        Ok(first.map(|(key, value)| (key.value().1, value.value().to_vec())))
    }

    /// Takes a dead letter out; returns whose end it was, as far as that can be read.
    pub(super) fn exhume(&mut self, id: AccountId, seq: u64) -> Result<Option<Lost>, redb::Error> {
        let Some(letter) = self.dead.remove((id.0, seq))?.map(|value| value.value().to_vec()) else {
            return Ok(None);
        };
        let totals = &mut self.state.totals;
        totals.dead_bytes = totals.dead_bytes.saturating_sub(cost(letter.len()));
        if let Some(account) = self.state.accounts.get_mut(&id) {
            account.dead = account.dead.saturating_sub(1);
        }
        let outline = DeadV1::read(&letter).and_then(|dead| record::outline(dead.record).ok());
        Ok(outline.as_ref().map(Lost::from))
    }

    /// Carries a replay of dead letters on.
    pub(super) fn replay_dead(
        &mut self,
        id: AccountId,
        step: &mut Step,
        done: &mut RoundDone,
    ) -> Result<(), redb::Error> {
        let Some(mut job) = self.state.accounts.get_mut(&id).and_then(|account| account.dead_replay.take())
        else {
            return Ok(());
        };
        let ours = self.state.routes_of(id);
        while step.goes_on() {
            let next = self.next_dead(id, job.next, job.below)?;
            let Some((seq, letter)) = next.filter(|(_, letter)| cost(letter.len()) <= self.room()) else {
                done.finished.push(Finished { account: id, job: Job::DeadReplay, n: job.n });
                return Ok(());
            };
            job.next = seq.saturating_add(1);
            step.took(letter.len());
            let again = DeadV1::read(&letter).ok_or(Unreadable::Damaged).and_then(|dead| {
                let routes = routes_again(dead.record, &ours)?;
                Ok((record::again(dead.record, &routes, false)?, routes))
            });
            match again {
                Ok((bytes, routes)) => {
                    self.exhume(id, seq)?;
                    done.bytes_again += self.put_again(&bytes, &routes)?;
                    job.n += 1;
                }
                // It stays for the version that knows it.
                Err(Unreadable::Unknown) => {}
                Err(Unreadable::Damaged) => {
                    self.exhume(id, seq)?;
                    self.lose(id, Loss::Damaged, 1, None);
                }
            }
        }
        done.more = true;
        if let Some(account) = self.state.accounts.get_mut(&id) {
            account.dead_replay = Some(job);
        }
        Ok(())
    }
}

/// The routes of an account that a record goes by once more: those it had, or the account's first where it had none.
pub(super) fn routes_again(record: &[u8], ours: &[RouteId]) -> Result<Vec<RouteId>, Unreadable> {
    let mut routes = record::outline(record)?.routes;
    routes.retain(|route| ours.contains(route));
    if routes.is_empty() {
        routes.extend(ours.first());
    }
    Ok(routes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use super::super::record::{Entry, read};
    use super::super::store::tests::{LIMITS, do_round, fresh, settle, work};
    use super::super::{Routed, Settlement};
    use super::*;
    use crate::clock::ManualClock;

    /// The record that a dead letter keeps is the one that was refused, byte for byte.
    #[test]
    fn a_dead_letter_keeps_the_record() {
        let clock = ManualClock::new();
        let mut store = fresh();
        do_round(&mut store, &work(0..1, &clock));
        let seq = store.state.next_seq - 1;
        let refused = Settlement::Refused { reason: "http: 422".into(), attempts: 3 };
        store.round(&settle(0, seq, refused), true, LIMITS, 1_795_465_260_123_456, |_| Ok(())).unwrap();
        let txn = store.database().begin_read().unwrap();
        let dead = txn.open_table(DEAD).unwrap();
        let stored = dead.get((0, seq)).unwrap().unwrap().value().to_vec();
        let Unsealed::Body(1, body) = unseal(&stored) else { panic!("{stored:?}") };
        let (reason, attempts, refused_us, record): (&str, u32, i64, &[u8]) =
            postcard::from_bytes(body).unwrap();
        assert_eq!((reason, attempts, refused_us), ("http: 422", 3, 1_795_465_260_123_456));
        let heard = work(0..1, &clock).uplinks.remove(0).uplink;
        assert_eq!(
            read(record, &[RouteId(0)]),
            Entry::Mine(Routed { uplink: heard, routes: vec![RouteId(0)] })
        );
        assert_eq!(store.view(0).records, 0, "it left the log");
    }
}
