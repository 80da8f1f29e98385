//! The commands: one file each. This one reads the arguments and picks.
//!
//! Exit codes: 0 done, 1 the thing asked about is bad, 2 wrong usage or no agent to ask.

mod args;
mod ask;
mod check;
mod dead;
mod decode;
#[cfg(feature = "demo")]
mod demo;
mod devices;
#[cfg(feature = "tools")]
mod doctor;
#[cfg(feature = "tools")]
mod example;
mod help;
mod history;
mod kick;
mod logging;
mod pause;
mod purge;
mod reload;
mod replay;
mod run;
mod service_manager;
#[cfg(feature = "demo")]
mod simulate;
#[cfg(feature = "tools")]
mod spool;
mod status;
mod table;
mod test;
mod watch;

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
        Command::Status { json } => ended(status::status(&config, json)),
        Command::History(options) => ended(history::history(&config, &options)),
        Command::Devices { json } => ended(devices::devices(&config, json)),
        Command::Watch { json } => ended(watch::watch(&config, json)),
        Command::Pause { integration } => ended(pause::pause(&config, &integration)),
        Command::Resume { integration } => ended(pause::resume(&config, &integration)),
        Command::Kick => ended(kick::kick(&config)),
        Command::Dead { integration, json } => ended(dead::dead(&config, &integration, json)),
        Command::Replay(options) => ended(replay::replay(&config, &options)),
        Command::Purge { integration, yes } => ended(purge::purge(&config, &integration, yes)),
        Command::Test(options) => ended(test::test(&config, &options)),
        #[cfg(feature = "tools")]
        Command::SpoolCheck(options) => ended(spool::check(&config, &options)),
        #[cfg(feature = "tools")]
        Command::SpoolExport(options) => ended(spool::export(&config, &options)),
        #[cfg(feature = "tools")]
        Command::Doctor { json } => doctor::doctor(&config, json),
        #[cfg(feature = "tools")]
        Command::Example { name } => example::example(name.as_deref()),
        #[cfg(not(feature = "tools"))]
        Command::SpoolCheck(_)
        | Command::SpoolExport(_)
        | Command::Doctor { .. }
        | Command::Example { .. } => not_in_this_build("tools"),
        Command::Reload => ended(reload::reload(&config)),
        Command::Apply { new, confirm } => ended(reload::apply(&config, &new, confirm)),
        Command::Confirm => ended(reload::confirm(&config)),
        Command::Decode(options) => decode::decode(&config, &options),
        #[cfg(feature = "demo")]
        Command::Simulate(options) => simulate::simulate(&options),
        #[cfg(feature = "demo")]
        Command::Demo(options) => demo::demo(&options, verbose),
        #[cfg(not(feature = "demo"))]
        Command::Simulate(_) | Command::Demo(_) => not_in_this_build("demo"),
    };
    exit.into()
}

/// A command that a small build leaves out.
#[cfg(not(all(feature = "demo", feature = "tools")))]
fn not_in_this_build(feature: &str) -> Exit {
    eprintln!(
        "packhorse: this small build does not have that command; one with the feature \"{feature}\" has"
    );
    Exit::Usage
}

/// Commands that ask give up with `?` where there is no answer.
fn ended(result: Result<Exit, Exit>) -> Exit {
    result.unwrap_or_else(|exit| exit)
}

/// Prints a line of a command's result. A reader that has gone (`packhorse status | head -1`) is no error.
fn say(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}
