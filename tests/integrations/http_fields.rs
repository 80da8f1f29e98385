//! Every field of an HTTP integration, against a real HTTP(S) server.

use std::time::Duration;

use serde_json::Value;

use crate::authority::rsa_key;
use crate::endpoint::{Endpoint, Received, Reply};
use crate::support::integration;
use crate::world::{SECRET, World};
use crate::{Authority, Leaf};

/// What a request, or the history of its uplink, is to show: the request line (`line`), a header (its name), a value of a
/// JSON body (`/pointer`), the body (`body`), of the handshake `sni`, `alpn` and `client certificate`. A value that ends
/// with `…` is a beginning; `-` is for what must not be there.
type Expected<'a> = (&'a str, &'a str);

/// A line of the table: what the integration is called, what the endpoint answers one request after the other, the path of the
/// URL, the keys of the integration, and what the last request shows. All but the last answer are failures.
struct Row {
    name: &'static str,
    server: Server,
    replies: Vec<Reply>,
    path: &'static str,
    keys: String,
    expected: Vec<(&'static str, String)>,
    /// How the uplink stands then.
    standing: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Plain,
    /// With a certificate for `localhost` of a private CA.
    Secure,
    /// Asks for a certificate of ours, too.
    Mutual,
    /// With a certificate for `api.example`.
    OtherName,
}

fn row(name: &'static str, keys: &str, expected: &[Expected<'static>]) -> Row {
    Row {
        name,
        server: Server::Plain,
        replies: vec![ok()],
        path: "/up",
        keys: keys.to_owned(),
        expected: expected.iter().map(|(what, value)| (*what, (*value).to_owned())).collect(),
        standing: "delivered",
    }
}

impl Row {
    fn at(self, path: &'static str) -> Row {
        Row { path, ..self }
    }

    fn by(self, server: Server) -> Row {
        Row { server, ..self }
    }

    fn answered(self, replies: Vec<Reply>) -> Row {
        Row { replies, ..self }
    }

    fn ends(self, standing: &'static str) -> Row {
        Row { standing, ..self }
    }
}

fn ok() -> Reply {
    status(200)
}

fn status(code: u16) -> Reply {
    Reply::of(&format!("{code} Answer"), "", "")
}

fn table() -> Vec<Row> {
    let auth = |keys: &str| format!("auth = {{ {keys} }}");
    let quickly = |keys: &str| format!("retry = {{ initial = \"20ms\", max = \"20ms\", {keys} }}");
    let tls = |keys: &str| format!("tls = {{ ca = \"ca.pem\"{keys} }}");
    vec![
        // URL, method, headers.
        row(
            "defaults",
            "",
            &[
                ("line", "POST /up HTTP/1.1"),
                ("content-type", "application/json"),
                ("user-agent", concat!("packhorse/", env!("CARGO_PKG_VERSION"))),
                ("authorization", "-"),
                ("x-attempt", "1"),
                ("/type", "uplink"),
                ("/device/name", "sensor-1"),
                ("/gateway/name", "shed"),
                ("/payload", "Y29sZA=="),
            ],
        ),
        row("url-templated", "", &[("line", "POST /north%20field%2F7/up?n=5&k=v4riable-s3cret HTTP/1.1")])
            .at("/{{device.variables.site}}/up?n={{f_cnt}}&k={{device.variables.token}}"),
        row("method-post", "method = \"POST\"", &[("line", "POST /up HTTP/1.1")]),
        row("method-put", "method = \"PUT\"", &[("line", "PUT /up HTTP/1.1")]),
        row("method-patch", "method = \"PATCH\"", &[("line", "PATCH /up HTTP/1.1")]),
        row(
            "headers",
            "headers = { \"X-Site\" = \"at {{device.variables.site}}\", \"X-Token\" = { file = \"header\" } }",
            &[("x-site", "at north field/7"), ("x-token", "c0nfig-s3cret-header")],
        ),
        // Authentication.
        row("auth-none", &auth("type = \"none\""), &[("authorization", "-")]),
        row(
            "auth-basic",
            &auth("type = \"basic\", username = \"gw\", password = { file = \"password\" }"),
            &[("authorization", "Basic Z3c6YzBuZmlnLXMzY3JldC1wYXNzd29yZA==")],
        ),
        row(
            "auth-bearer",
            &auth("type = \"bearer\", token = { file = \"token\" }"),
            &[("authorization", "Bearer c0nfig-s3cret-token")],
        ),
        row(
            "auth-api-key",
            &auth("type = \"api-key\", name = \"X-Api-Key\", value = { file = \"key\" }"),
            &[("x-api-key", "c0nfig-s3cret-key")],
        ),
        row(
            "auth-api-key-prefix",
            &auth(
                "type = \"api-key\", name = \"Authorization\", prefix = \"Token \", value = { file = \"key\" }",
            ),
            &[("authorization", "Token c0nfig-s3cret-key")],
        ),
        row(
            "auth-api-key-query",
            &auth("type = \"api-key\", in = \"query\", name = \"key\", value = { file = \"key\" }"),
            &[("line", "POST /up?v=1&key=c0nfig-s3cret-key HTTP/1.1")],
        )
        .at("/up?v=1"),
        row(
            "auth-azure-sas",
            &auth("type = \"azure-sas\", key = { file = \"sas\" }"),
            &[("authorization", "SharedAccessSignature sr=127.0.0.1%2Fdevices%2Fbarn…")],
        )
        .at("/devices/barn/messages/events?api-version=2020-03-13"),
        row(
            "auth-google",
            &auth("type = \"google-service-account\", key = { file = \"google.json\" }, ca = \"ca.pem\""),
            &[("authorization", "Bearer c0nfig-s3cret-of-google")],
        ),
        // Content type, format and body.
        row(
            "content-json",
            "content_type = \"json\"",
            &[("content-type", "application/json"), ("/f_port", "2")],
        ),
        row(
            "content-xml",
            "content_type = \"xml\"",
            &[("content-type", "application/xml"), ("body", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>…")],
        ),
        row(
            "content-form",
            "content_type = \"form\"",
            &[("content-type", "application/x-www-form-urlencoded"), ("body", "type=uplink&id=…")],
        ),
        row(
            "content-text",
            "content_type = \"text\"",
            &[("content-type", "text/plain; charset=utf-8"), ("body", "type: uplink\n…")],
        ),
        row(
            "content-binary",
            "content_type = \"binary\"",
            &[("content-type", "application/octet-stream"), ("body", "cold")],
        ),
        row(
            "content-mime-and-body",
            "content_type = \"application/vnd.acme+json\"\nbody = '{\"n\":{{f_cnt}},\"s\":\"{{device.variables.site}}\",\"t\":{{decoded.t}}}'",
            &[
                ("content-type", "application/vnd.acme+json"),
                ("body", r#"{"n":5,"s":"north field/7","t":null}"#),
            ],
        ),
        row("format-chirpstack", "format = \"chirpstack\"", &[("/deviceInfo/devEui", "0004a30b001c0001")]),
        row("format-tts", "format = \"tts\"", &[("/end_device_ids/dev_eui", "0004A30B001C0001")]),
        row("format-helium", "format = \"helium\"", &[("/dev_eui", "0004A30B001C0001")]),
        // Timeout, success codes, retry strategy.
        row("timeout", &format!("timeout = \"1s\"\n{}", quickly("")), &[("x-attempt", "2")])
            .answered(vec![Reply::Silence, ok()]),
        row("success-204", "", &[]).answered(vec![status(204)]),
        row("success-list", "success_codes = [202, \"409-410\"]", &[]).answered(vec![status(410)]),
        row(
            "success-no-other",
            "success_codes = [\"201\"]\nretry = { probe = \"1s\" }",
            &[("x-attempt", "2")],
        )
        .answered(vec![ok(), status(201)]),
        row("retry-exponential", &quickly("strategy = \"exponential\""), &[("x-attempt", "4")])
            .answered(vec![status(503), status(408), Reply::Reset, ok()]),
        row("retry-fixed", "retry = { strategy = \"fixed\", initial = \"20ms\" }", &[("x-attempt", "3")])
            .answered(vec![status(500), status(425), ok()]),
        row("retry-none", "retry = { strategy = \"none\" }", &[("x-attempt", "1")])
            .answered(vec![status(503)])
            .ends("dead-letter"),
        row("retry-attempts", &quickly("max_attempts = 3"), &[("x-attempt", "3")])
            .answered(vec![status(503), status(503), status(503)])
            .ends("dead-letter"),
        row("reject-dead-letter", &quickly(""), &[]).answered(vec![status(422)]).ends("dead-letter"),
        row("reject-retry", &quickly("on_reject = \"retry\""), &[("x-attempt", "2")])
            .answered(vec![status(422), ok()]),
        row("probe", "retry = { probe = \"1s\" }", &[("x-attempt", "2")]).answered(vec![status(401), ok()]),
        // TLS.
        row("tls-ca", &tls(""), &[("sni", "localhost"), ("alpn", "http/1.1"), ("client certificate", "-")])
            .by(Server::Secure),
        row(
            "tls-client-certificate",
            &tls(", cert = \"gw.pem\", key = \"gw.key\""),
            &[("client certificate", "yes")],
        )
        .by(Server::Mutual),
        row("tls-server-name", &tls(", server_name = \"api.example\""), &[("sni", "api.example")])
            .by(Server::OtherName),
        row("tls-alpn", &tls(", alpn = [\"x-unknown\", \"http/1.1\"]"), &[("alpn", "http/1.1")])
            .by(Server::Secure),
        // Batches.
        row(
            "batch-array",
            "batch = 8",
            &[("content-type", "application/json"), ("/0/type", "uplink"), ("/1", "-")],
        ),
        row(
            "batch-ndjson",
            "batch = 8\nbatch_format = \"ndjson\"",
            &[("content-type", "application/x-ndjson"), ("/type", "uplink")],
        ),
        #[cfg(feature = "gzip")]
        row("compress-gzip", "compress = \"gzip\"", &[("content-encoding", "gzip"), ("/type", "uplink")]),
    ]
}

/// What a request shows of something.
fn shown(request: &Received, what: &str) -> Option<String> {
    let tls = request.tls.as_ref();
    let body = body(request);
    match what {
        "line" => Some(request.line.clone()),
        "body" => Some(String::from_utf8_lossy(&body).into_owned()),
        "sni" => tls?.server_name.clone(),
        "alpn" => tls?.protocol.clone(),
        "client certificate" => tls?.has_client_certificate.then(|| "yes".to_owned()),
        pointer if pointer.starts_with('/') => {
            let json: Value = serde_json::from_slice(&body).unwrap();
            let value = json.pointer(pointer)?;
            Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        }
        header => request.header(header).map(str::to_owned),
    }
}

fn body(request: &Received) -> Vec<u8> {
    #[cfg(feature = "gzip")]
    if request.header("content-encoding") == Some("gzip") {
        let mut body = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&request.body[..]), &mut body).unwrap();
        return body;
    }
    request.body.clone()
}

fn is_as_expected(shown: Option<&str>, expected: &str) -> bool {
    match (shown, expected) {
        (shown, "-") => shown.is_none(),
        (None, _) => false,
        (Some(shown), expected) => match expected.strip_suffix('…') {
            Some(beginning) => shown.starts_with(beginning),
            None => shown == expected,
        },
    }
}

/// Certificates: of the servers, and ours.
struct Pki {
    ca: Authority,
    localhost: Leaf,
    other_name: Leaf,
}

impl Pki {
    fn new() -> Pki {
        let ca = Authority::new("ours");
        Pki { localhost: ca.leaf("localhost"), other_name: ca.leaf("api.example"), ca }
    }

    /// The endpoint of a row, and its URL.
    fn endpoint(&self, row: &Row) -> (Endpoint, String) {
        let replies = row.replies.clone();
        let endpoint = match row.server {
            Server::Plain => Endpoint::plain(replies),
            Server::Secure => Endpoint::secure(replies, &self.localhost, None),
            Server::Mutual => Endpoint::secure(replies, &self.localhost, Some(&self.ca)),
            Server::OtherName => Endpoint::secure(replies, &self.other_name, None),
        };
        let url = match row.server {
            Server::Plain => endpoint.url("http", row.path),
            _ => format!("https://localhost:{}{}", endpoint.address.port(), row.path),
        };
        (endpoint, url)
    }
}

#[test]
fn every_field_does_what_it_says() {
    let (rows, pki) = (table(), Pki::new());
    let far: Vec<(Endpoint, String)> = rows.iter().map(|row| pki.endpoint(row)).collect();
    let unwanted = Endpoint::plain(vec![ok()]);
    let mut tables = format!(
        "[integration.inactive]\ntype = \"http\"\nenabled = false\nurl = \"{}\"\n",
        unwanted.url("http", "/up")
    );
    for (row, (_, url)) in rows.iter().zip(&far) {
        tables += &format!("[integration.{}]\ntype = \"http\"\nurl = \"{url}\"\n{}\n", row.name, row.keys);
    }
    let world = World::new(&tables);
    for name in ["header", "password", "token", "key"] {
        world.write(name, &format!("{SECRET}-{name}"));
    }
    world.write("sas", &data_encoding::BASE64.encode(SECRET.as_bytes()));
    let granted =
        format!("{{\"access_token\":\"{SECRET}-of-google\",\"expires_in\":3600,\"token_type\":\"Bearer\"}}");
    let google = Endpoint::secure(vec![Reply::of("200 OK", "", &granted)], &pki.localhost, None);
    let account = serde_json::json!({
        "type": "service_account", "project_id": "farm", "private_key_id": "1", "client_id": "1",
        "client_email": "gateway@farm.iam.gserviceaccount.com",
        "private_key": rsa_key(world.site.path(), 2_048),
        "token_uri": format!("https://localhost:{}/token", google.address.port()),
    });
    world.write("google.json", &account.to_string());
    world.write_ca("ca", &pki.ca);
    world.write_leaf("gw", &pki.ca.leaf("gateway"));
    let mut agent = world.start();

    for (row, (endpoint, _)) in rows.iter().zip(&far) {
        let requests: Vec<Received> = row.replies.iter().map(|_| endpoint.received()).collect();
        let last = requests.last().unwrap();
        for (what, expected) in &row.expected {
            let shown = shown(last, what);
            assert!(
                is_as_expected(shown.as_deref(), expected),
                "{}: {what} is {shown:?}, not {expected:?}",
                row.name
            );
        }
        for (n, request) in requests.iter().enumerate() {
            assert_eq!(request.header("x-attempt"), Some((n + 1).to_string().as_str()), "{}", row.name);
            assert_eq!(request.body, last.body, "{}: every attempt has the same body", row.name);
            assert_eq!(request.header("idempotency-key"), last.header("idempotency-key"), "{}", row.name);
            assert!(request.header("x-hold-ms").unwrap().parse::<u64>().is_ok(), "{}", row.name);
        }
    }
    let status = agent.wait_until("all are settled", |status| {
        rows.iter().all(|row| integration(status, row.name)["backlog"] == 0)
    });
    for (row, (endpoint, _)) in rows.iter().zip(&far) {
        let entry = world.last_entry(row.name).unwrap();
        assert_eq!(
            (&entry["status"], &entry["attempts"]),
            (&row.standing.into(), &row.replies.len().into()),
            "{entry}"
        );
        let dead = u64::from(row.standing == "dead-letter");
        let shown = integration(&status, row.name);
        assert_eq!((&shown["type"], &shown["enabled"]), (&"http".into(), &true.into()));
        assert_eq!(
            (&shown["dead_letters"], &shown["delivered"]),
            (&dead.into(), &(1 - dead).into()),
            "{}",
            row.name
        );
        assert!(
            endpoint.received_no_more(),
            "{} was sent more than {} requests",
            row.name,
            row.replies.len()
        );
    }
    assert_eq!(integration(&status, "inactive")["state"], "inactive");
    assert!(unwanted.received_no_more());
    world.assert_no_secrets(&agent);
    assert!(agent.terminate().success());
}

/// `Retry-After` in both its forms is a wait that no back-off shortens.
#[test]
fn retry_after_is_waited_for() {
    const WAIT: Duration = Duration::from_secs(2);
    let in_seconds = "Retry-After: 2\r\n";
    // By the clock of the server, whatever ours says.
    let at_a_time = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:49:39 GMT\r\n";
    for headers in [in_seconds, at_a_time] {
        let endpoint = Endpoint::plain(vec![Reply::of("429 Too Many Requests", headers, ""), ok()]);
        let world = World::new(&format!(
            "[integration.api]\ntype = \"http\"\nurl = \"{}\"\nretry = {{ initial = \"20ms\", max = \"20ms\" }}\n",
            endpoint.url("http", "/up")
        ));
        let agent = world.start();
        let (first, second) = (endpoint.received(), endpoint.received());
        assert!(second.at - first.at >= WAIT, "{headers}: {:?}", second.at - first.at);
        drop(agent);
    }
}
