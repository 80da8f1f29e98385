//! The thread that owns the worker: starts it, asks it, ends it.
//!
//! One thread and one worker for all functions. The worker's life is tied to this very thread (its parent-death signal
//! follows the thread that started it), so both come and go together: on demand, and after [`super::Options::idle`] without work.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::printable::printable;

use super::calls::{Shared, Task};
use super::child::{Broken, Child};
use super::json::{self, BadJson};
use super::wire::{Call, Fault, FaultKind, MAX_TEXTS, Reply, Request, Verdict, bounded};
use super::{Decoding, Input, Level, Line, Output, strikes};

/// What a call may take on the wall.
pub(super) const WALL: Duration = Duration::from_secs(2);
/// What the first look at a script may take: it may have to wait for a gateway that is booting.
const CHECK_WALL: Duration = Duration::from_secs(10);

/// Works off the queue until it stays empty.
pub(super) fn run(shared: &Shared) {
    let mut keeper = Keeper { shared, child: None };
    while let Some(task) = shared.next() {
        match task {
            Task::Check { slot, done } => {
                let _ = done.send(keeper.check(slot));
            }
            Task::Call { key, input } => {
                let (output, kept) = keeper.call(key.1, &input);
                shared.finish(key, Arc::new(output), kept);
            }
        }
    }
    keeper.retire();
}

/// How a result may be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// With everybody who asks for the same.
    Yes,
    /// Only with those who wait for it now: another try may go better.
    No,
}

struct Keeper<'a> {
    shared: &'a Shared,
    child: Option<Child>,
}

impl Keeper<'_> {
    /// Whether a script can be called. The outer error says why nobody knows.
    fn check(&mut self, slot: u32) -> Result<Result<(), Fault>, String> {
        match self.ask(slot, &Request::Check { slot }, CHECK_WALL) {
            Ok(Reply::Checked(result)) => {
                Ok(result.map_err(|fault| Fault { text: bounded(fault.text), ..fault }))
            }
            Ok(_) => Err(self.give_up(&Broken::Nonsense)),
            Err(broken @ (Broken::TooSlow(..) | Broken::Died(_))) => {
                let kind =
                    if matches!(broken, Broken::TooSlow(..)) { FaultKind::Time } else { FaultKind::Other };
                let text = format!("the script's top level: {}", self.give_up(&broken));
                Ok(Err(Fault { kind, text, at: None }))
            }
            Err(broken) => Err(self.give_up(&broken)),
        }
    }

    fn call(&mut self, slot: u32, input: &Input) -> (Output, Kept) {
        let request = Request::Call(Call {
            slot,
            bytes: input.bytes.as_slice().into(),
            f_port: input.f_port,
            recv_time_us: input.recv_time_us,
            variables: std::borrow::Cow::Borrowed(&input.variables),
            uplink: input.uplink.as_str().into(),
        });
        let answer = match self.ask(slot, &request, WALL) {
            Ok(Reply::Answer { verdict, console }) => Ok((verdict, console)),
            Ok(_) => Err(Broken::Nonsense),
            Err(broken) => Err(broken),
        };
        let timed_out = match &answer {
            Ok((Verdict::Broke(fault), _)) => fault.kind == FaultKind::Time,
            Ok(_) => false,
            Err(broken) => matches!(broken, Broken::TooSlow(..)),
        };
        if self.shared.judge(slot, timed_out, Instant::now()) {
            log::warn!(
                "function {}: timed out five times in a row; not called for {} s, uplinks are delivered undecoded",
                self.shared.name(slot),
                strikes::SUSPENDED.as_secs()
            );
        }
        match answer {
            Ok((verdict, console)) => self.output(slot, verdict, console),
            Err(broken) => {
                let kept = if matches!(broken, Broken::Start(_)) { Kept::No } else { Kept::Yes };
                (Output::failed(self.give_up(&broken)), kept)
            }
        }
    }

    /// Asks the worker; one that was there before and turns out to be dead is replaced. It may have died of something
    /// else while it waited, and since functions have no effects, asking again is safe.
    fn ask(&mut self, slot: u32, request: &Request<'_>, wall: Duration) -> Result<Reply, Broken> {
        let waited = self.child.is_some();
        match self.ask_once(slot, request, wall) {
            Err(Broken::Died(_)) if waited => {
                self.retire();
                self.ask_once(slot, request, wall)
            }
            result => result,
        }
    }

    /// Asks the worker, after making sure that there is one and that it has the script.
    fn ask_once(&mut self, slot: u32, request: &Request<'_>, wall: Duration) -> Result<Reply, Broken> {
        let Some(script) = self.shared.script(slot) else { return Err(Broken::Nonsense) };
        let child = match &mut self.child {
            Some(child) => child,
            none => {
                let memory = self.shared.memory();
                let child = Child::start(self.shared.program(), memory, self.shared.scripts())?;
                self.shared.pid.store(child.pid(), Ordering::Relaxed);
                log::debug!("function worker started, process {}", child.pid());
                none.insert(child)
            }
        };
        let index = usize::try_from(slot).unwrap_or(usize::MAX);
        if !child.has.get(index).copied().unwrap_or(false) {
            let Reply::Loaded = child.ask(&Request::Load(script.code(slot)), CHECK_WALL)? else {
                return Err(Broken::Nonsense);
            };
            if let Some(has) = child.has.get_mut(index) {
                *has = true;
            }
        }
        child.ask(request, wall)
    }

    /// What the worker answered, made into what integrations get.
    fn output(&mut self, slot: u32, verdict: Verdict, mut console: Vec<Line>) -> (Output, Kept) {
        console.truncate(MAX_TEXTS);
        for line in &mut console {
            line.text = printable(&line.text);
        }
        self.log(slot, &console);
        let decoding = match verdict {
            Verdict::Decoded { data, warnings, normalized } => {
                match json::checked(data)
                    .and_then(|data| Ok((data, normalized.map(json::checked).transpose()?)))
                {
                    Ok((data, normalized)) => {
                        Decoding::Decoded { data, warnings: texts(warnings), normalized }
                    }
                    Err(bad) => {
                        if bad == BadJson::Nonsense {
                            self.give_up(&Broken::Nonsense);
                        }
                        Decoding::Failed { errors: vec![bad.to_string()] }
                    }
                }
            }
            Verdict::Null => Decoding::Null,
            Verdict::Refused(errors) => {
                let mut errors = texts(errors);
                if errors.is_empty() {
                    errors.push("the function failed and gave no reason".to_owned());
                }
                Decoding::Failed { errors }
            }
            Verdict::Broke(fault) => {
                if fault.kind == FaultKind::Memory {
                    // The heap of a worker that was filled once stays large.
                    self.retire();
                }
                Decoding::Failed { errors: vec![bounded(fault.text)] }
            }
        };
        (Output { decoding, console }, Kept::Yes)
    }

    fn log(&self, slot: u32, console: &[Line]) {
        for line in console {
            let level = match line.level {
                Level::Info => log::Level::Debug,
                Level::Warn | Level::Error => log::Level::Info,
            };
            log::log!(level, "function {}: console: {}", self.shared.name(slot), line.text);
        }
    }

    /// Ends a worker that failed; says how.
    fn give_up(&mut self, broken: &Broken) -> String {
        if !matches!(broken, Broken::TooLarge) {
            self.retire();
        }
        broken.to_string()
    }

    /// Ends the worker.
    fn retire(&mut self) {
        if let Some(child) = self.child.take() {
            // The next keeper may have started its own already.
            let _ = self.shared.pid.compare_exchange(child.pid(), 0, Ordering::Relaxed, Ordering::Relaxed);
            log::debug!("function worker ended, process {}", child.pid());
        }
    }
}

fn texts(mut texts: Vec<String>) -> Vec<String> {
    texts.truncate(MAX_TEXTS);
    texts.into_iter().map(bounded).collect()
}
