//! What bytes go over between ureq and a server: a socket, alone or under TLS.
//!
//! ```text
//!   ureq ──head──┐                       ┌── TLS ──┐
//!        ──body──┴─> gathered, then once ┴─────────┴─> Socket ──> network
//! ```
//!
//! ureq hands over the head of a request and its body one after the other, and asks for the answer then. What it hands over
//! is gathered and sent when the answer is asked for or the buffer is half full: a small request is one packet and one TLS
//! record instead of two, which a metered link pays for and a server is woken by.
//!
//! Invariants:
//! - Nothing that was gathered is left when an answer is waited for.
//! - No read and no write waits longer than the time it was given, [`SLACK`] apart.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use rustls::{ClientConnection, StreamOwned};
use ureq::Timeout;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};

use super::failure::Stumble;

/// A timeout of the system that is longer by at most this part of it is left as it is: each change is a system call.
const SLACK: u32 = 16;

/// The least that an address gets of the time to connect.
const MIN_CONNECT: Duration = Duration::from_millis(10);

/// A connected socket that reads and writes within a time.
pub(super) struct Socket {
    /// Shared with the agent, which shuts it down when it is to stop.
    stream: Arc<TcpStream>,
    until: Option<Instant>,
    /// What ureq calls the time that is up.
    reason: Timeout,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl Socket {
    /// Connects to the first address that answers. Each but the last gets half of the time that is left; what is left at the
    /// end is the limit of a handshake.
    pub(super) fn connect(details: &ConnectionDetails<'_>) -> Result<Socket, ureq::Error> {
        let until = details.timeout.not_zero().map(|budget| Instant::now() + *budget);
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let mut addresses = details.addrs.iter().peekable();
        while let Some(address) = addresses.next() {
            let share = until.map(|until| {
                let left = until.saturating_duration_since(Instant::now());
                if addresses.peek().is_some() { left / 2 } else { left }.max(MIN_CONNECT)
            });
            match connected(address, share) {
                Ok(stream) => {
                    stream.set_nodelay(details.config.no_delay()).map_err(Stumble::Connect)?;
                    let stream = Arc::new(stream);
                    (details.register_shutdown)(Arc::downgrade(&stream) as Weak<dyn ShutdownHandle>)?;
                    return Ok(Socket {
                        stream,
                        until,
                        reason: details.timeout.reason,
                        read_timeout: None,
                        write_timeout: None,
                    });
                }
                Err(error) => failed = error,
            }
        }
        Err(match failed.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Stumble::ConnectTimeout,
            _ => Stumble::Connect(failed),
        }
        .into())
    }

    /// How long what comes next may take.
    pub(super) fn limit(&mut self, timeout: NextTimeout) {
        self.until = timeout.not_zero().map(|after| Instant::now() + *after);
        self.reason = timeout.reason;
    }

    /// Whether the other side keeps it open and has sent nothing that nobody asked for.
    fn is_open(&self) -> bool {
        let asked = rustix::net::recv(&self.stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        matches!(asked, Err(rustix::io::Errno::WOULDBLOCK))
    }

    /// The timeout to be set before a call, if the one that is set will not do.
    fn timeout(&self, set: Option<Duration>) -> io::Result<Option<Duration>> {
        let Some(until) = self.until else { return Ok(None) };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.time_is_up());
        }
        let will_do = set.is_some_and(|set| set >= left && set - left <= left / SLACK);
        Ok((!will_do).then_some(left))
    }

    fn time_is_up(&self) -> io::Error {
        ureq::Error::Timeout(self.reason).into_io()
    }

    fn ended<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.time_is_up(),
            _ => error,
        })
    }
}

fn connected(address: &SocketAddr, within: Option<Duration>) -> io::Result<TcpStream> {
    match within {
        Some(within) => TcpStream::connect_timeout(address, within),
        None => TcpStream::connect(address),
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(left) = self.timeout(self.read_timeout)? {
            self.stream.set_read_timeout(Some(left))?;
            self.read_timeout = Some(left);
        }
        let read = (&*self.stream).read(into);
        self.ended(read)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(left) = self.timeout(self.write_timeout)? {
            self.stream.set_write_timeout(Some(left))?;
            self.write_timeout = Some(left);
        }
        let written = (&*self.stream).write(bytes);
        self.ended(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Something over a socket.
pub(super) trait OverSocket: Read + Write + Send + Sync + 'static {
    const IS_TLS: bool;
    fn socket(&mut self) -> &mut Socket;
}

impl OverSocket for Socket {
    const IS_TLS: bool = false;

    fn socket(&mut self) -> &mut Socket {
        self
    }
}

impl OverSocket for StreamOwned<ClientConnection, Socket> {
    const IS_TLS: bool = true;

    fn socket(&mut self) -> &mut Socket {
        &mut self.sock
    }
}

/// A connection as ureq wants it.
pub(super) struct Gathering<S> {
    stream: S,
    buffers: Gathered,
}

impl<S: OverSocket> Gathering<S> {
    pub(super) fn new(stream: S, details: &ConnectionDetails<'_>) -> Gathering<S> {
        let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
        Gathering { stream, buffers: Gathered { buffers: LazyBuffers::new(input, output), gathered: 0 } }
    }

    fn send(&mut self, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.socket().limit(timeout);
        self.stream.write_all(self.buffers.take())?;
        // A write of TLS reports the errors of the one before it; a flush reports its own.
        self.stream.flush()?;
        Ok(())
    }
}

impl<S: OverSocket> Transport for Gathering<S> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        if self.buffers.add(amount) { Ok(()) } else { self.send(timeout) }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        if self.buffers.gathered > 0 {
            self.send(timeout)?;
        }
        self.stream.socket().limit(timeout);
        let read = loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.socket().is_open()
    }

    fn is_tls(&self) -> bool {
        S::IS_TLS
    }
}

impl<S> fmt::Debug for Gathering<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathering").field("buffers", &self.buffers).finish_non_exhaustive()
    }
}

/// ureq's buffers, of which the beginning of the output is taken.
#[derive(Debug)]
struct Gathered {
    buffers: LazyBuffers,
    gathered: usize,
}

impl Gathered {
    /// Adds what was written to the output; false if there should be no more of it.
    fn add(&mut self, amount: usize) -> bool {
        self.gathered += amount;
        self.gathered <= self.buffers.output().len() / 2
    }

    fn take(&mut self) -> &[u8] {
        let gathered = std::mem::take(&mut self.gathered);
        self.buffers.output().get(..gathered).unwrap_or_default()
    }
}

impl Buffers for Gathered {
    fn output(&mut self) -> &mut [u8] {
        self.buffers.output().get_mut(self.gathered..).unwrap_or_default()
    }

    fn input(&self) -> &[u8] {
        self.buffers.input()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.buffers.input_append_buf()
    }

    fn input_appended(&mut self, amount: usize) {
        self.buffers.input_appended(amount);
    }

    fn input_consume(&mut self, amount: usize) {
        self.buffers.input_consume(amount);
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        let (tmp, output) = self.buffers.tmp_and_output();
        (tmp, output.get_mut(self.gathered..).unwrap_or_default())
    }

    fn can_use_input(&self) -> bool {
        self.buffers.can_use_input()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::net::TcpListener;

    use crate::dial::{BUFFER_BYTES, HttpConnector, Limits};

    /// Posts `size` bytes to a server that is given what each of its reads returned, and answers once it has all.
    fn reads_of_a_post(size: usize) -> Vec<usize> {
        use std::io::{Read as _, Write as _};

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut all, mut reads) = (Vec::new(), Vec::new());
            let mut chunk = [0; 4 * BUFFER_BYTES];
            while !all.ends_with(b"end") {
                let read = stream.read(&mut chunk).unwrap();
                assert!(read > 0, "it was closed early");
                all.extend(&chunk[..read]);
                reads.push(read);
            }
            assert!(all.starts_with(b"POST / HTTP/1.1\r\n"));
            assert!(all.len() > size);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            reads
        });
        let limits = Limits { timeout: std::time::Duration::from_secs(20), connections: 1 };
        let mut body = vec![b'x'; size];
        body[size - 3..].copy_from_slice(b"end");
        let answer = limits.agent(&HttpConnector::plain()).post(url).send(&body[..]).unwrap();
        assert_eq!(answer.status(), 200);
        server.join().unwrap()
    }

    #[test]
    fn a_small_request_goes_out_in_one_piece_and_a_large_one_whole() {
        assert_eq!(reads_of_a_post(640).len(), 1);
        reads_of_a_post(BUFFER_BYTES / 2);
        reads_of_a_post(BUFFER_BYTES);
        reads_of_a_post(10 * BUFFER_BYTES + 1);
    }
}
