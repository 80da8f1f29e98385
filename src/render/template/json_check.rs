//! Proves, when the configuration is read, that a JSON body template makes JSON whatever the values are.
//!
//! A placeholder stands either within a string, where an escaped value adds nothing but characters, or in the place of a
//! whole value, where any JSON value is as good as another. So a template that makes JSON with a value missing and with a
//! value present makes it always, and no uplink is ever refused for its body.

use serde::de::IgnoredAny;

use super::{Fault, Part, Template, TemplateError};

/// One filling of the slots: nothing, and a text that is no part of an escape (`\u{{x}}0041`).
const FILLINGS: [&str; 2] = ["", "-"];

/// Where `template` would not make JSON, and why.
pub(super) fn check(template: &Template) -> Result<(), TemplateError> {
    for filling in FILLINGS {
        let (text, parts) = filled(template, filling);
        if let Err(error) = serde_json::from_str::<IgnoredAny>(&text) {
            let offset = source_offset(&parts, byte_offset(&text, error.line(), error.column()));
            return Err(TemplateError { offset, fault: Fault::NotJson(without_position(&error)) });
        }
    }
    Ok(())
}

/// A stretch of the filled text, and where it comes from.
struct Stretch {
    starts: usize,
    source: usize,
    is_value: bool,
}

fn filled(template: &Template, filling: &str) -> (String, Vec<Stretch>) {
    let (mut text, mut stretches, mut source) = (String::new(), Vec::new(), 0);
    for part in &template.parts {
        stretches.push(Stretch { starts: text.len(), source, is_value: matches!(part, Part::Value(_)) });
        match part {
            Part::Text(literal) => {
                text.push_str(literal);
                source += literal.len();
            }
            Part::Value(placeholder) => {
                let is_string = placeholder.slot == super::slot::Slot::JsonString;
                text.push_str(if is_string { filling } else { "null" });
                source = placeholder.ends;
            }
        }
    }
    (text, stretches)
}

/// The byte that a line and a column of serde_json stand for; its columns count bytes from 1.
fn byte_offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (before + column.saturating_sub(1)).min(text.len())
}

fn source_offset(stretches: &[Stretch], offset: usize) -> usize {
    let index = stretches.partition_point(|stretch| stretch.starts <= offset).saturating_sub(1);
    stretches.get(index).map_or(0, |stretch| {
        if stretch.is_value { stretch.source } else { stretch.source + (offset - stretch.starts) }
    })
}

/// The position is the one in the filled text, which nobody can see.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}
