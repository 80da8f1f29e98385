//! Runs payload functions: JavaScript that makes readable values of a payload's bytes.
//!
//! # What this room owns
//!
//! Reading the scripts of `[function.NAME]`, judging them once, and calling them, each call bounded in CPU time, wall time
//! and memory. Scripts come from vendors and from the Internet, and QuickJS is a large C program that can't always be
//! interrupted: so a script never runs in the agent. It runs in a child process that may do nothing but read a request
//! and write an answer (RULES S27, S33), and that is killed when it does not answer.
//!
//! # The life of a call
//!
//! ```text
//! Functions::call ── cached or under way already? ──> that result
//!   │ queue: first come, first served, one call at a time
//!   v
//! keeper   the one thread that owns the child: starts it on demand, hands it each script once,
//!   │      waits at most WALL for an answer, ends it after a minute without work
//!   │ length-prefixed frames on two pipes (wire)
//!   v
//! worker   the child: locks itself in, then for each call a fresh QuickJS runtime and context:
//!          script, entry point, arguments, result as JSON text
//!   v
//! json     the text as it came, lone surrogates replaced, checked ──> Output, cached for the other integrations
//! ```
//!
//! # Contract with the script
//!
//! The first of these that exists, as a function declaration, a variable or a property of `module.exports`:
//! `decodeUplink({bytes, fPort, recvTime, variables, uplink})` returning `{data, warnings, errors}`;
//! `Decoder(bytes, fPort, uplink)`; `Decode(fPort, bytes, variables)`, both returning anything. Beside `decodeUplink`, a
//! `normalizeUplink({data})` is called with what was decoded. Scripts run in sloppy mode, in UTC, with `console`, `Buffer`,
//! `TextDecoder`, `TextEncoder`, `atob` and `btoa`, and with nothing that reaches outside.
//!
//! # Invariants
//!
//! - No call sees anything of another: globals, prototypes and module state last for one call.
//! - Every call ends, with an [`Output`], whatever the script does and whatever happens to the child.
//! - What the child writes is foreign input: frames are bounded, text is checked to be JSON that anybody can parse.
//! - The same uplink and function give the same [`Output`] to all integrations while it is cached; only one call is made
//!   even if they ask at the same time. What was the machine's fault (no child could be started) is not cached.
//!
//! # What it refuses
//!
//! When built: scripts that are not a regular file of at most 1 MiB, that do not parse, whose top level throws or does
//! not end, that have no entry point. When called: Promises, circular values, results above 256 KiB or nested deeper
//! than 64 levels, data of `decodeUplink` that is no object.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use uuid::Uuid;

#[cfg(feature = "functions")]
mod cache;
#[cfg(feature = "functions")]
mod calls;
#[cfg(feature = "functions")]
mod child;
#[cfg(feature = "functions")]
mod json;
#[cfg(feature = "functions")]
mod keeper;
#[cfg(feature = "functions")]
mod script;
#[cfg(feature = "functions")]
mod strikes;
#[cfg(feature = "functions")]
mod wire;
#[cfg(feature = "functions")]
pub(crate) mod worker;

#[cfg(not(feature = "functions"))]
mod stub;

#[cfg(feature = "functions")]
pub use calls::Functions;
#[cfg(not(feature = "functions"))]
pub use stub::Functions;

/// What a function is told about an uplink.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// The uplink's id: with the function's name it stands for the result.
    pub uplink_id: Uuid,
    /// The decrypted payload.
    pub bytes: Vec<u8>,
    /// The LoRaWAN port.
    pub f_port: u8,
    /// When it was received, in microseconds since 1970 UTC; `None` where nobody knows.
    pub recv_time_us: Option<i64>,
    /// The device's variables, without the secret ones (RULES S34).
    pub variables: BTreeMap<String, String>,
    /// The Helium-style uplink object, as JSON; empty for none.
    pub uplink: String,
}

/// What became of a call.
#[derive(Clone, Debug)]
pub struct Output {
    /// The result.
    pub decoding: Decoding,
    /// What the script wrote to its console, at most 64 lines; foreign text, for people only.
    pub console: Vec<Line>,
}

/// The result of a call.
#[derive(Clone, Debug)]
pub enum Decoding {
    /// It decoded.
    Decoded {
        /// The decoded value: for `decodeUplink` an object, in the script's own order and digits.
        data: Box<RawValue>,
        /// What the script or this room warns of.
        warnings: Vec<String>,
        /// What `normalizeUplink` made of it: an array of objects.
        normalized: Option<Box<RawValue>>,
    },
    /// The function returned `null` or nothing; `drop_null` decides what that means.
    Null,
    /// It did not decode; the uplink is delivered undecoded. Never empty.
    Failed {
        /// Why.
        errors: Vec<String>,
    },
}

/// One line of a script's console.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Line {
    /// How it was written.
    pub level: Level,
    /// The text.
    pub text: String,
}

/// How a console line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Level {
    /// `console.debug`, `log`, `info`, `trace`
    Info,
    /// `console.warn`
    Warn,
    /// `console.error`
    Error,
}

/// What differs between the agent and the commands.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program that is started as the worker; `None`: this very program.
    pub program: Option<std::path::PathBuf>,
    /// Whether five time-outs in a row suspend a function for five minutes (RULES S27).
    pub suspend: bool,
    /// How long the worker stays without work.
    pub idle: std::time::Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { program: None, suspend: true, idle: std::time::Duration::from_secs(60) }
    }
}

/// The hidden command that turns this program into a worker.
pub const WORKER_COMMAND: &str = "function-worker";

/// What the hidden command does: answers requests on standard input until it is closed.
pub fn run_worker() -> std::process::ExitCode {
    #[cfg(feature = "functions")]
    return worker::main();
    #[cfg(not(feature = "functions"))]
    std::process::ExitCode::from(2)
}

impl Output {
    /// A failure that names its reason.
    pub(crate) fn failed(reason: impl Into<String>) -> Output {
        Output { decoding: Decoding::Failed { errors: vec![reason.into()] }, console: Vec::new() }
    }
}
