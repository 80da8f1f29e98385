//! What is right arrives as it was meant, and what is left out has its default.

use std::path::Path;
use std::time::Duration;

use packhorse::config::{
    ApiKeyIn, Auth, Durability, Format, From, IntegrationKind, Loaded, Method, MqttScheme, MqttVersion, QoS,
    SourceKind,
};

use super::{EXAMPLE, Folder, HTTP, MQTT, UDP, loaded, parse, shown};

#[test]
fn the_example_of_the_design_parses_without_a_warning() {
    let folder = Folder::new();
    let Loaded { config, warnings } = loaded(folder.parse(EXAMPLE));
    assert!(warnings.is_empty(), "{}", shown(&warnings));
    assert_eq!(config.gateway.name, "barn-roof");
    assert_eq!(config.spool.max_size, Some(64 << 20));
    assert_eq!(*config.spool.durability, Durability::WriteBehind);
    let device = &config.devices[0];
    assert_eq!(device.dev_eui, Some([0x00, 0x04, 0xa3, 0x0b, 0x00, 0x1c, 0x05, 0x30]));
    assert_eq!(device.nwk_s_key.as_ref().unwrap().expose(), "2b7e151628aed2a6abf7158809cf4f3c");
    assert_eq!(device.app_s_key.as_ref().unwrap().expose(), "000102030405060708090a0b0c0d0e0f");
    assert!(device.variables[0].1.is_plain());
    assert_eq!(*config.functions[0].file, folder.path("functions/silo.js"));
    let [api, broker] = config.integrations.as_slice() else { panic!("two integrations") };
    let Auth::ApiKey { place: ApiKeyIn::Header, value, .. } = &api.auth.value else {
        panic!("{:?}", api.auth)
    };
    assert_eq!(value.expose(), "hunter2-token");
    let IntegrationKind::Mqtt(mqtt) = &broker.kind else { panic!("mqtt") };
    assert_eq!(
        (mqtt.host.as_str(), mqtt.port, *mqtt.scheme),
        ("broker.example.com", 8883, MqttScheme::Mqtts)
    );
    assert_eq!(mqtt.password.as_ref().unwrap().expose(), "hunter2-mqtt");
    assert_eq!(**broker.tls.ca.as_ref().unwrap(), folder.path("certs/ca.pem"));
    assert!(broker.tls.server_name.is_none());
    assert_eq!(config.flows[0].to[1].format, Some(Format::Chirpstack));
    assert!(config.metrics.listen.is_none());
}

#[test]
fn an_empty_file_is_the_defaults() {
    let Loaded { config, warnings } = loaded(parse(""));
    assert!(warnings.is_empty());
    assert!(!config.gateway.name.is_empty());
    assert_eq!(*config.spool.path, Path::new("/var/lib/packhorse/spool.redb"));
    assert_eq!(config.spool.max_size, None);
    assert_eq!(config.spool.max_age, Duration::from_secs(30 * 86_400));
    assert_eq!(*config.spool.durability, Durability::WriteBehind);
    assert_eq!(config.history.records, 100);
    assert!(config.sources.is_empty() && config.integrations.is_empty() && config.flows.is_empty());
}

#[test]
fn what_is_left_out_has_its_default() {
    let text = format!(
        "{UDP}{HTTP}{MQTT}[integration.b.will]\ntopic = \"t\"\n[integration.b.state]\ntopic = \"t/s\"\n[[flow]]\nname = \"f\"\nto = [\"api\"]"
    );
    let Loaded { config, warnings } = loaded(parse(&text));
    assert!(warnings.is_empty(), "{}", shown(&warnings));
    let SourceKind::SemtechUdp(udp) = &config.sources[0].kind else { panic!("udp") };
    assert_eq!(udp.listen.to_string(), "127.0.0.1:1700");
    assert!(udp.allow.iter().any(|it| it.contains("127.9.9.9".parse().unwrap())));
    assert!(udp.allow.iter().any(|it| it.contains("::1".parse().unwrap())));
    assert!(!udp.allow.iter().any(|it| it.contains("192.168.0.1".parse().unwrap())));
    assert_eq!(udp.rate_limit, 1000);
    let api = &config.integrations[0];
    let IntegrationKind::Http(http) = &api.kind else { panic!("http") };
    assert!(api.enabled && http.method == Method::Post && *http.content_type == "json");
    assert!(http.success_codes.contains(204) && !http.success_codes.contains(300));
    assert_eq!((http.timeout, http.parallel, *http.batch), (Duration::from_secs(10), 4, 1));
    assert_eq!((api.retry.initial, api.retry.max), (Duration::from_secs(1), Duration::from_secs(60)));
    let IntegrationKind::Mqtt(mqtt) = &config.integrations[1].kind else { panic!("mqtt") };
    assert_eq!(*mqtt.client_id, "{{gateway.name}}-b");
    assert_eq!(*mqtt.topic, "packhorse/{{gateway.name}}/{{device.dev_eui}}/up");
    assert_eq!((mqtt.port, mqtt.qos, mqtt.max_inflight), (8883, QoS::AtLeastOnce, 16));
    let will = mqtt.will.as_ref().unwrap();
    assert_eq!((will.payload.as_str(), will.retain), ("offline", true));
    let state = mqtt.state.as_ref().unwrap();
    assert_eq!((state.every, state.qos, state.retain), (Duration::from_secs(300), QoS::AtLeastOnce, true));
    // Without devices, everything is what a flow takes.
    assert!(matches!(config.flows[0].from, From::All));
}

#[test]
fn brokers_are_found_by_scheme_port_and_alias() {
    for (url, scheme, host, port) in [
        ("mqtt://h", MqttScheme::Mqtt, "h", 1883),
        ("tcp://h:1884", MqttScheme::Mqtt, "h", 1884),
        ("ssl://h", MqttScheme::Mqtts, "h", 8883),
        ("tls://[2001:db8::1]/", MqttScheme::Mqtts, "2001:db8::1", 8883),
        ("ws://h/mqtt", MqttScheme::Ws, "h/mqtt", 80),
        ("wss://h:8443/mqtt", MqttScheme::Wss, "h/mqtt", 8443),
    ] {
        let text = format!("[integration.b]\ntype = \"mqtt\"\nurl = \"{url}\"\nversion = 5");
        let config = loaded(parse(&text)).config;
        let IntegrationKind::Mqtt(mqtt) = &config.integrations[0].kind else { panic!("mqtt") };
        assert_eq!(
            (*mqtt.scheme, mqtt.host.as_str(), mqtt.port, *mqtt.version),
            (scheme, host, port, MqttVersion::V5)
        );
    }
}

/// The device's name in the hub is the client id, unless somebody says otherwise.
#[test]
fn an_azure_device_names_the_client() {
    const SAS: &str = "[integration.b.auth]\ntype = \"azure-sas\"\nkey = { env = \"CARGO_PKG_NAME\" }\n";
    for (above, below, expected) in [
        ("", "", "{{gateway.name}}-b"),
        ("", "device = \"{{gateway.name}}\"", "{{gateway.name}}"),
        ("client_id = \"barn\"\n", "device = \"shed\"", "barn"),
    ] {
        let config = loaded(parse(&format!("{MQTT}{above}{SAS}{below}"))).config;
        let IntegrationKind::Mqtt(mqtt) = &config.integrations[0].kind else { panic!("mqtt") };
        assert_eq!(mqtt.client_id.value, expected);
        let Auth::AzureSas { policy: None, ttl, .. } = &config.integrations[0].auth.value else {
            panic!("sas")
        };
        assert_eq!(*ttl, Duration::from_secs(3_600));
    }
    let http =
        format!("{HTTP}auth = {{ type = \"google-service-account\", key = {{ env = \"CARGO_PKG_NAME\" }} }}");
    let config = loaded(parse(&http)).config;
    let Auth::GoogleServiceAccount { scope, ca: None, .. } = &config.integrations[0].auth.value else {
        panic!()
    };
    assert_eq!(scope, "https://www.googleapis.com/auth/cloud-platform");
}
