//! The scenes.

use std::io;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::simulator::Broker;

use super::super::args::DemoOptions;
use super::screen::Screen;
use super::stage::{Destination, Stage};

/// Uplinks a datagram and pause between datagrams: about 200 uplinks a second.
const DATAGRAM: u64 = 4;
const PAUSE: Duration = Duration::from_millis(20);

/// How long the destinations may take to receive everything, and the agent to commit it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Plays it. Whether nothing was lost.
pub(super) fn tell(options: &DemoOptions) -> io::Result<bool> {
    let mut screen = Screen::new();
    let with_broker = Broker::is_installed();
    let mut stage = Stage::set(with_broker)?;
    screen
        .say("Packhorse demo: a simulated packet forwarder, the real agent, real destinations on loopback.");
    if !with_broker {
        screen.say(
            "(mosquitto is not installed, so there is no MQTT broker in this demo: apt install mosquitto)",
        );
    }
    stage.start_agent()?;
    let mut sent = 0;

    screen.say(&format!("\n1  All is well: {} uplinks.", options.before));
    sent += send(&mut stage, &mut screen, options.before)?;
    wait_for_all(&stage, &mut screen, sent);

    screen.say(&format!("\n2  The destinations go away. {} uplinks keep coming.", options.outage));
    stage.take_destinations_away();
    let first_half = options.outage / 2;
    sent += send(&mut stage, &mut screen, first_half)?;
    wait_until_committed(&stage, sent)?;

    screen.say("\n3  The agent is restarted in the middle of the outage.");
    stage.stop_agent()?;
    let spool = std::fs::metadata(stage.spool()).map_or(0, |file| file.len());
    screen.say(&format!("    stopped; the spool on the disk has {} KiB", spool / 1024));
    stage.start_agent()?;
    sent += send(&mut stage, &mut screen, options.outage - first_half)?;
    wait_until_committed(&stage, sent)?;
    screen.settle(&progress(&stage));

    screen.say("\n4  The destinations return.");
    stage.bring_destinations_back()?;
    wait_for_all(&stage, &mut screen, sent);

    let heard = stage.status().get("heard").and_then(Value::as_u64).unwrap_or(0);
    stage.stop_agent()?;
    Ok(count(&stage, &mut screen, sent, heard))
}

/// Sends `n` uplinks as a forwarder would; returns how many the agent acknowledged.
fn send(stage: &mut Stage, screen: &mut Screen, n: u64) -> io::Result<u64> {
    let (mut left, mut acked) = (n, 0);
    while left > 0 {
        let some = left.min(DATAGRAM);
        acked += stage.forwarder.send_uplinks(usize::try_from(some).unwrap_or(1))?.acked as u64;
        left -= some;
        screen.progress(&progress(stage));
        std::thread::sleep(PAUSE);
    }
    screen.settle(&progress(stage));
    if acked < n {
        screen.say(&format!("    {} uplinks were not acknowledged by the agent", n - acked));
    }
    Ok(n)
}

fn wait_for_all(stage: &Stage, screen: &mut Screen, sent: u64) {
    let until = Instant::now() + PATIENCE;
    let missing = |destination: &Destination| (destination.arrivals.tally().unique as u64) < sent;
    while stage.destinations.iter().any(missing) && Instant::now() < until {
        screen.progress(&progress(stage));
        std::thread::sleep(screen.pause());
    }
    screen.settle(&progress(stage));
}

/// The promise begins with the commit, so the scene changes only after it.
fn wait_until_committed(stage: &Stage, sent: u64) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    while stage.status().get("committed").and_then(Value::as_u64).unwrap_or(0) < sent {
        if Instant::now() > until {
            return Err(io::Error::other(format!(
                "the agent did not commit {sent} uplinks: {}",
                stage.status()
            )));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// One line: what the agent heard and keeps, and what arrived where.
fn progress(stage: &Stage) -> String {
    let status = stage.status();
    let mut line = format!("heard {}", status.get("heard").and_then(Value::as_u64).unwrap_or(0));
    let integrations = status.get("integrations").and_then(Value::as_array).cloned().unwrap_or_default();
    for destination in &stage.destinations {
        let ours = integrations
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some(destination.name));
        let backlog = ours.and_then(|entry| entry.get("backlog")).and_then(Value::as_u64).unwrap_or(0);
        let state = ours.and_then(|entry| entry.get("state")).and_then(Value::as_str).unwrap_or("-");
        let arrived = destination.arrivals.tally().unique;
        line.push_str(&format!(" | {}: arrived {arrived}, waiting {backlog}, {state}", destination.name));
    }
    line
}

fn count(stage: &Stage, screen: &mut Screen, sent: u64, heard: u64) -> bool {
    screen.say("\n5  The count, as the destinations saw it.\n");
    screen.say(&format!(
        "    {:<12} {:>8} {:>10} {:>11} {:>6}",
        "destination", "heard", "delivered", "duplicates", "lost"
    ));
    let mut lost_any = heard < sent;
    for destination in &stage.destinations {
        let tally = destination.arrivals.tally();
        let lost = sent.saturating_sub(tally.unique as u64);
        lost_any |= lost > 0;
        screen.say(&format!(
            "    {:<12} {heard:>8} {:>10} {:>11} {lost:>6}",
            destination.name, tally.unique, tally.duplicates
        ));
    }
    screen.say(if lost_any {
        "\nUplinks were LOST. Please report this with the output of `packhorse demo --verbose`."
    } else {
        "\nNothing was lost. Duplicates carry the same id as their first, so a receiver can tell."
    });
    !lost_any
}
