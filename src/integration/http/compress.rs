//! Bodies made smaller on the way (`compress = "gzip"`), for links that are paid by the byte.
//!
//! Only the body of a request: what is sent in a header or a URL stays as it is, and so does history. A body that gzip
//! would make larger, as it does with most under a hundred bytes, goes out as it is; the header says which it was. The same
//! body makes the same bytes on every attempt: there is no name and no time in them.
//!
//! Not every endpoint takes it; one that does not answers 400 or 415.

use ureq::http::HeaderMap;

use crate::config::{Compress, Http, Problem};

/// What is asked for and not in this build.
pub(super) fn unavailable(http: &Http, key: &str) -> Option<Problem> {
    if cfg!(feature = "gzip") || *http.compress == Compress::None {
        return None;
    }
    let problem = Problem::error(&http.compress.place, key, "this build of Packhorse does not compress");
    Some(problem.hint("leave compress out, or build with: cargo build --release --features gzip"))
}

/// `body` in gzip with the header that says so, or as it is where that is no larger.
#[cfg(feature = "gzip")]
pub(super) fn gzipped(body: Vec<u8>, headers: &mut HeaderMap) -> Vec<u8> {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ureq::http::header::{CONTENT_ENCODING, HeaderValue};

    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    match encoder.write_all(&body).and_then(|()| encoder.finish()) {
        Ok(smaller) if smaller.len() < body.len() => {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            smaller
        }
        _ => body,
    }
}

/// Not reached: such a configuration is refused.
#[cfg(not(feature = "gzip"))]
pub(super) fn gzipped(body: Vec<u8>, _headers: &mut HeaderMap) -> Vec<u8> {
    body
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::Method;
    use crate::integration::testing::{http_integration, http_of, spot};

    #[test]
    fn a_build_without_it_says_so() {
        let mut integration = http_integration("https://h/", Method::Post);
        let http = http_of(&mut integration);
        assert!(unavailable(http, "k").is_none());
        http.compress = spot(Compress::Gzip);
        assert_eq!(unavailable(http, "k").is_some(), cfg!(not(feature = "gzip")));
    }

    #[cfg(feature = "gzip")]
    #[test]
    fn what_gets_smaller_is_sent_smaller_and_says_so() {
        use std::io::Read as _;

        let mut headers = HeaderMap::new();
        let body = br#"{"id":"1","rssi":-57}"#.repeat(20);
        let sent = gzipped(body.clone(), &mut headers);
        assert!(sent.len() < body.len() / 2);
        assert_eq!(headers.get("content-encoding").unwrap(), "gzip");
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut read).unwrap();
        assert_eq!(read, body);
        assert_eq!(sent, gzipped(body, &mut headers), "the same on every attempt");

        let mut headers = HeaderMap::new();
        assert_eq!(gzipped(b"{}".to_vec(), &mut headers), b"{}");
        assert!(headers.is_empty());
    }
}
