//! Where uplinks come in.
//!
//! A source turns what arrives in its own protocol into [`Heard`] and hands it over; it knows no device, no flow and no
//! disk. Whatever comes from outside is refused here, counted by reason, or handed over bounded in size: nothing behind
//! this room sees a byte that was not looked at.

pub mod semtech_udp;

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
