//! What an operator does over SSH, with the real binary: see what happened, steer, test, ask a doctor.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod seeing;
#[path = "../support/mod.rs"]
mod support;
mod verbs;
mod world;
