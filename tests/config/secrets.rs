//! Secrets: read with care, warned of, never shown.

use std::os::unix::fs::PermissionsExt;

use packhorse::config::{Auth, IntegrationKind, Loaded, SourceKind};

use super::{EXAMPLE, Folder, MQTT, line, loaded, parse, refused, shown};

/// RULES S38.
#[test]
fn credentials_leave_the_url() {
    let text = "\
[integration.a]
type = \"http\"
url = \"https://gw:hunter2%21@h:8443/x\"
[integration.b]
type = \"mqtt\"
url = \"mqtts://gw:hunter2@h\"
[source.s]
type = \"mqtt\"
url = \"mqtt://gw:hunter2@127.0.0.1\"
topics = [\"#\"]
";
    let Loaded { config, warnings } = loaded(parse(text));
    let IntegrationKind::Http(http) = &config.integrations[0].kind else { panic!("http") };
    assert_eq!(*http.url, "https://h:8443/x");
    let Auth::Basic { username, password } = &config.integrations[0].auth.value else { panic!("basic") };
    assert_eq!((username.as_str(), password.expose()), ("gw", "hunter2!"));
    let IntegrationKind::Mqtt(mqtt) = &config.integrations[1].kind else { panic!("mqtt") };
    assert_eq!((mqtt.host.as_str(), mqtt.username.as_deref()), ("h", Some("gw")));
    assert_eq!(mqtt.password.as_ref().unwrap().expose(), "hunter2");
    let SourceKind::Mqtt(source) = &config.sources[0].kind else { panic!("mqtt") };
    assert_eq!((source.url.as_str(), source.username.as_deref()), ("mqtt://127.0.0.1", Some("gw")));
    let lines: Vec<u32> = warnings.iter().map(line).collect();
    assert_eq!(lines, [3, 6, 9], "{}", shown(&warnings));
    let problems = refused(
        "[integration.a]\ntype = \"http\"\nurl = \"https://a:hunter2@h/\"\nauth = { type = \"bearer\", token = { env = \"CARGO_PKG_NAME\" } }",
    );
    assert!(shown(&problems).contains("stand in the URL, and [auth] is given too"));
}

/// Invariant 6 and RULES S38: each of these works, and each is worth knowing.
#[test]
fn risks_are_warned_of() {
    for (text, line_of, word) in [
        ("[metrics]\nlisten = \"0.0.0.0:9100\"", 2, "reached from outside"),
        ("[source.s]\ntype = \"semtech-udp\"\nlisten = \"0.0.0.0:1700\"", 3, "only this machine may send"),
        (
            "[source.s]\ntype = \"semtech-udp\"\nlisten = \"[::]:1700\"\nallow = [\"10.0.0.0/8\"]",
            3,
            "reached from outside",
        ),
        (
            "[source.s]\ntype = \"http\"\nlisten = \"10.0.0.1:80\"\ntoken = { env = \"CARGO_PKG_NAME\" }",
            3,
            "reached",
        ),
        ("[source.s]\ntype = \"http\"\ntoken = \"hunter2\"", 3, "{ file ="),
        ("[integration.b]\ntype = \"mqtt\"\nurl = \"mqtt://h\"\nusername = \"gw\"", 3, "use mqtts://"),
        (
            "[integration.b]\ntype = \"mqtt\"\nurl = \"ws://h\"\npassword = { env = \"CARGO_PKG_NAME\" }",
            3,
            "use wss://",
        ),
        (
            "[integration.a]\ntype = \"http\"\nurl = \"http://h\"\nauth = { type = \"bearer\", value = { env = \"CARGO_PKG_NAME\" } }",
            3,
            "use https://",
        ),
        (
            "[integration.a]\ntype = \"http\"\nurl = \"https://h\"\nheaders = { Authorization = \"Basic hunter2\" }",
            4,
            "{ file =",
        ),
        (
            "[integration.a]\ntype = \"http\"\nurl = \"https://h\"\nformat = \"json\"\nbody = \"x\"",
            4,
            "no effect",
        ),
        (
            "[integration.a]\ntype = \"http\"\nurl = \"https://h\"\n[[flow]]\nname = \"f\"\nto = [\"a\"]\nfrom = { labels = [\"x\"] }",
            5,
            "no device has the label \"x\"",
        ),
    ] {
        let Loaded { warnings, .. } = loaded(parse(text));
        let found = warnings.iter().any(|it| line(it) == line_of && it.to_string().contains(word));
        assert!(found && warnings.len() == 1, "{text}\n{}", shown(&warnings));
    }
    // On the machine itself nothing is exposed.
    let local = "[integration.b]\ntype = \"mqtt\"\nurl = \"mqtt://localhost\"\nusername = \"gw\"";
    assert!(loaded(parse(local)).warnings.is_empty());
    // Two that evict each other are no matter while one of them is off.
    let off = "[integration.a]\ntype = \"mqtt\"\nurl = \"mqtt://h\"\nclient_id = \"x\"\n[integration.b]\ntype = \"mqtt\"\nurl = \"mqtt://h\"\nclient_id = \"x\"\nenabled = false";
    assert!(loaded(parse(off)).warnings.is_empty());
}

/// Invariant 8: whatever is wrong around a secret, it does not show.
#[test]
fn no_secret_shows() {
    let folder = Folder::new();
    folder.write("secrets/open", "hunter2");
    folder.write("secrets/lines", "hunter2\nhunter2");
    std::fs::set_permissions(folder.path("secrets/open"), PermissionsExt::from_mode(0o644)).unwrap();
    let mqtt = "[integration.b]\ntype = \"mqtt\"\nurl = \"mqtts://h\"\n";
    let api = "[integration.a]\ntype = \"http\"\nurl = \"https://h/\"\n";
    let device = "[[device]]\ndev_addr = \"00000001\"\n";
    let url = |url: &str| format!("[integration.a]\ntype = \"http\"\nurl = \"{url}\"");
    let broker = |url: &str| format!("[integration.a]\ntype = \"mqtt\"\nurl = \"{url}\"");
    for text in [
        EXAMPLE.to_owned(),
        EXAMPLE.replace("type = \"api-key\"", "type = \"api-kye\""),
        format!("{mqtt}password = \"hunter2\""),
        format!("{mqtt}password = hunter2"),
        format!("{mqtt}password = \"hunter2"),
        format!("{mqtt}password = \"hunter2\\q\""),
        format!("{mqtt}password = [\"hunter2\"]"),
        format!("{mqtt}password = {{ fil = \"hunter2\" }}"),
        format!("{mqtt}pasword = \"hunter2\""),
        format!("{mqtt}password = {{ env = \"hunter2 !\" }}"),
        format!("{mqtt}password = {{ file = \"secrets/open\" }}"),
        format!("{mqtt}tls = {{ cert = \"c\", key = \"-----BEGIN hunter2\" }}"),
        format!("{api}headers = {{ Authorization = \"hunter2\\n\" }}"),
        format!("{api}headers = {{ X-Thing = \"hunter2\\n\" }}"),
        format!("{api}headers = {{ X-Thing = {{ file = \"secrets/lines\" }} }}"),
        format!("{api}auth = {{ type = \"bearer\", token = {{ file = \"secrets/lines\" }} }}"),
        format!("{api}auth = {{ type = \"bearer\", token = \"hunter2\", value = \"hunter2\" }}"),
        format!("{api}auth = {{ type = \"basic\", password = \"hunter2\" }}"),
        format!("{api}auth = \"hunter2\""),
        format!("{device}nwk_s_key = \"hunter2\""),
        format!("{device}app_s_key = {{ file = \"secrets/open\" }}"),
        format!("{device}variables = {{ pin = \"hunter2\" }}"),
        url("https://gw:hunter2@h/"),
        url("https://gw:hunter2@h/ x"),
        url("https://gw:hunter2/x@h/"),
        url("https://gw:1hunter2@h:99999/"),
        url("https//gw:hunter2@h"),
        url("https://gw:hunter2@{{x}}/"),
        broker("mqtt://gw:hunter2@h/x"),
        broker("mqtt://gw:hunter2@h\"\npassword = \"hunter2"),
        broker("mqtts://gw:hunter2#@h"),
    ] {
        let seen = match folder.parse(&text) {
            Ok(loaded) => format!("{}{:?}{:#?}", shown(&loaded.warnings), loaded, loaded.config),
            Err(problems) => format!("{}{problems:?}", shown(&problems)),
        };
        for secret in ["hunter2", "2b7e1516", "2B7E1516", "00010203"] {
            assert!(!seen.contains(secret), "{text}\n{seen}");
        }
    }
}

/// RULES S38.
#[test]
fn secrets_are_read_with_care() {
    let folder = Folder::new();
    folder.write("secrets/empty", "\n\n");
    folder.write("secrets/large", vec![b'x'; 70_000]);
    folder.write("secrets/binary", [0xff]);
    folder.write("secrets/open", "x");
    std::fs::set_permissions(folder.path("secrets/open"), PermissionsExt::from_mode(0o604)).unwrap();
    let with = |value: &str| folder.parse(&format!("{MQTT}password = {value}"));
    for (value, word) in [
        ("{ file = \"secrets/none\" }", "cannot be read"),
        ("{ file = \"secrets\" }", "not a regular file"),
        ("{ file = \"/dev/null\" }", "not a regular file"),
        ("{ file = \"secrets/empty\" }", "is empty"),
        ("{ file = \"secrets/large\" }", "64 KiB"),
        ("{ file = \"secrets/binary\" }", "UTF-8"),
        ("{ env = \"PACKHORSE_SURELY_NOT_SET\" }", "PACKHORSE_SURELY_NOT_SET\" is not set"),
        ("{ file = \"secrets/mqtt\", env = \"HOME\" }", "keep one"),
        ("{}", "neither file nor env"),
        ("5", "found integer"),
    ] {
        let problems = with(value).err().unwrap();
        assert_eq!(problems.len(), 1, "{}", shown(&problems));
        assert!(problems[0].key.starts_with("integration.b.password"), "{}", shown(&problems));
        assert_eq!(line(&problems[0]), 4);
        assert!(problems[0].to_string().contains(word), "{}", shown(&problems));
    }
    let warnings = loaded(with("{ file = \"secrets/open\" }")).warnings;
    assert!(shown(&warnings).contains("everybody on this machine"), "{}", shown(&warnings));
    let Loaded { config, warnings } = loaded(with("{ env = \"CARGO_PKG_NAME\" }"));
    let IntegrationKind::Mqtt(mqtt) = &config.integrations[0].kind else { panic!("mqtt") };
    assert_eq!(mqtt.password.as_ref().unwrap().expose(), "packhorse");
    assert!(warnings.is_empty());
}
