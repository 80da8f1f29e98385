//! The keys of an HTTP integration.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::address::Endpoint;
use super::super::reader::{Table, Value, quoted};
use super::super::schema::{BatchFormat, Compress, Http, Method, Spot, SuccessCodes};
use super::super::secret::{Inline, Secret};
use super::super::suggest;
use super::Peer;

/// The keys that only HTTP has.
pub(super) const KEYS: &[&str] = &[
    "method",
    "headers",
    "content_type",
    "compress",
    "timeout",
    "success_codes",
    "parallel",
    "batch",
    "batch_format",
];

/// Short names of content types.
const CONTENT_TYPES: [&str; 5] = ["json", "xml", "form", "text", "binary"];

/// Headers that belong to the connection (RFC 9110 section 7.6.1, RFC 9112 section 6) or have a key of their own.
const RESERVED: [(&str, &str); 6] = [
    ("content-type", "use the key content_type"),
    ("content-encoding", "use the key compress"),
    ("content-length", "the agent sets it"),
    ("transfer-encoding", "the agent sets it"),
    ("connection", "the agent sets it"),
    ("host", "it comes from the URL; tls.server_name changes the name that TLS asks for"),
];

pub(super) fn read<'a>(table: &mut Table<'a>) -> (Option<Http>, Option<Peer<'a>>) {
    let url = table.need("url", "url = \"https://api.example.com/uplinks\"");
    let endpoint = url.as_ref().and_then(|value| Endpoint::read(value, &["https", "http"]));
    let seconds = Duration::from_secs;
    let method = table.get("method").and_then(|value| method(&value)).unwrap_or(Method::Post);
    let headers = table.sub("headers", headers);
    let content_type = content_type(table);
    let compress = table.choice("compress", Compress::None, Compress::NAMES);
    let timeout = table.duration("timeout", seconds(10), seconds(1)..=seconds(300)).value;
    let success_codes = table.get("success_codes").map(|value| success_codes(&value));
    let parallel = table.number("parallel", 4, 1..=32).value;
    let batch = table.number("batch", 1, 1..=64);
    let batch_format = table.choice("batch_format", BatchFormat::Array, BatchFormat::NAMES).value;
    let (Some(url), Some(mut endpoint)) = (url, endpoint) else { return (None, None) };
    let http = Http {
        url: url.spot(endpoint.url()),
        method,
        headers,
        content_type,
        compress,
        timeout,
        success_codes: success_codes.unwrap_or_else(|| SuccessCodes(vec![200..=299])),
        parallel,
        batch,
        batch_format,
    };
    (Some(http), Some(Peer::new(url, &mut endpoint, (&["https"], "https"))))
}

fn method(value: &Value<'_>) -> Option<Method> {
    if value.raw().as_str().is_some_and(|text| text.eq_ignore_ascii_case("GET")) {
        let hint = "choose POST, PUT or PATCH";
        value.refuse_with("GET cannot deliver an uplink: such a request has no body", hint);
        return None;
    }
    value.choice(Method::NAMES)
}

fn content_type(table: &mut Table<'_>) -> Spot<String> {
    let Some(value) = table.get("content_type") else { return table.absent("json".to_owned()) };
    let Some(text) = value.text() else { return value.spot("json".to_owned()) };
    let mime = text.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && !subtype.is_empty());
    if !(CONTENT_TYPES.contains(&text.as_str())
        || mime && text.chars().all(|c| c == ' ' || c.is_ascii_graphic()))
    {
        let hint = suggest::hint(
            &text,
            &CONTENT_TYPES,
            "write a MIME type such as \"application/cbor\", or one of",
            9,
        );
        value.refuse_with(format!("{} is not a content type", quoted(&text)), hint.unwrap_or_default());
    }
    text
}

fn success_codes(value: &Value<'_>) -> SuccessCodes {
    let items = value.some_items("a list such as [\"200-299\"]", "nothing would count as delivered");
    SuccessCodes(items.iter().filter_map(codes).collect())
}

/// A status code (`200`, `"200"`) or a range (`"200-299"`); 100 to 599 (RFC 9110 section 15).
fn codes(value: &Value<'_>) -> Option<RangeInclusive<u16>> {
    if value.raw().is_integer() {
        return value.number(100..=599).map(|code| code..=code);
    }
    let text = value.str("a status code such as 200 or \"200-299\"")?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.trim().parse().ok().zip(last.trim().parse().ok()).map(|(first, last)| first..=last);
    let range =
        range.filter(|range| !range.is_empty() && (100..=599).contains(range.start()) && *range.end() <= 599);
    if range.is_none() {
        let message = format!("{} is neither a status code nor a range of them", quoted(text));
        value.refuse_with(message, "write 200 or \"200-299\"; codes are 100 to 599");
    }
    range
}

fn headers(table: &mut Table<'_>) -> Vec<(Spot<String>, Secret)> {
    let mut headers: Vec<(Spot<String>, Secret)> = Vec::new();
    for entry in table.entries() {
        let (name, value) = (entry.name, entry.value);
        let reserved = RESERVED.iter().find(|(header, _)| name.eq_ignore_ascii_case(header));
        if let Some((_, hint)) = reserved {
            value.refuse_with(format!("the header {} cannot be set here", quoted(&name)), *hint);
        } else if !is_token(&name) {
            value.refuse(format!("{} cannot be the name of a header", quoted(&name)));
        } else if headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(&name)) {
            value.refuse(format!("the header {} stands twice; case does not matter", quoted(&name)));
        }
        let inline = if is_credential(&name) { Inline::Secret } else { Inline::Plain };
        let Some(secret) = value.secret(inline) else { continue };
        if secret.expose().chars().any(|c| c.is_ascii_control()) {
            value.refuse("a header's value holds a line break or another control character");
        }
        headers.push((name, secret));
    }
    headers
}

/// Headers whose value is a credential wherever they are used.
fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["authorization", "cookie", "api-key", "apikey", "token", "secret", "password"]
        .iter()
        .any(|it| name.contains(it))
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(fine)
}
