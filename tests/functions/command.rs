//! `packhorse decode` as a person or a script meets it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::{Folder, packhorse};

fn run(folder: &Folder, words: &str, stdin: &str) -> Output {
    let mut child = Command::new(packhorse())
        .arg("decode")
        .args(words.split_whitespace())
        .arg("--config")
        .arg(folder.path("packhorse.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || to.write_all(stdin.as_bytes()));
        child.wait_with_output().unwrap()
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A config with one function and nothing else.
fn folder(source: &str, more: &str) -> Folder {
    let folder = Folder::new();
    let config = folder.script("silo", source, more);
    std::fs::write(folder.path("packhorse.toml"), config).unwrap();
    folder
}

const SILO: &str = "function decodeUplink(input) {
  if (input.fPort === 9) return null;
  if (input.bytes.length < 2) return {errors: ['too short']};
  if (input.fPort === 66) while (1) {}
  if (input.fPort === 77) return {data: {x: new Array(1e9).join('')}};
  console.log('level', input.bytes[1]);
  return {data: {level_cm: input.bytes[0] << 8 | input.bytes[1], site: input.variables.site,
                 year: input.recvTime.getFullYear()}};
}";

#[test]
fn one_payload() {
    let folder = folder(SILO, "");
    let output = run(&folder, "silo --hex 00:B6 --port 2 --json", "");
    let line = text(&output.stdout);
    assert_eq!(line.lines().count(), 1);
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&answer["data"]["level_cm"], &answer["warnings"]), (&json!(182), &json!([])));
    assert_eq!(answer.as_object().unwrap().len(), 2, "{line}");
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), "console: level 182\n"));

    let output = run(&folder, "silo --hex 00 --port 2 --json", "");
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str()),
        (Some(1), "{\"errors\":[\"too short\"]}\n")
    );

    let shown = text(&run(&folder, "silo --hex 00b6 --port 2", "").stdout);
    assert!(shown.starts_with("{\n  \"data\": {\n    \"level_cm\": 182,"), "{shown}");
}

#[test]
fn null_is_an_error_unless_it_drops() {
    let output = run(&folder(SILO, ""), "silo --hex 00b6 --port 9 --json", "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("returned null"));
    let output = run(&folder(SILO, "drop_null = true"), "silo --hex 00b6 --port 9 --json", "");
    assert_eq!(output.status.code(), Some(0));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(answer["data"].is_null() && text(&output.stdout).contains("drop_null"));
}

#[test]
fn an_unknown_function_is_exit_2_and_its_name() {
    let output = run(&folder(SILO, ""), "sillo --hex 00 --port 2", "");
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("\"sillo\"") && said.contains("did you mean \"silo\"?"), "{said}");
}

#[test]
fn a_script_that_does_not_parse_is_exit_1_with_its_place() {
    let folder = folder("function decodeUplink(input) {\n  return {;\n}", "");
    let output = run(&folder, "silo --hex 00 --port 2 --json", "");
    assert_eq!(output.status.code(), Some(1));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(answer["errors"][0].as_str().unwrap().contains("silo.js:2:"), "{answer}");
    let output = run(&folder, "silo --hex 00 --port 2", "");
    assert!(text(&output.stderr).contains("silo.js:2:") && output.stdout.is_empty());
    let output = run(&folder, "silo --batch", "{\"fPort\":2,\"bytes\":\"00\"}\n\n{\n");
    assert_eq!(text(&output.stdout).lines().count(), 2, "every line that is not empty has an answer");
}

#[test]
fn a_config_that_does_not_load_is_exit_1() {
    let folder = folder(SILO, "time_limt = \"1s\"");
    let output = run(&folder, "silo --hex 00 --port 2 --json", "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("time_limt"), "{output:?}");
}

#[test]
fn a_batch_answers_every_line_in_order_and_survives_hanging_ones() {
    let folder = folder(SILO, "time_limit = \"20ms\"");
    let long = format!("{{\"fPort\":2,\"bytes\":\"{}\"}}", "00".repeat(1 << 20));
    let lines: Vec<(&str, &str)> = [
        (
            r#"{"fPort":2,"bytes":"00b6","recvTime":"2019-05-06T07:08:09Z","variables":{"site":"north"}}"#,
            r#"{"data":{"level_cm":182,"site":"north","year":2019},"warnings":[]}"#,
        ),
        (
            r#"{"bytes":[1,0],"recvTime":"2019-05-06T07:08:09+02:00"}"#,
            r#"{"data":{"level_cm":256,"year":2019},"warnings":[]}"#,
        ),
        ("nonsense", "can't be read"),
        (r#"{"fPort":2}"#, "bytes"),
        (r#"{"fPort":2,"bytes":"0"}"#, "not hexadecimal"),
        (r#"{"fPort":2,"bytes":[256]}"#, "from 0 to 255"),
        (r#"{"fPort":256,"bytes":"00b6"}"#, "256"),
        (r#"{"fPort":2,"bytes":"00b6","recvTime":"today"}"#, "RFC 3339"),
        (&long, "longer than"),
    ]
    .into_iter()
    .chain(std::iter::repeat_n((r#"{"fPort":66,"bytes":"0000"}"#, "time limit of 20 ms"), 7))
    .chain([
        (r#"{"fPort":77,"bytes":"0000"}"#, "killed"),
        (r#"{"fPort":1,"bytes":"0007"}"#, r#""level_cm":7"#),
    ])
    .collect();
    let stdin: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
    let output = run(&folder, "silo --batch --port 3", stdin.trim_end());
    let answers = text(&output.stdout);
    assert_eq!(answers.lines().count(), lines.len(), "{answers}");
    for ((line, wanted), answer) in lines.iter().zip(answers.lines()) {
        let _: Value = serde_json::from_str(answer).unwrap();
        let line = line.get(..80).unwrap_or(line);
        assert!(answer.contains(wanted), "{line}\n  gave {answer}\n  wanted {wanted}");
    }
    assert_eq!(output.status.code(), Some(1), "not all decoded");
    let output = run(&folder, "silo --batch", "{\"fPort\":2,\"bytes\":\"00b6\"}\n");
    assert_eq!(output.status.code(), Some(0));
}
