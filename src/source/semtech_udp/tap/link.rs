//! A socket to one server, for one gateway.
//!
//! It is connected: the kernel then takes datagrams from that server alone, and reports when nobody listens there. The server
//! knows the gateway by its port, as it would know a forwarder; that is why each gateway has one of its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::io::Errno;

use super::super::readiness::{Key, LinkKey, Readiness};
use crate::metrics::{SILENT_AFTER, TapDrop};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Link {
    socket: UdpSocket,
    peer: SocketAddr,
    /// Since when the server owes an answer, boot clock.
    owed_since_ns: Option<u64>,
}

impl Link {
    /// A socket to `peer`, reported as `key`.
    pub(super) fn open(peer: SocketAddr, key: LinkKey, readiness: &Readiness) -> io::Result<Link> {
        let any: IpAddr = match peer {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(peer)?;
        readiness.watch(&socket, Key::Link(key))?;
        Ok(Link { socket, peer, owed_since_ns: None })
    }

    /// Where it leads.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether it leads to the socket that forwarders send to, which is bound to `door`.
    pub(super) fn is_loop(&self, door: SocketAddr) -> bool {
        let is_ours = || {
            // To an address of its own a machine speaks from that address.
            let from = self.socket.local_addr().map(|from| from.ip().to_canonical());
            self.peer.ip().is_loopback() || from.is_ok_and(|from| from == self.peer.ip().to_canonical())
        };
        let is_door = self.peer.ip().to_canonical() == door.ip().to_canonical();
        self.peer.port() == door.port() && (is_door || (door.ip().is_unspecified() && is_ours()))
    }

    /// Gives a datagram to the network. An error may be that of an earlier one: then this one did not go out.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.socket.send(bytes).map(drop)
    }

    /// What has come from the server; an error may be that of a datagram that was sent.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(buffer)
    }

    /// The server has to answer what was just sent.
    pub(super) fn owes_since(&mut self, now_ns: u64) {
        self.owed_since_ns.get_or_insert(now_ns);
    }

    /// The server has answered.
    pub(super) fn has_answered(&mut self) {
        self.owed_since_ns = None;
    }

    /// Whether it has owed an answer for too long. Its socket then speaks from an address that this machine may no longer
    /// have: after a new lease, or over another interface.
    pub(super) fn is_silent(&self, now_ns: u64) -> bool {
        let owed_ns = self.owed_since_ns.map_or(0, |since| now_ns.saturating_sub(since));
        u128::from(owed_ns) > SILENT_AFTER.as_nanos()
    }
}

/// What an error of a socket means.
pub(super) fn reason_of(error: &io::Error) -> TapDrop {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => TapDrop::Refused,
        io::ErrorKind::WouldBlock => TapDrop::NoRoom,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable => TapDrop::Unreachable,
        _ if Errno::from_io_error(error) == Some(Errno::NOBUFS) => TapDrop::NoRoom,
        _ => TapDrop::Socket,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn a_loop_is_seen_whatever_the_source_listens_on() {
        let (readiness, _stopper) = Readiness::new().unwrap();
        let is_loop = |peer: &str, door: &str| {
            let key = LinkKey { gateway: 0, server: 0 };
            let link = Link::open(peer.parse().unwrap(), key, &readiness).unwrap();
            link.is_loop(door.parse().unwrap())
        };
        assert!(is_loop("127.0.0.1:1700", "127.0.0.1:1700"));
        assert!(is_loop("127.0.0.1:1700", "0.0.0.0:1700"));
        assert!(is_loop("127.8.8.8:1700", "0.0.0.0:1700"));
        assert!(is_loop("127.0.0.1:1700", "[::]:1700"));
        assert!(is_loop("127.0.0.1:1700", "[::ffff:127.0.0.1]:1700"));
        assert!(!is_loop("127.0.0.1:1680", "0.0.0.0:1700"));
        assert!(!is_loop("127.0.0.1:1700", "127.0.0.2:1700"));
    }

    #[test]
    fn a_link_is_silent_when_it_owes_for_too_long() {
        let (readiness, _stopper) = Readiness::new().unwrap();
        let key = LinkKey { gateway: 0, server: 0 };
        let mut link = Link::open("127.0.0.1:9".parse().unwrap(), key, &readiness).unwrap();
        assert!(!link.is_silent(u64::MAX), "nothing is owed");
        link.owes_since(1_000_000_000);
        link.owes_since(20_000_000_000);
        assert!(!link.is_silent(31_000_000_000));
        assert!(link.is_silent(31_000_000_001), "counted from the first");
        link.has_answered();
        assert!(!link.is_silent(u64::MAX));
    }

    #[test]
    fn errors_have_reasons() {
        for (errno, reason) in [
            (Errno::CONNREFUSED, TapDrop::Refused),
            (Errno::AGAIN, TapDrop::NoRoom),
            (Errno::NOBUFS, TapDrop::NoRoom),
            (Errno::NETUNREACH, TapDrop::Unreachable),
            (Errno::HOSTUNREACH, TapDrop::Unreachable),
            (Errno::NETDOWN, TapDrop::Unreachable),
            (Errno::ADDRNOTAVAIL, TapDrop::Unreachable),
            (Errno::MFILE, TapDrop::Socket),
            (Errno::PERM, TapDrop::Socket),
        ] {
            assert_eq!(reason_of(&errno.into()), reason, "{errno:?}");
        }
    }
}
