//! Base64 as forwarders write it.
//!
//! The specification's own example is unpadded and mixes the standard with the URL-safe alphabet, so both alphabets are
//! one here, and padding and leftover bits are not judged. The result is bounded by a frame's length.

use crate::uplink::MAX_PHY_LEN;

/// Why there are no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// A character of neither alphabet, or one character too few.
    NotBase64,
    /// More than a frame can hold.
    TooLong,
}

/// Decodes `text`.
pub(super) fn decode(text: &str) -> Result<heapless::Vec<u8, MAX_PHY_LEN>, Unreadable> {
    let digits = text.trim().trim_end_matches('=');
    if digits.len() % 4 == 1 {
        return Err(Unreadable::NotBase64);
    }
    let mut bytes = heapless::Vec::new();
    let (mut bits, mut count) = (0u32, 0u32);
    for digit in digits.bytes() {
        bits = (bits << 6 | u32::from(value(digit).ok_or(Unreadable::NotBase64)?)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            let [.., byte] = (bits >> count).to_be_bytes();
            bytes.push(byte).map_err(|_| Unreadable::TooLong)?;
        }
    }
    Ok(bytes)
}

/// The six bits of a digit, by RFC 4648 sections 4 and 5 at once.
fn value(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn decoded(text: &str) -> Result<Vec<u8>, Unreadable> {
        decode(text).map(|bytes| bytes.to_vec())
    }

    #[test]
    fn both_alphabets_padded_or_not() {
        for text in ["+/+/AQ==", "-_-_AQ", "+_-/AQ=", " +/-_AQ== "] {
            assert_eq!(decoded(text).unwrap(), [0xfb, 0xff, 0xbf, 1], "{text}");
        }
        assert_eq!(decoded("").unwrap(), [0u8; 0]);
        assert_eq!(decoded("AQ").unwrap(), decoded("AR").unwrap(), "leftover bits are not judged");
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in ["A", "AAAAA", "AQ*=", "A=Q=", "AQID\u{fffd}", "A Q="] {
            assert_eq!(decoded(text), Err(Unreadable::NotBase64), "{text}");
        }
    }

    #[test]
    fn a_frame_of_255_bytes_fits_and_one_of_256_does_not() {
        let text = |len: usize| data_encoding::BASE64.encode(&vec![0x40; len]);
        assert_eq!(decoded(&text(255)).unwrap().len(), 255);
        assert_eq!(decoded(&text(256)), Err(Unreadable::TooLong));
    }

    proptest::proptest! {
        #[test]
        fn reads_back_what_any_encoder_wrote(bytes in proptest::collection::vec(0u8.., 0..=255usize)) {
            for encoding in [data_encoding::BASE64, data_encoding::BASE64URL_NOPAD] {
                assert_eq!(decoded(&encoding.encode(&bytes)).unwrap(), bytes);
            }
        }
    }
}
