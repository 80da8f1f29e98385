//! Azure IoT Hub. Sources: its guide ("Communicate with an IoT hub using the MQTT protocol") and its REST reference
//! ("Send Device Event").

use std::time::Duration;

use super::Subject;
use super::mqtt::{needs_tls, refuses_qos_2};
use super::parts::UrlParts;
use crate::config::{Http, Mqtt, MqttScheme, MqttVersion, Problem};
use crate::integration::auth::own_name;
use crate::integration::platform::Platform;

const AZURE: Platform = Platform::AzureIotHub;

/// A longer keep-alive is not held: the hub closes after 1.5 times this.
const MAX_KEEP_ALIVE: Duration = Duration::from_secs(1_177);

pub(super) fn mqtt(subject: &mut Subject<'_>, mqtt: &Mqtt) {
    needs_tls(subject, mqtt, AZURE);
    refuses_qos_2(subject, mqtt, AZURE);
    if mqtt.scheme.value == MqttScheme::Mqtts && mqtt.port != 8883 {
        let message = "Azure IoT Hub takes MQTT on port 8883 only; on 443 it expects WebSocket";
        subject.error(
            &mqtt.scheme.place,
            "port",
            message,
            "leave the port out; where 8883 is blocked, send over https",
        );
    }
    let us = own_name(&mqtt.client_id, subject.gateway());
    for (topic, key) in subject.topics(mqtt) {
        let problem = |message: &str| Problem::error(&topic.place, key.as_str(), message);
        let found = match event_device(topic) {
            None => {
                let message = "Azure IoT Hub takes nothing but devices/DEVICE/messages/events/, and closes the connection";
                Some(
                    problem(message)
                        .hint(format!("set it to \"devices/{}/messages/events/\"", mqtt.client_id.value)),
                )
            }
            Some(device) if own_name(device, subject.gateway()) != us => {
                let message =
                    "the topic names another device than the client id; a connection is one device's alone";
                let hint = "all sensors are one device there; to have one each, send over HTTP with the key of a policy \
                            (config/examples/azure-iot-hub.toml)";
                Some(problem(message).hint(hint))
            }
            Some(_) => None,
        };
        subject.problems.extend(found);
    }
    if mqtt.retain {
        let message = "Azure IoT Hub retains nothing; the flag becomes a property of the message";
        subject.warning(subject.place(), "retain", message, "set retain = false");
    }
    if mqtt.version.value == MqttVersion::V5 {
        subject.error(
            &mqtt.version.place,
            "version",
            "Azure IoT Hub speaks MQTT 3.1.1",
            "set version = \"3.1.1\"",
        );
    }
    if mqtt.keep_alive > MAX_KEEP_ALIVE {
        let message = "Azure IoT Hub closes a connection that is silent for longer, whatever keep_alive says";
        subject.warning(subject.place(), "keep_alive", message, "set at most \"19m\"");
    }
    let is_signature =
        |password: &crate::config::Secret| password.expose().starts_with("SharedAccessSignature");
    if mqtt.password.as_ref().is_some_and(is_signature) {
        let message = "this password is a signature and ends by itself";
        let hint = "give the device's key instead, and signatures are made from it: [integration.NAME.auth] with type = \
                    \"azure-sas\"";
        subject.warning(subject.place(), "password", message, hint);
    }
    if mqtt.password.is_none() && !subject.has_auth() && !subject.has_certificate() {
        needs_auth(subject);
    }
}

pub(super) fn http(subject: &mut Subject<'_>, http: &Http, url: &UrlParts<'_>) {
    subject.needs_post(http, AZURE);
    let place = &http.url.place;
    if !url.is_tls {
        subject.error(place, "url", "Azure IoT Hub takes connections with TLS only", "use https://");
    }
    if event_device(url.path.trim_start_matches('/')).is_none() {
        let hint = "such as https://HUB.azure-devices.net/devices/{{gateway.name}}/messages/events?api-version=2020-03-13";
        subject.error(place, "url", "Azure IoT Hub takes uplinks at /devices/DEVICE/messages/events", hint);
    }
    if !url.has("api-version") {
        let message = "without api-version Azure answers 400, which would make a dead letter of every uplink";
        subject.error(place, "url", message, "add ?api-version=2020-03-13 to the URL");
    }
    let has_header = http.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    if !has_header && !subject.has_auth() && !subject.has_certificate() {
        needs_auth(subject);
    }
}

fn needs_auth(subject: &mut Subject<'_>) {
    let message = "Azure IoT Hub lets nobody in without a signature or a client certificate";
    let hint = "add [integration.NAME.auth] with type = \"azure-sas\" and the device's key";
    subject.error(subject.place(), "auth", message, hint);
}

/// The device of `devices/DEVICE/messages/events`, with or without a module, and whatever properties follow.
fn event_device(topic: &str) -> Option<&str> {
    let (device, rest) = topic.strip_prefix("devices/")?.split_once('/')?;
    let rest = match rest.strip_prefix("modules/") {
        Some(module) => module.split_once('/')?.1,
        None => rest,
    };
    let after = rest.strip_prefix("messages/events")?;
    (!device.is_empty() && (after.is_empty() || after.starts_with('/'))).then_some(device)
}
