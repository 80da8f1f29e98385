//! `packhorse decode`: a payload, or many, through a function of the config.

mod pretty;

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::clock::{Clock, SystemClock, us_of_rfc3339};
use crate::config::{Config, Function, Problem};
use crate::printable::printable;
use crate::render::function::{Decoding, Functions, Input, Options, Output};

use super::args::{DecodeOptions, hex};
use super::{Exit, say};

/// The longest line of a batch, in bytes.
const MAX_LINE: u64 = 1 << 20;

/// The line that is printed, a contract.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer<'a> {
    Good {
        data: &'a RawValue,
        warnings: &'a [String],
        #[serde(skip_serializing_if = "Option::is_none")]
        normalized: Option<&'a RawValue>,
    },
    Dropped {
        data: (),
        warnings: [&'static str; 1],
    },
    Bad {
        errors: &'a [String],
    },
}

/// One line of a batch.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    f_port: Option<u8>,
    bytes: Bytes,
    recv_time: Option<String>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "bytes is hexadecimal text or a list of numbers from 0 to 255")]
enum Bytes {
    Hex(String),
    List(Vec<u8>),
}

/// A function, ready to be called.
struct Decoder {
    functions: Functions,
    name: String,
    drop_null: bool,
}

pub(super) fn decode(config: &Path, options: &DecodeOptions) -> Exit {
    let function = match find(config, &options.function) {
        Ok(function) => function,
        Err(NotFound::Config(problems)) => {
            complain(&problems, options.json);
            return Exit::Bad;
        }
        Err(NotFound::Function(text)) => {
            eprintln!("packhorse: {text}");
            return Exit::Usage;
        }
    };
    // A hanging payload must not cost its neighbours in a batch their answers.
    let how = Options { suspend: false, ..Options::default() };
    let decoder = Functions::try_new_with(std::slice::from_ref(&function), how).map(|functions| Decoder {
        functions,
        name: function.name.value.clone(),
        drop_null: function.drop_null,
    });
    if options.batch {
        return batch(decoder, options.port, &mut std::io::stdin().lock(), &mut std::io::stdout());
    }
    match decoder {
        Ok(decoder) => decoder.one(options),
        Err(problems) => {
            complain(&problems, options.json);
            Exit::Bad
        }
    }
}

enum NotFound {
    Config(Vec<Problem>),
    Function(String),
}

fn find(config: &Path, name: &str) -> Result<Function, NotFound> {
    let mut functions = Config::load(config).map_err(NotFound::Config)?.config.functions;
    if let Some(at) = functions.iter().position(|function| function.name.value == name) {
        return Ok(functions.swap_remove(at));
    }
    let near = |function: &&Function| strsim::jaro_winkler(&function.name.value, name);
    let nearest = functions.iter().max_by(|a, b| near(a).total_cmp(&near(b))).filter(|best| near(best) > 0.7);
    let hint = match nearest {
        Some(function) => format!("; did you mean {:?}?", function.name.value),
        None if functions.is_empty() => "; it has none".to_owned(),
        None => String::new(),
    };
    Err(NotFound::Function(format!(
        "there is no function {:?} in {}{hint}",
        printable(name),
        config.display()
    )))
}

impl Decoder {
    fn call(
        &self,
        bytes: Vec<u8>,
        f_port: u8,
        recv_time_us: i64,
        variables: BTreeMap<String, String>,
    ) -> (String, bool) {
        let input = Input {
            // One of its own for each: a repeated payload is decoded again.
            uplink_id: Uuid::now_v7(),
            bytes,
            f_port,
            recv_time_us: Some(recv_time_us),
            variables,
            uplink: String::new(),
        };
        let output = self.functions.call(&self.name, &input);
        for line in &output.console {
            eprintln!("console: {}", line.text);
        }
        self.answer(&output)
    }

    /// The line, and whether it is a good one.
    fn answer(&self, output: &Output) -> (String, bool) {
        match &output.decoding {
            Decoding::Decoded { data, warnings, normalized } => {
                (line(&Answer::Good { data, normalized: normalized.as_deref(), warnings }), true)
            }
            Decoding::Null if self.drop_null => {
                let warnings = ["the function returned null: the uplink is dropped (drop_null = true)"];
                (line(&Answer::Dropped { data: (), warnings }), true)
            }
            Decoding::Null => (bad("the function returned null".to_owned()), false),
            Decoding::Failed { errors } => (line(&Answer::Bad { errors }), false),
        }
    }

    fn one(&self, options: &DecodeOptions) -> Exit {
        let (bytes, port) = (options.bytes.clone().unwrap_or_default(), options.port.unwrap_or_default());
        let (text, good) = self.call(bytes, port, now_us(), BTreeMap::new());
        say(if options.json { text } else { pretty::pretty(&text) });
        if good { Exit::Done } else { Exit::Bad }
    }

    fn line(&self, text: &[u8], port: Option<u8>) -> Result<(String, bool), String> {
        let line: Line =
            serde_json::from_slice(text).map_err(|error| format!("the line can't be read: {error}"))?;
        let bytes = match line.bytes {
            Bytes::Hex(text) => hex(&text)?,
            Bytes::List(bytes) => bytes,
        };
        let port = line.f_port.or(port).ok_or("the line has no fPort, and there is no --port")?;
        let time = match line.recv_time {
            Some(text) => us_of_rfc3339(&text).ok_or_else(|| format!("recvTime {text:?} is not RFC 3339"))?,
            None => now_us(),
        };
        Ok(self.call(bytes, port, time, line.variables))
    }
}

/// Answers every line until the input ends, also those that can't be read, and all of them if the function can't be
/// called at all.
fn batch(
    decoder: Result<Decoder, Vec<Problem>>,
    port: Option<u8>,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> Exit {
    let mut all_good = true;
    let mut text = Vec::new();
    loop {
        text.clear();
        match input.take(MAX_LINE).read_until(b'\n', &mut text) {
            Ok(0) => break,
            Ok(_) if text.trim_ascii().is_empty() => continue,
            Ok(_) => {}
            Err(error) => {
                eprintln!("packhorse: standard input: {error}");
                return Exit::Bad;
            }
        }
        let whole = text.ends_with(b"\n") || text.len() < usize::try_from(MAX_LINE).unwrap_or(usize::MAX);
        let answered = match &decoder {
            _ if !whole => skip_line(input).and(Err(format!("the line is longer than {MAX_LINE} bytes"))),
            Ok(decoder) => decoder.line(&text, port),
            Err(problems) => Ok((line(&Answer::Bad { errors: &texts(problems) }), false)),
        };
        let (answer, good) = answered.unwrap_or_else(|why| (bad(why), false));
        all_good &= good;
        if writeln!(output, "{answer}").is_err() {
            // Nobody reads on: there is no use in decoding on.
            return Exit::Bad;
        }
    }
    if all_good { Exit::Done } else { Exit::Bad }
}

/// Reads the rest of a line that is too long, without keeping it.
fn skip_line(input: &mut impl BufRead) -> Result<(), String> {
    loop {
        let part = input.fill_buf().map_err(|error| error.to_string())?;
        let end = part.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(part.len(), |end| end + 1);
        let last = end.is_some() || part.is_empty();
        input.consume(used);
        if last {
            return Ok(());
        }
    }
}

fn complain(problems: &[Problem], json: bool) {
    if json {
        say(line(&Answer::Bad { errors: &texts(problems) }));
    } else {
        problems.iter().for_each(|problem| eprintln!("{problem}"));
    }
}

/// What is wrong, one text each; warnings are for people.
fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().filter(|problem| problem.is_error()).map(Problem::to_string).collect()
}

fn bad(why: String) -> String {
    line(&Answer::Bad { errors: &[why] })
}

fn line(answer: &Answer<'_>) -> String {
    serde_json::to_string(answer).unwrap_or_else(|error| format!("{{\"errors\":[\"{error}\"]}}"))
}

fn now_us() -> i64 {
    SystemClock::new().wall_us()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_answers_every_line_even_if_nothing_can_be_called() {
        let answers = |input: &str| {
            let mut output = Vec::new();
            let exit = batch(Err(vec![]), None, &mut input.as_bytes(), &mut output);
            (exit, String::from_utf8_lossy(&output).into_owned())
        };
        assert_eq!(answers("\n \n"), (Exit::Done, String::new()));
        assert_eq!(answers("{}\nx"), (Exit::Bad, "{\"errors\":[]}\n{\"errors\":[]}\n".to_owned()));
    }

    #[test]
    fn a_batch_ends_with_its_reader() {
        let mut endless =
            std::io::BufReader::new(std::io::repeat(b'\n').take(1 << 20).chain(&b"{}\n{}\n"[..]));
        assert_eq!(batch(Err(vec![]), None, &mut endless, &mut &mut [][..]), Exit::Bad);
    }
}
