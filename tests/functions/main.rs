//! Payload functions as the agent meets them: through the real worker, which is the real binary.
#![cfg(feature = "functions")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod agent;
mod broken_worker;
mod check;
mod codecs;
mod command;
mod hostile;
mod sandbox;
mod sharing;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use packhorse::config::{Config, Function, Problem};
use packhorse::render::function::{Decoding, Functions, Input, Options, Output};
use serde_json::Value;
use uuid::Uuid;

/// The worker's program. `PACKHORSE_TEST_WORKER` names another, such as a script that runs one built for another processor
/// under an emulator (cross/README.md).
fn packhorse() -> PathBuf {
    std::env::var_os("PACKHORSE_TEST_WORKER").unwrap_or(env!("CARGO_BIN_EXE_packhorse").into()).into()
}

/// A folder with scripts, and the functions that a config makes of them.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes `NAME.js` and returns its table. `more` are further lines of it.
    fn script(&self, name: &str, source: impl AsRef<[u8]>, more: &str) -> String {
        std::fs::write(self.path(&format!("{name}.js")), source).unwrap();
        format!("[function.{name}]\nfile = \"{name}.js\"\n{more}\n")
    }

    fn read(&self, config: &str) -> Vec<Function> {
        Config::parse(config, &self.path("packhorse.toml")).unwrap().config.functions
    }

    fn functions(&self, config: &str) -> Functions {
        self.try_functions(config, &packhorse()).unwrap()
    }

    fn try_functions(&self, config: &str, program: &Path) -> Result<Functions, Vec<Problem>> {
        let options = Options { program: Some(program.to_owned()), ..Options::default() };
        Functions::try_new_with(&self.read(config), options)
    }
}

/// One function without a name of its own.
fn function(source: &str) -> (Folder, Functions) {
    let folder = Folder::new();
    let functions = folder.functions(&folder.script("f", source, ""));
    (folder, functions)
}

fn input(f_port: u8, bytes: &[u8]) -> Input {
    Input { uplink_id: Uuid::now_v7(), bytes: bytes.to_vec(), f_port, ..Input::default() }
}

fn decode(functions: &Functions, f_port: u8) -> Arc<Output> {
    functions.call("f", &input(f_port, &[1, 2, 3]))
}

fn data(output: &Output) -> Value {
    match &output.decoding {
        Decoding::Decoded { data, .. } => serde_json::from_str(data.get()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn errors(output: &Output) -> Vec<String> {
    match &output.decoding {
        Decoding::Failed { errors } => errors.clone(),
        other => panic!("{other:?}"),
    }
}

fn warnings(output: &Output) -> Vec<String> {
    match &output.decoding {
        Decoding::Decoded { warnings, .. } => warnings.clone(),
        other => panic!("{other:?}"),
    }
}
