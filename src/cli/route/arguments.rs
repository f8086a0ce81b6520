//! What the arguments after `route` say, as the head of a request.

use std::net::IpAddr;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

use crate::cli::arguments::{self, Options, mistake, misused, unknown};
use crate::cli::check::{Colour, Format};
use crate::config::Diagnostic;
use crate::http::forwarding::Scheme;
use crate::proxy::explain::Caller;

const OPTIONS: [&str; 8] = ["config", "set", "header", "from", "all", "format", "color", "help"];

#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    Explain(Asked),
    Help,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    pub options: Options,
    pub format: Format,
    pub is_all: bool,
    pub caller: Caller,
    /// As a client sends it, to its last line end.
    pub head: Vec<u8>,
}

/// # Errors
/// What is wrong with them. What `-H` has may be a secret, and is not repeated.
pub fn parse(mut arguments: Parser) -> Result<Request, Diagnostic> {
    let (mut file, mut set, mut colour) = (None, Vec::new(), Colour::default());
    let (mut format, mut is_all) = (Format::default(), false);
    let (mut words, mut fields, mut caller) = (Vec::new(), Vec::new(), Caller::default());
    while let Some(argument) = arguments.next().map_err(misused)? {
        match argument {
            Arg::Short('c') | Arg::Long("config") if file.is_none() => {
                file = Some(PathBuf::from(arguments.value().map_err(misused)?));
            }
            Arg::Short('c') | Arg::Long("config") => return Err(mistake("-c is there twice")),
            Arg::Long("set") => {
                set.push(arguments.value().and_then(ValueExt::string).map_err(misused)?);
            }
            Arg::Short('H') | Arg::Long("header") => {
                fields.push(arguments.value().map_err(misused)?.into_encoded_bytes());
            }
            Arg::Long("from") => caller.address = address(&mut arguments)?,
            Arg::Long("all") => is_all = true,
            Arg::Long("format") => format = arguments::format(&mut arguments)?,
            Arg::Long("color") => colour = arguments::colour(&mut arguments)?,
            Arg::Short('h') | Arg::Long("help") => return Ok(Request::Help),
            Arg::Value(word) if words.len() < 2 => words.push(word.into_encoded_bytes()),
            Arg::Value(word) => {
                return Err(mistake(format!("unexpected argument `{}`", word.to_string_lossy())));
            }
            Arg::Long(option) => return Err(unknown("option", "--", option, &OPTIONS)),
            Arg::Short(option) => return Err(mistake(format!("unknown option `-{option}`"))),
        }
    }
    let [method, url] = words.as_slice() else {
        let absent = mistake("a METHOD and a URL are needed");
        return Err(absent.with_help("such as warpdrive route GET https://example.com/path"));
    };
    let head = head(method, url, &fields)?;
    if url.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"https:")) {
        caller.scheme = Scheme::Https;
    }
    Ok(Request::Explain(Asked { options: Options { file, set, colour }, format, is_all, caller, head }))
}

fn address(arguments: &mut Parser) -> Result<IpAddr, Diagnostic> {
    let text = arguments.value().and_then(ValueExt::string).map_err(misused)?;
    text.parse().map_err(|_| {
        let wrong = mistake(format!("--from must be an IP address, not `{text}`"));
        wrong.with_help("such as 203.0.113.9 or 2001:db8::9")
    })
}

/// The request that a client would send for this URL. Whether it is one is not looked at: that
/// is for those who read requests.
///
/// # Errors
/// It would be none, or another one.
pub fn head(method: &[u8], url: &[u8], fields: &[Vec<u8>]) -> Result<Vec<u8>, Diagnostic> {
    let mut texts =
        [("METHOD", method), ("URL", url)].into_iter().chain(fields.iter().map(|f| ("-H", &f[..])));
    if let Some((what, _)) = texts.find(|(_, text)| text.contains(&b'\n') || text.contains(&b'\r')) {
        return Err(mistake(format!("{what} has a line end in it, and would be another request")));
    }
    if fields.iter().any(|field| !field.contains(&b':')) {
        return Err(mistake("-H needs a name and a value").with_help("such as -H 'X-API-Version: v2'"));
    }
    let (host, target) = split(url).ok_or_else(|| {
        let wrong = mistake("a URL begins with `https://`, `http://` or `/`");
        wrong.with_help("such as https://example.com/path, or /path alone")
    })?;
    let is_host = |field: &&Vec<u8>| field.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"host:"));
    let is_named = fields.iter().any(|field| is_host(&field));
    let host = host.filter(|_| !is_named);
    let slash: &[u8] = if target.starts_with(b"/") || target == b"*" { b"" } else { b"/" };
    // A request without a host is one of HTTP/1.0, or none at all.
    let version: &[u8] = if is_named || host.is_some() { b" HTTP/1.1\r\n" } else { b" HTTP/1.0\r\n" };
    let mut head = [method, b" ", slash, target, version].concat();
    if let Some(host) = host {
        head.extend([b"Host: ", host, b"\r\n"].concat());
    }
    for field in fields {
        head.extend_from_slice(field);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    Ok(head)
}

/// Host and target. No client sends the fragment of a URL; what begins with a slash is a target
/// already.
fn split(url: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    if url.starts_with(b"/") || url == b"*" {
        return Some((None, url));
    }
    let mut schemes = [&b"https://"[..], b"http://"].into_iter();
    let rest = schemes.find_map(|scheme| {
        let (start, rest) = url.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })?;
    let rest = rest.split(|&byte| byte == b'#').next().unwrap_or_default();
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (host, target) = rest.split_at(end);
    Some((Some(host), target))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str]) -> Result<String, String> {
        match parse(Parser::from_args(words)) {
            Ok(Request::Explain(asked)) => Ok(String::from_utf8(asked.head).unwrap()),
            Ok(Request::Help) => Ok("help".to_owned()),
            Err(mistake) => Err(mistake.message),
        }
    }

    #[test]
    fn a_url_becomes_the_request_that_a_client_would_send() {
        let table: [(&[&str], &str); 9] = [
            (&["GET", "https://a.example"], "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"),
            (&["GET", "HTTP://A:81?q#f"], "GET /?q HTTP/1.1\r\nHost: A:81\r\n\r\n"),
            (&["GET", "http://a/x//y?z=/#"], "GET /x//y?z=/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            (&["PUT", "/x"], "PUT /x HTTP/1.0\r\n\r\n"),
            (&["OPTIONS", "*"], "OPTIONS * HTTP/1.0\r\n\r\n"),
            (&["PUT", "/x", "-H", "host:b"], "PUT /x HTTP/1.1\r\nhost:b\r\n\r\n"),
            (&["GET", "-HHost: b", "http://a/"], "GET / HTTP/1.1\r\nHost: b\r\n\r\n"),
            (&["-H", "A: 1", "GET", "/", "-HB: 2"], "GET / HTTP/1.0\r\nA: 1\r\nB: 2\r\n\r\n"),
            (&["GET", "-h"], "help"),
        ];
        for (words, expected) in table {
            assert_eq!(check(words).as_deref(), Ok(expected), "{words:?}");
        }
    }

    #[test]
    fn what_is_no_request_is_told_without_what_may_be_secret() {
        let table: [(&[&str], &str); 10] = [
            (&["GET", "/", "--from", "10.0.0.0/8"], "--from must be an IP address, not `10.0.0.0/8`"),
            (&[], "a METHOD and a URL are needed"),
            (&["GET"], "a METHOD and a URL are needed"),
            (&["GET", "/", "/"], "unexpected argument `/`"),
            (&["GET", "a.example/"], "a URL begins with `https://`, `http://` or `/`"),
            (&["GET", "ftp://a/"], "a URL begins with `https://`, `http://` or `/`"),
            (&["GET", "/", "-H", "X-Admin-Token=secret"], "-H needs a name and a value"),
            (&["GET", "/", "-H", "A: 1\r\nB: 2"], "-H has a line end in it, and would be another request"),
            (&["GET\n", "/"], "METHOD has a line end in it, and would be another request"),
            (&["GET", "/", "--al"], "unknown option `--al`"),
        ];
        for (words, expected) in table {
            assert_eq!(check(words).map_err(|message| message == expected), Err(true), "{words:?}");
        }
    }
}
