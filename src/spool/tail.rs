//! The young end of the log, read backwards: what a start needs to know of the time before it.

use std::sync::Arc;

use redb::{ReadableDatabase, ReadableTable};
use uuid::Uuid;

use crate::uplink::Kind;

use super::store::LOG;
use super::{ReadError, Shared, record};

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Tail(Arc<Shared>);

impl Tail {
    pub(super) fn new(shared: Arc<Shared>) -> Tail {
        Tail(shared)
    }

    /// The ids of the last uplinks of a kind, oldest first: at most `limit`, and none older than the last `within` records,
    /// so that a long backlog does not make a start long. Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn last_ids(&self, kind: Kind, limit: usize, within: usize) -> Result<Vec<Uuid>, ReadError> {
        self.0.read(|database| -> Result<Vec<Uuid>, redb::Error> {
            let log = database.begin_read()?.open_table(LOG)?;
            let mut ids = Vec::new();
            for row in log.iter()?.rev().take(within) {
                let (_, value) = row?;
                ids.extend(record::identity(value.value()).filter(|(its, _)| *its == kind).map(|(_, id)| id));
                if ids.len() >= limit {
                    break;
                }
            }
            ids.reverse();
            Ok(ids)
        })
    }
}
