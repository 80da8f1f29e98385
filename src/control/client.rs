//! The commands' end of the control socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// A healthy agent answers in milliseconds; one whose machine is out of breath still should within this.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer larger than this is not one of ours.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody there.
    #[error("no agent answers on {}: {error}; is it running? (`packhorse run`, or another --config)", .socket.display())]
    NoAgent {
        /// The socket.
        socket: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// Not allowed.
    #[error("{} is not for this user; use sudo, or join its group", .0.display())]
    Denied(PathBuf),
    /// It answered something else.
    #[error("the agent on {} gave no usable answer: {reason}", .socket.display())]
    BadAnswer {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// Asks for `path` and returns the JSON of the answer.
///
/// # Errors
/// See [`AskError`].
pub fn get(socket: &Path, path: &str) -> Result<Value, AskError> {
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => AskError::Denied(socket.to_owned()),
        _ => AskError::NoAgent { socket: socket.to_owned(), error },
    })?;
    let bad = |text: String| AskError::BadAnswer { socket: socket.to_owned(), reason: text };
    let answer = exchange(&mut stream, path).map_err(|error| bad(error.to_string()))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| bad("it is cut short".into()))?;
    let value: Value = serde_json::from_str(body).map_err(|error| bad(error.to_string()))?;
    if head.starts_with("HTTP/1.1 200 ") {
        Ok(value)
    } else {
        Err(bad(value.get("error").and_then(Value::as_str).unwrap_or("an unknown error").to_owned()))
    }
}

fn exchange(stream: &mut UnixStream, path: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: packhorse\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}
