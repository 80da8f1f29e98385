//! From the config to lanes: one for each integration that uplinks reach directly, one for each failover group.
//!
//! An integration that is a member of a group and reached directly as well (or by two groups) has several connections at
//! once. To an MQTT broker each needs a client id of its own, and only one of them may speak for the gateway: those of
//! groups get the flow's name behind the id, and neither birth nor will nor state.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::{self, Config, IntegrationKind, Problem};
use crate::delivery::{Lane, LaneSettings, LaneStatus, LinkUp};
use crate::dial::Dial;
use crate::flow::{Flows, GROUP_KIND, Plan, Variant};
use crate::history::History;
use crate::integration::{Group, Integration};
use crate::render::Interpreter;
use crate::spool::{AccountId, ReadError, Spool};

/// A lane to be, with who drives it.
#[derive(Debug)]
pub(super) struct Destination {
    /// `http`, `mqtt` or `failover`.
    pub(super) kind: &'static str,
    /// The integration's name, or the group's flow.
    pub(super) name: Arc<str>,
    pub(super) client: Integration,
    retry: config::Retry,
    seed: u64,
    /// Its last attempts.
    pub(super) history: History,
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
        match Integration::try_new(integration, dial, interpreter, &plan.variants) {
            Ok(client) if integration.enabled => destinations.push(Destination {
                kind: integration.type_name(),
                name: Arc::from(integration.name.value.as_str()),
                client,
                retry: integration.retry.clone(),
                seed: seed(&config.gateway.name, &integration.name),
                history: History::new(config.history.records),
                plan: Some(plan),
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
    let mut retry = None;
    for (name, variant) in &group.members {
        let Some(integration) = config.integrations.iter().find(|it| it.name.value == *name) else {
            continue;
        };
        let alone = !flows.is_direct(name) && flows.groups().iter().filter(|it| it.has(name)).count() == 1;
        let integration = if alone { integration.clone() } else { as_second(integration, &group.flow) };
        let variants = [Variant { topic: variant.topic.clone(), ..variant.clone() }];
        let client = Integration::try_new(&integration, dial, interpreter, &variants)?;
        retry.get_or_insert_with(|| integration.retry.clone());
        members.push((Arc::from(name.as_str()), client));
    }
    let (Some(retry), Some(members)) = (retry, Group::new(members)) else { return Ok(None) };
    Ok(Some(Destination {
        kind: GROUP_KIND,
        name: Arc::from(group.flow.as_str()),
        client: Integration::Group(members),
        retry,
        seed: seed(&config.gateway.name, &group.flow),
        history: History::new(config.history.records),
        plan: None,
    }))
}

/// The integration's second connection.
fn as_second(integration: &config::Integration, flow: &str) -> config::Integration {
    let mut second = integration.clone();
    if let IntegrationKind::Mqtt(mqtt) = &mut second.kind {
        mqtt.client_id.value = format!("{}-{flow}", mqtt.client_id.value);
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
        let ours = view.accounts.iter().find(|it| *it.kind == *self.kind && *it.name == *self.name)?;
        Some(ours.id)
    }

    /// Its lane, and where the lane's status can be seen.
    ///
    /// # Errors
    /// The spool can't be read.
    pub(super) fn lane(
        &self,
        account: AccountId,
        spool: &Spool,
        clock: &Arc<dyn Clock>,
        link_up: &LinkUp,
    ) -> Result<(Lane, watch::Receiver<LaneStatus>), ReadError> {
        let routes = spool.routes_of(account)?;
        let variant_of: HashMap<_, _> = match &self.plan {
            Some(plan) => routes.iter().map(|(route, flow)| (*route, plan.variant_of(flow))).collect(),
            None => HashMap::new(),
        };
        let ledger = spool.ledger(account, routes.into_iter().map(|(route, _)| route).collect());
        let settings = LaneSettings {
            name: Arc::clone(&self.name),
            retry: self.retry.clone(),
            ordering: self.client.ordering(),
            seed: self.seed,
            variant_of,
            history: self.history.clone(),
        };
        Ok(Lane::new(settings, ledger, Arc::clone(clock), link_up.clone()))
    }
}
