//! Devices that should be heard and are not (`expect_every`): one line in the log for each silence, a mark in `devices` and
//! `status`. The next frame ends it.

use std::sync::Arc;
use std::time::Duration;

use crate::control::status::StatusSource;
use crate::printable::printable;

/// How often is looked: as often as the most talkative device should be heard, but no more often and no less often than this.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_secs(1);
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(30);

/// Looks for ever.
pub(super) async fn watch(status: Arc<StatusSource>) {
    loop {
        tokio::time::sleep(pause(&status)).await;
        look(&status);
    }
}

fn pause(status: &StatusSource) -> Duration {
    // Nobody is expected before the spool is open.
    let Some(delivering) = status.delivering() else { return LOOK_AT_MOST_EVERY };
    let shortest = delivering.expected.iter().map(|(_, every)| *every).min();
    shortest.unwrap_or(LOOK_AT_LEAST_EVERY).clamp(LOOK_AT_MOST_EVERY, LOOK_AT_LEAST_EVERY)
}

fn look(status: &StatusSource) {
    let Some(delivering) = status.delivering() else { return };
    let expected = delivering.expected.iter().map(|(name, every)| (name.as_str(), *every));
    for (name, silent) in status.sightings.overdue(expected, status.started_ns, status.clock.boot_ns()) {
        log::warn!(
            "{} is overdue: not heard for {} min; `packhorse devices` shows how the others are heard",
            printable(name),
            silent.as_secs() / 60
        );
    }
}
