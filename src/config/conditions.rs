//! What a route asks of a request: host, path, methods, fields, parameters, client, scheme.
//!
//! Must not know: what an expression or a pattern may look like; who compiles them says that.

use super::diagnostic::{Diagnostic, Place};
use super::report::Kind;
use super::table::Table;
use super::value::{self, Wanted};
use super::{Condition, Host, Network, Path, Scheme, Test, Written};

/// `host`, or `hosts`.
pub fn read_hosts(table: &mut Table<'_>) -> Vec<Host> {
    let host = table.parsed("host", value::route_host);
    let hosts = table.list("hosts", value::route_host);
    exclude(table, &["host", "hosts"]);
    refuse_empty(table, "hosts", "host");
    let hosts = hosts.unwrap_or_default();
    refuse_twice(table, "hosts", &hosts);
    host.into_iter().chain(hosts).map(|host| host.value).collect()
}

pub fn read_methods(table: &mut Table<'_>) -> Vec<String> {
    let methods = table.list("methods", value::method).unwrap_or_default();
    refuse_empty(table, "methods", "method");
    refuse_twice(table, "methods", &methods);
    methods.into_iter().map(|method| method.value).collect()
}

/// The four ways to name a path.
const PATHS: [&str; 4] = ["path_exact", "path_prefix", "path", "path_regex"];

pub fn read_path(table: &mut Table<'_>) -> Option<Written<Path>> {
    let exact = table.parsed("path_exact", |text| value::route_path(text).map(Path::Exact));
    let prefix = table.parsed("path_prefix", |text| value::route_path(text).map(Path::Prefix));
    let pattern = table.parsed("path", |text| value::route_pattern(text).map(Path::Pattern));
    let regex = table.parsed("path_regex", |text| value::route_expression(text).map(Path::Regex));
    exclude(table, &PATHS);
    exact.or(prefix).or(pattern).or(regex)
}

/// `header` or `headers`: each a table or a list of tables.
pub fn read_fields(table: &mut Table<'_>) -> Vec<Condition> {
    exclude(table, &["header", "headers"]);
    ["header", "headers"].into_iter().flat_map(|key| read_tests(table, key, value::field_name)).collect()
}

pub fn read_parameters(table: &mut Table<'_>) -> Vec<Condition> {
    read_tests(table, "query", value::parameter_name)
}

/// Networks of which one has the client.
pub fn read_clients(table: &mut Table<'_>) -> Vec<Network> {
    let networks = table.list("client", value::network).unwrap_or_default();
    refuse_empty(table, "client", "network");
    refuse_twice(table, "client", &networks);
    networks.into_iter().map(|network| network.value).collect()
}

pub fn read_scheme(table: &mut Table<'_>) -> Option<Scheme> {
    table.choice("scheme", &[("http", Scheme::Http), ("https", Scheme::Https)], &[])
}

fn read_tests(
    table: &mut Table<'_>,
    key: &str,
    name: impl Fn(&str) -> Result<String, Wanted>,
) -> Vec<Condition> {
    refuse_empty(table, key, "table");
    let tables = table.parts(key, Kind::Conditions);
    tables.into_iter().filter_map(|table| read_test(table, key, &name)).collect()
}

fn read_test(
    mut table: Table<'_>,
    key: &str,
    parse_name: impl Fn(&str) -> Result<String, Wanted>,
) -> Option<Condition> {
    let name = table.parsed("name", parse_name);
    let value = table.parsed("value", |text| match key {
        "query" => Ok(text.to_owned()),
        _ => value::field_value(text),
    });
    let regex = table.string("value_regex");
    let absent = table.boolean("absent").is_some_and(|absent| absent.value);
    if !table.has("name") {
        let message = format!("{key} needs a name");
        let help = "such as { name = \"NAME\", value = \"VALUE\" }";
        table.report().push(Diagnostic::error(table.place().clone(), message).with_help(help));
    }
    let asked: &[&str] = if absent { &["value", "value_regex", "absent"] } else { &["value", "value_regex"] };
    exclude(&table, asked);
    table.finish(&[]);
    let test = match (value, regex) {
        (Some(value), _) => Test::Equals(value.value),
        (None, Some(regex)) => Test::Matches(regex),
        (None, None) if absent => Test::Absent,
        (None, None) => Test::Present,
    };
    Some(Condition { name: name?.value, test })
}

/// Of these keys there may be one.
pub fn exclude(table: &Table<'_>, keys: &[&str]) {
    let mut found: Vec<(&str, Place)> =
        keys.iter().filter_map(|key| Some((*key, table.key_place(key)?))).collect();
    found.sort_by_key(|(_, place)| place.order());
    let Some(((first, earlier), others)) = found.split_first() else {
        return;
    };
    for (other, place) in others {
        let help = match PATHS.contains(first) {
            true => "keep one of them, or write two routes",
            false => "keep one of them",
        };
        let both = Diagnostic::error(place.clone(), format!("{first} and {other} exclude each other"))
            .with_related(earlier.clone(), "the other one")
            .with_help(help);
        table.report().push(both);
    }
}

pub fn refuse_empty(table: &Table<'_>, key: &str, what: &str) {
    if let (true, Some(place)) = (table.is_empty_list(key), table.key_place(key)) {
        let message = format!("{key} must have at least one {what}, or be left out");
        table.report().error(&place, message);
    }
}

fn refuse_twice<T: PartialEq>(table: &Table<'_>, key: &str, written: &[Written<T>]) {
    for (index, one) in written.iter().enumerate() {
        if let Some(first) = written[..index].iter().find(|earlier| earlier.value == one.value) {
            let twice = Diagnostic::error(one.place.clone(), format!("{key} has the same twice"))
                .with_related(first.place.clone(), "first here")
                .with_help("remove one of them");
            table.report().push(twice);
        }
    }
}
