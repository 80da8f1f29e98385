//! What templates read: the names of DESIGN section 7 and a few more.
//!
//! It is the default body read back, so a number is in a template what it is in the body, to the digit, and there is no
//! name that one has and the other has not. On top come the time in milliseconds, the bytes in hex, the flags also where they are false, and
//! the device's variables, which no default body has. What a function made is read apart: a result that can't be read (nested
//! too deep, a number out of range) is missing, and takes nothing else with it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::escape;
use super::format::packhorse;
use super::message::Message;
use super::template::Template;

/// What stands for a secret wherever people look.
pub(super) const SECRET: &str = "[secret]";

impl Message<'_> {
    /// What templates read. Holds the device's secret variables (RULES S34): for the wire only.
    pub fn context(&self) -> Value {
        self.context_with(|secret| secret.to_owned(), |_| true)
    }

    /// The part of it that these templates read: few need much of it.
    pub fn context_for<'t>(&self, templates: impl Iterator<Item = &'t Template> + Clone) -> Value {
        let wants = |name: &str| templates.clone().any(|template| template.reads(name));
        self.context_with(|secret| secret.to_owned(), wants)
    }

    /// The same with `[secret]` for each secret: for [`Template::shown`](super::Template::shown).
    pub fn shown_context(&self) -> Value {
        self.context_with(|_| SECRET.to_owned(), |_| true)
    }

    /// Whether a template could put a secret into what it makes of this.
    pub fn has_secrets(&self) -> bool {
        self.device.is_some_and(|device| !device.secret_variables.is_empty())
    }

    /// `text` of an answer without the device's secrets in it, as they are or as a URL, a form or a JSON string has them.
    pub fn hide(&self, text: &str) -> String {
        let secrets = self.device.iter().flat_map(|device| device.secret_variables.values());
        let mut forms: Vec<String> = secrets
            .map(|secret| secret.expose())
            .filter(|secret| !secret.is_empty())
            .flat_map(|secret| {
                let encoded = [escape::percent_encode(secret), escape::form_encode(secret)];
                let escaped = [escape::json_string(secret), escape::xml_text(secret)];
                std::iter::once(secret.to_owned()).chain(encoded).chain(escaped)
            })
            .collect();
        forms.sort_by_key(|form| Reverse(form.len()));
        forms.iter().fold(text.to_owned(), |text, form| text.replace(form.as_str(), SECRET))
    }

    /// The names at the top that are wanted, as far as there is a value for them.
    fn context_with(&self, secret: impl Fn(&str) -> String, wants: impl Fn(&str) -> bool) -> Value {
        // It holds nothing that can't be written or read back; were it otherwise, every value would be missing.
        let plain = serde_json::to_vec(&packhorse::without_results(self)).unwrap_or_default();
        let plain: BTreeMap<&str, &RawValue> = serde_json::from_slice(&plain).unwrap_or_default();
        let mut context = Map::new();
        for (name, text) in plain.iter().filter(|(name, _)| wants(name)) {
            context.extend(read_result(text).map(|value| ((*name).to_owned(), value)));
        }
        let mut add = |name: &str, value: &dyn Fn() -> Option<Value>| {
            if wants(name) {
                context.extend(value().map(|value| (name.to_owned(), value)));
            }
        };
        add("retransmission", &|| Some(self.uplink.flags.retransmission.into()));
        add("simulated", &|| Some(self.uplink.flags.simulated.into()));
        add("replay", &|| Some(self.replay.into()));
        add("time_ms", &|| milliseconds_of(read_result(plain.get("time")?)?.as_str()?).map(Value::from));
        add("payload_hex", &|| Some(HEXLOWER.encode(self.payload.as_deref()?).into()));
        add("phy_payload_hex", &|| Some(HEXLOWER.encode(self.frame()?).into()));
        add("decoded", &|| read_result(self.decoding.data.as_deref()?));
        add("normalized", &|| read_result(self.decoding.normalized.as_deref()?));
        if let Some(device) = self.device
            && let Some(Value::Object(members)) = context.get_mut("device")
        {
            let plain = device.variables.iter().map(|(name, value)| (name.clone(), value.clone()));
            let secrets =
                device.secret_variables.iter().map(|(name, value)| (name.clone(), secret(value.expose())));
            let variables = plain.chain(secrets).map(|(name, value)| (name, Value::from(value))).collect();
            members.insert("variables".to_owned(), Value::Object(variables));
        }
        Value::Object(context)
    }
}

/// The time of the body once more, in milliseconds since 1970: what time series want.
fn milliseconds_of(time: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(time, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

fn read_result(text: &RawValue) -> Option<Value> {
    serde_json::from_str(text.get()).ok()
}
