//! The world around the agent, for `simulate`, the demo and the tests: a packet forwarder without a radio, and destinations
//! that remember what arrived ([`Endpoint`], [`Broker`] with its [`Subscriber`], [`Arrivals`]).
//!
//! [`Simulator`] makes what a concentrator would hear: LoRaWAN uplinks of a handful of devices, whose counters rise, in the
//! JSON that a sx1302 forwarder prints. [`Forwarder`] sends it and listens for the acknowledgements. Both are written from
//! the protocol's specification and share no code with the source that they talk to, so that a misreading there does not
//! hide here. The same seed makes the same uplinks.
//!
//! The frames of a [`Simulator`] have no session keys: payload and MIC are random bytes, and no network server would accept
//! them. Their DevAddr lie under [`DEV_ADDR_PREFIX`], in a range that belongs to no operator. A [`Sensor`] has keys: what it
//! sends ([`Forwarder::send_phys`]) can be proved and decrypted by those who share them.

mod arrivals;
mod broker;
mod endpoint;
mod forwarder;
mod sensor;

pub use arrivals::{Arrival, Arrivals, Tally};
pub use broker::{Broker, BrokerConfig, Subscriber};
pub use endpoint::Endpoint;
pub use forwarder::{ACK_TIMEOUT, Forwarder, Sent};
pub use sensor::{Sensor, SessionKey};

use crate::uplink::Eui64;

/// The upper half of every simulated DevAddr: NetID 000001, reserved for experiments and networks that do not roam
/// (LoRaWAN Backend Interfaces 1.0 section 14); the lower half counts the devices.
pub const DEV_ADDR_PREFIX: [u8; 2] = [0x02, 0x53];

/// The most uplinks that [`Simulator::datagram`] puts into one: so many always fit into 65,507 bytes.
pub const MAX_PER_DATAGRAM: usize = 128;

/// The eight EU868 channels that a gateway listens on, in MHz as a forwarder prints them.
const CHANNELS: [&str; 8] = [
    "868.100000",
    "868.300000",
    "868.500000",
    "867.100000",
    "867.300000",
    "867.500000",
    "867.700000",
    "867.900000",
];

/// What to simulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimulatorConfig {
    /// How many devices take turns; none counts as one.
    pub devices: u16,
    /// The gateway that hears them.
    pub gateway_eui: Eui64,
    /// Where the random numbers start.
    pub seed: u64,
}

/// Makes uplinks.
#[derive(Debug)]
pub struct Simulator {
    gateway: Eui64,
    random: fastrand::Rng,
    /// The next counter of each device.
    counters: Vec<u16>,
    /// Whose turn it is.
    turn: u16,
    /// The concentrator's microsecond counter.
    tmst: u32,
}

/// A PUSH_DATA, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushData {
    /// The datagram.
    pub bytes: Vec<u8>,
    /// Its frames, in order.
    pub phys: Vec<Vec<u8>>,
}

impl Simulator {
    /// Devices that have never sent anything.
    pub fn new(config: SimulatorConfig) -> Self {
        let mut random = fastrand::Rng::with_seed(config.seed);
        Simulator {
            gateway: config.gateway_eui,
            counters: vec![0; usize::from(config.devices.max(1))],
            turn: 0,
            tmst: random.u32(..),
            random,
        }
    }

    /// The next device's next uplink, as a PHYPayload: 8 to 24 bytes on a port from 1 to 10, one in eight confirmed.
    pub fn next_phy(&mut self) -> Vec<u8> {
        let device = self.turn;
        let f_cnt = self.counters.get_mut(usize::from(device)).map_or(0, |next| {
            let f_cnt = *next;
            *next = next.wrapping_add(1);
            f_cnt
        });
        self.turn =
            device.checked_add(1).filter(|next| usize::from(*next) < self.counters.len()).unwrap_or(0);

        let [high, low] = device.to_be_bytes();
        let [net, private] = DEV_ADDR_PREFIX;
        let header = if self.random.u8(..8) == 0 { 0x80 } else { 0x40 };
        let adr = 0x80;
        let mut phy = vec![header, low, high, private, net, adr];
        phy.extend(f_cnt.to_le_bytes());
        phy.push(self.random.u8(1..=10));
        let payload_and_mic = self.random.usize(8..=24) + 4;
        phy.extend(std::iter::repeat_with(|| self.random.u8(..)).take(payload_and_mic));
        phy
    }

    /// A PUSH_DATA, version 2, with the next `n` uplinks, or [`MAX_PER_DATAGRAM`] if that is less.
    pub fn datagram(&mut self, n: usize) -> PushData {
        let phys: Vec<Vec<u8>> = (0..n.min(MAX_PER_DATAGRAM)).map(|_| self.next_phy()).collect();
        PushData { bytes: self.datagram_of(&phys), phys }
    }

    /// A PUSH_DATA, version 2, with these frames, as if the gateway had just heard them.
    pub fn datagram_of(&mut self, phys: &[Vec<u8>]) -> Vec<u8> {
        let elements: Vec<String> = phys.iter().map(|phy| self.element(phy)).collect();
        let mut bytes = self.header(0x00);
        bytes.extend_from_slice(format!(r#"{{"rxpk":[{}]}}"#, elements.join(",")).as_bytes());
        bytes
    }

    /// A PULL_DATA, version 2.
    pub fn pull_data(&mut self) -> Vec<u8> {
        self.header(0x02)
    }

    fn header(&mut self, identifier: u8) -> Vec<u8> {
        let mut bytes = vec![2, self.random.u8(..), self.random.u8(..), identifier];
        bytes.extend_from_slice(&self.gateway.0);
        bytes
    }

    /// Field by field as `lora_pkt_fwd` of sx1302_hal prints it, the space behind `"mid":` included.
    fn element(&mut self, phy: &[u8]) -> String {
        let random = &mut self.random;
        self.tmst = self.tmst.wrapping_add(random.u32(5_000..2_000_000));
        let channel = random.usize(..CHANNELS.len());
        let spreading = random.u8(7..=12);
        let rssi = random.i32(-120..=-50);
        format!(
            r#"{{"jver":1,"tmst":{tmst},"chan":{channel},"rfch":{chain},"freq":{freq},"mid": {channel},"stat":1,"modu":"LORA","datr":"SF{spreading}BW125","codr":"4/5","rssis":{rssis},"lsnr":{lsnr:.1},"foff":{foff},"rssi":{rssi},"size":{size},"data":"{data}"}}"#,
            tmst = self.tmst,
            chain = u8::from(channel < 3),
            freq = CHANNELS.get(channel).copied().unwrap_or("868.100000"),
            rssis = rssi - random.i32(0..=3),
            lsnr = f64::from(random.i32(-120..=100)) / 10.0,
            foff = random.i32(-3_000..=3_000),
            size = phy.len(),
            data = data_encoding::BASE64.encode(phy),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::lorawan::frame::{Frame, parse};

    fn simulator(devices: u16, seed: u64) -> Simulator {
        Simulator::new(SimulatorConfig {
            devices,
            gateway_eui: Eui64([0xaa, 0x55, 0x5a, 0, 0, 0, 1, 1]),
            seed,
        })
    }

    #[test]
    fn devices_take_turns_and_their_counters_rise_by_one() {
        let mut simulator = simulator(3, 7);
        for round in 0..50u16 {
            for device in 0..3u8 {
                let phy = simulator.next_phy();
                let Frame::Data(data) = parse(&phy) else { panic!("{phy:02x?}") };
                assert_eq!(data.dev_addr.0, [0x02, 0x53, 0, device]);
                assert_eq!(data.f_cnt, round);
                assert!((8..=24).contains(&data.frm_payload.len()));
                assert!(matches!(data.f_port, Some(1..=10)));
            }
        }
    }

    #[test]
    fn counters_wrap_and_no_device_is_one_device() {
        let mut simulator = simulator(0, 7);
        let mut last = simulator.next_phy();
        for _ in 0..=u16::MAX {
            last = simulator.next_phy();
        }
        assert_eq!(last[6..8], [0, 0]);
    }

    #[test]
    fn the_same_seed_makes_the_same_uplinks() {
        assert_eq!(simulator(5, 1).datagram(20), simulator(5, 1).datagram(20));
        assert_ne!(simulator(5, 1).datagram(20), simulator(5, 2).datagram(20));
    }

    #[test]
    fn the_largest_datagram_is_one() {
        let push = simulator(5, 1).datagram(usize::MAX);
        assert_eq!(push.phys.len(), MAX_PER_DATAGRAM);
        assert!(push.bytes.len() <= 65_507);
    }
}
