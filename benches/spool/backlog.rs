//! What a large backlog costs: memory, the start after a kill, the answer to `status`, and disk space over many fillings.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use super::agent::Agent;
use super::rivals::{self, Counter};
use super::{per_second, setting, wait};

const CYCLES: usize = 5;

pub(crate) fn run() {
    let n = setting("PACKHORSE_BENCH_BACKLOG", 100_000);
    println!("BACKLOG of {n} uplinks");
    let folder = tempfile::tempdir().unwrap();
    let port = rivals::free_port();
    let integration = format!(
        "[integration.far]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\nmax_inflight = 16\n\
         topic = \"up/{{{{device.dev_addr}}}}\"\n"
    );
    let mut agent = Agent::start(folder.path(), "max_size = \"1GiB\"", &integration);
    agent.order("pause", "far");
    println!("  idle RSS                     {:>10} KiB", agent.rss_kib());
    agent.fill(1_000);
    println!("  RSS with 1000 waiting        {:>10} KiB", agent.rss_kib());
    let time = agent.fill(n - 1_000);
    println!("  filled at                    {:>10.0} /s", per_second(n - 1_000, time));
    println!("  RSS with all waiting         {:>10} KiB", agent.rss_kib());
    let mut asked: Vec<Duration> = (0..20)
        .map(|_| {
            let started = Instant::now();
            assert_eq!(agent.backlog(), n as u64);
            started.elapsed()
        })
        .collect();
    asked.sort_unstable();
    println!("  status answers in (median)   {:>10.1} ms", asked[10].as_secs_f64() * 1_000.0);
    wait("all of them durable", || agent.status()["spool"]["at_risk"] == 0);
    let (acknowledged, open) = agent.kill_and_start();
    println!("  after kill -9: first ack in  {:>10.0} ms", acknowledged.as_secs_f64() * 1_000.0);
    println!("  after kill -9: open in       {:>10.0} ms", open.as_secs_f64() * 1_000.0);
    println!("  RSS after that               {:>10} KiB", agent.rss_kib());
    assert_eq!(agent.backlog(), n as u64);

    let _broker = rivals::start_broker(&folder.path().join("broker"), port, "");
    let counter = Counter::start(port);
    for cycle in 1..=CYCLES {
        if cycle > 1 {
            agent.order("pause", "far");
            agent.fill(n);
        }
        let file = std::fs::metadata(agent.spool_file()).unwrap();
        let before = agent.cpu();
        let (time, ()) = counter.time(n, || agent.order("resume", "far"));
        wait("nothing waits", || agent.backlog() == 0);
        println!(
            "  cycle {cycle}: file {:>4} MiB long, {:>4} MiB on the disk; drained at {:>6.0} /s, {:>5.1} us CPU each",
            file.len() >> 20,
            file.blocks() >> 11,
            per_second(n, time),
            (agent.cpu() - before).as_secs_f64() * 1e6 / n as f64
        );
    }
    println!("  RSS in the end               {:>10} KiB", agent.rss_kib());
}
