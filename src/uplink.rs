//! The record that every room speaks.
//!
//! A source makes a [`Heard`]: one frame with its radio metadata and the moment of reception, bounded in size, without a
//! heap allocation, because it is made on the thread that must never fall behind the socket. `lorawan` turns it into an
//! [`Uplink`]: the same frame under an id that it keeps for life. An uplink is a fact: nothing in it changes after it was
//! made, and what is sent for it (decryption, decoding, formatting) is derived from it at delivery.
//!
//! This room knows no other.

use std::fmt;
use std::sync::Arc;

/// The largest PHYPayload a LoRa or FSK modem can hand over, in bytes (the length field of both has 8 bits).
pub const MAX_PHY_LEN: usize = 255;

/// Eight bytes that name a device, a gateway or a join server; most significant byte first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Eui64(pub [u8; 8]);

impl fmt::Display for Eui64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Eui64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A LoRaWAN device address; most significant byte first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DevAddr(pub [u8; 4]);

impl fmt::Display for DevAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DevAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who said what time it was when it was heard (RULES S22). What that means later: [`Dated`](crate::clock::Dated).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSource {
    /// The concentrator's GPS (`tmms`).
    Gps,
    /// Our own clock, trusted.
    Ntp,
    /// The packet forwarder's `time`.
    Forwarder,
    /// Our own clock, and it may be wrong.
    Untrusted,
}

/// When something was received, on every clock that can be asked. Wall clocks step; the boot clock does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// This boot of the machine.
    pub boot_id: [u8; 16],
    /// Nanoseconds since that boot, suspend included (`CLOCK_BOOTTIME`).
    pub boot_ns: u64,
    /// Microseconds since 1970 UTC, by the best source there was.
    pub wall_us: i64,
    /// What that source is.
    pub source: TimeSource,
}

/// The kind of modulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modulation {
    /// Chirp spread spectrum.
    Lora,
    /// Frequency shift keying.
    Fsk,
    /// Long-range frequency hopping.
    LrFhss,
    /// Something else; the data rate says what was reported.
    Other,
}

/// What the concentrator's checksum said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crc {
    /// Good.
    Ok,
    /// The frame has none.
    Absent,
    /// The forwarder did not say.
    Unknown,
}

/// Radio metadata of one reception. What a forwarder did not report is absent, never invented.
#[derive(Clone, Debug, PartialEq)]
pub struct Rx {
    /// EUI of the concentrator that heard it.
    pub gateway_eui: Option<Eui64>,
    /// Hz.
    pub frequency_hz: Option<u32>,
    /// LoRa, FSK, …
    pub modulation: Modulation,
    /// As reported: `SF7BW125`, bits a second for FSK, `M0CW137`.
    pub data_rate: heapless::String<16>,
    /// As reported: `4/5`; absent for FSK.
    pub coding_rate: Option<heapless::String<8>>,
    /// Channel RSSI, dBm.
    pub rssi_dbm: Option<f32>,
    /// Signal RSSI, dBm.
    pub rssi_signal_dbm: Option<f32>,
    /// Signal-to-noise ratio, dB; LoRa only.
    pub snr_db: Option<f32>,
    /// IF channel.
    pub channel: Option<u16>,
    /// RF chain.
    pub rf_chain: Option<u8>,
    /// Antenna of the best signal, where there are several.
    pub antenna: Option<u8>,
    /// Frequency offset, Hz.
    pub frequency_offset_hz: Option<i32>,
    /// The concentrator's microsecond counter; wraps every 71.6 minutes.
    pub tmst: Option<u32>,
    /// Nanoseconds within the second, from GPS.
    pub fine_time_ns: Option<u32>,
    /// The checksum's verdict.
    pub crc: Crc,
    /// The forwarder says it held the frame back before sending it.
    pub delayed: bool,
}

impl Rx {
    /// How well it was heard, as Basics Station rates copies: 8 x SNR (dB) + RSSI (dBm). One that says nothing is worst.
    pub fn quality(&self) -> f32 {
        let (snr, rssi) = (self.snr_db.unwrap_or(-32.0), self.rssi_dbm.unwrap_or(-200.0));
        let quality = 8.0 * snr + rssi;
        if quality.is_finite() { quality } else { f32::MIN }
    }

    /// Becomes `copy`, if that was heard better.
    pub fn keep_better(&mut self, copy: Rx) {
        if copy.quality() > self.quality() {
            *self = copy;
        }
    }
}

impl Default for Rx {
    fn default() -> Self {
        Rx {
            gateway_eui: None,
            frequency_hz: None,
            modulation: Modulation::Other,
            data_rate: heapless::String::new(),
            coding_rate: None,
            rssi_dbm: None,
            rssi_signal_dbm: None,
            snr_db: None,
            channel: None,
            rf_chain: None,
            antenna: None,
            frequency_offset_hz: None,
            tmst: None,
            fine_time_ns: None,
            crc: Crc::Unknown,
            delayed: false,
        }
    }
}

/// One frame as a radio source heard it. Bounded: what does not fit was refused and counted by the source.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// The PHYPayload.
    pub phy: heapless::Vec<u8, MAX_PHY_LEN>,
    /// Its radio metadata.
    pub rx: Rx,
    /// When.
    pub at: Moment,
}

/// What an uplink is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A LoRaWAN data uplink, as a PHYPayload.
    Lorawan,
    /// A LoRaWAN join or rejoin request, as a PHYPayload.
    Join,
    /// A frame that is none of these, as it was on the air.
    Other,
    /// A message of a local network server or script, as JSON.
    App,
}

/// Facts that are either so or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags {
    /// Our wall clock was trusted at reception (RULES S22).
    pub clock_trusted: bool,
    /// The same bytes had been heard before (RULES S19).
    pub retransmission: bool,
    /// Made by `test`, not by a device.
    pub simulated: bool,
    /// Sent once more because the operator asked for it (RULES S12, S13).
    pub replayed: bool,
}

/// One message heard from a device, under the id that it keeps on every attempt, restart and integration.
#[derive(Clone, Debug, PartialEq)]
pub struct Uplink {
    /// UUIDv7, made once.
    pub id: uuid::Uuid,
    /// Name of the source.
    pub source: Arc<str>,
    /// What `content` is.
    pub kind: Kind,
    /// The PHYPayload as heard, or the source's JSON.
    pub content: Vec<u8>,
    /// The device, where the agent knows it or the frame says it.
    pub dev_eui: Option<Eui64>,
    /// The 32-bit uplink counter, where a session gave the high word.
    pub f_cnt: Option<u32>,
    /// Radio metadata.
    pub rx: Rx,
    /// When it was received.
    pub at: Moment,
    /// The rest.
    pub flags: Flags,
}

/// What keeps the order of its uplinks (RULES S15): a device, else an address, else the gateway that heard it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderKey {
    /// By DevEUI.
    Device(Eui64),
    /// By DevAddr.
    Address(DevAddr),
    /// Neither is known.
    Gateway(Eui64),
}

impl fmt::Display for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OrderKey::Device(eui) => eui.fmt(f),
            OrderKey::Address(addr) => addr.fmt(f),
            OrderKey::Gateway(eui) => write!(f, "heard by {eui}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_copy_wins() {
        let rx = |snr: f32, rssi: f32| Rx { snr_db: Some(snr), rssi_dbm: Some(rssi), ..Rx::default() };
        assert!(rx(9.0, -60.0).quality() > rx(8.0, -60.0).quality());
        assert!(rx(9.0, -60.0).quality() > rx(9.0, -61.0).quality());
        assert!(rx(-20.0, -120.0).quality() > Rx::default().quality());
        assert!(rx(f32::NAN, -60.0).quality() < rx(-20.0, -140.0).quality());
        let mut kept = rx(2.0, -100.0);
        for (copy, expected) in [(rx(9.5, -90.0), -90.0), (rx(-3.0, -50.0), -90.0)] {
            kept.keep_better(copy);
            assert_eq!(kept.rssi_dbm, Some(expected));
        }
    }
}
