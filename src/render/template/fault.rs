//! What can be wrong with a template, and with rendering one.
//!
//! An error names a placeholder or a position. It never repeats the text of the template, which may be a secret header, and
//! never a value.

use crate::config::{Place, Problem};
use crate::printable::printable;

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} (at byte {offset})")]
pub struct TemplateError {
    /// Where in the text, in bytes from its start.
    pub offset: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What can be wrong with the text of a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A placeholder is not closed.
    #[error("`{{{{` without `}}}}`")]
    Unclosed,
    /// A placeholder or one of its parts is empty.
    #[error("a placeholder without a name")]
    Empty,
    /// No uplink has that name.
    #[error("{} is nothing that an uplink has{}", shown_name(.name.as_deref()), did_you_mean(.meant.as_deref()))]
    Unknown {
        /// The name; `None` in a header, whose text may be secret.
        name: Option<String>,
        /// The name that was probably meant.
        meant: Option<String>,
    },
    /// The name stands for several values.
    #[error("`{name}` is a group; name one of its values: {}", .members.join(", "))]
    Group {
        /// The group.
        name: &'static str,
        /// What is in it.
        members: &'static [&'static str],
    },
    /// The name stands for one value, which has no parts.
    #[error("`{0}` is one value and has no parts")]
    Single(&'static str),
    /// A placeholder where a URL must be fixed (RULES S36).
    #[error("a placeholder in scheme, host or port of a URL; only path and query may have them")]
    Host,
    /// A URL without a scheme.
    #[error("a URL must begin with a scheme such as https://")]
    NoScheme,
    /// The text is empty where something is needed.
    #[error("empty")]
    Nothing,
    /// A character that the place can't carry.
    #[error("{0:?} can't stand here")]
    Character(char),
    /// A placeholder within an escape of a JSON string: its first character would be escaped, whatever it is.
    #[error("a placeholder behind a backslash")]
    Escaped,
    /// What it makes is not JSON.
    #[error("what this makes would not be JSON: {0}")]
    NotJson(String),
}

impl TemplateError {
    /// As a problem of the configuration: `key` at `place`.
    pub fn into_problem(self, place: &Place, key: impl Into<String>) -> Problem {
        Problem::error(place, key, self.to_string())
    }
}

/// Why a template can't be rendered for an uplink. Names the placeholder, never its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A path needs the value and the uplink has none.
    #[error("the URL needs {{{{{0}}}}}, which this uplink does not have")]
    Missing(String),
    /// The value would climb up the path (RULES S36).
    #[error("{{{{{0}}}}} is only dots, which climb in the path of a URL")]
    Dots(String),
    /// The value holds something that a header can't carry.
    #[error("{{{{{0}}}}} holds a character that a header can't carry")]
    Header(String),
    /// The topic would begin with the value's `$`, which is the broker's own (MQTT 3.1.1, section 4.7.2).
    #[error("{{{{{0}}}}} begins with $, which a topic must not")]
    Dollar(String),
    /// The topic is longer than MQTT allows.
    #[error("the topic is {0} bytes long; MQTT allows 65,535")]
    TooLong(usize),
}

fn shown_name(name: Option<&str>) -> String {
    name.map_or_else(|| "what this placeholder names".to_owned(), |name| format!("`{}`", printable(name)))
}

fn did_you_mean(meant: Option<&str>) -> String {
    meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default()
}
