//! JSON text that a worker wrote, made fit for everybody.
//!
//! The text is passed on as it is, because parsing and printing it again would change digits and the order of keys. Two
//! things are not left to chance: a lone surrogate (`\ud83d`, which `JSON.stringify` writes for garbage bytes) becomes
//! U+FFFD, because no strict parser accepts it; and the text is parsed once, with nothing kept, because what arrives
//! here comes from a process that a script may have broken.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::lenient_json;

/// Levels of arrays and objects. Parsers stop at 128, and the body adds some of its own.
const MAX_DEPTH: usize = 64;

/// Why a text is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadJson {
    /// The script's fault.
    #[error("the result is nested deeper than {MAX_DEPTH} levels")]
    Deep,
    /// The worker's fault.
    #[error("the function worker wrote something that is not JSON")]
    Nonsense,
}

/// The text, checked.
pub(super) fn checked(mut text: String) -> Result<Box<RawValue>, BadJson> {
    text = replace_lone_surrogates(text);
    if lenient_json::depth(&text) > MAX_DEPTH {
        return Err(BadJson::Deep);
    }
    let mut parser = serde_json::Deserializer::from_str(&text);
    Nothing.deserialize(&mut parser).and_then(|()| parser.end()).map_err(|_| BadJson::Nonsense)?;
    RawValue::from_string(text).map_err(|_| BadJson::Nonsense)
}

/// Replaces `\uD800` to `\uDFFF` that do not pair up by `\ufffd`.
pub(super) fn replace_lone_surrogates(text: String) -> String {
    let mut lone = Vec::new();
    let mut rest = text.as_str();
    let mut at = 0;
    // The escape at `rest`, as a code unit.
    let unit = |rest: &str| u16::from_str_radix(rest.strip_prefix("\\u")?.get(..4)?, 16).ok();
    while let Some(skipped) = rest.find('\\') {
        let escape = rest.get(skipped..).unwrap_or_default();
        at += skipped;
        let next = escape.get(6..).and_then(unit);
        let length = match (unit(escape), next) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                lone.push(at);
                6
            }
            _ => 2,
        };
        rest = escape.get(length..).unwrap_or_default();
        at += length;
    }
    if lone.is_empty() {
        return text;
    }
    let mut fixed = String::with_capacity(text.len());
    let mut done = 0;
    for at in lone {
        fixed.push_str(text.get(done..at).unwrap_or_default());
        fixed.push_str("\\ufffd");
        done = at + 6;
    }
    fixed.push_str(text.get(done..).unwrap_or_default());
    fixed
}

/// Parses everything, strings and numbers included, and keeps nothing.
struct Nothing;

impl<'de> DeserializeSeed<'de> for Nothing {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nothing {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Nothing)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while entries.next_key_seed(Nothing)?.is_some() {
            entries.next_value_seed(Nothing)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn lone_surrogates_become_the_replacement_character() {
        for (text, fixed) in [
            (r#"{"a":"x"}"#, r#"{"a":"x"}"#),
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d""#, r#""\\\ufffd""#),
            (r#"{"\uDFFF":1}"#, r#"{"\ufffd":1}"#),
            (r#""\u0041\n\ud8""#, r#""\u0041\n\ud8""#),
            (r#""\"#, r#""\"#),
        ] {
            assert_eq!(replace_lone_surrogates(text.to_owned()), fixed);
        }
    }

    #[test]
    fn text_is_kept_to_the_digit() {
        let text = r#"{"z":0.1000000000000000055511151231257827,"a":1e-7,"😀":"\u0000","n":[null,true,-0]}"#;
        assert_eq!(checked(text.to_owned()).unwrap().get(), text);
    }

    #[test]
    fn what_a_parser_would_refuse_is_refused() {
        for text in ["", "{", "{}x", "nul", "[1,]", "1e999", "\"\u{1}\"", "{\"a\" 1}", "\"\\x\"", "'a'"] {
            assert_eq!(checked(text.to_owned()).unwrap_err(), BadJson::Nonsense, "{text:?}");
        }
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(checked(nested(64)).is_ok());
        assert_eq!(checked(nested(65)).unwrap_err(), BadJson::Deep);
        assert_eq!(checked(nested(100_000)).unwrap_err(), BadJson::Deep);
        assert!(checked(format!("\"{}\"", "[".repeat(100))).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic(text in ".{0,200}") {
            let _ = checked(text);
        }

        #[test]
        fn any_string_of_surrogates_becomes_one_that_parses(parts in proptest::collection::vec(
            proptest::sample::select(vec!["\\ud83d", "\\ude00", "\\\\", "\\\"", "\\u0041", "ü", "d83d", "\\n"]), 0..20)
        ) {
            let text = format!("[\"{}\"]", parts.concat());
            let fixed = checked(text).unwrap();
            proptest::prop_assert!(serde_json::from_str::<Vec<String>>(fixed.get()).is_ok(), "{fixed}");
        }
    }
}
