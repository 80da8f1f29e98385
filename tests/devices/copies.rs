//! The same frame heard more than once (RULES S19).

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::json;

use crate::support::site::{Site, device, dropped, endpoint, http, payload, sensor, uplinks};

/// Copies of one transmission arrive within 200 ms (RULES S19). It is time itself that tells a copy from a retransmission,
/// so here time has to pass.
const MORE_THAN_THE_WINDOW: Duration = Duration::from_millis(400);

#[test]
fn s19_copies_in_one_datagram_are_folded_to_the_best() {
    let (endpoint, arrivals) = endpoint();
    let site = Site::new(&(device(1, "") + &http("api", endpoint.address(), "")));
    let mut agent = site.start();
    let data = data_encoding::BASE64.encode(&sensor(1).uplink(1, b"once"));
    let heard = [(0, -100, 2.0), (1, -90, 9.5), (2, -50, -3.0)].map(|(channel, rssi, snr)| {
        json!({ "tmst": 1_000, "chan": channel, "rfch": 0, "freq": 868.1, "stat": 1, "modu": "LORA", "datr": "SF7BW125",
                "codr": "4/5", "rssi": rssi, "lsnr": snr, "size": data.len(), "data": data })
    });
    let mut push = vec![2, 0xab, 0xcd, 0, 0xaa, 0x55, 0x5a, 0, 0, 0, 1, 1];
    push.extend(json!({ "rxpk": heard }).to_string().into_bytes());
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&push, site.udp()).unwrap();
    let uplink = &uplinks(&arrivals, 1, &agent)[0];
    assert_eq!(payload(uplink), "once");
    // 8 x SNR + RSSI: -84, -14, -74.
    let rx = &uplink["rx"];
    assert_eq!((&rx["channel"], &rx["rssi"], &rx["snr"]), (&json!(1), &json!(-90.0), &json!(9.5)));
    assert_eq!(uplink.get("retransmission"), None);
    let status = agent.wait_until("the copies are counted", |status| dropped(status, "duplicate") == 2);
    assert_eq!(status["heard"], 3);
}

#[test]
fn s19_the_same_bytes_later_are_a_retransmission() {
    let (endpoint, arrivals) = endpoint();
    let site = Site::new(&(device(1, "") + &http("api", endpoint.address(), "")));
    let agent = site.start();
    let (mut forwarder, mut sensor) = (site.forwarder(), sensor(1));
    let frame = sensor.uplink(1, b"again");
    forwarder.send_phys(std::slice::from_ref(&frame)).unwrap();
    uplinks(&arrivals, 1, &agent);
    std::thread::sleep(MORE_THAN_THE_WINDOW);
    forwarder.send_phys(std::slice::from_ref(&frame)).unwrap();
    uplinks(&arrivals, 2, &agent);
    // The agent that comes next has not heard the frame, but knows its counter.
    assert!(agent.terminate().success());
    let agent = site.start();
    forwarder.send_phys(&[frame, sensor.uplink(1, b"next")]).unwrap();
    let uplinks = uplinks(&arrivals, 4, &agent);
    let said: Vec<_> =
        uplinks.iter().map(|uplink| (payload(uplink), uplink["retransmission"] == true)).collect();
    let expected = [("again", false), ("again", true), ("again", true), ("next", false)];
    assert_eq!(said, expected.map(|(payload, again)| (payload.to_owned(), again)));
}
