//! A source on loopback, with a test in the place of the client and another in the place of the spool.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::*;
use crate::clock::SystemClock;
use crate::config::Place;
use crate::source::server::FromServer;

/// Only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(60);

struct Stage {
    running: Running,
    queue: mpsc::Receiver<FromServer>,
    open: watch::Sender<bool>,
    counters: Arc<DoorCounters>,
}

fn spot<T>(value: T) -> Spot<T> {
    Spot { value, place: Place { file: std::path::Path::new("packhorse.toml").into(), line: 1, column: 1 } }
}

impl Stage {
    fn new(token: Option<&str>) -> Stage {
        let listen = spot(SocketAddr::from(([127, 0, 0, 1], 0)));
        let token = token.map(|token| Secret::new(token.to_owned()));
        let source = Http::try_new(&spot("hook".to_owned()), &HttpSource { listen, token }).unwrap();
        let (send, queue) = mpsc::channel(IN_HAND);
        let (open, is_open) = watch::channel(true);
        let counters = Arc::new(DoorCounters::default());
        let clock = Arc::new(SystemClock::new());
        let running = source.start(Intake::new(send, is_open), Arc::clone(&counters), clock).unwrap();
        Stage { running, queue, open, counters }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.running.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(stream)
    }

    /// Sends a request on a connection of its own and reads the answer.
    fn ask(&self, head: &str, body: &str) -> (u16, Value, String) {
        let mut client = self.connect();
        client.send(head, body);
        client.answer()
    }

    /// Takes what was handed over, and answers with fresh ids.
    fn accept(&mut self) -> FromServerSeen {
        let from = self.queue.blocking_recv().unwrap();
        let ids: Vec<Uuid> = from.uplinks.iter().map(|_| Uuid::now_v7()).collect();
        let seen = FromServerSeen {
            source: from.source.to_string(),
            ids: from.uplinks.iter().map(|told| told.id.clone()).collect(),
            texts: from.uplinks.iter().map(|told| String::from_utf8(told.text.clone()).unwrap()).collect(),
            given: ids.iter().map(Uuid::to_string).collect(),
        };
        from.accepted.send(ids).unwrap();
        seen
    }
}

struct FromServerSeen {
    source: String,
    ids: Vec<Option<String>>,
    texts: Vec<String>,
    given: Vec<String>,
}

struct Client(TcpStream);

impl Client {
    /// `head` without Content-Length and empty line.
    fn send(&mut self, head: &str, body: &str) {
        self.raw(&format!("{head}\r\nHost: gw\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    }

    fn raw(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(
                self.0.read(&mut byte).unwrap(),
                1,
                "closed after {:?}",
                String::from_utf8_lossy(&head)
            );
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    /// Status, body and head of an answer.
    fn answer(&mut self) -> (u16, Value, String) {
        let head = self.head();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        (head[9..12].parse().unwrap(), serde_json::from_slice(&body).unwrap(), head)
    }

    fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        rest.is_empty()
    }
}

const POST: &str = "POST /uplinks HTTP/1.1\r\nContent-Type: application/json";

fn uplink(n: u32) -> String {
    format!(r#"{{"id":"up-{n}","dev_eui":"0004a30b001c0530","f_cnt":{n}}}"#)
}

#[test]
fn one_uplink_and_an_array_are_accepted() {
    let mut stage = Stage::new(None);
    let mut client = stage.connect();
    client.send(POST, &uplink(1));
    let seen = stage.accept();
    assert_eq!((seen.source.as_str(), seen.texts), ("hook", vec![uplink(1)]));
    let (status, body, head) = client.answer();
    assert_eq!((status, &body["accepted"]), (202, &Value::from(1)));
    assert_eq!(body["ids"][0], seen.given[0].as_str());
    assert!(head.contains("Connection: keep-alive\r\n"));

    // The connection goes on, and what stands around the elements of an array is not theirs.
    client.send(POST, &format!(" [ {} ,\n{}]", uplink(2), uplink(3)));
    let seen = stage.accept();
    assert_eq!(seen.texts, [uplink(2), uplink(3)]);
    let (status, body, _) = client.answer();
    assert_eq!((status, body["ids"].as_array().unwrap().len()), (202, 2));

    client.send(POST, "[]");
    assert_eq!(client.answer().1["accepted"], 0);
}

/// RULES S20.
#[test]
fn the_idempotency_key_is_the_id() {
    let mut stage = Stage::new(None);
    let keyed = format!("{POST}\r\nIdempotency-Key: 3ac7e3c4");
    let mut client = stage.connect();
    client.send(&keyed, &uplink(1));
    assert_eq!(stage.accept().ids, [Some("3ac7e3c4".to_owned())]);
    client.answer();
    let nameless = r#"{"dev_eui":"0004a30b001c0530"}"#;
    client.send(&keyed, &format!("[{nameless},{},{nameless}]", uplink(1)));
    let ids: Vec<String> = stage.accept().ids.into_iter().map(Option::unwrap).collect();
    assert_eq!(ids, ["3ac7e3c4/0", "up-1", "3ac7e3c4/2"]);
}

#[test]
fn of_a_bad_array_nothing_is_stored() {
    let mut stage = Stage::new(None);
    let (status, body, _) = stage.ask(POST, &format!("[{},{{\"f_cnt\":1}}]", uplink(1)));
    assert_eq!((status, &body["element"]), (400, &Value::from(1)));
    assert!(body["error"].as_str().unwrap().contains("names no device"), "{body}");
    let (status, body, _) = stage.ask(POST, "{\"dev_eui\": oops}");
    assert_eq!(status, 400);
    assert!(body["error"].as_str().unwrap().contains("line 1, column"), "{body}");
    let (status, ..) = stage.ask(POST, "7");
    assert_eq!(status, 400);
    let long = format!(r#"{{"dev_eui":"0004a30b001c0530","x":"{}"}}"#, "x".repeat(MAX_BYTES));
    assert_eq!(stage.ask(POST, &long).0, 413);
    let many = vec![uplink(1); MAX_UPLINKS + 1].join(",");
    assert_eq!(stage.ask(POST, &format!("[{many}]")).0, 413);
    assert!(stage.queue.try_recv().is_err());
    for reason in [DropReason::NoDevice, DropReason::Oversize, DropReason::TooManyElements] {
        assert_eq!(stage.counters.dropped_total(reason), 1, "{reason:?}");
    }
    assert_eq!(stage.counters.dropped_total(DropReason::BadJson), 2);
}

/// A web hook posts every event to the same place.
#[test]
fn other_events_are_passed_over() {
    let mut stage = Stage::new(None);
    let join = r#"{"deduplicationId":"c","deviceInfo":{"devEui":"0101010101010101"},"devAddr":"00189440"}"#;
    let (status, body, _) = stage.ask(&POST.replace("/uplinks", "/uplinks?event=join"), join);
    assert_eq!((status, &body["accepted"]), (202, &Value::from(0)));
    assert_eq!(stage.counters.dropped_total(DropReason::OtherEvent), 1);
    assert!(stage.queue.try_recv().is_err());
}

#[test]
fn requests_that_are_none_get_a_precise_answer() {
    let stage = Stage::new(None);
    let status = |head: &str, body: &str| stage.ask(head, body).0;
    assert_eq!(status("POST /uplink HTTP/1.1", "{}"), 404);
    assert_eq!(status("GET /uplinks HTTP/1.1", ""), 405);
    assert_eq!(status("POST /uplinks HTTP/1.1\r\nContent-Type: text/plain", "{}"), 415);
    assert_eq!(status("POST /uplinks HTTP/1.1\r\nTransfer-Encoding: chunked", "{}"), 411);
    assert_eq!(status("nonsense", ""), 400);
    let mut client = stage.connect();
    client.raw("POST /uplinks HTTP/1.1\r\n\r\n");
    assert_eq!(client.answer().0, 411);
    assert!(client.is_closed());
    let mut client = stage.connect();
    client.raw(&format!("POST /uplinks HTTP/1.1\r\nX: {}", "x".repeat(9_000)));
    assert_eq!(client.answer().0, 431);
    // The answer is read although the body was not.
    let mut client = stage.connect();
    client.raw(&format!("POST /uplinks HTTP/1.1\r\nContent-Length: {}\r\n\r\n", MAX_BODY_BYTES + 1));
    client.raw(&"x".repeat(300_000));
    let (status, _, head) = client.answer();
    assert_eq!(status, 413);
    assert!(head.contains("Connection: close\r\n"));
}

#[test]
fn a_body_that_breaks_off_is_no_uplink() {
    let mut stage = Stage::new(None);
    let mut client = stage.connect();
    client.raw(&format!("{POST}\r\nContent-Length: 100\r\n\r\n{}", uplink(1)));
    client.0.shutdown(Shutdown::Write).unwrap();
    assert!(client.is_closed());
    assert!(stage.queue.try_recv().is_err());
}

/// Four long bodies may be in memory, and one counts until its uplinks are safe; a fifth waits, a short one does not.
#[test]
fn long_bodies_take_turns() {
    let mut stage = Stage::new(None);
    let long = format!("[{}]", vec![uplink(1); 1_000].join(",")) + &" ".repeat(MAX_BYTES);
    let mut clients: Vec<Client> = (0..LONG_BODIES + 1).map(|_| stage.connect()).collect();
    let mut taken = Vec::new();
    let (last, first) = clients.split_last_mut().unwrap();
    for client in first {
        client.send(POST, &long);
        taken.push(stage.queue.blocking_recv().unwrap());
    }
    last.send(POST, &long);
    let mut short = stage.connect();
    short.send(POST, &uplink(1));
    let from = stage.queue.blocking_recv().unwrap();
    assert_eq!(from.uplinks.len(), 1, "the short one");
    drop(from);
    drop(taken.remove(0));
    assert_eq!(stage.queue.blocking_recv().unwrap().uplinks.len(), 1_000);
}

#[test]
fn who_waits_for_a_word_gets_it() {
    let mut stage = Stage::new(None);
    let mut client = stage.connect();
    let body = format!("[{}]", vec![uplink(1); 1_000].join(","));
    assert!(body.len() > MAX_BYTES / 2);
    client.raw(&format!("{POST}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len()));
    assert!(client.head().starts_with("HTTP/1.1 100 "));
    client.raw(&body);
    assert_eq!(stage.accept().texts.len(), 1_000);
    assert_eq!(client.answer().0, 202);
}

#[test]
fn the_token_is_needed() {
    let mut stage = Stage::new(Some("hunter2"));
    for wrong in ["", "\r\nAuthorization: Bearer hunter3", "\r\nAuthorization: Basic hunter2"] {
        let (status, _, head) = stage.ask(&format!("{POST}{wrong}"), &uplink(1));
        assert_eq!(status, 401, "{wrong}");
        assert!(head.contains("WWW-Authenticate: Bearer\r\n"));
    }
    assert_eq!(stage.counters.dropped_total(DropReason::NotAllowed), 3);
    let mut client = stage.connect();
    client.send(&format!("{POST}\r\nAuthorization: Bearer hunter2"), &uplink(1));
    stage.accept();
    assert_eq!(client.answer().0, 202);
    let empty = HttpSource {
        listen: spot(SocketAddr::from(([127, 0, 0, 1], 0))),
        token: Some(Secret::new(String::new())),
    };
    assert!(Http::try_new(&spot("hook".to_owned()), &empty).is_err());
}

/// 503 while there is no spool, and when it goes away; 429 when it is behind.
#[test]
fn what_can_not_be_stored_is_not_accepted() {
    let mut stage = Stage::new(None);
    stage.open.send_replace(false);
    let (status, _, head) = stage.ask(POST, &uplink(1));
    assert_eq!(status, 503);
    assert!(head.contains("Retry-After: "));
    stage.open.send_replace(true);

    let mut client = stage.connect();
    client.send(POST, &uplink(1));
    drop(stage.queue.blocking_recv().unwrap());
    assert_eq!(client.answer().0, 503, "dropped without a word");

    let (send, _queue) = mpsc::channel::<FromServer>(1);
    let full = Intake::new(send, watch::channel(true).1);
    let name = Arc::from("hook");
    let first = full.offer(&name, Vec::new(), None);
    assert!(first.is_some() && full.offer(&name, Vec::new(), None).is_none());
    stage.queue.close();
    assert_eq!(stage.ask(POST, &uplink(1)).0, 429);
}

/// What is under way is answered, and nothing new is begun.
#[test]
fn a_stop_answers_what_is_under_way() {
    let mut stage = Stage::new(None);
    let mut client = stage.connect();
    client.send(POST, &uplink(1));
    let from = stage.queue.blocking_recv().unwrap();
    let address = stage.running.local_addr().unwrap();
    let stopping = std::thread::spawn(move || stage.running.stop());
    // The port closes first.
    while TcpStream::connect(address).is_ok() {
        std::thread::yield_now();
    }
    from.accepted.send(vec![Uuid::now_v7()]).unwrap();
    let (status, _, head) = client.answer();
    assert_eq!(status, 202);
    assert!(head.contains("Connection: close\r\n"));
    stopping.join().unwrap();
    assert!(client.is_closed());
}
