//! The variables of the environment as changes to keys: those with names of their own, those
//! that spell a key (`WARPDRIVE_SERVER__HTTP_PORT`), and the mode without a file.
//!
//! Must not know: what values mean. The reader of the key says what is wrong with them.

use std::path::Path;

use super::diagnostic::{Diagnostic, Place};
use super::layers::{Change, untyped};
use super::node::{Entries, Entry, Node, Value};
use super::sources::{FILE_VARIABLE, PREFIX};
use super::{suggest, value};

/// Between the parts of a key that a variable spells.
const SEPARATOR: &str = "__";

/// The upstream of the mode without a file.
const UPSTREAM: &str = "default";

/// A variable with a name of its own, here without the prefix.
struct Flat {
    name: &'static str,
    keys: &'static [&'static str],
    of: Of,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Anything,
    /// A plain integer is seconds.
    Duration,
    /// Nothing, if there is a file.
    SimpleMode,
    /// Only with the prefix.
    Secret,
    /// A folder, in which this is one with such a name. Only with the prefix; nothing in a build that
    /// keeps nothing there.
    Within(&'static str),
}

const FLAT: [Flat; 11] = [
    Flat { name: "ADMIN_TOKEN", keys: &["auth.admin_token"], of: Of::Secret },
    Flat { name: "FORWARD_HEADERS", keys: &["middleware.forward_headers"], of: Of::Anything },
    Flat { name: "HTTP_IDLE_TIMEOUT", keys: &["server.limits.idle_timeout"], of: Of::Duration },
    Flat { name: "HTTP_PORT", keys: &["server.http_port"], of: Of::Anything },
    Flat {
        name: "HTTP_READ_TIMEOUT",
        keys: &["server.limits.head_timeout", "server.limits.body_timeout"],
        of: Of::Duration,
    },
    Flat { name: "HTTP_WRITE_TIMEOUT", keys: &["server.limits.write_timeout"], of: Of::Duration },
    Flat { name: "LOG_REQUESTS", keys: &["middleware.log_requests"], of: Of::Anything },
    Flat { name: "MAX_REQUEST_BODY", keys: &["server.limits.request_body"], of: Of::Anything },
    Flat { name: "STORAGE_PATH", keys: &["wasm.cache_dir"], of: Of::Within("wasm") },
    Flat { name: "TARGET_HOST", keys: &["upstreams.default.host"], of: Of::SimpleMode },
    Flat { name: "TARGET_PORT", keys: &["upstreams.default.port"], of: Of::SimpleMode },
];

/// Known, but without effect yet.
const LATER: [&str; 13] = [
    "ACME_DIRECTORY",
    "BAD_GATEWAY_PAGE",
    "CACHE_SIZE",
    "DATABASE_URL",
    "EAB_HMAC_KEY",
    "EAB_KID",
    "GZIP_COMPRESSION_ENABLED",
    "H2C_ENABLED",
    "HTTPS_PORT",
    "MAX_CACHE_ITEM_SIZE",
    "REDIS_URL",
    "TLS_DOMAIN",
    "X_SENDFILE_ENABLED",
];

/// Of [`LATER`], those that may say no to what there is not.
const SWITCHES: [&str; 3] = ["GZIP_COMPRESSION_ENABLED", "H2C_ENABLED", "X_SENDFILE_ENABLED"];

/// Of [`LATER`], those that without the prefix are the application's.
const APPLICATIONS: [&str; 2] = ["DATABASE_URL", "REDIS_URL"];

/// Whether a variable without the prefix is for us where there is no file.
pub fn is_for_simple_mode(name: &str) -> bool {
    let needs_prefix = |of| matches!(of, Of::Secret | Of::Within(_));
    let is_flat = FLAT.iter().any(|flat| flat.name == name && !needs_prefix(flat.of));
    is_flat || LATER.contains(&name) && !APPLICATIONS.contains(&name)
}

/// What there is without a file: one upstream, and a route to it.
pub fn one_upstream() -> Entries {
    let node = |value| Node::new(Place::Default, value);
    let entry = |value| Entry { place: Place::Default, node: node(value) };
    let text = |text: &str| entry(Value::String(text.to_owned()));
    let table = |entries: Vec<(&str, Entry)>| {
        Value::Table(entries.into_iter().map(|(key, entry)| (key.to_owned(), entry)).collect())
    };
    let port = entry(Value::Bare("3000".to_owned()));
    let upstream = table(vec![("host", text("127.0.0.1")), ("port", port)]);
    let route = table(vec![("path_prefix", text("/")), ("upstream", text(UPSTREAM))]);
    let upstreams = table(vec![(UPSTREAM, entry(upstream))]);
    let routes = Value::Array(vec![node(route)]);
    [("upstreams", upstreams), ("routes", routes)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), entry(value)))
        .collect()
}

/// What the environment changes in `entries`, and what is wrong with the names in it.
pub fn changes(
    environment: &[(String, String)],
    has_file: bool,
    entries: &Entries,
) -> (Vec<Change>, Vec<Diagnostic>) {
    let (mut changes, mut mistakes) = (Vec::new(), Vec::new());
    for (name, text) in environment {
        let Some(bare) = name.strip_prefix(PREFIX) else {
            let prefixed = format!("{PREFIX}{name}");
            let is_given_twice = environment.iter().any(|(other, _)| *other == prefixed);
            // An empty one is how compose files say that there is none.
            if !has_file && is_for_simple_mode(name) && !text.is_empty() && !is_given_twice {
                match of_flat(name, name, text, has_file) {
                    Ok(found) => changes.extend(found),
                    Err(mistake) => mistakes.push(mistake),
                }
            }
            continue;
        };
        let outcome = match bare.contains(SEPARATOR) {
            _ if name == FILE_VARIABLE => Ok(Vec::new()),
            true => of_spelt(name, bare, text, entries).map(|change| vec![change]),
            false => of_flat(name, bare, text, has_file),
        };
        match outcome {
            Ok(found) => changes.extend(found),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    (changes, mistakes)
}

/// A variable with a name of its own, `bare` without the prefix.
fn of_flat(name: &str, bare: &str, text: &str, has_file: bool) -> Result<Vec<Change>, Diagnostic> {
    let place = Place::Environment(name.to_owned());
    let Some(flat) = FLAT.iter().find(|flat| flat.name == bare) else {
        return match is_refusal(bare, text) {
            true => Ok(Vec::new()),
            false => Err(unknown(name, bare, place)),
        };
    };
    if flat.of == Of::SimpleMode && has_file {
        let message = format!("{name} belongs to the mode without a file, and there is a file");
        let help = "unset it, and name the upstream in the file";
        return Err(Diagnostic::error(place, message).with_help(help));
    }
    let text = match flat.of {
        Of::Within(_) if !cfg!(feature = "wasm") => return Ok(Vec::new()),
        // What is none is for the reader of the key to refuse.
        Of::Within(folder) if !text.is_empty() => Path::new(text).join(folder).display().to_string(),
        _ => text.to_owned(),
    };
    let is_in_secs = flat.of == Of::Duration && value::digits(&text).is_some();
    let suffix = if is_in_secs { "_secs" } else { "" };
    let change = |key: &&str| {
        let path = format!("{key}{suffix}").split('.').map(str::to_owned).collect();
        Change { path, node: Node::new(place.clone(), Value::Bare(text.clone())) }
    };
    Ok(flat.keys.iter().map(change).collect())
}

/// Whether it says no to what there is not yet.
fn is_refusal(bare: &str, text: &str) -> bool {
    SWITCHES.contains(&bare) && value::boolean(text) == Some(false)
}

fn unknown(name: &str, bare: &str, place: Place) -> Diagnostic {
    if LATER.contains(&bare) {
        let message = format!("{name} is known, but does not work yet in this version");
        let later = Diagnostic::error(place, message);
        return match SWITCHES.contains(&bare) {
            true => later.with_help(format!("unset it, or set {name}=false")),
            false => later.with_help("unset it"),
        };
    }
    let unknown = Diagnostic::error(place, format!("unknown variable {name}"));
    match suggest::nearest(bare, FLAT.iter().map(|flat| flat.name).chain(LATER)) {
        Some(meant) => unknown.with_help(format!("did you mean {PREFIX}{meant}?")),
        None => unknown,
    }
}

/// A variable that spells a key: its parts in upper case, with two underscores between them.
fn of_spelt(name: &str, bare: &str, text: &str, entries: &Entries) -> Result<Change, Diagnostic> {
    let place = Place::Environment(name.to_owned());
    let mut path: Vec<String> = bare.split(SEPARATOR).map(str::to_ascii_lowercase).collect();
    if path.iter().any(String::is_empty) {
        let help = "the parts of a key have two underscores between them: WARPDRIVE_SERVER__HTTP_PORT";
        return Err(Diagnostic::error(place, format!("{name} does not spell a key")).with_help(help));
    }
    if let [table, upstream, ..] = path.as_mut_slice()
        && table == "upstreams"
    {
        *upstream = upstream_named(upstream, entries, name)?;
    }
    Ok(Change { path, node: untyped(text, &place) })
}

/// The upstream whose name, in lower case and with `_` for what a variable's name cannot have,
/// is this. A new one, if there is none.
fn upstream_named(spelt: &str, entries: &Entries, variable: &str) -> Result<String, Diagnostic> {
    let upstreams = match entries.get("upstreams").map(|entry| &entry.node.value) {
        Some(Value::Table(upstreams)) => upstreams,
        _ => return Ok(spelt.to_owned()),
    };
    let spell = |name: &str| -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        name.chars().map(plain).collect()
    };
    let meant: Vec<&String> = upstreams.keys().filter(|name| spell(name) == spelt).collect();
    match meant.as_slice() {
        [] => Ok(spelt.to_owned()),
        [name] => Ok((*name).clone()),
        [one, other, ..] => {
            let place = Place::Environment(variable.to_owned());
            let message = format!("{variable} may mean upstream `{one}` or upstream `{other}`");
            Err(Diagnostic::error(place, message).with_help("use --set, which spells names as they are"))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{said, sources};
    use crate::config::{Address, Instance, parse, read};

    #[test]
    fn variables_are_checked_and_named() {
        let environment = [
            ("WARPDRIVE_CONFIG", "w.toml"),
            ("WARPDRIVE_DATABASE_URL", "secret"),
            ("WARPDRIVE_GZIP_COMPRESSION_ENABLED", "false"),
            ("WARPDRIVE_H2C_ENABLED", "true"),
            ("WARPDRIVE_HTTP_PORT", "http"),
            ("WARPDRIVE_HTTP_PROT", "80"),
            ("WARPDRIVE_SERVER__LIMITS__IDLE_TIMEOUT", "5"),
            ("WARPDRIVE_SERVER__LIMTS__FIELDS", "5"),
            ("WARPDRIVE_SERVER__PIN_CORES", "maybe"),
            ("WARPDRIVE_SERVER__", "80"),
            ("WARPDRIVE_TARGET_HOST", "h"),
            ("WARPDRIVE_WHATEVER", "1"),
        ];
        let expected = [
            "environment:WARPDRIVE_DATABASE_URL: \
             WARPDRIVE_DATABASE_URL is known, but does not work yet in this version [unset it]",
            "environment:WARPDRIVE_H2C_ENABLED: WARPDRIVE_H2C_ENABLED is known, \
             but does not work yet in this version [unset it, or set WARPDRIVE_H2C_ENABLED=false]",
            "environment:WARPDRIVE_HTTP_PROT: unknown variable WARPDRIVE_HTTP_PROT \
             [did you mean WARPDRIVE_HTTP_PORT?]",
            "environment:WARPDRIVE_SERVER__: WARPDRIVE_SERVER__ does not spell a key \
             [the parts of a key have two underscores between them: WARPDRIVE_SERVER__HTTP_PORT]",
            "environment:WARPDRIVE_TARGET_HOST: \
             WARPDRIVE_TARGET_HOST belongs to the mode without a file, and there is a file \
             [unset it, and name the upstream in the file]",
            "environment:WARPDRIVE_WHATEVER: unknown variable WARPDRIVE_WHATEVER",
            "environment:WARPDRIVE_HTTP_PORT: \
             http_port must be an integer from 0 to 65535, not `http`",
            "environment:WARPDRIVE_SERVER__PIN_CORES: pin_cores must be true or false, not `maybe`",
            "environment:WARPDRIVE_SERVER__LIMITS__IDLE_TIMEOUT: idle_timeout must be \
             a duration such as \"5s\", \"250ms\", \"5m\" or \"1h\", not \"5\"",
            "environment:WARPDRIVE_SERVER__LIMTS__FIELDS: unknown key `limts` in [server] \
             [did you mean `limits`?]",
        ];
        let (_, diagnostics) = read(&sources("", &environment));
        assert_eq!(said(&diagnostics), expected);
    }

    #[test]
    fn without_a_file_the_prefix_may_be_left_out() {
        let environment = [
            ("DATABASE_URL", "postgres://the-application's"),
            ("FORWARD_HEADERS", "TRUE"),
            ("GZIP_COMPRESSION_ENABLED", "0"),
            ("HTTP_PORT", "not looked at"),
            ("HTTP_IDLE_TIMEOUT", "5"),
            ("HTTP_READ_TIMEOUT", "7s"),
            ("HTTP_WRITE_TIMEOUT", "9"),
            ("LOG_REQUESTS", "false"),
            ("MAX_REQUEST_BODY", "1000"),
            ("STORAGE_PATH", "the application's"),
            ("TARGET_HOST", "App.internal"),
            ("TARGET_PORT", "81"),
            ("TLS_DOMAIN", ""),
            ("WARPDRIVE_HTTP_PORT", "9090"),
        ];
        let mut simple = sources("", &environment);
        simple.file = None;
        let (config, warnings) = parse(&simple).unwrap();
        assert_eq!(said(&warnings), Vec::<String>::new());
        let secs = |duration: Option<std::time::Duration>| duration.map(|duration| duration.as_secs());
        assert_eq!(config.server.http_port, Some(9090));
        assert_eq!(secs(config.limits.idle_timeout), Some(5));
        assert_eq!(secs(config.limits.head_timeout), Some(7));
        assert_eq!(secs(config.limits.body_timeout), Some(7));
        assert_eq!(secs(config.limits.write_timeout), Some(9));
        assert_eq!(config.limits.request_body, Some(1000));
        assert!(config.middleware.forward_headers.is_some_and(|forward| forward.value));
        assert_eq!(config.middleware.log_requests, Some(false));
        assert_eq!(config.wasm.cache_dir, None);
        let instance = Instance::from(Address::Host { host: "app.internal".to_owned(), port: 81 });
        assert_eq!(config.upstreams[0].instances, [instance]);

        let wrong = [("TARGET_HOST", "http://h"), ("TARGET_PORT", "0"), ("TLS_DOMAIN", "a.example")];
        let mut simple = sources("", &wrong);
        simple.file = None;
        let expected = [
            "environment:TLS_DOMAIN: TLS_DOMAIN is known, but does not work yet in this version [unset it]",
            "environment:TARGET_HOST: host must be a host name or an IP address, not `http://h` \
             [leave out the scheme; what it speaks is `protocol`]",
            "environment:TARGET_PORT: port must be an integer from 1 to 65535, not `0`",
        ];
        assert_eq!(said(&parse(&simple).unwrap_err()), expected);

        let (config, mistakes) = read(&sources("", &environment[3..5]));
        assert_eq!(said(&mistakes), Vec::<String>::new());
        assert_eq!(config.server.http_port, None);
    }

    #[test]
    fn what_is_kept_is_in_one_folder() {
        let (config, mistakes) = read(&sources("", &[("WARPDRIVE_STORAGE_PATH", "/var/lib/warpdrive")]));
        assert_eq!(said(&mistakes), Vec::<String>::new());
        let folder = cfg!(feature = "wasm").then(|| "/var/lib/warpdrive/wasm".into());
        assert_eq!(config.wasm.cache_dir, folder);
    }

    #[test]
    fn upstreams_are_found_by_a_name_that_a_variable_can_have() {
        let text = "[upstreams.Web-App]\nhost = \"h\"\nport = 1\n\
                    [upstreams.a-b]\nsocket = \"s\"\n[upstreams.a_b]\nsocket = \"s\"\n";
        let environment =
            [("WARPDRIVE_UPSTREAMS__A_B__SOCKET", "t"), ("WARPDRIVE_UPSTREAMS__WEB_APP__PORT", "2")];
        let (config, mistakes) = read(&sources(text, &environment));
        let expected = "environment:WARPDRIVE_UPSTREAMS__A_B__SOCKET: WARPDRIVE_UPSTREAMS__A_B__SOCKET \
                        may mean upstream `a-b` or upstream `a_b` \
                        [use --set, which spells names as they are]";
        assert_eq!(said(&mistakes), [expected]);
        let instance = Instance::from(Address::Host { host: "h".to_owned(), port: 2 });
        assert_eq!(config.upstreams[0].instances, [instance]);
    }
}
