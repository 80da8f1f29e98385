//! The local API: what the commands ask the running agent.
//!
//! HTTP/1.1 with JSON on a Unix socket of mode 0660: whoever may talk to it is decided by the file system. One request a
//! connection, at most 8 connections, heads of at most 2 KiB, 5 seconds to send one. It takes verbs, never config content
//! (RULES S35). This version answers `GET /status`.

pub mod client;
pub mod orders;
pub mod server;
pub mod status;
