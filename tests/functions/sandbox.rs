//! What the worker may do: nothing (RULES S33).

use std::collections::BTreeMap;

use super::{data, decode, function};

fn proc(pid: u32, name: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/{name}")).unwrap()).into_owned()
}

#[test]
fn s33_it_can_open_write_and_start_nothing_before_the_first_script() {
    let (_folder, functions) = function("function decodeUplink() { return {data: {}}; }");
    let pid = functions.worker_pid().unwrap();
    let limits = proc(pid, "limits");
    let limits: BTreeMap<&str, Vec<&str>> = limits
        .lines()
        .map(|line| (line.get(..26).unwrap().trim(), line.get(26..).unwrap().split_whitespace().collect()))
        .collect();
    for (limit, most) in [
        ("Max open files", 3),
        ("Max file size", 0),
        ("Max processes", 0),
        ("Max core file size", 0),
        ("Max stack size", 1 << 20),
        ("Max data size", 64 << 20),
        ("Max address space", 512 << 20),
    ] {
        let (soft, hard): (u64, u64) =
            (limits[limit][0].parse().expect(limit), limits[limit][1].parse().expect(limit));
        assert!(soft <= most && hard <= most, "{limit}: {soft} {hard}");
    }
    let status = proc(pid, "status");
    for line in ["NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "Threads:\t1"] {
        assert!(status.contains(line), "{line} in {status}");
    }
}

#[test]
fn s33_it_inherits_nothing() {
    // Not close-on-exec, as if the agent had been started with it.
    let inherited = rustix::io::dup(std::io::stdin()).unwrap();
    let (_folder, functions) = function("function decodeUplink() { return {data: {}}; }");
    let pid = functions.worker_pid().unwrap();
    assert_eq!(proc(pid, "environ"), "TZ=UTC\0");
    let mut open: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2"]);
    drop(inherited);
}

#[test]
fn scripts_see_utc_and_nothing_of_the_system() {
    let (_folder, functions) = function(
        "function decodeUplink() {
           var names = ['process', 'require', 'fetch', 'setTimeout', 'setInterval', 'std', 'os', 'Worker', 'scriptArgs'];
           return {data: {there: names.filter(function (n) { return n in globalThis; }),
                          offset: new Date(2026, 6, 1).getTimezoneOffset()}};
         }",
    );
    assert_eq!(data(&decode(&functions, 1)), serde_json::json!({"there": [], "offset": 0}));
}

#[test]
fn it_ends_with_its_functions() {
    let (_folder, functions) = function("function decodeUplink() { return {data: {}}; }");
    let pid = functions.worker_pid().unwrap();
    let copy = functions.clone();
    drop(functions);
    data(&decode(&copy, 1));
    assert_eq!(copy.worker_pid(), Some(pid), "a clone keeps it");
    let process = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let handle = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).unwrap();
    drop(copy);
    // Readable when the process has ended.
    let mut ended = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut ended, None).unwrap();
}
