//! What a server sends to a packet forwarder (`PROTOCOL.TXT` of the Semtech packet forwarder, sections 3 and 5).

const PUSH_ACK: u8 = 0x01;
const PULL_RESP: u8 = 0x03;
const PULL_ACK: u8 = 0x04;

/// What a server sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has a datagram of the forwarder: PUSH_ACK or PULL_ACK.
    Ack,
    /// A downlink.
    PullResp {
        /// What the forwarder's TX_ACK will echo. Version 1 of the protocol has no TX_ACK, and leaves these bytes unused.
        token: Option<[u8; 2]>,
    },
}

impl Answer {
    /// Reads the header; `None` for what no server sends.
    pub fn read(bytes: &[u8]) -> Option<Answer> {
        let &[version, high, low, identifier] = bytes.first_chunk()?;
        match (version, identifier) {
            (1 | 2, PUSH_ACK | PULL_ACK) => Some(Answer::Ack),
            (1, PULL_RESP) => Some(Answer::PullResp { token: None }),
            (2, PULL_RESP) => Some(Answer::PullResp { token: Some([high, low]) }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn what_servers_send_is_told_apart_by_its_header() {
        for (bytes, answer) in [
            (&[2, 7, 8, 1][..], Some(Answer::Ack)),
            (&[1, 7, 8, 4], Some(Answer::Ack)),
            (&[2, 7, 8, 4, 0, 0], Some(Answer::Ack)),
            (b"\x02\x07\x08\x03{\"txpk\":{}}", Some(Answer::PullResp { token: Some([7, 8]) })),
            (b"\x02\x07\x08\x03", Some(Answer::PullResp { token: Some([7, 8]) })),
            (b"\x01\x07\x08\x03{}", Some(Answer::PullResp { token: None })),
            (b"", None),
            (&[2, 7, 8], None),
            (&[0, 7, 8, 3], None),
            (&[3, 7, 8, 3], None),
            (&[2, 7, 8, 0], None),
            (&[2, 7, 8, 2], None),
            (&[2, 7, 8, 5], None),
        ] {
            assert_eq!(Answer::read(bytes), answer, "{bytes:?}");
        }
    }
}
