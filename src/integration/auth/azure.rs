//! Shared access signatures of Azure IoT Hub.
//!
//! ```text
//! SharedAccessSignature sr={resource}&sig={signature}&se={expiry}[&skn={policy}]
//! signature = base64(HMAC-SHA256(base64-decoded key, resource + "\n" + expiry)), percent-encoded
//! resource  = HOST/devices/DEVICE, or HOST alone with a policy, percent-encoded
//! ```
//!
//! A device's key signs for that device alone. The key of a shared access policy signs for the whole hub, so that a URL
//! may name another device for each uplink.
//!
//! A signature is made from the wall clock, so there is none while the clock is not set. It is renewed when a fifth of
//! its time is left, at most five minutes: over HTTP with the next request, over MQTT with the next connection, which is
//! made when that time comes.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use ring::hmac;

use super::minted::{Moment, Purse};
use super::{Surroundings, forms, hidden, problem, signing_time};
use crate::clock::Clock;
use crate::config::{Place, Problem, Secret, Spot};
use crate::delivery::outcome::Failure;
use crate::render::{Purpose, Template, percent_encode};

/// The longest that a signature is renewed before it ends.
const MAX_MARGIN: Duration = Duration::from_secs(300);

/// Between these two in a URL stands the device: `/devices/DEVICE/messages/events`.
const DEVICES: &str = "/devices/";

/// What `[integration.NAME.auth]` says of it.
#[derive(Clone, Copy)]
pub struct SasSettings<'a> {
    /// The key, in base64.
    pub key: &'a Secret,
    /// The policy it belongs to; `None`: a device.
    pub policy: Option<&'a str>,
    /// How long a signature is good.
    pub ttl: Duration,
}

/// What a signature is for. Made by [`Scope::device`] and [`Scope::hub`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(String);

impl Scope {
    /// One device of the hub at `host`.
    pub fn device(host: &str, device: &str) -> Scope {
        Scope(percent_encode(&format!("{host}{DEVICES}{device}")))
    }

    /// All that a policy allows in the hub at `host`.
    pub fn hub(host: &str) -> Scope {
        Scope(percent_encode(host))
    }
}

/// Mints signatures for one integration. Has no `Debug`: it holds the key.
pub struct Sas {
    signer: hmac::Key,
    scope: Scope,
    policy: Option<String>,
    ttl: Duration,
    clock: Arc<dyn Clock>,
    purse: Purse,
    /// The key as it was given.
    secrets: Vec<String>,
}

impl Sas {
    /// A minter; `key` is the table that the settings stand in, at `place`.
    ///
    /// # Errors
    /// A key that is no base64.
    pub fn try_new(
        key: &str,
        place: &Place,
        settings: &SasSettings<'_>,
        scope: Scope,
        clock: Arc<dyn Clock>,
    ) -> Result<Sas, Vec<Problem>> {
        let given = settings.key.expose().trim();
        let decoded = BASE64.decode(given.as_bytes()).ok().filter(|bytes| !bytes.is_empty());
        let decoded = decoded.ok_or_else(|| {
            let hint = if given.contains("SharedAccessKey=") {
                "this is a whole connection string; the key is what stands behind SharedAccessKey="
            } else {
                "copy the primary key of the device (or of the policy) as it is: it is base64 and ends with ="
            };
            vec![problem(key, place, "key", "this is not a key of Azure IoT Hub").hint(hint)]
        })?;
        Ok(Sas {
            signer: hmac::Key::new(hmac::HMAC_SHA256, &decoded),
            scope,
            policy: settings.policy.map(percent_encode),
            ttl: settings.ttl,
            clock,
            purse: Purse::default(),
            secrets: forms([given]),
        })
    }

    /// A signature that can be used now: the last one, or a new one when that is about to end.
    ///
    /// # Errors
    /// The clock is not set.
    pub fn token(&self) -> Result<String, Failure> {
        match self.purse.usable(self.clock.as_ref()).filter(|token| !token.is_due) {
            Some(token) => Ok(token.text),
            None => self.fresh().map(|(text, _)| text),
        }
    }

    /// A new signature, and how long it may be used.
    ///
    /// # Errors
    /// The clock is not set.
    pub fn fresh(&self) -> Result<(String, Duration), Failure> {
        let now = signing_time(self.clock.as_ref())?;
        let expiry = now.saturating_add(i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX));
        let signature = self.signature(expiry);
        let mut text = format!(
            "SharedAccessSignature sr={}&sig={}&se={expiry}",
            self.scope.0,
            percent_encode(&signature)
        );
        if let Some(policy) = &self.policy {
            text.push_str("&skn=");
            text.push_str(policy);
        }
        let use_for = self.ttl.saturating_sub(MAX_MARGIN.min(self.ttl / 5));
        self.purse.keep(
            text.clone(),
            Moment::now(self.clock.as_ref()).life(use_for, self.ttl),
            &[text.as_str(), signature.as_str()],
        );
        Ok((text, use_for))
    }

    /// The hub refused it.
    pub(super) fn forget(&self) {
        self.purse.forget();
    }

    /// `text` without the key and what was signed with it.
    pub(super) fn hide(&self, text: &str) -> String {
        hidden(&self.purse.hide(text), &self.secrets)
    }

    fn signature(&self, expiry: i64) -> String {
        let to_sign = format!("{}\n{expiry}", self.scope.0);
        BASE64.encode(hmac::sign(&self.signer, to_sign.as_bytes()).as_ref())
    }
}

/// What the requests of an HTTP integration are signed for: the hub with a policy, else the one device that `device` or
/// the URL names.
pub(super) fn http_scope(
    key: &str,
    place: &Place,
    device: Option<&Spot<String>>,
    policy: Option<&str>,
    around: &Surroundings<'_>,
) -> Result<Scope, Vec<Problem>> {
    if policy.is_some() {
        return Ok(Scope::hub(around.host));
    }
    let in_url = device_of(around.url);
    let named = device.map(|device| (device.value.as_str(), &device.place));
    let (text, place) = match (named, in_url) {
        (Some(named), _) => named,
        (None, Some(in_url)) => (in_url, &around.url.place),
        (None, None) => {
            let hint =
                "name it: device = \"barn-roof\"; or let the URL end in /devices/barn-roof/messages/events";
            return Err(vec![
                problem(key, place, "device", "the device that the key belongs to is not known").hint(hint),
            ]);
        }
    };
    let device = own_name(text, around.gateway).ok_or_else(|| {
        let hint = "only {{gateway.name}} can be used; for a device of each uplink, take the key of a shared access policy \
                    and set policy";
        vec![problem(key, place, "device", "the key of a device signs for that device alone").hint(hint)]
    })?;
    match in_url.map(|in_url| own_name(in_url, around.gateway)) {
        Some(other) if other.as_deref() != Some(device.as_str()) => {
            let message = "the URL names another device than the one that the key signs for";
            Err(vec![
                problem(key, place, "device", message)
                    .hint("leave device out, or set policy to sign for all"),
            ])
        }
        _ => Ok(Scope::device(around.host, &device)),
    }
}

/// The device that a URL names.
fn device_of(url: &str) -> Option<&str> {
    let path = url.split_once('?').map_or(url, |(path, _)| path);
    let (_, after) = path.split_once(DEVICES)?;
    after.split('/').next().filter(|device| !device.is_empty())
}

/// `text` with the gateway's name in it; `None` if it has other placeholders.
pub fn own_name(text: &str, gateway: &str) -> Option<String> {
    let template = Template::parse(text, Purpose::Plain).ok().filter(Template::only_gateway)?;
    template.render(&serde_json::json!({ "gateway": { "name": gateway } })).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::clock::{ManualClock, RELEASE_FLOOR_US};
    use crate::delivery::outcome::{Blame, Layer};
    use crate::integration::testing::{secret, spot};

    /// base64 of the bytes 0 to 31.
    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const HOUR: Duration = Duration::from_secs(3_600);

    fn sas(scope: Scope, policy: Option<&str>, ttl: Duration, clock: &Arc<ManualClock>) -> Sas {
        let key = secret(KEY);
        let settings = SasSettings { key: &key, policy, ttl };
        Sas::try_new("integration.hub.auth", &spot(()).place, &settings, scope, Arc::clone(clock) as _)
            .unwrap()
    }

    /// The constants come from Python 3, independently of this code:
    /// `e = urllib.parse.quote_plus(uri)`, `base64.b64encode(hmac.new(base64.b64decode(key), (e + "\n" + str(expiry)).encode(),
    /// hashlib.sha256).digest())`, each part through `urllib.parse.quote(…, safe="")`.
    #[test]
    fn signatures_are_those_that_python_makes() {
        let clock = Arc::new(ManualClock::new());
        let expiry = |at: i64| Duration::from_secs((at - clock.wall_us() / 1_000_000).try_into().unwrap());
        let device = || Scope::device("myhub.azure-devices.net", "barn-roof");
        for (scope, policy, at, expected) in [
            (
                device(),
                None,
                1_793_498_400,
                "SharedAccessSignature sr=myhub.azure-devices.net%2Fdevices%2Fbarn-roof\
                 &sig=n45yfkD1LKNvDiEzp0V4WAoVQZuMLYYA3vQKRiIe%2Fnk%3D&se=1793498400",
            ),
            (
                device(),
                None,
                1_793_498_408,
                "SharedAccessSignature sr=myhub.azure-devices.net%2Fdevices%2Fbarn-roof\
                 &sig=DVN3V8X5%2B9hMLXHsQpRVY%2FsG7KsXtHFpDWa3IzJdbcM%3D&se=1793498408",
            ),
            (
                Scope::hub("myhub.azure-devices.net"),
                Some("device"),
                1_793_498_400,
                "SharedAccessSignature sr=myhub.azure-devices.net\
                 &sig=eWUQI5cJfIDNe7aHbUAv3Bq35qEyMINiTxp957hcXMU%3D&se=1793498400&skn=device",
            ),
            (
                Scope::device("hub.example", "a:b+c#d"),
                None,
                1_793_498_400,
                "SharedAccessSignature sr=hub.example%2Fdevices%2Fa%3Ab%2Bc%23d\
                 &sig=de47mvB7RC0q3lOJpM8csYeip6B%2FsvsZn6ttrc9wZ2w%3D&se=1793498400",
            ),
        ] {
            assert_eq!(sas(scope, policy, expiry(at), &clock).token().unwrap(), expected);
        }
    }

    #[test]
    fn a_signature_is_used_again_and_renewed_before_it_ends() {
        let clock = Arc::new(ManualClock::new());
        let sas = sas(Scope::hub("h"), None, HOUR, &clock);
        let first = sas.token().unwrap();
        clock.advance(HOUR - Duration::from_secs(301));
        assert_eq!(sas.token().unwrap(), first);
        clock.advance(Duration::from_secs(1));
        let second = sas.token().unwrap();
        assert_ne!(second, first);
        let signature = second.split("sig=").nth(1).unwrap().split('&').next().unwrap();
        for secret in [&first, &second, signature, KEY] {
            assert_eq!(sas.hide(&format!("no {secret}!")), "no [secret]!");
        }
        sas.forget();
        clock.advance(Duration::from_secs(1));
        assert_ne!(sas.token().unwrap(), second);
        assert_eq!(sas.fresh().unwrap().1, HOUR - Duration::from_secs(300));
    }

    #[test]
    fn without_a_clock_there_is_no_signature() {
        let clock = Arc::new(ManualClock::new());
        clock.set_trusted(false);
        clock.step_wall(RELEASE_FLOOR_US - clock.wall_us());
        let sas = sas(Scope::hub("h"), None, HOUR, &clock);
        let failure = sas.token().unwrap_err();
        assert_eq!((failure.layer, failure.blame), (Layer::Clock, Blame::Link { retry_after: None }));
        // An hour after a boot it is an hour later than that at least; from then on it may be right.
        clock.step_wall(3_600_000_000);
        sas.token().unwrap();
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
        for (text, says) in [
            ("HostName=h.azure-devices.net;DeviceId=d;SharedAccessKey=c2VjcmV0", "connection string"),
            ("s3cret", "primary key"),
            ("", "primary key"),
        ] {
            let key = secret(text);
            let settings = SasSettings { key: &key, policy: None, ttl: HOUR };
            let made = Sas::try_new(
                "integration.hub.auth",
                &spot(()).place,
                &settings,
                Scope::hub("h"),
                Arc::clone(&clock),
            );
            let shown = made.map(|_| ()).unwrap_err()[0].to_string();
            assert!(shown.contains("integration.hub.auth.key") && shown.contains(says), "{shown}");
            assert!(!shown.contains("s3cret") && !shown.contains("c2Vj"), "{shown}");
        }
    }

    #[test]
    fn the_device_comes_from_the_settings_or_the_url() {
        let dial = crate::dial::Dial::new(Arc::new(ManualClock::new()));
        let scope = |url: &str, device: Option<&str>, policy: Option<&str>| {
            let (url, device) = (spot(url.to_owned()), device.map(|device| spot(device.to_owned())));
            let around = Surroundings { gateway: "roof", host: "hub", url: &url, timeout: HOUR, dial: &dial };
            http_scope("integration.hub.auth", &spot(()).place, device.as_ref(), policy, &around)
                .map_err(|problems| problems[0].to_string())
        };
        let events =
            |device: &str| format!("https://hub/devices/{device}/messages/events?api-version=2020-03-13");
        let roof = Ok(Scope::device("hub", "roof"));
        assert_eq!(scope(&events("roof"), None, None), roof);
        assert_eq!(scope(&events("{{gateway.name}}"), None, None), roof);
        assert_eq!(scope(&events("{{gateway.name}}"), Some("roof"), None), roof);
        assert_eq!(scope("https://hub/x", Some("{{gateway.name}}"), None), roof);
        assert_eq!(scope(&events("{{device.name}}"), None, Some("device")), Ok(Scope::hub("hub")));
        for (url, device, says) in [
            (events("{{device.name}}"), None, "set policy"),
            (events("barn"), Some("roof"), "another device"),
            ("https://hub/x".to_owned(), None, "not known"),
            ("https://hub/devices//x".to_owned(), None, "not known"),
        ] {
            let refusal = scope(&url, device, None).unwrap_err();
            assert!(refusal.contains(says), "{url}: {refusal}");
        }
    }
}
