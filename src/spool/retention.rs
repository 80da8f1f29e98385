//! What leaves the spool by age (RULES S2; what age is: [`Clock::age`]). By size: see [`full`](super::full). All of it is
//! counted.

use std::time::Duration;

use redb::ReadableTable;

use crate::clock::Clock;
use crate::uplink::{Moment, TimeSource, Uplink};

use super::account::Loss;
use super::record::{self, Outline};
use super::round::Round;

/// Records that one round looks at or expires at most (RULES S2).
pub(super) const EXPIRE_AT_MOST: usize = 1_000;

impl Round<'_> {
    /// Lanes may still hold records in memory that are gone from the log; the floor tells them.
    pub(super) fn raise_floor(&mut self) -> Result<(), redb::Error> {
        let first = self.log.first()?.map(|(seq, _)| seq.value());
        self.state.floor = first.unwrap_or(self.state.next_seq);
        Ok(())
    }

    /// Removes records older than `max_age`. Those whose age nobody can know are passed over: the next look begins behind
    /// them, so that however many they are they keep nobody else from expiring; once a young record or the end is reached it
    /// begins at the front again.
    pub(super) fn expire(&mut self, max_age: Duration, clock: &dyn Clock) -> Result<(), redb::Error> {
        if !clock.settled() {
            return Ok(());
        }
        let mut expired = Vec::new();
        let mut next = 0;
        for (n, row) in self.log.range(self.state.expire_from..)?.take(EXPIRE_AT_MOST).enumerate() {
            let (seq, value) = row?;
            // What was put in again is young in the log and does not expire: the operator knows how old it is.
            let outline = record::outline(value.value()).ok().filter(|outline| !outline.replayed);
            match outline.and_then(|outline| outline.age(clock)) {
                Some(age) if age > max_age => expired.push(seq.value()),
                Some(_) => break,
                None => {}
            }
            if n + 1 == EXPIRE_AT_MOST {
                next = seq.value() + 1;
            }
        }
        self.state.expire_from = next;
        for &seq in &expired {
            let value = self.log.remove(seq)?.map(|value| value.value().to_vec());
            if let Some(value) = value {
                self.count_loss(seq, &value, Loss::Expired)?;
            }
        }
        if expired.is_empty() { Ok(()) } else { self.raise_floor() }
    }
}

/// How long ago an uplink was heard, if anybody can know.
pub fn age(uplink: &Uplink, clock: &dyn Clock) -> Option<Duration> {
    clock.age(uplink.at, is_trusted(uplink.at, uplink.flags.clock_trusted))
}

pub(super) fn is_trusted(at: Moment, clock_trusted: bool) -> bool {
    clock_trusted || at.source == TimeSource::Gps
}

impl Outline {
    pub(super) fn is_time_trusted(&self) -> bool {
        is_trusted(self.at, self.clock_trusted)
    }

    /// How old it is, if anybody can know.
    pub(super) fn age(&self, clock: &dyn Clock) -> Option<Duration> {
        clock.age(self.at, self.is_time_trusted())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use super::super::Settlement;
    use super::super::account::AccountId;
    use super::super::jobs::Command;
    use super::super::store::tests::{LIMITS, fresh, settle, waiting, work};
    use super::super::store::{Store, Work};
    use super::*;
    use crate::clock::ManualClock;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// Appends as many uplinks of this moment.
    fn hear(store: &mut Store, clock: &ManualClock, n: u64) {
        store.round(&work(0..n, clock), true, LIMITS, 0, |_| Ok(())).unwrap();
    }

    /// One look with a `max_age` of ten hours; returns how many expired in all so far.
    fn look(store: &mut Store, clock: &ManualClock) -> u64 {
        store.round(&Work::default(), false, LIMITS, 0, |round| round.expire(10 * HOUR, clock)).unwrap();
        let view = store.view(0);
        let lost = view.accounts[0].lost.iter().find(|(loss, _)| *loss == Loss::Expired);
        let expired = lost.map_or(0, |(_, n)| *n);
        assert_eq!(view.accounts[0].backlog + expired, view.durable, "S24: the counts add up");
        expired
    }

    /// S2: within a boot the boot clock alone decides; what the wall clock does meanwhile changes nothing.
    #[test]
    fn age_is_boot_time_within_a_boot() {
        for trusted in [true, false] {
            let clock = ManualClock::new();
            clock.set_trusted(trusted);
            let mut store = fresh();
            hear(&mut store, &clock, 2);
            clock.step_wall(400 * 86_400 * 1_000_000);
            assert_eq!(look(&mut store, &clock), 0);
            clock.advance(9 * HOUR);
            hear(&mut store, &clock, 1);
            clock.step_wall(-800 * 86_400 * 1_000_000);
            clock.advance(HOUR);
            assert_eq!(look(&mut store, &clock), 0, "ten hours are not more than ten hours");
            clock.advance(Duration::from_secs(1));
            assert_eq!(look(&mut store, &clock), 2, "trusted: {trusted}");
            let view = store.view(0);
            assert_eq!((view.records, view.floor), (1, view.end - 1));
        }
    }

    /// S2: across boots the wall clock decides, if it was trusted then and is now; else nobody knows the age.
    #[test]
    fn age_across_boots_needs_trust_at_both_ends() {
        for (then, now, expires) in [(true, true, 1), (true, false, 0), (false, true, 0), (false, false, 0)] {
            let clock = ManualClock::new();
            clock.set_trusted(then);
            let mut store = fresh();
            hear(&mut store, &clock, 1);
            clock.reboot();
            clock.set_trusted(now);
            clock.advance(9 * HOUR);
            assert_eq!(look(&mut store, &clock), 0);
            clock.advance(2 * HOUR);
            assert_eq!(look(&mut store, &clock), expires, "trusted then: {then}, now: {now}");
        }
    }

    /// S22: GPS time is trusted whatever our own clock was.
    #[test]
    fn gps_time_is_trusted_across_boots() {
        let clock = ManualClock::new();
        clock.set_trusted(false);
        let mut store = fresh();
        let mut heard = work(0..1, &clock);
        heard.uplinks[0].uplink.at.source = TimeSource::Gps;
        store.round(&heard, true, LIMITS, 0, |_| Ok(())).unwrap();
        clock.reboot();
        clock.set_trusted(true);
        clock.advance(11 * HOUR);
        assert_eq!(look(&mut store, &clock), 1);
    }

    const YEARS_US: i64 = 10 * 365 * 86_400 * 1_000_000;

    /// The wall clock steps, and has been steady again for long enough to be believed.
    fn step_and_settle(clock: &ManualClock, by_us: i64) {
        clock.step_wall(by_us);
        clock.look();
    }

    /// S2: a clock that steps makes nothing old, not even where it is believed again: not ten years ahead, not back to 1970,
    /// and not what another boot has left.
    #[test]
    fn a_step_of_the_wall_clock_expires_nothing() {
        let back = |clock: &ManualClock| -clock.wall_us();
        for steps in [&[1i64][..], &[-1], &[1, -1], &[-1, 1]] {
            for before_reboot in [true, false] {
                let clock = ManualClock::new();
                clock.look();
                let mut store = fresh();
                hear(&mut store, &clock, 2);
                if !before_reboot {
                    clock.reboot();
                    clock.look();
                }
                for &step in steps {
                    step_and_settle(&clock, if step > 0 { YEARS_US } else { back(&clock) });
                }
                hear(&mut store, &clock, 1);
                if before_reboot {
                    clock.reboot();
                    clock.look();
                }
                clock.advance(9 * HOUR);
                assert_eq!(look(&mut store, &clock), 0, "{steps:?}, before the reboot: {before_reboot}");
            }
        }
    }

    /// S2, S22: heard in 1970, in a boot that learnt the time later: after a reboot they are as old as they are.
    #[test]
    fn what_was_heard_before_ntp_ages_across_a_reboot() {
        for untrusted_now in [true, false] {
            let clock = ManualClock::new();
            let good_us = clock.wall_us();
            clock.step_wall(-good_us);
            clock.set_trusted(false);
            clock.look();
            let mut store = fresh();
            hear(&mut store, &clock, 1);
            clock.advance(2 * HOUR);
            step_and_settle(&clock, good_us);
            clock.set_trusted(true);
            clock.look();
            assert_eq!(look(&mut store, &clock), 0);
            clock.reboot();
            clock.set_trusted(!untrusted_now);
            clock.look();
            clock.advance(7 * HOUR);
            assert_eq!(look(&mut store, &clock), 0);
            clock.advance(2 * HOUR);
            assert_eq!(look(&mut store, &clock), u64::from(!untrusted_now));
        }
    }

    /// S2, S22: a clock that came up where the last shutdown had left it, was believed, and was set by NTP: what it had said
    /// until then makes nothing older than it is.
    #[test]
    fn a_clock_that_was_wrongly_believed_expires_nothing_after_a_reboot() {
        let clock = ManualClock::new();
        clock.look();
        let mut store = fresh();
        hear(&mut store, &clock, 1);
        step_and_settle(&clock, 40 * 86_400 * 1_000_000);
        clock.reboot();
        clock.look();
        clock.advance(9 * HOUR);
        assert_eq!(look(&mut store, &clock), 0);
        clock.advance(2 * HOUR);
        assert_eq!(look(&mut store, &clock), 1);
    }

    /// S2: two boots that never learn the time: nobody knows how old their records are, whatever is learnt afterwards.
    #[test]
    fn boots_without_the_time_leave_records_of_unknown_age() {
        let clock = ManualClock::new();
        let good_us = clock.wall_us();
        clock.step_wall(-good_us);
        clock.set_trusted(false);
        let mut store = fresh();
        for _ in 0..2 {
            clock.look();
            hear(&mut store, &clock, 1);
            clock.advance(HOUR);
            clock.look();
            clock.reboot();
        }
        step_and_settle(&clock, good_us + YEARS_US);
        clock.set_trusted(true);
        clock.look();
        hear(&mut store, &clock, 1);
        clock.advance(9 * HOUR);
        assert_eq!(look(&mut store, &clock), 0);
        clock.advance(2 * HOUR);
        assert_eq!(look(&mut store, &clock), 1, "the boot of now knows its own");
        assert_eq!(waiting(&store), 2);
    }

    /// S2: nothing expires within ten minutes of a start or a step of the clock, which is when it is not settled.
    #[test]
    fn nothing_expires_while_the_clock_is_not_settled() {
        let clock = ManualClock::new();
        let mut store = fresh();
        hear(&mut store, &clock, 1);
        clock.advance(11 * HOUR);
        clock.set_settled(false);
        assert_eq!(look(&mut store, &clock), 0);
        clock.set_settled(true);
        assert_eq!(look(&mut store, &clock), 1);
    }

    /// S2: one round expires at most 1,000.
    #[test]
    fn a_round_expires_at_most_a_thousand() {
        let clock = ManualClock::new();
        let mut store = fresh();
        hear(&mut store, &clock, 2_300);
        clock.advance(11 * HOUR);
        assert_eq!([0; 4].map(|_| look(&mut store, &clock)), [1_000, 2_000, 2_300, 2_300]);
    }

    /// What an operator has put in again is as old as it ever was, and stays all the same.
    #[test]
    fn what_was_put_in_again_does_not_expire() {
        let clock = ManualClock::new();
        let mut store = fresh();
        hear(&mut store, &clock, 2);
        let seq = store.state.next_seq - 2;
        let refused = Settlement::Refused { reason: "no".into(), attempts: 1 };
        store.round(&settle(0, seq, refused), false, LIMITS, 0, |_| Ok(())).unwrap();
        let again = Work { commands: vec![Command::ReplayDead(AccountId(0))], ..Work::default() };
        store.round(&again, false, LIMITS, 0, |_| Ok(())).unwrap();
        assert_eq!(waiting(&store), 2);
        clock.advance(11 * HOUR);
        store.round(&Work::default(), false, LIMITS, 0, |round| round.expire(10 * HOUR, &clock)).unwrap();
        assert_eq!(store.view(0).accounts[0].lost, [(Loss::Expired, 1)]);
        assert_eq!(waiting(&store), 1);
    }

    /// S2: records of unknown age stay, and however many they are, they keep none behind them from expiring.
    #[test]
    fn records_of_unknown_age_hold_nobody_up() {
        let clock = ManualClock::new();
        let mut store = fresh();
        clock.set_trusted(false);
        hear(&mut store, &clock, 2_500);
        clock.reboot();
        clock.set_trusted(true);
        hear(&mut store, &clock, 3);
        clock.advance(11 * HOUR);
        hear(&mut store, &clock, 1);
        assert_eq!([0; 3].map(|_| look(&mut store, &clock)), [0, 0, 3]);
        clock.advance(11 * HOUR);
        assert_eq!([0; 3].map(|_| look(&mut store, &clock)), [3, 3, 4], "and it begins at the front again");
        assert_eq!(waiting(&store), 2_500);
    }

    /// S11: one per cent below the cap, oldest first; a spool below its cap is left alone.
    #[test]
    fn eviction_goes_one_per_cent_below_the_cap() {
        let clock = ManualClock::new();
        let mut store = fresh();
        hear(&mut store, &clock, 1_000);
        let full = store.view(0).bytes;
        let mut evict = |cap| {
            let done = store.round(&Work::default(), false, LIMITS, 0, |round| round.evict(cap));
            done.unwrap();
            store.view(0)
        };
        assert_eq!(evict(full).records, 1_000);
        let view = evict(full - 1);
        assert_eq!((view.records, view.floor), (990, view.end - 990));
        assert_eq!(view.accounts[0].lost, [(Loss::Evicted, 10)]);
    }
}
