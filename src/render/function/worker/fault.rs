//! From an exception to a [`Fault`] that somebody can act on.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use rquickjs::{Ctx, Value};
use rustix::time::{ClockId, clock_gettime};

use super::super::wire::{Code, Fault, FaultKind};
use super::text;

/// QuickJS's word for a stack that is full.
const STACK_FULL: &str = "Maximum call stack size exceeded";
/// Its word for a heap that is full.
const HEAP_FULL: &str = "out of memory";
/// Its word for a value that holds itself.
pub(super) const CIRCULAR: &str = "circular reference";
/// Bytes of stack a script may use.
pub(super) const STACK: usize = 256 << 10;

/// The CPU time of one call.
#[derive(Clone, Debug)]
pub(super) struct Deadline {
    limit: Duration,
    end_ns: u64,
    passed: Rc<Cell<bool>>,
}

impl Deadline {
    /// Starts counting.
    pub(super) fn start(limit: Duration) -> Deadline {
        let limit_ns = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Deadline { limit, end_ns: cpu_ns().saturating_add(limit_ns), passed: Rc::default() }
    }

    /// Whether the time is over; remembered for [`of_exception`], because QuickJS does not say why it stopped.
    pub(super) fn check(&self) -> bool {
        if cpu_ns() >= self.end_ns {
            self.passed.set(true);
        }
        self.passed.get()
    }
}

/// CPU time of this thread, which is all of the process.
fn cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// What the pending exception means.
pub(super) fn of_exception(ctx: &Ctx<'_>, script: &Code<'_>, deadline: &Deadline) -> Fault {
    let thrown = ctx.catch();
    let fault = classify(ctx, &thrown, script);
    // Looked at last: describing what was thrown may run the script's own getters, under the same deadline.
    if deadline.passed.get() { time(deadline) } else { fault }
}

fn classify(ctx: &Ctx<'_>, thrown: &Value<'_>, script: &Code<'_>) -> Fault {
    if thrown.is_error() {
        return of_error(ctx, thrown, script);
    }
    if !thrown.is_null() && thrown.type_of() != rquickjs::Type::Uninitialized {
        return other(format!("the script threw {}", text::for_people(thrown)));
    }
    // With no memory left for the error QuickJS throws null; that a script does is possible, but nobody has seen one.
    let fault = memory(script);
    Fault { text: format!("{}, or the script threw null", fault.text), ..fault }
}

fn of_error(ctx: &Ctx<'_>, thrown: &Value<'_>, script: &Code<'_>) -> Fault {
    let what = text::for_people(thrown);
    match what.split_once(": ") {
        Some((_, HEAP_FULL)) => return memory(script),
        Some((_, STACK_FULL)) => {
            return other(format!("the stack limit of {} KiB is exceeded (endless recursion?)", STACK >> 10));
        }
        _ => {}
    }
    let at = position(ctx, thrown, &script.file);
    let place = at.map_or_else(String::new, |(line, column)| format!(" ({}:{line}:{column})", script.file));
    let kind = if what.starts_with("SyntaxError") { FaultKind::Syntax } else { FaultKind::Other };
    Fault { kind, text: format!("{what}{place}"), at }
}

/// Line and column of the innermost frame that is the script's own.
fn position(ctx: &Ctx<'_>, thrown: &Value<'_>, file: &str) -> Option<(u32, u32)> {
    let stack = thrown.as_object()?.get::<_, rquickjs::String<'_>>("stack").ok();
    if ctx.has_exception() {
        let _ = ctx.catch();
    }
    let stack = text::of_string(&stack?, 64 << 10).ok()?;
    stack.lines().find_map(|line| {
        let (_, numbers) = line.rsplit_once(&format!("{file}:"))?;
        let (line, column) = numbers.trim_end_matches(')').split_once(':')?;
        Some((line.parse().ok()?, column.parse().ok()?))
    })
}

/// Out of CPU time.
fn time(deadline: &Deadline) -> Fault {
    let text = format!("the time limit of {} ms of CPU time is exceeded", deadline.limit.as_millis());
    Fault { kind: FaultKind::Time, text, at: None }
}

/// Out of memory.
pub(super) fn memory(script: &Code<'_>) -> Fault {
    let (limit, unit) = match script.memory_limit {
        limit if limit % (1 << 20) == 0 => (limit >> 20, "MiB"),
        limit => (limit >> 10, "KiB"),
    };
    let text = format!("the memory limit of {limit} {unit} is exceeded");
    Fault { kind: FaultKind::Memory, text, at: None }
}

/// A fault that is described by its text alone.
pub(super) fn other(text: impl Into<String>) -> Fault {
    Fault { kind: FaultKind::Other, text: text.into(), at: None }
}

/// A Promise where a value should be.
pub(super) fn promise() -> Fault {
    other("async functions are not supported: the function returned a Promise")
}
