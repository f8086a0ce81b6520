//! Where the guards of a route can be walked around: by a spelling of its path that an application
//! may take for the same, and that another route to the same application takes without them.
//!
//! Case and suffixes are the application's own business, so such requests are not refused; the
//! operator is warned instead.

use super::{Action, Guard, Route, RouteId};
use crate::config::{self, Config, Diagnostic};
use crate::http::fields::Fields;
use crate::route::cover::lead;
use crate::route::{Condition, HostPattern, PathCondition, Question, Rule, Sender, Tree};

/// Asks the tree about other spellings of each guarded path, once all routes are right. `rules` are
/// those of the routes.
pub fn warn_of_gaps(
    config: &Config,
    rules: &[Rule<RouteId>],
    routes: &[Route],
    tree: Option<&Tree<RouteId>>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Some(tree) = tree.filter(|_| routes.len() == config.routes.len()) else { return };
    let (mut scratch, fields) = (tree.scratch(), Fields::default());
    for rule in rules {
        let route = &routes[rule.target.0 as usize];
        if route.guards.is_empty() {
            continue;
        }
        let found = spellings(&rule.path).into_iter().find_map(|path| {
            let host = host(rule);
            let (method, canonical) = (method(rule).as_bytes(), path.as_bytes());
            let (host, path) = (host.as_bytes(), canonical);
            let sender = Sender::default();
            let question = Question { method, host, canonical, path, query: b"", fields: &fields, sender };
            let id = *tree.decide(&question, &mut scratch)?;
            let other = &routes[id.0 as usize];
            let is_gap = id > rule.target && is_same_application(route, other) && other.lacks_guard_of(route);
            is_gap.then(|| (String::from_utf8_lossy(path).into_owned(), id))
        });
        if let Some((path, id)) = found {
            let (guarded, open) = (&config.routes[rule.target.0 as usize], &config.routes[id.0 as usize]);
            diagnostics.push(gap(config, guarded, &route.guards, open, &path, &lead(&rule.path)));
        }
    }
}

fn gap(
    config: &Config,
    guarded: &config::Route,
    guards: &[Guard],
    open: &config::Route,
    path: &str,
    lead: &str,
) -> Diagnostic {
    let guard = match guards.first() {
        Some(Guard::Middleware(id)) => {
            format!("middleware `{}`", config.wasm.filters[id.0 as usize].guest.name.value)
        }
        _ => "token".to_owned(),
    };
    let message = format!("`{path}` reaches the same application without the {guard} of this route");
    let place = guarded.path.as_ref().map_or(&guarded.place, |path| &path.place);
    let gap = Diagnostic::warning(place.clone(), message);
    let gap = gap.with_related(open.place.clone(), "this route takes it");
    gap.with_help(format!(
        "an application may ignore case or a slash at the end, or take `.json` for a format: \
         path_regex = \"(?i)^{}\" guards every path that begins so",
        regex_syntax::escape(lead)
    ))
}

/// Other spellings of what the path begins with: in other case, with a suffix, and with a slash.
fn spellings(path: &PathCondition) -> Vec<String> {
    let lead = lead(path);
    let Some(start) = lead.rfind('/').filter(|_| lead.len() > 1) else { return Vec::new() };
    let (before, last) = lead.split_at(start);
    let upper = last.to_ascii_uppercase();
    let other = if upper == last { last.to_ascii_lowercase() } else { upper };
    let spelled = [format!("{before}{other}"), format!("{lead}.json"), format!("{lead}/")];
    spelled.into_iter().filter(|one| !path.holds(one.as_bytes())).collect()
}

/// A host that the rule holds for.
fn host<T>(rule: &Rule<T>) -> String {
    match rule.hosts.first() {
        None => String::new(),
        Some(HostPattern::Exact(name)) => name.clone(),
        Some(HostPattern::Below(end)) => format!("a{end}"),
    }
}

fn method<T>(rule: &Rule<T>) -> &str {
    let methods = rule.conditions.iter().find_map(|condition| match condition {
        Condition::Method(methods) => methods.names().first(),
        _ => None,
    });
    methods.map_or("GET", String::as_str)
}

fn is_same_application(one: &Route, other: &Route) -> bool {
    match (&one.action, &other.action) {
        (Action::Forward(one), Action::Forward(other)) => one.upstream == other.upstream,
        (Action::Workload(one), Action::Workload(other)) => one.workload == other.workload,
        _ => false,
    }
}
