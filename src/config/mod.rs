//! Configuration: from the bytes of `packhorse.toml` to a [`Config`] that every room can trust, or to a list of
//! everything that is wrong with it.
//!
//! # What this room owns
//!
//! The shape of the file: which keys exist, of which type, within which bounds, with which default; the secrets, device
//! files and names that it refers to. It knows no other room. What only a room can judge (a template, a certificate, a
//! script) passes through as a [`Spot`], so that the room can name the place too. Certificates, scripts and the spool
//! are not opened here; secrets and device files are.
//!
//! # The life of a file
//!
//! ```text
//! bytes ── load: bounded, UTF-8 ──> text ── toml, error-recovering ──> spanned tree + syntax errors
//!   tree ── reader: a Table hands out its keys one by one, remembers them, reports what nobody asked for
//!        ── one file per group of tables (gateway, source, device, function, integration/*, flow) ──> structs
//!   device_files ── the same reader, `[[device]]` only ──> more devices
//!   structs ── cross: does every reference lead somewhere, does anything stand twice ──> Config + warnings
//! ```
//!
//! # Invariants
//!
//! - Every problem of all files is reported in one go, sorted by place, each with file, line and column (in characters)
//!   and the dotted key. A struct read from a table with an error in it serves further checks and never leaves the room.
//! - A syntax error does not breed others: on its line nothing else is reported, and where the tree may have lost
//!   something, nothing is called missing.
//! - No text of a problem and no `Debug` of a configuration holds a secret: [`Secret`] prints as `[secret]`, `user:pass@`
//!   leaves a URL before the URL is kept (RULES S38), and a message about a URL or a secret never quotes it.
//! - No input panics: not the file, not a device file, not a secret, not the environment.
//!
//! # What it refuses
//!
//! Unknown keys (with the nearest known one), placeholders where they could send uplinks elsewhere (RULES S36), an HTTP
//! listener off loopback without a token, two listeners on one address, two MQTT connections with one client id, names
//! that stand twice, references that lead nowhere. It warns of what works but should be known: listeners off loopback
//! (DESIGN section 4, invariant 6), secrets written inline or readable by everybody, credentials over a plain connection.
//!
//! Relative paths start at the folder of `packhorse.toml`, in device files too, so that a device can move between files.

mod address;
mod cross;
mod device;
mod device_files;
mod flow;
mod function;
mod gateway;
mod integration;
mod load;
mod problem;
mod reader;
mod schema;
mod secret;
mod source;
mod suggest;
mod text;
mod typed;
mod units;

pub use load::Loaded;
pub use problem::{Place, Problem, Severity};
pub use schema::*;
pub use secret::Secret;
pub(crate) use suggest::nearest;
pub(crate) use units::duration;
