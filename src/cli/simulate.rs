//! `packhorse simulate`

use std::time::{Duration, Instant};

use crate::simulator::{ACK_TIMEOUT, Forwarder, Simulator, SimulatorConfig};
use crate::uplink::Eui64;

use super::args::SimulateOptions;
use super::{Exit, say};

/// EUI of the simulated gateway.
const GATEWAY: Eui64 = Eui64([0xaa, 0x55, 0x5a, 0, 0, 0, 1, 1]);

/// How often the count is shown.
const REPORT_EVERY: Duration = Duration::from_secs(5);

pub(super) fn simulate(options: &SimulateOptions) -> Exit {
    let seed = fastrand::u64(..);
    let simulator = Simulator::new(SimulatorConfig { devices: options.devices, gateway_eui: GATEWAY, seed });
    let mut forwarder = match Forwarder::connect(options.to, simulator, ACK_TIMEOUT) {
        Ok(forwarder) => forwarder,
        Err(error) => {
            eprintln!("packhorse: cannot send to {}: {error}", options.to);
            return Exit::Usage;
        }
    };
    say(format_args!(
        "sending {} uplinks/s of {} devices to {} as gateway {GATEWAY}; Ctrl-C stops",
        options.rate, options.devices, options.to
    ));
    match send(&mut forwarder, options) {
        Ok((sent, acked)) => {
            say(format_args!("{sent} sent, {acked} acknowledged"));
            if sent == acked {
                Exit::Done
            } else {
                say(format_args!("is an agent listening on {}?", options.to));
                Exit::Bad
            }
        }
        Err(error) => {
            eprintln!("packhorse: sending to {} failed: {error}", options.to);
            Exit::Bad
        }
    }
}

fn send(forwarder: &mut Forwarder, options: &SimulateOptions) -> std::io::Result<(u64, u64)> {
    let started = Instant::now();
    let (mut sent, mut acked, mut reported) = (0u64, 0u64, started);
    while options.count == 0 || sent < options.count {
        acked += forwarder.send_uplinks(1)?.acked as u64;
        sent += 1;
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            say(format_args!("{sent} sent, {acked} acknowledged"));
        }
        let due = started + Duration::from_secs_f64(sent as f64 / options.rate);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok((sent, acked))
}
