//! The commands: one file each. This one reads the arguments and picks.
//!
//! Exit codes: 0 done, 1 the thing asked about is bad, 2 wrong usage or no agent to ask.

mod args;
mod check;
mod decode;
mod demo;
mod help;
mod logging;
mod run;
mod simulate;
mod status;

use std::process::ExitCode;

use args::{Args, Command};

use crate::render::function;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// Done.
    Done,
    /// What was asked about is bad.
    Bad,
    /// Wrong usage, or no agent to ask.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Bad => 1,
            Exit::Usage => 2,
        })
    }
}

/// Reads the arguments of this process and does what they say.
pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == function::WORKER_COMMAND) {
        return function::run_worker();
    }
    let args = match args::read(lexopt::Parser::from_env()) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("packhorse: {error}\nTry `packhorse help`.");
            return Exit::Usage.into();
        }
    };
    let Args { command, config, verbose } = args;
    let exit = match command {
        Command::Help(topic) => help::print(topic),
        Command::Version => help::version(),
        Command::Run => run::run(&config, verbose),
        Command::Check => check::check(&config),
        Command::Status { json } => status::status(&config, json),
        Command::Decode(options) => decode::decode(&config, &options),
        Command::Simulate(options) => simulate::simulate(&options),
        Command::Demo(options) => demo::demo(&options, verbose),
    };
    exit.into()
}

/// Prints a line of a command's result. A reader that has gone (`packhorse status | head -1`) is no error.
fn say(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}
