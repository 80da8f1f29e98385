//! RULES S3, end to end: the real binary starts although its spool can't be opened, delivers from memory, and puts what waits
//! into the file when it can.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use packhorse::simulator::{Arrivals, Endpoint};
use support::site::{Site, endpoint, http};
use support::{PATIENCE, forwarder, free_port, integration};

#[test]
fn an_agent_without_a_disk_delivers_and_goes_on() {
    let (api, arrived) = endpoint();
    let late = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let retry = "retry = { max = \"1s\" }";
    let site = Site::new(&(http("late", late, retry) + &http("api", api.address(), retry)));
    let spool = site.path().join("spool.redb");
    std::fs::create_dir(&spool).unwrap();

    let mut agent = site.launch();
    let status = agent.wait_until("it runs in memory", |status| status["spool"]["state"] == "degraded");
    assert!(status["spool"]["trouble"].as_str().unwrap().contains("spool.redb"), "{status}");
    let mut forwarder = forwarder(site.udp().port(), 4, 1);
    forwarder.send_uplinks(20).unwrap();
    assert!(arrived.wait_for_unique(20, PATIENCE), "{}", agent.log());
    let status = agent.wait_until("20 wait", |status| integration(status, "late")["backlog"] == 20);
    assert_eq!((&status["committed"], &status["spool"]["at_risk"]), (&0.into(), &20.into()));

    std::fs::remove_dir(&spool).unwrap();
    agent.wait_until("it has its file", |status| status["spool"]["state"] == "ok");
    agent.wait_until_committed(20);
    forwarder.send_uplinks(5).unwrap();
    assert!(arrived.wait_for_unique(25, PATIENCE), "{}", agent.log());
    let status = agent.wait_until_committed(25);
    assert_eq!(integration(&status, "late")["backlog"], 25, "{status}");
    assert_eq!(integration(&status, "api")["delivered"], 25, "{status}");
    agent.kill();

    let arrived_late = Arc::new(Arrivals::default());
    let endpoint = Endpoint::start(late, None, Arc::clone(&arrived_late)).unwrap();
    let mut agent = site.start();
    assert!(arrived_late.wait_for_unique(25, PATIENCE), "{}", agent.log());
    agent.wait_until("nothing waits", |status| integration(status, "late")["backlog"] == 0);
    assert_eq!(arrived.tally().unique, 25);
    drop(endpoint);
}
