//! `[integration.NAME.auth]`, and credentials that stood in the URL.

use std::time::Duration;

use super::super::reader::{Table, Value};
use super::super::schema::{ApiKeyIn, Auth, Spot};
use super::super::secret::{Inline, Secret};
use super::{Peer, http, no_auth};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Basic,
    Bearer,
    ApiKey,
    AzureSas,
    GoogleServiceAccount,
}

const KINDS: &[(&str, Kind)] = &[
    ("none", Kind::None),
    ("basic", Kind::Basic),
    ("bearer", Kind::Bearer),
    ("api-key", Kind::ApiKey),
    ("azure-sas", Kind::AzureSas),
    ("google-service-account", Kind::GoogleServiceAccount),
];

/// Everything in Google Cloud that the account itself is allowed, which is what Google recommends: rights belong to the
/// account, not to the token.
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// What `auth` is, for "expected …".
const SHAPE: &str = "a table: [integration.NAME.auth]";

/// The authentication of an HTTP integration.
pub(super) fn http(
    table: &Table<'_>,
    value: Option<&Value<'_>>,
    peer: Option<&mut Peer<'_>>,
) -> Option<Spot<Auth>> {
    let read = match value {
        Some(value) => Some(value.spot(value.table(SHAPE, read)?.map(|(_, auth)| auth)?)),
        None => None,
    };
    let Some(peer) = peer else { return read.or_else(|| Some(no_auth(table))) };
    let auth = match (peer.login.take(), read) {
        (Some(_), Some(auth)) if !matches!(auth.value, Auth::None) => {
            let message = "user and password stand in the URL, and [auth] is given too";
            peer.url.refuse_with(message, "take them out of the URL");
            auth
        }
        (Some(login), _) => {
            let password = login.password.unwrap_or_else(|| Secret::new(String::new()));
            peer.url.spot(Auth::Basic { username: login.username, password })
        }
        (None, auth) => auth.unwrap_or_else(|| no_auth(table)),
    };
    peer.warn_if_exposed(!matches!(auth.value, Auth::None));
    Some(auth)
}

/// The authentication of an MQTT integration: none beside user name and password, or an Azure signature instead of the
/// password. With the latter, the client id is the device if nobody says otherwise.
pub(super) fn mqtt(
    table: &Table<'_>,
    value: Option<&Value<'_>>,
    peer: Option<&Peer<'_>>,
    has_password: bool,
) -> Option<Spot<Auth>> {
    let Some(value) = value else { return Some(no_auth(table)) };
    let (kind, auth) = value.table(SHAPE, read)??;
    match kind {
        Kind::None => {}
        Kind::AzureSas if has_password => {
            value.refuse_with("azure-sas makes the password, and one is given too", "remove password");
        }
        Kind::AzureSas => {
            if let Some(peer) = peer {
                peer.warn_if_exposed(true);
            }
        }
        _ => {
            let hint = "an MQTT broker takes username and password, beside url; or auth type = \"azure-sas\"";
            value.refuse_with("this kind of authentication is for HTTP", hint);
        }
    }
    Some(value.spot(auth))
}

fn read(table: &mut Table<'_>) -> Option<(Kind, Auth)> {
    let Some(kind) = table.need_choice("type", KINDS) else {
        table.forgive();
        return None;
    };
    let auth = match kind.value {
        Kind::None => Auth::None,
        Kind::Basic => {
            let (username, password) =
                (table.need_text("username", "username = \"gw\""), table.need_secret("password"));
            Auth::Basic { username: username?.value, password: password? }
        }
        Kind::Bearer => Auth::Bearer { token: bearer_token(table)? },
        Kind::ApiKey => api_key(table)?,
        Kind::AzureSas => azure_sas(table)?,
        Kind::GoogleServiceAccount => google_service_account(table)?,
    };
    Some((kind.value, auth))
}

fn azure_sas(table: &mut Table<'_>) -> Option<Auth> {
    let (minute, day) = (Duration::from_secs(60), Duration::from_secs(86_400));
    let (device, policy) = (table.text("device"), table.text("policy"));
    let ttl = table.duration("ttl", 60 * minute, 5 * minute..=365 * day).value;
    Some(Auth::AzureSas { key: table.need_secret("key")?, device, policy, ttl })
}

fn google_service_account(table: &mut Table<'_>) -> Option<Auth> {
    let scope = table.text_or("scope", GOOGLE_SCOPE).value;
    let ca = table.file("ca");
    Some(Auth::GoogleServiceAccount { key: table.need_secret("key")?, scope, ca })
}

/// `token`, which may also be called `value` as in an API key.
fn bearer_token(table: &mut Table<'_>) -> Option<Secret> {
    let (token, alias) = (table.get("token"), table.get("value"));
    if let (Some(_), Some(alias)) = (&token, &alias) {
        alias.refuse("token and value mean the same: keep token");
        return None;
    }
    match token.or(alias) {
        Some(value) => header_secret(&value),
        None => table.need_secret("token"),
    }
}

fn api_key(table: &mut Table<'_>) -> Option<Auth> {
    let place = table.choice("in", ApiKeyIn::Header, ApiKeyIn::NAMES).value;
    let name = table.need("name", "name = \"X-Api-Key\"");
    let text = name.as_ref().and_then(|name| name.text());
    if let (Some(name), Some(text)) = (&name, &text)
        && place == ApiKeyIn::Header
        && !http::is_token(text)
    {
        name.refuse("this cannot be the name of a header");
    }
    let prefix = table.get("prefix");
    let prefix = prefix.and_then(|value| value.str("a string in quotes")).unwrap_or_default().to_owned();
    let value = table.need("value", "value = { file = \"secrets/api-key\" }");
    let value = value.and_then(|value| header_secret(&value));
    Some(Auth::ApiKey { place, name: text?.value, prefix, value: value? })
}

/// A secret that travels in a header or a query.
fn header_secret(value: &Value<'_>) -> Option<Secret> {
    let secret = value.secret(Inline::Secret)?;
    if secret.expose().is_empty() || secret.expose().chars().any(char::is_control) {
        value.refuse("this is empty, or holds a line break or another control character");
        return None;
    }
    Some(secret)
}
