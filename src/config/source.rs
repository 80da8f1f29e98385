//! `[source.NAME]`: where uplinks come in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::address::{self, Endpoint};
use super::problem::Problem;
use super::reader::{Named, Table, Value};
use super::schema::{
    Format, HttpSource, MqttScheme, MqttSource, Network, SemtechUdp, Source, SourceKind, Spot,
};

#[derive(Clone, Copy)]
enum Kind {
    SemtechUdp,
    Mqtt,
    Http,
}

const KINDS: &[(&str, Kind)] =
    &[("semtech-udp", Kind::SemtechUdp), ("mqtt", Kind::Mqtt), ("http", Kind::Http)];

/// The schemes of a broker's URL, and the port each stands for.
const SCHEMES: [(&str, MqttScheme, u16); 4] = [
    ("mqtt", MqttScheme::Mqtt, 1883),
    ("mqtts", MqttScheme::Mqtts, 8883),
    ("ws", MqttScheme::Ws, 80),
    ("wss", MqttScheme::Wss, 443),
];

/// Reads one source.
pub(super) fn read(entry: Named<'_>) -> Option<Source> {
    entry.check_name();
    let kind = entry.value.table("a table: [source.NAME]", |table| {
        let Some(kind) = table.need_choice("type", KINDS) else {
            table.forgive();
            return None;
        };
        match kind.value {
            Kind::SemtechUdp => Some(SourceKind::SemtechUdp(semtech_udp(table))),
            Kind::Mqtt => mqtt(table).map(SourceKind::Mqtt),
            Kind::Http => Some(SourceKind::Http(http(table))),
        }
    })??;
    Some(Source { name: entry.name, kind })
}

fn semtech_udp(table: &mut Table<'_>) -> SemtechUdp {
    let listen = table.listen("listen").unwrap_or_else(|| table.absent(loopback(1700)));
    let networks = table.get("allow").map(|value| {
        let items = value.some_items("a list of networks such as [\"192.168.1.0/24\"]", "nobody could send");
        items.iter().filter_map(address::network).collect()
    });
    if networks.is_some() {
        warn_if_reachable(table, &listen, "the packet forwarder's port");
    } else if !listen.ip().is_loopback() {
        let message = format!("{} can be reached from outside, but only this machine may send", listen.value);
        let hint = "name who else may: allow = [\"192.168.1.0/24\"]; or listen on 127.0.0.1";
        table.report(Problem::warning(&listen.place, table.path("listen"), message).hint(hint));
    }
    let forward_to = table.get("forward_to");
    let forward_to =
        forward_to.map(|value| value.items("a list such as [\"127.0.0.1:1680\"]")).unwrap_or_default();
    SemtechUdp {
        allow: networks.unwrap_or_else(this_machine),
        accept: table.texts("accept"),
        rate_limit: table.number("rate_limit", 1000, 0..=1_000_000).value,
        forward_to: forward_to.iter().filter_map(address::peer).collect(),
        listen,
    }
}

fn mqtt(table: &mut Table<'_>) -> Option<MqttSource> {
    let url = table.need("url", "url = \"mqtt://127.0.0.1:1883\"");
    let endpoint = url.as_ref().and_then(|value| Endpoint::read(value, &SCHEMES.map(|(name, _, _)| name)));
    let topics = table.need("topics", "topics = [\"application/+/device/+/event/up\"]");
    let topics = topics.map(|value| value.some_items("a list of topic filters", "nothing would be heard"));
    let topics = topics.unwrap_or_default().iter().filter_map(Value::text).collect();
    let format = table.choice("format", Format::Json, Format::NAMES);
    let username = table.text("username").map(|name| name.value);
    let password = table.secret("password");
    let (url, mut endpoint) = (url?, endpoint?);
    let (username, password) = match endpoint.login.take() {
        Some(_) if username.is_some() || password.is_some() => {
            url.refuse_with(
                "user name and password stand in the URL and beside it",
                "take them out of the URL",
            );
            (None, None)
        }
        Some(login) => (Some(login.username), login.password),
        None => (username, password),
    };
    let (_, scheme, usual) = SCHEMES.into_iter().find(|(name, _, _)| *name == endpoint.scheme)?;
    if !matches!(endpoint.rest.as_str(), "" | "/") && !matches!(scheme, MqttScheme::Ws | MqttScheme::Wss) {
        url.refuse_with("the URL of an MQTT broker has no path", "topics have a key of their own");
    }
    if (username.is_some() || password.is_some()) && !scheme.is_tls() && !endpoint.is_loopback() {
        let message = "credentials go to another machine over a plain connection";
        url.warn(message, "use mqtts:// if the broker offers it");
    }
    Some(MqttSource {
        url: url.spot(endpoint.url()),
        scheme,
        host: endpoint.bare_host().to_owned(),
        port: endpoint.port.unwrap_or(usual),
        topics,
        format,
        username,
        password,
    })
}

fn http(table: &mut Table<'_>) -> HttpSource {
    let listen = table.listen("listen").unwrap_or_else(|| table.absent(loopback(8090)));
    let given = table.get("token").is_some();
    let token = table.secret("token");
    if listen.ip().is_loopback() {
        return HttpSource { listen, token };
    }
    if given {
        warn_if_reachable(table, &listen, "POST /uplinks");
    } else {
        let message = format!("{} can be reached from outside, and no token is set", listen.value);
        let hint = "set token = { file = \"secrets/webhook\" }, or listen on 127.0.0.1";
        table.report(Problem::error(&listen.place, table.path("listen"), message).hint(hint));
    }
    HttpSource { listen, token }
}

/// DESIGN section 4, invariant 6: a listener that others can reach is worth a warning.
pub(super) fn warn_if_reachable(table: &Table<'_>, listen: &Spot<SocketAddr>, what: &str) {
    if !listen.ip().to_canonical().is_loopback() {
        let message = format!("{} can be reached from outside: {what}", listen.value);
        let hint = "listen on 127.0.0.1 unless that is what you want, and let a firewall say who may";
        table.report(Problem::warning(&listen.place, table.path("listen"), message).hint(hint));
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Both loopback networks.
fn this_machine() -> Vec<Network> {
    let network = |address: IpAddr, prefix| Network { address, prefix };
    vec![network(Ipv4Addr::new(127, 0, 0, 0).into(), 8), network(Ipv6Addr::LOCALHOST.into(), 128)]
}
