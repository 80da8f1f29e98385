//! Tap mode (RULES S25): a real agent between packet forwarders and other servers of the protocol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod downlinks;
mod hostile;
mod hotspot;
mod passing_on;
#[path = "../support/mod.rs"]
mod support;
mod world;
