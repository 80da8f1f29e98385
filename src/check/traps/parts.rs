//! The parts of a URL template. The file's reader has made sure that it is a URL.

/// A URL in parts; path and query may hold placeholders.
pub(super) struct UrlParts<'a> {
    pub(super) is_tls: bool,
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
}

impl<'a> UrlParts<'a> {
    pub(super) fn of(url: &'a str) -> Option<UrlParts<'a>> {
        let (scheme, after) = url.split_once("://")?;
        let is_tls = scheme == "https";
        let (authority, rest) = after.split_at(after.find(['/', '?']).unwrap_or(after.len()));
        // An IPv6 address has colons in its brackets.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (authority, if is_tls { 443 } else { 80 }),
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        Some(UrlParts { is_tls, host, port, path, query })
    }

    /// Whether the query has a parameter of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.query.split('&').any(|pair| pair.split('=').next() == Some(name))
    }

    pub(super) fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        is_loopback(host)
    }
}

/// Whether what is sent to `host` stays on this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn urls_come_apart() {
        for (url, expected) in [
            ("https://h/a/{{x}}?b=c&d", (true, "h", 443, "/a/{{x}}", "b=c&d")),
            ("http://h:8080?q", (false, "h", 8080, "", "q")),
            ("http://[::1]", (false, "[::1]", 80, "", "")),
            ("https://[::1]:8443/", (true, "[::1]", 8443, "/", "")),
        ] {
            let url = UrlParts::of(url).unwrap();
            assert_eq!((url.is_tls, url.host, url.port, url.path, url.query), expected);
        }
        let url = UrlParts::of("http://[::1]/?b=c&d").unwrap();
        assert!(url.has("b") && url.has("d") && !url.has("c") && url.is_loopback());
    }
}
