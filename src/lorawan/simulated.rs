//! The uplink that `test` sends (RULES S29): what a device might have sent just now, marked as simulated.
//!
//! A device with keys sends a real frame, encrypted and signed, so that everything behind the door works on it as on one
//! that was heard. A device that is known by its DevEUI alone comes by way of a network server, so what is made of it is
//! what a network server would have said. Nobody's uplink has an address that nobody has.

use std::sync::Arc;

use data_encoding::BASE64;
use serde_json::json;

use crate::clock::Clock;
use crate::uplink::{DevAddr, Eui64, Flags, Kind, Modulation, Rx, TimeSource, Uplink};

use super::device::Device;
use super::{crypto, new_id};

/// Where a simulated uplink comes from, for those who look at its source.
const SOURCE: &str = "test";

/// What it says where nobody says what.
pub const PAYLOAD: [u8; 3] = [1, 2, 3];
/// On which port.
pub const F_PORT: u8 = 2;

/// The counter of all of them: they are no device's.
const F_CNT: u32 = 1;

/// An address of a private network (NetID 0) that is nobody's.
const NOBODY: DevAddr = DevAddr([0x01, 0xff, 0xff, 0xff]);

/// An uplink of `device`, or of nobody.
///
/// # Errors
/// The payload is longer than any frame can hold.
pub fn uplink(
    device: Option<&Device>,
    payload: &[u8],
    f_port: u8,
    clock: &dyn Clock,
) -> Result<Uplink, String> {
    let too_long = || format!("a payload of {} bytes fits no frame", payload.len());
    let at = clock.now();
    let dev_eui = device.and_then(|device| device.dev_eui);
    let (kind, content, f_cnt) = match (device, dev_eui) {
        (Some(device), Some(dev_eui)) if !device.has_session() => {
            (Kind::App, told(dev_eui, payload, f_port), Some(F_CNT))
        }
        (Some(device), _) if device.dev_addr.is_some() => {
            let frame = device.frame(F_CNT, f_port, payload).ok_or_else(too_long)?;
            (Kind::Lorawan, frame, device.has_session().then_some(F_CNT))
        }
        _ => (Kind::Lorawan, crypto::seal(None, NOBODY, F_CNT, f_port, payload).ok_or_else(too_long)?, None),
    };
    Ok(Uplink {
        id: new_id(at.wall_us),
        source: Arc::from(SOURCE),
        kind,
        content,
        dev_eui,
        f_cnt,
        rx: rx(),
        flags: Flags {
            clock_trusted: at.source != TimeSource::Untrusted,
            simulated: true,
            ..Flags::default()
        },
        at,
    })
}

fn told(dev_eui: Eui64, payload: &[u8], f_port: u8) -> Vec<u8> {
    let payload = BASE64.encode(payload);
    json!({ "dev_eui": dev_eui.to_string(), "payload": payload, "f_port": f_port, "f_cnt": F_CNT })
        .to_string()
        .into_bytes()
}

/// As a frame is heard on a good day.
pub(crate) fn rx() -> Rx {
    Rx {
        gateway_eui: Some(Eui64([0; 8])),
        frequency_hz: Some(868_300_000),
        modulation: Modulation::Lora,
        data_rate: "SF7BW125".try_into().unwrap_or_default(),
        coding_rate: "4/5".try_into().ok(),
        rssi_dbm: Some(-57.0),
        snr_db: Some(9.5),
        channel: Some(2),
        ..Rx::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::clock::ManualClock;
    use crate::config::Config;
    use crate::lorawan::Devices;
    use crate::render::Message;

    const DEVICES: &str = "[[device]]\nname = \"keys\"\ndev_eui = \"0000000000000001\"\ndev_addr = \"49be7df1\"\n\
        nwk_s_key = \"44024241ed4ce9a68c6a8bc055233fd3\"\napp_s_key = \"ec925802ae430ca77fd3dd73cb2cc588\"\n\
        [[device]]\nname = \"eui\"\ndev_eui = \"0000000000000002\"\n\
        [[device]]\nname = \"addr\"\ndev_addr = \"01020304\"\n";

    fn devices() -> Devices {
        let config = Config::parse(DEVICES, std::path::Path::new("packhorse.toml")).unwrap().config;
        Devices::try_new(&config.devices).unwrap()
    }

    #[test]
    fn whoever_sends_it_is_known_again_and_what_can_be_read_is() {
        let (devices, clock) = (devices(), ManualClock::new());
        for (name, payload) in [("keys", true), ("eui", true), ("addr", false)] {
            let device = devices.iter().find(|device| device.name == name);
            let uplink = uplink(device, &[7, 8], 5, &clock).unwrap();
            let message = Message::of("gw", &devices, &uplink);
            assert_eq!(message.device_name.as_deref(), Some(name));
            assert_eq!(message.payload.as_deref(), payload.then_some(&[7u8, 8][..]), "{name}");
            assert_eq!(message.f_port, Some(5));
            assert!(message.decoding.errors.is_empty(), "{name}: {:?}", message.decoding.errors);
            assert_eq!(message.context()["simulated"], true);
        }
        let nobody = uplink(None, &PAYLOAD, F_PORT, &clock).unwrap();
        let message = Message::of("gw", &devices, &nobody);
        assert!(message.device.is_none() && message.payload.is_none());
        assert!(uplink(None, &[0; 300], 1, &clock).is_err());
    }
}
