//! One server that everything is passed on to, through a [`Link`] for each gateway.
//!
//! # Coming back
//!
//! A server that is away costs nothing but counters, and each datagram is a new try. What does not mend by itself is mended
//! here: a link that was not answered for half a minute is closed and opened anew with the next datagram, because its address
//! may no longer be ours; a server that answers nobody is looked for at the next address of its name.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use log::{info, warn};

use super::super::codec::Answer;
use super::super::readiness::{LinkKey, Readiness};
use super::addresses::Addresses;
use super::link::{Link, reason_of};
use crate::metrics::{SILENT_AFTER, TapCounters, TapDrop, TapState};
use crate::source::tally::Tally;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Server {
    counters: Arc<TapCounters>,
    addresses: Addresses,
    /// Where forwarders send to: what goes there goes in a circle.
    door: SocketAddr,
    troubles: [Tally; TapDrop::ALL.len()],
    /// What the log said last.
    told: TapState,
}

/// A datagram on its way to a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parcel<'b> {
    /// The datagram.
    pub(super) bytes: &'b [u8],
    /// Whether servers answer such ones.
    pub(super) is_answered: bool,
    /// Now, by the boot clock.
    pub(super) now_ns: u64,
    /// Where a new socket is watched.
    pub(super) readiness: &'b Readiness,
}

/// What was found at a link.
#[derive(Debug)]
pub(super) enum Received<'b> {
    /// Nothing, for now.
    Nothing,
    /// Something that ends here.
    Other,
    /// A PULL_RESP.
    Downlink {
        /// The datagram.
        bytes: &'b [u8],
        /// What its TX_ACK will echo, if it will have any.
        token: Option<[u8; 2]>,
    },
}

/// Why a server did not get a datagram.
struct Failure(TapDrop, Option<io::Error>);

impl Server {
    /// Begins to look for it.
    pub(super) fn new(counters: Arc<TapCounters>, door: SocketAddr, now_ns: u64) -> Server {
        let mut addresses = Addresses::of(counters.server());
        addresses.current(now_ns);
        Server { counters, addresses, door, troubles: Default::default(), told: TapState::Waiting }
    }

    /// Sends a datagram through `link`, which is opened if need be.
    pub(super) fn send(&mut self, link: &mut Option<Link>, key: LinkKey, parcel: Parcel<'_>) {
        match self.try_send(link, key, parcel) {
            Ok(()) => self.counters.forwarded(parcel.is_answered, parcel.now_ns),
            Err(Failure(reason, error)) => self.drop(reason, error.as_ref()),
        }
        if self.told != TapState::Silent && self.counters.state(parcel.now_ns) == TapState::Silent {
            self.told = TapState::Silent;
            warn!("{self} has not answered for {} s; it is tried on", SILENT_AFTER.as_secs());
        }
    }

    fn try_send(
        &mut self,
        place: &mut Option<Link>,
        key: LinkKey,
        parcel: Parcel<'_>,
    ) -> Result<(), Failure> {
        let link = self.ready(place, key, parcel)?;
        let mut sent = link.send(parcel.bytes);
        if let Err(error) = &sent
            && reason_of(error) == TapDrop::Refused
        {
            // The report on an earlier one; it kept this one from going out.
            self.refused(link.peer(), error);
            sent = link.send(parcel.bytes);
        }
        match sent {
            Ok(()) => {
                if parcel.is_answered {
                    link.owes_since(parcel.now_ns);
                }
                Ok(())
            }
            Err(error) => {
                let reason = reason_of(&error);
                if !matches!(reason, TapDrop::NoRoom | TapDrop::Refused) {
                    *place = None;
                }
                Err(Failure(reason, Some(error)))
            }
        }
    }

    /// The link that stands at `place` if it does, else a new one.
    fn ready<'l>(
        &mut self,
        place: &'l mut Option<Link>,
        key: LinkKey,
        parcel: Parcel<'_>,
    ) -> Result<&'l mut Link, Failure> {
        if let Some(silent) = place.take_if(|link| link.is_silent(parcel.now_ns))
            && self.counters.state(parcel.now_ns) == TapState::Silent
        {
            self.addresses.turn_from(silent.peer());
        }
        let peer = self.addresses.current(parcel.now_ns).ok_or(Failure(TapDrop::Unresolved, None))?;
        place.take_if(|link| link.peer() != peer);
        if place.is_none() {
            let open = |error: io::Error| match reason_of(&error) {
                TapDrop::Unreachable => Failure(TapDrop::Unreachable, Some(error)),
                _ => Failure(TapDrop::Socket, Some(error)),
            };
            *place = Some(Link::open(peer, key, parcel.readiness).map_err(open)?);
        }
        match place.take_if(|link| link.is_loop(self.door)) {
            Some(_) => Err(Failure(TapDrop::Loop, None)),
            None => place.as_mut().ok_or(Failure(TapDrop::Socket, None)),
        }
    }

    /// Takes what has come through `link`. An error closes it, unless it is about a datagram that was sent.
    pub(super) fn receive<'b>(
        &mut self,
        place: &mut Option<Link>,
        buffer: &'b mut [u8],
        now_ns: u64,
    ) -> Received<'b> {
        let Some(link) = place else { return Received::Nothing };
        match link.receive(buffer) {
            Ok(len) => {
                let bytes = buffer.get(..len).unwrap_or_default();
                let Some(answer) = Answer::read(bytes) else {
                    self.drop(TapDrop::BadAnswer, None);
                    return Received::Other;
                };
                link.has_answered();
                self.answered(answer, now_ns);
                return match answer {
                    Answer::Ack => Received::Other,
                    Answer::PullResp { token } => Received::Downlink { bytes, token },
                };
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Received::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if reason_of(&error) == TapDrop::Refused => self.refused(link.peer(), &error),
            Err(error) => {
                *place = None;
                self.drop(reason_of(&error), Some(&error));
            }
        }
        Received::Other
    }

    fn answered(&mut self, answer: Answer, now_ns: u64) {
        self.counters.answered();
        if answer == Answer::Ack {
            self.counters.acked(now_ns);
        }
        if self.told != TapState::Answers {
            self.told = TapState::Answers;
            info!("{self} answers");
        }
    }

    fn refused(&mut self, peer: SocketAddr, error: &io::Error) {
        self.addresses.turn_from(peer);
        self.drop(TapDrop::Refused, Some(error));
    }

    /// Counts a downlink that has reached its forwarder.
    pub(super) fn returned(&self) {
        self.counters.returned();
    }

    /// Counts what is not passed on, and says so now and then.
    pub(super) fn drop(&mut self, reason: TapDrop, error: Option<&io::Error>) {
        self.counters.dropped(reason);
        let Some(times) = self.troubles.get_mut(reason as usize).and_then(Tally::again) else { return };
        let error = error.map_or_else(String::new, |error| format!(" ({error})"));
        warn!("{self}: {}: {}{error} ({times} so far)", reason.as_str(), reason.explained());
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "source {}: forward_to {}", self.counters.source(), self.counters.server())
    }
}
