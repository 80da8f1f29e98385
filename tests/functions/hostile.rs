//! Scripts that would take the agent down if they could.

use super::{Decoding, Folder, data, decode, errors, function, input, warnings};

/// Each is called on its own port; port 0 decodes. The text that its error must have.
const HOSTILE: &[(&str, &str)] = &[
    ("while (1) {}", "time limit of 300 ms of CPU time"),
    ("for (;;) { try { while (1) {} } catch (e) {} finally { continue; } }", "time limit"),
    ("/^(a+)+$/.test('a'.repeat(64) + 'b')", "time limit"),
    ("new Array(1e9).join('')", "no answer within 2 s"),
    ("var big = 3n; while (1) { big = big * big % (1n << 200000n) + 7n; }", "no answer within 2 s"),
    ("var bomb = 3n; while (1) bomb = bomb * bomb;", "BigInt is too large"),
    ("var all = []; while (1) all.push(1n << 900000n);", "memory limit of 8 MiB"),
    ("var s = 'x'; while (1) s += s;", "string too long"),
    (
        "var s = 'x'; while (1) { s += s; s.charCodeAt(1); new Function('return ' + s.length); s = s.split('').join('') }",
        "memory limit",
    ),
    ("var all = []; while (1) all.push([all.length]);", "memory limit"),
    ("new ArrayBuffer(1 << 30)", "memory limit"),
    ("(function f() { return 1 + f(); })()", "stack limit of 256 KiB"),
    ("JSON.parse('['.repeat(200000))", "stack limit"),
    ("throw 'x'", "the script threw x"),
    ("throw {code: 7}", r#"the script threw {"code":7}"#),
    ("throw undefined", "the script threw undefined"),
    ("throw null", "threw null"),
    ("throw new RangeError('short payload')", "RangeError: short payload (f.js:"),
    ("nothing.here", "ReferenceError: nothing is not defined (f.js:"),
    ("require('fs')", "ReferenceError: require is not defined"),
    ("return Promise.resolve({data: {}})", "async functions are not supported"),
    ("return (async () => ({data: {}}))()", "async functions are not supported"),
    ("return {data: Promise.resolve({})}", "async functions are not supported"),
    ("var o = {}; o.self = o; return {data: o}", "the result is circular"),
    ("return {data: {n: 1n}}", "BigInt"),
    ("return {data: {get x() { throw new Error('in a getter') }}}", "Error: in a getter"),
    ("return {data: {toJSON() { while (1) {} }}}", "time limit"),
    ("return {data: {text: 'x'.repeat(300000)}}", "larger than 256 KiB"),
    (
        "var deep = {}; for (var i = 0; i < 80; i++) deep = {deep: deep}; return {data: deep}",
        "deeper than 64",
    ),
    ("return 'text'", "a value of type string, not {"),
    ("return {temperature: 21}", "neither data nor errors"),
    ("return {data: [1]}", "data of type array, not an object"),
    ("return {data: 5}", "data of type int, not an object"),
    ("return {data: new Date(0)}", "not an object"),
    ("return {errors: ['unknown frame', 4]}", "unknown frame"),
    ("return {data: {}, errors: 'one text'}", "one text"),
    ("return {get errors() { throw 'no errors for you' }}", "no errors for you"),
    (
        "var e = new Error(); e.toString = e.valueOf = null; Object.defineProperty(e, 'message', {get() { while (1) {} }}); throw e",
        "time limit",
    ),
    (
        "console.log = null; JSON.stringify = JSON.parse = null; Array.prototype.toJSON = Object.prototype.toJSON = function () { throw 'mine' }; return {data: {a: [1]}}",
        "the script threw mine",
    ),
];

#[test]
fn every_attack_has_its_own_error_and_the_next_call_decodes() {
    let folder = Folder::new();
    let cases: String = (1..)
        .zip(HOSTILE)
        .map(|(port, (body, _))| format!("    case {port}: {{ {body}; return; }}\n"))
        .collect();
    let source = format!(
        "function decodeUplink(input) {{\n  switch (input.fPort) {{\n{cases}  }}\n  return {{data: {{port: input.fPort}}}};\n}}"
    );
    let functions = folder.functions(&folder.script("f", source, "time_limit = \"300ms\""));
    for (port, (body, wanted)) in (1..).zip(HOSTILE) {
        let errors = errors(&decode(&functions, port));
        assert!(errors[0].contains(wanted), "{body}\n  gave {errors:?}\n  wanted {wanted:?}");
        assert_eq!(data(&decode(&functions, 0))["port"], 0, "after {body}");
    }
}

#[test]
fn a_call_that_can_not_be_interrupted_is_killed() {
    let (_folder, functions) =
        function("function decodeUplink(i) { return i.fPort ? {data: new Array(1e9).sort()} : {data: {}}; }");
    decode(&functions, 0);
    let killed = functions.worker_pid().unwrap();
    assert!(errors(&decode(&functions, 1))[0].contains("killed"));
    assert_eq!(functions.worker_pid(), None);
    assert!(!std::path::Path::new(&format!("/proc/{killed}")).exists(), "killed and reaped");
    decode(&functions, 0);
    assert_ne!(functions.worker_pid().unwrap(), killed);
}

#[test]
fn a_worker_whose_memory_was_filled_is_replaced() {
    let (_folder, functions) = function(
        "function decodeUplink(i) { var all = []; while (i.fPort) all.push([1]); return {data: {}}; }",
    );
    decode(&functions, 0);
    let filled = functions.worker_pid();
    assert!(errors(&decode(&functions, 1))[0].contains("memory limit"));
    decode(&functions, 0);
    assert_ne!(functions.worker_pid(), filled);
}

#[test]
fn calls_do_not_see_each_other() {
    let (_folder, functions) = function(
        "count = 0; var seen = this.leak; function decodeUplink(i) {
           leak = i.fPort; Object.prototype.polluted = true; Array.prototype.map = null;
           var wasPolluted = Object.keys(Object.prototype).length > 1;
           return {data: {count: ++count, seen: seen === undefined, wasPolluted: wasPolluted}};
         }",
    );
    for port in 0..3 {
        let data = data(&decode(&functions, port));
        assert_eq!(data, serde_json::json!({"count": 1, "seen": true, "wasPolluted": false}));
    }
}

#[test]
fn what_json_has_no_text_for_is_named() {
    let (_folder, functions) = function(
        "function decodeUplink() { return {data: {a: NaN, b: [1 / 0, null], c: {d: -1 / 0}, when: new Date(0),
           none: undefined, f: function () {}, text: 'null'}, warnings: ['own']}; }",
    );
    let output = decode(&functions, 1);
    let Decoding::Decoded { data, .. } = &output.decoding else { panic!("{output:?}") };
    assert_eq!(
        data.get(),
        r#"{"a":null,"b":[null,null],"c":{"d":null},"when":"1970-01-01T00:00:00.000Z","text":"null"}"#
    );
    let wanted = [
        "own",
        "\"a\" is NaN and became null",
        "\"0\" is infinite and became null",
        "\"d\" is infinite and became null",
    ];
    assert_eq!(warnings(&output), wanted);
}

#[test]
fn garbage_bytes_decode_to_replacement_characters() {
    let (_folder, functions) = function(
        r"function decodeUplink() {
            console.log('\ud83d!');
            return {data: {half: '\ud83d', '\udc00': 1, whole: '\ud83d\ude00', escaped: '\\ud83d'}, warnings: ['\ude00']};
          }",
    );
    let output = decode(&functions, 1);
    let wanted = serde_json::json!({"half": "\u{fffd}", "\u{fffd}": 1, "whole": "😀", "escaped": "\\ud83d"});
    assert_eq!(data(&output), wanted);
    assert_eq!(warnings(&output), ["\u{fffd}"]);
    assert_eq!(output.console[0].text, "\u{fffd}!");
}

#[test]
fn digits_and_order_are_the_scripts_own() {
    let (_folder, functions) = function(
        "function decodeUplink() { return {data: {z: 0.1 + 0.2, a: 5e-324, m: 123456789012345680000}}; }",
    );
    let output = decode(&functions, 1);
    let Decoding::Decoded { data, .. } = &output.decoding else { panic!("{output:?}") };
    assert_eq!(data.get(), r#"{"z":0.30000000000000004,"a":5e-324,"m":123456789012345680000}"#);
}

#[test]
fn the_console_is_kept_within_bounds_and_harmless() {
    let (_folder, functions) = function(
        "function decodeUplink() { console.warn('\\x1b[2Jred', {a: 1}, 5, undefined, new Error('e'), Symbol('s'));
           for (var i = 0; i < 1e3; i++) console.log('x'.repeat(5000)); return null; }",
    );
    let output = decode(&functions, 1);
    assert!(matches!(output.decoding, Decoding::Null));
    assert_eq!(output.console[0].text, r#"red {"a":1} 5 undefined Error: e [symbol]"#);
    assert_eq!(output.console.len(), 64);
    assert!(output.console.iter().all(|line| line.text.chars().count() <= 256));
}

#[test]
fn s27_five_time_outs_in_a_row_suspend_that_function_alone() {
    let folder = Folder::new();
    let source = "function decodeUplink(i) { while (i.fPort) {} return {data: {}}; }";
    let tables =
        [folder.script("f", source, "time_limit = \"60ms\""), folder.script("g", source, "")].concat();
    let functions = folder.functions(&tables);
    for _ in 0..4 {
        assert!(errors(&decode(&functions, 1))[0].contains("time limit"));
    }
    data(&decode(&functions, 0));
    for _ in 0..5 {
        assert!(errors(&decode(&functions, 1))[0].contains("time limit"));
    }
    assert!(errors(&decode(&functions, 0))[0].contains("suspended"));
    data(&functions.call("g", &input(0, &[])));
}
