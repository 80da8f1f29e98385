//! The Semtech UDP source (GWMP): packet forwarders send their uplinks here.
//!
//! The room owns one UDP socket and one thread a `[source.NAME]`. [`codec`] says what a datagram means and does no I/O;
//! [`Listener`] is the thread around it. [`tap`] passes everything on to other servers (`forward_to`), on the same thread.
//!
//! # Who acknowledges what
//!
//! ```text
//!  packet forwarder              listener thread                 hand-over queue        rest of the agent
//!        |                             |                                |                      |
//!        |--- 1. PUSH_DATA ----------->|                                |                      |
//!        |                             | 2. sender allowed? header?     |                      |
//!        |<-- 3. PUSH_ACK -------------|                                |                      |
//!        |                             | (tap: passed on, if configured)|                      |
//!        |                             | 4. JSON, element by element    |                      |
//!        |                             | 5. rate limit of this gateway  |                      |
//!        |                             |--- 6. try_send(FromSource) --->|                      |
//!        |                             |                                |--- 7. recv --------->| commits
//!        |--- 8. PULL_DATA ----------->|                                |                      |
//!        |<-- 9. PULL_ACK -------------|                                |                      |
//!        |--- TX_ACK ----------------->| passed on by the tap, else read|                      |
//!        |                             | and not answered               |                      |
//! ```
//!
//! PUSH_ACK (3) means: your datagram reached the agent. It is feedback about the link, which a forwarder counts in `ackr`,
//! and no promise about the uplinks in it. A forwarder waits 100 ms for it and never sends again, so holding it back until
//! (7) would protect nothing and make the link look bad; it goes out before the JSON is looked at, for bad JSON too
//! (RULES S6). What makes an uplink *accepted* is the commit behind (7).
//!
//! # Invariants
//!
//! - The thread waits for nothing but its sockets. A full hand-over queue costs the uplink, counted `queue-full`, never a
//!   PUSH_ACK (DESIGN section 2).
//! - Nothing in a datagram ends the thread: it is handed over, or refused and counted.
//! - Everything is bounded (RULES S32): elements a datagram, bytes a frame, uplinks a second and gateway EUI, EUIs that
//!   are remembered.
//!
//! # Refused, and counted by reason
//!
//! A sender outside `allow` (and not answered); a datagram that is not GWMP version 1 or 2 from a forwarder (not
//! answered); JSON that ends early (what stood before the break is kept); elements without readable data; frames whose
//! checksum failed; what exceeds the bounds.

pub mod codec;
mod listener;
mod rate;
mod readiness;
mod tap;

pub use listener::{Listener, Running};
