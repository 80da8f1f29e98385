//! How far one gets towards a far end, for `doctor`: name, TCP, TLS, and no word of any protocol above them.
//!
//! Where the handshake fails because nobody we trust has signed, the far end is asked once more who did: by a handshake that
//! is broken off as soon as the certificates are there, that trusts nobody and shows no certificate of ours.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use crate::clock::Clock;
use crate::delivery::outcome::Failure;

use super::certificate::Certificate;
use super::failure::{handshake_failure, io_failure, lookup_failure};
use super::{Peer, TlsSource};

/// How long each step may take.
const STEP: Duration = Duration::from_secs(8);

/// How long a far end may take to refuse us after all.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A far end, as it is dialled.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// Who.
    pub(crate) peer: Peer,
    /// By which certificates are judged.
    pub(crate) clock: Arc<dyn Clock>,
    /// With these settings, and the name that the certificate must hold; `None`: in clear.
    pub(crate) tls: Option<(TlsSource, ServerName<'static>)>,
}

/// How far one got.
#[derive(Debug)]
pub(crate) struct Reached {
    /// The addresses of the name, and how long that took; where the host is an address, itself.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) lookup: Duration,
    /// From the connect to the end of the handshake.
    pub(crate) took: Duration,
    /// The far end's own certificate.
    pub(crate) certificate: Option<Certificate>,
}

/// Why one got no further.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) failure: Failure,
    /// Who signed what the far end shows, where we trust nobody who did.
    pub(crate) issuer: Option<String>,
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Stopped {
        Stopped { failure, issuer: None }
    }
}

impl Reach {
    /// Connects, and leaves again.
    pub(crate) fn try_it(&self) -> Result<Reached, Stopped> {
        let started = Instant::now();
        let addresses = self.look_up()?;
        let (lookup, started) = (started.elapsed(), Instant::now());
        let mut stream = self.connect(&addresses)?;
        let mut certificate = None;
        if let Some((source, name)) = &self.tls {
            certificate = self.shake_hands(&mut stream, source.current(), name).map_err(|error| {
                let failure = handshake_failure(&error, &self.peer, &*self.clock);
                Stopped {
                    failure,
                    issuer: has_other_issuer(&error).then(|| self.issuer(&addresses)).flatten(),
                }
            })?;
        }
        Ok(Reached { addresses, lookup, took: started.elapsed(), certificate })
    }

    /// The system's resolver can't be told to stop; a look-up that hangs keeps its thread.
    fn look_up(&self) -> Result<Vec<SocketAddr>, Failure> {
        let (host, port) = (self.peer.host.trim_matches(['[', ']']).to_owned(), self.peer.port);
        let (answer, answered) = mpsc::sync_channel(1);
        let look = move || {
            let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
            // Nobody waits any more when it took too long.
            let _ = answer.send(found);
        };
        let started = std::thread::Builder::new().name("lookup".to_owned()).spawn(look);
        started.map_err(|error| lookup_failure(&error.to_string(), &self.peer))?;
        match answered.recv_timeout(STEP) {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(lookup_failure(&error.to_string(), &self.peer)),
            Err(_) => Err(lookup_failure("no answer from DNS in time", &self.peer)),
        }
    }

    /// By the first address that answers.
    fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
        let mut last = std::io::Error::from(std::io::ErrorKind::HostUnreachable);
        for address in addresses {
            match TcpStream::connect_timeout(address, STEP) {
                Ok(stream) => {
                    let timed = stream.set_read_timeout(Some(STEP)).and(stream.set_write_timeout(Some(STEP)));
                    timed.map_err(|error| io_failure(&error, &self.peer, &*self.clock))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(io_failure(&last, &self.peer, &*self.clock))
    }

    fn shake_hands(
        &self,
        stream: &mut TcpStream,
        config: Arc<ClientConfig>,
        name: &ServerName<'static>,
    ) -> std::io::Result<Option<Certificate>> {
        let mut connection = ClientConnection::new(config, name.clone()).map_err(std::io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(stream)?;
        }
        // In TLS 1.3 a far end that wants another certificate of ours says so only after the handshake.
        stream.set_read_timeout(Some(LAST_WORD))?;
        if connection.read_tls(stream).is_ok_and(|n| n > 0) {
            connection.process_new_packets().map_err(std::io::Error::other)?;
        }
        let own = connection.peer_certificates().and_then(|chain| chain.first());
        let certificate = own.and_then(|der| Certificate::read(der));
        connection.send_close_notify();
        // Whether it hears the goodbye does not matter.
        let _ = connection.complete_io(stream);
        Ok(certificate)
    }

    /// Who signed the last certificate of the chain.
    fn issuer(&self, addresses: &[SocketAddr]) -> Option<String> {
        let (_, name) = self.tls.as_ref()?;
        let seen = Arc::new(Onlooker::default());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&seen) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        let mut stream = self.connect(addresses).ok()?;
        // It fails by design; what counts is what was seen.
        let _ = self.shake_hands(&mut stream, Arc::new(config), name);
        let seen = seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().map(|last| last.issuer.clone())
    }
}

/// A CA of the right name with another key is another CA.
fn has_other_issuer(error: &std::io::Error) -> bool {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(error)) = tls else { return false };
    matches!(error, CertificateError::UnknownIssuer | CertificateError::BadSignature)
}

fn only_looked_at() -> rustls::Error {
    rustls::Error::General("only looked at".to_owned())
}

/// Looks at the certificates and refuses them, whatever they are: the last of the chain is remembered.
#[derive(Debug, Default)]
struct Onlooker(Mutex<Option<Certificate>>);

impl ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let last = intermediates.last().unwrap_or(end_entity);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Certificate::read(last);
        Err(only_looked_at())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_looked_at())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_looked_at())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
