//! Secrets: where they come from (a file, the environment, the configuration itself), and a type that doesn't print them.
//!
//! A message about a secret names the key, the place and, where there is one, the file or variable; never the value, its
//! length or the line (DESIGN section 5, invariant 8).

use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use toml::de::DeValue;

use super::reader::{Table, Value, quoted};

/// The largest secret file in bytes (RULES S38).
const LARGEST: u64 = 64 * 1024;

/// What a secret may look like, for "expected …".
const SHAPES: &str = "{ file = \"…\" }, { env = \"…\" } or a string";

/// A value that may be secret: it prints as `[secret]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: String,
    plain: bool,
}

impl Secret {
    /// Wraps a secret.
    pub fn new(value: String) -> Self {
        Secret { value, plain: false }
    }

    /// Wraps a value written where both secrets and plain values may stand: headers and variables.
    pub fn plain(value: String) -> Self {
        Secret { value, plain: true }
    }

    /// Whether the operator wrote it out where a secret could have stood: not a secret, and functions may see it (RULES
    /// S34). Values from files and from the environment never are.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// The secret itself, for the wire only.
    pub fn expose(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// What an inline string means where a [`Secret`] may stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Inline {
    /// A secret in the wrong place: a warning.
    Secret,
    /// A plain value.
    Plain,
}

impl Table<'_> {
    /// A secret.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<Secret> {
        self.get(key)?.secret(Inline::Secret)
    }

    /// A secret; an error without one.
    pub(super) fn need_secret(&mut self, key: &'static str) -> Option<Secret> {
        let example = format!("{key} = {{ file = \"secrets/{key}\" }}");
        self.need(key, &example)?.secret(Inline::Secret)
    }
}

impl Value<'_> {
    /// A secret from wherever the value says.
    pub(super) fn secret(&self, inline: Inline) -> Option<Secret> {
        match (self.raw(), inline) {
            (DeValue::String(text), Inline::Plain) => Some(Secret::plain(text.to_string())),
            (DeValue::String(text), Inline::Secret) => {
                if !text.is_empty() {
                    self.warn_inline();
                }
                Some(Secret::new(text.to_string()))
            }
            (DeValue::Table(_), _) => self.table(SHAPES, |table| self.referred(table))?,
            _ => {
                self.wrong(SHAPES);
                None
            }
        }
    }

    /// Warns that this value is a secret written out.
    pub(super) fn warn_inline(&self) {
        let key = self.key().rsplit('.').next().unwrap_or("it");
        self.warn(
            "a secret stands in the configuration itself",
            format!("put it into a file that only packhorse can read: {key} = {{ file = \"secrets/NAME\" }}"),
        );
    }

    fn referred(&self, table: &mut Table<'_>) -> Option<Secret> {
        let (file, env) = (table.get("file"), table.get("env"));
        let text = match (file, env) {
            (Some(file), None) => file.secret_file()?,
            (None, Some(env)) => env.secret_variable()?,
            (None, None) => {
                self.refuse(format!("expected {SHAPES}, found a table with neither file nor env"));
                return None;
            }
            (Some(_), Some(_)) => {
                self.refuse("file and env are both given: keep one");
                return None;
            }
        };
        Some(Secret::new(text))
    }

    fn secret_file(&self) -> Option<String> {
        let path = self.file()?;
        let (metadata, mut text) = match read_regular(&path) {
            Ok(read) => read,
            Err(Refusal { why, hint }) => {
                self.refuse_with(format!("the secret file {} {why}", quoted(&path.to_string_lossy())), hint);
                return None;
            }
        };
        if metadata.permissions().mode() & 0o004 != 0 {
            let name = path.to_string_lossy();
            self.warn(
                format!("everybody on this machine can read the secret file {}", quoted(&name)),
                format!("chmod 640 {name}, and give it the group of the agent"),
            );
        }
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        if text.is_empty() {
            self.refuse(format!("the secret file {} is empty", quoted(&path.to_string_lossy())));
            return None;
        }
        Some(text)
    }

    fn secret_variable(&self) -> Option<String> {
        let name = self.str("the name of an environment variable")?;
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(fine) {
            self.refuse("this is not the name of an environment variable");
            return None;
        }
        let Some(value) = std::env::var_os(name) else {
            let hint = "set it for the agent (systemd: EnvironmentFile=), or use { file = \"…\" }";
            self.refuse_with(format!("the environment variable {} is not set", quoted(name)), hint);
            return None;
        };
        match value.into_string() {
            Ok(text) if text.is_empty() => {
                self.refuse(format!("the environment variable {} is empty", quoted(name)));
                None
            }
            Ok(text) => Some(text),
            Err(_) => {
                self.refuse(format!("the environment variable {} is not UTF-8 text", quoted(name)));
                None
            }
        }
    }
}

/// Why a secret file cannot be used, as the rest of a sentence, and the next step.
struct Refusal {
    why: String,
    hint: String,
}

/// Reads a regular file within the limit. Anything else is not opened: opening a FIFO would wait for its writer.
fn read_regular(path: &Path) -> Result<(Metadata, String), Refusal> {
    let refusal = |why: &str, hint: &str| Refusal { why: why.to_owned(), hint: hint.to_owned() };
    let failed = |error: std::io::Error| Refusal {
        why: format!("cannot be read: {error}"),
        hint: "check the name, its owner and its mode; relative names start at the folder of packhorse.toml"
            .to_owned(),
    };
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(refusal("is not a regular file", "name a file that holds the secret and nothing else"));
    }
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > usize::try_from(LARGEST).unwrap_or(usize::MAX) {
        return Err(refusal("is larger than 64 KiB", "name a file that holds the secret and nothing else"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok((metadata, text)),
        Err(_) => Err(refusal("is not UTF-8 text", "binary secrets go in as base64 or hexadecimal text")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    /// Invariant 8.
    #[test]
    fn a_secret_does_not_print() {
        for secret in [Secret::new("hunter2".to_owned()), Secret::plain("hunter2".to_owned())] {
            assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "[secret] Some(\n    [secret],\n)");
            assert_eq!(secret.expose(), "hunter2");
        }
    }

    /// RULES S38.
    #[test]
    fn only_small_regular_text_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let why = |path: &Path| read_regular(path).err().map(|refusal| refusal.why);
        assert!(why(&path).unwrap().contains("cannot be read"));
        assert!(why(folder.path()).unwrap().contains("not a regular file"));
        assert!(why(Path::new("/dev/zero")).unwrap().contains("not a regular file"));
        std::fs::write(&path, vec![b'a'; 64 * 1024]).unwrap();
        assert_eq!(why(&path), None);
        std::fs::write(&path, vec![b'a'; 64 * 1024 + 1]).unwrap();
        assert!(why(&path).unwrap().contains("64 KiB"));
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(why(&path).unwrap().contains("UTF-8"));
    }
}
