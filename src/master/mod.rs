//! The small process above the data process: binds and keeps the listening sockets, starts the
//! data process again when it dies, and alone decides what a signal means. One thread.
//!
//! Must not know: plans beyond what it binds and waits for, workers, requests.

use std::process::ExitCode;

use crate::config::{Diagnostic, Level, Sources};
use crate::plan;
use crate::process::events;

mod data_process;
mod listeners;
mod signals;
mod supervise;

pub use data_process::ARGUMENT;

/// Runs until it is told to stop.
///
/// 0: told to, and everything had ended. 1: the configuration is wrong, an address cannot be
/// listened on, or the first data process failed. 2: something was cut.
pub fn run(sources: Sources) -> ExitCode {
    let loaded = match plan::load(&sources) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            print(&diagnostics);
            return ExitCode::FAILURE;
        }
    };
    print(&loaded.warnings);
    events::init(loaded.level.into());
    let server = &loaded.plan.server;
    let bound = match listeners::bind(&server.listen, server.worker_threads) {
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
    let shutdown_timeout = server.shutdown_timeout;
    // The plan was for checking; it is not kept.
    drop(loaded);
    let sources = sources.encode();
    supervise::Supervisor::new(signals, sources, bound.listeners, shutdown_timeout).run()
}

fn print(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        eprintln!("{diagnostic}\n");
    }
}

/// How the level of a configuration is said to `tracing`, for both processes.
impl From<Level> for tracing::Level {
    fn from(level: Level) -> tracing::Level {
        match level {
            Level::Error => tracing::Level::ERROR,
            Level::Warn => tracing::Level::WARN,
            Level::Info => tracing::Level::INFO,
            Level::Debug => tracing::Level::DEBUG,
        }
    }
}
