//! A bad link: passes bytes on in odd pieces and cuts each connection after a random number of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) struct Proxy {
    pub(crate) port: u16,
    /// Connections that came to an end.
    ended: Arc<AtomicUsize>,
    cut: tokio::sync::watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// To `port`; cuts after `bytes`, or never.
    pub(crate) async fn start(port: u16, seed: u64, bytes: Option<std::ops::Range<usize>>) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let ended = Arc::new(AtomicUsize::new(0));
        let (cut, cuts) = tokio::sync::watch::channel(());
        let count = Arc::clone(&ended);
        let task = tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed);
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let life = bytes.clone().map_or(usize::MAX, |bytes| random.usize(bytes));
                let (pieces, count, mut cuts) = (random.fork(), Arc::clone(&count), cuts.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass_on(client, port, life, pieces) => {}
                        _ = cuts.changed() => {}
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Proxy { port: own_port, ended, cut, task }
    }

    /// Cuts the connections that there are.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }

    pub(crate) fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(mut client: TcpStream, port: u16, mut life: usize, mut random: fastrand::Rng) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (mut up, mut down) = ([0; 1_500], [0; 1_500]);
    while life > 0 {
        let piece = random.usize(1..1_500).min(life);
        let passed = tokio::select! {
            n = client.read(&mut up[..piece]) => match n {
                Ok(n) if n > 0 => server.write_all(&up[..n]).await.map(|()| n),
                _ => return,
            },
            n = server.read(&mut down[..piece]) => match n {
                Ok(n) if n > 0 => client.write_all(&down[..n]).await.map(|()| n),
                _ => return,
            },
        };
        match passed {
            Ok(n) => life = life.saturating_sub(n),
            Err(_) => return,
        }
    }
}
