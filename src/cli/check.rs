//! `warpdrive check`, and how diagnostics are shown whenever a configuration is read.
//!
//! What is wrong goes to standard error for a reader, or to standard output as JSON.

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use super::{env, json};
use crate::config::{self, Colours, Diagnostic, Sources};
use crate::plan::{self, Loaded};

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// If standard error is a terminal that has them and nobody minds.
    #[default]
    Auto,
    Always,
    Never,
}

/// `--format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Human,
    Json,
}

impl Colour {
    /// By what standard error is, and `NO_COLOR` and `TERM` say.
    pub fn choose(self) -> Colours {
        let variable = |name| std::env::var_os(name);
        let is_terminal = std::io::stderr().is_terminal();
        self.choose_for(is_terminal, variable("NO_COLOR").as_deref(), variable("TERM").as_deref())
    }

    fn choose_for(self, is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> Colours {
        let is_minded = no_color.is_some_and(|value| !value.is_empty());
        let is_dumb = term.is_some_and(|name| name == "dumb");
        let is_on = match self {
            Colour::Auto => is_terminal && !is_minded && !is_dumb,
            Colour::Always => true,
            Colour::Never => false,
        };
        if is_on { Colours::On } else { Colours::Off }
    }
}

/// Prints everything that is to be said about a configuration; `set` is what `--set` says.
pub fn check(file: Option<&Path>, set: &[String], format: Format, colours: Colours) -> ExitCode {
    let loaded = Sources::load(file, set)
        .map_err(|unreadable| vec![unreadable])
        .and_then(|sources| plan::load(&sources));
    if format == Format::Json {
        println!("{}", json::report(&loaded));
        return if loaded.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    match loaded {
        Ok(loaded) => {
            print(&loaded.warnings, colours);
            println!("{}", summary(&loaded));
            env::print_overrides(&loaded.overrides);
            ExitCode::SUCCESS
        }
        Err(diagnostics) => refuse(&diagnostics, colours),
    }
}

/// Prints why a configuration cannot be run.
pub fn refuse(diagnostics: &[Diagnostic], colours: Colours) -> ExitCode {
    eprint!("{}", config::refusal(diagnostics, colours));
    ExitCode::FAILURE
}

/// Each with an empty line after it, on standard error.
pub fn print(diagnostics: &[Diagnostic], colours: Colours) {
    for diagnostic in diagnostics {
        eprintln!("{}\n", config::render(diagnostic, colours));
    }
}

fn summary(loaded: &Loaded) -> String {
    let mut counts = count(loaded.plan.upstreams.len(), "upstream");
    counts += &format!(", {}", count(loaded.plan.routes.len(), "route"));
    if !loaded.warnings.is_empty() {
        counts += &format!(", {}", count(loaded.warnings.len(), "warning"));
    }
    format!("configuration is valid ({counts})")
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_have_them_and_readers_who_do_not_mind() {
        let cases = [
            (Colour::Auto, true, None, Some("xterm"), Colours::On),
            (Colour::Auto, true, Some(""), None, Colours::On),
            (Colour::Auto, true, Some("1"), Some("xterm"), Colours::Off),
            (Colour::Auto, true, None, Some("dumb"), Colours::Off),
            (Colour::Auto, false, None, Some("xterm"), Colours::Off),
            (Colour::Always, false, Some("1"), Some("dumb"), Colours::On),
            (Colour::Never, true, None, Some("xterm"), Colours::Off),
        ];
        for (colour, is_terminal, no_color, term, expected) in cases {
            let chosen = colour.choose_for(is_terminal, no_color.map(OsStr::new), term.map(OsStr::new));
            assert_eq!(chosen, expected, "{colour:?} {is_terminal} {no_color:?} {term:?}");
        }
    }
}
