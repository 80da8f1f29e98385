//! What keeps a source that listens from starting.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// Why a source could not be started. Says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is not to be had.
    #[error("source {source_name}: can't listen on {} {listen}: {error}; {}",
        .transport.name(), next_step(.error, *.transport, *.listen))]
    Bind {
        /// Name of the source.
        source_name: Arc<str>,
        /// What it would have heard.
        transport: Transport,
        /// Where it should have listened.
        listen: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// The machine has no thread left.
    #[error("source {source_name}: can't start a thread: {error}; check free memory and the limit on tasks")]
    Thread {
        /// Name of the source.
        source_name: Arc<str>,
        /// What the kernel said.
        error: io::Error,
    },
}

/// What a source listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A packet forwarder's datagrams.
    Udp,
    /// Connections of whatever posts.
    Tcp,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
        }
    }
}

impl BindError {
    pub(super) fn udp(source_name: &Arc<str>, listen: SocketAddr, error: io::Error) -> BindError {
        BindError::Bind { source_name: Arc::clone(source_name), transport: Transport::Udp, listen, error }
    }

    pub(super) fn tcp(source_name: &Arc<str>, listen: SocketAddr, error: io::Error) -> BindError {
        BindError::Bind { source_name: Arc::clone(source_name), transport: Transport::Tcp, listen, error }
    }
}

fn next_step(error: &io::Error, transport: Transport, listen: SocketAddr) -> String {
    let port = listen.port();
    let (flag, other_end) = match transport {
        Transport::Udp => ('u', "the server port of the packet forwarder"),
        Transport::Tcp => ('t', "in whatever posts to it"),
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program holds the port: `ss -{flag}lpn 'sport = :{port}'` names it; stop it, or change `listen` here and \
             {other_end}"
        ),
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: `ip addr` lists those it has, 0.0.0.0 is all of them"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            format!("port {port} is not for this user: use one from 1024 up")
        }
        _ => "check `listen` of this source".to_owned(),
    }
}
