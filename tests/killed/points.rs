//! Killed at each place that the program knows by name ([`CrashPoint`]), in the life that comes there; the next one makes
//! everything good. A place that is not come to fails its test, and one without a test does not compile.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};

use packhorse::control::client;
use packhorse::crash_point::CrashPoint;
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::Value;

use crate::seen::Known;
use crate::support::{Agent, PATIENCE, integration, is_killed, packhorse};
use crate::world::{
    API, BROKER, CLIENTS, HTTP_PARALLEL, MQTT_WINDOW, SETTLEMENTS, World, assert_nothing_else_happened,
    is_open,
};

/// Where the binary looks for the place to die at.
const VARIABLE: &str = "PACKHORSE_CRASH_POINT";

/// Frames that a round does not take over, or purge, at once.
const MANY: u64 = 1_100;

/// What brings the program to a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    NewFile,
    Start,
    Load,
    Undelivered,
    LostDisk,
    FileSetAside,
    Transfer,
    Job,
    Stop,
}

fn stage_of(point: CrashPoint) -> Stage {
    match point {
        CrashPoint::FileSized => Stage::NewFile,
        CrashPoint::BeforeReservation | CrashPoint::AfterReservation => Stage::Start,
        CrashPoint::UplinksInRound
        | CrashPoint::BeforeCommit
        | CrashPoint::AfterCommit
        | CrashPoint::BeforeAnswer
        | CrashPoint::BeforeSettle => Stage::Load,
        CrashPoint::UndeliveredInRound | CrashPoint::BeforeBurial => Stage::Undelivered,
        CrashPoint::Reopening | CrashPoint::LeavingRefuge => Stage::LostDisk,
        CrashPoint::SetAside => Stage::FileSetAside,
        CrashPoint::TransferBegun | CrashPoint::TransferPart | CrashPoint::TransferDone => Stage::Transfer,
        CrashPoint::JobUnderWay => Stage::Job,
        CrashPoint::Closing | CrashPoint::Closed => Stage::Stop,
    }
}

/// The places of these stages; none where the binary has none.
fn points(stages: &[Stage]) -> Vec<CrashPoint> {
    let has_points = if is_ours() { cfg!(debug_assertions) } else { names_the_variable() };
    let all = if has_points { CrashPoint::ALL } else { &[] };
    all.iter().copied().filter(|point| stages.contains(&stage_of(*point))).collect()
}

/// Whether the binary was built along with this test.
fn is_ours() -> bool {
    std::env::var_os("PACKHORSE_TEST_BINARY").is_none()
}

fn names_the_variable() -> bool {
    // In this process, unoptimised, that would take a second.
    Command::new("grep").args(["-q", VARIABLE]).arg(packhorse()).status().unwrap().success()
}

#[test]
fn only_a_binary_with_debug_assertions_has_crash_points() {
    if is_ours() {
        assert_eq!(names_the_variable(), cfg!(debug_assertions));
    }
}

/// A first start that is cut short leaves nothing behind that the next one would take for damage (RULES S3).
#[test]
fn in_the_first_start() {
    for point in points(&[Stage::NewFile, Stage::Start]) {
        let mut world = World::new(1);
        die_under_load(&mut world, point, 1);
        finish(world, assert_nothing_else_happened);
    }
}

#[test]
fn in_a_later_start() {
    for point in points(&[Stage::Start]) {
        let mut world = World::new(2);
        live_well(&mut world);
        die_under_load(&mut world, point, 1);
        finish(world, assert_nothing_else_happened);
    }
}

/// RULES S6, S30. The broker is away, or everything would be delivered at once and nothing forced to the disk.
#[test]
fn while_uplinks_come_and_go() {
    for (point, nth) in points(&[Stage::Load]).into_iter().flat_map(|point| [(point, 1), (point, 5)]) {
        let mut world = World::new(3);
        live_well(&mut world);
        world.set_api(nth == 1 || point == CrashPoint::BeforeSettle);
        world.set_broker(false);
        die_under_load(&mut world, point, nth);
        finish(world, assert_nothing_else_happened);
    }
}

/// RULES S12: what was refused is a dead letter or is sent again, and is never neither.
#[test]
fn while_records_are_refused() {
    for (point, nth) in points(&[Stage::Undelivered]).into_iter().flat_map(|point| [(point, 1), (point, 2)]) {
        let mut world = World::new(4);
        live_well(&mut world);
        world.api().unwrap().answer_with(422);
        die_under_load(&mut world, point, nth);
        world.api().unwrap().answer_with(200);
        world.at_api.is_in_order = false;
        let (mut agent, status) = world.drain();
        let letters = integration(&status, API)["dead_letters"].as_u64().unwrap();
        // The first is undone; by the second round the one before it is on the disk.
        assert!(nth > 1 || letters == 0, "{letters}");
        assert!(nth == 1 || letters > 0 || point == CrashPoint::BeforeBurial);
        client::post(&world.file("control.sock"), &format!("/replay?integration={API}&dead=1"), None)
            .unwrap();
        agent.wait_until("they were replayed", |status| {
            let entry = integration(status, API);
            entry["dead_letters"] == 0 && entry["backlog"] == 0
        });
        world.wait_for_promised();
        assert_eq!(integration(&status, BROKER)["dead_letters"], 0);
        assert!(agent.terminate().success());
    }
}

/// RULES S11, S24: what made room is counted, exactly once.
#[test]
fn while_records_are_evicted() {
    for point in points(&[Stage::Undelivered]).into_iter().filter(|it| *it != CrashPoint::BeforeBurial) {
        let mut world = World::new(5);
        world.spool = "max_size = \"1MiB\"".into();
        world.set_api(false);
        world.set_broker(false);
        die_under_load(&mut world, point, 3);
        let (agent, status) = world.drain();
        let committed = status["committed"].as_u64().unwrap();
        let dropped = |name| integration(&status, name)["dropped"]["evicted"].as_u64().unwrap();
        let wanted = [API, BROKER].map(|name| usize::try_from(committed - dropped(name)).unwrap());
        let arrived = |world: &World| [world.at_api.len(), world.at_broker.len()];
        world.look_until(
            |world| arrived(world) == wanted,
            |world| format!("{:?} arrived, not {wanted:?} of {committed}", arrived(world)),
        );
        assert!(dropped(API) > 0, "{status}");
        assert!(agent.terminate().success());
    }
}

/// RULES S3: the file goes away under an open spool, and comes back.
#[test]
fn while_the_disk_is_lost() {
    for point in points(&[Stage::LostDisk]) {
        let mut world = World::new(6);
        // A process that may write no file has a disk that takes nothing; the signal that goes with it is in the way.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(packhorse());
        command.env(VARIABLE, point.as_str());
        let mut agent = world.launch_by(command);
        agent.wait_until("its spool is open", is_open);
        // What is delivered at once would not be written.
        world.set_api(false);
        world.clients.go_on();
        world.clients.wait_for_accepted(10);
        may_write(&agent, false);
        if point == CrashPoint::LeavingRefuge {
            agent.wait_until("it is in the refuge", |status| status["spool"]["out_of_reach"] != 0);
            may_write(&agent, true);
        }
        assert!(is_killed(agent.end()), "{point:?}");
        finish(world, assert_nothing_else_happened);
    }
}

fn may_write(agent: &Agent, may: bool) {
    let current = if may { None } else { Some(0) };
    prlimit(Some(agent.pid()), Resource::Fsize, Rlimit { current, maximum: None }).unwrap();
}

/// RULES S3: what a damaged file held is taken over once, however often that is cut short.
#[test]
fn while_a_damaged_file_is_salvaged() {
    for point in points(&[Stage::NewFile, Stage::Start, Stage::FileSetAside, Stage::Transfer]) {
        let mut world = World::new(7);
        fill(&mut world);
        let spool = OpenOptions::new().write(true).open(world.file("spool.redb")).unwrap();
        spool.write_all_at(b"no spool's", 0).unwrap();
        die_under_load(&mut world, point, 1);
        finish(world, |status| {
            let aside = status["spool"]["set_aside"].as_array().unwrap();
            let outcome = aside[0]["outcome"].as_str().unwrap();
            assert!(aside.len() == 1 && !outcome.contains("lost"), "{outcome}");
            assert_eq!(status["spool"]["losses"], 0);
        });
    }
}

/// Likewise of one that was too new.
#[test]
fn while_a_newer_file_is_imported() {
    for point in points(&[Stage::Transfer]) {
        let mut world = World::new(8);
        fill(&mut world);
        std::fs::rename(world.file("spool.redb"), world.file("spool.redb.newer")).unwrap();
        die_under_load(&mut world, point, 1);
        finish(world, assert_nothing_else_happened);
    }
}

/// A purge goes on after a crash, touches nobody else, and counts each record once.
#[test]
fn while_a_backlog_is_purged() {
    for point in points(&[Stage::Job]) {
        let mut world = World::new(9);
        fill(&mut world);
        let accepted = world.clients.accepted();
        let mut agent = launch_to_die(&world, point, 1);
        let before = agent.wait_until("its spool is open", is_open);
        // It dies before it answers.
        let purge = format!("/purge?integration={API}");
        client::post(&world.file("control.sock"), &purge, Some(PATIENCE)).unwrap_err();
        assert!(is_killed(agent.end()), "{point:?}");
        let (agent, status) = world.drain();
        assert_eq!(integration(&status, API)["dropped"]["purged"], integration(&before, API)["backlog"]);
        let all = |world: &World| {
            let readings = accepted.iter().all(|reading| world.at_broker.has(&Known::Reading(*reading)));
            readings && world.at_broker.frames().len() as u64 == MANY
        };
        world.look_until(all, |world| format!("{} frames at the broker", world.at_broker.frames().len()));
        assert!(world.at_api.frames().is_empty());
        assert!(agent.terminate().success());
    }
}

#[test]
fn while_it_stops() {
    for point in points(&[Stage::Stop]) {
        let world = World::new(10);
        let mut agent = launch_to_die(&world, point, 1);
        agent.wait_until("its spool is open", is_open);
        world.clients.go_on();
        world.clients.wait_for_accepted(10);
        assert!(is_killed(agent.terminate()), "{point:?}");
        finish(world, assert_nothing_else_happened);
    }
}

/// An agent that dies when it comes to `point` for the `nth` time.
fn launch_to_die(world: &World, point: CrashPoint, nth: u64) -> Agent {
    let mut command = Command::new(packhorse());
    command.env(VARIABLE, format!("{}:{nth}", point.as_str()));
    world.launch_by(command)
}

/// A life with some work done.
fn live_well(world: &mut World) {
    let agent = world.start();
    world.clients.go_on();
    world.clients.wait_for_accepted(10);
    agent.kill();
}

/// Leaves a spool behind in which many frames wait, and some readings.
fn fill(world: &mut World) {
    world.set_api(false);
    world.set_broker(false);
    let mut agent = world.start();
    world.radio.begin_life();
    world.radio.send(usize::try_from(MANY).unwrap());
    agent.wait_until_committed(MANY);
    world.radio.are_committed(MANY);
    world.clients.go_on();
    world.clients.wait_for_accepted(10);
    assert!(agent.terminate().success());
}

/// Everybody sends until the agent has died where it is told to.
fn die_under_load(world: &mut World, point: CrashPoint, nth: u64) {
    let mut agent = launch_to_die(world, point, nth);
    let until = Instant::now() + PATIENCE;
    let mut opened = false;
    while agent.is_alive() {
        assert!(Instant::now() < until, "it never came to {point:?}\n{}", agent.log());
        if opened {
            world.radio.send(8);
        } else if agent.try_status().is_some_and(|status| is_open(&status)) {
            world.radio.begin_life();
            world.clients.go_on();
            opened = true;
        }
        // The pace of the load.
        std::thread::sleep(Duration::from_millis(10));
    }
    let log = agent.log();
    assert!(is_killed(agent.end()), "{point:?}\n{log}");
}

/// The next life delivers everything that was promised, and no more than RULES S30 allows twice.
fn finish(mut world: World, assert_status: impl Fn(&Value)) {
    let (agent, status) = world.drain();
    world.wait_for_promised();
    assert_status(&status);
    for (seen, window) in [(&world.at_api, HTTP_PARALLEL), (&world.at_broker, MQTT_WINDOW)] {
        // At most two lives were killed.
        let allowance = 2 * (SETTLEMENTS + window + CLIENTS as usize);
        assert!(seen.duplicates <= allowance, "{} duplicates", seen.duplicates);
    }
    assert!(agent.terminate().success());
}
