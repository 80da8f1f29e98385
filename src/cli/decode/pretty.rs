//! JSON on lines of its own, to the digit: parsing and printing would change numbers.

/// The same JSON on lines of its own. Made from the text, because parsing it would change its digits.
pub(super) fn pretty(json: &str) -> String {
    let mut out = String::new();
    let mut depth = 0usize;
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(character) = rest.next() {
        if in_string {
            in_string = character != '"' || escaped;
            escaped = character == '\\' && !escaped;
            out.push(character);
            continue;
        }
        match character {
            '[' | '{' if matches!(rest.peek(), Some(']' | '}')) => {
                out.push(character);
                out.extend(rest.next());
            }
            '[' | '{' => {
                depth += 1;
                out.push(character);
                line(&mut out, depth);
            }
            ']' | '}' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(character);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                in_string = character == '"';
                out.push(character);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_blanks_are_added() {
        let json = r#"{"a":1.00000000000000005,"b":[],"c":{},"d":["x, {y: \"z\"}\\","\ud83d"]}"#;
        let wanted = r#"{
  "a": 1.00000000000000005,
  "b": [],
  "c": {},
  "d": [
    "x, {y: \"z\"}\\",
    "\ud83d"
  ]
}"#;
        assert_eq!(pretty(json), wanted);
        assert_eq!(pretty("null"), "null");
    }
}
