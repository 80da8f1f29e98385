//! An HTTP/1.1 endpoint on a loopback port, in clear or with TLS, that answers what it is told to. Shared with the tests that
//! run the real binary (`tests/integrations`).

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::{Authority, Leaf};

/// Long enough that only a broken agent runs into it.
const PATIENCE: Duration = Duration::from_secs(120);

/// How the endpoint answers one request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// With these bytes.
    Text(String),
    /// With these bytes, and hangs up.
    Last(String),
    /// Not at all, until the client gives up.
    Silence,
    /// With a reset of the connection.
    Reset,
}

impl Reply {
    /// A status line with more headers (each with its CRLF) and a body.
    pub(crate) fn of(status: &str, headers: &str, body: &str) -> Reply {
        Reply::Text(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()))
    }
}

/// A request as it arrived.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// When.
    #[allow(dead_code, reason = "read by the tests that run the real binary")]
    pub(crate) at: Instant,
    /// Counts connections from 0.
    pub(crate) connection: usize,
    /// `None`: in clear.
    pub(crate) tls: Option<Session>,
}

/// What was agreed on in a TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// Whether it took up an old session.
    pub(crate) resumed: bool,
    /// The protocol chosen by ALPN.
    pub(crate) protocol: Option<String>,
    /// The name that was asked for (SNI).
    pub(crate) server_name: Option<String>,
    /// The client showed a certificate that was good.
    pub(crate) has_client_certificate: bool,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// The endpoint. Ends with its owner.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    received: mpsc::Receiver<Received>,
    stop: Arc<AtomicBool>,
}

struct Script {
    replies: Mutex<VecDeque<Reply>>,
    report: mpsc::Sender<Received>,
    tls: Option<Arc<ServerConfig>>,
}

impl Endpoint {
    pub(crate) fn plain(replies: Vec<Reply>) -> Endpoint {
        Endpoint::start(replies, None)
    }

    /// With `leaf`; asks for a client certificate of `clients` if there is one.
    pub(crate) fn secure(replies: Vec<Reply>, leaf: &Leaf, clients: Option<&Authority>) -> Endpoint {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.der()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let (chain, key) = leaf.der();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Endpoint::start(replies, Some(Arc::new(config)))
    }

    fn start(replies: Vec<Reply>, tls: Option<Arc<ServerConfig>>) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (report, received) = mpsc::channel();
        let script = Arc::new(Script { replies: Mutex::new(replies.into()), report, tls });
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            for (n, stream) in listener.incoming().enumerate() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (script, stream) = (Arc::clone(&script), stream.unwrap());
                thread::spawn(move || script.serve(n, stream));
            }
        });
        Endpoint { address, received, stop }
    }

    pub(crate) fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.address)
    }

    /// The next request; waits for it.
    pub(crate) fn received(&self) -> Received {
        self.received.recv_timeout(PATIENCE).unwrap()
    }

    /// Whether anything else has arrived.
    pub(crate) fn received_no_more(&self) -> bool {
        self.received.try_recv().is_err()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener; it may be gone already.
        let _ = TcpStream::connect(self.address);
    }
}

impl Script {
    fn serve(&self, connection: usize, stream: TcpStream) {
        let mut socket = stream.try_clone().unwrap();
        let Some(tls) = &self.tls else { return self.converse(connection, None, &socket, stream) };
        let mut conn = ServerConnection::new(Arc::clone(tls)).unwrap();
        let mut sock = stream;
        while conn.is_handshaking() {
            if conn.complete_io(&mut sock).is_err() {
                // The client is to read the alert, not a reset: so its bytes are taken before the socket closes.
                let _ = socket.shutdown(Shutdown::Write);
                let _ = socket.read_to_end(&mut Vec::new());
                return;
            }
        }
        let session = Session {
            resumed: conn.handshake_kind() == Some(HandshakeKind::Resumed),
            protocol: conn.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap()),
            server_name: conn.server_name().map(str::to_owned),
            has_client_certificate: conn.peer_certificates().is_some(),
        };
        self.converse(connection, Some(session), &socket, StreamOwned::new(conn, sock));
    }

    fn converse(
        &self,
        connection: usize,
        tls: Option<Session>,
        socket: &TcpStream,
        stream: impl Read + Write,
    ) {
        let mut stream = BufReader::new(stream);
        while let Some(request) = receive(&mut stream, connection, tls.clone()) {
            let _ = self.report.send(request);
            let reply = self.replies.lock().unwrap().pop_front().unwrap_or(Reply::Silence);
            let (text, is_last) = match reply {
                Reply::Text(text) => (text, false),
                Reply::Last(text) => (text, true),
                Reply::Silence => {
                    let _ = stream.read_to_end(&mut Vec::new());
                    return;
                }
                Reply::Reset => {
                    let at_once = Some(Duration::ZERO);
                    rustix::net::sockopt::set_socket_linger(socket, at_once).unwrap();
                    return;
                }
            };
            if stream.get_mut().write_all(text.as_bytes()).and_then(|()| stream.get_mut().flush()).is_err()
                || is_last
            {
                return;
            }
        }
    }
}

fn receive(stream: &mut impl BufRead, connection: usize, tls: Option<Session>) -> Option<Received> {
    let mut next = || {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|n| *n > 0).map(|_| line.trim_end().to_owned())
    };
    let line = next()?;
    let mut headers = Vec::new();
    while let Some((name, value)) = next()?.split_once(": ") {
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut received = Received { line, headers, body: Vec::new(), at: Instant::now(), connection, tls };
    let length = received.header("content-length").map_or(0, |text| text.parse().unwrap());
    received.body = vec![0; length];
    stream.read_exact(&mut received.body).ok()?;
    Some(received)
}
