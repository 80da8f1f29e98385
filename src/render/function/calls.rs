//! [`Functions`]: who asks for what, who waits for it, and what is already known.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Instant;

use crate::config::{self, Problem};

use super::cache::{Cache, Key};
use super::keeper::{self, Kept};
use super::script::Script;
use super::strikes::Strikes;
use super::wire::Fault;
use super::{Input, Options, Output};

/// The stack of the keeper's thread: it moves bytes.
const STACK: usize = 256 << 10;

/// The functions of a config. Clones share one worker, one queue and one cache.
#[derive(Clone, Debug)]
pub struct Functions {
    /// The last clone ends the keeper.
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    warnings: Vec<Problem>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl Functions {
    /// Reads all scripts and has the worker look at each: whether it parses, whether its top level ends, whether there is
    /// something to call. Without functions no worker is started.
    ///
    /// # Errors
    /// Everything that is wrong with the scripts.
    pub fn try_new(functions: &[config::Function]) -> Result<Functions, Vec<Problem>> {
        Functions::try_new_with(functions, Options::default())
    }

    /// The same, for somebody with other needs than the agent.
    ///
    /// # Errors
    /// Everything that is wrong with the scripts.
    pub fn try_new_with(functions: &[config::Function], options: Options) -> Result<Functions, Vec<Problem>> {
        let mut problems = Vec::new();
        let read = functions.iter().map(Script::read);
        let scripts: Vec<Script> =
            read.filter_map(|script| script.map_err(|problem| problems.push(problem)).ok()).collect();
        let shared = Arc::new(Shared {
            state: Mutex::new(State { strikes: vec![Strikes::default(); scripts.len()], ..State::default() }),
            scripts,
            options,
            wake: Condvar::new(),
            pid: AtomicU32::new(0),
        });
        let mut handle = Handle { shared: Arc::clone(&shared), warnings: Vec::new() };
        for (slot, script) in (0..).zip(&shared.scripts) {
            match shared.check(slot) {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => problems.push(script.problem(&fault)),
                // Not the script's fault, and no reason to stop delivering: uplinks then go out undecoded.
                Err(why) => handle.warnings.push(script.unchecked(&why)),
            }
        }
        if problems.is_empty() { Ok(Functions { handle: Arc::new(handle) }) } else { Err(problems) }
    }

    /// No functions at all.
    pub fn none() -> Functions {
        let shared = Shared {
            state: Mutex::default(),
            scripts: Vec::new(),
            options: Options::default(),
            wake: Condvar::new(),
            pid: AtomicU32::new(0),
        };
        Functions { handle: Arc::new(Handle { shared: Arc::new(shared), warnings: Vec::new() }) }
    }

    /// What could not be found out about the scripts.
    pub fn warnings(&self) -> &[Problem] {
        &self.handle.warnings
    }

    /// Calls a function and waits for the result; for threads that may block, from as many as there are.
    pub fn call(&self, function: &str, input: &Input) -> Arc<Output> {
        let (done, result) = mpsc::sync_channel(1);
        self.submit(function, input, move |output| {
            let _ = done.send(output);
        });
        result.recv().unwrap_or_else(|_| Arc::new(lost()))
    }

    /// The same without blocking.
    pub async fn call_async(&self, function: &str, input: &Input) -> Arc<Output> {
        let (done, result) = tokio::sync::oneshot::channel();
        self.submit(function, input, move |output| {
            let _ = done.send(output);
        });
        result.await.unwrap_or_else(|_| Arc::new(lost()))
    }

    /// Calls a function; `done` gets the result, at once if it is known, else on another thread.
    pub fn submit(&self, function: &str, input: &Input, done: impl FnOnce(Arc<Output>) + Send + 'static) {
        match self.handle.shared.submit(function, input, Box::new(done)) {
            Submitted::Known(done, output) => done(output),
            Submitted::Waiting => {}
        }
    }

    /// The process id of the worker, while one runs.
    pub fn worker_pid(&self) -> Option<u32> {
        Some(self.handle.shared.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }
}

fn lost() -> Output {
    Output::failed("the function worker is gone")
}

type Done = Box<dyn FnOnce(Arc<Output>) + Send>;

enum Submitted {
    Known(Done, Arc<Output>),
    Waiting,
}

/// Whether a script can be called; the outer error says why nobody knows.
type Checked = Result<Result<(), Fault>, String>;

/// Work for the keeper.
pub(super) enum Task {
    /// Look at a script.
    Check {
        /// Which.
        slot: u32,
        /// Who wants to know.
        done: mpsc::SyncSender<Checked>,
    },
    /// Call a function for those in [`State::waiting`].
    Call {
        /// Which, for which uplink.
        key: Key,
        /// Its arguments.
        input: Input,
    },
}

/// What callers and the keeper share.
pub(super) struct Shared {
    scripts: Vec<Script>,
    options: Options,
    state: Mutex<State>,
    wake: Condvar,
    /// The worker's process id, or 0.
    pub(super) pid: AtomicU32,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Task>,
    /// Who waits for a call that is queued or under way.
    waiting: HashMap<Key, Vec<Done>>,
    cache: Cache,
    strikes: Vec<Strikes>,
    /// Whether the keeper's thread runs.
    running: bool,
    /// Whether nobody is left to ask.
    closed: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.scripts.iter().map(|script| &script.name)).finish()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A script by its slot.
    pub(super) fn script(&self, slot: u32) -> Option<&Script> {
        self.scripts.get(usize::try_from(slot).ok()?)
    }

    /// A function's name by its slot.
    pub(super) fn name(&self, slot: u32) -> &str {
        self.script(slot).map_or("", |script| &script.name)
    }

    /// How many scripts there are.
    pub(super) fn scripts(&self) -> usize {
        self.scripts.len()
    }

    /// The largest memory limit.
    pub(super) fn memory(&self) -> u64 {
        self.scripts.iter().map(Script::memory_limit).max().unwrap_or_default()
    }

    /// The program to start as the worker.
    pub(super) fn program(&self) -> Option<&Path> {
        self.options.program.as_deref()
    }

    /// Notes how a call ended; whether that suspends the function.
    pub(super) fn judge(&self, slot: u32, timed_out: bool, now: Instant) -> bool {
        let mut state = self.lock();
        let index = usize::try_from(slot).unwrap_or(usize::MAX);
        let Some(strikes) = state.strikes.get_mut(index).filter(|_| self.options.suspend) else {
            return false;
        };
        if timed_out {
            return strikes.timed_out(now);
        }
        strikes.answered();
        false
    }

    fn submit(self: &Arc<Self>, function: &str, input: &Input, done: Done) -> Submitted {
        let known = |done, text: String| Submitted::Known(done, Arc::new(Output::failed(text)));
        let Some((slot, _)) = (0u32..).zip(&self.scripts).find(|(_, script)| script.name == function) else {
            return known(done, format!("there is no function {function:?}"));
        };
        let key = (input.uplink_id, slot);
        let mut state = self.lock();
        if let Some(output) = state.cache.get(&key) {
            return Submitted::Known(done, output);
        }
        if let Some(waiting) = state.waiting.get_mut(&key) {
            waiting.push(done);
            return Submitted::Waiting;
        }
        let strikes = usize::try_from(slot).ok().and_then(|slot| state.strikes.get(slot));
        if strikes.is_some_and(|strikes| strikes.suspended(Instant::now())) {
            return known(
                done,
                format!("function {function:?} is suspended: it timed out five times in a row"),
            );
        }
        state.queue.push_back(Task::Call { key, input: input.clone() });
        state.waiting.insert(key, vec![done]);
        if let Err(why) = self.awake(&mut state) {
            drop(state);
            self.finish(key, Arc::new(Output::failed(why)), Kept::No);
        }
        Submitted::Waiting
    }

    fn check(self: &Arc<Self>, slot: u32) -> Checked {
        let (done, result) = mpsc::sync_channel(1);
        let mut state = self.lock();
        state.queue.push_back(Task::Check { slot, done });
        self.awake(&mut state)?;
        drop(state);
        result.recv().unwrap_or_else(|_| Err("the function worker is gone".to_owned()))
    }

    /// Makes sure that somebody works off the queue. If nobody can, the queue is emptied.
    fn awake(self: &Arc<Self>, state: &mut State) -> Result<(), String> {
        if state.running {
            self.wake.notify_one();
            return Ok(());
        }
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new().name("functions".to_owned()).stack_size(STACK);
        match thread.spawn(move || keeper::run(&shared)) {
            Ok(_) => {
                state.running = true;
                Ok(())
            }
            Err(error) => {
                // Nobody else can be waiting: a queue without a keeper holds what was pushed a moment ago.
                state.queue.clear();
                Err(format!("the function worker's thread can't be started: {error}"))
            }
        }
    }

    /// The next task; `None` ends the keeper: after too long without one, or when nobody is left to ask.
    pub(super) fn next(&self) -> Option<Task> {
        let deadline = Instant::now() + self.options.idle;
        let mut state = self.lock();
        loop {
            if let Some(task) = state.queue.pop_front() {
                return Some(task);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                state.running = false;
                return None;
            }
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Hands a result to everybody who waits for it.
    pub(super) fn finish(&self, key: Key, output: Arc<Output>, kept: Kept) {
        let mut state = self.lock();
        let waiting = state.waiting.remove(&key).unwrap_or_default();
        if kept == Kept::Yes {
            state.cache.put(key, Arc::clone(&output));
        }
        drop(state);
        for done in waiting {
            done(Arc::clone(&output));
        }
    }
}
