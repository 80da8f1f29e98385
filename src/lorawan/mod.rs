//! What a frame says, whose it is, and the uplink it becomes.
//!
//! A source hands over what was on the air. A [`Recognizer`] decides, in this order:
//!
//! 1. Is it a copy of a transmission just heard? ([`copies`], RULES S19)
//! 2. Whose is it, and under which 32-bit counter? ([`session`], S21)
//! 3. Does the source take it in? ([`accept`])
//!
//! and makes an [`Uplink`] of what is left, under an id that carries the time of reception. What it becomes is a record of
//! what was heard: the frame stays encrypted, and what it says is found out when it is sent (S7).
//!
//! A frame that is no LoRaWAN uplink travels on as `other`. A frame that claims a configured device's address and is not
//! proved to be its own goes nowhere.

pub mod accept;
pub mod copies;
pub mod crypto;
pub mod device;
pub mod frame;
pub mod network;
pub mod session;

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::metrics::DropReason;
use crate::sightings::{Sighting, Who};
use crate::spool::Note;
use crate::uplink::{Eui64, Flags, Heard, Kind, OrderKey, Rx, TimeSource, Uplink};

use accept::{Accept, Said};
use copies::{Copies, Hearing};
pub use device::{Device, Devices};
use frame::Frame;
use session::{Sender, Sessions};

/// What a frame turned out to be.
#[derive(Clone, Debug)]
pub enum Recognized<'d> {
    /// An uplink.
    Uplink {
        /// Itself.
        uplink: Uplink,
        /// The configured device that sent it.
        device: Option<&'d Device>,
        /// FPort.
        f_port: Option<u8>,
        /// Its number, by which a [`Recognized::Copy`] refers to it.
        number: u64,
    },
    /// A copy of the uplink with this number, which was heard like this.
    Copy {
        /// The number.
        number: u64,
        /// The copy's metadata.
        rx: Rx,
    },
    /// Nothing that goes further, and why.
    Dropped(DropReason),
}

/// Recognizes frames. See the [module](self).
#[derive(Debug)]
pub struct Recognizer {
    sessions: Sessions,
    copies: Copies,
}

impl Recognizer {
    /// With what `notes` remember of the devices' counters.
    pub fn new(notes: &[Note]) -> Recognizer {
        Recognizer { sessions: Sessions::new(notes), copies: Copies::new() }
    }

    /// Says what `source` heard, which takes in what `accept` says. A copy is no sighting of its own.
    pub fn recognize<'d>(
        &mut self,
        devices: &'d Devices,
        accept: &HashMap<Arc<str>, Accept>,
        source: Arc<str>,
        heard: Heard,
    ) -> (Recognized<'d>, Option<Sighting>) {
        let hearing = self.copies.hear(&heard.phy, heard.at.boot_ns);
        if let Hearing::Copy(number) = hearing {
            return (Recognized::Copy { number, rx: heard.rx }, None);
        }
        let number = self.copies.number();
        let frame = frame::parse(&heard.phy);
        let mut seen = sighting_of(&frame, &heard);
        let sender = match &frame {
            Frame::Data(data) => self.sessions.sender_of(devices, &heard.phy, data, heard.at.boot_ns),
            _ => Sender::Stranger,
        };
        let (device, again) = match sender {
            Sender::Proved { device, f_cnt, repeated } => {
                seen.f_cnt = Some(f_cnt);
                (Some(device), repeated)
            }
            Sender::Presumed(device) => (Some(device), false),
            Sender::Stranger => (seen.dev_eui.and_then(|eui| devices.of_eui(eui)), false),
            Sender::MicFailed => return (Recognized::Dropped(DropReason::MicFailed), Some(seen)),
            Sender::Replayed => return (Recognized::Dropped(DropReason::Replayed), Some(seen)),
            Sender::TooMany => return (Recognized::Dropped(DropReason::MicLimited), Some(seen)),
        };
        if let Some(device) = device {
            seen.who = Who::Device(device.name.clone());
            seen.dev_eui = device.dev_eui.or(seen.dev_eui);
        }
        if accept.get(&source).is_some_and(|accept| !accept.admits(said(&frame), device.is_some())) {
            return (Recognized::Dropped(DropReason::NotAccepted), Some(seen));
        }
        let uplink = Uplink {
            id: new_id(heard.at.wall_us),
            source,
            kind: seen.kind,
            content: heard.phy.to_vec(),
            dev_eui: seen.dev_eui,
            // The whole counter, and only if the MIC proved it.
            f_cnt: matches!(sender, Sender::Proved { .. }).then_some(seen.f_cnt).flatten(),
            flags: Flags {
                clock_trusted: heard.at.source != TimeSource::Untrusted,
                retransmission: again || hearing == Hearing::Again,
                ..Flags::default()
            },
            at: heard.at,
            rx: heard.rx,
        };
        let f_port = seen.f_port;
        (Recognized::Uplink { uplink, device, f_port, number }, Some(seen))
    }

    /// The counters that moved since the last call, to be kept with the next round (RULES S21).
    pub fn take_notes(&mut self) -> Vec<Note> {
        self.sessions.take_notes()
    }
}

/// What the frame says of itself.
fn sighting_of(frame: &Frame<'_>, heard: &Heard) -> Sighting {
    let mut seen = Sighting {
        who: Who::Unknown,
        dev_eui: None,
        dev_addr: None,
        kind: Kind::Other,
        f_cnt: None,
        f_port: None,
        len: heard.phy.len(),
        rx: heard.rx.clone(),
        at: heard.at,
        fate: "",
        gap: 0,
        uplink: None,
    };
    match frame {
        Frame::Data(data) => {
            seen.kind = Kind::Lorawan;
            seen.who = Who::Address(data.dev_addr);
            seen.dev_addr = Some(data.dev_addr);
            seen.f_cnt = Some(u32::from(data.f_cnt));
            seen.f_port = data.f_port;
        }
        Frame::Join(frame::JoinRequest { dev_eui, .. })
        | Frame::Rejoin(frame::RejoinRequest { dev_eui, .. }) => {
            seen.kind = Kind::Join;
            seen.who = Who::Joining(*dev_eui);
            seen.dev_eui = Some(*dev_eui);
        }
        Frame::Other => {}
    }
    seen
}

fn said(frame: &Frame<'_>) -> Said {
    match frame {
        Frame::Data(data) => Said::Address(data.dev_addr),
        Frame::Join(join) => Said::Join(join.join_eui),
        Frame::Rejoin(_) | Frame::Other => Said::Nothing,
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

/// A new id that carries the time of reception (UUIDv7, RFC 9562). A clock before 1970 gives an id of 1970: what makes it
/// unique are its 74 random bits.
pub fn new_id(wall_us: i64) -> Uuid {
    let us = u64::try_from(wall_us).unwrap_or(0);
    let nanos = u32::try_from(us % 1_000_000).unwrap_or(0).saturating_mul(1_000);
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, us / 1_000_000, nanos))
}
