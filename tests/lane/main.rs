//! Lanes on a real spool. Time is tokio's, paused: a wait takes exactly as long as the lane asked for, and no test sleeps.
//! The spool's writer has its own thread and real time; its view is awaited.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod bench;
mod beside;
mod live_first;
mod model;
mod operator;
mod order;
mod reopen;
mod retry;
mod variants;
