//! `[integration.NAME]`: where uplinks go. What `http` and `mqtt` share is here; their own keys are in `http` and `mqtt`,
//! and the tables below an integration have a file each.

mod auth;
mod http;
mod mqtt;
mod retry;
mod tls;

use super::address::{Endpoint, Login};
use super::reader::{Named, Table, Value};
use super::schema::{Auth, Format, Integration, IntegrationKind, Order, Spot};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Mqtt,
}

const KINDS: &[(&str, Kind)] = &[("http", Kind::Http), ("mqtt", Kind::Mqtt)];

/// The far end, as far as the shared tables need to know it.
struct Peer<'a> {
    url: Value<'a>,
    /// Whether the connection is encrypted.
    tls: bool,
    /// Whether it stays on this machine.
    loopback: bool,
    /// The scheme that would encrypt it.
    safe: &'static str,
    /// Credentials that were in the URL; taken by whoever uses them.
    login: Option<Login>,
}

impl<'a> Peer<'a> {
    fn new(url: Value<'a>, endpoint: &mut Endpoint, secure: (&[&str], &'static str)) -> Self {
        let (tls_schemes, safe) = secure;
        Peer {
            url,
            tls: tls_schemes.contains(&endpoint.scheme.as_str()),
            loopback: endpoint.is_loopback(),
            safe,
            login: endpoint.login.take(),
        }
    }

    /// Credentials must not cross a network in the clear without somebody knowing.
    fn warn_if_exposed(&self, has_credentials: bool) {
        if has_credentials && !self.tls && !self.loopback {
            let message = "credentials go to another machine over a plain connection";
            self.url.warn(message, format!("use {}:// if the far end offers it", self.safe));
        }
    }
}

/// Reads one integration.
pub(super) fn read(entry: Named<'_>) -> Option<Integration> {
    entry.check_name();
    let name = &entry.name;
    let integration = entry.value.table("a table: [integration.NAME]", |table| {
        let Some(kind) = table.need_choice("type", KINDS) else {
            table.forgive();
            return None;
        };
        read_kind(name, kind.value, table)
    });
    integration?
}

fn read_kind(name: &Spot<String>, kind: Kind, table: &mut Table<'_>) -> Option<Integration> {
    table.elsewhere(&["ca", "cert", "key", "server_name", "alpn"], "[integration.NAME.tls]");
    table.elsewhere(
        &["strategy", "initial", "max", "max_attempts", "probe", "on_reject"],
        "[integration.NAME.retry]",
    );
    let enabled = table.flag("enabled", true);
    let (format, body) = shape(table);
    let order = table.choice("order", Order::OldestFirst, Order::NAMES);
    let replay_rate = table.number("replay_rate", 0, 0..=100_000);
    let retry = table.sub("retry", retry::read);
    let auth = table.get("auth");
    let (kind, auth, tls) = match kind {
        Kind::Http => {
            table.elsewhere(&["username", "password", "token"], "[integration.NAME.auth]");
            table.elsewhere(mqtt::KEYS, "type = \"mqtt\"");
            let (http, mut peer) = http::read(table);
            let auth = auth::http(table, auth.as_ref(), peer.as_mut());
            (
                http.map(IntegrationKind::Http),
                auth,
                table.sub("tls", |table| tls::read(table, peer.as_ref(), kind)),
            )
        }
        Kind::Mqtt => {
            table.elsewhere(http::KEYS, "type = \"http\"");
            let (mut mqtt, peer) = mqtt::read(table, name);
            let has_password = mqtt.as_ref().is_some_and(|mqtt| mqtt.password.is_some());
            let auth = auth::mqtt(table, auth.as_ref(), peer.as_ref(), has_password);
            if let (Some(mqtt), Some(device)) = (&mut mqtt, auth.as_ref().and_then(|auth| auth.device()))
                && table.get("client_id").is_none()
            {
                mqtt.client_id = device.clone();
            }
            (
                mqtt.map(IntegrationKind::Mqtt),
                auth,
                table.sub("tls", |table| tls::read(table, peer.as_ref(), kind)),
            )
        }
    };
    let (name, kind, auth) = (name.clone(), kind?, auth?);
    Some(Integration { name, enabled, format, body, order, replay_rate, retry, auth, tls, kind })
}

/// `format` and `body`, of which `body` wins.
fn shape(table: &mut Table<'_>) -> (Spot<Format>, Option<Spot<String>>) {
    let body = table.text("body");
    let given = table.get("format");
    if let Some(value) = given.filter(|_| body.is_some()) {
        value.warn("format has no effect: body says what is sent", "remove one of the two");
    }
    (table.choice("format", Format::Json, Format::NAMES), body)
}

/// No authentication.
fn no_auth(table: &Table<'_>) -> Spot<Auth> {
    table.absent(Auth::None)
}
