//! The small process above the data process: binds and keeps the listening sockets, starts the
//! children and the data process, that one again when it dies, and alone decides what a signal
//! means. One thread.
//!
//! Must not know: plans, workers, requests.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use crate::process::{events, settings};

mod binding;
mod children;
mod configuration;
mod data_process;
mod listeners;
mod signals;
mod supervise;
mod terminal;

use binding::Sockets;
use configuration::Configuration;

pub use configuration::Origin;
pub use data_process::ARGUMENT;

/// What `master` has to know of a configuration that was found to be right.
pub struct Settings {
    pub listen: Vec<SocketAddr>,
    /// One socket of each address is bound for each of them.
    pub workers: usize,
    pub shutdown_timeout: Duration,
    pub events: events::Settings,
    /// Started before the data process, which holds requests until all of them are ready; the end
    /// of one is ours.
    pub wrapped: Vec<settings::Settings>,
    /// Called once, when everything serves, with the first address.
    pub announce: Option<fn(SocketAddr)>,
    /// The configuration itself, encoded: handed to each data process as it is, so that what was
    /// checked is what runs, whatever becomes of the file.
    pub sources: Vec<u8>,
    /// How it is read again.
    pub origin: Box<dyn Origin>,
    /// A change of its files is a reload.
    pub watch: bool,
}

/// Runs until it is told to stop, or a child has ended.
///
/// 0: told to, and everything had ended. 1: an address cannot be listened on, a child's is
/// taken, or the first data process failed. 2: a second signal, a drain that would not end or a
/// child that would not stop: what still ran was cut. 126, 127: a child could not be started.
/// Else what the children ended with.
pub fn run(settings: Settings) -> ExitCode {
    events::init(settings.events);
    let bound = match listeners::bind(&settings.listen, settings.workers) {
        Ok(bound) => bound,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    for error in &bound.left_out {
        tracing::warn!("{error}; going on without it");
    }
    let signals = match signals::Signals::catch() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("cannot catch signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let Settings { workers, sources, origin, watch, shutdown_timeout, announce, wrapped, .. } = settings;
    let mut configuration = Configuration::new(sources, origin);
    configuration.set_watch(watch);
    let sockets = Sockets::new(bound.listeners, workers);
    supervise::Supervisor::new(signals, configuration, sockets, shutdown_timeout, announce).run(wrapped)
}
