//! The head of a request to the control API or the metrics listener, as far as it matters: method, path, query, host.

/// The longest head, in bytes (RULES S35).
pub(super) const HEAD_BYTES: usize = 2_048;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`
    pub method: String,
    /// Without the query.
    pub path: String,
    /// The `Host` header.
    pub host: Option<String>,
    query: Vec<(String, String)>,
}

impl Request {
    /// Reads a head with its empty line; `None` if it is none, or too long.
    pub fn parse(head: &[u8]) -> Option<Request> {
        let text = std::str::from_utf8(head).ok().filter(|_| head.len() <= HEAD_BYTES)?;
        let (head, _) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let words: Vec<&str> = lines.next()?.split(' ').collect();
        let [method, target, "HTTP/1.1" | "HTTP/1.0"] = words.as_slice() else { return None };
        let headers = lines.filter_map(|line| line.split_once(':'));
        let mut hosts = headers.filter(|(name, _)| name.eq_ignore_ascii_case("host"));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Some(Request {
            method: (*method).to_owned(),
            path: path.to_owned(),
            host: hosts.next().map(|(_, value)| value.trim().to_owned()),
            query: query.split('&').filter(|part| !part.is_empty()).map(pair).collect(),
        })
    }

    /// The value of a key of the query; empty where it stands without one.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Whether a key stands there, and does not say no.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| !matches!(value, "0" | "false"))
    }
}

fn pair(part: &str) -> (String, String) {
    let (name, value) = part.split_once('=').unwrap_or((part, ""));
    (decoded(name), decoded(value))
}

/// Percent-decoding; what is no escape stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.split_first_chunk::<2>().filter(|_| byte == b'%');
        let decoded = escaped
            .and_then(|(hex, after)| Some((data_encoding::HEXLOWER_PERMISSIVE.decode(hex).ok()?, after)));
        match decoded {
            Some((decoded, after)) => {
                bytes.extend(decoded);
                rest = after;
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_head_is_read_as_far_as_it_matters() {
        let head =
            b"POST /replay?integration=a%20b%2f%zz&dead&all=0 HTTP/1.1\r\nHOST: gw:9100 \r\nX: y\r\n\r\nbody";
        let request = Request::parse(head).unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/replay"));
        assert_eq!(request.host.as_deref(), Some("gw:9100"));
        assert_eq!(request.get("integration"), Some("a b/%zz"));
        assert!(request.has("dead") && !request.has("all") && !request.has("since"));
    }

    #[test]
    fn what_is_no_request_is_none() {
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(HEAD_BYTES));
        for head in [
            "",
            "GET",
            "GET /status",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET / HTTP/2\r\n\r\n",
            "GET / HTTP/1.1\r\n",
            &long,
        ] {
            assert_eq!(Request::parse(head.as_bytes()), None, "{head}");
        }
        assert_eq!(Request::parse(b"GET / HTTP/1.1\r\n\xff\r\n\r\n"), None);
    }
}
