//! What the far ends have got, held against what was sent.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use packhorse::simulator::{Arrival, Arrivals};
use serde_json::Value;
use uuid::Uuid;

use crate::sent::{Clients, Radio, Reading};

/// An uplink that somebody has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Known {
    Reading(Reading),
    /// The frame of this place, from this device.
    Frame(u32, [u8; 4]),
}

impl Known {
    /// Its device, and a number that rises with each uplink of that.
    fn order(self) -> ([u8; 4], u32) {
        match self {
            Known::Reading(Reading { client, n }) => (client.to_be_bytes(), n),
            Known::Frame(place, device) => (device, place),
        }
    }
}

/// What one far end has got.
pub(crate) struct Seen {
    name: &'static str,
    arrivals: Arc<Arrivals>,
    first: HashSet<Known>,
    last_of_device: HashMap<[u8; 4], u32>,
    /// Dead letters come when they come.
    pub(crate) is_in_order: bool,
    pub(crate) duplicates: usize,
}

impl Seen {
    pub(crate) fn new(name: &'static str, arrivals: Arc<Arrivals>) -> Seen {
        Seen {
            name,
            arrivals,
            first: HashSet::new(),
            last_of_device: HashMap::new(),
            is_in_order: true,
            duplicates: 0,
        }
    }

    /// Looks at what has arrived since the last look: it was sent, in this content, under this id, and per device in this
    /// order. `frame_ids` are the ids that frames have at all far ends. Returns how many arrived once more.
    pub(crate) fn look(&mut self, clients: &Clients, radio: &Radio, ids: &mut FrameIds) -> usize {
        let mut duplicates = 0;
        for arrival in self.arrivals.take() {
            let known = identify(&arrival, clients, radio, ids)
                .unwrap_or_else(|why| panic!("{}: {why}: {arrival:?}\n{}", self.name, arrival.json()));
            if !self.first.insert(known) {
                duplicates += usize::from(!arrival.redelivered);
                continue;
            }
            let (device, number) = known.order();
            let last = self.last_of_device.insert(device, number);
            let in_order = last.is_none_or(|last| last < number);
            assert!(in_order || !self.is_in_order, "{}: {known:?} after {last:?} of its device", self.name);
        }
        self.duplicates += duplicates;
        duplicates
    }

    pub(crate) fn has(&self, known: &Known) -> bool {
        self.first.contains(known)
    }

    /// How many different uplinks.
    pub(crate) fn len(&self) -> usize {
        self.first.len()
    }

    /// The places of the frames among them.
    pub(crate) fn frames(&self) -> HashSet<u32> {
        let place = |known: &Known| if let Known::Frame(place, _) = known { Some(*place) } else { None };
        self.first.iter().filter_map(place).collect()
    }

    pub(crate) fn arrivals(&self) -> &Arc<Arrivals> {
        &self.arrivals
    }
}

/// The id under which each frame arrived, wherever that was.
#[derive(Default)]
pub(crate) struct FrameIds {
    id_of: HashMap<u32, Uuid>,
    frame_of: HashMap<Uuid, u32>,
}

impl FrameIds {
    fn is(&mut self, place: u32, id: Uuid) -> Result<(), String> {
        let (was_id, was) =
            (*self.id_of.entry(place).or_insert(id), *self.frame_of.entry(id).or_insert(place));
        if (was_id, was) == (id, place) {
            Ok(())
        } else {
            Err(format!("frame {place} was {was_id}, {id} was frame {was}"))
        }
    }
}

fn identify(
    arrival: &Arrival,
    clients: &Clients,
    radio: &Radio,
    ids: &mut FrameIds,
) -> Result<Known, String> {
    let json = arrival.json();
    let id = arrival.id().and_then(|id| Uuid::try_parse(&id).ok()).ok_or("no id")?;
    if arrival.key.as_ref().is_some_and(|key| *key != id.to_string()) {
        return Err("Idempotency-Key is another id".into());
    }
    if let Some(phy) = bytes(&json["phy_payload"]) {
        let place = radio.place_of(&phy).ok_or("a frame that nobody sent")?;
        ids.is(place, id)?;
        return Ok(Known::Frame(place, phy[1..5].try_into().unwrap()));
    }
    let reading = Reading::of(id).ok_or("an id that nobody gave")?;
    if !clients.was_posted(reading) {
        return Err(format!("{reading:?} was never posted"));
    }
    let content = (&json["f_cnt"], &json["device"]["dev_eui"], bytes(&json["payload"]));
    if content != (&reading.n.into(), &reading.dev_eui().into(), Some(reading.payload())) {
        return Err(format!("not the content of {reading:?}"));
    }
    Ok(Known::Reading(reading))
}

fn bytes(base64: &Value) -> Option<Vec<u8>> {
    data_encoding::BASE64.decode(base64.as_str()?.as_bytes()).ok()
}
