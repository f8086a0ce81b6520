//! What a proxy changes in the fields of a message: hop-by-hop, forwarding, its own log.

use crate::harness::client::get;
use crate::harness::origin::{Request, ok};
use crate::harness::{Builder, Origin, Proxy};

/// What the origin sees of a `GET` with these fields.
fn seen_through(builder: Builder, origin: &Origin, fields: &str) -> Request {
    let proxy = builder.start();
    let mut client = proxy.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n"));
    assert_eq!(client.response().status, 200);
    origin.only_request()
}

const SPOOFED: &str = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\
    X-Forwarded-Host: evil.test\r\nX-Forwarded-Port: 6666\r\nX-Real-IP: 6.6.6.6\r\n\
    X-Request-Id: spoofed-id\r\nX-Request-Start: t=1\r\n";

#[test]
fn hop_by_hop_fields_of_a_request_do_not_cross() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: X-Named, keep-alive, Content-Length, Host\r\n\
         Connection: x-also\r\nX-Named: 1\r\nX-Also: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: close\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\
         Content-Length: 2\r\nX-Kept: 1\r\n\r\nhi",
    );
    assert_eq!(client.response_to("POST").status, 200);
    let seen = origin.only_request();
    for name in ["x-named", "x-also", "keep-alive", "proxy-connection", "te", "upgrade"] {
        assert!(!seen.head.has(name), "{name} in {:#?}", seen.head.fields);
    }
    let named = seen.head.values("connection").join(",").to_ascii_lowercase();
    assert!(!named.contains("x-named") && !named.contains("close"), "{named}");
    assert_eq!(seen.head.value("x-kept"), Some("1"));
    // Naming them in Connection does not take away what the message needs.
    assert_eq!((seen.head.value("host"), seen.body.as_slice()), (Some("a"), b"hi".as_slice()));
}

#[test]
fn hop_by_hop_fields_of_a_response_do_not_cross() {
    let origin = Origin::answering(|_| {
        b"HTTP/1.1 200 OK\r\nConnection: X-Named, keep-alive\r\nX-Named: 1\r\n\
          Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\n\
          Set-Cookie: a=1\r\nX-Kept: 1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"
            .to_vec()
    });
    let proxy = Proxy::to(&origin);
    let head = get(proxy.address(), "/").head;
    for name in ["x-named", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(!head.has(name), "{name} in {:#?}", head.fields);
    }
    assert_eq!(head.values("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(head.value("x-kept"), Some("1"));
}

#[test]
fn a_close_of_the_upstream_is_not_a_close_for_the_client() {
    let origin = Origin::scripted(|c| {
        c.expect_request()?;
        c.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "hi");
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn forwarding_fields_are_set_and_what_a_stranger_sent_is_replaced() {
    for fields in ["", SPOOFED] {
        let origin = Origin::ok("fine");
        let seen = seen_through(Proxy::with(&origin), &origin, fields);
        check_own(&seen);
    }
}

/// The forwarding fields say only what we know ourselves.
fn check_own(seen: &Request) {
    let head = &seen.head;
    assert_eq!(head.value("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(head.value("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(head.value("x-forwarded-proto"), Some("http"));
    assert_eq!(head.value("x-forwarded-host"), Some("shop.test"));
    let port = head.value("x-forwarded-port").unwrap_or_default();
    assert!(port.parse::<u16>().is_ok() && port != "6666", "port {port:?}");
    let id = head.value("x-request-id").unwrap_or_default();
    assert!(id.len() >= 16 && id != "spoofed-id", "id {id:?}");
    let start = head.value("x-request-start").unwrap_or_default();
    let digits = start.trim_start_matches("t=").replace('.', "");
    let is_time = digits.len() >= 10 && digits.bytes().all(|b| b.is_ascii_digit());
    assert!(is_time, "start {start:?}");
}

#[test]
fn trust_needs_both_the_peer_and_the_setting() {
    let origin = Origin::ok("fine");
    let only_setting = Proxy::with(&origin).middleware("forward_headers = true");
    check_own(&seen_through(only_setting, &origin, SPOOFED));

    let origin = Origin::ok("fine");
    let only_peer = Proxy::with(&origin).server("trusted_proxies = [\"127.0.0.0/8\"]");
    check_own(&seen_through(only_peer, &origin, SPOOFED));

    let origin = Origin::ok("fine");
    let another_peer = Proxy::with(&origin)
        .middleware("forward_headers = true")
        .server("trusted_proxies = [\"10.0.0.0/8\", \"127.0.0.2\"]");
    check_own(&seen_through(another_peer, &origin, SPOOFED));
}

#[test]
fn what_a_trusted_proxy_sent_is_kept_and_extended() {
    let origin = Origin::ok("fine");
    let trusting = Proxy::with(&origin)
        .middleware("forward_headers = true")
        .server("trusted_proxies = [\"127.0.0.0/8\", \"::1\"]");
    let head = seen_through(trusting, &origin, SPOOFED).head;
    let list = head.values("x-forwarded-for").join(",").replace(' ', "");
    assert_eq!(list, "6.6.6.6,127.0.0.1");
    assert_eq!(head.value("x-forwarded-proto"), Some("https"));
    assert_eq!(head.value("x-forwarded-host"), Some("evil.test"));
    assert_eq!(head.value("x-forwarded-port"), Some("6666"));
    assert_eq!(head.value("x-real-ip"), Some("6.6.6.6"));
    assert_eq!(head.value("x-request-id"), Some("spoofed-id"));
    assert_eq!(head.value("x-request-start"), Some("t=1"));
}

#[test]
fn a_via_is_added_after_those_that_came() {
    let origin = Origin::ok("fine");
    let seen = seen_through(Proxy::with(&origin), &origin, "Via: 1.0 other\r\n");
    let via = seen.head.values("via").join(", ");
    assert!(via.starts_with("1.0 other, 1.1 "), "{via}");
}

#[test]
fn fields_that_steer_an_application_server_are_removed() {
    let origin = Origin::ok("fine");
    let fields = "X-Sendfile-Type: X-Accel-Redirect\r\nX-Accel-Mapping: /=/x/\r\n\
                  X-Accel-Redirect: /etc\r\nX-Sendfile: /etc/passwd\r\nX-Accel-Buffering: no\r\n";
    let head = seen_through(Proxy::with(&origin), &origin, fields).head;
    let steering = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.starts_with("x-accel-") || name.starts_with("x-sendfile")
    };
    let left: Vec<_> = head.fields.iter().filter(|(name, _)| steering(name)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_access_log_tells_each_exchange() {
    let origin = Origin::answering(|_| ok("twelve bytes"));
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send("POST /p/%61?q=1 HTTP/1.1\r\nHost: Shop.test:80\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response_to("POST").status, 200);
    let line = proxy.log_line(200);
    assert_eq!(line.text("method"), "POST");
    assert!(line.text("path").starts_with("/p/"), "{line:?}");
    assert!(line.text("host").to_ascii_lowercase().starts_with("shop.test"), "{line:?}");
    assert!(line.text("client").contains("127.0.0.1"), "{line:?}");
    assert!(!line.text("upstream").is_empty() && !line.text("route").is_empty(), "{line:?}");
    assert_eq!(line.text("protocol"), "HTTP/1.1");
    assert_eq!(line.text("reason"), "", "nothing to explain in {line:?}");
    assert!(line.number("bytes_out") >= 12 && line.number("bytes_in") >= 5, "{line:?}");
    assert!(line.number("duration_ms") < 10_000, "{line:?}");
    let seen = origin.only_request();
    assert_eq!(Some(line.text("request_id")), seen.head.value("x-request-id"));
}

#[test]
fn a_log_line_cannot_be_forged() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send("GET /%0a\"} HTTP/1.1\r\nHost: a\r\nUser-Agent: \"},{\\\" \u{e9}\t\r\n\r\n");
    client.response();
    // Reading the log fails if a line is not JSON.
    assert_eq!(proxy.log_lines(1, |_| true).len(), 1);
}

#[test]
fn the_log_can_be_in_the_combined_format_on_stdout() {
    let origin = Origin::ok("fine");
    let route = "[[routes]]\npath_prefix = \"/\"\nupstream = \"app\"";
    let text = format!(
        "[server]\nhttp_port = 0\nbind = [\"127.0.0.1\"]\n[log]\nformat = \"combined\"\n\
         [upstreams.app]\n{}\n{route}\n",
        origin.toml()
    );
    let proxy = Proxy::from_text(&text);
    get(proxy.address(), "/seen?q");
    crate::harness::eventually("the line on stdout", || {
        let lines = proxy.stdout();
        let found = lines.iter().any(|l| l.contains("\"GET /seen?q HTTP/1.1\" 200 4"));
        crate::harness::holds(found, lines)
    });
}

#[test]
fn server_timing_tells_who_answered_where_it_is_wanted() {
    let origin = Origin::answering(|_| {
        b"HTTP/1.1 200 OK\r\nServer-Timing: db;dur=5\r\nContent-Length: 0\r\n\r\n".to_vec()
    });
    for is_on in [false, true] {
        let builder = Builder::new()
            .middleware(&format!("server_timing = {is_on}"))
            .upstream("app", &origin, "")
            .toml("[upstreams.gone]\nsocket = \"/nonexistent/a.sock\"")
            .route("gone", "path_exact = \"/gone\"")
            .route("app", "path_prefix = \"/a\"")
            .workers(1);
        let line = |n: usize| {
            let text = builder.text();
            let (at, _) = text.match_indices("[[routes]]").nth(n).unwrap();
            text[..at].lines().count() + 1
        };
        let (gone, app) = (line(0), line(1));
        let proxy = builder.start();
        let file = proxy.directory().join("warpdrive.toml").display().to_string();
        let address = origin.address();
        let cases = [
            ("/a", format!(", route;desc=\"{file}:{app}\", endpoint;desc=\"{address}\", upstream;dur=")),
            ("/gone", format!(", route;desc=\"{file}:{gone}\"")),
            ("/none", String::new()),
        ];
        let mut client = proxy.client();
        for (path, told) in cases {
            let head = client.get(path).head;
            let mut fields = head.values("server-timing");
            if path == "/a" {
                assert_eq!(fields.remove(0), "db;dur=5", "the upstream's own stays");
            }
            if !is_on {
                assert!(fields.is_empty(), "{path}: {fields:?}");
                continue;
            }
            let [field] = fields[..] else { panic!("{path}: {fields:?}") };
            let rest = field.strip_prefix("worker;desc=\"0\"").unwrap_or_else(|| panic!("{field}"));
            let rest = rest.strip_prefix(&*told).unwrap_or_else(|| panic!("{field}; wanted {told}"));
            let (whole, part) = rest.split_once('.').unwrap_or(("", ""));
            let is_duration = whole.parse::<u64>().is_ok() && part.len() == 3 && part.parse::<u64>().is_ok();
            assert_eq!(is_duration, path == "/a", "{field}");
        }
    }
}
