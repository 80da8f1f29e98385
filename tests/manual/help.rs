//! What the program says of itself, taken apart.

use std::process::Command;

/// An option of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionOf {
    /// Without the dashes.
    pub(crate) name: String,
    /// What follows it, as in the usage: `NAME`, `2h`. `None`: nothing.
    pub(crate) value: Option<String>,
}

/// A command.
#[derive(Clone, Debug)]
pub(crate) struct CommandHelp {
    pub(crate) name: String,
    /// One line, from the overview.
    pub(crate) summary: String,
    /// Everything that `help NAME` prints.
    pub(crate) text: String,
    /// The word behind the name in its usage: `INTEGRATION`, `FUNCTION`, `NEW.toml`, `NAME`, `COMMAND`.
    pub(crate) word: Option<String>,
    /// Words that stand there as they are: `check` and `export` behind `spool`.
    pub(crate) verbs: Vec<String>,
    pub(crate) options: Vec<OptionOf>,
}

/// All commands.
#[derive(Clone, Debug)]
pub(crate) struct Help {
    pub(crate) overview: String,
    pub(crate) commands: Vec<CommandHelp>,
    /// What `example` knows.
    pub(crate) examples: Vec<String>,
}

impl Help {
    pub(crate) fn of_program() -> Help {
        let overview = says(&["help"]);
        let entries = overview.lines().filter_map(|line| line.strip_prefix("  "));
        let entries = entries.filter(|entry| entry.starts_with(|c: char| c.is_ascii_lowercase()));
        let commands = entries.map(|entry| command(entry, &overview)).collect();
        let listed = says(&["example"]);
        let names = listed.lines().filter_map(|line| line.strip_prefix("  "));
        let examples = names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
        Help { overview, commands, examples }
    }
}

fn command(entry: &str, overview: &str) -> CommandHelp {
    let (name, summary) = entry.split_once(' ').expect("a command and what it does");
    let text = says(&["help", name]);
    let known = text != overview;
    let lines = if known { usage_of(&text, name) } else { Vec::new() };
    let first_words = lines.iter().filter_map(|line| line.split_whitespace().next());
    let verbs = first_words.filter(|word| word.chars().all(|c| c.is_ascii_lowercase()));
    let verbs: Vec<String> = verbs.map(str::to_owned).collect();
    let usage = lines.join(" ");
    let word = usage.split_whitespace().next().map(|word| word.trim_matches(['[', ']']).to_owned());
    let word = if name == "help" { Some("COMMAND".to_owned()) } else { word };
    let word = word.filter(|word| !word.starts_with(['-', '(']));
    let text = if known { text } else { String::new() };
    CommandHelp {
        name: name.to_owned(),
        summary: summary.trim().to_owned(),
        text,
        word: word.filter(|_| verbs.is_empty()),
        verbs,
        options: options(&usage),
    }
}

/// What stands behind the name of the command, one entry a form of its usage.
fn usage_of(text: &str, name: &str) -> Vec<String> {
    let block = text.split("\n\n").next().unwrap_or_default();
    let mut forms: Vec<String> = Vec::new();
    let mut is_its_own = false;
    for line in block.lines() {
        let line = line.trim_start_matches("Usage:").trim();
        if let Some(words) = line.strip_prefix("packhorse ") {
            is_its_own = words.split_whitespace().next() == Some(name);
            if is_its_own {
                forms.push(words.strip_prefix(name).unwrap_or_default().to_owned());
            }
        } else if is_its_own && let Some(form) = forms.last_mut() {
            form.push(' ');
            form.push_str(line);
        }
    }
    forms
}

fn options(usage: &str) -> Vec<OptionOf> {
    let words: Vec<&str> = usage.split_whitespace().collect();
    let mut options: Vec<OptionOf> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let Some(name) = word.trim_start_matches(['[', '(']).strip_prefix("--") else { continue };
        let closed = name.ends_with([']', ')']);
        let name = name.trim_end_matches([']', ')']).to_owned();
        let next = words.get(at + 1).filter(|next| !closed && !next.starts_with(['-', '[', '(', '|']));
        let value = next.map(|next| next.trim_end_matches([']', ')']).to_owned());
        if options.iter().all(|option| option.name != name) {
            options.push(OptionOf { name, value });
        }
    }
    options
}

fn says(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_packhorse")).args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
