//! The command line: reads the arguments, calls, says what went wrong, chooses the exit code.
//!
//! 0: done. 1: the arguments or the configuration are wrong; starting again will not help.

use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt};

use crate::config::Sources;
use crate::{master, plan, server};

mod check;
mod env;

const HELP: &str = "\
WarpDrive, a reverse proxy

Usage: warpdrive [run] [-c FILE]    run
       warpdrive check [-c FILE]    report everything that is wrong with a configuration
       warpdrive version
       warpdrive help

run and check also take --set KEY=VALUE, as in --set server.http_port=8081, any number of
times; it beats the environment, which beats the file.

Without -c the file is $WARPDRIVE_CONFIG, ./warpdrive.toml or /etc/warpdrive/warpdrive.toml.
Without any of them everything goes to WARPDRIVE_TARGET_HOST (127.0.0.1) and
WARPDRIVE_TARGET_PORT (3000), from WARPDRIVE_HTTP_PORT (8080).";

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Run(Options),
    Check(Options),
    Version,
    Help,
}

/// Which configuration.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    file: Option<PathBuf>,
    /// `KEY=VALUE`, each from a `--set`.
    set: Vec<String>,
}

/// Does what the arguments of this process say.
pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == master::ARGUMENT) {
        return server::run();
    }
    match parse(Parser::from_env()) {
        Ok(Command::Run(options)) => run(&options),
        Ok(Command::Check(options)) => check::check(options.file.as_deref(), &options.set),
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

/// Checks the configuration as `check` does, then runs it.
fn run(options: &Options) -> ExitCode {
    let sources = match Sources::load(options.file.as_deref(), &options.set) {
        Ok(sources) => sources,
        Err(unreadable) => return check::refuse(&[unreadable]),
    };
    match plan::load(&sources) {
        Ok(loaded) => {
            check::print(&loaded.warnings);
            let server = loaded.plan.server;
            master::run(master::Settings {
                listen: server.listen,
                workers: server.worker_threads,
                shutdown_timeout: server.shutdown_timeout,
                level: loaded.level,
                sources: sources.encode(),
            })
        }
        Err(diagnostics) => check::refuse(&diagnostics),
    }
}

fn parse(mut arguments: Parser) -> Result<Command, lexopt::Error> {
    let mut verb = None;
    let mut options = Options::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Short('c') | Arg::Long("config") if options.file.is_none() => {
                options.file = Some(PathBuf::from(arguments.value()?));
            }
            Arg::Long("set") => options.set.push(arguments.value()?.string()?),
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Value(value) if verb.is_none() => {
                let known = ["run", "check", "version", "help"];
                let word = known.into_iter().find(|word| value == *word);
                let Some(word) = word else {
                    let value = value.to_string_lossy();
                    return Err(format!("unknown command `{value}`").into());
                };
                verb = Some(word);
            }
            other => return Err(other.unexpected()),
        }
    }
    let has_options = options != Options::default();
    match verb {
        Some("check") => Ok(Command::Check(options)),
        Some("version" | "help") if has_options => Err("-c and --set belong to run and check".into()),
        Some("version") => Ok(Command::Version),
        Some("help") => Ok(Command::Help),
        _ => Ok(Command::Run(options)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_become_commands() {
        let options = || Options { file: Some(PathBuf::from("x.toml")), ..Options::default() };
        let set =
            |set: &[&str]| Options { set: set.iter().map(|&one| one.to_owned()).collect(), ..options() };
        let cases = [
            ("", Some(Command::Run(Options::default()))),
            ("-c x.toml", Some(Command::Run(options()))),
            ("run -cx.toml", Some(Command::Run(options()))),
            ("check --config=x.toml", Some(Command::Check(options()))),
            ("-c x.toml check", Some(Command::Check(options()))),
            ("run --set a.b=1 -c x.toml --set=c=d", Some(Command::Run(set(&["a.b=1", "c=d"])))),
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
            ("run --set", None),
        ];
        for (line, expected) in cases {
            let parser = Parser::from_args(line.split_whitespace());
            assert_eq!(parse(parser).ok(), expected, "{line}");
        }
    }
}
