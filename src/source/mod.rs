//! Where uplinks come in.
//!
//! A source turns what arrives in its own protocol into [`Heard`] and hands it over; it knows no device, no flow and no
//! disk. Whatever comes from outside is refused here, counted by reason, or handed over bounded in size: nothing behind
//! this room sees a byte that was not looked at.
//!
//! Radio sources (`semtech-udp`) acknowledge at once and hand over a [`FromSource`]. Sources of network servers and scripts
//! (`mqtt`, `http`) acknowledge what was accepted, and hand over a [`server::FromServer`] that brings the answer back.

pub mod semtech_udp;
pub mod server;
mod tally;
mod time;

use std::sync::Arc;

use crate::uplink::Heard;

/// One uplink on its way out of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct FromSource {
    /// Name of the source, as in `[source.NAME]`.
    pub source: Arc<str>,
    /// What it heard.
    pub heard: Heard,
}
