//! `packhorse run`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::agent::{Agent, StartError, Steering};
use crate::check::{self, Checked};
use crate::delivery::Stopper;
use crate::reload::{self, Reloader};
use crate::spool::Deaths;

use super::service_manager::ServiceManager;
use super::{Exit, logging};

/// A panic within this time of the start counts as a death of the spool (RULES S3).
const EARLY: Duration = Duration::from_secs(60);

/// Threads for blocking work of the main runtime; it has next to none.
const BLOCKING_THREADS: usize = 2;

/// Orders that may wait for the one before them.
const ORDERS: usize = 4;

pub(super) fn run(config: &Path, verbose: bool) -> Exit {
    logging::start(verbose, None);
    forbid_core_dumps();
    let checked = match check::check(config) {
        Ok(checked) => checked,
        Err(problems) => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            eprintln!("{}: the agent can't run with it", config.display());
            return Exit::Bad;
        }
    };
    for warning in &checked.warnings {
        log::warn!("{warning}");
    }
    let Checked { agent, spool, .. } = checked;
    let candidate = reload::candidate_beside(&spool);
    let deaths = Deaths::beside(&spool);
    die_on_panic(deaths.clone());
    match serve(agent, deaths, config, candidate) {
        Ok(()) => Exit::Done,
        Err(error) => {
            log::error!("{error}");
            Exit::Bad
        }
    }
}

fn serve(agent: Agent, deaths: Deaths, config: &Path, candidate: PathBuf) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()?;
    runtime.block_on(async {
        let (stopper, stop) = Stopper::new();
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            ServiceManager::stopping();
            stopper.stop();
        });
        let survived = deaths.clone();
        tokio::spawn(async move {
            tokio::time::sleep(EARLY).await;
            survived.forget();
        });
        let (changes, to_become) = mpsc::channel(1);
        let (orders, asked) = mpsc::channel(ORDERS);
        let reloader = Reloader::new(config, candidate, agent.basis(), changes);
        tokio::spawn(reloader.run(asked, signal(SignalKind::hangup())?));
        let manager = ServiceManager::talk();
        agent.run(stop, Steering { changes: to_become, orders }, |_| manager.ready()).await
    })?;
    deaths.forget();
    Ok(())
}

/// A thread that died would leave the agent half alive; a service manager can only restart one that is dead. Whoever dies
/// within a minute of the start leaves a mark beside the spool.
fn die_on_panic(deaths: Deaths) {
    let started = Instant::now();
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if started.elapsed() < EARLY {
            deaths.add();
        }
        std::process::abort();
    }));
}

/// RULES S38: keys and passwords must not lie around in a core file.
fn forbid_core_dumps() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Core, none) {
        log::debug!("core dumps can't be forbidden: {error}");
    }
}
