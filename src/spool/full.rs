//! What happens when the log takes all the space it may (RULES S11).
//!
//! # `on_full = "drop-oldest"`
//!
//! Room is made in this order, down to one per cent below the cap, so that a full spool does not evict on every round:
//!
//! 1. what everybody has settled and is only [kept](super::kept) (no loss);
//! 2. what waits for integrations that are no longer in the config;
//! 3. uplinks of unknown devices: neither a DevEUI nor a counter;
//! 4. the oldest.
//!
//! Each step knows where it stopped, so that no round looks at what an earlier one has looked at: the kept records have a
//! table; a removed integration's backlog is settled from its oldest on; the log below [`Totals::unknown_from`] holds no
//! uplink of an unknown device, and their count says when there is none at all. A lane that holds a record which steps 2 and
//! 3 took may still send it; it counts as evicted all the same, as what is under way does.
//!
//! # `on_full = "refuse-new"`
//!
//! Nothing that was taken in and that somebody in the config waits for is dropped for room. From nine tenths of the cap on
//! an uplink is refused on behalf of the integration with the largest backlog; the others have the last tenth. At the cap
//! everything is refused. The decision falls when the uplink enters a round, by the values as of the last one, so that it
//! stands however often an I/O error makes the round be done again; sizes are estimated there, by less than a round holds.

use redb::ReadableTable;

use crate::config::OnFull;

use super::account::{AccountId, Loss};
use super::jobs::Waited;
use super::losses::Lost;
use super::record::{self, Unreadable};
use super::round::{Round, cost};
use super::store::{Limits, RouteId, State, Totals, estimate};
use super::{Acceptance, Routed};

/// An uplink that was not taken in for an account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    pub(super) account: AccountId,
    pub(super) lost: Lost,
}

/// Decides at the door which of `uplinks` are taken in, and for whom; what is refused is taken out of them. `waiting` is what
/// entered the round before, bytes.
pub(super) fn admit(
    state: &State,
    limits: Limits,
    mut waiting: u64,
    uplinks: &mut Vec<Routed>,
) -> (Acceptance, Vec<Refused>) {
    let (mut refused, mut nowhere, mut place) = (Vec::new(), Vec::new(), 0);
    if limits.on_full == OnFull::DropOldest {
        return (Acceptance::Full, refused);
    }
    let taken = state.totals.bytes.saturating_sub(state.totals.kept_bytes);
    // What waits for nobody in the config makes way first.
    let fullest = state.fullest().filter(|_| state.removed_with_backlog().is_none());
    uplinks.retain_mut(|routed| {
        let bytes = estimate(routed);
        let after = taken.saturating_add(waiting).saturating_add(bytes);
        let refuses =
            |id: AccountId| after > limits.log_cap || (after > limits.headroom_from() && Some(id) == fullest);
        let lost = Lost { id: routed.uplink.id, heard_us: routed.uplink.at.wall_us };
        let accounts = state.accounts_of(&routed.routes).into_iter().filter(|id| refuses(*id));
        let accounts: Vec<AccountId> = accounts.collect();
        refused.extend(accounts.iter().map(|&account| Refused { account, lost }));
        let had_routes = !routed.routes.is_empty();
        routed.routes.retain(|route| state.account_of(*route).is_none_or(|id| !accounts.contains(&id)));
        let is_taken = !routed.routes.is_empty() || !had_routes;
        if is_taken {
            waiting = waiting.saturating_add(bytes);
        } else {
            nowhere.push(place);
        }
        place += 1;
        is_taken
    });
    let acceptance = match (refused.is_empty(), nowhere.is_empty()) {
        (true, _) => Acceptance::Full,
        (false, true) => Acceptance::Partial,
        (false, false) => Acceptance::Refused(nowhere),
    };
    (acceptance, refused)
}

impl Limits {
    /// With "refuse-new": from here on only those get in that are not behind.
    fn headroom_from(self) -> u64 {
        self.log_cap / 10 * 9
    }
}

impl State {
    /// The account with the largest backlog, if anything waits at all.
    fn fullest(&self) -> Option<AccountId> {
        let waiting = self.accounts.iter().filter(|(_, account)| account.backlog > 0);
        waiting.max_by_key(|(_, account)| account.backlog).map(|(id, _)| *id)
    }

    /// An account whose integration is no longer in the config and for which something waits: of several the one whose
    /// oldest record is the oldest.
    fn removed_with_backlog(&self) -> Option<(AccountId, u64)> {
        let present = self.present.as_ref()?;
        self.accounts
            .iter()
            .filter(|(id, account)| account.backlog > 0 && !present.contains(id))
            .map(|(id, account)| (*id, account.settled.low()))
            .filter(|(_, low)| *low < self.next_seq)
            .min_by_key(|(_, low)| *low)
    }

    fn account_of(&self, route: RouteId) -> Option<AccountId> {
        self.accounts_of(&[route]).first().copied()
    }
}

impl Round<'_> {
    /// Makes room once the log takes more than `cap` bytes.
    pub(super) fn evict(&mut self, cap: u64) -> Result<(), redb::Error> {
        if self.limits.on_full == OnFull::RefuseNew {
            let (from, kept) = (self.limits.headroom_from(), self.state.totals.kept_bytes);
            if self.state.totals.bytes.saturating_sub(kept) > from {
                self.evict_removed((from - from / 100).saturating_add(kept))?;
            }
        }
        if self.state.totals.bytes <= cap {
            return Ok(());
        }
        let target = cap - cap / 100;
        self.free_kept(target, u64::MAX)?;
        self.evict_removed(target)?;
        if self.limits.on_full == OnFull::DropOldest {
            self.evict_unknown(target)?;
            self.evict_oldest(target)?;
        }
        self.raise_floor()
    }

    /// Takes the backlog of removed integrations away, from the oldest record on. One that somebody else waits for stays for
    /// that one alone.
    fn evict_removed(&mut self, target: u64) -> Result<(), redb::Error> {
        while self.state.totals.bytes > target
            && let Some((id, low)) = self.state.removed_with_backlog()
        {
            let (_, waited) = self.settle_next(id, low, self.state.next_seq, Loss::Evicted)?;
            let Some(Waited { seq, len, outline }) = waited else { continue };
            if self.state.is_settled(seq, &self.state.accounts_of(&outline.routes)) {
                // Room is what this is about: it is not kept.
                self.log.remove(seq)?;
                self.forget(seq, len, Some(&outline))?;
            }
        }
        Ok(())
    }

    /// Takes uplinks of unknown devices away, the oldest first.
    fn evict_unknown(&mut self, target: u64) -> Result<(), redb::Error> {
        while self.state.totals.bytes > target && self.state.totals.unknown > 0 {
            let row = self.log.range(self.state.totals.unknown_from..)?.next().transpose()?;
            let Some((seq, value)) = row.map(|(seq, value)| (seq.value(), value.value().to_vec())) else {
                self.state.totals.unknown = 0;
                break;
            };
            self.state.totals.unknown_from = seq + 1;
            let goes = match record::outline(&value) {
                Ok(outline) => outline.is_unknown_device,
                // Nobody can deliver what is damaged.
                Err(unreadable) => unreadable == Unreadable::Damaged,
            };
            if goes {
                self.log.remove(seq)?;
                self.count_loss(seq, &value, Loss::Evicted)?;
            }
        }
        if self.state.totals.unknown == 0 {
            self.state.totals.unknown_from = self.state.next_seq;
        }
        Ok(())
    }

    /// Takes the oldest away.
    pub(super) fn evict_oldest(&mut self, target: u64) -> Result<(), redb::Error> {
        while self.state.totals.bytes > target {
            let Some((seq, value)) =
                self.log.pop_first()?.map(|(seq, value)| (seq.value(), value.value().to_vec()))
            else {
                self.state.totals.bytes = 0;
                break;
            };
            self.count_loss(seq, &value, Loss::Evicted)?;
        }
        Ok(())
    }

    /// What the log may take in without something that waits having to leave it.
    pub(super) fn room(&self) -> u64 {
        let Totals { bytes, kept_bytes, .. } = self.state.totals;
        self.limits.log_cap.saturating_sub(bytes.saturating_sub(kept_bytes))
    }

    /// Makes room for a record of so many bytes that comes from a replay, by freeing kept records below `seq`; whether there
    /// is room then.
    pub(super) fn make_room_for(&mut self, len: usize, seq: u64) -> Result<bool, redb::Error> {
        let most = self.limits.log_cap.saturating_sub(cost(len));
        self.free_kept(most, seq)?;
        Ok(self.state.totals.bytes <= most)
    }
}
