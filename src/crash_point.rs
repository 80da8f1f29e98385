//! Places where the program may be told to die, for the tests that prove what a SIGKILL there costs: nothing that was
//! accepted.
//!
//! Only a build with debug assertions has them. In it, `PACKHORSE_CRASH_POINT=before-commit:3` makes the program send itself
//! a SIGKILL when it comes to that place for the third time; without a number, for the first. In what packages install there
//! is neither a name nor a look at the environment (`cross/build.sh` looks for it).

macro_rules! crash_points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A place. `tests/killed` kills the program at each of them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum CrashPoint {
            $($(#[$doc])* $point,)*
        }

        impl CrashPoint {
            /// All of them.
            pub const ALL: &[CrashPoint] = &[$(CrashPoint::$point,)*];

            /// Its name in the environment.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(CrashPoint::$point => $name,)*
                }
            }
        }
    };
}

crash_points! {
    /// A file is being made: it has its size, and nothing by which it could be told to be a spool.
    FileSized = "file-sized",
    /// The spool's file is open, and no sequence numbers are reserved yet.
    BeforeReservation = "before-reservation",
    /// They are, durably.
    AfterReservation = "after-reservation",
    /// A round has put uplinks in; its transaction is open.
    UplinksInRound = "uplinks-in-round",
    /// A round has ended records that were not delivered (refused, evicted, expired, purged); its transaction is open.
    UndeliveredInRound = "undelivered-in-round",
    /// A round that is forced to the disk is about to be committed.
    BeforeCommit = "before-commit",
    /// It was committed, and nobody knows yet.
    AfterCommit = "after-commit",
    /// A round has carried a job on, durably, and there is more to do.
    JobUnderWay = "job-under-way",
    /// Uplinks are safe, and their source was not told.
    BeforeAnswer = "before-answer",
    /// The far end has acknowledged a record, and the spool was not told.
    BeforeSettle = "before-settle",
    /// The far end has refused a record for good, and the spool was not told.
    BeforeBurial = "before-burial",
    /// The file was let go of after an I/O error, and is about to be opened again.
    Reopening = "reopening",
    /// A store in memory has handed everything over to the file, and is still in use.
    LeavingRefuge = "leaving-refuge",
    /// A file that can't be used was moved out of the way, and there is no other.
    SetAside = "set-aside",
    /// What such a file holds is about to be taken over; that it was begun is on the disk.
    TransferBegun = "transfer-begun",
    /// Some of it was taken over, durably.
    TransferPart = "transfer-part",
    /// All of it was, and the file still has the name under which it waited for that.
    TransferDone = "transfer-done",
    /// The spool is told to close.
    Closing = "closing",
    /// The file is closed.
    Closed = "closed",
}

impl CrashPoint {
    /// The program has come here.
    #[cfg(not(debug_assertions))]
    pub(crate) fn reached(self) {}

    /// The program has come here, and dies if it was told to.
    #[cfg(debug_assertions)]
    pub(crate) fn reached(self) {
        if ordered::is_due(self) {
            // There is no way on from here, whoever may catch what.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}

#[cfg(debug_assertions)]
mod ordered {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::CrashPoint;

    /// The place, and how often the program may still come there.
    struct Order {
        point: String,
        left: AtomicI64,
    }

    /// Read once: the environment does not change. It is the process that dies, so there can be no other owner.
    static ORDER: OnceLock<Option<Order>> = OnceLock::new();

    pub(super) fn is_due(point: CrashPoint) -> bool {
        let order = ORDER.get_or_init(|| {
            let text = std::env::var("PACKHORSE_CRASH_POINT").ok()?;
            let (point, nth) = text.split_once(':').unwrap_or((&text, "1"));
            Some(Order { point: point.to_owned(), left: AtomicI64::new(nth.parse().ok()?) })
        });
        order.as_ref().is_some_and(|order| {
            order.point == point.as_str() && order.left.fetch_sub(1, Ordering::Relaxed) == 1
        })
    }
}
