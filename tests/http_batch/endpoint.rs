//! An HTTP/1.1 endpoint that takes batches and answers as it is told, one request a connection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How a request is answered.
pub(crate) enum Reply {
    Status(u16),
    /// The connection is cut.
    Cut,
}

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) records: Vec<usize>,
    pub(crate) key: String,
    pub(crate) attempt: usize,
    pub(crate) content_type: String,
    pub(crate) bytes: usize,
    /// By what name the members say their id, each once.
    pub(crate) words: Vec<String>,
    /// What it was answered; 0: nothing.
    pub(crate) status: u16,
}

type Decide = dyn Fn(usize, &[usize]) -> Reply + Send + Sync;

struct Shared {
    decide: Box<Decide>,
    seen: Mutex<Vec<Seen>>,
    under_way: AtomicUsize,
    most_at_once: AtomicUsize,
    /// Requests so far.
    asked: watch::Sender<usize>,
    /// Whether answers are given.
    open: watch::Sender<bool>,
}

pub(crate) struct Endpoint {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Endpoint {
    /// Answers by the number of the request, from 0.
    pub(crate) async fn start(decide: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Endpoint {
        Endpoint::start_with(move |n, _| decide(n)).await
    }

    /// Answers by the number of the request and its records.
    pub(crate) async fn start_with(
        decide: impl Fn(usize, &[usize]) -> Reply + Send + Sync + 'static,
    ) -> Endpoint {
        Endpoint::listen(Box::new(decide), true).await
    }

    /// Answers nothing until it is let go, and then 200.
    pub(crate) async fn start_held() -> Endpoint {
        Endpoint::listen(Box::new(|_, _| Reply::Status(200)), false).await
    }

    async fn listen(decide: Box<Decide>, open: bool) -> Endpoint {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            decide,
            seen: Mutex::default(),
            under_way: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            asked: watch::channel(0).0,
            open: watch::channel(open).0,
        });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(Arc::clone(&accepting).serve(stream));
            }
        });
        Endpoint { port, shared }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.most_at_once.load(Ordering::SeqCst)
    }

    pub(crate) async fn wait_until_asked(&self) {
        self.shared.asked.subscribe().wait_for(|asked| *asked > 0).await.unwrap();
    }

    pub(crate) fn let_go(&self) {
        self.shared.open.send_replace(true);
    }
}

impl Shared {
    async fn serve(self: Arc<Shared>, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let Some(mut seen) = read(&mut stream).await else { return };
        let at_once = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        let mut number = 0;
        self.asked.send_modify(|asked| {
            number = *asked;
            *asked += 1;
        });
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        let reply = (self.decide)(number, &seen.records);
        if let Reply::Status(status) = reply {
            seen.status = status;
        }
        self.seen.lock().unwrap().push(seen);
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        if let Reply::Status(status) = reply {
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            // Whoever has hung up does not want it.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut seen = Seen::default();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "content-type" => seen.content_type = value.to_owned(),
            "idempotency-key" => seen.key = value.to_owned(),
            "x-attempt" => seen.attempt = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    seen.bytes = length;
    let members: Vec<Value> = match seen.content_type.as_str() {
        "application/x-ndjson" => {
            let text = std::str::from_utf8(&body).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }
        _ => serde_json::from_slice(&body).unwrap(),
    };
    for member in members {
        let word = if member["id"].is_string() { "id" } else { "deduplicationId" };
        let id = uuid::Uuid::parse_str(member[word].as_str().unwrap()).unwrap();
        seen.records.push(usize::try_from(id.as_u128()).unwrap());
        if !seen.words.iter().any(|known| known == word) {
            seen.words.push(word.to_owned());
        }
    }
    Some(seen)
}
