//! Mosquittos, and somebody who hears everything that is published to them.

use std::process::Command;
use std::sync::mpsc;

use packhorse::simulator::{Broker, BrokerConfig};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet, Publish};
use rumqttc::v5::{Client, Event, MqttOptions};

use crate::support::{PATIENCE, free_port};
use crate::tls_proxy::{self, Asked};
use crate::world::SECRET;
use crate::{Authority, Leaf};

/// A mosquitto with somebody who listens to everything.
pub(crate) struct Mosquitto {
    folder: tempfile::TempDir,
    config: BrokerConfig,
    _broker: Broker,
}

impl Mosquitto {
    /// `extra` are further lines of its config, in which `{folder}` is its folder. What it hears goes to `report`.
    pub(crate) fn start(folder: tempfile::TempDir, extra: &str, report: mpsc::Sender<Publish>) -> Mosquitto {
        let at = folder.path().to_owned();
        let extra = extra.replace("{folder}", &at.display().to_string());
        let config = BrokerConfig { port: free_port(), folder: at, tls: None, extra };
        let broker = Broker::start(&config).unwrap();
        listen(config.port, report);
        Mosquitto { folder, config, _broker: broker }
    }

    pub(crate) fn port(&self) -> u16 {
        self.config.port
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("mosquitto.log")).unwrap()
    }
}

/// Hears everything as it was published; returns once the broker has confirmed that.
fn listen(port: u16, report: mpsc::Sender<Publish>) {
    let mut options = MqttOptions::new("audience", "127.0.0.1", port);
    options.set_clean_start(true);
    let (client, mut connection) = Client::new(options, 64);
    let filter = Filter { preserve_retain: true, ..Filter::new("#", QoS::ExactlyOnce) };
    client.subscribe_many([filter]).unwrap();
    let (confirm, confirmed) = mpsc::channel();
    std::thread::spawn(move || {
        // The connection lives as long as there is a client.
        let _client = client;
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    if report.send(publish).is_err() {
                        return;
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => confirm.send(()).unwrap(),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    });
    confirmed.recv_timeout(PATIENCE).unwrap();
}

/// The brokers: one for everybody, and one that wants a password where a user name is given, with TLS.
pub(crate) struct Brokers {
    pub(crate) open: Mosquitto,
    pub(crate) guarded: Mosquitto,
    /// What they hear.
    pub(crate) heard: mpsc::Receiver<Publish>,
    pub(crate) tls: u16,
    /// Asks for a client certificate.
    pub(crate) mutual: u16,
    /// TLS in front of the open one.
    pub(crate) proxy: u16,
    pub(crate) asked: mpsc::Receiver<Asked>,
    #[cfg(feature = "websocket")]
    pub(crate) ws: u16,
    #[cfg(feature = "websocket")]
    pub(crate) wss: u16,
}

impl Brokers {
    pub(crate) fn start(ca: &Authority, leaf: &Leaf) -> Brokers {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("ca.pem", &ca.pem()), ("server.pem", &leaf.cert), ("server.key", &leaf.key)] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let passwords = folder.path().join("passwords");
        let made = Command::new("mosquitto_passwd")
            .args(["-c", "-b"])
            .arg(&passwords)
            .args(["gw", &format!("{SECRET}-password")])
            .output();
        assert!(made.unwrap().status.success());
        let [tls, mutual] = [free_port(), free_port()];
        let files = "cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\n";
        let extra = format!(
            "password_file {{folder}}/passwords\nlistener {tls} 127.0.0.1\n{files}\
             listener {mutual} 127.0.0.1\n{files}require_certificate true\nuse_identity_as_username true\n"
        );
        #[cfg(feature = "websocket")]
        let [ws, wss] = [free_port(), free_port()];
        #[cfg(feature = "websocket")]
        let extra = format!(
            "{extra}listener {ws} 127.0.0.1\nprotocol websockets\n\
             listener {wss} 127.0.0.1\nprotocol websockets\n{files}"
        );
        let (report, heard) = mpsc::channel();
        let guarded = Mosquitto::start(folder, &extra, report.clone());
        let open = Mosquitto::start(tempfile::tempdir().unwrap(), "", report);
        let (proxy, asked) = tls_proxy::start(leaf, "x-amzn-mqtt-ca", open.port());
        Brokers {
            open,
            guarded,
            heard,
            tls,
            mutual,
            proxy,
            asked,
            #[cfg(feature = "websocket")]
            ws,
            #[cfg(feature = "websocket")]
            wss,
        }
    }

    /// The port of the guarded one without TLS.
    pub(crate) fn plain(&self) -> u16 {
        self.guarded.port()
    }

    pub(crate) fn logs(&self) -> String {
        self.open.log() + &self.guarded.log()
    }
}
