//! RULES S22: what dates the records lies beside them, and a power cut that leaves the one leaves the other.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod spool_stage;

use std::sync::Arc;
use std::time::Duration;

use packhorse::clock::{Clock, ManualClock, Quality};
use packhorse::config::OnFull;
use packhorse::spool::{Acceptance, Backend, Settings, Spool};
use packhorse::uplink::Moment;
use spool_stage::disk::Disk;
use spool_stage::{NEVER, Two, append, two, until, uplink};

const HOUR: Duration = Duration::from_secs(3_600);

fn open(disk: &Disk, clock: &Arc<ManualClock>) -> Spool {
    let settings = Settings {
        path: "in-memory".into(),
        max_size: 64 << 20,
        max_age: NEVER,
        commit_window: NEVER,
        keep_delivered: Duration::ZERO,
        on_full: OnFull::DropOldest,
    };
    Spool::open(settings, &Backend::Custom(Arc::new(disk.clone())), clock.clone()).unwrap()
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
    let first = dark(0);
    first.step_wall(packhorse::clock::RELEASE_FLOOR_US);
    first.set_trusted(true);
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

    let third = dark(2);
    third.step_wall(packhorse::clock::RELEASE_FLOOR_US + 100 * 3_600_000_000);
    third.set_trusted(true);
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
    clock.step_wall(packhorse::clock::RELEASE_FLOOR_US);
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
