#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::collection::vec;
use proptest::prelude::*;
use rumqttc::v5::mqttbytes::{self as bytes5, v5 as packets};

use super::*;

/// The size that a record is judged by is the size that is written.
#[test]
fn a_packet_has_the_size_that_is_counted() {
    for (topic, len, user) in
        [("a", 0, 0), ("up/roof", 100, 1), ("up", 20_000, 3), ("t", 300, 40), ("t", 3_000_000, 0)]
    {
        for (qos, qos5) in [
            (QoS::AtMostOnce, bytes5::QoS::AtMostOnce),
            (QoS::AtLeastOnce, bytes5::QoS::AtLeastOnce),
            (QoS::ExactlyOnce, bytes5::QoS::ExactlyOnce),
        ] {
            let properties = Properties {
                content_type: "text/plain".to_owned(),
                user: vec![("id", "0193".to_owned()); user],
            };
            let payload = vec![b'x'; len];
            let mut publication = Publication {
                topic: topic.to_owned(),
                payload: payload.clone(),
                qos,
                retain: false,
                properties: None,
            };
            let mut old = rumqttc::Publish::new(topic, qos, payload.clone());
            old.pkid = 1;
            assert_eq!(packet_bytes(false, &publication), old.size(), "{topic} {len} {qos:?}");
            let mut new = packets::Publish::new(topic, qos5, payload, None);
            new.pkid = 1;
            assert_eq!(packet_bytes(true, &publication), new.size(), "{topic} {len} {qos:?}");
            new.properties = Some(packets::PublishProperties {
                content_type: Some(properties.content_type.clone()),
                user_properties: vec![("id".to_owned(), "0193".to_owned()); user],
                ..packets::PublishProperties::default()
            });
            publication.properties = Some(properties);
            assert_eq!(packet_bytes(true, &publication), new.size(), "{topic} {len} {qos:?} {user}");
        }
    }
}

proptest! {
    /// DESIGN section 4, invariant 5: what a broker sends is read by the library, and it must not panic.
    #[test]
    fn no_bytes_panic_the_library(kind in any::<u8>(), body in vec(any::<u8>(), 0..40), rest in vec(any::<u8>(), 0..8)) {
        let mut bytes = vec![kind, u8::try_from(body.len()).unwrap()];
        bytes.extend(&body);
        bytes.extend(&rest);
        let mut stream = bytes::BytesMut::from(&bytes[..]);
        let _ = packets::Packet::read(&mut stream, Some(u32::from(MAX_INCOMING_BYTES)));
        let mut stream = bytes::BytesMut::from(&bytes[..]);
        let _ = rumqttc::Packet::read(&mut stream, usize::from(MAX_INCOMING_BYTES));
    }
}
