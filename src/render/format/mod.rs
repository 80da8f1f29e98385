//! The shapes that a body may have: our own, and those that other systems send and their receivers expect.
//!
//! A receiver of a foreign shape must need no change, so its fields, names, types and omissions are the original's; what a
//! gateway cannot know (tenants, applications, what was billed) is absent, never invented. What the original has no field
//! for goes where it lets anything stand (`metadata`, `attributes`) or stays out. Each file says which.
//!
//! What a network server said in the very shape that is wanted is passed on as it came, unless a function had a say.

mod chirpstack;
mod helium;
pub(super) mod packhorse;
mod radio;
mod tts;

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::Message;
use crate::clock::rfc3339;
use crate::config::Format;
use crate::server_uplink::Dialect;

/// The body of `message` in `format`, as JSON text.
pub(super) fn text<'m>(format: Format, message: &'m Message<'_>) -> serde_json::Result<Cow<'m, [u8]>> {
    if is_passed_on(format, message) {
        return Ok(Cow::Borrowed(&message.uplink.content));
    }
    let text = match format {
        Format::Json => serde_json::to_vec(&packhorse::view(message)),
        Format::Chirpstack => serde_json::to_vec(&chirpstack::Event::of(message)),
        Format::Tts => serde_json::to_vec(&tts::Event::of(message)),
        Format::Helium => serde_json::to_vec(&helium::Event::of(message)),
    };
    text.map(Cow::Owned)
}

/// The uplink as Helium Console would have handed it to a function. Holds no secret, and no variables.
pub fn helium_object(message: &Message<'_>) -> String {
    // There is nothing in it that JSON could not say.
    serde_json::to_string(&helium::Event::of(message)).unwrap_or_default()
}

fn is_passed_on(format: Format, message: &Message<'_>) -> bool {
    let dialect = message.server.as_ref().map(|server| server.dialect);
    let is_same = matches!(
        (format, dialect),
        (Format::Chirpstack, Some(Dialect::Chirpstack)) | (Format::Tts, Some(Dialect::Tts))
    );
    is_same && message.is_as_the_server_says()
}

/// For fields that are left out at their default, as protobuf's JSON does.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A protobuf `Struct`, which is always an object: a result that is none becomes the member `value` of one.
#[derive(Clone, Copy)]
struct Object<'a>(&'a RawValue);

impl<'a> Object<'a> {
    /// `None` for null, too.
    fn of(result: Option<&'a RawValue>) -> Option<Object<'a>> {
        result.filter(|value| value.get() != "null").map(Object)
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.get().starts_with('{') {
            self.0.serialize(serializer)
        } else {
            serializer.collect_map([("value", self.0)])
        }
    }
}

/// A number that is whole looks whole: `-57`, not `-57.0`.
fn decimal<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    // Beyond that, an f32 has no fraction and i32 no room.
    if value.fract() == 0.0 && value.abs() < 16_777_216.0 {
        serializer.serialize_i32(*value as i32)
    } else {
        serializer.serialize_f32(*value)
    }
}

fn decimal_if_any<S: Serializer>(value: &Option<f32>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => decimal(value, serializer),
        None => serializer.serialize_none(),
    }
}

/// JSON has no NaN and no infinity.
fn finite(value: Option<f32>) -> Option<f32> {
    value.filter(|value| value.is_finite())
}

/// When it was heard, in UTC as `Z`.
fn time(message: &Message<'_>) -> Option<String> {
    rfc3339(message.heard.wall_us)
}

/// Between which moments it was heard, where that is all that is known (RULES S22).
#[derive(Serialize)]
struct TimeBounds {
    after: String,
    before: String,
}

fn time_bounds(message: &Message<'_>) -> Option<TimeBounds> {
    let bounds = message.heard.bounds?;
    Some(TimeBounds { after: rfc3339(bounds.after_us)?, before: rfc3339(bounds.before_us)? })
}

/// The same for where nothing but text fits.
fn bounds_as_text(message: &Message<'_>) -> impl Iterator<Item = (&'static str, String)> {
    let bounds = time_bounds(message).into_iter();
    bounds.flat_map(|bounds| [("time_after", bounds.after), ("time_before", bounds.before)])
}

/// Why there is no result, in one line.
fn error(message: &Message<'_>) -> Option<String> {
    let errors = &message.decoding.errors;
    (!errors.is_empty()).then(|| errors.join("; "))
}

#[cfg(test)]
mod schema;
#[cfg(test)]
mod tests;
