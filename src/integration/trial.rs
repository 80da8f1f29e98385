//! One attempt with a made-up uplink, for `test` (RULES S29): rendered and sent as production does it, once, past the lane
//! and the spool. What comes of it settles nothing and is no word about the integration's state.

use std::sync::Arc;

use crate::delivery::outcome::{Failure, Layer, Outcome, Report};
use crate::dial::reach::Reach;
use crate::uplink::Uplink;

use super::http::HttpClient;
use super::mqtt::Mqtt;

/// Makes such attempts, while the integration runs or without. Cloning it shares it.
#[derive(Clone, Debug)]
pub enum Tester {
    /// By a connection of its own, with the credentials of the integration.
    Http {
        /// The connection.
        client: Arc<HttpClient>,
        /// The far end gets arrays.
        in_batches: bool,
    },
    /// On the live session where there is one.
    Mqtt(Arc<Mqtt>),
    /// By one of the members.
    Group(Vec<(Arc<str>, Tester)>),
}

impl Tester {
    /// That of a member of a group.
    pub fn member(&self, name: &str) -> Option<&Tester> {
        let Tester::Group(members) = self else { return None };
        members.iter().find(|(member, _)| **member == *name).map(|(_, tester)| tester)
    }

    /// By what name the broker knows us, for MQTT.
    pub fn client_id(&self) -> Option<&str> {
        if let Tester::Mqtt(mqtt) = self { Some(mqtt.client_id()) } else { None }
    }

    /// Whom it dials; a group dials several.
    pub(crate) fn reach(&self) -> Option<Reach> {
        match self {
            Tester::Http { client, .. } => Some(client.reach()),
            Tester::Mqtt(mqtt) => mqtt.reach(),
            Tester::Group(_) => None,
        }
    }

    /// Sends `uplink` once; a group through the member `via`, or its first.
    pub async fn attempt(&self, uplink: Arc<Uplink>, via: Option<&str>) -> Report {
        match self {
            Tester::Http { client, in_batches } => {
                let (client, in_batches) = (Arc::clone(client), *in_batches);
                let sent = tokio::task::spawn_blocking(move || client.send_alone(&uplink, in_batches));
                sent.await.unwrap_or_else(|_| broken_off(Layer::Http))
            }
            Tester::Mqtt(mqtt) => mqtt.attempt(&uplink).await,
            Tester::Group(members) => {
                let used = via.and_then(|via| self.member(via)).or(members.first().map(|(_, tester)| tester));
                match used {
                    // A member is no group, but the compiler can't know.
                    Some(tester) => Box::pin(tester.attempt(uplink, None)).await,
                    None => broken_off(Layer::Render),
                }
            }
        }
    }
}

fn broken_off(layer: Layer) -> Report {
    Outcome::Failed(Failure::link(layer, "the attempt was broken off")).into()
}
