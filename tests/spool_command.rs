//! `packhorse spool check` and `packhorse spool export` as a person and a script meet them: the real binary, on the spool of
//! a real agent.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::PATIENCE;
use support::site::{Site, endpoint, http};

const PAGE: usize = 4096;

/// Nobody listens there: everything waits.
const AWAY: &str = "[integration.away]\ntype = \"http\"\nurl = \"http://127.0.0.1:1/\"\nretry = { max = \"1s\" }\n\
                    [integration.off]\ntype = \"http\"\nenabled = false\nurl = \"http://127.0.0.1:1/\"\n";

fn packhorse(site: &Site, words: &[&str]) -> Output {
    let config = site.path().join("packhorse.toml");
    Command::new(env!("CARGO_BIN_EXE_packhorse")).args(words).arg("--config").arg(config).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A site whose agent heard `n` uplinks, none of which it could deliver, and has stopped.
fn stopped_with(n: usize) -> Site {
    let site = Site::new(AWAY);
    let mut agent = site.start();
    assert_eq!(site.forwarder().send_uplinks(n).unwrap().acked, n);
    agent.wait_until_committed(n as u64);
    assert!(agent.terminate().success());
    site
}

fn spool(site: &Site) -> std::path::PathBuf {
    site.path().join("spool.redb")
}

/// Zeroes every page that has an uplink of this export in it.
fn spoil(path: &Path, uplink: &Value) {
    let content = data_encoding::BASE64.decode(uplink["content"].as_str().unwrap().as_bytes()).unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    for page in bytes.chunks_mut(PAGE).filter(|page| page.windows(content.len()).any(|at| at == content)) {
        page.fill(0);
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_stopped_agents_spool_is_checked_and_exported() {
    let site = stopped_with(60);
    let before = std::fs::read(spool(&site)).unwrap();
    let output = packhorse(&site, &["spool", "check"]);
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{table}");
    assert!(table.lines().all(|line| line.len() <= 80 || line.contains('/')), "{table}");
    for part in ["spool.redb: SOUND", ", closed", "60 uplinks", "away "] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    let report: Value =
        serde_json::from_slice(&packhorse(&site, &["spool", "check", "--json"]).stdout).unwrap();
    assert_eq!(
        (&report["state"], &report["records"], &report["closed"]),
        (&"sound".into(), &60.into(), &true.into())
    );
    let away = &report["integrations"][0];
    assert_eq!(
        (&away["name"], &away["backlog"], &away["dead_letters"]),
        (&"away".into(), &60.into(), &0.into())
    );

    let output = packhorse(&site, &["spool", "export"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), "60 uplinks\n".into()));
    let all = lines(&output);
    assert_eq!(all.len(), 60);
    let first = &all[0];
    for key in ["seq", "id", "time", "time_quality", "kind", "source", "integrations", "content", "rx"] {
        assert!(!first[key].is_null(), "{key} is missing in {first}");
    }
    assert_eq!(first["integrations"], serde_json::json!([{ "name": "away", "type": "http" }]));
    assert!(data_encoding::BASE64.decode(first["content"].as_str().unwrap().as_bytes()).unwrap().len() > 12);
    assert!(first["rx"]["frequency"].is_u64() && first["rx"]["data_rate"].is_string(), "{first}");

    let dead = packhorse(&site, &["spool", "export", "--dead"]);
    assert_eq!((dead.status.code(), dead.stdout.len()), (Some(0), 0));
    let wrong = packhorse(&site, &["spool", "export", "--integration", "awya"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("did you mean \"away\"?"), "{}", text(&wrong.stderr));
    assert_eq!(lines(&packhorse(&site, &["spool", "export", "--integration", "away"])).len(), 60);
    assert_eq!(std::fs::read(spool(&site)).unwrap(), before, "it was only read");
}

#[test]
fn a_running_agents_spool_is_exit_2() {
    let site = Site::new(AWAY);
    let agent = site.start();
    for words in [["spool", "check"], ["spool", "export"]] {
        let output = packhorse(&site, &words);
        assert_eq!(output.status.code(), Some(2));
        let says = text(&output.stderr);
        assert!(says.contains("stop the agent") && says.contains("packhorse status"), "{says}");
    }
    assert!(agent.terminate().success());
    std::fs::remove_file(spool(&site)).unwrap();
    let output = packhorse(&site, &["spool", "check"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("there is no"), "{}", text(&output.stderr));
}

/// What is killed left nothing wrong.
#[test]
fn a_killed_agents_spool_is_sound() {
    let site = Site::new(AWAY);
    let mut agent = site.start();
    assert_eq!(site.forwarder().send_uplinks(20).unwrap().acked, 20);
    agent.wait_until_committed(20);
    agent.kill();
    let output = packhorse(&site, &["spool", "check"]);
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{table}");
    assert!(
        table.contains("SOUND") && table.contains("not closed") && table.contains("20 uplinks"),
        "{table}"
    );
}

/// Of a damaged file comes out what can be read; the exit code says that it is not all.
#[test]
fn a_damaged_file_is_exported_as_far_as_it_goes() {
    let site = stopped_with(200);
    let copy = site.path().join("copy");
    std::fs::copy(spool(&site), &copy).unwrap();
    let whole = lines(&packhorse(&site, &["spool", "export"]));
    spoil(&copy, &whole[100]);
    let file = copy.to_str().unwrap();
    let output = packhorse(&site, &["spool", "check", "--file", file]);
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert!(table.contains("DAMAGED") && table.contains("fail") && table.contains("--file"), "{table}");
    let output = packhorse(&site, &["spool", "export", "--file", file]);
    assert_eq!(output.status.code(), Some(1));
    let rest = lines(&output);
    assert!((150..200).contains(&rest.len()), "{}", rest.len());
    assert!(rest.iter().all(|line| whole.contains(line)) && !rest.contains(&whole[100]));
    assert!(text(&output.stderr).contains("can't be read"), "{}", text(&output.stderr));

    std::fs::write(&copy, "no spool at all\n".repeat(1_000)).unwrap();
    let output = packhorse(&site, &["spool", "export", "--file", file]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let output = packhorse(&site, &["spool", "check", "--json", "--file", file]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["state"], "damaged");
}

/// RULES S3, DESIGN invariant 7: of a damaged spool the agent delivers what can be read, under the ids it has always had;
/// what is lost, and where the file is, stands in `status` and in what integrations tell about themselves.
#[test]
fn the_agent_delivers_what_a_damaged_spool_still_has() {
    let mut site = stopped_with(200);
    let whole = lines(&packhorse(&site, &["spool", "export"]));
    spoil(&spool(&site), &whole[100]);
    let readable = lines(&packhorse(&site, &["spool", "export"]));
    let lost = (whole.len() - readable.len()) as u64;
    assert!((1..40).contains(&lost));
    let (endpoint, arrivals) = endpoint();
    site.configure("", &http("away", endpoint.address(), ""));
    let mut agent = site.start();
    assert!(arrivals.wait_for_unique(readable.len(), PATIENCE), "{}", agent.log());
    let status = agent.wait_until("the backlog is gone", |status| {
        support::integration(status, "away")["delivered"] == readable.len()
    });
    let away = support::integration(&status, "away");
    assert_eq!((&away["backlog"], &away["dropped"]["damaged"]), (&0.into(), &lost.into()));
    let id = |line: &Value| line["id"].as_str().unwrap().to_owned();
    let arrived: BTreeSet<String> = arrivals.all().iter().map(|arrival| id(&arrival.json())).collect();
    assert_eq!(arrived, readable.iter().map(id).collect());
    let aside = &status["spool"]["set_aside"][0];
    assert!(aside["path"].as_str().unwrap().ends_with("spool.redb.damaged"), "{status}");
    let outcome = aside["outcome"].as_str().unwrap();
    let says = format!("{} uplinks salvaged; {lost} lost, counted as damaged", readable.len());
    assert_eq!(outcome, says);
    let table = text(&packhorse(&site, &["status"]).stdout);
    assert!(table.contains("SET ASIDE") && table.contains(outcome), "{table}");
    let doctor = text(&packhorse(&site, &["doctor"]).stdout);
    assert!(doctor.contains("set aside") && doctor.contains(outcome), "{doctor}");

    assert!(agent.terminate().success());
    let mut agent = site.start();
    let status = agent.wait_until("it runs again", |status| status["spool"]["state"] == "ok");
    assert_eq!(status["spool"]["set_aside"][0]["outcome"], outcome, "for as long as the file is there");
    assert_eq!(support::integration(&status, "away")["backlog"], 0, "nothing is sent twice");
    let file = site.path().join("spool.redb.damaged");
    let again = packhorse(&site, &["spool", "export", "--file", file.to_str().unwrap()]);
    assert_eq!(lines(&again).len(), readable.len(), "it is as it was");
}

/// `… | head -1` ends it without a word.
#[test]
fn a_reader_that_leaves_is_no_error() {
    let site = stopped_with(500);
    let mut child = Command::new(env!("CARGO_BIN_EXE_packhorse"))
        .args(["spool", "export", "--config"])
        .arg(site.path().join("packhorse.toml"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"seq\":"), "{first}");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}
