//! How fast a backlog is sent (`replay_rate`).

use std::time::Duration;

use tokio::time::Instant;

/// What may be sent at once after a pause, as a time's worth of the rate: timers are no finer than this has to be.
const BURST: Duration = Duration::from_millis(100);

/// A token bucket, kept as the time at which the next token would be due if none had been saved.
#[derive(Debug)]
pub(super) struct Pace {
    /// Between two tokens; zero: no limit.
    interval: Duration,
    due: Option<Instant>,
}

impl Pace {
    /// So many a second; 0 is no limit.
    pub(super) fn new(rate: u32) -> Pace {
        let interval = if rate == 0 { Duration::ZERO } else { Duration::from_secs(1) / rate };
        Pace { interval, due: None }
    }

    /// When the next one may go, if that is not now.
    pub(super) fn wait_until(&self, now: Instant) -> Option<Instant> {
        self.due.filter(|due| *due > now)
    }

    /// One goes.
    pub(super) fn take(&mut self, now: Instant) {
        if self.interval.is_zero() {
            return;
        }
        let saved = now.checked_sub(BURST).unwrap_or(now);
        let before = self.due.map_or(saved, |due| due.max(saved));
        self.due = Some(before + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many go within `span` if as many as may go do, looked at every millisecond.
    fn sent(rate: u32, span: Duration) -> u128 {
        let start = Instant::now();
        let (mut pace, mut n) = (Pace::new(rate), 0);
        for ms in 0..=u64::try_from(span.as_millis()).unwrap_or(0) {
            let now = start + Duration::from_millis(ms);
            while pace.wait_until(now).is_none() && n < 1_000_000 {
                pace.take(now);
                n += 1;
            }
        }
        n
    }

    #[test]
    fn keeps_to_the_rate_whatever_the_timer_can_do() {
        for rate in [1u32, 7, 100, 5_000, 100_000] {
            let n = sent(rate, Duration::from_secs(10));
            let exact = u128::from(rate) * 10;
            assert!((exact..=exact + u128::from(rate) / 10 + 1).contains(&n), "{n} at {rate}/s");
        }
        assert_eq!(sent(0, Duration::ZERO), 1_000_000, "no limit");
    }

    #[test]
    fn a_pause_saves_up_no_more_than_a_burst() {
        let start = Instant::now();
        let mut pace = Pace::new(100);
        pace.take(start);
        let later = start + Duration::from_secs(3_600);
        let burst =
            (0..1_000).take_while(|_| pace.wait_until(later).is_none().then(|| pace.take(later)).is_some());
        assert_eq!(burst.count(), 11);
    }
}
