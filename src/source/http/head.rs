//! The head of a request: its line and the few headers that matter here.

use super::connection::Answer;

/// What a head says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    /// The connection may be used again.
    pub(super) keep_alive: bool,
    pub(super) content_length: Option<usize>,
    /// There is a body of a length that nobody says.
    pub(super) is_chunked: bool,
    /// The client waits for a word before it sends the body.
    pub(super) expects_continue: bool,
    pub(super) authorization: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) idempotency_key: Option<String>,
}

impl Head {
    /// Reads a head, up to and without its empty line.
    pub(super) fn parse(bytes: &[u8]) -> Result<Head, Answer> {
        let bad = |what: &str| Answer::error("400 Bad Request", what);
        let text = std::str::from_utf8(bytes).map_err(|_| bad("the request is not HTTP/1.1"))?;
        let mut lines = text.split("\r\n");
        let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let [method, target, version @ ("HTTP/1.1" | "HTTP/1.0")] = words.as_slice() else {
            return Err(bad("the request is not HTTP/1.1"));
        };
        let mut head = Head {
            method: (*method).to_owned(),
            path: target.split('?').next().unwrap_or_default().to_owned(),
            keep_alive: *version == "HTTP/1.1",
            ..Head::default()
        };
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| bad("a header has no colon"))?;
            // A space here, or a line that goes on in the next, is what requests are smuggled with (RFC 9112, section 5).
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(bad("a header has no valid name"));
            }
            head.take(&name.to_ascii_lowercase(), value.trim())?;
        }
        Ok(head)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), Answer> {
        match name {
            "content-length" => {
                let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                // A number that no machine can hold is larger than what is taken.
                let length = is_number.then(|| value.parse().unwrap_or(usize::MAX));
                if length.is_none() || self.content_length.is_some_and(|other| Some(other) != length) {
                    return Err(Answer::error("400 Bad Request", "Content-Length is not one number"));
                }
                self.content_length = length;
            }
            "transfer-encoding" => self.is_chunked = true,
            "expect" => self.expects_continue = value.eq_ignore_ascii_case("100-continue"),
            "connection" => {
                let says = |word: &str| value.split(',').any(|it| it.trim().eq_ignore_ascii_case(word));
                self.keep_alive = (self.keep_alive || says("keep-alive")) && !says("close");
            }
            "authorization" => self.authorization = Some(value.to_owned()),
            "content-type" => self.content_type = Some(value.to_owned()),
            "idempotency-key" => self.idempotency_key = Some(value.to_owned()).filter(|key| !key.is_empty()),
            _ => {}
        }
        Ok(())
    }

    /// Whether it carries the token.
    pub(super) fn carries(&self, token: &str) -> bool {
        let given = self.authorization.as_deref().and_then(|it| it.split_once(' '));
        match given {
            Some((scheme, given)) => {
                // Both are looked at, so that the time tells nothing.
                is_same(given.trim().as_bytes(), token.as_bytes()) & scheme.eq_ignore_ascii_case("bearer")
            }
            None => false,
        }
    }

    /// Whether the body can be JSON by its type. A browser asks before it sends this type to another site's server, which
    /// keeps a web page from posting here.
    pub(super) fn is_json(&self) -> bool {
        let Some(given) = &self.content_type else { return true };
        let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
    }
}

/// Compares in a time that depends on the length of `given` alone.
fn is_same(given: &[u8], secret: &[u8]) -> bool {
    let mut differs = usize::from(given.len() != secret.len());
    for (n, byte) in given.iter().enumerate() {
        let other = secret.get(n % secret.len().max(1)).copied().unwrap_or_default();
        differs |= usize::from(std::hint::black_box(byte ^ other));
    }
    std::hint::black_box(differs) == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn parse(text: &str) -> Result<Head, Answer> {
        Head::parse(text.as_bytes())
    }

    #[test]
    fn a_head_field_by_field() {
        let head = parse(
            "POST /uplinks?event=up HTTP/1.1\r\nHost: gw\r\ncontent-LENGTH: 12\r\nContent-Type: application/json; charset=utf-8\r\n\
             Authorization: Bearer abc\r\nIdempotency-Key: 7\r\nExpect: 100-Continue\r\nConnection: foo, Close",
        )
        .unwrap();
        assert_eq!((head.method.as_str(), head.path.as_str()), ("POST", "/uplinks"));
        assert_eq!((head.content_length, head.keep_alive, head.is_chunked), (Some(12), false, false));
        assert!(head.expects_continue && head.is_json() && head.carries("abc"));
        assert_eq!(head.idempotency_key.as_deref(), Some("7"));
        assert!(parse("GET / HTTP/1.1").unwrap().keep_alive);
        assert!(!parse("GET / HTTP/1.0").unwrap().keep_alive);
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for text in [
            "",
            "POST",
            "POST /uplinks",
            "POST /uplinks HTTP/2",
            "POST  /uplinks HTTP/1.1",
            "POST /uplinks HTTP/1.1\r\nno colon",
            "POST /uplinks HTTP/1.1\r\nContent-Length : 3",
            "POST /uplinks HTTP/1.1\r\nA: b\r\n folded",
            "POST /uplinks HTTP/1.1\r\nContent-Length: +3",
            "POST /uplinks HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4",
            "POST /uplinks HTTP/1.1\r\nContent-Length:",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let huge = parse("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999").unwrap();
        assert_eq!(huge.content_length, Some(usize::MAX));
    }

    #[test]
    fn only_the_token_itself_is_the_token() {
        let carries = |value: &str| {
            parse(&format!("POST / HTTP/1.1\r\nAuthorization: {value}")).unwrap().carries("hunter2")
        };
        assert!(carries("Bearer hunter2") && carries("bearer  hunter2 "));
        for other in [
            "Bearer hunter",
            "Bearer hunter22",
            "Bearer hunter2hunter2",
            "Bearer",
            "hunter2",
            "Basic hunter2",
        ] {
            assert!(!carries(other), "{other}");
        }
        assert!(!parse("POST / HTTP/1.1").unwrap().carries("hunter2"));
    }

    #[test]
    fn json_by_its_type() {
        let is_json =
            |kind: &str| parse(&format!("POST / HTTP/1.1\r\nContent-Type: {kind}")).unwrap().is_json();
        assert!(is_json("application/json") && is_json("Application/Vnd.api+JSON; v=1"));
        for other in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
            assert!(!is_json(other), "{other}");
        }
        assert!(parse("POST / HTTP/1.1").unwrap().is_json(), "who says nothing means JSON");
    }
}
