//! `check` tries every template of a configuration: what could not be sent is found before the first uplink, with its place.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;

use packhorse::agent::Agent;
use packhorse::config::{Config, Problem};

const HTTP: &str = "[integration.api]\ntype = \"http\"\nurl = \"http://localhost/\"\n";
const MQTT: &str = "[integration.api]\ntype = \"mqtt\"\nurl = \"mqtt://localhost\"\n";

fn problems(text: &str) -> Vec<Problem> {
    let config = Config::parse(text, Path::new("/nowhere/packhorse.toml")).unwrap().config;
    Agent::try_new(config).err().unwrap_or_default()
}

#[test]
fn every_template_that_could_not_be_sent_is_an_error_at_its_key() {
    for (text, key, line, says) in [
        (
            format!("{HTTP}body = '{{\"n\": x}}'"),
            "body",
            4,
            "expected value (line 1, column 7 of the template)",
        ),
        (
            format!("{HTTP}body = '''\n{{\n  \"n\": {{{{f_cnt}}}}\n  \"p\": 1\n}}'''"),
            "body",
            4,
            "(line 3, column 3 of the template)",
        ),
        (format!("{HTTP}body = 'n={{{{f_cnt}}}}'"), "body", 4, "set content_type"),
        (format!("{HTTP}body = '[{{{{rx.rsi}}}}]'"), "body", 4, "did you mean `rx.rssi`?"),
        (format!("{HTTP}content_type = \"xml\"\nbody = '<a>{{{{f_cnt}}</a>'"), "body", 5, "without"),
        (
            format!("{HTTP}headers = {{ X-Site = \"{{{{device.nam}}}}\" }}"),
            "headers.X-Site",
            4,
            "did you mean",
        ),
        (format!("{MQTT}topic = \"up/{{{{device}}}}\""), "topic", 4, "is a group"),
        (format!("{MQTT}body = '{{\"n\": {{{{f_cnt}}}}'"), "body", 4, "EOF"),
        (
            "[integration.api]\ntype = \"http\"\nurl = \"http://localhost/{{device.deveui}}\"\n".to_owned(),
            "url",
            3,
            "did you mean `device.dev_eui`?",
        ),
    ] {
        let problems = problems(&text);
        assert_eq!(problems.len(), 1, "{text}\n{problems:?}");
        let (problem, shown) = (&problems[0], problems[0].to_string());
        assert_eq!(problem.key, format!("integration.api.{key}"), "{shown}");
        assert_eq!(problem.place.as_ref().map(|place| place.line), Some(line), "{shown}");
        assert!(problem.is_error() && shown.contains(says), "{text}\n{shown}");
    }
}

#[test]
fn every_template_that_can_be_sent_passes() {
    for text in [
        format!(
            "{HTTP}body = '{{\"n\": {{{{f_cnt}}}}, \"d\": {{{{decoded}}}}, \"s\": \"{{{{device.variables.x}}}} cm\"}}'"
        ),
        format!("{HTTP}content_type = \"form\"\nbody = 'n={{{{f_cnt}}}}'"),
        format!("{HTTP}content_type = \"application/vnd.acme\"\nbody = 'n={{{{f_cnt}}}}'"),
        format!("{HTTP}content_type = \"binary\"\nformat = \"tts\""),
        format!("{HTTP}headers = {{ X-Site = \"{{{{device.variables.site}}}}\" }}"),
        format!("{MQTT}topic = \"/v1.6/devices/{{{{device.name}}}}\"\nbody = '{{{{decoded.level_cm}}}}'"),
    ] {
        assert_eq!(problems(&text), Vec::new(), "{text}");
    }
}

/// What the documentation shows works as it stands.
#[test]
fn the_examples_of_the_documentation_pass() {
    for (name, page) in
        [("formats.md", include_str!("../config/formats.md")), ("README.md", include_str!("../README.md"))]
    {
        let examples: Vec<&str> = page
            .split("```toml\n")
            .skip(1)
            .filter_map(|rest| rest.split("```\n").next())
            .filter(|example| !example.contains("file = "))
            .collect();
        assert!(!examples.is_empty(), "{name}");
        for example in examples {
            assert_eq!(problems(example), Vec::new(), "{name}:\n{example}");
        }
    }
}
