//! Why routes do not take a request: what fails of each, as it is written, and what the request
//! has instead. Asks every rule in turn; the tree is not looked at.

use super::RouteId;
use crate::config::{self, Config, HIDDEN};
use crate::http::fields::{Known, is_same_name};
use crate::http::query::{decoded, parameters};
use crate::route::{Condition, Question, Rule, Verdict};

/// A route that does not take a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub route: RouteId,
    /// The kind of the first condition that fails.
    pub by: By,
    /// The condition, as it is written.
    pub wanted: String,
    /// What the request has: nothing, one value, or several of one name.
    pub had: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    Host,
    Path,
    Method,
    /// With its name.
    Field(String),
    /// With its name.
    Parameter(String),
    Client,
    Scheme,
}

/// Of the routes before `end`, or of all of them, those that do not take the request, in
/// document order. `rules` are those of the routes.
pub fn lost(
    config: &Config,
    rules: &[Rule<RouteId>],
    question: &Question<'_>,
    end: Option<RouteId>,
) -> Vec<Lost> {
    let earlier = rules.iter().take_while(|rule| Some(rule.target) != end);
    earlier.filter_map(|rule| why(&config.routes[rule.target.0 as usize], rule, question)).collect()
}

/// `None`: it takes it.
fn why(route: &config::Route, rule: &Rule<RouteId>, question: &Question<'_>) -> Option<Lost> {
    let (by, wanted, had) = match rule.verdict(question) {
        Verdict::Holds => return None,
        // Only a client of HTTP/1.0 can leave it out.
        Verdict::Host if question.host.is_empty() => (By::Host, route.host_text(), Vec::new()),
        Verdict::Host => (By::Host, route.host_text(), vec![text(question.host)]),
        Verdict::Path => (By::Path, route.path_text(), vec![text(question.canonical)]),
        Verdict::Condition(Condition::Method(_)) => {
            (By::Method, route.methods_text(), vec![text(question.method)])
        }
        Verdict::Condition(failing @ Condition::Field(name, _)) => {
            let is_hidden = Known::of(name.as_bytes()) == Known::XAdminToken;
            let named = question.fields.iter().filter(|one| is_same_name(one.name, name.as_bytes()));
            let had = named.map(|one| if is_hidden { HIDDEN.to_owned() } else { text(one.value) }).collect();
            let written = written(rule, failing, &route.fields);
            (By::Field(written.name.clone()), written.text("header", is_hidden), had)
        }
        Verdict::Condition(Condition::Client(_)) => {
            (By::Client, route.clients_text(), vec![question.sender.client.to_string()])
        }
        Verdict::Condition(Condition::Scheme(_)) => {
            (By::Scheme, route.scheme_text(), vec![question.sender.scheme.text().to_owned()])
        }
        Verdict::Condition(failing @ Condition::Parameter(name, _)) => {
            let named = parameters(question.query).filter(|(key, _)| decoded(key).eq(name.bytes()));
            let had = named.map(|(_, value)| text(&decoded(value).collect::<Vec<u8>>())).collect();
            let written = written(rule, failing, &route.parameters);
            (By::Parameter(written.name.clone()), written.text("query", false), had)
        }
    };
    Some(Lost { route: rule.target, by, wanted, had })
}

/// How one of the conditions of a rule is written: those of its kind are in the order of `all`.
fn written<'a>(
    rule: &Rule<RouteId>,
    condition: &Condition,
    all: &'a [config::Condition],
) -> &'a config::Condition {
    let kind = std::mem::discriminant(condition);
    let mut same = rule.conditions.iter().filter(|one| std::mem::discriminant(*one) == kind);
    let index = same.position(|one| one == condition).expect("the condition is one of the rule's");
    &all[index]
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
