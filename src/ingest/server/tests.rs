//! The task over a spool of its own, with a test in the place of a source.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use tokio::sync::{oneshot, watch};

use std::collections::HashMap;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::flow::Router;
use crate::source::server::{IN_HAND, Intake};
use crate::spool::{Backend, Entry, Ledger, RouteName, Settings, Settlement, Spool};

const UUID_A: &str = "3ac7e3c4-4401-4b8d-9386-a5c902f9202d";
const UUID_B: &str = "7a4f1c52-9b1e-4c57-8f0d-1e2d3c4b5a69";

struct Stage {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

struct Running {
    spool: Spool,
    ledger: Ledger,
    intake: Intake,
    counters: Arc<DoorCounters>,
    task: tokio::task::JoinHandle<()>,
}

impl Stage {
    fn new() -> Stage {
        Stage { folder: tempfile::tempdir().unwrap(), clock: Arc::new(ManualClock::new()) }
    }

    async fn start(&self, has_routes: bool) -> Running {
        let settings = Settings {
            path: self.folder.path().join("spool.redb"),
            max_size: 16 << 20,
            max_age: Duration::from_secs(86_400),
            // Only whoever waits makes a commit.
            commit_window: Duration::from_secs(86_400),
            keep_delivered: Duration::ZERO,
            on_full: crate::config::OnFull::DropOldest,
        };
        let spool = Spool::open(settings, &Backend::File, self.clock.clone()).unwrap();
        let name = RouteName { flow: String::new(), kind: "http".into(), name: "api".into() };
        let (route, account) = spool.routes(vec![name]).await.unwrap()[0];
        let ledger = spool.ledger(account, vec![route]);
        let counters = Arc::new(DoorCounters::default());
        let server = Server {
            rooms: watch::channel(Arc::new(Rooms {
                devices: Arc::default(),
                router: Router::of_everything(if has_routes { vec![route] } else { Vec::new() }),
                accept: HashMap::new(),
            }))
            .1,
            spool: spool.appender(),
            counters: Arc::clone(&counters),
            sightings: crate::sightings::Sightings::new(),
            known: known_ids(spool.notes(), &spool.tail()).unwrap(),
        };
        let (send, queue) = mpsc::channel(IN_HAND);
        let intake = Intake::new(send, watch::channel(true).1);
        let task = tokio::spawn(server.run(queue));
        Running { spool, ledger, intake, counters, task }
    }

    fn told(&self, id: Option<&str>) -> Told {
        let id = id.map(|id| format!(r#""id":"{id}","#)).unwrap_or_default();
        let text = format!(r#"{{{id}"dev_eui":"0004a30b001c0530","f_cnt":7,"payload":"AQ=="}}"#);
        Told::read(text.as_bytes(), self.clock.now()).unwrap()
    }
}

impl Running {
    fn offer(&self, uplinks: Vec<Told>) -> oneshot::Receiver<Vec<Uuid>> {
        self.intake.offer(&Arc::from("lns"), uplinks, None).unwrap()
    }

    fn stored(&self) -> Vec<(u64, Uplink)> {
        let mut stored = Vec::new();
        self.ledger
            .scan(0, usize::MAX, |seq, entry| {
                if let Entry::Mine(mine) = entry {
                    stored.push((seq, mine.uplink));
                }
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        stored
    }

    async fn stop(self) {
        drop(self.intake);
        self.task.await.unwrap();
        self.spool.close();
    }
}

#[tokio::test]
async fn what_is_answered_is_stored_as_it_came() {
    let stage = Stage::new();
    let running = stage.start(true).await;
    let told = stage.told(Some(UUID_A));
    let ids = running.offer(vec![told.clone(), stage.told(None)]).await.unwrap();
    assert_eq!(ids[0].to_string(), UUID_A);
    assert_eq!(ids[1].get_version_num(), 7);
    let stored = running.stored();
    assert_eq!(stored.iter().map(|(_, uplink)| uplink.id).collect::<Vec<_>>(), ids);
    let uplink = &stored[0].1;
    assert_eq!((uplink.kind, &uplink.content, &*uplink.source), (Kind::App, &told.text, "lns"));
    assert_eq!((uplink.dev_eui, uplink.f_cnt), (Some(told.dev_eui), Some(7)));
    assert_eq!(running.spool.view().borrow().committed, 2, "on the disk");
    assert_eq!(running.counters.heard_total(), 2);
    running.stop().await;
}

/// RULES S20: repeats are answered with the same id, and stored once; within a batch, between batches, while the first is
/// under way.
#[tokio::test]
async fn repeats_are_answered_and_dropped() {
    let stage = Stage::new();
    let running = stage.start(true).await;
    let first = running.offer(vec![stage.told(Some(UUID_A)), stage.told(Some(UUID_A))]);
    let again = running.offer(vec![stage.told(Some(UUID_B)), stage.told(Some(UUID_A))]);
    let alone = running.offer(vec![stage.told(Some(UUID_A))]);
    let alone = alone.await.unwrap();
    assert_eq!(running.spool.view().borrow().committed, 2, "not answered before the first is on the disk");
    let texts = |ids: Vec<Uuid>| ids.iter().map(Uuid::to_string).collect::<Vec<_>>();
    assert_eq!(texts(alone), [UUID_A]);
    assert_eq!(texts(first.await.unwrap()), [UUID_A, UUID_A]);
    assert_eq!(texts(again.await.unwrap()), [UUID_B, UUID_A]);
    assert_eq!(running.stored().len(), 2);
    assert_eq!(running.counters.dropped_total(DropReason::Repeated), 3);
    running.stop().await;
}

/// Repeats are known after a restart: what waits by the log, what was delivered by the note of an orderly stop.
#[tokio::test]
async fn repeats_are_known_after_a_restart() {
    let stage = Stage::new();
    let running = stage.start(true).await;
    running.offer(vec![stage.told(Some(UUID_A))]).await.unwrap();
    let seq = running.stored()[0].0;
    running.ledger.settle(seq, seq, Settlement::Delivered);
    running.offer(vec![stage.told(Some(UUID_B))]).await.unwrap();
    assert_eq!(running.stored().len(), 1);
    running.stop().await;

    let running = stage.start(true).await;
    running.offer(vec![stage.told(Some(UUID_A)), stage.told(Some(UUID_B))]).await.unwrap();
    assert_eq!(running.counters.dropped_total(DropReason::Repeated), 2);
    // No orderly stop: the task is gone without its last word.
    running.task.abort();
    let Running { spool, .. } = running;
    spool.close();
    let spool_notes_and_log = stage.start(true).await;
    spool_notes_and_log.offer(vec![stage.told(Some(UUID_B))]).await.unwrap();
    assert_eq!(spool_notes_and_log.counters.dropped_total(DropReason::Repeated), 1);
    spool_notes_and_log.stop().await;
}

/// S5: what nobody wants is not stored, and needs no second try.
#[tokio::test]
async fn what_nobody_wants_is_answered_and_counted() {
    let stage = Stage::new();
    let running = stage.start(false).await;
    let ids = running.offer(vec![stage.told(Some(UUID_A))]).await.unwrap();
    assert_eq!(ids[0].to_string(), UUID_A);
    assert_eq!(running.counters.dropped_total(DropReason::Unrouted), 1);
    assert_eq!(running.spool.view().borrow().records, 0);
    running.stop().await;
}

/// A source that gave up was told so, and offers the uplink again.
#[tokio::test]
async fn whoever_gave_up_is_not_served() {
    let stage = Stage::new();
    let running = stage.start(true).await;
    // The task has not run yet: nothing awaits between the two lines.
    drop(running.offer(vec![stage.told(Some(UUID_A))]));
    running.offer(vec![stage.told(Some(UUID_B))]).await.unwrap();
    assert_eq!(running.stored().len(), 1);
    assert_eq!(running.counters.heard_total(), 1);
    running.stop().await;
}

/// Nothing is answered that is not known to be safe.
#[tokio::test]
async fn a_closed_spool_answers_nothing() {
    let stage = Stage::new();
    let Running { spool, intake, task, .. } = stage.start(true).await;
    tokio::task::spawn_blocking(|| spool.close()).await.unwrap();
    let answer = intake.offer(&Arc::from("lns"), vec![stage.told(None)], None).unwrap();
    assert!(answer.await.is_err());
    task.await.unwrap();
    assert!(intake.offer(&Arc::from("lns"), vec![stage.told(None)], None).is_none());
}
