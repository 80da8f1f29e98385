//! Addresses in the file: URLs, `host:port` pairs and networks.
//!
//! A URL leaves here without credentials (RULES S38), and with scheme, host and port that no uplink can change (RULES S36).
//! Messages never quote a URL: a password with a `/` in it ends up where the host or the port should be.

use std::net::IpAddr;

use super::reader::{Value, quoted};
use super::schema::Network;
use super::secret::Secret;

/// Where an integration or an MQTT source connects to.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// One of the schemes that were allowed, in lower case.
    pub(super) scheme: String,
    /// Moved out of the URL.
    pub(super) login: Option<Login>,
    /// As in the URL: an IPv6 address has its brackets.
    pub(super) host: String,
    /// The port, if the URL names one.
    pub(super) port: Option<u16>,
    /// Path and query, from the slash on; may be empty, may hold placeholders.
    pub(super) rest: String,
}

/// A user name with or without a password.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: Option<Secret>,
}

/// Why a URL is refused, and what to do. Neither text holds a part of it.
#[derive(Debug)]
struct Refusal(&'static str, String);

impl Endpoint {
    /// Reads a URL with one of `schemes`, reports what is wrong with it, and warns of a password in it.
    pub(super) fn read(value: &Value<'_>, schemes: &[&str]) -> Option<Endpoint> {
        let text = value.str("a URL in quotes")?;
        match parse(text, schemes) {
            Ok(endpoint) => {
                if endpoint.login.as_ref().is_some_and(|login| login.password.is_some()) {
                    value.warn(
                        "a password stands in the URL",
                        "take user and password out of the URL and name a file: password = { file = \"secrets/NAME\" }",
                    );
                }
                Some(endpoint)
            }
            Err(Refusal(message, hint)) => {
                value.refuse_with(message, hint);
                None
            }
        }
    }

    /// The URL, without credentials.
    pub(super) fn url(&self) -> String {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}{}", self.scheme, self.host, self.rest)
    }

    /// Whether what is sent there stays on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        let bare = self.bare_host();
        bare.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok_and(|it| it.to_canonical().is_loopback())
    }

    /// The host, an IPv6 address without its brackets.
    pub(super) fn bare_host(&self) -> &str {
        let inner = self.host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        inner.unwrap_or(&self.host)
    }
}

fn parse(text: &str, schemes: &[&str]) -> Result<Endpoint, Refusal> {
    let example = || format!("write it as {}", schemes_shown(schemes));
    let (scheme, after) = text.split_once("://").ok_or_else(|| Refusal("this is not a URL", example()))?;
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    let (authority, rest) = after.split_at_checked(end).unwrap_or((after, ""));
    if scheme.contains("{{") || authority.contains("{{") || authority.contains("}}") {
        let hint = "placeholders may stand in the path and in the query only: an uplink must not choose where it goes";
        return Err(Refusal("a placeholder stands before the path of the URL", hint.to_owned()));
    }
    let scheme = scheme.to_ascii_lowercase();
    if !schemes.contains(&scheme.as_str()) {
        return Err(Refusal("the scheme of the URL does not fit here", example()));
    }
    let (login, address) = match authority.rsplit_once('@') {
        Some((userinfo, address)) => (Some(login(userinfo)?), address),
        None => (None, authority),
    };
    let (host, port) = split_port(address).ok_or_else(|| {
        let hint = "after the host comes :PORT with 1 to 65535; in a user name or password, / ? # @ and : are written \
                    %2F %3F %23 %40 %3A";
        Refusal("the port of the URL is not a port number", hint.to_owned())
    })?;
    if !is_host(host) {
        let hint = format!("{}; an IPv6 address in brackets, other scripts in punycode", example());
        return Err(Refusal("the URL names no valid host", hint));
    }
    check_rest(rest)?;
    let host = host.to_ascii_lowercase();
    Ok(Endpoint { scheme, login, host, port, rest: rest.to_owned() })
}

fn check_rest(rest: &str) -> Result<(), Refusal> {
    for piece in outside_placeholders(rest) {
        if piece.contains('#') {
            let hint = "leave out everything from # on, or write # as %23";
            return Err(Refusal("the URL has a fragment (#…), which is never sent", hint.to_owned()));
        }
        if !piece.chars().all(|c| c.is_ascii_graphic()) {
            let hint = "write spaces and letters outside ASCII percent-encoded, such as %20";
            return Err(Refusal("the URL holds a character that must not stand in one", hint.to_owned()));
        }
    }
    Ok(())
}

fn login(userinfo: &str) -> Result<Login, Refusal> {
    let decode = |text: &str| {
        percent_decoded(text).ok_or_else(|| {
            let hint = "write % as %25, or take user and password out of the URL".to_owned();
            Refusal("the user name or password in the URL is not percent-encoded text", hint)
        })
    };
    Ok(match userinfo.split_once(':') {
        Some((user, password)) => {
            Login { username: decode(user)?, password: Some(Secret::new(decode(password)?)) }
        }
        None => Login { username: decode(userinfo)?, password: None },
    })
}

/// RFC 3986 section 2.1.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Splits `host:port` or `host`; `None` if the port is none. Port 0 cannot be connected to.
fn split_port(address: &str) -> Option<(&str, Option<u16>)> {
    let after_brackets = address.rfind(']').map_or(0, |at| at + 1);
    let colon = address.get(after_brackets..).and_then(|tail| tail.rfind(':'));
    let Some((host, port)) = colon.and_then(|at| address.split_at_checked(after_brackets + at)) else {
        return Some((address, None));
    };
    let digits = port.strip_prefix(':')?;
    let number = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    Some((host, Some(number.filter(|port| *port > 0)?)))
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !host.is_empty() && host.len() <= 253 && !host.starts_with('.') && host.chars().all(fine)
}

fn schemes_shown(schemes: &[&str]) -> String {
    schemes.iter().map(|scheme| format!("{scheme}://HOST")).collect::<Vec<_>>().join(" or ")
}

/// The pieces of a template outside of `{{…}}`. An opening without a close counts as text: the template's own check
/// names it.
pub(super) fn outside_placeholders(template: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((_, next)) = after.split_once("}}") else { break };
        pieces.push(before);
        rest = next;
    }
    pieces.push(rest);
    pieces
}

/// `host:port` of another server; an error if it is not.
pub(super) fn peer(value: &Value<'_>) -> Option<super::schema::Spot<String>> {
    let text = value.text()?;
    if let Some((host, Some(_))) = split_port(&text)
        && is_host(host)
    {
        return Some(text);
    }
    value.refuse_with(format!("{} is not HOST:PORT", quoted(&text)), "such as \"127.0.0.1:1680\"");
    None
}

/// `10.0.0.0/8`, or an address alone; an error if it is neither.
pub(super) fn network(value: &Value<'_>) -> Option<Network> {
    let text = value.str("a network such as \"192.168.1.0/24\"")?;
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let network = address.parse::<IpAddr>().ok().and_then(|address| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(most), |it| it.parse().ok())?;
        (prefix <= most).then_some(Network { address, prefix })
    });
    if network.is_none() {
        let hint =
            "write an address, or address/bits such as \"192.168.1.0/24\" (at most 32 bits, for IPv6 128)";
        value.refuse_with(format!("{} is not a network", quoted(text)), hint);
    }
    network
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn urls_come_apart() {
        let url =
            parse("HTTPS://gw:p%40ss@Example.com:8443/a/{{device.name}}?b=c", &["http", "https"]).unwrap();
        assert_eq!(url.url(), "https://example.com:8443/a/{{device.name}}?b=c");
        let login = url.login.unwrap();
        assert_eq!((login.username.as_str(), login.password.unwrap().expose()), ("gw", "p@ss"));
        let url = parse("mqtt://[::1]:1884", &["mqtt"]).unwrap();
        assert!(url.is_loopback());
        assert_eq!((url.bare_host(), url.port, url.rest.as_str()), ("::1", Some(1884), ""));
        assert!(parse("mqtt://127.1.2.3", &["mqtt"]).unwrap().is_loopback());
        assert!(!parse("mqtt://127.example.com", &["mqtt"]).unwrap().is_loopback());
    }

    #[test]
    fn bad_urls_are_refused_without_quoting_them() {
        for text in [
            "",
            "hunter2",
            "http:/hunter2",
            "ftp://hunter2",
            "http://",
            "http:///path",
            "http://:80",
            "http://user:hunter2/x@host/",
            "http://user:hunter2#@host/",
            "http://user:%zzhunter2@host/",
            "http://hunter2:0/",
            "http://hunter2:65536/",
            "http://hunter2:+80/",
            "http://[hunter2]/",
            "http://::1/",
            "http://{{device.name}}.hunter2/",
            "http://host:{{x}}/",
            "{{x}}://host/",
            "http://h/a b",
            "http://h/#hunter2",
            "http://h/é",
            "http://hé/",
        ] {
            let refusal = parse(text, &["http"]).expect_err(text);
            assert!(!format!("{refusal:?}").contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn placeholders_are_set_apart() {
        assert_eq!(outside_placeholders("a{{b}}c{{d}}"), ["a", "c", ""]);
        assert_eq!(outside_placeholders("a{{b"), ["a{{b"]);
        assert_eq!(outside_placeholders("}}{{"), ["}}{{"]);
    }
}
