//! `packhorse demo`: the whole story, with real parts.
//!
//! A simulated packet forwarder sends datagrams to the real agent, which runs in this process with its spool in a
//! temporary folder; an HTTP endpoint and, where mosquitto is installed, a real broker receive. The story has five scenes
//! ([`story`]): all is well, the destinations go away, the agent is restarted in the dark, the destinations return, and
//! the count. It is judged by what the destinations have seen, not by what the agent says of itself.

mod screen;
mod stage;
mod story;

use super::args::DemoOptions;
use super::{Exit, logging};

pub(super) fn demo(options: &DemoOptions, verbose: bool) -> Exit {
    // The story is told on standard output; of the log only what is wrong belongs beside it, and an outage is not.
    logging::start(verbose, Some("off"));
    match story::tell(options) {
        Ok(true) => Exit::Done,
        Ok(false) => Exit::Bad,
        Err(error) => {
            eprintln!("packhorse: the demo can't be played: {error}");
            Exit::Bad
        }
    }
}
