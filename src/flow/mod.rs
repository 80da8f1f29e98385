//! Which integrations an uplink goes to.
//!
//! Routes are decided once, when an uplink is appended, and stored with it. A route is a flow and a target (RULES S5), under
//! an id that the spool gives it for ever. An uplink without a route is not stored; the caller counts it.
//!
//! | config | who goes where |
//! |---|---|
//! | flows | each flow takes what its `from`, `events` and `ports` say, to each of its targets, independently |
//! | no flow, devices | uplinks of configured devices, to every integration |
//! | no flow, no device | everything that was heard, joins and other frames included (S28), to every integration |
//!
//! An integration that is switched off gets no new routes (S8). A flow with `mode = "failover"` has one target, the group of
//! its integrations (S10).
//!
//! What a flow overrides (topic, format, function) is no part of the route: it is looked up in the present config whenever
//! an uplink is sent, as a [`Variant`].

use std::collections::HashSet;

use crate::config::{self, Config, Event, Format, Problem, Spot};
use crate::lorawan::Device;
use crate::spool::{RouteId, RouteName};
use crate::uplink::Kind;

/// Name of the implicit flow in the spool.
const IMPLICIT: &str = "";

/// The kind of a failover group in the spool, where an integration has `http` or `mqtt`.
pub const GROUP_KIND: &str = "failover";

/// What a flow overrides on its way to an integration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variant {
    /// The flow; the first of several that override alike. Empty: nothing is overridden.
    pub flow: String,
    /// The topic.
    pub topic: Option<Spot<String>>,
    /// The format.
    pub format: Option<Format>,
    /// The function, instead of the device's.
    pub function: Option<String>,
}

impl Variant {
    fn of(flow: &config::Flow, target: &config::Target) -> Variant {
        Variant {
            flow: flow.name.value.clone(),
            topic: target.topic.clone(),
            format: target.format,
            function: flow.function.as_ref().map(|function| function.value.clone()),
        }
    }

    fn overrides_alike(&self, other: &Variant) -> bool {
        let topic = |variant: &Variant| variant.topic.as_ref().map(|topic| topic.value.clone());
        (topic(self), self.format, &self.function) == (topic(other), other.format, &other.function)
    }
}

/// How uplinks reach one integration: its variants, the plain one first, and which flow uses which.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Never empty; the first overrides nothing.
    pub variants: Vec<Variant>,
    of_flow: Vec<(String, usize)>,
}

impl Plan {
    /// The variant of a flow. A flow that is gone leaves the integration's own settings (RULES S5).
    pub fn variant_of(&self, flow: &str) -> usize {
        self.of_flow.iter().find(|(name, _)| name == flow).map_or(0, |(_, variant)| *variant)
    }
}

/// Integrations of which the next is used only while the one before is down.
#[derive(Clone, Debug)]
pub struct Group {
    /// The flow, whose name is the group's.
    pub flow: String,
    /// Its members by name, in order, with what the flow overrides for each.
    pub members: Vec<(String, Variant)>,
}

impl Group {
    /// Whether `name` is one of its members.
    pub fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(member, _)| member == name)
    }
}

/// The flows of a config.
#[derive(Clone, Debug)]
pub struct Flows {
    rules: Vec<Rule>,
    routes: Vec<RouteName>,
    groups: Vec<Group>,
    config: Vec<config::Flow>,
}

#[derive(Clone, Debug)]
struct Rule {
    from: From,
    events: Vec<Event>,
    ports: Vec<u8>,
    /// Indices into the routes.
    to: Vec<usize>,
}

#[derive(Clone, Debug)]
enum From {
    All,
    Known,
    Labels(HashSet<String>),
    Devices { names: HashSet<String>, euis: HashSet<String> },
}

impl Flows {
    /// Reads the flows.
    ///
    /// # Errors
    /// Failover among fewer than two.
    pub fn try_new(config: &Config) -> Result<Flows, Vec<Problem>> {
        let lonely = config.flows.iter().filter(|flow| flow.failover && flow.to.len() < 2);
        let problems: Vec<Problem> = lonely
            .map(|flow| {
                let key = format!("flow.{}.mode", flow.name.value);
                Problem::error(&flow.name.place, key, "failover needs a second integration to fall back on")
                    .hint("name at least two in `to`, or leave `mode` out")
            })
            .collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut flows =
            Flows { rules: Vec::new(), routes: Vec::new(), groups: Vec::new(), config: config.flows.clone() };
        if config.flows.is_empty() {
            flows.add_implicit(config);
        }
        for flow in &config.flows {
            flows.add(flow, &config.integrations);
        }
        Ok(flows)
    }

    fn add_implicit(&mut self, config: &Config) {
        let everything = config.devices.is_empty();
        let to = config.integrations.iter().filter(|integration| integration.enabled);
        let to: Vec<usize> = to.map(|it| self.route(IMPLICIT, it.type_name(), &it.name.value)).collect();
        let events = match everything {
            true => vec![Event::Uplink, Event::Join, Event::Other],
            false => vec![Event::Uplink],
        };
        let from = if everything { From::All } else { From::Known };
        self.rules.push(Rule { from, events, ports: Vec::new(), to });
    }

    fn add(&mut self, flow: &config::Flow, integrations: &[config::Integration]) {
        let enabled = |target: &config::Target| {
            let found = integrations.iter().find(|it| it.name.value == target.integration.value)?;
            found.enabled.then(|| (found.type_name(), found.name.value.clone()))
        };
        let members: Vec<_> = flow.to.iter().filter_map(|target| Some((enabled(target)?, target))).collect();
        let to = if flow.failover {
            let named = |((_, name), target): &((_, String), &config::Target)| {
                (name.clone(), Variant::of(flow, target))
            };
            let group = Group { flow: flow.name.value.clone(), members: members.iter().map(named).collect() };
            if group.members.is_empty() {
                return;
            }
            self.groups.push(group);
            vec![self.route(&flow.name, GROUP_KIND, &flow.name)]
        } else {
            members.iter().map(|((kind, name), _)| self.route(&flow.name, kind, name)).collect()
        };
        self.rules.push(Rule {
            from: From::of(&flow.from),
            events: flow.events.clone(),
            ports: flow.ports.clone(),
            to,
        });
    }

    /// The index of a route, new or known.
    fn route(&mut self, flow: &str, kind: &str, name: &str) -> usize {
        let route = RouteName { flow: flow.to_owned(), kind: kind.to_owned(), name: name.to_owned() };
        let known = self.routes.iter().position(|known| *known == route);
        known.unwrap_or_else(|| {
            self.routes.push(route);
            self.routes.len() - 1
        })
    }

    /// The routes that must exist in the spool, in the order that [`Router::new`] wants their ids in.
    pub fn route_names(&self) -> &[RouteName] {
        &self.routes
    }

    /// The failover groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Whether uplinks may reach the integration `name` outside of groups.
    pub fn is_direct(&self, name: &str) -> bool {
        self.routes.iter().any(|route| route.name == name && route.kind != GROUP_KIND)
    }

    /// How uplinks reach the integration `name` directly. Flows that override alike share a variant (RULES S5).
    pub fn plan(&self, name: &str) -> Plan {
        let mut plan = Plan { variants: vec![Variant::default()], of_flow: Vec::new() };
        for flow in self.config.iter().filter(|flow| !flow.failover) {
            for target in flow.to.iter().filter(|target| target.integration.value == name) {
                let variant = Variant::of(flow, target);
                let known = plan.variants.iter().position(|known| known.overrides_alike(&variant));
                let at = known.unwrap_or_else(|| {
                    plan.variants.push(variant);
                    plan.variants.len() - 1
                });
                plan.of_flow.push((flow.name.value.clone(), at));
            }
        }
        plan
    }
}

impl From {
    fn of(from: &config::From) -> From {
        match from {
            config::From::All => From::All,
            config::From::Known => From::Known,
            config::From::Labels(labels) => From::Labels(labels.iter().cloned().collect()),
            config::From::Devices(wanted) => {
                let hex = |text: &str| text.replace(['-', ':'], "").to_lowercase();
                From::Devices {
                    names: wanted.iter().map(|name| name.value.clone()).collect(),
                    euis: wanted.iter().map(|name| hex(&name.value)).collect(),
                }
            }
        }
    }

    fn takes(&self, device: Option<&Device>) -> bool {
        match (self, device) {
            (From::All, _) => true,
            (From::Known, device) => device.is_some(),
            (From::Labels(labels), Some(device)) => device.labels.iter().any(|label| labels.contains(label)),
            (From::Devices { names, euis }, Some(device)) => {
                names.contains(&device.name)
                    || device.dev_eui.is_some_and(|eui| euis.contains(&eui.to_string()))
            }
            (From::Labels(_) | From::Devices { .. }, None) => false,
        }
    }
}

/// Flows with the ids that the spool gave their routes.
#[derive(Clone, Debug)]
pub struct Router {
    rules: Vec<Rule>,
    ids: Vec<RouteId>,
}

impl Router {
    /// A router over the ids of [`Flows::route_names`].
    pub fn new(flows: &Flows, ids: Vec<RouteId>) -> Router {
        Router { rules: flows.rules.clone(), ids }
    }

    /// Takes everything to all of these.
    #[cfg(test)]
    pub(crate) fn of_everything(ids: Vec<RouteId>) -> Router {
        let events = vec![Event::Uplink, Event::Join, Event::Other];
        let to = (0..ids.len()).collect();
        Router { rules: vec![Rule { from: From::All, events, ports: Vec::new(), to }], ids }
    }

    /// Where an uplink of `kind` goes, which the configured `device` sent on `f_port`; empty: nowhere.
    pub fn routes(&self, kind: Kind, device: Option<&Device>, f_port: Option<u8>) -> Vec<RouteId> {
        let event = match kind {
            Kind::Lorawan | Kind::App => Event::Uplink,
            Kind::Join => Event::Join,
            Kind::Other => Event::Other,
        };
        let takes = |rule: &&Rule| {
            let port = event != Event::Uplink
                || rule.ports.is_empty()
                || f_port.is_some_and(|port| rule.ports.contains(&port));
            port && rule.events.contains(&event) && rule.from.takes(device)
        };
        let to = self.rules.iter().filter(takes).flat_map(|rule| &rule.to);
        let mut routes: Vec<RouteId> = to.filter_map(|route| self.ids.get(*route).copied()).collect();
        routes.sort_unstable();
        routes.dedup();
        routes
    }
}

#[cfg(test)]
mod tests;
