//! Tokens for Google Cloud, by the key file of a service account (RFC 7523, "two-legged OAuth").
//!
//! ```text
//! key file ──[key]──> claims, signed RS256 ──[exchange] POST token_uri──> access token ──> Authorization: Bearer
//! ```
//!
//! A token is asked for when the first request needs it, by the worker that needs it; the others wait for the same answer
//! and share a failure. Five minutes before it ends a new one is asked for. If that fails while the old one is good, the
//! old one is used and the next try comes [`RETRY_RENEWAL`] later: a hiccup of the token server delays no uplink.
//!
//! Whose fault it is that there is no token: the network's, the clock's, or ours and Google's (a key that was deleted); an
//! uplink's it never is.
//!
//! The token server is another host than the integration's, so nothing of `[integration.NAME.tls]` is used for it: a
//! private CA, a client certificate or ALPN there would break Google's own. It is checked against the system's roots, or
//! against `auth.ca` where there are none, or where a proxy that opens TLS stands in between.

mod exchange;
mod key;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::minted::{Moment, Purse};
use super::{Surroundings, forms, hidden, signing_time};
use crate::clock::Clock;
use crate::config::{Place, Problem, Secret, Spot};
use crate::delivery::outcome::Failure;

use exchange::TokenServer;
use key::Account;

/// How long before its end a token is replaced; a short one, at half of its time.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// How long a token that is about to end is used after its renewal failed, before the next try.
const RETRY_RENEWAL: Duration = Duration::from_secs(30);

/// A service account, and the token it has. Has no `Debug`: it holds the key.
pub(super) struct ServiceAccount {
    account: Account,
    scope: String,
    server: TokenServer,
    clock: Arc<dyn Clock>,
    purse: Purse,
    /// Held by whoever asks for a token. The last failure, and when it was.
    turn: Mutex<Option<(Instant, Failure)>>,
    /// What must not be shown of the key file.
    secrets: Vec<String>,
}

impl ServiceAccount {
    /// From the text of a key file; `key` is the table it was named in, at `place`.
    pub(super) fn try_new(
        key: &str,
        place: &Place,
        file: &Secret,
        scope: &str,
        ca: Option<&Spot<PathBuf>>,
        around: &Surroundings<'_>,
    ) -> Result<ServiceAccount, Vec<Problem>> {
        let (account, token_uri) = Account::parse(file.expose())
            .map_err(|refusal| vec![super::problem(key, place, "key", refusal.why).hint(refusal.hint)])?;
        let server = TokenServer::try_new(key, place, &token_uri, ca, around)?;
        Ok(ServiceAccount {
            secrets: forms([account.key_id()]),
            account,
            scope: scope.to_owned(),
            server,
            clock: Arc::clone(around.dial.clock()),
            purse: Purse::default(),
            turn: Mutex::new(None),
        })
    }

    /// A token that can be used now.
    pub(super) fn token(&self) -> Result<String, Failure> {
        let asked = Instant::now();
        if let Some(token) = self.purse.usable(self.clock.as_ref()).filter(|token| !token.is_due) {
            return Ok(token.text);
        }
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // While we waited for our turn, another may have got one, or been told why not.
        let old = match self.purse.usable(self.clock.as_ref()) {
            Some(token) if !token.is_due => return Ok(token.text),
            Some(token) => Some(token.text),
            None => None,
        };
        let failed = turn.as_ref().filter(|(at, _)| {
            *at >= asked || old.is_some() && asked.saturating_duration_since(*at) < RETRY_RENEWAL
        });
        let failure = match failed {
            Some((_, failure)) => failure.clone(),
            None => match self.renew() {
                Ok(token) => {
                    *turn = None;
                    return Ok(token);
                }
                Err(failure) => {
                    *turn = Some((Instant::now(), failure.clone()));
                    failure
                }
            },
        };
        old.ok_or(failure)
    }

    /// The API refused it.
    pub(super) fn forget(&self) {
        self.purse.forget();
    }

    /// `text` without tokens.
    pub(super) fn hide(&self, text: &str) -> String {
        hidden(&self.purse.hide(text), &self.secrets)
    }

    fn renew(&self) -> Result<String, Failure> {
        let now = signing_time(self.clock.as_ref())?;
        let assertion = self.account.assertion(&self.scope, self.server.uri(), now)?;
        // The life of a token begins before the question: the answer may take its time.
        let began = Moment::now(self.clock.as_ref());
        let granted = self.server.exchange(&assertion, self.clock.as_ref())?;
        let margin = RENEW_BEFORE.min(granted.lifetime / 2);
        let life = began.life(granted.lifetime - margin, granted.lifetime);
        self.purse.keep(granted.token.clone(), life, &[granted.token.as_str()]);
        Ok(granted.token)
    }
}

#[cfg(test)]
mod tests;
