//! The configuration as a whole: its layers, and the tables of its top level.

use super::diagnostic::{Diagnostic, Place, sort};
use super::include::INCLUDE;
use super::layers::{self, Layers};
use super::parse::Parsed;
use super::report::{Found, Report, Setting};
use super::table::Table;
use super::{Config, Middleware, Sources, Written};
use super::{admin, auth, dns, log, route, server, traces, upstream, wasm};

/// Tables and keys of the top level that do not work yet.
const LATER: [&str; 3] = ["cache", "postgres", "workloads"];
const TLS_LATER: [&str; 11] = [
    "acme_directory",
    "acme_url",
    "certificate",
    "certificate_file",
    "certificates",
    "domains",
    "eab_hmac_key",
    "eab_kid",
    "email",
    "key",
    "key_file",
];
const MIDDLEWARE_LATER: [&str; 8] = [
    "bad_gateway_page",
    "cache_size",
    "gzip_compression_disable_on_auth",
    "gzip_compression_enabled",
    "max_cache_item_size",
    "max_request_body",
    "x_sendfile_enabled",
    "h2c_enabled",
];

/// What can be understood of the sources, and everything that is to be said about them, in
/// document order. With an error among it, the configuration is good for further checks only.
pub fn read(sources: &Sources) -> (Config, Vec<Diagnostic>) {
    let layers = layers::merge(sources);
    let (config, found) = read_layers(&layers, report(&layers, sources));
    let mut diagnostics = sources.found.clone();
    diagnostics.extend(layers.mistakes);
    // What follows from a torn line is not worth a word.
    let is_whole = |one: &Diagnostic| !layers.torn.contains(&one.place.file_and_line());
    diagnostics.extend(found.diagnostics.into_iter().filter(is_whole));
    sort(&mut diagnostics);
    (Config { overrides: layers.overrides, ..config }, diagnostics)
}

/// Every key that there is for these sources, in the order in which it is read.
pub fn settings(sources: &Sources) -> Vec<Setting> {
    let layers = layers::merge(sources);
    let (_, found) = read_layers(&layers, report(&layers, sources).recording());
    found.settings
}

/// Every key that there is at all.
pub fn all_settings() -> Vec<Setting> {
    let report = Report::describing();
    read_root(Table::root(report.nothing(), Place::Default, &report), Place::Default);
    report.into_found().settings
}

/// The paths of the secrets that are in files and were not read. `parsed` are the files of the
/// sources.
pub fn wanted_secrets(sources: &Sources, parsed: Vec<Parsed>) -> Vec<Written<String>> {
    let layers = layers::join(sources, parsed);
    let (_, found) = read_layers(&layers, report(&layers, sources));
    found.wanted
}

fn report<'a>(layers: &Layers, sources: &'a Sources) -> Report<'a> {
    let is_torn = !layers.torn.is_empty() || sources.found.iter().any(Diagnostic::is_error);
    Report::new(&sources.secrets, is_torn)
}

fn read_layers(layers: &Layers, report: Report<'_>) -> (Config, Found) {
    let origin = layers.origin.clone();
    let root = Table::root(&layers.entries, origin.clone(), &report);
    let config = Config { is_torn: report.is_torn(), ..read_root(root, origin) };
    (config, report.into_found())
}

fn read_root(mut root: Table<'_>, origin: Place) -> Config {
    let mut config = Config::empty(origin);
    root.list(INCLUDE, |_| Ok(()));
    if let Some(table) = root.table("server") {
        (config.server, config.limits) = server::read(table);
    }
    if let Some(table) = root.table("dns") {
        config.dns = dns::read(table);
    }
    if let Some(mut table) = root.table("upstreams") {
        let tables = table.named_tables();
        let names = tables.iter().map(|(name, _)| name).filter(|name| name.place.is_in_file());
        let is_simple = matches!(config.origin, Place::Default);
        let defined: Vec<String> = names.map(|name| name.value.clone()).collect();
        for (name, table) in tables {
            config.upstreams.push(upstream::read(name, table, &defined, is_simple));
        }
    }
    if let Some(tables) = root.tables("routes") {
        config.routes = tables.into_iter().filter_map(route::read).collect();
    }
    if let Some(table) = root.table("middleware") {
        config.middleware = read_middleware(table);
    }
    if let Some(table) = root.table("log") {
        config.log = log::read(table);
    }
    if let Some(table) = root.table("tracing") {
        config.tracing = traces::read(table);
    }
    if let Some(table) = root.table("tls") {
        read_tls(table);
    }
    if let Some(table) = root.table("auth") {
        config.auth = auth::read(table);
    }
    if let Some(table) = root.table("admin") {
        config.admin = admin::read(table);
    }
    config.wasm = wasm::read(&mut root);
    config.routes.extend(wasm::routes(&config.wasm));
    root.finish(&LATER);
    config
}

fn read_middleware(mut table: Table<'_>) -> Middleware {
    let middleware = Middleware {
        log_requests: table.boolean("log_requests").map(|written| written.value),
        forward_headers: table.boolean("forward_headers"),
        server_timing: table.boolean("server_timing").map(|written| written.value),
    };
    table.finish(&MIDDLEWARE_LATER);
    middleware
}

/// There is no TLS yet: only its absence can be configured.
fn read_tls(mut table: Table<'_>) {
    if let Some(enabled) = table.boolean("enabled")
        && enabled.value
    {
        let message = "`enabled = true` in [tls] is known, but does not work yet in this version";
        table.report().error(&enabled.place, message);
    }
    table.finish(&TLS_LATER);
}
