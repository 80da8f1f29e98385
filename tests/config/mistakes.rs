//! What is wrong is told once, where it stands, in words that help.

use std::fmt::Write as _;

use packhorse::config::Problem;

use super::{HTTP, MQTT, UDP, line, parse, refused, shown};

/// Configurations with one mistake: before it, the mistake, its line, and words of the message about it.
#[rustfmt::skip]
const MISTAKES: &[(&str, &str, u32, &[&str])] = &[
    // Syntax.
    ("", "[spool\npath = \"x\"", 1, &["expected `]`"]),
    ("[gateway]\n", "name = barn", 2, &["must be quoted"]),
    ("[gateway]\nname = \"a\"\n", "name = \"b\"", 3, &["\"name\"", "stands twice"]),
    ("", "name =", 1, &["value is missing"]),
    // Unknown keys.
    ("", "[spol]\n", 1, &["spol", "did you mean \"spool\"?"]),
    ("", "colour = 1", 1, &["unknown key \"colour\""]),
    ("[spool]\n", "max_sise = \"1GiB\"", 2, &["spool.max_sise", "did you mean \"max_size\"?"]),
    ("[control]\n", "port = 1", 2, &["control.port", "valid keys here: socket"]),
    (HTTP, "qos = 1", 4, &["integration.api.qos", "belongs to type = \"mqtt\""]),
    (MQTT, "timeout = \"1s\"", 4, &["integration.b.timeout", "belongs to type = \"http\""]),
    (HTTP, "password = \"x\"", 4, &["integration.api.password", "belongs to [integration.NAME.auth]"]),
    (MQTT, "ca = \"x\"", 4, &["integration.b.ca", "belongs to [integration.NAME.tls]"]),
    (HTTP, "retry = { maxx = \"1m\" }", 4, &["integration.api.retry.maxx", "did you mean \"max\"?"]),
    // Types.
    ("[spool]\n", "max_age = 30", 2, &["spool.max_age", "expected a duration such as \"30s\", found integer"]),
    ("", "spool = 1", 1, &["spool", "expected a table: [spool], found integer"]),
    ("", "[[spool]]", 1, &["expected a table: [spool], found array"]),
    ("", "[flow]\nname = \"x\"", 1, &["[[flow]]", "found table"]),
    ("[integration]\n", "type = \"http\"", 2, &["integration.type", "[integration.NAME]", "found string"]),
    (HTTP, "enabled = \"yes\"", 4, &["true or false", "found string"]),
    (HTTP, "parallel = \"4\"", 4, &["expected a whole number", "found string"]),
    (HTTP, "parallel = 1.5", 4, &["expected a whole number", "found float"]),
    (HTTP, "headers = [1]", 4, &["found array"]),
    ("[gateway]\n", "name = 1979-05-27", 2, &["gateway.name", "found datetime"]),
    // Values and ranges.
    ("[spool]\n", "on_full = \"drop\"", 2, &["\"drop\" is not one of \"drop-oldest\", \"refuse-new\""]),
    ("[spool]\n", "max_age = \"30 days\"", 2, &["\"30 days\" is not a duration", "units are"]),
    ("[spool]\n", "max_size = \"64MB\"", 2, &["\"64MB\" is not a size", "MiB"]),
    ("[spool]\n", "max_size = \"512KiB\"", 2, &["512KiB is out of range: 1MiB"]),
    ("[spool]\n", "max_size = -1", 2, &["-1 is out of range"]),
    ("[spool]\n", "max_size = 99999999999999999999999999999999999999999999", 2, &["999999999999999999999999 is out"]),
    ("[gateway]\n", "name = \"\"", 2, &["must not be empty"]),
    (HTTP, "timeout = \"6m\"", 4, &["6m is out of range: 1s to 5m"]),
    (HTTP, "parallel = 33", 4, &["33 is out of range: 1 to 32"]),
    (HTTP, "batch = 0", 4, &["0 is out of range: 1 to 64"]),
    (HTTP, "method = \"GET\"", 4, &["GET", "choose POST, PUT or PATCH"]),
    (HTTP, "method = \"post\"", 4, &["did you mean \"POST\"?"]),
    (HTTP, "content_type = \"jsom\"", 4, &["\"jsom\"", "did you mean \"json\"?"]),
    (HTTP, "success_codes = [200, \"2xx\"]", 4, &["success_codes[1]", "\"2xx\""]),
    (HTTP, "success_codes = [\"300-200\"]", 4, &["\"300-200\""]),
    (HTTP, "success_codes = []", 4, &["must not be empty"]),
    (HTTP, "headers = { \"X Site\" = \"a\" }", 4, &["\"X Site\" cannot be the name of a header"]),
    (HTTP, "headers = { X-A = \"a\", x-a = \"b\" }", 4, &["\"x-a\" stands twice"]),
    (HTTP, "headers = { Content-Type = \"a/b\" }", 4, &["content_type"]),
    (HTTP, "headers = { content-encoding = \"gzip\" }", 4, &["use the key compress"]),
    (HTTP, "compress = \"zip\"", 4, &["did you mean \"gzip\"?"]),
    (HTTP, "retry = { initial = \"5m\" }", 4, &["retry.initial", "longer than the longest (max, 1m)"]),
    (MQTT, "qos = 3", 4, &["3 is out of range: 0 to 2"]),
    (MQTT, "version = 4", 4, &["4 is out of range: 5 to 5"]),
    (MQTT, "version = \"3.1\"", 4, &["\"3.1.1\", \"5\""]),
    (MQTT, "keep_alive = \"1s\"", 4, &["1s is out of range: 5s to"]),
    (MQTT, "topic = \"a/+/up\"", 4, &["integration.b.topic", "subscriptions"]),
    (MQTT, "port = 0", 4, &["0 is out of range: 1 to 65535"]),
    ("[metrics]\n", "listen = \"localhost:80\"", 2, &["\"localhost:80\" is not an address to listen on"]),
    (UDP, "allow = [\"10.0.0.0/33\"]", 3, &["allow[0]", "\"10.0.0.0/33\" is not a network"]),
    (UDP, "allow = []", 3, &["must not be empty: nobody"]),
    (UDP, "forward_to = [\"example.com\"]", 3, &["\"example.com\" is not HOST:PORT"]),
    (UDP, "forward_to = [\"127.0.0.1:1700\"]", 3, &["own address"]),
    (UDP, "forward_to = [\"localhost:1700\"]", 3, &["own address"]),
    (UDP, "listen = \"0.0.0.0:1700\"\nforward_to = [\"127.0.0.1:1700\"]", 4, &["own address"]),
    (UDP, "listen = \"[::]:1700\"\nforward_to = [\"LocalHost:1700\"]", 4, &["own address"]),
    (UDP, "listen = \"[::1]:1700\"\nforward_to = [\"[::1]:1700\"]", 4, &["own address"]),
    (UDP, "forward_to = [\"0.0.0.0:1700\"]", 3, &["own address"]),
    (UDP, "forward_to = [\"127.0.0.1:1680\"]\n[source.t]\ntype = \"semtech-udp\"\nlisten = \"127.0.0.1:1680\"", 3, &["source.t listens there", "taken in twice"]),
    ("[function.f]\nfile = \"f.js\"\n", "time_limit = \"3s\"", 3, &["3s is out of range"]),
    ("", "[source.My_Source]\ntype = \"semtech-udp\"", 1, &["\"My_Source\" cannot be a name", "a-z"]),
    ("", "control.socket = \"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", 1, &["at most 107 bytes"]),
    // Missing keys: the place is the table's.
    ("", "[integration.api]\nurl = \"http://localhost\"", 1, &["integration.api.type", "required", "type = \"http\" or type = \"mqtt\""]),
    ("", "[integration.api]\ntype = \"http\"", 1, &["integration.api.url", "required"]),
    ("", "[source.s]\ntype = \"mqtt\"\nurl = \"mqtt://localhost\"", 1, &["source.s.topics", "required"]),
    (MQTT, "[integration.b.will]\npayload = \"gone\"", 4, &["integration.b.will.topic", "required"]),
    ("", "[function.f]", 1, &["function.f.file", "required"]),
    ("", "[[device]]\nname = \"d\"", 1, &["device.d.dev_eui", "needs dev_eui, dev_addr or both"]),
    (HTTP, "auth = { type = \"api-key\", name = \"X\" }", 4, &["integration.api.auth.value", "required"]),
    (HTTP, "auth = { type = \"azure-sas\" }", 4, &["integration.api.auth.key", "required"]),
    (HTTP, "auth = { type = \"azure-sas\", key = { env = \"PATH\" }, ttl = \"1m\" }", 4, &["1m is out of range: 5m"]),
    (HTTP, "auth = { type = \"google-service-account\" }", 4, &["integration.api.auth.key", "required"]),
    (MQTT, "auth = { type = \"google-service-account\", key = { env = \"PATH\" } }", 4, &["is for HTTP"]),
    // Addresses (RULES S36, S38).
    ("[integration.a]\ntype = \"http\"\n", "url = \"ftp://h\"", 3, &["integration.a.url", "https://HOST or http://HOST"]),
    ("[integration.a]\ntype = \"http\"\n", "url = \"h/x\"", 3, &["not a URL"]),
    ("[integration.a]\ntype = \"http\"\n", "url = \"https://{{device.name}}.h/\"", 3, &["placeholder", "must not choose"]),
    ("[integration.a]\ntype = \"http\"\n", "url = \"https://h:{{device.port}}/\"", 3, &["placeholder"]),
    ("[integration.a]\ntype = \"http\"\n", "url = \"https://h/#frag\"", 3, &["fragment"]),
    ("[integration.a]\ntype = \"mqtt\"\n", "url = \"mqtt://{{gateway.name}}\"", 3, &["placeholder"]),
    ("[integration.a]\ntype = \"mqtt\"\n", "url = \"mqtt://h/topic\"", 3, &["no path"]),
    ("[integration.a]\ntype = \"mqtt\"\nurl = \"mqtt://localhost:1884\"\n", "port = 1883", 4, &["port is 1883, but the URL says 1884"]),
    // Combinations.
    (MQTT, "tls = { cert = \"c.pem\" }", 4, &["integration.b.tls.key", "go together"]),
    (MQTT, "tls = { key = \"c.key\" }", 4, &["integration.b.tls.cert", "go together"]),
    (MQTT, "state = { every = \"5s\", topic = \"t\" }", 4, &["integration.b.state.every", "out of range"]),
    (MQTT, "state = { every = \"5m\" }", 4, &["integration.b.state.topic", "required"]),
    (MQTT, "tls = { server_name = \"x\" }", 4, &["rumqttc takes the name from the URL"]),
    (MQTT, "auth = { type = \"none\", user = \"x\" }", 4, &["integration.b.auth.user"]),
    ("[integration.a]\ntype = \"http\"\nurl = \"http://localhost/\"\n", "tls = { ca = \"ca.pem\" }", 4, &["tls.ca", "no TLS", "https://"]),
    ("[source.s]\ntype = \"http\"\n", "listen = \"0.0.0.0:8090\"", 3, &["source.s.listen", "no token"]),
    // References and doubles.
    (HTTP, "[[flow]]\nname = \"f\"\nto = [\"apj\"]", 6, &["flow.f.to", "no integration \"apj\"", "did you mean \"api\"?"]),
    (HTTP, "[[flow]]\nname = \"f\"\nto = [\"api\"]\nfunction = \"g\"", 7, &["flow.f.function", "no function \"g\""]),
    (HTTP, "[[flow]]\nname = \"f\"\nto = [\"api\"]\nfrom = { devices = [\"d\"] }", 7, &["flow.f.from.devices", "no device \"d\""]),
    (HTTP, "[[flow]]\nname = \"f\"\nto = [{ integration = \"api\", topic = \"t\" }]", 6, &["topic is for mqtt"]),
    (HTTP, "[[flow]]\nname = \"f\"\nto = []", 6, &["must not be empty"]),
    (HTTP, "[[flow]]\nname = \"f\"\nto = [\"api\"]\nevents = [\"uplinks\"]", 7, &["events[0]", "did you mean \"uplink\"?"]),
    (HTTP, "[[flow]]\nname = \"f\"\nto = [\"api\"]\nports = [256]", 7, &["ports[0]", "256 is out of range"]),
    (HTTP, "[[flow]]\nname = \"f\"\nto = [\"api\"]\nfrom = { label = [\"x\"] }", 7, &["flow.f.from.label", "did you mean \"labels\"?"]),
    ("[[device]]\ndev_addr = \"260b1f2e\"\n", "function = \"g\"", 3, &["no function \"g\""]),
    ("", "[[device]]\ndev_eui = \"0004a30b001c053\"", 2, &["\"0004a30b001c053\" is not a DevEUI", "16 hexadecimal"]),
    ("", "[[device]]\ndev_addr = \"260b1f2g\"", 2, &["\"260b1f2g\" is not a DevAddr", "8 hexadecimal"]),
    ("[[device]]\nname = \"a\"\ndev_addr = \"00000001\"\n", "[[device]]\nname = \"a\"\ndev_addr = \"00000002\"", 5, &["device.a.name", "already has the name"]),
    ("[[device]]\ndev_eui = \"0004A30B001C0530\"\n", "[[device]]\ndev_eui = \"00-04-a3-0b-00-1c-05-30\"", 3, &["DevEUI 0004a30b001c0530", ":1:1"]),
    ("[source.a]\ntype = \"semtech-udp\"\nlisten = \"127.0.0.1:1700\"\n", "[source.b]\ntype = \"semtech-udp\"", 4, &["source.b.listen", "source.a.listen"]),
    ("[source.a]\ntype = \"http\"\nlisten = \"127.0.0.1:80\"\n", "[metrics]\nlisten = \"127.0.0.1:80\"", 5, &["metrics.listen", "is taken"]),
    ("[integration.a]\ntype = \"mqtt\"\nurl = \"mqtt://h\"\nclient_id = \"x\"\n", "[integration.b]\ntype = \"mqtt\"\nurl = \"tcp://h:1883\"\nclient_id = \"x\"", 8, &["integration.b.client_id", "integration.a"]),
    (HTTP, "[[flow]]\nname = \"f\"\nto = [\"api\"]\n[[flow]]\nname = \"f\"\nto = [\"api\"]", 8, &["flow.f.name", "already has the name"]),
    // Files.
    ("", "device_files = [\"devices.d/*.toml\"]", 1, &["device_files[0]", "cannot be read"]),
    ("", "device_files = [\"*/a.toml\"]", 1, &["last part"]),
    ("", "device_files = [\"a.toml\"]", 1, &["a.toml", "cannot be read"]),
];

#[test]
fn every_mistake_has_its_place_and_its_words() {
    let mut failures = String::new();
    for (before, mistake, wanted_line, words) in MISTAKES {
        let text = format!("{before}{mistake}");
        let problems = refused(&text);
        let errors = || problems.iter().filter(|problem| problem.is_error());
        let fits = |problem: &Problem| {
            let text = problem.to_string();
            line(problem) == *wanted_line && words.iter().all(|word| text.contains(word))
        };
        if !errors().any(fits) {
            writeln!(
                failures,
                "--- wanted line {wanted_line} {words:?} from\n{text}\n>>> got\n{}",
                shown(&problems)
            )
            .unwrap();
        }
        if parse(before).is_err() && !before.is_empty() && !before.starts_with("[integration.a]") {
            writeln!(failures, "--- wrong before the mistake\n{before}").unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

/// The same through the command that an operator uses: exit code 1, file and line and words, never a backtrace.
#[test]
fn check_says_so_with_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("packhorse.toml");
    for (before, mistake, line, words) in MISTAKES {
        std::fs::write(&file, format!("{before}{mistake}")).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_packhorse"))
            .args(["check", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{mistake}\n{said}");
        assert!(said.contains(&format!("{}:{line}:", file.display())), "{mistake}\n{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{mistake}\n{said}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!errors.contains("panicked") && !errors.contains("backtrace"), "{mistake}\n{errors}");
    }
}

/// One mistake is one error: what follows from it is not reported as well.
#[test]
fn a_mistake_does_not_breed_others() {
    for text in [
        "[integration.api\ntype = \"http\"\nurl = \"https://h/\"\n[[flow]]\nname = \"f\"\nto = [\"api\"]",
        "[integration.api\n[history]\n[[flow]]\nname = \"f\"\nto = [\"api\"]",
        "[integration.api]\ntype = \"http\"\nurl\n",
        "device_files = [\"none.toml\"]\n[[flow]]\nname = \"f\"\nto = [\"api\"]\nfrom = { devices = [\"d\"] }\n[integration.api]\ntype = \"http\"\nurl = \"https://h/\"",
        "[integration.api]\ntype = \"htpp\"\nurl = \"https://h/\"\nparallel = 3",
        "[integration.api]\ntype = \"http\"\nurl = oops\n[[flow]]\nname = \"f\"\nto = [\"api\"]",
        "[integration.api]\ntype = \"http\"\nurl = \"oops\"\n[[flow]]\nname = \"f\"\nto = [\"api\"]",
        "[[device]]\nname = \"d\"\ndev_eui = \"oops\"\n[[flow]]\nname = \"f\"\nto = [\"api\"]\nfrom = { devices = [\"d\"] }\n[integration.api]\ntype = \"http\"\nurl = \"https://h/\"",
    ] {
        let problems = refused(text);
        assert_eq!(problems.len(), 1, "{text}\n{}", shown(&problems));
    }
}

#[test]
fn six_mistakes_are_reported_at_once_in_the_order_of_the_file() {
    let text = "\
[spool]
max_sise = \"64MiB\"
max_age = 30
[integration.api]
type = \"http\"
timeout = \"1h\"
method = PUT
[[flow]]
name = \"silos\"
to = [\"apo\"]
";
    let problems = refused(text);
    let found: Vec<(u32, &str)> = problems.iter().map(|it| (line(it), it.key.as_str())).collect();
    let expected = [
        (2, "spool.max_sise"),
        (3, "spool.max_age"),
        (4, "integration.api.url"),
        (6, "integration.api.timeout"),
        (7, ""),
        (10, "flow.silos.to"),
    ];
    assert_eq!(found, expected, "{}", shown(&problems));
    assert!(problems.iter().all(Problem::is_error));
}

#[test]
fn a_problem_reads_like_a_compilers() {
    let problems = refused("[spool]\n  max_sise = 1  # größer\n");
    let expected = "/nowhere/packhorse.toml:2:3: error: spool.max_sise: unknown key \"max_sise\"\n  hint: did you mean \"max_size\"?\n";
    assert_eq!(shown(&problems), expected);
    // Columns count characters, not bytes.
    let problems = refused(r#"integration."ü" = { type = "http", url = "https://ü/" }"#);
    let url = problems.iter().find(|problem| problem.key.ends_with("url")).unwrap();
    assert_eq!(url.place.as_ref().unwrap().column, 42);
}
