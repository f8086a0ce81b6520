//! One of `[[routes]]`: its conditions and its action.

use super::diagnostic::Diagnostic;
use super::table::Table;
use super::{Route, conditions};

const LATER: [&str; 15] = [
    "add_headers",
    "cache",
    "connect_timeout",
    "connect_timeout_secs",
    "files",
    "middleware",
    "rate_limit",
    "read_timeout",
    "read_timeout_secs",
    "redirect",
    "remove_headers",
    "respond",
    "response_headers",
    "rewrite",
    "workload",
];

/// Actions of which a route has one instead of an upstream.
const OTHER_ACTIONS: [&str; 4] = ["files", "redirect", "respond", "workload"];

/// `None`: it cannot be said where the route leads; that is reported.
pub fn read(mut table: Table<'_>) -> Option<Route> {
    let report = table.report();
    let found_before = report.len();
    // For the reader of the file, and of `warpdrive env`.
    table.string("description");
    let hosts = conditions::read_hosts(&mut table);
    let path = conditions::read_path(&mut table);
    let methods = conditions::read_methods(&mut table);
    let fields = conditions::read_fields(&mut table);
    let parameters = conditions::read_parameters(&mut table);
    let strip_prefix = table.boolean("strip_prefix");
    if let Some(strip) = &strip_prefix
        && strip.value
        && !table.has("path_prefix")
    {
        let place = table.key_place("strip_prefix");
        let message = "strip_prefix needs a path_prefix to strip";
        let lone = Diagnostic::error(place.unwrap_or_else(|| strip.place.clone()), message);
        table.report().push(lone.with_help("add path_prefix to this route, or remove strip_prefix"));
    }
    let require_auth = table.boolean("require_auth").filter(|required| required.value);
    let upstream = table.string("upstream");
    if !table.has("upstream") && !OTHER_ACTIONS.iter().any(|key| table.has(key)) {
        let message = "a route needs an upstream";
        let absent = Diagnostic::error(table.place().clone(), message)
            .with_help("add upstream = \"NAME\", the name of one of [upstreams.NAME]");
        table.report().push_unless_torn(absent);
    }
    let place = table.place().clone();
    table.finish(&LATER);
    Some(Route {
        place,
        is_whole: report.len() == found_before,
        hosts,
        path,
        methods,
        fields,
        parameters,
        strip_prefix: strip_prefix.is_some_and(|strip| strip.value),
        require_auth: require_auth.map(|required| required.place),
        upstream: upstream?,
    })
}
