//! What Packhorse is compared with: bare loops without a store, and a mosquitto that bridges.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use packhorse::simulator::{Broker, BrokerConfig};
use rumqttc::{Client, Event, Incoming, MqttOptions, QoS};

/// As large as an uplink in Packhorse's default format.
pub(crate) const BODY_BYTES: usize = 640;

pub(crate) fn body() -> Vec<u8> {
    let mut body = b"{\"filler\":\"".to_vec();
    body.resize(BODY_BYTES - 2, b'x');
    body.extend(b"\"}");
    body
}

/// Counts what arrives at a broker, and when the first and the last did.
pub(crate) struct Counter {
    count: Arc<AtomicUsize>,
    client: Client,
}

impl Counter {
    pub(crate) fn start(port: u16) -> Counter {
        let mut options = MqttOptions::new("counter", "localhost", port);
        options.set_clean_session(false).set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut connection) = Client::new(options, 16);
        client.subscribe("up/#", QoS::AtLeastOnce).unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&count);
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Incoming::Publish(_))) => _ = counting.fetch_add(1, Ordering::Relaxed),
                    Ok(Event::Incoming(Incoming::SubAck(_))) => _ = ready.send(()),
                    Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
                    Ok(_) => {}
                    // The broker is away: it comes back.
                    Err(_) => std::thread::sleep(Duration::from_millis(20)),
                }
            }
        });
        is_ready.recv_timeout(Duration::from_secs(10)).unwrap();
        Counter { count, client }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How long it takes from the first of `n` to the last, which something that `start` begins sends.
    pub(crate) fn time<T>(&self, n: usize, start: impl FnOnce() -> T) -> (Duration, T) {
        time(&self.count, n, start)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.client.try_disconnect();
    }
}

fn time<T>(count: &AtomicUsize, n: usize, start: impl FnOnce() -> T) -> (Duration, T) {
    let count = || count.load(Ordering::Relaxed);
    let before = count();
    let started = start();
    super::wait("the first of them", || count() > before);
    let first = Instant::now();
    super::wait("the last of them", || count() >= before + n);
    (first.elapsed(), started)
}

/// A broker on a free port.
pub(crate) fn broker(folder: &Path, extra: &str) -> (Broker, u16) {
    let port = free_port();
    (start_broker(folder, port, extra), port)
}

pub(crate) fn start_broker(folder: &Path, port: u16, extra: &str) -> Broker {
    std::fs::create_dir_all(folder).unwrap();
    let config = BrokerConfig { port, folder: folder.to_owned(), tls: None, extra: extra.to_owned() };
    Broker::start(&config).unwrap()
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Publishes `n` with QoS 1 and `window` in flight, and waits for the acknowledgements: rumqttc and nothing else.
pub(crate) fn publish(port: u16, n: usize, window: u16) {
    let mut options = MqttOptions::new("bare", "localhost", port);
    options.set_inflight(window).set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut connection) = Client::new(options, usize::from(window));
    let body = body();
    let publishing = std::thread::spawn(move || {
        for device in 0..n {
            client.publish(format!("up/{}", device % 64), QoS::AtLeastOnce, false, body.clone()).unwrap();
        }
        client
    });
    let mut acknowledged = 0;
    for event in connection.iter() {
        if matches!(event.unwrap(), Event::Incoming(Incoming::PubAck(_))) {
            acknowledged += 1;
            if acknowledged == n {
                break;
            }
        }
    }
    drop(publishing.join().unwrap());
}

/// An HTTP server that counts what is posted to it and does nothing else.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    count: Arc<AtomicUsize>,
}

impl Sink {
    pub(crate) fn start() -> Sink {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&count);
        // Both end with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let counting = Arc::clone(&counting);
                std::thread::spawn(move || swallow(&stream.unwrap(), &counting));
            }
        });
        Sink { address, count }
    }

    /// How long it takes from the first of `n` to the last, which something that `start` begins sends.
    pub(crate) fn time(&self, n: usize, start: impl FnOnce()) -> Duration {
        time(&self.count, n, start).0
    }
}

fn swallow(mut stream: &TcpStream, counting: &AtomicUsize) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        let mut length = 0;
        loop {
            line.clear();
            // The other side has gone.
            let Ok(1..) = reader.read_line(&mut line) else { return };
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().unwrap();
                }
                Some(_) => {}
                None if line == "\r\n" => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        counting.fetch_add(1, Ordering::Relaxed);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    }
}

/// Posts `n` bodies over `connections` at a time, with the headers that Packhorse sends: ureq and nothing else.
pub(crate) fn post(address: SocketAddr, n: usize, connections: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    for _ in 0..connections {
        let next = Arc::clone(&next);
        std::thread::spawn(move || {
            let agent = ureq::Agent::new_with_defaults();
            let body = body();
            let url = format!("http://{address}/up");
            while next.fetch_add(1, Ordering::Relaxed) < n {
                let request = agent
                    .post(&url)
                    .content_type("application/json")
                    .header("idempotency-key", "0192e4a0-7c1f-7d52-96a4-4b7e9d0b3c5a")
                    .header("x-attempt", "1")
                    .header("x-hold-ms", "1234");
                let mut answer = request.send(&body[..]).unwrap();
                // Or the connection is not used again.
                answer.body_mut().read_to_vec().unwrap();
            }
        });
    }
}

/// Appends `rounds` times what `together` uplinks take, with an fdatasync after each.
pub(crate) fn append_and_sync(file: &Path, rounds: usize, together: usize) -> Duration {
    let mut log = std::fs::File::create(file).unwrap();
    let record = vec![0x55; 200 * together];
    let started = Instant::now();
    for _ in 0..rounds {
        log.write_all(&record).unwrap();
        log.sync_data().unwrap();
    }
    started.elapsed()
}
