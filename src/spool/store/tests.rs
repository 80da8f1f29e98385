//! The store by itself, in memory, and what the tests of its neighbours share: a small store and work for it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::ops::Range;
use std::sync::atomic::AtomicUsize;

use super::super::Settlement;
use super::super::account::Loss;
use super::super::jobs::DeadReplay;
use super::super::record::seal;
use super::super::replay::Replay;
use super::super::settled::Settled;
use super::super::values::{account_key, open_value, read_account};
use super::*;
use crate::clock::{Clock, ManualClock};
use crate::uplink::{Flags, Kind, Rx, Uplink};

/// Limits that no test reaches.
pub(in super::super) const LIMITS: Limits =
    Limits { log_cap: u64::MAX, dead_cap: u64::MAX, keeps: false, on_full: OnFull::DropOldest };

fn in_memory() -> Store {
    let builder = redb::Builder::new();
    let database = builder.create_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
    Store::new(database, Gauge::default()).unwrap()
}

fn route(name: &str) -> RouteName {
    RouteName { flow: "silos".into(), kind: "http".into(), name: name.into() }
}

/// A store in memory with one integration.
pub(in super::super) fn fresh() -> Store {
    let mut store = in_memory();
    let make = Work { routes: vec![route("api")], ..Work::default() };
    store.round(&make, true, LIMITS, 0, |_| Ok(())).unwrap();
    store
}

/// Uplinks of this moment for the integrations that [`fresh`] and a second call of `routes` make.
pub(in super::super) fn work(numbers: Range<u64>, clock: &ManualClock) -> Work {
    let uplink = |n: u64| Uplink {
        id: uuid::Uuid::from_u128(u128::from(n)),
        source: "concentrator".into(),
        kind: Kind::Lorawan,
        content: vec![0x40; 20],
        dev_eui: None,
        f_cnt: None,
        rx: Rx::default(),
        at: clock.now(),
        flags: Flags { clock_trusted: clock.trusted(), ..Flags::default() },
    };
    let uplinks = numbers.map(|n| Routed { uplink: uplink(n), routes: vec![RouteId(0)] }).collect();
    Work { uplinks, ..Work::default() }
}

pub(in super::super) fn settle(account: u32, seq: u64, settlement: Settlement) -> Work {
    let account = AccountId(account);
    let credit = Arc::new(AtomicUsize::new(1));
    Work {
        settles: vec![Settle { account, from: seq, to: seq, settlement: Some(settlement), credit }],
        ..Work::default()
    }
}

/// The first account's backlog.
pub(in super::super) fn waiting(store: &Store) -> u64 {
    store.state.accounts[&AccountId(0)].backlog
}

pub(in super::super) fn do_round(store: &mut Store, work: &Work) {
    store.round(work, false, LIMITS, 0, |_| Ok(())).unwrap();
}

fn hex<T: Serialize>(value: &T) -> String {
    data_encoding::HEXLOWER.encode(&seal(FORMAT, value).unwrap())
}

fn from_hex<T: for<'a> Deserialize<'a>>(text: &str) -> T {
    open_value(&data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap(), "value").unwrap()
}

/// The bytes of format 1, frozen like those of the record: every spool in the field has them.
#[test]
fn the_stored_values_of_format_1_are_frozen() {
    let totals = Totals {
        appended: 1_000_000,
        records: 300,
        bytes: 70_000,
        dead_bytes: 4_000,
        kept: 3,
        kept_bytes: 600,
        gone: None,
        unknown: 4,
        unknown_from: 5,
        unreadable: 2,
        seq_limit: 1 << 21,
        next_route: 3,
        next_account: 129,
    };
    assert_eq!(hex(&totals), GOLDEN_TOTALS);
    assert_eq!(from_hex::<Totals>(GOLDEN_TOTALS), totals);

    let route = Route { flow: "silos".into(), account: 128 };
    assert_eq!(hex(&route), GOLDEN_ROUTE);
    assert_eq!(from_hex::<Route>(GOLDEN_ROUTE), route);
    assert_eq!(hex(&[(300u32, &route)].as_slice()), GOLDEN_ROUTES);
    assert_eq!(from_hex::<Vec<(u32, Route)>>(GOLDEN_ROUTES), [(300, route)]);

    let mut account = Account::starting_at("mqtt", "plant-broker", 1_000);
    account.settled.insert(1_002, 1_005);
    (account.backlog, account.delivered, account.dead) = (7, 500, 1);
    for (loss, n) in Loss::ALL.into_iter().zip(1..) {
        account.lose(loss, n);
    }
    (account.paused, account.purged_below) = (true, 900);
    account.dead_replay = Some(DeadReplay { next: 2, below: 3, n: 1 });
    let settled = Settled::below(8);
    account.replay = Some(Replay { next: 4, below: 9, all: true, left: 5, missed: 1, settled });
    account.replayed = 6;
    assert_eq!(hex(&account), GOLDEN_ACCOUNT);
    assert_eq!(from_hex::<Account>(GOLDEN_ACCOUNT), account);
}

const GOLDEN_TOTALS: &str = "010dc3cd87c0843dac02f0a204a01f03d8040004050280808001038101";
const GOLDEN_ROUTE: &str = "01ae31976f0573696c6f738001";
const GOLDEN_ROUTES: &str = "01ecec924101ac020573696c6f738001";
const GOLDEN_ACCOUNT: &str = "01a089b839046d7174740c706c616e742d62726f6b6572e80701ea07ed0707f4030107010203040506070184070001020301010409010501080006";

/// A loss that a later version adds grows the list at its end: both read what the other wrote.
#[test]
fn an_account_with_fewer_losses_can_be_read() {
    #[derive(Serialize)]
    struct Earlier(Arc<str>, Arc<str>, Settled, [u64; 3], Vec<u64>, bool, u64, [Option<()>; 3], u64);
    let losses = vec![4, 5];
    let earlier =
        Earlier("http".into(), "api".into(), Settled::below(5), [1, 2, 3], losses, false, 0, [None; 3], 0);
    let mut account: Account = from_hex(&hex(&earlier));
    account.lose(Loss::Filtered, 6);
    let lost = account.view(AccountId(0)).lost;
    assert_eq!(lost, [(Loss::Expired, 4), (Loss::Evicted, 5), (Loss::Filtered, 6)]);
}

/// Numbers are reserved on the disk before the first of a new block is used, in whatever durability.
#[test]
fn a_new_block_of_numbers_is_reserved_durably() {
    let clock = ManualClock::new();
    let mut store = fresh();
    store.state.next_seq = store.state.totals.seq_limit - 2;
    let mut is_durable = |n| store.round(&work(0..n, &clock), false, LIMITS, 0, |_| Ok(())).unwrap().durable;
    assert_eq!([is_durable(2), is_durable(1), is_durable(1)], [false, true, false]);
    assert!(store.state.next_seq <= store.state.totals.seq_limit);
}

/// S3: after a damaged file was set aside in mid-run, what lanes still hold and settle hits no new record.
#[test]
fn a_late_settlement_hits_nothing_in_a_fresh_file() {
    let clock = ManualClock::new();
    let mut old = fresh();
    do_round(&mut old, &work(0..3, &clock));
    let held = old.state.next_seq - 1;
    let mut store = in_memory();
    store.adopt(old.state(), &Forgotten::default()).unwrap();
    assert_eq!(store.find_routes(&[route("api")]), [(RouteId(0), AccountId(0))]);
    do_round(&mut store, &work(3..6, &clock));
    do_round(&mut store, &settle(0, held, Settlement::Delivered));
    assert_eq!(waiting(&store), 3);
    assert_eq!(store.view(0).records, 3);
}

/// An account that can't be read is an error; taken for a new one, it would have everything sent again.
#[test]
fn an_unreadable_account_is_not_an_empty_one() {
    let store = fresh();
    assert_eq!(read_account(&store.database, AccountId(7)).unwrap(), None);
    let txn = store.database.begin_write().unwrap();
    txn.open_table(STATE).unwrap().insert(account_key(AccountId(0)).as_str(), b"xx".as_slice()).unwrap();
    txn.commit().unwrap();
    assert!(read_account(&store.database, AccountId(0)).is_err());
}
