//! The last results, so that all integrations of an uplink share one call.
//!
//! Integrations fetch the same uplink within moments of each other while the link is up; one that lags further behind
//! than this reaches pays with a call of its own. Bounded in number and bytes, oldest out.

use std::collections::VecDeque;
use std::sync::Arc;

use uuid::Uuid;

use super::{Decoding, Output};

const MOST: usize = 64;
const MOST_BYTES: usize = 256 << 10;

/// An uplink and a function.
pub(super) type Key = (Uuid, u32);

/// The results.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: VecDeque<(Key, Arc<Output>, usize)>,
    bytes: usize,
}

impl Cache {
    /// The result of `key`, if it is still here.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Output>> {
        self.entries.iter().find(|(known, ..)| known == key).map(|(_, output, _)| Arc::clone(output))
    }

    /// Keeps a result.
    pub(super) fn put(&mut self, key: Key, output: Arc<Output>) {
        let size = size(&output);
        self.bytes = self.bytes.saturating_add(size);
        self.entries.push_back((key, output, size));
        while self.entries.len() > MOST || self.bytes > MOST_BYTES {
            let Some((.., size)) = self.entries.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(size);
        }
    }
}

fn size(output: &Output) -> usize {
    let texts = |texts: &[String]| texts.iter().map(|text| text.len() + size_of::<String>()).sum::<usize>();
    let result = match &output.decoding {
        Decoding::Decoded { data, warnings, normalized } => {
            data.get().len() + normalized.as_ref().map_or(0, |text| text.get().len()) + texts(warnings)
        }
        Decoding::Null => 0,
        Decoding::Failed { errors } => texts(errors),
    };
    let console = output.console.iter().map(|line| line.text.len() + size_of_val(line)).sum::<usize>();
    result + console + size_of::<Output>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u128) -> Key {
        (Uuid::from_u128(n), 0)
    }

    #[test]
    fn the_oldest_goes_first_by_number() {
        let mut cache = Cache::default();
        for n in 0..100 {
            cache.put(key(n), Arc::new(Output::failed("no")));
        }
        assert!(
            cache.get(&key(35)).is_none() && cache.get(&key(36)).is_some() && cache.get(&key(99)).is_some()
        );
        assert!(cache.get(&(Uuid::from_u128(99), 1)).is_none(), "another function");
    }

    #[test]
    fn the_oldest_goes_first_by_size_and_too_large_is_not_kept() {
        let mut cache = Cache::default();
        for n in 0..10 {
            cache.put(key(n), Arc::new(Output::failed("x".repeat(100_000))));
        }
        assert!(cache.get(&key(7)).is_none() && cache.get(&key(8)).is_some() && cache.bytes <= MOST_BYTES);
        cache.put(key(10), Arc::new(Output::failed("x".repeat(MOST_BYTES))));
        assert!(cache.entries.is_empty() && cache.bytes == 0);
    }
}
