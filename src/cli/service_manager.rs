//! What systemd is told, and procd and sysvinit do without: how the start goes, that the main thread lives, that it stops.
//!
//! ```text
//! start     EXTEND_TIMEOUT_USEC, again and again: a spool of an unclean stop is read through, on an SD card that takes long
//! ready     READY=1: the spool is open, or one in memory stands in for a file that can't be (RULES S3)
//! running   WATCHDOG=1 at half the time that the unit gives; a main thread that hangs gets the agent restarted
//! stop      STOPPING=1
//! ```
//!
//! Without `NOTIFY_SOCKET` in the environment nothing is sent and nothing wakes up.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How often a start that is under way says so, and how much more time it asks for: enough for three words to be lost.
const BEAT: Duration = Duration::from_secs(10);
const MORE_US: u32 = 40_000_000;

/// The service manager's ear.
#[derive(Debug)]
pub(super) struct ServiceManager {
    started: watch::Sender<bool>,
    beat: Option<AbortHandle>,
}

impl ServiceManager {
    /// Begins to talk, if anybody listens. Call it on the main runtime: that is whose life is shown.
    pub(super) fn talk() -> ServiceManager {
        let (started, is_started) = watch::channel(false);
        let listens = std::env::var_os("NOTIFY_SOCKET").is_some();
        let beat =
            listens.then(|| tokio::spawn(beat(is_started, sd_notify::watchdog_enabled())).abort_handle());
        ServiceManager { started, beat }
    }

    /// The agent has started.
    pub(super) fn ready(&self) {
        notify(&[NotifyState::Ready, NotifyState::Status("running")]);
        self.started.send_replace(true);
    }

    /// The agent was told to stop.
    pub(super) fn stopping() {
        notify(&[NotifyState::Stopping, NotifyState::Status("stopping: finishing what is under way")]);
    }
}

impl Drop for ServiceManager {
    fn drop(&mut self) {
        if let Some(beat) = &self.beat {
            beat.abort();
        }
    }
}

/// Asks for more time until `is_started`, and shows the watchdog that this thread lives.
async fn beat(mut is_started: watch::Receiver<bool>, watchdog: Option<Duration>) {
    let half = watchdog.map(|time| time / 2);
    let every = half.map_or(BEAT, |half| half.min(BEAT));
    while !*is_started.borrow_and_update() {
        notify(&[
            NotifyState::ExtendTimeoutUsec(MORE_US),
            NotifyState::Watchdog,
            NotifyState::Status("opening the spool"),
        ]);
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            // Its other end goes with the agent, and this task before that.
            _ = is_started.changed() => {}
        }
    }
    let Some(half) = half else { return };
    loop {
        notify(&[NotifyState::Watchdog]);
        tokio::time::sleep(half).await;
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::debug!("the service manager can't be told: {error}");
    }
}
