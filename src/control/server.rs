//! The agent's end of the control socket.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::orders::{Asked, Order};
use super::status::StatusSource;

/// RULES S35.
const CONNECTIONS: usize = 8;
const HEAD_BYTES: usize = 2_048;
const REQUEST_TIME: Duration = Duration::from_secs(5);

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

    /// Answers until dropped.
    pub async fn serve(&self, status: Arc<StatusSource>, orders: mpsc::Sender<Asked>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (status, orders) = (Arc::clone(&status), orders.clone());
                    tokio::spawn(async move {
                        let answered =
                            tokio::time::timeout(REQUEST_TIME, answer(stream, &status, &orders)).await;
                        if !matches!(answered, Ok(Ok(()))) {
                            log::debug!("control: a request was broken off");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    log::warn!("control: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
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

async fn answer(
    mut stream: UnixStream,
    status: &StatusSource,
    orders: &mpsc::Sender<Asked>,
) -> io::Result<()> {
    let head = read_head(&mut stream).await?;
    let (code, body) = match request_of(&head) {
        Some(("GET", "/status")) => ("200 OK", status.snapshot().to_string()),
        Some(("POST", "/reload")) => ordered(orders, Order::Reload).await,
        Some((_, "/status")) => ("405 Method Not Allowed", error_body("only GET is allowed here")),
        Some(_) => ("404 Not Found", error_body("this version answers GET /status")),
        None => ("400 Bad Request", error_body("not an HTTP/1.1 request")),
    };
    let head = format!(
        "HTTP/1.1 {code}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

async fn ordered(orders: &mpsc::Sender<Asked>, order: Order) -> (&'static str, String) {
    let (reply, answer) = oneshot::channel();
    let gone = Err("the agent is stopping".to_owned());
    let answer = match orders.send(Asked { order, reply }).await {
        Ok(()) => answer.await.unwrap_or(gone),
        Err(_) => gone,
    };
    match answer {
        Ok(text) => ("200 OK", serde_json::json!({ "changed": text }).to_string()),
        Err(why) => ("409 Conflict", error_body(&why)),
    }
}

async fn read_head(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut buffer = [0u8; 512];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() <= HEAD_BYTES {
        match stream.read(&mut buffer).await? {
            0 => break,
            n => head.extend(buffer.iter().take(n)),
        }
    }
    Ok(head)
}

/// Method and path of a request.
fn request_of(head: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(head).ok()?;
    let mut words = text.lines().next()?.split(' ');
    let (method, path, version) = (words.next()?, words.next()?, words.next()?);
    (version.starts_with("HTTP/1.") && text.contains("\r\n\r\n") && head.len() <= HEAD_BYTES)
        .then_some((method, path))
}

fn error_body(message: &str) -> String {
    serde_json::json!({ "error": message }).to_string()
}
