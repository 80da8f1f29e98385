//! Whose a frame is, and under which counter (RULES S21).

use packhorse::simulator::Sensor;
use serde_json::{Value, json};

use crate::support::Agent;
use crate::support::site::{Site, device, dropped, endpoint, http, payload, sensor, uplinks};

/// Waits until the door has dropped `n` for `reason`.
fn wait_for_drops(agent: &mut Agent, reason: &str, n: u64) {
    agent.wait_until(&format!("{n} are dropped as {reason}"), |status| dropped(status, reason) == n);
}

fn counters(uplinks: &[Value]) -> Vec<u64> {
    uplinks.iter().map(|uplink| uplink["f_cnt"].as_u64().unwrap()).collect()
}

#[test]
fn a_known_device_is_named_and_decrypted() {
    let (endpoint, arrivals) = endpoint();
    let table = device(7, "labels = [\"silo\", \"north\"]\nvariables = { site = \"hill\" }");
    let site = Site::new(&(table + &http("api", endpoint.address(), "")));
    let agent = site.start();
    let phy = sensor(7).at(70_000).uplink(2, b"182 cm");
    site.forwarder().send_phys(std::slice::from_ref(&phy)).unwrap();
    let uplink = &uplinks(&arrivals, 1, &agent)[0];
    assert_eq!(
        uplink["device"],
        json!({ "name": "sensor-7", "dev_eui": "0004a30b001c0007", "dev_addr": "260b0007", "labels": ["silo", "north"] })
    );
    assert_eq!(payload(uplink), "182 cm");
    assert_eq!(uplink["f_cnt"], 70_000, "all 32 bits, of which the frame holds 16");
    assert_eq!(
        (&uplink["type"], &uplink["f_port"], &uplink["confirmed"]),
        (&json!("uplink"), &json!(2), &json!(false))
    );
    assert_eq!(uplink["phy_payload"], data_encoding::BASE64.encode(&phy));
    assert_eq!(uplink.get("decode_errors"), None);
}

/// The frames, keys and payloads that lora-packet publishes.
#[test]
fn published_vectors_are_decrypted() {
    const FRAMES: [(&str, &str); 3] = [
        ("40F17DBE4900020001954378762B11FF0D", "test"),
        ("40F17DBE49000300012A3518AF", ""),
        (
            "40F17DBE490004000155332DE41A11ADC072553544429CE7787707D1C316E027E7E5E334263376AFFB8AA17AD30075293F28DEA8A20AF3C5E7",
            "The quick brown fox jumps over the lazy dog.",
        ),
    ];
    let (endpoint, arrivals) = endpoint();
    let table = "[[device]]\nname = \"fox\"\ndev_addr = \"49be7df1\"\n\
                 nwk_s_key = \"44024241ed4ce9a68c6a8bc055233fd3\"\napp_s_key = \"ec925802ae430ca77fd3dd73cb2cc588\"\n";
    let site = Site::new(&(table.to_owned() + &http("api", endpoint.address(), "")));
    let agent = site.start();
    let frames = FRAMES.map(|(frame, _)| data_encoding::HEXUPPER.decode(frame.as_bytes()).unwrap());
    site.forwarder().send_phys(&frames).unwrap();
    let uplinks = uplinks(&arrivals, 3, &agent);
    assert_eq!(uplinks.iter().map(payload).collect::<Vec<_>>(), FRAMES.map(|(_, clear)| clear));
    assert_eq!(counters(&uplinks), [2, 3, 4]);
    assert!(uplinks.iter().all(|uplink| uplink["device"]["name"] == "fox"));
}

#[test]
fn a_wrong_mic_goes_nowhere() {
    let (endpoint, arrivals) = endpoint();
    let site = Site::new(&(device(1, "") + &http("api", endpoint.address(), "")));
    let mut agent = site.start();
    let (mut forwarder, mut sensor) = (site.forwarder(), sensor(1));
    let mut forged = sensor.uplink(1, b"forged");
    *forged.last_mut().unwrap() ^= 1;
    // Another device's keys under this one's address.
    let mut impostor = Sensor::new([0x26, 0x0b, 0, 1], [9; 16], [9; 16]);
    forwarder.send_phys(&[forged, impostor.uplink(1, b"impostor")]).unwrap();
    wait_for_drops(&mut agent, "mic-failed", 2);
    forwarder.send_phys(&[sensor.uplink(1, b"genuine")]).unwrap();
    let uplinks = uplinks(&arrivals, 1, &agent);
    assert_eq!(payload(&uplinks[0]), "genuine");
    let status = agent.wait_until_committed(1);
    assert_eq!((dropped(&status, "mic-failed"), &status["committed"]), (2, &json!(1)));
}

/// S21: the counter is kept with the uplinks, so a crash forgets neither the high half nor what was heard. (With write-behind
/// what was delivered at once leaves no trace on the disk, its counter neither; the high half is then found again.)
#[test]
fn s21_the_counter_goes_on_over_65_535_and_a_sigkill() {
    let (endpoint, arrivals) = endpoint();
    // One that is never there: what waits for it is on the disk.
    let away = http("away", std::net::SocketAddr::from(([127, 0, 0, 1], crate::support::free_port())), "");
    let site = Site::new(&(device(1, "") + &http("api", endpoint.address(), "") + &away));
    let mut agent = site.start();
    let (mut forwarder, mut sensor) = (site.forwarder(), sensor(1).at(65_534));
    let before = [sensor.uplink(1, b"a"), sensor.uplink(1, b"b")];
    forwarder.send_phys(&before).unwrap();
    agent.wait_until_committed(2);
    uplinks(&arrivals, 2, &agent);
    agent.kill();

    let mut agent = site.start();
    forwarder.send_phys(&[before[0].clone(), sensor.uplink(1, b"c"), sensor.uplink(1, b"d")]).unwrap();
    let uplinks = uplinks(&arrivals, 4, &agent);
    assert_eq!(counters(&uplinks), [65_534, 65_535, 65_536, 65_537]);
    assert_eq!(payload(&uplinks[2]), "c");
    wait_for_drops(&mut agent, "replayed", 1);
}

#[test]
fn s21_a_counter_that_was_passed_is_replayed() {
    let (endpoint, arrivals) = endpoint();
    let tables = device(1, "") + &device(2, "reset_counters = true");
    let site = Site::new(&(tables + &http("api", endpoint.address(), "")));
    let mut agent = site.start();
    let mut forwarder = site.forwarder();
    let old = sensor(1).at(10).uplink(1, b"old");
    forwarder.send_phys(&[sensor(1).at(11).uplink(1, b"new"), old]).unwrap();
    // A device that was switched off and on, and says so in the config.
    forwarder
        .send_phys(&[sensor(2).at(500).uplink(1, b"before"), sensor(2).uplink(1, b"restarted")])
        .unwrap();
    let uplinks = uplinks(&arrivals, 3, &agent);
    let mut payloads: Vec<_> = uplinks.iter().map(payload).collect();
    payloads.sort();
    assert_eq!(payloads, ["before", "new", "restarted"]);
    wait_for_drops(&mut agent, "replayed", 1);
}

/// Nobody but the MIC says which of them it was.
#[test]
fn two_devices_may_share_an_address() {
    let (endpoint, arrivals) = endpoint();
    let twin = "[[device]]\nname = \"twin\"\ndev_addr = \"260b0001\"\n\
                nwk_s_key = \"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b\"\napp_s_key = \"0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c\"\n";
    let site = Site::new(&(device(1, "") + twin + &http("api", endpoint.address(), "parallel = 1")));
    let agent = site.start();
    let mut twin = Sensor::new([0x26, 0x0b, 0, 1], [0x0b; 16], [0x0c; 16]);
    let mut first = sensor(1);
    let frames = [first.uplink(1, b"1"), twin.uplink(1, b"2"), first.uplink(1, b"3"), twin.uplink(1, b"4")];
    site.forwarder().send_phys(&frames).unwrap();
    let uplinks = uplinks(&arrivals, 4, &agent);
    let mut said: Vec<_> =
        uplinks.iter().map(|uplink| (payload(uplink), uplink["device"]["name"].as_str().unwrap())).collect();
    said.sort();
    let expected = [("1", "sensor-1"), ("2", "twin"), ("3", "sensor-1"), ("4", "twin")];
    assert_eq!(said, expected.map(|(payload, name)| (payload.to_owned(), name)));
    assert!(
        uplinks
            .iter()
            .filter(|uplink| uplink["device"]["name"] == "twin")
            .all(|uplink| uplink["device"].get("dev_eui").is_none())
    );
}
