//! How a lane and the spool behind it are doing, in one piece: for an integration that tells its far end about itself.

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::Lane;

impl Lane {
    /// The lane's state and account, and the spool's health. The names are those of `status --json`.
    pub fn bulletin(&mut self) -> Map<String, Value> {
        let (state, oldest) = {
            let status = self.status.borrow();
            (status.state(Instant::now()), status.oldest)
        };
        let view = self.window.ledger.view().borrow().clone();
        let account = self.window.ledger.account(&view);
        let dropped: Map<String, Value> = account
            .map(|account| {
                account.lost.iter().map(|(loss, n)| (loss.as_str().to_owned(), json!(n))).collect()
            })
            .unwrap_or_default();
        let bulletin = json!({
            "integration": &*self.name,
            "state": state.as_str(),
            "backlog": account.map_or(0, |account| account.backlog),
            "oldest_s": oldest.and_then(|at| self.clock.age_s(at)),
            "delivered": account.map_or(0, |account| account.delivered),
            "dead_letters": account.map_or(0, |account| account.dead_letters),
            "dropped": dropped,
            "spool": {
                "state": if view.trouble.is_some() { "degraded" } else { "ok" },
                "records": view.records,
                "bytes": view.bytes,
                "set_aside": !view.set_aside.is_empty(),
            },
        });
        match bulletin {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }
}
