//! Every limit of `[server.limits]`: what is within it passes and keeps its connection; what is
//! beyond gets the status, the reason in the access log, and the end that the README promises.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::harness::client::{End, request};
use crate::harness::origin::ok;
use crate::harness::{Client, Origin, Proxy, eventually, holds, pattern, show};

/// The keys of `[server.limits]`, each with the tests here that reach it.
const REACHED: &[(&str, &[&str])] = &[
    ("head_bytes", &["sizes_have_their_limits", "a_head_that_never_ends_is_refused_at_the_limit"]),
    ("fields", &["sizes_have_their_limits"]),
    ("uri_bytes", &["sizes_have_their_limits"]),
    ("request_body", &["sizes_have_their_limits"]),
    ("connections", &["connections_over_the_limit_are_refused_with_503"]),
    ("connections_per_ip", &["connections_of_one_address_over_the_limit_are_refused_with_429"]),
    ("head_timeout", &["a_head_that_comes_too_slowly_is_408"]),
    (
        "idle_timeout",
        &["an_idle_connection_is_closed_without_a_word", "empty_lines_do_not_keep_an_idle_connection"],
    ),
    ("body_timeout", &["a_request_body_that_stalls_is_408"]),
    ("write_timeout", &["a_client_that_takes_nothing_is_cut"]),
    ("min_rate", &["a_request_body_below_the_least_rate_is_408"]),
    ("tunnel_timeout", &["a_tunnel_that_is_silent_both_ways_is_closed"]),
    ("tunnel_linger", &["a_client_cannot_keep_a_tunnel_that_its_origin_has_closed"]),
];

#[test]
fn every_limit_is_reached_by_a_test() {
    let reference = include_str!("../../config/warpdrive.toml");
    let table = reference.split("\n[server.limits]\n").nth(1).and_then(|rest| rest.split("\n[").next());
    let lines = table.expect("the table of limits").lines();
    let keys: Vec<&str> = lines.filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
    let reached: Vec<&str> = REACHED.iter().map(|(key, _)| *key).collect();
    assert_eq!(reached, keys);
    let own = include_str!("limits.rs");
    for test in REACHED.iter().flat_map(|(_, tests)| *tests) {
        assert!(own.contains(&format!("#[test]\nfn {test}()")), "{test}");
    }
}

/// A size at its limit and one beyond.
struct Size {
    /// Lines of `[server.limits]`; empty for the defaults.
    limit: &'static str,
    within: String,
    beyond: String,
    status: u16,
    reason: &'static str,
}

fn head(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// A head of exactly so many bytes.
fn head_of(bytes: usize) -> String {
    let rest = head("/", "X: \r\n").len();
    head("/", &format!("X: {}\r\n", "x".repeat(bytes - rest)))
}

/// A head with so many fields.
fn fields_of(count: usize) -> String {
    head("/", &(1..count).map(|number| format!("X-{number}: v\r\n")).collect::<String>())
}

/// A head whose target has so many bytes.
fn target_of(bytes: usize) -> String {
    head(&format!("/{}", "x".repeat(bytes - 1)), "")
}

fn declared(bytes: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes))
}

/// A body in chunks of these sizes.
fn chunked(sizes: &[usize]) -> String {
    let chunks: String = sizes.iter().map(|size| format!("{size:x}\r\n{}\r\n", "x".repeat(*size))).collect();
    format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
}

fn sizes() -> Vec<Size> {
    let size = |limit, within, beyond, (status, reason)| Size { limit, within, beyond, status, reason };
    let (head, fields) = ((431, "head too large"), (431, "too many fields"));
    let (uri, body) = ((414, "request target too long"), (413, "request body too large"));
    vec![
        size("head_bytes = 2048", head_of(2048), head_of(2049), head),
        size("head_bytes = 2048", head_of(2048), head_of(200_000), head),
        size("", head_of(32 << 10), head_of((32 << 10) + 1), head),
        size("fields = 3", fields_of(3), fields_of(4), fields),
        size("", fields_of(100), fields_of(101), fields),
        size("", fields_of(100), fields_of(1000), fields),
        size("uri_bytes = 100", target_of(100), target_of(101), uri),
        size("", target_of(8 << 10), target_of((8 << 10) + 1), uri),
        size("", target_of(8 << 10), target_of(100_000), uri),
        size("request_body = 1000", declared(1000), declared(1001), body),
        size("request_body = 1000", declared(0), declared(1 << 20), body),
        size("request_body = 1000", chunked(&[1000]), chunked(&[1001]), body),
        size("request_body = 1000", chunked(&[400, 600]), chunked(&[1000, 1]), body),
        size("request_body = 1000", chunked(&[]), chunked(&[64 << 10; 16]), body),
    ]
}

#[test]
fn sizes_have_their_limits() {
    for Size { limit, within, beyond, status, reason } in sizes() {
        let name = format!("{limit}: {}", show(beyond.as_bytes()));
        let origin = Origin::ok("small enough");
        let proxy = Proxy::with(&origin).limit(limit).start();
        let mut client = proxy.client();
        for sent in [within, head("/after", "")] {
            assert_eq!(client.send(sent).response_to("POST").status, 200, "{name}");
        }
        let mut client = proxy.client();
        // It may be refused before all of it is sent; the answer can be read all the same.
        client.offer(beyond.as_bytes());
        let response = client.response_to("POST");
        assert_eq!(response.status, status, "{name}");
        assert_eq!(response.head.value("connection"), Some("close"), "{name}");
        assert_eq!(response.text().trim_end(), reason, "{name}");
        assert_eq!(client.expect_end(), End::Closed, "{name}");
        assert_eq!(proxy.log_line(status.into()).text("reason"), reason, "{name}");
        assert_eq!(origin.requests().len(), 2, "{name}: one over the limit became whole");
    }
}

#[test]
fn a_head_that_never_ends_is_refused_at_the_limit() {
    let origin = Origin::ok("never seen");
    let proxy = Proxy::with(&origin).limit("head_bytes = \"4 KiB\"").start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Endless: ");
    for _ in 0..64 {
        if !client.offer(&[b'x'; 1024]) {
            break;
        }
    }
    assert_eq!(client.response().status, 431);
    client.expect_end();
    assert_eq!(proxy.log_line(431).text("reason"), "head too large");
}

#[test]
fn connections_over_the_limit_are_refused_with_503() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::with(&origin).limit("connections = 2").start();
    check_connection_limit(&proxy, 503, "too many connections");
}

#[test]
fn connections_of_one_address_over_the_limit_are_refused_with_429() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::with(&origin).limit("connections_per_ip = 2").start();
    let _kept = check_connection_limit(&proxy, 429, "too many connections of one address");
    let mut other = Client::connect_from(Ipv4Addr::new(127, 0, 0, 2), proxy.address());
    assert_eq!(other.get("/").status, 200, "another address has its own count");
}

/// Two connections are served, the third is refused; one that leaves makes room.
fn check_connection_limit(proxy: &Proxy, status: u16, reason: &str) -> Vec<Client> {
    let mut kept: Vec<Client> = (0..2).map(|_| proxy.client()).collect();
    for client in &mut kept {
        assert_eq!(client.get("/").status, 200);
    }
    let mut third = proxy.client();
    third.offer(&request("/"));
    assert_eq!(third.response().status, status);
    assert_eq!(third.expect_end(), End::Closed);
    assert_eq!(proxy.log_line(status.into()).text("reason"), reason);
    for client in &mut kept {
        assert_eq!(client.get("/").status, 200, "those within the limit are kept");
    }
    kept.pop();
    let again = eventually("room for one more", || {
        let mut client = proxy.client();
        match client.offer_and_read("/") {
            Some(200) => Ok(client),
            seen => Err(seen),
        }
    });
    kept.push(again);
    kept
}

#[test]
fn a_head_that_comes_too_slowly_is_408() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::with(&origin).limit("head_timeout = \"600ms\"").start();
    // Silence within a head, and a head that comes byte by byte: the whole of it counts.
    for drips in [false, true] {
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ");
        let start = Instant::now();
        while client.is_quiet_for(Duration::from_millis(50)) {
            if drips {
                client.offer(b"x");
            }
            assert!(start.elapsed() < Duration::from_secs(5), "no answer, drips: {drips}");
        }
        assert_eq!(client.response().status, 408, "drips: {drips}");
        client.expect_end();
    }
    let lines = proxy.log_lines(2, |line| line.status() == 408);
    assert!(lines.iter().all(|line| line.text("reason") == "request head timeout"), "{lines:#?}");
    assert_eq!(origin.connections(), 0);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n");
    assert!(client.is_quiet_for(Duration::from_millis(200)), "answered before the end");
    assert_eq!(client.send("\r\n").response().status, 200);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::with(&origin).limit("idle_timeout = \"600ms\"").limit("head_timeout = \"5s\"").start();
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    assert!(client.is_quiet_for(Duration::from_millis(200)), "closed too early");
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.expect_end(), End::Closed);
    assert_eq!(proxy.client().expect_end(), End::Closed);
    assert_eq!(proxy.log_lines(2, |_| true).len(), 2, "of silence there is nothing to tell");
}

#[test]
fn empty_lines_do_not_keep_an_idle_connection() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::with(&origin).limit("idle_timeout = \"3s\"").start();
    for has_asked in [false, true] {
        let mut client = proxy.client();
        if has_asked {
            assert_eq!(client.get("/").status, 200);
        }
        let start = Instant::now();
        // Long enough apart for the connection to be parked between two of them.
        while client.is_quiet_for(Duration::from_millis(1300)) {
            client.offer(b"\r\n");
            assert!(start.elapsed() < Duration::from_secs(9), "it is open still");
        }
        client.expect_end();
    }
    // It is not a fault, either.
    let mut client = proxy.client();
    assert!(client.is_quiet_for(Duration::from_millis(1300)));
    assert_eq!(client.send("\r\n").get("/").status, 200);
}

#[test]
fn a_request_body_that_stalls_is_408() {
    let origin = Origin::ok("whole");
    let proxy = Proxy::with(&origin).limit("body_timeout = \"600ms\"").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    assert_eq!(client.response_to("POST").status, 408);
    assert_eq!(client.expect_end(), End::Closed);
    origin.wait_idle();
    assert!(origin.requests().is_empty());
    assert_eq!(proxy.log_line(408).text("reason"), "request body timeout");
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    // More than the timeout in all, and never that much at once.
    for piece in ["w", "o", "r", "l"] {
        assert!(client.is_quiet_for(Duration::from_millis(200)), "answered before the end");
        client.send(piece);
    }
    assert_eq!(client.send("d").response_to("POST").text(), "whole");
}

#[test]
fn a_client_that_takes_nothing_is_cut() {
    const LARGE: usize = 50 << 20;
    let body = pattern(LARGE);
    let origin = Origin::scripted(move |c| {
        c.expect_request()?;
        c.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"))?;
        c.send(&body)
    });
    let proxy = Proxy::with(&origin).limit("write_timeout = \"600ms\"").start();
    let mut client = proxy.client();
    client.send(request("/"));
    let end = origin.wait_end(0);
    assert_ne!(end, "done", "all of it went somewhere");
    assert!(client.try_response_to("GET").is_err(), "a cut body");
    assert_eq!(proxy.log_line(200).text("reason"), "client takes no data");
    // One that only pauses gets everything.
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").until("\r\n\r\n");
    eventually("a pause", {
        let start = Instant::now();
        move || holds(start.elapsed() > Duration::from_millis(200), start.elapsed())
    });
    let (rest, _) = client.rest();
    assert_eq!(rest.len(), LARGE);
}

#[test]
fn a_request_body_below_the_least_rate_is_408() {
    let origin = Origin::ok("fast enough");
    let proxy = Proxy::with(&origin).limit("body_timeout = \"500ms\"").limit("min_rate = 1000").start();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n";
    let send = |client: &mut Client, piece: &[u8]| {
        let start = Instant::now();
        client.send(head);
        for _ in 0..4000 / piece.len() {
            if !client.is_quiet_for(Duration::from_millis(50)) {
                break;
            }
            client.offer(piece);
            assert!(start.elapsed() < Duration::from_secs(8), "no answer");
        }
        client.response_to("POST").status
    };
    let mut slow = proxy.client();
    assert_eq!(send(&mut slow, b"x"), 408);
    slow.expect_end();
    assert_eq!(proxy.log_line(408).text("reason"), "request body slower than min_rate");
    // Longer than `body_timeout` in all, and ten times the rate.
    assert_eq!(send(&mut proxy.client(), &[b'x'; 250]), 200);
}

#[test]
fn a_tunnel_that_is_silent_both_ways_is_closed() {
    let origin = Origin::scripted(|c| {
        c.expect_head()?;
        c.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")?;
        // One direction is enough to keep it: several times the timeout in all.
        for _ in 0..10 {
            c.send("tick ")?;
            if c.is_closed_within(Duration::from_millis(100))? {
                return Err(std::io::Error::other("closed while ticking"));
            }
        }
        c.expect_close()
    });
    let proxy = Proxy::with(&origin).limit("tunnel_timeout = \"400ms\"").start();
    let mut client = proxy.client();
    client.send("GET /t HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(client.head().word(1), "101");
    let (ticks, _) = client.rest();
    assert_eq!(ticks, b"tick ".repeat(10));
    assert_eq!(origin.wait_end(0), "done");
    assert_eq!(proxy.log_line(101).text("reason"), "tunnel timeout");
}

#[test]
fn a_client_cannot_keep_a_tunnel_that_its_origin_has_closed() {
    let origin = Origin::scripted(|c| {
        c.expect_head()?;
        c.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nbye")?;
        c.half_close()?;
        // It reads all that the client sends, until it is cut.
        c.expect_close()
    });
    let proxy = Proxy::with(&origin).limit("tunnel_linger = \"400ms\"").start();
    for talks in [false, true] {
        let mut client = proxy.client();
        client.send("GET /t HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        assert_eq!(client.head().word(1), "101");
        assert_eq!(client.rest(), (b"bye".to_vec(), End::Closed));
        eventually("the end of the tunnel", || {
            if talks {
                client.offer(b"still here ");
            }
            let lines = proxy.log();
            holds(lines.len() == 1 + usize::from(talks), lines)
        });
        assert_eq!(origin.wait_end(usize::from(talks)), "done");
    }
    let reason = "client kept the tunnel open after the upstream had closed it";
    assert!(proxy.log().iter().all(|line| line.text("reason") == reason), "{:?}", proxy.log());
}

#[test]
fn a_limit_of_zero_is_none() {
    let origin = Origin::answering(|request| ok(&request.body.len().to_string()));
    let none = ["request_body = 0", "connections = 0", "connections_per_ip = 0", "min_rate = 0"];
    let proxy = none.into_iter().fold(Proxy::with(&origin), |proxy, line| proxy.limit(line)).start();
    let mut clients: Vec<Client> = (0..50).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.send(declared(100_000)).response_to("POST").text(), "100000");
    }
}
