//! MQTT itself, and the brokers that need few words.

use super::Subject;
use super::parts::is_loopback;
use crate::config::{Mqtt, QoS};
use crate::integration::platform::Platform;

/// What is true of every broker.
pub(super) fn look(subject: &mut Subject<'_>, mqtt: &Mqtt) {
    let place = subject.place();
    // A broker on this machine has only this gateway.
    if !mqtt.client_id.contains("{{") && !is_loopback(&mqtt.host) {
        let message = "the client id is the same on every gateway that gets this file, and a broker keeps only one of them";
        let hint = "put the gateway's name into it: client_id = \"{{gateway.name}}\"";
        subject.warning(&mqtt.client_id.place, "client_id", message, hint);
    }
    match mqtt.qos {
        QoS::AtMostOnce => {
            let message = "at QoS 0 an uplink counts as delivered once it is written to the socket";
            subject.warning(
                place,
                "qos",
                message,
                "with qos = 1 the broker says so, and what it did not get is sent again",
            );
        }
        QoS::AtLeastOnce => {}
        QoS::ExactlyOnce => {
            let message =
                "QoS 2 is exactly once within a connection; after a break an uplink may still arrive twice";
            subject.warning(place, "qos", message, "qos = 1 promises as much and takes half of the packets");
        }
    }
}

/// What is true of `platform`, for those without a module of their own.
pub(super) fn look_at(subject: &mut Subject<'_>, mqtt: &Mqtt, platform: Platform) {
    match platform {
        Platform::HiveMqCloud => {
            needs_tls(subject, mqtt, platform);
            if mqtt.username.is_none() && !subject.has_certificate() {
                let message = "HiveMQ Cloud lets nobody in without a user name and a password";
                subject.error(
                    subject.place(),
                    "username",
                    message,
                    "make them there under Access Management",
                );
            }
        }
        Platform::ThingsBoard => {
            if mqtt.qos == QoS::ExactlyOnce {
                refuse_qos_2(subject, platform);
            }
            if mqtt.username.is_none() && !subject.has_certificate() {
                let message = "ThingsBoard knows a device by its access token, which is the user name";
                let hint = "set username to the token, without a password; leave it out only where the client id alone is \
                            the device's credential";
                subject.warning(subject.place(), "username", message, hint);
            }
        }
        Platform::Ubidots => {
            let is_known =
                |topic: &str| ["/v1.6/devices/", "/v2.0/devices/"].iter().any(|it| topic.starts_with(it));
            for (topic, key) in subject.topics(mqtt) {
                if !is_known(topic) && !key.ends_with("will.topic") && !key.ends_with("birth.topic") {
                    let message =
                        "Ubidots takes values only on topics that begin with /v1.6/devices/, slash included";
                    let problem = crate::config::Problem::error(&topic.place, key, message);
                    subject.problems.push(problem.hint("such as \"/v1.6/devices/{{device.name}}\""));
                }
            }
        }
        _ => {}
    }
}

/// Nothing listens there without TLS.
pub(super) fn needs_tls(subject: &mut Subject<'_>, mqtt: &Mqtt, platform: Platform) {
    if !mqtt.scheme.value.is_tls() {
        let message = format!("{} takes connections with TLS only", platform.name());
        subject.error(&mqtt.scheme.place, "url", message, "use mqtts://, without a port or with port 8883");
    }
}

/// QoS 2 where a broker ends the connection for it. Birth and will count, too.
pub(super) fn refuses_qos_2(subject: &mut Subject<'_>, mqtt: &Mqtt, platform: Platform) {
    let own = [&mqtt.will, &mqtt.birth].into_iter().flatten();
    if mqtt.qos == QoS::ExactlyOnce || own.into_iter().any(|own| own.qos == QoS::ExactlyOnce) {
        refuse_qos_2(subject, platform);
    }
}

fn refuse_qos_2(subject: &mut Subject<'_>, platform: Platform) {
    let message = format!("{} knows no QoS 2 and closes the connection", platform.name());
    subject.error(subject.place(), "qos", message, "use qos = 1, for birth and will as well");
}
