//! Scripts in the shapes that vendors publish, with what they must decode to. Each `codecs/NAME.js` has its examples in
//! `codecs/NAME.json`: a list of `{input, output}`, the input as a function gets it with the bytes in hexadecimal.

use std::collections::BTreeMap;
use std::path::Path;

use packhorse::render::function::{Decoding, Input};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Folder, packhorse};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    about: String,
    input: ExampleInput,
    output: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ExampleInput {
    bytes: String,
    f_port: u8,
    #[serde(default)]
    recv_time_us: Option<i64>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default)]
    uplink: Value,
}

#[test]
fn codecs_decode_as_their_examples_say() {
    let codecs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/functions/codecs");
    let mut names: Vec<String> = std::fs::read_dir(&codecs)
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".js")?.to_owned()))
        .collect();
    names.sort();
    assert!(names.len() >= 8, "{names:?}");
    let table = |name: &String| format!("[function.{name}]\nfile = \"{}/{name}.js\"\n", codecs.display());
    let folder = Folder::new();
    let functions = folder.try_functions(&names.iter().map(table).collect::<String>(), &packhorse()).unwrap();
    for name in names {
        let examples = std::fs::read(codecs.join(format!("{name}.json"))).unwrap();
        let examples: Vec<Example> = serde_json::from_slice(&examples).unwrap();
        for example in examples {
            let input = Input {
                uplink_id: Uuid::now_v7(),
                bytes: data_encoding::HEXLOWER.decode(example.input.bytes.as_bytes()).unwrap(),
                f_port: example.input.f_port,
                recv_time_us: example.input.recv_time_us,
                variables: example.input.variables,
                uplink: example.input.uplink.to_string(),
            };
            let output = functions.call(&name, &input);
            let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            let got = match &output.decoding {
                Decoding::Decoded { data, warnings, normalized: None } => {
                    json!({"data": parsed(data.get()), "warnings": warnings})
                }
                Decoding::Decoded { data, warnings, normalized: Some(normalized) } => {
                    json!({"data": parsed(data.get()), "warnings": warnings, "normalized": parsed(normalized.get())})
                }
                Decoding::Null => Value::Null,
                Decoding::Failed { errors } => json!({"errors": errors}),
            };
            assert_eq!(got, example.output, "{name}: {}", example.about);
        }
    }
}
