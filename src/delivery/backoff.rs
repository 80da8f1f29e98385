//! How long to wait after a failure (RULES S31).

use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Retry, Strategy};

/// The shortest wait, so that jitter near zero does not become a busy loop.
const SHORTEST: Duration = Duration::from_millis(50);

/// How long things must go well before the next failure counts as the first again.
const STABLE: Duration = Duration::from_secs(60);

/// A link-up signal starts an attempt within two seconds; half of that is spread over the gateways behind the same link.
const KICK_SPREAD: Duration = Duration::from_secs(1);

/// Waits that double from `initial` to `max`, with full jitter from a seed of the gateway's own: a thousand gateways that
/// lose the same broker come back spread out, and each gateway's log can be replayed.
#[derive(Debug)]
pub struct Backoff {
    strategy: Strategy,
    initial: Duration,
    max: Duration,
    failures: u32,
    well_since: Option<Instant>,
    random: fastrand::Rng,
}

impl Backoff {
    /// Back-off by the retry settings of an integration.
    pub fn new(retry: &Retry, seed: u64) -> Backoff {
        Backoff {
            strategy: retry.strategy,
            initial: retry.initial,
            max: retry.max,
            failures: 0,
            well_since: None,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Something went well.
    pub fn success(&mut self, now: Instant) {
        self.well_since.get_or_insert(now);
    }

    /// Something failed: how long to wait.
    pub fn failure(&mut self, now: Instant) -> Duration {
        if self.well_since.take().is_some_and(|since| now.duration_since(since) >= STABLE) {
            self.failures = 0;
        }
        let doublings = self.failures;
        self.failures = self.failures.saturating_add(1);
        match self.strategy {
            Strategy::Fixed => self.initial.max(SHORTEST),
            Strategy::Exponential | Strategy::None => {
                let ceiling = self.initial.saturating_mul(2u32.saturating_pow(doublings)).min(self.max);
                self.spread(ceiling).max(SHORTEST)
            }
        }
    }

    /// Failures since things last went well for a minute.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets what failed: it was somebody else's failure.
    pub(super) fn start_again(&mut self) {
        self.failures = 0;
        self.well_since = None;
    }

    /// How long to wait after a link-up signal.
    pub fn after_kick(&mut self) -> Duration {
        self.spread(KICK_SPREAD)
    }

    fn spread(&mut self, ceiling: Duration) -> Duration {
        ceiling.mul_f64(self.random.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OnReject;

    fn retry(strategy: Strategy) -> Retry {
        Retry {
            strategy,
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            max_attempts: 0,
            probe: Duration::from_secs(300),
            on_reject: OnReject::DeadLetter,
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_with_full_jitter() {
        let now = Instant::now();
        let mut longest = [Duration::ZERO; 10];
        let mut shortest = [Duration::MAX; 10];
        for seed in 0..500 {
            let mut backoff = Backoff::new(&retry(Strategy::Exponential), seed);
            for (longest, shortest) in longest.iter_mut().zip(&mut shortest) {
                let wait = backoff.failure(now);
                *longest = (*longest).max(wait);
                *shortest = (*shortest).min(wait);
            }
        }
        for (n, (longest, shortest)) in longest.iter().zip(&shortest).enumerate() {
            let ceiling = Duration::from_secs((1u64 << n).min(60));
            assert!(*longest <= ceiling && *longest > ceiling.mul_f64(0.95), "wait {n}: {longest:?}");
            assert!(*shortest < ceiling.mul_f64(0.1), "wait {n}: {shortest:?}");
        }
    }

    /// S31: one success does not reset it, a stable minute does.
    #[test]
    fn only_a_stable_minute_resets_it() {
        let start = Instant::now();
        let ceiling_after = |well_for: Duration| {
            (0..200)
                .map(|seed| {
                    let mut backoff = Backoff::new(&retry(Strategy::Exponential), seed);
                    for _ in 0..6 {
                        backoff.failure(start);
                    }
                    backoff.success(start);
                    backoff.failure(start + well_for)
                })
                .max()
        };
        assert!(ceiling_after(Duration::from_secs(59)) > Some(Duration::from_secs(30)));
        assert!(ceiling_after(Duration::from_secs(60)) <= Some(Duration::from_secs(1)));
    }

    #[test]
    fn fixed_stays_fixed() {
        let mut backoff = Backoff::new(&retry(Strategy::Fixed), 1);
        let now = Instant::now();
        assert!((0..9).all(|_| backoff.failure(now) == Duration::from_secs(1)));
    }
}
