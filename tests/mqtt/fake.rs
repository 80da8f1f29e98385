//! A far end that speaks MQTT 3.1.1 byte by byte and answers what the test tells it to.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct Fake(TcpListener);

/// One connection.
pub(crate) struct Peer(TcpStream);

/// What came in.
#[derive(Debug, PartialEq)]
pub(crate) enum Packet {
    Connect,
    Publish { qos: u8, packet_id: u16, record: usize },
    PubRel(u16),
    Disconnect,
    Closed,
}

impl Fake {
    pub(crate) async fn listen() -> Fake {
        Fake::listen_on(0).await
    }

    /// Comes back on the port of one that has gone.
    pub(crate) async fn listen_on(port: u16) -> Fake {
        Fake(TcpListener::bind(("127.0.0.1", port)).await.unwrap())
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    pub(crate) async fn accept(&self) -> Peer {
        Peer(self.0.accept().await.unwrap().0)
    }

    /// Accepts a connection and its CONNECT.
    pub(crate) async fn welcome(&self) -> Peer {
        self.answer(0).await
    }

    /// Accepts a connection and answers its CONNECT with this code.
    pub(crate) async fn answer(&self, code: u8) -> Peer {
        let mut peer = self.accept().await;
        peer.connack(code).await;
        peer
    }

    /// The same, with client id, user name and password, where the CONNECT has no will.
    pub(crate) async fn identified(&self) -> (Peer, Vec<String>) {
        let mut peer = self.accept().await;
        let (kind, body) = peer.frame().await.unwrap();
        assert_eq!((kind, body[7] & 0b1100_0100), (0x10, 0b1100_0000), "CONNECT with both and no will");
        peer.send(&[0x20, 2, 0, 0]).await;
        // Behind protocol name, level, flags and keep-alive.
        let (mut rest, mut fields) = (&body[10..], Vec::new());
        while let [high, low, after @ ..] = rest {
            let (field, next) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            fields.push(String::from_utf8(field.to_vec()).unwrap());
            rest = next;
        }
        (peer, fields)
    }
}

impl Peer {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // Whoever has hung up does not want it.
        let _ = self.0.write_all(bytes).await;
    }

    /// Reads the CONNECT and answers it.
    pub(crate) async fn connack(&mut self, code: u8) {
        assert_eq!(self.read().await, Packet::Connect);
        self.send(&[0x20, 2, 0, code]).await;
    }

    async fn ack(&mut self, kind: u8, packet_id: u16) {
        let [high, low] = packet_id.to_be_bytes();
        self.send(&[kind, 2, high, low]).await;
    }

    pub(crate) async fn puback(&mut self, packet_id: u16) {
        self.ack(0x40, packet_id).await;
    }

    pub(crate) async fn pubrec(&mut self, packet_id: u16) {
        self.ack(0x50, packet_id).await;
    }

    pub(crate) async fn pubcomp(&mut self, packet_id: u16) {
        self.ack(0x70, packet_id).await;
    }

    /// The next packet; answers pings by itself, but not for ever.
    pub(crate) async fn read(&mut self) -> Packet {
        for _ in 0..100 {
            let Some((kind, body)) = self.frame().await else { return Packet::Closed };
            match kind >> 4 {
                1 => return Packet::Connect,
                3 => return publish(kind, &body),
                6 => return Packet::PubRel(u16::from_be_bytes([body[0], body[1]])),
                12 => self.send(&[0xd0, 0]).await,
                14 => return Packet::Disconnect,
                other => panic!("packet type {other}"),
            }
        }
        panic!("nothing but pings")
    }

    /// The packet ids and records of the next `n` publishes.
    pub(crate) async fn publishes(&mut self, n: usize) -> Vec<(u16, usize)> {
        let mut got = Vec::new();
        while got.len() < n {
            match self.read().await {
                Packet::Publish { packet_id, record, .. } => got.push((packet_id, record)),
                other => panic!("{other:?} instead of publish {} of {n}", got.len() + 1),
            }
        }
        got
    }

    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let kind = self.0.read_u8().await.ok()?;
        let (mut len, mut shift) = (0, 0);
        loop {
            let byte = self.0.read_u8().await.ok()?;
            len |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; len];
        self.0.read_exact(&mut body).await.ok()?;
        Some((kind, body))
    }
}

fn publish(kind: u8, body: &[u8]) -> Packet {
    let qos = (kind >> 1) & 3;
    let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let (packet_id, payload) = match qos {
        0 => (0, &body[topic_end..]),
        _ => (u16::from_be_bytes([body[topic_end], body[topic_end + 1]]), &body[topic_end + 2..]),
    };
    let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
    Packet::Publish { qos, packet_id, record: crate::world::number(json["id"].as_str().unwrap()) }
}
