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
//! | plain | as it is | nothing | - |
//!
//! Strings are put in bare, numbers and booleans as JSON writes them, lists and objects as compact JSON.
//!
//! Refused when parsing: `{{` without `}}`, an empty placeholder, a name that no uplink has (names.rs), a placeholder in
//! the scheme, host or port of a URL, `+` and `#` in a topic, and characters that the place can't carry. A single `{` or
//! `}` is text.
//!
//! An error names a placeholder or a position. It never repeats the text of the template, which may be a secret header.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use super::escape;
use super::names::{self, Misnomer};
use crate::config::{Place, Problem};
use crate::printable::printable;

/// The longest topic, in bytes (MQTT 3.1.1, section 1.5.3).
const MAX_TOPIC_BYTES: usize = 65_535;

/// What a template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An absolute URL with placeholders in path and query.
    Url,
    /// An MQTT topic to publish to.
    Topic,
    /// An HTTP header value.
    Header,
    /// Text that nothing reads structure into: client ids, birth and will payloads.
    Plain,
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
}

/// Where a value goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    UrlPath,
    UrlQuery,
    Topic,
    Header,
    Plain,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} (at byte {offset})")]
pub struct TemplateError {
    /// Where in the text, in bytes from its start.
    pub offset: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What can be wrong with the text of a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A placeholder is not closed.
    #[error("`{{{{` without `}}}}`")]
    Unclosed,
    /// A placeholder or one of its parts is empty.
    #[error("a placeholder without a name")]
    Empty,
    /// No uplink has that name.
    #[error("{} is nothing that an uplink has{}", shown_name(.name.as_deref()), did_you_mean(.meant.as_deref()))]
    Unknown {
        /// The name; `None` in a header, whose text may be secret.
        name: Option<String>,
        /// The name that was probably meant.
        meant: Option<String>,
    },
    /// The name stands for several values.
    #[error("`{name}` is a group; name one of its values: {}", .members.join(", "))]
    Group {
        /// The group.
        name: &'static str,
        /// What is in it.
        members: &'static [&'static str],
    },
    /// The name stands for one value, which has no parts.
    #[error("`{0}` is one value and has no parts")]
    Single(&'static str),
    /// A placeholder where a URL must be fixed (RULES S36).
    #[error("a placeholder in scheme, host or port of a URL; only path and query may have them")]
    Host,
    /// A URL without a scheme.
    #[error("a URL must begin with a scheme such as https://")]
    NoScheme,
    /// The text is empty where something is needed.
    #[error("empty")]
    Nothing,
    /// A character that the place can't carry.
    #[error("{0:?} can't stand here")]
    Character(char),
}

impl TemplateError {
    /// As a problem of the configuration: `key` at `place`.
    pub fn into_problem(self, place: &Place, key: impl Into<String>) -> Problem {
        Problem::error(place, key, self.to_string())
    }
}

/// Why a template can't be rendered for an uplink. Names the placeholder, never its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A path needs the value and the uplink has none.
    #[error("the URL needs {{{{{0}}}}}, which this uplink does not have")]
    Missing(String),
    /// The value would climb up the path (RULES S36).
    #[error("{{{{{0}}}}} is only dots, which climb in the path of a URL")]
    Dots(String),
    /// The value holds something that a header can't carry.
    #[error("{{{{{0}}}}} holds a character that a header can't carry")]
    Header(String),
    /// The topic would begin with the value's `$`, which is the broker's own (MQTT 3.1.1, section 4.7.2).
    #[error("{{{{{0}}}}} begins with $, which a topic must not")]
    Dollar(String),
    /// The topic is longer than MQTT allows.
    #[error("the topic is {0} bytes long; MQTT allows 65,535")]
    TooLong(usize),
}

impl Template {
    /// Parses `text` for `purpose`.
    pub fn parse(text: &str, purpose: Purpose) -> Result<Template, TemplateError> {
        let host_end = match purpose {
            Purpose::Url => host_end(text)?,
            Purpose::Topic if text.is_empty() => {
                return Err(TemplateError { offset: 0, fault: Fault::Nothing });
            }
            _ => 0,
        };
        let mut parts = Vec::new();
        let mut in_query = false;
        let mut offset = 0;
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            push_text(&mut parts, before, offset, purpose)?;
            in_query |= before.contains('?');
            offset += before.len();
            let error = |fault| TemplateError { offset, fault };
            let (name, following) = after.split_once("}}").ok_or(error(Fault::Unclosed))?;
            if offset < host_end {
                return Err(error(Fault::Host));
            }
            let path = path_of(name, purpose).map_err(error)?;
            parts.push(Part::Value(Placeholder { path, slot: slot(purpose, in_query) }));
            offset += name.len() + 4;
            rest = following;
        }
        push_text(&mut parts, rest, offset, purpose)?;
        Ok(Template { purpose, parts })
    }

    /// The text for an uplink whose [`context`](super::Renderer::context) is given.
    pub fn render(&self, context: &Value) -> Result<String, RenderError> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(placeholder) => placeholder.push(&mut out, context)?,
            }
        }
        if self.purpose == Purpose::Topic && out.len() > MAX_TOPIC_BYTES {
            return Err(RenderError::TooLong(out.len()));
        }
        Ok(out)
    }

    /// The names of its placeholders, dotted.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.placeholders().map(|placeholder| placeholder.path.join("."))
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

    /// The text with an `x` for every value, for checks of its shape.
    pub(crate) fn skeleton(&self) -> String {
        let shown = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Value(_) => "x".to_owned(),
        };
        self.parts.iter().map(shown).collect()
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

impl Placeholder {
    fn push(&self, out: &mut String, context: &Value) -> Result<(), RenderError> {
        let fitted = self.fitted(context)?;
        if self.slot == Slot::Topic && out.is_empty() && fitted.starts_with('$') {
            return Err(RenderError::Dollar(self.to_string()));
        }
        out.push_str(&fitted);
        Ok(())
    }

    /// The value, made fit for its place.
    fn fitted<'a>(&self, context: &'a Value) -> Result<Cow<'a, str>, RenderError> {
        let value = text_of(lookup(context, &self.path));
        match self.slot {
            Slot::UrlPath => match value.as_ref() {
                "" => Err(RenderError::Missing(self.to_string())),
                dots if is_dots(dots) => Err(RenderError::Dots(self.to_string())),
                other => Ok(escape::percent_encode(other).into()),
            },
            Slot::UrlQuery => Ok(escape::percent_encode(&value).into()),
            Slot::Topic => Ok(escape::topic_level(&value).into()),
            Slot::Header if !escape::is_header_text(&value) => Err(RenderError::Header(self.to_string())),
            Slot::Header | Slot::Plain => Ok(value),
        }
    }
}

fn shown_name(name: Option<&str>) -> String {
    name.map_or_else(|| "what this placeholder names".to_owned(), |name| format!("`{}`", printable(name)))
}

fn did_you_mean(meant: Option<&str>) -> String {
    meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default()
}

fn is_dots(segment: &str) -> bool {
    segment == "." || segment == ".."
}

fn lookup<'a>(context: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(context, |value, name| match value {
        Value::Object(members) => members.get(name),
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

fn text_of(value: Option<&Value>) -> Cow<'_, str> {
    match value {
        None | Some(Value::Null) => Cow::Borrowed(""),
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(other) => Cow::Owned(other.to_string()),
    }
}

fn slot(purpose: Purpose, in_query: bool) -> Slot {
    match purpose {
        Purpose::Url if in_query => Slot::UrlQuery,
        Purpose::Url => Slot::UrlPath,
        Purpose::Topic => Slot::Topic,
        Purpose::Header => Slot::Header,
        Purpose::Plain => Slot::Plain,
    }
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
        Purpose::Plain => false,
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
