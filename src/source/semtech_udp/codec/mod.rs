//! What a Semtech UDP datagram means.
//!
//! Pure functions over bytes, in two steps, because the acknowledgement goes out between them: [`Datagram::read`] looks at
//! the header alone and knows the answer to it; [`parse_push`] then takes the JSON of a PUSH_DATA apart. [`Answer`] reads what comes from
//! the other side, a server.
//!
//! # How lenient, and why
//!
//! Forwarders are old, many, and can't be fixed from here, and a datagram that is refused is lost for good. So an uplink
//! needs nothing but readable, non-empty `data`. Every other field is metadata: taken where it makes sense in any of the
//! spellings seen in the field (numbers as integers, floats or strings; base64 in either alphabet or a mix of both, padded
//! or not), absent where it does not. Unknown keys are ignored at every level. Elements are read one by one: a bad one
//! costs itself, and JSON that breaks off costs what follows the break, never what stood before it. Bytes that no JSON may
//! hold (Latin-1 in a description, a NUL at the end, a raw control character) are replaced before the first look.
//!
//! # Bounds
//!
//! At most [`MAX_ELEMENTS`] elements of a datagram are looked at (RULES S32), a frame has at most
//! [`MAX_PHY_LEN`](crate::uplink::MAX_PHY_LEN) bytes, and depth of nesting costs no stack: values that are not taken are
//! skipped without recursion. An uplink allocates nothing, unless JSON escapes or foreign bytes must be rewritten.

mod answer;
mod base64;
mod datagram;
mod rxpk;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use answer::Answer;
pub use datagram::{BadDatagram, Datagram, Message};

use crate::lenient_json as json;
use crate::metrics::DropReason;
use crate::uplink::{Eui64, Heard, Moment};

/// How many `rxpk` elements of a datagram are looked at (RULES S32); a sx1302 forwarder sends at most 255.
pub const MAX_ELEMENTS: usize = 256;

/// Takes the JSON of a PUSH_DATA apart and gives each uplink, or why there is none, to `sink`.
///
/// `at` is when the datagram arrived, by our own clock; each uplink carries it, with the wall time improved where the
/// element knows better (RULES S22). The `stat` report and unknown keys are passed over. Reasons given: `BadJson` once if
/// the text is no object or breaks off; `BadElement`, `CrcBad`, `Oversize` and `TooManyElements` once an element.
pub fn parse_push(json: &[u8], gateway: Eui64, at: Moment, mut sink: impl FnMut(Result<Heard, DropReason>)) {
    let mut seen = 0usize;
    let well_formed = json::elements_of(&readable(json), "rxpk", |element| {
        seen = seen.saturating_add(1);
        sink(match seen > MAX_ELEMENTS {
            true => Err(DropReason::TooManyElements),
            false => rxpk::read(element, gateway, at),
        });
    });
    if !well_formed {
        sink(Err(DropReason::BadJson));
    }
}

/// The text of a datagram, made valid where it is not: control characters become spaces (some forwarders end the text
/// with a NUL, and JSON allows none within strings), what is not UTF-8 becomes U+FFFD.
fn readable(json: &[u8]) -> Cow<'_, str> {
    if json.iter().any(|byte| byte.is_ascii_control()) {
        let blank = |&byte: &u8| if byte.is_ascii_control() { b' ' } else { byte };
        let spaced: Vec<u8> = json.iter().map(blank).collect();
        Cow::Owned(String::from_utf8_lossy(&spaced).into_owned())
    } else {
        String::from_utf8_lossy(json)
    }
}
