//! Devices that should be heard and are not (`expect_every`). Silence is a matter of time, so here time has to pass.

use serde_json::Value;

use crate::support::site::{Site, device, endpoint, http, sensor};

fn names(status: &Value) -> Vec<&str> {
    let mut names: Vec<&str> =
        status["overdue"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

/// A silence is one event: one line in the log and a mark, until the device is heard; the next silence is another one. A device
/// without `expect_every` may be silent for as long as it likes.
#[test]
fn a_silence_is_one_event_until_the_device_is_heard() {
    let (endpoint, _arrivals) = endpoint();
    let devices = device(1, "expect_every = \"2s\"") + &device(2, "expect_every = \"2s\"") + &device(3, "");
    let site = Site::new(&(devices + &http("api", endpoint.address(), "")));
    let mut agent = site.start();
    let status = agent.wait_until("both are overdue", |status| names(status).len() == 2);
    assert_eq!(names(&status), ["sensor-1", "sensor-2"]);

    let mut sensor = sensor(1);
    for silences in 1..=2 {
        agent.wait_until_logged_times("sensor-1 is overdue: not heard for", silences);
        site.forwarder().send_phys(&[sensor.uplink(1, b"here")]).unwrap();
        agent.wait_until("it is heard", |status| names(status) == ["sensor-2"]);
    }
    agent.wait_until_logged_times("sensor-1 is overdue: not heard for", 3);
    let log = agent.whole_log();
    assert_eq!(log.matches("sensor-2 is overdue").count(), 1, "{log}");
    assert_eq!(log.matches("sensor-3 is overdue").count(), 0, "{log}");
    assert!(agent.terminate().success());
}
