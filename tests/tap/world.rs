//! An agent, and what stands on both sides of it.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use packhorse::simulator::{Arrivals, Endpoint};
use serde_json::Value;

use crate::support::site::{endpoint, http};
use crate::support::{Agent, PATIENCE, free_udp_port};

/// The kinds of datagram (`PROTOCOL.TXT` of the Semtech packet forwarder, sections 3 and 5).
pub(crate) const PUSH_DATA: u8 = 0;
pub(crate) const PUSH_ACK: u8 = 1;
pub(crate) const PULL_DATA: u8 = 2;
pub(crate) const PULL_RESP: u8 = 3;
pub(crate) const PULL_ACK: u8 = 4;
pub(crate) const TX_ACK: u8 = 5;

/// An agent that passes everything on, and delivers what it takes in.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) arrivals: Arc<Arrivals>,
    udp: u16,
    _endpoint: Endpoint,
}

impl World {
    pub(crate) fn new() -> World {
        let (endpoint, arrivals) = endpoint();
        let world = World {
            folder: tempfile::tempdir().unwrap(),
            arrivals,
            udp: free_udp_port(),
            _endpoint: endpoint,
        };
        world.configure("");
        world
    }

    /// Starts the agent; `keys` are those of its source, `forward_to` among them.
    pub(crate) fn start(&self, keys: &str) -> Agent {
        let config = self.configure(keys);
        Agent::start(self.folder.path(), &config)
    }

    fn configure(&self, keys: &str) -> String {
        let (at, udp) = (self.folder.path().display(), self.udp);
        let integration = http("api", self._endpoint.address(), "");
        format!(
            "[gateway]\nname = \"shed\"\n[spool]\npath = \"{at}/spool.redb\"\ndurability = \"immediate\"\n\
             [control]\nsocket = \"{at}/control.sock\"\n\
             [source.s]\ntype = \"semtech-udp\"\nlisten = \"127.0.0.1:{udp}\"\n{keys}\n{integration}"
        )
    }

    pub(crate) fn udp(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.udp))
    }

    /// A forwarder with this EUI, eight times the same byte.
    pub(crate) fn forwarder(&self, eui: u8) -> Forwarder {
        Forwarder::new(self.udp(), [eui; 8])
    }
}

/// The key that names these servers.
pub(crate) fn forward_to(servers: &[SocketAddr]) -> String {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    format!("forward_to = [{}]", servers.join(", "))
}

/// What the status says of the server at a place.
pub(crate) fn tap(status: &Value, at: usize) -> &Value {
    &status["taps"][at]
}

/// A packet forwarder as `lora_pkt_fwd` is one: a socket for what goes up and one for what comes down, both connected, each
/// datagram under a token of its own, and TX_ACKs by the socket that downlinks come to.
pub(crate) struct Forwarder {
    pub(crate) up: UdpSocket,
    pub(crate) down: UdpSocket,
    pub(crate) eui: [u8; 8],
    token: u16,
}

impl Forwarder {
    fn new(agent: SocketAddr, eui: [u8; 8]) -> Forwarder {
        let socket = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(agent).unwrap();
            socket
        };
        Forwarder { up: socket(), down: socket(), eui, token: 0x0100 * u16::from(eui[0]) }
    }

    pub(crate) fn datagram(&mut self, version: u8, identifier: u8, rest: &[u8]) -> Vec<u8> {
        self.token = self.token.wrapping_add(1);
        let [high, low] = self.token.to_be_bytes();
        [&[version, high, low, identifier], &self.eui[..], rest].concat()
    }

    /// Sends a PUSH_DATA and waits for its PUSH_ACK.
    pub(crate) fn push(&mut self, json: &[u8]) -> Vec<u8> {
        let datagram = self.datagram(2, PUSH_DATA, json);
        self.send_up(datagram)
    }

    /// Sends this one up and waits for the ACK.
    pub(crate) fn send_up(&mut self, datagram: Vec<u8>) -> Vec<u8> {
        self.up.send(&datagram).unwrap();
        assert_eq!(receive(&self.up).0, [&datagram[..3], &[PUSH_ACK]].concat());
        datagram
    }

    /// Sends a PULL_DATA and waits for its PULL_ACK.
    pub(crate) fn pull(&mut self) -> Vec<u8> {
        let datagram = self.datagram(2, PULL_DATA, b"");
        self.send_pull(datagram)
    }

    pub(crate) fn send_pull(&mut self, datagram: Vec<u8>) -> Vec<u8> {
        self.down.send(&datagram).unwrap();
        assert_eq!(receive(&self.down).0, [&datagram[..3], &[PULL_ACK]].concat());
        datagram
    }

    /// Waits for a downlink.
    pub(crate) fn downlink(&self) -> Vec<u8> {
        receive(&self.down).0
    }

    /// Says what became of a downlink: `json`, or nothing for a good one.
    pub(crate) fn tx_ack(&self, downlink: &[u8], json: &[u8]) -> Vec<u8> {
        let datagram = [&downlink[..3], &[TX_ACK], &self.eui, json].concat();
        self.down.send(&datagram).unwrap();
        datagram
    }

    /// Nothing has come that nobody waited for.
    pub(crate) fn has_heard_no_more(&self) {
        for socket in [&self.up, &self.down] {
            socket.set_nonblocking(true).unwrap();
            assert_eq!(socket.recv(&mut [0; 64]).unwrap_err().kind(), ErrorKind::WouldBlock);
            socket.set_nonblocking(false).unwrap();
        }
    }
}

/// A server that does nothing by itself.
pub(crate) struct Server(pub(crate) UdpSocket);

impl Server {
    pub(crate) fn new() -> Server {
        Server::at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub(crate) fn at(address: SocketAddr) -> Server {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Server(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Waits for a datagram that must be this one; who sent it.
    pub(crate) fn hears(&self, datagram: &[u8]) -> SocketAddr {
        let (heard, from) = receive(&self.0);
        assert_eq!(data_encoding::HEXLOWER.encode(&heard), data_encoding::HEXLOWER.encode(datagram));
        from
    }

    /// The same, and acknowledges it.
    pub(crate) fn acknowledges(&self, datagram: &[u8]) -> SocketAddr {
        let from = self.hears(datagram);
        let identifier = if datagram[3] == PUSH_DATA { PUSH_ACK } else { PULL_ACK };
        self.send(&[&datagram[..3], &[identifier]].concat(), from);
        from
    }

    pub(crate) fn send(&self, bytes: &[u8], to: SocketAddr) {
        self.0.send_to(bytes, to).unwrap();
    }

    /// Sends a downlink with this token; the datagram.
    pub(crate) fn sends_down(&self, token: [u8; 2], frequency: &str, to: SocketAddr) -> Vec<u8> {
        let json = format!(
            r#"{{"txpk":{{"imme":true,"freq":{frequency},"modu":"LORA","data":"YAECAwSAAAAB","x":[]}}}}"#
        );
        let datagram = [&[2], &token[..], &[PULL_RESP], json.as_bytes()].concat();
        self.send(&datagram, to);
        datagram
    }
}

/// Waits for a datagram.
pub(crate) fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 65_535];
    let (len, from) = socket.recv_from(&mut bytes).unwrap();
    bytes.truncate(len);
    (bytes, from)
}

/// A PUSH_DATA's JSON with one frame that nobody has heard before.
pub(crate) fn uplink(n: u8) -> String {
    let frame = data_encoding::BASE64.encode(&[0x40, 1, 2, 0x53, 2, 0, n, 0, 1, n, n, 9, 9, 9, 9]);
    format!(
        r#"{{"rxpk":[{{"tmst":{n}000,"chan":0,"rfch":0,"freq":868.1,"stat":1,"modu":"LORA","datr":"SF7BW125","codr":"4/5","rssi":-60,"lsnr":9.0,"size":15,"data":"{frame}"}}]}}"#
    )
}
