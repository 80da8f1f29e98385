//! Whether the kernel's clock follows a time server (RULES S22), by the word of the daemon that steers it.
//!
//! The kernel has a flag for it (`STA_UNSYNC` of adjtimex(2)), but no file; neither std nor rustix asks for it, and to call libc
//! takes unsafe code, which this crate forbids. systemd-timesyncd touches [`TOUCHED`] on each successful synchronisation
//! (systemd-timesyncd.service(8)). Where another daemon does the work there is no word, and the wall clock is judged by its
//! steps alone; `doctor` asks the kernel itself, by the programs that can.

use std::path::Path;
use std::time::{Duration, SystemTime};

const TOUCHED: &str = "/run/systemd/timesync/synchronized";

/// Longer than the longest time between two synchronisations (`PollIntervalMaxSec`, 2,048 s).
const FRESH: Duration = Duration::from_secs(3_600);

/// Whether a daemon says so. `false`: no word.
pub fn is_synchronised() -> bool {
    was_touched(Path::new(TOUCHED), SystemTime::now())
}

/// By the wall clock itself: after a step by anybody else the file lies in the future, or too far back.
fn was_touched(file: &Path, now: SystemTime) -> bool {
    let touched = file.metadata().and_then(|file| file.modified());
    touched.is_ok_and(|touched| now.duration_since(touched).is_ok_and(|since| since <= FRESH))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// S22: a daemon that has not spoken for long, or of a time that is not this one, says nothing about this one.
    #[test]
    fn s22_only_a_fresh_word_counts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let now = SystemTime::now();
        let touched = |at: SystemTime| {
            file.as_file().set_modified(at).unwrap();
            was_touched(file.path(), now)
        };
        assert!(touched(now) && touched(now - Duration::from_secs(2_048)));
        assert!(!touched(now - Duration::from_secs(3_601)));
        assert!(!touched(now + Duration::from_secs(1)));
        assert!(!was_touched(Path::new("/no/such/file"), now));
    }
}
