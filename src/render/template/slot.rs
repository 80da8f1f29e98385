//! Where in a template a placeholder stands, and how a value is made fit for that place.

use std::borrow::Cow;

use serde_json::Value;

use super::super::context::SECRET;
use super::super::escape;
use super::{BodyKind, Purpose, RenderError};

/// Where a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    UrlPath,
    UrlQuery,
    Topic,
    Header,
    /// Within quotes.
    JsonString,
    /// In the place of a whole value.
    JsonValue,
    Xml,
    Form,
    Plain,
}

/// Follows the literal text of a template to know what kind of place comes next.
#[derive(Debug, Default)]
pub(super) struct Position {
    in_query: bool,
    in_string: bool,
    after_backslash: bool,
}

impl Position {
    pub(super) fn pass(&mut self, text: &str) {
        self.in_query |= text.contains('?');
        for c in text.chars() {
            let escaped = std::mem::take(&mut self.after_backslash);
            match c {
                '"' if !escaped => self.in_string = !self.in_string,
                '\\' if self.in_string && !escaped => self.after_backslash = true,
                _ => {}
            }
        }
    }

    /// The slot that begins here; `None` behind a backslash of a JSON string.
    pub(super) fn slot(&self, purpose: Purpose) -> Option<Slot> {
        Some(match purpose {
            Purpose::Url if self.in_query => Slot::UrlQuery,
            Purpose::Url => Slot::UrlPath,
            Purpose::Topic => Slot::Topic,
            Purpose::Header => Slot::Header,
            Purpose::Body(BodyKind::Json) if self.after_backslash => return None,
            Purpose::Body(BodyKind::Json) if self.in_string => Slot::JsonString,
            Purpose::Body(BodyKind::Json) => Slot::JsonValue,
            Purpose::Body(BodyKind::Xml) => Slot::Xml,
            Purpose::Body(BodyKind::Form) => Slot::Form,
            Purpose::Body(BodyKind::Text | BodyKind::Binary) | Purpose::Plain => Slot::Plain,
        })
    }
}

impl Slot {
    /// `value`, made fit for this place; `name` is for the error.
    pub(super) fn fit<'v>(self, value: Option<&'v Value>, name: &str) -> Result<Cow<'v, str>, RenderError> {
        if self == Slot::JsonValue {
            return Ok(value.map_or(Cow::Borrowed("null"), |value| value.to_string().into()));
        }
        let text = text_of(value);
        match self {
            Slot::UrlPath => match text.as_ref() {
                "" => Err(RenderError::Missing(name.to_owned())),
                "." | ".." => Err(RenderError::Dots(name.to_owned())),
                other => Ok(escape::percent_encode(other).into()),
            },
            Slot::UrlQuery => Ok(escape::percent_encode(&text).into()),
            Slot::Topic => Ok(escape::topic_level(&text).into()),
            Slot::Header if !escape::is_header_text(&text) => Err(RenderError::Header(name.to_owned())),
            Slot::JsonString => Ok(escape::json_string(&text).into()),
            Slot::Xml => Ok(escape::xml_text(&text).into()),
            Slot::Form => Ok(escape::form_encode(&text).into()),
            Slot::Header | Slot::Plain | Slot::JsonValue => Ok(text),
        }
    }

    /// What stands here for people where the value is a secret: never escaped, so that it reads the same everywhere.
    pub(super) fn hidden(self, value: Option<&Value>) -> Option<Cow<'static, str>> {
        if value.and_then(Value::as_str) != Some(SECRET) {
            return None;
        }
        Some(if self == Slot::JsonValue { format!("\"{SECRET}\"").into() } else { SECRET.into() })
    }
}

/// Strings bare, numbers and booleans as JSON writes them, lists and objects as compact JSON; nothing for null.
pub(in crate::render) fn text_of(value: Option<&Value>) -> Cow<'_, str> {
    match value {
        None | Some(Value::Null) => Cow::Borrowed(""),
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(other) => Cow::Owned(other.to_string()),
    }
}
