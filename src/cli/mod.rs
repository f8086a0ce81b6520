//! The command line: reads the arguments, calls, says what went wrong, chooses the exit code.
//!
//! 0: done. 1: the arguments or the configuration are wrong; starting again will not help.

use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt};

use crate::config::{self, Sources};
use crate::{master, plan, server};
use env::Format;

mod check;
mod env;

const HELP: &str = "\
WarpDrive, a reverse proxy

Usage: warpdrive [run] [-c FILE]    run
       warpdrive check [-c FILE]    report everything that is wrong with a configuration
       warpdrive env [-c FILE]      every setting, and where it comes from
       warpdrive schema             the JSON Schema of a configuration, for editors
       warpdrive version
       warpdrive help

run, check and env also take --set KEY=VALUE, as in --set server.http_port=8081, any number of
times; it beats the environment, which beats the file. env --format json is for programs.

Without -c the file is $WARPDRIVE_CONFIG, ./warpdrive.toml or /etc/warpdrive/warpdrive.toml.
Without any of them everything goes to WARPDRIVE_TARGET_HOST (127.0.0.1) and
WARPDRIVE_TARGET_PORT (3000), from WARPDRIVE_HTTP_PORT (8080).";

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Run(Options),
    Check(Options),
    Env(Options, Format),
    Schema,
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
        Ok(Command::Env(options, format)) => env::show(options.file.as_deref(), &options.set, format),
        Ok(Command::Schema) => env::print(&config::schema()),
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
    let (mut verb, mut format) = (None, None);
    let mut options = Options::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Short('c') | Arg::Long("config") if options.file.is_none() => {
                options.file = Some(PathBuf::from(arguments.value()?));
            }
            Arg::Long("set") => options.set.push(arguments.value()?.string()?),
            Arg::Long("format") if format.is_none() => {
                format = Some(match arguments.value()?.string()?.as_str() {
                    "human" => Format::Human,
                    "json" => Format::Json,
                    other => return Err(format!("--format is `human` or `json`, not `{other}`").into()),
                });
            }
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Value(value) if verb.is_none() => {
                let known = ["run", "check", "env", "schema", "version", "help"];
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
        Some("env") => Ok(Command::Env(options, format.unwrap_or_default())),
        _ if format.is_some() => Err("--format belongs to env".into()),
        Some("check") => Ok(Command::Check(options)),
        Some("schema" | "version" | "help") if has_options => {
            Err("-c and --set belong to run, check and env".into())
        }
        Some("schema") => Ok(Command::Schema),
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
            ("env -cx.toml", Some(Command::Env(options(), Format::Human))),
            ("--format json env -cx.toml", Some(Command::Env(options(), Format::Json))),
            ("schema", Some(Command::Schema)),
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
            ("schema --set a=1", None),
            ("check --format json", None),
            ("env --format yaml", None),
        ];
        for (line, expected) in cases {
            let parser = Parser::from_args(line.split_whitespace());
            assert_eq!(parse(parser).ok(), expected, "{line}");
        }
    }
}
