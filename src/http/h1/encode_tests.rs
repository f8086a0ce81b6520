//! Tests of `encode`.

use super::*;
use crate::http::h1::{Bounds, Parsed, parse};
use crate::http::head::Method;

const BOUNDS: Bounds = Bounds { head: 8192, fields: 64, uri: 1024 };
const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

fn forwarded(input: &str, settings: &forwarding::Settings) -> String {
    let mut head = RequestHead::default();
    let parsed = parse::request(input.as_bytes(), BOUNDS, &mut head);
    assert_eq!(parsed, Ok(Parsed::Head(input.len())), "{input}");
    let peer = forwarding::Peer::new(settings, "127.0.0.1".parse().unwrap());
    let stamp = Stamp { request_id: [b'a'; 32], start_ms: 12, span: None };
    let mut out = Vec::new();
    let path = head.text(head.target.path).to_vec();
    request(&mut out, &head, &path, &peer, &stamp);
    String::from_utf8(out).unwrap()
}

const OURS: &str = "X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n\
    X-Forwarded-Port: 80\r\nX-Forwarded-Host: a\r\nX-Request-Id: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\
    X-Request-Start: t=12\r\n";

#[test]
fn requests_are_written_from_what_was_parsed() {
    let table = [
        (
            "GET /x?y HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
            "GET /x?y HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n",
            "Via: 1.1 warpdrive\r\n",
        ),
        (
            "GET http://a/%61 HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: a\r\n",
            "Via: 1.1 warpdrive\r\n",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: x-hop, close\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nContent-Length: 3\r\nExpect: 100-Continue\r\nVia: 1.0 z\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n",
            "Via: 1.0 z, 1.1 warpdrive\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Real-IP: 6.6.6.6\r\nX-Accel-Redirect: /etc\r\nForwarded: for=6\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
            "Via: 1.1 warpdrive\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "Via: 1.1 warpdrive\r\n",
        ),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n",
            "Via: 1.1 warpdrive\r\n",
        ),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n",
            "Via: 1.1 warpdrive\r\n",
        ),
    ];
    for (input, start, end) in table {
        let out = forwarded(input, &forwarding::Settings::default());
        assert_eq!(out, format!("{start}{OURS}{end}\r\n"), "{input}");
    }
}

#[test]
fn a_trusted_proxy_is_extended() {
    let network = forwarding::Network { address: "127.0.0.0".parse().unwrap(), bits: 8 };
    let settings =
        forwarding::Settings { trusted: vec![network], keep_received: true, untrusted: Vec::new() };
    let out = forwarded(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Proto: https\r\nX-Request-Id: mine\r\n\r\n",
        &settings,
    );
    assert!(out.contains("\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 127.0.0.1\r\n"), "{out}");
    assert!(out.contains("\r\nX-Real-IP: 2.2.2.2\r\n"), "{out}");
    assert!(out.contains("\r\nX-Forwarded-Proto: https\r\n"), "{out}");
    assert!(out.contains("\r\nX-Request-Id: mine\r\n"), "{out}");
    assert_eq!(out.matches("X-Forwarded-For").count(), 1, "{out}");
}

#[test]
fn responses_are_framed_for_their_client() {
    type Case = (&'static str, Method, Version, &'static str);
    let table: [Case; 7] = [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\n",
            Method::Get,
            Version::Http11,
            "HTTP/1.1 200 OK\r\nX: y\r\nDate: {}\r\nContent-Length: 5\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n\r\n",
            Method::Get,
            Version::Http11,
            "HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n\r\n",
            Method::Get,
            Version::Http10,
            "HTTP/1.1 200 OK\r\nDate: now\r\n\r\n",
        ),
        (
            "HTTP/1.0 200 OK\r\nDate: now\r\n\r\n",
            Method::Get,
            Version::Http11,
            "HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 9\r\n\r\n",
            Method::Head,
            Version::Http11,
            "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 9\r\n\r\n",
        ),
        (
            "HTTP/1.1 204 No Content\r\nDate: now\r\nKeep-Alive: 3\r\n\r\n",
            Method::Get,
            Version::Http11,
            "HTTP/1.1 204 No Content\r\nDate: now\r\n\r\n",
        ),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
            Method::Get,
            Version::Http11,
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
        ),
    ];
    for (input, method, client, expected) in table {
        let mut head = ResponseHead::default();
        let parsed = parse::response(input.as_bytes(), BOUNDS, method, &mut head);
        assert_eq!(parsed, Ok(Parsed::Head(input.len())), "{input}");
        let framing = Framing::of(&head, method == Method::Head, client);
        let mut out = Vec::new();
        response(&mut out, &head, framing, Persistence::KeepAlive, DATE, None);
        let expected = expected.replace("{}", std::str::from_utf8(DATE).unwrap());
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{input}");
    }
}
