//! The spool on real disks that run full: a reserve that others can't take, a disk too small for `max_size`, a file system
//! that can't reserve (RULES S3, S11).
//!
//! Each test runs once more inside a mount namespace of its own (`unshare`), where the disk is. Where the system allows no such
//! namespace, or lacks the file system, the test says so and proves nothing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod spool_stage;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use packhorse::spool::{Loss, Settlement, View};
use spool_stage::{Stage, barrier, counts, lost, put, seqs, two, uplink};

/// Names the folder of the disk in the inner run.
const DISK: &str = "PACKHORSE_TEST_DISK";

const MIB: u64 = 1 << 20;

/// The folder of the disk that `mount`, a shell command, puts on the folder `$disk`; `None` in the outer run, which has
/// then started the inner one.
fn disk(test: &str, mount: &str) -> Option<PathBuf> {
    if let Some(disk) = std::env::var_os(DISK) {
        return Some(disk.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let root: &[&str] = if rustix_is_root() { &[] } else { &["--map-root-user"] };
    let script = format!("{{ {mount}; }} || exit 77; exec \"$0\" --exact {test} --nocapture");
    let mut inner = Command::new("unshare");
    inner.arg("--mount").args(root).args(["sh", "-c", &script]).arg(std::env::current_exe().unwrap());
    let inner = inner.env("disk", folder.path()).env(DISK, folder.path()).output();
    match inner {
        Ok(output) if output.status.success() => {
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        }
        Ok(output) if output.status.code() == Some(77) || is_refused(&output.stderr) => {
            println!("skipped, no such disk here: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(output) => {
            panic!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        }
        Err(error) => println!("skipped, no `unshare` here: {error}"),
    }
    None
}

fn rustix_is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

fn is_refused(stderr: &[u8]) -> bool {
    String::from_utf8_lossy(stderr).contains("unshare failed")
}

/// Another program takes everything that is left; its file.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("others");
    let mut file = File::create(&path).unwrap();
    while file.write_all(&[0x55; 4_096]).is_ok() {}
    while file.write_all(&[0x55]).is_ok() {}
    path
}

fn stage(disk: &Path, max_size: u64) -> Stage {
    let mut stage = Stage::new();
    stage.settings.path = disk.join("spool.redb");
    stage.settings.max_size = max_size;
    stage
}

fn is_sound(view: &View) {
    assert_eq!(view.trouble, None);
    assert!(view.set_aside.is_empty());
}

/// The space is ours from the start: with a full disk ten times the spool goes through it, and what does not fit is counted.
#[tokio::test]
async fn a_disk_that_others_fill_stops_nothing() {
    let mount = "mount -t tmpfs -o size=16m none $disk";
    let Some(disk) = disk("a_disk_that_others_fill_stops_nothing", mount) else { return };
    let stage = stage(&disk, 4 * MIB);
    let spool = stage.open();
    let two = two(&spool).await;
    fill(&disk);
    for round in 0..60u64 {
        let view =
            put(&spool, &two.routes, (0..500).map(|n| uplink(round * 500 + n, 250, &*stage.clock))).await;
        is_sound(&view);
        if round % 20 == 0 {
            for seq in seqs(&two.ledgers[0]) {
                two.ledgers[0].settle(seq, seq, Settlement::Delivered);
            }
        }
    }
    let view = barrier(&spool).await;
    is_sound(&view);
    assert_eq!(view.on_disk, None);
    for account in two.accounts {
        let (waits, delivered, _) = counts(&view, account);
        let evicted = lost(&view, account, Loss::Evicted);
        assert_eq!(waits + delivered + evicted, 30_000);
        assert!(evicted > 10_000, "{evicted}");
    }
    spool.close();
    let spool = stage.open();
    is_sound(&spool.view().borrow());
    assert_eq!(spool.view().borrow().records, view.records);
}

/// With less free than `max_size` the spool takes what there is, leaves the others something, says so, and takes the rest when it is
/// free by the next start.
#[tokio::test]
async fn a_disk_that_is_too_small_makes_a_smaller_spool() {
    let mount = "mount -t tmpfs -o size=8m none $disk";
    let Some(disk) = disk("a_disk_that_is_too_small_makes_a_smaller_spool", mount) else { return };
    let others = disk.join("others");
    std::fs::write(&others, vec![0x55; 3 << 20]).unwrap();
    let stage = stage(&disk, 6 * MIB);
    let spool = stage.open();
    let two = two(&spool).await;
    let on_disk = spool.view().borrow().on_disk.unwrap();
    assert!((3 * MIB..5 * MIB).contains(&on_disk), "{on_disk}");
    let mut view = barrier(&spool).await;
    for round in 0..40u64 {
        view = put(&spool, &two.routes, (0..500).map(|n| uplink(round * 500 + n, 250, &*stage.clock))).await;
        is_sound(&view);
    }
    let on_disk = view.on_disk.unwrap();
    assert!(view.bytes <= on_disk / 5 * 3 && view.bytes > on_disk / 2, "{view:?}");
    assert_eq!(counts(&view, two.accounts[0]).0 + lost(&view, two.accounts[0], Loss::Evicted), 20_000);
    std::fs::write(disk.join("log of another program"), vec![0x55; 512 << 10]).unwrap();
    spool.close();
    std::fs::remove_file(others).unwrap();
    let spool = stage.open();
    is_sound(&spool.view().borrow());
    assert_eq!(spool.view().borrow().on_disk, None);
}

/// A disk that can't allocate without writing: UBIFS and its kin, for which ext2 stands.
const PLAIN: &str = "truncate -s 16M $disk.img && mkfs.ext2 -q -m 0 $disk.img && mount -o loop $disk.img $disk \
                     && rm $disk.img";

/// Without a full reserve, too, everything that waits on a full disk can be delivered and deleted.
#[tokio::test]
async fn a_small_reserve_lets_a_full_disk_be_drained() {
    let Some(disk) = disk("a_small_reserve_lets_a_full_disk_be_drained", PLAIN) else { return };
    let stage = stage(&disk, 8 * MIB);
    let reserved = || std::fs::metadata(disk.join("spool.redb.reserve")).unwrap().len();
    let spool = stage.open();
    let two = two(&spool).await;
    assert_eq!(reserved(), MIB);
    put(&spool, &two.routes, (0..4_000).map(|n| uplink(n, 250, &*stage.clock))).await;
    fill(&disk);
    for ledger in &two.ledgers {
        for seq in seqs(ledger) {
            ledger.settle(seq, seq, Settlement::Delivered);
        }
    }
    let view = barrier(&spool).await;
    is_sound(&view);
    assert_eq!(counts(&view, two.accounts[0]), (0, 4_000, 0));
    spool.close();
    std::fs::remove_file(disk.join("others")).unwrap();
    let spool = stage.open();
    is_sound(&spool.view().borrow());
    assert_eq!(reserved(), MIB, "there is room for it again");
}

/// The disk runs full under an open spool that can't reserve: it stops growing, and what it can't take is counted.
#[tokio::test]
async fn a_full_disk_that_cannot_be_reserved_stops_growth() {
    let Some(disk) = disk("a_full_disk_that_cannot_be_reserved_stops_growth", PLAIN) else { return };
    let stage = stage(&disk, 12 * MIB);
    let spool = stage.open();
    let two = two(&spool).await;
    put(&spool, &two.routes, (0..2_000).map(|n| uplink(n, 250, &*stage.clock))).await;
    fill(&disk);
    let mut view = barrier(&spool).await;
    for round in 4..24u64 {
        view = put(&spool, &two.routes, (0..500).map(|n| uplink(round * 500 + n, 250, &*stage.clock))).await;
        is_sound(&view);
    }
    let (waits, ..) = counts(&view, two.accounts[0]);
    assert_eq!(waits + lost(&view, two.accounts[0], Loss::Evicted), 12_000);
    assert!(waits >= 2_000, "{waits}");
    assert!(view.on_disk.is_some());
    spool.close();
    let spool = stage.open();
    assert_eq!(counts(&spool.view().borrow(), two.accounts[0]).0, waits);
}
