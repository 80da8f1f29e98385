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
