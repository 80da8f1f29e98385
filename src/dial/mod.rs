//! Getting a connection: names, TCP, TLS, and what it means when one of them fails.
//!
//! ```text
//! config::Tls ──Dial::tls──> TlsSource ──current()──> Arc<rustls::ClientConfig> ──> MQTT takes it as it is
//!                                                            └── HTTP takes it through Connector
//! any error  ──failure──> Failure { layer, blame, a sentence }
//! ```
//!
//! What this room owns: the system's trusted roots (parsed once for all integrations, and only if one of them needs
//! them), the TLS settings of each integration, the time that certificates are checked against, and the sentences that
//! a person reads when a connection can't be made.
//!
//! Invariants:
//! - One TLS provider (ring), passed explicitly: nothing here depends on a process-wide default.
//! - Certificates are always verified. The only lenience is the floor of [`TimeFloor`]: a machine whose clock stands
//!   before the last good time that it has known, or before this program was made, is taken at the later of these, so that it
//!   can connect at all. An expired certificate never becomes valid by that.
//! - A private CA replaces the system's roots; it never adds to them.
//! - A changed certificate or key is used from the next connection on; one that can't be used changes nothing
//!   (RULES S26).
//! - Whatever goes wrong here is the link's fault (RULES S1): no record is given up for it, and it is tried for ever.
//! - No proxy, no redirect, nothing from the environment but the system's roots (`SSL_CERT_FILE`, `SSL_CERT_DIR`).
//!
//! Refused when the room is built: files that are missing, too large or hold no certificate, a key that is encrypted or
//! belongs to another certificate, a machine without roots.

pub(crate) mod certificate;
mod connector;
mod failure;
mod limits;
pub(crate) mod reach;
mod resolver;
mod tls;
mod transport;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

use crate::clock::Clock;
use crate::config::{self, Problem, Severity};

pub(crate) use connector::HttpConnector;
pub use failure::{Peer, http_failure, io_failure, tls_failure};
pub(crate) use failure::{handshake_failure, is_lookup, lookup_failure, was_reset};
pub(crate) use limits::{BUFFER_BYTES, Limits};
pub(crate) use resolver::{Lookup, look_up};
pub use tls::TlsSource;

/// What the integrations of an agent share for dialling. Cloning it shares it.
#[derive(Clone, Debug)]
pub struct Dial {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    provider: Arc<CryptoProvider>,
    time: Arc<TimeFloor>,
    system_roots: Mutex<Option<Arc<RootCertStore>>>,
}

impl Dial {
    /// One for an agent. Certificates are checked against [`Clock::now_us`], which has a floor.
    pub fn new(clock: Arc<dyn Clock>) -> Dial {
        let shared = Shared {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            time: Arc::new(TimeFloor { clock }),
            system_roots: Mutex::new(None),
        };
        Dial { shared: Arc::new(shared) }
    }

    /// The TLS settings of one integration. `key` is the table they stand in (`integration.plant-broker.tls`), for
    /// problems. Reads the files, and the system's roots if there is no private CA.
    pub fn tls(&self, key: &str, settings: &config::Tls) -> Result<TlsSource, Vec<Problem>> {
        let roots = match settings.ca {
            Some(_) => None,
            None => Some(self.system_roots().map_err(|problem| vec![problem])?),
        };
        let provider = Arc::clone(&self.shared.provider);
        TlsSource::try_new(key, settings, roots, provider, Arc::clone(&self.shared.time) as _)
    }

    /// The clock that was given.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.time.clock
    }

    fn system_roots(&self) -> Result<Arc<RootCertStore>, Problem> {
        let mut known = self.shared.system_roots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(roots) = known.as_ref() {
            return Ok(Arc::clone(roots));
        }
        let roots = Arc::new(load_system_roots()?);
        Ok(Arc::clone(known.insert(roots)))
    }
}

/// Roots that do not parse are passed over: old systems carry some.
fn load_system_roots() -> Result<RootCertStore, Problem> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, unusable) = roots.add_parsable_certificates(found.certs);
    if usable > 0 {
        log::debug!("{usable} system roots, {unusable} of them unusable");
        return Ok(roots);
    }
    let reason = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
    let problem = Problem {
        severity: Severity::Error,
        place: None,
        key: String::new(),
        message: format!("this machine has no CA certificates to check servers with{reason}"),
        hint: None,
    };
    Err(problem.hint("install the package ca-certificates, or set tls.ca to your server's CA"))
}

/// The time that certificates are checked against: the best that is known, and never before what is known to have been.
#[derive(Debug)]
struct TimeFloor {
    clock: Arc<dyn Clock>,
}

impl TimeProvider for TimeFloor {
    fn current_time(&self) -> Option<UnixTime> {
        let us = u64::try_from(self.clock.now_us()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_micros(us)))
    }
}

#[cfg(test)]
mod tests;
