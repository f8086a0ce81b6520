//! What a client may send: everything that is not exactly HTTP/1.1 is refused at the border.

use std::time::Duration;

use crate::harness::client::{Client, Response, get, request};
use crate::harness::{Origin, Proxy, Random, pattern, show};

/// A name, what is sent, and the status that it is refused with.
type Case = (&'static str, &'static str, u16);

/// Sends each case on a connection of its own: it is refused, the connection ends, the origin
/// gets nothing, and the log has one line with the status and a reason for each.
fn check_refused(cases: &[Case]) {
    let origin = Origin::ok("never seen");
    let proxy = Proxy::with(&origin).limit("uri_bytes = 1024").start();
    for (name, bytes, status) in cases {
        let mut client = proxy.client();
        client.send(bytes);
        check_refusal(name, &mut client, *status);
    }
    assert!(origin.requests().is_empty(), "{:#?}", origin.requests());
    assert_eq!(origin.connections(), 0, "nothing may reach the origin");
    check_log(&proxy, &cases.iter().map(|case| case.2).collect::<Vec<_>>());
}

fn check_refusal(name: &str, client: &mut Client, status: u16) {
    let response = match client.try_response_to("GET") {
        Ok(response) => response,
        Err(broken) => panic!("{name}: no whole response but {broken:#?}"),
    };
    assert_eq!(response.status, status, "{name}: {response:#?}");
    assert_eq!(response.head.value("connection"), Some("close"), "{name}");
    let (rest, _) = client.rest();
    assert!(rest.is_empty(), "{name}: more than one answer: {}", show(&rest));
}

fn check_log(proxy: &Proxy, statuses: &[u16]) {
    for &status in statuses {
        let count = statuses.iter().filter(|other| **other == status).count();
        let lines = proxy.log_lines(count, |line| line.status() == u64::from(status));
        assert_eq!(lines.len(), count, "{lines:#?}");
        let told = |line: &&_| !crate::harness::proxy::LogLine::text(line, "reason").is_empty();
        assert!(lines.iter().all(|line| told(&line)), "{lines:#?}");
    }
}

#[rustfmt::skip]
const FRAMING: &[Case] = &[
    ("length and chunked", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("chunked and length", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    ("length and an empty encoding", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding:\r\n\r\n", 400),
    ("two lengths that differ", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    ("the same length twice", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    ("a list of lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", 400),
    ("a length with a sign", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", 400),
    ("a negative length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello", 400),
    ("a hexadecimal length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello", 400),
    ("a length with a space inside", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello", 400),
    ("a length with a vertical tab", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \x0b5\r\n\r\nhello", 400),
    ("an empty length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nhello", 400),
    ("a length with a fraction", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\nhello", 400),
    ("a length of 2^64", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n", 400),
    ("xchunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    ("chunked twice in one field", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    ("chunked twice in two fields", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("identity", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
    ("identity, then chunked in another field", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("gzip before chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    ("chunked before gzip", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    ("chunked with a parameter", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 400),
    ("chunked with a comma", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", 400),
    ("chunked in quotes", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400),
    ("chunked after a vertical tab", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    ("an empty encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", 400),
    ("chunked in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
];

#[rustfmt::skip]
const FIELDS: &[Case] = &[
    ("a space before the colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n", 400),
    ("a space before the colon of an encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    ("a tab before the colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A\t: b\r\n\r\n", 400),
    ("a space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    ("a folded value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n", 400),
    ("a value folded with a tab", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\tc\r\n\r\n", 400),
    ("a folded encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    ("bare line feeds everywhere", "GET / HTTP/1.1\nHost: a\n\n", 400),
    ("a bare line feed after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    ("a bare line feed after a field", "GET / HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n", 400),
    ("a bare line feed at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    ("a bare carriage return in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rc\r\n\r\n", 400),
    ("a bare carriage return after a field", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rX-C: d\r\n\r\n", 400),
    ("a bare carriage return in the request line", "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("two carriage returns", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400),
    ("a NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n", 400),
    ("a control character in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x01c\r\n\r\n", 400),
    ("a delete character in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x7fc\r\n\r\n", 400),
    ("a NUL in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\0A: b\r\n\r\n", 400),
    ("a field without a colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A\r\n\r\n", 400),
    ("a field without a name", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
    ("a name with a parenthesis", "GET / HTTP/1.1\r\nHost: a\r\nX(A): b\r\n\r\n", 400),
];

#[rustfmt::skip]
const HOSTS: &[Case] = &[
    ("no host", "GET / HTTP/1.1\r\n\r\n", 400),
    ("no host with an absolute target", "GET http://a/ HTTP/1.1\r\n\r\n", 400),
    ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("the same host twice", "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400),
    ("a host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    ("a host with a comma", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
    ("a host with a user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    ("a host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("a host with a query", "GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", 400),
    ("a host with a fragment", "GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", 400),
    ("a host with a backslash", "GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n", 400),
    ("a host with a port in letters", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
    ("a host with two ports", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", 400),
    ("a host with a port too high", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400),
    ("a host with half a bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
    ("a target with a user", "GET http://u@b/ HTTP/1.1\r\nHost: b\r\n\r\n", 400),
];

#[rustfmt::skip]
const REQUEST_LINES: &[Case] = &[
    ("garbage", "garbage\r\n\r\n", 400),
    ("nothing but a target", "/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("no version", "GET /\r\n\r\n", 400),
    ("an unknown protocol", "GET / FTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a version in small letters", "GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    ("a version with too many digits", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
    ("a version without a dot", "GET / HTTP/11\r\nHost: a\r\n\r\n", 400),
    ("HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("HTTP/3.0", "GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    ("a method that is no token", "G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a space before the method", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("two spaces before the target", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("two spaces before the version", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a space at the end of the line", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    ("a tab for a space", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a target with a space", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a target with a control character", "GET /a\x01b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a target with a NUL", "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a target with a delete character", "GET /a\x7fb HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a target with an encoded NUL", "GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a target with half an escape", "GET /a%4 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a target with an escape that is none", "GET /a%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a target without a slash", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("an asterisk for a GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
    ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
];

#[test]
fn ambiguous_framing_is_refused() {
    check_refused(FRAMING);
}

#[test]
fn malformed_fields_are_refused() {
    check_refused(FIELDS);
}

#[test]
fn hosts_that_are_missing_repeated_or_invalid_are_refused() {
    check_refused(HOSTS);
}

#[test]
fn malformed_request_lines_are_refused() {
    check_refused(REQUEST_LINES);
}

#[test]
fn what_follows_a_refused_request_is_not_answered() {
    let origin = Origin::ok("never seen");
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send([FRAMING[0].1.as_bytes(), &request("/smuggled")].concat());
    check_refusal("a request behind a refused one", &mut client, 400);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn chunks_that_are_not_exact_are_refused() {
    let faults = [
        ("an empty size", "\r\nhello\r\n0\r\n\r\n"),
        ("an empty size after a chunk", "5\r\nhello\r\n\r\n\r\n"),
        ("a size with a sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a space after the size", "5 \r\nhello\r\n0\r\n\r\n"),
        ("a space before the size", " 5\r\nhello\r\n0\r\n\r\n"),
        ("a size that is no number", "g\r\nhello\r\n0\r\n\r\n"),
        ("a size of 17 digits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("a size of 2^64 - 1", "ffffffffffffffff0\r\nhello\r\n0\r\n\r\n"),
        ("no line end after the chunk", "5\r\nhello0\r\n\r\n"),
        ("a chunk longer than it says", "4\r\nhello\r\n0\r\n\r\n"),
        ("a bare line feed after the size", "5\nhello\r\n0\r\n\r\n"),
        ("a bare line feed after the chunk", "5\r\nhello\n0\r\n\r\n"),
        ("a bare carriage return after the size", "5\rhello\r\n0\r\n\r\n"),
        ("a bare line feed in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("a bare line feed at the end", "5\r\nhello\r\n0\r\n\n"),
        ("a trailer without a colon", "5\r\nhello\r\n0\r\nX-A\r\n\r\n"),
        ("a folded trailer", "5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n"),
        ("a NUL in a trailer", "5\r\nhello\r\n0\r\nX-A: b\0c\r\n\r\n"),
    ];
    let origin = Origin::ok("never whole");
    let proxy = Proxy::to(&origin);
    for (name, body) in faults {
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(body);
        check_refusal(name, &mut client, 400);
    }
    assert!(origin.requests().is_empty(), "{:#?}", origin.requests());
    origin.wait_idle();
    check_log(&proxy, &[400; 20]);
}

#[test]
fn chunk_extensions_are_dropped_and_trailers_passed_on() {
    let origin = Origin::ok("got it");
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\nTE: trailers\r\n\r\n");
    client.send("5;name=value;x\r\nhello\r\n00A;y=\"q\"\r\n0123456789\r\n");
    client.send("0;last\r\nX-Sum: 42\r\n\r\n");
    assert_eq!(client.response_to("POST").status, 200);
    let seen = origin.only_request();
    assert_eq!(show(&seen.body), show(b"hello0123456789"));
    assert_eq!(seen.trailers, [("X-Sum".to_owned(), "42".to_owned())]);
    let extended = seen.chunk_lines.iter().any(|line| line.contains(';'));
    assert!(!extended, "{:?}", seen.chunk_lines);
}

#[test]
fn trailers_that_would_change_the_message_do_not_cross() {
    let origin = Origin::ok("got it");
    let proxy = Proxy::to(&origin);
    for field in ["Content-Length: 3", "Transfer-Encoding: chunked", "Host: evil"] {
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(format!("2\r\nhi\r\n0\r\n{field}\r\nX-Fine: 1\r\n\r\n"));
        let status = client.response_to("POST").status;
        assert!([200, 400].contains(&status), "{field}: {status}");
    }
    for request in origin.requests() {
        let fine = request.trailers.iter().all(|(name, _)| name == "X-Fine");
        assert!(fine, "{:?}", request.trailers);
    }
}

#[test]
fn a_refusal_can_be_read_by_a_client_that_is_still_sending() {
    let origin = Origin::ok("never whole");
    let proxy = Proxy::with(&origin).limit("request_body = 1000").start();
    let long = "Content-Length: 1048576\r\n\r\n";
    let heads = [
        (format!("POST / HTTP/1.1\r\nHost: a\r\n{long}"), 413),
        (format!("POST / HTTP/1.1\r\nHost: a b\r\n{long}"), 400),
        (format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n{long}"), 400),
        (format!("POST / HTTP/2.0\r\nHost: a\r\n{long}"), 505),
    ];
    let body = pattern(1 << 20);
    for (head, status) in heads {
        let mut client = proxy.client();
        client.send(&head);
        // What it can discard is bounded; not all of it has to be taken.
        client.offer(&body);
        check_refusal(&head, &mut client, status);
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn chunk_extensions_and_trailers_that_never_end_are_refused() {
    let origin = Origin::ok("never whole");
    let proxy = Proxy::to(&origin);
    for start in ["5;", "5\r\nhello\r\n0\r\nX-T: ", "5\r\nhello\r\n0\r\n"] {
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(start);
        let many = start.ends_with("0\r\n");
        let piece = if many { "X-T: v\r\n".repeat(128) } else { "x".repeat(1024) };
        let mut quiet = || client.offer(piece.as_bytes()) && client.is_quiet_for(Duration::from_millis(1));
        assert!(!(0..1024).all(|_| quiet()), "{start:?}: 1 MiB of it was taken");
        let status = client.response_to("POST").status;
        assert!([400, 413, 431].contains(&status), "{start:?}: {status}");
    }
    assert!(origin.requests().is_empty());
}

/// What is sent; the request line and the host that the origin sees.
#[rustfmt::skip]
const VALID: &[(&str, &str, &str)] = &[
    ("\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a HTTP/1.1", "h"),
    ("GET http://abs.test/a?q HTTP/1.1\r\nHost: other\r\n\r\n", "GET /a?q HTTP/1.1", "abs.test"),
    ("GET http://abs.test:81 HTTP/1.1\r\nHost: other\r\n\r\n", "GET / HTTP/1.1", "abs.test:81"),
    ("GET http://abs.test?q HTTP/1.1\r\nHost: other\r\n\r\n", "GET /?q HTTP/1.1", "abs.test"),
    ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * HTTP/1.1", "h"),
    ("PROPFIND /a HTTP/1.1\r\nHost: h\r\n\r\n", "PROPFIND /a HTTP/1.1", "h"),
    ("M!#$%&'*+-.^_`|~ /a HTTP/1.1\r\nHost: h\r\n\r\n", "M!#$%&'*+-.^_`|~ /a HTTP/1.1", "h"),
    ("GET /a HTTP/1.1\r\nhOsT:h\r\n\r\n", "GET /a HTTP/1.1", "h"),
    ("GET /a HTTP/1.1\r\nHost: \t h:80 \t\r\n\r\n", "GET /a HTTP/1.1", "h:80"),
    ("GET /a HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET /a HTTP/1.1", "[::1]:80"),
    ("GET /a HTTP/1.1\r\nHost: h\r\nX-Empty:\r\nX-High: \u{e9}\r\n\r\n", "GET /a HTTP/1.1", "h"),
    ("GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi", "GET /a HTTP/1.1", "h"),
    ("GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0002\r\n\r\nhi", "GET /a HTTP/1.1", "h"),
];

#[test]
fn unusual_but_valid_requests_are_served() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::to(&origin);
    for (number, &(bytes, line, host)) in VALID.iter().enumerate() {
        let mut client = proxy.client();
        client.send(bytes);
        let response = client.response();
        assert_eq!(response.status, 200, "{bytes:?}: {}", response.text());
        let seen = origin.wait_requests(number + 1).remove(number);
        assert_eq!(seen.head.start, line, "{bytes:?}");
        assert_eq!(seen.head.value("host"), Some(host), "{bytes:?}");
    }
}

#[test]
fn the_path_is_forwarded_in_its_normal_form() {
    let cases = [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/%2e%2e/b", "/b"),
        ("/%61%7e", "/a~"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%20b", "/a%20b"),
        ("/a?x=/../y%61", "/a?x=/../y%61"),
        ("/a?", "/a?"),
    ];
    let origin = Origin::ok("fine");
    let proxy = Proxy::to(&origin);
    for (number, (sent, wanted)) in cases.into_iter().enumerate() {
        assert_eq!(get(proxy.address(), sent).status, 200, "{sent}");
        let seen = origin.wait_requests(number + 1).remove(number);
        assert_eq!(seen.target(), wanted, "{sent}");
    }
}

/// Valid requests with the method that their answers are read for.
fn valid_requests() -> Vec<(&'static str, Vec<u8>)> {
    let long = "z".repeat(3000);
    let texts = [
        ("GET", "GET /plain?q=1 HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n".to_owned()),
        ("GET", "\r\nGET http://b.test/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("POST", "POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello\r\n\r\nyo".to_owned()),
        (
            "POST",
            "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                  5;e=\"x\"\r\nhello\r\n3\r\n\r\n0\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"
                .to_owned(),
        ),
        (
            "PUT",
            format!("PUT /long HTTP/1.1\r\nHost: a\r\nX-Long: {long}\r\nContent-Length: 3000\r\n\r\n{long}"),
        ),
        ("HEAD", "HEAD /head HTTP/1.1\r\nHost: a\r\nCookie: a=b; c=d\r\n\r\n".to_owned()),
    ];
    texts.into_iter().map(|(method, text)| (method, text.into_bytes())).collect()
}

#[test]
fn any_split_of_valid_requests_gives_the_same_result() {
    let origin = Origin::echo();
    let proxy = Proxy::to(&origin);
    let answer = |client: &mut Client, method: &str| -> (u16, String) {
        let response: Response = client.response_to(method);
        (response.status, response.text())
    };
    let valid = valid_requests();
    let whole: Vec<_> =
        valid.iter().map(|(method, bytes)| answer(proxy.client().send(bytes), method)).collect();
    assert!(whole.iter().all(|(status, _)| *status == 200), "{whole:#?}");

    let mut random = Random::seeded(0x5eed);
    let mut client = proxy.client();
    for round in 0..200 {
        // Two requests behind each other, split anywhere, also between and across them.
        let (first, second) = (random.below(valid.len()), random.below(valid.len()));
        let bytes = [&*valid[first].1, &*valid[second].1].concat();
        let mut places: Vec<usize> = (0..=random.below(4)).map(|_| random.below(bytes.len())).collect();
        places.sort_unstable();
        client.send_split(&bytes, &places);
        for which in [first, second] {
            let got = answer(&mut client, valid[which].0);
            assert_eq!(got, whole[which], "round {round}, split at {places:?}");
        }
    }
}
