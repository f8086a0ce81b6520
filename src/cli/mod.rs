//! The command line: reads the arguments, calls, says what went wrong, chooses the exit code.
//!
//! 0: done. 1: the arguments or the configuration are wrong; starting again will not help.

use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::{Arg, Parser};

use self::check::{Colour, Format};
use crate::config::{Diagnostic, Place, Sources, nearest};
use crate::{master, plan, server};

mod check;
mod json;

const HELP: &str = "\
WarpDrive, a reverse proxy

Usage: warpdrive [run] [-c FILE]    run
       warpdrive check [-c FILE]    report everything that is wrong with a configuration
       warpdrive -t [-c FILE]       the same
       warpdrive version
       warpdrive help

check --format json    the report as JSON, on standard output
--color auto|always|never

Without -c the file is $WARPDRIVE_CONFIG, ./warpdrive.toml or /etc/warpdrive/warpdrive.toml.
Without any of them everything goes to WARPDRIVE_TARGET_HOST (127.0.0.1) and
WARPDRIVE_TARGET_PORT (3000), from WARPDRIVE_HTTP_PORT (8080).";

const COMMANDS: [&str; 4] = ["run", "check", "version", "help"];
const OPTIONS: [&str; 5] = ["config", "format", "color", "help", "version"];

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Run(Options),
    Check(Options, Format),
    Version,
    Help,
}

/// What `run` and `check` have in common.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    file: Option<PathBuf>,
    colour: Colour,
}

/// Does what the arguments of this process say.
pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == master::ARGUMENT) {
        return server::run();
    }
    match parse(Parser::from_env()) {
        Ok(Command::Run(options)) => run(&options),
        Ok(Command::Check(options, format)) => {
            check::check(options.file.as_deref(), format, options.colour.choose())
        }
        Ok(Command::Version) => {
            println!("warpdrive {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(Command::Help) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(mistake) => {
            check::print(&[mistake], Colour::Auto.choose());
            eprintln!("`warpdrive help` shows all commands and options");
            ExitCode::FAILURE
        }
    }
}

/// Checks the configuration as `check` does, then runs it.
fn run(options: &Options) -> ExitCode {
    let colours = options.colour.choose();
    let sources = match Sources::load(options.file.as_deref()) {
        Ok(sources) => sources,
        Err(unreadable) => return check::refuse(&[unreadable], colours),
    };
    match plan::load(&sources) {
        Ok(loaded) => {
            check::print(&loaded.warnings, colours);
            let server = loaded.plan.server;
            master::run(master::Settings {
                listen: server.listen,
                workers: server.worker_threads,
                shutdown_timeout: server.shutdown_timeout,
                level: loaded.level,
                sources: sources.encode(),
            })
        }
        Err(diagnostics) => check::refuse(&diagnostics, colours),
    }
}

fn parse(mut arguments: Parser) -> Result<Command, Diagnostic> {
    let (mut verb, mut file, mut format, mut colour) = (None, None, None, None);
    while let Some(argument) = arguments.next().map_err(misused)? {
        match argument {
            Arg::Short('c') | Arg::Long("config") if file.is_none() => {
                file = Some(PathBuf::from(arguments.value().map_err(misused)?));
            }
            Arg::Short('c') | Arg::Long("config") => return Err(mistake("-c is there twice")),
            Arg::Short('t') if verb.is_none() => verb = Some("check"),
            Arg::Short('t') => return Err(mistake("-t is the command `check`: leave out the other one")),
            Arg::Long("format") => {
                let formats = [("human", Format::Human), ("json", Format::Json)];
                format = Some(choice("--format", &mut arguments, &formats)?);
            }
            Arg::Long("color") => {
                let colours = [("auto", Colour::Auto), ("always", Colour::Always), ("never", Colour::Never)];
                colour = Some(choice("--color", &mut arguments, &colours)?);
            }
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Value(value) if verb.is_none() => {
                let word = value.to_string_lossy();
                let known = COMMANDS.into_iter().find(|known| *known == word);
                verb = Some(known.ok_or_else(|| unknown("command", "", &word, &COMMANDS))?);
            }
            Arg::Value(value) => {
                return Err(mistake(format!("unexpected argument `{}`", value.to_string_lossy())));
            }
            Arg::Long(option) => return Err(unknown("option", "--", option, &OPTIONS)),
            Arg::Short(option) => return Err(mistake(format!("unknown option `-{option}`"))),
        }
    }
    let has_options = file.is_some() || colour.is_some();
    let options = Options { file, colour: colour.unwrap_or_default() };
    match verb {
        Some("check") => Ok(Command::Check(options, format.unwrap_or_default())),
        _ if format.is_some() => Err(mistake("--format belongs to check")),
        Some("version" | "help") if has_options => Err(mistake("-c and --color belong to run and check")),
        Some("version") => Ok(Command::Version),
        Some("help") => Ok(Command::Help),
        _ => Ok(Command::Run(options)),
    }
}

/// The value of an option that has one of a few words.
fn choice<T: Copy>(option: &str, arguments: &mut Parser, choices: &[(&str, T)]) -> Result<T, Diagnostic> {
    let value = arguments.value().map_err(misused)?;
    let value = value.to_string_lossy();
    if let Some((_, chosen)) = choices.iter().find(|(word, _)| *word == value) {
        return Ok(*chosen);
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let wrong = mistake(format!("{option} must be one of `{}`, not `{value}`", words.join("`, `")));
    Err(with_meant(wrong, "", &value, &words))
}

fn unknown(what: &str, dashes: &str, word: &str, known: &[&str]) -> Diagnostic {
    with_meant(mistake(format!("unknown {what} `{dashes}{word}`")), dashes, word, known)
}

fn with_meant(mistake: Diagnostic, dashes: &str, word: &str, known: &[&str]) -> Diagnostic {
    match nearest(word, known.iter().copied()) {
        Some(meant) => mistake.with_help(format!("did you mean `{dashes}{meant}`?")),
        None => mistake,
    }
}

fn mistake(message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Place::CommandLine, message)
}

/// An option without its value, or with one that it does not take.
fn misused(error: lexopt::Error) -> Diagnostic {
    mistake(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_become_commands() {
        let colour = Colour::Auto;
        let options = || Options { file: Some(PathBuf::from("x.toml")), colour };
        let check = |format| Some(Command::Check(options(), format));
        let cases = [
            ("", Some(Command::Run(Options::default()))),
            ("-c x.toml", Some(Command::Run(options()))),
            ("run -cx.toml", Some(Command::Run(options()))),
            ("check --config=x.toml", check(Format::Human)),
            ("-c x.toml check", check(Format::Human)),
            ("-t -c x.toml", check(Format::Human)),
            ("-tc x.toml", check(Format::Human)),
            ("check --format json -c x.toml", check(Format::Json)),
            ("-t --format=human -cx.toml", check(Format::Human)),
            ("--color never", Some(Command::Run(Options { file: None, colour: Colour::Never }))),
            ("version", Some(Command::Version)),
            ("--version", Some(Command::Version)),
            ("check --help", Some(Command::Help)),
            ("help", Some(Command::Help)),
        ];
        for (line, expected) in cases {
            let parser = Parser::from_args(line.split_whitespace());
            assert_eq!(parse(parser).ok(), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_command_is_named_with_what_was_meant() {
        let cases = [
            ("chekc", "unknown command `chekc` [did you mean `check`?]"),
            ("launch", "unknown command `launch`"),
            ("check check", "unexpected argument `check`"),
            ("run -t", "-t is the command `check`: leave out the other one"),
            ("run -c", "missing argument for option '-c'"),
            ("version -c x.toml", "-c and --color belong to run and check"),
            ("-c x.toml -c y.toml", "-c is there twice"),
            ("--colour never", "unknown option `--colour` [did you mean `--color`?]"),
            ("-x", "unknown option `-x`"),
            ("--format json", "--format belongs to check"),
            (
                "check --format jsn",
                "--format must be one of `human`, `json`, not `jsn` [did you mean `json`?]",
            ),
            ("--color=red", "--color must be one of `auto`, `always`, `never`, not `red`"),
        ];
        for (line, expected) in cases {
            let mistake = parse(Parser::from_args(line.split_whitespace())).unwrap_err();
            let help = mistake.help.map(|help| format!(" [{help}]"));
            assert_eq!(mistake.message + &help.unwrap_or_default(), expected, "{line}");
        }
    }
}
