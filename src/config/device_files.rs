//! `device_files`: more devices, in files of their own.
//!
//! An entry is a file name, in whose last component `*` stands for any characters (but not for a leading dot: editors
//! leave hidden files behind). A file that two entries name is read once.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::device;
use super::problem::Problem;
use super::reader::{Reader, Value, quoted};
use super::schema::Device;
use super::text::{self, Text};

/// What came from device files.
#[derive(Default)]
pub(super) struct FromFiles {
    pub(super) devices: Vec<Device>,
    /// What is wrong in those files.
    pub(super) problems: Vec<Problem>,
    /// Whether devices may be missing because a file could not be read, or not whole.
    pub(super) lossy: bool,
}

/// Reads the files that `entries` name, in a stable order. Relative paths in them start at `folder`.
pub(super) fn read(entries: &[Value<'_>], folder: &Path) -> FromFiles {
    let mut all = FromFiles::default();
    let mut seen = BTreeSet::new();
    for value in entries {
        let Some(pattern) = value.file() else {
            all.lossy = true;
            continue;
        };
        let Some(paths) = matching(value, &pattern) else {
            all.lossy = true;
            continue;
        };
        for path in paths.into_iter().filter(|path| seen.insert(path.clone())) {
            match text::read_regular(&path) {
                Ok(text) => read_file(&mut all, &path, &text, folder),
                Err(why) => {
                    let message = format!("the device file {} {why}", quoted(&path.to_string_lossy()));
                    value.refuse_with(message, "names start at the folder of packhorse.toml");
                    all.lossy = true;
                }
            }
        }
    }
    all
}

fn read_file(all: &mut FromFiles, path: &Path, text: &str, folder: &Path) {
    let text = Text::new(path, text);
    let (reader, tree) = Reader::new(&text, folder);
    all.devices.extend(reader.root(&tree, |table| table.list("device", device::SHAPE, device::read)));
    all.lossy |= reader.is_lossy();
    all.problems.extend(reader.into_problems());
}

/// The files of one entry; `None` if that is not known.
fn matching(value: &Value<'_>, pattern: &Path) -> Option<Vec<PathBuf>> {
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name().and_then(OsStr::to_str)) else {
        value.refuse("this names no file");
        return None;
    };
    if folder.to_string_lossy().contains('*') {
        value.refuse_with("* may stand in the last part of the name only", "such as \"devices.d/*.toml\"");
        return None;
    }
    if !name.contains('*') {
        return Some(vec![pattern.to_owned()]);
    }
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let files = match list(listed, name) {
        Ok(files) => files,
        Err(error) => {
            let message = format!("the folder {} cannot be read: {error}", quoted(&listed.to_string_lossy()));
            value.refuse_with(
                message,
                "create it, or correct the name; it starts at the folder of packhorse.toml",
            );
            return None;
        }
    };
    if files.is_empty() {
        value.warn("no file has such a name", "put device files there, or remove this entry");
    }
    Some(files.into_iter().map(|file| folder.join(file)).collect())
}

fn list(folder: &Path, pattern: &str) -> std::io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        if let Ok(name) = entry?.file_name().into_string()
            && matches(pattern, &name)
        {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Whether `name` has the form of `pattern`: its literal pieces in order, the first at the start, the last at the end.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(last) = pieces.next_back() else { return pattern == name };
    let Some(mut rest) = name.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    for piece in pieces {
        match rest.split_once(piece) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn stars_match_within_one_name() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", false),
            ("*.toml", ".a.toml", false),
            ("*.toml", "a.toml~", false),
            ("*", "anything", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "ac", false),
            ("ab*ba", "aba", false),
            ("*a*a*", "aa", true),
            ("*a*a*", "a", false),
            ("plain", "plain", true),
            ("plain", "plains", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
