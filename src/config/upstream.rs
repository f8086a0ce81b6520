//! `[upstreams.NAME]` and its instances.

use std::path::PathBuf;

use super::diagnostic::{Diagnostic, Place};
use super::table::Table;
use super::value::{self, Wanted, wanted};
use super::{Address, Instance, Upstream, Written, health, process, strategy, suggest};

const LATER: [&str; 1] = ["tls"];
const PROTOCOLS_LATER: [&str; 3] = ["https", "h2", "h2c"];

const WEIGHT_MAX: u64 = 1000;
const KEEPALIVE_MAX: u64 = 4096;
const FAILS_MAX: u64 = 1000;
/// As many endpoints are remembered for one exchange, less the first.
const RETRIES_MAX: u64 = 7;
const CONNECTIONS_MAX: u64 = 1_000_000;
const QUEUE_MAX: u64 = 100_000;
/// Longest path a Unix socket can have: `sun_path`, less the NUL at its end.
const SOCKET_PATH_MAX: usize = 107;

/// `defined` are the names of the upstreams that files define. `is_simple`: there is no file, and
/// there may be a command on the command line.
pub fn read(name: Written<String>, mut table: Table<'_>, defined: &[String], is_simple: bool) -> Upstream {
    if name.value.is_empty() || name.value.contains(char::is_control) {
        let message = "the name of an upstream must have characters, and only visible ones";
        let help = "a name such as [upstreams.app]";
        table.report().push(Diagnostic::error(name.place.clone(), message).with_help(help));
    }
    let _: Option<()> = table.choice("protocol", &[("http", ())], &PROTOCOLS_LATER);
    let stranger = (!name.place.is_in_file()).then(|| {
        let meant = suggest::nearest(&name.value, defined.iter().map(String::as_str));
        let meant = meant.map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
        format!("there is no such upstream in a file{meant}")
    });
    let is_checked = table.has("health");
    let (strategy, policy) = strategy::read(&mut table);
    let upstream = Upstream {
        name,
        instances: read_instances(&mut table, stranger.as_deref()),
        strategy,
        policy,
        slow_start: table.duration("slow_start"),
        max_fails: table.integer("max_fails", 0..=FAILS_MAX).map(|fails| fails.value),
        fail_timeout: table.duration("fail_timeout"),
        retries: table.integer("retries", 0..=RETRIES_MAX).map(|retries| retries.value),
        max_connections: table.integer("max_connections", 0..=CONNECTIONS_MAX).map(|most| most.value),
        queue: table.integer("queue", 0..=QUEUE_MAX).map(|places| places.value),
        queue_timeout: table.duration("queue_timeout"),
        hold: table.duration("hold"),
        hold_requests: table.integer("hold_requests", 0..=QUEUE_MAX).map(|requests| requests.value),
        keepalive: table.integer("keepalive", 0..=KEEPALIVE_MAX).map(|connections| connections.value),
        keepalive_idle: table.duration("keepalive_idle"),
        connect_timeout: table.duration("connect_timeout"),
        read_timeout: table.duration("read_timeout"),
        write_timeout: table.duration("write_timeout"),
        health: table.table("health").and_then(|table| health::read(table, is_checked)),
        process: process::read(&mut table),
    };
    refuse_queue_of_nobody(&table, &upstream);
    if !is_simple {
        refuse_hold_of_nobody(&table);
    }
    doubt_sockets(&table, &upstream.instances);
    table.finish(&LATER);
    upstream
}

/// Nobody waits where there may be any number of connections.
fn refuse_queue_of_nobody(table: &Table<'_>, upstream: &Upstream) {
    if upstream.max_connections.is_some_and(|most| most > 0) {
        return;
    }
    for key in ["queue", "queue_timeout", "queue_timeout_secs"] {
        if let Some(place) = table.key_place(key) {
            let message =
                format!("{key} changes nothing: {} may have any number of connections", table.title());
            let help = "set max_connections as well, or remove it";
            table.report().push(Diagnostic::error(place, message).with_help(help));
        }
    }
}

/// Who starts an endpoint elsewhere does not tell us that it will be there soon.
fn refuse_hold_of_nobody(table: &Table<'_>) {
    if table.has("process") {
        return;
    }
    for key in ["hold", "hold_secs", "hold_requests"] {
        if let Some(place) = table.key_place(key) {
            let message = format!("{key} changes nothing: {} has no command", table.title());
            let help = "requests are held while a process starts: set process.command as well, or remove it";
            table.report().push(Diagnostic::error(place, message).with_help(help));
        }
    }
}

/// A command that is told to listen on a socket where no instance is will never be asked.
fn doubt_sockets(table: &Table<'_>, instances: &[Instance]) {
    let sockets: Vec<&str> = instances
        .iter()
        .filter_map(|instance| match &instance.address {
            Address::Socket(path) => path.to_str(),
            Address::Host { .. } => None,
        })
        .collect();
    for (argument, place) in table.peek_texts("process", "args") {
        let Some(socket) = socket_in(argument) else { continue };
        if sockets.contains(&socket) {
            continue;
        }
        let message = format!("`{socket}` is the socket of no instance of {}", table.title());
        let help = match sockets.as_slice() {
            [] => "its instances are not on sockets".to_owned(),
            sockets => format!("its instances are at `{}`", sockets.join("`, `")),
        };
        table.report().push(Diagnostic::warning(place.clone(), message).with_help(help));
    }
}

/// The path in `unix:/run/app.sock`, `unix:///run/app.sock?backlog=64`, `--bind=/run/app.sock`.
fn socket_in(argument: &str) -> Option<&str> {
    let is_named = argument.contains("unix:");
    let path = &argument[argument.find('/')?..];
    let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    let path = path.split('?').next().unwrap_or(path);
    // A placeholder stands for the path of an instance.
    (!path.contains('{') && (is_named || path.ends_with(".sock"))).then_some(path)
}

/// The upstream is its own and only instance, or has a list of them. `stranger` is the help for
/// one that no file defines.
fn read_instances(table: &mut Table<'_>, stranger: Option<&str>) -> Vec<Instance> {
    let is_instance = ["host", "port", "socket"].iter().any(|key| table.has(key));
    let listed = table.tables("instances");
    let single = read_instance(table, is_instance || !table.has("instances"), stranger);
    if let (Some(place), true) = (table.key_place("instances"), is_instance) {
        let message = format!("{} has both an address and instances", table.title());
        let address = ["host", "port", "socket"].iter().find_map(|key| table.key_place(key));
        table.report().push(exclusive(place, message, address));
    }
    if let (Some([]), Some(place)) = (listed.as_deref(), table.key_place("instances")) {
        let message = format!("{} has no instances: it needs at least one", table.title());
        let help = "such as instances = [{ host = \"127.0.0.1\", port = 3000 }]";
        table.report().push(Diagnostic::error(place, message).with_help(help));
    }
    let Some(listed) = listed else {
        return single.into_iter().collect();
    };
    let mut instances = Vec::new();
    let mut backup = None;
    for mut table in listed {
        let weight = table.integer("weight", 1..=WEIGHT_MAX).map(|weight| weight.value);
        let is_backup = table.boolean("backup");
        if let Some(instance) = read_instance(&mut table, true, None) {
            let is_backup = is_backup.as_ref().map(|backup| backup.value);
            instances.push(Instance { weight, backup: is_backup, ..instance });
        }
        backup = backup.or(is_backup.filter(|backup| backup.value));
        table.finish(&[]);
    }
    if let Some(backup) = backup.filter(|_| instances.iter().all(|one| one.backup == Some(true))) {
        let message = format!("all instances of {} are backups", table.title());
        let help = "a backup stands in for others: leave it out of at least one instance";
        table.report().push(Diagnostic::error(backup.place, message).with_help(help));
    }
    instances
}

/// `host` and `port`, or `socket`. Asks for the keys even where no instance is `wanted`.
fn read_instance(table: &mut Table<'_>, wanted: bool, help: Option<&str>) -> Option<Instance> {
    let host = table.parsed("host", value::upstream_host);
    let port = table.integer("port", 1..=65535);
    let socket = table.parsed("socket", socket_path);
    let title = table.title();
    let absent = |message: String, usual: &str| {
        let place = table.place().clone();
        table.report().push_unless_torn(Diagnostic::error(place, message).with_help(help.unwrap_or(usual)));
        None
    };
    match (table.has("host"), table.has("port"), table.has("socket")) {
        (true, true, false) => Some(Address::Host { host: host?.value, port: port?.value }.into()),
        (false, false, true) => Some(Address::Socket(socket?.value).into()),
        (false, false, false) if !wanted => None,
        (true, false, false) => {
            absent(format!("{title} has a host, but no port"), "add port = 3000, or another one")
        }
        (false, true, false) => {
            absent(format!("{title} has a port, but no host"), "add host = \"127.0.0.1\", or another one")
        }
        (false, false, false) => absent(
            format!("{title} needs host and port, or socket"),
            "such as host = \"127.0.0.1\" and port = 3000, or socket = \"/run/app.sock\"",
        ),
        (_, _, true) => {
            let place = table.key_place("socket")?;
            let message = format!("{title} has both a socket and a host or port");
            let address = table.key_place("host").or_else(|| table.key_place("port"));
            table.report().push(exclusive(place, message, address));
            None
        }
    }
}

/// Two ways to say where it is.
fn exclusive(place: Place, message: String, other: Option<Place>) -> Diagnostic {
    let exclusive = Diagnostic::error(place, message).with_help("keep one of them");
    match other {
        Some(other) => exclusive.with_related(other, "the other one"),
        None => exclusive,
    }
}

pub fn socket_path(text: &str) -> Result<PathBuf, Wanted> {
    match text.len() {
        0 => Err(wanted("a path")),
        1..=SOCKET_PATH_MAX => Ok(PathBuf::from(text)),
        bytes => {
            let help = format!("it has {bytes} bytes; shorten it, or use a relative path");
            Err(wanted(format!("a path of at most {SOCKET_PATH_MAX} bytes")).with_help(help))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_sockets_in_several_ways() {
        let cases = [
            ("unix:///tmp/puma.sock", Some("/tmp/puma.sock")),
            ("unix:/run/app", Some("/run/app")),
            ("unix:///run/a.sock?backlog=64", Some("/run/a.sock")),
            ("--bind=/run/a.sock", Some("/run/a.sock")),
            ("unix://{socket}", None),
            ("unix:///run/{index}.sock", None),
            ("cable/config.ru", None),
            ("/etc/app.toml", None),
            ("puma", None),
        ];
        for (argument, expected) in cases {
            assert_eq!(socket_in(argument), expected, "{argument}");
        }
    }
}
