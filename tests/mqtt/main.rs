//! The MQTT session: against a real mosquitto, and against a far end made of bytes that does what no broker should.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../lane/bench.rs"]
mod bench;
mod failover;
mod fake;
mod hostile;
mod mosquitto;
mod poison;
mod proxy;
mod reasons;
#[cfg(feature = "websocket")]
mod websocket;
mod world;
