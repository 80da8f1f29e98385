//! Keeps `config/uplink.schema.json` true: what is sent is valid under it, and everything it describes can be sent.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::render::testing::{DATA, JOIN, bounded, known_uplink, raw, uplink, with, with_silo};
use crate::uplink::{Flags, Kind, Rx};

const SCHEMA: &str = include_str!("../../../config/uplink.schema.json");

/// The words of JSON Schema that ours uses and that say what is valid; another one must be added to [`check`] first.
const WORDS: [&str; 12] = [
    "type",
    "required",
    "properties",
    "items",
    "enum",
    "const",
    "minimum",
    "maximum",
    "pattern",
    "format",
    "contentEncoding",
    "description",
];

/// What is wrong with `value`, and in `seen` the path of everything in it that the schema knows.
fn check(schema: &Value, value: &Value, path: &str, seen: &mut BTreeSet<String>) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{path}: {what} says the schema, not {value}"));
    seen.insert(path.to_owned());
    for word in schema.as_object().unwrap().keys().filter(|word| !word.starts_with('$') && *word != "title") {
        assert!(WORDS.contains(&word.as_str()), "{word}");
    }
    let is_type = match schema["type"].as_str() {
        None => true,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        Some(other) => panic!("{other}"),
    };
    if !is_type {
        return wrong(&schema["type"].to_string());
    }
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
        return wrong(&schema["enum"].to_string());
    }
    if schema.get("const").is_some_and(|only| only != value) {
        return wrong(&schema["const"].to_string());
    }
    let number = value.as_f64().unwrap_or_default();
    if schema["minimum"].as_f64().is_some_and(|least| number < least)
        || schema["maximum"].as_f64().is_some_and(|most| number > most)
    {
        return wrong("a range");
    }
    if schema["pattern"].as_str().is_some_and(|pattern| !fits(pattern, value.as_str().unwrap())) {
        return wrong(&schema["pattern"].to_string());
    }
    if schema["contentEncoding"].as_str().is_some()
        && data_encoding::BASE64.decode(value.as_str().unwrap().as_bytes()).is_err()
    {
        return wrong("base64");
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap()).is_none() {
            return wrong(&format!("{name}"));
        }
    }
    if let Some(properties) = schema["properties"].as_object() {
        for (name, member) in value.as_object().unwrap() {
            let Some(schema) = properties.get(name) else { return wrong(&format!("no {name}")) };
            check(schema, member, &format!("{path}/{name}"), seen)?;
        }
    }
    if let Some(items) = schema.get("items") {
        for item in value.as_array().unwrap() {
            check(items, item, &format!("{path}/*"), seen)?;
        }
    }
    Ok(())
}

/// Patterns of ours are `[0-9a-f]{n}`, several of them joined by `-`.
fn fits(pattern: &str, text: &str) -> bool {
    let lengths = pattern.split('{').skip(1).map(|rest| rest.split('}').next().unwrap().parse().unwrap());
    let lengths: Vec<usize> = lengths.collect();
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex = |part: &&str| part.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    parts.iter().map(|part| part.len()).eq(lengths) && parts.iter().all(is_hex)
}

/// The paths of all that the schema describes.
fn described(schema: &Value, path: &str, all: &mut BTreeSet<String>) {
    all.insert(path.to_owned());
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        described(member, &format!("{path}/{name}"), all);
    }
    if let Some(items) = schema.get("items") {
        described(items, &format!("{path}/*"), all);
    }
}

#[test]
fn every_body_is_valid_and_every_member_occurs() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let mut seen = BTreeSet::new();
    let mut judge = |message: &Message<'_>| {
        let body: Value = serde_json::from_slice(&text(Format::Json, message).unwrap()).unwrap();
        check(&schema, &body, "", &mut seen).unwrap();
        // What templates read is the body; the schema knows every name of it.
        for name in ["type", "id", "gateway"] {
            assert_eq!(message.context()[name], body[name]);
        }
    };
    for (kind, hex) in [(Kind::Lorawan, DATA), (Kind::Join, JOIN), (Kind::Other, "ff00"), (Kind::Other, "")] {
        with(&uplink(kind, hex), |message| judge(message));
    }
    with(&known_uplink(), |message| judge(message));
    let mut bare = uplink(Kind::Other, "");
    bare.rx = Rx::default();
    bare.at.wall_us = i64::MAX;
    bare.flags = Flags { retransmission: true, simulated: true, ..Flags::default() };
    with(&bare, |message| judge(message));
    with_silo(&known_uplink(), |message| {
        message.replay = true;
        message.heard = bounded();
        message.f_cnt = Some(u32::MAX);
        message.decoding.data = Some(raw("[null]"));
        message.decoding.normalized = Some(raw("{}"));
        message.decoding.warnings.push("low".to_owned());
        judge(message);
    });
    let mut all = BTreeSet::new();
    described(&schema, "", &mut all);
    assert_eq!(all.difference(&seen).collect::<Vec<_>>(), Vec::<&String>::new(), "described, but never sent");
}

#[test]
fn the_checker_finds_what_is_wrong() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let good: Value = with_silo(&known_uplink(), |message| {
        serde_json::from_slice(&text(Format::Json, message).unwrap()).unwrap()
    });
    for (pointer, value) in [
        ("/type", "uplinks".into()),
        ("/id", "01936b1e".into()),
        ("/device/dev_eui", "0004A30B001C0530".into()),
        ("/f_port", 256.into()),
        ("/f_cnt", "2".into()),
        ("/payload", "?".into()),
        ("/device/labels/0", 1.into()),
        ("/gateway", serde_json::json!({})),
        ("/rx", serde_json::json!({ "rsi": 1 })),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert!(check(&schema, &bad, "", &mut BTreeSet::new()).is_err(), "{pointer}");
    }
}
