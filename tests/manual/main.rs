//! The man pages and shell completions of packages say what the program says: they are made of its own help texts, and kept
//! in `packaging/` so that a package can be built for a processor that this machine does not run.
//!
//! After a change of the help:   PACKHORSE_WRITE_MANUAL=1 cargo test --test manual
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod complete;
mod help;
mod man;

use std::path::Path;

use help::Help;

/// Each file is as the program would have it written now.
#[test]
fn manual_and_completions_agree_with_the_program() {
    let help = Help::of_program();
    let config = include_str!("../../config/packhorse.toml");
    let files = [
        ("man/packhorse.1", man::packhorse(&help)),
        ("man/packhorse.toml.5", man::packhorse_toml(config)),
        ("completions/packhorse.bash", complete::bash(&help)),
        ("completions/_packhorse", complete::zsh(&help)),
        ("completions/packhorse.fish", complete::fish(&help)),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    for (name, wanted) in files {
        let path = folder.join(name);
        if std::env::var_os("PACKHORSE_WRITE_MANUAL").is_some() {
            std::fs::write(&path, wanted).unwrap();
        } else {
            let is = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(is == wanted, "packaging/{name} is not what the help says; see the top of {}", file!());
        }
    }
}

/// Of the shells that are here each completes a command, an option and a word. CI has bash at least.
#[test]
fn shells_complete() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/completions");
    let bash = folder.join("packhorse.bash");
    let bash = |words: &str| {
        let script = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _packhorse; echo ${{COMPREPLY[@]}}",
            bash.display()
        );
        said("bash", &script)
    };
    let fish = folder.join("packhorse.fish");
    let fish =
        |words: &str| said("fish", &format!("source {}; complete -C '{words}' | cut -f 1", fish.display()));
    for (words, wanted) in [
        ("packhorse stat", "status"),
        ("packhorse replay api --de", "--dead"),
        ("packhorse example node", "node-red"),
        ("packhorse help doc", "doctor"),
        ("packhorse spool ex", "export"),
    ] {
        for (shell, answer) in [("bash", bash(words)), ("fish", fish(words))] {
            match answer {
                Some(answer) => assert_eq!(answer, wanted, "{shell}: {words}"),
                None => eprintln!("{shell} is not here"),
            }
        }
    }
    let zsh = folder.join("_packhorse");
    if said("zsh", &format!("zsh -n {}", zsh.display())).is_none() {
        eprintln!("zsh is not here");
    }
}

/// What a shell prints for a script; `None`: there is no such shell.
fn said(shell: &str, script: &str) -> Option<String> {
    let output = std::process::Command::new(shell).args(["-c", script]).output().ok()?;
    assert!(output.status.success(), "{shell}: {script}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
