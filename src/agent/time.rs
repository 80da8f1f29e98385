//! When the gateway learns what time it is: from NTP, which sets the clock, or from the concentrator's GPS. What waits is
//! then dated by it (RULES S22, see [`Boots`](crate::clock::Boots)), so it goes to the disk at once: the power may fail before
//! the next uplink. Integrations that a wrong clock has kept from connecting try again.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{By, Clock, Offset, rfc3339};
use crate::delivery::LinkUp;
use crate::spool::Appender;

/// How often is looked. Whoever dates an uplink in between looks for himself.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Looks for ever. The spool, which has restored what earlier boots knew, is open.
pub(super) async fn watch(clock: Arc<dyn Clock>, spool: Appender, link_up: LinkUp) {
    let mut known = clock.boots().known(clock.boot_id());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        clock.look();
        let now = clock.boots().known(clock.boot_id());
        if now == known {
            continue;
        }
        known = now;
        say(now, &*clock);
        link_up.signal();
        // The spool looks for itself when it is woken; one that is closed writes it on its way out.
        let _ = spool.append(Vec::new(), Vec::new()).await;
    }
}

fn say(now: Option<Offset>, clock: &dyn Clock) {
    let by = match now.map(|offset| offset.by) {
        Some(By::Gps) => "GPS",
        _ => "its clock, which is trusted now",
    };
    let time = rfc3339(clock.now_us()).unwrap_or_default();
    log::info!("time: by {by}, it is {time}; uplinks of this boot that wait are dated by that");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::clock::ManualClock;
    use crate::config::OnFull;
    use crate::integration::testing::uplink;
    use crate::spool::{Backend, RouteName, Routed, Settings, Spool};
    use crate::uplink::Uplink;

    /// RULES S22: once the time is known it is on the disk, and who could not connect without it tries again.
    #[tokio::test(start_paused = true)]
    async fn the_time_is_noticed_forced_to_the_disk_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            path: folder.path().join("spool.redb"),
            max_size: 16 << 20,
            max_age: Duration::MAX,
            commit_window: Duration::from_secs(86_400),
            keep_delivered: Duration::ZERO,
            on_full: OnFull::DropOldest,
        };
        let clock = Arc::new(ManualClock::new());
        let good_us = clock.wall_us();
        clock.step_wall(-good_us);
        clock.set_trusted(false);
        let spool = Spool::open(settings, &Backend::File, clock.clone()).unwrap();
        let name = RouteName { flow: String::new(), kind: "http".into(), name: "api".into() };
        let routes = vec![spool.routes(vec![name]).await.unwrap()[0].0];
        let heard = Uplink { at: clock.now(), ..uplink() };
        spool.appender().append(vec![Routed { uplink: heard, routes }], Vec::new()).await.unwrap();
        let mut view = spool.view();
        let before = view.wait_for(|view| view.records == 1).await.unwrap().syncs;

        let mut link_up = LinkUp::new();
        let watching = tokio::spawn(watch(clock.clone(), spool.appender(), link_up.clone()));
        tokio::task::yield_now().await;
        clock.step_wall(good_us);
        clock.set_trusted(true);
        link_up.heard().await;
        assert!(view.wait_for(|view| view.syncs > before).await.is_ok());
        watching.abort();
    }
}
