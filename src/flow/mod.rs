//! Which integrations an uplink goes to.
//!
//! Routes are decided once, when an uplink is appended, and stored with it. A config without flows has one implicit flow:
//! everything that was heard goes to every integration that is enabled (RULES S28). An uplink without a route is not
//! stored; the caller counts it.

use crate::config::{Config, Problem};
use crate::spool::{RouteId, RouteName};
use crate::uplink::Uplink;

/// Name of the implicit flow in the spool.
const IMPLICIT: &str = "";

/// The flows of a config.
#[derive(Clone, Debug)]
pub struct Flows {
    routes: Vec<RouteName>,
}

impl Flows {
    /// Reads the flows.
    ///
    /// # Errors
    /// What this version can't do: explicit flows, devices and functions.
    pub fn try_new(config: &Config) -> Result<Flows, Vec<Problem>> {
        let later = |place, key: String, what: &str| {
            Problem::error(place, key, format!("{what} are not available in this version"))
                .hint("leave them out: everything that is heard then goes to every integration")
        };
        let flows = config.flows.iter().map(|flow| later(&flow.name.place, "flow".into(), "flows"));
        let devices =
            config.devices.iter().map(|device| later(&device.name.place, "device".into(), "devices"));
        let functions = config.functions.iter().map(|function| {
            later(&function.name.place, format!("function.{}", function.name.value), "functions")
        });
        let problems: Vec<Problem> = flows.chain(devices).chain(functions).collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        let routes = config
            .integrations
            .iter()
            .filter(|integration| integration.enabled)
            .map(|integration| RouteName {
                flow: IMPLICIT.to_owned(),
                kind: integration.type_name().to_owned(),
                name: integration.name.value.clone(),
            })
            .collect();
        Ok(Flows { routes })
    }

    /// The routes that must exist in the spool, in the order that [`Router::new`] wants their ids in.
    pub fn route_names(&self) -> &[RouteName] {
        &self.routes
    }
}

/// Flows with the ids that the spool gave their routes.
#[derive(Clone, Debug)]
pub struct Router {
    everything: Vec<RouteId>,
}

impl Router {
    /// A router over the ids of [`Flows::route_names`].
    pub fn new(ids: Vec<RouteId>) -> Router {
        Router { everything: ids }
    }

    /// Where an uplink goes; empty: nowhere.
    pub fn routes(&self, _uplink: &Uplink) -> &[RouteId] {
        &self.everything
    }
}
