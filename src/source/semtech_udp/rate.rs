//! How many uplinks a second a gateway may send (RULES S32).
//!
//! A token bucket for each gateway EUI: it fills at the rate and holds one second's worth. The limit keeps a forwarder that
//! went mad from filling the spool; it is far above what a concentrator hears. EUIs are whatever the datagrams say, so at
//! most [`GATEWAYS`] are remembered, and the one that was silent for longest is forgotten for a new one.

use crate::uplink::Eui64;

/// How many gateway EUIs are remembered.
const GATEWAYS: usize = 64;

/// The price of one; the credit grows by the rate each nanosecond, so that nothing is ever rounded.
const PRICE: u64 = 1_000_000_000;

/// The buckets.
#[derive(Debug)]
pub(super) struct RateLimit {
    per_second: u32,
    buckets: Vec<(Eui64, Bucket)>,
}

/// A token bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    credit: u64,
    at_ns: u64,
}

impl Bucket {
    /// One that is full.
    pub(super) fn full(per_second: u32, now_ns: u64) -> Bucket {
        Bucket { credit: u64::from(per_second).saturating_mul(PRICE), at_ns: now_ns }
    }

    /// Whether one more may pass now, which is `now_ns` on the boot clock. If so, it has been paid for.
    pub(super) fn admits(&mut self, per_second: u32, now_ns: u64) -> bool {
        let per_second = u64::from(per_second);
        let earned = now_ns.saturating_sub(self.at_ns).saturating_mul(per_second);
        self.credit = self.credit.saturating_add(earned).min(per_second.saturating_mul(PRICE));
        self.at_ns = now_ns;
        let rest = self.credit.checked_sub(PRICE);
        self.credit = rest.unwrap_or(self.credit);
        rest.is_some()
    }
}

impl RateLimit {
    /// `per_second` uplinks of each gateway EUI; 0: no limit.
    pub(super) fn new(per_second: u32) -> Self {
        RateLimit { per_second, buckets: Vec::new() }
    }

    /// Whether `gateway` may send one more now, which is `now_ns` on the boot clock. If so, it has been charged for it.
    pub(super) fn admits(&mut self, gateway: Eui64, now_ns: u64) -> bool {
        let per_second = self.per_second;
        if per_second == 0 {
            return true;
        }
        self.bucket(gateway, now_ns).is_none_or(|bucket| bucket.admits(per_second, now_ns))
    }

    /// The bucket of `gateway`, which is full if it had none.
    fn bucket(&mut self, gateway: Eui64, now_ns: u64) -> Option<&mut Bucket> {
        let known = self.buckets.iter().position(|(known, _)| *known == gateway);
        let index = known.unwrap_or_else(|| {
            if self.buckets.len() >= GATEWAYS {
                let idle = self.buckets.iter().enumerate().min_by_key(|(_, (_, bucket))| bucket.at_ns);
                if let Some((index, _)) = idle {
                    self.buckets.swap_remove(index);
                }
            }
            self.buckets.push((gateway, Bucket::full(self.per_second, now_ns)));
            self.buckets.len().saturating_sub(1)
        });
        self.buckets.get_mut(index).map(|(_, bucket)| bucket)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn eui(n: u8) -> Eui64 {
        Eui64([n; 8])
    }

    fn admitted(limit: &mut RateLimit, gateway: Eui64, tries: usize, now_ns: u64) -> usize {
        (0..tries).filter(|_| limit.admits(gateway, now_ns)).count()
    }

    #[test]
    fn a_second_holds_the_rate_and_no_more() {
        let mut limit = RateLimit::new(10);
        assert_eq!(admitted(&mut limit, eui(1), 50, 0), 10, "the burst");
        assert_eq!(admitted(&mut limit, eui(1), 50, SECOND / 10 - 1), 0, "a nanosecond too early");
        assert_eq!(admitted(&mut limit, eui(1), 50, SECOND / 10), 1);
        assert_eq!(admitted(&mut limit, eui(1), 50, SECOND), 9);
        assert_eq!(admitted(&mut limit, eui(1), 50, 3_600 * SECOND), 10, "an idle hour saves nothing up");
        assert_eq!(admitted(&mut limit, eui(1), 50, 0), 0, "a clock that goes back gives nothing");
    }

    #[test]
    fn gateways_do_not_pay_for_each_other() {
        let mut limit = RateLimit::new(2);
        assert_eq!(admitted(&mut limit, eui(1), 9, 0), 2);
        assert_eq!(admitted(&mut limit, eui(2), 9, 0), 2);
    }

    #[test]
    fn zero_is_no_limit() {
        assert_eq!(admitted(&mut RateLimit::new(0), eui(1), 5_000, 0), 5_000);
    }

    #[test]
    fn the_largest_rate_does_not_overflow() {
        let mut limit = RateLimit::new(u32::MAX);
        assert_eq!(admitted(&mut limit, eui(1), 100, 0), 100);
        assert_eq!(admitted(&mut limit, eui(1), 100, u64::MAX), 100);
    }

    #[test]
    fn the_gateway_silent_for_longest_is_forgotten() {
        let mut limit = RateLimit::new(1);
        for n in 0..64u8 {
            assert!(limit.admits(eui(n), u64::from(n)));
        }
        assert!(!limit.admits(eui(0), 64), "remembered, and now the most recent");
        assert!(limit.admits(eui(200), 65), "takes the place of 1");
        assert_eq!(limit.buckets.len(), GATEWAYS);
        assert!(!limit.admits(eui(0), 66));
        assert!(limit.admits(eui(1), 67), "forgotten, so it starts afresh");
    }
}
