//! One of `[[routes]]`: its conditions and its action.

use super::table::Table;
use super::{Route, action, conditions, guest};

const LATER: [&str; 3] = ["cache", "files", "rate_limit"];

/// Actions that a route can have instead of those that work.
pub const OTHER_ACTIONS: [&str; 1] = ["files"];

/// `None`: it cannot be said where the route leads; that is reported.
pub fn read(mut table: Table<'_>) -> Option<Route> {
    let report = table.report();
    let found_before = report.len();
    let description = table.string("description");
    let hosts = conditions::read_hosts(&mut table);
    let path = conditions::read_path(&mut table);
    let methods = conditions::read_methods(&mut table);
    let fields = conditions::read_fields(&mut table);
    let parameters = conditions::read_parameters(&mut table);
    let clients = conditions::read_clients(&mut table);
    let scheme = conditions::read_scheme(&mut table);
    let require_auth = table.boolean("require_auth").filter(|required| required.value);
    let filters = table.list("middleware", guest::name);
    conditions::refuse_empty(&table, "middleware", "name");
    let response_fields = action::read_response_fields(&mut table);
    let log = table.boolean("log").map(|log| log.value);
    let action = action::read(&mut table);
    let place = table.place().clone();
    table.finish(&LATER);
    Some(Route {
        place,
        description: description.map(|description| description.value),
        is_whole: report.len() == found_before,
        hosts,
        path,
        methods,
        fields,
        parameters,
        clients,
        scheme,
        require_auth: require_auth.map(|required| required.place),
        filters: filters.unwrap_or_default(),
        response_fields,
        log,
        action: action?,
    })
}
