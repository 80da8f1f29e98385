//! An HTTP endpoint that accepts everything and remembers it, for the demo and the tests.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::arrivals::{Arrival, Arrivals};

/// A request larger than this is not one of ours.
const MAX_BODY_BYTES: usize = 4 << 20;

/// A listening endpoint. Dropping it closes the port and every connection, as when a server goes away.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    arrivals: Arc<Arrivals>,
    tls: Option<Arc<rustls::ServerConfig>>,
    stopping: AtomicBool,
    /// What it answers; only what is answered with 200 counts as arrived.
    status: AtomicU16,
    open: Mutex<Vec<TcpStream>>,
}

impl Endpoint {
    /// Listens on `address`, with TLS if given, and adds what it accepts to `arrivals`.
    ///
    /// # Errors
    /// The port is taken, or the system has no thread left.
    pub fn start(
        address: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        arrivals: Arc<Arrivals>,
    ) -> io::Result<Endpoint> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            arrivals,
            tls,
            stopping: AtomicBool::new(false),
            status: AtomicU16::new(200),
            open: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("endpoint".into())
            .spawn(move || accept(&listener, &accepting))?;
        Ok(Endpoint { address, shared, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers with `status` from now on.
    pub fn answer_with(&self, status: u16) {
        self.shared.status.store(status, Ordering::Relaxed);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Wakes the accept call; whether it connects does not matter.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported; the port is closed either way.
            let _ = thread.join();
        }
        for stream in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // Already closed by the other side.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(copy) = stream.try_clone() else { continue };
        shared.open.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
        let shared = Arc::clone(shared);
        let serve = move || {
            // A connection that breaks is what the agent is tested against; there is nobody to tell.
            let _ = match &shared.tls {
                None => serve(stream, &shared),
                Some(tls) => rustls::ServerConnection::new(Arc::clone(tls))
                    .map_err(io::Error::other)
                    .and_then(|connection| serve(rustls::StreamOwned::new(connection, stream), &shared)),
            };
        };
        if std::thread::Builder::new().name("endpoint/connection".into()).spawn(serve).is_err() {
            return;
        }
    }
}

/// Answers requests of one connection until it ends.
fn serve<S: Read + Write>(stream: S, shared: &Shared) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(arrival) = read_request(&mut stream)? {
        let status = shared.status.load(Ordering::Relaxed);
        if status == 200 {
            shared.arrivals.add(arrival);
        }
        // In one piece: two small writes would wait for each other (Nagle's algorithm and a delayed ACK, 40 ms).
        let answer = format!("HTTP/1.1 {status} Answer\r\nContent-Length: 2\r\n\r\nok");
        stream.get_mut().write_all(answer.as_bytes())?;
        stream.get_mut().flush()?;
    }
    Ok(())
}

fn read_request(stream: &mut impl BufRead) -> io::Result<Option<Arrival>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let place = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut arrival = Arrival { place, key: None, headers, body: Vec::new(), redelivered: false };
    arrival.key = arrival.header("idempotency-key").map(str::to_owned);
    let length = arrival.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0usize);
    arrival.body = vec![0; length.min(MAX_BODY_BYTES)];
    stream.read_exact(&mut arrival.body)?;
    Ok(Some(arrival))
}
