//! When something was heard (RULES S22): GPS, else the clock of the forwarder or network server, else ours.
//!
//! The order is a matter of who is likely to be right, and each has to be plausible first:
//!
//! 1. `tmms`, GPS time, if it lies between the release of this program and twenty years after it (a receiver that lost
//!    count of the 1,024-week epochs lies before). Our own clock has no say: a box without a battery can be hours off.
//! 2. `time`, the forwarder's clock, within the same years, and within [`NEAR_US`] of our own clock where that is trusted.
//!    A frame that the forwarder says it held back may be older than that.
//! 3. The moment the datagram arrived, by our own clock.
//!
//! The boot clock of the moment is never touched: age is counted from the arrival. GPS time of a frame that nobody held back
//! dates the others of the boot, too ([`Boots`](crate::clock::Boots)).

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::clock::{RELEASE_FLOOR_US, us_of};
use crate::uplink::{Moment, TimeSource};

/// 1980-01-06 00:00 UTC in milliseconds since 1970, where GPS time begins.
const GPS_EPOCH_MS: i64 = 315_964_800_000;

/// How far GPS is ahead of UTC, in milliseconds: the 18 leap seconds of 1980 to 2017 (IERS Bulletin C; none was announced
/// since).
const GPS_AHEAD_MS: i64 = 18_000;

/// Twenty years after the release: no clock of a running agent shows more, in microseconds since 1970.
const HORIZON_US: i64 = RELEASE_FLOOR_US + 20 * 365 * 86_400 * 1_000_000;

/// How far a forwarder's clock may be from our trusted one: five minutes, in microseconds.
const NEAR_US: i64 = 300 * 1_000_000;

/// What an element says about its time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Said<'a> {
    /// Milliseconds since the GPS epoch.
    pub(crate) tmms: Option<i64>,
    /// The forwarder's wall time, as text.
    pub(crate) time: Option<&'a str>,
    /// The forwarder held the frame back.
    pub(crate) delayed: bool,
}

/// The moment of reception: `arrived` with the best wall time there is.
pub(crate) fn of_reception(arrived: Moment, said: Said<'_>) -> Moment {
    let gps = || said.tmms.and_then(utc_us_of_gps_ms).filter(|us| is_of_this_age(*us));
    let forwarder =
        || said.time.and_then(utc_us_of_text).filter(|us| is_plausible(*us, arrived, said.delayed));
    if let Some(wall_us) = gps() {
        Moment { wall_us, source: TimeSource::Gps, ..arrived }
    } else if let Some(wall_us) = forwarder() {
        Moment { wall_us, source: TimeSource::Forwarder, ..arrived }
    } else {
        arrived
    }
}

/// The moment of an uplink that a network server heard of first: what the server says, where that is plausible. It may have
/// waited there for as long as it likes, so only what lies ahead of us counts against it.
pub(crate) fn of_server(arrived: Moment, said_us: Option<i64>) -> Moment {
    match said_us.filter(|us| is_plausible(*us, arrived, true)) {
        Some(wall_us) => Moment { wall_us, source: TimeSource::Forwarder, ..arrived },
        None => arrived,
    }
}

fn is_of_this_age(us: i64) -> bool {
    (RELEASE_FLOOR_US..HORIZON_US).contains(&us)
}

fn is_plausible(us: i64, arrived: Moment, delayed: bool) -> bool {
    let ahead = us.saturating_sub(arrived.wall_us);
    let agrees = arrived.source != TimeSource::Ntp || (ahead <= NEAR_US && (delayed || ahead >= -NEAR_US));
    is_of_this_age(us) && agrees
}

fn utc_us_of_gps_ms(ms: i64) -> Option<i64> {
    ms.checked_add(GPS_EPOCH_MS - GPS_AHEAD_MS)?.checked_mul(1_000)
}

/// RFC 3339, or `YYYY-MM-DD HH:MM:SS` in GMT or UTC, named or not.
fn utc_us_of_text(text: &str) -> Option<i64> {
    let text = text.trim();
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok().or_else(|| {
        let bare = text.trim_end_matches("GMT").trim_end_matches("UTC").trim_end();
        let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
        PrimitiveDateTime::parse(bare, format).ok().map(PrimitiveDateTime::assume_utc)
    })?;
    us_of(moment)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    const MINUTE_US: i64 = 60_000_000;

    fn arrived(source: TimeSource) -> Moment {
        Moment { boot_id: [1; 16], boot_ns: 5, wall_us: RELEASE_FLOOR_US + 60 * MINUTE_US, source }
    }

    fn text(us: i64) -> String {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000).unwrap().format(&Rfc3339).unwrap()
    }

    fn gps_ms(us: i64) -> i64 {
        us / 1_000 - GPS_EPOCH_MS + GPS_AHEAD_MS
    }

    #[test]
    fn gps_time_has_no_leap_seconds() {
        // The fourth sample: `tmms` and `time` of one reception, 2021-02-03T19:03:46.5Z.
        assert_eq!(utc_us_of_gps_ms(1_296_414_244_500), utc_us_of_text("2021-02-03T19:03:46.500Z"));
        assert_eq!(utc_us_of_gps_ms(i64::MAX), None);
    }

    #[test]
    fn wall_times_come_in_several_spellings() {
        let expected = Some(1_794_000_000_000_000);
        for spelling in [
            "2026-11-06T21:20:00Z",
            "2026-11-06T21:20:00.000000Z",
            "2026-11-06T23:20:00+02:00",
            "2026-11-06 21:20:00 GMT",
            "2026-11-06 21:20:00 UTC",
            "2026-11-06 21:20:00",
        ] {
            assert_eq!(utc_us_of_text(spelling), expected, "{spelling}");
        }
        for nonsense in ["", "now", "2026-13-01T00:00:00Z", "2026-11-06", "GMT", "\u{fffd}"] {
            assert_eq!(utc_us_of_text(nonsense), None, "{nonsense}");
        }
    }

    /// RULES S22: the order of sources, and what each has to satisfy.
    #[test]
    fn the_best_plausible_source_wins() {
        let now = arrived(TimeSource::Ntp).wall_us;
        let judge = |own, tmms: Option<i64>, time: Option<i64>, delayed| {
            let time = time.map(text);
            let said = Said { tmms: tmms.map(gps_ms), time: time.as_deref(), delayed };
            let moment = of_reception(arrived(own), said);
            assert_eq!((moment.boot_id, moment.boot_ns), ([1; 16], 5), "the boot clock is ours");
            (moment.source, moment.wall_us - now)
        };
        let (ntp, untrusted) = (TimeSource::Ntp, TimeSource::Untrusted);
        let far = now + 6 * MINUTE_US;
        let near = now - 4 * MINUTE_US;
        let old = now - 30 * MINUTE_US;
        let past = RELEASE_FLOOR_US - 1_000;

        assert_eq!(judge(ntp, None, None, false), (ntp, 0));
        assert_eq!(judge(untrusted, None, None, false), (untrusted, 0));
        // GPS first, even against a trusted clock, unless it is of another age.
        assert_eq!(judge(ntp, Some(far), Some(near), false), (TimeSource::Gps, 6 * MINUTE_US));
        assert_eq!(judge(ntp, Some(past), Some(near), false), (TimeSource::Forwarder, -4 * MINUTE_US));
        assert_eq!(judge(ntp, Some(HORIZON_US), None, false), (ntp, 0));
        // The forwarder's clock: near ours where ours is trusted, of this age where it is not.
        assert_eq!(judge(ntp, None, Some(far), false), (ntp, 0));
        assert_eq!(judge(ntp, None, Some(old), false), (ntp, 0));
        assert_eq!(judge(untrusted, None, Some(far), false), (TimeSource::Forwarder, 6 * MINUTE_US));
        assert_eq!(judge(untrusted, None, Some(past), false), (untrusted, 0));
        assert_eq!(judge(untrusted, None, Some(HORIZON_US), false), (untrusted, 0));
        // Held back: older is to be expected, newer is not.
        assert_eq!(judge(ntp, None, Some(old), true), (TimeSource::Forwarder, -30 * MINUTE_US));
        assert_eq!(judge(ntp, None, Some(far), true), (ntp, 0));
    }
}
