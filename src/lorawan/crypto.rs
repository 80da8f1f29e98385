//! The cryptography of LoRaWAN 1.0.x: the message integrity code of a data uplink and the encryption of its payload
//! (LoRaWAN 1.0.4, sections 4.3.3 and 4.4).
//!
//! AES-128 and CMAC come from RustCrypto (`aes`, `cmac`): 8 KiB of code, constant-time in software, and the CPU's own
//! instructions where it has them. What is LoRaWAN's own, two block layouts, is here, with the published vectors as tests.
//! The `lorawan` crate does the same and brings a whole device stack along.
//!
//! 1.1 is not here: its MIC covers data rate and channel as the device counts them, which a frame alone does not tell.

use std::fmt;

use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use cmac::{Cmac, Mac};

use super::frame::{Data, Frame, parse};
use crate::uplink::{DevAddr, MAX_PHY_LEN};

/// A session key. It prints as `[secret]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 16]);

impl Key {
    /// Wraps the bytes of a key.
    pub fn new(bytes: [u8; 16]) -> Key {
        Key(bytes)
    }

    /// 32 hexadecimal digits; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Key> {
        data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok().map(Key)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Direction byte of an uplink in both blocks.
const UPLINK: u8 = 0;

const BLOCK: usize = 16;

/// Whether the MIC at the end of `phy` is right for the counter `f_cnt`. `data` is what [`parse`]
/// made of `phy`.
pub fn has_valid_mic(key: &Key, phy: &[u8], data: &Data<'_>, f_cnt: u32) -> bool {
    let Some((message, _)) = phy.split_last_chunk::<4>() else { return false };
    mic(key, message, data, f_cnt) == Some(data.mic)
}

/// The MIC of a message without one. A frame is at most 255 bytes long; one that is longer has none.
fn mic(key: &Key, message: &[u8], data: &Data<'_>, f_cnt: u32) -> Option<[u8; 4]> {
    let len = u8::try_from(message.len()).ok()?;
    let mut mac = <Cmac<Aes128> as KeyInit>::new(&Array(key.0));
    mac.update(&block(0x49, data, f_cnt, len));
    mac.update(message);
    mac.finalize().into_bytes().first_chunk().copied()
}

/// An unconfirmed data uplink as a device would send it, for `test`. Without keys the payload goes as it is, under a MIC
/// that nobody checks. `None`: no frame can hold that much.
pub fn seal(
    keys: Option<(&Key, &Key)>,
    addr: DevAddr,
    f_cnt: u32,
    f_port: u8,
    payload: &[u8],
) -> Option<Vec<u8>> {
    const UNCONFIRMED_DATA_UP: u8 = 0x40;
    let [low, high, ..] = f_cnt.to_le_bytes();
    let mut phy = vec![UNCONFIRMED_DATA_UP];
    phy.extend(addr.0.iter().rev());
    phy.extend([0, low, high, f_port]);
    let head = phy.len();
    phy.extend(payload);
    phy.extend([0; 4]);
    let clear = phy.clone();
    let Frame::Data(data) = parse(&clear) else { return None };
    if let Some((nwk_s_key, app_s_key)) = keys {
        phy.truncate(head);
        // The cipher is its own inverse.
        phy.extend(decrypt(if f_port == 0 { nwk_s_key } else { app_s_key }, &data, f_cnt));
        phy.extend(mic(nwk_s_key, &phy, &data, f_cnt)?);
    }
    (phy.len() <= MAX_PHY_LEN).then_some(phy)
}

/// The FRMPayload in clear: `key` is the AppSKey, or the NwkSKey for FPort 0.
pub fn decrypt(key: &Key, data: &Data<'_>, f_cnt: u32) -> Vec<u8> {
    let cipher = Aes128::new(&Array(key.0));
    let mut clear = data.frm_payload.to_vec();
    // A payload has at most 242 bytes, so the block number fits a byte.
    for (chunk, number) in clear.chunks_mut(BLOCK).zip(1u8..) {
        let mut stream = Array(block(0x01, data, f_cnt, number));
        cipher.encrypt_block(&mut stream);
        chunk.iter_mut().zip(stream).for_each(|(byte, key)| *byte ^= key);
    }
    clear
}

/// Tells one session from another without telling its key: four bytes of a block that no frame uses, encrypted.
pub fn fingerprint(key: &Key, dev_addr: DevAddr) -> u32 {
    let [a, b, c, d] = dev_addr.0;
    let mut block = Array([0xff, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    Aes128::new(&Array(key.0)).encrypt_block(&mut block);
    let [w, x, y, z, ..] = block.0;
    u32::from_le_bytes([w, x, y, z])
}

/// B0 and A_i differ in the first byte and in what the last one counts.
fn block(first: u8, data: &Data<'_>, f_cnt: u32, last: u8) -> [u8; BLOCK] {
    let [a, b, c, d] = data.dev_addr.0;
    let [w, x, y, z] = f_cnt.to_le_bytes();
    [first, 0, 0, 0, 0, UPLINK, d, c, b, a, w, x, y, z, 0, last]
}

/// Frames as a device makes them, for tests.
#[cfg(test)]
pub(crate) mod testing {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    /// An unconfirmed data uplink whose FRMPayload is `payload` as it is, with a MIC under `key`.
    pub(crate) fn data_frame(key: &Key, addr: [u8; 4], f_cnt: u32, f_port: u8, payload: &[u8]) -> Vec<u8> {
        let mut phy = vec![0x40];
        phy.extend(addr.iter().rev());
        phy.push(0x80);
        phy.extend(&f_cnt.to_le_bytes()[..2]);
        phy.push(f_port);
        phy.extend(payload);
        let message = phy.clone();
        phy.extend([0; 4]);
        let Frame::Data(data) = parse(&phy) else { panic!("{phy:02x?}") };
        let mut mac = <Cmac<Aes128> as KeyInit>::new(&Array(key.0));
        mac.update(&block(0x49, &data, f_cnt, u8::try_from(message.len()).unwrap()));
        mac.update(&message);
        let mic = mac.finalize().into_bytes();
        [message, mic[..4].to_vec()].concat()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn key(hex: &str) -> Key {
        Key::from_hex(hex).unwrap()
    }

    fn unhex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap()
    }

    fn data_of(phy: &[u8]) -> Data<'_> {
        let Frame::Data(data) = parse(phy) else { panic!("{phy:02x?}") };
        data
    }

    /// The vectors that lora-packet and lora-rs publish: frame, counter, NwkSKey, AppSKey, payload in clear.
    #[test]
    fn published_vectors() {
        const NWK: &str = "44024241ed4ce9a68c6a8bc055233fd3";
        const APP: &str = "ec925802ae430ca77fd3dd73cb2cc588";
        let (ones, twos) = ("01".repeat(16), "02".repeat(16));
        for (hex, f_cnt, nwk, app, clear) in [
            ("40F17DBE4900020001954378762B11FF0D", 2, NWK, APP, "test"),
            (
                "40f17dbe490004000155332de41a11adc072553544429ce7787707d1c316e027e7e5e334263376affb8aa17ad30075293f28dea8a20af3c5e7",
                4,
                NWK,
                APP,
                "The quick brown fox jumps over the lazy dog.",
            ),
            ("40F17DBE49000300012A3518AF", 3, NWK, APP, ""),
            ("400403020180010001a694642615d6c3b582", 1, &twos, &ones, "hello"),
        ] {
            let phy = unhex(hex);
            let data = data_of(&phy);
            assert!(has_valid_mic(&key(nwk), &phy, &data, f_cnt), "{hex}");
            assert_eq!(decrypt(&key(app), &data, f_cnt), clear.as_bytes(), "{hex}");
            assert!(!has_valid_mic(&key(nwk), &phy, &data, f_cnt + 65_536), "the high word counts: {hex}");
            assert!(!has_valid_mic(&key(app), &phy, &data, f_cnt), "the key counts: {hex}");
        }
        // FPort 0 and FOpts; these two carry a MIC under a key of ones.
        for hex in ["40040302010000000069369eee6aa508", "4004030201030000020305d7fa0c6c"] {
            let phy = unhex(hex);
            assert!(has_valid_mic(&key(&ones), &phy, &data_of(&phy), 0), "{hex}");
        }
    }

    /// What is made here is what the published vector is; another crate makes the vectors of the tests of `session`.
    #[test]
    fn a_frame_is_sealed_as_a_device_does() {
        let (nwk, app) = (key("44024241ed4ce9a68c6a8bc055233fd3"), key("ec925802ae430ca77fd3dd73cb2cc588"));
        let addr = DevAddr([0x49, 0xbe, 0x7d, 0xf1]);
        let sealed = seal(Some((&nwk, &app)), addr, 2, 1, b"test").unwrap();
        assert_eq!(sealed, unhex("40F17DBE4900020001954378762B11FF0D"));
        assert_eq!(data_of(&seal(None, addr, 2, 1, b"test").unwrap()).frm_payload, b"test");
        assert_eq!(seal(Some((&nwk, &app)), addr, 2, 1, &[0; 300]), None);
    }

    #[test]
    fn every_flipped_bit_breaks_the_mic() {
        let phy = unhex("40F17DBE4900020001954378762B11FF0D");
        for bit in 0..phy.len() * 8 {
            let mut bad = phy.clone();
            if let Some(byte) = bad.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            if let Frame::Data(data) = parse(&bad) {
                let valid = has_valid_mic(&key("44024241ed4ce9a68c6a8bc055233fd3"), &bad, &data, 2);
                assert!(!valid, "bit {bit}");
            }
        }
    }

    #[test]
    fn a_key_does_not_print() {
        assert_eq!(format!("{:?}", Key::new([7; 16])), "[secret]");
        assert_eq!(Key::from_hex("0011"), None);
    }
}
