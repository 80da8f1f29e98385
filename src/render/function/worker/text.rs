//! JavaScript values as bounded Rust text.

use rquickjs::{Coerced, Value};

use super::super::json;
use super::super::wire::bounded;

/// What is read of a text of which people see the beginning.
const MAX_READ: usize = 64 << 10;

/// Why a string did not become text.
#[derive(Debug)]
pub(super) enum NoText {
    /// It is longer than allowed.
    Long,
    /// QuickJS threw.
    Thrown,
}

/// The text of a string of at most `most` bytes. The length is looked at first: what a script may hold need not fit into
/// what the process may hold beside it.
pub(super) fn of_string(string: &rquickjs::String<'_>, most: usize) -> Result<String, NoText> {
    if string.clone().to_cstring().map_err(|_| NoText::Thrown)?.len() > most {
        return Err(NoText::Long);
    }
    match string.to_string() {
        Ok(text) => Ok(text),
        // Lone surrogates: JSON has a way to write them.
        Err(rquickjs::Error::Utf8(_)) => {
            let quoted = string.ctx().json_stringify(string.clone()).ok().flatten();
            let quoted = quoted.and_then(|quoted| quoted.to_string().ok()).ok_or(NoText::Thrown)?;
            serde_json::from_str(&json::replace_lone_surrogates(quoted)).map_err(|_| NoText::Thrown)
        }
        Err(_) => Err(NoText::Thrown),
    }
}

/// What a person would want to read for a value; never fails, never long.
pub(super) fn for_people(value: &Value<'_>) -> String {
    let ctx = value.ctx();
    let text = described(value);
    if ctx.has_exception() {
        // A getter or a toString that throws.
        let _ = ctx.catch();
    }
    bounded(text.unwrap_or_else(|| format!("[{}]", value.type_name())))
}

fn described(value: &Value<'_>) -> Option<String> {
    if let Some(string) = value.as_string() {
        return Some(long(of_string(string, MAX_READ)));
    }
    if value.is_error() {
        return of_error(value);
    }
    if value.is_object() && !value.is_function() {
        let json = value.ctx().json_stringify(value.clone()).ok()??;
        return Some(long(of_string(&json, MAX_READ)));
    }
    let Coerced(string) = value.get::<Coerced<rquickjs::String<'_>>>().ok()?;
    Some(long(of_string(&string, MAX_READ)))
}

fn long(text: Result<String, NoText>) -> String {
    text.unwrap_or_else(|_| "[a very long text]".to_owned())
}

/// `Name: message` of an error object.
pub(super) fn of_error(value: &Value<'_>) -> Option<String> {
    let error = value.as_object()?;
    let part = |key: &str| {
        let part = error.get::<_, Coerced<rquickjs::String<'_>>>(key).ok()?;
        Some(long(of_string(&part.0, MAX_READ)))
    };
    let (name, message) = (part("name")?, part("message")?);
    Some(if message.is_empty() { name } else { format!("{name}: {message}") })
}
