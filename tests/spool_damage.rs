//! What is damage and what is not (RULES S3), and what one damaged record does to the others.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod spool_stage;

use std::path::Path;
use std::sync::Arc;

use packhorse::spool::{Backend, Deaths, Entry, Loss, OpenError, SetAside, Settlement, Spool, View};
use redb::{Database, MultimapTableDefinition, ReadableDatabase, ReadableTable, TableDefinition};
use spool_stage::{Stage, append, barrier, counts, entries, lost, mine, mine_of, seqs, two, until};

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");
const PAGE: usize = 4096;

/// What is done to the `state` table of a closed file.
type Change<'c> = &'c dyn Fn(&mut redb::Table<'_, &str, &[u8]>);

/// Makes a spool with `n` uplinks for two integrations and closes it.
async fn filled(stage: &Stage, n: u64) {
    let spool = stage.open();
    let two = two(&spool).await;
    append(&spool.appender(), &two.routes, (0..n).map(|n| stage.uplink(n))).await;
    until(&mut spool.view(), "the uplinks", |view| view.records == n).await;
    spool.close();
}

/// Changes the closed file with redb itself.
fn edit(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::create(path).unwrap();
    let txn = database.begin_write().unwrap();
    change(&txn);
    txn.commit().unwrap();
}

/// A value as the spool frames it: format byte, CRC-32C over format and body, body.
fn sealed(format: u8, body: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&[format]), body);
    [&[format], crc.to_le_bytes().as_slice(), body].concat()
}

/// The spool was set aside under `suffix` and says so; the one in its place is empty and works.
async fn is_fresh(stage: &Stage, spool: Spool, suffix: &str) {
    let view: Arc<View> = spool.view().borrow().clone();
    let aside = was_set_aside(stage, &view, suffix);
    assert_eq!((view.records, view.accounts.len()), (0, 0));
    let two = two(&spool).await;
    append(&spool.appender(), &two.routes, [stage.uplink(7)]).await;
    let view = until(&mut spool.view(), "the fresh spool to take a record", |view| view.durable == 1).await;
    assert_eq!(view.set_aside, std::slice::from_ref(&aside), "still shown");
    assert_eq!(mine(&two.ledgers[0]).len(), 1);
    spool.close();
    let spool = stage.open();
    assert_eq!(spool.view().borrow().set_aside, [aside], "and after a restart");
    spool.close();
}

/// Something was set aside under `suffix`, with its reason.
fn was_set_aside(stage: &Stage, view: &View, suffix: &str) -> SetAside {
    let [aside] = view.set_aside.as_slice() else { panic!("{:?}", view.set_aside) };
    assert_eq!(aside.path, stage.beside(suffix));
    assert!(aside.path.exists());
    let reason = std::fs::read_to_string(stage.beside(&format!("{suffix}.reason"))).unwrap();
    assert_eq!(reason.lines().next(), Some(aside.reason.as_str()));
    assert_eq!(reason.lines().nth(1), aside.outcome.as_deref());
    assert!(!aside.reason.is_empty());
    aside.clone()
}

/// The file was set aside as damaged, but for that nothing is missing: `n` uplinks for two integrations.
async fn is_salvaged(stage: &Stage, spool: Spool, n: u64) {
    let view: Arc<View> = spool.view().borrow().clone();
    let aside = was_set_aside(stage, &view, "damaged");
    assert!(aside.outcome.unwrap().starts_with(&format!("{n} uplinks salvaged")));
    let two = two(&spool).await;
    assert_eq!(two.accounts.map(|id| counts(&view, id)), [(n, 0, 0); 2]);
    for ledger in &two.ledgers {
        let numbers: Vec<u64> = mine(ledger).into_iter().map(|(_, n)| n).collect();
        assert_eq!(numbers, (0..n).collect::<Vec<_>>());
    }
    spool.close();
}

/// S3: bytes that are no redb file at all.
#[tokio::test]
async fn garbage_is_set_aside() {
    for bytes in [b"x".repeat(3), b"not a spool\n".repeat(10_000), vec![0; 70_000]] {
        let stage = Stage::new();
        std::fs::write(&stage.settings.path, &bytes).unwrap();
        let spool = stage.open();
        is_fresh(&stage, spool, "damaged").await;
        assert_eq!(std::fs::read(stage.beside("damaged")).unwrap(), bytes, "kept as it was");
    }
}

/// S3: an empty file is what `touch` leaves; there is nothing in it that could be damaged.
#[tokio::test]
async fn an_empty_file_is_a_new_spool() {
    let stage = Stage::new();
    std::fs::write(&stage.settings.path, b"").unwrap();
    let spool = stage.open();
    assert_eq!(spool.view().borrow().set_aside, []);
}

/// S3: what a start leaves behind that ended while it made the file: its size, and perhaps its header without the magic
/// number. With anything else in it, it is damaged.
#[tokio::test]
async fn an_unfinished_file_is_a_new_spool() {
    let stage = Stage::new();
    drop(Database::create(&stage.settings.path).unwrap());
    let made = std::fs::read(&stage.settings.path).unwrap();
    let new_file = 18 * PAGE;
    let mut header = vec![0; new_file];
    header[9..PAGE].copy_from_slice(&made[9..PAGE]);
    for unfinished in [vec![0; new_file], header] {
        std::fs::write(&stage.settings.path, &unfinished).unwrap();
        let spool = stage.open();
        assert_eq!(spool.view().borrow().set_aside, []);
        spool.close();
        for at in [0, PAGE, new_file - 1] {
            let stage = Stage::new();
            let mut damaged = unfinished.clone();
            damaged[at] = 1;
            std::fs::write(&stage.settings.path, &damaged).unwrap();
            let spool = stage.open();
            let view = spool.view().borrow().clone();
            was_set_aside(&stage, &view, "damaged");
            spool.close();
        }
    }
}

/// S3: whatever length a file is cut to, it is set aside.
#[tokio::test]
async fn a_truncated_file_is_set_aside() {
    let stage = Stage::new();
    filled(&stage, 300).await;
    let whole = std::fs::read(&stage.settings.path).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..60 {
        let stage = Stage::new();
        let len = if round < 10 { 1 + round * 60 } else { random.usize(1..whole.len() - 1) };
        std::fs::write(&stage.settings.path, &whole[..len]).unwrap();
        let spool = stage.try_open().unwrap_or_else(|error| panic!("cut to {len} bytes: {error}"));
        assert!(!spool.view().borrow().set_aside.is_empty(), "cut to {len} of {} bytes", whole.len());
    }
}

/// S3: after a page went bad, either it was not in use and nothing is missing, or the file is set aside. Nothing panics.
#[tokio::test]
async fn a_bad_page_is_found_or_harmless() {
    let stage = Stage::new();
    filled(&stage, 300).await;
    let whole = std::fs::read(&stage.settings.path).unwrap();
    let mut random = fastrand::Rng::with_seed(2);
    let mut set_aside = 0;
    for round in 0..200 {
        let stage = Stage::new();
        let mut bytes = whole.clone();
        // Every fourth hits the header, which is small and matters most.
        let at = if round % 4 == 0 { random.usize(..PAGE) } else { random.usize(..bytes.len()) };
        let page = at / PAGE * PAGE;
        match round % 3 {
            0 => bytes[at] ^= 1 << random.u8(..8),
            1 => bytes[page..page + PAGE].fill(0),
            _ => bytes[page..page + PAGE].iter_mut().for_each(|byte| *byte = random.u8(..)),
        }
        std::fs::write(&stage.settings.path, &bytes).unwrap();
        let spool = stage.try_open().unwrap_or_else(|error| panic!("round {round}, byte {at}: {error}"));
        let view = spool.view().borrow().clone();
        if !view.set_aside.is_empty() {
            set_aside += 1;
            continue;
        }
        let two = two(&spool).await;
        let numbers: Vec<u64> = mine(&two.ledgers[0]).into_iter().map(|(_, n)| n).collect();
        assert_eq!(numbers, (0..300).collect::<Vec<_>>(), "round {round}, byte {at}: records went silently");
        assert_eq!(counts(&view, two.accounts[1]), (300, 0, 0));
    }
    assert!(set_aside > 60, "only {set_aside} of 200 bad pages were noticed");
}

/// S3: a redb file of another program is not taken over, nor is one whose tables bear our names with other types.
#[tokio::test]
async fn somebody_elses_database_is_set_aside_untouched() {
    let others = TableDefinition::<&str, u64>::new("others");
    let wrong_log = TableDefinition::<&str, u64>::new("log");
    let multimap = MultimapTableDefinition::<u64, u64>::new("state");
    let makers: [&dyn Fn(&redb::WriteTransaction); 3] = [
        &|txn| assert!(txn.open_table(others).unwrap().insert("key", 1).unwrap().is_none()),
        &|txn| assert!(txn.open_table(wrong_log).unwrap().insert("key", 1).unwrap().is_none()),
        &|txn| assert!(!txn.open_multimap_table(multimap).unwrap().insert(1, 1).unwrap()),
    ];
    for (n, make) in makers.into_iter().enumerate() {
        let stage = Stage::new();
        edit(&stage.settings.path, make);
        let spool = stage.try_open().unwrap_or_else(|error| panic!("file {n}: {error}"));
        is_fresh(&stage, spool, "damaged").await;
        let database = Database::create(stage.beside("damaged")).unwrap();
        let txn = database.begin_read().unwrap();
        let tables = txn.list_tables().unwrap().count() + txn.list_multimap_tables().unwrap().count();
        assert_eq!(tables, 1, "file {n}: nothing was written into it");
    }
}

/// S3: a spool that lost its totals, or one of the values that everything hangs on, is no spool. What waits in it is salvaged
/// all the same, unless nobody can tell any more for whom.
#[tokio::test]
async fn a_spool_without_its_values_is_set_aside() {
    let changes: [Change<'_>; 4] = [
        &|state| drop(state.remove("totals").unwrap()),
        &|state| drop(state.insert("totals", b"\x01".as_slice()).unwrap()),
        &|state| drop(state.insert("totals", sealed(1, b"\xff").as_slice()).unwrap()),
        &|state| drop(state.insert("account/0000000000", sealed(1, b"").as_slice()).unwrap()),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let stage = Stage::new();
        filled(&stage, 3).await;
        edit(&stage.settings.path, |txn| change(&mut txn.open_table(STATE).unwrap()));
        let spool = stage.open();
        if n < 3 {
            is_salvaged(&stage, spool, 3).await;
            continue;
        }
        let view = spool.view().borrow().clone();
        was_set_aside(&stage, &view, "damaged");
        let two = two(&spool).await;
        assert_eq!(
            two.ledgers.each_ref().map(|ledger| mine(ledger).len()),
            [0, 3],
            "the other one's account is whole"
        );
    }
}

/// DESIGN invariant 5: a sequence number at the end of its range, which no spool reaches, overflows nothing.
#[tokio::test]
async fn an_absurd_sequence_number_is_damage() {
    let stage = Stage::new();
    filled(&stage, 3).await;
    edit(&stage.settings.path, |txn| {
        txn.open_table(LOG).unwrap().insert(u64::MAX - 1, b"".as_slice()).unwrap();
    });
    let spool = stage.open();
    is_salvaged(&stage, spool, 3).await;
}

/// S3: the file of a newer version is kept as such, whatever else that version changed in it.
#[tokio::test]
async fn a_newer_file_is_set_aside_as_newer() {
    let new_log = TableDefinition::<u128, &[u8]>::new("log");
    for other_tables in [false, true] {
        let stage = Stage::new();
        filled(&stage, 3).await;
        edit(&stage.settings.path, |txn| {
            txn.open_table(STATE).unwrap().insert("totals", sealed(2, b"of the future").as_slice()).unwrap();
            if other_tables {
                txn.delete_table(LOG).unwrap();
                txn.open_table(new_log).unwrap();
            }
        });
        let spool = stage.open();
        is_fresh(&stage, spool, "newer").await;
        assert!(!stage.beside("damaged").exists());
    }
}

/// S3: one damaged file is kept; a second one takes its place.
#[tokio::test]
async fn one_damaged_file_is_kept() {
    let stage = Stage::new();
    for text in ["first", "second"] {
        std::fs::write(&stage.settings.path, text.repeat(1000)).unwrap();
        assert!(!stage.open().view().borrow().set_aside.is_empty());
        std::fs::remove_file(&stage.settings.path).unwrap();
        assert_eq!(std::fs::read_to_string(stage.beside("damaged")).unwrap(), text.repeat(1000));
    }
}

/// S3: a file that is open already is not damage, and it is left alone.
#[tokio::test]
async fn an_open_spool_is_in_use_and_stays_whole() {
    let stage = Stage::new();
    filled(&stage, 3).await;
    let spool = stage.open();
    let error = stage.try_open().unwrap_err();
    assert!(matches!(&error, OpenError::InUse(path) if *path == stage.settings.path), "{error}");
    assert!(!stage.beside("damaged").exists());
    let two = two(&spool).await;
    append(&spool.appender(), &two.routes, [stage.uplink(3)]).await;
    until(&mut spool.view(), "a fourth record", |view| view.durable == 4).await;
    assert_eq!(mine(&two.ledgers[0]).len(), 4);
}

/// S3: what can't be reached is not damaged; the error names the place, and nothing is renamed.
#[tokio::test]
async fn an_unusable_place_is_unavailable() {
    let mut stage = Stage::new();
    let file = stage.folder.path().join("a-file");
    std::fs::write(&file, b"precious").unwrap();
    for path in
        [file.join("spool.redb"), file.join("deeper").join("spool.redb"), stage.folder.path().to_owned()]
    {
        stage.settings.path.clone_from(&path);
        let error = stage.try_open().unwrap_err();
        assert!(matches!(error, OpenError::Unavailable(_)), "{error}");
        let place = if path == stage.folder.path() { path.as_path() } else { path.parent().unwrap() };
        assert!(error.to_string().contains(&place.display().to_string()), "{error}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(stage.folder.path()).unwrap().count(), 1);
}

/// S3: dying three times shortly after opening condemns a file that looks healthy; two times, or three that were forgotten,
/// do not.
#[tokio::test]
async fn the_third_death_condemns_the_file() {
    let stage = Stage::new();
    filled(&stage, 3).await;
    let deaths = Deaths::beside(&stage.settings.path);
    for _ in 0..3 {
        deaths.add();
    }
    deaths.forget();
    deaths.add();
    deaths.add();
    assert_eq!(stage.open().view().borrow().records, 3);
    deaths.add();
    let spool = stage.open();
    is_fresh(&stage, spool, "damaged").await;
    assert!(!stage.beside("died").exists(), "the fresh file starts without marks");
    assert_eq!(stage.open().view().borrow().records, 1);
}

/// S3: marks beside a file that somebody has removed since condemn nothing.
#[tokio::test]
async fn marks_without_a_file_do_no_harm() {
    let stage = Stage::new();
    for _ in 0..3 {
        Deaths::beside(&stage.settings.path).add();
    }
    let spool = stage.open();
    assert_eq!(spool.view().borrow().set_aside, []);
    assert!(!stage.beside("died").exists());
}

/// DESIGN section 8: one bad value costs one record. Who lost it can be told from the counts, exactly (S24); a value of a
/// format to come is kept, whatever is said about it.
#[tokio::test]
async fn a_damaged_record_is_counted_against_whom_it_was_for() {
    let stage = Stage::new();
    let spool = stage.open();
    let two_of = two(&spool).await;
    let api_alone = &two_of.routes[..1];
    append(&spool.appender(), api_alone, (0..3).map(|n| stage.uplink(n))).await;
    append(&spool.appender(), &two_of.routes, (3..6).map(|n| stage.uplink(n))).await;
    until(&mut spool.view(), "6 records", |view| view.records == 6).await;
    let seqs = seqs(&two_of.ledgers[0]);
    spool.close();
    edit(&stage.settings.path, |txn| {
        let mut log = txn.open_table(LOG).unwrap();
        let mut flipped = log.get(seqs[1]).unwrap().unwrap().value().to_vec();
        *flipped.last_mut().unwrap() ^= 0x10;
        log.insert(seqs[1], flipped.as_slice()).unwrap();
        log.insert(seqs[4], sealed(9, b"of the future").as_slice()).unwrap();
    });

    let spool = stage.open();
    let two = two(&spool).await;
    let seen: Vec<Entry> = entries(&two.ledgers[1]).into_iter().map(|(_, entry)| entry).collect();
    assert_eq!(seen[1], Entry::Damaged);
    assert_eq!(seen[4], Entry::Unknown(9));
    assert_eq!(seen[5], Entry::Mine(mine_of(stage.uplink(5), two.routes[1])));

    // Both lanes come across it; it was for one of them.
    for ledger in &two.ledgers {
        ledger.settle(seqs[1], seqs[1], Settlement::Damaged);
    }
    let view = barrier(&spool).await;
    assert_eq!(two.accounts.map(|id| lost(&view, id, Loss::Damaged)), [1, 0]);
    assert_eq!(two.accounts.map(|id| counts(&view, id)), [(5, 0, 0), (3, 0, 0)]);
    assert_eq!(view.records, 6, "five of the six and the barrier");

    for settlement in [Settlement::Damaged, Settlement::Delivered] {
        two.ledgers[0].settle(seqs[4], seqs[4], settlement);
    }
    let after = barrier(&spool).await;
    assert_eq!(after.accounts, view.accounts);
    assert!(
        entries(&two.ledgers[0]).contains(&(seqs[4], Entry::Unknown(9))),
        "kept for the version that knows it"
    );
    spool.close();
}

/// What a backend of a test can't hold is reported, and nothing is renamed on the disk.
#[test]
fn a_backend_of_its_own_has_no_file_to_set_aside() {
    #[derive(Debug)]
    struct Broken;
    impl packhorse::spool::OpenBackend for Broken {
        fn open(&self, _: &redb::Builder) -> Result<Database, redb::DatabaseError> {
            Err(redb::DatabaseError::Storage(redb::StorageError::Corrupted("torn".into())))
        }
    }
    let stage = Stage::new();
    let backend = Backend::Custom(Arc::new(Broken));
    let error = Spool::open(stage.settings.clone(), &backend, stage.clock.clone()).unwrap_err();
    assert!(error.to_string().contains("torn"), "{error}");
    assert_eq!(std::fs::read_dir(stage.folder.path()).unwrap().count(), 0);
}
