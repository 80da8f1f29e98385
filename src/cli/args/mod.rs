//! From words to a [`Command`].
//!
//! [`SHAPES`] says which words and options a command takes; [`given`] reads the options, [`Words::command`] makes the
//! command of them. A new command is a line of the table and an arm there.

mod given;
mod options;

use std::path::PathBuf;

use lexopt::prelude::*;

use crate::config::nearest;
use crate::control::orders::CONFIRM_USUALLY;
use crate::printable::printable;

use given::Given;
pub(super) use given::hex;
pub(super) use options::{
    Args, Command, DecodeOptions, DemoOptions, HistoryOptions, ReplayOptions, Replayed, SimulateOptions,
    SpoolOptions, TestOptions,
};

/// Where packages install the config.
const DEFAULT_CONFIG: &str = "/etc/packhorse/packhorse.toml";

/// What a command takes.
struct Shape {
    name: &'static str,
    /// Words behind its name, at most.
    words: usize,
    options: &'static [&'static str],
}

const fn shape(name: &'static str, words: usize, options: &'static [&'static str]) -> Shape {
    Shape { name, words, options }
}

/// All commands, in the order of the help.
const SHAPES: &[Shape] = &[
    shape("run", 0, &[]),
    shape("check", 0, &[]),
    shape("status", 0, &["json"]),
    shape("history", 1, &["device", "since", "failed", "json"]),
    shape("devices", 0, &["json"]),
    shape("watch", 0, &["json"]),
    shape("pause", 1, &[]),
    shape("resume", 1, &[]),
    shape("kick", 0, &[]),
    shape("dead", 1, &["json"]),
    shape("replay", 1, &["dead", "since", "all"]),
    shape("purge", 1, &["yes"]),
    shape("test", 1, &["device", "payload", "port", "json"]),
    shape("spool", 1, &["file", "dead", "integration", "json"]),
    shape("doctor", 0, &["json"]),
    shape("example", 1, &[]),
    shape("reload", 0, &[]),
    shape("apply", 1, &["confirm"]),
    shape("confirm", 0, &[]),
    shape("decode", 1, &["hex", "port", "batch", "json"]),
    shape("simulate", 0, &["to", "rate", "count", "devices"]),
    shape("demo", 0, &["before", "outage"]),
    shape("help", 1, &[]),
    shape("version", 0, &[]),
];

/// Reads the command line.
pub(super) fn read(mut parser: lexopt::Parser) -> Result<Args, lexopt::Error> {
    let mut words = Words::default();
    let mut config = PathBuf::from(DEFAULT_CONFIG);
    let mut verbose = false;
    while let Some(arg) = parser.next()? {
        match arg {
            Value(word) => words.words.push(word.string()?),
            Short('h') | Long("help") => words.help = true,
            Short('V') | Long("version") => words.words.insert(0, "version".into()),
            Short('v') | Long("verbose") => verbose = true,
            Short('c') | Long("config") => config = parser.value()?.into(),
            Short('y') => words.take("yes", &mut parser)?,
            Long(name) => {
                let name = name.to_owned();
                words.take(&name, &mut parser)?;
            }
            other @ Short(_) => return Err(other.unexpected()),
        }
    }
    Ok(Args { command: words.command()?, config, verbose })
}

/// What was said.
#[derive(Debug, Default)]
struct Words {
    words: Vec<String>,
    help: bool,
    given: Given,
}

impl Words {
    /// The command that is named first; none: help.
    fn shape(&self) -> Result<&'static Shape, lexopt::Error> {
        let name = self.words.first().map_or("help", String::as_str);
        SHAPES.iter().find(|shape| shape.name == name).ok_or_else(|| {
            let near = nearest(name, SHAPES.iter().map(|shape| shape.name));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            format!("there is no command `{}`{hint}", printable(name)).into()
        })
    }

    fn take(&mut self, option: &str, parser: &mut lexopt::Parser) -> Result<(), lexopt::Error> {
        let shape = self.shape()?;
        if shape.options.contains(&option) {
            return self.given.take(option, parser);
        }
        let near = nearest(option, shape.options.iter().copied());
        let hint = near.map_or_else(String::new, |near| format!("; did you mean --{near}?"));
        Err(format!("`{}` takes no --{}{hint}", shape.name, printable(option)).into())
    }

    fn command(self) -> Result<Command, lexopt::Error> {
        let shape = self.shape()?;
        if let Some(surplus) = self.words.get(shape.words + 1) {
            return Err(format!("`{}` is one word too many for `{}`", printable(surplus), shape.name).into());
        }
        if self.help {
            return Ok(Command::Help(Some(shape.name)));
        }
        let (word, given) = (self.words.into_iter().nth(1), self.given);
        let integration = |example: &str| {
            let missing =
                format!("`{0}` needs the name of an integration, as in `{0} {example}`", shape.name);
            word.clone().ok_or(missing)
        };
        let json = given.json;
        Ok(match shape.name {
            "run" => Command::Run,
            "check" => Command::Check,
            "status" => Command::Status { json },
            "history" => Command::History(HistoryOptions {
                integration: word,
                device: given.device,
                since: given.since,
                failed: given.failed,
                json,
            }),
            "devices" => Command::Devices { json },
            "watch" => Command::Watch { json },
            "pause" => Command::Pause { integration: integration("factory-api")? },
            "resume" => Command::Resume { integration: integration("factory-api")? },
            "kick" => Command::Kick,
            "dead" => Command::Dead { integration: integration("factory-api")?, json },
            "replay" => Command::Replay(ReplayOptions {
                integration: integration("factory-api --dead")?,
                what: replayed(&given)?,
            }),
            "purge" => Command::Purge { integration: integration("factory-api")?, yes: given.yes },
            "test" => Command::Test(TestOptions {
                integration: integration("factory-api")?,
                device: given.device,
                payload: given.payload,
                port: given.port,
                json,
            }),
            "spool" => spool(word.as_deref(), given)?,
            "doctor" => Command::Doctor { json },
            "example" => Command::Example { name: word },
            "reload" => Command::Reload,
            "apply" => Command::Apply {
                new: word.ok_or("`apply` needs a config, as in `apply new.toml --confirm 120s`")?.into(),
                confirm: given.confirm.unwrap_or(CONFIRM_USUALLY),
            },
            "confirm" => Command::Confirm,
            "decode" => Command::Decode(decode_options(given, word)?),
            "simulate" => {
                let default = SimulateOptions::default();
                Command::Simulate(SimulateOptions {
                    to: given.to.unwrap_or(default.to),
                    rate: given.rate.unwrap_or(default.rate),
                    count: given.count.unwrap_or(default.count),
                    devices: given.devices.unwrap_or(default.devices),
                })
            }
            "demo" => {
                let default = DemoOptions::default();
                Command::Demo(DemoOptions {
                    before: given.before.unwrap_or(default.before),
                    outage: given.outage.unwrap_or(default.outage),
                })
            }
            "version" => Command::Version,
            _ => Command::Help(
                word.and_then(|topic| SHAPES.iter().map(|shape| shape.name).find(|known| **known == *topic)),
            ),
        })
    }
}

fn replayed(given: &Given) -> Result<Replayed, String> {
    match (given.dead, given.since, given.all) {
        (true, None, false) => Ok(Replayed::Dead),
        (false, Some(since), all) => Ok(Replayed::Since { since, all }),
        (true, Some(_), _) => Err("--dead and --since exclude each other".into()),
        (true, None, true) => Err("--all goes with --since: dead letters are the integration's own".into()),
        (false, None, _) => Err("`replay` needs to know what: --dead, or --since 2h".into()),
    }
}

fn spool(word: Option<&str>, given: Given) -> Result<Command, String> {
    const WORDS: [&str; 2] = ["check", "export"];
    let Given { file, dead, integration, json, .. } = given;
    let options = SpoolOptions { file, dead, integration, json };
    match word {
        Some("check") if options.dead || options.integration.is_some() => {
            Err("--dead and --integration go with `spool export`: `spool check` counts everything".into())
        }
        Some("check") => Ok(Command::SpoolCheck(options)),
        // Its lines are JSON anyway.
        Some("export") => Ok(Command::SpoolExport(options)),
        Some(word) => {
            let near = nearest(word, WORDS);
            let hint = near.map_or_else(String::new, |near| format!("; did you mean `spool {near}`?"));
            Err(format!("`spool` does not know `{}`, but check and export{hint}", printable(word)))
        }
        None => Err("`spool` needs to know what: `spool check` or `spool export`".into()),
    }
}

fn decode_options(given: Given, function: Option<String>) -> Result<DecodeOptions, String> {
    let Some(function) = function else {
        return Err("`decode` needs the name of a function, as in `decode silo --hex 01a2 --port 2`".into());
    };
    match (&given.payload, given.port, given.batch) {
        (Some(_), Some(_), false) | (None, _, true) => {}
        (Some(_), _, true) => return Err("--hex and --batch exclude each other".into()),
        (None, _, false) => return Err("`decode` needs the payload: --hex 01a2, or --batch".into()),
        (Some(_), None, false) => return Err("`decode` needs the port of the payload: --port 2".into()),
    }
    let Given { payload, port, batch, json, .. } = given;
    Ok(DecodeOptions { function, bytes: payload, port, batch, json })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read_words(words: &str) -> Result<Args, lexopt::Error> {
        read(lexopt::Parser::from_args(words.split_whitespace()))
    }

    /// What a command needs at least.
    fn least(command: &str) -> &'static str {
        match command {
            "decode" => "f --batch",
            "replay" => "api --dead",
            "spool" => "check",
            "pause" | "resume" | "dead" | "purge" | "test" => "api",
            "apply" => "new.toml",
            _ => "",
        }
    }

    #[test]
    fn every_command_takes_config() {
        for command in
            SHAPES.iter().map(|shape| shape.name).filter(|name| !matches!(*name, "help" | "version"))
        {
            let args = read_words(&format!("{command} {} --config /tmp/x.toml", least(command))).unwrap();
            assert_eq!(args.config, PathBuf::from("/tmp/x.toml"), "{command}");
        }
    }

    #[test]
    fn wrong_words_are_named() {
        for (words, part) in [
            ("statsu", "did you mean `status`"),
            ("run now", "`now`"),
            ("status --jsno", "did you mean --json"),
            ("run --json", "`run` takes no --json"),
            ("history api --since 2", "--since"),
            ("history api --since 0s", "--since"),
            ("history a b", "`b`"),
            ("pause", "name of an integration"),
            ("replay api", "--dead"),
            ("replay api --dead --since 2h", "exclude"),
            ("replay api --dead --all", "--all"),
            ("purge", "purge factory-api"),
            ("spool", "spool check"),
            ("spool chekc", "did you mean `spool check`"),
            ("spool check --dead", "spool export"),
            ("spool export --fiel x", "did you mean --file"),
            ("test", "test factory-api"),
            ("test api --payload 1", "hexadecimal"),
            ("apply", "new.toml"),
            ("apply x.toml --confirm 1s", "10s"),
            ("simulate --rate 0", "--rate"),
            ("simulate --rate fast", "fast"),
            ("simulate --to nowhere", "nowhere"),
            ("decode", "name of a function"),
            ("decode f g --batch", "`g`"),
            ("decode f", "--hex"),
            ("decode f --hex 01", "--port"),
            ("decode f --hex 012 --port 1", "012"),
            ("decode f --hex 01 --port 256", "256"),
            ("decode f --hex 01 --port 1 --batch", "--batch"),
        ] {
            let message = read_words(words).unwrap_err().to_string();
            assert!(message.contains(part), "{words}: {message}");
        }
    }

    /// Man page and completions are made of the help (tests/manual).
    #[test]
    fn every_command_and_option_stands_in_the_help() {
        let overview = crate::cli::help::text(None);
        for shape in SHAPES {
            assert!(overview.contains(&format!("\n  {} ", shape.name)), "{}", shape.name);
            let text = crate::cli::help::text(Some(shape.name));
            let usage = text.split("\n\n").next().unwrap();
            for option in shape.options {
                assert!(usage.contains(&format!("--{option}")), "{} --{option}: {usage}", shape.name);
            }
        }
    }

    #[test]
    fn no_words_is_help() {
        assert_eq!(read_words("").unwrap().command, Command::Help(None));
        assert_eq!(read_words("status --help").unwrap().command, Command::Help(Some("status")));
        assert_eq!(read_words("help check").unwrap().command, Command::Help(Some("check")));
    }
}
