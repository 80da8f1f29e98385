//! Credentials that stay what they are: a header, or a parameter at the end of the query.

use data_encoding::BASE64;
use ureq::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::forms;
use crate::config::{ApiKeyIn, Auth, Place, Problem, Secret};
use crate::render::{is_header_text, percent_encode};

/// What is added to a request.
#[derive(Clone)]
pub(super) struct Fixed {
    header: Option<(HeaderName, HeaderValue)>,
    /// `name=value`, percent-encoded.
    parameter: Option<String>,
    /// Everything that must not be shown, longest first.
    secrets: Vec<String>,
}

impl Fixed {
    /// From `auth`, which stands at `place` in the table `key`.
    pub(super) fn try_new(key: &str, place: &Place, auth: &Auth) -> Result<Fixed, Vec<Problem>> {
        let maker = Maker { key, place };
        let made = match auth {
            Auth::Basic { username, password } => maker.basic(username, password),
            Auth::Bearer { token } => maker.bearer(token),
            Auth::ApiKey { place: ApiKeyIn::Header, name, prefix, value } => {
                maker.api_key_header(name, prefix, value)
            }
            Auth::ApiKey { place: ApiKeyIn::Query, name, prefix, value } => {
                maker.api_key_parameter(name, prefix, value)
            }
            // Minted elsewhere.
            Auth::None | Auth::AzureSas { .. } | Auth::GoogleServiceAccount { .. } => {
                Ok(Fixed::new(None, None, &[]))
            }
        };
        made.map_err(|problem| vec![problem])
    }

    fn new(header: Option<(HeaderName, HeaderValue)>, parameter: Option<String>, secrets: &[&str]) -> Fixed {
        Fixed { header, parameter, secrets: forms(secrets.iter().copied()) }
    }

    /// Adds itself to a request to `url`.
    pub(super) fn apply(&self, url: &mut String, headers: &mut HeaderMap) {
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
    pub(super) fn header_name(&self) -> Option<&HeaderName> {
        self.header.as_ref().map(|(name, _)| name)
    }

    /// What must not be shown, longest first.
    pub(super) fn secrets(&self) -> &[String] {
        &self.secrets
    }
}

/// Makes credentials, or says what is wrong with them.
struct Maker<'a> {
    key: &'a str,
    place: &'a Place,
}

impl Maker<'_> {
    fn basic(&self, username: &str, password: &Secret) -> Result<Fixed, Problem> {
        if username.contains(':') {
            return Err(
                self.problem("username", "a user name can't hold a colon in HTTP basic authentication")
            );
        }
        let blob = BASE64.encode(format!("{username}:{}", password.expose()).as_bytes());
        let header = self.header("password", AUTHORIZATION, &format!("Basic {blob}"))?;
        Ok(Fixed::new(Some(header), None, &[password.expose(), &blob]))
    }

    fn bearer(&self, token: &Secret) -> Result<Fixed, Problem> {
        let header = self.header("token", AUTHORIZATION, &format!("Bearer {}", token.expose()))?;
        Ok(Fixed::new(Some(header), None, &[token.expose()]))
    }

    fn api_key_header(&self, name: &str, prefix: &str, value: &Secret) -> Result<Fixed, Problem> {
        let name = HeaderName::try_from(name)
            .map_err(|_| self.problem("name", "not a name that an HTTP header can have"))?;
        let header = self.header("value", name, &format!("{prefix}{}", value.expose()))?;
        Ok(Fixed::new(Some(header), None, &[value.expose()]))
    }

    fn api_key_parameter(&self, name: &str, prefix: &str, value: &Secret) -> Result<Fixed, Problem> {
        if name.is_empty() {
            return Err(self.problem("name", "a query parameter needs a name"));
        }
        let value_sent = percent_encode(&format!("{prefix}{}", value.expose()));
        let parameter = format!("{}={value_sent}", percent_encode(name));
        Ok(Fixed::new(None, Some(parameter), &[value.expose()]))
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

    fn problem(&self, at: &str, message: impl Into<String>) -> Problem {
        super::problem(self.key, self.place, at, message)
    }
}
