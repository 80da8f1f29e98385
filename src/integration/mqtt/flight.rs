//! What is under way on one connection, and which answer is whose.
//!
//! The library tells the packet id of a publish only when it has written it, and not which publish that was. But it writes
//! in the order it was asked: the next id is that of the oldest publish without one. From then on the id is the name by
//! which the broker answers.

use std::collections::VecDeque;

use rumqttc::mqttbytes::QoS;
use tokio::time::Instant;

use crate::delivery::Lease;
use crate::history::Exchange;

use super::poison::Suspect;
use super::trial::Trial;

/// A publish that was handed to the library.
pub(super) struct Sent {
    pub(super) qos: QoS,
    pub(super) what: What,
}

/// What it was about.
pub(super) enum What {
    /// Birth, farewell or state.
    Own,
    /// An uplink, what is shown of it, and since when it is under way.
    Record(Lease, Box<Exchange>, Instant),
    /// A test, who waits for it, and since when it is under way.
    Trial(Trial, Instant),
}

/// What became of the publish that got a packet id.
pub(super) enum Numbered {
    /// It waits for its answer.
    Waits,
    /// It had QoS 0: that was all.
    Done(What),
    /// The id is taken, or not one for this publish: nothing can be told apart any more.
    MixedUp,
}

/// See the [module](self).
pub(super) struct Flight {
    /// Handed over, no packet id yet, in order.
    unnumbered: VecDeque<Sent>,
    /// Written, waiting for the answer to their packet id, in order.
    unanswered: VecDeque<(u16, Sent)>,
    /// Since when the oldest of them is the oldest.
    oldest_since: Instant,
}

impl Flight {
    pub(super) fn new() -> Flight {
        Flight { unnumbered: VecDeque::new(), unanswered: VecDeque::new(), oldest_since: Instant::now() }
    }

    pub(super) fn len(&self) -> usize {
        self.unnumbered.len() + self.unanswered.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Since when the answer is awaited that is awaited longest.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        (!self.unanswered.is_empty()).then_some(self.oldest_since)
    }

    pub(super) fn add(&mut self, qos: QoS, what: What) {
        self.unnumbered.push_back(Sent { qos, what });
    }

    /// The oldest publish without a packet id was written under this one. QoS 0 has none (0) and no answer.
    pub(super) fn numbered(&mut self, packet_id: u16) -> Numbered {
        let known = self.unanswered.iter().any(|(id, _)| *id == packet_id);
        match self.unnumbered.pop_front() {
            Some(Sent { qos: QoS::AtMostOnce, what }) if packet_id == 0 => Numbered::Done(what),
            Some(sent) if packet_id != 0 && sent.qos != QoS::AtMostOnce && !known => {
                if self.unanswered.is_empty() {
                    self.oldest_since = Instant::now();
                }
                self.unanswered.push_back((packet_id, sent));
                Numbered::Waits
            }
            mixed_up => {
                // Back in the queue, so that it is given back to the lane with the rest.
                self.unnumbered.extend(mixed_up);
                Numbered::MixedUp
            }
        }
    }

    /// What this answer is for; nothing, if nothing waits for one of that kind.
    pub(super) fn answered(&mut self, packet_id: u16, of: QoS) -> Option<What> {
        let at = self.unanswered.iter().position(|(id, sent)| *id == packet_id && sent.qos == of)?;
        let (_, sent) = self.unanswered.remove(at)?;
        if at == 0 {
            self.oldest_since = Instant::now();
        }
        Some(sent.what)
    }

    /// The oldest record that was written, and how many records are under way beside it.
    pub(super) fn first_record(&self) -> Option<(Suspect, usize)> {
        let written = self.unanswered.iter().map(|(_, sent)| sent);
        let record = |sent: &Sent| match &sent.what {
            What::Record(lease, ..) => Some((lease.uplink.id, lease.variant)),
            What::Own | What::Trial(..) => None,
        };
        let first = written.clone().find_map(record)?;
        let all = written.chain(&self.unnumbered).filter_map(record).count();
        Some((first, all.saturating_sub(1)))
    }

    /// Takes it out.
    pub(super) fn take_first_record(&mut self) -> Option<What> {
        let at = self.unanswered.iter().position(|(_, sent)| matches!(sent.what, What::Record(..)))?;
        self.unanswered.remove(at).map(|(_, sent)| sent.what)
    }

    /// Takes out everything, in order.
    pub(super) fn drain(&mut self) -> Vec<What> {
        let written = self.unanswered.drain(..).map(|(_, sent)| sent.what);
        written.chain(self.unnumbered.drain(..).map(|sent| sent.what)).collect()
    }
}
