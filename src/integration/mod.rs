//! The outbound destinations: HTTP and MQTT.
//!
//! An integration is a client of one far end and the driver of one [`Lane`]. It is built from its table of the config
//! without touching the network ([`Integration::try_new`], which `check` calls too) and then runs on an OS thread of its
//! own with a small runtime of its own ([`Integration::start`]): rendering, TLS and name resolution of one destination
//! never delay another's. It returns when it is told to stop; what is under way by then is either answered or given back
//! to the lane, and the spool still has it.
//!
//! What it refuses: to report anything as delivered that the far end did not acknowledge.

pub mod auth;
mod group;
pub mod http;
pub mod mqtt;
pub mod platform;
mod trial;
mod way;

#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::config::{self, IntegrationKind, Problem};
use crate::delivery::{Lane, Ordering, Stop};
use crate::flow::Variant;
use crate::own_thread;
use crate::render::Interpreter;

use crate::dial::Dial;
pub use group::Group;
pub use trial::Tester;

/// A destination, ready to run.
#[derive(Debug)]
pub enum Integration {
    /// See [`http`].
    Http(Box<http::Http>),
    /// See [`mqtt`].
    Mqtt(Arc<mqtt::Mqtt>),
    /// Several, one at a time; see [`Group`].
    Group(Group),
}

impl Integration {
    /// Builds the client of an integration.
    ///
    /// # Errors
    /// Everything that is wrong with its settings.
    pub fn try_new(
        integration: &config::Integration,
        dial: &Dial,
        interpreter: &Interpreter,
        variants: &[Variant],
    ) -> Result<Integration, Vec<Problem>> {
        match &integration.kind {
            IntegrationKind::Http(_) => http::Http::try_new(integration, dial, interpreter, variants)
                .map(Box::new)
                .map(Integration::Http),
            IntegrationKind::Mqtt(_) => {
                let mqtt = mqtt::Mqtt::try_new(integration, dial, interpreter, variants)?;
                Ok(Integration::Mqtt(Arc::new(mqtt)))
            }
        }
    }

    /// How its lane keeps order.
    pub fn ordering(&self) -> Ordering {
        match self {
            Integration::Http(http) => http.ordering(),
            Integration::Mqtt(_) => Ordering::Stream,
            Integration::Group(group) => group.ordering(),
        }
    }

    /// Makes attempts beside the lane, for `test`.
    pub fn tester(&self) -> Tester {
        match self {
            Integration::Http(http) => http.tester(),
            Integration::Mqtt(mqtt) => Tester::Mqtt(Arc::clone(mqtt)),
            Integration::Group(group) => Tester::Group(group.testers()),
        }
    }

    async fn drive(&self, lane: &mut Lane, stop: &mut Stop) {
        match self {
            Integration::Http(http) => http.run(lane, stop).await,
            Integration::Mqtt(mqtt) => mqtt.run(lane, stop).await,
            // Its members are integrations, so the future would hold itself.
            Integration::Group(group) => Box::pin(group.run(lane, stop)).await,
        }
    }

    /// Whether its far end can be reached and does not refuse us, asked without an uplink.
    async fn probe(&self) -> group::Probe {
        match self {
            Integration::Http(http) => http.probe().await,
            Integration::Mqtt(mqtt) => mqtt.probe().await,
            Integration::Group(_) => Ok(()),
        }
    }

    /// Runs it on a thread of its own until `stop`.
    ///
    /// # Errors
    /// The system's, when it has no thread or no timer left.
    pub fn start(self, mut lane: Lane, mut stop: Stop) -> std::io::Result<JoinHandle<()>> {
        own_thread::spawn(lane.name().to_string(), move || async move {
            self.drive(&mut lane, &mut stop).await;
        })
    }
}
