//! The binary header of GWMP, versions 1 and 2 (`PROTOCOL.TXT` of the Semtech packet forwarder, sections 3 and 5).
//!
//! Version byte, two bytes of token, identifier, and for what comes from a forwarder eight bytes of gateway EUI, most
//! significant byte first. The token is random: it is echoed, and means nothing else.

use crate::uplink::Eui64;

const PUSH_DATA: u8 = 0x00;
const PUSH_ACK: u8 = 0x01;
const PULL_DATA: u8 = 0x02;
const PULL_ACK: u8 = 0x04;
const TX_ACK: u8 = 0x05;

/// What a packet forwarder sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    version: u8,
    token: [u8; 2],
    /// What it is.
    pub message: Message<'a>,
}

/// The kinds of datagram that come from a forwarder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Uplinks, a status report, or both.
    PushData {
        /// Who heard them.
        gateway: Eui64,
        /// The JSON, not looked at yet.
        json: &'a [u8],
    },
    /// The forwarder keeps the way for downlinks open.
    PullData {
        /// Who asks.
        gateway: Eui64,
    },
    /// The fate of a downlink; the token is that of the PULL_RESP. Forwarders disagree on what follows the header.
    TxAck {
        /// Who says so, where it says anything.
        gateway: Option<Eui64>,
    },
}

/// Why a datagram is not for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDatagram {
    /// Shorter than its header.
    #[error("{0} bytes are too few for a Semtech UDP header")]
    TooShort(usize),
    /// A protocol version that does not exist.
    #[error("protocol version {0} is not 1 or 2")]
    Version(u8),
    /// An identifier that no forwarder sends.
    #[error("identifier {0:#04x} is none that a packet forwarder sends")]
    Identifier(u8),
}

impl<'a> Datagram<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// If the datagram is too short, of an unknown version, or of a kind that servers send to forwarders.
    pub fn read(bytes: &'a [u8]) -> Result<Self, BadDatagram> {
        let too_short = BadDatagram::TooShort(bytes.len());
        let (&[version, high, low, identifier], rest) = bytes.split_first_chunk().ok_or(too_short)?;
        if !matches!(version, 1 | 2) {
            return Err(BadDatagram::Version(version));
        }
        let with_gateway =
            || rest.split_first_chunk().map(|(eui, rest)| (Eui64(*eui), rest)).ok_or(too_short);
        let message = match identifier {
            PUSH_DATA => with_gateway().map(|(gateway, json)| Message::PushData { gateway, json })?,
            PULL_DATA => with_gateway().map(|(gateway, _)| Message::PullData { gateway })?,
            TX_ACK => Message::TxAck { gateway: rest.first_chunk().map(|eui| Eui64(*eui)) },
            other => return Err(BadDatagram::Identifier(other)),
        };
        Ok(Datagram { version, token: [high, low], message })
    }

    /// The token, as it came.
    pub fn token(&self) -> [u8; 2] {
        self.token
    }

    /// The answer, with the version and token that came; a TX_ACK has none.
    pub fn ack(&self) -> Option<[u8; 4]> {
        let identifier = match self.message {
            Message::PushData { .. } => PUSH_ACK,
            Message::PullData { .. } => PULL_ACK,
            Message::TxAck { .. } => return None,
        };
        let [high, low] = self.token;
        Some([self.version, high, low, identifier])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    const EUI: [u8; 8] = [0xaa, 0x55, 0x5a, 0, 0, 0, 1, 1];

    fn datagram(version: u8, identifier: u8, rest: &[u8]) -> Vec<u8> {
        [&[version, 0x5e, 0x52, identifier], rest].concat()
    }

    #[test]
    fn answers_carry_the_version_and_token_that_came() {
        for version in [1, 2] {
            let push = datagram(version, 0, &EUI);
            assert_eq!(Datagram::read(&push).unwrap().ack(), Some([version, 0x5e, 0x52, 1]));
            let pull = datagram(version, 2, &EUI);
            assert_eq!(Datagram::read(&pull).unwrap().ack(), Some([version, 0x5e, 0x52, 4]));
        }
    }

    #[test]
    fn a_push_is_split_at_the_eui_whatever_follows() {
        let bytes = datagram(2, 0, &[&EUI[..], b"not json"].concat());
        let read = Datagram::read(&bytes).unwrap();
        assert_eq!(read.message, Message::PushData { gateway: Eui64(EUI), json: b"not json" });
    }

    #[test]
    fn pull_data_and_tx_ack_are_taken_with_whatever_is_at_their_end() {
        let pull = datagram(2, 2, &[&EUI[..], b"\0\0"].concat());
        assert_eq!(Datagram::read(&pull).unwrap().message, Message::PullData { gateway: Eui64(EUI) });
        for rest in [&b""[..], b"\0", &EUI, b"\x72\x76\xff\0\x39\x03\0\xae\0"] {
            let bytes = datagram(2, 5, rest);
            let read = Datagram::read(&bytes).unwrap();
            let gateway = rest.first_chunk().map(|eui| Eui64(*eui));
            assert_eq!((read.message, read.ack()), (Message::TxAck { gateway }, None));
            assert_eq!(read.token(), [0x5e, 0x52]);
        }
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let read = |bytes: &[u8]| Datagram::read(bytes).unwrap_err();
        assert_eq!(read(b""), BadDatagram::TooShort(0));
        assert_eq!(read(&[2, 0, 0]), BadDatagram::TooShort(3));
        assert_eq!(read(&datagram(2, 0, &EUI[..7])), BadDatagram::TooShort(11));
        assert_eq!(read(&datagram(2, 2, &[])), BadDatagram::TooShort(4));
        assert_eq!(read(&datagram(0, 0, &EUI)), BadDatagram::Version(0));
        assert_eq!(read(&datagram(3, 0, &EUI)), BadDatagram::Version(3));
        for identifier in [1, 3, 4, 6, 0xff] {
            assert_eq!(read(&datagram(2, identifier, &EUI)), BadDatagram::Identifier(identifier));
        }
    }
}
