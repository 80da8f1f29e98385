//! Every field of an integration, and every way in which one fails, with the real binary against a real HTTP(S) server and a
//! real mosquitto: what an operator may write into the config, and what he is told. The tables are the point: one line a
//! field or a failure.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../../src/integration/testing/authority.rs"]
mod authority;
#[path = "../lane/bench.rs"]
mod bench;
mod brokers;
#[path = "../../src/integration/testing/endpoint.rs"]
mod endpoint;
mod failures;
mod far_ends;
mod http_fields;
mod isolation;
mod mqtt_fields;
#[path = "../support/mod.rs"]
mod support;
mod tls_proxy;
mod world;

use authority::{Authority, Leaf};
