//! Who we are to an HTTP endpoint.
//!
//! [`Credentials`] are made once from `[integration.NAME.auth]` and applied to each request: a header, or a parameter
//! at the end of the query. They are the only place that the secret is unwrapped for HTTP, so they also know how to
//! take it out of what an endpoint says ([`Credentials::hide`]): some answer 401 with the key they were given, and that
//! answer is shown to people (invariant 8).
//!
//! Refused when built: kinds that this version can't do, names and values that a header can't carry, a user name with a
//! colon (RFC 7617, section 2). No message holds a secret.

use std::fmt;

use data_encoding::BASE64;
use ureq::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::config::{ApiKeyIn, Auth, Place, Problem, Secret, Spot};
use crate::render::{is_header_text, percent_encode};

/// What is added to a request.
#[derive(Clone)]
pub struct Credentials {
    header: Option<(HeaderName, HeaderValue)>,
    /// `name=value`, percent-encoded.
    parameter: Option<String>,
    /// Everything that must not be shown, longest first.
    secrets: Vec<String>,
}

impl Credentials {
    /// From `auth`, which stands in the table `key` (`integration.factory-api.auth`).
    pub fn try_new(key: &str, auth: &Spot<Auth>) -> Result<Credentials, Vec<Problem>> {
        let maker = Maker { key, place: &auth.place };
        let made = match &auth.value {
            Auth::None => Ok(Credentials::new(None, None, &[])),
            Auth::Basic { username, password } => maker.basic(username, password),
            Auth::Bearer { token } => maker.bearer(token),
            Auth::ApiKey { place: ApiKeyIn::Header, name, prefix, value } => {
                maker.api_key_header(name, prefix, value)
            }
            Auth::ApiKey { place: ApiKeyIn::Query, name, prefix, value } => {
                maker.api_key_parameter(name, prefix, value)
            }
            Auth::AzureSas { .. } => Err(maker.unavailable("azure-sas")),
            Auth::GoogleServiceAccount { .. } => Err(maker.unavailable("google-service-account")),
        };
        made.map_err(|problem| vec![problem])
    }

    fn new(
        header: Option<(HeaderName, HeaderValue)>,
        parameter: Option<String>,
        secrets: &[&str],
    ) -> Credentials {
        // An endpoint may repeat a secret as it was sent or as it was meant.
        let encoded = secrets.iter().map(|secret| percent_encode(secret));
        let mut all: Vec<String> = secrets.iter().map(|&secret| secret.to_owned()).chain(encoded).collect();
        all.retain(|secret| !secret.is_empty());
        all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        all.dedup();
        Credentials { header, parameter, secrets: all }
    }

    /// Adds itself to a request to `url`.
    pub fn apply(&self, url: &mut String, headers: &mut HeaderMap) {
        if let Some((name, value)) = &self.header {
            headers.insert(name.clone(), value.clone());
        }
        if let Some(parameter) = &self.parameter {
            let separator = match url.split_once('?') {
                None => "?",
                Some((_, "")) => "",
                Some((_, query)) if query.ends_with('&') => "",
                Some(_) => "&",
            };
            url.push_str(separator);
            url.push_str(parameter);
        }
    }

    /// The header that it sets.
    pub fn header_name(&self) -> Option<&HeaderName> {
        self.header.as_ref().map(|(name, _)| name)
    }

    /// `text` with `[secret]` wherever it repeats one.
    pub fn hide(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "[secret]"))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials([secret])")
    }
}

/// Makes credentials, or says what is wrong with them.
struct Maker<'a> {
    key: &'a str,
    place: &'a Place,
}

impl Maker<'_> {
    fn basic(&self, username: &str, password: &Secret) -> Result<Credentials, Problem> {
        if username.contains(':') {
            return Err(
                self.problem("username", "a user name can't hold a colon in HTTP basic authentication")
            );
        }
        let blob = BASE64.encode(format!("{username}:{}", password.expose()).as_bytes());
        let header = self.header("password", AUTHORIZATION, &format!("Basic {blob}"))?;
        Ok(Credentials::new(Some(header), None, &[password.expose(), &blob]))
    }

    fn bearer(&self, token: &Secret) -> Result<Credentials, Problem> {
        let header = self.header("token", AUTHORIZATION, &format!("Bearer {}", token.expose()))?;
        Ok(Credentials::new(Some(header), None, &[token.expose()]))
    }

    fn api_key_header(&self, name: &str, prefix: &str, value: &Secret) -> Result<Credentials, Problem> {
        let name = HeaderName::try_from(name)
            .map_err(|_| self.problem("name", "not a name that an HTTP header can have"))?;
        let header = self.header("value", name, &format!("{prefix}{}", value.expose()))?;
        Ok(Credentials::new(Some(header), None, &[value.expose()]))
    }

    fn api_key_parameter(&self, name: &str, prefix: &str, value: &Secret) -> Result<Credentials, Problem> {
        if name.is_empty() {
            return Err(self.problem("name", "a query parameter needs a name"));
        }
        let value_sent = percent_encode(&format!("{prefix}{}", value.expose()));
        let parameter = format!("{}={value_sent}", percent_encode(name));
        Ok(Credentials::new(None, Some(parameter), &[value.expose()]))
    }

    /// A header whose value comes from the secret at `at`.
    fn header(&self, at: &str, name: HeaderName, text: &str) -> Result<(HeaderName, HeaderValue), Problem> {
        // `HeaderValue` alone would let bytes past ASCII through.
        let value =
            Some(text).filter(|text| is_header_text(text)).and_then(|text| HeaderValue::from_str(text).ok());
        let mut value = value.ok_or_else(|| {
            self.problem(at, "the secret holds a character that a header can't carry")
                .hint("only visible ASCII; is there a line break inside it?")
        })?;
        value.set_sensitive(true);
        Ok((name, value))
    }

    fn unavailable(&self, kind: &str) -> Problem {
        self.problem("type", format!("authentication \"{kind}\" is not available in this version"))
            .hint("use none, basic, bearer or api-key")
    }

    fn problem(&self, at: &str, message: impl Into<String>) -> Problem {
        Problem::error(self.place, format!("{}.{at}", self.key), message)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;
    use crate::integration::testing::{secret, spot};

    fn made(auth: Auth) -> Result<Credentials, Vec<Problem>> {
        Credentials::try_new("integration.api.auth", &spot(auth))
    }

    fn applied(auth: Auth, url: &str) -> (String, Vec<(String, String)>) {
        let (mut url, mut headers) = (url.to_owned(), HeaderMap::new());
        made(auth).unwrap().apply(&mut url, &mut headers);
        assert!(headers.values().all(HeaderValue::is_sensitive));
        let shown =
            |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.to_str().unwrap().into());
        (url, headers.iter().map(shown).collect())
    }

    fn api_key(place: ApiKeyIn, prefix: &str, value: &str) -> Auth {
        Auth::ApiKey { place, name: "X-Api-Key".into(), prefix: prefix.into(), value: secret(value) }
    }

    #[test]
    fn every_kind_puts_its_secret_where_it_belongs() {
        let url = "https://h/x";
        assert_eq!(applied(Auth::None, url), (url.into(), vec![]));
        // RFC 7617, section 2.
        let basic = Auth::Basic { username: "Aladdin".into(), password: secret("open sesame") };
        let expected = ("authorization".into(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".into());
        assert_eq!(applied(basic, url), (url.into(), vec![expected]));
        let bearer = Auth::Bearer { token: secret("t0ken") };
        assert_eq!(applied(bearer, url).1, [("authorization".into(), "Bearer t0ken".into())]);
        let key = api_key(ApiKeyIn::Header, "Token ", "k3y");
        assert_eq!(applied(key, url).1, [("x-api-key".into(), "Token k3y".into())]);
    }

    #[test]
    fn a_key_in_the_query_joins_what_is_there() {
        for (url, expected) in [
            ("https://h/x", "https://h/x?X-Api-Key=k%263y"),
            ("https://h/x?", "https://h/x?X-Api-Key=k%263y"),
            ("https://h/x?a=1", "https://h/x?a=1&X-Api-Key=k%263y"),
            ("https://h/x?a=1&", "https://h/x?a=1&X-Api-Key=k%263y"),
        ] {
            assert_eq!(applied(api_key(ApiKeyIn::Query, "", "k&3y"), url), (expected.into(), vec![]));
        }
    }

    #[test]
    fn invariant_8_an_answer_that_repeats_a_secret_is_cleaned() {
        let key = made(api_key(ApiKeyIn::Query, "", "k&3y")).unwrap();
        assert_eq!(key.hide("bad key k&3y in ?X-Api-Key=k%263y"), "bad key [secret] in ?X-Api-Key=[secret]");
        let basic = made(Auth::Basic { username: "u".into(), password: secret("pass") }).unwrap();
        assert_eq!(basic.hide("Basic dTpwYXNz is u:pass"), "Basic [secret] is u:[secret]");
        assert!(!format!("{key:?} {basic:?}").contains("3y"));
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_showing_it() {
        for (auth, key) in [
            (Auth::Bearer { token: secret("s3cret\nX-Evil: 1") }, "integration.api.auth.token"),
            (Auth::Bearer { token: secret("s3cret-ü") }, "integration.api.auth.token"),
            (
                Auth::Basic { username: "a:b".into(), password: secret("s3cret") },
                "integration.api.auth.username",
            ),
            (api_key(ApiKeyIn::Header, "", "s3cret\r"), "integration.api.auth.value"),
            (Auth::AzureSas { key: secret("s3cret") }, "integration.api.auth.type"),
            (Auth::GoogleServiceAccount { key: secret("s3cret") }, "integration.api.auth.type"),
        ] {
            let problems = made(auth).unwrap_err();
            assert_eq!(problems[0].key, key);
            assert!(!format!("{problems:?} {}", problems[0]).contains("s3cret"), "{problems:?}");
        }
    }
}
