//! Every way in which an integration fails: each has an error of its own, the same in `status` and in `history`, that names
//! the layer, says what to do and holds no secret.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::bench::{Bench, ROOMY, To, devices};
use crate::brokers::Brokers;
use crate::endpoint::{Endpoint, Reply};
use crate::far_ends::{BlackHole, answers, connack, nobody, silence};
use crate::support::{free_port, integration};
use crate::world::{SECRET, World};
use crate::{Authority, Leaf};
use packhorse::clock::Clock;
use packhorse::config::Config;
use packhorse::delivery::{State, Stopper};
use packhorse::dial::Dial;
use packhorse::flow::Variant;
use packhorse::integration::Integration;
use packhorse::render::Interpreter;
use packhorse::simulator::{Broker, BrokerConfig};
use tokio::time::Instant;

/// A line of the table: what the integration is called, its keys, the layer and the words of its error, and how its uplink
/// stands (`offline`: there was no connection to send it on).
struct Row {
    name: &'static str,
    keys: String,
    layer: &'static str,
    says: &'static str,
    standing: &'static str,
}

fn row(
    name: &'static str,
    keys: impl Into<String>,
    layer: &'static str,
    says: &'static str,
    standing: &'static str,
) -> Row {
    Row { name, keys: keys.into(), layer, says, standing }
}

/// What must be there as long as the agent runs.
type FarEnds = Vec<Box<dyn Any>>;

/// Who the certificates are of.
struct Pki {
    ca: Authority,
    stranger: Authority,
}

impl Pki {
    /// Speaks TLS with this certificate and nothing else that matters.
    fn server(&self, leaf: &Leaf) -> Endpoint {
        Endpoint::secure(vec![Reply::of("200 OK", "", "")], leaf, None)
    }
}

/// The ways of TLS to fail, which HTTP and MQTT have in common: a name, the far end, further keys, layer and words.
fn tls_failures(pki: &Pki) -> Vec<(&'static str, Endpoint, &'static str, &'static str)> {
    let expired = pki.ca.leaf_between("localhost", 2001, 2002);
    let too_young = pki.ca.leaf_between("localhost", 3001, 3002);
    vec![
        (
            "unknown-ca",
            pki.server(&pki.stranger.leaf("localhost")),
            "",
            "is not signed by a CA we trust; set tls.ca",
        ),
        ("expired", pki.server(&expired), "", "has expired; renew it there, or check this gateway's clock"),
        ("not-yet-valid", pki.server(&too_young), "", "is not valid yet; check this gateway's clock"),
        (
            "wrong-host",
            pki.server(&pki.ca.leaf("api.example")),
            "",
            "is for another name: api.example; use that name in the URL",
        ),
        (
            "alpn",
            pki.server(&pki.ca.leaf("localhost")),
            ", alpn = [\"x-unknown\"]",
            "speaks none of the protocols of tls.alpn",
        ),
    ]
}

fn http(pki: &Pki) -> (Vec<Row>, FarEnds) {
    let (mut rows, mut far) = (Vec::new(), FarEnds::new());
    let url = |scheme: &str, at: SocketAddr| format!("url = \"{scheme}://{at}/up?key={SECRET}\"\n");
    let secure = |endpoint: &Endpoint, more: &str| {
        let port = endpoint.address.port();
        format!("url = \"https://localhost:{port}/up?key={SECRET}\"\ntls = {{ ca = \"ca.pem\"{more} }}\n")
    };
    let (hole, mute, shaking) = (BlackHole::dig(), silence(), silence());
    let closes = answers(b"", true);
    let quick = "timeout = \"1s\"\n";
    rows.extend([
        row(
            "refused",
            url("http", nobody()),
            "tcp",
            "it refused the connection: nothing listens on that port",
            "retrying",
        ),
        row(
            "dns",
            format!("url = \"http://no-such-host.invalid/up?key={SECRET}\"\n"),
            "dns",
            "check the name and this gateway's DNS",
            "retrying",
        ),
        row(
            "black-hole",
            url("http", hole.address) + quick,
            "tcp",
            "no connection to 127.0.0.1:PORT: no answer in time: it or the link is down",
            "retrying",
        ),
        row(
            "time-out",
            url("http", mute.local_addr().unwrap()) + quick,
            "http",
            "no answer from 127.0.0.1:PORT within 1s; raise timeout",
            "retrying",
        ),
        row("closed", url("http", closes), "tcp", "closed the connection before it answered", "retrying"),
        row(
            "not-http",
            url("http", answers(b"SSH-2.0-OpenSSH_9.9\r\n\r\n", true)),
            "http",
            "is not HTTP/1.1; check the port and whether it wants https://",
            "retrying",
        ),
        row(
            "not-tls",
            url("https", answers(b"HTTP/1.1 400 Bad Request\r\n\r\n", true)),
            "tls",
            "does not answer in TLS",
            "retrying",
        ),
        row(
            "tls-closed",
            url("https", closes),
            "tls",
            "closed the connection during the TLS handshake; is that port meant for TLS?",
            "retrying",
        ),
        row(
            "tls-hangs",
            url("https", shaking.local_addr().unwrap()) + quick,
            "tls",
            "took too long over the TLS handshake",
            "retrying",
        ),
        row(
            "render",
            format!("url = \"http://{}/{{{{decoded.room}}}}?key={SECRET}\"\n", nobody()),
            "render",
            "decoded.room",
            "dead-letter",
        ),
    ]);
    far.extend([Box::new(hole) as Box<dyn Any>, Box::new(mute), Box::new(shaking)]);
    for (name, endpoint, more, says) in tls_failures(pki) {
        rows.push(row(name, secure(&endpoint, more), "tls", says, "retrying"));
        far.push(Box::new(endpoint));
    }
    for (name, more, says) in [
        ("no-certificate", "", "asks for a client certificate; set tls.cert and tls.key"),
        (
            "other-certificate",
            ", cert = \"stranger.pem\", key = \"stranger.key\"",
            "does not accept our client certificate",
        ),
    ] {
        let endpoint = Endpoint::secure(Vec::new(), &pki.ca.leaf("localhost"), Some(&pki.ca));
        rows.push(row(name, secure(&endpoint, more), "tls", says, "retrying"));
        far.push(Box::new(endpoint));
    }
    let echo = format!("you said {SECRET}");
    for (name, reply, says, standing) in [
        ("reset", Reply::Reset, "reset the connection", "retrying"),
        (
            "moved",
            Reply::of("301 Moved", &format!("Location: https://portal.example/?from={SECRET}\r\n"), ""),
            "answered 301 Moved Permanently to https://portal.example/",
            "retrying",
        ),
        (
            "bad-request",
            Reply::of("400 Bad Request", "", &echo),
            "answered 400 Bad Request: you said",
            "dead-letter",
        ),
        (
            "unauthorized",
            Reply::of("401 Unauthorized", "", &echo),
            "check [integration.unauthorized.auth]",
            "retrying",
        ),
        (
            "not-found",
            Reply::of("404 Not Found", "", &echo),
            "check url and method of [integration.not-found]",
            "retrying",
        ),
        (
            "too-large",
            Reply::of("413 Content Too Large", "", &echo),
            "answered 413 Payload Too Large",
            "dead-letter",
        ),
        ("unprocessable", Reply::of("422 Unprocessable Content", "", &echo), "answered 422", "dead-letter"),
        (
            "too-many",
            Reply::of("429 Too Many Requests", "Retry-After: 3600\r\n", &echo),
            "it asks to be left alone for 3600s",
            "retrying",
        ),
        (
            "unavailable",
            Reply::of("503 Service Unavailable", "", &echo),
            "answered 503 Service Unavailable",
            "retrying",
        ),
    ] {
        let endpoint = Endpoint::plain(vec![reply; 8]);
        let layer = if name == "reset" { "tcp" } else { "http" };
        rows.push(row(name, url("http", endpoint.address), layer, says, standing));
        far.push(Box::new(endpoint));
    }
    (rows, far)
}

/// Runs them all, and looks at what is told of each.
fn run(kind: &str, rows: &[Row], pki: &Pki) {
    let tables = rows.iter().map(|row| {
        // A failure of this moment is to stay the last one.
        let retry = "retry = { strategy = \"fixed\", initial = \"1h\", probe = \"1h\" }";
        format!("[integration.{}]\ntype = \"{kind}\"\n{retry}\n{}\n", row.name, row.keys)
    });
    let world = World::new(&tables.collect::<String>());
    world.write_ca("ca", &pki.ca);
    world.write_leaf("stranger", &pki.stranger.leaf("gateway"));
    let mut agent = world.start();
    let status = agent.wait_until("all have failed", |status| {
        rows.iter().all(|row| !integration(status, row.name)["last_error"].is_null())
    });
    let mut told: BTreeMap<String, &str> = BTreeMap::new();
    for row in rows {
        let error = &integration(&status, row.name)["last_error"];
        let message = without_ports(error["message"].as_str().unwrap());
        assert_eq!(error["layer"], row.layer, "{}: {message}", row.name);
        assert!(message.contains(row.says), "{}: {message}", row.name);
        let entry = world.last_entry(row.name).unwrap();
        assert_eq!(entry["status"], row.standing, "{entry}");
        assert_eq!(
            (&entry["error"]["layer"], &entry["error"]["message"]),
            (&error["layer"], &error["message"]),
            "{}: history and status",
            row.name
        );
        // The same failure of the other version of MQTT is the same failure.
        let other = told.insert(message.clone(), row.name).filter(|other| format!("{other}-5") != row.name);
        assert_eq!(other, None, "{} is told alike: {message}", row.name);
    }
    world.assert_no_secrets(&agent);
    assert!(agent.terminate().success());
}

/// Ports differ from one far end to the next and say nothing.
fn without_ports(message: &str) -> String {
    let mut parts = message.split(':');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        text += if rest.len() + 4 <= part.len() { ":PORT" } else { ":" };
        text += if rest.len() + 4 <= part.len() { rest } else { part };
    }
    text
}

#[test]
fn every_failure_of_http_has_an_error_of_its_own() {
    let pki = Pki { ca: Authority::new("ours"), stranger: Authority::new("theirs") };
    let (rows, _far) = http(&pki);
    run("http", &rows, &pki);
}

fn mqtt(pki: &Pki) -> (Vec<Row>, FarEnds) {
    let (mut rows, mut far) = (Vec::new(), FarEnds::new());
    let brokers = Brokers::start(&pki.ca, &pki.ca.leaf("localhost"));
    let small = Small::start();
    let login = format!("username = \"gw\"\npassword = \"{SECRET}\"\n");
    let plain = |at: SocketAddr, more: &str| format!("url = \"mqtt://{at}\"\n{login}{more}");
    let to = |port: u16, more: &str| format!("url = \"mqtt://127.0.0.1:{port}\"\n{more}");
    let tls = |port: u16, more: &str| {
        format!("url = \"mqtts://localhost:{port}\"\n{login}tls = {{ ca = \"ca.pem\"{more} }}\n")
    };
    let v5 = "version = \"5\"\n";
    rows.extend([
        row(
            "refused",
            plain(nobody(), ""),
            "tcp",
            "it refused the connection: nothing listens on that port",
            "offline",
        ),
        row(
            "dns",
            format!("url = \"mqtt://no-such-host.invalid\"\n{login}"),
            "dns",
            "check the name and this gateway's DNS",
            "offline",
        ),
        row(
            "closed-5",
            plain(answers(b"", true), v5),
            "mqtt",
            "does it speak MQTT 5 (else set version = \"3.1.1\")",
            "offline",
        ),
        row(
            "not-mqtt",
            plain(answers(b"HTTP/1.1 400 Bad Request\r\n\r\n", true), ""),
            "mqtt",
            "is it an MQTT broker?",
            "offline",
        ),
        row(
            "not-mqtt-5",
            plain(answers(b"HTTP/1.1 400 Bad Request\r\n\r\n", true), v5),
            "mqtt",
            "is it an MQTT broker?",
            "offline",
        ),
        row("dropped", plain(answers(&[0x20, 2, 0, 0], true), ""), "tcp", "closed the connection", "offline"),
        row(
            "not-tls",
            tls(brokers.open.port(), ""),
            "tls",
            "closed the connection during the TLS handshake; is that port meant for TLS?",
            "offline",
        ),
        row(
            "tls-only",
            to(brokers.tls, &login),
            "mqtt",
            "closed the connection before CONNACK; is this port for TLS, or another protocol?",
            "offline",
        ),
        row(
            "password",
            to(brokers.plain(), &login),
            "mqtt",
            "(CONNACK 5); check username, password, client_id and the broker's access rules",
            "offline",
        ),
        row(
            "password-5",
            to(brokers.plain(), &(login.clone() + v5)),
            "mqtt",
            "CONNACK 0x87 (not authorized); check username, password, client_id",
            "offline",
        ),
        row(
            "no-certificate",
            tls(brokers.mutual, ""),
            "tls",
            "asks for a client certificate; set tls.cert and tls.key",
            "offline",
        ),
        row(
            "other-certificate",
            tls(brokers.mutual, ", cert = \"stranger.pem\", key = \"stranger.key\""),
            "tls",
            "does not accept our client certificate",
            "offline",
        ),
        row(
            "topic",
            to(brokers.open.port(), "topic = \"{{device.variables.topic}}/up\"\n"),
            "render",
            "topic: ",
            "dead-letter",
        ),
        row(
            "oversize",
            to(brokers.open.port(), &format!("body = \"{}\"\n", "x".repeat(262_144))),
            "mqtt",
            "more than the 262144 that the broker takes",
            "dead-letter",
        ),
        row(
            "oversize-5",
            to(small.port, v5),
            "mqtt",
            "more than the 300 that the broker takes",
            "dead-letter",
        ),
    ]);
    for (code, is_v5, name, says) in [
        (1, false, "connack-1", "does not speak MQTT 3.1.1 (CONNACK 1)"),
        (2, false, "connack-2", "refused the client id (CONNACK 2); check client_id"),
        (3, false, "connack-3", "is unavailable (CONNACK 3)"),
        (4, false, "connack-4", "refused the user name or password (CONNACK 4); check username and password"),
        (0x84, true, "connack-84", "it does not speak MQTT 5, so set version = \"3.1.1\""),
        (0x85, true, "connack-85", "CONNACK 0x85 (client identifier not valid); check client_id"),
        (0x86, true, "connack-86", "CONNACK 0x86 (bad user name or password); check username and password"),
        (0x88, true, "connack-88", "CONNACK 0x88 (server unavailable)"),
        (0x8a, true, "connack-8a", "CONNACK 0x8a (banned); check"),
    ] {
        let more = if is_v5 { v5 } else { "" };
        rows.push(row(name, plain(connack(code, is_v5), more), "mqtt", says, "offline"));
    }
    for (name, endpoint, more, says) in tls_failures(pki) {
        rows.push(row(name, tls(endpoint.address.port(), more), "tls", says, "offline"));
        far.push(Box::new(endpoint));
    }
    far.extend([Box::new(brokers) as Box<dyn Any>, Box::new(small)]);
    (rows, far)
}

/// A mosquitto that takes packets of 300 bytes at most, and says so in MQTT 5.
struct Small {
    port: u16,
    _folder: tempfile::TempDir,
    _broker: Broker,
}

impl Small {
    fn start() -> Small {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let extra = "max_packet_size 300\n".to_owned();
        let config = BrokerConfig { port, folder: folder.path().to_owned(), tls: None, extra };
        let broker = Broker::start(&config).unwrap();
        Small { port, _folder: folder, _broker: broker }
    }
}

#[test]
fn every_failure_of_mqtt_has_an_error_of_its_own() {
    let pki = Pki { ca: Authority::new("ours"), stranger: Authority::new("theirs") };
    let (rows, _far) = mqtt(&pki);
    run("mqtt", &rows, &pki);
}

/// Our clock in 1970, where it stands until NTP has an answer: a certificate that seems too young is no fault of the server, and
/// what it refuses us meanwhile no reason to wait for anybody (RULES S8). In this process, whose clock can be turned.
#[tokio::test]
async fn a_clock_in_1970_is_named() {
    let ca = Authority::new("ours");
    let server = Endpoint::secure(Vec::new(), &ca.leaf_between("localhost", 2999, 3000), None);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
    for (kind, scheme) in [("http", "https"), ("mqtt", "mqtts")] {
        let mut bench = Bench::new(ROOMY).await;
        bench.clock.step_wall(-bench.clock.wall_us());
        bench.clock.set_trusted(false);
        bench.append(To::Us, &devices(&[1])).await;
        let text = format!(
            "[gateway]\nname = \"roof\"\n[integration.us]\ntype = \"{kind}\"\nurl = \"{scheme}://localhost:{}\"\n\
             tls = {{ ca = \"ca.pem\" }}\n",
            server.address.port()
        );
        let config = Config::parse(&text, &folder.path().join("packhorse.toml")).unwrap().config;
        let (dial, interpreter) = (Dial::new(bench.clock.clone()), Interpreter::plain("roof"));
        let client =
            Integration::try_new(&config.integrations[0], &dial, &interpreter, &[Variant::default()])
                .unwrap();
        let (lane, mut seen) = bench.lane(client.ordering(), config.integrations[0].retry.clone());
        let (stopper, stop) = Stopper::new();
        let thread = client.start(lane, stop).unwrap();
        let status = seen.wait_for(|status| status.last_error.is_some()).await.unwrap().clone();
        let error = status.last_error.clone().unwrap();
        assert_eq!((error.layer.as_str(), status.state(Instant::now())), ("clock", State::Degraded));
        let says = "this gateway's clock is not set or not trusted, and by it the certificate of localhost:";
        assert!(error.message.starts_with(says) && error.message.ends_with("check NTP"), "{}", error.message);
        stopper.stop();
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
        let entries = bench.history.entries();
        assert_eq!(entries.last().unwrap().error(), Some(&("clock", error.message)));
    }
}
