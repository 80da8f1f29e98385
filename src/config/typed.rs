//! Typed access to the keys of a table: each reads one kind of value, reports what is wrong with it, and gives the
//! default where there is none or nothing usable.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::reader::{Table, Value, quoted};
use super::schema::Spot;
use super::{suggest, units};

impl<'a> Table<'a> {
    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.get(key) else { return default };
        let flag = value.raw().as_bool();
        if flag.is_none() {
            value.wrong("true or false (without quotes)");
        }
        flag.unwrap_or(default)
    }

    /// A whole number within `range`.
    pub(super) fn number<N>(&mut self, key: &'static str, default: N, range: RangeInclusive<N>) -> Spot<N>
    where
        N: Copy + PartialOrd + Display + TryFrom<i128>,
    {
        let Some(value) = self.get(key) else { return self.absent(default) };
        value.spot(value.number(range).unwrap_or(default))
    }

    /// A duration within `range`.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Spot<Duration> {
        let Some(value) = self.get(key) else { return self.absent(default) };
        let duration = value.str("a duration such as \"30s\"").and_then(|text| {
            let duration = units::duration(text);
            if duration.is_none() {
                value.refuse_with(format!("{} is not a duration", quoted(text)), units::TIME_UNITS);
            }
            duration
        });
        if let Some(found) = duration.filter(|found| !range.contains(found)) {
            let [found, low, high] = [found, *range.start(), *range.end()].map(units::show_duration);
            value.refuse(format!("{found} is out of range: {low} to {high}"));
        }
        value.spot(duration.unwrap_or(default))
    }

    /// A size in bytes within `range`.
    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.get(key)?;
        let size = match value.raw() {
            DeValue::Integer(_) => value.number(0..=u64::MAX)?,
            DeValue::String(text) => {
                let size = units::size(text);
                if size.is_none() {
                    value.refuse_with(format!("{} is not a size", quoted(text)), units::SIZE_UNITS);
                }
                size?
            }
            _ => {
                value.wrong("a size such as \"64MiB\"");
                return None;
            }
        };
        if !range.contains(&size) {
            let [found, low, high] = [size, *range.start(), *range.end()].map(units::show_size);
            value.refuse(format!("{found} is out of range: {low} to {high}"));
        }
        Some(size)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: T,
        names: &'static [(&'static str, T)],
    ) -> Spot<T> {
        let Some(value) = self.get(key) else { return self.absent(default) };
        value.spot(value.choice(names).unwrap_or(default))
    }

    /// One of a few words; an error without one.
    pub(super) fn need_choice<T: Copy>(
        &mut self,
        key: &'static str,
        names: &'static [(&'static str, T)],
    ) -> Option<Spot<T>> {
        let value = self.get(key);
        if value.is_none() {
            let words: Vec<_> = names.iter().map(|(name, _)| format!("{key} = {name:?}")).collect();
            self.missing(key, &words.join(" or "));
        }
        let value = value?;
        Some(value.spot(value.choice(names)?))
    }

    /// A string that is not empty.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Spot<String>> {
        self.get(key)?.text()
    }

    /// A string that is not empty; an error without one.
    pub(super) fn need_text(&mut self, key: &'static str, example: &str) -> Option<Spot<String>> {
        self.need(key, example)?.text()
    }

    /// A string that is not empty, or the default.
    pub(super) fn text_or(&mut self, key: &'static str, default: impl Into<String>) -> Spot<String> {
        self.text(key).unwrap_or_else(|| self.absent(default.into()))
    }

    /// A list of strings that are not empty; no key is an empty list.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<Spot<String>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        value.items("a list of strings such as [\"…\"]").iter().filter_map(Value::text).collect()
    }

    /// The tables of `[[key]]`, each read by `read`.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnMut(&Value<'a>) -> Option<T>,
    ) -> Vec<T> {
        let items = self.get(key).map(|value| value.items(expected));
        items.unwrap_or_default().iter().filter_map(read).collect()
    }

    /// A file name.
    pub(super) fn file(&mut self, key: &'static str) -> Option<Spot<PathBuf>> {
        self.get(key)?.file()
    }

    /// `address:port` to listen on.
    pub(super) fn listen(&mut self, key: &'static str) -> Option<Spot<SocketAddr>> {
        let value = self.get(key)?;
        let text = value.str("an address such as \"127.0.0.1:1700\"")?;
        let address = text.parse();
        if address.is_err() {
            let hint =
                "write IP:PORT, such as \"127.0.0.1:1700\" or \"[::1]:1700\"; host names do not work here";
            value.refuse_with(format!("{} is not an address to listen on", quoted(text)), hint);
        }
        Some(value.spot(address.ok()?))
    }

    /// A default, which stands where its table stands.
    pub(super) fn absent<T>(&self, value: T) -> Spot<T> {
        Spot { value, place: self.place() }
    }
}

impl<'a> Value<'a> {
    /// The items of a list; an error with its consequence if there are none.
    pub(super) fn some_items(&self, expected: &str, consequence: &str) -> Vec<Value<'a>> {
        let items = self.items(expected);
        if items.is_empty() && self.raw().is_array() {
            self.refuse(format!("this must not be empty: {consequence}"));
        }
        items
    }

    /// A whole number within `range`.
    pub(super) fn number<N>(&self, range: RangeInclusive<N>) -> Option<N>
    where
        N: Copy + PartialOrd + Display + TryFrom<i128>,
    {
        let Some(integer) = self.raw().as_integer() else {
            self.wrong("a whole number (without quotes)");
            return None;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number =
            number.and_then(|number| N::try_from(number).ok()).filter(|number| range.contains(number));
        if number.is_none() {
            let digits = integer.as_str().get(..24).unwrap_or(integer.as_str());
            self.refuse(format!("{digits} is out of range: {} to {}", range.start(), range.end()));
        }
        number
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, names: &'static [(&'static str, T)]) -> Option<T> {
        let words: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        let list = words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
        let text = self.str(&format!("one of {list}"))?;
        let found = names.iter().find(|(name, _)| *name == text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let message = format!("{} is not one of {list}", quoted(text));
            match suggest::nearest(text, words.iter().copied()) {
                Some(word) => self.refuse_with(message, format!("did you mean {word:?}?")),
                None => self.refuse(message),
            }
        }
        found
    }

    /// A string that is not empty.
    pub(super) fn text(&self) -> Option<Spot<String>> {
        let text = self.str("a string in quotes")?;
        if text.is_empty() {
            self.refuse("this must not be empty");
            return None;
        }
        Some(self.spot(text.to_owned()))
    }

    /// A file name. What looks like a file's content is refused unquoted: it may be a private key.
    pub(super) fn file(&self) -> Option<Spot<PathBuf>> {
        let text = self.str("a file name in quotes")?;
        if text.is_empty() {
            self.refuse("this must not be empty");
            return None;
        }
        if text.chars().any(char::is_control) || text.contains("-----BEGIN") {
            self.refuse("this is not a file name");
            return None;
        }
        Some(self.spot(self.resolve(text)))
    }
}
