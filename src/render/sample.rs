//! An uplink that has everything, for `check` to try templates on.

use std::sync::Arc;

use serde_json::Value;

use super::Message;
use crate::clock::RELEASE_FLOOR_US;
use crate::lorawan::{Devices, simulated};
use crate::uplink::{DevAddr, Eui64, Flags, Kind, Moment, Rx, TimeSource, Uplink};

/// What templates would read of it. `decoded`, `normalized`, labels and variables are the device's own affair and absent.
pub(super) fn context() -> Value {
    let rx = Rx { gateway_eui: Some(Eui64([0xaa; 8])), ..simulated::rx() };
    let at = Moment { boot_id: [0; 16], boot_ns: 0, wall_us: RELEASE_FLOOR_US, source: TimeSource::Ntp };
    let uplink = Uplink {
        id: uuid::Uuid::nil(),
        source: Arc::from("sample"),
        // No frame, so that nothing is read from it: all is set below.
        kind: Kind::Other,
        content: vec![0; 16],
        dev_eui: Some(Eui64([1; 8])),
        f_cnt: Some(41),
        rx,
        at,
        flags: Flags::default(),
    };
    let devices = Devices::default();
    let mut message = Message::of("gateway", &devices, &uplink);
    message.device_name = Some("sample".to_owned());
    message.join_eui = Some(Eui64([2; 8]));
    message.dev_addr = Some(DevAddr([1; 4]));
    message.f_port = Some(2);
    message.confirmed = Some(false);
    message.payload = Some(vec![1, 2, 3]);
    message.context()
}
