//! `doctor`: with an agent and without, and what it finds wrong. `example` needs nothing at all.

use std::sync::Arc;

use packhorse::simulator::{Arrivals, Endpoint};
use serde_json::Value;

use crate::support::Pki;
use crate::world::{World, wait};

/// Exit code and checks.
fn doctor(world: &World) -> (i32, Vec<Value>) {
    let (code, said, complaint) = world.run(&["doctor", "--json"]);
    let answer: Value =
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{complaint}"));
    assert_eq!(answer["ok"] == true, code == 0, "{answer}");
    (code, answer["checks"].as_array().unwrap().clone())
}

fn check<'c>(checks: &'c [Value], name: &str) -> &'c Value {
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name} in {checks:#?}"))
}

fn message(check: &Value) -> &str {
    check["message"].as_str().unwrap()
}

#[test]
fn a_healthy_gateway_is_exit_0_with_an_agent_and_without() {
    let mut world = World::new();
    world.away = "";
    std::fs::write(world.file(), world.config()).unwrap();
    let (code, checks) = doctor(&world);
    assert_eq!(code, 0, "{checks:#?}");
    assert_eq!(
        (&check(&checks, "agent")["level"], &check(&checks, "forwarder")["level"]),
        (&"warn".into(), &"warn".into())
    );
    assert!(message(check(&checks, "api")).contains("TCP"), "{checks:#?}");

    let mut agent = world.start();
    let (code, checks) = doctor(&world);
    assert_eq!(code, 0, "{checks:#?}");
    let forwarder = check(&checks, "forwarder");
    assert!(
        forwarder["next"].as_str().unwrap().contains(&world.udp.to_string()),
        "where to point it: {forwarder}"
    );
    world.hear(&mut agent, 2);
    world.wait_for(2, &agent);
    let (code, checks) = doctor(&world);
    assert_eq!(code, 0, "{checks:#?}");
    for name in
        ["agent", "clock", "route", "spool", "disk", "api lane", "power cut", "permissions", "forwarder"]
    {
        assert_eq!(check(&checks, name)["level"], "ok", "{name} in {checks:#?}");
    }
    assert!(message(check(&checks, "fsync")).contains("ms to force"), "{checks:#?}");
    let said = world.done(&["doctor"]);
    assert!(said.lines().last().unwrap().starts_with("0 bad"), "{said}");
    assert_eq!(
        std::fs::read_dir(world.folder.path())
            .unwrap()
            .filter(|file| { file.as_ref().unwrap().file_name().to_string_lossy().contains("doctor") })
            .count(),
        0,
        "nothing is left behind"
    );
}

#[test]
fn what_is_bad_is_exit_1_with_the_next_step() {
    let world = World::new();
    world.endpoint.answer_with(401);
    let mut agent = world.start();
    world.hear(&mut agent, 2);
    wait(&mut agent, "api", "it is blocked", |it| it["state"] == "blocked");
    let (code, checks) = doctor(&world);
    assert_eq!(code, 1);
    let away = check(&checks, "away");
    assert_eq!(away["level"], "bad");
    assert!(message(away).contains("tcp: no connection to 127.0.0.1:1"), "{away}");
    assert!(away["next"].as_str().unwrap().contains("packhorse test away"), "{away}");
    let lane = check(&checks, "api lane");
    assert!(message(lane).contains("blocked") && message(lane).contains("401"), "{lane}");
    assert!(lane["next"].as_str().unwrap().contains("packhorse kick"), "{lane}");
}

/// RULES S22: what the kernel says of its clock is told, and that nobody asked it is not a fault.
#[test]
fn the_kernel_is_asked_about_its_clock() {
    let mut world = World::new();
    world.away = "";
    std::fs::write(world.file(), world.config()).unwrap();
    let clock = |world: &World| check(&doctor(world).1, "clock").clone();
    assert_eq!(clock(&world)["level"], "ok", "nobody can ask it here");
    world.clock_is_synchronised("yes");
    let synchronised = clock(&world);
    assert_eq!(
        (&synchronised["level"], message(&synchronised).ends_with("Z, synchronised")),
        (&"ok".into(), true)
    );
    world.clock_is_synchronised("no");
    let adrift = clock(&world);
    assert_eq!(adrift["level"], "warn");
    assert!(message(&adrift).contains("follows no time server"), "{adrift}");
    assert!(adrift["next"].as_str().unwrap().contains("timedatectl"), "{adrift}");
}

#[test]
fn a_config_that_can_not_run_is_bad() {
    let world = World::new();
    std::fs::write(world.file(), world.config().replace("type = \"http\"", "type = \"htpp\"")).unwrap();
    let (code, checks) = doctor(&world);
    assert_eq!((code, &check(&checks, "config")["level"]), (1, &"bad".into()));
    check(&checks, "clock");
    check(&checks, "route");
}

/// The issuer that is missing has a name, and a client certificate an end.
#[test]
fn certificates_are_looked_at() {
    let mut world = World::new();
    world.away = "";
    let (theirs, ours) = (world.folder.path().join("theirs"), world.folder.path().join("ours"));
    std::fs::create_dir(&theirs).unwrap();
    std::fs::create_dir(&ours).unwrap();
    let (theirs, ours) = (Pki::make(&theirs), Pki::make(&ours));
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let secure = Endpoint::start(any, Some(theirs.server_config()), Arc::new(Arrivals::default())).unwrap();
    let with = |ca: &std::path::Path| {
        format!(
            "[integration.tls]\ntype = \"http\"\nurl = \"https://localhost:{}/\"\n\
             tls = {{ ca = \"{}\", cert = \"{}\", key = \"{}\" }}",
            secure.address().port(),
            ca.display(),
            ours.cert.display(),
            ours.key.display()
        )
    };
    world.extra = with(&theirs.ca);
    std::fs::write(world.file(), world.config()).unwrap();
    let (code, checks) = doctor(&world);
    assert_eq!(code, 0, "{checks:#?}");
    assert!(message(check(&checks, "tls")).contains("TLS"), "{checks:#?}");
    assert!(message(check(&checks, "tls cert")).contains("fits its key"), "{checks:#?}");

    world.extra = with(&ours.ca);
    std::fs::write(world.file(), world.config()).unwrap();
    let (code, checks) = doctor(&world);
    let tls = check(&checks, "tls");
    assert_eq!((code, &tls["level"]), (1, &"bad".into()), "{checks:#?}");
    assert!(tls["next"].as_str().unwrap().contains("\"CN=test CA\""), "{tls}");
}

#[test]
fn examples_are_printed_and_listed() {
    let world = World::new();
    std::fs::write(world.file(), "").unwrap();
    let list = world.done(&["example"]);
    assert!(list.contains("aws-iot-core") && list.lines().all(|line| line.chars().count() <= 80), "{list}");
    let text = world.done(&["example", "aws-iot-core"]);
    assert_eq!(text.trim(), include_str!("../../config/examples/aws-iot-core.toml").trim());
    let (code, _, complaint) = world.run(&["example", "aws-iot-cor"]);
    assert_eq!((code, complaint.contains("did you mean `aws-iot-core`")), (2, true), "{complaint}");
}
