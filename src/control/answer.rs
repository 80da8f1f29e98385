//! What is answered, and how it goes over the wire.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::watch::Watching;

/// An answer.
#[derive(Debug)]
pub enum Answer {
    /// All of it.
    Whole {
        /// `200 OK`
        status: &'static str,
        /// MIME type.
        content_type: &'static str,
        /// The body.
        body: String,
    },
    /// One line after the other, until the client leaves.
    Lines(Box<Watching>),
}

impl Answer {
    /// Done, and this is it.
    pub fn json(value: &Value) -> Answer {
        Answer::Whole { status: "200 OK", content_type: "application/json", body: plain(&value.to_string()) }
    }

    /// Done, in text.
    pub fn text(content_type: &'static str, body: String) -> Answer {
        Answer::Whole { status: "200 OK", content_type, body }
    }

    /// Not done, and why.
    pub fn error(status: &'static str, message: &str) -> Answer {
        let body = plain(&json!({ "error": message }).to_string());
        Answer::Whole { status, content_type: "application/json", body }
    }

    /// There is no such thing.
    pub fn unknown(message: &str) -> Answer {
        Answer::error("404 Not Found", message)
    }

    /// There is such a thing, but not now.
    pub fn conflict(message: &str) -> Answer {
        Answer::error("409 Conflict", message)
    }

    /// It was asked in the wrong way.
    pub fn bad(message: &str) -> Answer {
        Answer::error("400 Bad Request", message)
    }

    /// Not yet, or not any more.
    pub fn unavailable(message: &str) -> Answer {
        Answer::error("503 Service Unavailable", message)
    }

    /// The head, and the body where it is known.
    pub(super) fn head(&self) -> String {
        match self {
            Answer::Whole { status, content_type, body } => format!(
                "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            ),
            Answer::Lines(_) => {
                "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"
                    .to_owned()
            }
        }
    }
}

/// Sends the head of an answer, and its body where it is known.
pub(super) async fn send(stream: &mut (impl AsyncWrite + Unpin), answer: &Answer) -> std::io::Result<()> {
    stream.write_all(answer.head().as_bytes()).await?;
    stream.flush().await
}

/// JSON that holds nothing a terminal obeys, whoever wrote what is in it (RULES S37): `serde_json` escapes the control
/// characters of ASCII, this the others. Outside of strings JSON has none of them.
pub(super) fn plain(json: &str) -> String {
    let is_plain = |c: char| !(c.is_control() || crate::printable::is_direction(c));
    if json.chars().all(is_plain) {
        return json.to_owned();
    }
    json.chars().fold(String::with_capacity(json.len()), |mut text, c| {
        if is_plain(c) {
            text.push(c);
        } else {
            // Writing to a String can't fail. All of them are below U+10000.
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_holds_nothing_that_a_terminal_obeys() {
        let value = json!({ "error": "a\u{1b}[31m\u{9b}2J\u{202e}ü" });
        let text = plain(&value.to_string());
        assert_eq!(text, r#"{"error":"a\u001b[31m\u009b2J\u202eü"}"#);
        assert_eq!(serde_json::from_str::<Value>(&text).ok(), Some(value));
    }
}
