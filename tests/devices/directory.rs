//! The directory of devices: many of them, and one that is gone when its uplinks are sent (RULES S7).

use std::fmt::Write;

use crate::support::integration;
use crate::support::site::{Site, device, endpoint, http, payload, sensor, uplinks};

#[test]
fn s7_a_device_that_is_gone_leaves_its_uplinks_raw() {
    let (endpoint, arrivals) = endpoint();
    endpoint.answer_with(503);
    let api = http("api", endpoint.address(), "parallel = 1\nretry = { max = \"1s\" }");
    let mut site = Site::new(&(device(1, "") + &device(2, "") + &api));
    let mut agent = site.start();
    let frames = [sensor(1).uplink(3, b"orphan"), sensor(2).uplink(3, b"kept")];
    site.forwarder().send_phys(&frames).unwrap();
    agent.wait_until("both wait", |status| integration(status, "api")["backlog"] == 2);
    assert!(agent.terminate().success());

    site.configure("", &(device(2, "") + &api));
    endpoint.answer_with(200);
    let agent = site.start();
    let uplinks = uplinks(&arrivals, 2, &agent);
    let (orphan, kept) = (&uplinks[0], &uplinks[1]);
    assert_eq!(orphan.get("payload"), None);
    assert_eq!(orphan["phy_payload"], data_encoding::BASE64.encode(&frames[0]));
    assert_eq!(orphan["device"]["dev_eui"], "0004a30b001c0001", "what was known when it was heard");
    assert_eq!((orphan["device"].get("name"), &orphan["f_cnt"]), (None, &0.into()));
    let errors = orphan["decode_errors"].as_array().unwrap();
    assert!(errors[0].as_str().unwrap().contains("no longer configured"), "{errors:?}");
    assert_eq!((payload(kept).as_str(), kept.get("decode_errors")), ("kept", None));
}

#[test]
fn thousands_of_devices_in_files_of_their_own() {
    const DEVICES: u16 = 5_000;
    let (endpoint, arrivals) = endpoint();
    let config = format!(
        "device_files = [\"devices.d/*.toml\"]\n[root]\n{}",
        http("api", endpoint.address(), "parallel = 1")
    );
    let site = Site::new(&config);
    for file in 0..5 {
        let devices = (0..DEVICES).filter(|n| n % 5 == file);
        let text = devices.fold(String::new(), |mut text, n| {
            writeln!(text, "{}", device(n, "labels = [\"many\"]")).unwrap();
            text
        });
        site.write(&format!("devices.d/{file}.toml"), &text);
    }
    let agent = site.start();
    let started = std::fs::read_to_string(site.path().join("agent.log")).unwrap();
    assert!(started.contains("and 1990 times more in this file"), "{started}");
    assert!(started.lines().filter(|line| line.contains("device.")).count() <= 5 * 10, "{started}");
    let heard = [0, 1, 2_499, DEVICES - 1];
    let frames = heard.map(|n| sensor(n).uplink(1, n.to_string().as_bytes()));
    site.forwarder().send_phys(&frames).unwrap();
    let uplinks = uplinks(&arrivals, heard.len(), &agent);
    for (n, uplink) in heard.iter().zip(&uplinks) {
        assert_eq!(uplink["device"]["name"], format!("sensor-{n}"));
        assert_eq!(payload(uplink), n.to_string());
    }
}
