//! Asking the token server.
//!
//! One connection for each token, which is one in an hour. What the server answers is judged like an answer to an uplink
//! (RULES S1), except that a record is never to blame.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::ServerName;
use serde::Deserialize;
use ureq::http::{Request, Uri};

use super::super::{Surroundings, blamed_on_clock, hidden, problem};
use crate::clock::Clock;
use crate::config::{Place, Problem, Spot, Tls};
use crate::delivery::outcome::{Failure, Layer};
use crate::dial::{HttpConnector, Limits, Peer, http_failure};
use crate::printable::printable;
use crate::render::percent_encode;

/// `grant_type` (RFC 7523, section 2.1), percent-encoded.
const GRANT: &str = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";

/// What is read of an answer, in bytes. A token has 1 to 2 KiB.
const MAX_ANSWER_BYTES: u64 = 16 << 10;

/// How long a token is good if the server does not say, and the longest that is believed.
const USUAL_LIFETIME: Duration = Duration::from_secs(3_600);
const MAX_LIFETIME: Duration = Duration::from_secs(12 * 3_600);

/// A token, and how long it is good.
pub(super) struct Granted {
    pub(super) token: String,
    pub(super) lifetime: Duration,
}

/// RFC 6749, sections 5.1 and 5.2.
#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    expires_in: Option<u64>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Where tokens are had.
pub(super) struct TokenServer {
    uri: String,
    peer: Peer,
    connector: HttpConnector,
    limits: Limits,
    /// The table of the settings, for next steps.
    key: String,
}

impl TokenServer {
    /// The one at `uri`, which stood in the key file.
    pub(super) fn try_new(
        key: &str,
        place: &Place,
        uri: &str,
        ca: Option<&Spot<PathBuf>>,
        around: &Surroundings<'_>,
    ) -> Result<TokenServer, Vec<Problem>> {
        let refuse = |why: &str| {
            let hint = "Google's own key files have https://oauth2.googleapis.com/token";
            vec![problem(key, place, "key", format!("the token_uri in this key file {why}")).hint(hint)]
        };
        let parsed: Uri = uri.parse().map_err(|_| refuse("is no URL"))?;
        let authority = parsed.authority().ok_or_else(|| refuse("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("holds a user name"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let connector = match parsed.scheme_str() {
            Some("https") => {
                let name = ServerName::try_from(host.clone()).map_err(|_| refuse("names no valid host"))?;
                let tls = Tls { ca: ca.cloned(), alpn: vec!["http/1.1".to_owned()], ..Tls::default() };
                HttpConnector::secure(around.dial.tls(key, &tls)?, name)
            }
            Some("http") if is_loopback(&host) => HttpConnector::plain(),
            _ => return Err(refuse("must begin with https://: what is sent there opens the account")),
        };
        let usual_port = if parsed.scheme_str() == Some("https") { 443 } else { 80 };
        let peer = Peer { host, port: authority.port_u16().unwrap_or(usual_port) };
        let limits = Limits { timeout: around.timeout, connections: 1 };
        let (uri, key) = (uri.to_owned(), key.to_owned());
        Ok(TokenServer { uri, peer, connector, limits, key })
    }

    /// Its URI, which is also the audience of what is signed for it.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Asks for a token.
    pub(super) fn exchange(&self, assertion: &str, clock: &dyn Clock) -> Result<Granted, Failure> {
        let body = format!("grant_type={GRANT}&assertion={}", percent_encode(assertion));
        let request = Request::post(&self.uri)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .map_err(|_| Failure::link(Layer::Http, "the token server can't be asked"))?;
        let agent = self.limits.agent(&self.connector);
        let mut response = agent.run(request).map_err(|error| {
            let Failure { layer, blame, message } =
                http_failure(&error, &self.peer, self.limits.timeout, clock);
            Failure { layer, blame, message: format!("no token: {message}") }
        })?;
        let status = response.status();
        let mut text = Vec::new();
        // What breaks off is not JSON, and says so below.
        let _ = response.body_mut().as_reader().take(MAX_ANSWER_BYTES).read_to_end(&mut text);
        let answer = serde_json::from_slice::<Answer>(&text).ok();
        match answer {
            Some(Answer { access_token: Some(token), expires_in, .. })
                if status.is_success() && !token.is_empty() =>
            {
                let lifetime = expires_in.map_or(USUAL_LIFETIME, Duration::from_secs).min(MAX_LIFETIME);
                Ok(Granted { token, lifetime })
            }
            answer => Err(self.refusal(status.as_u16(), answer, assertion, clock)),
        }
    }

    fn refusal(&self, code: u16, answer: Option<Answer>, assertion: &str, clock: &dyn Clock) -> Failure {
        let said = answer.map(|answer| {
            let words = [answer.error, answer.error_description].into_iter().flatten();
            words.collect::<Vec<_>>().join(": ")
        });
        let said = printable(&hidden(&said.unwrap_or_default(), &[assertion.to_owned()]));
        let colon = if said.is_empty() { "" } else { ": " };
        let message = format!("no token: {} answered {code}{colon}{said}", self.peer);
        match code {
            408 | 425 | 429 | 500..=599 => Failure::link(Layer::Http, message),
            // "Invalid JWT: Token must be a short-lived token … Check your iat and exp values": our clock is wrong.
            400 if said.contains("iat and exp") => {
                let hint = "the clock of this gateway and Google's are too far apart, check NTP";
                Failure::link(Layer::Clock, format!("{message}; {hint}"))
            }
            300..=399 => {
                let hint = "redirects are not followed: a captive portal looks like this";
                Failure::endpoint(Layer::Http, format!("{message}; {hint}"))
            }
            200..=299 => Failure::endpoint(
                Layer::Http,
                format!("{message} without one; check token_uri in the key file"),
            ),
            _ => {
                let hint = "is the key deleted or the account disabled?";
                let message = format!("{message}; check [{}]: {hint}", self.key);
                blamed_on_clock(Failure::endpoint(Layer::Http, message), clock)
            }
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}
