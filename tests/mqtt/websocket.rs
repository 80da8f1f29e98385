//! MQTT over WebSocket, plain and over TLS, against a real mosquitto and a server that has none.

use std::net::TcpListener;
use std::sync::Arc;

use packhorse::delivery::State;
use packhorse::simulator::{Arrivals, Broker, BrokerConfig, Subscriber};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bench::{Bench, ROOMY, To, devices};
use crate::proxy::Proxy;
use crate::world::{PATIENCE, VERSIONS, World};

const RECORDS: usize = 500;

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A second listener beside the plain one that the subscriber uses.
fn broker(folder: &std::path::Path, extra: &str) -> (Broker, BrokerConfig, u16) {
    let port = free_port();
    let extra = format!("listener {port} 127.0.0.1\nprotocol websockets\n{extra}");
    let config = BrokerConfig { port: free_port(), folder: folder.to_owned(), tls: None, extra };
    (Broker::start(&config).unwrap(), config, port)
}

/// CA, certificate and key of `localhost`, written to `folder`.
fn certificates(folder: &std::path::Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority);
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(folder.join("cert.pem"), cert.unwrap().pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

/// Nothing is lost over a link that is cut at random, in both versions.
#[tokio::test]
async fn uplinks_arrive_over_a_websocket() {
    for version in VERSIONS {
        let folder = tempfile::tempdir().unwrap();
        let (_broker, config, port) = broker(folder.path(), "");
        let arrivals = Arc::new(Arrivals::default());
        let _subscriber =
            Subscriber::start(config.port, None, "audience", "up/#", Arc::clone(&arrivals)).unwrap();
        let proxy = Proxy::start(port, 7, Some(1_500..12_000)).await;
        let url = format!("ws://127.0.0.1:{}/mqtt", proxy.port);
        let mut world = World::with_url(Bench::new(ROOMY).await, &url, version);
        world.bench.append(To::Us, &devices(&[1, 2].repeat(RECORDS / 2))).await;
        let account = world.bench.wait_until_done().await;
        assert_eq!((account.delivered, account.dead_letters), (RECORDS as u64, 0));
        let all = Arc::clone(&arrivals);
        assert!(tokio::task::spawn_blocking(move || all.wait_for_unique(RECORDS, PATIENCE)).await.unwrap());
        assert!(proxy.ended() >= 3, "the link was too good");
        world.stop().await;
    }
}

/// TLS is the integration's own: a private CA is trusted if it is the configured one, and named if it is not.
#[tokio::test]
async fn a_websocket_over_tls_uses_the_settings_of_the_integration() {
    for version in VERSIONS {
        let folder = tempfile::tempdir().unwrap();
        certificates(folder.path());
        let at = folder.path().display();
        let (_broker, _, port) =
            broker(folder.path(), &format!("certfile {at}/cert.pem\nkeyfile {at}/key.pem\n"));
        let url = format!("wss://localhost:{port}/mqtt");
        let keys = format!("{version}[integration.us.tls]\nca = \"{at}/ca.pem\"\n");
        let mut world = World::with_url(Bench::new(ROOMY).await, &url, &keys);
        world.bench.append(To::Us, &devices(&[1, 2])).await;
        assert_eq!(world.bench.wait_until_done().await.delivered, 2);
        world.wait_for_state(State::Active).await;
        world.stop().await;

        certificates(folder.path());
        let mut world = World::with_url(Bench::new(ROOMY).await, &url, &keys);
        world.wait_for("it failed", |status| status.last_error.is_some()).await;
        let error = world.seen.borrow().last_error.clone().unwrap();
        assert_eq!(error.layer.as_str(), "tls", "{}", error.message);
        assert!(error.message.contains("certificate of localhost"), "{}", error.message);
        world.stop().await;
    }
}

/// A web server that answers something else: refused for good, or for now, and named (RULES S1).
#[tokio::test]
async fn an_answer_that_is_no_websocket_is_named() {
    for (status, state, words) in [
        ("404 Not Found", State::Blocked, "HTTP 404"),
        ("302 Found", State::Blocked, "HTTP 302"),
        ("503 Service Unavailable", State::Degraded, "HTTP 503"),
        ("200 OK", State::Blocked, "HTTP 200"),
    ] {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("ws://{}/mqtt?token=hunter2", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 2_048];
                let _ = stream.read(&mut request).await;
                let _ = stream
                    .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes())
                    .await;
            }
        });
        let mut world = World::with_url(Bench::new(ROOMY).await, &url, VERSIONS[1]);
        world.wait_for_state(state).await;
        let message = world.seen.borrow().last_error.clone().unwrap().message;
        assert!(message.contains(words) && !message.contains("hunter2"), "{message}");
        world.stop().await;
    }
}
