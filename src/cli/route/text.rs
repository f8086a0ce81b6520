//! An explanation for a reader.

use std::fmt::Write;

use super::{Told, is_stand_in, split, split_fields};
use crate::config::{self, visible};
use crate::plan::explain::{By, Lost};
use crate::plan::{Action, Forward, RouteId};
use crate::proxy::explain::{Answer, Done};

/// More routes than that for other hosts or paths are counted, and not named.
const NAMED_MAX: usize = 20;

/// The whole answer, with all earlier routes if it `is_all`.
pub fn write(told: &Told<'_>, is_all: bool) -> String {
    let mut out = String::new();
    summary(told, &mut out);
    if let Some(done) = &told.explanation.done {
        let is_denied = told.explanation.refused.is_some();
        write_done(told, done, is_denied, &mut out);
    }
    write_lost(told, is_all, &mut out);
    out
}

fn summary(told: &Told<'_>, out: &mut String) {
    let explanation = told.explanation;
    if let Some(request) = &explanation.request {
        let text = |span| String::from_utf8_lossy(request.text(span)).into_owned();
        let target = text(request.target.path) + &text(request.target.query);
        let host = match text(request.target.host) {
            host if host.is_empty() => "without a host (HTTP/1.0)".to_owned(),
            host => format!("of {host}"),
        };
        line(out, "request", &format!("{} {target} {host}", text(request.method_text)));
    }
    if let Some(route) = explanation.route {
        line(out, "route", &named(told, route));
        let steps = &told.plan.routes[route.0 as usize].steps;
        if !steps.is_empty() && explanation.refused.is_none() {
            line(out, "token", "is right");
        }
    }
    if let Some(refused) = &explanation.refused {
        line(out, "answer", &format!("{}: {}", status(&refused.answer), refused.reason));
    }
    match explanation.route.map(|route| &told.plan.routes[route.0 as usize].action) {
        Some(Action::Forward(forward)) => write_upstream(told, forward, out),
        Some(Action::Workload(to)) => {
            let workload = &told.plan.wasm.workloads[to.workload.index()];
            line(out, "workload", &workload.name);
        }
        Some(Action::Redirect(_) | Action::Respond(_)) | None => {}
    }
}

fn write_upstream(told: &Told<'_>, forward: &Forward, out: &mut String) {
    let upstream = &told.plan.upstreams[forward.upstream.0 as usize];
    let instances: Vec<String> = upstream.instances.iter().map(ToString::to_string).collect();
    line(out, "upstream", &format!("{} at {}", upstream.name, instances.join(", ")));
    let (connect, read, write) = (forward.connect_timeout, forward.read_timeout, upstream.write_timeout);
    line(out, "timeouts", &format!("connect {connect:?}, read {read:?}, write {write:?}"));
}

fn write_done(told: &Told<'_>, done: &Done, is_denied: bool, out: &mut String) {
    let if_so = if is_denied { "With the token it would be " } else { "" };
    match done {
        Done::Forwarded { head, response } => {
            heading(out, &sentence(if_so, "forwarded as"));
            write_head(head, out);
            write_changes(told, response, out);
        }
        Done::Answered(answer) => {
            heading(out, &sentence(if_so, "answered with"));
            write_head(&answer.head, out);
            if !answer.body.is_empty() {
                out.push('\n');
                for text in String::from_utf8_lossy(&answer.body).lines() {
                    indented(out, text);
                }
            }
        }
    }
}

/// What the route changes in the response of the upstream.
fn write_changes(told: &Told<'_>, set: &[u8], out: &mut String) {
    let Some(route) = told.explanation.route else { return };
    let changes = &told.plan.routes[route.0 as usize].response;
    if changes.is_empty() {
        return;
    }
    heading(out, "Changed in the response");
    for name in changes.only_removed() {
        indented(out, &format!("without {name}"));
    }
    for (name, value) in split_fields(set) {
        indented(out, &format!("{name}: {value}"));
    }
}

fn write_head(head: &[u8], out: &mut String) {
    let (first, fields) = split(head);
    indented(out, &first);
    for (name, value) in fields {
        let mark = if is_stand_in(&name, &value) { "  (stand-in)" } else { "" };
        indented(out, &format!("{name}: {value}{mark}"));
    }
}

fn write_lost(told: &Told<'_>, is_all: bool, out: &mut String) {
    let elsewhere = |lost: &&Lost| matches!(lost.by, By::Host | By::Path);
    let count = told.lost.iter().filter(elsewhere).count();
    let is_short = count > NAMED_MAX && !is_all;
    if told.lost.is_empty() {
        return;
    }
    let earlier = if told.explanation.route.is_some() { "earlier " } else { "" };
    heading(out, &sentence("", &format!("{earlier}routes that do not take it")));
    let shown: Vec<&Lost> = told.lost.iter().filter(|lost| !is_short || !elsewhere(lost)).collect();
    for lost in &shown {
        indented(out, &format!("{}: {}, but {}", named(told, lost.route), lost.wanted, had(lost)));
    }
    if is_short {
        let and = if shown.is_empty() { "" } else { "and " };
        indented(out, &format!("{and}{count} {earlier}routes are for other hosts or paths"));
    }
}

fn had(lost: &Lost) -> String {
    let quoted = |names: &[String]| format!("\"{}\"", names.join("\", \""));
    match (&lost.by, lost.had.as_slice()) {
        (By::Host, []) => "no host is named".to_owned(),
        (By::Host, had) => format!("the host is {}", had.concat()),
        (By::Path, had) => format!("the path is {}", had.concat()),
        (By::Method, had) => format!("the method is {}", had.concat()),
        (By::Client, had) => format!("the client is {}", had.concat()),
        (By::Scheme, had) => format!("the scheme is {}", had.concat()),
        (By::Field(name), []) => format!("there is no field {name}"),
        (By::Parameter(name), []) => format!("there is no parameter {name}"),
        (By::Field(name) | By::Parameter(name), had) => format!("{name} is {}", quoted(had)),
    }
}

/// `file:line`, and what the operator calls it.
fn named(told: &Told<'_>, id: RouteId) -> String {
    let route: &config::Route = &told.config.routes[id.0 as usize];
    let place = route.place.file_and_line();
    match &route.description {
        Some(description) => format!("{place} ({description})"),
        None => place,
    }
}

fn status(answer: &Answer) -> String {
    format!("{} {}", answer.status.0, answer.status.phrase())
}

fn sentence(start: &str, rest: &str) -> String {
    let text = format!("{start}{rest}");
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}

fn line(out: &mut String, label: &str, text: &str) {
    writeln!(out, "{label:10}{}", visible(text)).expect("writing to a string cannot fail");
}

fn heading(out: &mut String, text: &str) {
    writeln!(out, "\n{text}:").expect("writing to a string cannot fail");
}

fn indented(out: &mut String, text: &str) {
    writeln!(out, "  {}", visible(text)).expect("writing to a string cannot fail");
}
