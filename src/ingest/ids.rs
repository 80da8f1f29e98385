//! The ids that network servers and scripts gave their uplinks, and which of them were seen lately (RULES S20).

use std::collections::{HashSet, VecDeque};

use uuid::Uuid;

use crate::source::server::Told;

/// How many are remembered.
pub const REMEMBERED: usize = 1_024;

/// Namespace of the ids that are made from a text which is no UUID (RFC 9562, version 5).
const NAMESPACE: Uuid = Uuid::from_u128(0x0a2f_6e1c_61a5_4b0e_9d43_7a1f_5c8e_2b90);

/// The id of an uplink that has one by its sender: the UUID that it is, or one made of its text and the device, so that
/// senders who number the uplinks of each device by itself lose nothing. The nil and the max UUID are placeholders, not ids.
pub(super) fn of(told: &Told) -> Option<Uuid> {
    let text = told.id.as_deref()?;
    match Uuid::try_parse(text) {
        Ok(id) => (!id.is_nil() && !id.is_max()).then_some(id),
        Err(_) => Some(Uuid::new_v5(&NAMESPACE, format!("{}/{text}", told.dev_eui).as_bytes())),
    }
}

/// The last ids, in the order they came.
#[derive(Debug, Default)]
pub struct KnownIds {
    set: HashSet<Uuid>,
    order: VecDeque<Uuid>,
}

impl KnownIds {
    /// Remembers an id; the oldest is forgotten for it.
    pub fn add(&mut self, id: Uuid) {
        if !self.set.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
    }

    /// Whether it is remembered.
    pub fn contains(&self, id: &Uuid) -> bool {
        self.set.contains(id)
    }

    /// All of them for safe keeping: 16 bytes each, oldest first.
    pub fn to_note(&self) -> Vec<u8> {
        self.order.iter().flat_map(|id| id.into_bytes()).collect()
    }

    /// Adds those that were kept.
    pub fn add_note(&mut self, note: &[u8]) {
        for id in note.as_chunks::<16>().0 {
            self.add(Uuid::from_bytes(*id));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::uplink::{Eui64, Rx};

    fn id_of(dev_eui: u8, id: &str) -> Option<Uuid> {
        let at = ManualClock::new().now();
        of(&Told {
            text: Vec::new(),
            id: Some(id.to_owned()),
            dev_eui: Eui64([dev_eui; 8]),
            f_cnt: None,
            f_port: None,
            rx: Rx::default(),
            at,
        })
    }

    #[test]
    fn a_uuid_is_the_id_and_any_text_makes_one() {
        let uuid = "3ac7e3c4-4401-4b8d-9386-a5c902f9202d";
        assert_eq!(id_of(1, uuid).unwrap().to_string(), uuid);
        assert_eq!(
            id_of(1, &uuid.to_uppercase()),
            id_of(2, uuid),
            "a UUID is the same in any spelling, for any device"
        );
        let made = id_of(1, "17").unwrap();
        assert_eq!(made.get_version_num(), 5);
        assert_eq!(id_of(1, "17"), Some(made));
        assert_ne!(id_of(1, "18"), Some(made));
        assert_ne!(id_of(2, "17"), Some(made), "a counter of each device by itself");
        assert_eq!(id_of(1, "00000000-0000-0000-0000-000000000000"), None);
        assert_eq!(id_of(1, "ffffffff-ffff-ffff-ffff-ffffffffffff"), None);
    }

    #[test]
    fn the_last_1024_are_remembered() {
        let id = |n: usize| Uuid::from_u128(n as u128 + 1);
        let mut known = KnownIds::default();
        for n in 0..REMEMBERED + 10 {
            known.add(id(n));
            known.add(id(n));
        }
        let remembers =
            |known: &KnownIds| (0..REMEMBERED + 10).filter(|n| known.contains(&id(*n))).collect::<Vec<_>>();
        assert_eq!(remembers(&known), (10..REMEMBERED + 10).collect::<Vec<_>>());
        let mut read_back = KnownIds::default();
        read_back.add_note(&known.to_note());
        assert_eq!(remembers(&read_back), remembers(&known));
        read_back.add_note(b"torn");
        assert_eq!(read_back.order.len(), REMEMBERED);
    }
}
