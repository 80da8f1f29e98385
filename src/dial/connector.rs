//! How ureq gets a connection: TCP, and TLS with our own settings on top.
//!
//! ureq's stock connector knows no ALPN, no time floor and no change of certificates, so this one takes the rustls config
//! from a [`TlsSource`] at every new connection. An error that happens here is tagged with the step it happened in: ureq
//! itself does not say whether a connection broke in the handshake or after it, and a person wants to know.
//!
//! The budget is one for the whole connect (`timeout_connect`): what TCP used up, the handshake has no more.

use std::fmt;
use std::io::{Read as _, Write as _};

use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, TcpConnector, Transport,
    TransportAdapter,
};

use super::TlsSource;
use super::failure::Stumble;

/// Connects the client of one integration.
#[derive(Debug)]
pub(crate) struct HttpConnector {
    tcp: TcpConnector,
    /// `None`: the URL says http.
    tls: Option<(TlsSource, ServerName<'static>)>,
}

impl HttpConnector {
    /// Connects in clear.
    pub(crate) fn plain() -> HttpConnector {
        HttpConnector { tcp: TcpConnector::default(), tls: None }
    }

    /// What it connects with, for TLS.
    pub(crate) fn tls(&self) -> Option<&(TlsSource, ServerName<'static>)> {
        self.tls.as_ref()
    }

    /// Connects with TLS, and accepts only a certificate for `name`.
    pub(crate) fn secure(source: TlsSource, name: ServerName<'static>) -> HttpConnector {
        HttpConnector { tcp: TcpConnector::default(), tls: Some((source, name)) }
    }
}

impl Clone for HttpConnector {
    fn clone(&self) -> HttpConnector {
        HttpConnector { tcp: TcpConnector::default(), tls: self.tls.clone() }
    }
}

impl Connector<()> for HttpConnector {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let connected = self.tcp.connect(details, None::<()>).map_err(Stumble::connecting)?;
        let transport: Box<dyn Transport> = Box::new(connected.ok_or(ureq::Error::ConnectionFailed)?);
        match &self.tls {
            // ureq itself refuses https over a transport that is not TLS.
            None => Ok(Some(transport)),
            Some((source, name)) => {
                Ok(Some(Box::new(TlsTransport::shake_hands(transport, source, name, details)?)))
            }
        }
    }
}

struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl TlsTransport {
    fn shake_hands(
        transport: Box<dyn Transport>,
        source: &TlsSource,
        name: &ServerName<'static>,
        details: &ConnectionDetails<'_>,
    ) -> Result<TlsTransport, ureq::Error> {
        let mut conn = ClientConnection::new(source.current(), name.clone()).map_err(Stumble::Tls)?;
        let mut sock = TransportAdapter::new(transport, details.current_time.clone());
        sock.set_timeout(remaining(details));
        conn.complete_io(&mut sock).map_err(Stumble::shaking_hands)?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(TlsTransport { buffers, stream: StreamOwned { conn, sock } })
    }
}

/// The connect budget, less what is spent.
fn remaining(details: &ConnectionDetails<'_>) -> NextTimeout {
    let mut timeout = details.timeout;
    if let (Duration::Exact(budget), Instant::Exact(start), Instant::Exact(now)) =
        (timeout.after, details.now, (details.current_time)())
    {
        timeout.after = Duration::Exact(budget.saturating_sub(now.saturating_duration_since(start)));
    }
    timeout
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let output = self.buffers.output().get(..amount).ok_or(ureq::Error::ConnectionFailed)?;
        self.stream.write_all(output)?;
        // A write reports the errors of the one before it; a flush reports its own.
        self.stream.flush()?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTransport").field("over", self.stream.sock.inner()).finish_non_exhaustive()
    }
}
