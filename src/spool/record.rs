//! The wire format of a stored record.
//!
//! `[format u8][CRC-32C u32, little-endian, over format and body][body]`, the body being a postcard encoding of the struct
//! that the format byte names. The checksum covers the format byte too: a flipped bit there would otherwise turn a record
//! into one of a format to come, which is kept for ever and never delivered.
//!
//! postcard is not self-describing, so a struct that was ever released is frozen: a change is a new struct under a new byte,
//! and the golden bytes below say so loudly. CRC-32C because redb does not verify its page checksums on reads. No heapless
//! type is stored: its capacity would become part of the format.
//!
//! Three things can come out of a value: an uplink, *unknown* (a newer format, kept and counted) or *damaged*.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::uplink::{Crc, Eui64, Flags, Kind, Modulation, Moment, Rx, TimeSource, Uplink};

use super::Routed;
use super::store::RouteId;

/// Format byte of [`RecordV1`].
pub const FORMAT_V1: u8 = 1;

/// Bytes before the body: format and CRC.
const HEAD: usize = 5;

/// Bits of `RecordV1::flags`.
mod flag {
    pub(super) const CLOCK_TRUSTED: u32 = 1;
    pub(super) const RETRANSMISSION: u32 = 1 << 1;
    pub(super) const SIMULATED: u32 = 1 << 2;
    pub(super) const REPLAY: u32 = 1 << 3;
    /// The log has another record of the same uplink, from which this one was made.
    pub(super) const COPY: u32 = 1 << 4;
}

/// Record v1: everything that DESIGN section 8 asks for. Frozen.
#[derive(Serialize, Deserialize)]
struct RecordV1<'a> {
    routes: Vec<u32>,
    id: [u8; 16],
    source: &'a str,
    kind: KindV1,
    content: &'a [u8],
    dev_eui: Option<[u8; 8]>,
    f_cnt: Option<u32>,
    rx: RxV1<'a>,
    boot_id: [u8; 16],
    boot_ns: u64,
    wall_us: i64,
    time_source: TimeSourceV1,
    flags: u32,
}

#[derive(Serialize, Deserialize)]
struct RxV1<'a> {
    gateway_eui: Option<[u8; 8]>,
    frequency_hz: Option<u32>,
    modulation: ModulationV1,
    data_rate: &'a str,
    coding_rate: Option<&'a str>,
    rssi_dbm: Option<f32>,
    rssi_signal_dbm: Option<f32>,
    snr_db: Option<f32>,
    channel: Option<u16>,
    rf_chain: Option<u8>,
    antenna: Option<u8>,
    frequency_offset_hz: Option<i32>,
    tmst: Option<u32>,
    fine_time_ns: Option<u32>,
    crc: CrcV1,
    delayed: bool,
}

/// An enum of the format beside the one of the program: the order of its variants is on disk, so it may only grow at the
/// end, whatever the program's own enum does.
macro_rules! wire_enum {
    ($wire:ident for $ours:ident { $($variant:ident),+ $(,)? }) => {
        #[derive(Clone, Copy, Serialize, Deserialize)]
        enum $wire { $($variant),+ }

        impl From<$ours> for $wire {
            fn from(value: $ours) -> Self {
                match value { $($ours::$variant => $wire::$variant),+ }
            }
        }

        impl From<$wire> for $ours {
            fn from(value: $wire) -> Self {
                match value { $($wire::$variant => $ours::$variant),+ }
            }
        }
    };
}

wire_enum!(KindV1 for Kind { Lorawan, Join, Other, App });
wire_enum!(TimeSourceV1 for TimeSource { Gps, Ntp, Forwarder, Untrusted });
wire_enum!(ModulationV1 for Modulation { Lora, Fsk, LrFhss, Other });
wire_enum!(CrcV1 for Crc { Ok, Absent, Unknown });

/// What a stored value turned out to be, for somebody who holds certain routes.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "handed over one at a time; a box would be an allocation a record"
)]
pub enum Entry {
    /// One of ours, with those of its routes that are.
    Mine(Routed),
    /// Somebody else's.
    Other,
    /// Of a format this version does not know. Kept, never delivered by this version.
    Unknown(u8),
    /// The checksum or the encoding is wrong.
    Damaged,
}

/// Encodes an uplink with its routes.
pub fn encode(uplink: &Uplink, routes: &[RouteId]) -> Result<Vec<u8>, postcard::Error> {
    let rx = &uplink.rx;
    let record = RecordV1 {
        routes: routes.iter().map(|route| route.0).collect(),
        id: uplink.id.into_bytes(),
        source: &uplink.source,
        kind: uplink.kind.into(),
        content: &uplink.content,
        dev_eui: uplink.dev_eui.map(|eui| eui.0),
        f_cnt: uplink.f_cnt,
        rx: RxV1 {
            gateway_eui: rx.gateway_eui.map(|eui| eui.0),
            frequency_hz: rx.frequency_hz,
            modulation: rx.modulation.into(),
            data_rate: &rx.data_rate,
            coding_rate: rx.coding_rate.as_deref(),
            rssi_dbm: rx.rssi_dbm,
            rssi_signal_dbm: rx.rssi_signal_dbm,
            snr_db: rx.snr_db,
            channel: rx.channel,
            rf_chain: rx.rf_chain,
            antenna: rx.antenna,
            frequency_offset_hz: rx.frequency_offset_hz,
            tmst: rx.tmst,
            fine_time_ns: rx.fine_time_ns,
            crc: rx.crc.into(),
            delayed: rx.delayed,
        },
        boot_id: uplink.at.boot_id,
        boot_ns: uplink.at.boot_ns,
        wall_us: uplink.at.wall_us,
        time_source: uplink.at.source.into(),
        flags: flag_bits(uplink.flags),
    };
    seal(FORMAT_V1, &record)
}

/// Puts format byte and checksum before the postcard encoding of `body`.
pub(super) fn seal<T: Serialize>(format: u8, body: &T) -> Result<Vec<u8>, postcard::Error> {
    let head = [0u8; HEAD].to_vec();
    let mut bytes = postcard::to_extend(body, head)?;
    let crc = checksum(format, bytes.get(HEAD..).unwrap_or_default());
    for (slot, byte) in bytes.iter_mut().zip(std::iter::once(format).chain(crc.to_le_bytes())) {
        *slot = byte;
    }
    Ok(bytes)
}

/// A sealed value taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsealed<'a> {
    /// Format byte and body, the checksum being right.
    Body(u8, &'a [u8]),
    /// Too short, or the checksum is wrong.
    Damaged,
}

/// Checks the checksum.
pub(super) fn unseal(bytes: &[u8]) -> Unsealed<'_> {
    match bytes {
        [format, a, b, c, d, body @ ..]
            if checksum(*format, body) == u32::from_le_bytes([*a, *b, *c, *d]) =>
        {
            Unsealed::Body(*format, body)
        }
        _ => Unsealed::Damaged,
    }
}

fn checksum(format: u8, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[format]), body)
}

/// Decodes a value, completely only where one of `routes` is among its own.
pub(super) fn read(bytes: &[u8], routes: &[RouteId]) -> Entry {
    match decode(bytes) {
        Decoded::Record(record) => {
            let ours = record.routes.iter().copied().map(RouteId).filter(|id| routes.contains(id));
            match ours.collect::<Vec<_>>() {
                ours if ours.is_empty() => Entry::Other,
                ours => Entry::Mine(Routed { uplink: uplink_of(&record), routes: ours }),
            }
        }
        Decoded::Unknown(format) => Entry::Unknown(format),
        Decoded::Damaged => Entry::Damaged,
    }
}

/// What the spool itself needs of a value: whose it is, which uplink, and when it was received.
pub(super) struct Outline {
    pub(super) routes: Vec<RouteId>,
    pub(super) id: uuid::Uuid,
    pub(super) at: Moment,
    pub(super) clock_trusted: bool,
    /// It was put in again on the operator's word.
    pub(super) replayed: bool,
    /// It was made from another record, which stays.
    pub(super) copy: bool,
    /// Neither a DevEUI nor a counter (RULES S11).
    pub(super) is_unknown_device: bool,
}

/// The same uplink as a record for `routes` alone, marked as replayed, and as a copy where the first one stays.
pub(super) fn again(bytes: &[u8], routes: &[RouteId], copy: bool) -> Result<Vec<u8>, Unreadable> {
    with_routes(bytes, routes, flag::REPLAY | if copy { flag::COPY } else { 0 })
}

/// The same record for other routes.
pub(super) fn rerouted(bytes: &[u8], routes: &[RouteId]) -> Result<Vec<u8>, Unreadable> {
    with_routes(bytes, routes, 0)
}

fn with_routes(bytes: &[u8], routes: &[RouteId], flags: u32) -> Result<Vec<u8>, Unreadable> {
    match decode(bytes) {
        Decoded::Record(mut record) => {
            record.routes = routes.iter().map(|route| route.0).collect();
            record.flags |= flags;
            // postcard fails to encode only when memory runs out.
            seal(FORMAT_V1, &record).map_err(|_| Unreadable::Damaged)
        }
        Decoded::Unknown(_) => Err(Unreadable::Unknown),
        Decoded::Damaged => Err(Unreadable::Damaged),
    }
}

/// The uplink of a value, whoever it is for.
pub(super) fn uplink(bytes: &[u8]) -> Option<Uplink> {
    match decode(bytes) {
        Decoded::Record(record) => Some(uplink_of(&record)),
        Decoded::Unknown(_) | Decoded::Damaged => None,
    }
}

/// Why a value has no outline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// A format that this version does not know.
    Unknown,
    /// The checksum or the encoding is wrong.
    Damaged,
}

/// Reads the outline.
pub(super) fn outline(bytes: &[u8]) -> Result<Outline, Unreadable> {
    match decode(bytes) {
        Decoded::Record(record) => Ok(Outline {
            routes: record.routes.iter().copied().map(RouteId).collect(),
            id: uuid::Uuid::from_bytes(record.id),
            at: moment_of(&record),
            clock_trusted: record.flags & flag::CLOCK_TRUSTED != 0,
            replayed: record.flags & flag::REPLAY != 0,
            copy: record.flags & flag::COPY != 0,
            is_unknown_device: record.dev_eui.is_none() && record.f_cnt.is_none(),
        }),
        Decoded::Unknown(_) => Err(Unreadable::Unknown),
        Decoded::Damaged => Err(Unreadable::Damaged),
    }
}

/// Kind and id of a value that can be read.
pub(super) fn identity(bytes: &[u8]) -> Option<(Kind, uuid::Uuid)> {
    match decode(bytes) {
        Decoded::Record(record) => Some((record.kind.into(), uuid::Uuid::from_bytes(record.id))),
        Decoded::Unknown(_) | Decoded::Damaged => None,
    }
}

#[expect(clippy::large_enum_variant, reason = "lives on the stack of one call")]
enum Decoded<'a> {
    Record(RecordV1<'a>),
    Unknown(u8),
    Damaged,
}

fn decode(bytes: &[u8]) -> Decoded<'_> {
    match unseal(bytes) {
        Unsealed::Body(FORMAT_V1, body) => match postcard::take_from_bytes::<RecordV1<'_>>(body) {
            Ok((record, [])) => Decoded::Record(record),
            _ => Decoded::Damaged,
        },
        Unsealed::Body(format, _) => Decoded::Unknown(format),
        Unsealed::Damaged => Decoded::Damaged,
    }
}

fn moment_of(record: &RecordV1<'_>) -> Moment {
    Moment {
        boot_id: record.boot_id,
        boot_ns: record.boot_ns,
        wall_us: record.wall_us,
        source: record.time_source.into(),
    }
}

fn uplink_of(record: &RecordV1<'_>) -> Uplink {
    let rx = &record.rx;
    Uplink {
        id: uuid::Uuid::from_bytes(record.id),
        source: Arc::from(record.source),
        kind: record.kind.into(),
        content: record.content.to_vec(),
        dev_eui: record.dev_eui.map(Eui64),
        f_cnt: record.f_cnt,
        rx: Rx {
            gateway_eui: rx.gateway_eui.map(Eui64),
            frequency_hz: rx.frequency_hz,
            modulation: rx.modulation.into(),
            data_rate: cut(rx.data_rate),
            coding_rate: rx.coding_rate.map(cut),
            rssi_dbm: rx.rssi_dbm,
            rssi_signal_dbm: rx.rssi_signal_dbm,
            snr_db: rx.snr_db,
            channel: rx.channel,
            rf_chain: rx.rf_chain,
            antenna: rx.antenna,
            frequency_offset_hz: rx.frequency_offset_hz,
            tmst: rx.tmst,
            fine_time_ns: rx.fine_time_ns,
            crc: rx.crc.into(),
            delayed: rx.delayed,
        },
        at: moment_of(record),
        flags: Flags {
            clock_trusted: record.flags & flag::CLOCK_TRUSTED != 0,
            retransmission: record.flags & flag::RETRANSMISSION != 0,
            simulated: record.flags & flag::SIMULATED != 0,
            replayed: record.flags & flag::REPLAY != 0,
        },
    }
}

fn flag_bits(flags: Flags) -> u32 {
    [
        (flags.clock_trusted, flag::CLOCK_TRUSTED),
        (flags.retransmission, flag::RETRANSMISSION),
        (flags.simulated, flag::SIMULATED),
        (flags.replayed, flag::REPLAY),
    ]
    .into_iter()
    .filter(|(set, _)| *set)
    .fold(0, |bits, (_, bit)| bits | bit)
}

/// Takes as much of `text` as fits, so that a capacity in the program never decides whether a record can be read.
fn cut<const N: usize>(text: &str) -> heapless::String<N> {
    let mut short = heapless::String::new();
    for character in text.chars() {
        if short.push(character).is_err() {
            break;
        }
    }
    short
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;
    use proptest::prelude::*;

    fn sample() -> Uplink {
        Uplink {
            id: uuid::Uuid::from_bytes([0x01, 0x93, 0x6b, 0x1e, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 9]),
            source: Arc::from("concentrator"),
            kind: Kind::Lorawan,
            content: vec![0x40, 1, 2, 3, 4, 0, 41, 0, 2, 0xaa, 1, 2, 3, 4],
            dev_eui: Some(Eui64([0, 4, 0xa3, 0x0b, 0, 0x1c, 5, 0x30])),
            f_cnt: Some(65_577),
            rx: Rx {
                gateway_eui: Some(Eui64([0xaa, 0x55, 0x5a, 0, 0, 0, 1, 1])),
                frequency_hz: Some(868_300_000),
                modulation: Modulation::Lora,
                data_rate: cut("SF7BW125"),
                coding_rate: Some(cut("4/5")),
                rssi_dbm: Some(-57.0),
                rssi_signal_dbm: None,
                snr_db: Some(9.5),
                channel: Some(2),
                rf_chain: Some(1),
                antenna: None,
                frequency_offset_hz: Some(-1300),
                tmst: Some(682_631_918),
                fine_time_ns: None,
                crc: Crc::Ok,
                delayed: false,
            },
            at: Moment {
                boot_id: [7; 16],
                boot_ns: 3_600_000_000_123,
                wall_us: 1_795_465_260_123_456,
                source: TimeSource::Ntp,
            },
            flags: Flags { clock_trusted: true, ..Flags::default() },
        }
    }

    /// The bytes of format 1, frozen. A change that breaks this breaks every spool in the field: add a format instead.
    const GOLDEN_V1: &str = concat!(
        "01dda3e948",
        "0203ac0201936b1e0000700080000000000000090c636f6e63656e747261746f72000e400102030400290002aa010203",
        "04010004a30b001c053001a9800401aa555a000000010101e0e9849e03000853463742573132350103342f3501000064",
        "c2000100001841010201010001a71401eec5c0c50200000007070707070707070707070707070707fbc0e285e3688095",
        "cad0eabdb0060101",
    );

    #[test]
    fn format_1_is_frozen() {
        let bytes = encode(&sample(), &[RouteId(3), RouteId(300)]).unwrap();
        assert_eq!(data_encoding::HEXLOWER.encode(&bytes), GOLDEN_V1);
        let stored = data_encoding::HEXLOWER.decode(GOLDEN_V1.as_bytes()).unwrap();
        let mine = Routed { uplink: sample(), routes: vec![RouteId(300)] };
        assert_eq!(read(&stored, &[RouteId(300)]), Entry::Mine(mine));
        assert_eq!(read(&stored, &[RouteId(4)]), Entry::Other);
    }

    #[test]
    fn every_flipped_bit_is_damage() {
        let bytes = encode(&sample(), &[RouteId(3)]).unwrap();
        for at in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert_eq!(read(&bad, &[RouteId(3)]), Entry::Damaged, "bit {at}");
        }
    }

    #[test]
    fn a_newer_format_is_unknown_and_a_surplus_byte_is_damage() {
        let mut bytes = seal(2, &"of the future").unwrap();
        assert_eq!(read(&bytes, &[RouteId(3)]), Entry::Unknown(2));
        bytes = encode(&sample(), &[RouteId(3)]).unwrap();
        bytes.push(0);
        let crc = checksum(FORMAT_V1, &bytes[HEAD..]).to_le_bytes();
        bytes[1..HEAD].copy_from_slice(&crc);
        assert_eq!(read(&bytes, &[RouteId(3)]), Entry::Damaged);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(format in 0u8..3, body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = vec![format];
            bytes.extend(checksum(format, &body).to_le_bytes());
            bytes.extend(body);
            let _ = read(&bytes, &[RouteId(0)]);
        }
    }
}
