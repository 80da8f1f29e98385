//! What passes between the agent and the worker: a length (4 bytes, little-endian), then that many bytes of postcard.
//!
//! Both ends are the same program, so there are no versions. The agent trusts nothing of what it reads here: a frame is
//! bounded before a byte of it is allocated, and text in it is judged by [`super::json`] and cut by [`bounded`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Line;

/// The largest script, in bytes.
pub(super) const MAX_SCRIPT: usize = 1 << 20;
/// The largest request: a script, or a payload with its uplink object.
pub(super) const MAX_REQUEST: usize = 2 << 20;
/// The largest answer.
pub(super) const MAX_REPLY: usize = 1 << 20;
/// The largest `data` or `normalized`, in bytes of JSON.
pub(super) const MAX_RESULT: usize = 256 << 10;
/// The most errors, warnings or console lines.
pub(super) const MAX_TEXTS: usize = 64;
/// The longest of them, in bytes.
pub(super) const MAX_TEXT: usize = 1_000;

/// CPU seconds after which the kernel ends the worker, counted anew for every request. The agent kills it before, except
/// during the first look at a script, which may wait for a slow machine; and it may have been killed itself.
pub(super) const CPU_SECONDS: u64 = 4;

/// What the agent asks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request<'a> {
    /// The first: lock yourself in.
    Start {
        /// The largest memory limit of all functions, in bytes.
        memory: u64,
    },
    /// Keep this script.
    Load(Code<'a>),
    /// Run the script's top level and say whether it can be called.
    Check {
        /// Which script.
        slot: u32,
    },
    /// Call the script.
    Call(Call<'a>),
}

/// A script and its limits.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Code<'a> {
    pub(super) slot: u32,
    /// What error texts call it.
    pub(super) file: Cow<'a, str>,
    pub(super) source: Cow<'a, str>,
    pub(super) cpu_limit_us: u64,
    pub(super) memory_limit: u64,
}

/// The arguments of a call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Call<'a> {
    pub(super) slot: u32,
    pub(super) bytes: Cow<'a, [u8]>,
    pub(super) f_port: u8,
    pub(super) recv_time_us: Option<i64>,
    pub(super) variables: Cow<'a, BTreeMap<String, String>>,
    pub(super) uplink: Cow<'a, str>,
}

/// What the worker answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// To `Start`: locked in, or why not.
    Ready(Result<(), String>),
    /// To `Load`.
    Loaded,
    /// To `Check`.
    Checked(Result<(), Fault>),
    /// To `Call`.
    Answer {
        /// What became of it.
        verdict: Verdict,
        /// What was written to the console.
        console: Vec<Line>,
    },
}

/// What became of a call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Verdict {
    /// JSON texts as QuickJS wrote them.
    Decoded { data: String, warnings: Vec<String>, normalized: Option<String> },
    /// `null` or nothing.
    Null,
    /// The script says that it can't.
    Refused(Vec<String>),
    /// The script broke.
    Broke(Fault),
}

/// How a script broke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// For people; complete.
    pub(super) text: String,
    /// Line and column in the script, from 1.
    pub(super) at: Option<(u32, u32)>,
}

/// The kinds that somebody decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum FaultKind {
    /// Too much CPU time.
    Time,
    /// Too much memory.
    Memory,
    /// It does not parse.
    Syntax,
    /// It has nothing to call.
    NoEntry,
    /// Everything else: thrown, too deep, a Promise, not JSON.
    Other,
}

/// The frame of a message.
pub(super) fn frame(message: &impl Serialize) -> Result<Vec<u8>, postcard::Error> {
    let body = postcard::to_extend(message, vec![0; 4])?;
    let mut frame = body;
    let length =
        u32::try_from(frame.len().saturating_sub(4)).map_err(|_| postcard::Error::SerializeBufferFull)?;
    for (to, from) in frame.iter_mut().zip(length.to_le_bytes()) {
        *to = from;
    }
    Ok(frame)
}

/// The length that a frame's first bytes announce, if it is no more than `most`.
pub(super) fn announced(head: [u8; 4], most: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(head)).ok().filter(|length| *length <= most)
}

/// `text`, at most [`MAX_TEXT`] bytes of it.
pub(super) fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let mut end = MAX_TEXT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}
