//! Any text as a configuration: it is refused with places that are in it, or it runs. After a
//! NUL come variables of the environment, one a line.

use std::path::PathBuf;

use warpdrive::config::{Diagnostic, File, Sources};
use warpdrive::http::fields::Fields;
use warpdrive::http::target;
use warpdrive::plan::{self, Action, Plan, RouteId};
use warpdrive::route::{Captures, Question, Sender, location};

use crate::split::Choice;

const NAME: &str = "w.toml";

pub fn check(input: &[u8]) {
    let (text, variables) = match input.iter().position(|byte| *byte == 0) {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &b""[..]),
    };
    let text = String::from_utf8_lossy(text).into_owned();
    let file = (input.first() != Some(&0)).then(|| File { path: PathBuf::from(NAME), text: text.clone() });
    let variables = String::from_utf8_lossy(variables);
    let environment = variables.lines().filter_map(|line| line.split_once('='));
    let environment = environment.map(|(name, value)| (format!("WARPDRIVE_{name}"), value.to_owned()));
    let sources = Sources { file, environment: environment.collect(), ..Sources::default() };
    assert_eq!(Sources::decode(&sources.encode()).as_ref(), Ok(&sources));
    match plan::load(&sources) {
        Ok(loaded) => {
            assert!(!loaded.warnings.iter().any(Diagnostic::is_error));
            check_places(&text, &loaded.warnings);
            check_plan(&loaded.plan, &text);
        }
        Err(diagnostics) => {
            assert!(diagnostics.iter().any(Diagnostic::is_error), "it is refused for a reason");
            check_places(&text, &diagnostics);
        }
    }
}

/// Every `file:line:column` that is told is in the text.
fn check_places(text: &str, diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        let told = diagnostic.to_string();
        assert!(!diagnostic.message.is_empty() && !told.is_empty());
        // A message may quote the text, so only the place that is told first is looked at.
        let Some((_, place)) = told.split_once(&format!("{NAME}:")) else { continue };
        let mut numbers = place.splitn(3, ':').map(|number| number.parse::<usize>());
        let (Some(Ok(line)), Some(Ok(column))) = (numbers.next(), numbers.next()) else { continue };
        let written = text.split('\n').nth(line.wrapping_sub(1));
        let width = written.map(|written| written.chars().count());
        let is_within = width.is_some_and(|width| (1..=width + 1).contains(&column));
        assert!(is_within, "{line}:{column} is not in the text: {told}");
    }
}

/// What runs is complete, and its tree takes any question.
fn check_plan(plan: &Plan, text: &str) {
    assert!(plan.server.worker_threads > 0 && plan.limits.fields > 0);
    assert_eq!(plan.tree.len(), plan.routes.len());
    let mut choice = Choice::of(text.as_bytes());
    let words: Vec<&str> = text.split(['"', '\'', '\n']).filter(|word| word.is_ascii()).collect();
    let (fields, mut scratch) = (Fields::default(), plan.tree.scratch());
    for _ in 0..8 {
        let mut word = || words.get(choice.below(words.len())).copied().unwrap_or("/");
        let (host, path) = (word().as_bytes(), word().as_bytes());
        let canonical = &target::canonicalise(path);
        let sender = Sender::default();
        let question =
            Question { method: b"GET", host, canonical, path, query: b"", fields: &fields, sender };
        if let Some(id) = plan.tree.decide(&question, &mut scratch) {
            check_route(plan, *id, &question);
        }
    }
}

/// What a route makes of a request has no end of a line in it, and its path is in normal form.
fn check_route(plan: &Plan, id: RouteId, question: &Question<'_>) {
    let route = &plan.routes[id.0 as usize];
    let (mut captures, mut out) = (Captures::default(), Vec::new());
    if let Some(condition) = &route.captured {
        captures.take(0, condition, question);
    }
    match &route.action {
        Action::Forward(forward) => {
            assert!((forward.upstream.0 as usize) < plan.upstreams.len());
            // Of a path that a request could have.
            let path = question.path;
            let is_normal =
                path.starts_with(b"/") && target::normalise(path).is_ok_and(|normal| normal == path);
            if is_normal && forward.path.apply(question, &captures, &mut out).is_ok() {
                assert!(out.starts_with(b"/"), "{}", out.escape_ascii());
                assert_eq!(target::normalise(&out).as_ref(), Ok(&out), "{}", out.escape_ascii());
            }
        }
        Action::Redirect(redirect) => {
            location(&redirect.to, question, &captures, &mut out);
            assert!(out.starts_with(b"/") || out.starts_with(b"http") || out == question.path);
        }
        Action::Respond(respond) => assert!((200..600).contains(&respond.status.0)),
        // Refused by name: the stages are built without components.
        Action::Workload(_) => unreachable!("a workload without the feature `wasm`"),
    }
}
