//! Where a server is.
//!
//! An address is itself. A name is looked up on a thread of its own, because the system's resolver may take minutes; nobody
//! waits for it, and its answer is taken with the next datagram. It is looked up again every [`RENEW_NS`], and sooner, but not
//! more often than every [`AGAIN_NS`], while it has no address or the one that is used does not do. An address that does is
//! kept for as long as the name has it, whatever the order of the answers; one that does not gives way to the next.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use crate::dial;

/// How often a name that does is looked up, in nanoseconds.
const RENEW_NS: u64 = 300_000_000_000;

/// How often one that does not.
const AGAIN_NS: u64 = 5_000_000_000;

type Found = io::Result<Vec<SocketAddr>>;

/// Looks a name up and says what it found, later.
type LookUp = Box<dyn Fn(String, SyncSender<Found>) -> io::Result<()> + Send>;

/// See the [module](self).
pub(super) struct Addresses {
    /// The one that is used first.
    known: Vec<SocketAddr>,
    lookup: Option<Lookup>,
}

struct Lookup {
    name: String,
    look_up: LookUp,
    /// The last one began then.
    began_ns: Option<u64>,
    running: Option<Receiver<Found>>,
    /// The next is urgent.
    hurry: bool,
}

impl Addresses {
    /// Of a `HOST:PORT` that the config has checked.
    pub(super) fn of(server: &str) -> Addresses {
        Addresses::looked_up_by(
            server,
            Box::new(|name, answer| {
                dial::look_up(name, move |found| {
                    // The source may have stopped meanwhile.
                    let _ = answer.send(found);
                })
            }),
        )
    }

    fn looked_up_by(server: &str, look_up: LookUp) -> Addresses {
        match server.parse() {
            Ok(address) => Addresses { known: vec![address], lookup: None },
            Err(_) => {
                let name = server.to_owned();
                let lookup = Lookup { name, look_up, began_ns: None, running: None, hurry: true };
                Addresses { known: Vec::new(), lookup: Some(lookup) }
            }
        }
    }

    /// The one to use now.
    pub(super) fn current(&mut self, now_ns: u64) -> Option<SocketAddr> {
        if let Some(lookup) = &mut self.lookup {
            if let Some(mut found) = lookup.finished() {
                let used = self.known.first();
                if let Some(at) = found.iter().position(|address| Some(address) == used) {
                    found.rotate_left(at);
                }
                self.known = found;
            }
            lookup.begin_if_due(now_ns);
        }
        self.known.first().copied()
    }

    /// `address` does not do: the next of them, if it is the one that is used.
    pub(super) fn turn_from(&mut self, address: SocketAddr) {
        if let Some(lookup) = &mut self.lookup
            && self.known.first() == Some(&address)
        {
            self.known.rotate_left(1);
            lookup.hurry = true;
        }
    }
}

impl Lookup {
    /// What was found, if a lookup has ended and found something.
    fn finished(&mut self) -> Option<Vec<SocketAddr>> {
        let found = match self.running.as_ref()?.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(io::ErrorKind::BrokenPipe.into()),
            Ok(found) => found,
        };
        self.running = None;
        match found {
            Ok(found) if !found.is_empty() => Some(found),
            Ok(_) => {
                self.hurry = true;
                None
            }
            Err(error) => {
                log::debug!("{}: {error}", self.name);
                self.hurry = true;
                None
            }
        }
    }

    fn begin_if_due(&mut self, now_ns: u64) {
        let wait = if self.hurry { AGAIN_NS } else { RENEW_NS };
        let is_due = self.began_ns.is_none_or(|began| now_ns.saturating_sub(began) >= wait);
        if self.running.is_some() || !is_due {
            return;
        }
        (self.began_ns, self.hurry) = (Some(now_ns), false);
        let (answer, answered) = sync_channel(1);
        match (self.look_up)(self.name.clone(), answer) {
            Ok(()) => self.running = Some(answered),
            Err(error) => {
                log::debug!("{}: {error}", self.name);
                self.hurry = true;
            }
        }
    }
}

impl std::fmt::Debug for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Addresses").field("known", &self.known).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use std::sync::{Arc, Mutex};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// The lookups that were asked for and not answered.
    #[derive(Clone, Default)]
    struct Names(Arc<Mutex<Vec<SyncSender<Found>>>>);

    impl Names {
        fn addresses(&self) -> Addresses {
            let asked = self.clone();
            Addresses::looked_up_by(
                "lns.example.com:1700",
                Box::new(move |name, answer| {
                    assert_eq!(name, "lns.example.com:1700");
                    asked.0.lock().unwrap().push(answer);
                    Ok(())
                }),
            )
        }

        fn asked(&self) -> usize {
            self.0.lock().unwrap().len()
        }

        fn answer(&self, found: &[u8]) {
            let found = found.iter().map(|n| address(*n)).collect();
            self.0.lock().unwrap().remove(0).send(Ok(found)).unwrap();
        }

        fn fail(&self) {
            self.0.lock().unwrap().remove(0).send(Err(io::ErrorKind::NotFound.into())).unwrap();
        }
    }

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 1700))
    }

    #[test]
    fn an_address_needs_no_lookup() {
        for (text, expected) in [("10.0.0.7:1700", address(7)), ("[::1]:9", "[::1]:9".parse().unwrap())] {
            let mut addresses =
                Addresses::looked_up_by(text, Box::new(|_, _| panic!("a lookup of an address")));
            assert_eq!(addresses.current(0), Some(expected));
            addresses.turn_from(expected);
            assert_eq!(addresses.current(900 * SECOND), Some(expected), "there is no other");
        }
    }

    #[test]
    fn a_name_is_asked_for_until_it_has_an_address() {
        let names = Names::default();
        let mut addresses = names.addresses();
        for now in [1, 900] {
            assert_eq!(addresses.current(now * SECOND), None);
            assert_eq!(names.asked(), 1, "one at a time, however long it takes");
        }
        names.fail();
        assert_eq!(
            (addresses.current(900 * SECOND), names.asked()),
            (None, 1),
            "long enough since the first"
        );
        names.answer(&[]);
        assert_eq!((addresses.current(904 * SECOND), names.asked()), (None, 0), "too soon");
        assert_eq!((addresses.current(905 * SECOND), names.asked()), (None, 1));
        names.answer(&[1, 2]);
        assert_eq!(addresses.current(906 * SECOND), Some(address(1)));
    }

    #[test]
    fn an_address_that_does_is_kept_while_the_name_has_it() {
        let names = Names::default();
        let mut addresses = names.addresses();
        addresses.current(0);
        names.answer(&[1, 2]);
        assert_eq!((addresses.current(299 * SECOND), names.asked()), (Some(address(1)), 0));
        addresses.current(300 * SECOND);
        names.answer(&[2, 3, 1]);
        assert_eq!(addresses.current(300 * SECOND), Some(address(1)));
        addresses.current(600 * SECOND);
        names.fail();
        assert_eq!(addresses.current(601 * SECOND), Some(address(1)), "better an old address than none");
        addresses.current(605 * SECOND);
        names.answer(&[3, 2]);
        assert_eq!(addresses.current(605 * SECOND), Some(address(3)));
    }

    #[test]
    fn an_address_that_does_not_gives_way_to_the_next() {
        let names = Names::default();
        let mut addresses = names.addresses();
        addresses.current(0);
        names.answer(&[1, 2, 3]);
        addresses.current(SECOND);
        addresses.turn_from(address(1));
        addresses.turn_from(address(1));
        assert_eq!(addresses.current(2 * SECOND), Some(address(2)), "told by two gateways, turned once");
        assert_eq!(
            (addresses.current(5 * SECOND), names.asked()),
            (Some(address(2)), 1),
            "and looked up soon"
        );
        names.answer(&[1, 2, 3]);
        assert_eq!(addresses.current(6 * SECOND), Some(address(2)));
    }
}
