//! What only the whole configuration shows: references that lead nowhere, and things that stand twice.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use super::device::{hex_bytes, shown};
use super::problem::{Place, Problem};
use super::reader::{key_part, quoted};
use super::schema::{Config, Flow, From, Integration, IntegrationKind, SourceKind, Spot};
use super::suggest;

/// The names in the file, also of tables that could not be read: a reference to one of those is not wrong.
pub(super) struct Names {
    pub(super) integrations: Vec<String>,
    pub(super) functions: Vec<String>,
}

/// How many names are listed where none is near.
const NAMES_LISTED: usize = 12;

/// Among how many names the nearest is searched: a thousand references to a thousand absent devices should not take
/// minutes.
const NAMES_COMPARED: usize = 500;

/// References that lead nowhere. A file that lost something to a syntax error must not be asked.
pub(super) fn dangling(config: &Config, names: &Names) -> Vec<Problem> {
    let mut problems = Vec::new();
    for device in &config.devices {
        let key = format!("device.{}.function", key_part(&device.name));
        if let Some(function) = &device.function {
            problems.extend(unknown(function, key, "function", &names.functions));
        }
    }
    let population = Population::of(config);
    for flow in &config.flows {
        let key = |key: &str| format!("flow.{}.{key}", key_part(&flow.name));
        for target in &flow.to {
            problems.extend(unknown(&target.integration, key("to"), "integration", &names.integrations));
        }
        if let Some(function) = &flow.function {
            problems.extend(unknown(function, key("function"), "function", &names.functions));
        }
        match &flow.from {
            From::Devices(wanted) => problems.extend(population.absent(wanted, &key("from.devices"))),
            From::Labels(wanted) => {
                problems.extend(population.unlabelled(wanted, &flow.name.place, &key("from.labels")));
            }
            From::All | From::Known => {}
        }
    }
    problems
}

/// By what a flow may pick devices. Ordered, so that one file always gets the same hints.
struct Population<'c> {
    names: BTreeSet<&'c str>,
    euis: BTreeSet<[u8; 8]>,
    labels: BTreeSet<&'c str>,
}

impl<'c> Population<'c> {
    fn of(config: &'c Config) -> Self {
        let labels = config.devices.iter().flat_map(|device| &device.labels);
        Population {
            names: config.devices.iter().map(|device| device.name.as_str()).collect(),
            euis: config.devices.iter().filter_map(|device| device.dev_eui).collect(),
            labels: labels.map(String::as_str).collect(),
        }
    }

    /// Errors: a device that is not there cannot have been meant.
    fn absent(&self, wanted: &[Spot<String>], key: &str) -> Vec<Problem> {
        let known = |name: &str| {
            self.names.contains(name) || hex_bytes(name).is_some_and(|eui| self.euis.contains(&eui))
        };
        let names: Vec<&str> = self.names.iter().copied().collect();
        let absent = wanted.iter().filter(|name| !known(name));
        absent.map(|name| nowhere(name, key.to_owned(), "device", &names)).collect()
    }

    /// Warnings: devices with the label may be to come.
    fn unlabelled(&self, wanted: &[String], place: &Place, key: &str) -> Vec<Problem> {
        let labels: Vec<&str> = self.labels.iter().copied().take(NAMES_COMPARED).collect();
        let warning = |label: &String| {
            let message = format!("no device has the label {}: nothing will take this way", quoted(label));
            let mut problem = Problem::warning(place, key, message);
            problem.hint = suggest::hint(label, &labels, "labels", NAMES_LISTED);
            problem
        };
        wanted.iter().filter(|label| !self.labels.contains(label.as_str())).map(warning).collect()
    }
}

/// What stands twice, or would get in each other's way.
pub(super) fn clashes(config: &Config) -> Vec<Problem> {
    let mut problems = devices(config);
    problems.extend(listeners(config));
    problems.extend(circles(config));
    problems.extend(brokers(config));
    problems.extend(flows(&config.flows));
    problems.extend(config.flows.iter().flat_map(|flow| misfits(flow, &config.integrations)));
    problems
}

/// One identifier must not mean two devices: neither names nor DevEUIs, nor one the other.
fn devices(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut names: HashMap<&str, &Place> = HashMap::new();
    let mut euis: HashMap<[u8; 8], &Place> = HashMap::new();
    for device in &config.devices {
        let (name, place) = (&device.name, &device.name.place);
        if let Some(eui) = device.dev_eui
            && let Some(first) = euis.insert(eui, place)
        {
            let message = format!("the DevEUI {} is already that of the device at {first}", shown(&eui));
            problems.push(Problem::error(place, format!("device.{}.dev_eui", key_part(name)), message));
        }
        // Without a name of their own, devices with one DevEUI were told above.
        let own_name = device.dev_eui.is_none_or(|eui| shown(&eui) != name.value);
        let first = names.insert(name, place).filter(|_| own_name && !name.is_empty());
        if let Some(first) = first {
            let message = format!("a device at {first} already has the name {}", quoted(name));
            problems.push(Problem::error(place, format!("device.{}.name", key_part(name)), message));
        }
    }
    for device in &config.devices {
        let other = hex_bytes::<8>(&device.name).filter(|eui| device.dev_eui != Some(*eui));
        if let Some(place) = other.and_then(|eui| euis.get(&eui)) {
            let message = format!("this name is the DevEUI of another device, at {place}");
            let key = format!("device.{}.name", key_part(&device.name));
            problems.push(Problem::error(&device.name.place, key, message));
        }
    }
    problems
}

/// Two listeners of one transport on one address; a wildcard address covers all others.
fn listeners(config: &Config) -> Vec<Problem> {
    let mut all: Vec<(bool, &Spot<SocketAddr>, String)> = Vec::new();
    for source in &config.sources {
        let key = format!("source.{}.listen", source.name.value);
        match &source.kind {
            SourceKind::SemtechUdp(udp) => all.push((true, &udp.listen, key)),
            SourceKind::Http(http) => all.push((false, &http.listen, key)),
            SourceKind::Mqtt(_) => {}
        }
    }
    all.extend(config.metrics.listen.as_ref().map(|listen| (false, listen, "metrics.listen".to_owned())));
    let mut problems = Vec::new();
    for (index, (udp, listen, key)) in all.iter().enumerate() {
        let same = |(other_udp, other, _): &&(bool, &Spot<SocketAddr>, String)| {
            let wildcard = listen.ip().is_unspecified() || other.ip().is_unspecified();
            udp == other_udp
                && listen.port() != 0
                && listen.port() == other.port()
                && (wildcard || listen.ip().to_canonical() == other.ip().to_canonical())
        };
        if let Some((_, other, other_key)) = all.iter().take(index).find(same) {
            let message = format!("{} is taken: {other_key} listens on {}", listen.value, other.value);
            problems.push(Problem::error(&listen.place, key, message).hint("give one of them another port"));
        }
    }
    problems
}

/// Datagrams that would come back to where they came from, or to another source of this agent, which would take the uplinks in
/// once more. Of names, `localhost` alone is known here; what others turn out to be, the source finds out.
fn circles(config: &Config) -> Vec<Problem> {
    let udp = config.sources.iter().filter_map(|source| match &source.kind {
        SourceKind::SemtechUdp(udp) => Some((&source.name.value, udp)),
        _ => None,
    });
    let mut problems = Vec::new();
    for (name, tapped) in udp.clone() {
        for server in &tapped.forward_to {
            let Some((other, _)) = udp.clone().find(|(_, udp)| leads_to(server, *udp.listen)) else {
                continue;
            };
            let message = match other == name {
                true => "this is the source's own address: every datagram would go round for ever".to_owned(),
                false => format!("source.{other} listens there: every uplink would be taken in twice"),
            };
            let hint = "name the server that is to hear the forwarder too, such as \"127.0.0.1:1680\"";
            problems
                .push(Problem::error(&server.place, format!("source.{name}.forward_to"), message).hint(hint));
        }
    }
    problems
}

/// Whether what is sent to `peer`, a `HOST:PORT`, arrives at `listen`.
fn leads_to(peer: &str, listen: SocketAddr) -> bool {
    let Some((host, port)) = peer.rsplit_once(':') else { return false };
    if port.parse() != Ok(listen.port()) {
        return false;
    }
    let host = host.trim_matches(['[', ']']);
    let ours = listen.ip().to_canonical();
    if host.eq_ignore_ascii_case("localhost") {
        return ours.is_loopback() || ours.is_unspecified();
    }
    let Ok(theirs) = host.parse::<IpAddr>().map(|ip| ip.to_canonical()) else { return false };
    // What is sent to no address in particular arrives here.
    let is_here = theirs.is_loopback() || theirs.is_unspecified();
    theirs == ours || (ours.is_unspecified() && is_here) || (theirs.is_unspecified() && ours.is_loopback())
}

/// Two active connections under one client id evict each other for ever (MQTT 3.1.1 section 3.1.4).
fn brokers(config: &Config) -> Vec<Problem> {
    let mut seen: HashMap<(&str, u16, String), &str> = HashMap::new();
    let mut problems = Vec::new();
    for integration in config.integrations.iter().filter(|it| it.enabled) {
        let IntegrationKind::Mqtt(mqtt) = &integration.kind else { continue };
        let client_id = mqtt.client_id.replace("{{gateway.name}}", &config.gateway.name);
        let id = (mqtt.host.as_str(), mqtt.port, client_id);
        let Some(first) = seen.insert(id, &integration.name) else { continue };
        let key = format!("integration.{}.client_id", integration.name.value);
        let message = format!("integration.{first} connects to the same broker under the same client id");
        let hint = "give each its own client_id: a broker closes the older of two connections with one id";
        problems.push(Problem::error(&mqtt.client_id.place, key, message).hint(hint));
    }
    problems
}

/// Overrides that the target cannot use.
fn misfits(flow: &Flow, integrations: &[Integration]) -> Vec<Problem> {
    let http = |name: &str| {
        let found = integrations.iter().find(|it| it.name.value == name);
        found.is_some_and(|it| matches!(it.kind, IntegrationKind::Http(_)))
    };
    let wrong = flow.to.iter().filter(|target| http(&target.integration)).filter_map(|it| it.topic.as_ref());
    let key = format!("flow.{}.to", key_part(&flow.name));
    wrong
        .map(|topic| Problem::error(&topic.place, &key, "topic is for mqtt, this integration is http"))
        .collect()
}

/// A flow's name is its identity in the spool (RULES S5).
fn flows(flows: &[Flow]) -> Vec<Problem> {
    let mut seen: HashMap<&str, &Place> = HashMap::new();
    let mut problems = Vec::new();
    for Spot { value: name, place } in flows.iter().map(|flow| &flow.name) {
        if let Some(first) = seen.insert(name, place) {
            let message = format!("a flow at {first} already has the name {}", quoted(name));
            problems.push(Problem::error(place, format!("flow.{}.name", key_part(name)), message));
        }
    }
    problems
}

fn unknown(name: &Spot<String>, key: String, what: &str, names: &[String]) -> Option<Problem> {
    if names.contains(&name.value) {
        return None;
    }
    Some(nowhere(name, key, what, &names.iter().map(String::as_str).collect::<Vec<_>>()))
}

fn nowhere(name: &Spot<String>, key: String, what: &str, names: &[&str]) -> Problem {
    let mut problem = Problem::error(&name.place, key, format!("there is no {what} {}", quoted(name)));
    let names = names.get(..NAMES_COMPARED).unwrap_or(names);
    problem.hint = suggest::hint(name, names, &format!("{what}s"), NAMES_LISTED);
    problem
}
