//! The platforms that are known by their host names, and what of them matters when something is sent.
//!
//! What can be wrong with a configuration for one of them is the business of `check`.

/// A cloud platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// AWS IoT Core.
    AwsIot,
    /// Azure IoT Hub.
    AzureIotHub,
    /// Google Cloud Pub/Sub.
    GooglePubSub,
    /// HiveMQ Cloud.
    HiveMqCloud,
    /// ThingsBoard Cloud.
    ThingsBoard,
    /// Ubidots.
    Ubidots,
    /// Datacake.
    Datacake,
    /// TagoIO.
    TagoIo,
}

/// The largest packet of AWS IoT Core, in bytes (AWS IoT Core endpoints and quotas).
const AWS_PACKET_BYTES: usize = 128 * 1024;

impl Platform {
    /// The platform at `host`, if it is a known one. A name of one's own for it is not recognised.
    pub fn of(host: &str) -> Option<Platform> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let host = host.split(['/', ':']).next().unwrap_or_default();
        let is_below = |domain: &str| {
            host == domain || host.strip_suffix(domain).is_some_and(|before| before.ends_with('.'))
        };
        let aws = ["amazonaws.com", "amazonaws.com.cn"];
        let azure = ["azure-devices.net", "azure-devices.cn", "azure-devices.us"];
        if aws.into_iter().any(is_below) && host.contains(".iot.") {
            Some(Platform::AwsIot)
        } else if azure.into_iter().any(is_below) {
            Some(Platform::AzureIotHub)
        } else if is_below("pubsub.googleapis.com") || host.ends_with("-pubsub.googleapis.com") {
            Some(Platform::GooglePubSub)
        } else if is_below("hivemq.cloud") {
            Some(Platform::HiveMqCloud)
        } else if is_below("thingsboard.cloud") || is_below("thingsboard.io") {
            Some(Platform::ThingsBoard)
        } else if is_below("ubidots.com") {
            Some(Platform::Ubidots)
        } else if is_below("datacake.co") {
            Some(Platform::Datacake)
        } else if is_below("tago.io") {
            Some(Platform::TagoIo)
        } else {
            None
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Platform::AwsIot => "AWS IoT Core",
            Platform::AzureIotHub => "Azure IoT Hub",
            Platform::GooglePubSub => "Google Pub/Sub",
            Platform::HiveMqCloud => "HiveMQ Cloud",
            Platform::ThingsBoard => "ThingsBoard",
            Platform::Ubidots => "Ubidots",
            Platform::Datacake => "Datacake",
            Platform::TagoIo => "TagoIO",
        }
    }

    /// The largest MQTT packet that it takes, where that is less than usual. A larger one would end the connection.
    pub fn max_packet_bytes(self) -> Option<usize> {
        (self == Platform::AwsIot).then_some(AWS_PACKET_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_known_by_their_hosts() {
        for (host, platform) in [
            ("a1b2c3-ats.iot.eu-central-1.amazonaws.com", Some(Platform::AwsIot)),
            ("a1b2c3.ats.iot.cn-north-1.amazonaws.com.cn", Some(Platform::AwsIot)),
            ("s3.eu-central-1.amazonaws.com", None),
            ("x.iot.amazonaws.com.evil.example", None),
            ("Farm.azure-devices.net", Some(Platform::AzureIotHub)),
            ("farm.azure-devices.net.", Some(Platform::AzureIotHub)),
            ("notazure-devices.net", None),
            ("pubsub.googleapis.com", Some(Platform::GooglePubSub)),
            ("europe-west3-pubsub.googleapis.com", Some(Platform::GooglePubSub)),
            ("storage.googleapis.com", None),
            ("abc.s1.eu.hivemq.cloud", Some(Platform::HiveMqCloud)),
            ("mqtt.thingsboard.cloud", Some(Platform::ThingsBoard)),
            ("industrial.api.ubidots.com", Some(Platform::Ubidots)),
            ("api.datacake.co", Some(Platform::Datacake)),
            ("helium.middleware.tago.io", Some(Platform::TagoIo)),
            ("abc.hivemq.cloud:443/mqtt", Some(Platform::HiveMqCloud)),
            ("127.0.0.1", None),
            ("", None),
        ] {
            assert_eq!(Platform::of(host), platform, "{host}");
        }
    }
}
