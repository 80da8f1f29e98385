//! The files in `config/examples` as they stand, and the pieces of config in the guide: each passes `check` without a word, once
//! its secrets are there.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const FUNCTION: &str = "function decodeUplink(input) { return { data: { level_cm: input.bytes[0] } }; }\n";

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|it| it == "toml")).collect();
    files.sort();
    files
}

/// Every string of the file that names another file.
fn files_named_in(text: &str) -> Vec<String> {
    let value: toml::Table = text.parse().unwrap();
    let mut found = Vec::new();
    look_through(&toml::Value::Table(value), &mut found);
    found.sort();
    found.dedup();
    found
}

fn look_through(value: &toml::Value, found: &mut Vec<String>) {
    match value {
        toml::Value::Table(table) => table.values().for_each(|value| look_through(value, found)),
        toml::Value::Array(items) => items.iter().for_each(|value| look_through(value, found)),
        toml::Value::String(text)
            if ["secrets/", "certs/", "functions/"].iter().any(|it| text.starts_with(it)) =>
        {
            found.push(text.clone());
        }
        _ => {}
    }
}

/// Stands in for the files of somebody who follows an example.
struct Folder {
    folder: tempfile::TempDir,
    identity: rcgen::CertifiedKey<rcgen::KeyPair>,
}

impl Folder {
    fn new() -> Folder {
        let identity = rcgen::generate_simple_self_signed(vec!["thing".to_owned()]).unwrap();
        Folder { folder: tempfile::tempdir().unwrap(), identity }
    }

    fn make(&self, name: &str) {
        let content = match name {
            "secrets/google-key.json" => google_key(),
            name if name.starts_with("secrets/azure-") => "c2VjcmV0IGtleQ==\n".to_owned(),
            name if name.starts_with("functions/") => FUNCTION.to_owned(),
            name if name.ends_with(".nwk") || name.ends_with(".app") => {
                "2b7e151628aed2a6abf7158809cf4f3c\n".to_owned()
            }
            name if name.ends_with(".pem") => self.identity.cert.pem(),
            name if name.starts_with("certs/") => self.identity.signing_key.serialize_pem(),
            _ => "a-secret\n".to_owned(),
        };
        self.write(name, &content);
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    }
}

fn google_key() -> String {
    let key = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    serde_json::json!({
        "type": "service_account", "private_key_id": "1", "client_email": "gateway@project.iam.gserviceaccount.com",
        "private_key": String::from_utf8(key.stdout).unwrap(), "token_uri": "https://oauth2.googleapis.com/token",
    })
    .to_string()
}

/// What `packhorse check` has to say beside "good".
fn checked(folder: &Folder, text: &str) -> Vec<String> {
    let path = folder.write("packhorse.toml", text);
    let mut command = Command::new(env!("CARGO_BIN_EXE_packhorse"));
    let output = command.arg("check").arg("--config").arg(&path).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    said.lines().filter(|line| !line.ends_with(": good")).map(str::to_owned).collect()
}

#[test]
fn every_example_passes_check_as_it_stands() {
    let examples = examples();
    assert!(examples.len() >= 10, "{examples:?}");
    for path in examples {
        let text = std::fs::read_to_string(&path).unwrap();
        // Without functions, check refuses them.
        if text.contains("[function.") && !cfg!(feature = "functions") {
            continue;
        }
        let folder = Folder::new();
        files_named_in(&text).iter().for_each(|name| folder.make(name));
        assert_eq!(checked(&folder, &text), [""; 0], "{}", path.display());
    }
}

/// The pieces of the guide are parts of one config.
#[test]
fn the_guide_passes_check() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/integrations.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let pieces = guide.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let source = "[source.concentrator]\ntype = \"semtech-udp\"\n";
    let text = source.to_owned() + &pieces.collect::<String>();
    assert_eq!(text.matches("type = \"http\"").count() + text.matches("type = \"mqtt\"").count(), 4);
    let folder = Folder::new();
    files_named_in(&text).iter().for_each(|name| folder.make(name));
    assert_eq!(checked(&folder, &text), [""; 0]);
}

/// The table of the README names every file, and no other.
#[test]
fn the_readme_knows_every_example() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let mut linked: Vec<_> = readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|link| link.ends_with(".toml") && !link.starts_with(".."))
        .map(|link| folder.join(link))
        .collect();
    linked.sort();
    assert_eq!(linked, examples());
}

/// Secrets are in files, and so are not in the file that people show each other.
#[test]
fn no_example_holds_a_secret() {
    for path in examples() {
        let text = std::fs::read_to_string(&path).unwrap();
        for key in ["password", "token", "value", "key"] {
            let inline = text.lines().filter(|line| line.starts_with(&format!("{key} = \""))).count();
            assert_eq!(inline, 0, "{}: {key}", path.display());
        }
    }
}
