//! Routes as they are written to [`Rule`]s: patterns and expressions are compiled here.

use super::RouteId;
use crate::config::{self, Config, Diagnostic, Place, Written};
use crate::http::forwarding::{Network, Scheme};
use crate::http::target::{self, canonicalise};
use crate::route::{
    Condition, HostPattern, Methods, PathCondition, Pattern, Program, ProgramFault, Rule, Test, Tree,
    field_name,
};

/// The routes whose conditions could all be read and compiled, in document order.
pub fn rules(config: &Config, diagnostics: &mut Vec<Diagnostic>) -> Vec<Rule<RouteId>> {
    let whole = config.routes.iter().zip(0..).filter(|(route, _)| route.is_whole);
    whole.filter_map(|(route, id)| rule(route, RouteId(id), diagnostics)).collect()
}

/// `None`: the expressions are too large together; that is reported.
pub fn tree(
    config: &Config,
    rules: Vec<Rule<RouteId>>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Tree<RouteId>> {
    let fault = match Tree::compile(rules) {
        Ok(tree) => return Some(tree),
        Err(fault) => fault,
    };
    let mut paths = config.routes.iter().filter_map(|route| route.path.as_ref());
    let regex = paths.find(|path| matches!(path.value, config::Path::Regex(_)));
    let place = regex.map_or(&config.origin, |path| &path.place);
    let message = format!("path_regex of all routes cannot be used together: {}", fault.message);
    let help = "write fewer of them, or shorter ones; other kinds of path take far less";
    diagnostics.push(Diagnostic::error(place.clone(), message).with_help(help));
    None
}

pub(super) fn network(written: &config::Network) -> Network {
    Network { address: written.address, bits: written.bits }
}

/// Reports all that is wrong with the route's texts, not only the first.
fn rule(route: &config::Route, target: RouteId, diagnostics: &mut Vec<Diagnostic>) -> Option<Rule<RouteId>> {
    let path = path_condition(route.path.as_ref(), diagnostics);
    let methods = match route.methods.as_slice() {
        [] => None,
        methods => Some(Condition::Method(Methods::new(methods.to_vec()))),
    };
    let mut conditions: Vec<Option<Condition>> = methods.map(Some).into_iter().collect();
    for field in &route.fields {
        let test = test(&field.test, diagnostics);
        conditions.push(test.map(|test| Condition::Field(field_name(&field.name), test)));
    }
    for parameter in &route.parameters {
        let test = test(&parameter.test, diagnostics);
        conditions.push(test.map(|test| Condition::Parameter(parameter.name.clone(), test)));
    }
    if !route.clients.is_empty() {
        let networks = route.clients.iter().map(network);
        conditions.push(Some(Condition::Client(networks.collect())));
    }
    conditions.extend(route.scheme.map(|scheme| {
        Some(Condition::Scheme(match scheme {
            config::Scheme::Http => Scheme::Http,
            config::Scheme::Https => Scheme::Https,
        }))
    }));
    let hosts = route.hosts.iter().map(|host| match host {
        config::Host::Exact(name) => HostPattern::Exact(name.clone()),
        config::Host::Below(end) => HostPattern::Below(end.clone()),
    });
    let conditions = conditions.into_iter().collect::<Option<_>>()?;
    Some(Rule { hosts: hosts.collect(), path: path?, conditions, target })
}

fn path_condition(
    path: Option<&Written<config::Path>>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<PathCondition> {
    let Some(path) = path else {
        return Some(PathCondition::Any);
    };
    match &path.value {
        config::Path::Exact(path) => Some(PathCondition::exact(path)),
        config::Path::Prefix(path) => Some(PathCondition::prefix(path)),
        config::Path::Pattern(text) => match Pattern::parse(text) {
            Ok(pattern) => Some(PathCondition::Pattern(pattern)),
            Err(fault) => {
                let message = format!("path is not a pattern: {fault}");
                let help = "such as \"/user/{id}\" or \"/files/{*rest}\"";
                diagnostics.push(Diagnostic::error(path.place.clone(), message).with_help(help));
                None
            }
        },
        config::Path::Regex(text) => {
            warn_of_escape(text, &path.place, diagnostics);
            let program = program("path_regex", text, &path.place, diagnostics);
            program.map(PathCondition::Regex)
        }
    }
}

/// An expression is compared with paths in canonical form, so it can wait for an escape in vain.
fn warn_of_escape(text: &str, place: &Place, diagnostics: &mut Vec<Diagnostic>) {
    for (at, _) in text.match_indices('%') {
        let Some(escape) = text.get(at..at + 3) else { continue };
        let canonical = target::normalise(format!("/x{escape}").as_bytes()).map(|path| canonicalise(&path));
        let Some(canonical) = canonical.ok().and_then(|path| String::from_utf8(path).ok()) else { continue };
        let canonical = &canonical[2..];
        if canonical == escape {
            continue;
        }
        let message = format!("path_regex is compared with paths in which {escape} is `{canonical}`");
        let place = place.within(text, &(at..at + 3)).unwrap_or_else(|| place.clone());
        let help = format!("write `{}`", regex_syntax::escape(canonical));
        diagnostics.push(Diagnostic::warning(place, message).with_help(help));
    }
}

fn test(test: &config::Test, diagnostics: &mut Vec<Diagnostic>) -> Option<Test> {
    match test {
        config::Test::Present => Some(Test::Present),
        config::Test::Absent => Some(Test::Absent),
        config::Test::Equals(value) => Some(Test::Equals(value.clone())),
        config::Test::Matches(regex) => {
            program("value_regex", &regex.value, &regex.place, diagnostics).map(Test::Matches)
        }
    }
}

fn program(key: &str, text: &str, place: &Place, diagnostics: &mut Vec<Diagnostic>) -> Option<Program> {
    let ProgramFault { message, span } = match Program::parse(text) {
        Ok(program) => return Some(program),
        Err(fault) => fault,
    };
    let Some(span) = span else {
        let message = format!("{key} is too large: {message}");
        let help = "write a shorter one; a counted repetition such as {1000} is written out";
        diagnostics.push(Diagnostic::error(place.clone(), message).with_help(help));
        return None;
    };
    let message = format!("{key} is not a regular expression: {message}");
    let diagnostic = match place.within(text, &span) {
        Some(inside) => Diagnostic::error(inside, message).with_label("here"),
        None => Diagnostic::error(place.clone(), message),
    };
    diagnostics.push(diagnostic);
    None
}
