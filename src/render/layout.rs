//! A body that is not JSON and has no template: the JSON of its format, laid out anew.
//!
//! - XML: one element a member, in the same order, under `<uplink>`; the items of a list are `<item>`. A name that no XML
//!   element can have stands in `<field name="…">`.
//! - form: `rx.rssi=-57.0&device.labels.0=silo`, names dotted, UTF-8, RFC 3986 with `+` for the space.
//! - text: a line for each value, `rx.rssi: -57.0`, for people.
//!
//! Values are written as templates write them. Nothing that is empty is left out of XML; in form and text, an empty list or
//! object has no value and so no name.

use std::borrow::Cow;

use serde_json::Value;

use super::escape::{form_encode, xml_text};
use super::template::text_of;

/// An XML document.
pub(super) fn xml(value: &Value) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    element(&mut out, "uplink", value);
    out
}

/// A form.
pub(super) fn form(value: &Value) -> String {
    let mut pairs = Vec::new();
    flatten(String::new(), value, &mut |name, value| {
        pairs.push(format!("{}={}", form_encode(name), form_encode(value)));
    });
    pairs.join("&")
}

/// Lines.
pub(super) fn text(value: &Value) -> String {
    let mut lines = String::new();
    flatten(String::new(), value, &mut |name, value| {
        // A line break in a value would make a line of somebody else's choosing.
        let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        lines.push_str(&format!("{name}: {value}\n"));
    });
    lines
}

fn element(out: &mut String, name: &str, value: &Value) {
    let (tag, attribute) = if is_xml_name(name) {
        (name, Cow::Borrowed(""))
    } else {
        ("field", format!(" name=\"{}\"", xml_text(name)).into())
    };
    out.push_str(&format!("<{tag}{attribute}>"));
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| element(out, name, value)),
        Value::Array(items) => items.iter().for_each(|item| element(out, "item", item)),
        other => out.push_str(&xml_text(&text_of(Some(other)))),
    }
    out.push_str(&format!("</{tag}>"));
}

/// Narrower than XML is (1.0, section 2.3): ASCII, no colon, and not the names that XML keeps for itself.
fn is_xml_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && !name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("xml"))
}

fn flatten(name: String, value: &Value, take: &mut impl FnMut(&str, &str)) {
    let below = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
    match value {
        Value::Object(members) => members.iter().for_each(|(part, value)| flatten(below(part), value, take)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| flatten(below(&at.to_string()), item, take));
        }
        other => take(&name, &text_of(Some(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_lists_and_odd_names_in_each_layout() {
        let value = json!({
            "type": "uplink", "rx": { "rssi": -57.0 }, "labels": ["a b", "c&d"], "none": null, "empty": [],
            "1st": true, "xmlns": "<x>", "a:b": "\u{1}1\n2\u{ffff}", "ü \"": 1, "": 2,
        });
        assert_eq!(
            xml(&value),
            concat!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<uplink><type>uplink</type><rx><rssi>-57.0</rssi></rx>",
                "<labels><item>a b</item><item>c&amp;d</item></labels><none></none><empty></empty>",
                "<field name=\"1st\">true</field><field name=\"xmlns\">&lt;x&gt;</field>",
                "<field name=\"a:b\">1\n2</field><field name=\"ü &quot;\">1</field><field name=\"\">2</field></uplink>",
            )
        );
        assert_eq!(
            form(&value),
            concat!(
                "type=uplink&rx.rssi=-57.0&labels.0=a+b&labels.1=c%26d&none=&1st=true&xmlns=%3Cx%3E&",
                "a%3Ab=%011%0A2%EF%BF%BF&%C3%BC+%22=1&=2",
            )
        );
        assert_eq!(
            text(&value),
            "type: uplink\nrx.rssi: -57.0\nlabels.0: a b\nlabels.1: c&d\nnone: \n1st: true\nxmlns: <x>\n\
             a:b:  1 2\u{ffff}\nü \": 1\n: 2\n"
        );
    }
}
