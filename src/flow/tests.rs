#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::lorawan::Devices;
use crate::uplink::Eui64;

const INTEGRATIONS: &str = r#"
[integration.api]
type = "http"
url = "http://127.0.0.1:1/"
[integration.broker]
type = "mqtt"
url = "mqtt://127.0.0.1:1"
topic = "t"
[integration.off]
type = "http"
url = "http://127.0.0.1:1/"
enabled = false
"#;

const DEVICES: &str = r#"
[[device]]
name = "silo-7"
dev_eui = "0004a30b001c0530"
labels = ["silo", "north"]
[[device]]
name = "gate"
dev_eui = "0004a30b001c0531"
"#;

struct Bench {
    devices: Devices,
    flows: Flows,
    router: Router,
}

fn bench(text: &str) -> Bench {
    let config = load(text);
    let flows = Flows::try_new(&config).unwrap();
    let ids = (0..flows.route_names().len()).map(|n| RouteId::for_test(u32::try_from(n).unwrap())).collect();
    let router = Router::new(&flows, ids);
    Bench { devices: Devices::try_new(&config.devices).unwrap(), flows, router }
}

fn load(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("packhorse.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(&file).unwrap().config
}

impl Bench {
    /// `flow>name` of each route that an uplink takes.
    fn go(&self, kind: Kind, device: Option<&str>, f_port: Option<u8>) -> Vec<String> {
        let device = device.map(|name| self.devices.iter().find(|device| device.name == name).unwrap());
        let routes = self.router.routes(kind, device, f_port);
        let all = self.flows.route_names();
        let name = |id: &RouteId| {
            let route = &all[usize::try_from(id.number()).unwrap()];
            format!("{}>{}", route.flow, route.name)
        };
        routes.iter().map(name).collect()
    }
}

#[test]
fn s28_without_devices_and_flows_everything_goes_everywhere_that_is_on() {
    let bench = bench(INTEGRATIONS);
    for kind in [Kind::Lorawan, Kind::App, Kind::Join, Kind::Other] {
        assert_eq!(bench.go(kind, None, None), [">api", ">broker"], "{kind:?}");
    }
}

#[test]
fn with_devices_and_no_flow_their_uplinks_go_everywhere() {
    let bench = bench(&format!("{INTEGRATIONS}{DEVICES}"));
    assert_eq!(bench.go(Kind::Lorawan, Some("gate"), Some(2)), [">api", ">broker"]);
    assert!(bench.go(Kind::Lorawan, None, Some(2)).is_empty(), "a stranger's");
    assert!(bench.go(Kind::Join, Some("gate"), None).is_empty(), "S28: joins only where asked for");
}

#[test]
fn flows_pick_by_device_label_event_and_port() {
    let bench = bench(&format!(
        r#"{INTEGRATIONS}{DEVICES}
[[flow]]
name = "silos"
from = {{ labels = ["silo", "shed"] }}
ports = [2, 3]
to = ["api"]
[[flow]]
name = "gates"
from = {{ devices = ["00-04-A3-0B-00-1C-05-31"] }}
to = ["broker", "off"]
[[flow]]
name = "archive"
from = "all"
events = ["uplink", "join", "other"]
to = ["broker"]
"#
    ));
    for (kind, device, port, expected) in [
        (Kind::Lorawan, Some("silo-7"), Some(2), &["silos>api", "archive>broker"][..]),
        (Kind::Lorawan, Some("silo-7"), Some(9), &["archive>broker"]),
        (Kind::Lorawan, Some("silo-7"), None, &["archive>broker"]),
        (Kind::App, Some("gate"), Some(2), &["gates>broker", "archive>broker"]),
        (Kind::Lorawan, None, Some(2), &["archive>broker"]),
        (Kind::Join, Some("silo-7"), None, &["archive>broker"]),
        (Kind::Other, None, None, &["archive>broker"]),
    ] {
        assert_eq!(bench.go(kind, device, port), expected, "{kind:?} {device:?} {port:?}");
    }
}

/// S5: equal overrides are one variant, others are sent apart; a flow that is gone leaves the plain one.
#[test]
fn flows_that_override_alike_share_a_variant() {
    let bench = bench(&format!(
        r#"{INTEGRATIONS}{DEVICES}
[[flow]]
name = "plain"
to = ["broker"]
[[flow]]
name = "raw"
to = [{{ integration = "broker", topic = "raw/{{{{device.name}}}}", format = "chirpstack" }}]
[[flow]]
name = "raw-too"
to = [{{ integration = "broker", topic = "raw/{{{{device.name}}}}", format = "chirpstack" }}]
[[flow]]
name = "other-topic"
to = [{{ integration = "broker", topic = "other" }}]
"#
    ));
    let plan = bench.flows.plan("broker");
    assert_eq!(
        ["plain", "raw", "raw-too", "other-topic", "gone"].map(|flow| plan.variant_of(flow)),
        [0, 1, 1, 2, 0]
    );
    assert_eq!(plan.variants.len(), 3);
    assert_eq!((plan.variants[1].flow.as_str(), plan.variants[1].format), ("raw", Some(Format::Chirpstack)));
    assert_eq!(bench.flows.plan("api").variants.len(), 1);
}

/// S10.
#[test]
fn failover_is_one_route_to_a_group() {
    let flows = r#"
[[flow]]
name = "billing"
to = ["api", { integration = "broker", topic = "billing" }]
mode = "failover"
"#;
    let bench = bench(&format!("{INTEGRATIONS}{DEVICES}{flows}"));
    assert_eq!(bench.go(Kind::Lorawan, Some("gate"), Some(2)), ["billing>billing"]);
    assert_eq!(bench.flows.route_names()[0].kind, GROUP_KIND);
    let group = &bench.flows.groups()[0];
    let members: Vec<&str> = group.members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(members, ["api", "broker"]);
    assert!(!bench.flows.is_direct("api"));

    let alone = load(&format!("{INTEGRATIONS}[[flow]]\nname = \"x\"\nto = [\"api\"]\nmode = \"failover\"\n"));
    let problems = Flows::try_new(&alone).unwrap_err();
    assert_eq!(problems[0].key, "flow.x.mode");
}

#[test]
fn a_device_is_picked_by_name_or_eui() {
    let device = |eui: u8| Eui64([0, 4, 0xa3, 0x0b, 0, 0x1c, 5, eui]);
    let bench = bench(&format!("{INTEGRATIONS}{DEVICES}"));
    assert_eq!(bench.devices.of_eui(device(0x30)).unwrap().name, "silo-7");
    assert!(bench.devices.of_eui(device(0x32)).is_none());
}
