//! Makes of an uplink what an integration sends.
//!
//! An uplink is a fact and the same for everybody; what is made of it belongs to the integration. This room owns that
//! step and nothing else: [`Message`] is what an uplink means under the present config, [`Renderer`] makes the body,
//! [`Template`] makes the URL, topic or header value.
//!
//! ```text
//! Uplink ──> Message ──> format ──────────────> JSON ──> layout ──>   body
//!               │                                (XML, form, text)
//!               └──────> context ──> Template ──────────────────>   body, URL, topic, header value
//! ```
//!
//! Invariants:
//! - The same message renders to the same bytes on every attempt; nothing in here knows which attempt it is or what time
//!   it is now.
//! - What is not known is absent, never invented: a frame without keys has no `payload`, a device that nobody
//!   configured has no name.
//! - A value that is missing never fails a body: it is `null`, or nothing, and a warning says so. Only a URL can't do
//!   without (RULES S36); that [`Failure`] blames the record (RULES S1) and names what is missing, never a value.
//! - Secrets are only in the bytes to send. What may be shown of them is made apart.

mod content;
mod context;
mod escape;
mod format;
pub mod function;
mod interpreter;
mod layout;
mod message;
mod names;
mod sample;
mod template;

use std::borrow::Cow;
use std::sync::Arc;

use data_encoding::HEXLOWER;

use crate::config::{Format, Integration, IntegrationKind, Problem, Spot};
use crate::delivery::outcome::{Failure, Layer};
use crate::printable::printable;
use crate::uplink::Kind;

use content::ContentType;
pub(crate) use escape::{is_header_text, percent_encode};
pub use format::helium_object;
pub use interpreter::{Interpreter, Meaning, Snapshot};
pub use message::{Decoding, Message};
pub(crate) use template::SEQUENCE;
pub use template::{BodyKind, Fault, Purpose, RenderError, Template, TemplateError};

/// What is sent for an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The body.
    pub bytes: Vec<u8>,
    /// Its MIME type.
    pub content_type: Arc<str>,
    /// The beginning of the body for history and logs: printable (RULES S37), and without secrets.
    pub shown: String,
    /// What was not as the configuration expects, such as a placeholder without a value.
    pub warnings: Vec<String>,
}

/// Makes the bodies of one integration.
#[derive(Clone, Debug)]
pub struct Renderer {
    shape: Shape,
    content: ContentType,
}

#[derive(Clone, Debug)]
enum Shape {
    Format(Format),
    Template(Template, BodyKind),
}

impl Renderer {
    /// The renderer of an integration as it is configured.
    ///
    /// # Errors
    /// A body template that is none, or that would not make JSON where it should.
    pub fn try_new(integration: &Integration) -> Result<Renderer, Vec<Problem>> {
        let content = match &integration.kind {
            IntegrationKind::Http(http) => ContentType::of(&http.content_type),
            IntegrationKind::Mqtt(_) => ContentType::unsaid(),
        };
        let shape = match &integration.body {
            None => Shape::Format(*integration.format),
            Some(body) => {
                let key = format!("integration.{}.body", *integration.name);
                let kind = content.kind_for(body);
                let template = Template::parse(body, Purpose::Body(kind));
                let template = template.map_err(|error| {
                    vec![body_problem(
                        error,
                        body,
                        &key,
                        matches!(integration.kind, IntegrationKind::Http(_)),
                    )]
                })?;
                Shape::Template(template, kind)
            }
        };
        Ok(Renderer { shape, content })
    }

    /// The same for a flow that wants `format`; the integration's body template does not count there.
    #[must_use]
    pub fn with_format(&self, format: Format) -> Renderer {
        Renderer { shape: Shape::Format(format), content: self.content.clone() }
    }

    /// Whether every body is one JSON value.
    pub fn makes_json(&self) -> bool {
        match &self.shape {
            Shape::Format(_) => self.content.kind() == BodyKind::Json,
            Shape::Template(_, kind) => *kind == BodyKind::Json,
        }
    }

    /// The body.
    ///
    /// # Errors
    /// A network server's record that can't be read; nothing else.
    pub fn body(&self, message: &Message<'_>) -> Result<Rendered, Failure> {
        if message.uplink.kind == Kind::App && message.server.is_none() {
            return Err(no_uplink(message));
        }
        match &self.shape {
            Shape::Format(format) => self.formatted(*format, message),
            Shape::Template(template, kind) => self.templated(template, *kind, message),
        }
    }

    /// The whole body for people, without secrets and without a limit: for `test`.
    ///
    /// # Errors
    /// As for [`body`](Self::body).
    pub fn body_shown(&self, message: &Message<'_>) -> Result<String, Failure> {
        match &self.shape {
            Shape::Template(template, _) if message.has_secrets() => {
                template.shown(&message.shown_context()).map_err(unrenderable)
            }
            _ => Ok(readable(&self.body(message)?.bytes).into_owned()),
        }
    }

    fn formatted(&self, format: Format, message: &Message<'_>) -> Result<Rendered, Failure> {
        let kind = self.content.kind();
        let mut warnings = Vec::new();
        let bytes = match kind {
            BodyKind::Json => format::text(format, message).map_err(unwritable)?.into_owned(),
            BodyKind::Binary => binary(message, &mut warnings),
            BodyKind::Xml => layout::xml(&tree(format, message, &mut warnings)?).into_bytes(),
            BodyKind::Form => layout::form(&tree(format, message, &mut warnings)?).into_bytes(),
            BodyKind::Text => layout::text(&tree(format, message, &mut warnings)?).into_bytes(),
        };
        // No format has variables in it, so none has secrets.
        let shown = printable(&readable(&bytes));
        Ok(Rendered { bytes, content_type: self.content.mime(kind), shown, warnings })
    }

    fn templated(
        &self,
        template: &Template,
        kind: BodyKind,
        message: &Message<'_>,
    ) -> Result<Rendered, Failure> {
        let context = message.context_for(std::iter::once(template));
        let text = template.render(&context).map_err(unrenderable)?;
        let shown = if message.has_secrets() {
            printable(&template.shown(&message.shown_context()).map_err(unrenderable)?)
        } else {
            printable(&text)
        };
        let instead = if kind == BodyKind::Json { "null" } else { "nothing" };
        let warn =
            |name| format!("the body has {instead} for {{{{{name}}}}}, which this uplink does not have");
        let warnings = template.missing(&context).into_iter().map(warn).collect();
        Ok(Rendered { bytes: text.into_bytes(), content_type: self.content.mime(kind), shown, warnings })
    }
}

/// The JSON of `format`, read back, to be laid out in another way.
fn tree(
    format: Format,
    message: &Message<'_>,
    warnings: &mut Vec<String>,
) -> Result<serde_json::Value, Failure> {
    let text = format::text(format, message).map_err(unwritable)?;
    if let Ok(value) = serde_json::from_slice(&text) {
        return Ok(value);
    }
    // Nested too deep, or a number that no computer holds: only what is foreign can be that.
    let error = "what was decoded can't be laid out in this content type".to_owned();
    let mut bare = message.clone();
    bare.decoding = Decoding { errors: vec![error.clone()], ..Decoding::default() };
    warnings.push(error);
    let text = format::text(format, &bare).map_err(unwritable)?;
    serde_json::from_slice(&text).map_err(unwritable)
}

/// The payload in clear. Where it is not known: the frame as it was heard, or the network server's text, and a warning.
fn binary(message: &Message<'_>, warnings: &mut Vec<String>) -> Vec<u8> {
    match &message.payload {
        Some(payload) => payload.clone(),
        None => {
            warnings
                .push("the payload is not known in clear; the body is the uplink as it was heard".to_owned());
            message.uplink.content.clone()
        }
    }
}

/// Text, or the hexadecimal digits of bytes that are none.
fn readable(bytes: &[u8]) -> Cow<'_, str> {
    let is_text = |text: &&str| !text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r'));
    match std::str::from_utf8(bytes).ok().filter(is_text) {
        Some(text) => text.into(),
        None => HEXLOWER.encode(bytes).into(),
    }
}

fn body_problem(error: TemplateError, body: &Spot<String>, key: &str, has_type: bool) -> Problem {
    let (line, column) = line_and_column(body, error.offset);
    let message = format!("{} (line {line}, column {column} of the template)", error.fault);
    let problem = Problem::error(&body.place, key, message);
    if !matches!(error.fault, Fault::NotJson(_) | Fault::Escaped) {
        return problem;
    }
    let why = if has_type {
        "for a body that is no JSON, set content_type"
    } else {
        "a body that begins with { or [ is JSON"
    };
    problem.hint(format!(
        "names and text are in \"double quotes\"; a placeholder outside of quotes becomes a whole value, with its quotes; \
         {why}"
    ))
}

/// Both count from 1, columns in characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    // A fault may lie within a character.
    let before = (0..=offset.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// A receiver that can't parse a body would refuse it for a reason nobody could see.
fn no_uplink(message: &Message<'_>) -> Failure {
    let source = &message.uplink.source;
    let why = match crate::server_uplink::ServerUplink::parse(&message.uplink.content) {
        Err(error) => error.to_string(),
        Ok(_) => "unknown".to_owned(),
    };
    Failure::record(Layer::Render, format!("what source {source} received can't be read: {why}"))
}

fn unrenderable(error: RenderError) -> Failure {
    Failure::record(Layer::Render, error.to_string())
}

fn unwritable(error: serde_json::Error) -> Failure {
    Failure::record(Layer::Render, format!("the body can't be written as JSON: {error}"))
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
