//! Looking up names for HTTP and for the tap.
//!
//! The system's resolver blocks and can't be told to stop, so each lookup runs on a thread of its own, and an HTTP attempt
//! waits for it no longer than its budget. A resolver that hangs must not collect threads: there are at most
//! [`MAX_LOOKUPS`] of a client at a time, and further attempts fail at once until one ends. An address needs no lookup.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::failure::Stumble;

/// As many as an integration may have requests in flight.
const MAX_LOOKUPS: usize = 32;

/// Addresses of one name that are tried; what ureq's list holds.
const MAX_ADDRESSES: usize = 16;

/// The stack of a lookup, in bytes; the default would reserve 2 MiB for each.
const STACK_BYTES: usize = 256 << 10;

/// Looks up the names of one client.
#[derive(Debug, Default)]
pub(crate) struct Lookup {
    running: Arc<AtomicUsize>,
}

/// Counts a lookup as long as it lives.
struct Ticket(Arc<AtomicUsize>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Looks a name with a port up on a thread of its own, which ends with the call of `done`.
///
/// # Errors
/// The machine has no thread left.
pub(crate) fn look_up(
    host_and_port: String,
    done: impl FnOnce(io::Result<Vec<SocketAddr>>) + Send + 'static,
) -> io::Result<()> {
    let lookup = move || {
        done(host_and_port.to_socket_addrs().map(|all| all.take(MAX_ADDRESSES).collect()));
    };
    thread::Builder::new().name("lookup".to_owned()).stack_size(STACK_BYTES).spawn(lookup).map(drop)
}

impl Lookup {
    fn ticket(&self) -> Option<Ticket> {
        self.running
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < MAX_LOOKUPS).then_some(n + 1))
            .ok()
            .map(|_| Ticket(Arc::clone(&self.running)))
    }

    fn addresses(&self, host_and_port: String, timeout: NextTimeout) -> Result<Vec<SocketAddr>, Stumble> {
        if let Ok(address) = host_and_port.parse() {
            return Ok(vec![address]);
        }
        let ticket = self.ticket().ok_or(Stumble::LookupsHang)?;
        let (answer, answered) = mpsc::sync_channel(1);
        let done = move |found| {
            drop(ticket);
            // Nobody waits any more when the budget ran out.
            let _ = answer.send(found);
        };
        look_up(host_and_port, done).map_err(Stumble::Lookup)?;
        match answered.recv_timeout(*timeout.after) {
            Ok(found) => found.map_err(Stumble::Lookup),
            Err(RecvTimeoutError::Timeout) => Err(Stumble::LookupTimeout),
            Err(RecvTimeoutError::Disconnected) => Err(Stumble::Lookup(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host_and_port = match (uri.scheme(), uri.authority()) {
            (Some(scheme), Some(authority)) => DefaultResolver::host_and_port(scheme, authority),
            _ => None,
        };
        let mut resolved = self.empty();
        for address in self.addresses(host_and_port.ok_or(ureq::Error::HostNotFound)?, timeout)? {
            resolved.push(address);
        }
        if resolved.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(resolved) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use ureq::Timeout;
    use ureq::unversioned::transport::time::Duration;

    use super::*;

    fn within_a_minute() -> NextTimeout {
        NextTimeout { after: Duration::from_secs(60), reason: Timeout::Resolve, ..NextTimeout::default() }
    }

    #[test]
    fn addresses_need_no_lookup() {
        let lookup = Lookup::default();
        lookup.running.store(MAX_LOOKUPS, Ordering::Relaxed);
        for (text, address) in [("127.0.0.1:80", "127.0.0.1:80"), ("[::1]:443", "[::1]:443")] {
            assert_eq!(lookup.addresses(text.into(), within_a_minute()).unwrap(), [address.parse().unwrap()]);
        }
    }

    #[test]
    fn lookups_that_hang_do_not_pile_up() {
        let lookup = Lookup::default();
        let tickets: Vec<Ticket> = std::iter::from_fn(|| lookup.ticket()).collect();
        assert_eq!(tickets.len(), MAX_LOOKUPS);
        let refused = lookup.addresses("localhost:80".into(), within_a_minute());
        assert!(matches!(refused, Err(Stumble::LookupsHang)), "{refused:?}");
        drop(tickets);
        assert!(!lookup.addresses("localhost:80".into(), within_a_minute()).unwrap().is_empty());
        assert_eq!(lookup.running.load(Ordering::Relaxed), 0);
    }
}
