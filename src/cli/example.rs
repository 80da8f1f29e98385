//! `packhorse example`: annotated configs to copy from, without the internet.

use crate::config::nearest;
use crate::printable::printable;

use super::{Exit, say};

/// The files of `config/examples`, and the config that packages install.
const EXAMPLES: &[(&str, &str)] = &[
    ("packhorse", include_str!("../../config/packhorse.toml")),
    ("aws-iot-core", include_str!("../../config/examples/aws-iot-core.toml")),
    ("azure-iot-hub", include_str!("../../config/examples/azure-iot-hub.toml")),
    ("datacake", include_str!("../../config/examples/datacake.toml")),
    ("devices", include_str!("../../config/examples/devices.toml")),
    ("google-pubsub", include_str!("../../config/examples/google-pubsub.toml")),
    ("hivemq-cloud", include_str!("../../config/examples/hivemq-cloud.toml")),
    ("influxdb", include_str!("../../config/examples/influxdb.toml")),
    ("node-red", include_str!("../../config/examples/node-red.toml")),
    ("tagoio", include_str!("../../config/examples/tagoio.toml")),
    ("thingsboard", include_str!("../../config/examples/thingsboard.toml")),
    ("ubidots", include_str!("../../config/examples/ubidots.toml")),
    ("silo-level.js", include_str!("../../config/examples/functions/silo-level.js")),
];

pub(super) fn example(name: Option<&str>) -> Exit {
    let Some(name) = name else {
        for (name, text) in EXAMPLES {
            say(format_args!("  {name:<16} {}", title(text)));
        }
        say("packhorse example NAME > FILE, fill in the words in CAPITALS, packhorse check");
        return Exit::Done;
    };
    match EXAMPLES.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => {
            say(text.trim_end());
            Exit::Done
        }
        None => {
            let near = nearest(name, EXAMPLES.iter().map(|(known, _)| *known));
            let hint = near.map_or_else(
                || "; `packhorse example` lists them".to_owned(),
                |near| format!("; did you mean `{near}`?"),
            );
            eprintln!("packhorse: there is no example {:?}{hint}", printable(name));
            Exit::Usage
        }
    }
}

/// The first sentence of the file.
fn title(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let first = first.trim_start_matches('#').trim_start_matches("//").trim_start();
    super::table::cut(first, super::table::WIDTH - 19)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_example_is_here() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config/examples");
        let files =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<String> =
            files.filter_map(|file| file.strip_suffix(".toml").map(str::to_owned)).collect();
        files.sort();
        let here = EXAMPLES.iter().map(|(name, _)| *name).skip(1);
        let here: Vec<&str> = here.filter(|name| !name.ends_with(".js")).collect();
        assert_eq!(here, files);
        assert!(EXAMPLES.iter().all(|(_, text)| !title(text).is_empty()));
    }
}
