//! The HTTP source: `POST /uplinks`, for network servers with a web hook and for scripts.
//!
//! The room owns one listening socket and one thread a `[source.NAME]`. It speaks HTTP/1.1 as far as its one route needs,
//! by hand, like the control socket does. What an uplink looks like says [`server_uplink`](crate::server_uplink).
//!
//! # Who acknowledges what
//!
//! ```text
//!  client                               this thread                          ingest, spool
//!    |--- 1. POST /uplinks, head ---------->| route, token, length                 |
//!    |--- 2. body ------------------------->| all of it read, every element        |
//!    |                                      |--- 3. offer ------------------------>|
//!    |                                      |<-- 4. accepted: it is safe ----------|
//!    |<-- 5. 202 {"accepted":2,"ids":[…]} --|                                      |
//! ```
//!
//! 202 (5) is a promise: the uplinks are on the disk or with everybody they are for (RULES S6). Any other answer, or none,
//! means that nothing is known to be stored, and the client should try again; with an id in the body or an
//! `Idempotency-Key` an uplink that was stored all the same is told from the first (S20).
//!
//! # The answers
//!
//! | | |
//! |---|---|
//! | 202 | accepted; `ids` has one for each uplink, in their order. Events that are no uplinks are passed over |
//! | 400 | no HTTP, no JSON, or an element that is no uplink: it is named, and nothing of the array is stored |
//! | 401 | the bearer token is missing or wrong |
//! | 404, 405 | another path, another method |
//! | 408, 411, 413, 415, 431 | too slow, no `Content-Length`, too large, not JSON, too many headers |
//! | 429 | the spool refuses, or did not take it in time; `Retry-After` says when to try again |
//! | 503 | the spool is not open (yet) |
//!
//! # Invariants
//!
//! - Bounded (RULES S32): 64 connections, heads of 8 KiB, bodies of 1 MiB, 1,000 uplinks a body, time for each step. Of
//!   bodies longer than one uplink may be four are in memory at most, until their uplinks are safe.
//! - The token is compared in a time that does not depend on it, before the body is read, and never logged.
//! - A stop takes no further request, and answers those that are under way.

mod connection;
mod head;
mod uplinks;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::config::{HttpSource, Problem, Secret, Spot};
use crate::metrics::{DoorCounters, DropReason};
use crate::server_uplink::MAX_BYTES;

use super::bind::BindError;
use super::running::Running;
use super::server::{IN_HAND, Intake};
use super::tally::Dropped;
use crate::own_thread::Stop;

/// The longest body (RULES S32).
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// Uplinks a body.
pub const MAX_UPLINKS: usize = 1_000;

/// Bodies longer than one uplink may be that are in memory at a time.
const LONG_BODIES: usize = 4;

/// How long a stop waits for requests that are under way.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A breath after an error of the listening socket, so that one that stays costs no CPU.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// An `http` source that can be started.
#[derive(Debug)]
pub struct Http {
    name: Arc<str>,
    listen: SocketAddr,
    token: Option<Secret>,
}

impl Http {
    /// Checks what can be checked without starting.
    ///
    /// # Errors
    /// A token that everybody has.
    pub fn try_new(name: &Spot<String>, config: &HttpSource) -> Result<Http, Vec<Problem>> {
        if config.token.as_ref().is_some_and(|token| token.expose().is_empty()) {
            let key = format!("source.{}.token", name.value);
            let problem = Problem::error(&name.place, key, "the token is empty");
            return Err(vec![problem.hint("name a file that holds one, or leave the key out on 127.0.0.1")]);
        }
        let name = Arc::from(name.value.as_str());
        Ok(Http { name, listen: config.listen.value, token: config.token.clone() })
    }

    /// Binds the socket and starts the thread.
    ///
    /// # Errors
    /// If the address can't be had, or no thread.
    pub fn start(
        self,
        intake: Intake,
        counters: Arc<DoorCounters>,
        clock: Arc<dyn Clock>,
    ) -> Result<Running, BindError> {
        let Http { name, listen, token } = self;
        let no_bind = |error| BindError::tcp(&name, listen, error);
        let socket = std::net::TcpListener::bind(listen).map_err(no_bind)?;
        let local = socket.local_addr().map_err(no_bind)?;
        socket.set_nonblocking(true).map_err(no_bind)?;
        let door = Arc::new(Door {
            name: Arc::clone(&name),
            token,
            intake,
            counters,
            clock,
            long_bodies: Arc::new(Semaphore::new(LONG_BODIES)),
            dropped: Mutex::default(),
        });
        Running::start(Arc::clone(&name), "http-source", Some(local), |stop| serve(socket, door, stop))
            .map_err(|error| BindError::Thread { source_name: name, error })
    }
}

/// What the connections share.
struct Door {
    name: Arc<str>,
    token: Option<Secret>,
    intake: Intake,
    counters: Arc<DoorCounters>,
    clock: Arc<dyn Clock>,
    long_bodies: Arc<Semaphore>,
    dropped: Mutex<Dropped>,
}

impl Door {
    /// Counts what is not taken in, and says so now and then.
    fn drop(&self, reason: DropReason, from: SocketAddr, why: &str) {
        self.counters.dropped(reason, 1);
        let times = self.dropped.lock().unwrap_or_else(PoisonError::into_inner).again(reason);
        if let Some(times) = times {
            log::warn!("source {}: {} from {from}: {why} ({times} so far)", self.name, reason.as_str());
        }
    }

    /// A place among the bodies that are in memory, for one of this length.
    async fn room_for(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes <= MAX_BYTES { None } else { Arc::clone(&self.long_bodies).acquire_owned().await.ok() }
    }
}

async fn serve(socket: std::net::TcpListener, door: Arc<Door>, mut stop: Stop) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            log::error!("source {}: can't listen: {error}", door.name);
            return;
        }
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.stopped() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < IN_HAND => match accepted {
                Ok((stream, from)) => {
                    connections.spawn(connection::serve(stream, from, Arc::clone(&door), stop.clone()));
                }
                Err(error) => {
                    log::warn!("source {}: {error}", door.name);
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            },
        }
    }
    drop(listener);
    // Those that take longer are cut off without an answer, which promises nothing.
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_GRACE, all).await;
}

#[cfg(test)]
mod tests;
