//! An explanation for a program.
//!
//! Names are stable: a key may be added, none changes its meaning or goes.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Told, is_stand_in, split, split_fields};
use crate::plan::explain::{By, Lost};
use crate::plan::{Action, Forward, RouteId};
use crate::proxy::explain::{Answer, Done};

/// The whole answer. What there is not is `null`.
pub fn write(told: &Told<'_>) -> Value {
    let explanation = told.explanation;
    let route = explanation.route;
    let action = route.map(|id| &told.plan.routes[id.0 as usize].action);
    let forward = match (action, &explanation.done) {
        (Some(Action::Forward(forward)), Some(Done::Forwarded { head, response })) => {
            forwarded(told, forward, head, response)
        }
        _ => Value::Null,
    };
    let workload = match (action, &explanation.done) {
        (Some(Action::Workload(to)), Some(Done::Forwarded { head, response })) => {
            let mut value = passed_on(told, head, response);
            value["workload"] = json!(told.plan.wasm.workloads[to.workload.index()].name);
            value
        }
        _ => Value::Null,
    };
    let answered = match &explanation.done {
        Some(Done::Answered(answered)) => answer(answered),
        Some(Done::Forwarded { .. }) | None => Value::Null,
    };
    let refused = explanation.refused.as_ref().map(|refused| {
        let mut value = json!({ "reason": refused.reason, "is_denied": refused.is_denied });
        value["answer"] = answer(&refused.answer);
        value
    });
    let request = explanation.request.as_ref().map(|request| {
        let text = |span| String::from_utf8_lossy(request.text(span)).into_owned();
        json!({
            "method": text(request.method_text),
            "host": text(request.target.host),
            "path": text(request.target.path),
            "query": text(request.target.query),
        })
    });
    json!({
        "request": request,
        "route": route.map(|id| named(told, id)),
        "requires_token": route.is_some_and(|id| !told.plan.routes[id.0 as usize].steps.is_empty()),
        "refused": refused,
        "forward": forward,
        "workload": workload,
        "answer": answered,
        "lost": told.lost.iter().map(|one| lost(told, one)).collect::<Value>(),
    })
}

/// A route as `file:line`, both apart as well, and in the operator's words.
fn named(told: &Told<'_>, id: RouteId) -> Value {
    let route = &told.config.routes[id.0 as usize];
    json!({
        "place": route.place.file_and_line(),
        "file": route.place.file(),
        "line": route.place.line_and_column().map(|(line, _)| line),
        "description": route.description,
    })
}

fn forwarded(told: &Told<'_>, forward: &Forward, head: &[u8], response: &[u8]) -> Value {
    let upstream = &told.plan.upstreams[forward.upstream.0 as usize];
    let instances = upstream.instances.iter().map(|instance| json!(instance.to_string()));
    let mut value = json!({
        "upstream": upstream.name,
        "instances": instances.collect::<Value>(),
        "connect_timeout_ms": millis(forward.connect_timeout),
        "read_timeout_ms": millis(forward.read_timeout),
        "write_timeout_ms": millis(upstream.write_timeout),
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut value, passed_on(told, head, response)) {
        all.extend(more);
    }
    value
}

/// What an upstream or a component gets, and what is changed of its response.
fn passed_on(told: &Told<'_>, head: &[u8], response: &[u8]) -> Value {
    let (line, request) = split(head);
    let changes = told.explanation.route.map(|id| &told.plan.routes[id.0 as usize].response);
    let removed: Vec<&str> = changes.into_iter().flat_map(|changes| changes.only_removed()).collect();
    json!({
        "request_line": line,
        "fields": fields(&request),
        "response": { "removed": removed, "set": fields(&split_fields(response)) },
    })
}

fn answer(answer: &Answer) -> Value {
    let (line, found) = split(&answer.head);
    let location = found.iter().find(|(name, _)| name.eq_ignore_ascii_case("location"));
    json!({
        "status": answer.status.0,
        "location": location.map(|(_, value)| value),
        "status_line": line,
        "fields": fields(&found),
        "body": String::from_utf8_lossy(&answer.body),
    })
}

fn fields(fields: &[(String, String)]) -> Value {
    let field = |(name, value): &(String, String)| match is_stand_in(name, value) {
        true => json!({ "name": name, "value": value, "is_stand_in": true }),
        false => json!({ "name": name, "value": value }),
    };
    fields.iter().map(field).collect()
}

fn lost(told: &Told<'_>, lost: &Lost) -> Value {
    let (by, name) = match &lost.by {
        By::Host => ("host", None),
        By::Path => ("path", None),
        By::Method => ("method", None),
        By::Client => ("client", None),
        By::Scheme => ("scheme", None),
        By::Field(name) => ("field", Some(name)),
        By::Parameter(name) => ("parameter", Some(name)),
    };
    let mut value = named(told, lost.route);
    value["by"] = json!(by);
    value["name"] = json!(name);
    value["wanted"] = json!(lost.wanted);
    value["had"] = json!(lost.had);
    value
}

fn millis(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)
}
