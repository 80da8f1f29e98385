//! Devices that should be heard and are not (`expect_every`): one line in the log for each silence, a mark in `devices` and
//! `status`. The next frame ends it.

use std::sync::Arc;
use std::time::Duration;

use crate::control::status::StatusSource;
use crate::printable::printable;

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Looks for ever.
pub(super) async fn watch(status: Arc<StatusSource>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        look(&status);
    }
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
