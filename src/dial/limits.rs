//! How ureq is held to what one integration may use.

use std::time::Duration;

use ureq::Agent;

use super::{HttpConnector, Lookup};

/// Each connection has one such buffer in and one out, in bytes. An answer's headers must fit into one.
pub(crate) const BUFFER_BYTES: usize = 8 << 10;

/// How long a name or a connection, TLS included, may take of an attempt's time: enough for a satellite link, and no more
/// than the whole attempt.
const MAX_CONNECT: Duration = Duration::from_secs(15);

/// How long an idle connection is kept. Longer, and a NAT in between may have dropped it without a word, which costs
/// the next attempt its whole timeout.
const MAX_IDLE: Duration = Duration::from_secs(15);

const USER_AGENT: &str = concat!("packhorse/", env!("CARGO_PKG_VERSION"));

/// The limits of a client. What is not said here is the same for all: no redirects, no proxy, no compression, buffers of
/// [`BUFFER_BYTES`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A whole attempt.
    pub(crate) timeout: Duration,
    /// Connections that are kept while idle.
    pub(crate) connections: usize,
}

impl Limits {
    /// A client with these limits.
    pub(crate) fn agent(self, connector: &HttpConnector) -> Agent {
        Agent::with_parts(self.config(), connector.clone(), Lookup::default())
    }

    fn config(self) -> ureq::config::Config {
        let connect = Some(self.timeout.min(MAX_CONNECT));
        Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .timeout_resolve(connect)
            .timeout_connect(connect)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .proxy(None)
            .user_agent(USER_AGENT)
            .accept_encoding("")
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            // One less than the buffer, so that headers which fill it are named as such.
            .max_response_header_size(BUFFER_BYTES - 1)
            .max_idle_connections(self.connections)
            .max_idle_connections_per_host(self.connections)
            .max_idle_age(MAX_IDLE)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_environment_and_no_redirect_is_followed() {
        let timeout = Duration::from_secs(20);
        let config = Limits { timeout, connections: 4 }.config();
        assert!(config.proxy().is_none());
        assert_eq!(config.max_redirects(), 0);
        assert!(!config.max_redirects_will_error() && !config.http_status_as_error());
        assert_eq!(config.timeouts().global, Some(timeout));
        assert_eq!(config.timeouts().connect, Some(MAX_CONNECT));
        assert_eq!(config.timeouts().resolve, Some(MAX_CONNECT));
        assert_eq!((config.input_buffer_size(), config.output_buffer_size()), (BUFFER_BYTES, BUFFER_BYTES));
        assert_eq!(config.max_idle_connections(), 4);
        assert_eq!(config.max_idle_connections_per_host(), 4);
        let short = Limits { timeout: Duration::from_secs(1), connections: 1 }.config();
        assert_eq!(short.timeouts().connect, Some(Duration::from_secs(1)));
    }
}
