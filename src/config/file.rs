//! The file as a whole: its syntax, its top-level tables, and the mode without a file.

use std::sync::Arc;

use toml::de::DeTable;

use super::diagnostic::{Diagnostic, Place, sort};
use super::table::{Report, Table};
use super::{Config, Document, Level, Log, LogFormat, Middleware, Sources};
use super::{route, server, syntax, upstream, value, variables};

/// Tables and keys of the top level that do not work yet.
const LATER: [&str; 7] = ["admin", "auth", "cache", "include", "postgres", "wasm", "workloads"];
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
    let mut diagnostics = Vec::new();
    let mut config = match sources.document() {
        Some(document) => read_text(Arc::new(document), &mut diagnostics),
        None => Config::empty(Place::Default),
    };
    let environment = &sources.environment;
    variables::apply(environment, sources.file.is_some(), &mut config, &mut diagnostics);
    sort(&mut diagnostics);
    (config, diagnostics)
}

fn read_text(document: Arc<Document>, diagnostics: &mut Vec<Diagnostic>) -> Config {
    let (root, mistakes) = DeTable::parse_recoverable(document.text());
    let report = Report::new(Arc::clone(&document), !mistakes.is_empty());
    let mut torn_lines = Vec::new();
    for mistake in mistakes {
        let explained = syntax::explain(&mistake, root.get_ref(), &report);
        torn_lines.push(explained.place.line_and_column().map(|(line, _)| line));
        diagnostics.push(explained);
    }
    let origin = Place::File(document.name().to_owned());
    let table = Table::new("", root.get_ref(), origin.clone(), &report);
    let config = Config { is_torn: !torn_lines.is_empty(), ..read_root(table, origin) };
    let found = report.into_found().into_iter().filter(|one| {
        let line = one.place.line_and_column().map(|(line, _)| line);
        !torn_lines.contains(&line)
    });
    diagnostics.extend(found);
    config
}

fn read_root(mut root: Table<'_>, origin: Place) -> Config {
    let mut config = Config::empty(origin);
    if let Some(table) = root.table("server") {
        (config.server, config.limits) = server::read(table);
    }
    if let Some(mut table) = root.table("upstreams") {
        for (name, table) in table.named_tables() {
            config.upstreams.push(upstream::read(name, table));
        }
    }
    if let Some(tables) = root.tables("routes") {
        config.routes = tables.into_iter().filter_map(route::read).collect();
    }
    if let Some(table) = root.table("middleware") {
        config.middleware = read_middleware(table);
    }
    if let Some(table) = root.table("log") {
        config.log = read_log(table);
    }
    if let Some(table) = root.table("tls") {
        read_tls(table);
    }
    root.finish(&LATER);
    config
}

fn read_middleware(mut table: Table<'_>) -> Middleware {
    let middleware = Middleware {
        log_requests: table.boolean("log_requests").map(|written| written.value),
        forward_headers: table.boolean("forward_headers").map(|written| written.value),
    };
    table.finish(&MIDDLEWARE_LATER);
    middleware
}

fn read_log(mut table: Table<'_>) -> Log {
    let formats = [("json", LogFormat::Json), ("combined", LogFormat::Combined)];
    let levels =
        [("error", Level::Error), ("warn", Level::Warn), ("info", Level::Info), ("debug", Level::Debug)];
    let log = Log {
        format: table.choice("format", &formats, &[]),
        file: table
            .parsed("file", |text| match text {
                "" => Err(value::wanted("a path")),
                path => Ok(path.into()),
            })
            .map(|written| written.value),
        level: table.choice("level", &levels, &[]),
    };
    table.finish(&[]);
    log
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
