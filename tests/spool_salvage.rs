//! What is saved from a damaged file, and from one that was too new (RULES S3): nothing that is whole is lost, nothing is
//! invented, and what was settled stays settled.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod spool_stage;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use packhorse::spool::{Entry, Ledger, Loss, Note, Settlement, Spool, View};
use packhorse::uplink::Uplink;
use redb::{Database, TableDefinition};
use spool_stage::{Stage, Two, account, counts, entries, lost, mine, number, put, seqs, two};

const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");
const PAGE: usize = 4096;

/// An uplink whose content is nobody else's.
fn uplink(stage: &Stage, n: u64, random: &mut fastrand::Rng) -> Uplink {
    let mut uplink = stage.uplink(n);
    uplink.content = (0..random.usize(24..200)).map(|_| random.u8(..)).collect();
    uplink
}

/// A file and what was done to it.
struct Made {
    stage: Stage,
    bytes: Vec<u8>,
    uplinks: BTreeMap<u64, Uplink>,
    /// What waits for each of the two, and what is a dead letter of the first.
    waits: [BTreeSet<u64>; 2],
    dead: BTreeSet<u64>,
    /// The numbers in the log.
    seqs: BTreeMap<u64, u64>,
    /// In which pages the bytes of an uplink are.
    pages: BTreeMap<u64, Vec<usize>>,
    view: Arc<View>,
}

/// `n` uplinks in many rounds; a third is delivered to both, some to one, some are refused by the first.
async fn made(n: u64, seed: u64) -> Made {
    let mut random = fastrand::Rng::with_seed(seed);
    let stage = Stage::new();
    let spool = stage.open();
    let two = two(&spool).await;
    let uplinks: BTreeMap<u64, Uplink> = (0..n).map(|n| (n, uplink(&stage, n, &mut random))).collect();
    for some in uplinks.values().cloned().collect::<Vec<_>>().chunks(37) {
        put(&spool, &two.routes, some.to_vec()).await;
    }
    let seqs: BTreeMap<u64, u64> = mine(&two.ledgers[0]).into_iter().map(|(seq, n)| (n, seq)).collect();
    let all: BTreeSet<u64> = (0..n).collect();
    let (mut waits, mut dead) = ([all.clone(), all], BTreeSet::new());
    for (&n, &seq) in &seqs {
        let ends = match random.u8(..12) {
            0..4 => [Some(Settlement::Delivered), Some(Settlement::Delivered)],
            4 | 5 => [None, Some(Settlement::Delivered)],
            6 => [Some(Settlement::Refused { reason: "http: 422".into(), attempts: 2 }), None],
            _ => [None, None],
        };
        for (which, end) in ends.into_iter().enumerate() {
            let Some(end) = end else { continue };
            if end != Settlement::Delivered {
                dead.insert(n);
            }
            waits[which].remove(&n);
            two.ledgers[which].settle(seq, seq, end);
        }
    }
    let view = spool_stage::barrier(&spool).await;
    // The barrier's record is nobody's; the notes show that they come along.
    spool
        .appender()
        .append(Vec::new(), vec![Note { key: "door".into(), value: vec![1, 2, 3] }])
        .await
        .unwrap();
    spool.close();
    let bytes = std::fs::read(&stage.settings.path).unwrap();
    let mut pages: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    let starts: BTreeMap<&[u8], u64> =
        uplinks.iter().map(|(n, uplink)| (&uplink.content[..24], *n)).collect();
    for (at, page) in bytes.chunks(PAGE).enumerate() {
        for (from, start) in page.windows(24).enumerate() {
            let Some(n) = starts.get(start) else { continue };
            if page[from..].starts_with(&uplinks[n].content) {
                pages.entry(*n).or_default().push(at);
            }
        }
    }
    Made { stage, bytes, uplinks, waits, dead, seqs, pages, view }
}

impl Made {
    /// Another stage with these bytes as its spool.
    fn with(&self, bytes: &[u8]) -> Stage {
        let stage = Stage::new();
        std::fs::write(&stage.settings.path, bytes).unwrap();
        stage
    }

    /// Those of `all` that are in some page which is whole. A dead letter has the bytes of its record once more.
    fn still_in<'a>(&'a self, all: &'a BTreeSet<u64>, bytes: &'a [u8]) -> impl Iterator<Item = u64> + 'a {
        let page = |bytes: &'a [u8], at: usize| bytes.get(at * PAGE..(at + 1) * PAGE);
        let is_whole =
            move |at: &usize| page(bytes, *at).is_some_and(|is| Some(is) == page(&self.bytes, *at));
        let is_there = move |n: &u64| self.pages[n].iter().any(is_whole);
        all.difference(&self.dead).copied().filter(is_there)
    }

    /// What a ledger sees, each exactly as it was heard; no number twice.
    fn seen(&self, ledger: &Ledger) -> BTreeSet<u64> {
        let mut seen = BTreeSet::new();
        for (_, entry) in entries(ledger) {
            if let Entry::Mine(mine) = entry {
                let n = number(&mine.uplink);
                assert_eq!(Some(&mine.uplink), self.uplinks.get(&n));
                assert!(seen.insert(n), "{n} is there twice");
            }
        }
        seen
    }
}

/// What waits for a ledger: what is in the log and not settled.
fn waiting(made: &Made, ledger: &Ledger) -> BTreeSet<u64> {
    let settled = ledger.settled().unwrap();
    let settled: BTreeSet<u64> =
        mine(ledger).into_iter().filter(|(seq, _)| settled.contains(*seq)).map(|(_, n)| n).collect();
    made.seen(ledger).difference(&settled).copied().collect()
}

async fn dead_of(spool: &Spool, two: &Two) -> BTreeSet<u64> {
    let letters = spool.operator().dead_letters(two.accounts[0], 0, usize::MAX).unwrap();
    letters.iter().map(|letter| number(&letter.uplink)).collect()
}

fn outcome(view: &View) -> String {
    assert_eq!(view.set_aside.len(), 1, "{:?}", view.set_aside);
    view.set_aside[0].outcome.clone().unwrap_or_default()
}

/// The hottest page of all is the first. Without it everything is still there.
#[tokio::test]
async fn without_its_header_everything_is_saved() {
    let made = made(700, 1).await;
    let mut bytes = made.bytes.clone();
    bytes[..PAGE].fill(0);
    let stage = made.with(&bytes);
    let spool = stage.open();
    let view = spool.view().borrow().clone();
    let two = two(&spool).await;
    for (which, ledger) in two.ledgers.iter().enumerate() {
        assert_eq!(waiting(&made, ledger), made.waits[which]);
        // What a lane holds from before a reopening still means the same record.
        assert!(mine(ledger).iter().all(|(seq, n)| made.seqs[n] == *seq));
    }
    assert_eq!(dead_of(&spool, &two).await, made.dead);
    assert_eq!(view.accounts, made.view.accounts, "with all their counts");
    assert_eq!(view.appended, made.view.appended);
    assert_eq!(spool.notes().iter().find(|note| note.key == "door").unwrap().value, [1, 2, 3]);
    let saved = made.waits[0].union(&made.waits[1]).count();
    let says = format!("{saved} uplinks and {} dead letters salvaged; some", made.dead.len());
    assert!(outcome(&view).starts_with(&says), "{}", outcome(&view));
    // Numbers go on behind all that were ever given out.
    let before = view.end;
    put(&spool, &two.routes, [uplink(&stage, 5_000, &mut fastrand::Rng::with_seed(9))]).await;
    assert!(seqs(&two.ledgers[0]).last() >= Some(&before));
    spool.close();
    let spool = stage.open();
    assert_eq!(spool.view().borrow().records as usize, saved + 1, "it is not done twice");
}

/// S3, S24: whatever became of some pages, what is whole is saved, the rest is counted, nothing is invented.
#[tokio::test]
async fn what_is_whole_is_saved_and_the_rest_is_counted() {
    let made = made(500, 2).await;
    let mut random = fastrand::Rng::with_seed(3);
    let (mut damaged, mut lost_some, mut unknown) = (0, 0, 0);
    for round in 0..120 {
        let mut bytes = made.bytes.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            let page = at / PAGE * PAGE;
            match random.u8(..4) {
                0 => bytes[page..page + PAGE].fill(0),
                1 => bytes[page..page + PAGE].iter_mut().for_each(|byte| *byte = random.u8(..)),
                2 => bytes[page + random.usize(..PAGE / 512) * 512..page + PAGE].fill(0xff),
                _ => bytes[at] ^= 1 << random.u8(..8),
            }
        }
        let stage = made.with(&bytes);
        let spool = stage.try_open().unwrap_or_else(|error| panic!("round {round}: {error}"));
        let view = spool.view().borrow().clone();
        if view.set_aside.is_empty() {
            continue;
        }
        damaged += 1;
        let says = outcome(&view);
        let two = two(&spool).await;
        let dead = dead_of(&spool, &two).await;
        assert!(dead.is_subset(&made.dead), "round {round}");
        for (which, ledger) in two.ledgers.iter().enumerate() {
            let (id, waits) = (two.accounts[which], waiting(&made, ledger));
            assert_eq!(account(&view, id).backlog as usize, waits.len(), "round {round}");
            if says.contains("nobody knows") {
                // Accounts or routes are among what was hit.
                unknown += 1;
                continue;
            }
            for n in made.still_in(&made.waits[which], &bytes) {
                assert!(waits.contains(&n), "round {round}: {n} is whole and was not saved: {says}");
            }
            if says.contains("may be sent again") {
                unknown += 1;
                continue;
            }
            assert!(waits.is_subset(&made.waits[which]), "round {round}: what is settled came back: {says}");
            let missing = made.waits[which].len() - waits.len();
            let missing = missing + if which == 0 { made.dead.len() - dead.len() } else { 0 };
            assert_eq!(lost(&view, id, Loss::Damaged) as usize, missing, "round {round}: {says}");
            lost_some += usize::from(missing > 0);
        }
    }
    let says = format!("{damaged} of 120 were damaged, {lost_some} lost anything, {unknown} lost values");
    assert!(damaged > 40 && lost_some > 5 && unknown < damaged, "{says}");
}

/// However short a file was cut, what is left of it is saved.
#[tokio::test]
async fn the_rest_of_a_truncated_file_is_saved() {
    let made = made(400, 4).await;
    let mut random = fastrand::Rng::with_seed(5);
    let mut saved = 0;
    for round in 0..40 {
        let bytes = &made.bytes[..random.usize(1..made.bytes.len())];
        let stage = made.with(bytes);
        let spool = stage.try_open().unwrap_or_else(|error| panic!("round {round}: {error}"));
        let view = spool.view().borrow().clone();
        let says = outcome(&view);
        let two = two(&spool).await;
        for (which, ledger) in two.ledgers.iter().enumerate() {
            let waits = waiting(&made, ledger);
            saved += waits.len();
            if !says.contains("nobody knows") {
                assert!(
                    made.still_in(&made.waits[which], bytes).all(|n| waits.contains(&n)),
                    "round {round}: {says}"
                );
            }
        }
    }
    assert!(saved > 0);
}

/// A record on which nothing but the log depends is lost alone, and the file says for whom.
#[tokio::test]
async fn one_bad_page_costs_what_was_in_it() {
    let made = made(300, 6).await;
    let n = *made.waits[0].iter().nth(50).unwrap();
    let mut bytes = made.bytes.clone();
    let content = &made.uplinks[&n].content;
    for page in bytes.chunks_mut(PAGE).filter(|page| page.windows(content.len()).any(|at| at == content)) {
        page.fill(0);
    }
    let stage = made.with(&bytes);
    let spool = stage.open();
    let view = spool.view().borrow().clone();
    let two = two(&spool).await;
    let waits = waiting(&made, &two.ledgers[0]);
    let missing = made.waits[0].len() - waits.len();
    assert!((1..40).contains(&missing) && !waits.contains(&n), "{missing} are missing");
    assert_eq!(lost(&view, two.accounts[0], Loss::Damaged), missing as u64);
    assert!(outcome(&view).contains("lost, counted as damaged"), "{}", outcome(&view));
    let ranges = spool.operator().losses().unwrap();
    assert!(
        ranges.iter().any(|range| range.loss == Loss::Damaged && range.n == missing as u64),
        "{ranges:?}"
    );
}

/// Writes a value of the `state` table of a closed file.
fn write(path: &Path, key: &str, format: u8, body: &[u8]) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&[format]), body);
    let value = [&[format], crc.to_le_bytes().as_slice(), body].concat();
    let database = Database::create(path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(STATE).unwrap().insert(key, value.as_slice()).unwrap();
    txn.commit().unwrap();
}

/// As if the transfer of a file had come so far: which way, how often it was begun, below which number nothing is to come.
fn begun(spool: &Path, file: &Path, what: &str, way: u32, attempts: u8, next: u64) {
    let of = std::fs::metadata(file).unwrap();
    let from = (of.ino(), of.len(), of.mtime() * 1_000_000_000 + of.mtime_nsec());
    let none: Option<(u32, u64)> = None;
    let body = postcard::to_allocvec(&(from, way, attempts, false, false, none, next)).unwrap();
    write(spool, &format!("note/transfer/{what}"), 1, &body);
}

/// DESIGN invariant 7: a salvage that dies is tried once more and not for ever; what it has saved by then stays.
#[tokio::test]
async fn a_salvage_that_dies_is_not_tried_for_ever() {
    let made = made(100, 7).await;
    for (attempts, is_saved) in [(1, true), (2, false)] {
        let stage = Stage::new();
        stage.open().close();
        std::fs::write(stage.beside("salvage"), &made.bytes).unwrap();
        std::fs::write(stage.beside("salvage.reason"), "torn\n").unwrap();
        begun(&stage.settings.path, &stage.beside("salvage"), "salvage", 0, attempts, 0);
        let spool = stage.open();
        let view = spool.view().borrow().clone();
        let aside = &view.set_aside[0];
        assert_eq!((aside.path.clone(), aside.reason.as_str()), (stage.beside("damaged"), "torn"));
        assert!(!stage.beside("salvage").exists() && !stage.beside("salvage.reason").exists());
        let says = outcome(&view);
        if is_saved {
            assert_eq!(view.accounts, made.view.accounts, "{says}");
        } else {
            assert!(view.accounts.is_empty() && says.contains("did not come to an end"), "{says}");
        }
    }
}

/// A file that is damaged while an older one is still owed is what the unfinished salvage made: the older one counts.
#[tokio::test]
async fn the_copy_may_be_damaged_too() {
    let made = made(100, 8).await;
    let stage = Stage::new();
    std::fs::write(&stage.settings.path, vec![0x5a; 20_000]).unwrap();
    std::fs::write(stage.beside("salvage"), &made.bytes).unwrap();
    let spool = stage.open();
    let view = spool.view().borrow().clone();
    assert_eq!(view.accounts, made.view.accounts);
    assert_eq!(
        std::fs::read(stage.beside("damaged")).unwrap(),
        made.bytes,
        "one is kept, and it is this one"
    );
}

/// A file that was not read when it was set aside meets a spool with a life of its own: nothing of either is lost.
#[tokio::test]
async fn a_late_salvage_mixes_nothing_up() {
    for spoil in [<[u8]>::to_vec, without_branches] {
        late_salvage(spoil).await;
    }
}

async fn late_salvage(spoil: fn(&[u8]) -> Vec<u8>) {
    let made = made(100, 10).await;
    let stage = Stage::new();
    let spool = stage.open();
    // The other order: other ids for the same integrations.
    let names = vec![spool_stage::route("mqtt", "broker"), spool_stage::route("http", "api")];
    let routes = spool.routes(names).await.unwrap();
    let own: Vec<u64> = (10_000..10_020).collect();
    put(&spool, &[routes[1].0], own.iter().map(|n| stage.uplink(*n))).await;
    spool.close();
    std::fs::write(stage.beside("salvage"), spoil(&made.bytes)).unwrap();
    let spool = stage.open();
    let two = two(&spool).await;
    let view = spool.view().borrow().clone();
    let (api, broker) = (counts(&view, two.accounts[0]), counts(&view, two.accounts[1]));
    assert_eq!(api.0 as usize, made.waits[0].len() + own.len());
    assert_eq!((broker.0 as usize, api.2 as usize), (made.waits[1].len(), made.dead.len()));
    let numbers: BTreeSet<u64> = mine(&two.ledgers[0]).into_iter().map(|(_, n)| n).collect();
    assert_eq!(numbers, own.iter().chain(&made.waits[0]).copied().collect());
}

/// S3: what an older version set aside as too new is imported by the one that can read it: for those who still wait, under the
/// ids it always had, behind what came meanwhile.
#[tokio::test]
async fn a_newer_file_is_imported_when_it_can_be_read() {
    let made = made(300, 11).await;
    let stage = made.with(&made.bytes);
    // What a later version makes of it: this one sets it aside and begins afresh.
    let totals = {
        use redb::ReadableDatabase;
        let database = Database::create(&stage.settings.path).unwrap();
        let table = database.begin_read().unwrap().open_table(STATE).unwrap();
        let value = table.get("totals").unwrap().unwrap();
        value.value()[5..].to_vec()
    };
    write(&stage.settings.path, "totals", 2, &totals);
    for _ in 0..2 {
        let spool = stage.open();
        let view = spool.view().borrow().clone();
        assert_eq!(view.set_aside.len(), 1);
        assert_eq!(view.set_aside[0].path, stage.beside("newer"), "kept, and shown at every start");
        spool.close();
    }
    let spool = stage.open();
    let broker = spool.routes(vec![spool_stage::route("mqtt", "broker")]).await.unwrap();
    put(&spool, &[broker[0].0], (20_000..20_050).map(|n| stage.uplink(n))).await;
    spool.close();

    // The version that reads it.
    write(&stage.beside("newer"), "totals", 1, &totals);
    let spool = stage.open();
    let view = spool.view().borrow().clone();
    assert_eq!(view.set_aside, [], "it is not needed any more");
    assert!(!stage.beside("newer").exists() && !stage.beside("newer.reason").exists());
    let two = two(&spool).await;
    let all: Vec<u64> = (20_000..20_050).chain(made.waits[1].iter().copied()).collect();
    let numbers: Vec<u64> = mine(&two.ledgers[1]).into_iter().map(|(_, n)| n).collect();
    assert_eq!(numbers, all);
    let before = &made.view.accounts;
    let (api, broker) = (account(&view, two.accounts[0]), account(&view, two.accounts[1]));
    assert_eq!(
        (api.backlog, api.delivered, api.dead_letters),
        (before[0].backlog, before[0].delivered, before[0].dead_letters)
    );
    assert_eq!((broker.backlog, broker.delivered), (50 + before[1].backlog, before[1].delivered));
    assert_eq!((api.lost, broker.lost), (vec![], vec![]));
    assert_eq!(dead_of(&spool, &two).await, made.dead);
    // Dead letters can be sent again by the routes they have here.
    let again = spool.operator().replay_dead(two.accounts[0]).await.unwrap();
    assert_eq!(again as usize, made.dead.len());
    let seen: BTreeSet<u64> = mine(&two.ledgers[0]).into_iter().map(|(_, n)| n).collect();
    assert!(made.dead.is_subset(&seen));
    spool.close();
    assert_eq!(stage.open().view().borrow().records, view.records + again, "it is not done twice");
}

/// An import that was cut short goes on where it was.
#[tokio::test]
async fn an_import_goes_on() {
    let made = made(200, 12).await;
    let stage = Stage::new();
    std::fs::write(stage.beside("newer"), &made.bytes).unwrap();
    let spool = stage.open();
    let two_of = two(&spool).await;
    let whole = counts(&spool.view().borrow(), two_of.accounts[1]).0;
    assert_eq!(whole as usize, made.waits[1].len());
    spool.close();

    let spool = made.stage.open();
    let middle = seqs(&two(&spool).await.ledgers[1])[40];
    spool.close();
    let stage = Stage::new();
    stage.open().close();
    std::fs::write(stage.beside("newer"), &made.bytes).unwrap();
    begun(&stage.settings.path, &stage.beside("newer"), "newer", 1, 1, middle);
    let spool = stage.open();
    let two = two(&spool).await;
    let left = counts(&spool.view().borrow(), two.accounts[1]).0;
    assert!(left > 0 && left < whole, "{left} of {whole}");
    assert!(!stage.beside("newer").exists());
}

/// A newer file that is damaged, too, is imported as far as that goes, and kept.
#[tokio::test]
async fn a_damaged_newer_file_is_imported_as_far_as_it_goes() {
    let made = made(100, 13).await;
    let mut bytes = without_branches(&made.bytes);
    let n = *made.waits[1].iter().nth(20).unwrap();
    made.pages[&n].iter().for_each(|page| bytes[page * PAGE..(page + 1) * PAGE].fill(0));
    let stage = Stage::new();
    std::fs::write(stage.beside("newer"), &bytes).unwrap();
    let spool = stage.open();
    let view = spool.view().borrow().clone();
    let two = two(&spool).await;
    let seen = made.seen(&two.ledgers[1]);
    assert!(seen.is_subset(&made.waits[1]) && !seen.contains(&n));
    assert!(made.still_in(&made.waits[1], &bytes).all(|n| seen.contains(&n)));
    assert_eq!(lost(&view, two.accounts[1], Loss::Damaged) as usize, made.waits[1].len() - seen.len());
    assert_eq!(view.set_aside[0].path, stage.beside("damaged"));
    assert!(outcome(&view).contains("imported"), "{}", outcome(&view));
    assert_eq!(std::fs::read(stage.beside("damaged")).unwrap(), bytes);
    assert!(!stage.beside("newer").exists());
}

/// The file with every branch page zeroed: nothing leads to the records any more.
fn without_branches(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let branches = bytes.chunks_mut(PAGE).skip(1).filter(|page| page[0] == 2);
    assert!(branches.map(|page| page.fill(0)).count() > 0);
    bytes
}

/// Records that nothing leads to any more are found by themselves; what was settled, or freed, does not come back.
#[tokio::test]
async fn records_that_nothing_leads_to_are_found() {
    let made = made(600, 14).await;
    let stage = made.with(&without_branches(&made.bytes));
    let spool = stage.open();
    let view = spool.view().borrow().clone();
    let two = two(&spool).await;
    for (which, ledger) in two.ledgers.iter().enumerate() {
        assert_eq!(waiting(&made, ledger), made.waits[which], "{}", outcome(&view));
    }
    assert_eq!(dead_of(&spool, &two).await, made.dead);
    assert_eq!(two.accounts.map(|id| lost(&view, id, Loss::Damaged)), [0, 0]);
}

/// RULES S22: what dates the records comes along with them, also out of a file that is only looked at.
#[tokio::test]
async fn what_dates_the_records_comes_along() {
    use packhorse::clock::{Clock, Quality, RELEASE_FLOOR_US};
    use packhorse::spool::inspect::{Inspection, Selection};
    let stage = Stage::new();
    stage.clock.step_wall(-stage.clock.wall_us());
    stage.clock.set_trusted(false);
    let spool = stage.open();
    let two_of = two(&spool).await;
    put(&spool, &two_of.routes, [stage.uplink(1)]).await;
    stage.clock.step_wall(RELEASE_FLOOR_US + 3_600_000_000);
    stage.clock.set_trusted(true);
    put(&spool, &two_of.routes, [stage.uplink(2)]).await;
    spool.close();
    let mut qualities = Vec::new();
    Inspection::open(&stage.settings.path).unwrap().export(&Selection::default(), &mut |one| {
        qualities.push(one.heard.quality);
        std::ops::ControlFlow::Continue(())
    });
    assert_eq!(qualities, [Quality::Corrected, Quality::Ntp]);

    for suffix in ["newer", "salvage"] {
        let other = Stage::new();
        other.clock.reboot();
        std::fs::copy(&stage.settings.path, other.beside(suffix)).unwrap();
        for _ in 0..2 {
            let spool = other.open();
            let Entry::Mine(first) = entries(&two(&spool).await.ledgers[0])[0].1.clone() else { panic!() };
            assert_eq!(other.clock.date(first.uplink.at).quality, Quality::Corrected, "{suffix}");
            spool.close();
        }
    }
}
