//! What an HTTP answer means (RULES S1).
//!
//! | status | outcome |
//! |---|---|
//! | in `success_codes` | delivered |
//! | 408, 425, 429, 5xx | the link: retried for ever, not before `Retry-After` |
//! | 400, 413, 422 | the record: dead letter |
//! | 3xx | the endpoint: blocked; shows where it points, because captive portals answer so |
//! | everything else | the endpoint: blocked |
//!
//! The status decides alone. It is the far end's word; what happens to the rest of the answer after it changes nothing.

use std::time::Duration;

use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use ureq::http::StatusCode;

use crate::config::SuccessCodes;
use crate::delivery::outcome::{Blame, Failure, Layer, Outcome, Receipt};

/// The longest that a far end is left alone because it asked for it.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// The date of RFC 9110, section 5.6.7, in the form that senders must use.
const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// An answer, as far as it matters.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    /// Fit to be shown.
    pub(super) location: String,
    /// The beginning of the body, fit to be shown.
    pub(super) body: String,
}

impl Answer {
    /// What it means. `host` gave it; `integration` is whose settings a refusal may be about.
    pub(super) fn judge(&self, success: &SuccessCodes, host: &str, integration: &str) -> Outcome {
        let code = self.status.as_u16();
        if let Some(receipt) = Receipt::http(code, success) {
            return Outcome::Delivered(receipt);
        }
        let blame = match code {
            408 | 425 | 429 | 500..=599 => Blame::Link { retry_after: self.retry_after },
            400 | 413 | 422 => Blame::Record,
            _ => Blame::Endpoint,
        };
        let next_step = match (blame, self.retry_after) {
            (Blame::Link { .. }, Some(wait)) => format!("; it asks to be left alone for {wait:?}"),
            _ => next_step(code, integration),
        };
        let message = format!("{host} answered {}{}{next_step}", self.status, self.said());
        Outcome::Failed(Failure { layer: Layer::Http, blame, message })
    }

    fn said(&self) -> String {
        match (self.status.is_redirection(), self.location.as_str(), self.body.as_str()) {
            (true, "", _) => String::new(),
            (true, location, _) => format!(" to {location}"),
            (false, _, "") => String::new(),
            (false, _, body) => format!(": {body}"),
        }
    }
}

fn next_step(code: u16, integration: &str) -> String {
    match code {
        300..=399 => {
            "; redirects are not followed: a captive portal looks like this, or the URL has moved".to_owned()
        }
        401 | 403 => format!("; check [integration.{integration}.auth]"),
        404 | 405 | 410 => format!("; check url and method of [integration.{integration}]"),
        407 => "; there is a proxy in between, which is not supported".to_owned(),
        _ => String::new(),
    }
}

/// How long to wait by a `Retry-After` header (RFC 9110, section 10.2.3): seconds or a date, at most an hour. A date is
/// taken against the answer's own `Date`, because our clock may be wrong; without one, against `now_us` (microseconds
/// since 1970). `None`: no header, or nothing that can be read.
pub(super) fn retry_after(header: Option<&str>, date: Option<&str>, now_us: i64) -> Option<Duration> {
    let header = header?.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit is longer than the cap.
        return Some(header.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs).min(MAX_RETRY_AFTER));
    }
    let now = date.and_then(seconds_of).unwrap_or(now_us / 1_000_000);
    let wait = u64::try_from(seconds_of(header)?.saturating_sub(now)).unwrap_or(0);
    Some(Duration::from_secs(wait).min(MAX_RETRY_AFTER))
}

fn seconds_of(date: &str) -> Option<i64> {
    let date = PrimitiveDateTime::parse(date.trim(), HTTP_DATE).ok()?;
    Some(date.assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    fn judged(code: u16) -> Outcome {
        let answer = Answer {
            status: StatusCode::from_u16(code).unwrap(),
            retry_after: Some(Duration::from_secs(7)),
            location: "http://portal/login".into(),
            body: "sorry".into(),
        };
        answer.judge(&SuccessCodes(vec![200..=299]), "api.example.com", "api")
    }

    #[test]
    fn s1_every_status_blames_whom_the_rule_says() {
        for code in 100..=999 {
            let blame = match judged(code) {
                Outcome::Delivered(receipt) => {
                    assert!((200..=299).contains(&code), "{code}");
                    assert_eq!(receipt.to_string(), format!("HTTP {code}"));
                    continue;
                }
                Outcome::Failed(failure) => failure.blame,
                Outcome::Filtered => panic!("{code}"),
            };
            let expected = match code {
                408 | 425 | 429 | 500..=599 => Blame::Link { retry_after: Some(Duration::from_secs(7)) },
                400 | 413 | 422 => Blame::Record,
                _ => Blame::Endpoint,
            };
            assert_eq!(blame, expected, "{code}");
        }
    }

    #[test]
    fn a_failure_says_who_what_and_what_next() {
        for (code, message) in [
            (400, "api.example.com answered 400 Bad Request: sorry"),
            (401, "api.example.com answered 401 Unauthorized: sorry; check [integration.api.auth]"),
            (503, "api.example.com answered 503 Service Unavailable: sorry; it asks to be left alone for 7s"),
            (
                302,
                "api.example.com answered 302 Found to http://portal/login; redirects are not followed: a captive \
                 portal looks like this, or the URL has moved",
            ),
        ] {
            let Outcome::Failed(failure) = judged(code) else { panic!("{code}") };
            assert_eq!(failure.message, message);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_at_most_an_hour() {
        const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        const NOW_US: i64 = 784_111_777_000_000;
        let later = Some("Sun, 06 Nov 1994 08:51:37 GMT");
        let seconds = |header, date, now_us| retry_after(header, date, now_us).map(|wait| wait.as_secs());
        for (header, date, now_us, expected) in [
            (None, None, 0, None),
            (Some("120"), None, 0, Some(120)),
            (Some(" 0 "), None, 0, Some(0)),
            (Some("3601"), None, 0, Some(3_600)),
            (Some("99999999999999999999999"), None, 0, Some(3_600)),
            (later, Some(NOW), 0, Some(120)),
            (later, None, NOW_US, Some(120)),
            (later, Some("nonsense"), NOW_US, Some(120)),
            (later, None, 0, Some(3_600)),
            (Some(NOW), later, 0, Some(0)),
            (Some("soon"), None, 0, None),
            (Some(""), None, 0, None),
            (Some("-5"), None, 0, None),
            (later, None, i64::MIN, Some(3_600)),
        ] {
            assert_eq!(seconds(header, date, now_us), expected, "{header:?} {date:?}");
        }
    }
}
