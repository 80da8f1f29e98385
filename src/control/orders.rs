//! Orders that change the whole agent, and who answers them: the room that owns the config files (RULES S9, S35). The API
//! passes the verb on and the answer back; it takes no config content.

use std::time::Duration;

use tokio::sync::oneshot;

/// The shortest and longest time to confirm in.
pub const CONFIRM_WITHIN: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(86_400);
/// The usual one.
pub const CONFIRM_USUALLY: Duration = Duration::from_secs(120);

/// What is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Read the config again and become what it says.
    Reload,
    /// Become what the candidate in the state folder says, for so long unless confirmed.
    Apply {
        /// Until when it must be confirmed.
        confirm_within: Duration,
    },
    /// The candidate has become the config: keep it.
    Confirm,
}

/// An order on its way.
#[derive(Debug)]
pub struct Asked {
    /// The order.
    pub order: Order,
    /// Gets what came of it, or why nothing did: one line or several, for people.
    pub reply: oneshot::Sender<Result<String, String>>,
}
