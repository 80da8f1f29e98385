//! What arrived at a destination of the demo or of a test.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// One message that a destination received.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// Path of the request or topic of the message.
    pub place: String,
    /// `Idempotency-Key` of a request.
    pub key: Option<String>,
    /// The headers of a request, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// A broker handed the same message to its subscriber once more; the agent has no part in that.
    pub redelivered: bool,
}

impl Arrival {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header of the request.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The `id` of the body, or ChirpStack's `deduplicationId`.
    pub fn id(&self) -> Option<String> {
        let json = self.json();
        json.get("id").or_else(|| json.get("deduplicationId")).and_then(Value::as_str).map(str::to_owned)
    }
}

/// All that arrived, in order, and a signal when something does.
#[derive(Debug, Default)]
pub struct Arrivals {
    log: Mutex<Vec<Arrival>>,
    changed: Condvar,
}

/// A summary of the uplinks among the arrivals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Different uplinks.
    pub unique: usize,
    /// Arrivals of an uplink beyond its first.
    pub duplicates: usize,
}

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something arrived.
    pub fn add(&self, arrival: Arrival) {
        self.lock().push(arrival);
        self.changed.notify_all();
    }

    /// A copy of everything.
    pub fn all(&self) -> Vec<Arrival> {
        self.lock().clone()
    }

    /// Everything so far, which is forgotten: for those who look at more of it than they want to keep.
    pub fn take(&self) -> Vec<Arrival> {
        std::mem::take(&mut self.lock())
    }

    /// How many uplinks arrived, and how often too many times.
    pub fn tally(&self) -> Tally {
        tally(&self.lock())
    }

    /// Waits until `enough` of what arrived, at most for `patience`; whether it was.
    pub fn wait_until(&self, patience: Duration, mut enough: impl FnMut(&[Arrival]) -> bool) -> bool {
        let until = Instant::now() + patience;
        let mut log = self.lock();
        loop {
            if enough(&log) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            log = self.changed.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for `n` different uplinks; whether they came.
    pub fn wait_for_unique(&self, n: usize, patience: Duration) -> bool {
        self.wait_until(patience, |log| log.len() >= n && tally(log).unique >= n)
    }
}

fn tally(log: &[Arrival]) -> Tally {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for arrival in log {
        let Some(id) = arrival.id() else { continue };
        let count = seen.entry(id).or_default();
        if *count == 0 || !arrival.redelivered {
            *count += 1;
        }
    }
    Tally { unique: seen.len(), duplicates: seen.values().map(|count| count - 1).sum() }
}
