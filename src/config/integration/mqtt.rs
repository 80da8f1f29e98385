//! The keys of an MQTT integration, with its birth and its will.

use std::time::Duration;

use toml::de::DeValue;

use super::super::address::Endpoint;
use super::super::flow::topic_problem;
use super::super::reader::{Table, Value};
use super::super::schema::{Announcement, Mqtt, MqttScheme, MqttVersion, QoS, Spot, StateMessage};
use super::Peer;

/// The keys that only MQTT has.
pub(super) const KEYS: &[&str] = &[
    "port",
    "version",
    "client_id",
    "username",
    "password",
    "topic",
    "qos",
    "retain",
    "keep_alive",
    "max_inflight",
    "will",
    "birth",
    "state",
];

/// Every scheme of a broker's URL, aliases too, and the port it stands for.
const SCHEMES: [(&str, MqttScheme, u16); 7] = [
    ("mqtt", MqttScheme::Mqtt, 1883),
    ("mqtts", MqttScheme::Mqtts, 8883),
    ("ws", MqttScheme::Ws, 80),
    ("wss", MqttScheme::Wss, 443),
    ("tcp", MqttScheme::Mqtt, 1883),
    ("ssl", MqttScheme::Mqtts, 8883),
    ("tls", MqttScheme::Mqtts, 8883),
];

pub(super) fn read<'a>(table: &mut Table<'a>, name: &str) -> (Option<Mqtt>, Option<Peer<'a>>) {
    let broker = broker(table);
    let version = version(table);
    let client_id = table.text_or("client_id", format!("{{{{gateway.name}}}}-{name}"));
    let username = table.text("username").map(|name| name.value);
    let password = table.secret("password");
    let topic = table.text_or("topic", "packhorse/{{gateway.name}}/{{device.dev_eui}}/up");
    check_topic(table, &topic);
    let (qos, retain) = (qos(table), table.flag("retain", false));
    let seconds = Duration::from_secs;
    let keep_alive = table.duration("keep_alive", seconds(30), seconds(5)..=seconds(65_535)).value;
    let max_inflight = table.number("max_inflight", 16, 1..=64).value;
    let (will, birth) = (announcement(table, "will", "offline"), announcement(table, "birth", "online"));
    let state = state(table);
    let Some(Broker { scheme, host, port, mut peer }) = broker else { return (None, None) };
    let (username, password) = match peer.login.take() {
        Some(_) if username.is_some() || password.is_some() => {
            let message = "user name and password stand in the URL and beside it";
            peer.url.refuse_with(message, "take them out of the URL");
            (username, password)
        }
        Some(login) => (Some(login.username), login.password),
        None => (username, password),
    };
    peer.warn_if_exposed(username.is_some() || password.is_some());
    let (scheme, host) = (peer.url.spot(scheme), peer.url.spot(host));
    let mqtt = Mqtt {
        scheme,
        host,
        port,
        version,
        client_id,
        username,
        password,
        topic,
        qos,
        retain,
        keep_alive,
        max_inflight,
        will,
        birth,
        state,
    };
    (Some(mqtt), Some(peer))
}

/// `url` and `port`, which together say where the broker is.
struct Broker<'a> {
    scheme: MqttScheme,
    host: String,
    port: u16,
    peer: Peer<'a>,
}

fn broker<'a>(table: &mut Table<'a>) -> Option<Broker<'a>> {
    let url = table.need("url", "url = \"mqtts://broker.example.com\"");
    let port = table.get("port");
    let port = port.and_then(|value| Some((value.number(1..=u16::MAX)?, value)));
    let url = url?;
    let mut endpoint = Endpoint::read(&url, &SCHEMES.map(|(name, _, _)| name))?;
    let (_, scheme, usual) = SCHEMES.into_iter().find(|(name, _, _)| *name == endpoint.scheme)?;
    if let (Some(in_url), Some((port, value))) = (endpoint.port, &port)
        && in_url != *port
    {
        value.refuse(format!("port is {port}, but the URL says {in_url}: keep one"));
    }
    let websocket = matches!(scheme, MqttScheme::Ws | MqttScheme::Wss);
    if !websocket && !matches!(endpoint.rest.as_str(), "" | "/") {
        let hint = "topics have keys of their own; only ws and wss take a path";
        url.refuse_with("the URL of an MQTT broker has no path", hint);
    }
    if endpoint.rest.contains("{{") {
        url.refuse(
            "placeholders have no place in the URL of a broker: it is connected to once for all uplinks",
        );
    }
    let host = match websocket {
        true => format!("{}{}", endpoint.host, endpoint.rest),
        false => endpoint.bare_host().to_owned(),
    };
    let port = port.map(|(port, _)| port).or(endpoint.port).unwrap_or(usual);
    let peer = Peer::new(
        url,
        &mut endpoint,
        (&["mqtts", "ssl", "tls", "wss"], if websocket { "wss" } else { "mqtts" }),
    );
    Some(Broker { scheme, host, port, peer })
}

/// `"3.1.1"`, `"5"` or `5`.
fn version(table: &mut Table<'_>) -> Spot<MqttVersion> {
    let Some(value) = table.get("version") else { return table.absent(MqttVersion::V311) };
    let version = match value.raw() {
        DeValue::Integer(_) => value.number(5..=5u8).map(|_| MqttVersion::V5),
        _ => value.choice(MqttVersion::NAMES),
    };
    value.spot(version.unwrap_or(MqttVersion::V311))
}

fn qos(table: &mut Table<'_>) -> QoS {
    match table.number("qos", 1u8, 0..=2).value {
        0 => QoS::AtMostOnce,
        2 => QoS::ExactlyOnce,
        _ => QoS::AtLeastOnce,
    }
}

fn announcement(table: &mut Table<'_>, key: &'static str, payload: &str) -> Option<Announcement> {
    let value: Value<'_> = table.get(key)?;
    let expected = format!("a table: [{}]", value.key());
    value.table(&expected, |table| {
        let topic = table.need_text("topic", "topic = \"packhorse/{{gateway.name}}/state\"");
        if let Some(topic) = &topic {
            check_topic(table, topic);
        }
        let payload = match table.get("payload") {
            Some(value) => value.spot(value.str("a string in quotes").unwrap_or_default().to_owned()),
            None => table.absent(payload.to_owned()),
        };
        let (qos, retain) = (qos(table), table.flag("retain", true));
        Some(Announcement { topic: topic?, payload, qos, retain })
    })?
}

/// The topics of birth and will are the usual place for "online" and "offline", so this one has no default.
fn state(table: &mut Table<'_>) -> Option<StateMessage> {
    let value: Value<'_> = table.get("state")?;
    let expected = format!("a table: [{}]", value.key());
    value.table(&expected, |table| {
        let topic = table.need_text("topic", "topic = \"packhorse/{{gateway.name}}/status\"");
        if let Some(topic) = &topic {
            check_topic(table, topic);
        }
        let seconds = Duration::from_secs;
        let every = table.duration("every", seconds(300), seconds(10)..=seconds(86_400)).value;
        let (qos, retain) = (qos(table), table.flag("retain", true));
        Some(StateMessage { topic: topic?, every, qos, retain })
    })?
}

fn check_topic(table: &Table<'_>, topic: &Spot<String>) {
    if let Some(problem) = topic_problem(topic, &table.path("topic")) {
        table.report(problem);
    }
}
