//! The uplinks of a body: one JSON object, or an array of them.

use serde_json::value::RawValue;

use crate::lenient_json as json;
use crate::metrics::DropReason;
use crate::server_uplink::NoUplink;
use crate::source::server::{Told, drop_reason};
use crate::uplink::Moment;

use super::MAX_UPLINKS;
use super::connection::Answer;

/// What a body holds.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) uplinks: Vec<Told>,
    /// Events that are no uplinks; a network server that posts them can't help it.
    pub(super) other_events: usize,
}

/// Why a body is refused, as a whole.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reason: DropReason,
    pub(super) why: String,
    pub(super) answer: Answer,
}

/// Reads a body that arrived `at`. `key` is the request's own name for it: that of its uplink, and with a number that of
/// those uplinks of an array that have no other.
pub(super) fn read(body: &[u8], key: Option<&str>, at: Moment) -> Result<Body, Refusal> {
    let whole: &RawValue = serde_json::from_slice(body).map_err(|error| {
        let why = NoUplink::NotJson { line: error.line(), column: error.column() };
        refusal(&why, None)
    })?;
    let mut read = Body::default();
    if !whole.get().starts_with('[') {
        if let Some(mut told) = one(whole, at, None, &mut read)? {
            told.id = key.map(str::to_owned).or(told.id);
            read.uplinks.push(told);
        }
        return Ok(read);
    }
    let (mut seen, mut failed) = (0usize, None);
    json::elements(whole, |element| {
        let n = seen;
        seen += 1;
        if failed.is_some() || n >= MAX_UPLINKS {
            return;
        }
        match one(element, at, Some(n), &mut read) {
            Ok(None) => {}
            Ok(Some(mut told)) => {
                told.id = told.id.or_else(|| key.map(|key| format!("{key}/{n}")));
                read.uplinks.push(told);
            }
            Err(refusal) => failed = Some(refusal),
        }
    });
    if let Some(refusal) = failed {
        return Err(refusal);
    }
    if seen > MAX_UPLINKS {
        let why = format!("{seen} uplinks in one body; at most {MAX_UPLINKS} are taken");
        let answer = Answer::error("413 Content Too Large", &why);
        return Err(Refusal { reason: DropReason::TooManyElements, why, answer });
    }
    Ok(read)
}

fn one(text: &RawValue, at: Moment, place: Option<usize>, read: &mut Body) -> Result<Option<Told>, Refusal> {
    match Told::read(text.get().as_bytes(), at) {
        Ok(told) => Ok(Some(told)),
        Err(NoUplink::OtherEvent) => {
            read.other_events += 1;
            Ok(None)
        }
        Err(why) => Err(refusal(&why, place)),
    }
}

/// `place` counts from 0, as clients do.
fn refusal(why: &NoUplink, place: Option<usize>) -> Refusal {
    let status = if *why == NoUplink::TooLong { "413 Content Too Large" } else { "400 Bad Request" };
    let text = match place {
        Some(n) => format!("element {n}: {why}; nothing of the array was stored"),
        None => why.to_string(),
    };
    let mut body = serde_json::json!({ "error": text });
    if let (Some(n), Some(members)) = (place, body.as_object_mut()) {
        members.insert("element".to_owned(), n.into());
    }
    Refusal { reason: drop_reason(why), why: text, answer: Answer::new(status, body.to_string()) }
}
