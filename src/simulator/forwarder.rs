//! The sending half: two sockets, as a packet forwarder has, and patience for the acknowledgements.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::Simulator;

/// How long a packet forwarder waits for a PUSH_ACK (`PUSH_TIMEOUT_MS` in `lora_pkt_fwd.c`).
pub const ACK_TIMEOUT: Duration = Duration::from_millis(100);

/// How many uplinks a packet forwarder puts into one datagram (`NB_PKT_MAX` of the older ones).
const PER_DATAGRAM: usize = 8;

const PUSH_ACK: u8 = 0x01;
const PULL_ACK: u8 = 0x04;

/// A packet forwarder that points to one agent. It blocks while it waits for acknowledgements.
#[derive(Debug)]
pub struct Forwarder {
    simulator: Simulator,
    up: UdpSocket,
    down: UdpSocket,
    ack_timeout: Duration,
}

/// What became of [`Forwarder::send_uplinks`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The frames, in the order they were sent in, acknowledged or not.
    pub phys: Vec<Vec<u8>>,
    /// How many of them were in a datagram that was acknowledged in time.
    pub acked: usize,
    /// How many were not. A forwarder never sends again.
    pub unacked: usize,
}

impl Forwarder {
    /// A forwarder of what `simulator` hears, to the agent at `agent`.
    ///
    /// # Errors
    /// If there is no socket to be had, or no way to that address.
    pub fn connect(agent: SocketAddr, simulator: Simulator, ack_timeout: Duration) -> io::Result<Forwarder> {
        let socket = || {
            let any = match agent {
                SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(agent)?;
            Ok::<_, io::Error>(socket)
        };
        Ok(Forwarder { simulator, up: socket()?, down: socket()?, ack_timeout })
    }

    /// Sends the next `n` uplinks, eight a datagram, and waits for each datagram's PUSH_ACK. An agent that does not answer,
    /// or is not there, makes them unacknowledged.
    ///
    /// # Errors
    /// If the socket fails in any other way.
    pub fn send_uplinks(&mut self, n: usize) -> io::Result<Sent> {
        let mut sent = Sent { phys: Vec::with_capacity(n), ..Sent::default() };
        while sent.phys.len() < n {
            let push = self.simulator.datagram((n - sent.phys.len()).min(PER_DATAGRAM));
            self.push(&push.bytes, push.phys, &mut sent)?;
        }
        Ok(sent)
    }

    /// Sends these frames, eight a datagram, and waits for each datagram's PUSH_ACK.
    ///
    /// # Errors
    /// As [`Forwarder::send_uplinks`].
    pub fn send_phys(&mut self, phys: &[Vec<u8>]) -> io::Result<Sent> {
        let mut sent = Sent { phys: Vec::with_capacity(phys.len()), ..Sent::default() };
        for phys in phys.chunks(PER_DATAGRAM) {
            let datagram = self.simulator.datagram_of(phys);
            self.push(&datagram, phys.to_vec(), &mut sent)?;
        }
        Ok(sent)
    }

    fn push(&self, datagram: &[u8], phys: Vec<Vec<u8>>, sent: &mut Sent) -> io::Result<()> {
        match ask(&self.up, datagram, PUSH_ACK, self.ack_timeout)? {
            true => sent.acked += phys.len(),
            false => sent.unacked += phys.len(),
        }
        sent.phys.extend(phys);
        Ok(())
    }

    /// Sends a PULL_DATA, as every forwarder does each few seconds, and says whether the PULL_ACK came.
    ///
    /// # Errors
    /// If the socket fails in any other way than an agent that is not there.
    pub fn pull(&mut self) -> io::Result<bool> {
        ask(&self.down, &self.simulator.pull_data(), PULL_ACK, self.ack_timeout)
    }
}

/// Sends `datagram` and says whether an answer with its version and token and with `identifier` came within `timeout`.
/// Whatever else arrives in the meantime, such as an answer that is late, is passed over.
fn ask(socket: &UdpSocket, datagram: &[u8], identifier: u8, timeout: Duration) -> io::Result<bool> {
    let Some(&[version, high, low, _]) = datagram.first_chunk() else { return Ok(false) };
    let until = Instant::now() + timeout;
    if !is_there(socket.send(datagram))? {
        return Ok(false);
    }
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        socket.set_read_timeout(Some(left))?;
        let mut answer = [0; 4];
        if !is_there(socket.recv(&mut answer))? {
            return Ok(false);
        }
        if answer == [version, high, low, identifier] {
            return Ok(true);
        }
    }
}

/// Whether there was somebody: a port that nobody listens on answers with ICMP, which the kernel reports as refused, and
/// silence ends with a time-out.
fn is_there(result: io::Result<usize>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Ok(false)
            }
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::simulator::SimulatorConfig;
    use crate::uplink::Eui64;

    fn forwarder(agent: SocketAddr) -> Forwarder {
        let config = SimulatorConfig { devices: 4, gateway_eui: Eui64([1; 8]), seed: 3 };
        Forwarder::connect(agent, Simulator::new(config), Duration::from_secs(10)).unwrap()
    }

    #[test]
    fn an_agent_that_is_not_there_is_no_error() {
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = nobody.local_addr().unwrap();
        drop(nobody);
        let mut forwarder = forwarder(address);
        let sent = forwarder.send_uplinks(9).unwrap();
        assert_eq!((sent.phys.len(), sent.acked, sent.unacked), (9, 0, 9));
        assert!(!forwarder.pull().unwrap());
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let agent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut forwarder = forwarder(agent.local_addr().unwrap());
        let answering = std::thread::spawn(move || {
            let mut bytes = [0; 65_535];
            for _ in 0..2 {
                let (len, from) = agent.recv_from(&mut bytes).unwrap();
                assert!(len > 12);
                let [version, high, low] = bytes[..3] else { panic!() };
                agent.send_to(&[version, high, low.wrapping_add(1), 1], from).unwrap();
                agent.send_to(&[version, high, low, 4], from).unwrap();
                agent.send_to(&[version, high, low, 1], from).unwrap();
            }
        });
        let sent = forwarder.send_uplinks(10).unwrap();
        assert_eq!((sent.phys.len(), sent.acked, sent.unacked), (10, 10, 0));
        answering.join().unwrap();
    }
}
