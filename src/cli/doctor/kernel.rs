//! What the kernel says of its clock, by the programs that ask it: `timedatectl` of systemd, `adjtimex` of busybox.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// One that hangs (a bus that does not answer) is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much of an answer is read, in bytes.
const MOST: u64 = 4_096;

/// Whether it says that its clock is synchronised; `None` where nobody can ask it.
pub(super) fn is_synchronised() -> Option<bool> {
    let timedatectl = said("timedatectl", &["show", "--property=NTPSynchronized", "--value"]);
    let by_systemd = timedatectl.and_then(|text| yes_or_no(&text));
    let adjtimex = || said("adjtimex", &[]).or_else(|| said("busybox", &["adjtimex"]));
    by_systemd.or_else(|| status_bits(&adjtimex()?).map(|bits| bits & STA_UNSYNC == 0))
}

/// adjtimex(2).
const STA_UNSYNC: u32 = 0x40;

fn yes_or_no(text: &str) -> Option<bool> {
    match text.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// From a line `    status:       64 (UNSYNC)`.
fn status_bits(text: &str) -> Option<u32> {
    let status = text.lines().find_map(|line| line.trim().strip_prefix("status:"))?;
    status.split_whitespace().next()?.parse().ok()
}

/// What a program says, if it is there and succeeds in time.
fn said(program: &str, words: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let out = child.stdout.take()?;
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = out.take(MOST).read_to_string(&mut text);
        // Nobody waits any more if it took too long.
        let _ = tell.send(read.is_ok().then_some(text));
    });
    let text = told.recv_timeout(PATIENCE).ok().flatten();
    if text.is_none() {
        // It may have ended by itself.
        let _ = child.kill();
    }
    let succeeded = child.wait().is_ok_and(|status| status.success());
    text.filter(|_| succeeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_both_programs_are_read() {
        assert_eq!(["yes\n", "no\n", "", "n/a\n"].map(yes_or_no), [Some(true), Some(false), None, None]);
        let adjtimex =
            |status: &str| format!("    mode:         0\n    status:       {status}\n-p  timeconstant: 2\n");
        assert_eq!(status_bits(&adjtimex("64 (UNSYNC)")), Some(STA_UNSYNC));
        assert_eq!(status_bits(&adjtimex("8193 (PLL | NANO)")), Some(0x2001));
        assert_eq!(status_bits("usage: adjtimex [-p]"), None);
    }

    #[test]
    fn a_program_that_fails_or_is_not_there_says_nothing() {
        assert_eq!(said("echo", &["yes"]).as_deref(), Some("yes\n"));
        assert_eq!(said("sh", &["-c", "echo yes; exit 1"]), None);
        assert_eq!(said("no-such-program-anywhere", &[]), None);
    }
}
