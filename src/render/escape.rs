//! Values made fit for the place they are put in (RULES S36).
//!
//! A value comes from a device, a network server or a configuration file and may hold anything. Each function here
//! answers for one place: what comes out can't end the part of the URL, topic or header that it was put in, and so
//! can't redirect an uplink.

use std::fmt::Write as _;

/// Percent-encodes everything but the unreserved characters of RFC 3986, section 2.3. Good in a path segment and in a
/// query alike.
pub(crate) fn percent_encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            other => {
                // Writing to a String does not fail.
                let _ = write!(encoded, "%{other:02X}");
            }
        }
    }
    encoded
}

/// One level of an MQTT topic: wildcards, the separator and controls become `_`, and so does nothing at all.
pub(super) fn topic_level(value: &str) -> String {
    if value.is_empty() {
        return "_".to_owned();
    }
    value.chars().map(|c| if is_topic_special(c) { '_' } else { c }).collect()
}

/// Whether `c` means something in a topic, or is a control character (MQTT 3.1.1, sections 1.5.3 and 4.7.1).
fn is_topic_special(c: char) -> bool {
    matches!(c, '+' | '#' | '/') || c.is_control()
}

/// Whether a header value may hold `text`: visible ASCII and the space (RFC 9110, section 5.5, without its obsolete
/// bytes and tabs).
pub(crate) fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
}

/// What stands between the quotes of a JSON string (RFC 8259, section 7).
pub(super) fn json_string(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or_default().to_owned()
}

/// Text of an XML element or attribute. Characters that XML 1.0 has no words for (section 2.2) are left out.
pub(super) fn xml_text(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            // A parser would make a line feed of it (section 2.11).
            '\r' => escaped.push_str("&#13;"),
            '\t' | '\n' => escaped.push(c),
            '\u{fffe}' | '\u{ffff}' => {}
            c if c < ' ' => {}
            c => escaped.push(c),
        }
    }
    escaped
}

/// A name or value of a form (WHATWG URL, section 5.1): as in a URL, with `+` for the space.
pub(super) fn form_encode(value: &str) -> String {
    percent_encode(value).replace("%20", "+")
}
