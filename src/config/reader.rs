//! The reader: a spanned TOML tree, handed out key by key.
//!
//! A [`Table`] gives each key to the code that asks for it by name, remembers the name, and when that code is done
//! reports every key that nobody asked for. So the list of valid keys is the code that reads them, and a key cannot be
//! documented, forgotten and silently ignored. Problems gather in the [`Reader`]; reading goes on with a default, because
//! the next mistake should be reported too.
//!
//! Typed access (numbers, durations, choices…) is in `typed`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem};
use super::schema::Spot;
use super::suggest;
use super::text::Text;

/// At most this many valid keys are listed for an unknown one: more would hide the message.
const KEYS_LISTED: usize = 12;

/// At most this many characters of a value or a key are quoted.
const QUOTED: usize = 60;

/// At most this many syntax errors of a file are reported: past that it is not a TOML file.
const SYNTAX_ERRORS: usize = 20;

/// Syntax errors after which the recovered tree still has every key (messages of the `toml` crate). After any other,
/// keys may be lost, so that "missing" proves nothing.
const HARMLESS: [&str; 2] = ["duplicate key", "string values must be quoted"];

/// A file being read.
pub(super) struct Reader<'a> {
    text: &'a Text<'a>,
    folder: &'a Path,
    problems: RefCell<Vec<Problem>>,
    /// Lines with a syntax error.
    bad_lines: BTreeSet<u32>,
    /// Whether the tree may lack something.
    lossy: bool,
}

impl<'a> Reader<'a> {
    /// A reader of `text`, whose relative paths start at `folder`, and the tree to read.
    pub(super) fn new(text: &'a Text<'a>, folder: &'a Path) -> (Self, DeTable<'a>) {
        let (tree, errors) = DeTable::parse_recoverable(text.as_str());
        let lossy = errors.iter().any(|error| !HARMLESS.iter().any(|it| error.message().starts_with(it)));
        let mut problems = Vec::new();
        let mut bad_lines = BTreeSet::new();
        for error in errors.iter().take(SYNTAX_ERRORS) {
            let span = error.span().unwrap_or(text.as_str().len()..text.as_str().len());
            let place = text.place(span.start);
            let mut message = error.message().to_owned();
            let found = text.as_str().get(span).unwrap_or_default();
            if message.starts_with("duplicate key") {
                // Only here is the place a key; anywhere else it might be a secret, and is not quoted.
                message = format!("the key {} stands twice in this table", quoted(found));
            } else if message.starts_with("string values must be quoted") {
                let empty = found.is_empty();
                message = if empty { "a value is missing" } else { "string values must be quoted: \"…\"" }
                    .to_owned();
            }
            bad_lines.insert(place.line);
            problems.push(Problem::error(&place, "", message));
        }
        if let Some(more) = errors.len().checked_sub(SYNTAX_ERRORS).filter(|more| *more > 0) {
            let end = text.place(text.as_str().len());
            problems.push(Problem::error(
                &end,
                "",
                format!("{more} more syntax errors: is this a TOML file?"),
            ));
        }
        let reader = Reader { text, folder, problems: RefCell::new(problems), bad_lines, lossy };
        (reader, tree.into_inner())
    }

    /// The table of the whole file, read by `read`.
    pub(super) fn root<T>(&'a self, tree: &'a DeTable<'a>, read: impl FnOnce(&mut Table<'a>) -> T) -> T {
        Table::new(self, Some(tree), String::new(), 0).run(read)
    }

    /// Notes a problem, unless a syntax error on the same line says enough.
    pub(super) fn report(&self, problem: Problem) {
        let told = problem.place.as_ref().is_some_and(|place| self.bad_lines.contains(&place.line));
        if !told {
            self.problems.borrow_mut().push(problem);
        }
    }

    /// Whether a syntax error may have cost the tree a key or a table.
    pub(super) fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// Everything that was found.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    fn place(&self, offset: usize) -> Place {
        self.text.place(offset)
    }
}

/// A table of the file, or one that is absent and reads as empty.
pub(super) struct Table<'a> {
    reader: &'a Reader<'a>,
    entries: Option<&'a DeTable<'a>>,
    key: String,
    at: usize,
    known: Vec<&'static str>,
    elsewhere: Vec<(&'static [&'static str], &'static str)>,
    forgiving: bool,
}

impl<'a> Table<'a> {
    fn new(reader: &'a Reader<'a>, entries: Option<&'a DeTable<'a>>, key: String, at: usize) -> Self {
        Table { reader, entries, key, at, known: Vec::new(), elsewhere: Vec::new(), forgiving: false }
    }

    fn run<T>(mut self, read: impl FnOnce(&mut Table<'a>) -> T) -> T {
        let result = read(&mut self);
        self.report_unknown();
        result
    }

    /// Where the table stands.
    pub(super) fn place(&self) -> Place {
        self.reader.place(self.at)
    }

    /// The dotted key of `key` in this table.
    pub(super) fn path(&self, key: &str) -> String {
        let shown = key_part(key);
        if self.key.is_empty() { shown } else { format!("{}.{shown}", self.key) }
    }

    /// The value of `key`, if it is there.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let value = self.entries?.get(key)?;
        Some(Value {
            reader: self.reader,
            key: self.path(key),
            at: value.span().start,
            value: value.get_ref(),
        })
    }

    /// The value of `key`; an error if it is not there.
    pub(super) fn need(&mut self, key: &'static str, example: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            self.missing(key, example);
        }
        value
    }

    /// Reports `key` as missing, with a line that would do.
    pub(super) fn missing(&self, key: &'static str, example: &str) {
        if !self.reader.lossy {
            let problem = Problem::error(&self.place(), self.path(key), "this key is required");
            self.reader.report(problem.hint(format!("add a line such as: {example}")));
        }
    }

    /// A table in this one; absent reads as empty.
    pub(super) fn sub<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Table<'a>) -> T) -> T {
        let value = self.get(key);
        if let Some((value, entries)) = value.as_ref().and_then(|value| Some((value, value.entries()?))) {
            return Table::new(self.reader, Some(entries), value.key.clone(), value.at).run(read);
        }
        if let Some(value) = value {
            value.wrong(&format!("a table: [{}]", value.key));
        }
        Table::new(self.reader, None, self.path(key), self.at).run(read)
    }

    /// The tables below `key`, each under its name, in the order of the file: `[integration.NAME]`.
    pub(super) fn named(&mut self, key: &'static str) -> Vec<Named<'a>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(entries) = value.entries() else {
            value.wrong(&format!("named tables: [{key}.NAME]"));
            return Vec::new();
        };
        Table::new(self.reader, Some(entries), value.key, value.at).entries()
    }

    /// Every entry whatever its key, in the order of the file; none counts as unknown any more.
    pub(super) fn entries(&mut self) -> Vec<Named<'a>> {
        self.forgiving = true;
        let mut found: Vec<_> = self.entries.into_iter().flat_map(DeTable::iter).collect();
        found.sort_by_key(|(name, _)| name.span().start);
        found
            .into_iter()
            .map(|(name, value)| Named {
                name: Spot { value: name.get_ref().to_string(), place: self.reader.place(name.span().start) },
                value: Value {
                    reader: self.reader,
                    key: self.path(name.get_ref()),
                    at: value.span().start,
                    value: value.get_ref(),
                },
            })
            .collect()
    }

    /// Unknown keys are not reported: the reader can't tell which would be right.
    pub(super) fn forgive(&mut self) {
        self.forgiving = true;
    }

    /// Keys that would be right somewhere else, and where that is: `type = "http"`. The first that fits is named.
    pub(super) fn elsewhere(&mut self, keys: &'static [&'static str], place: &'static str) {
        self.elsewhere.push((keys, place));
    }

    /// Notes a problem of this table.
    pub(super) fn report(&self, problem: Problem) {
        self.reader.report(problem);
    }

    fn report_unknown(&self) {
        if self.forgiving {
            return;
        }
        for name in self.entries.into_iter().flat_map(DeTable::keys) {
            let key = name.get_ref().as_ref();
            if self.known.contains(&key) {
                continue;
            }
            let place = self.reader.place(name.span().start);
            let mut problem = Problem::error(&place, self.path(key), format!("unknown key {}", quoted(key)));
            let elsewhere = self.elsewhere.iter().find(|(keys, _)| keys.contains(&key));
            problem.hint = match elsewhere {
                Some((_, place)) => Some(format!("this key belongs to {place}")),
                None => suggest::hint(key, &self.known, "valid keys here", KEYS_LISTED),
            };
            self.reader.report(problem);
        }
    }
}

/// An entry of a table whose keys are names.
pub(super) struct Named<'a> {
    /// The key.
    pub(super) name: Spot<String>,
    /// What it names.
    pub(super) value: Value<'a>,
}

impl Named<'_> {
    /// The name of a source, function, integration or flow; an error if it is not 1 to 50 of `a-z 0-9 _ -`.
    pub(super) fn check_name(&self) {
        if let Some(problem) = name_problem(&self.name, &self.value.key) {
            self.value.reader.report(problem);
        }
    }
}

/// What is wrong with a name, if anything is: it becomes part of topics, headers and command lines.
pub(super) fn name_problem(name: &Spot<String>, key: &str) -> Option<Problem> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if (1..=50).contains(&name.len()) && name.chars().all(fine) {
        return None;
    }
    let message = format!("{} cannot be a name", quoted(name));
    Some(Problem::error(&name.place, key, message).hint("a name has 1 to 50 of these: a-z 0-9 _ -"))
}

/// A value of the file.
pub(super) struct Value<'a> {
    reader: &'a Reader<'a>,
    key: String,
    at: usize,
    value: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    /// Its dotted key.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Where it stands.
    pub(super) fn place(&self) -> Place {
        self.reader.place(self.at)
    }

    /// Something about it, with its place.
    pub(super) fn spot<T>(&self, value: T) -> Spot<T> {
        Spot { value, place: self.place() }
    }

    /// The tree below.
    pub(super) fn raw(&self) -> &'a DeValue<'a> {
        self.value
    }

    /// A path as the file means it: relative ones start at the folder of the configuration.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.reader.folder.join(path)
    }

    /// Reports an error with this value.
    pub(super) fn refuse(&self, message: impl Into<String>) {
        self.reader.report(Problem::error(&self.place(), &self.key, message));
    }

    /// Reports an error with this value and the next step.
    pub(super) fn refuse_with(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.reader.report(Problem::error(&self.place(), &self.key, message).hint(hint));
    }

    /// Reports a warning about this value and the next step.
    pub(super) fn warn(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.reader.report(Problem::warning(&self.place(), &self.key, message).hint(hint));
    }

    /// Reports that the value is of the wrong type, without quoting it: it may be a misplaced secret.
    pub(super) fn wrong(&self, expected: &str) {
        self.refuse(format!("expected {expected}, found {}", self.value.type_str()));
    }

    /// A string, or an error that says what was expected.
    pub(super) fn str(&self, expected: &str) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong(expected);
        }
        text
    }

    /// The items of an array, or an error that says what was expected. In messages a table with a name goes by it:
    /// `device.silo-7` rather than `device[6]`.
    pub(super) fn items(&self, expected: &str) -> Vec<Value<'a>> {
        let Some(items) = self.value.as_array() else {
            self.wrong(expected);
            return Vec::new();
        };
        let item = |(index, item): (usize, &'a toml::Spanned<DeValue<'a>>)| Value {
            reader: self.reader,
            key: match item.get_ref().get("name").and_then(|name| name.get_ref().as_str()) {
                Some(name) => format!("{}.{}", self.key, key_part(name)),
                None => format!("{}[{index}]", self.key),
            },
            at: item.span().start,
            value: item.get_ref(),
        };
        items.iter().enumerate().map(item).collect()
    }

    /// A table, read by `read`; an error that says what was expected if it is none.
    pub(super) fn table<T>(&self, expected: &str, read: impl FnOnce(&mut Table<'a>) -> T) -> Option<T> {
        let Some(entries) = self.entries() else {
            self.wrong(expected);
            return None;
        };
        Some(Table::new(self.reader, Some(entries), self.key.clone(), self.at).run(read))
    }

    fn entries(&self) -> Option<&'a DeTable<'a>> {
        self.value.as_table()
    }
}

/// A piece of the file for a message: escaped (RULES S37) and bounded. Never for what may be secret.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED).and_then(|(end, _)| text.get(..end)) {
        Some(start) => format!("{start:?}…"),
        None => format!("{text:?}"),
    }
}

/// A name as part of a dotted key.
pub(super) fn key_part(name: &str) -> String {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let bare = !name.is_empty() && name.len() <= QUOTED && name.chars().all(fine);
    if bare { name.to_owned() } else { quoted(name) }
}
