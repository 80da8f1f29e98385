//! A forgiving look at JSON: containers walked without building a tree, leaves taken in whatever type they were printed.
//!
//! Each value is handed out as its raw text, so that a value nobody asks for is skipped, whatever it holds, and one that
//! can't be understood costs itself alone. Of duplicate keys the last one counts.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The elements of the array under `key` in the object `json`, handed out as they are met; `null` has none. Says whether
/// all of it could be read: where the text breaks off, what stood before was handed out. Text after the object is ignored.
pub(crate) fn elements_of<'a>(json: &'a str, key: &str, each: impl FnMut(&'a RawValue)) -> bool {
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.deserialize_map(ArrayUnder { key, each: Elements(each) }).is_ok()
}

/// The elements of the array `json`. Says whether it was one.
pub(crate) fn elements<'a>(json: &'a RawValue, each: impl FnMut(&'a RawValue)) -> bool {
    serde_json::Deserializer::from_str(json.get()).deserialize_any(Elements(each)).is_ok()
}

/// The members of the object `json`. Says whether it was one.
pub(crate) fn members<'a>(json: &'a RawValue, each: impl FnMut(&str, &'a RawValue)) -> bool {
    serde_json::Deserializer::from_str(json.get()).deserialize_map(Members(each)).is_ok()
}

/// How many levels of arrays and objects lie within each other. Meant for valid JSON; of any other text it says something.
pub(crate) fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A number, or a string that holds one; finite.
pub(crate) fn number(json: &RawValue) -> Option<f64> {
    let text = text(json);
    let digits = text.as_deref().unwrap_or(json.get());
    digits.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// dB or dBm; what an f32 can't hold was never measured.
pub(crate) fn decibels(json: &RawValue) -> Option<f32> {
    number(json).map(|number| number as f32).filter(|number| number.is_finite())
}

/// A number without its fraction, if it fits `T`.
pub(crate) fn integer<T: TryFrom<i64>>(json: &RawValue) -> Option<T> {
    number(json).and_then(whole)
}

/// `number` without its fraction, if it fits `T`.
pub(crate) fn whole<T: TryFrom<i64>>(number: f64) -> Option<T> {
    /// 2^53: below it every integer is an f64 of its own, so that nothing is lost in either direction.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.abs() < EXACT { T::try_from(number as i64).ok() } else { None }
}

/// A string.
pub(crate) fn text(json: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(json.get()).ok().map(|text| text.0)
}

/// `true`.
pub(crate) fn is_true(json: &RawValue) -> bool {
    json.get() == "true"
}

#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Elements<F>(F);

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut array: A) -> Result<(), A::Error> {
        while let Some(element) = array.next_element::<&'de RawValue>()? {
            (self.0)(element);
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

impl<'de, F: FnMut(&'de RawValue)> DeserializeSeed<'de> for &mut Elements<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(Elements(&mut self.0))
    }
}

struct ArrayUnder<'k, F> {
    key: &'k str,
    each: Elements<F>,
}

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for ArrayUnder<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = object.next_key()? {
            match key == self.key {
                true => object.next_value_seed(&mut self.each)?,
                false => object.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(())
    }
}

struct Members<F>(F);

impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = object.next_key()? {
            (self.0)(&key, object.next_value::<&'de RawValue>()?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn numbers_come_in_three_types() {
        for json in ["-94", "-94.0", "-9.4e1", r#""-94""#, r#"" -94.0 ""#] {
            assert_eq!(number(raw(json)), Some(-94.0), "{json}");
            assert_eq!(integer::<i32>(raw(json)), Some(-94), "{json}");
            assert_eq!(integer::<u32>(raw(json)), None, "{json}");
        }
        for json in ["1e999", "-1e999", r#""1e999""#, r#""inf""#, r#""NaN""#, "null", "true", "[1]", r#""""#]
        {
            assert_eq!(number(raw(json)), None, "{json}");
        }
        assert_eq!(integer::<i64>(raw("9007199254740992")), None, "no longer exact");
    }

    #[test]
    fn what_stood_before_a_break_was_handed_out() {
        let all = |json: &str| {
            let mut seen = Vec::new();
            let whole = elements_of(json, "a", |element| seen.push(element.get().to_owned()));
            (whole, seen)
        };
        assert_eq!(
            all(r#"{"x":[9],"a":[1,{"b":2}],"y":{}} tail"#),
            (true, vec!["1".into(), r#"{"b":2}"#.into()])
        );
        assert_eq!(all(r#"{"a":[1,2],"stat":{"time":"20"#), (false, vec!["1".into(), "2".into()]));
        assert_eq!(all(r#"{"a":[1,nan]}"#), (false, vec!["1".into()]));
        assert_eq!(all(r#"{"a":null}"#), (true, vec![]));
        assert_eq!(all("{}"), (true, vec![]));
        for json in ["", "[]", "7", r#"{"a":7}"#, "null"] {
            assert_eq!(all(json), (false, vec![]), "{json}");
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!(r#"{{"a":[{}1{}]}}"#, "[".repeat(30_000), "]".repeat(30_000));
        let mut count = 0;
        assert!(elements_of(&deep, "a", |_| count += 1));
        assert_eq!(count, 1);
    }
}
