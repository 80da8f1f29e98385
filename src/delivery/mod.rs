//! Delivery: from the spool to the far end, one lane an integration.
//!
//! # What it owns
//!
//! A [`Lane`] is one integration's way through the log: which records are its, which of them are under way, when the next
//! attempt may start, and whether the far end is well (RULES S8). It knows no protocol. The integration drives it:
//!
//! ```text
//!   spool ──scan──> Lane ──next()──> Lease ──> integration ──> far end
//!     ^                                             │
//!     └──settle── Lane <──settle(lease, Outcome)────┘
//! ```
//!
//! so an MQTT window, HTTP requests in parallel and batches are the same to it.
//!
//! # Invariants
//!
//! - A record is settled as delivered only with a [`Receipt`](outcome::Receipt), which only an answer of the far end makes.
//! - At most 64 unsettled records are held, so that what is settled always fits 64 ranges (S4), and RAM does not grow with
//!   the backlog.
//! - With `order = "live-first"` what is heard after a reconnect goes first and what waited then with what is left, each
//!   oldest-first (S14): the order of a device holds within each of the two. What has waited, or is sent once more, goes at
//!   `replay_rate`; with the oldest first that holds up what is behind it.
//! - With [`Ordering::PerKey`] at most one record a device is under way; with [`Ordering::Stream`] records go out in the
//!   order of the log. Either way first attempts of a device leave in the order they were heard (S15).
//! - A transient failure stops new sends until the back-off ends, and then one attempt goes first, alone, until the far
//!   end has accepted something. Requests that were under way together fail as one, and a success among them does not end
//!   the wait that another one asked for. A refusal by the endpoint stops new sends until the next probe. Nothing is ever given up
//!   because of the link, and nothing waits for a human.
//! - A paused integration starts no attempt and no send; what is under way is finished (S8). What the operator purges is let
//!   go of at once.
//! - Lanes share nothing but the spool and the link-up signal; each runs on its integration's own thread.

mod backoff;
mod bulletin;
mod lane;
pub mod link;
pub mod outcome;
mod pace;
mod status;
mod unread;
mod window;

pub use crate::own_thread::{Stop, Stopper};
pub use backoff::Backoff;
pub use lane::{Lane, LaneSettings, Ordering};
pub use link::LinkUp;
pub use status::{LaneStatus, LastError, State};
pub use window::{Beside, Lease};
