//! How one variant of an integration's uplinks is made (RULES S5), and how long an uplink was held until it is.

use crate::clock::Clock;
use crate::config::{self, Problem};
use crate::flow::Variant;
use crate::render::{Meaning, Renderer, Snapshot};
use crate::spool;
use crate::uplink::Uplink;

/// How long an uplink was held so far, in whole milliseconds: `X-Hold-Ms` over HTTP, `hold_ms` in MQTT 5. `None` where
/// nobody can know: it was heard before a reboot, and the clock is not to be believed (RULES S2).
pub(super) fn hold_ms(uplink: &Uplink, clock: &dyn Clock) -> Option<u64> {
    let age = spool::age(uplink, clock)?;
    Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

/// One variant, ready to be made.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// The flow that overrides something; empty for the plain way.
    flow: String,
    function: Option<String>,
    pub(super) renderer: Renderer,
}

impl Way {
    /// The ways of `integration`; as many as `variants`, and never none.
    pub(super) fn all(
        integration: &config::Integration,
        variants: &[Variant],
    ) -> Result<Vec<Way>, Vec<Problem>> {
        let plain = Renderer::try_new(integration)?;
        let way = |variant: &Variant| Way {
            flow: variant.flow.clone(),
            function: variant.function.clone(),
            renderer: variant.format.map_or_else(|| plain.clone(), |format| plain.with_format(format)),
        };
        Ok(variants.iter().map(way).collect())
    }

    /// The id by which the far end tells repeats: the same on every attempt. A record that goes out by several flows is
    /// several messages to it; `extra` are those after the first (RULES S5).
    pub(super) fn key(&self, uplink: &Uplink, extra: bool) -> String {
        match extra {
            false => uplink.id.to_string(),
            true => format!("{}/{}", uplink.id, self.flow),
        }
    }

    /// What `uplink` means on this way; waits for the function.
    pub(super) fn interpret<'a>(&self, snapshot: &'a Snapshot, uplink: &'a Uplink) -> Meaning<'a> {
        snapshot.interpret(uplink, self.function.as_deref())
    }

    /// What `uplink` means, if no function has to be asked for it.
    pub(super) fn interpret_now<'a>(
        &self,
        snapshot: &'a Snapshot,
        uplink: &'a Uplink,
    ) -> Option<Meaning<'a>> {
        snapshot.interpret_now(uplink, self.function.as_deref())
    }

    /// The same without blocking the thread.
    pub(super) async fn interpret_async<'a>(
        &self,
        snapshot: &'a Snapshot,
        uplink: &'a Uplink,
    ) -> Meaning<'a> {
        snapshot.interpret_async(uplink, self.function.as_deref()).await
    }
}
