#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;
use std::process::Command;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::*;
use crate::clock::{ManualClock, RELEASE_FLOOR_US};
use crate::config::{Auth, Method};
use crate::delivery::outcome::{Blame, Layer};
use crate::dial::Dial;
use crate::flow::Variant;
use crate::integration::http::HttpClient;
use crate::integration::testing::{
    Authority, Endpoint, Reply, http_integration, rsa_key, secret, spot, write,
};
use crate::render::Interpreter;

const EMAIL: &str = "gateway@farm.iam.gserviceaccount.com";
const LINK: Blame = Blame::Link { retry_after: None };

fn key_file(private_key: &str, token_uri: &str) -> Value {
    json!({
        "type": "service_account", "project_id": "farm", "private_key_id": "kid-s3cret",
        "private_key": private_key, "client_email": EMAIL, "client_id": "1", "token_uri": token_uri,
    })
}

struct Bench {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    dial: Dial,
    ca: Option<Spot<PathBuf>>,
}

impl Bench {
    fn new() -> Bench {
        let clock = Arc::new(ManualClock::new());
        let dial = Dial::new(Arc::clone(&clock) as _);
        Bench { folder: tempfile::tempdir().unwrap(), clock, dial, ca: None }
    }

    fn account(&self, file: &str) -> Result<ServiceAccount, Vec<Problem>> {
        let url = spot("https://pubsub.example/v1".to_owned());
        let timeout = Duration::from_secs(5);
        let around =
            Surroundings { gateway: "g", host: "pubsub.example", url: &url, timeout, dial: &self.dial };
        let (key, place) = ("integration.api.auth", spot(()).place);
        ServiceAccount::try_new(key, &place, &secret(file), "a scope", self.ca.as_ref(), &around)
    }

    fn account_at(&self, endpoint: &Endpoint, scheme: &str) -> ServiceAccount {
        let key = rsa_key(self.folder.path(), 2_048);
        self.account(&key_file(&key, &endpoint.url(scheme, "/token")).to_string()).unwrap()
    }
}

fn grants(token: &str, seconds: u64) -> Reply {
    Reply::of(
        "200 OK",
        "",
        &json!({ "access_token": token, "expires_in": seconds, "token_type": "Bearer" }).to_string(),
    )
}

/// The parts of an assertion, after OpenSSL has verified its signature.
fn verified(folder: &Path, assertion: &str) -> (Value, Value) {
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).unwrap();
    std::fs::write(folder.join("signed"), signed).unwrap();
    std::fs::write(folder.join("signature"), decode(signature)).unwrap();
    let openssl = |args: &[&str]| Command::new("openssl").args(args).current_dir(folder).output().unwrap();
    assert!(openssl(&["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]).status.success());
    let output = openssl(&["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "signed"]);
    assert!(output.status.success(), "{output:?}");
    let json = |part: &str| serde_json::from_slice(&decode(part)).unwrap();
    (json(header), json(claims))
}

#[test]
fn a_token_is_asked_for_with_a_signed_assertion_and_kept() {
    let bench = Bench::new();
    let endpoint = Endpoint::plain(vec![grants("t0ken-1", 3_600), grants("t0ken-2", 3_600)]);
    let account = bench.account_at(&endpoint, "http");
    for _ in 0..3 {
        assert_eq!(account.token().unwrap(), "t0ken-1");
    }
    let request = endpoint.received();
    assert_eq!(request.line, "POST /token HTTP/1.1");
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    let body = String::from_utf8(request.body).unwrap();
    let assertion = body
        .strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=")
        .unwrap();
    let (header, claims) = verified(bench.folder.path(), assertion);
    assert_eq!(header, json!({ "alg": "RS256", "typ": "JWT", "kid": "kid-s3cret" }));
    let now = RELEASE_FLOOR_US / 1_000_000 + 3_600;
    let audience = endpoint.url("http", "/token");
    assert_eq!(
        claims,
        json!({ "iss": EMAIL, "scope": "a scope", "aud": audience, "iat": now, "exp": now + 3_600 })
    );
    assert!(endpoint.received_no_more());

    bench.clock.advance(Duration::from_secs(3_299));
    assert_eq!(account.token().unwrap(), "t0ken-1");
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(account.token().unwrap(), "t0ken-2", "renewed five minutes before its end");
    assert_eq!(account.hide("t0ken-1 t0ken-2 kid-s3cret"), "[secret] [secret] [secret]");
}

#[test]
fn a_token_server_that_fails_delays_nothing_while_the_old_token_is_good() {
    let bench = Bench::new();
    let endpoint = Endpoint::plain(vec![grants("old", 3_600), Reply::of("503 Busy", "", "")]);
    let account = bench.account_at(&endpoint, "http");
    assert_eq!(account.token().unwrap(), "old");
    bench.clock.advance(Duration::from_secs(3_301));
    for _ in 0..3 {
        assert_eq!(account.token().unwrap(), "old");
    }
    endpoint.received();
    endpoint.received();
    assert!(endpoint.received_no_more(), "the next try comes later");
    drop(endpoint);
    bench.clock.advance(Duration::from_secs(300));
    assert_eq!(account.token().unwrap_err().blame, LINK);
}

#[test]
fn those_who_wait_share_one_answer() {
    let bench = Bench::new();
    let endpoint = Endpoint::plain(vec![Reply::of("503 Busy", "", ""), grants("one", 3_600)]);
    let account = bench.account_at(&endpoint, "http");
    let ask_all = || -> Vec<Result<String, Failure>> {
        let turn = account.turn.lock().unwrap();
        std::thread::scope(|scope| {
            let asking: Vec<_> = (0..8).map(|_| scope.spawn(|| account.token())).collect();
            // They stand in line by now.
            std::thread::sleep(Duration::from_millis(300));
            drop(turn);
            asking.into_iter().map(|one| one.join().unwrap()).collect()
        })
    };
    let failed = ask_all();
    assert!(failed.iter().all(|one| one.as_ref().unwrap_err().layer == Layer::Http), "{failed:?}");
    endpoint.received();
    assert!(endpoint.received_no_more());
    assert!(ask_all().iter().all(|one| one.as_deref() == Ok("one")));
    endpoint.received();
    assert!(endpoint.received_no_more());
    account.forget();
    drop(endpoint);
    assert_eq!(account.token().unwrap_err().blame, LINK, "what was refused is not used again");
}

#[test]
fn every_refusal_is_classified_and_shows_no_secret() {
    let error = |error: &str, description: &str| {
        json!({ "error": error, "error_description": description }).to_string()
    };
    let skew = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat \
                and exp values in the JWT claim.";
    for (status, body, layer, blame, says) in [
        ("500 Oops", String::new(), Layer::Http, LINK, "answered 500"),
        ("429 Slow", String::new(), Layer::Http, LINK, "answered 429"),
        ("400 Bad", error("invalid_grant", skew), Layer::Clock, LINK, "check NTP"),
        (
            "400 Bad",
            error("invalid_grant", "Invalid JWT Signature."),
            Layer::Http,
            Blame::Endpoint,
            "invalid_grant: Invalid JWT Signature.; check [integration.api.auth]",
        ),
        ("401 No", error("invalid_client", "\u{1b}[2J"), Layer::Http, Blame::Endpoint, "invalid_client"),
        ("302 Found", String::new(), Layer::Http, Blame::Endpoint, "captive portal"),
        ("200 OK", "<html>".to_owned(), Layer::Http, Blame::Endpoint, "token_uri"),
        ("200 OK", "{\"access_token\":\"\"}".to_owned(), Layer::Http, Blame::Endpoint, "token_uri"),
    ] {
        let bench = Bench::new();
        let endpoint = Endpoint::plain(vec![Reply::of(status, "", &body)]);
        let failure = bench.account_at(&endpoint, "http").token().unwrap_err();
        assert_eq!((failure.layer, failure.blame), (layer, blame), "{failure}");
        assert!(failure.message.contains(says) && !failure.message.contains('\u{1b}'), "{failure}");
        assert!(!failure.message.contains("s3cret"), "{failure}");
    }
    let bench = Bench::new();
    let endpoint = Endpoint::plain(vec![]);
    let account = bench.account_at(&endpoint, "http");
    bench.clock.set_trusted(false);
    bench.clock.step_wall(-bench.clock.wall_us());
    assert_eq!(account.token().unwrap_err().layer, Layer::Clock);
    assert!(endpoint.received_no_more(), "nothing is signed without a clock");
}

#[test]
fn the_token_server_is_checked_against_its_own_ca() {
    let (ca, stranger) = (Authority::new("ours"), Authority::new("theirs"));
    let mut bench = Bench::new();
    bench.ca = Some(write(bench.folder.path(), "ca.pem", &ca.pem()));
    let endpoint = Endpoint::secure(vec![grants("t", 3_600)], &ca.leaf("127.0.0.1"), None);
    assert_eq!(bench.account_at(&endpoint, "https").token().unwrap(), "t");
    let endpoint = Endpoint::secure(vec![grants("t", 3_600)], &stranger.leaf("127.0.0.1"), None);
    let failure = bench.account_at(&endpoint, "https").token().unwrap_err();
    assert_eq!((failure.layer, failure.blame), (Layer::Tls, LINK));
    assert!(failure.message.starts_with("no token: "), "{failure}");
}

#[test]
fn what_is_no_key_file_is_refused_without_showing_it() {
    let bench = Bench::new();
    let good = rsa_key(bench.folder.path(), 2_048);
    let small = rsa_key(bench.folder.path(), 1_024);
    let with = |name: &str, value: Value| {
        let mut file = key_file(&good, "https://oauth2.googleapis.com/token");
        file[name] = value;
        file.to_string()
    };
    for (file, says) in [
        ("s3cret".to_owned(), "it is not such JSON (line 1, column 1)"),
        ("{\"client_email\": 7, \"x\": \"s3cret\"}".to_owned(), "it is not such JSON"),
        (with("type", "authorized_user".into()), "its type is not"),
        (with("client_email", Value::Null), "no client_email"),
        (with("private_key", "".into()), "no private_key"),
        (with("private_key", "s3cret".into()), "can't sign"),
        (with("private_key", small.into()), "can't sign"),
        (with("token_uri", "http://tokens.example/s3cret".into()), "must begin with https://"),
        (with("token_uri", "ftp://127.0.0.1/s3cret".into()), "must begin with https://"),
        (with("token_uri", "https://u:s3cret@tokens.example/".into()), "holds a user name"),
        (with("token_uri", "/s3cret".into()), "names no host"),
    ] {
        let shown = bench.account(&file).map(|_| ()).unwrap_err()[0].to_string();
        assert!(shown.contains("integration.api.auth.key") && shown.contains(says), "{shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

/// From the configuration to the wire, and back: a token that the API refuses is replaced, and shown to nobody.
#[test]
fn requests_carry_a_token_and_a_refused_one_is_replaced() {
    let bench = Bench::new();
    let tokens = Endpoint::plain(vec![grants("t0ken-1", 3_600), grants("t0ken-2", 3_600)]);
    let api = Endpoint::plain(vec![
        Reply::of("401 Unauthorized", "", "t0ken-1 is not for you"),
        Reply::of("204 No Content", "", ""),
    ]);
    let mut integration = http_integration(&api.url("http", "/v1/projects/p/topics/t:publish"), Method::Post);
    let file = key_file(&rsa_key(bench.folder.path(), 2_048), &tokens.url("http", "/token")).to_string();
    integration.auth =
        spot(Auth::GoogleServiceAccount { key: secret(&file), scope: "s".to_owned(), ca: None });
    let interpreter = Interpreter::plain("barn-roof");
    let client = HttpClient::try_new(&integration, &bench.dial, &interpreter, &[Variant::default()]).unwrap();
    let failure = client.probe().unwrap_err();
    assert_eq!(failure.blame, Blame::Endpoint);
    assert!(failure.message.contains("[secret] is not for you"), "{failure}");
    client.probe().unwrap();
    for token in ["Bearer t0ken-1", "Bearer t0ken-2"] {
        assert_eq!(api.received().header("authorization"), Some(token));
    }
    assert!(!format!("{client:?}").contains("t0ken"));
}
