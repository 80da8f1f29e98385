//! Devices with keys, end to end: frames of sensors go in by UDP, and what arrives at the far end says whose they are and
//! what is in them. With the real binary.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod copies;
mod directory;
mod failover;
mod flows;
mod overdue;
mod sessions;
#[path = "../support/mod.rs"]
mod support;
