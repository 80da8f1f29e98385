//! Makes of an uplink what an integration sends.
//!
//! An uplink is a fact and the same for everybody; what is made of it belongs to the integration. This room owns that
//! step and nothing else: [`Renderer`] makes the body, [`Template`] makes the URL, topic or header value. Both speak the
//! same names (DESIGN section 7): the context that a template reads *is* the default body, read back, so there is no name
//! that one has and the other has not.
//!
//! ```text
//! Uplink ──> json::View ──> bytes                      the body
//!                      └──> context ──> Template ──>   URL, topic, header value
//! ```
//!
//! Invariants:
//! - The same uplink under the same configuration renders to the same bytes on every attempt; nothing in here knows
//!   which attempt it is or what time it is now.
//! - What is not known is absent, never invented: a frame without keys has no `payload`, a device that nobody
//!   configured has no name.
//! - A record that can't be rendered is a [`Failure`] that blames the record (RULES S1) and names what is missing. It
//!   never holds a value: values may be secret, their names are not.
//!
//! Refused when the room is built: formats, body templates and content types that this version does not make.

mod escape;
pub mod function;
mod json;
mod names;
mod template;

use crate::config::{Format, Integration, IntegrationKind, Problem};
use crate::delivery::outcome::{Failure, Layer};
use crate::uplink::{Kind, Uplink};

pub(crate) use escape::{is_header_text, percent_encode};
pub use template::{Fault, Purpose, RenderError, Template, TemplateError};

/// What is sent for an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The body.
    pub bytes: Vec<u8>,
    /// Its MIME type.
    pub content_type: &'static str,
}

/// Makes the bodies of one integration.
#[derive(Clone, Debug)]
pub struct Renderer {
    gateway_name: String,
}

impl Renderer {
    /// Fails with every setting of `integration` that asks for something this version does not make.
    pub fn try_new(gateway_name: &str, integration: &Integration) -> Result<Renderer, Vec<Problem>> {
        let problems = unavailable(integration);
        if problems.is_empty() {
            Ok(Renderer { gateway_name: gateway_name.to_owned() })
        } else {
            Err(problems)
        }
    }

    /// The body. The JSON of a local network server is passed on as it came; everything else is DESIGN section 7.
    pub fn body(&self, uplink: &Uplink) -> Result<Rendered, Failure> {
        let bytes = match uplink.kind {
            Kind::App => passed_on(uplink)?,
            Kind::Lorawan | Kind::Join | Kind::Other => {
                json::bytes(&self.gateway_name, uplink).map_err(unrenderable)?
            }
        };
        Ok(Rendered { bytes, content_type: "application/json" })
    }

    /// What templates read: the names of DESIGN section 7, and `phy_payload_hex`.
    pub fn context(&self, uplink: &Uplink) -> serde_json::Value {
        json::context(&self.gateway_name, uplink)
    }
}

/// The source's JSON, if it is JSON: a receiver that can't parse a body would refuse it for a reason nobody could see.
fn passed_on(uplink: &Uplink) -> Result<Vec<u8>, Failure> {
    match serde_json::from_slice::<&serde_json::value::RawValue>(&uplink.content) {
        Ok(_) => Ok(uplink.content.clone()),
        Err(error) => Err(Failure::record(
            Layer::Render,
            format!(
                "what source {} received is not JSON (line {}, column {})",
                uplink.source,
                error.line(),
                error.column()
            ),
        )),
    }
}

fn unrenderable(error: serde_json::Error) -> Failure {
    Failure::record(Layer::Render, format!("the body can't be written as JSON: {error}"))
}

fn unavailable(integration: &Integration) -> Vec<Problem> {
    let key = |name: &str| format!("integration.{}.{name}", *integration.name);
    let mut problems = Vec::new();
    if *integration.format != Format::Json {
        let message = format!("format \"{}\" is not available in this version", *integration.format);
        let problem = Problem::error(&integration.format.place, key("format"), message);
        problems.push(problem.hint("use format = \"json\""));
    }
    if let Some(body) = &integration.body {
        let message = "a body template is not available in this version";
        problems.push(Problem::error(&body.place, key("body"), message).hint("use format = \"json\""));
    }
    if let IntegrationKind::Http(http) = &integration.kind
        && !matches!(http.content_type.as_str(), "json" | "application/json")
    {
        let message = format!("content_type \"{}\" is not available in this version", *http.content_type);
        let problem = Problem::error(&http.content_type.place, key("content_type"), message);
        problems.push(problem.hint("use content_type = \"json\""));
    }
    problems
}

#[cfg(test)]
mod tests;
