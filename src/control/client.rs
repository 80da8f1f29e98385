//! The commands' end of the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// A healthy agent answers in milliseconds; one whose machine is out of breath still should within this.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer larger than this is not one of ours.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// The longest line of an answer that has no end.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// Why the agent could not be asked, or what it said instead.
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
    /// It answered, and did not do it.
    #[error("{message}")]
    Refused {
        /// The status code of the answer.
        status: u16,
        /// What it said.
        message: String,
    },
}

/// Asks for `path` and returns the JSON of the answer.
///
/// # Errors
/// See [`AskError`].
pub fn get(socket: &Path, path: &str) -> Result<Value, AskError> {
    ask(socket, "GET", path, PATIENCE)
}

/// Has something done that takes no longer than `patience`, and returns the JSON of the answer.
///
/// # Errors
/// See [`AskError`].
pub fn post(socket: &Path, path: &str, patience: Option<Duration>) -> Result<Value, AskError> {
    ask(socket, "POST", path, patience.unwrap_or(PATIENCE))
}

/// Asks for `path` and returns the lines of the answer, which come until the agent stops.
///
/// # Errors
/// See [`AskError`].
pub fn lines(socket: &Path, path: &str) -> Result<Lines, AskError> {
    let bad = |reason: &str| AskError::BadAnswer { socket: socket.to_owned(), reason: reason.to_owned() };
    let mut stream = BufReader::new(send(socket, "GET", path, PATIENCE)?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let more = (&mut stream)
            .take(MAX_LINE_BYTES)
            .read_line(&mut head)
            .map_err(|error| bad(&error.to_string()))?;
        if more == 0 {
            return Err(bad("it is cut short"));
        }
    }
    if status_of(&head) != Some(200) {
        let mut body = String::new();
        // What could not be read of the reason is missing from it.
        let _ = stream.take(MAX_ANSWER_BYTES).read_to_string(&mut body);
        return Err(refused(socket, &head, &body));
    }
    // From here on silence is no sign of trouble.
    stream.get_ref().set_read_timeout(None).map_err(|error| bad(&error.to_string()))?;
    Ok(Lines(stream))
}

/// Lines as they come.
#[derive(Debug)]
pub struct Lines(BufReader<UnixStream>);

impl Iterator for Lines {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = (&mut self.0).take(MAX_LINE_BYTES).read_line(&mut line);
        if read.ok()? == 0 { None } else { serde_json::from_str(&line).ok() }
    }
}

/// `text` fit for the query of a path.
pub fn escaped(text: &str) -> String {
    crate::render::percent_encode(text)
}

fn ask(socket: &Path, method: &str, path: &str, patience: Duration) -> Result<Value, AskError> {
    let bad = |reason: String| AskError::BadAnswer { socket: socket.to_owned(), reason };
    let stream = send(socket, method, path, patience)?;
    let mut answer = String::new();
    let read = stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer);
    read.map_err(|error| bad(error.to_string()))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| bad("it is cut short".into()))?;
    match status_of(head) {
        Some(200) => serde_json::from_str(body).map_err(|error| bad(error.to_string())),
        _ => Err(refused(socket, head, body)),
    }
}

fn send(socket: &Path, method: &str, path: &str, patience: Duration) -> Result<UnixStream, AskError> {
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => AskError::Denied(socket.to_owned()),
        _ => AskError::NoAgent { socket: socket.to_owned(), error },
    })?;
    let mut write = || {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: packhorse\r\nConnection: close\r\n\r\n")
    };
    write().map_err(|error| AskError::BadAnswer { socket: socket.to_owned(), reason: error.to_string() })?;
    Ok(stream)
}

fn status_of(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

fn refused(socket: &Path, head: &str, body: &str) -> AskError {
    let said = serde_json::from_str::<Value>(body).ok();
    let message = said.as_ref().and_then(|said| said.get("error")).and_then(Value::as_str);
    match (status_of(head), message) {
        (Some(status), Some(message)) => AskError::Refused { status, message: message.to_owned() },
        _ => AskError::BadAnswer { socket: socket.to_owned(), reason: "an unknown error".to_owned() },
    }
}
