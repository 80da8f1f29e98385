//! How fast uplinks are accepted durably: `POST /uplinks` answers 202 when they are on the disk.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::agent::Agent;
use super::{per_second, rivals};

const ROUNDS: usize = 300;

pub(crate) fn run() {
    println!("ENQUEUE, durable    Packhorse /s   bare append + fdatasync /s   ratio   p50 ms   p99 ms");
    let folder = tempfile::tempdir().unwrap();
    let http = SocketAddr::from(([127, 0, 0, 1], rivals::free_port()));
    let more = format!(
        "[source.script]\ntype = \"http\"\nlisten = \"{http}\"\n\
         [integration.away]\ntype = \"http\"\nurl = \"http://127.0.0.1:1/\"\n"
    );
    let agent = Agent::start(folder.path(), "durability = \"immediate\"\nmax_size = \"256MiB\"", &more);
    let log = folder.path().join("bare.log");
    for (what, together, connections) in
        [("1 in flight", 1, 1), ("16 in flight", 1, 16), ("64 in a request", 64, 1)]
    {
        let (time, mut waits) = post(http, together, connections);
        waits.sort_unstable();
        let at = |percent: usize| waits[(waits.len() - 1) * percent / 100].as_secs_f64() * 1_000.0;
        // The floor commits as many together as wait: what a group commit can reach.
        let bare = rivals::append_and_sync(&log, ROUNDS, together * connections);
        let ours = per_second(ROUNDS * together * connections, time);
        let floor = per_second(ROUNDS * together * connections, bare);
        println!(
            "{what:<18} {ours:>13.0} {floor:>28.0} {:>7.2} {:>8.1} {:>8.1}",
            ours / floor,
            at(50),
            at(99)
        );
    }
    drop(agent);
}

/// Every connection sends `ROUNDS` requests, one after the other.
fn post(address: SocketAddr, together: usize, connections: usize) -> (Duration, Vec<Duration>) {
    let number = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let threads: Vec<_> = (0..connections)
        .map(|_| {
            let number = Arc::clone(&number);
            std::thread::spawn(move || {
                let mut stream = BufReader::new(TcpStream::connect(address).unwrap());
                stream.get_ref().set_nodelay(true).unwrap();
                (0..ROUNDS).map(|_| request(&mut stream, together, &number)).collect::<Vec<_>>()
            })
        })
        .collect();
    let waits = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    (started.elapsed(), waits)
}

fn request(stream: &mut BufReader<TcpStream>, together: usize, number: &AtomicUsize) -> Duration {
    let uplinks: Vec<String> = (0..together)
        .map(|_| {
            let n = number.fetch_add(1, Ordering::Relaxed);
            format!(
                r#"{{"dev_eui":"0004a30b001c{:04x}","f_cnt":{n},"f_port":2,"payload":"AQIDBAUGBwg="}}"#,
                n % 64
            )
        })
        .collect();
    let body = format!("[{}]", uplinks.join(","));
    let head = format!(
        "POST /uplinks HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let started = Instant::now();
    stream.get_mut().write_all((head + &body).as_bytes()).unwrap();
    let (mut line, mut length) = (String::new(), 0);
    stream.read_line(&mut line).unwrap();
    assert!(line.contains(" 202 "), "{line}");
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).unwrap();
    started.elapsed()
}
