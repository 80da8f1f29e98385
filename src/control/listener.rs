//! `[metrics] listen`: `/metrics` and `/healthz` by TCP, for monitoring; nothing else (RULES S35).
//!
//! A web page on somebody's laptop must not read them through that person's browser by giving this address to a name of
//! its own (DNS rebinding), so the `Host` that is asked for must be an address, `localhost` or the machine's own name.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{self, Answer};
use super::api::Api;
use super::server::{CONNECTIONS, REQUEST_TIME, read_request};

/// The address can't be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "metrics.listen: can't listen on TCP {listen}: {error}; `ss -tlnp` names who does, or choose another port"
)]
pub struct BindError {
    listen: SocketAddr,
    error: io::Error,
}

/// The listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
}

impl Listener {
    /// Listens.
    ///
    /// # Errors
    /// The address can't be had.
    pub async fn bind(listen: SocketAddr) -> Result<Listener, BindError> {
        match TcpListener::bind(listen).await {
            Ok(socket) => Ok(Listener { socket }),
            Err(error) => Err(BindError { listen, error }),
        }
    }

    /// Answers until dropped.
    pub async fn serve(self, api: Api) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = self.socket.accept(), if connections.len() < CONNECTIONS => match accepted {
                    Ok((stream, _)) => _ = connections.spawn(serve_one(stream, api.clone())),
                    Err(error) => {
                        log::warn!("metrics: {error}");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                },
            }
        }
    }
}

async fn serve_one(mut stream: TcpStream, api: Api) {
    let Ok(Ok(request)) = timeout(REQUEST_TIME, read_request(&mut stream)).await else { return };
    let answer = match &request {
        Some(request) if request.host.as_deref().is_some_and(is_ours) => api.answer_monitoring(request),
        Some(_) => Answer::error("421 Misdirected Request", "ask for an address or this machine's own name"),
        None => Answer::bad("not an HTTP/1.1 request of at most 2 KiB"),
    };
    let answered = async {
        answer::send(&mut stream, &answer).await?;
        stream.shutdown().await
    };
    // Whoever has gone has no use for the rest.
    let _ = timeout(REQUEST_TIME, answered).await;
}

/// Whether nobody else can have given us this name.
fn is_ours(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        // Of a bare IPv6 address the last group is no port, but it is in brackets here (RFC 9110, section 7.2).
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let own = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let name = name.to_lowercase();
    address.parse::<IpAddr>().is_ok() || name == "localhost" || name == own || name == format!("{own}.local")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s35_only_names_that_nobody_else_can_give_are_ours() {
        let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
        for host in [
            "127.0.0.1:9100",
            "192.0.2.7",
            "[::1]:9100",
            "localhost",
            "LOCALHOST:9100",
            &own,
            &format!("{own}.local:1"),
        ] {
            assert!(is_ours(host), "{host}");
        }
        for host in
            ["", "evil.example", "evil.example:9100", "127.0.0.1.evil.example", "localhost.evil.example:1"]
        {
            assert!(!is_ours(host), "{host}");
        }
    }
}
