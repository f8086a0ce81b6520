//! The command line: reads the arguments, calls, says what went wrong, chooses the exit code.
//!
//! 0: done. 1: the arguments or the configuration are wrong; starting again will not help.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::{Arg, Parser};

use crate::config::Sources;
use crate::process::child;
use crate::{master, plan, server};

mod check;
mod demo;
mod wrap;

const HELP: &str = "\
WarpDrive, a reverse proxy

Usage: warpdrive [run] [-c FILE]    run
       warpdrive [run] -- COMMAND…  run in front of a command, which listens on $PORT
       warpdrive check [-c FILE]    report everything that is wrong with a configuration
       warpdrive demo [--port N]    a running example, with a page that shows it
       warpdrive version
       warpdrive help

Without -c the file is $WARPDRIVE_CONFIG, ./warpdrive.toml or /etc/warpdrive/warpdrive.toml.
Without any of them everything goes to WARPDRIVE_TARGET_HOST (127.0.0.1) and
WARPDRIVE_TARGET_PORT (3000), from WARPDRIVE_HTTP_PORT (8080).";

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Run {
        file: Option<PathBuf>,
        /// What stands after `--`.
        command: Option<Vec<OsString>>,
    },
    Check(Option<PathBuf>),
    Version,
    Help,
}

/// Does what the arguments of this process say.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    match words.next() {
        Some(word) if word == master::ARGUMENT => return server::run(),
        Some(word) if word == demo::ORIGIN => return demo::origin(words),
        Some(word) if word == demo::VERB => return demo::main(Parser::from_args(words)),
        _ => {}
    }
    match parse(Parser::from_env()) {
        Ok(Command::Run { file, command }) => run(file.as_deref(), command.as_deref()),
        Ok(Command::Check(file)) => check::check(file.as_deref()),
        Ok(Command::Version) => {
            println!("warpdrive {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(Command::Help) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}\n\n{HELP}");
            ExitCode::FAILURE
        }
    }
}

/// Checks the configuration as `check` does, then runs it, with the command in front of which it
/// is to run.
fn run(file: Option<&Path>, command: Option<&[OsString]>) -> ExitCode {
    let sources = match Sources::load(file) {
        Ok(sources) => sources,
        Err(unreadable) => return check::refuse(&[unreadable]),
    };
    match plan::load(&sources) {
        Ok(loaded) => {
            check::print(&loaded.warnings);
            let children = command.map(|command| wrap::child(command, &sources, &loaded.plan)).transpose();
            match children {
                Ok(child) => master::run(settings(&sources, &loaded, child.into_iter().collect())),
                Err(error) => {
                    eprintln!("error: {error}");
                    ExitCode::FAILURE
                }
            }
        }
        Err(diagnostics) => check::refuse(&diagnostics),
    }
}

/// What `master` has to know of a configuration that can be run.
fn settings(sources: &Sources, loaded: &plan::Loaded, children: Vec<child::Settings>) -> master::Settings {
    let server = &loaded.plan.server;
    master::Settings {
        listen: server.listen.clone(),
        workers: server.worker_threads,
        shutdown_timeout: server.shutdown_timeout,
        level: loaded.level,
        children,
        announce: None,
        sources: sources.encode(),
    }
}

fn parse(mut arguments: Parser) -> Result<Command, lexopt::Error> {
    let mut verb = None;
    let mut file = None;
    let mut command: Option<Vec<OsString>> = None;
    loop {
        // What comes after `--` is not ours to understand.
        if let Some(mut rest) = arguments.try_raw_args()
            && rest.next_if(|argument| argument == "--").is_some()
        {
            command = Some(rest.collect());
            break;
        }
        let Some(argument) = arguments.next()? else { break };
        match argument {
            Arg::Short('c') | Arg::Long("config") if file.is_none() => {
                file = Some(PathBuf::from(arguments.value()?));
            }
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Value(value) if verb.is_none() => {
                let known = ["run", "check", "version", "help"];
                let word = known.into_iter().find(|word| value == *word);
                let Some(word) = word else {
                    let value = value.to_string_lossy();
                    let message =
                        format!("unknown command `{value}`; one to run in front of comes after `--`");
                    return Err(message.into());
                };
                verb = Some(word);
            }
            other => return Err(other.unexpected()),
        }
    }
    match verb {
        Some(verb) if verb != "run" && command.is_some() => {
            Err(format!("`--` and a command belong to run, not to {verb}").into())
        }
        Some("check") => Ok(Command::Check(file)),
        Some("version" | "help") if file.is_some() => Err("-c belongs to run and check".into()),
        Some("version") => Ok(Command::Version),
        Some("help") => Ok(Command::Help),
        _ if command.as_ref().is_some_and(Vec::is_empty) => Err("a command is missing after `--`".into()),
        _ => Ok(Command::Run { file, command }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_become_commands() {
        let file = || Some(PathBuf::from("x.toml"));
        let run = |file| Some(Command::Run { file, command: None });
        let wrap = |words: &str| {
            let command = words.split_whitespace().map(OsString::from).collect();
            Some(Command::Run { file: None, command: Some(command) })
        };
        let cases = [
            ("", run(None)),
            ("-c x.toml", run(file())),
            ("run -cx.toml", run(file())),
            ("-- check -c x.toml", wrap("check -c x.toml")),
            ("run -- a -- b", wrap("a -- b")),
            ("-c x.toml -- a", Some(Command::Run { file: file(), command: Some(vec!["a".into()]) })),
            ("--", None),
            ("check -- a", None),
            ("check --config=x.toml", Some(Command::Check(file()))),
            ("-c x.toml check", Some(Command::Check(file()))),
            ("version", Some(Command::Version)),
            ("--version", Some(Command::Version)),
            ("check --help", Some(Command::Help)),
            ("help", Some(Command::Help)),
            ("chekc", None),
            ("check check", None),
            ("run -c", None),
            ("version -c x.toml", None),
            ("-c x.toml -c y.toml", None),
            ("--unknown", None),
        ];
        for (line, expected) in cases {
            let parser = Parser::from_args(line.split_whitespace());
            assert_eq!(parse(parser).ok(), expected, "{line}");
        }
    }
}
