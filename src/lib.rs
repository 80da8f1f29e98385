//! Packhorse: a store-and-forward agent for LoRaWAN gateways.
//!
//! An uplink that was accepted is delivered to every integration it is routed to, or the operator can see which one was
//! not, and why. Its journey, and the room for each step:
//!
//! ```text
//!  packet forwarder, or a network server (MQTT, HTTP)
//!    v
//!  source     parses leniently; acknowledges a forwarder at once ──────> Heard
//!    v        and a network server when its uplink is safe
//!  lorawan    whose it is (MIC, counter), folds copies, makes its id ──> Uplink
//!    v
//!  flow       decides the routes (which integrations) ─────────────────> Uplink + routes
//!    v
//!  spool      one writer thread, group commit, bounded; the only memory there is
//!    v
//!  delivery   one lane an integration: lease, order, back off, settle
//!    v
//!  render     what is sent for an uplink: decrypted, decoded by a function, in a format: body, topic, URL
//!    v
//!  integration  HTTP, MQTT ──> the far end acknowledges ──> settled
//! ```
//!
//! `agent` builds the rooms from a `config` and runs them, `check` builds them without running them, `control` is how the
//! commands in `cli` ask a running agent. `dial` makes the connections of sources and integrations, `ingest` carries
//! uplinks from the door to the spool, `server_uplink` reads what network servers say of one. Arrows go down only: `uplink`
//! and `config` know nobody, the spool knows no integration, a source knows no delivery.

// What only some features use a small build leaves to the linker; the full one is checked.
#![cfg_attr(not(all(feature = "tools", feature = "mqtt5")), allow(dead_code))]

pub mod agent;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod crash_point;
pub mod delivery;
pub mod dial;
pub mod flow;
pub mod history;
pub mod ingest;
pub mod integration;
mod lenient_json;
pub mod lorawan;
pub mod metrics;
mod own_thread;
pub mod printable;
pub mod reload;
pub mod render;
pub mod server_uplink;
pub mod sightings;
pub mod simulator;
pub mod source;
pub mod spool;
pub mod uplink;
