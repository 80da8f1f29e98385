//! A device with keys of its own, which an agent that holds the same keys can prove and decrypt.
//!
//! It makes unconfirmed data uplinks of LoRaWAN 1.0.x, written down from the specification (LoRaWAN 1.0.4, section 4) and
//! on AES and CMAC alone: the agent's own cryptography is what it is there to test.

use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use cmac::{Cmac, Mac};

/// MHDR of an unconfirmed data uplink.
const UNCONFIRMED_UP: u8 = 0x40;

/// The bit of FCtrl by which a device lets the network choose its data rate.
const ADR: u8 = 0x80;

/// An AES-128 key.
pub type SessionKey = [u8; 16];

/// A device that was activated. It says `[secret]` for its keys.
#[derive(Clone)]
pub struct Sensor {
    /// DevAddr, most significant byte first.
    dev_addr: [u8; 4],
    nwk_s_key: SessionKey,
    app_s_key: SessionKey,
    /// FCtrl of its frames.
    f_ctrl: u8,
    /// The counter of its next uplink, all 32 bits of it.
    next: u32,
}

impl Sensor {
    /// A device that has not sent anything yet. `dev_addr`: most significant byte first.
    pub fn new(dev_addr: [u8; 4], nwk_s_key: SessionKey, app_s_key: SessionKey) -> Sensor {
        Sensor { dev_addr, nwk_s_key, app_s_key, f_ctrl: ADR, next: 0 }
    }

    /// The same, with `f_cnt` as its next counter.
    #[must_use]
    pub fn at(mut self, f_cnt: u32) -> Sensor {
        self.next = f_cnt;
        self
    }

    /// The same, at a fixed data rate.
    #[must_use]
    pub fn without_adr(mut self) -> Sensor {
        self.f_ctrl = 0;
        self
    }

    /// Its next uplink: a PHYPayload that carries `payload` to `f_port`.
    pub fn uplink(&mut self, f_port: u8, payload: &[u8]) -> Vec<u8> {
        let [a, b, c, d] = self.dev_addr;
        let [low, high, _, _] = self.next.to_le_bytes();
        let mut phy = vec![UNCONFIRMED_UP, d, c, b, a, self.f_ctrl, low, high, f_port];
        let key = if f_port == 0 { self.nwk_s_key } else { self.app_s_key };
        phy.extend(self.encrypted(key, payload));
        phy.extend(self.mic(&phy));
        self.next = self.next.wrapping_add(1);
        phy
    }

    /// Section 4.3.3: the payload XOR the encrypted blocks A_1, A_2, …
    fn encrypted(&self, key: SessionKey, payload: &[u8]) -> Vec<u8> {
        let cipher = Aes128::new(&Array(key));
        let stream = (1u8..=u8::MAX).flat_map(|number| {
            let mut block = Array(self.block(0x01, number));
            cipher.encrypt_block(&mut block);
            block.0
        });
        payload.iter().zip(stream).map(|(byte, key)| byte ^ key).collect()
    }

    /// Section 4.4: the first four bytes of the CMAC over B_0 and the message.
    fn mic(&self, message: &[u8]) -> [u8; 4] {
        let mut mac = <Cmac<Aes128> as KeyInit>::new(&Array(self.nwk_s_key));
        // No frame of a radio is longer than 255 bytes.
        mac.update(&self.block(0x49, u8::try_from(message.len()).unwrap_or(u8::MAX)));
        mac.update(message);
        let [a, b, c, d, ..] = mac.finalize().into_bytes().0;
        [a, b, c, d]
    }

    /// What A_i and B_0 have in common: direction 0 (up), address and counter, least significant byte first.
    fn block(&self, first: u8, last: u8) -> [u8; 16] {
        let [a, b, c, d] = self.dev_addr;
        let [w, x, y, z] = self.next.to_le_bytes();
        [first, 0, 0, 0, 0, 0, d, c, b, a, w, x, y, z, 0, last]
    }
}

impl std::fmt::Debug for Sensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sensor { dev_addr, next, .. } = self;
        write!(f, "Sensor {{ {dev_addr:02x?}, keys: [secret], next: {next} }}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn unhex<const N: usize>(text: &str) -> [u8; N] {
        data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap().try_into().unwrap()
    }

    fn made(sensor: &mut Sensor, f_port: u8, payload: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(&sensor.uplink(f_port, payload))
    }

    /// The vectors that lora-packet publishes.
    #[test]
    fn lora_packet_vectors() {
        let keys = (unhex("44024241ed4ce9a68c6a8bc055233fd3"), unhex("ec925802ae430ca77fd3dd73cb2cc588"));
        let mut sensor = Sensor::new(unhex("49be7df1"), keys.0, keys.1).without_adr().at(2);
        assert_eq!(made(&mut sensor, 1, b"test"), "40f17dbe4900020001954378762b11ff0d");
        assert_eq!(made(&mut sensor, 1, b""), "40f17dbe49000300012a3518af");
        assert_eq!(
            made(&mut sensor, 1, b"The quick brown fox jumps over the lazy dog."),
            "40f17dbe490004000155332de41a11adc072553544429ce7787707d1c316e027e7e5e334263376affb8aa17ad30075293f28dea8a20af3c5e7"
        );
    }

    /// Those of lora-rs; the second carries its MAC commands on FPort 0, under the network's key.
    #[test]
    fn lora_rs_vectors() {
        let (ones, twos) = ([1; 16], [2; 16]);
        let mut sensor = Sensor::new([1, 2, 3, 4], twos, ones).at(1);
        assert_eq!(made(&mut sensor, 1, b"hello"), "400403020180010001a694642615d6c3b582");
        let mut sensor = Sensor::new([1, 2, 3, 4], ones, ones).without_adr();
        assert_eq!(made(&mut sensor, 0, &[2, 3, 5]), "40040302010000000069369eee6aa508");
    }

    #[test]
    fn the_high_half_of_the_counter_is_in_the_cryptography_alone() {
        let sensor = Sensor::new([1, 2, 3, 4], [2; 16], [1; 16]);
        let (low, high) = (sensor.clone().at(7).uplink(1, &[0; 20]), sensor.at(65_543).uplink(1, &[0; 20]));
        let (low, high) = (low.split_at(9), high.split_at(9));
        assert_eq!(low.0, high.0, "header and low half");
        assert_ne!(low.1, high.1);
    }

    #[test]
    fn keys_do_not_print() {
        let shown = format!("{:?}", Sensor::new([1, 2, 3, 4], [0xab; 16], [0xcd; 16]));
        assert_eq!(shown, "Sensor { [01, 02, 03, 04], keys: [secret], next: 0 }");
    }
}
