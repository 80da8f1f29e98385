//! A record that no broker takes, told from a link that breaks (RULES S17).
//!
//! A broker that can't bear a message (too large for it, or a topic that it forbids) may say so only by hanging up; then
//! the same record would come first after every reconnect and the backlog behind it would wait for ever. But a bad link
//! hangs up as well, and no record may be given up for it. So:
//!
//! ```text
//!   closed with nothing acknowledged, the same record first ── 3 times ──> it goes alone
//!   closed on that record alone                             ── 3 times ──> dead letter, "closed on this record"
//!   the next record in the row comes as far                            ──> the endpoint is blocked
//!   anything acknowledged                                              ──> all is forgotten
//! ```
//!
//! Only a connection counts that the broker had let us in on and then closed itself; one that was cut by a time-out, never
//! came about, or ended for a reason that was given and is not the record's, proves nothing either way. Where the reason
//! blames what was sent (MQTT 5), one such end is enough for each of the two steps.

use uuid::Uuid;

use super::wire::Cause;

/// Ends that make a record a suspect, and ends on it alone that prove it.
const CLOSES: u32 = 3;

/// A record in one of its variants.
pub(super) type Suspect = (Uuid, usize);

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Poison {
    suspect: Option<Suspect>,
    together: u32,
    alone: u32,
    /// The last one that was proved, with nothing acknowledged since.
    proved: Option<Suspect>,
}

/// What the end of a connection means for the first record that was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Wait,
    /// This record is to blame.
    Record,
    /// It is the second in a row: they can't all be.
    Endpoint,
}

impl Poison {
    /// The broker answered a record.
    pub(super) fn acknowledged(&mut self) {
        *self = Poison::default();
    }

    /// Whether the next record has to go alone.
    pub(super) fn goes_alone(&self) -> bool {
        self.together >= CLOSES
    }

    /// A connection ended with nothing acknowledged, `first` and so many others under way.
    pub(super) fn broke(&mut self, cause: Cause, first: Suspect, others: usize) -> Verdict {
        if cause == Cause::Other {
            return Verdict::Wait;
        }
        if self.suspect != Some(first) {
            (self.suspect, self.together, self.alone) = (Some(first), 0, 0);
        }
        let is_alone = others == 0;
        match cause {
            Cause::Blamed => {
                self.together = CLOSES;
                self.alone = if is_alone { CLOSES } else { 0 };
            }
            _ if !self.goes_alone() => self.together += 1,
            _ if is_alone => self.alone = self.alone.saturating_add(1),
            _ => {}
        }
        if self.alone < CLOSES {
            return Verdict::Wait;
        }
        if self.proved.is_some_and(|proved| proved != first) {
            return Verdict::Endpoint;
        }
        *self = Poison { proved: Some(first), ..Poison::default() };
        Verdict::Record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u128) -> Suspect {
        (Uuid::from_u128(n), 0)
    }

    #[test]
    fn three_together_three_alone_then_the_next_blames_the_endpoint() {
        let mut poison = Poison::default();
        for _ in 0..3 {
            assert!(!poison.goes_alone());
            assert_eq!(poison.broke(Cause::Closed, record(1), 7), Verdict::Wait);
        }
        assert!(poison.goes_alone());
        assert_eq!(poison.broke(Cause::Closed, record(1), 0), Verdict::Wait);
        assert_eq!(poison.broke(Cause::Other, record(1), 0), Verdict::Wait, "no word about the record");
        assert_eq!(poison.broke(Cause::Closed, record(1), 0), Verdict::Wait);
        assert_eq!(poison.broke(Cause::Closed, record(1), 0), Verdict::Record);
        for _ in 0..5 {
            assert_eq!(poison.broke(Cause::Closed, record(2), 0), Verdict::Wait);
        }
        assert_eq!(poison.broke(Cause::Closed, record(2), 0), Verdict::Endpoint);
        assert_eq!(poison.broke(Cause::Closed, record(2), 0), Verdict::Endpoint, "so does every probe");
        poison.acknowledged();
        assert_eq!(poison.broke(Cause::Closed, record(2), 0), Verdict::Wait);
    }

    #[test]
    fn another_record_first_or_an_answer_begins_the_count_anew() {
        let mut poison = Poison::default();
        for n in 0..20 {
            assert_eq!(poison.broke(Cause::Closed, record(n % 2), 0), Verdict::Wait);
        }
        for n in 0..20 {
            assert_eq!(poison.broke(Cause::Closed, record(5), 0), Verdict::Wait);
            if n % 5 == 4 {
                poison.acknowledged();
            }
        }
    }

    #[test]
    fn a_reason_that_blames_what_was_sent_is_enough_once_it_was_alone() {
        let mut poison = Poison::default();
        assert_eq!(poison.broke(Cause::Blamed, record(1), 3), Verdict::Wait);
        assert!(poison.goes_alone());
        assert_eq!(poison.broke(Cause::Blamed, record(1), 0), Verdict::Record);
    }

    /// `on_reject = "retry"` keeps the record: it is no second one.
    #[test]
    fn the_same_record_is_not_two_in_a_row() {
        let mut poison = Poison::default();
        let proved = (0..12).filter(|_| poison.broke(Cause::Closed, record(1), 0) == Verdict::Record).count();
        assert_eq!(proved, 2);
    }
}
