//! `warpdrive status`, `restart NAME`, `stop NAME`, `start NAME`: a word to the running process,
//! over the socket that its configuration names.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt};

use super::arguments::{self, mistake, misused};
use super::check::{self, Colour};
use crate::config::{Diagnostic, Sources};
use crate::plan;

/// The words that lead here.
pub const VERBS: [&str; 4] = ["status", "restart", "start", "stop"];

const OPTIONS: [&str; 2] = ["config", "help"];

const HELP: &str = "\
Usage: warpdrive status [-c FILE]          what has become of the commands of the upstreams
       warpdrive restart NAME [-c FILE]    start them anew, without a gap if they are told where to listen
       warpdrive stop NAME [-c FILE]
       warpdrive start NAME [-c FILE]

NAME is an upstream, or one instance of it: web.0. The answer comes when it is done; if it cannot be
done, it is 1, and what ran before a restart runs on, if the new one could be started beside it.";

#[derive(Debug, PartialEq, Eq)]
enum Request {
    Ask { line: String, file: Option<PathBuf> },
    Help,
}

/// Does what the arguments after `verb` say.
pub fn main(verb: &str, parser: Parser) -> ExitCode {
    let colours = Colour::Auto.choose();
    let (line, file) = match parse(verb, parser) {
        Ok(Request::Ask { line, file }) => (line, file),
        Ok(Request::Help) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            check::print(&[mistake], colours);
            eprintln!("\n{HELP}");
            return ExitCode::FAILURE;
        }
    };
    let loaded = Sources::load(file.as_deref(), &[])
        .map_err(|unreadable| vec![unreadable])
        .and_then(|sources| plan::load(&sources));
    let plan = match loaded {
        Ok(loaded) => loaded.plan,
        Err(mistakes) => return check::refuse(&mistakes, colours),
    };
    let Some(socket) = plan.admin_socket else {
        eprintln!("error: there is no socket to ask at: set socket of [admin]");
        return ExitCode::FAILURE;
    };
    match ask(&socket, &line) {
        Ok(answer) => say(&answer),
        Err(error) => {
            let at = socket.display();
            eprintln!("error: cannot ask at {at}: {error} (is it running, with this configuration?)");
            ExitCode::FAILURE
        }
    }
}

fn parse(verb: &str, mut parser: Parser) -> Result<Request, Diagnostic> {
    let (mut name, mut file) = (None, None);
    while let Some(argument) = parser.next().map_err(misused)? {
        match argument {
            Arg::Short('c') | Arg::Long("config") => {
                file = Some(PathBuf::from(parser.value().map_err(misused)?));
            }
            Arg::Short('h') | Arg::Long("help") => return Ok(Request::Help),
            Arg::Value(value) if name.is_none() && verb != "status" => {
                name = Some(value.string().map_err(misused)?);
            }
            Arg::Value(value) => {
                return Err(mistake(format!("unexpected argument `{}`", value.to_string_lossy())));
            }
            Arg::Long(option) => return Err(arguments::unknown("option", "--", option, &OPTIONS)),
            Arg::Short(option) => return Err(mistake(format!("unknown option `-{option}`"))),
        }
    }
    let line = match name {
        None if verb == "status" => verb.to_owned(),
        Some(name) if !name.is_empty() && !name.contains('\n') => format!("{verb} {name}"),
        _ => return Err(mistake(format!("{verb} needs the name of an upstream"))),
    };
    Ok(Request::Ask { line, file })
}

fn ask(socket: &Path, line: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// All but the last line, which says how it went.
fn say(answer: &str) -> ExitCode {
    let (lines, last) = match answer.trim_end().rsplit_once('\n') {
        Some((lines, last)) => (Some(lines), last),
        None => (None, answer.trim_end()),
    };
    lines.into_iter().for_each(|lines| println!("{lines}"));
    match last {
        "ok" => ExitCode::SUCCESS,
        "" => {
            eprintln!("error: it ended before it had answered");
            ExitCode::FAILURE
        }
        failure => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_become_a_line() {
        let asked = |line: &str, file: Option<&str>| {
            Ok(Request::Ask { line: line.to_owned(), file: file.map(PathBuf::from) })
        };
        let cases = [
            ("status", "", asked("status", None)),
            ("status", "-c x.toml", asked("status", Some("x.toml"))),
            ("restart", "web.0 -cx.toml", asked("restart web.0", Some("x.toml"))),
            ("restart", "--help", Ok(Request::Help)),
            ("stop", "", Err("stop needs the name of an upstream")),
            ("status", "web", Err("unexpected argument `web`")),
            ("start", "a b", Err("unexpected argument `b`")),
        ];
        for (verb, words, expected) in cases {
            let parsed = parse(verb, Parser::from_args(words.split_whitespace()));
            assert_eq!(parsed.map_err(|mistake| mistake.message), expected.map_err(str::to_owned), "{words}");
        }
    }
}
