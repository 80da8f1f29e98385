//! The local API: what the commands ask the running agent.
//!
//! HTTP/1.1 with JSON on a Unix socket of mode 0660: whoever may talk to it is decided by the file system. One request a
//! connection, at most 8 connections, heads of at most 2 KiB, 5 seconds to send one. It takes verbs, never config content
//! (RULES S35). [`api`] lists what it answers.
//!
//! Monitoring may ask by TCP, too, where `[metrics] listen` says so: [`listener`].

pub mod answer;
pub mod api;
pub mod client;
pub(crate) mod history;
pub mod listener;
mod metrics;
pub mod orders;
pub mod request;
pub mod server;
pub mod status;
pub mod watch;
