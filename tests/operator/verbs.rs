//! Pause, resume, purge, kick, dead letters and replay, and that a restart changes nothing about them.

use packhorse::simulator::Arrival;

use crate::support::integration;
use crate::world::{World, wait};

fn replayed(arrivals: &[Arrival]) -> usize {
    arrivals.iter().filter(|arrival| arrival.json()["replay"] == true).count()
}

#[test]
fn what_is_paused_stays_paused_until_it_is_resumed() {
    let world = World::new();
    let mut agent = world.start();
    assert!(world.done(&["pause", "api"]).contains("packhorse resume api"));
    world.hear(&mut agent, 5);
    wait(&mut agent, "api", "it is paused", |it| it["state"] == "paused" && it["backlog"] == 5);
    assert!(agent.terminate().success());

    let mut agent = world.start();
    world.hear(&mut agent, 5);
    wait(&mut agent, "api", "it is paused still", |it| it["state"] == "paused" && it["backlog"] == 10);
    assert!(world.arrivals.all().is_empty(), "not one was sent");
    assert!(world.done(&["resume", "api"]).contains("10 uplinks waiting"));
    world.wait_for(10, &agent);
    wait(&mut agent, "api", "it goes on", |it| it["state"] == "active" && it["backlog"] == 0);
}

#[test]
fn a_purge_drops_one_backlog_and_no_other() {
    let world = World::new();
    let mut agent = world.start();
    world.hear(&mut agent, 7);
    world.wait_for(7, &agent);
    let (code, _, complaint) = world.run(&["purge", "away"]);
    assert_eq!(code, 2, "nobody is asked where there is no terminal");
    assert!(complaint.contains("--yes"), "{complaint}");
    assert!(world.done(&["purge", "away", "--yes"]).contains("away: 7 uplinks dropped"));
    assert!(agent.terminate().success());

    let mut agent = world.start();
    let status = agent.wait_until("it runs", |status| status["spool"]["state"] == "ok");
    let away = integration(&status, "away");
    assert_eq!((&away["backlog"], &away["dropped"]["purged"]), (&0.into(), &7.into()));
    assert_eq!(integration(&status, "api")["delivered"], 7);
    assert_eq!(status["spool"]["records"], 0);
    let losses =
        packhorse::control::client::get(&world.folder.path().join("control.sock"), "/losses").unwrap();
    assert_eq!(losses["losses"][0]["n"], 7, "{losses}");
    assert_eq!(losses["losses"][0]["integration"], "away");
}

/// What was taken out of the config is purged and forgotten.
#[test]
fn a_purge_forgets_what_was_removed() {
    let mut world = World::new();
    world.extra = "[integration.old]\ntype = \"http\"\nurl = \"http://127.0.0.1:1/\"".to_owned();
    let mut agent = world.start();
    world.hear(&mut agent, 3);
    assert!(agent.terminate().success());
    world.extra.clear();
    let mut agent = world.start();
    wait(&mut agent, "old", "it is removed", |it| it["state"] == "removed" && it["backlog"] == 3);
    world.done(&["purge", "http:old", "--yes"]);
    let names = |status: &serde_json::Value| status["integrations"].as_array().unwrap().len();
    agent.wait_until("it is forgotten", |status| names(status) == 2);
}

#[test]
fn dead_letters_are_shown_and_sent_once_more() {
    let world = World::new();
    world.endpoint.answer_with(422);
    let mut agent = world.start();
    world.hear(&mut agent, 4);
    wait(&mut agent, "api", "all are refused", |it| it["dead_letters"] == 4);
    assert!(agent.terminate().success());

    let agent = world.start();
    let shown = world.done(&["dead", "api"]);
    assert!(shown.contains("http: 127.0.0.1 answered 422") && shown.contains("--dead"), "{shown}");
    let dead = world.json(&["dead", "api", "--json"]);
    assert_eq!(dead.len(), 4);
    assert_eq!((&dead[0]["status"], &dead[0]["error"]["layer"]), (&"dead-letter".into(), &"http".into()));

    world.endpoint.answer_with(200);
    assert!(world.done(&["replay", "api", "--dead"]).contains("4 uplinks queued once more"));
    world.wait_for(4, &agent);
    assert_eq!(replayed(&world.arrivals.all()), 4);
    let mut ids: Vec<String> = world.arrivals.all().iter().filter_map(Arrival::id).collect();
    let mut wanted: Vec<String> =
        dead.iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    wanted.sort();
    assert_eq!(ids, wanted, "under the same ids");
    assert!(world.done(&["replay", "api", "--dead"]).contains("no dead letters"));
    assert!(world.done(&["dead", "api"]).contains("no dead letters"));
}

#[test]
fn what_is_kept_is_sent_once_more() {
    let mut world = World::new();
    world.spool = "keep_delivered = \"1h\"".to_owned();
    let mut agent = world.start();
    world.hear(&mut agent, 5);
    world.wait_for(5, &agent);
    wait(&mut agent, "api", "all are settled", |it| it["delivered"] == 5);
    assert!(world.done(&["replay", "api", "--since", "1h"]).contains("5 uplinks to be sent once more"));
    assert!(world.arrivals.wait_until(crate::support::PATIENCE, |log| replayed(log) == 5));
    assert_eq!(world.arrivals.tally().unique, 5);
}

/// RULES S31: a kick ends a wait. The probe of a blocked endpoint is five minutes away.
#[test]
fn a_kick_ends_the_wait_of_a_blocked_integration() {
    let world = World::new();
    world.endpoint.answer_with(401);
    let mut agent = world.start();
    world.hear(&mut agent, 3);
    wait(&mut agent, "api", "it is blocked", |it| it["state"] == "blocked");
    world.endpoint.answer_with(200);
    world.done(&["kick"]);
    world.wait_for(3, &agent);
    wait(&mut agent, "api", "it is well", |it| it["state"] == "active");
}

/// DESIGN section 6: exit 2, and the name.
#[test]
fn a_name_that_nobody_has_is_exit_2_with_a_hint() {
    let world = World::new();
    let _agent = world.start();
    for words in [
        &["pause", "apo"][..],
        &["resume", "apo"],
        &["purge", "apo", "--yes"],
        &["replay", "apo", "--dead"],
        &["dead", "apo"],
        &["history", "apo"],
    ] {
        let (code, _, complaint) = world.run(words);
        assert_eq!(code, 2, "{words:?}: {complaint}");
        assert!(complaint.contains("\"apo\"") && complaint.contains("did you mean \"api\""), "{complaint}");
    }
    let (code, _, complaint) = world.run(&["history", "--device", "nobody"]);
    assert_eq!((code, complaint.contains("\"nobody\"")), (2, true), "{complaint}");
}

#[test]
fn without_an_agent_every_verb_is_exit_2() {
    let world = World::new();
    std::fs::write(world.file(), world.config()).unwrap();
    for words in [
        &["history"][..],
        &["devices"],
        &["watch"],
        &["pause", "api"],
        &["resume", "api"],
        &["kick"],
        &["dead", "api"],
        &["replay", "api", "--dead"],
        &["purge", "api", "--yes"],
    ] {
        let (code, _, complaint) = world.run(words);
        assert_eq!(code, 2, "{words:?}: {complaint}");
        assert!(complaint.contains("control.sock"), "{complaint}");
    }
}
