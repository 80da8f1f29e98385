//! What was minted, and for how long it is good.
//!
//! A token ends at a moment of the wall clock, and the wall clock of a gateway may be stepped. So age is taken on both
//! clocks and the larger one counts; a wall clock that went back by more than [`STEP`] says nothing about age any more, and
//! the token is over. Minting again costs little; a token that has ended costs a refusal.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, STEP};

use super::{forms, hidden};

/// Tokens whose secrets are known: the one in use, and the one before, which an answer may still repeat.
const KEPT: usize = 2;

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    wall_us: i64,
    boot_ns: u64,
}

impl Moment {
    pub(super) fn now(clock: &dyn Clock) -> Moment {
        Moment { wall_us: clock.wall_us(), boot_ns: clock.boot_ns() }
    }

    /// The life of something minted at this moment: from the age `renew_after` on a new one should be had, from the age
    /// `ends_after` on it is worth nothing.
    pub(super) fn life(self, renew_after: Duration, ends_after: Duration) -> Life {
        Life { began: self, renew_after, ends_after }
    }

    fn age(&self, clock: &dyn Clock) -> Option<Duration> {
        let wall_us = clock.wall_us().saturating_sub(self.wall_us);
        if wall_us < 0 && u128::from(wall_us.unsigned_abs()) > STEP.as_micros() {
            return None;
        }
        let wall = Duration::from_micros(u64::try_from(wall_us).unwrap_or(0));
        Some(wall.max(Duration::from_nanos(clock.boot_ns().saturating_sub(self.boot_ns))))
    }
}

/// When something was minted, and what is left of its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    began: Moment,
    renew_after: Duration,
    ends_after: Duration,
}

impl Life {
    fn is_due(&self, clock: &dyn Clock) -> bool {
        self.began.age(clock).is_none_or(|age| age >= self.renew_after)
    }

    fn is_over(&self, clock: &dyn Clock) -> bool {
        self.began.age(clock).is_none_or(|age| age >= self.ends_after)
    }
}

/// A token that may be used.
pub(super) struct Usable {
    pub(super) text: String,
    /// It is time for a new one, but this one still works.
    pub(super) is_due: bool,
}

struct Token {
    text: String,
    life: Life,
    forgotten: bool,
    secrets: Vec<String>,
}

/// Holds the last tokens. Its lock is held for moments only.
#[derive(Default)]
pub(super) struct Purse(Mutex<VecDeque<Token>>);

impl Purse {
    /// The token in use, unless it is over.
    pub(super) fn usable(&self, clock: &dyn Clock) -> Option<Usable> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let token = tokens.back().filter(|token| !token.forgotten && !token.life.is_over(clock))?;
        Some(Usable { text: token.text.clone(), is_due: token.life.is_due(clock) })
    }

    /// Takes a new token into use. `secrets` are what must not be shown of it.
    pub(super) fn keep(&self, text: String, life: Life, secrets: &[&str]) {
        let secrets = forms(secrets.iter().copied());
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.push_back(Token { text, life, forgotten: false, secrets });
        while tokens.len() > KEPT {
            tokens.pop_front();
        }
    }

    /// The far end does not want the token in use.
    pub(super) fn forget(&self) {
        if let Some(token) = self.0.lock().unwrap_or_else(PoisonError::into_inner).back_mut() {
            token.forgotten = true;
        }
    }

    /// `text` without the secrets of its tokens.
    pub(super) fn hide(&self, text: &str) -> String {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.iter().fold(text.to_owned(), |text, token| hidden(&text, &token.secrets))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::clock::ManualClock;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn age_is_what_the_larger_clock_says() {
        let clock = ManualClock::new();
        let life = Moment::now(&clock).life(5 * MINUTE, 10 * MINUTE);
        let seen = |clock: &ManualClock| (life.is_due(clock), life.is_over(clock));
        assert_eq!(seen(&clock), (false, false));
        // A slew is no step.
        clock.step_wall(-1_500_000);
        assert_eq!(seen(&clock), (false, false));
        clock.step_wall(1_500_000);
        clock.step_wall(6 * 60_000_000);
        assert_eq!(seen(&clock), (true, false));
        clock.step_wall(-6 * 60_000_000);
        clock.advance(10 * MINUTE);
        assert_eq!(seen(&clock), (true, true));
        let life = Moment::now(&clock).life(5 * MINUTE, 10 * MINUTE);
        clock.step_wall(-3_000_000);
        assert!(life.is_over(&clock), "the wall clock went back");
    }

    #[test]
    fn a_token_that_was_forgotten_is_not_used_but_still_hidden() {
        let (purse, clock) = (Purse::default(), ManualClock::new());
        assert!(purse.usable(&clock).is_none());
        for n in ["one+", "two+", "three+"] {
            purse.keep(n.to_owned(), Moment::now(&clock).life(MINUTE, 2 * MINUTE), &[n]);
        }
        assert_eq!(purse.usable(&clock).unwrap().text, "three+");
        purse.forget();
        assert!(purse.usable(&clock).is_none());
        assert_eq!(purse.hide("one+ two%2B three+"), "one+ [secret] [secret]");
    }
}
