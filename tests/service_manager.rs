//! What systemd hears: the words of sd_notify(3), on a real socket, from the real binary.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::{PATIENCE, free_udp_port};

/// The service manager's end, and an agent under it.
struct Managed {
    socket: UnixDatagram,
    agent: Child,
}

impl Managed {
    /// With a watchdog of two seconds.
    fn start(folder: &Path, spool: &str) -> Managed {
        let path = folder.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let config = folder.join("packhorse.toml");
        let text = format!(
            "[spool]\npath = \"{spool}\"\n[control]\nsocket = \"control.sock\"\n\
             [source.s]\ntype = \"semtech-udp\"\nlisten = \"127.0.0.1:{}\"\n",
            free_udp_port()
        );
        std::fs::write(&config, text).unwrap();
        let agent = Command::new(support::packhorse())
            .args(["run", "--config"])
            .arg(&config)
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "2000000")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Managed { socket, agent }
    }

    /// Reads words until one begins with `wanted`, and returns what came with it.
    fn hear(&self, wanted: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let n = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {wanted}: {error}"));
            let words = String::from_utf8_lossy(buffer.get(..n).unwrap()).into_owned();
            if words.lines().any(|word| word.starts_with(wanted)) {
                return words;
            }
        }
    }

    fn terminate(&mut self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.agent.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        // A test that fails must not leave it running; one that ended it already finds it gone.
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

#[test]
fn start_life_and_stop_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut managed = Managed::start(folder.path(), "spool.redb");
    managed.hear("EXTEND_TIMEOUT_USEC=");
    assert!(managed.hear("READY=1").contains("STATUS=running"));
    managed.hear("WATCHDOG=1");
    managed.hear("WATCHDOG=1");
    managed.terminate();
    managed.hear("STOPPING=1");
    assert!(managed.agent.wait().unwrap().success());
}

/// RULES S3: a spool in memory stands in for it; neither boot nor installation may hang on it.
#[test]
fn a_spool_that_cannot_be_opened_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let managed = Managed::start(folder.path(), "file/spool.redb");
    managed.hear("READY=1");
    managed.hear("WATCHDOG=1");
}
