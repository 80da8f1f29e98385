//! The configuration as an operator meets it: every mistake has its place, every key its default, no secret shows.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod files;
mod hostile;
mod mistakes;
mod secrets;
mod values;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use packhorse::config::{Config, Loaded, Problem};

/// The example of DESIGN section 5, every key of it.
const EXAMPLE: &str = include_str!("example.toml");

const SECRETS: [(&str, &str); 6] = [
    ("webhook", "hunter2-webhook\n"),
    ("silo-7.nwk", "2B7E151628AED2A6ABF7158809CF4F3C\n"),
    ("silo-7.app", "000102030405060708090a0b0c0d0e0f\r\n"),
    ("factory-token", "hunter2-token"),
    ("mqtt", "hunter2-mqtt\n"),
    ("lns", "hunter2-lns\n"),
];

/// A configuration folder with the secrets of [`EXAMPLE`], each for its owner alone.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        for (name, value) in SECRETS {
            folder.write(&format!("secrets/{name}"), value);
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    }

    fn parse(&self, text: &str) -> Result<Loaded, Vec<Problem>> {
        Config::parse(text, &self.path("packhorse.toml"))
    }
}

fn parse(text: &str) -> Result<Loaded, Vec<Problem>> {
    Config::parse(text, Path::new("/nowhere/packhorse.toml"))
}

fn shown(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn loaded(result: Result<Loaded, Vec<Problem>>) -> Loaded {
    result.unwrap_or_else(|problems| panic!("{}", shown(&problems)))
}

fn refused(text: &str) -> Vec<Problem> {
    match parse(text) {
        Err(problems) => problems,
        Ok(loaded) => panic!("accepted: {text}\n{}", shown(&loaded.warnings)),
    }
}

fn line(problem: &Problem) -> u32 {
    problem.place.as_ref().unwrap().line
}

const HTTP: &str = "[integration.api]\ntype = \"http\"\nurl = \"https://h/\"\n";
const MQTT: &str = "[integration.b]\ntype = \"mqtt\"\nurl = \"mqtts://h\"\n";
const UDP: &str = "[source.s]\ntype = \"semtech-udp\"\n";
