//! A function's script, read from its file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{self, Place, Problem};

use super::wire::{Code, Fault, FaultKind, MAX_SCRIPT};

/// A script and what its table says about it.
#[derive(Debug)]
pub(super) struct Script {
    /// The function's name.
    pub(super) name: String,
    path: PathBuf,
    source: String,
    cpu_limit: Duration,
    memory_limit: u64,
    /// Where the table names the file.
    place: Place,
}

impl Script {
    /// Reads the script. It need not be UTF-8: vendors publish what their editors wrote, mostly in comments.
    pub(super) fn read(function: &config::Function) -> Result<Script, Problem> {
        let path = function.file.value.clone();
        let source = source(&path).map_err(|why| {
            let key = format!("function.{}.file", function.name.value);
            let text = format!("the script {} {why}", path.display());
            Problem::error(&function.file.place, key, text)
                .hint("name one JavaScript file; relative names start at the folder of packhorse.toml")
        })?;
        Ok(Script {
            name: function.name.value.clone(),
            path,
            source,
            cpu_limit: function.time_limit,
            memory_limit: function.memory_limit,
            place: function.file.place.clone(),
        })
    }

    /// What the worker is told.
    pub(super) fn code(&self, slot: u32) -> Code<'_> {
        Code {
            slot,
            file: self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy(),
            source: self.source.as_str().into(),
            cpu_limit_us: u64::try_from(self.cpu_limit.as_micros()).unwrap_or(u64::MAX),
            memory_limit: self.memory_limit,
        }
    }

    /// Its memory limit, in bytes.
    pub(super) fn memory_limit(&self) -> u64 {
        self.memory_limit
    }

    /// What the operator is told about a fault found before any call.
    pub(super) fn problem(&self, fault: &Fault) -> Problem {
        let (line, column) = fault.at.unwrap_or((1, 1));
        let place = Place { file: self.path.as_path().into(), line, column };
        let problem = Problem::error(&place, format!("function.{}", self.name), fault.text.clone());
        match fault.kind {
            FaultKind::NoEntry => {
                problem.hint("define function decodeUplink(input) { return { data: { … } }; }")
            }
            FaultKind::Time => problem.hint("what stands outside of functions runs before every call"),
            _ => problem,
        }
    }

    /// What the operator is told when nothing could be found out.
    pub(super) fn unchecked(&self, why: &str) -> Problem {
        let text = format!("could not be checked: {why}");
        Problem::warning(&self.place, format!("function.{}.file", self.name), text)
    }
}

/// The text of a script, or the rest of a sentence about it.
fn source(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    // Not opened if it is anything else: opening a FIFO would wait for its writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_SCRIPT).unwrap_or(u64::MAX);
    File::open(path).map_err(failed)?.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_SCRIPT {
        return Err("is larger than 1 MiB".to_owned());
    }
    if bytes.contains(&0) {
        return Err("holds a zero byte; is it JavaScript, saved as UTF-8?".to_owned());
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_small_regular_text_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.js");
        assert!(source(&path).unwrap_err().contains("cannot be read"));
        assert!(source(folder.path()).unwrap_err().contains("regular file"));
        assert!(source(Path::new("/dev/zero")).unwrap_err().contains("regular file"));
        std::fs::write(&path, vec![b' '; MAX_SCRIPT + 1]).unwrap();
        assert!(source(&path).unwrap_err().contains("1 MiB"));
        std::fs::write(&path, "f\0u\0").unwrap();
        assert!(source(&path).unwrap_err().contains("zero byte"));
    }

    #[test]
    fn a_mark_at_the_start_and_latin_1_are_tolerated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.js");
        std::fs::write(&path, b"\xef\xbb\xbfvar x; // caf\xe9\n").unwrap();
        assert_eq!(source(&path).unwrap(), "var x; // caf\u{fffd}\n");
    }
}
