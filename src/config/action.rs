//! What a route does with a request: forward it, and what is changed on the way; send the client
//! elsewhere; answer.
//!
//! Must not know: which parts of the request a template may have; who compiles it says that.

use super::diagnostic::Diagnostic;
use super::report::Kind;
use super::table::Table;
use super::value::{self, Wanted, wanted};
use super::{Action, FieldChanges, Forward, PathChange, Redirect, Respond, ToWorkload, Written};
use super::{conditions, route};

/// A body of more than this belongs in a file.
const BODY_MAX: usize = 64 << 10;

/// Statuses that send a client elsewhere (RFC 9110 15.4): with 303 it is to ask by GET, with 307
/// and 308 by the same method; 301 and 308 are for good.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
const REDIRECT: u16 = 302;
const RESPOND: u16 = 200;

/// Statuses whose responses have no body (RFC 9110 15.3.5, 15.3.6, 15.4.5).
const BODILESS: [u16; 3] = [204, 205, 304];

/// What of a route changes what is passed on: to an upstream, or to a workload.
const OF_WHAT_IS_PASSED_ON: [&str; 4] = ["strip_prefix", "rewrite", "add_headers", "remove_headers"];

/// What of a route is of use only if there is an upstream.
const OF_AN_UPSTREAM: [&str; 4] =
    ["connect_timeout", "connect_timeout_secs", "read_timeout", "read_timeout_secs"];

const ACTIONS: [&str; 4] = ["upstream", "workload", "redirect", "respond"];

/// `None`: it cannot be said what the route does; that is reported.
pub fn read(table: &mut Table<'_>) -> Option<Action> {
    let upstream = table.string("upstream");
    let workload = table.string("workload");
    let redirect = read_redirect(table);
    let respond = read_respond(table);
    let forward = Forward {
        path: read_path_change(table),
        fields: FieldChanges {
            set: read_fields(table, "add_headers").set,
            removed: table.list("remove_headers", value::changed_field).unwrap_or_default(),
        },
        connect_timeout: table.duration("connect_timeout"),
        read_timeout: table.duration("read_timeout"),
        upstream: Written::new(String::new(), table.place().clone()),
    };
    conditions::refuse_empty(table, "remove_headers", "name");
    conditions::exclude(table, &ACTIONS);
    if !table.has("upstream") {
        refuse_without_upstream(table);
    }
    match (upstream, workload) {
        (Some(upstream), _) => Some(Action::Forward(Forward { upstream, ..forward })),
        (None, Some(workload)) => {
            let Forward { path, fields, .. } = forward;
            Some(Action::Workload(ToWorkload { workload, path, fields }))
        }
        (None, None) => redirect.map(Action::Redirect).or(respond.map(Action::Respond)),
    }
}

fn refuse_without_upstream(table: &Table<'_>) {
    let Some(action) = ["workload", "redirect", "respond"].into_iter().find(|key| table.has(key)) else {
        if !route::OTHER_ACTIONS.iter().any(|key| table.has(key)) {
            let absent = Diagnostic::error(table.place().clone(), "a route needs an upstream").with_help(
                "add upstream = \"NAME\", the name of one of [upstreams.NAME], or answer with a workload, redirect or respond",
            );
            table.report().push_unless_torn(absent);
        }
        return;
    };
    let passed_on = OF_WHAT_IS_PASSED_ON.into_iter().filter(|_| action != "workload");
    for key in passed_on.chain(OF_AN_UPSTREAM) {
        if let Some(place) = table.key_place(key) {
            let message = format!("{key} changes what is forwarded, and {action} forwards nothing");
            let help = match key {
                "add_headers" => "remove it; fields of the response are set by response_headers",
                _ => "remove it",
            };
            table.report().push(Diagnostic::error(place, message).with_help(help));
        }
    }
}

/// `strip_prefix` or `rewrite`.
fn read_path_change(table: &mut Table<'_>) -> PathChange {
    let strip = table.boolean("strip_prefix");
    let rewrite = table.template("rewrite", value::rewrite);
    if let Some(strip) = strip.filter(|strip| strip.value) {
        let place = table.key_place("strip_prefix").unwrap_or(strip.place);
        if !table.has("path_prefix") {
            let lone = Diagnostic::error(place.clone(), "strip_prefix needs a path_prefix to strip");
            table.report().push(lone.with_help("add path_prefix to this route, or remove strip_prefix"));
        }
        if let Some(rewrite) = table.key_place("rewrite") {
            let both = Diagnostic::error(place, "strip_prefix and rewrite exclude each other")
                .with_related(rewrite, "the other one")
                .with_help("rewrite = \"/\" strips the prefix, too");
            table.report().push(both);
        }
        return PathChange::Strip;
    }
    rewrite.map_or(PathChange::Keep, PathChange::Rewrite)
}

/// `response_headers`: those that are set, and those that are removed.
pub fn read_response_fields(table: &mut Table<'_>) -> FieldChanges {
    read_fields(table, "response_headers")
}

/// A table or a list of tables: `name` and `value`, or, of a response, `remove`.
fn read_fields(table: &mut Table<'_>, key: &str) -> FieldChanges {
    let may_remove = key == "response_headers";
    conditions::refuse_empty(table, key, "table");
    let mut changes = FieldChanges::default();
    for mut part in table.parts(key, Kind::Fields { may_remove }) {
        let name = part.parsed("name", value::changed_field);
        let value = part.template("value", value::field_value);
        let is_removed = may_remove && part.boolean("remove").is_some_and(|remove| remove.value);
        if is_removed {
            conditions::exclude(&part, &["value", "remove"]);
        }
        if !part.has("name") || !(part.has("value") || is_removed) {
            let message = format!("{key} needs a name and a value");
            let help = match may_remove {
                true => {
                    "such as { name = \"NAME\", value = \"VALUE\" }, or { name = \"NAME\", remove = true }"
                }
                false => "such as { name = \"NAME\", value = \"VALUE\" }",
            };
            part.report().push(Diagnostic::error(part.place().clone(), message).with_help(help));
        }
        part.finish(&[]);
        match (name, value) {
            (Some(name), _) if is_removed => changes.removed.push(name),
            (Some(name), Some(value)) => changes.set.push((name, value)),
            _ => {}
        }
    }
    changes
}

fn read_redirect(table: &mut Table<'_>) -> Option<Redirect> {
    let is_there = table.has("redirect");
    let mut table = table.table("redirect")?;
    let to = table.template("to", value::location);
    let status = table.integer::<u16>("status", 300..=399);
    if is_there && !table.has("to") {
        let message = "redirect needs the place to go to";
        let help = "such as to = \"https://${host}${uri}\"";
        table.report().push(Diagnostic::error(table.place().clone(), message).with_help(help));
    }
    if let Some(status) = status.as_ref().filter(|status| !REDIRECTS.contains(&status.value)) {
        let message = format!("status must be 301, 302, 303, 307 or 308, not {}", status.value);
        table.report().error(&status.place, message);
    }
    table.finish(&[]);
    Some(Redirect { to: to?, status: status.map_or(REDIRECT, |status| status.value) })
}

fn read_respond(table: &mut Table<'_>) -> Option<Respond> {
    let is_there = table.has("respond");
    let mut table = table.table("respond")?;
    let status = table.integer::<u16>("status", 200..=599);
    let body = table.parsed("body", body);
    let status = status.map_or(RESPOND, |status| status.value);
    if let Some(body) = body.as_ref().filter(|body| !body.value.is_empty() && BODILESS.contains(&status)) {
        let message = format!("a response with the status {status} has no body");
        table.report().push(Diagnostic::error(body.place.clone(), message).with_help("remove the body"));
    }
    table.finish(&[]);
    is_there.then(|| Respond { status, body: body.map_or(String::new(), |body| body.value) })
}

fn body(text: &str) -> Result<String, Wanted> {
    match text.len() {
        0..=BODY_MAX => Ok(text.to_owned()),
        _ => Err(wanted(format!("at most {} KiB", BODY_MAX >> 10))),
    }
}
