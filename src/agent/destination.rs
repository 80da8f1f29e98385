//! From the config to lanes: one for each integration that uplinks reach directly, one for each failover group.
//!
//! An integration that is a member of a group and reached directly as well (or by two groups) has several connections at
//! once. To an MQTT broker each needs a client id of its own, and only one of them may speak for the gateway: those of
//! groups get the flow's name behind the id, and neither birth nor will nor state. A member of one group alone speaks for the gateway
//! there; what an earlier config has left for it outside of the group goes by a second connection.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::{self, Config, IntegrationKind, Order, Problem};
use crate::delivery::{Lane, LaneSettings, LaneStatus, LinkUp};
use crate::dial::Dial;
use crate::flow::{Flows, GROUP_KIND, Plan, Variant};
use crate::history::History;
use crate::integration::{Group, Integration};
use crate::render::Interpreter;
use crate::spool::{AccountId, ReadError, RouteId, Spool};

/// What stands behind the client id of a connection that empties the backlog of an earlier config.
const LEFT: &str = "left";

/// A lane to be, with who drives it.
#[derive(Debug)]
pub(super) struct Destination {
    /// `http`, `mqtt` or `failover`.
    pub(super) kind: &'static str,
    /// The integration's name, or the group's flow.
    pub(super) name: Arc<str>,
    pub(super) client: Integration,
    pub(super) identity: Identity,
    /// Its last attempts.
    pub(super) history: History,
    retry: config::Retry,
    seed: u64,
    order: Order,
    replay_rate: u32,
}

/// Everything that a lane and its client are made of: if it is the same, nothing has to be restarted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Identity {
    gateway: String,
    /// The integration, or a group's members with what the flow overrides for each.
    members: Vec<(config::Integration, Vec<Variant>)>,
    /// `None` for a group, which has one variant.
    plan: Option<Plan>,
}

/// Builds the destinations of a config.
///
/// # Errors
/// Everything that is wrong with the integrations, disabled ones included.
pub(super) fn build(
    config: &Config,
    flows: &Flows,
    dial: &Dial,
    interpreter: &Interpreter,
) -> Result<Vec<Destination>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut destinations = Vec::new();
    for integration in &config.integrations {
        let plan = flows.plan(&integration.name);
        let integration = match speaks_in_its_group(flows, &integration.name) {
            true => as_second(integration, LEFT),
            false => integration.clone(),
        };
        match Integration::try_new(&integration, dial, interpreter, &plan.variants) {
            Ok(client) if integration.enabled => destinations.push(Destination {
                kind: integration.type_name(),
                name: Arc::from(integration.name.value.as_str()),
                client,
                retry: integration.retry.clone(),
                seed: seed(&config.gateway.name, &integration.name),
                order: integration.order.value,
                replay_rate: integration.replay_rate.value,
                history: History::new(config.history.records),
                identity: Identity {
                    gateway: config.gateway.name.clone(),
                    members: vec![(integration.clone(), plan.variants.clone())],
                    plan: Some(plan),
                },
            }),
            Ok(_) => {}
            Err(more) => problems.extend(more),
        }
    }
    if !problems.is_empty() {
        // A member's mistakes would be told once more for each group it is in.
        return Err(problems);
    }
    for group in flows.groups() {
        match group_of(config, flows, group, dial, interpreter) {
            Ok(group) => destinations.extend(group),
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok(destinations) } else { Err(problems) }
}

fn group_of(
    config: &Config,
    flows: &Flows,
    group: &crate::flow::Group,
    dial: &Dial,
    interpreter: &Interpreter,
) -> Result<Option<Destination>, Vec<Problem>> {
    let mut members = Vec::new();
    let mut made_of = Vec::new();
    let mut first = None;
    for (name, variant) in &group.members {
        let Some(integration) = config.integrations.iter().find(|it| it.name.value == *name) else {
            continue;
        };
        let integration = match speaks_in_its_group(flows, name) {
            true => integration.clone(),
            false => as_second(integration, &group.flow),
        };
        let client = Integration::try_new(&integration, dial, interpreter, std::slice::from_ref(variant))?;
        made_of.push((integration.clone(), vec![variant.clone()]));
        // The lane is the group's, and keeps to the rules of the member that is preferred.
        first.get_or_insert(integration);
        members.push((Arc::from(name.as_str()), client));
    }
    let (Some(first), Some(members)) = (first, Group::new(members)) else { return Ok(None) };
    Ok(Some(Destination {
        kind: GROUP_KIND,
        name: Arc::from(group.flow.as_str()),
        client: Integration::Group(members),
        retry: first.retry,
        seed: seed(&config.gateway.name, &group.flow),
        order: first.order.value,
        replay_rate: first.replay_rate.value,
        history: History::new(config.history.records),
        identity: Identity { gateway: config.gateway.name.clone(), members: made_of, plan: None },
    }))
}

/// Whether uplinks reach it by one group and in no other way.
fn speaks_in_its_group(flows: &Flows, name: &str) -> bool {
    !flows.is_direct(name) && flows.groups().iter().filter(|group| group.has(name)).count() == 1
}

/// The integration's second connection.
fn as_second(integration: &config::Integration, whose: &str) -> config::Integration {
    let mut second = integration.clone();
    if let IntegrationKind::Mqtt(mqtt) = &mut second.kind {
        mqtt.client_id.value = format!("{}-{whose}", mqtt.client_id.value);
        mqtt.will = None;
        mqtt.birth = None;
        mqtt.state = None;
    }
    second
}

fn seed(gateway: &str, integration: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (gateway, integration).hash(&mut hasher);
    hasher.finish()
}

impl Destination {
    /// Its account in the spool, if anything was ever routed to it.
    pub(super) fn account(&self, spool: &Spool) -> Option<AccountId> {
        let view = spool.view();
        let view = view.borrow();
        view.account_of(self.kind, &self.name).map(|account| account.id)
    }

    /// Its lane, where the lane's status can be seen, and the routes that lead to it.
    ///
    /// # Errors
    /// The spool can't be read.
    pub(super) fn lane(
        &self,
        account: AccountId,
        spool: &Spool,
        clock: &Arc<dyn Clock>,
        link_up: &LinkUp,
    ) -> Result<(Lane, watch::Receiver<LaneStatus>, Vec<RouteId>), ReadError> {
        let routes = spool.routes_of(account)?;
        let variant_of: HashMap<_, _> = match &self.identity.plan {
            Some(plan) => routes.iter().map(|(route, flow)| (*route, plan.variant_of(flow))).collect(),
            None => HashMap::new(),
        };
        let routes: Vec<RouteId> = routes.into_iter().map(|(route, _)| route).collect();
        let ledger = spool.ledger(account, routes.clone());
        let settings = LaneSettings {
            name: Arc::clone(&self.name),
            retry: self.retry.clone(),
            ordering: self.client.ordering(),
            seed: self.seed,
            order: self.order,
            replay_rate: self.replay_rate,
            variant_of,
            history: self.history.clone(),
        };
        let (lane, seen) = Lane::new(settings, ledger, Arc::clone(clock), link_up.clone());
        Ok((lane, seen, routes))
    }
}
