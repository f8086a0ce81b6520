//! What the arguments of the command line say.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

use super::check::{Colour, Format};
use super::{ask, route, wasm};
use crate::config::{Diagnostic, Place, nearest};

const COMMANDS: [&str; 14] = [
    "run", "check", "env", "route", "wasm", "reload", "status", "restart", "start", "stop", "schema", "demo",
    "version", "help",
];
const OPTIONS: [&str; 6] = ["config", "set", "format", "color", "help", "version"];

#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// With the command that stands after `--`.
    Run(Options, Option<Vec<OsString>>),
    Check(Options, Format),
    Env(Options, Format),
    Schema,
    Version,
    Help,
}

/// What `run`, `check` and `env` have in common.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub file: Option<PathBuf>,
    /// `KEY=VALUE`, each from a `--set`.
    pub set: Vec<String>,
    pub colour: Colour,
}

/// # Errors
/// What is wrong with them, for the one who wrote them.
pub fn parse(mut arguments: Parser) -> Result<Command, Diagnostic> {
    let (mut verb, mut file, mut format, mut colour) = (None, None, None, None);
    let (mut set, mut wrapped) = (Vec::new(), None);
    loop {
        // What comes after `--` is not ours to understand.
        if let Some(mut rest) = arguments.try_raw_args()
            && rest.next_if(|argument| argument == "--").is_some()
        {
            wrapped = Some(rest.collect::<Vec<OsString>>());
            break;
        }
        let Some(argument) = arguments.next().map_err(misused)? else { break };
        match argument {
            Arg::Short('c') | Arg::Long("config") if file.is_none() => {
                file = Some(PathBuf::from(arguments.value().map_err(misused)?));
            }
            Arg::Short('c') | Arg::Long("config") => return Err(mistake("-c is there twice")),
            Arg::Short('t') if verb.is_none() => verb = Some("check"),
            Arg::Short('t') => return Err(mistake("-t is the command `check`: leave out the other one")),
            Arg::Long("set") => {
                set.push(arguments.value().and_then(ValueExt::string).map_err(misused)?);
            }
            Arg::Long("format") => format = Some(self::format(&mut arguments)?),
            Arg::Long("color") => colour = Some(self::colour(&mut arguments)?),
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Value(value) if verb.is_none() => {
                let word = value.to_string_lossy();
                let known = COMMANDS.into_iter().find(|known| *known == word);
                verb = Some(known.ok_or_else(|| unknown_command(&word))?);
                let is_first =
                    |verb: &&str| [route::VERB, wasm::VERB].contains(verb) || ask::VERBS.contains(verb);
                if let Some(first) = verb.filter(is_first) {
                    return Err(mistake(format!("`{first}` comes first, and its options after it")));
                }
            }
            Arg::Value(value) => {
                return Err(mistake(format!("unexpected argument `{}`", value.to_string_lossy())));
            }
            Arg::Long(option) => return Err(unknown("option", "--", option, &OPTIONS)),
            Arg::Short(option) => return Err(mistake(format!("unknown option `-{option}`"))),
        }
    }
    let has_options = file.is_some() || colour.is_some() || !set.is_empty();
    let options = Options { file, set, colour: colour.unwrap_or_default() };
    match wrapped.as_deref() {
        Some([]) => return Err(mistake("a command is missing after `--`")),
        Some(_) if verb.is_some_and(|verb| verb != "run") => {
            return Err(mistake("`--` and a command belong to run"));
        }
        _ => {}
    }
    match verb {
        Some("demo") => Err(mistake("`demo` comes first, and takes only --port and --print-config")),
        Some("check") => Ok(Command::Check(options, format.unwrap_or_default())),
        Some("env") => Ok(Command::Env(options, format.unwrap_or_default())),
        _ if format.is_some() => Err(mistake("--format belongs to check and env")),
        Some("schema" | "version" | "help") if has_options => {
            Err(mistake("-c, --set and --color belong to run, check and env"))
        }
        Some("schema") => Ok(Command::Schema),
        Some("version") => Ok(Command::Version),
        Some("help") => Ok(Command::Help),
        _ => Ok(Command::Run(options, wrapped)),
    }
}

/// `--format`, whose value is next.
pub fn format(arguments: &mut Parser) -> Result<Format, Diagnostic> {
    choice("--format", arguments, &[("human", Format::Human), ("json", Format::Json)])
}

/// `--color`, whose value is next.
pub fn colour(arguments: &mut Parser) -> Result<Colour, Diagnostic> {
    let colours = [("auto", Colour::Auto), ("always", Colour::Always), ("never", Colour::Never)];
    choice("--color", arguments, &colours)
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

pub fn unknown(what: &str, dashes: &str, word: &str, known: &[&str]) -> Diagnostic {
    with_meant(mistake(format!("unknown {what} `{dashes}{word}`")), dashes, word, known)
}

fn with_meant(mistake: Diagnostic, dashes: &str, word: &str, known: &[&str]) -> Diagnostic {
    match nearest(word, known.iter().copied()) {
        Some(meant) => mistake.with_help(format!("did you mean `{dashes}{meant}`?")),
        None => mistake,
    }
}

fn unknown_command(word: &str) -> Diagnostic {
    let unknown = unknown("command", "", word, &COMMANDS);
    match unknown.help {
        Some(_) => unknown,
        None => unknown.with_help("a command to run in front of comes after `--`"),
    }
}

/// What is wrong with the command line.
pub fn mistake(message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Place::CommandLine, message)
}

/// An option without its value, or with one that it does not take.
pub fn misused(error: lexopt::Error) -> Diagnostic {
    mistake(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_become_commands() {
        let options = || Options { file: Some(PathBuf::from("x.toml")), ..Options::default() };
        let set =
            |set: &[&str]| Options { set: set.iter().map(|&one| one.to_owned()).collect(), ..options() };
        let run = |options| Some(Command::Run(options, None));
        let wrap = |options, words: &[&str]| {
            Some(Command::Run(options, Some(words.iter().map(OsString::from).collect())))
        };
        let check = |format| Some(Command::Check(options(), format));
        let cases = [
            ("", run(Options::default())),
            ("-c x.toml", run(options())),
            ("run -cx.toml", run(options())),
            ("check --config=x.toml", check(Format::Human)),
            ("-c x.toml check", check(Format::Human)),
            ("-t -c x.toml", check(Format::Human)),
            ("-tc x.toml", check(Format::Human)),
            ("check --format json -c x.toml", check(Format::Json)),
            ("-t --format=human -cx.toml", check(Format::Human)),
            ("--color never", run(Options { colour: Colour::Never, ..Options::default() })),
            ("run --set a.b=1 -c x.toml --set=c=d", run(set(&["a.b=1", "c=d"]))),
            ("env -cx.toml", Some(Command::Env(options(), Format::Human))),
            ("--format json env -cx.toml", Some(Command::Env(options(), Format::Json))),
            ("schema", Some(Command::Schema)),
            ("-- check -c x.toml", wrap(Options::default(), &["check", "-c", "x.toml"])),
            ("run -- a -- b", wrap(Options::default(), &["a", "--", "b"])),
            ("-c x.toml -- a", wrap(options(), &["a"])),
            ("--", None),
            ("check -- a", None),
            ("-c x.toml demo", None),
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
            ("launch", "unknown command `launch` [a command to run in front of comes after `--`]"),
            ("check check", "unexpected argument `check`"),
            ("run -t", "-t is the command `check`: leave out the other one"),
            ("run -c", "missing argument for option '-c'"),
            ("version -c x.toml", "-c, --set and --color belong to run, check and env"),
            ("-c x.toml -c y.toml", "-c is there twice"),
            ("-c x.toml route GET /", "`route` comes first, and its options after it"),
            ("rout", "unknown command `rout` [did you mean `route`?]"),
            ("--colour never", "unknown option `--colour` [did you mean `--color`?]"),
            ("-x", "unknown option `-x`"),
            ("--format json", "--format belongs to check and env"),
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
