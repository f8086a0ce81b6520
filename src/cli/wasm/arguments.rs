//! What the arguments after `wasm` say.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use crate::cli::arguments::{self, mistake, misused, unknown};
use crate::cli::check::Format;
use crate::cli::route::request_head;
use crate::config::Diagnostic;

const COMMANDS: [&str; 2] = ["inspect", "bench"];
const OPTIONS: [&str; 6] = ["header", "data", "config", "seconds", "format", "help"];

const HOST: &[u8] = b"http://localhost";

const SECONDS: f64 = 2.0;
const SECONDS_MAX: f64 = 600.0;

#[derive(Debug, PartialEq)]
pub enum Request {
    Inspect { file: PathBuf, format: Format },
    Bench(Bench),
    Help,
}

/// What `bench` is to do.
#[derive(Debug, PartialEq)]
pub struct Bench {
    pub file: PathBuf,
    pub format: Format,
    /// A request as a client sends it.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    /// What the component is configured with.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// For each kind of call.
    pub time: Duration,
}

/// # Errors
/// What is wrong with them.
pub fn parse(mut arguments: Parser) -> Result<Request, Diagnostic> {
    let (mut words, mut fields) = (Vec::new(), Vec::new());
    let (mut format, mut body, mut config, mut seconds) = (None, None, None, None);
    while let Some(argument) = arguments.next().map_err(misused)? {
        match argument {
            Arg::Short('H') | Arg::Long("header") => {
                fields.push(arguments.value().map_err(misused)?.into_encoded_bytes());
            }
            Arg::Short('d') | Arg::Long("data") => {
                body = Some(arguments.value().map_err(misused)?.into_encoded_bytes());
            }
            Arg::Long("config") => config = Some(self::config(&mut arguments)?),
            Arg::Long("seconds") => seconds = Some(self::seconds(&mut arguments)?),
            Arg::Long("format") => format = Some(arguments::format(&mut arguments)?),
            Arg::Short('h') | Arg::Long("help") => return Ok(Request::Help),
            Arg::Value(word) => words.push(word),
            Arg::Long(option) => return Err(unknown("option", "--", option, &OPTIONS)),
            Arg::Short(option) => return Err(mistake(format!("unknown option `-{option}`"))),
        }
    }
    let has_request = !fields.is_empty() || body.is_some() || config.is_some() || seconds.is_some();
    let mut words = words.into_iter();
    let verb = words.next().map(|word| word.to_string_lossy().into_owned());
    let verb = COMMANDS.into_iter().find(|known| verb.as_deref() == Some(*known)).ok_or_else(|| {
        let given = verb.as_deref().unwrap_or_default();
        match given {
            "" => mistake("a command is missing after `wasm`: `inspect` or `bench`"),
            given => unknown("command", "wasm ", given, &COMMANDS),
        }
    })?;
    let file = words.next().map(PathBuf::from).ok_or_else(|| {
        mistake(format!("a FILE is missing after `wasm {verb}`")).with_help("such as app.wasm")
    })?;
    let rest: Vec<Vec<u8>> = words.map(std::ffi::OsString::into_encoded_bytes).collect();
    let format = format.unwrap_or_default();
    if verb == "inspect" {
        return match rest.first() {
            Some(word) => Err(unexpected(word)),
            None if has_request => Err(mistake("-H, --data, --config and --seconds belong to `wasm bench`")),
            None => Ok(Request::Inspect { file, format }),
        };
    }
    let body: Vec<u8> = body.unwrap_or_default();
    let (method, url): (&[u8], &[u8]) = match rest.as_slice() {
        [] => (if body.is_empty() { b"GET" } else { b"POST" }, b"/"),
        [method, url] => (method, url),
        [_] => return Err(mistake("a METHOD and a URL belong together")),
        [.., word] => return Err(unexpected(word)),
    };
    if !body.is_empty() {
        fields.push(format!("Content-Length: {}", body.len()).into_bytes());
    }
    // A target alone is asked of this machine: a component is told whom a request is for.
    let url = if url.starts_with(b"/") { [HOST, url].concat() } else { url.to_vec() };
    let head = request_head(method, &url, &fields)?;
    let time = seconds.unwrap_or(Duration::from_secs_f64(SECONDS));
    Ok(Request::Bench(Bench { file, format, head, body, config: config.unwrap_or_default(), time }))
}

fn unexpected(word: &[u8]) -> Diagnostic {
    mistake(format!("unexpected argument `{}`", String::from_utf8_lossy(word)))
}

/// `--config`, whose value is next.
fn config(arguments: &mut Parser) -> Result<serde_json::Map<String, serde_json::Value>, Diagnostic> {
    let text = arguments.value().and_then(ValueExt::string).map_err(misused)?;
    serde_json::from_str(&text).map_err(|_| {
        let wrong = mistake("--config is a JSON object: what the `config` table of the component would have");
        wrong.with_help("such as '{\"greeting\": \"hello\"}'")
    })
}

/// `--seconds`, whose value is next.
fn seconds(arguments: &mut Parser) -> Result<Duration, Diagnostic> {
    let text = arguments.value().and_then(ValueExt::string).map_err(misused)?;
    let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0 && *seconds <= SECONDS_MAX);
    let seconds = seconds.ok_or_else(|| {
        mistake(format!("--seconds must be more than 0 and at most {SECONDS_MAX}, not `{text}`"))
    })?;
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_become_requests() {
        let bench = |head: &str, body: &str, config: &str, time: f64| {
            Ok(Request::Bench(Bench {
                file: "a.wasm".into(),
                format: Format::Human,
                head: head.as_bytes().to_vec(),
                body: body.as_bytes().to_vec(),
                config: serde_json::from_str(config).expect("an object"),
                time: Duration::from_secs_f64(time),
            }))
        };
        let inspect = |format| Ok(Request::Inspect { file: "a.wasm".into(), format });
        let get = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let table: [(&[&str], Result<Request, &str>); 19] = [
            (&["inspect", "a.wasm"], inspect(Format::Human)),
            (&["inspect", "--format=json", "a.wasm"], inspect(Format::Json)),
            (&["bench", "a.wasm"], bench(get, "", "{}", 2.0)),
            (&["bench", "a.wasm", "--seconds", "0.5"], bench(get, "", "{}", 0.5)),
            (&["bench", "a.wasm", "--config", r#"{"a":[1]}"#], bench(get, "", r#"{"a":[1]}"#, 2.0)),
            (
                &["bench", "a.wasm", "PUT", "/x", "-d", "hello", "-H", "Host: b"],
                bench("PUT /x HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n\r\n", "hello", "{}", 2.0),
            ),
            (
                &["bench", "-dhello", "a.wasm"],
                bench("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n", "hello", "{}", 2.0),
            ),
            (&["--help"], Ok(Request::Help)),
            (&[], Err("a command is missing after `wasm`: `inspect` or `bench`")),
            (&["inspekt", "a.wasm"], Err("unknown command `wasm inspekt`")),
            (&["inspect"], Err("a FILE is missing after `wasm inspect`")),
            (&["inspect", "a", "b"], Err("unexpected argument `b`")),
            (
                &["inspect", "a", "--seconds", "1"],
                Err("-H, --data, --config and --seconds belong to `wasm bench`"),
            ),
            (&["bench", "a", "GET"], Err("a METHOD and a URL belong together")),
            (&["bench", "a", "GET", "/", "c"], Err("unexpected argument `c`")),
            (&["bench", "a", "GET", "c"], Err("a URL begins with `https://`, `http://` or `/`")),
            (
                &["bench", "a", "--seconds", "0"],
                Err("--seconds must be more than 0 and at most 600, not `0`"),
            ),
            (
                &["bench", "a", "--config", "[]"],
                Err("--config is a JSON object: what the `config` table of the component would have"),
            ),
            (&["bench", "a", "--secnds", "1"], Err("unknown option `--secnds`")),
        ];
        for (words, expected) in table {
            let parsed = parse(Parser::from_args(words)).map_err(|mistake| mistake.message);
            assert_eq!(parsed, expected.map_err(str::to_owned), "{words:?}");
        }
    }
}
