//! RULES S22: what dates the records lies beside them, and a power cut that leaves the one leaves the other.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod spool_stage;

use std::sync::Arc;
use std::time::Duration;

use packhorse::clock::{Clock, ManualClock, Quality, RELEASE_FLOOR_US};
use packhorse::config::OnFull;
use packhorse::spool::{Acceptance, Backend, Settings, Spool};
use packhorse::uplink::Moment;
use spool_stage::disk::Disk;
use spool_stage::{NEVER, Two, append, two, until, uplink};

const HOUR: Duration = Duration::from_secs(3_600);

fn settings() -> Settings {
    Settings {
        path: "in-memory".into(),
        max_size: 64 << 20,
        max_age: NEVER,
        commit_window: NEVER,
        keep_delivered: Duration::ZERO,
        on_full: OnFull::DropOldest,
    }
}

fn open(disk: &Disk, clock: &Arc<ManualClock>) -> Spool {
    Spool::open(settings(), &Backend::Custom(Arc::new(disk.clone())), clock.clone()).unwrap()
}

/// A clock that is right, so many boots after the first and so many hours after the release of this program.
fn good(boots: usize, hours: i64) -> Arc<ManualClock> {
    let clock = dark(boots);
    clock.step_wall(RELEASE_FLOOR_US + hours * 3_600_000_000);
    clock.set_trusted(true);
    clock
}

/// A clock in 1970, so many boots after the first.
fn dark(boots: usize) -> Arc<ManualClock> {
    let clock = ManualClock::new();
    (0..boots).for_each(|_| clock.reboot());
    clock.step_wall(-clock.wall_us());
    clock.set_trusted(false);
    Arc::new(clock)
}

/// Hears an uplink and forces it to the disk.
async fn hear(spool: &Spool, two: &Two, clock: &ManualClock) -> Moment {
    let heard = uplink(1, 24, clock);
    let at = heard.at;
    append(&spool.appender(), &two.routes, [heard]).await;
    force(spool).await;
    at
}

/// Waits until everything is on the disk.
async fn force(spool: &Spool) {
    let safe = spool.appender().append_durable(Vec::new(), Vec::new()).await.unwrap();
    assert_eq!(safe.wait().await, Ok(Acceptance::Full));
}

#[tokio::test]
async fn the_boot_of_a_record_is_in_the_commit_that_the_record_is_in() {
    let disk = Disk::new(1);
    let first = good(0, 0);
    let spool = open(&disk, &first);
    let made = two(&spool).await;
    hear(&spool, &made, &first).await;
    disk.power_cycle();
    drop(spool);

    let second = dark(1);
    let spool = open(&disk, &second);
    let at = hear(&spool, &two(&spool).await, &second).await;
    assert_eq!(second.date(at).quality, Quality::Untrusted);
    disk.power_cycle();
    drop(spool);

    let third = good(2, 100);
    let spool = open(&disk, &third);
    let dated = third.date(at);
    assert_eq!(dated.quality, Quality::Bounds, "{dated:?}");
    spool.close();
}

#[tokio::test]
async fn what_is_learnt_about_the_time_is_forced_to_the_disk() {
    let disk = Disk::new(2);
    let clock = dark(0);
    let spool = open(&disk, &clock);
    let made = two(&spool).await;
    let at = hear(&spool, &made, &clock).await;
    clock.advance(HOUR);
    clock.step_wall(RELEASE_FLOOR_US);
    clock.set_trusted(true);
    clock.look();
    let known = clock.date(at);
    assert_eq!(known.quality, Quality::Corrected);
    let before = spool.view().borrow().syncs;
    spool.appender().append(Vec::new(), Vec::new()).await.unwrap();
    until(&mut spool.view(), "a commit", |view| view.syncs == before + 1).await;
    disk.power_cycle();
    drop(spool);

    let next = dark(1);
    let spool = open(&disk, &next);
    assert_eq!(next.date(at), known, "the next boot knows it, and need not know the time of its own");
    spool.close();
}

/// RULES S30: nothing is forced to the disk, and no round made, for what the clocks of a boot say.
#[tokio::test]
async fn it_costs_no_commit_of_its_own() {
    let disk = Disk::new(3);
    let clock = Arc::new(ManualClock::new());
    let spool = open(&disk, &clock);
    let made = two(&spool).await;
    let syncs = || spool.view().borrow().syncs;
    let before = syncs();
    for n in 0..10 {
        clock.advance(HOUR);
        append(&spool.appender(), &made.routes, [uplink(n, 24, &*clock)]).await;
        until(&mut spool.view(), "the uplink", |view| view.records == n + 1).await;
    }
    assert_eq!(syncs(), before);
    assert!(spool.notes().is_empty(), "it is nobody else's note");
    spool.close();
    let spool = open(&disk, &clock);
    assert!(spool.notes().is_empty());
    spool.close();
}

/// RULES S3: a spool that starts without its file knows nothing of earlier boots until there is one; then all of it counts.
#[tokio::test]
async fn what_earlier_boots_knew_is_found_with_the_file() {
    let disk = Disk::new(4);
    let first = dark(0);
    let spool = open(&disk, &first);
    let made = two(&spool).await;
    let early = hear(&spool, &made, &first).await;
    first.step_wall(RELEASE_FLOOR_US);
    first.set_trusted(true);
    spool.close();

    disk.break_now();
    let second = dark(1);
    let backend = Backend::Custom(Arc::new(disk.clone()));
    let spool = Spool::open_or_go_without(settings(), &backend, second.clone()).unwrap();
    let made = two(&spool).await;
    let late = uplink(2, 24, &*second);
    let at = late.at;
    append(&spool.appender(), &made.routes, [late]).await;
    assert_eq!(second.date(early).quality, Quality::Untrusted);
    disk.heal();
    until(&mut spool.view(), "the file", |view| view.trouble.is_none()).await;
    let known = second.date(early);
    assert_eq!(known.quality, Quality::Corrected);
    disk.power_cycle();
    drop(spool);

    let third = good(2, 100);
    let spool = open(&disk, &third);
    assert_eq!(third.date(early), known);
    assert_eq!(third.date(at).quality, Quality::Bounds, "both boots are in the file");
    spool.close();
}
