//! `[[flow]]`: which uplinks go where.

use super::problem::Problem;
use super::reader::{Table, Value, name_problem};
use super::schema::{Event, Flow, Format, From, Spot, Target};

/// `mode`, with whether it is failover.
const MODES: &[(&str, bool)] = &[("all", false), ("failover", true)];

/// `from` as one word.
const FROM: &[(&str, bool)] = &[("all", true), ("known", false)];

/// What `from` may look like, for "expected …".
const FROM_SHAPES: &str = "\"known\", \"all\", { labels = [\"…\"] } or { devices = [\"…\"] }";

/// What `to` may look like, for "expected …".
const TO_SHAPES: &str = "a list of integrations such as [\"factory-api\"]";

/// Reads one flow. Without `from` it takes the known devices, or everything where no device is configured, just as the
/// implicit flow of a configuration without flows does.
pub(super) fn read(value: &Value<'_>, any_devices: bool) -> Option<Flow> {
    value.table("a table: [[flow]]", |table| {
        let name = table.need_text("name", "name = \"silos\"");
        if let Some(problem) = name.as_ref().and_then(|name| name_problem(name, &table.path("name"))) {
            table.report(problem);
        }
        let from = match table.get("from") {
            Some(value) => from(&value),
            None if any_devices => Some(From::Known),
            None => Some(From::All),
        };
        let events = events(table);
        let ports = table.get("ports").map(|value| value.items("a list of port numbers such as [2]"));
        let ports = ports.unwrap_or_default().iter().filter_map(|port| port.number(0..=u8::MAX)).collect();
        let function = table.text("function");
        let failover = table.choice("mode", false, MODES).value;
        let to = to(table);
        Some(Flow { name: name?, from: from?, events, ports, function, to, failover })
    })?
}

fn from(value: &Value<'_>) -> Option<From> {
    if value.raw().is_str() {
        return Some(if value.choice(FROM)? { From::All } else { From::Known });
    }
    value.table(FROM_SHAPES, |table| {
        let (labels, devices) = (table.get("labels"), table.get("devices"));
        let list = |value: Value<'_>| -> Vec<Spot<String>> {
            let items = value.some_items("a list of strings such as [\"…\"]", "the flow would take nothing");
            items.iter().filter_map(Value::text).collect()
        };
        match (labels, devices) {
            (Some(labels), None) => {
                Some(From::Labels(list(labels).into_iter().map(|label| label.value).collect()))
            }
            (None, Some(devices)) => Some(From::Devices(list(devices))),
            _ => {
                value.refuse(format!("expected {FROM_SHAPES}"));
                None
            }
        }
    })?
}

fn events(table: &mut Table<'_>) -> Vec<Event> {
    let Some(value) = table.get("events") else { return vec![Event::Uplink] };
    let items = value.some_items("a list such as [\"uplink\"]", "the flow would take nothing");
    items.iter().filter_map(|item| item.choice(Event::NAMES)).collect()
}

fn to(table: &mut Table<'_>) -> Vec<Target> {
    let Some(value) = table.need("to", "to = [\"factory-api\"]") else { return Vec::new() };
    value.some_items(TO_SHAPES, "the flow would lead nowhere").iter().filter_map(target).collect()
}

fn target(value: &Value<'_>) -> Option<Target> {
    if value.raw().is_str() {
        return Some(Target { integration: value.text()?, topic: None, format: None });
    }
    value.table("the name of an integration, or { integration = \"…\", topic = \"…\" }", |table| {
        let integration = table.need_text("integration", "integration = \"factory-api\"");
        let topic = table.text("topic");
        if let Some(problem) = topic.as_ref().and_then(|topic| topic_problem(topic, &table.path("topic"))) {
            table.report(problem);
        }
        let format = table.get("format").and_then(|value| value.choice(Format::NAMES));
        Some(Target { integration: integration?, topic, format })
    })?
}

/// What no topic to publish on may hold outside of its placeholders (MQTT 3.1.1 section 4.7.1, 4.7.3).
pub(super) fn topic_problem(topic: &Spot<String>, key: &str) -> Option<Problem> {
    let pieces = super::address::outside_placeholders(topic);
    if pieces.iter().any(|piece| piece.contains(['+', '#'])) {
        let message = "+ and # are for subscriptions: nothing can be published there";
        return Some(Problem::error(&topic.place, key, message));
    }
    let control = pieces.iter().any(|piece| piece.chars().any(char::is_control));
    control.then(|| Problem::error(&topic.place, key, "a topic holds no control characters"))
}
