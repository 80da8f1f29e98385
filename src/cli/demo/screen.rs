//! Progress that is readable on a terminal and in a file.
//!
//! On a terminal a scene's counts are one line that is written over; elsewhere a line now and then.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line changes on a terminal, and elsewhere.
const LIVE: Duration = Duration::from_millis(200);
const PIPED: Duration = Duration::from_secs(2);

pub(super) struct Screen {
    live: bool,
    shown: Option<Instant>,
    open_line: bool,
}

impl Screen {
    pub(super) fn new() -> Screen {
        Screen { live: std::io::stdout().is_terminal(), shown: None, open_line: false }
    }

    /// How long to wait before the next look.
    pub(super) fn pause(&self) -> Duration {
        LIVE
    }

    /// A line that stays.
    pub(super) fn say(&mut self, text: &str) {
        self.close_line();
        print(&format!("{text}\n"));
        self.shown = None;
    }

    /// A line that the next one may replace.
    pub(super) fn progress(&mut self, text: &str) {
        let every = if self.live { LIVE } else { PIPED };
        if self.shown.is_some_and(|shown| shown.elapsed() < every) {
            return;
        }
        self.shown = Some(Instant::now());
        self.show(text);
    }

    /// The last state of a line, whenever the one before was shown.
    pub(super) fn settle(&mut self, text: &str) {
        self.show(text);
        self.close_line();
        self.shown = None;
    }

    fn show(&mut self, text: &str) {
        if self.live {
            print(&format!("\r\x1b[K    {text}"));
            self.open_line = true;
        } else {
            print(&format!("    {text}\n"));
        }
    }

    fn close_line(&mut self) {
        if std::mem::take(&mut self.open_line) {
            print("\n");
        }
    }
}

/// A reader that has gone is no reason to stop: the exit code still counts.
fn print(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
