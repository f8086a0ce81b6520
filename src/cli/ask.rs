//! `warpdrive reload`, `status`, `restart NAME`, `stop NAME`, `start NAME`: a word to the running
//! process, by HTTP over the socket that its configuration names.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt};

use super::arguments::{self, mistake, misused};
use super::check::{self, Colour};
use super::json::visible;
use super::status;
use crate::config::{Diagnostic, Sources};
use crate::http::fields::Known;
use crate::http::h1::{self, Parsed, parse};
use crate::http::head::{Method, ResponseHead};
use crate::plan;

/// The words that lead here.
pub const VERBS: [&str; 5] = ["reload", "status", "restart", "start", "stop"];

const OPTIONS: [&str; 5] = ["config", "socket", "format", "json", "help"];

/// Of the answer's head.
const BOUNDS: h1::Bounds = h1::Bounds { head: 16 * 1024, fields: 64, uri: 0 };

const HELP: &str = "\
Usage: warpdrive reload [-c FILE]          run by the configuration as it is now; what runs goes on
       warpdrive status [-c FILE]          what runs, and how it does; --json for programs
       warpdrive restart NAME [-c FILE]    start its commands anew, without a gap if they are told where to listen
       warpdrive stop NAME [-c FILE]
       warpdrive start NAME [-c FILE]

NAME is an upstream, or one instance of it: web.0. The answer comes when it is done; if it cannot be
done, it is 1, and what ran before a restart runs on, if the new one could be started beside it.
A reload that cannot be done says why, as check does, and nothing has changed.

The process is asked at the socket of [admin] in FILE, or with --socket PATH at that one.
--format json is --json.";

#[derive(Debug, PartialEq, Eq)]
enum Request {
    Ask { question: Question, file: Option<PathBuf>, socket: Option<PathBuf> },
    Help,
}

#[derive(Debug, PartialEq, Eq)]
enum Question {
    Status {
        is_json: bool,
    },
    Reload,
    /// Where to post to.
    Change(String),
}

/// What was answered.
struct Answer {
    is_good: bool,
    body: String,
}

/// Does what the arguments after `verb` say.
pub fn main(verb: &str, parser: Parser) -> ExitCode {
    let colours = Colour::Auto.choose();
    let (question, file, socket) = match parse_arguments(verb, parser) {
        Ok(Request::Ask { question, file, socket }) => (question, file, socket),
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
    let socket = match socket.map_or_else(|| configured_socket(file.as_deref()), |socket| Ok(Some(socket))) {
        Ok(Some(socket)) => socket,
        Ok(None) => {
            eprintln!("error: there is no socket to ask at: set socket of [admin]");
            return ExitCode::FAILURE;
        }
        Err(mistakes) => return check::refuse(&mistakes, colours),
    };
    match ask(&socket, &question) {
        Ok(Answer { is_good: true, body }) => say(&question, &body),
        Ok(Answer { is_good: false, body }) => {
            // Why a reload was refused is said as `check` says it.
            let before = if question == Question::Reload { "" } else { "error: " };
            eprintln!("{before}{}", visible(body.trim_end()));
            ExitCode::FAILURE
        }
        Err(error) => {
            let at = socket.display();
            eprintln!("error: cannot ask at {at}: {error} (is it running, with this configuration?)");
            ExitCode::FAILURE
        }
    }
}

fn configured_socket(file: Option<&Path>) -> Result<Option<PathBuf>, Vec<Diagnostic>> {
    let sources = Sources::load(file, &[]).map_err(|unreadable| vec![unreadable])?;
    plan::admin_socket(&sources)
}

fn parse_arguments(verb: &str, mut parser: Parser) -> Result<Request, Diagnostic> {
    let (mut name, mut file, mut socket, mut is_json) = (None, None, None, false);
    let is_without_name = matches!(verb, "reload" | "status");
    while let Some(argument) = parser.next().map_err(misused)? {
        match argument {
            Arg::Short('c') | Arg::Long("config") => {
                file = Some(PathBuf::from(parser.value().map_err(misused)?));
            }
            Arg::Long("socket") => socket = Some(PathBuf::from(parser.value().map_err(misused)?)),
            Arg::Short('h') | Arg::Long("help") => return Ok(Request::Help),
            Arg::Long("json") if verb == "status" => is_json = true,
            Arg::Long("format") if verb == "status" => {
                is_json = match parser.value().map_err(misused)?.string().map_err(misused)?.as_str() {
                    "json" => true,
                    "human" => false,
                    other => return Err(mistake(format!("--format is human or json, not `{other}`"))),
                }
            }
            Arg::Value(value) if name.is_none() && !is_without_name => {
                name = Some(value.string().map_err(misused)?);
            }
            Arg::Value(value) => {
                return Err(mistake(format!("unexpected argument `{}`", value.to_string_lossy())));
            }
            Arg::Long(option) => return Err(arguments::unknown("option", "--", option, &OPTIONS)),
            Arg::Short(option) => return Err(mistake(format!("unknown option `-{option}`"))),
        }
    }
    let question = match name {
        None if verb == "status" => Question::Status { is_json },
        None if verb == "reload" => Question::Reload,
        Some(name) if !name.is_empty() => Question::Change(format!("/children/{}/{verb}", escaped(&name))),
        _ => return Err(mistake(format!("{verb} needs the name of an upstream"))),
    };
    Ok(Request::Ask { question, file, socket })
}

/// As one segment of a path.
fn escaped(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
            // Nothing that is written to a String fails.
            other => _ = write!(text, "%{other:02X}"),
        }
    }
    text
}

fn ask(socket: &Path, question: &Question) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    let line = match question {
        Question::Status { .. } => "GET /status HTTP/1.1".to_owned(),
        Question::Reload => "POST /reload HTTP/1.1\r\nContent-Length: 0".to_owned(),
        Question::Change(path) => format!("POST {path} HTTP/1.1\r\nContent-Length: 0"),
    };
    stream.write_all(format!("{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    read(&bytes).ok_or_else(|| io::Error::other("it ended before it had answered"))
}

/// `None` if it is not whole.
fn read(bytes: &[u8]) -> Option<Answer> {
    let mut head = ResponseHead::default();
    let Ok(Parsed::Head(length)) = parse::response(bytes, BOUNDS, Method::Get, &mut head) else {
        return None;
    };
    let body = &bytes[length..];
    let wanted = head.fields.value(Known::ContentLength).map(|digits| String::from_utf8_lossy(digits));
    let is_whole = wanted.is_some_and(|wanted| wanted == body.len().to_string());
    let body = String::from_utf8(body.to_vec()).ok().filter(|_| is_whole)?;
    Some(Answer { is_good: head.status.0 == 200, body })
}

fn say(question: &Question, body: &str) -> ExitCode {
    match question {
        Question::Change(_) => {}
        Question::Reload => print!("{}", visible(body)),
        Question::Status { is_json: true } => print!("{}", visible(body)),
        Question::Status { is_json: false } => match serde_json::from_str(body) {
            Ok(seen) => print!("{}", status::text(&seen)),
            Err(error) => {
                eprintln!("error: its answer is not understood: {error}");
                return ExitCode::FAILURE;
            }
        },
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_become_a_question() {
        let at = |question: Question, file: Option<&str>, socket: Option<&str>| {
            Ok(Request::Ask { question, file: file.map(PathBuf::from), socket: socket.map(PathBuf::from) })
        };
        let asked = |question: Question, file: Option<&str>| at(question, file, None);
        let status = |is_json| Question::Status { is_json };
        let change = |path: &str| Question::Change(path.to_owned());
        let cases = [
            ("reload", "-c x.toml", asked(Question::Reload, Some("x.toml"))),
            ("reload", "--socket /run/w.sock", at(Question::Reload, None, Some("/run/w.sock"))),
            ("reload", "web", Err("unexpected argument `web`")),
            ("reload", "--json", Err("unknown option `--json`")),
            ("status", "", asked(status(false), None)),
            ("status", "-c x.toml --json", asked(status(true), Some("x.toml"))),
            ("status", "--format json", asked(status(true), None)),
            ("status", "--format yaml", Err("--format is human or json, not `yaml`")),
            ("restart", "web.0 -cx.toml", asked(change("/children/web.0/restart"), Some("x.toml"))),
            ("stop", "a/b%", asked(change("/children/a%2Fb%25/stop"), None)),
            ("restart", "--help", Ok(Request::Help)),
            ("stop", "", Err("stop needs the name of an upstream")),
            ("stop", "--json", Err("unknown option `--json`")),
            ("status", "web", Err("unexpected argument `web`")),
            ("start", "a b", Err("unexpected argument `b`")),
        ];
        for (verb, words, expected) in cases {
            let parsed = parse_arguments(verb, Parser::from_args(words.split_whitespace()));
            assert_eq!(parsed.map_err(|mistake| mistake.message), expected.map_err(str::to_owned), "{words}");
        }
    }

    #[test]
    fn an_answer_is_whole_or_none() {
        let read = |text: &str| read(text.as_bytes()).map(|answer| (answer.is_good, answer.body));
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(read(&format!("{head}abc")), Some((true, "abc".to_owned())));
        assert_eq!(read(&format!("{head}ab")), None);
        assert_eq!(read("HTTP/1.1 200 OK\r\n"), None);
        assert_eq!(read(""), None);
        let refused = "HTTP/1.1 409 Conflict\r\nContent-Length: 5\r\n\r\nbusy\n";
        assert_eq!(read(refused), Some((false, "busy\n".to_owned())));
    }
}
