//! `[server]` and `[server.limits]`.

use std::net::{IpAddr, SocketAddr};

use super::diagnostic::Diagnostic;
use super::table::Table;
use super::value::{self, wanted};
use super::{EncodedSlash, Io, Limits, Server};

const SERVER_LATER: [&str; 4] = ["group", "h2c_enabled", "proxy_protocol", "user"];

/// Heads larger than this are an attack, not a need.
const HEAD_BYTES_MAX: u64 = 1 << 20;
/// As many as a head can have at all.
const FIELDS_MAX: u64 = 256;
const WORKER_THREADS_MAX: u64 = 1024;

pub fn read(mut table: Table<'_>) -> (Server, Limits) {
    let io = [("auto", Io::Auto), ("io_uring", Io::IoUring), ("epoll", Io::Epoll)];
    let encoded_slash = [("keep", EncodedSlash::Keep), ("reject", EncodedSlash::Reject)];
    let server = Server {
        http_port: table.integer("http_port", 0..=65535).map(|port| port.value),
        https_port: table.integer("https_port", 0..=65535),
        bind: read_bind(&mut table),
        worker_threads: table.integer("worker_threads", 1..=WORKER_THREADS_MAX).map(|threads| threads.value),
        pin_cores: table.boolean("pin_cores").map(|pin| pin.value),
        trusted_proxies: table
            .list("trusted_proxies", value::network)
            .unwrap_or_default()
            .into_iter()
            .map(|network| network.value)
            .collect(),
        untrusted_headers: table.list("untrusted_headers", value::field_pattern).unwrap_or_default(),
        io: table.choice("io", &io, &[]),
        shutdown_timeout: table.duration("shutdown_timeout"),
        watch: table.boolean("watch").map(|watch| watch.value),
        abort_on_close: table.boolean("abort_on_close").map(|abort| abort.value),
        encoded_slash: table.choice("encoded_slash", &encoded_slash, &[]),
    };
    warn_of_https(&table, &server);
    let limits = table.table("limits").map(read_limits).unwrap_or_default();
    table.finish(&SERVER_LATER);
    (server, limits)
}

fn read_bind(table: &mut Table<'_>) -> Option<Vec<IpAddr>> {
    let written = table.list("bind", |text| {
        let wanted = wanted("an IP address");
        match (value::ip_address(text), text.parse::<SocketAddr>()) {
            (Some(address), _) => Ok(address),
            (None, Ok(_)) => Err(wanted.with_help("the port has a key of its own, `http_port`")),
            (None, Err(_)) if text.starts_with("unix:") => {
                Err(wanted.with_help("`unix:` does not work yet in this version"))
            }
            (None, Err(_)) => Err(wanted),
        }
    })?;
    for (index, address) in written.iter().enumerate() {
        let first = written[..index].iter().find(|earlier| earlier.value == address.value);
        if let Some(first) = first {
            let message = format!("bind has {} twice", address.value);
            let twice = Diagnostic::error(address.place.clone(), message)
                .with_related(first.place.clone(), "first here")
                .with_help("remove one of them");
            table.report().push(twice);
        }
    }
    if written.is_empty() && table.is_empty_list("bind") {
        let place = table.key_place("bind")?;
        let message = "bind must have at least one address, or be left out for all of them";
        table.report().error(&place, message);
    }
    Some(written.into_iter().map(|address| address.value).collect())
}

fn warn_of_https(table: &Table<'_>, server: &Server) {
    let (Some(port), Some(place)) = (&server.https_port, table.key_place("https_port")) else {
        return;
    };
    let message =
        format!("https_port {} opens no listener: no certificate and no domain is configured", port.value);
    let help = "remove it: there is no TLS in this version";
    table.report().push(Diagnostic::warning(place, message).with_help(help));
}

fn read_limits(mut table: Table<'_>) -> Limits {
    let narrow = |bytes: u64| usize::try_from(bytes).ok();
    let limits = Limits {
        head_bytes: table.size("head_bytes", 1 << 10..=HEAD_BYTES_MAX).and_then(narrow),
        fields: table.integer("fields", 1..=FIELDS_MAX).map(|fields| fields.value),
        uri_bytes: table.size("uri_bytes", 1..=HEAD_BYTES_MAX).and_then(narrow),
        request_body: table.size("request_body", 0..=u64::MAX),
        connections: table
            .integer("connections", 0..=u64::from(u32::MAX))
            .map(|connections| connections.value),
        connections_per_ip: table
            .integer("connections_per_ip", 0..=u64::from(u32::MAX))
            .map(|connections| connections.value),
        head_timeout: table.duration("head_timeout"),
        idle_timeout: table.duration("idle_timeout"),
        body_timeout: table.duration("body_timeout"),
        write_timeout: table.duration("write_timeout"),
        min_rate: table.size("min_rate", 0..=u64::from(u32::MAX)),
        tunnel_timeout: table.duration("tunnel_timeout"),
        tunnel_linger: table.duration("tunnel_linger"),
    };
    table.finish(&[]);
    limits
}
