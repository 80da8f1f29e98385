//! Large and random input.

use std::fmt::Write as _;

use packhorse::config::Problem;
use proptest::prelude::{Just, ProptestConfig, any, prop, prop_assert, prop_oneof, proptest};

use super::{EXAMPLE, line, loaded, parse};

/// Everything is found again in a file of thousands of devices, on one line too; the work does not grow with the square.
#[test]
fn five_thousand_devices() {
    let mut tables = String::new();
    let mut inline = String::from("device = [");
    for number in 0..5000 {
        write!(tables, "[[device]]\nname = \"d{number}\"\ndev_eui = \"{number:016x}\"\nlabels = [\"é\"]\n")
            .unwrap();
        write!(inline, "{{name=\"é{number}\",dev_eui=\"{number:016x}\"}},").unwrap();
    }
    inline.push(']');
    assert_eq!(loaded(parse(&tables)).config.devices.len(), 5000);
    let config = loaded(parse(&inline)).config;
    let name = &config.devices[4999].name;
    let column = inline.split("\"é4999").next().unwrap().chars().count() + 1;
    assert_eq!(usize::try_from(name.place.column).unwrap(), column);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// Invariant 5.
    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = parse(&text);
    }

    /// Invariant 5: what looks like TOML gets further in.
    #[test]
    fn no_toml_like_text_panics(text in "[\\[\\]{}a-d.=\"' \n0-9_#é-]{0,200}") {
        let _ = parse(&text);
    }

    /// Invariant 5: the example with pieces cut out, doubled and overwritten; every problem has a place in the text.
    #[test]
    fn no_mutation_of_the_example_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, "[ -~\néß]{0,6}", any::<bool>()), 1..8)
    ) {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (at, length, put, double) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + length).min(text.len());
            let cut: Vec<char> = text.splice(at..end, put.chars()).collect();
            if double {
                text.splice(at..at, cut.iter().chain(cut.iter()).copied());
            }
        }
        let text: String = text.into_iter().collect();
        if let Err(problems) = parse(&text) {
            prop_assert!(problems.iter().any(Problem::is_error));
            let lines = u32::try_from(text.split('\n').count()).unwrap();
            for problem in &problems {
                prop_assert!((1..=lines).contains(&line(problem)), "{problem}");
            }
        }
    }

    /// Invariant 5: any value for any key of the example.
    #[test]
    fn no_value_panics(at in any::<prop::sample::Index>(), value in prop_oneof![
        Just("\"\"".to_owned()), Just("[]".to_owned()), Just("{}".to_owned()), Just("-9223372036854775809".to_owned()),
        Just("nan".to_owned()), Just("[[{a=[1]}]]".to_owned()), Just("\"99999999999999999999d\"".to_owned()),
        Just("1979-05-27T00:32:00Z".to_owned()), Just("{file=\"\\u0000\"}".to_owned()),
        "\"[ -!#-\\[\\]-~é]{0,30}\"",
    ]) {
        let keys: Vec<usize> = EXAMPLE.match_indices(" = ").map(|(at, _)| at).collect();
        let from = keys[at.index(keys.len())];
        let end = EXAMPLE[from..].find('\n').unwrap() + from;
        let _ = parse(&format!("{} = {value}{}", &EXAMPLE[..from], &EXAMPLE[end..]));
    }
}
