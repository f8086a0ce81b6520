//! `warpdrive check`, and how diagnostics are shown whenever a configuration is read.

use std::path::Path;
use std::process::ExitCode;

use super::env;
use crate::config::{Diagnostic, Sources};
use crate::plan;

/// Prints everything that is to be said about a configuration; `set` is what `--set` says.
pub fn check(file: Option<&Path>, set: &[String]) -> ExitCode {
    let loaded = Sources::load(file, set)
        .map_err(|unreadable| vec![unreadable])
        .and_then(|sources| plan::load(&sources));
    match loaded {
        Ok(loaded) => {
            print(&loaded.warnings);
            println!(
                "configuration is valid ({}, {})",
                count(loaded.plan.upstreams.len(), "upstream"),
                count(loaded.plan.routes.len(), "route")
            );
            env::print_overrides(&loaded.overrides);
            ExitCode::SUCCESS
        }
        Err(diagnostics) => refuse(&diagnostics),
    }
}

/// Prints why a configuration cannot be run.
pub fn refuse(diagnostics: &[Diagnostic]) -> ExitCode {
    print(diagnostics);
    let mistakes = diagnostics.iter().filter(|one| one.is_error()).count();
    eprintln!("configuration is not valid ({})", count(mistakes, "error"));
    ExitCode::FAILURE
}

/// Each with an empty line after it, on standard error.
pub fn print(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        eprintln!("{diagnostic}\n");
    }
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
