//! The agent's end of the control socket.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{self, Answer};
use super::api::Api;
use super::request::{HEAD_BYTES, Request};

/// RULES S35.
pub(super) const CONNECTIONS: usize = 8;

/// How long a request may take to arrive, and likewise its answer to leave. What is asked takes the time that it takes.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(5);

/// Read and write for owner and group.
const MODE: u32 = 0o660;

/// Why the socket can't be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers there.
    #[error("another agent answers on {}; stop it first, or give this one a control.socket of its own", .0.display())]
    InUse(PathBuf),
    /// Not a socket.
    #[error("{} exists and is not a socket; remove it or set control.socket to another path", .0.display())]
    NotASocket(PathBuf),
    /// It can't be made.
    #[error("cannot make the control socket {}: {error}; set control.socket to a folder that this user may write", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
}

/// The listening socket. Removed when dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Makes the socket, replacing one that a dead agent left behind.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(path: &Path) -> Result<Server, BindError> {
        let io_error = |error| BindError::Io { path: path.to_owned(), error };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(io_error)?;
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(BindError::NotASocket(path.to_owned()));
            }
            Ok(_) if StdUnixStream::connect(path).is_ok() => return Err(BindError::InUse(path.to_owned())),
            Ok(_) => fs::remove_file(path).map_err(io_error)?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(io_error)?;
        fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(io_error)?;
        Ok(Server { listener, path: path.to_owned() })
    }

    /// Answers until dropped; whoever watches is let go by that, too.
    pub async fn serve(&self, api: Api) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                    Ok((stream, _)) => _ = connections.spawn(serve_one(stream, api.clone())),
                    Err(error) => {
                        log::warn!("control: {error}");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                },
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Left behind, it is replaced by the next start.
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve_one(mut stream: UnixStream, api: Api) {
    let Ok(Ok(request)) = timeout(REQUEST_TIME, read_request(&mut stream)).await else {
        log::debug!("control: a request was broken off");
        return;
    };
    let answer = match &request {
        Some(request) => api.answer(request).await,
        None => Answer::bad("not an HTTP/1.1 request of at most 2 KiB"),
    };
    let sent = timeout(REQUEST_TIME, answer::send(&mut stream, &answer)).await;
    match answer {
        Answer::Lines(watching) if matches!(sent, Ok(Ok(()))) => watching.stream_to(stream).await,
        // Whoever has gone has no use for the rest.
        _ => _ = timeout(REQUEST_TIME, stream.shutdown()).await,
    }
}

/// Reads a request up to the end of its head; `None`: it is none.
pub(super) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    let mut buffer = [0u8; 512];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() <= HEAD_BYTES {
        match stream.read(&mut buffer).await? {
            0 => break,
            n => head.extend(buffer.iter().take(n)),
        }
    }
    Ok(Request::parse(&head))
}
