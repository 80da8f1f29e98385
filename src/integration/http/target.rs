//! The URL of an integration.
//!
//! Scheme, host and port are fixed when the configuration is read; only path and query may have placeholders (RULES S36).
//! So who is dialled, and whose certificate is expected, never depends on an uplink.

use rustls_pki_types::ServerName;
use ureq::http::Uri;
use ureq::http::uri::Scheme;

use crate::config::{Http, Integration, Problem, Spot};
use crate::dial::Peer;
use crate::render::{Purpose, Template};

/// Where the requests of an integration go. The query may hold a secret, so it has no `Debug`.
pub(super) struct Target {
    pub(super) url: Template,
    pub(super) peer: Peer,
    /// The name on the certificate; `None`: the URL says http.
    pub(super) server_name: Option<ServerName<'static>>,
    /// For people: without the query, which may hold a key.
    pub(super) shown: String,
    /// Values that stand in the query as they are, which may be keys.
    pub(super) query_values: Vec<String>,
}

/// Whether a word of a query or header may be a key: a shorter one is a version or a flag.
pub(super) fn may_be_key(word: &str) -> bool {
    word.chars().count() >= 8 && !word.contains("{{")
}

impl Target {
    pub(super) fn try_new(integration: &Integration, http: &Http) -> Result<Target, Vec<Problem>> {
        Target::of(integration, http).map_err(|problem| vec![problem])
    }

    fn of(integration: &Integration, http: &Http) -> Result<Target, Problem> {
        let key = format!("integration.{}.url", *integration.name);
        let problem = |message: &str| Problem::error(&http.url.place, key.as_str(), message);
        let url = Template::parse(&http.url, Purpose::Url)
            .map_err(|error| error.into_problem(&http.url.place, key.as_str()))?;
        let sample = url.sample().map_err(|error| problem(&error.to_string()))?;
        let sample: Uri = sample.parse().map_err(|_| {
            problem("not a URL").hint("for example https://api.example.com/v1/uplinks/{{device.dev_eui}}")
        })?;
        let is_secure = match sample.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(problem("an http integration needs a URL with http:// or https://")),
        };
        let authority = sample.authority().ok_or_else(|| problem("a URL without a host"))?;
        if authority.as_str().contains('@') {
            let place = format!("[integration.{}.auth]", *integration.name);
            return Err(problem("credentials in a URL are not used").hint(format!("put them into {place}")));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(problem("a URL without a host"));
        }
        let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let server_name = is_secure.then(|| server_name(integration, &http.url, &host)).transpose()?;
        Ok(Target {
            url,
            peer: Peer { host, port },
            server_name,
            shown: shown(&http.url),
            query_values: query_values(&http.url),
        })
    }
}

/// The name to verify: `tls.server_name`, else the host.
fn server_name(
    integration: &Integration,
    url: &Spot<String>,
    host: &str,
) -> Result<ServerName<'static>, Problem> {
    let (name, place, key) = match &integration.tls.server_name {
        Some(name) if !name.is_empty() => (name.as_str(), &name.place, "tls.server_name"),
        _ => (host, &url.place, "url"),
    };
    ServerName::try_from(name.to_owned()).map_err(|_| {
        let key = format!("integration.{}.{key}", *integration.name);
        Problem::error(place, key, "not a host name or address that a certificate can be for")
    })
}

fn shown(url: &str) -> String {
    match url.split_once('?') {
        Some((before, _)) => format!("{before}?…"),
        None => url.to_owned(),
    }
}

fn query_values(url: &str) -> Vec<String> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let values = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value);
    values.filter(|value| may_be_key(value)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use crate::config::IntegrationKind;
    use crate::integration::testing::http_integration;

    fn target(url: &str) -> Result<Target, String> {
        let integration = http_integration(url, crate::config::Method::Post);
        let IntegrationKind::Http(http) = &integration.kind else { panic!("not http") };
        Target::try_new(&integration, http).map_err(|problems| problems.first().unwrap().to_string())
    }

    #[test]
    fn every_name_of_an_uplink_may_stand_in_path_and_query() {
        for name in
            ["device.name", "device.dev_eui", "decoded.level_cm", "payload_hex", "device.variables.site"]
        {
            assert!(target(&format!("https://h/{{{{{name}}}}}/up?x={{{{{name}}}}}")).is_ok(), "{name}");
        }
        assert!(target("https://h/{{device.nmae}}").err().unwrap().contains("device.name"));
    }
}
