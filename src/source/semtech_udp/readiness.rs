//! What the thread waits for: its own socket, the sockets of the tap, and the word to stop.
//!
//! Level-triggered `epoll`: a socket that was not read empty is reported again at the next look, so nobody has to drain one
//! before the others get their turn. Without datagrams the thread sleeps until somebody sends one or stops it.

use std::io;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

/// How many ready sockets one look reports at most; the rest come with the next.
const AT_ONCE: usize = 32;

/// Who is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// The word to stop.
    Stop,
    /// The socket that forwarders send to.
    Door,
    /// A socket of the tap.
    Link(LinkKey),
}

/// A socket of the tap, by the places of its gateway and its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkKey {
    /// Among the gateways.
    pub(super) gateway: u16,
    /// Among the servers.
    pub(super) server: u16,
}

impl Key {
    fn pack(self) -> u64 {
        match self {
            Key::Stop => 0,
            Key::Door => 1,
            Key::Link(LinkKey { gateway, server }) => {
                let ([a, b], [c, d]) = (gateway.to_be_bytes(), server.to_be_bytes());
                u64::from_be_bytes([1, 0, 0, 0, a, b, c, d])
            }
        }
    }

    fn of(event: Event) -> Key {
        match event.data.u64() {
            0 => Key::Stop,
            1 => Key::Door,
            packed => {
                let [.., a, b, c, d] = packed.to_be_bytes();
                let (gateway, server) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                Key::Link(LinkKey { gateway, server })
            }
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Readiness(OwnedFd);

/// Who was ready at the last look.
pub(super) struct Ready(Vec<Event>);

/// Gives the word to stop.
#[derive(Debug)]
pub(super) struct Stopper(OwnedFd);

impl Readiness {
    /// Waits for nothing yet but the word to stop.
    pub(super) fn new() -> io::Result<(Readiness, Stopper)> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let readiness = Readiness(epoll::create(CreateFlags::CLOEXEC)?);
        readiness.watch(&stop, Key::Stop)?;
        Ok((readiness, Stopper(stop)))
    }

    /// Reports `socket` from now on, until it is closed.
    pub(super) fn watch(&self, socket: impl AsFd, key: Key) -> io::Result<()> {
        Ok(epoll::add(&self.0, socket, EventData::new_u64(key.pack()), EventFlags::IN)?)
    }

    /// Sleeps until somebody is ready. Nobody is, where a signal was what woke it.
    pub(super) fn wait(&self, ready: &mut Ready) -> io::Result<()> {
        ready.0.clear();
        match epoll::wait(&self.0, spare_capacity(&mut ready.0), None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Ready {
    /// Nobody yet.
    pub(super) fn none() -> Ready {
        Ready(Vec::with_capacity(AT_ONCE))
    }

    /// Each of them, once.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Key> + '_ {
        self.0.drain(..).map(Key::of)
    }
}

impl Stopper {
    /// Whoever waits is woken, now and at each further look.
    pub(super) fn stop(&self) {
        // It can't fail before 2^64 - 1 words were given.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn whoever_has_something_is_named_until_it_is_taken() {
        let (readiness, stopper) = Readiness::new().unwrap();
        let look = || {
            let mut ready = Ready::none();
            readiness.wait(&mut ready).unwrap();
            ready.take().collect::<Vec<_>>()
        };
        let link = Key::Link(LinkKey { gateway: 4_000, server: 65_535 });
        let watched = |key| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            readiness.watch(&socket, key).unwrap();
            socket
        };
        let (door, other) = (watched(Key::Door), watched(link));
        door.send_to(b"x", other.local_addr().unwrap()).unwrap();
        assert_eq!(look(), [link]);
        assert_eq!(look(), [link], "not taken yet");
        other.recv(&mut [0; 4]).unwrap();
        other.send_to(b"x", door.local_addr().unwrap()).unwrap();
        assert_eq!(look(), [Key::Door]);
        door.recv(&mut [0; 4]).unwrap();
        stopper.stop();
        assert_eq!(look(), [Key::Stop]);
        assert_eq!(look(), [Key::Stop], "once and for all");
    }
}
