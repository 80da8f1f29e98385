//! RULES S22, one boot after the other. Times are told in seconds after the release of this program.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use proptest::prelude::*;

use super::*;

const S: i64 = 1_000_000;
const HOUR: i64 = 3_600;

fn wall(seconds: i64) -> i64 {
    RELEASE_FLOOR_US + seconds * S
}

fn ns(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap() * 1_000_000_000
}

fn id(boot: u8) -> [u8; 16] {
    [boot; 16]
}

/// A record of a boot that showed `wall_us` when its boot clock showed so many seconds.
fn at(boot: u8, seconds: i64, wall_us: i64, source: TimeSource) -> Moment {
    Moment { boot_id: id(boot), boot_ns: ns(seconds), wall_us, source }
}

/// One that was heard under a clock that stands in 1970.
fn heard(boot: u8, seconds: i64) -> Moment {
    at(boot, seconds, seconds * S, TimeSource::Untrusted)
}

/// A boot that goes on for so long without learning the time.
fn dark(boots: &Boots, boot: u8, seconds: i64) {
    boots.see(id(boot), ns(seconds), None);
}

/// A boot that began at `began` and has gone on for so long.
fn lit(boots: &Boots, boot: u8, seconds: i64, began: i64, by: By) {
    boots.see(id(boot), ns(seconds), Some(Offset { us: wall(began), by }));
}

fn corrected(seconds: i64) -> Dated {
    Dated { wall_us: wall(seconds), quality: Quality::Corrected, bounds: None }
}

/// The seconds of what lies within bounds: shown, after, before.
fn bounds_of(dated: Dated) -> (i64, i64, i64) {
    assert_eq!(dated.quality, Quality::Bounds);
    let Bounds { after_us, before_us } = dated.bounds.unwrap();
    let seconds = |us: i64| (us - RELEASE_FLOOR_US).div_euclid(S);
    (seconds(dated.wall_us), seconds(after_us), seconds(before_us))
}

#[test]
fn what_waits_is_corrected_once_the_clock_is_trusted() {
    for by in [By::Clock, By::Gps] {
        let boots = Boots::default();
        dark(&boots, 1, 100);
        assert_eq!(boots.date(heard(1, 60)), Dated::as_heard(heard(1, 60)));
        lit(&boots, 1, 200, 1_000, by);
        assert_eq!(boots.date(heard(1, 60)), corrected(1_060));
        assert_eq!(boots.date(heard(1, 250)), corrected(1_250), "also what is heard after that");
        assert_eq!(boots.date(heard(2, 60)).quality, Quality::Untrusted, "another boot is another matter");
    }
}

#[test]
fn what_was_right_stays_and_what_was_wrongly_trusted_is_corrected() {
    let boots = Boots::default();
    lit(&boots, 1, 200, 1_000, By::Clock);
    // Slewed by a second since then.
    let right = at(1, 60, wall(1_061), TimeSource::Ntp);
    assert_eq!(boots.date(right), Dated::as_heard(right));
    // The clock came up where the last shutdown had left it.
    let wrong = at(1, 60, wall(1_060 - 5 * HOUR), TimeSource::Ntp);
    assert_eq!(boots.date(wrong), corrected(1_060));
    // Others said it, and it was plausible.
    for source in [TimeSource::Gps, TimeSource::Forwarder] {
        let said = at(1, 60, wall(500), source);
        assert_eq!(boots.date(said), Dated::as_heard(said));
    }
}

#[test]
fn a_plausible_clock_is_better_than_one_in_1970_and_is_no_more_than_a_guess() {
    let boots = Boots::default();
    lit(&boots, 1, 200, 1_000, By::Guess);
    let guessed = Dated { wall_us: wall(1_060), quality: Quality::Untrusted, bounds: None };
    assert_eq!(boots.date(heard(1, 60)), guessed);
    let trusted = at(1, 60, wall(60), TimeSource::Ntp);
    assert_eq!(boots.date(trusted), Dated::as_heard(trusted), "no guess moves what was trusted");
    assert_eq!((boots.known(id(1)), boots.arrived_by(heard(1, 60))), (None, None));
    // One that stands before what is known to have been is no guess at all.
    let later = Boots::default();
    lit(&later, 1, 200, 1_000, By::Clock);
    lit(&later, 2, 50, 100, By::Guess);
    assert_eq!(later.date(heard(2, 10)), Dated::as_heard(heard(2, 10)));
}

#[test]
fn a_higher_rank_overrules_and_within_a_rank_the_last_word_counts() {
    let boots = Boots::default();
    let says = |began: i64, by: By| {
        lit(&boots, 1, 200, began, by);
        boots.date(heard(1, 0)).wall_us
    };
    assert_eq!(says(1_000, By::Clock), wall(1_000));
    assert_eq!(says(9_000, By::Guess), wall(1_000));
    assert_eq!(says(5_000, By::Clock), wall(5_000), "stepped, and trusted again");
    assert_eq!(says(5_001, By::Gps), wall(5_000), "they agree, and NTP is the more exact");
    assert_eq!(says(1_000, By::Gps), wall(1_000));
    assert_eq!(says(5_000, By::Clock), wall(1_000));
    assert_eq!(says(1_001, By::Gps), wall(1_000), "frames take their time");
    assert_eq!(says(1_003, By::Gps), wall(1_003));
}

#[test]
fn the_same_bytes_are_sent_again_while_nothing_was_learnt() {
    let boots = Boots::default();
    boots.see(id(1), ns(10), Some(Offset { us: wall(0), by: By::Clock }));
    let (dated, revision) = (boots.date(heard(1, 5)), boots.revision());
    boots.see(id(1), ns(20), Some(Offset { us: wall(0) + 90_000, by: By::Clock }));
    assert_eq!((boots.date(heard(1, 5)), boots.revision()), (dated, revision));
    boots.see(id(1), ns(30), Some(Offset { us: wall(0) + 110_000, by: By::Clock }));
    assert_eq!(boots.date(heard(1, 5)).wall_us, dated.wall_us + 110_000);
    assert!(boots.revision() > revision);
}

#[test]
fn gps_counts_once_two_frames_agree() {
    let boots = Boots::default();
    let frame = |seconds, began: i64| boots.hear_gps(at(1, seconds, wall(began + seconds), TimeSource::Gps));
    let began = || boots.known(id(1)).map(|offset| (offset.us - RELEASE_FLOOR_US) / S);
    frame(10, 1_000);
    assert_eq!(began(), None);
    frame(20, 1_001);
    assert_eq!(began(), Some(1_001));
    frame(30, 90_000);
    frame(40, 1_001);
    assert_eq!(began(), Some(1_001), "one frame moves nothing");
    frame(50, 2_000);
    frame(60, 2_000);
    assert_eq!(began(), Some(2_000));
}

#[test]
fn a_boot_that_never_learnt_the_time_lies_between_its_neighbours() {
    let boots = Boots::default();
    lit(&boots, 1, HOUR, 0, By::Clock);
    dark(&boots, 2, 2 * HOUR);
    let first = heard(2, HOUR);
    assert_eq!(boots.date(first).quality, Quality::Untrusted, "nobody knows yet when it ended");
    lit(&boots, 3, 60, 10 * HOUR, By::Clock);
    // Ten hours, of which two hours of the boot are known: it began between 1:00 and 8:00. The unsteered hour may have
    // been 2 s shorter.
    let (shown, after, before) = bounds_of(boots.date(first));
    assert_eq!((after, before), (2 * HOUR - 2, 9 * HOUR + 1));
    assert_eq!(shown, after, "a clock in 1970 says nothing: not before this");
    let ahead = at(2, HOUR, wall(1_000 * HOUR), TimeSource::Untrusted);
    assert_eq!(bounds_of(boots.date(ahead)).0, before, "one that was ahead: not after this");
    let within = at(2, HOUR, wall(4 * HOUR), TimeSource::Untrusted);
    assert_eq!(bounds_of(boots.date(within)).0, 4 * HOUR, "one that may have been right is believed");
}

#[test]
fn two_boots_without_the_time_are_bounded_by_each_other() {
    let boots = Boots::default();
    dark(&boots, 1, HOUR);
    dark(&boots, 2, 2 * HOUR);
    lit(&boots, 3, 60, 10 * HOUR, By::Gps);
    // The release of the program is the earliest that anybody knows of.
    let (_, after, before) = bounds_of(boots.date(heard(1, 0)));
    assert_eq!((after, before), (0, 7 * HOUR + 5));
    let (_, after, before) = bounds_of(boots.date(heard(2, 0)));
    assert_eq!((after, before), (HOUR - 2, 8 * HOUR + 3));
    let order: Vec<i64> = [heard(1, 0), heard(1, 3_000), heard(2, 0), heard(2, 7_000)]
        .map(|at| boots.date(at).wall_us)
        .to_vec();
    assert!(order.is_sorted(), "what was heard later is shown later: {order:?}");
}

#[test]
fn a_guess_within_bounds_is_shown() {
    let boots = Boots::default();
    lit(&boots, 1, HOUR, 0, By::Clock);
    // NTP had set it, and the power failed before it was trusted.
    lit(&boots, 2, HOUR, 4 * HOUR, By::Guess);
    lit(&boots, 3, 60, 10 * HOUR, By::Clock);
    assert_eq!(bounds_of(boots.date(heard(2, 60))).0, 4 * HOUR + 60);
}

#[test]
fn bounds_that_contradict_each_other_are_none() {
    let boots = Boots::default();
    lit(&boots, 1, HOUR, 100 * HOUR, By::Clock);
    dark(&boots, 2, HOUR);
    lit(&boots, 3, 60, 10 * HOUR, By::Clock);
    assert_eq!(boots.date(heard(2, 60)), Dated::as_heard(heard(2, 60)));
}

#[test]
fn it_is_later_than_the_last_good_time() {
    let boots = Boots::default();
    assert_eq!(
        boots.not_before(id(1), ns(60)),
        wall(60) - 30_000,
        "the unsteered minute may have been shorter"
    );
    lit(&boots, 1, HOUR, 0, By::Clock);
    dark(&boots, 2, HOUR);
    dark(&boots, 3, 0);
    assert_eq!(boots.not_before(id(3), ns(0)), wall(2 * HOUR) - 2 * S + 200_000);
    assert!(boots.not_before(id(3), ns(HOUR)) >= wall(3 * HOUR - 4));
}

/// S2: ages are taken from the nearest two of what was trusted.
#[test]
fn a_step_makes_nothing_old() {
    let boots = Boots::default();
    lit(&boots, 1, 10, 0, By::Clock);
    let arrived = || boots.arrived_by(heard(1, 5)).unwrap();
    let now = || boots.now_at_least(id(1), ns(5)).unwrap();
    assert_eq!((now(), arrived()), (wall(5), wall(5)));
    lit(&boots, 1, 20, 1_000, By::Clock);
    lit(&boots, 1, 30, -1_000, By::Clock);
    assert_eq!((now(), arrived()), (wall(-995), wall(1_005)));
    // GPS settles the matter.
    lit(&boots, 1, 40, 500, By::Gps);
    assert_eq!((now(), arrived()), (wall(505), wall(505)));
}

#[test]
fn the_newest_boots_are_kept() {
    let boots = Boots::default();
    for boot in 0..100 {
        lit(&boots, boot, 60, i64::from(boot) * 100, By::Clock);
    }
    assert_eq!(boots.known(id(67)), None);
    assert_eq!(boots.known(id(68)).unwrap().us, wall(6_800));
    assert!(boots.to_bytes().len() < 2_048, "{}", boots.to_bytes().len());
}

#[test]
fn what_was_stored_is_taken_up_below_what_was_learnt_since() {
    let before = Boots::default();
    lit(&before, 1, HOUR, 0, By::Clock);
    dark(&before, 2, 60);
    let stored = before.to_bytes();

    let same_boot = Boots::default();
    lit(&same_boot, 2, 100, 5_000, By::Gps);
    same_boot.restore(&stored);
    assert_eq!(same_boot.date(heard(2, 10)), corrected(5_010));
    assert_eq!(same_boot.date(heard(1, 10)), corrected(10));
    assert_eq!(same_boot.not_before(id(2), 0), wall(HOUR), "the stored entry knows more of its past");

    let next_boot = Boots::default();
    dark(&next_boot, 3, 5);
    next_boot.restore(&stored);
    lit(&next_boot, 3, 10, 3 * HOUR, By::Clock);
    assert_eq!(bounds_of(next_boot.date(heard(2, 10))).1, HOUR + 9);
}

#[test]
fn what_cannot_be_read_counts_as_none() {
    let boots = Boots::default();
    lit(&boots, 1, 60, 0, By::Clock);
    let kept = boots.to_bytes();
    let (mut newer, mut cut) = (kept.clone(), kept.clone());
    newer[0] = 2;
    cut.pop();
    for stored in [Vec::new(), vec![FORMAT], newer, cut] {
        boots.restore(&stored);
        assert_eq!(boots.to_bytes(), kept);
    }
}

/// The bytes of format 1, frozen: records in the field are dated by them.
#[test]
fn format_1_is_frozen() {
    let boots = Boots::default();
    dark(&boots, 1, 60);
    lit(&boots, 2, 60, 100, By::Guess);
    lit(&boots, 3, 60, 1_000, By::Clock);
    lit(&boots, 4, 60, 2_000, By::Gps);
    lit(&boots, 4, 60, 3_000, By::Gps);
    assert_eq!(data_encoding::HEXLOWER.encode(&boots.to_bytes()), GOLDEN_V1);
    let read = Boots::default();
    read.restore(&data_encoding::HEXLOWER.decode(GOLDEN_V1.as_bytes()).unwrap());
    assert_eq!(read.date(heard(3, 10)), corrected(1_010));
    assert_eq!(read.arrived_by(heard(4, 0)), Some(wall(3_000)));
}

const GOLDEN_V1: &str = concat!(
    "010401010101010101010101010101010101808092def6caaf06809c9c39000002020202020202020202020202020202",
    "a0c7aa97f7caaf06809c9c39018084c1bdf7caaf06000003030303030303030303030303030303c08ec3d0f7caaf0680",
    "9c9c390180a8e897fecaaf0601000404040404040404040404040404040480c484d1fecaaf06809c9c390180f8948b8d",
    "cbaf06020180d0bed185cbaf0680f8948b8dcbaf06",
);

proptest! {
    #[test]
    fn hostile_bytes_never_panic(
        body in proptest::collection::vec(any::<u8>(), 0..300),
        numbers in proptest::collection::vec((0u8..4, any::<i64>(), any::<i64>(), any::<Option<i64>>()), 0..6),
        boot_ns in any::<u64>(),
    ) {
        let table = numbers.into_iter().map(|(boot, not_before_us, seen_us, us)| Boot {
            id: id(boot),
            not_before_us,
            seen_us,
            offset: us.map(|us| Offset { us, by: [By::Guess, By::Clock, By::Gps][usize::from(boot % 3)] }),
            disputed: us.map(|us| (us, not_before_us)),
        });
        let table = postcard::to_extend(&table.collect::<Vec<_>>(), vec![FORMAT]).unwrap();
        for stored in [[vec![FORMAT], body].concat(), table] {
            let boots = Boots::default();
            boots.restore(&stored);
            boots.see(id(0), boot_ns, Some(Offset { us: i64::MIN, by: By::Clock }));
            for boot in 0..4 {
                let at = Moment { boot_id: id(boot), boot_ns, wall_us: i64::MAX, source: TimeSource::Untrusted };
                boots.hear_gps(at);
                let dated = boots.date(at);
                prop_assert_eq!(dated.bounds.is_some(), dated.quality == Quality::Bounds);
                let _ = (boots.arrived_by(at), boots.not_before(id(boot), boot_ns));
            }
        }
    }
}
