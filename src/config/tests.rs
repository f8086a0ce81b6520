//! Mistakes and where they are found.

use std::path::PathBuf;

use super::*;

pub fn sources(text: &str, environment: &[(&str, &str)]) -> Sources {
    let variables = environment.iter();
    Sources {
        file: Some(File { path: PathBuf::from("w.toml"), text: text.to_owned() }),
        environment: variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Sources::default()
    }
}

/// `line:column: message`, or `place: message`; with the help, if there is one, in brackets.
pub fn said(diagnostics: &[Diagnostic]) -> Vec<String> {
    let say = |one: &Diagnostic| {
        let place = one.place.to_string();
        let place = place.strip_prefix("w.toml:").unwrap_or(&place);
        let help = one.help.as_ref().map(|help| format!(" [{help}]"));
        format!("{place}: {}{}", one.message, help.unwrap_or_default())
    };
    diagnostics.iter().map(say).collect()
}

/// Each text, and all that is said of it.
type Cases = &'static [(&'static str, &'static [&'static str])];

fn check(cases: Cases) {
    for (text, expected) in cases {
        let (_, diagnostics) = read(&sources(text, &[]));
        assert_eq!(said(&diagnostics), *expected, "in:\n{text}");
    }
}

#[test]
fn the_server_table_is_checked() {
    check(SERVER);
}

#[test]
fn limits_and_durations_are_checked() {
    check(LIMITS_AND_DURATIONS);
}

#[test]
fn upstreams_are_checked() {
    check(UPSTREAMS);
}

#[test]
fn routes_are_checked() {
    check(ROUTES);
}

#[test]
fn the_other_tables_are_checked() {
    check(OTHER_TABLES);
}

#[test]
fn after_broken_syntax_what_can_be_understood_is_checked() {
    check(BROKEN_SYNTAX);
}

#[test]
fn what_is_right_is_not_mentioned() {
    let text = r#"
[server]
http_port = 0x1F90
bind = ["[::1]", "127.0.0.1"]
shutdown_timeout_secs = 5
trusted_proxies = ["10.0.0.0/8", "::1"]
[server.limits]
head_bytes = "1m"
request_body_bytes = 1_000
[upstreams.a]
read_timeout = "1 m"
instances = [{ socket = "s" }, { host = "H.example", port = 1 }]
[upstreams."b c"]
host = "[2001:db8::1]"
port = 65535
[[routes]]
host = "A.example"
upstream = "a"
"#;
    let (config, warnings) = parse(&sources(text, &[])).unwrap();
    assert_eq!(said(&warnings), Vec::<String>::new());
    assert_eq!(config.server.http_port, Some(8080));
    assert_eq!(config.server.shutdown_timeout, Some(Duration::from_secs(5)));
    assert_eq!(config.limits.head_bytes, Some(1 << 20));
    assert_eq!(config.limits.request_body, Some(1000));
    assert_eq!(config.upstreams[0].read_timeout, Some(Duration::from_secs(60)));
    let host = |host: &str, port| Instance::from(Address::Host { host: host.to_owned(), port });
    let socket = Instance::from(Address::Socket(PathBuf::from("s")));
    assert_eq!(config.upstreams[0].instances, [socket, host("h.example", 1)]);
    assert_eq!(config.upstreams[1].name.value, "b c");
    assert_eq!(config.upstreams[1].instances, [host("2001:db8::1", 65535)]);
    assert_eq!(config.routes[0].hosts, [Host::Exact("a.example".to_owned())]);
    assert_eq!(config.level(), Level::Info);
}

/// Whatever the bytes, reading ends with an answer.
#[test]
fn a_file_cut_anywhere_is_read_without_a_panic() {
    let text = include_str!("../../config/warpdrive.toml");
    let ends = text.char_indices().map(|(at, _)| at);
    for end in ends.step_by(7) {
        let (_, diagnostics) = read(&sources(&text[..end], &[]));
        let _ = said(&diagnostics);
        for one in &diagnostics {
            assert!(!one.to_string().is_empty());
        }
    }
}

const SERVER: Cases = &[
    (
        "[server]
http_prt = 80",
        &["2:1: unknown key `http_prt` in [server] [did you mean `http_port`?]"],
    ),
    (
        "[sever]
http_port = 80",
        &["1:2: unknown table `sever` [did you mean `[server]`?]"],
    ),
    ("server = 1", &["1:10: server must be a table, not an integer [write [server], and its keys below]"]),
    (
        "[server]
http_port = 70000",
        &["2:13: http_port must be an integer from 0 to 65535, not 70000"],
    ),
    (
        "[server]
http_port = -1",
        &["2:13: http_port must be an integer from 0 to 65535, not -1"],
    ),
    (
        r#"[server]
http_port = "80""#,
        &["2:13: http_port must be an integer, not a string [write http_port = 80, without quotes]"],
    ),
    (
        "[server]
http_port = 80.5",
        &["2:13: http_port must be an integer, not a decimal number"],
    ),
    (
        "[server]
worker_threads = 0",
        &["2:18: worker_threads must be an integer from 1 to 1024, not 0"],
    ),
    (
        r#"[server]
io = "epol""#,
        &["2:6: io must be `auto`, `io_uring` or `epoll`, not `epol` [did you mean `epoll`?]"],
    ),
    (
        r#"[server]
bind = "0.0.0.0""#,
        &[r#"2:8: bind must be a list of strings, not a string [write bind = ["0.0.0.0"]]"#],
    ),
    (
        "[server]
bind = []",
        &["2:1: bind must have at least one address, or be left out for all of them"],
    ),
    (
        r#"[server]
bind = ["0.0.0.0:80", "unix:/run/w.sock", 7, "::", "[::]"]"#,
        &[
            "2:9: each of bind must be an IP address, not `0.0.0.0:80` [the port has a key of its own, `http_port`]",
            "2:23: each of bind must be an IP address, not `unix:/run/w.sock` [`unix:` does not work yet in this version]",
            "2:43: each of bind must be a string, not an integer",
            "2:52: bind has :: twice [remove one of them]",
        ],
    ),
    (
        r#"[server]
trusted_proxies = ["10.0.0.1/8", "proxy"]"#,
        &[
            "2:20: each of trusted_proxies must be the first address of a network, not `10.0.0.1/8` [did you mean `10.0.0.0/8`?]",
            "2:34: each of trusted_proxies must be an IP address, or a network such as 10.0.0.0/8, not `proxy`",
        ],
    ),
    (
        r#"[server]
user = "www"
proxy_protocol = "v1"
group = "www""#,
        &[
            "2:1: `user` in [server] is known, but does not work yet in this version",
            "3:1: `proxy_protocol` in [server] is known, but does not work yet in this version",
            "4:1: `group` in [server] is known, but does not work yet in this version",
        ],
    ),
];

const LIMITS_AND_DURATIONS: Cases = &[
    (
        "[server]
shutdown_timeout = 30",
        &[
            r#"2:20: shutdown_timeout must be a duration with a unit, not 30 [write shutdown_timeout = "30s" or shutdown_timeout_secs = 30]"#,
        ],
    ),
    (
        r#"[server]
shutdown_timeout = "soon""#,
        &[r#"2:20: shutdown_timeout must be a duration such as "5s", "250ms", "5m" or "1h", not "soon""#],
    ),
    (
        r#"[server]
shutdown_timeout = "0s""#,
        &[r#"2:20: shutdown_timeout must be longer than 0, not "0s""#],
    ),
    (
        r#"[server]
shutdown_timeout = "25h""#,
        &[r#"2:20: shutdown_timeout must be at most "24h", not "25h""#],
    ),
    (
        r#"[server]
shutdown_timeout = "5s"
shutdown_timeout_secs = 5"#,
        &["3:1: shutdown_timeout and shutdown_timeout_secs are the same setting [keep one of them]"],
    ),
    (
        r#"[server]
shutdown_timeout_secs = "5s""#,
        &["2:25: shutdown_timeout_secs must be an integer, not a string"],
    ),
    (
        r#"[server.limits]
head_bytes = 10
fields = 257
uri_bytes = "1 MB"
request_body = -1"#,
        &[
            "2:14: head_bytes must be from 1024 to 1048576 bytes, not 10",
            "3:10: fields must be an integer from 1 to 256, not 257",
            r#"4:13: uri_bytes must be a size in B, KiB, MiB or GiB such as "32 KiB", not "1 MB" [write uri_bytes = "1 MiB"]"#,
            "5:16: request_body must be 0 bytes or more, not -1",
        ],
    ),
    (
        r#"[server.limits]
request_body = "1m"
request_body_bytes = 5
min_rate = true"#,
        &[
            "3:1: request_body and request_body_bytes are the same setting [keep one of them]",
            r#"4:12: min_rate must be a size such as "32 KiB", not a boolean"#,
        ],
    ),
];

const UPSTREAMS: Cases = &[
    (
        "[upstreams.a]",
        &[
            r#"1:1: [upstreams.a] needs host and port, or socket [such as host = "127.0.0.1" and port = 3000, or socket = "/run/app.sock"]"#,
        ],
    ),
    (
        r#"[upstreams.a]
host = "h""#,
        &["1:1: [upstreams.a] has a host, but no port [add port = 3000, or another one]"],
    ),
    (
        "[upstreams.a]
port = 1",
        &[r#"1:1: [upstreams.a] has a port, but no host [add host = "127.0.0.1", or another one]"#],
    ),
    (
        r#"[upstreams.a]
host = "h"
port = 0"#,
        &["3:8: port must be an integer from 1 to 65535, not 0"],
    ),
    (
        r#"[upstreams.a]
host = "http://h"
port = 1"#,
        &[
            "2:8: host must be a host name or an IP address, not `http://h` [leave out the scheme; what it speaks is `protocol`]",
        ],
    ),
    (
        r#"[upstreams.a]
host = "h:80"
port = 1"#,
        &[
            "2:8: host must be a host name or an IP address, not `h:80` [the port has a key of its own, `port`]",
        ],
    ),
    (
        r#"[upstreams.a]
host = "h"
port = 1
socket = "s""#,
        &["4:1: [upstreams.a] has both a socket and a host or port [keep one of them]"],
    ),
    (
        r#"[upstreams.a]
socket = """#,
        &["2:10: socket must be a path, not an empty string"],
    ),
    (
        r#"[upstreams.a]
socket = "s"
[[upstreams.a.instances]]
socket = "t"
[[upstreams.a.instances]]
hots = "t"
weight = 2"#,
        &[
            "3:15: [upstreams.a] has both an address and instances [keep one of them]",
            r#"5:1: [[upstreams.a.instances]] needs host and port, or socket [such as host = "127.0.0.1" and port = 3000, or socket = "/run/app.sock"]"#,
            "6:1: unknown key `hots` in [[upstreams.a.instances]] [did you mean `host`?]",
        ],
    ),
    (
        "[upstreams.a]
instances = []",
        &[
            r#"2:1: [upstreams.a] has no instances: it needs at least one [such as instances = [{ host = "127.0.0.1", port = 3000 }]]"#,
        ],
    ),
    (
        r#"[upstreams]
a = 3
b.socket = "b""#,
        &["2:1: upstreams.a must be a table, not an integer [write [upstreams.a], and its keys below]"],
    ),
    (
        r#"[upstreams.a]
socket = "s"
protocol = "h2""#,
        &["3:12: protocol `h2` is known, but does not work yet in this version"],
    ),
    (
        r#"[upstreams.a]
socket = "s"
strategy = "round-robin"
protocol = "gopher""#,
        &[
            "3:12: strategy must be `round_robin`, `least_conn`, `random`, `ip_hash`, `p2c`, `consistent_hash` or `wasm`, not `round-robin` [did you mean `round_robin`?]",
            "4:12: protocol must be `http`, not `gopher`",
        ],
    ),
    (
        r#"[upstreams.a]
socket = "s"
process.command = "x y"
process.before = ["migrate"]
fallback = "p2c""#,
        &[
            "3:19: command must be a program alone, without its arguments, not `x y` [what follows the program goes into args]",
            "4:19: each of before must be a list of strings, not a string",
            "5:1: fallback is for the strategy `wasm` alone [add strategy = \"wasm\", or remove it]",
        ],
    ),
];

const ROUTES: Cases = &[
    (
        r#"[[routes]]
path_prefix = "/""#,
        &[
            r#"1:1: a route needs an upstream [add upstream = "NAME", the name of one of [upstreams.NAME], or answer with a workload, redirect or respond]"#,
        ],
    ),
    (
        r#"[[routes]]
path_prefix = "api"
upstream = "a""#,
        &["2:15: path_prefix must be a path that starts with `/`, not `api`"],
    ),
    (
        r#"[[routes]]
path_prefix = "/%61pi"
upstream = "a""#,
        &["2:15: path_prefix must be a path in normal form, not `/%61pi` [write `/api`]"],
    ),
    (
        r#"[[routes]]
path_exact = "/a/../b"
upstream = "a""#,
        &["2:14: path_exact must be a path in normal form, not `/a/../b` [write `/b`]"],
    ),
    (
        r#"[[routes]]
path_exact = "/a"
path_prefix = "/a"
upstream = "a""#,
        &["3:1: path_exact and path_prefix exclude each other [keep one of them, or write two routes]"],
    ),
    (
        r#"[[routes]]
path_exact = "/a"
strip_prefix = true
upstream = "a""#,
        &[
            "3:1: strip_prefix needs a path_prefix to strip [add path_prefix to this route, or remove strip_prefix]",
        ],
    ),
    (
        r#"[[routes]]
host = "a.example:80"
upstream = "a"
[[routes]]
host = "a.*.example"
upstream = "a""#,
        &[
            "2:8: host must be a host name such as example.com or *.example.com, not `a.example:80` [leave out the port: it is not compared]",
            "5:8: host must be a host name such as example.com or *.example.com, not `a.*.example` [`*.` can only be at the beginning]",
        ],
    ),
    (
        r#"[[routes]]
rate_limit = 3
cache = true
upstream = "a""#,
        &[
            "2:1: `rate_limit` in [[routes]] is known, but does not work yet in this version",
            "3:1: `cache` in [[routes]] is known, but does not work yet in this version",
        ],
    ),
    (
        r#"[[routes]]
workload = "w"
upstream = "a"
connect_timeout = "1s""#,
        &["3:1: workload and upstream exclude each other [keep one of them]"],
    ),
    (
        "[[routes]]
upstream = 3",
        &[r#"2:12: upstream must be a string, not an integer [write upstream = "3"]"#],
    ),
    (
        r#"routes = { upstream = "a" }"#,
        &[
            "1:10: routes must be a list of tables, not a table [write [[routes]], with two brackets on each side, above each of them]",
        ],
    ),
    ("routes = [1]", &["1:11: each of routes must be a table, not an integer"]),
];

const OTHER_TABLES: Cases = &[
    (
        "[middleware]
x_sendfile_enabled = true
log_request = true",
        &[
            "2:1: `x_sendfile_enabled` in [middleware] is known, but does not work yet in this version",
            "3:1: unknown key `log_request` in [middleware] [did you mean `log_requests`?]",
        ],
    ),
    (
        r#"[log]
format = "text"
level = "trace"
file = """#,
        &[
            "2:10: format must be `json`, `combined` or `custom`, not `text`",
            "3:9: level must be `error`, `warn`, `info` or `debug`, not `trace`",
            "4:8: file must be a path, not an empty string",
        ],
    ),
    (
        r#"[tls]
enabled = true
domains = ["a"]"#,
        &[
            "2:11: `enabled = true` in [tls] is known, but does not work yet in this version",
            "3:1: `domains` in [tls] is known, but does not work yet in this version",
        ],
    ),
    (
        "[tls]
enabled = false",
        &[],
    ),
    (
        r#"[cache]
size_bytes = 1
[admin]
port = 9180
[wasm.images.x]
[postgres]
url = "x""#,
        &[
            "1:2: `cache` is known, but does not work yet in this version",
            "4:1: unknown key `port` in [admin] [did you mean `listen`?]",
            "5:7: `images` in [wasm] is known, but does not work yet in this version",
            "6:2: `postgres` is known, but does not work yet in this version",
        ],
    ),
    (
        "[wasm.components.user]
file = \"user.wasm\"
zzzz = 1",
        &[
            "3:1: unknown key `zzzz` in [wasm.components.user] [[wasm.components.user] has the keys `file`, `env`, `config`, `interface_config`, `limits`, `outgoing`]",
        ],
    ),
    ("include = 1", &["1:11: include must be a list of strings, not an integer"]),
    (r#"include = ["a", 2]"#, &["1:17: each of include must be a string, not an integer"]),
];

const BROKEN_SYNTAX: Cases = &[
    (
        "[server
http_port = 80",
        &["1:8: unclosed table, expected `]`"],
    ),
    (
        "[server]
http_port = 
worker_threads = 0
[upstreams.a]
",
        &["2:13: a value is missing", "3:18: worker_threads must be an integer from 1 to 1024, not 0"],
    ),
    (
        r#"[server]
http_port = 80 81
worker_threads = 0
io = "x
bind = []"#,
        &[
            "2:13: `80 81` is not a value: a string needs quotes",
            "3:18: worker_threads must be an integer from 1 to 1024, not 0",
            r#"4:8: the string has no end [add a `"`]"#,
            "5:1: bind must have at least one address, or be left out for all of them",
        ],
    ),
    (
        "[server]
http_port = 8080x
http_port = 80
",
        &[
            "2:13: `8080x` is not a value: a string needs quotes",
            "3:1: key `http_port` is there twice [keep one of them]",
        ],
    ),
    (
        "[server]
[server]
",
        &["2:2: table `server` is there twice [write all keys of a table under one header]"],
    ),
    (
        "= 3
server.prot = 3",
        &[
            "1:1: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`",
            "2:8: unknown key `prot` in [server] [[server] has the keys `http_port`, `https_port`, `bind`, `worker_threads`, `pin_cores`, `trusted_proxies`, `untrusted_headers`, `io`, `shutdown_timeout`, `watch`, `abort_on_close`, `encoded_slash`, `limits`]",
        ],
    ),
    (
        r#"a = "\q"
[server]
io = 'x"#,
        &[
            "1:7: this is no escape sequence [write `\\\\` for a backslash, or put the string into single quotes]",
            "3:8: the string has no end [add a `'`]",
        ],
    ),
    (
        "\u{feff}[log]\nfil = 1\r\nlevl = 2\r\n",
        &[
            "2:1: unknown key `fil` in [log] [did you mean `file`?]",
            "3:1: unknown key `levl` in [log] [did you mean `level`?]",
        ],
    ),
];
