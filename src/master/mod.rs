//! master

use std::process::ExitCode;

use crate::config::Sources;

/// Runs until it is told to stop. Not built yet.
pub fn run(_sources: Sources) -> ExitCode {
    eprintln!("error: `run` does not work yet in this version");
    ExitCode::FAILURE
}
