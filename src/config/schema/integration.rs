//! Integrations as the rooms see them.

use std::path::PathBuf;
use std::time::Duration;

use super::{Secret, Spot, names};

/// `[integration.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Integration {
    /// The table's name.
    pub name: Spot<String>,
    /// `false`: inactive (RULES S8).
    pub enabled: bool,
    /// The body's shape.
    pub format: Spot<Format>,
    /// A body template; overrides `format`.
    pub body: Option<Spot<String>>,
    /// Backlog order (RULES S14).
    pub order: Spot<Order>,
    /// Uplinks a second while draining a backlog; 0: no limit.
    pub replay_rate: Spot<u32>,
    /// Retry strategy.
    pub retry: Retry,
    /// Authentication.
    pub auth: Spot<Auth>,
    /// `[integration.NAME.tls]`
    pub tls: Tls,
    /// HTTP or MQTT, with its settings.
    pub kind: IntegrationKind,
}

impl Integration {
    /// `http` or `mqtt`, as in the file.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            IntegrationKind::Http(_) => "http",
            IntegrationKind::Mqtt(_) => "mqtt",
        }
    }
}

/// `type` of an integration.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a handful of them live as long as the configuration")]
pub enum IntegrationKind {
    /// `http`
    Http(Http),
    /// `mqtt`
    Mqtt(Mqtt),
}

/// `format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Packhorse's own body.
    Json,
    /// ChirpStack v4 `event/up`.
    Chirpstack,
    /// The Things Stack uplink.
    Tts,
    /// Helium Console.
    Helium,
}

/// `order`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// First heard, first sent.
    OldestFirst,
    /// What is heard now before what waited.
    LiveFirst,
}

/// An HTTP integration.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// The URL, as given: may hold placeholders in path and query. Never holds credentials.
    pub url: Spot<String>,
    /// The method.
    pub method: Method,
    /// Extra headers; values may hold placeholders.
    pub headers: Vec<(Spot<String>, Secret)>,
    /// `json`, `xml`, `form`, `text`, `binary` or a MIME type.
    pub content_type: Spot<String>,
    /// A whole attempt.
    pub timeout: Duration,
    /// How bodies are made smaller.
    pub compress: Spot<Compress>,
    /// What counts as delivered.
    pub success_codes: SuccessCodes,
    /// Requests in flight, 1 to 32.
    pub parallel: u16,
    /// Uplinks a request, at most as many as a lane holds (RULES S4); 1: no batching.
    pub batch: Spot<u16>,
    /// How a batch is put together.
    pub batch_format: BatchFormat,
}

/// `method`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
}

/// `compress`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    /// Not at all.
    None,
    /// `Content-Encoding: gzip`
    Gzip,
}

/// `batch_format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchFormat {
    /// A JSON array.
    Array,
    /// A JSON object a line.
    Ndjson,
}

/// `success_codes`: HTTP status codes that mean delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuccessCodes(pub Vec<std::ops::RangeInclusive<u16>>);

impl SuccessCodes {
    /// Whether `code` means delivered.
    pub fn contains(&self, code: u16) -> bool {
        self.0.iter().any(|range| range.contains(&code))
    }
}

/// An MQTT integration.
#[derive(Clone, Debug, PartialEq)]
pub struct Mqtt {
    /// `mqtt`, `mqtts`, `ws` or `wss`.
    pub scheme: Spot<MqttScheme>,
    /// Host name or address, an IPv6 address without brackets; for ws and wss with the path, and with brackets.
    pub host: Spot<String>,
    /// TCP port.
    pub port: u16,
    /// MQTT 3.1.1 or 5.
    pub version: Spot<MqttVersion>,
    /// Client id template (`{{gateway.name}}`).
    pub client_id: Spot<String>,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Topic template.
    pub topic: Spot<String>,
    /// Quality of service of the uplinks.
    pub qos: QoS,
    /// Whether the broker retains the last uplink of a topic.
    pub retain: bool,
    /// Keep-alive interval, 5 s to 65,535 s.
    pub keep_alive: Duration,
    /// Publishes in flight, 1 to 64.
    pub max_inflight: u16,
    /// What the broker publishes when we vanish.
    pub will: Option<Announcement>,
    /// What we publish on every connect.
    pub birth: Option<Announcement>,
    /// What we publish about ourselves now and then.
    pub state: Option<StateMessage>,
}

/// `version`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MqttVersion {
    /// MQTT 3.1.1
    V311,
    /// MQTT 5
    V5,
}

/// The scheme of a broker URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MqttScheme {
    /// Plain TCP.
    Mqtt,
    /// TLS.
    Mqtts,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl MqttScheme {
    /// Whether the connection is encrypted.
    pub fn is_tls(self) -> bool {
        matches!(self, MqttScheme::Mqtts | MqttScheme::Wss)
    }

    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            MqttScheme::Mqtt => "mqtt",
            MqttScheme::Mqtts => "mqtts",
            MqttScheme::Ws => "ws",
            MqttScheme::Wss => "wss",
        }
    }
}

/// MQTT quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QoS {
    /// At most once: delivered means written to the socket.
    AtMostOnce,
    /// At least once: delivered means PUBACK.
    AtLeastOnce,
    /// QoS 2: delivered means PUBCOMP; across connections still at least once (RULES S18).
    ExactlyOnce,
}

/// A birth or will message.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    /// Topic template (`{{gateway.name}}`).
    pub topic: Spot<String>,
    /// Payload template (`{{gateway.name}}`, `{{sequence}}`).
    pub payload: Spot<String>,
    /// Its quality of service.
    pub qos: QoS,
    /// Whether the broker retains it.
    pub retain: bool,
}

/// `[integration.NAME.state]`: how the gateway and this integration are doing, as JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct StateMessage {
    /// Topic template (`{{gateway.name}}`).
    pub topic: Spot<String>,
    /// How often, 10 s to a day; and on every connect.
    pub every: Duration,
    /// Its quality of service.
    pub qos: QoS,
    /// Whether the broker retains it.
    pub retain: bool,
}

/// `[integration.NAME.auth]`
#[derive(Clone, Debug, PartialEq)]
pub enum Auth {
    /// None.
    None,
    /// HTTP basic.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: Secret,
    },
    /// `Authorization: Bearer …`
    Bearer {
        /// The token.
        token: Secret,
    },
    /// A key in a header or in the query.
    ApiKey {
        /// Header or query parameter.
        place: ApiKeyIn,
        /// Its name.
        name: String,
        /// Put before the value, such as `Token `.
        prefix: String,
        /// The key.
        value: Secret,
    },
    /// Azure IoT Hub shared access signature.
    AzureSas {
        /// The base64 key of the device, or of the policy.
        key: Secret,
        /// The device that we are; may hold `{{gateway.name}}`. `None`: the client id (mqtt), or what the URL says (http).
        device: Option<Spot<String>>,
        /// The shared access policy that the key belongs to. `None`: it is the device's own.
        policy: Option<Spot<String>>,
        /// How long a signature is good.
        ttl: Duration,
    },
    /// Google service account (OAuth 2).
    GoogleServiceAccount {
        /// The JSON key file's text.
        key: Secret,
        /// What the token is for.
        scope: String,
        /// The CA of the token server; `None`: the system's roots.
        ca: Option<Spot<PathBuf>>,
    },
}

impl Auth {
    /// The device of an Azure signature, if it is named.
    pub fn device(&self) -> Option<&Spot<String>> {
        match self {
            Auth::AzureSas { device, .. } => device.as_ref(),
            _ => None,
        }
    }
}

/// `in` of an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiKeyIn {
    /// A request header.
    Header,
    /// A query parameter.
    Query,
}

/// `[integration.NAME.retry]`
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// How the waits grow.
    pub strategy: Strategy,
    /// The first wait.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// 0: until `max_age`.
    pub max_attempts: u32,
    /// How often a blocked endpoint is tried again.
    pub probe: Duration,
    /// What becomes of a refused record.
    pub on_reject: OnReject,
}

/// `strategy`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Doubling, with full jitter.
    Exponential,
    /// Always `initial`.
    Fixed,
    /// One attempt.
    None,
}

/// `on_reject`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReject {
    /// Keep it apart, visible and replayable.
    DeadLetter,
    /// Try it again as if it had been a transient failure.
    Retry,
}

/// `[integration.NAME.tls]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// A private CA; `None`: the system's roots.
    pub ca: Option<Spot<PathBuf>>,
    /// Our certificate chain.
    pub cert: Option<Spot<PathBuf>>,
    /// Its key.
    pub key: Option<Spot<PathBuf>>,
    /// The name to verify and send as SNI (http only).
    pub server_name: Option<Spot<String>>,
    /// ALPN protocols.
    pub alpn: Vec<String>,
}

names!(Format { Json = "json", Chirpstack = "chirpstack", Tts = "tts", Helium = "helium" });
names!(Order { OldestFirst = "oldest-first", LiveFirst = "live-first" });
names!(Method { Post = "POST", Put = "PUT", Patch = "PATCH" });
names!(Compress { None = "none", Gzip = "gzip" });
names!(BatchFormat { Array = "array", Ndjson = "ndjson" });
names!(MqttVersion { V311 = "3.1.1", V5 = "5" });
names!(Strategy { Exponential = "exponential", Fixed = "fixed", None = "none" });
names!(OnReject { DeadLetter = "dead-letter", Retry = "retry" });
names!(ApiKeyIn { Header = "header", Query = "query" });
names!(MqttScheme { Mqtt = "mqtt", Mqtts = "mqtts", Ws = "ws", Wss = "wss" });
