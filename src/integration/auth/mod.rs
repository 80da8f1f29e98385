//! Who we are to a far end.
//!
//! [`Credentials`] are made once from `[integration.NAME.auth]` and applied to each HTTP request: a header, or a parameter
//! at the end of the query. They are the only place that the secret is unwrapped for HTTP, so they also know how to
//! take it out of what an endpoint says ([`Credentials::hide`]): some answer 401 with the key they were given, and that
//! answer is shown to people (invariant 8). MQTT has its own packet for user name and password; for a signature instead of
//! a password it uses [`Sas`] directly.
//!
//! | kind | what is sent | where it comes from |
//! |---|---|---|
//! | basic, bearer, api-key | the secret itself | [`fixed`] |
//! | azure-sas | a signature over host, device and expiry | [`azure`]: minted here, from the clock |
//! | google-service-account | a token | [`google`]: asked for with a signed request |
//!
//! What is minted is kept until some time before it ends, and judged by the wall clock and the boot clock, whichever says
//! that more time has passed ([`minted`]). A clock before this program's release can't mint anything that would be taken,
//! so that is a plain failure of layer `clock`; so is a refusal while the clock is not trusted (RULES S8), for which
//! whatever was minted is thrown away.
//!
//! Refused when built: names and values that a header can't carry, a user name with a colon (RFC 7617, section 2), keys
//! that can't sign. No message holds a secret.

mod azure;
mod fixed;
mod google;
mod minted;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::clock::Clock;
use crate::config::{Auth, Place, Problem, Spot};
use crate::delivery::outcome::{Blame, Failure, Layer};
use crate::dial::Dial;
use crate::render::percent_encode;

pub use azure::{Sas, SasSettings, Scope, own_name};
use fixed::Fixed;
use google::ServiceAccount;

/// What is added to a request. Cloning it shares what was minted.
#[derive(Clone)]
pub struct Credentials {
    kind: Kind,
    clock: Arc<dyn Clock>,
}

#[derive(Clone)]
enum Kind {
    Fixed(Fixed),
    Azure(Arc<Sas>),
    Google(Arc<ServiceAccount>),
}

/// What else there is to know of an HTTP integration.
pub struct Surroundings<'a> {
    /// The gateway's name.
    pub gateway: &'a str,
    /// The host of the URL.
    pub host: &'a str,
    /// The URL, and where it stands.
    pub url: &'a Spot<String>,
    /// How long an attempt may take; asking for a token may take as long again.
    pub timeout: Duration,
    /// How to reach others than the far end.
    pub dial: &'a Dial,
}

impl Credentials {
    /// From `auth`, which stands in the table `key` (`integration.factory-api.auth`).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn try_new(
        key: &str,
        auth: &Spot<Auth>,
        around: &Surroundings<'_>,
    ) -> Result<Credentials, Vec<Problem>> {
        let clock = Arc::clone(around.dial.clock());
        let kind = match &auth.value {
            Auth::AzureSas { key: secret, device, policy, ttl } => {
                let settings = SasSettings {
                    key: secret,
                    policy: policy.as_ref().map(|policy| policy.value.as_str()),
                    ttl: *ttl,
                };
                let scope = azure::http_scope(key, &auth.place, device.as_ref(), settings.policy, around)?;
                Kind::Azure(Arc::new(Sas::try_new(key, &auth.place, &settings, scope, Arc::clone(&clock))?))
            }
            Auth::GoogleServiceAccount { key: secret, scope, ca } => {
                let account = ServiceAccount::try_new(key, &auth.place, secret, scope, ca.as_ref(), around)?;
                Kind::Google(Arc::new(account))
            }
            other => Kind::Fixed(Fixed::try_new(key, &auth.place, other)?),
        };
        Ok(Credentials { kind, clock })
    }

    /// Adds itself to a request to `url`. May ask another server for a token first, and wait for it.
    ///
    /// # Errors
    /// Why nothing could be minted; never the record's fault.
    pub fn apply(&self, url: &mut String, headers: &mut HeaderMap) -> Result<(), Failure> {
        let text = match &self.kind {
            Kind::Fixed(fixed) => {
                fixed.apply(url, headers);
                return Ok(());
            }
            Kind::Azure(sas) => sas.token()?,
            Kind::Google(account) => format!("Bearer {}", account.token()?),
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| {
            Failure::endpoint(Layer::Http, "the token that was given to us is none that a header can carry")
        })?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        Ok(())
    }

    /// The header that it sets.
    pub fn header_name(&self) -> Option<&HeaderName> {
        match &self.kind {
            Kind::Fixed(fixed) => fixed.header_name(),
            Kind::Azure(_) | Kind::Google(_) => Some(&AUTHORIZATION),
        }
    }

    /// What a refusal of the request (401) means: what was minted is not used again, and while our clock may be wrong
    /// it is to blame before the endpoint.
    pub fn refused(&self, failure: Failure) -> Failure {
        match &self.kind {
            Kind::Fixed(_) => return failure,
            Kind::Azure(sas) => sas.forget(),
            Kind::Google(account) => account.forget(),
        }
        blamed_on_clock(failure, self.clock.as_ref())
    }

    /// `text` with `[secret]` wherever it repeats one.
    pub fn hide(&self, text: &str) -> String {
        match &self.kind {
            Kind::Fixed(fixed) => hidden(text, fixed.secrets()),
            Kind::Azure(sas) => sas.hide(text),
            Kind::Google(account) => account.hide(text),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials([secret])")
    }
}

/// The failure of a refusal that the time in a signature may have caused (RULES S8).
pub fn blamed_on_clock(failure: Failure, clock: &dyn Clock) -> Failure {
    if clock.trusted() || failure.blame != Blame::Endpoint {
        return failure;
    }
    let message = format!("{}; the clock of this gateway is not trusted, check NTP first", failure.message);
    Failure::link(Layer::Clock, message)
}

/// The time in seconds since 1970, or why nothing can be signed with it.
fn signing_time(clock: &dyn Clock) -> Result<i64, Failure> {
    let message = "this gateway's clock is not set, and what is signed now would have expired; check NTP";
    let now_us = clock.known_us().ok_or_else(|| Failure::link(Layer::Clock, message))?;
    Ok(now_us / 1_000_000)
}

/// Every form of `secrets` that an endpoint may repeat (as it was sent, as it was meant), longest first.
fn forms<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let both = |secret: &str| [secret.to_owned(), percent_encode(secret)];
    let mut all: Vec<String> = secrets.into_iter().flat_map(both).collect();
    all.retain(|secret| !secret.is_empty());
    all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    all.dedup();
    all
}

/// `text` without these.
pub(super) fn hidden(text: &str, secrets: &[String]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "[secret]"))
}

fn problem(key: &str, place: &Place, at: &str, message: impl Into<String>) -> Problem {
    Problem::error(place, format!("{key}.{at}"), message)
}

#[cfg(test)]
mod tests;
