//! The worker as the agent sees it: a process, a pipe to it and a pipe from it.
//!
//! Every wait has an end. The pipes do not block, so neither a worker that stops reading nor one that stops writing can
//! hold the thread past its deadline, and a worker that is dropped is killed and reaped.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Signal;

use super::WORKER_COMMAND;
use super::wire::{CPU_SECONDS, MAX_REPLY, MAX_REQUEST, Reply, Request, announced, frame};

/// What `/proc/self/exe` stands for stays the running program even after an upgrade has replaced or removed its file.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// How long a worker may take to be there: on a busy gateway its pages come from flash.
const START: Duration = Duration::from_secs(10);

/// How a worker fails its agent.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// It could not be started.
    #[error("the function worker can't be started: {0}")]
    Start(String),
    /// It did not answer in time, and was killed.
    #[error("no answer within {} s of {} time; the function worker was killed", .0.as_secs(), .1)]
    TooSlow(Duration, &'static str),
    /// It ended by itself.
    #[error("the function worker died ({0})")]
    Died(String),
    /// It wrote what no worker writes.
    #[error("the function worker gave no usable answer and was killed")]
    Nonsense,
    /// The request is larger than a worker takes.
    #[error("the input is larger than {} KiB", MAX_REQUEST >> 10)]
    TooLarge,
}

/// A running worker.
#[derive(Debug)]
pub(super) struct Child {
    process: std::process::Child,
    to: ChildStdin,
    from: ChildStdout,
    /// Which scripts it has, by slot.
    pub(super) has: Vec<bool>,
}

impl Child {
    /// Starts a worker that may use `memory` bytes for a script, and waits until it has locked itself in.
    pub(super) fn start(program: Option<&Path>, memory: u64, scripts: usize) -> Result<Child, Broken> {
        // std marks what it opens; what this process was started with is nobody's business in the worker either.
        close_fds::set_fds_cloexec_threadsafe(3, &[]);
        let started = match (spawn(program.unwrap_or(Path::new(THIS_PROGRAM))), program) {
            // No /proc: a container, or very early in the boot.
            (Err(_), None) => std::env::current_exe().and_then(|program| spawn(&program)),
            (started, _) => started,
        };
        let mut process = started.map_err(|error| Broken::Start(error.to_string()))?;
        let (Some(to), Some(from)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(Broken::Start("it has no pipes".to_owned()));
        };
        let mut child = Child { process, to, from, has: vec![false; scripts] };
        for pipe in [child.to.as_fd(), child.from.as_fd()] {
            rustix::fs::fcntl_getfl(pipe)
                .and_then(|flags| rustix::fs::fcntl_setfl(pipe, flags | OFlags::NONBLOCK))
                .map_err(|error| Broken::Start(error.to_string()))?;
        }
        match child.ask(&Request::Start { memory }, START) {
            Ok(Reply::Ready(Ok(()))) => Ok(child),
            Ok(Reply::Ready(Err(why))) => Err(Broken::Start(super::wire::bounded(why))),
            Ok(_) => Err(Broken::Start("it is not a function worker".to_owned())),
            Err(broken) => Err(Broken::Start(broken.to_string())),
        }
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a request and waits for the answer. After an error the worker is of no further use.
    pub(super) fn ask(&mut self, request: &Request<'_>, wall: Duration) -> Result<Reply, Broken> {
        let deadline = Instant::now() + wall;
        let request =
            frame(request).ok().filter(|frame| frame.len() <= MAX_REQUEST).ok_or(Broken::TooLarge)?;
        let result = self.send(&request, deadline).and_then(|()| self.receive(deadline));
        match result {
            Ok(bytes) => postcard::from_bytes(&bytes).map_err(|_| Broken::Nonsense),
            Err(Stopped::Deadline) => Err(Broken::TooSlow(wall, "wall")),
            Err(Stopped::Oversize) => Err(Broken::Nonsense),
            Err(Stopped::Closed) => Err(self.end()),
        }
    }

    fn send(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), Stopped> {
        while !bytes.is_empty() {
            match self.to.write(bytes) {
                Ok(0) => return Err(Stopped::Closed),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(PollFd::new(&self.to, PollFlags::OUT), deadline)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Stopped::Closed),
            }
        }
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> Result<Vec<u8>, Stopped> {
        let mut head = [0; 4];
        self.fill(&mut head, deadline)?;
        let length = announced(head, MAX_REPLY).ok_or(Stopped::Oversize)?;
        let mut body = vec![0; length];
        self.fill(&mut body, deadline)?;
        Ok(body)
    }

    fn fill(&mut self, mut to: &mut [u8], deadline: Instant) -> Result<(), Stopped> {
        while !to.is_empty() {
            match self.from.read(to) {
                Ok(0) => return Err(Stopped::Closed),
                Ok(read) => to = to.get_mut(read..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(PollFd::new(&self.from, PollFlags::IN), deadline)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Stopped::Closed),
            }
        }
        Ok(())
    }

    /// How it ended. If it only closed its pipes it is ended now; one that is ending anyway keeps its own status.
    fn end(&mut self) -> Broken {
        let _ = self.process.kill();
        match self.process.wait() {
            Ok(status) if status.signal() == Some(Signal::XCPU.as_raw()) => {
                Broken::TooSlow(Duration::from_secs(CPU_SECONDS), "CPU")
            }
            Ok(status) => Broken::Died(describe(status)),
            Err(error) => Broken::Died(error.to_string()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Why an exchange ended early.
enum Stopped {
    Deadline,
    Closed,
    Oversize,
}

fn spawn(program: &Path) -> io::Result<std::process::Child> {
    Command::new(program)
        .arg0("packhorse")
        .arg(WORKER_COMMAND)
        .env_clear()
        .env("TZ", "UTC")
        .current_dir("/")
        // A group of its own: Ctrl-C is for the agent, which may still need the worker to finish what is under way.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

fn wait(pipe: PollFd<'_>, deadline: Instant) -> Result<(), Stopped> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Stopped::Deadline);
    }
    let timeout = Timespec::try_from(left).map_err(|_| Stopped::Deadline)?;
    match poll(&mut [pipe], Some(&timeout)) {
        // Whatever happened, the next read or write tells.
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(_) => Err(Stopped::Closed),
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(6), _) => "aborted, signal 6".to_owned(),
        (Some(9), _) => "killed, signal 9".to_owned(),
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("exit status {code}"),
        (None, None) => status.to_string(),
    }
}
