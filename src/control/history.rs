//! What was sent where, as JSON (DESIGN section 6): a contract.

use serde_json::{Map, Value, json};

use crate::clock::rfc3339;
use crate::history::{Entry, Outage, Sent, Standing};
use crate::spool::{DeadLetter, LossRange, ReplayReport};

use super::api::put;
use super::status::{Delivering, IntegrationStatus};

/// Which entries are wanted.
pub(super) struct Filter {
    /// All that the device may be called; none: every device.
    pub(super) device: Vec<String>,
    pub(super) since_us: Option<i64>,
    pub(super) failed: bool,
}

impl Filter {
    /// Those of one integration.
    pub(super) fn entries(&self, integration: &IntegrationStatus) -> Vec<Value> {
        let wanted = |entry: &&Entry| {
            let is_late = self.since_us.is_none_or(|since| entry.time_us() >= since);
            is_late && self.is_theirs(entry) && (!self.failed || entry.error().is_some())
        };
        let entries = integration.history.entries();
        let shown = |entry: &Entry| match entry {
            Entry::Uplink(sent) => self::sent(&integration.name, sent),
            Entry::Outage(outage) => self::outage(&integration.name, outage),
        };
        entries.iter().filter(wanted).map(shown).collect()
    }

    /// No device has a part in an outage.
    fn is_theirs(&self, entry: &Entry) -> bool {
        let is_it = |sent: &Sent| {
            let sender = &sent.exchange.device;
            self.device.iter().any(|name| name.eq_ignore_ascii_case(sender))
        };
        self.device.is_empty() || matches!(entry, Entry::Uplink(sent) if is_it(sent))
    }
}

/// Of all integrations together, the oldest first.
pub(super) fn by_time(mut entries: Vec<Value>) -> Vec<Value> {
    // RFC 3339 of one length sorts as time does.
    entries
        .sort_by_cached_key(|entry| entry.get("time").and_then(Value::as_str).unwrap_or_default().to_owned());
    entries
}

/// An uplink's attempts.
fn sent(integration: &str, sent: &Sent) -> Value {
    let exchange = &sent.exchange;
    let mut shown = Map::new();
    put(&mut shown, "id", json!(sent.id.to_string()));
    put(&mut shown, "time", json!(rfc3339(sent.time_us)));
    put(&mut shown, "integration", json!(integration));
    put(&mut shown, "device", json!(exchange.device));
    put(&mut shown, "status", json!(sent.standing.as_str()));
    put(&mut shown, "attempts", json!(sent.attempts));
    put(&mut shown, "duration_ms", json!(u64::try_from(exchange.took.as_millis()).unwrap_or(u64::MAX)));
    put(&mut shown, "input", json!(sent.input));
    put(&mut shown, "request", json!({ "target": exchange.target, "body": exchange.body }));
    let response = exchange.code.as_ref().map(|code| json!({ "code": code, "body": exchange.answer }));
    put(&mut shown, "response", json!(response));
    put(&mut shown, "error", json!(sent.error.as_ref().map(error)));
    put(&mut shown, "notes", json!(exchange.notes));
    Value::Object(shown)
}

/// A time without a connection, in the same words; it has no `id`, and `since`.
fn outage(integration: &str, outage: &Outage) -> Value {
    json!({
        "id": null,
        "time": rfc3339(outage.time_us),
        "since": rfc3339(outage.since_us),
        "integration": integration,
        "status": outage.as_str(),
        "attempts": outage.attempts,
        "error": error(&outage.error),
    })
}

fn error((layer, message): &crate::history::Error) -> Value {
    json!({ "layer": layer, "message": message })
}

/// A dead letter, in the same words.
pub(super) fn dead_letter(integration: &str, letter: &DeadLetter, delivering: &Delivering) -> Value {
    let snapshot = delivering.interpreter.now();
    let message = snapshot.message(&letter.uplink);
    // As a failure is written: the layer, a colon, what happened.
    let (layer, reason) = letter.reason.split_once(": ").unwrap_or(("", &letter.reason));
    json!({
        "id": letter.uplink.id.to_string(),
        "time": rfc3339(letter.refused_us),
        "heard": rfc3339(message.heard.wall_us),
        "integration": integration,
        "device": crate::printable::printable(&message.shown_device()),
        "status": Standing::DeadLetter.as_str(),
        "attempts": letter.attempts,
        "error": { "layer": layer, "message": crate::printable::printable(reason) },
    })
}

/// A range of losses.
pub(super) fn losses(range: &LossRange) -> Value {
    json!({
        "integration": range.name,
        "type": range.kind,
        "reason": range.loss.as_str(),
        "n": range.n,
        "first": { "id": range.first.map(|id| id.to_string()), "time": rfc3339(range.first_us) },
        "last": { "id": range.last.map(|id| id.to_string()), "time": rfc3339(range.last_us) },
    })
}

/// What a replay will do.
pub(super) fn replay(integration: &str, report: &ReplayReport) -> Value {
    json!({
        "integration": integration,
        "replayed": report.n,
        "gone_before": report.gone_before.and_then(rfc3339),
    })
}
