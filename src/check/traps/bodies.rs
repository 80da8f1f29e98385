//! Far ends over HTTP that take one kind of body and refuse all others, which makes a dead letter of every uplink.

use super::Subject;
use super::parts::UrlParts;
use crate::config::{Auth, Format, Http, Problem};
use crate::integration::platform::Platform;

/// Where a format is expected by host or path, and which.
const FORMATS: [(&str, &str, Format); 4] = [
    ("api.datacake.co", "/integrations/lorawan/helium", Format::Helium),
    ("api.datacake.co", "/integrations/lorawan/tti", Format::Tts),
    ("helium.middleware.tago.io", "", Format::Helium),
    ("ttn.middleware.tago.io", "", Format::Tts),
];

/// Where InfluxDB, and what imitates it, takes line protocol.
const LINE_PROTOCOL: [&str; 3] = ["/api/v2/write", "/write", "/api/v3/write_lp"];

pub(super) fn look(subject: &mut Subject<'_>, http: &Http, url: &UrlParts<'_>, platform: Option<Platform>) {
    if LINE_PROTOCOL.contains(&url.path) && (url.has("db") || url.has("bucket")) {
        line_protocol(subject, http);
    }
    let is_here = |(host, path, _): &&(&str, &str, Format)| *host == url.host && url.path.starts_with(path);
    if let Some((_, _, format)) = FORMATS.iter().find(is_here) {
        needs_format(subject, *format);
    }
    match platform {
        Some(Platform::GooglePubSub) => pubsub(subject, http, url),
        Some(platform @ Platform::Ubidots) if url.path.contains("/devices/") => {
            needs_body(
                subject,
                platform.name(),
                "{\"temperature\": {\"value\": …, \"timestamp\": {{time_ms}}}}",
            );
        }
        _ => {}
    }
}

fn pubsub(subject: &mut Subject<'_>, http: &Http, url: &UrlParts<'_>) {
    subject.needs_post(http, Platform::GooglePubSub);
    if !url.path.ends_with(":publish") {
        let hint = "such as https://pubsub.googleapis.com/v1/projects/PROJECT/topics/TOPIC:publish";
        subject.error(
            &http.url.place,
            "url",
            "Pub/Sub takes messages at a URL that ends with :publish",
            hint,
        );
    }
    needs_body(subject, Platform::GooglePubSub.name(), "{\"messages\": [{\"data\": {{payload}}}]}");
    if matches!(subject.integration.auth.value, Auth::None) {
        let hint = "add [integration.NAME.auth] with type = \"google-service-account\" and a key file";
        subject.error(subject.place(), "auth", "Pub/Sub lets nobody in without a token", hint);
    }
}

fn line_protocol(subject: &mut Subject<'_>, http: &Http) {
    needs_body(subject, "line protocol", "uplink,device={{device.name}} rssi={{rx.rssi}} {{time_ms}}");
    if http.content_type.value == "json" {
        let message = "line protocol is text, and this is called JSON";
        subject.error(&http.content_type.place, "content_type", message, "set content_type = \"text\"");
    }
}

/// None of the formats would do.
fn needs_body(subject: &mut Subject<'_>, who: &str, example: &str) {
    let hint = format!("add a template: body = '{example}'");
    if subject.integration.body.is_none() {
        let message = format!("{who} takes none of the formats: every uplink would be refused");
        subject.error(subject.place(), "body", message, hint);
    }
    for (_, place, key) in subject.formats_of_flows() {
        let message =
            format!("{who} takes none of the formats, and a flow's format replaces the body template");
        subject.problems.push(Problem::error(place, key, message).hint("leave format out"));
    }
}

fn needs_format(subject: &mut Subject<'_>, format: Format) {
    let message =
        format!("this URL is for bodies in the format \"{format}\"; others are taken and not understood");
    let hint = format!("set format = \"{format}\"");
    let integration = subject.integration;
    if let Some(body) = &integration.body {
        subject.warning(&body.place, "body", message.clone(), hint.clone());
    } else if integration.format.value != format {
        subject.warning(&integration.format.place, "format", message.clone(), hint.clone());
    }
    for (wanted, place, key) in subject.formats_of_flows() {
        if wanted != format {
            subject.problems.push(Problem::warning(place, key, message.clone()).hint(hint.clone()));
        }
    }
}
