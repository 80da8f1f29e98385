//! The real binary is killed with SIGKILL while uplinks come in and go out, and nothing that it accepted is lost: at each
//! place that the program knows by name ([`points`]), and at any moment, again and again on one spool ([`cycles`]).
//!
//! [`world`] is a gateway with an HTTP source, a packet forwarder, an HTTP endpoint and a mosquitto; [`sent`] is who sends, and
//! remembers what was promised; [`seen`] looks at what each far end has got, and holds it against that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod cycles;
mod points;
mod seen;
mod sent;
#[path = "../support/mod.rs"]
mod support;
mod world;
