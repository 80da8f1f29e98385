//! What a frame says by itself, and the uplink it becomes.
//!
//! A source hands over what was on the air; this room reads the LoRaWAN header, gives the uplink its id and says by what
//! its order is kept. It looks, it does not judge: a frame that is no LoRaWAN uplink is kept as `other` and travels on.
//! Keys, frame counters and folding of copies belong here too and come with the devices.

pub mod crypto;
pub mod device;
pub mod frame;

use std::sync::Arc;

use uuid::Uuid;

use crate::uplink::{Eui64, Flags, Heard, Kind, OrderKey, TimeSource, Uplink};

pub use device::{Device, Devices};
use frame::Frame;

/// Makes the uplink of a frame that `source` heard, under a new id that carries the time of reception (UUIDv7, RFC 9562).
pub fn identify(source: Arc<str>, heard: Heard) -> Uplink {
    let (kind, dev_eui) = match frame::parse(&heard.phy) {
        Frame::Data(_) => (Kind::Lorawan, None),
        Frame::Join(join) => (Kind::Join, Some(join.dev_eui)),
        Frame::Rejoin(_) => (Kind::Join, None),
        Frame::Other => (Kind::Other, None),
    };
    Uplink {
        id: new_id(heard.at.wall_us),
        source,
        kind,
        content: heard.phy.to_vec(),
        dev_eui,
        f_cnt: None,
        flags: Flags { clock_trusted: heard.at.source != TimeSource::Untrusted, ..Flags::default() },
        at: heard.at,
        rx: heard.rx,
    }
}

/// By what the order of an uplink is kept (RULES S15).
pub fn order_key(uplink: &Uplink) -> OrderKey {
    if let Some(dev_eui) = uplink.dev_eui {
        return OrderKey::Device(dev_eui);
    }
    match (uplink.kind, frame::parse(&uplink.content)) {
        (Kind::Lorawan, Frame::Data(data)) => OrderKey::Address(data.dev_addr),
        _ => OrderKey::Gateway(uplink.rx.gateway_eui.unwrap_or(Eui64([0; 8]))),
    }
}

/// A clock before 1970 gives an id of 1970: what makes it unique are its 74 random bits.
pub(crate) fn new_id(wall_us: i64) -> Uuid {
    let us = u64::try_from(wall_us).unwrap_or(0);
    let nanos = u32::try_from(us % 1_000_000).unwrap_or(0).saturating_mul(1_000);
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, us / 1_000_000, nanos))
}
