//! What the worker forbids itself before the first script (RULES S33).
//!
//! A script has no way to ask for a file, a socket or a process. This is for the script that finds a hole in QuickJS:
//! the limits are hard ones, and without capabilities or privileges to gain nobody inside can raise them again. Not
//! covered, for lack of a safe interface: a system call filter. A process of the superuser is not held by the limit on
//! processes; the agent's unit runs it as a user of its own.

use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::super::wire::CPU_SECONDS;

/// What the process needs beside its scripts' memory: frames, scripts, results on their way out.
const OVERHEAD: u64 = 16 << 20;
/// QuickJS takes at most 256 KiB of it.
const STACK: u64 = 1 << 20;
/// The two pipes and /dev/null.
const FILES: u64 = 3;

/// Locks the process in for scripts that may use `memory` bytes, or says what could not be forbidden.
pub(super) fn lock_in(memory: u64) -> Result<(), String> {
    let refused = |what: &'static str| move |error: rustix::io::Errno| format!("{what}: {error}");
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(refused("parent-death signal"))?;
    rustix::thread::set_no_new_privs(true).map_err(refused("no new privileges"))?;
    let limits = [
        ("address space", Resource::As, mapped() + memory + OVERHEAD),
        ("data", Resource::Data, memory + OVERHEAD),
        ("stack", Resource::Stack, STACK),
        ("file size", Resource::Fsize, 0),
        ("core dumps", Resource::Core, 0),
        ("processes", Resource::Nproc, 0),
        ("open files", Resource::Nofile, FILES),
    ];
    for (what, resource, most) in limits {
        setrlimit(resource, both(most)).map_err(refused(what))?;
    }
    let none = CapabilitySet::empty();
    // An agent that runs as a user of its own has none to give up; asking anyway could break a system call filter.
    let any =
        rustix::thread::capabilities(None).is_ok_and(|own| own.permitted != none || own.effective != none);
    if any {
        let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
        rustix::thread::set_capabilities(None, none).map_err(refused("capabilities"))?;
    }
    Ok(())
}

/// Allows the process [`CPU_SECONDS`] more.
pub(super) fn allow_cpu() {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).tv_sec;
    let until = u64::try_from(used).unwrap_or_default() + CPU_SECONDS;
    // Only the soft limit, which may move. That it can't be set is no reason to fail a call: it is the second line.
    let _ = setrlimit(Resource::Cpu, Rlimit { current: Some(until), maximum: None });
}

fn both(most: u64) -> Rlimit {
    Rlimit { current: Some(most), maximum: Some(most) }
}

/// What is mapped already, in bytes: the program, and with glibc a good deal of nothing.
fn mapped() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<u64> = statm.split_whitespace().next().and_then(|pages| pages.parse().ok());
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    pages.map_or(64 << 20, |pages| pages.saturating_mul(page))
}
