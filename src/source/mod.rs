//! Where uplinks come in.
//!
//! A source turns what arrives in its own protocol into [`Heard`] and hands it over; it knows no device, no flow and no
//! disk. Whatever comes from outside is refused here, counted by reason, or handed over bounded in size: nothing behind
//! this room sees a byte that was not looked at.
//!
//! Radio sources (`semtech-udp`) acknowledge at once and hand over a [`FromSource`]. Sources of network servers and scripts
//! (`mqtt`, `http`) acknowledge what was accepted, and hand over a [`server::FromServer`] that brings the answer back.

mod bind;
pub mod http;
pub mod mqtt;
pub mod running;
pub mod semtech_udp;
pub mod server;
mod tally;
mod time;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::config::{self, Problem, SourceKind};
use crate::dial::Dial;
use crate::metrics::{DoorCounters, TapCounters};
use crate::uplink::Heard;

pub use bind::{BindError, Transport};
use server::Intake;

/// One uplink on its way out of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct FromSource {
    /// Name of the source, as in `[source.NAME]`.
    pub source: Arc<str>,
    /// What it heard.
    pub heard: Heard,
}

/// A source, ready to run.
#[derive(Debug)]
pub enum Source {
    /// See [`semtech_udp`].
    SemtechUdp(semtech_udp::Listener),
    /// See [`mqtt`].
    #[cfg(feature = "server-sources")]
    Mqtt(mqtt::Mqtt),
    /// See [`http`].
    #[cfg(feature = "server-sources")]
    Http(http::Http),
}

/// What sources are started with.
#[derive(Clone, Debug)]
pub struct Doors {
    /// Where radio sources hand over.
    pub heard: mpsc::Sender<FromSource>,
    /// Where sources of network servers hand over.
    pub told: Intake,
    /// What is counted.
    pub counters: Arc<DoorCounters>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Why a source can't be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A source that listens.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// The machine has no thread left.
    #[error("the system refused a thread for an mqtt source: {0}")]
    Mqtt(#[from] std::io::Error),
}

/// A source that runs. Dropping it stops it.
#[derive(Debug)]
pub enum Running {
    /// A radio source.
    SemtechUdp(semtech_udp::Running),
    /// One of a network server.
    Server(running::Running),
}

impl Source {
    /// Builds a source.
    ///
    /// # Errors
    /// Everything that is wrong with its settings.
    #[cfg_attr(not(feature = "server-sources"), allow(unused_variables))]
    pub fn try_new(gateway: &str, source: &config::Source, dial: &Dial) -> Result<Source, Vec<Problem>> {
        match &source.kind {
            SourceKind::SemtechUdp(udp) => {
                semtech_udp::Listener::try_new(&source.name, udp).map(Source::SemtechUdp)
            }
            #[cfg(feature = "server-sources")]
            SourceKind::Mqtt(mqtt) => {
                mqtt::Mqtt::try_new(gateway, &source.name, mqtt, dial).map(Source::Mqtt)
            }
            #[cfg(feature = "server-sources")]
            SourceKind::Http(http) => http::Http::try_new(&source.name, http).map(Source::Http),
            #[cfg(not(feature = "server-sources"))]
            SourceKind::Mqtt(_) | SourceKind::Http(_) => {
                let (place, what) = (&source.name.place, format!("source.{}.type", source.name.value));
                let problem = Problem::error(place, what, "this build has no sources for network servers");
                Err(vec![problem.hint("use semtech-udp, or a build with the feature \"server-sources\"")])
            }
        }
    }

    /// What is counted of the servers that it passes everything on to.
    pub fn taps(&self) -> &[Arc<TapCounters>] {
        match self {
            Source::SemtechUdp(listener) => listener.taps(),
            #[cfg(feature = "server-sources")]
            Source::Mqtt(_) | Source::Http(_) => &[],
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// If its address can't be had, or no thread.
    pub fn start(self, doors: Doors) -> Result<Running, StartError> {
        #[cfg_attr(not(feature = "server-sources"), allow(unused_variables))]
        let Doors { heard, told, counters, clock } = doors;
        Ok(match self {
            Source::SemtechUdp(listener) => Running::SemtechUdp(listener.start(heard, counters, clock)?),
            #[cfg(feature = "server-sources")]
            Source::Mqtt(mqtt) => Running::Server(mqtt.start(told, counters, clock)?),
            #[cfg(feature = "server-sources")]
            Source::Http(http) => Running::Server(http.start(told, counters, clock)?),
        })
    }
}

impl Running {
    /// Where it listens, if it does.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Running::SemtechUdp(running) => Some(running.local_addr()),
            Running::Server(running) => running.local_addr(),
        }
    }
}
