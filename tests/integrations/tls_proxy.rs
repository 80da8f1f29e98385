//! TLS in front of a broker that has none: says which name and which protocol the client asked for, which mosquitto does not
//! tell.

use std::sync::{Arc, mpsc};

use rumqttc::tokio_rustls::TlsAcceptor;
use tokio::net::{TcpListener, TcpStream};

use crate::Leaf;

/// What a client asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) server_name: Option<String>,
    /// What ALPN made of it.
    pub(crate) protocol: Option<String>,
}

/// Passes connections on to `port` for as long as the test runs. Gives its own port, and what each client asked for.
pub(crate) fn start(leaf: &Leaf, protocol: &str, port: u16) -> (u16, mpsc::Receiver<Asked>) {
    let (chain, key) = leaf.der();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (listening, port_of) = mpsc::channel();
    let (report, asked) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            listening.send(listener.local_addr().unwrap().port()).unwrap();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (acceptor, report) = (acceptor.clone(), report.clone());
                tokio::spawn(async move {
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let (_, session) = client.get_ref();
                    // The test may have ended.
                    let _ = report.send(Asked {
                        server_name: session.server_name().map(str::to_owned),
                        protocol: session
                            .alpn_protocol()
                            .map(|name| String::from_utf8(name.to_vec()).unwrap()),
                    });
                    let Ok(mut broker) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    // It ends when one of the two does.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
                });
            }
        });
    });
    (port_of.recv().unwrap(), asked)
}
