//! What is found before any uplink comes.

use super::{Folder, Problem, packhorse};

fn problems(folder: &Folder, config: &str) -> Vec<Problem> {
    folder.try_functions(config, &packhorse()).unwrap_err()
}

#[test]
fn every_mistake_of_every_script_has_its_place() {
    let folder = Folder::new();
    let tables: String = [
        ("good", "var decodeUplink = function () {};"),
        ("syntax", "function decodeUplink(input) {\n  return { data: ; };\n}\n"),
        ("cut", "function decodeUplink(input) {\n  return {"),
        ("module", "\nexport function decodeUplink(input) { return {data: {}}; }"),
        ("throws", "var x = 1;\n\n  x.y.z = 2;\nfunction Decode() {}"),
        ("nothing", "function decodeUplnk(input) {}"),
        ("variable", "var decodeUplink = {};"),
        ("empty", ""),
        ("spins", "while (1) {}\nfunction decodeUplink() {}"),
        ("fills", "var a = []; while (1) a.push([1]);"),
    ]
    .map(|(name, source)| folder.script(name, source, "time_limit = \"300ms\""))
    .concat();
    let tables = tables + "[function.gone]\nfile = \"gone.js\"\n[function.folder]\nfile = \".\"\n";
    let found = problems(&folder, &tables);
    let found: Vec<String> = found
        .iter()
        .map(|problem| problem.to_string().replace(&format!("{}/", folder.0.path().display()), ""))
        .collect();
    for (file, key, part) in [
        ("syntax.js:2:18", "function.syntax: SyntaxError", "unexpected token"),
        ("cut.js:2:", "function.cut: SyntaxError", ""),
        ("module.js:2:", "function.module: SyntaxError", ""),
        ("throws.js:3:", "function.throws: TypeError", "undefined"),
        ("nothing.js:1:1", "function.nothing: ", "no entry point"),
        ("variable.js:1:1", "function.variable: ", "no entry point"),
        ("empty.js:1:1", "function.empty: ", "no entry point"),
        ("spins.js:1:1", "function.spins: ", "time limit of 300 ms"),
        ("fills.js:1:1", "function.fills: ", "memory limit"),
        ("packhorse.toml:32:8", "function.gone.file: ", "cannot be read"),
        ("packhorse.toml:34:8", "function.folder.file: ", "not a regular file"),
    ] {
        assert!(
            found.iter().any(|text| text.starts_with(file) && text.contains(key) && text.contains(part)),
            "{file} {key}{part} in {found:#?}"
        );
    }
    assert_eq!(found.len(), 11, "{found:#?}");
}

#[test]
fn a_top_level_that_can_not_be_interrupted_ends_the_check_too() {
    let folder = Folder::new();
    let script = folder.script("f", "new Array(1e9).join(''); function decodeUplink() {}", "");
    let found = problems(&folder, &script);
    assert!(found[0].message.contains("top level") && found[0].message.contains("killed"), "{found:?}");
}

#[test]
fn entry_points_may_be_declared_in_any_way() {
    for (source, wanted) in [
        ("function decodeUplink() { return {data: {n: 1}}; } function Decoder() { return 2; }", r#"{"n":1}"#),
        ("const decodeUplink = () => ({data: {n: 1}});", r#"{"n":1}"#),
        ("let Decoder = function () { return 2; }", "2"),
        ("this.Decode = (p, b) => [p, b.length];", "[7,3]"),
        ("class C {} var Decode = C; function Decoder(b, p) { return [p, b.length]; }", "[7,3]"),
        ("module.exports = { decodeUplink: function () { return {data: {n: 1}}; } };", r#"{"n":1}"#),
        ("exports.Decoder = function () { return 2; };", "2"),
        ("let module = {}, exports; function Decoder() { return 2; }", "2"),
        (
            "if (typeof module !== 'undefined') { module.exports = null; } function Decoder() { return 2; }",
            "2",
        ),
        ("'use strict'; function decodeUplink() { return {data: {n: 1}}; }", r#"{"n":1}"#),
        ("function Decoder(a, a) { with ({x: 010}) { return x; } }", "8"),
    ] {
        let (_folder, functions) = super::function(source);
        let output = super::decode(&functions, 7);
        let super::Decoding::Decoded { data, .. } = &output.decoding else { panic!("{source}: {output:?}") };
        assert_eq!(data.get(), wanted, "{source}");
    }
}
