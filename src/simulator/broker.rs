//! A real mosquitto on loopback, and a subscriber to it, for the demo and the tests.

use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::{Client, Event, Incoming, MqttOptions, QoS, TlsConfiguration, Transport};

use super::arrivals::{Arrival, Arrivals};

/// How long mosquitto may take until it listens.
const START_TIME: Duration = Duration::from_secs(10);

/// Pause between looks at whether it does, and between a subscriber's attempts to connect.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Where Debian and most others install it; not on every user's PATH.
const PLACES: [&str; 3] = ["mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];

/// What mosquitto shall be like.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Loopback port.
    pub port: u16,
    /// Folder for its files; what it persists there survives its restarts.
    pub folder: PathBuf,
    /// CA, certificate and key files, for TLS.
    pub tls: Option<[PathBuf; 3]>,
    /// Further lines of its config.
    pub extra: String,
}

/// A running mosquitto. Dropping it ends it.
#[derive(Debug)]
pub struct Broker {
    child: Child,
}

impl Broker {
    /// Whether mosquitto is installed.
    pub fn is_installed() -> bool {
        find_mosquitto().is_some()
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// It is not installed, or does not come up.
    pub fn start(config: &BrokerConfig) -> io::Result<Broker> {
        let program = find_mosquitto()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "mosquitto is not installed"))?;
        let file = config.folder.join("mosquitto.conf");
        std::fs::write(&file, config_text(config))?;
        let log = std::fs::File::create(config.folder.join("mosquitto.log"))?;
        let child = Command::new(program)
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut broker = Broker { child };
        broker.wait_until_listening(config.port)?;
        Ok(broker)
    }

    fn wait_until_listening(&mut self, port: u16) -> io::Result<()> {
        let until = Instant::now() + START_TIME;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("mosquitto ended with {status}; see mosquitto.log")));
            }
            if Instant::now() > until {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "mosquitto does not listen"));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

impl Drop for Broker {
    /// SIGTERM, so that it writes down its sessions.
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // It may have ended by itself; waiting then returns at once.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn find_mosquitto() -> Option<&'static str> {
    PLACES.into_iter().find(|place| {
        let found = Command::new(place).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.is_ok()
    })
}

fn config_text(config: &BrokerConfig) -> String {
    let folder = config.folder.display();
    let mut text = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {folder}/\n\
         max_queued_messages 0\nuser root\n",
        config.port
    );
    if let Some([ca, cert, key]) = &config.tls {
        // Writing to a String can't fail.
        let _ =
            writeln!(text, "cafile {}\ncertfile {}\nkeyfile {}", ca.display(), cert.display(), key.display());
    }
    text.push_str(&config.extra);
    text
}

/// Subscribes to a broker and adds what it receives to its arrivals, reconnecting for as long as it lives. Its session is
/// persistent: what is published while it is away waits for it at the broker.
pub struct Subscriber {
    client: Client,
    thread: Option<JoinHandle<()>>,
}

impl Subscriber {
    /// Subscribes to `filter` with QoS 1 and returns once the broker has confirmed it.
    ///
    /// # Errors
    /// No thread, or no answer within ten seconds.
    pub fn start(
        port: u16,
        tls: Option<Arc<rustls::ClientConfig>>,
        client_id: &str,
        filter: &str,
        arrivals: Arc<Arrivals>,
    ) -> io::Result<Subscriber> {
        let mut options = MqttOptions::new(client_id, "localhost", port);
        options.set_clean_session(false).set_max_packet_size(1 << 20, 1 << 20);
        if let Some(tls) = tls {
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
        }
        let (client, mut connection) = Client::new(options, 16);
        client.subscribe(filter, QoS::AtLeastOnce).map_err(io::Error::other)?;
        let (confirm, confirmed) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name(client_id.to_owned()).spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Incoming::Publish(publish))) => arrivals.add(Arrival {
                        place: publish.topic,
                        key: None,
                        headers: Vec::new(),
                        body: publish.payload.to_vec(),
                        redelivered: publish.dup,
                    }),
                    Ok(Event::Incoming(Incoming::SubAck(_))) => {
                        // Only the first is waited for.
                        let _ = confirm.send(());
                    }
                    Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
                    Ok(_) => {}
                    Err(_) => std::thread::sleep(LOOK_AGAIN),
                }
            }
        })?;
        let subscriber = Subscriber { client, thread: Some(thread) };
        match confirmed.recv_timeout(START_TIME) {
            Ok(()) => Ok(subscriber),
            Err(_) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the broker did not confirm the subscription"))
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // Away already, or the broker is; the thread then ends with the process.
        if self.client.try_disconnect().is_ok() {
            self.thread.take();
        }
    }
}

impl std::fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscriber").finish_non_exhaustive()
    }
}
