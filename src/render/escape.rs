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
