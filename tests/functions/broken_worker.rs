//! A worker that is not what it should be: the agent believes nothing it writes and waits for nothing it owes.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::{Decoding, Folder, Functions, data, decode, errors, function};

const READY: &str = r"\002\000\000\000\000\000";
const LOADED: &str = r"\001\000\000\000\001";
const CHECKED: &str = r"\002\000\000\000\002\000";

/// Functions whose worker writes `answer` to the first call, whatever it was asked, and then does `then`.
fn functions(folder: &Folder, answer: &str, then: &str) -> Functions {
    with_worker(folder, &format!("printf '{READY}{LOADED}{CHECKED}{answer}'\n{then}"))
}

fn with_worker(folder: &Folder, script: &str) -> Functions {
    let program: PathBuf = folder.path("worker");
    let text = format!("#!/bin/sh\n{script}\n");
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = folder.script("f", "function decodeUplink() {}", "");
    folder.try_functions(&config, &program).unwrap()
}

/// Keeps both pipes open until the agent closes them.
const STAY: &str = "exec cat 3>&1 >/dev/null";

#[test]
fn what_it_writes_is_foreign_input() {
    for (answer, wanted) in [
        (r"\377\377\377\377", "no usable answer"),
        (r"\001\000\020\000", "no usable answer"),
        (r"\001\000\000\000\011", "no usable answer"),
        (r"\001\000\000\000\001", "no usable answer"),
        (r"\000\000\000\000", "no usable answer"),
        // Decoded, with data that is not JSON.
        (r"\010\000\000\000\003\000\002{x\000\000\000", "not JSON"),
        // Text that is not UTF-8.
        (r"\010\000\000\000\003\000\002\377\377\000\000\000", "no usable answer"),
        // Refused, without a reason.
        (r"\004\000\000\000\003\002\000\000", "gave no reason"),
    ] {
        let folder = Folder::new();
        let functions = functions(&folder, answer, STAY);
        assert!(errors(&decode(&functions, 1))[0].contains(wanted), "{answer}");
    }
    let folder = Folder::new();
    let functions = functions(&folder, r"\010\000\000\000\003\000\002{}\000\000\000", STAY);
    assert_eq!(
        data(&decode(&functions, 1)),
        serde_json::json!({}),
        "the frames above are right but for one thing"
    );
}

#[test]
fn one_that_dies_is_named_and_replaced() {
    for (then, wanted) in [("exit 3", "died (exit status 3)"), ("kill -9 $$", "died (killed, signal 9)")] {
        let folder = Folder::new();
        let seen = folder.path("seen");
        // The first survives the check; the one that the call starts does not get that far.
        let script = format!(
            "printf '{READY}{LOADED}'\n[ -e {0} ] || {{ : >{0}; printf '{CHECKED}'; }}\nhead -c 64 >/dev/null\n{then}",
            seen.display()
        );
        let functions = with_worker(&folder, &script);
        let first = errors(&decode(&functions, 1));
        assert!(first[0].contains(wanted), "{first:?}");
        assert_eq!(functions.worker_pid(), None);
        std::fs::copy(super::packhorse(), folder.path("worker")).unwrap();
        assert!(matches!(decode(&functions, 1).decoding, Decoding::Null), "the next call starts another");
    }
}

#[test]
fn one_that_is_silent_is_killed() {
    let folder = Folder::new();
    let functions = functions(&folder, r"\377", STAY);
    let errors = errors(&decode(&functions, 1));
    assert!(errors[0].contains("no answer within 2 s"), "{errors:?}");
}

#[test]
fn one_that_dies_between_calls_costs_no_uplink() {
    let (_folder, functions) = function("function decodeUplink() { return {data: {}}; }");
    for _ in 0..3 {
        data(&decode(&functions, 1));
        let pid = i32::try_from(functions.worker_pid().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    data(&decode(&functions, 1));
}

#[test]
fn one_that_can_not_start_is_a_warning_and_a_failed_call() {
    for program in ["/nonexistent/packhorse", "/bin/true", "/"] {
        let folder = Folder::new();
        let config = folder.script("f", "function decodeUplink() {}", "");
        let functions = folder.try_functions(&config, program.as_ref()).unwrap();
        let warning = &functions.warnings()[0];
        assert!(!warning.is_error() && warning.message.contains("can't be started"), "{warning}");
        assert!(errors(&decode(&functions, 1))[0].contains("the function worker can't be started"));
    }
}
