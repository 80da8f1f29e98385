//! `accept`: what a source takes in, so that the neighbourhood's frames stay out of the spool.
//!
//! A gateway hears every LoRaWAN network around it. A list of rules says whose frames are kept; one that fits is enough:
//!
//! | rule | takes in |
//! |---|---|
//! | `known` | frames of configured devices, joins of theirs included |
//! | `78000000/7` | data frames whose DevAddr begins with these 7 bits; `/0` means all |
//! | `70b3d57ed0000000/36` | join requests whose JoinEUI begins with these 36 bits |
//! | `0004a30b00000000-0004a30bffffffff` | join requests whose JoinEUI lies between, both included |
//!
//! An empty list takes in everything. Frames that are neither data nor a join are taken in by an empty list only.

use crate::config::{Problem, Spot};
use crate::uplink::{DevAddr, Eui64};

/// The rules of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Known,
    Address { bits: u32, mask: u32 },
    JoinEui { from: u64, to: u64 },
}

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// A data frame.
    Address(DevAddr),
    /// A join request.
    Join(Eui64),
    /// Neither.
    Nothing,
}

impl Accept {
    /// Reads the rules of `key`.
    ///
    /// # Errors
    /// Each rule that is none.
    pub fn try_new(rules: &[Spot<String>], key: &str) -> Result<Accept, Vec<Problem>> {
        let (mut read, mut problems) = (Vec::new(), Vec::new());
        for (n, rule) in rules.iter().enumerate() {
            match Rule::parse(&rule.value) {
                Some(rule) => read.push(rule),
                None => problems.push(
                    Problem::error(
                        &rule.place,
                        format!("{key}[{n}]"),
                        format!(
                            "{:?} is no rule for what to take in",
                            crate::printable::printable(&rule.value)
                        ),
                    )
                    .hint(
                        "write \"known\", a DevAddr prefix such as \"78000000/7\", a JoinEUI prefix such as \
                         \"70b3d57ed0000000/36\" or a range of JoinEUIs",
                    ),
                ),
            }
        }
        if problems.is_empty() { Ok(Accept { rules: read }) } else { Err(problems) }
    }

    /// Whether a frame is taken in; `known`: a configured device sent it.
    pub fn admits(&self, said: Said, known: bool) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|rule| rule.admits(said, known))
    }
}

impl Rule {
    fn parse(text: &str) -> Option<Rule> {
        if text == "known" {
            return Some(Rule::Known);
        }
        if let Some((from, to)) = text.split_once('-').filter(|(from, _)| from.len() == 16) {
            let (from, to) = (u64::from_be_bytes(hex(from)?), u64::from_be_bytes(hex(to)?));
            return (from <= to).then_some(Rule::JoinEui { from, to });
        }
        let (bytes, len) = text.split_once('/')?;
        let len: u32 = len.parse().ok()?;
        if let Some(addr) = hex::<4>(bytes) {
            let mask = prefix_mask(len, 32)?;
            let mask = u32::try_from(mask >> 32).ok()?;
            return Some(Rule::Address { bits: u32::from_be_bytes(addr) & mask, mask });
        }
        let mask = prefix_mask(len, 64)?;
        let from = u64::from_be_bytes(hex(bytes)?) & mask;
        Some(Rule::JoinEui { from, to: from | !mask })
    }

    fn admits(self, said: Said, known: bool) -> bool {
        match (self, said) {
            (Rule::Known, _) => known,
            (Rule::Address { bits, mask }, Said::Address(addr)) => u32::from_be_bytes(addr.0) & mask == bits,
            (Rule::JoinEui { from, to }, Said::Join(eui)) => (from..=to).contains(&u64::from_be_bytes(eui.0)),
            _ => false,
        }
    }
}

/// The `len` uppermost bits of 64, `len` being at most `of`. A shift by all bits is none in Rust, but a prefix of no bits
/// means everything.
fn prefix_mask(len: u32, of: u32) -> Option<u64> {
    (len <= of).then(|| u64::MAX.checked_shl(64 - len).unwrap_or(0))
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::sync::Arc;

    use super::*;
    use crate::config::Place;

    fn accept(rules: &[&str]) -> Result<Accept, Vec<Problem>> {
        let place = Place { file: Arc::from(std::path::Path::new("packhorse.toml")), line: 1, column: 1 };
        let rules: Vec<_> =
            rules.iter().map(|rule| Spot { value: (*rule).to_owned(), place: place.clone() }).collect();
        Accept::try_new(&rules, "source.s.accept")
    }

    fn addr(hex_text: &str) -> Said {
        Said::Address(DevAddr(hex(hex_text).unwrap()))
    }

    fn join(hex_text: &str) -> Said {
        Said::Join(Eui64(hex(hex_text).unwrap()))
    }

    /// The prefixes of NetIDs that ChirpStack publishes, Helium's among them.
    #[test]
    fn prefixes_admit_their_addresses_alone() {
        for (rule, inside, outside) in [
            ("78000000/7", ["78000000", "79ffffff"], ["77ffffff", "7a000000"]),
            ("fc014c00/22", ["fc014c00", "fc014fff"], ["fc014bff", "fc015000"]),
            ("260b1f2e/32", ["260b1f2e", "260b1f2e"], ["260b1f2f", "260b1f2d"]),
        ] {
            let accept = accept(&[rule]).unwrap();
            assert!(inside.iter().all(|text| accept.admits(addr(text), false)), "{rule}");
            assert!(!outside.iter().any(|text| accept.admits(addr(text), false)), "{rule}");
        }
        let all = accept(&["00000000/0"]).unwrap();
        assert!(all.admits(addr("ffffffff"), false) && all.admits(addr("00000000"), false));
        assert!(!all.admits(join("0004a30b001c0530"), false), "a rule about addresses");
    }

    #[test]
    fn joins_go_by_join_eui() {
        for rule in ["0004a30b00000000/32", "0004a30b00000000-0004a30bffffffff"] {
            let accept = accept(&[rule]).unwrap();
            assert!(accept.admits(join("0004a30b00000000"), false));
            assert!(accept.admits(join("0004a30bffffffff"), false));
            assert!(!accept.admits(join("0004a30c00000000"), false));
            assert!(!accept.admits(join("0004a30affffffff"), false));
        }
        assert!(accept(&["0000000000000000/0"]).unwrap().admits(join("ffffffffffffffff"), false));
    }

    #[test]
    fn known_is_about_the_device_and_no_rule_is_all() {
        let known = accept(&["known"]).unwrap();
        assert!(known.admits(addr("01020304"), true) && !known.admits(addr("01020304"), false));
        assert!(!known.admits(Said::Nothing, false));
        assert!(accept(&[]).unwrap().admits(Said::Nothing, false));
        let either = accept(&["known", "78000000/7"]).unwrap();
        assert!(either.admits(addr("78000001"), false) && either.admits(addr("01020304"), true));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for rule in ["", "all", "78000000", "78000000/33", "7800000/7", "0004a30b00000000/65", "78000000/-1"]
        {
            assert_eq!(accept(&[rule]).unwrap_err().len(), 1, "{rule}");
        }
        assert!(accept(&["0004a30bffffffff-0004a30b00000000"]).is_err(), "a range that runs backwards");
    }
}
