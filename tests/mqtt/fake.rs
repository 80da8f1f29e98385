//! A far end that speaks MQTT byte by byte, in the version that it is spoken to, and answers what the test tells it to.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::PATIENCE;

pub(crate) struct Fake(TcpListener);

/// One connection.
pub(crate) struct Peer {
    stream: TcpStream,
    /// 4 for MQTT 3.1.1, 5 for MQTT 5; 0 before CONNECT.
    level: u8,
    /// Those of the last publish, MQTT 5: the user properties, and the content type as `content-type`.
    pub(crate) properties: Vec<(String, String)>,
    /// The bytes of the last packet, header and all.
    pub(crate) size: usize,
}

/// What came in.
#[derive(Debug, PartialEq)]
pub(crate) enum Packet {
    Connect,
    Publish {
        qos: u8,
        packet_id: u16,
        record: usize,
    },
    PubRel(u16),
    /// `[integration.NAME.state]`
    State {
        packet_id: u16,
        body: serde_json::Value,
    },
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
        let stream = self.0.accept().await.unwrap().0;
        Peer { stream, level: 0, properties: Vec::new(), size: 0 }
    }

    /// Accepts a connection and its CONNECT.
    pub(crate) async fn welcome(&self) -> Peer {
        self.welcome_with(&[]).await
    }

    /// The same with properties in the CONNACK, MQTT 5.
    pub(crate) async fn welcome_with(&self, properties: &[u8]) -> Peer {
        loop {
            let mut peer = self.accept().await;
            assert_eq!(at_once(peer.read()).await, Packet::Connect);
            if peer.has_hung_up() {
                // A paused clock ran into the agent's time-out before we were heard of.
                continue;
            }
            peer.connack(0, properties).await;
            return peer;
        }
    }

    /// Accepts a connection and answers its CONNECT with this code.
    pub(crate) async fn answer(&self, code: u8) -> Peer {
        let mut peer = self.accept().await;
        assert_eq!(peer.read().await, Packet::Connect);
        peer.connack(code, &[]).await;
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

/// Awaits what comes without anybody waiting for a timer. A paused clock runs on to the next timer whenever everybody waits
/// for the network, on a busy machine into the agent's time-outs; so it stands still meanwhile, as long as a blocking task
/// runs.
async fn at_once<T>(what: impl Future<Output = T>) -> T {
    let (done, until_done) = std::sync::mpsc::channel::<()>();
    let no_time_passes = tokio::task::spawn_blocking(move || until_done.recv_timeout(PATIENCE));
    let result = what.await;
    drop(done);
    // Disconnected, or it took too long and the clock ran on.
    let _ = no_time_passes.await;
    result
}

impl Peer {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // Whoever has hung up does not want it.
        let _ = self.stream.write_all(bytes).await;
    }

    /// Whether there is nothing more to come behind what was read.
    fn has_hung_up(&self) -> bool {
        matches!(self.stream.try_read(&mut [0; 1]), Ok(0))
    }

    pub(crate) async fn connack(&mut self, code: u8, properties: &[u8]) {
        let mut bytes = vec![0x20, 2, 0, code];
        if self.level == 5 {
            bytes.push(u8::try_from(properties.len()).unwrap());
            bytes.extend(properties);
            bytes[1] = u8::try_from(bytes.len() - 2).unwrap();
        }
        self.send(&bytes).await;
    }

    /// Ends the connection without a goodbye.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// PUBACK (0x40), PUBREC (0x50) or PUBCOMP (0x70) with a reason, MQTT 5, and with words if there are any.
    pub(crate) async fn answer(&mut self, kind: u8, packet_id: u16, reason: u8, words: &str) {
        let [high, low] = packet_id.to_be_bytes();
        let mut body = vec![high, low, reason];
        if !words.is_empty() {
            let len = u8::try_from(words.len()).unwrap();
            body.extend([len + 3, 0x1f, 0, len]);
            body.extend(words.as_bytes());
        }
        self.send(&[&[kind, u8::try_from(body.len()).unwrap()][..], &body].concat()).await;
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
                1 => {
                    self.level = body[6];
                    return Packet::Connect;
                }
                3 => {
                    let (packet, properties) = publish(kind, &body, self.level == 5);
                    self.properties = properties;
                    return packet;
                }
                6 => return Packet::PubRel(u16::from_be_bytes([body[0], body[1]])),
                12 => self.send(&[0xd0, 0]).await,
                14 => return Packet::Disconnect,
                other => panic!("packet type {other}"),
            }
        }
        panic!("nothing but pings")
    }

    /// Waits for a ping and answers it.
    pub(crate) async fn ping(&mut self) {
        assert_eq!(self.frame().await, Some((0xc0, Vec::new())));
        self.send(&[0xd0, 0]).await;
    }

    /// The packet ids and records of the next `n` publishes.
    pub(crate) async fn publishes(&mut self, n: usize) -> Vec<(u16, usize)> {
        at_once(self.read_publishes(n)).await
    }

    async fn read_publishes(&mut self, n: usize) -> Vec<(u16, usize)> {
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
        let kind = self.stream.read_u8().await.ok()?;
        let (mut len, mut shift, mut header) = (0, 0, 1);
        loop {
            let byte = self.stream.read_u8().await.ok()?;
            len |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            header += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        self.size = header + len;
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body).await.ok()?;
        Some((kind, body))
    }
}

fn publish(kind: u8, body: &[u8], is_v5: bool) -> (Packet, Vec<(String, String)>) {
    let qos = (kind >> 1) & 3;
    let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let (packet_id, mut rest) = match qos {
        0 => (0, &body[topic_end..]),
        _ => (u16::from_be_bytes([body[topic_end], body[topic_end + 1]]), &body[topic_end + 2..]),
    };
    let mut properties = Vec::new();
    if is_v5 {
        let (len, after) = integer(rest);
        let (mut own, payload) = after.split_at(len);
        rest = payload;
        while let [kind, after @ ..] = own {
            let (first, after) = text(after);
            let (name, value, after) = match kind {
                0x03 => ("content-type".to_owned(), first, after),
                0x26 => {
                    let (second, after) = text(after);
                    (first, second, after)
                }
                other => panic!("property {other}"),
            };
            properties.push((name, value));
            own = after;
        }
    }
    let json: serde_json::Value = serde_json::from_slice(rest).unwrap();
    if json["type"] == "state" {
        return (Packet::State { packet_id, body: json }, properties);
    }
    let record = crate::world::number(json["id"].as_str().unwrap());
    (Packet::Publish { qos, packet_id, record }, properties)
}

/// A variable byte integer, and what follows it.
fn integer(bytes: &[u8]) -> (usize, &[u8]) {
    let (mut value, mut at) = (0, 0);
    loop {
        value |= usize::from(bytes[at] & 0x7f) << (7 * at);
        at += 1;
        if bytes[at - 1] & 0x80 == 0 {
            return (value, &bytes[at..]);
        }
    }
}

/// A string, and what follows it.
fn text(bytes: &[u8]) -> (String, &[u8]) {
    let end = 2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    (String::from_utf8(bytes[2..end].to_vec()).unwrap(), &bytes[end..])
}
