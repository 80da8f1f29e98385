//! Far ends that are broken in one way each.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};

/// Where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

/// Where packets vanish, as behind a firewall that drops them: the queue of the listener is full, and nobody takes anything
/// out of it. Lasts as long as what is returned.
pub(crate) struct BlackHole {
    pub(crate) address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    pub(crate) fn dig() -> BlackHole {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        // The kernel answers as long as there is room.
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            queued.push(stream);
        }
        BlackHole { address, _listener: listener, _queued: queued }
    }
}

/// Where connections are taken and nothing else happens: nobody calls accept.
pub(crate) fn silence() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).unwrap()
}

/// Reads something from whoever comes, answers with these bytes, and hangs up, or waits for the other side to.
pub(crate) fn answers(bytes: &[u8], hangs_up: bool) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (address, bytes) = (listener.local_addr().unwrap(), bytes.to_vec());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, bytes) = (stream.unwrap(), bytes.clone());
            std::thread::spawn(move || {
                // Whoever has hung up is not interested.
                let _ = stream.read(&mut [0; 4_096]);
                let _ = stream.write_all(&bytes);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                if !hangs_up {
                    let _ = stream.read_to_end(&mut Vec::new());
                }
            });
        }
    });
    address
}

/// A broker that answers CONNECT with this code, in MQTT 3.1.1 or 5, and stays.
pub(crate) fn connack(code: u8, is_v5: bool) -> SocketAddr {
    match is_v5 {
        true => answers(&[0x20, 3, 0, code, 0], false),
        false => answers(&[0x20, 2, 0, code], false),
    }
}
