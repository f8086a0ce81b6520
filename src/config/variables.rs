//! The variables of the environment: what they override, and the mode without a file.

use super::diagnostic::{Diagnostic, Place};
use super::sources::{FILE_VARIABLE, PREFIX};
use super::{Config, Instance, Route, Upstream, Written, suggest, value};

const HTTP_PORT: &str = "WARPDRIVE_HTTP_PORT";
const TARGET_HOST: &str = "WARPDRIVE_TARGET_HOST";
const TARGET_PORT: &str = "WARPDRIVE_TARGET_PORT";

const NOW: [&str; 4] = [FILE_VARIABLE, HTTP_PORT, TARGET_HOST, TARGET_PORT];

/// Known, but without effect yet; without the prefix.
const LATER: [&str; 21] = [
    "ACME_DIRECTORY",
    "ADMIN_TOKEN",
    "BAD_GATEWAY_PAGE",
    "CACHE_SIZE",
    "DATABASE_URL",
    "EAB_HMAC_KEY",
    "EAB_KID",
    "FORWARD_HEADERS",
    "GZIP_COMPRESSION_ENABLED",
    "H2C_ENABLED",
    "HTTP_IDLE_TIMEOUT",
    "HTTP_READ_TIMEOUT",
    "HTTP_WRITE_TIMEOUT",
    "HTTPS_PORT",
    "LOG_REQUESTS",
    "MAX_CACHE_ITEM_SIZE",
    "MAX_REQUEST_BODY",
    "REDIS_URL",
    "STORAGE_PATH",
    "TLS_DOMAIN",
    "X_SENDFILE_ENABLED",
];

/// Tables whose keys will be settable as `WARPDRIVE_TABLE__KEY`.
const TABLES: [&str; 10] =
    ["ADMIN", "AUTH", "CACHE", "LOG", "MIDDLEWARE", "POSTGRES", "ROUTES", "SERVER", "TLS", "UPSTREAMS"];

/// Overrides what the file says; without a file, makes the one upstream and its route.
pub fn apply(
    environment: &[(String, String)],
    has_file: bool,
    config: &mut Config,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut target_host = "127.0.0.1".to_owned();
    let mut target_port = 3000;
    for (name, written) in environment {
        let outcome = match name.as_str() {
            FILE_VARIABLE => Ok(()),
            HTTP_PORT => port(written, 0).map(|port| config.server.http_port = Some(port)),
            TARGET_HOST | TARGET_PORT if has_file => Err(Mistake::NeedsNoFile),
            TARGET_HOST => value::upstream_host(written)
                .map(|host| target_host = host)
                .map_err(|wanted| Mistake::Value(wanted.what)),
            TARGET_PORT => port(written, 1).map(|port| target_port = port),
            name => Err(Mistake::Name(name.strip_prefix(PREFIX).unwrap_or(name).to_owned())),
        };
        if let Err(mistake) = outcome {
            diagnostics.push(mistake.explain(name, written));
        }
    }
    if !has_file {
        let place = Place::Environment(TARGET_HOST.to_owned());
        add_upstream_and_route(config, &place, target_host, target_port);
    }
}

/// What is wrong with one variable.
enum Mistake {
    /// The value; what would be right.
    Value(String),
    NeedsNoFile,
    /// The name, here without the prefix.
    Name(String),
}

impl Mistake {
    fn explain(self, name: &str, written: &str) -> Diagnostic {
        let place = Place::Environment(name.to_owned());
        match self {
            Mistake::Value(wanted) => {
                Diagnostic::error(place, format!("{name} must be {wanted}, not `{written}`"))
            }
            Mistake::NeedsNoFile => {
                let message = format!("{name} belongs to the mode without a file, and there is a file");
                Diagnostic::error(place, message).with_help("unset it, and name the upstream in the file")
            }
            Mistake::Name(bare) => {
                let table = bare.split_once("__").map(|(table, _)| table);
                let is_known =
                    LATER.contains(&bare.as_str()) || table.is_some_and(|table| TABLES.contains(&table));
                if is_known {
                    let message = format!("{name} is known, but does not work yet in this version");
                    return Diagnostic::error(place, message);
                }
                let unknown = Diagnostic::error(place, format!("unknown variable {name}"));
                let now = NOW.iter().map(|name| &name[PREFIX.len()..]);
                match suggest::nearest(&bare, now.chain(LATER)) {
                    Some(meant) => unknown.with_help(format!("did you mean {PREFIX}{meant}?")),
                    None => unknown,
                }
            }
        }
    }
}

fn port(written: &str, least: u16) -> Result<u16, Mistake> {
    let is_plain = written.bytes().all(|byte| byte.is_ascii_digit());
    let port = written.parse().ok().filter(|port| is_plain && *port >= least);
    port.ok_or_else(|| Mistake::Value(format!("a port from {least} to 65535")))
}

fn add_upstream_and_route(config: &mut Config, place: &Place, host: String, port: u16) {
    let name = Written::new("default".to_owned(), place.clone());
    config.origin = place.clone();
    config.upstreams.push(Upstream {
        name: name.clone(),
        instances: vec![Instance::Host { host, port }],
        strategy: None,
        keepalive: None,
        keepalive_idle: None,
        connect_timeout: None,
        read_timeout: None,
        write_timeout: None,
    });
    config.routes.push(Route {
        place: place.clone(),
        is_whole: true,
        host: None,
        path: Some(super::Path::Prefix("/".to_owned())),
        strip_prefix: false,
        upstream: name,
    });
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{said, sources};
    use crate::config::{parse, read};

    #[test]
    fn variables_are_checked_and_named() {
        let environment = [
            ("WARPDRIVE_CONFIG", "w.toml"),
            ("WARPDRIVE_DATABASE_URL", "secret"),
            ("WARPDRIVE_HTTP_PORT", "http"),
            ("WARPDRIVE_HTTP_PROT", "80"),
            ("WARPDRIVE_SERVER__HTTP_PORT", "80"),
            ("WARPDRIVE_TARGET_HOST", "h"),
            ("WARPDRIVE_WHATEVER", "1"),
        ];
        let expected = [
            "environment:WARPDRIVE_DATABASE_URL: \
             WARPDRIVE_DATABASE_URL is known, but does not work yet in this version",
            "environment:WARPDRIVE_HTTP_PORT: \
             WARPDRIVE_HTTP_PORT must be a port from 0 to 65535, not `http`",
            "environment:WARPDRIVE_HTTP_PROT: unknown variable WARPDRIVE_HTTP_PROT \
             [did you mean WARPDRIVE_HTTP_PORT?]",
            "environment:WARPDRIVE_SERVER__HTTP_PORT: \
             WARPDRIVE_SERVER__HTTP_PORT is known, but does not work yet in this version",
            "environment:WARPDRIVE_TARGET_HOST: \
             WARPDRIVE_TARGET_HOST belongs to the mode without a file, and there is a file \
             [unset it, and name the upstream in the file]",
            "environment:WARPDRIVE_WHATEVER: unknown variable WARPDRIVE_WHATEVER",
        ];
        let (_, diagnostics) = read(&sources("", &environment));
        assert_eq!(said(&diagnostics), expected);

        let mut without_file =
            sources("", &[("WARPDRIVE_TARGET_HOST", "http://h"), ("WARPDRIVE_TARGET_PORT", "0")]);
        without_file.file = None;
        let expected = [
            "environment:WARPDRIVE_TARGET_HOST: \
             WARPDRIVE_TARGET_HOST must be a host name or an IP address, not `http://h`",
            "environment:WARPDRIVE_TARGET_PORT: \
             WARPDRIVE_TARGET_PORT must be a port from 1 to 65535, not `0`",
        ];
        assert_eq!(said(&parse(&without_file).unwrap_err()), expected);
    }
}
