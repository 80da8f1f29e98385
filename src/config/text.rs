//! A file's text, and the line and column of any byte of it.
//!
//! Looking a place up costs a binary search and at most [`BLOCK`] bytes, whatever the length of the line: thousands of
//! devices in one inline array must not make the reader quadratic.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::problem::Place;

/// Bytes between two entries of the character index.
const BLOCK: usize = 256;

/// The largest file in bytes: some 30,000 devices, and less memory than the smallest gateway has.
const LARGEST: u64 = 8 * 1024 * 1024;

/// Reads a whole file.
///
/// # Errors
/// Why it cannot be used, as the rest of a sentence that begins with its name.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
        return Err(format!("is larger than {} MiB", LARGEST >> 20));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("is not UTF-8 text: see line {line}")
    })
}

/// The same for a file whose name came from a pattern: anything but a regular file is not opened, because opening a FIFO
/// would wait for its writer.
///
/// # Errors
/// As for [`read`].
pub(super) fn read_regular(path: &Path) -> Result<String, String> {
    let metadata = path.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if metadata.is_file() { read(path) } else { Err("is not a regular file".to_owned()) }
}

/// A text under the name of its file.
pub(super) struct Text<'a> {
    file: Arc<Path>,
    text: &'a str,
    /// Offset of the first byte of every line.
    lines: Vec<usize>,
    /// How many characters begin before byte `index * BLOCK`.
    characters: Vec<usize>,
}

impl<'a> Text<'a> {
    pub(super) fn new(file: &Path, text: &'a str) -> Self {
        let mut lines = vec![0];
        lines.extend(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1));
        let mut counted = 0;
        let mut characters = vec![0];
        for block in text.as_bytes().chunks(BLOCK) {
            counted += begins(block);
            characters.push(counted);
        }
        Text { file: Arc::from(file), text, lines, characters }
    }

    /// The text itself.
    pub(super) fn as_str(&self) -> &'a str {
        self.text
    }

    /// Where byte `offset` stands; past the end counts as the end.
    pub(super) fn place(&self, offset: usize) -> Place {
        let offset = offset.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.characters_before(offset).saturating_sub(self.characters_before(start)) + 1;
        Place { file: self.file.clone(), line: capped(line), column: capped(column) }
    }

    fn characters_before(&self, offset: usize) -> usize {
        let block = offset / BLOCK;
        let rest = self.text.as_bytes().get(block * BLOCK..offset).unwrap_or_default();
        self.characters.get(block).copied().unwrap_or(0) + begins(rest)
    }
}

/// How many characters begin in `bytes`: all UTF-8 bytes but the continuation bytes (10xxxxxx).
fn begins(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

fn capped(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn columns_count_characters_in_long_lines_too() {
        let text = format!("a\n{}x\nend", "é".repeat(1000));
        let index = Text::new(Path::new("f"), &text);
        let at = |offset| {
            let place = index.place(offset);
            (place.line, place.column)
        };
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(2), (2, 1));
        assert_eq!(at(text.find('x').unwrap()), (2, 1001));
        assert_eq!(at(text.find("end").unwrap()), (3, 1));
        assert_eq!(at(usize::MAX), (3, 4));
        let empty = Text::new(Path::new("f"), "").place(7);
        assert_eq!((empty.line, empty.column), (1, 1));
    }
}
