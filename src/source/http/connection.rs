//! One connection of a client: requests one after the other, each read whole, judged and answered.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::metrics::DropReason;

use super::head::Head;
use super::uplinks::{self, Body};
use super::{Door, MAX_BODY_BYTES, Stop};

/// The longest head.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// How long a connection may stand idle between requests.
const IDLE_TIME: Duration = Duration::from_secs(15);

/// How long a head may take from its first byte, a body, and the writing of an answer.
const HEAD_TIME: Duration = Duration::from_secs(10);
const BODY_TIME: Duration = Duration::from_secs(30);
const WRITE_TIME: Duration = Duration::from_secs(10);

/// How long the spool may take.
const ACCEPT_TIME: Duration = Duration::from_secs(10);

/// How long, and how much, is still read of a body that was refused, so that the client reads the answer instead of a
/// reset.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Said when the spool, or the disk under it, is behind.
const BEHIND: &str = "uplinks come in faster than they are stored; `packhorse status` says why";

/// When a client should try again.
const RETRY_AFTER_S: u32 = 5;

/// What is answered.
#[derive(Debug)]
pub(super) struct Answer {
    status: &'static str,
    /// Further headers, each with its line end.
    headers: String,
    body: String,
}

impl Answer {
    pub(super) fn new(status: &'static str, body: String) -> Answer {
        Answer { status, headers: String::new(), body }
    }

    pub(super) fn error(status: &'static str, message: &str) -> Answer {
        Answer::new(status, serde_json::json!({ "error": message }).to_string())
    }

    fn with(mut self, header: &str) -> Answer {
        self.headers.push_str(header);
        self.headers.push_str("\r\n");
        self
    }

    fn try_again(status: &'static str, message: &str) -> Answer {
        Answer::error(status, message).with(&format!("Retry-After: {RETRY_AFTER_S}"))
    }
}

/// Why a connection ends.
enum End {
    /// The client, the time or the stop ended it.
    Closed,
    /// With a last word. What the client still sends is not read.
    Refused(Answer),
}

impl From<Answer> for End {
    fn from(answer: Answer) -> End {
        End::Refused(answer)
    }
}

/// Answers the requests of a connection until it ends.
pub(super) async fn serve(stream: TcpStream, from: SocketAddr, door: Arc<Door>, mut stop: Stop) {
    let mut connection = Connection { wire: Wire { stream, read: Vec::new() }, from, door: &door };
    let end = loop {
        let head = tokio::select! {
            head = connection.wire.head() => head,
            () = stop.stopped() => break End::Closed,
        };
        let answered = async {
            let head = Head::parse(&head?)?;
            let keep_alive = head.keep_alive;
            let answer = connection.judge(head).await?;
            // Whoever is told to stop says so with the answer.
            let keep_alive = keep_alive && !stop.is_stopped();
            match connection.wire.write(&answer, keep_alive).await {
                Ok(()) if keep_alive => Ok(()),
                _ => Err(End::Closed),
            }
        };
        if let Err(end) = answered.await {
            break end;
        }
    };
    if let End::Refused(answer) = end {
        connection.wire.last_word(&answer).await;
    }
}

struct Connection<'d> {
    wire: Wire,
    from: SocketAddr,
    door: &'d Door,
}

impl Connection<'_> {
    /// Everything between the head and the answer. An error ends the connection, because its body was not read.
    async fn judge(&mut self, head: Head) -> Result<Answer, End> {
        let length = self.admit(&head)?;
        let room = match timeout(ACCEPT_TIME, self.door.room_for(length)).await {
            Ok(room) => room,
            Err(_) => return Err(Answer::try_again("429 Too Many Requests", BEHIND).into()),
        };
        if head.expects_continue {
            self.wire.send(b"HTTP/1.1 100 Continue\r\n\r\n").await.map_err(|_| End::Closed)?;
        }
        let body = self.wire.body(length).await?;
        Ok(self.take(&body, head.idempotency_key.as_deref(), room).await)
    }

    /// What can be refused without the body; else its length.
    fn admit(&self, head: &Head) -> Result<usize, Answer> {
        if head.path != "/uplinks" {
            return Err(Answer::error("404 Not Found", "uplinks are posted to /uplinks"));
        }
        if head.method != "POST" {
            return Err(
                Answer::error("405 Method Not Allowed", "only POST is allowed here").with("Allow: POST")
            );
        }
        if self.door.token.as_ref().is_some_and(|token| !head.carries(token.expose())) {
            self.door.drop(DropReason::NotAllowed, self.from, "a request without the right token");
            let answer = Answer::error("401 Unauthorized", "send the header Authorization: Bearer TOKEN");
            return Err(answer.with("WWW-Authenticate: Bearer"));
        }
        if !head.is_json() {
            let message = "send the header Content-Type: application/json";
            return Err(Answer::error("415 Unsupported Media Type", message));
        }
        let Some(length) = head.content_length.filter(|_| !head.is_chunked) else {
            let message = "send the header Content-Length; chunks are not taken";
            return Err(Answer::error("411 Length Required", message));
        };
        if length > MAX_BODY_BYTES {
            self.door.drop(DropReason::Oversize, self.from, "a body that is too long");
            let message = format!("at most {MAX_BODY_BYTES} bytes are taken; send fewer uplinks at a time");
            return Err(Answer::error("413 Content Too Large", &message));
        }
        if !self.door.intake.is_open() {
            return Err(Answer::try_again("503 Service Unavailable", "the spool is being opened"));
        }
        Ok(length)
    }

    async fn take(&self, body: &[u8], key: Option<&str>, room: Option<OwnedSemaphorePermit>) -> Answer {
        let door = self.door;
        let Body { uplinks, other_events } = match uplinks::read(body, key, door.clock.now()) {
            Ok(body) => body,
            Err(refusal) => {
                door.drop(refusal.reason, self.from, &refusal.why);
                return refusal.answer;
            }
        };
        for _ in 0..other_events {
            door.drop(DropReason::OtherEvent, self.from, "an event other than an uplink");
        }
        if uplinks.is_empty() {
            return accepted(&[]);
        }
        let Some(answer) = door.intake.offer(&door.name, uplinks, room) else {
            return Answer::try_again("429 Too Many Requests", BEHIND);
        };
        match timeout(ACCEPT_TIME, answer).await {
            Ok(Ok(ids)) => accepted(&ids),
            Ok(Err(_)) => Answer::try_again("503 Service Unavailable", "the spool is closed"),
            Err(_) => Answer::try_again(
                "429 Too Many Requests",
                "the spool did not take it in time; `packhorse status` says why",
            ),
        }
    }
}

fn accepted(ids: &[uuid::Uuid]) -> Answer {
    let ids: Vec<String> = ids.iter().map(uuid::Uuid::to_string).collect();
    Answer::new("202 Accepted", serde_json::json!({ "accepted": ids.len(), "ids": ids }).to_string())
}

/// The bytes.
struct Wire {
    stream: TcpStream,
    /// Read and not used yet.
    read: Vec<u8>,
}

impl Wire {
    /// The next head, without its empty line. Safe to cancel.
    async fn head(&mut self) -> Result<Vec<u8>, End> {
        if self.read.is_empty() && !matches!(timeout(IDLE_TIME, self.more()).await, Ok(Ok(1..))) {
            return Err(End::Closed);
        }
        let whole = async {
            loop {
                if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                    let after = self.read.split_off(end + 4);
                    let mut head = std::mem::replace(&mut self.read, after);
                    head.truncate(end);
                    return Ok(head);
                }
                if self.read.len() > MAX_HEAD_BYTES {
                    let message = "the head of the request is too long";
                    return Err(Answer::error("431 Request Header Fields Too Large", message).into());
                }
                match self.more().await {
                    Ok(1..) => {}
                    _ => return Err(End::Closed),
                }
            }
        };
        match timeout(HEAD_TIME, whole).await {
            Ok(result) => result,
            Err(_) => Err(too_slow()),
        }
    }

    /// A body of `length` bytes.
    async fn body(&mut self, length: usize) -> Result<Vec<u8>, End> {
        let whole = async {
            while self.read.len() < length {
                match self.more().await {
                    Ok(1..) => {}
                    _ => return Err(End::Closed),
                }
            }
            let after = self.read.split_off(length);
            Ok(std::mem::replace(&mut self.read, after))
        };
        match timeout(BODY_TIME, whole).await {
            Ok(result) => result,
            Err(_) => Err(too_slow()),
        }
    }

    /// Reads some more; how much. Safe to cancel.
    async fn more(&mut self) -> io::Result<usize> {
        const PIECE: usize = 16 * 1024;
        self.read.reserve(PIECE);
        (&mut self.stream).take(PIECE as u64).read_buf(&mut self.read).await
    }

    async fn write(&mut self, answer: &Answer, keep_alive: bool) -> io::Result<()> {
        let Answer { status, headers, body } = answer;
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let text = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: {connection}\r\n{headers}\r\n{body}",
            body.len()
        );
        self.send(text.as_bytes()).await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(WRITE_TIME, self.stream.write_all(bytes)).await?
    }

    /// Answers, and reads on for a while: closing with bytes unread would reset the connection under the answer.
    async fn last_word(&mut self, answer: &Answer) {
        if self.write(answer, false).await.is_err() || self.stream.shutdown().await.is_err() {
            return;
        }
        let mut left = MAX_BODY_BYTES;
        let drain = async {
            loop {
                self.read.clear();
                match self.more().await {
                    Ok(n @ 1..) if n < left => left -= n,
                    _ => return,
                }
            }
        };
        // However it ends, the connection does.
        let _ = timeout(LINGER_TIME, drain).await;
    }
}

fn too_slow() -> End {
    End::Refused(Answer::error("408 Request Timeout", "the request did not arrive in time"))
}
