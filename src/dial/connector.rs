//! How ureq gets a connection: TCP, and TLS with our own settings on top.
//!
//! ureq's stock connector knows no ALPN, no time floor and no change of certificates, so this one takes the rustls config
//! from a [`TlsSource`] at every new connection. An error that happens here is tagged with the step it happened in: ureq
//! itself does not say whether a connection broke in the handshake or after it, and a person wants to know.
//!
//! The budget is one for the whole connect (`timeout_connect`): what TCP used up, the handshake has no more.

use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use ureq::unversioned::transport::{ConnectionDetails, Connector, Transport};

use super::TlsSource;
use super::failure::Stumble;
use super::transport::{Gathering, Socket};

/// Connects the client of one integration.
#[derive(Clone, Debug)]
pub(crate) struct HttpConnector {
    /// `None`: the URL says http.
    tls: Option<(TlsSource, ServerName<'static>)>,
}

impl HttpConnector {
    /// Connects in clear.
    pub(crate) fn plain() -> HttpConnector {
        HttpConnector { tls: None }
    }

    /// What it connects with, for TLS.
    pub(crate) fn tls(&self) -> Option<&(TlsSource, ServerName<'static>)> {
        self.tls.as_ref()
    }

    /// Connects with TLS, and accepts only a certificate for `name`.
    pub(crate) fn secure(source: TlsSource, name: ServerName<'static>) -> HttpConnector {
        HttpConnector { tls: Some((source, name)) }
    }
}

impl Connector<()> for HttpConnector {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let mut socket = Socket::connect(details)?;
        let Some((source, name)) = &self.tls else {
            // ureq itself refuses https over a transport that is not TLS.
            return Ok(Some(Box::new(Gathering::new(socket, details))));
        };
        let mut conn = ClientConnection::new(source.current(), name.clone()).map_err(Stumble::Tls)?;
        conn.complete_io(&mut socket).map_err(Stumble::shaking_hands)?;
        Ok(Some(Box::new(Gathering::new(StreamOwned { conn, sock: socket }, details))))
    }
}
