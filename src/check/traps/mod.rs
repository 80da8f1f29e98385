//! What is valid and still goes wrong: the traps of the platforms, and of the protocols themselves.
//!
//! Each was stepped into by somebody: a broker that hangs up without a word for a topic with a slash too many, an API that
//! answers 400 to every uplink because a parameter is missing, which makes dead letters of all of them. An error here is a
//! setting with which nothing could ever be delivered; a warning is something that works otherwise than it seems.
//!
//! A platform is known by its host name ([`Platform`]), so one behind a name of one's own gets the general advice only.
//! Values are known when an uplink is sent; here only the text of templates is judged.

mod aws;
mod azure;
mod bodies;
mod mqtt;
mod parts;

use crate::config::{
    Auth, Config, Format, Http, Integration, IntegrationKind, Method, Mqtt, Place, Problem, Spot,
};
use crate::integration::platform::Platform;

use parts::UrlParts;

/// Everything that `config` steps into.
pub(super) fn of(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    for integration in &config.integrations {
        let mut subject = Subject { config, integration, problems: &mut problems };
        match &integration.kind {
            IntegrationKind::Mqtt(mqtt) => {
                mqtt::look(&mut subject, mqtt);
                match Platform::of(&mqtt.host) {
                    Some(Platform::AwsIot) => aws::mqtt(&mut subject, mqtt),
                    Some(Platform::AzureIotHub) => azure::mqtt(&mut subject, mqtt),
                    Some(platform) => mqtt::look_at(&mut subject, mqtt, platform),
                    None => {}
                }
            }
            IntegrationKind::Http(http) => {
                let Some(url) = UrlParts::of(&http.url) else { continue };
                exposed_headers(&mut subject, http, &url);
                match Platform::of(url.host) {
                    Some(Platform::AwsIot) => aws::http(&mut subject, http, &url),
                    Some(Platform::AzureIotHub) => azure::http(&mut subject, http, &url),
                    platform => bodies::look(&mut subject, http, &url, platform),
                }
            }
        }
    }
    problems
}

/// The integration that is looked at.
struct Subject<'c> {
    config: &'c Config,
    integration: &'c Integration,
    problems: &'c mut Vec<Problem>,
}

impl<'c> Subject<'c> {
    fn error(&mut self, place: &Place, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        let key = self.key(key);
        self.problems.push(Problem::error(place, key, message).hint(hint));
    }

    fn warning(&mut self, place: &Place, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        let key = self.key(key);
        self.problems.push(Problem::warning(place, key, message).hint(hint));
    }

    fn key(&self, key: &str) -> String {
        format!("integration.{}.{key}", self.integration.name.value)
    }

    /// Where the integration's table begins.
    fn place(&self) -> &'c Place {
        &self.integration.name.place
    }

    fn gateway(&self) -> &'c str {
        &self.config.gateway.name
    }

    fn has_auth(&self) -> bool {
        !matches!(self.integration.auth.value, Auth::None)
    }

    fn has_certificate(&self) -> bool {
        self.integration.tls.cert.is_some()
    }

    fn offers(&self, protocol: &str) -> bool {
        self.integration.tls.alpn.iter().any(|name| name == protocol)
    }

    /// The formats that flows want instead of the integration's own, and where they stand.
    fn formats_of_flows(&self) -> Vec<(Format, &'c Place, String)> {
        let flows = self.config.flows.iter();
        let targets = flows.flat_map(|flow| flow.to.iter().map(move |target| (flow, target)));
        targets
            .filter(|(_, target)| target.integration.value == self.integration.name.value)
            .filter_map(|(flow, target)| {
                Some((target.format?, &target.integration.place, format!("flow.{}.to", flow.name.value)))
            })
            .collect()
    }

    /// Every topic that this integration publishes to, with its key: its own, those of flows, of birth and will.
    fn topics(&self, mqtt: &'c Mqtt) -> Vec<(&'c Spot<String>, String)> {
        let mut topics = vec![(&mqtt.topic, self.key("topic"))];
        for flow in &self.config.flows {
            let ours = flow.to.iter().filter(|to| to.integration.value == self.integration.name.value);
            let key = format!("flow.{}.to", flow.name.value);
            topics.extend(ours.filter_map(|to| to.topic.as_ref()).map(|topic| (topic, key.clone())));
        }
        let own = [("will", &mqtt.will), ("birth", &mqtt.birth)];
        let own = own.into_iter().filter_map(|(name, own)| Some((&own.as_ref()?.topic, name)));
        topics.extend(own.map(|(topic, name)| (topic, self.key(&format!("{name}.topic")))));
        topics
    }

    /// Requests of this platform are made with POST.
    fn needs_post(&mut self, http: &Http, platform: Platform) {
        if http.method != Method::Post {
            let message = format!("{} takes uplinks with POST only", platform.name());
            self.error(&http.url.place, "method", message, "set method = \"POST\"");
        }
    }
}

/// Credentials in the headers that cross a network in the clear. Those of `auth` were told when the file was read.
fn exposed_headers(subject: &mut Subject<'_>, http: &Http, url: &UrlParts<'_>) {
    let has_secret = http.headers.iter().any(|(_, value)| !value.is_plain());
    if has_secret && !url.is_tls && !url.is_loopback() && !subject.has_auth() {
        let message = "a secret header goes to another machine over a plain connection";
        subject.warning(&http.url.place, "url", message, "use https:// if the far end offers it");
    }
}

#[cfg(test)]
mod tests;
