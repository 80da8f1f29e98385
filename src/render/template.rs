//! Templates: text with placeholders (`{{device.dev_eui}}`, `{{decoded.levels.0}}`).
//!
//! A template is parsed once, when the configuration is read, for one [`Purpose`]; the purpose decides what the text may
//! hold and how a value is made fit for it (RULES S36), so that no value can leave the place it was put in:
//!
//! | purpose | value | missing (or null) value | refused |
//! |---|---|---|---|
//! | URL, before the first `?` | percent-encoded | render error | empty, `.`, `..` (so no segment with a value is dots) |
//! | URL, after it | percent-encoded | nothing | - |
//! | topic | `+ # /` and controls become `_` | `_` | a leading `$`; more than 65,535 bytes in all |
//! | header | as it is | nothing | anything but visible ASCII and spaces |
//! | JSON body, in quotes | escaped for a JSON string | nothing | - |
//! | JSON body, outside of quotes | as a JSON value, strings in quotes | `null` | - |
//! | XML body | `& < > " '` escaped, what XML can't hold left out | nothing | - |
//! | form body | percent-encoded, space as `+` | nothing | - |
//! | text body, plain | as it is | nothing | - |
//!
//! Strings are put in bare, numbers and booleans as JSON writes them, lists and objects as compact JSON. No body ever fails
//! for want of a value: [`Template::missing`] names what was not there, for a warning.
//!
//! Refused when parsing: `{{` without `}}`, an empty placeholder, a name that no uplink has (names.rs), a placeholder in
//! the scheme, host or port of a URL, `+` and `#` in a topic, characters that the place can't carry, and a JSON body that
//! would not be JSON (json_check.rs). A single `{` or `}` is text.

mod fault;
mod json_check;
mod slot;

use std::fmt;

use serde_json::Value;

use super::names::{self, Misnomer};
use super::sample;

pub use fault::{Fault, RenderError, TemplateError};
pub(super) use slot::text_of;
use slot::{Position, Slot};

/// The longest topic, in bytes (MQTT 3.1.1, section 1.5.3).
const MAX_TOPIC_BYTES: usize = 65_535;

/// A name that only [`Purpose::Plain`] has, and whoever renders that gives a value: which connection it is.
pub(crate) const SEQUENCE: &str = "sequence";

/// What a template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An absolute URL with placeholders in path and query.
    Url,
    /// An MQTT topic to publish to.
    Topic,
    /// An HTTP header value.
    Header,
    /// A whole body.
    Body(BodyKind),
    /// Text that nothing reads structure into: client ids, birth and will payloads.
    Plain,
}

/// How a body is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// One JSON value.
    Json,
    /// An XML document.
    Xml,
    /// `application/x-www-form-urlencoded`
    Form,
    /// Text for people, or for what reads only numbers.
    Text,
    /// Bytes.
    Binary,
}

/// A parsed template.
#[derive(Clone)]
pub struct Template {
    purpose: Purpose,
    parts: Vec<Part>,
}

#[derive(Clone)]
enum Part {
    Text(String),
    Value(Placeholder),
}

#[derive(Clone)]
struct Placeholder {
    path: Vec<String>,
    slot: Slot,
    /// The byte of the text behind its `}}`.
    ends: usize,
}

impl Template {
    /// Parses `text` for `purpose`.
    pub fn parse(text: &str, purpose: Purpose) -> Result<Template, TemplateError> {
        let host_end = match purpose {
            Purpose::Url => host_end(text)?,
            Purpose::Topic | Purpose::Body(BodyKind::Json) if text.trim().is_empty() => {
                return Err(TemplateError { offset: 0, fault: Fault::Nothing });
            }
            _ => 0,
        };
        let mut parts = Vec::new();
        let mut position = Position::default();
        let mut offset = 0;
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            push_text(&mut parts, before, offset, purpose)?;
            position.pass(before);
            offset += before.len();
            let error = |fault| TemplateError { offset, fault };
            let (name, following) = after.split_once("}}").ok_or(error(Fault::Unclosed))?;
            if offset < host_end {
                return Err(error(Fault::Host));
            }
            let path = path_of(name, purpose).map_err(error)?;
            let slot = position.slot(purpose).ok_or(error(Fault::Escaped))?;
            offset += name.len() + 4;
            parts.push(Part::Value(Placeholder { path, slot, ends: offset }));
            rest = following;
        }
        push_text(&mut parts, rest, offset, purpose)?;
        let template = Template { purpose, parts };
        if purpose == Purpose::Body(BodyKind::Json) {
            json_check::check(&template)?;
        }
        Ok(template)
    }

    /// The text for an uplink whose [`context`](super::Message::context) is given.
    pub fn render(&self, context: &Value) -> Result<String, RenderError> {
        self.fill(|placeholder| {
            placeholder.slot.fit(lookup(context, &placeholder.path), &placeholder.to_string())
        })
    }

    /// The same for people: made of a [`shown_context`](super::Message::shown_context), it says `[secret]` where a secret
    /// variable stands.
    pub fn shown(&self, shown_context: &Value) -> Result<String, RenderError> {
        self.fill(|placeholder| {
            let value = lookup(shown_context, &placeholder.path);
            match placeholder.slot.hidden(value) {
                Some(hidden) => Ok(hidden),
                None => placeholder.slot.fit(value, &placeholder.to_string()),
            }
        })
    }

    /// The text for an uplink that has everything: what `check` judges it by. Of what only the device knows (`decoded`,
    /// variables, labels), every value is 1.
    pub fn sample(&self) -> Result<String, RenderError> {
        let (context, one) = (sample::context(), Value::from(1));
        self.fill(|placeholder| {
            let value = lookup(&context, &placeholder.path).unwrap_or(&one).clone();
            placeholder.slot.fit(Some(&value), &placeholder.to_string()).map(|text| text.into_owned().into())
        })
    }

    /// The names of the placeholders that have no value in `context`, each once. Null is a value.
    pub fn missing(&self, context: &Value) -> Vec<String> {
        let mut missing: Vec<String> = Vec::new();
        for placeholder in self.placeholders().filter(|it| lookup(context, &it.path).is_none()) {
            let name = placeholder.to_string();
            if !missing.contains(&name) {
                missing.push(name);
            }
        }
        missing
    }

    /// The names of its placeholders, dotted.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.placeholders().map(Placeholder::to_string)
    }

    /// Whether it reads anything of what stands under this name at the top.
    pub fn reads(&self, root: &str) -> bool {
        self.placeholders().any(|placeholder| placeholder.path.first().is_some_and(|name| name == root))
    }

    /// Whether it has no placeholder, and so renders the same for every uplink.
    pub fn is_static(&self) -> bool {
        self.placeholders().next().is_none()
    }

    /// Whether all its placeholders are below `gateway`: what is sent without an uplink (client ids, birth and will)
    /// may have no others.
    pub fn only_gateway(&self) -> bool {
        self.placeholders().all(|placeholder| placeholder.path.first().is_some_and(|root| root == "gateway"))
    }

    fn fill<'v, F>(&self, value_of: F) -> Result<String, RenderError>
    where
        F: Fn(&Placeholder) -> Result<std::borrow::Cow<'v, str>, RenderError>,
    {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(placeholder) => {
                    let fitted = value_of(placeholder)?;
                    if placeholder.slot == Slot::Topic && out.is_empty() && fitted.starts_with('$') {
                        return Err(RenderError::Dollar(placeholder.to_string()));
                    }
                    out.push_str(&fitted);
                }
            }
        }
        if self.purpose == Purpose::Topic && out.len() > MAX_TOPIC_BYTES {
            return Err(RenderError::TooLong(out.len()));
        }
        Ok(out)
    }

    fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(placeholder) => Some(placeholder),
            Part::Text(_) => None,
        })
    }
}

impl fmt::Debug for Template {
    /// The text may be a secret header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?}, {} parts)", self.purpose, self.parts.len())
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path.join("."))
    }
}

fn lookup<'a>(context: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(context, |value, name| match value {
        Value::Object(members) => members.get(name),
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Where the authority of a URL ends: before that, nothing may vary.
fn host_end(text: &str) -> Result<usize, TemplateError> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(TemplateError { offset: 0, fault: Fault::NoScheme });
    };
    Ok(scheme.len() + 3 + rest.find(['/', '?', '#']).unwrap_or(rest.len()))
}

fn path_of(name: &str, purpose: Purpose) -> Result<Vec<String>, Fault> {
    let path: Vec<String> = name.trim().split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err(Fault::Empty);
    }
    if purpose == Purpose::Plain && path == [SEQUENCE] {
        return Ok(path);
    }
    names::check(&path).map_err(|misnomer| match misnomer {
        Misnomer::Unknown(meant) => {
            Fault::Unknown { name: (purpose != Purpose::Header).then(|| path.join(".")), meant }
        }
        Misnomer::Group(name, members) => Fault::Group { name, members },
        Misnomer::Single(name) => Fault::Single(name),
    })?;
    Ok(path)
}

/// Takes `text`, which begins at `offset` of the template, unless its purpose forbids a character of it.
fn push_text(
    parts: &mut Vec<Part>,
    text: &str,
    offset: usize,
    purpose: Purpose,
) -> Result<(), TemplateError> {
    let is_refused = |c: char| match purpose {
        // A fragment is never sent, and anything after it would be lost without a word.
        Purpose::Url => !c.is_ascii_graphic() || c == '#',
        Purpose::Topic => matches!(c, '+' | '#') || c.is_control(),
        Purpose::Header => !matches!(c, ' '..='~'),
        Purpose::Body(_) | Purpose::Plain => false,
    };
    if let Some((at, refused)) = text.char_indices().find(|(_, c)| is_refused(*c)) {
        return Err(TemplateError { offset: offset + at, fault: Fault::Character(refused) });
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
