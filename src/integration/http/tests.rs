#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::{By, Clock as _, ManualClock, Offset, RELEASE_FLOOR_US};
use crate::config::{ApiKeyIn, Auth, Integration, Method, SuccessCodes};
use crate::delivery::outcome::{Blame, Failure, Layer, Outcome};
use crate::dial::Dial;
use crate::integration::testing::{
    Authority, Endpoint, Leaf, Reply, http_integration, http_of, secret, spot, uplink, write,
};
use crate::uplink::Kind;

fn dial() -> Dial {
    Dial::new(Arc::new(ManualClock::new()))
}

fn client(integration: &Integration) -> HttpClient {
    HttpClient::try_new(integration, &dial(), &Interpreter::plain("barn-roof"), &[Variant::default()])
        .unwrap()
}

fn problems(integration: &Integration) -> Vec<Problem> {
    HttpClient::try_new(integration, &dial(), &Interpreter::plain("barn-roof"), &[Variant::default()])
        .unwrap_err()
}

fn failure(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

/// Sends the uplink, `attempt` times so far.
fn send(client: &HttpClient, attempt: u32) -> Outcome {
    client.send(&Sending { attempt, ..Sending::first(&uplink()) }).outcome
}

/// Sends one uplink to an endpoint that answers `reply`.
fn answered(reply: Reply) -> Outcome {
    let endpoint = Endpoint::plain(vec![reply]);
    send(&client(&http_integration(&endpoint.url("http", "/up"), Method::Post)), 1)
}

fn shown(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered(receipt) => receipt.to_string(),
        Outcome::Failed(failure) => format!("{failure} {failure:?}"),
        Outcome::Filtered => "filtered".into(),
    }
}

#[test]
fn a_request_is_what_the_reference_says() {
    let endpoint = Endpoint::plain(vec![Reply::of("201 Created", "", "{}")]);
    let url = endpoint.url("http", "/v1/{{device.dev_addr}}/up?n={{f_cnt}}");
    let mut integration = http_integration(&url, Method::Put);
    http_of(&mut integration).headers = vec![
        (spot("X-Site".into()), secret("site {{gateway.name}}")),
        (spot("content-type".into()), secret("application/vnd.acme+json")),
    ];
    let client = client(&integration);
    assert_eq!(shown(&send(&client, 3)), "HTTP 201");

    let request = endpoint.received();
    assert_eq!(request.line, "PUT /v1/260b1f2e/up?n=41 HTTP/1.1");
    for (name, value) in [
        ("idempotency-key", "01936b1e-0000-7000-8000-0000000000aa"),
        ("x-attempt", "3"),
        ("user-agent", concat!("packhorse/", env!("CARGO_PKG_VERSION"))),
        ("content-type", "application/vnd.acme+json"),
        ("x-site", "site barn-roof"),
        ("host", &endpoint.address.to_string()),
    ] {
        assert_eq!(request.header(name), Some(value), "{request:?}");
    }
    assert_eq!(request.header("transfer-encoding"), None);
    assert_eq!(request.header("content-length"), Some(request.body.len().to_string().as_str()));
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["f_cnt"], 41);
    assert_eq!(client.shown_url(), endpoint.url("http", "/v1/{{device.dev_addr}}/up?…"));
}

#[test]
fn the_content_type_goes_with_the_body() {
    for (content_type, body, header, expected) in [
        ("form", Some("n={{f_cnt}}&x={{decoded.x}}"), "application/x-www-form-urlencoded", "n=41&x="),
        ("json", Some("[{{f_cnt}},{{decoded.x}}]"), "application/json", "[41,null]"),
        ("application/vnd.acme+xml", Some("<n>{{f_cnt}}</n>"), "application/vnd.acme+xml", "<n>41</n>"),
        ("text", None, "text/plain; charset=utf-8", "type: uplink\n"),
        ("binary", None, "application/octet-stream", "@."),
    ] {
        let endpoint = Endpoint::plain(vec![Reply::of("204 No Content", "", "")]);
        let mut integration = http_integration(&endpoint.url("http", "/up"), Method::Post);
        http_of(&mut integration).content_type = spot(content_type.into());
        integration.body = body.map(|body| spot(body.into()));
        assert_eq!(shown(&send(&client(&integration), 1)), "HTTP 204");
        let request = endpoint.received();
        assert_eq!(request.header("content-type"), Some(header));
        assert!(request.body.starts_with(expected.as_bytes()), "{request:?}");
    }
}

#[test]
fn attempts_differ_in_nothing_but_their_number_and_the_time_held() {
    let endpoint = Endpoint::plain(vec![Reply::of("503 Busy", "", ""), Reply::of("204 No Content", "", "")]);
    let client = client(&http_integration(&endpoint.url("http", "/up"), Method::Patch));
    failure(send(&client, 1));
    assert_eq!(shown(&send(&client, 2)), "HTTP 204");
    let (mut first, mut second) = (endpoint.received(), endpoint.received());
    assert_eq!((first.header("x-attempt"), second.header("x-attempt")), (Some("1"), Some("2")));
    for request in [&mut first, &mut second] {
        request.headers.retain(|(name, _)| !matches!(name.as_str(), "x-attempt" | "x-hold-ms"));
    }
    assert_eq!((first.line, first.headers, first.body), (second.line, second.headers, second.body));
}

/// RULES S2: an uplink of an earlier boot has an age only where the clock was and is believed.
#[test]
fn how_long_an_uplink_was_held_is_told_where_it_is_known() {
    let hour = Duration::from_secs(3_600);
    let (now, other) = (ManualClock::new(), [1; 16]);
    let same = now.boot_id();
    // Boot, heard on a trusted clock, the clock is trusted now, milliseconds since.
    for (boot_id, was_trusted, is_trusted, expected) in [
        (same, true, true, Some("3600250")),
        (same, false, false, Some("3600250")),
        (other, true, true, Some("3600000")),
        (other, false, true, None),
        (other, true, false, None),
    ] {
        let endpoint = Endpoint::plain(vec![Reply::of("204 No Content", "", "")]);
        let clock = Arc::new(ManualClock::new());
        let mut held = uplink();
        // By the boot clock it is a quarter of a second older.
        held.at.boot_id = boot_id;
        held.at.boot_ns = clock.boot_ns() - 250_000_000;
        held.at.wall_us = clock.wall_us();
        held.flags.clock_trusted = was_trusted;
        clock.advance(hour);
        clock.set_trusted(is_trusted);
        let integration = http_integration(&endpoint.url("http", "/up"), Method::Post);
        let interpreter = Interpreter::plain("barn-roof");
        let client =
            HttpClient::try_new(&integration, &Dial::new(clock), &interpreter, &[Variant::default()])
                .unwrap();
        assert_eq!(shown(&client.send(&Sending::first(&held)).outcome), "HTTP 204");
        assert_eq!(
            endpoint.received().header("x-hold-ms"),
            expected,
            "{boot_id:?} {was_trusted} {is_trusted}"
        );
    }
}

#[test]
fn s1_answers_are_judged_by_their_status() {
    let link = |seconds: Option<u64>| Blame::Link { retry_after: seconds.map(Duration::from_secs) };
    for (reply, blame) in [
        (Reply::of("400 Bad Request", "", "no"), Blame::Record),
        (Reply::of("401 Unauthorized", "", ""), Blame::Endpoint),
        (Reply::of("404 Not Found", "", "where?"), Blame::Endpoint),
        (Reply::of("429 Too Many Requests", "Retry-After: 30\r\n", ""), link(Some(30))),
        (Reply::of("503 Service Unavailable", "", "later"), link(None)),
        // HTTP/1.0 style: the end of the connection ends the body.
        (Reply::Last("HTTP/1.1 422 Unprocessable\r\n\r\nodd".into()), Blame::Record),
        // The status was given; a body that breaks off takes nothing back.
        (Reply::Last("HTTP/1.1 413 Too Large\r\nContent-Length: 99\r\n\r\ncut".into()), Blame::Record),
    ] {
        let failure = failure(answered(reply.clone()));
        assert_eq!((failure.layer, failure.blame), (Layer::Http, blame), "{reply:?}");
    }
    let cut = answered(Reply::Last("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncut".into()));
    assert_eq!(shown(&cut), "HTTP 200");
}

#[test]
fn s1_a_redirect_is_shown_and_not_followed() {
    let portal = Endpoint::plain(vec![Reply::of("200 OK", "", "welcome to the hotel")]);
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let location = format!("Location: {}\r\n", portal.url("http", "/login"));
        let failure = failure(answered(Reply::of(status, &location, "<html>")));
        assert_eq!((failure.layer, failure.blame), (Layer::Http, Blame::Endpoint));
        assert!(failure.message.contains(&portal.url("http", "/login")), "{failure}");
        assert!(failure.message.contains("captive portal"), "{failure}");
    }
    assert!(portal.received_no_more());
}

#[test]
fn success_codes_are_the_configured_ones() {
    let endpoint = Endpoint::plain(vec![Reply::of("204 No Content", "", ""), Reply::of("302 Found", "", "")]);
    let mut integration = http_integration(&endpoint.url("http", "/up"), Method::Post);
    http_of(&mut integration).success_codes = SuccessCodes(vec![200..=200, 302..=302]);
    let client = client(&integration);
    assert_eq!(failure(send(&client, 1)).blame, Blame::Endpoint);
    assert_eq!(shown(&send(&client, 2)), "HTTP 302");
}

#[test]
fn s37_what_an_answer_says_is_printable_and_short() {
    let body = format!("\u{1b}[2Jbad\r\n\tpayload{}", "!".repeat(3_000));
    let failure = failure(answered(Reply::of("400 Bad Request", "", &body)));
    assert!(failure.message.contains(": bad payload!!!"), "{failure}");
    assert!(!failure.message.contains('\u{1b}') && failure.message.chars().count() < 350, "{failure}");
}

#[test]
fn invariant_8_no_failure_repeats_a_secret() {
    let (header, query, value) = ("h34der-s3cret", "qu3ry/s3cret", "Secret v4lue-s3cret");
    let echo = format!("{header} {query} qu3ry%2Fs3cret {value} l1teral-s3cret");
    let location = format!("Location: http://portal/?u=/up?key=qu3ry%2Fs3cret&k={header}\r\n");
    for place in [ApiKeyIn::Header, ApiKeyIn::Query] {
        let endpoint = Endpoint::plain(vec![
            Reply::of("401 Unauthorized", "", &echo),
            Reply::of("302 Found", &location, &echo),
            Reply::of("500 Oops", "", &echo),
            Reply::Last("HTTP/1.1 what?\r\n\r\n".into()),
            Reply::Last(String::new()),
        ]);
        let url = endpoint.url("http", "/up?version=1&token=l1teral-s3cret");
        let mut integration = http_integration(&url, Method::Post);
        let both = [(header, "X-Other"), (query, "X-Key")];
        let (key, other) = if place == ApiKeyIn::Header { (header, query) } else { (query, header) };
        integration.auth =
            spot(Auth::ApiKey { place, name: "key".into(), prefix: "Token ".into(), value: secret(key) });
        http_of(&mut integration).headers =
            vec![(spot(both[0].1.into()), secret(other)), (spot("X-Value".into()), secret(value))];
        let client = client(&integration);
        for _ in 0..5 {
            let outcome = send(&client, 1);
            assert!(matches!(outcome, Outcome::Failed(_)));
            let text = shown(&outcome);
            assert!(!text.contains("s3cret"), "{text}");
        }
        assert!(!format!("{client:?} {}", client.shown_url()).contains("s3cret"));
        let request = endpoint.received();
        assert_eq!(request.header("key"), (place == ApiKeyIn::Header).then_some("Token h34der-s3cret"));
        assert_eq!(request.line.contains("&key=Token%20qu3ry%2Fs3cret"), place == ApiKeyIn::Query);
    }
}

#[test]
fn a_record_that_cannot_be_rendered_is_refused_without_a_request() {
    let endpoint = Endpoint::plain(vec![Reply::of("200 OK", "", "")]);
    let mut unsent = uplink();
    unsent.kind = Kind::Other;
    for path in ["/{{device.dev_addr}}/up", "/up?x={{phy_payload_hex}}"] {
        let client = client(&http_integration(&endpoint.url("http", path), Method::Post));
        let failure = failure(client.send(&Sending::first(&unsent)).outcome);
        assert_eq!((failure.layer, failure.blame), (Layer::Render, Blame::Record), "{failure}");
        unsent.content = vec![0; 8_000];
    }
    assert!(endpoint.received_no_more());
}

#[test]
fn an_endpoint_that_hangs_is_given_up_at_the_timeout() {
    let endpoint = Endpoint::plain(vec![Reply::Silence]);
    let mut integration = http_integration(&endpoint.url("http", "/up"), Method::Post);
    http_of(&mut integration).timeout = Duration::from_secs(1);
    let failure = failure(send(&client(&integration), 1));
    assert_eq!((failure.layer, failure.blame), (Layer::Http, Blame::Link { retry_after: None }));
    assert!(failure.message.contains("within 1s;"), "{failure}");
}

#[test]
fn what_breaks_before_an_answer_is_the_links_fault_and_named() {
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let odd = |text: &str| Endpoint::plain(vec![Reply::Last(text.to_owned())]);
    let (closed, garbage) = (odd(""), odd("SSH-2.0-OpenSSH_9.9\r\n\r\n"));
    let reset = Endpoint::plain(vec![Reply::Reset]);
    let headers = odd(&format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(9_000)));
    for (url, layer, says) in [
        (format!("http://{refused}/up"), Layer::Tcp, "refused"),
        ("http://no-such-host.invalid/up".to_owned(), Layer::Dns, "no address for no-such-host.invalid"),
        (closed.url("http", "/up"), Layer::Tcp, "closed the connection"),
        (reset.url("http", "/up"), Layer::Tcp, "reset the connection"),
        (garbage.url("http", "/up"), Layer::Http, "not HTTP/1.1"),
        (headers.url("http", "/up"), Layer::Http, "bytes of headers"),
    ] {
        let failure = failure(send(&client(&http_integration(&url, Method::Post)), 1));
        assert_eq!((failure.layer, failure.blame), (layer, Blame::Link { retry_after: None }), "{failure}");
        assert!(failure.message.contains(says), "{failure}");
    }
}

#[test]
fn a_client_that_was_shut_down_sends_no_more() {
    let endpoint = Endpoint::plain(vec![Reply::Silence]);
    let client = Arc::new(client(&http_integration(&endpoint.url("http", "/up"), Method::Post)));
    let sender = Arc::clone(&client);
    let in_flight = std::thread::spawn(move || send(&sender, 1));
    endpoint.received();
    client.shutdown();
    for outcome in [in_flight.join().unwrap(), send(&client, 2)] {
        assert!(matches!(failure(outcome).blame, Blame::Link { .. }));
    }
}

/// RULES S10: what says that a member of a group may be used again.
#[test]
fn s10_a_probe_is_answered_well_or_not() {
    for (status, is_well) in [
        ("200 OK", true),
        ("204 No Content", true),
        ("404 Not Found", true),
        ("405 Method Not Allowed", true),
        ("501 Not Implemented", true),
        ("302 Found", false),
        ("401 Unauthorized", false),
        ("403 Forbidden", false),
        ("429 Too Many Requests", false),
        ("500 Internal Server Error", false),
        ("503 Service Unavailable", false),
    ] {
        let endpoint = Endpoint::plain(vec![Reply::of(status, "", "")]);
        let probed = client(&http_integration(&endpoint.url("http", "/up"), Method::Post)).probe();
        assert_eq!(probed.is_ok(), is_well, "{status}: {probed:?}");
        assert_eq!(endpoint.received().line, "OPTIONS /up HTTP/1.1");
    }
}

/// A group that stops, or whose member is well again, does not wait for a probe, and leaves no thread behind with it.
#[tokio::test]
async fn a_probe_that_is_given_up_ends() {
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", hanging.local_addr().unwrap());
    let mut integration = http_integration(&url, Method::Post);
    http_of(&mut integration).timeout = Duration::from_secs(3_600);
    let http = Http::try_new(&integration, &dial(), &Interpreter::plain("barn-roof"), &[Variant::default()]);
    let http = http.unwrap();
    let (mut asked, mut request) = tokio::select! {
        answered = http.probe() => panic!("{answered:?}"),
        accepted = async {
            let mut stream = hanging.accept().await.unwrap().0;
            let mut first = [0; 7];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut first).await.unwrap();
            (stream, first.to_vec())
        } => accepted,
    };
    assert_eq!(request, b"OPTIONS");
    // It ends when the other side has closed it.
    tokio::io::AsyncReadExt::read_to_end(&mut asked, &mut request).await.unwrap();
}

/// A TLS endpoint and an integration that trusts `ca`.
fn secure(
    replies: Vec<Reply>,
    leaf: &Leaf,
    ca: &Authority,
    dir: &tempfile::TempDir,
) -> (Endpoint, Integration) {
    let endpoint = Endpoint::secure(replies, leaf, None);
    let mut integration = http_integration(&endpoint.url("https", "/up"), Method::Post);
    integration.tls.ca = Some(write(dir.path(), "ca.pem", &ca.pem()));
    (endpoint, integration)
}

#[test]
fn a_connection_with_tls_is_kept_and_a_session_taken_up() {
    let (ca, dir) = (Authority::new("ours"), tempfile::tempdir().unwrap());
    let ok = || Reply::of("200 OK", "", "fine");
    let last = Reply::Last("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".into());
    let (endpoint, integration) = secure(vec![ok(), ok(), last, ok()], &ca.leaf("127.0.0.1"), &ca, &dir);
    let client = client(&integration);
    for _ in 0..4 {
        assert_eq!(shown(&send(&client, 1)), "HTTP 200");
    }
    let seen: Vec<(usize, bool)> = (0..4)
        .map(|_| endpoint.received())
        .map(|request| (request.connection, request.tls.unwrap()))
        .inspect(|(_, tls)| assert_eq!(tls.protocol.as_deref(), Some("http/1.1")))
        .map(|(connection, tls)| (connection, tls.resumed))
        .collect();
    assert_eq!(seen, [(0, false), (0, false), (0, false), (1, true)]);
}

#[test]
fn only_a_certificate_of_our_ca_for_the_right_name_will_do() {
    let (ca, dir) = (Authority::new("ours"), tempfile::tempdir().unwrap());
    let stranger = Authority::new("theirs");
    for (leaf, layer, says) in [
        (stranger.leaf("127.0.0.1"), Layer::Tls, "not signed by a CA we trust; set tls.ca"),
        (ca.leaf("broker.example"), Layer::Tls, "for another name"),
        (ca.leaf_between("127.0.0.1", 2001, 2002), Layer::Tls, "has expired"),
        (ca.leaf_between("127.0.0.1", 3001, 3002), Layer::Tls, "not valid yet"),
    ] {
        let (endpoint, integration) = secure(vec![Reply::of("200 OK", "", "")], &leaf, &ca, &dir);
        let failure = failure(send(&client(&integration), 1));
        assert_eq!((failure.layer, failure.blame), (layer, Blame::Link { retry_after: None }), "{failure}");
        assert!(failure.message.contains(says), "{failure}");
        assert!(endpoint.received_no_more());
    }
}

#[test]
fn a_clock_that_was_never_set_is_no_obstacle_or_named_as_one() {
    let (ca, dir) = (Authority::new("ours"), tempfile::tempdir().unwrap());
    let clock = Arc::new(ManualClock::new());
    clock.set_trusted(false);
    clock.step_wall(-clock.wall_us());
    let dial = Dial::new(clock.clone());
    let sent = |leaf: &Leaf| {
        let (_endpoint, integration) = secure(vec![Reply::of("200 OK", "", "")], leaf, &ca, &dir);
        let interpreter = Interpreter::plain("barn-roof");
        send(&HttpClient::try_new(&integration, &dial, &interpreter, &[Variant::default()]).unwrap(), 1)
    };
    assert_eq!(shown(&sent(&ca.leaf_between("127.0.0.1", 2020, 3000))), "HTTP 200");
    let failure = failure(sent(&ca.leaf_between("127.0.0.1", 2999, 3000)));
    assert_eq!(
        (failure.layer, failure.blame),
        (Layer::Clock, Blame::Link { retry_after: None }),
        "{failure}"
    );
    // A year of good time, and a boot in 1970: a certificate of that year is accepted, one that has ended is not.
    let year = Duration::from_secs(365 * 86_400);
    let good_us = RELEASE_FLOOR_US + i64::try_from(year.as_micros()).unwrap();
    clock.boots().see([1; 16], 0, Some(Offset { us: good_us, by: By::Clock }));
    assert_eq!(shown(&sent(&ca.leaf_between("127.0.0.1", 2027, 3000))), "HTTP 200");
    let failure = self::failure(sent(&ca.leaf_between("127.0.0.1", 2020, 2027)));
    assert!(failure.layer == Layer::Clock && failure.message.contains("has expired"), "{failure}");
}

#[test]
fn server_name_overrides_the_name_to_verify() {
    let (ca, dir) = (Authority::new("ours"), tempfile::tempdir().unwrap());
    let (endpoint, mut integration) =
        secure(vec![Reply::of("200 OK", "", "")], &ca.leaf("broker.example"), &ca, &dir);
    integration.tls.server_name = Some(spot("broker.example".to_owned()));
    assert_eq!(shown(&send(&client(&integration), 1)), "HTTP 200");
    assert_eq!(endpoint.received().tls.unwrap().server_name.as_deref(), Some("broker.example"));
}

#[test]
fn an_endpoint_that_asks_for_our_certificate_gets_it_or_says_so() {
    let (ca, dir) = (Authority::new("ours"), tempfile::tempdir().unwrap());
    let reply = vec![Reply::of("200 OK", "", ""), Reply::of("200 OK", "", "")];
    let endpoint = Endpoint::secure(reply, &ca.leaf("127.0.0.1"), Some(&ca));
    let mut integration = http_integration(&endpoint.url("https", "/up"), Method::Post);
    integration.tls.ca = Some(write(dir.path(), "ca.pem", &ca.pem()));
    let without = failure(send(&client(&integration), 1));
    assert_eq!(without.layer, Layer::Tls);
    assert!(without.message.contains("set tls.cert and tls.key"), "{without}");

    let ours = ca.leaf("gateway");
    integration.tls.cert = Some(write(dir.path(), "gw.pem", &ours.cert));
    integration.tls.key = Some(write(dir.path(), "gw.key", &ours.key));
    assert_eq!(shown(&send(&client(&integration), 1)), "HTTP 200");
    assert!(endpoint.received().tls.unwrap().has_client_certificate);
}

#[test]
fn tls_to_a_port_without_it_and_a_handshake_that_hangs_are_named() {
    let (ca, dir) = (Authority::new("ours"), tempfile::tempdir().unwrap());
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut integration =
        http_integration(&format!("https://{}/", plain.local_addr().unwrap()), Method::Post);
    integration.tls.ca = Some(write(dir.path(), "ca.pem", &ca.pem()));
    http_of(&mut integration).timeout = Duration::from_secs(1);
    // Nobody accepts: the kernel completes the connection and that is all.
    let hung = failure(send(&client(&integration), 1));
    assert_eq!((hung.layer, hung.blame), (Layer::Tls, Blame::Link { retry_after: None }), "{hung}");

    http_of(&mut integration).timeout = Duration::from_secs(10);
    let answers = std::thread::spawn(move || {
        // The first is the one that hung.
        let (_first, (mut second, _)) = (plain.accept().unwrap(), plain.accept().unwrap());
        std::io::Write::write_all(&mut second, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        std::io::copy(&mut second, &mut std::io::sink())
    });
    let clear = failure(send(&client(&integration), 1));
    answers.join().unwrap().ok();
    assert_eq!(clear.layer, Layer::Tls);
    assert!(clear.message.contains("does not answer in TLS"), "{clear}");
}

#[test]
fn all_mistakes_are_reported_with_their_keys() {
    for (url, says) in [
        ("ftp://example.com/", "http:// or https://"),
        ("example.com/up", "scheme"),
        ("https:///up", ""),
        ("https://user:s3cret@example.com/up", "credentials"),
        ("https://{{gateway.name}}.example.com/up", "placeholder"),
        ("https://example.com/{{device.deveui}}", "device.dev_eui"),
    ] {
        let found = problems(&http_integration(url, Method::Post));
        assert_eq!((found.len(), found[0].key.as_str()), (1, "integration.api.url"), "{url}: {found:?}");
        assert!(found[0].message.contains(says) && !format!("{found:?}").contains("s3cret"), "{found:?}");
    }

    let mut integration = http_integration("http://example.com/", Method::Post);
    let http = http_of(&mut integration);
    http.headers = vec![
        (spot("Content-Length".into()), secret("1")),
        (spot("Authorization".into()), secret("Bearer x")),
        (spot("X Y".into()), secret("1")),
        (spot("X-Break".into()), secret("a\nb")),
        (spot("X-Twice".into()), secret("1")),
        (spot("x-twice".into()), secret("2")),
    ];
    integration.auth = spot(Auth::Bearer { token: secret("token") });
    integration.tls.ca = Some(spot("ca.pem".into()));
    let found = problems(&integration);
    let keys: Vec<&str> =
        found.iter().map(|problem| problem.key.trim_start_matches("integration.api.")).collect();
    assert_eq!(
        keys,
        [
            "tls",
            "headers.Content-Length",
            "headers.Authorization",
            "headers.X Y",
            "headers.X-Break",
            "headers.x-twice"
        ]
    );
}

/// What can't be one request for several uplinks is refused before anything is sent.
#[test]
fn batches_are_of_json_and_about_no_uplink() {
    let refused = |change: &dyn Fn(&mut Integration)| {
        let mut integration = http_integration("http://h/{{gateway.name}}", Method::Post);
        http_of(&mut integration).batch = spot(10);
        change(&mut integration);
        HttpClient::try_new(&integration, &dial(), &Interpreter::plain("barn-roof"), &[Variant::default()])
            .err()
            .map(|problems| problems[0].key.clone())
    };
    assert_eq!(refused(&|_| {}), None);
    assert_eq!(
        refused(&|it| http_of(it).headers = vec![(spot("X-G".into()), secret("{{gateway.name}}"))]),
        None
    );
    assert_eq!(refused(&|it| it.body = Some(spot("{\"n\":{{f_cnt}}}".into()))), None);
    assert_eq!(refused(&|it| http_of(it).content_type = spot("application/vnd.acme+json".into())), None);
    let key = |key: &str| Some(format!("integration.api.{key}"));
    assert_eq!(refused(&|it| http_of(it).url = spot("http://h/{{device.dev_eui}}".into())), key("url"));
    assert_eq!(refused(&|it| http_of(it).url = spot("http://h/?n={{f_cnt}}".into())), key("url"));
    let headers = vec![(spot("X-N".into()), secret("{{f_cnt}}"))];
    assert_eq!(refused(&|it| http_of(it).headers = headers.clone()), key("headers.X-N"));
    for content_type in ["xml", "form", "text", "binary"] {
        assert_eq!(refused(&|it| http_of(it).content_type = spot(content_type.into())), key("batch"));
    }
}
