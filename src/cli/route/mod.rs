//! `warpdrive route METHOD URL`: what becomes of a request, and why. It is read, decided and
//! written as a running process would, and goes nowhere.
//!
//! Exit code 0: a route takes it. 1: none does, or the configuration is not valid. 2: the
//! arguments are wrong.

use std::process::ExitCode;
use std::sync::Arc;

use lexopt::Parser;

pub use self::arguments::head as request_head;
use self::arguments::{Asked, Request};
use super::check::{self, Colour, Format};
use super::{env, json as shown};
use crate::config::{self, Config, Sources};
use crate::plan::explain::{Lost, lost};
use crate::plan::{self, Plan};
use crate::proxy::explain::{self, CLIENT, Explanation, STAMP};

mod arguments;
mod json;
mod text;

/// The word that leads here.
pub const VERB: &str = "route";

const HELP: &str = "\
What becomes of a request: which route takes it, why those before it do not, what goes to the
upstream or is answered, and the timeouts. Nothing is sent.

Usage: warpdrive route [-c FILE] METHOD URL [-H 'NAME: VALUE']… [--from ADDRESS]

URL is https://host[:port]/path?query, or http://…. A path alone is a request without a host, as
only HTTP/1.0 has it. -H adds a field, any number of times; -H 'Host: …' takes the place of the
URL's host. Methods are case-sensitive.

--from ADDRESS     the address that it comes from: a client's, or that of a proxy in front, which
                   then tells the client in -H 'X-Forwarded-For: …', and the scheme of the URL if
                   its word counts. From anyone else a request is one of http
--all              every earlier route, also if more than 20 are for other hosts or paths
--format json      the same as JSON, with every earlier route
--set KEY=VALUE, --color auto|always|never    as check has them

It ends with 0 if a route takes the request, with 1 if none does or the configuration is not
valid, and with 2 if the arguments are wrong.";

/// What there is to tell.
struct Told<'a> {
    config: &'a Config,
    plan: &'a Plan,
    explanation: &'a Explanation,
    /// In document order.
    lost: &'a [Lost],
}

/// Does what the arguments after `route` say.
pub fn main(arguments: Parser) -> ExitCode {
    match arguments::parse(arguments) {
        Ok(Request::Explain(asked)) => tell(&asked),
        Ok(Request::Help) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(mistake) => {
            check::print(&[mistake], Colour::Auto.choose());
            eprintln!("`warpdrive route --help` shows how it is asked");
            ExitCode::from(2)
        }
    }
}

fn tell(asked: &Asked) -> ExitCode {
    let colours = asked.options.colour.choose();
    let sources = match Sources::load(asked.options.file.as_deref(), &asked.options.set) {
        Ok(sources) => sources,
        Err(unreadable) => return check::refuse(&[unreadable], colours),
    };
    // What runs does not keep how it was written.
    let read = plan::load(&sources).and_then(|loaded| Ok((loaded.plan, config::parse(&sources)?.0)));
    let (plan, config) = match read {
        Ok(read) => read,
        Err(mistakes) => return check::refuse(&mistakes, colours),
    };
    let plan = Arc::new(plan);
    let explanation = explain::explain(&plan, &asked.head, asked.caller);
    let rules = plan::rules(&config, &mut Vec::new());
    let question = explanation.question();
    let lost = question.map_or(Vec::new(), |question| lost(&config, &rules, &question, explanation.route));
    let told = Told { config: &config, plan: &plan, explanation: &explanation, lost: &lost };
    let printed = env::print(&match asked.format {
        Format::Human => text::write(&told, asked.is_all),
        Format::Json => shown::visible(&format!("{:#}\n", json::write(&told))),
    });
    match explanation.route {
        Some(_) => printed,
        None => ExitCode::FAILURE,
    }
}

/// A head as text: its first line, and names and values.
fn split(head: &[u8]) -> (String, Vec<(String, String)>) {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    (first, lines.filter_map(field).collect())
}

/// Fields alone.
fn split_fields(lines: &[u8]) -> Vec<(String, String)> {
    String::from_utf8_lossy(lines).split("\r\n").filter_map(field).collect()
}

fn field(line: &str) -> Option<(String, String)> {
    line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// Only a real request has what stands there: the field is ours, and its value a stand-in.
fn is_stand_in(name: &str, value: &str) -> bool {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    if is("X-Forwarded-For") || is("X-Real-IP") {
        return value.rsplit(", ").next() == Some(&CLIENT.to_string());
    }
    is("X-Request-Id") && value.as_bytes() == STAMP.request_id
        || is("X-Request-Start") && value == "t=0"
        || is("Date") && value.ends_with("1970 00:00:00 GMT")
        || is("Server-Timing") && value.starts_with("worker;desc=\"0\"")
}
