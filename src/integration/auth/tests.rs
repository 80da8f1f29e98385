#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::clock::ManualClock;
use crate::config::{ApiKeyIn, Auth};
use crate::integration::testing::{secret, spot};

fn made(auth: Auth) -> Result<Credentials, Vec<Problem>> {
    made_at(auth, &Arc::new(ManualClock::new()))
}

fn made_at(auth: Auth, clock: &Arc<ManualClock>) -> Result<Credentials, Vec<Problem>> {
    let dial = Dial::new(Arc::clone(clock) as _);
    let url = spot("https://hub.example/devices/roof/messages/events".to_owned());
    let timeout = Duration::from_secs(10);
    let around = Surroundings { gateway: "roof", host: "hub.example", url: &url, timeout, dial: &dial };
    Credentials::try_new("integration.api.auth", &spot(auth), &around)
}

fn azure(key: &str) -> Auth {
    Auth::AzureSas { key: secret(key), device: None, policy: None, ttl: Duration::from_secs(3_600) }
}

fn google(key: &str) -> Auth {
    Auth::GoogleServiceAccount { key: secret(key), scope: "s".to_owned(), ca: None }
}

fn applied(auth: Auth, url: &str) -> (String, Vec<(String, String)>) {
    let (mut url, mut headers) = (url.to_owned(), HeaderMap::new());
    made(auth).unwrap().apply(&mut url, &mut headers).unwrap();
    assert!(headers.values().all(HeaderValue::is_sensitive));
    let shown =
        |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.to_str().unwrap().into());
    (url, headers.iter().map(shown).collect())
}

fn api_key(place: ApiKeyIn, prefix: &str, value: &str) -> Auth {
    Auth::ApiKey { place, name: "X-Api-Key".into(), prefix: prefix.into(), value: secret(value) }
}

#[test]
fn every_kind_puts_its_secret_where_it_belongs() {
    let url = "https://h/x";
    assert_eq!(applied(Auth::None, url), (url.into(), vec![]));
    // RFC 7617, section 2.
    let basic = Auth::Basic { username: "Aladdin".into(), password: secret("open sesame") };
    let expected = ("authorization".into(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".into());
    assert_eq!(applied(basic, url), (url.into(), vec![expected]));
    let bearer = Auth::Bearer { token: secret("t0ken") };
    assert_eq!(applied(bearer, url).1, [("authorization".into(), "Bearer t0ken".into())]);
    let key = api_key(ApiKeyIn::Header, "Token ", "k3y");
    assert_eq!(applied(key, url).1, [("x-api-key".into(), "Token k3y".into())]);
    let (name, value) = applied(azure("c2VjcmV0"), url).1.remove(0);
    assert_eq!(name, "authorization");
    assert!(value.starts_with("SharedAccessSignature sr=hub.example%2Fdevices%2Froof&sig="), "{value}");
}

/// RULES S8: a signature may be refused for the time in it.
#[test]
fn a_refusal_while_the_clock_is_not_trusted_is_the_clocks() {
    let clock = Arc::new(ManualClock::new());
    let refusal = || Failure::endpoint(Layer::Http, "hub.example answered 401 Unauthorized");
    let credentials = made_at(azure("c2VjcmV0"), &clock).unwrap();
    let token = || {
        let (mut url, mut headers) = (String::new(), HeaderMap::new());
        credentials.apply(&mut url, &mut headers).map(|()| headers["authorization"].clone())
    };
    let first = token().unwrap();
    assert_eq!(credentials.refused(refusal()), refusal());
    clock.advance(Duration::from_secs(1));
    assert_ne!(token().unwrap(), first, "what was refused is not sent again");
    clock.set_trusted(false);
    let failure = credentials.refused(refusal());
    assert_eq!((failure.layer, failure.blame), (Layer::Clock, Blame::Link { retry_after: None }));
    let fixed = made_at(Auth::Bearer { token: secret("t") }, &clock).unwrap();
    assert_eq!(fixed.refused(refusal()), refusal());
    clock.step_wall(-clock.wall_us());
    assert_eq!(token().unwrap_err().layer, Layer::Clock);
}

#[test]
fn a_key_in_the_query_joins_what_is_there() {
    for (url, expected) in [
        ("https://h/x", "https://h/x?X-Api-Key=k%263y"),
        ("https://h/x?", "https://h/x?X-Api-Key=k%263y"),
        ("https://h/x?a=1", "https://h/x?a=1&X-Api-Key=k%263y"),
        ("https://h/x?a=1&", "https://h/x?a=1&X-Api-Key=k%263y"),
    ] {
        assert_eq!(applied(api_key(ApiKeyIn::Query, "", "k&3y"), url), (expected.into(), vec![]));
    }
}

#[test]
fn invariant_8_an_answer_that_repeats_a_secret_is_cleaned() {
    let key = made(api_key(ApiKeyIn::Query, "", "k&3y")).unwrap();
    assert_eq!(key.hide("bad key k&3y in ?X-Api-Key=k%263y"), "bad key [secret] in ?X-Api-Key=[secret]");
    let basic = made(Auth::Basic { username: "u".into(), password: secret("pass") }).unwrap();
    assert_eq!(basic.hide("Basic dTpwYXNz is u:pass"), "Basic [secret] is u:[secret]");
    assert!(!format!("{key:?} {basic:?}").contains("3y"));
}

#[test]
fn what_cannot_be_sent_is_refused_without_showing_it() {
    for (auth, key) in [
        (Auth::Bearer { token: secret("s3cret\nX-Evil: 1") }, "integration.api.auth.token"),
        (Auth::Bearer { token: secret("s3cret-ü") }, "integration.api.auth.token"),
        (Auth::Basic { username: "a:b".into(), password: secret("s3cret") }, "integration.api.auth.username"),
        (api_key(ApiKeyIn::Header, "", "s3cret\r"), "integration.api.auth.value"),
        (azure("s3cret"), "integration.api.auth.key"),
        (google("s3cret"), "integration.api.auth.key"),
    ] {
        let problems = made(auth).unwrap_err();
        assert_eq!(problems[0].key, key);
        assert!(!format!("{problems:?} {}", problems[0]).contains("s3cret"), "{problems:?}");
    }
}
