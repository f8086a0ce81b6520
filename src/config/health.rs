//! `[upstreams.NAME.health]`.

use super::diagnostic::Diagnostic;
use super::table::Table;
use super::value::{self, Wanted, wanted};
use super::{Health, Initial};

/// More in a row would mean that nobody is to notice.
const THRESHOLD_MAX: u64 = 1000;

/// `None`: there is no such table, or it has no path that can be asked for.
pub fn read(mut table: Table<'_>, is_there: bool) -> Option<Health> {
    let path = table.parsed("path", path);
    let host = table.parsed("host", host);
    let initial = [("up", Initial::Up), ("down", Initial::Down)];
    let interval = table.duration("interval");
    let timeout = table.duration("timeout");
    let unhealthy_threshold = table.integer("unhealthy_threshold", 1..=THRESHOLD_MAX);
    let healthy_threshold = table.integer("healthy_threshold", 1..=THRESHOLD_MAX);
    let expect_status = table.statuses("expect_status");
    let initial = table.choice("initial", &initial, &[]);
    if is_there && !table.has("path") {
        let message = format!("{} needs a path to ask for", table.title());
        let missing = Diagnostic::error(table.place().clone(), message);
        table.report().push_unless_torn(missing.with_help("such as path = \"/health\""));
    }
    table.finish(&[]);
    Some(Health {
        path: path?.value,
        host: host.map(|host| host.value),
        interval,
        timeout,
        unhealthy_threshold: unhealthy_threshold.map(|threshold| threshold.value),
        healthy_threshold: healthy_threshold.map(|threshold| threshold.value),
        expect_status,
        initial,
    })
}

/// It is sent as it is written.
fn path(text: &str) -> Result<String, Wanted> {
    let wanted = wanted("a path that starts with `/`");
    if text.contains("://") && !text.starts_with('/') {
        return Err(wanted.with_help("leave out the scheme and the host"));
    }
    if text.contains('#') {
        return Err(wanted.with_help("leave out the `#` and what follows it: it is never sent"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wanted.with_help("write spaces and what is not ASCII as escapes: `%20`"));
    }
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err(wanted) }
}

/// A name or an address, with or without a port, as in the field `Host`.
fn host(text: &str) -> Result<String, Wanted> {
    let is_port = |port: &str| value::digits(port).is_some_and(|port| (1..=65535).contains(&port));
    let bare = match text.rsplit_once(':') {
        // A colon of an address of version 6 is none before a port, unless brackets say so.
        Some((bare, port)) if is_port(port) && (bare.ends_with(']') || !bare.contains(':')) => bare,
        _ => text,
    };
    let is_bare_v6 = bare.contains(':') && !bare.starts_with('[');
    match value::upstream_host(bare) {
        Ok(_) if !is_bare_v6 => Ok(text.to_ascii_lowercase()),
        Ok(_) => Err(wanted("a host as in the field Host").with_help(format!("write \"[{bare}]\""))),
        Err(_) => Err(wanted("a host as in the field Host, such as app.example.com")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_as_in_the_field() {
        let cases = [
            ("App.example.com", Some("app.example.com")),
            ("app:3000", Some("app:3000")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("10.0.0.1:80", Some("10.0.0.1:80")),
            ("[::1]", Some("[::1]")),
            ("[::1]:80", Some("[::1]:80")),
            ("::1", None),
            ("app:0", None),
            ("app:x", None),
            ("http://app", None),
            ("a b", None),
            ("a\r\nb: c", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(host(text).ok().as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn paths_are_as_they_are_sent() {
        let cases = [
            ("/", true),
            ("/health?full=1", true),
            ("/a%20b", true),
            ("health", false),
            ("/a b", false),
            ("/a\r\nb", false),
            ("/h#x", false),
            ("http://app/health", false),
            ("", false),
        ];
        for (text, expected) in cases {
            assert_eq!(path(text).is_ok(), expected, "{text:?}");
        }
    }
}
