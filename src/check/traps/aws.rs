//! AWS IoT Core. Sources: its developer guide ("Device communication protocols", "HTTPS", "MQTT") and its quotas.

use std::time::Duration;

use super::Subject;
use super::mqtt::{needs_tls, refuses_qos_2};
use super::parts::UrlParts;
use crate::config::{Http, Mqtt, Problem};
use crate::integration::platform::Platform;

const AWS: Platform = Platform::AwsIot;

/// More slashes in a topic end the connection, and so does a longer topic.
const MAX_SLASHES: usize = 7;
const MAX_TOPIC_BYTES: usize = 256;

/// The longest client id.
const MAX_CLIENT_ID_BYTES: usize = 128;

/// A longer keep-alive is cut down to this.
const MAX_KEEP_ALIVE: Duration = Duration::from_secs(1_200);

/// Basic Ingest: these levels and the name of the rule do not count.
const BASIC_INGEST: &str = "$aws/rules/";

/// ALPN on port 443, with a client certificate.
const ALPN_MQTT: &str = "x-amzn-mqtt-ca";
const ALPN_HTTP: &str = "x-amzn-http-ca";

pub(super) fn mqtt(subject: &mut Subject<'_>, mqtt: &Mqtt) {
    needs_tls(subject, mqtt, AWS);
    refuses_qos_2(subject, mqtt, AWS);
    for (topic, key) in subject.topics(mqtt) {
        let counted = topic.strip_prefix(BASIC_INGEST).and_then(|rest| rest.split_once('/'));
        let counted = counted.map_or(topic.as_str(), |(_rule, rest)| rest);
        let slashes = counted.matches('/').count();
        if slashes > MAX_SLASHES {
            let message = format!(
                "the topic has {slashes} slashes; with more than {MAX_SLASHES} AWS closes the connection"
            );
            let problem = Problem::error(&topic.place, key.as_str(), message);
            subject.problems.push(problem.hint("put the rest into the body"));
        }
        if literal_bytes(counted) > MAX_TOPIC_BYTES {
            let message = format!(
                "the topic is longer than {MAX_TOPIC_BYTES} bytes, for which AWS closes the connection"
            );
            subject.problems.push(Problem::error(&topic.place, key.as_str(), message).hint("shorten it"));
        }
    }
    if literal_bytes(&mqtt.client_id) > MAX_CLIENT_ID_BYTES {
        let message = format!("AWS takes client ids of at most {MAX_CLIENT_ID_BYTES} bytes");
        subject.error(&mqtt.client_id.place, "client_id", message, "shorten it");
    }
    if !subject.has_certificate() && mqtt.username.is_none() {
        needs_certificate(subject);
    }
    // With a user name it is a custom authorizer, which has the plain name.
    if mqtt.port == 443 && !subject.offers(ALPN_MQTT) && !subject.offers("mqtt") {
        needs_alpn(subject, ALPN_MQTT);
    }
    if mqtt.keep_alive > MAX_KEEP_ALIVE {
        let message =
            "AWS drops a connection after 1.5 times 20 minutes of silence, whatever keep_alive says";
        subject.warning(subject.place(), "keep_alive", message, "set at most \"20m\"");
    }
}

pub(super) fn http(subject: &mut Subject<'_>, http: &Http, url: &UrlParts<'_>) {
    subject.needs_post(http, AWS);
    let has_other_way = !http.headers.is_empty() || subject.has_auth();
    if !subject.has_certificate() && !has_other_way {
        needs_certificate(subject);
    }
    if subject.has_certificate() && url.port == 443 && !subject.offers(ALPN_HTTP) {
        needs_alpn(subject, ALPN_HTTP);
    }
    if !url.path.starts_with("/topics/") {
        let hint = "the path is /topics/ and the topic, in which each / is written %2F: /topics/packhorse%2F{{device.name}}";
        subject.error(
            &http.url.place,
            "url",
            "AWS publishes what is sent to /topics/… and nothing else",
            hint,
        );
    }
    if !url.has("qos") {
        let message = "without ?qos=1 AWS answers before the message is safe";
        subject.warning(&http.url.place, "url", message, "add ?qos=1 to the URL");
    }
}

fn needs_certificate(subject: &mut Subject<'_>) {
    let message = "AWS IoT Core knows gateways by their client certificate, and there is none";
    let hint = "set cert and key to the files that AWS gave you for the thing";
    subject.error(subject.place(), "tls.cert", message, hint);
}

fn needs_alpn(subject: &mut Subject<'_>, protocol: &str) {
    let message = "on port 443 AWS tells by ALPN what is spoken, and would close the connection";
    let hint = format!(
        "set tls.alpn = [\"{protocol}\"], or use port {}",
        if protocol == ALPN_MQTT { 8883 } else { 8443 }
    );
    subject.error(subject.place(), "tls.alpn", message, hint);
}

/// What is sure to be sent of a template.
fn literal_bytes(template: &str) -> usize {
    let mut bytes = 0;
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        bytes += before.len();
        rest = after.split_once("}}").map_or("", |(_, rest)| rest);
    }
    bytes + rest.len()
}
