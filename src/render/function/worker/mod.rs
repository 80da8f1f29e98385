//! The child process: reads a request, runs a script, writes an answer, until its input is closed.
//!
//! It is this same program, started with nothing but two pipes. Before the first script it locks itself in ([`sandbox`]);
//! from then on it can't open, write or start anything, and its memory is bounded by the kernel beside QuickJS's own
//! limit. It starts no logger and no runtime, so that it stays small.

mod bytes;
mod call;
mod console;
mod fault;
mod result;
mod sandbox;
mod text;

use std::io;
use std::process::ExitCode;

use rustix::io::Errno;

use super::wire::{self, Code, MAX_REQUEST, Reply, Request};

/// The worker's whole life.
pub(super) fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve() -> io::Result<()> {
    let mut scripts: Vec<Code<'static>> = Vec::new();
    let mut locked_in = false;
    while let Some(bytes) = receive()? {
        let Ok(request) = postcard::from_bytes::<Request<'static>>(&bytes) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        sandbox::allow_cpu();
        let script = |slot: u32| scripts.iter().find(|script| script.slot == slot);
        let reply = match request {
            Request::Start { memory } => {
                let result = sandbox::lock_in(memory);
                locked_in = result.is_ok();
                Reply::Ready(result)
            }
            Request::Load(code) => {
                scripts.retain(|script| script.slot != code.slot);
                scripts.push(code);
                Reply::Loaded
            }
            Request::Check { slot } if locked_in => match script(slot) {
                Some(script) => Reply::Checked(call::check(script)),
                None => return Err(io::ErrorKind::InvalidData.into()),
            },
            Request::Call(arguments) if locked_in => match script(arguments.slot) {
                Some(script) => {
                    let (verdict, console) = call::call(script, &arguments);
                    Reply::Answer { verdict, console }
                }
                None => return Err(io::ErrorKind::InvalidData.into()),
            },
            Request::Check { .. } | Request::Call(_) => return Err(io::ErrorKind::PermissionDenied.into()),
        };
        send(&wire::frame(&reply).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?)?;
    }
    Ok(())
}

/// The next request; `None` when the agent is gone or needs no worker any more.
fn receive() -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    if !fill(&mut head)? {
        return Ok(None);
    }
    let length = wire::announced(head, MAX_REQUEST).ok_or(io::ErrorKind::InvalidData)?;
    let mut body = vec![0; length];
    Ok(fill(&mut body)?.then_some(body))
}

fn fill(mut to: &mut [u8]) -> io::Result<bool> {
    while !to.is_empty() {
        match rustix::io::read(io::stdin(), &mut *to) {
            Ok(0) => return Ok(false),
            Ok(read) => to = to.get_mut(read..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

fn send(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(io::stdout(), bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
