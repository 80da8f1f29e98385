//! Foreign text made fit to be read (RULES S37).
//!
//! What a server, a broker, a device or a file says may end up in a log, a table, the history or a terminal. Every such
//! string passes through [`printable`] first and only there: control characters and terminal escape sequences are taken
//! out, so that no answer can recolour, retitle or rewrite the screen of whoever reads it, and no more than
//! [`MAX_CHARS`] characters are kept. Line breaks and tabs become one space, so that words do not run together.
//!
//! It is no escaping: the result is for people, never for a protocol.

use std::iter::Peekable;
use std::str::Chars;

/// What is kept of a foreign string, in characters (RULES S37).
pub const MAX_CHARS: usize = 256;

const ESCAPE: char = '\u{1b}';
/// The 8-bit form of `ESC [`.
const CSI: char = '\u{9b}';

/// `text` without control characters and escape sequences, at most [`MAX_CHARS`] characters long; what was cut off
/// shows as a final `…`.
pub fn printable(text: &str) -> String {
    printable_up_to(text, MAX_CHARS)
}

/// As [`printable`], with another limit.
pub fn printable_up_to(text: &str, chars: usize) -> String {
    plain(text, chars).unwrap_or_else(|| cleaned(text, chars))
}

fn cleaned(text: &str, chars: usize) -> String {
    let mut kept = String::new();
    let mut count = 0usize;
    let mut rest = text.chars().peekable();
    while let Some(character) = next_shown(&mut rest) {
        if character == ' ' && (kept.is_empty() || kept.ends_with(' ')) {
            continue;
        }
        if count == chars {
            kept.pop();
            kept.push('…');
            break;
        }
        kept.push(character);
        count += 1;
    }
    kept.truncate(kept.trim_end().len());
    kept
}

/// The same for text in which there is nothing to take out, as nearly all is; `None` for any other.
fn plain(text: &str, chars: usize) -> Option<String> {
    let seen = text.as_bytes().get(..=chars).unwrap_or(text.as_bytes());
    let mut before = b' ';
    for &byte in seen {
        if !matches!(byte, b' '..=b'~') || (byte == b' ' && before == b' ') {
            return None;
        }
        before = byte;
    }
    if text.len() <= chars {
        return (before != b' ' || text.is_empty()).then(|| text.to_owned());
    }
    Some(format!("{}…", text.get(..chars.checked_sub(1)?)?))
}

/// The next character that may be shown; skips what may not.
fn next_shown(rest: &mut Peekable<Chars<'_>>) -> Option<char> {
    loop {
        match rest.next()? {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => return Some(' '),
            ESCAPE => skip_escape(rest),
            CSI => skip_parameters(rest),
            hidden if hidden.is_control() || is_direction(hidden) => {}
            shown => return Some(shown),
        }
    }
}

/// Characters that turn the writing direction around and can make a line read as another (Unicode TR 36, section 2.5).
pub(crate) fn is_direction(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Skips what follows an ESC (ECMA-48, section 5.3 and 8.3.89).
fn skip_escape(rest: &mut Peekable<Chars<'_>>) {
    match rest.peek() {
        Some('[') => {
            rest.next();
            skip_parameters(rest);
        }
        // OSC, DCS, SOS, PM and APC run to BEL or ESC \.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(character) = rest.next() {
                if character == '\u{7}' || character == '\u{9c}' {
                    return;
                }
                if character == ESCAPE {
                    rest.next_if_eq(&'\\');
                    return;
                }
            }
        }
        // Intermediate bytes, then a final one: a character set, for example.
        Some(' '..='/') => {
            while rest.next_if(|c| matches!(c, ' '..='/')).is_some() {}
            rest.next_if(|c| matches!(c, '0'..='~'));
        }
        Some('0'..='~') => {
            rest.next();
        }
        _ => {}
    }
}

/// Skips the parameters, intermediates and final byte of a control sequence.
fn skip_parameters(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    rest.next_if(|c| matches!(c, '@'..='~'));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn s37_control_and_escape_sequences_do_not_survive() {
        for (foreign, shown) in [
            ("plain", "plain"),
            ("Grüße, 水位", "Grüße, 水位"),
            ("a\u{0}b\u{7}c\u{7f}d\u{85}e", "abcde"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{9b}2Jcleared", "cleared"),
            ("\u{1b}]0;new title\u{7}text", "text"),
            ("\u{1b}]8;;http://x\u{1b}\\link", "link"),
            ("\u{1b}Pq#0\u{1b}\\after", "after"),
            ("\u{1b}(Bset", "set"),
            ("\u{1b}cset", "set"),
            ("cut \u{1b}", "cut"),
            ("cut \u{1b}[", "cut"),
            ("  one\r\n\ttwo \n", "one two"),
            ("safe\u{202e}gpj.exe", "safegpj.exe"),
            ("", ""),
        ] {
            assert_eq!(printable(foreign), shown, "{foreign:?}");
        }
    }

    #[test]
    fn s37_at_most_256_characters_are_kept() {
        let exact = "ü".repeat(MAX_CHARS);
        assert_eq!(printable(&exact), exact);
        let long = printable(&"ü".repeat(MAX_CHARS + 1));
        assert_eq!(long.chars().count(), MAX_CHARS);
        assert!(long.ends_with("ü…"));
    }

    /// The short way for plain text is no other way.
    #[test]
    fn plain_text_is_shown_as_any_other() {
        let mut random = fastrand::Rng::with_seed(37);
        let mut short_ways = 0;
        for _ in 0..20_000 {
            let alphabet = ["a", "b", "~", " ", "a", "b", "c", "\u{7f}", "\u{1b}[m", "ü"];
            let known = if random.bool() { 7 } else { alphabet.len() };
            let text: String = (0..random.usize(..12)).map(|_| alphabet[random.usize(..known)]).collect();
            let chars = random.usize(..9);
            if let Some(plain) = plain(&text, chars) {
                assert_eq!(plain, cleaned(&text, chars), "{text:?} up to {chars}");
                short_ways += 1;
            }
        }
        assert!(short_ways > 1_000, "{short_ways}");
    }

    #[test]
    fn s37_a_sequence_without_an_end_swallows_no_more_than_itself() {
        assert_eq!(printable("\u{1b}[3\u{1b}[1mx"), "x");
        assert_eq!(printable("\u{1b}]title without end"), "");
    }
}
