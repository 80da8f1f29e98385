//! From words to a [`Command`].

use std::net::SocketAddr;
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::printable::printable;

/// Where packages install the config.
const DEFAULT_CONFIG: &str = "/etc/packhorse/packhorse.toml";

/// All commands, for help and did-you-mean.
pub(super) const COMMANDS: &[&str] =
    &["run", "check", "status", "decode", "simulate", "demo", "help", "version"];

/// What was asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Args {
    pub(super) command: Command,
    pub(super) config: PathBuf,
    pub(super) verbose: bool,
}

#[derive(Debug, PartialEq)]
pub(super) enum Command {
    Help(Option<&'static str>),
    Version,
    Run,
    Check,
    Status { json: bool },
    Decode(DecodeOptions),
    Simulate(SimulateOptions),
    Demo(DemoOptions),
}

/// Options of `decode`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DecodeOptions {
    /// The function's name.
    pub(super) function: String,
    /// The payload; not with `batch`.
    pub(super) bytes: Option<Vec<u8>>,
    /// The port; with `batch` the one of lines that name none.
    pub(super) port: Option<u8>,
    /// Whether payloads come line by line on standard input.
    pub(super) batch: bool,
    /// One line of JSON.
    pub(super) json: bool,
}

/// Options of `simulate`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SimulateOptions {
    /// Where the agent listens.
    pub(super) to: SocketAddr,
    /// Uplinks a second.
    pub(super) rate: f64,
    /// Uplinks in all; 0: until interrupted.
    pub(super) count: u64,
    /// Devices.
    pub(super) devices: u16,
}

/// Options of `demo`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DemoOptions {
    /// Uplinks before the outage.
    pub(super) before: u64,
    /// Uplinks during the outage.
    pub(super) outage: u64,
}

/// Fastest `simulate` rate, uplinks a second: a concentrator hears far fewer.
const MAX_RATE: f64 = 10_000.0;

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

/// Reads the command line.
pub(super) fn read(mut parser: lexopt::Parser) -> Result<Args, lexopt::Error> {
    let mut words: Vec<String> = Vec::new();
    let mut config = PathBuf::from(DEFAULT_CONFIG);
    let (mut verbose, mut json, mut help) = (false, false, false);
    let mut decode = DecodeOptions::default();
    let mut simulate = SimulateOptions::default();
    let mut demo = DemoOptions::default();
    while let Some(arg) = parser.next()? {
        let command = words.first().cloned().unwrap_or_default();
        match (arg, command.as_str()) {
            (Value(word), _) => words.push(word.string()?),
            (Short('h') | Long("help"), _) => help = true,
            (Short('V') | Long("version"), _) => words.insert(0, "version".into()),
            (Short('v') | Long("verbose"), _) => verbose = true,
            (Short('c') | Long("config"), _) => config = parser.value()?.into(),
            (Long("json"), "status") => json = true,
            (Long("json"), "decode") => decode.json = true,
            (Long("batch"), "decode") => decode.batch = true,
            (Long("hex"), "decode") => decode.bytes = Some(hex(&parser.value()?.string()?)?),
            (Long("port"), "decode") => decode.port = Some(parser.value()?.parse()?),
            (Long("to"), "simulate") => simulate.to = parser.value()?.parse()?,
            (Long("rate"), "simulate") => simulate.rate = rate(&parser.value()?.string()?)?,
            (Long("count"), "simulate") => simulate.count = parser.value()?.parse()?,
            (Long("devices"), "simulate") => simulate.devices = parser.value()?.parse::<u16>()?.max(1),
            (Long("before"), "demo") => demo.before = parser.value()?.parse()?,
            (Long("outage"), "demo") => demo.outage = parser.value()?.parse()?,
            (other, _) => return Err(other.unexpected()),
        }
    }
    let command = command_of(&words, help, Options { json, decode, simulate, demo })?;
    Ok(Args { command, config, verbose })
}

/// What was read for commands that may not be meant.
struct Options {
    json: bool,
    decode: DecodeOptions,
    simulate: SimulateOptions,
    demo: DemoOptions,
}

fn command_of(words: &[String], help: bool, options: Options) -> Result<Command, lexopt::Error> {
    let name = words.first().map_or("help", String::as_str);
    let Some(known) = COMMANDS.iter().find(|known| **known == name) else {
        let near = COMMANDS
            .iter()
            .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
        let near = near.filter(|near| strsim::jaro_winkler(near, name) > 0.75);
        let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        return Err(format!("there is no command `{name}`{hint}").into());
    };
    let topic = if *known == "help" { words.get(1) } else { None };
    if let Some(surplus) = words.get(if topic.is_some() || *known == "decode" { 2 } else { 1 }) {
        return Err(format!("`{surplus}` is one word too many for `{name}`").into());
    }
    if help {
        return Ok(Command::Help(Some(known)));
    }
    Ok(match *known {
        "run" => Command::Run,
        "check" => Command::Check,
        "status" => Command::Status { json: options.json },
        "decode" => Command::Decode(decode_options(options.decode, words.get(1))?),
        "simulate" => Command::Simulate(options.simulate),
        "demo" => Command::Demo(options.demo),
        "version" => Command::Version,
        _ => Command::Help(
            topic.and_then(|topic| COMMANDS.iter().find(|known| **known == topic.as_str())).copied(),
        ),
    })
}

fn decode_options(options: DecodeOptions, function: Option<&String>) -> Result<DecodeOptions, lexopt::Error> {
    let Some(function) = function else {
        return Err("`decode` needs the name of a function, as in `decode silo --hex 01a2 --port 2`".into());
    };
    match (&options.bytes, options.port, options.batch) {
        (Some(_), Some(_), false) | (None, _, true) => {}
        (Some(_), _, true) => return Err("--hex and --batch exclude each other".into()),
        (None, _, false) => return Err("`decode` needs the payload: --hex 01a2, or --batch".into()),
        (Some(_), None, false) => return Err("`decode` needs the port of the payload: --port 2".into()),
    }
    Ok(DecodeOptions { function: function.clone(), ..options })
}

/// Hexadecimal as people copy it: any case, with or without blanks, colons, dashes and a leading `0x`.
pub(super) fn hex(text: &str) -> Result<Vec<u8>, String> {
    let plain = text.trim().trim_start_matches("0x").trim_start_matches("0X");
    let digits: String = plain.chars().filter(|c| !matches!(c, ' ' | ':' | '-')).collect();
    let decoded = data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes());
    decoded.map_err(|_| format!("{:?} is not hexadecimal: two digits a byte, such as 01a2", printable(text)))
}

fn rate(text: &str) -> Result<f64, lexopt::Error> {
    match text.trim_end_matches("/s").parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= MAX_RATE => Ok(rate),
        _ => Err(format!("--rate takes uplinks a second, above 0 and up to {MAX_RATE}; got `{text}`").into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read_words(words: &str) -> Result<Args, lexopt::Error> {
        read(lexopt::Parser::from_args(words.split_whitespace()))
    }

    #[test]
    fn every_command_takes_config() {
        for command in COMMANDS.iter().filter(|name| !matches!(**name, "help" | "version")) {
            let more = if *command == "decode" { "f --batch" } else { "" };
            let args = read_words(&format!("{command} {more} --config /tmp/x.toml")).unwrap();
            assert_eq!(args.config, PathBuf::from("/tmp/x.toml"), "{command}");
        }
    }

    #[test]
    fn wrong_words_are_named() {
        for (words, part) in [
            ("statsu", "did you mean `status`"),
            ("run now", "`now`"),
            ("status --jsno", "--jsno"),
            ("run --json", "--json"),
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

    #[test]
    fn hexadecimal_is_read_as_people_copy_it() {
        for text in ["01a2ff", "01A2FF", "0x01a2ff", "01 a2 ff", "01:A2:ff", " 01-a2-ff"] {
            assert_eq!(hex(text).unwrap(), [1, 0xa2, 0xff], "{text}");
        }
        assert!(hex("").unwrap().is_empty());
        assert!(hex("1").is_err() && hex("zz").is_err());
    }

    #[test]
    fn no_words_is_help() {
        assert_eq!(read_words("").unwrap().command, Command::Help(None));
        assert_eq!(read_words("status --help").unwrap().command, Command::Help(Some("status")));
        assert_eq!(read_words("help check").unwrap().command, Command::Help(Some("check")));
    }
}
