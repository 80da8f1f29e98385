//! What payload functions cost: `cargo bench --bench functions`.
//!
//! Prints, for scripts of tests/functions/codecs, the CPU time and the time on the wall of a call to a warm worker, the
//! worker's memory, what starting it costs, and how fast `decode --batch` is. Budgets: 1 ms of CPU time a call on an
//! x86_64 PC, 6 MiB for the worker as packages install it: name that binary with PACKHORSE_TEST_WORKER, since the ordinary
//! release build is twice as large in memory. Asserts nothing: a busy machine is no reason to fail.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use packhorse::config::Config;
use packhorse::render::function::{Decoding, Functions, Input, Options};
use uuid::Uuid;

const CALLS: u32 = 2_000;
const STARTS: usize = 50;

/// Script, port, payload.
const CODECS: [(&str, u8, &str); 4] = [
    ("tlv_climate", 85, "01755c03673401046865"),
    ("probe_by_port", 2, "4bd6ff3c"),
    ("normalized_air", 1, "08fc370ce4"),
    ("node_buffer", 2, "6869e282acff"),
];

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let codecs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/functions/codecs");
    let mut config = String::new();
    for (name, ..) in CODECS {
        writeln!(config, "[function.{name}]\nfile = \"{}/{name}.js\"", codecs.display()).unwrap();
    }
    let file = folder.path().join("packhorse.toml");
    std::fs::write(&file, &config).unwrap();

    start(&config, &file);
    warm(&config, &file);
    batch(&file);
}

fn program() -> PathBuf {
    std::env::var_os("PACKHORSE_TEST_WORKER").unwrap_or(env!("CARGO_BIN_EXE_packhorse").into()).into()
}

fn functions(config: &str, file: &Path) -> Functions {
    let functions = Config::parse(config, file).unwrap().config.functions;
    let options = Options { program: Some(program()), ..Options::default() };
    Functions::try_new_with(&functions, options).unwrap()
}

fn input(port: u8, hex: &str) -> Input {
    let uplink = r#"{"dev_eui":"0004A30B001C0530","fcnt":41,"hotspots":[{"rssi":-57,"snr":9.5}]}"#.to_owned();
    let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
    Input {
        uplink_id: Uuid::now_v7(),
        bytes,
        f_port: port,
        recv_time_us: Some(0),
        uplink,
        ..Input::default()
    }
}

fn call(functions: &Functions, (name, port, hex): (&str, u8, &str)) {
    let output = functions.call(name, &input(port, hex));
    assert!(matches!(output.decoding, Decoding::Decoded { .. }), "{name}: {output:?}");
}

/// From nothing to a first result: process, sandbox, script, call.
fn start(config: &str, file: &Path) {
    let mut times: Vec<Duration> = (0..STARTS)
        .map(|_| {
            let functions = functions(config, file);
            let worker = i32::try_from(functions.worker_pid().unwrap()).unwrap();
            let worker = rustix::process::Pid::from_raw(worker).unwrap();
            rustix::process::kill_process(worker, rustix::process::Signal::KILL).unwrap();
            let begin = Instant::now();
            call(&functions, CODECS[0]);
            begin.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "{:40} p50 {:>8.2?}  max {:>8.2?}",
        "worker start and first call",
        times[STARTS / 2],
        times[STARTS - 1]
    );
}

fn warm(config: &str, file: &Path) {
    let functions = functions(config, file);
    let worker = functions.worker_pid().unwrap();
    for codec in CODECS {
        call(&functions, codec);
        let before = cpu(worker);
        let mut times: Vec<Duration> = (0..CALLS)
            .map(|_| {
                let begin = Instant::now();
                call(&functions, codec);
                begin.elapsed()
            })
            .collect();
        times.sort();
        let each = (cpu(worker) - before) / CALLS;
        let wall = times[times.len() / 2];
        println!(
            "{:40} CPU {each:>8.2?} (budget 1 ms)  wall p50 {wall:>8.2?}",
            format!("warm call, {}", codec.0)
        );
    }
    assert_eq!(functions.worker_pid(), Some(worker), "one worker served them all");
    let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    for (line, what) in [
        ("VmRSS:", "worker memory now (budget 6144 kB)"),
        ("VmHWM:", "worker memory at most"),
        ("RssAnon:", "of it not shared"),
    ] {
        let value = status.lines().find_map(|text| text.strip_prefix(line)).unwrap_or("?").trim();
        println!("{what:40} {value}");
    }
}

/// CPU time of a process.
fn cpu(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

fn batch(file: &Path) {
    let (name, port, hex) = CODECS[0];
    let lines = format!("{{\"fPort\":{port},\"bytes\":\"{hex}\"}}\n").repeat(10_000);
    let stdin = file.with_file_name("lines");
    std::fs::write(&stdin, lines).unwrap();
    let begin = Instant::now();
    let output = Command::new(program())
        .args(["decode", name, "--batch", "--config"])
        .arg(file)
        .stdin(std::fs::File::open(stdin).unwrap())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let took = begin.elapsed();
    assert!(output.status.success());
    let rate = 10_000.0 / took.as_secs_f64();
    println!("{:40} {rate:.0} lines/s", "decode --batch, 10,000 lines");
}
