//! How lives of the program end and begin, and what goes wrong with its disk meanwhile.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use super::Done;
use crate::spool_stage::disk::{Fault, Operation};
use crate::steps::{End, Ending, INTEGRATIONS, Mishap, Step};
use crate::world::{PowerGone, World};

impl World {
    pub(super) fn arrange(&mut self, mishap: Mishap, after: usize) {
        self.is_ailing = true;
        let other = ErrorKind::Other;
        let (operation, fault) = match mishap {
            Mishap::PowerFails => {
                // Not while the file is being opened again after an error: what was put in again and lost once more would
                // have had numbers that nobody has seen.
                self.disk.heal();
                self.disk.free();
                return self.disk.cut_after(after);
            }
            Mishap::FailedWrite => (Operation::Write, Fault::Once(other)),
            Mishap::ShortWrite => (Operation::Write, Fault::Short(other)),
            Mishap::FailedGrowth => (Operation::SetLen, Fault::Once(ErrorKind::StorageFull)),
            Mishap::FailedSync => (Operation::Sync, Fault::Once(other)),
            Mishap::LyingSync => (Operation::Sync, Fault::DoneButReported(other)),
            Mishap::FailedRead => (Operation::Read, Fault::Once(other)),
            Mishap::Away => (Operation::Write, Fault::Lasting(ErrorKind::StorageFull)),
        };
        self.disk.cut_never();
        // Of the others there are fewer than writes.
        let nth = if operation == Operation::Write { after } else { after / 8 };
        self.disk.fail(operation, nth, fault);
    }

    /// Ends the program. What is on the disk is for [`World::start_after`] to find out; after a clean end it is known.
    pub(super) fn end(&mut self, ending: Ending) {
        let spool = self.spool.take().and_then(Arc::into_inner).unwrap();
        self.met.once(match ending {
            Ending::Close => "closed",
            Ending::Kill => "killed",
            Ending::PowerCut => "power cut",
        });
        match ending {
            Ending::Close => {
                // What it would put in again after an error would have numbers that nobody has seen.
                self.disk.heal();
                self.disk.free();
                spool.close();
                if !self.is_ailing {
                    self.keep_last();
                }
                self.disk.kill();
            }
            Ending::Kill => {
                self.disk.kill();
                spool.close();
            }
            Ending::PowerCut => {
                self.disk.power_cycle();
                spool.close();
            }
        }
        if self.disk.is_off() {
            self.disk.power_cycle();
        }
        self.mend();
    }

    /// Whatever was to go wrong with the disk does not.
    pub(crate) fn mend(&mut self) {
        self.disk.heal();
        self.disk.free();
        self.is_ailing = false;
    }

    /// Starts the program again, as often as it takes. After a power cut it is another boot of the machine.
    pub(super) async fn start_after(&mut self, ending: Ending, at_start: Option<(Mishap, u8)>) {
        drop(self.spool.take());
        if ending == Ending::PowerCut {
            self.clock.reboot();
        }
        if let Some((what, after)) = at_start {
            self.arrange(what, after.into());
        }
        loop {
            if self.try_start().await.is_ok() {
                return;
            }
            drop(self.spool.take());
            let was_cut = self.disk.is_off();
            self.met.note_if(was_cut, "power cut while it was opened");
            self.met.note_if(!was_cut, "error while it was opened");
            if was_cut {
                self.disk.power_cycle();
            } else {
                self.disk.kill();
            }
            self.mend();
        }
    }

    async fn try_start(&mut self) -> Done {
        let hit = self.disk.faults_hit();
        match self.try_open() {
            Ok(spool) => self.spool = Some(Arc::new(spool)),
            Err(error) => {
                let is_excused = self.disk.is_off() || self.disk.faults_hit() > hit;
                assert!(is_excused, "it does not open: {error}");
                return Err(PowerGone);
            }
        }
        // The power may still go in its first rounds.
        self.disk.heal();
        self.follow_crash().await?;
        self.configure().await
    }

    /// The last word: everything that waits goes out, and the file is what it was when it is opened once more.
    pub(crate) async fn finish(&mut self) {
        let restart = Step::Restart { ending: Ending::Close, at_start: None, config: self.config };
        self.step(Step::Configure { mask: u8::MAX }).await;
        self.step(restart).await;
        let left = |world: &World, who| {
            world.state().account_of(who).is_some_and(|account| !world.state().waiting(account).is_empty())
        };
        // A replay goes on where others have made room.
        while let Some(who) = (0..INTEGRATIONS).find(|who| left(self, *who)) {
            self.step(Step::Settle { who, skip: 0, n: u16::MAX, end: End::Deliver }).await;
        }
        self.step(restart).await;
        let waiting: BTreeSet<u64> =
            self.state().log.iter().filter(|(_, it)| !it.waiting.is_empty()).map(|(seq, _)| *seq).collect();
        assert!(waiting.is_empty(), "what is left after all were delivered: {waiting:?}");
    }
}
