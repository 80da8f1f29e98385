//! What each command can be told, and what is needed at least.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Options of `decode`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DecodeOptions {
    /// The function's name.
    pub(crate) function: String,
    /// The payload; not with `batch`.
    pub(crate) bytes: Option<Vec<u8>>,
    /// The port; with `batch` the one of lines that name none.
    pub(crate) port: Option<u8>,
    /// Whether payloads come line by line on standard input.
    pub(crate) batch: bool,
    /// One line of JSON.
    pub(crate) json: bool,
}

/// Options of `history`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HistoryOptions {
    /// Of this integration alone.
    pub(crate) integration: Option<String>,
    /// Of this device alone.
    pub(crate) device: Option<String>,
    /// Not older than this.
    pub(crate) since: Option<Duration>,
    /// Only what went wrong.
    pub(crate) failed: bool,
    /// One JSON object a line.
    pub(crate) json: bool,
}

/// Options of `replay`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReplayOptions {
    /// To whom.
    pub(crate) integration: String,
    /// What.
    pub(crate) what: Replayed,
}

/// What goes out once more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Replayed {
    /// What was refused.
    Dead,
    /// What was heard within this time and is still there.
    Since {
        /// How long ago.
        since: Duration,
        /// Also what was never meant for it.
        all: bool,
    },
}

/// Options of `spool`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SpoolOptions {
    /// Not the spool of the config.
    pub(crate) file: Option<PathBuf>,
    /// Dead letters, not what waits.
    pub(crate) dead: bool,
    /// Only what is for this one.
    pub(crate) integration: Option<String>,
    /// One JSON object.
    pub(crate) json: bool,
}

/// Options of `test`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TestOptions {
    /// Which integration.
    pub(crate) integration: String,
    /// Who the uplink is from.
    pub(crate) device: Option<String>,
    /// What it says.
    pub(crate) payload: Option<Vec<u8>>,
    /// On which port.
    pub(crate) port: Option<u8>,
    /// One JSON object.
    pub(crate) json: bool,
}

/// Options of `simulate`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SimulateOptions {
    /// Where the agent listens.
    pub(crate) to: SocketAddr,
    /// Uplinks a second.
    pub(crate) rate: f64,
    /// Uplinks in all; 0: until interrupted.
    pub(crate) count: u64,
    /// Devices.
    pub(crate) devices: u16,
}

/// Options of `demo`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DemoOptions {
    /// Uplinks before the outage.
    pub(crate) before: u64,
    /// Uplinks during the outage.
    pub(crate) outage: u64,
}

/// What was asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Args {
    pub(crate) command: Command,
    pub(crate) config: PathBuf,
    pub(crate) verbose: bool,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Help(Option<&'static str>),
    Version,
    Run,
    Check,
    Status { json: bool },
    History(HistoryOptions),
    Devices { json: bool },
    Watch { json: bool },
    Dead { integration: String, json: bool },
    Replay(ReplayOptions),
    Pause { integration: String },
    Resume { integration: String },
    Kick,
    Purge { integration: String, yes: bool },
    Test(TestOptions),
    Doctor { json: bool },
    Example { name: Option<String> },
    Reload,
    Apply { new: PathBuf, confirm: Duration },
    Confirm,
    SpoolCheck(SpoolOptions),
    SpoolExport(SpoolOptions),
    Decode(DecodeOptions),
    Simulate(SimulateOptions),
    Demo(DemoOptions),
}

impl Default for SimulateOptions {
    fn default() -> Self {
        SimulateOptions { to: SocketAddr::from(([127, 0, 0, 1], 1700)), rate: 1.0, count: 0, devices: 8 }
    }
}

impl Default for DemoOptions {
    fn default() -> Self {
        DemoOptions { before: 300, outage: 1_000 }
    }
}
