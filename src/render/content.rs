//! `content_type`: what a body is labelled as, and how it is laid out for that.
//!
//! | `content_type` | label | laid out as |
//! |---|---|---|
//! | `json`, `application/json`, `…+json` | `application/json` | JSON |
//! | `xml`, `application/xml`, `text/xml`, `…+xml`, `text/html` | `application/xml` | XML |
//! | `form`, `application/x-www-form-urlencoded` | the latter | form |
//! | `text`, `text/…` | `text/plain; charset=utf-8` | text |
//! | `binary`, `application/octet-stream` | the latter | bytes |
//! | any other MIME type | itself | see below |
//!
//! A MIME type is sent as it was given. Where the type does not say how a body is laid out, the body does: without a
//! template it is JSON, and a template that begins with `{` or `[` is; anything else is text. An MQTT integration has no
//! `content_type`, so that goes for it too; MQTT 5 is told what it came to.

use std::sync::Arc;

use super::BodyKind;

/// A label, and the layout that goes with it if it says one.
#[derive(Clone, Debug)]
pub(super) struct ContentType {
    mime: Option<Arc<str>>,
    kind: Option<BodyKind>,
}

impl ContentType {
    /// Nothing was said.
    pub(super) fn unsaid() -> ContentType {
        ContentType { mime: None, kind: None }
    }

    /// What `name` of the configuration stands for.
    pub(super) fn of(name: &str) -> ContentType {
        if let Some((_, kind)) = SHORT.iter().find(|(short, _)| *short == name) {
            return ContentType { mime: None, kind: Some(*kind) };
        }
        ContentType { mime: Some(Arc::from(name)), kind: kind_of(name) }
    }

    /// How a body without a template is laid out.
    pub(super) fn kind(&self) -> BodyKind {
        self.kind.unwrap_or(BodyKind::Json)
    }

    /// How the body that `template` makes is laid out.
    pub(super) fn kind_for(&self, template: &str) -> BodyKind {
        let text = template.trim_start();
        let is_json = text.starts_with('[') || (text.starts_with('{') && !text.starts_with("{{"));
        self.kind.unwrap_or(if is_json { BodyKind::Json } else { BodyKind::Text })
    }

    /// The MIME type of a body laid out as `kind`.
    pub(super) fn mime(&self, kind: BodyKind) -> Arc<str> {
        self.mime.clone().unwrap_or_else(|| Arc::from(usual(kind)))
    }
}

const SHORT: [(&str, BodyKind); 5] = [
    ("json", BodyKind::Json),
    ("xml", BodyKind::Xml),
    ("form", BodyKind::Form),
    ("text", BodyKind::Text),
    ("binary", BodyKind::Binary),
];

fn usual(kind: BodyKind) -> &'static str {
    match kind {
        BodyKind::Json => "application/json",
        BodyKind::Xml => "application/xml",
        BodyKind::Form => "application/x-www-form-urlencoded",
        BodyKind::Text => "text/plain; charset=utf-8",
        BodyKind::Binary => "application/octet-stream",
    }
}

/// What a MIME type says by itself (RFC 6839 for the suffixes); parameters do not count.
fn kind_of(mime: &str) -> Option<BodyKind> {
    let essence = mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" | "text/json" => Some(BodyKind::Json),
        "application/xml" | "text/xml" | "text/html" => Some(BodyKind::Xml),
        "application/x-www-form-urlencoded" => Some(BodyKind::Form),
        "application/octet-stream" => Some(BodyKind::Binary),
        json if json.ends_with("+json") => Some(BodyKind::Json),
        xml if xml.ends_with("+xml") => Some(BodyKind::Xml),
        text if text.starts_with("text/") => Some(BodyKind::Text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_content_type_says_what_it_is() {
        use BodyKind::{Binary, Form, Json, Text, Xml};
        for (name, mime, kind) in [
            ("json", "application/json", Json),
            ("xml", "application/xml", Xml),
            ("form", "application/x-www-form-urlencoded", Form),
            ("text", "text/plain; charset=utf-8", Text),
            ("binary", "application/octet-stream", Binary),
            ("application/json; charset=utf-8", "application/json; charset=utf-8", Json),
            ("application/vnd.acme+json", "application/vnd.acme+json", Json),
            ("Text/XML", "Text/XML", Xml),
            ("application/soap+xml", "application/soap+xml", Xml),
            ("text/csv", "text/csv", Text),
            ("application/octet-stream", "application/octet-stream", Binary),
            ("application/vnd.acme", "application/vnd.acme", Json),
        ] {
            let content = ContentType::of(name);
            assert_eq!(content.kind(), kind, "{name}");
            assert_eq!(&*content.mime(kind), mime, "{name}");
        }
    }

    #[test]
    fn where_the_type_does_not_say_the_template_does() {
        for (template, kind) in [
            ("{\"a\":1}", BodyKind::Json),
            ("\n [{{f_cnt}}]", BodyKind::Json),
            ("{{decoded.level_cm}}", BodyKind::Text),
            ("level={{decoded.level_cm}}", BodyKind::Text),
        ] {
            assert_eq!(ContentType::unsaid().kind_for(template), kind, "{template}");
            assert_eq!(ContentType::of("application/vnd.acme").kind_for(template), kind, "{template}");
            assert_eq!(ContentType::of("xml").kind_for(template), BodyKind::Xml, "{template}");
        }
        assert_eq!(&*ContentType::unsaid().mime(BodyKind::Text), "text/plain; charset=utf-8");
    }
}
