//! What the integration says about the gateway and itself: client id, birth, will, farewell, state.
//!
//! All of it is sent without an uplink, so its placeholders are few: `{{gateway.name}}`, and in the payloads of birth and
//! will `{{sequence}}`. That is the number of the connection since the agent started, from 1: will and farewell have the
//! number of the birth before them, so a subscriber can tell a late "offline" of the last connection from news.
//!
//! The state is JSON with the names of `status --json`: a retained message by which somebody who sees nothing but the
//! broker knows of a backlog, of losses and of a spool in trouble.

use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use serde_json::{Map, Value, json};

use crate::clock::rfc3339;
use crate::config::{self, Problem};
use crate::render::{Purpose, SEQUENCE, Template};

use super::qos;
use super::wire::{Properties, Publication};

/// Birth or will.
#[derive(Clone, Debug)]
pub(super) struct Announcement {
    topic: String,
    payload: Template,
    qos: QoS,
    retain: bool,
}

impl Announcement {
    /// As it is said on connection `sequence`.
    pub(super) fn publication(&self, gateway: &str, sequence: u64) -> Publication {
        let context = json!({ "gateway": { "name": gateway }, SEQUENCE: sequence });
        // Plain text takes every value, so there is always one.
        let payload = self.payload.render(&context).unwrap_or_default().into_bytes();
        let (topic, qos, retain) = (self.topic.clone(), self.qos, self.retain);
        Publication { topic, payload, qos, retain, properties: None }
    }
}

/// `[integration.NAME.state]`
#[derive(Clone, Debug)]
pub(super) struct StateMessage {
    topic: String,
    pub(super) every: Duration,
    qos: QoS,
    retain: bool,
}

/// What a state says that no lane knows.
pub(super) struct About<'a> {
    pub(super) gateway: &'a str,
    pub(super) time_us: i64,
    /// Since this integration was built.
    pub(super) uptime_s: u64,
    pub(super) sequence: u64,
}

impl StateMessage {
    /// What a lane says of itself, with what only the connection knows.
    pub(super) fn publication(
        &self,
        about: &About<'_>,
        bulletin: Map<String, Value>,
        is_v5: bool,
    ) -> Publication {
        let About { gateway, time_us, uptime_s, sequence } = about;
        let mut state = Map::new();
        state.insert("type".to_owned(), json!("state"));
        state.insert("time".to_owned(), json!(rfc3339(*time_us)));
        state.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
        state.insert("gateway".to_owned(), json!(gateway));
        state.insert(SEQUENCE.to_owned(), json!(sequence));
        state.insert("uptime_s".to_owned(), json!(uptime_s));
        state.extend(bulletin);
        let payload = Value::Object(state).to_string().into_bytes();
        let properties = is_v5
            .then(|| Properties { content_type: "application/json".to_owned(), ..Properties::default() });
        let (topic, qos, retain) = (self.topic.clone(), self.qos, self.retain);
        Publication { topic, payload, qos, retain, properties }
    }
}

/// All of it, as far as it is the same for every connection.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) client_id: String,
    pub(super) will: Option<Announcement>,
    pub(super) birth: Option<Announcement>,
    pub(super) state: Option<StateMessage>,
}

impl Own {
    /// # Errors
    /// A placeholder that needs an uplink, or a text that is no template.
    pub(super) fn try_new(name: &str, mqtt: &config::Mqtt, gateway: &str) -> Result<Own, Vec<Problem>> {
        let mut reader = Reader { name, gateway, problems: Vec::new() };
        let client_id = reader.text(&mqtt.client_id, Purpose::Plain, "client_id");
        let will = mqtt.will.as_ref().and_then(|will| reader.announcement(will, "will"));
        let birth = mqtt.birth.as_ref().and_then(|birth| reader.announcement(birth, "birth"));
        let state = mqtt.state.as_ref().and_then(|state| {
            let topic = reader.text(&state.topic, Purpose::Topic, "state.topic")?;
            Some(StateMessage { topic, every: state.every, qos: qos(state.qos), retain: state.retain })
        });
        match client_id {
            Some(client_id) if reader.problems.is_empty() => Ok(Own { client_id, will, birth, state }),
            _ => Err(reader.problems),
        }
    }
}

/// Reads templates that may speak of the gateway alone.
struct Reader<'a> {
    name: &'a str,
    gateway: &'a str,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn announcement(&mut self, announcement: &config::Announcement, table: &str) -> Option<Announcement> {
        let topic = self.text(&announcement.topic, Purpose::Topic, &format!("{table}.topic"));
        let payload = self.template(&announcement.payload, Purpose::Plain, true, &format!("{table}.payload"));
        let (qos, retain) = (qos(announcement.qos), announcement.retain);
        Some(Announcement { topic: topic?, payload: payload?, qos, retain })
    }

    /// A text that is the same on every connection.
    fn text(&mut self, text: &config::Spot<String>, purpose: Purpose, key: &str) -> Option<String> {
        let template = self.template(text, purpose, false, key)?;
        let rendered = template.render(&json!({ "gateway": { "name": self.gateway } }));
        rendered.map_err(|error| self.refuse(text, key, error.to_string())).ok()
    }

    fn template(
        &mut self,
        text: &config::Spot<String>,
        purpose: Purpose,
        numbered: bool,
        key: &str,
    ) -> Option<Template> {
        let template = match Template::parse(text, purpose) {
            Ok(template) => template,
            Err(error) => {
                self.refuse(text, key, error.to_string());
                return None;
            }
        };
        let is_number = |name: String| name == SEQUENCE || name.starts_with("gateway.");
        if template.only_gateway() || (numbered && template.names().all(is_number)) {
            return Some(template);
        }
        let which = if numbered { "{{gateway.name}} and {{sequence}}" } else { "{{gateway.name}}" };
        self.refuse(text, key, format!("only {which} can be used here: it is sent without an uplink"));
        None
    }

    fn refuse(&mut self, text: &config::Spot<String>, key: &str, message: String) {
        let key = format!("integration.{}.{key}", self.name);
        self.problems.push(Problem::error(&text.place, key, message));
    }
}
