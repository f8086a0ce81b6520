//! Bodies that are held because a guest is to see them whole: all of them together have a limit, and
//! none is counted any more once it is gone, however that came about.

use super::{calls, metric, with};
use crate::harness::client::Response;
use crate::harness::origin::ok;
use crate::harness::{Builder, Client, Latch, Origin, Proxy, eventually, holds};

/// `fault-filter`, which is to see bodies of 60,000 bytes.
fn seeing(origin: &Origin, settings: &str) -> Builder {
    with(origin, "fault-filter.wasm", &format!("config = {{ body = 60000 }}\n{settings}"), "")
}

/// With room for one such body, and a few bytes more.
fn start(builder: Builder) -> Proxy {
    builder.start_with(&["--set", "wasm.bodies_total=65536", "--set", "wasm.middleware.m.max_body=60000"])
}

fn mirror() -> Origin {
    Origin::answering(|request| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
        [head.as_bytes(), &request.body].concat()
    })
}

fn until_held(proxy: &Proxy, expected: f64) {
    eventually(&format!("{expected} bytes to be held"), || {
        let held = metric(proxy, "warpdrive_wasm_held_bodies_bytes");
        holds(held == expected, held)
    });
}

/// Sends the head of a request with so long a body, and so much of that.
fn begin(proxy: &Proxy, length: usize, sent: usize) -> Client {
    let mut client = proxy.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
    client.send(vec![b'x'; sent]);
    client
}

fn post(proxy: &Proxy, length: usize) -> Response {
    begin(proxy, length, length).response()
}

fn failures(proxy: &Proxy, action: &str) -> f64 {
    let labels = format!("{{middleware=\"m\",action=\"{action}\"}}");
    metric(proxy, &format!("warpdrive_wasm_middleware_failures_total{labels}"))
}

#[test]
fn a_body_that_has_no_room_is_refused_until_there_is_some() {
    let origin = mirror();
    let proxy = start(seeing(&origin, ""));
    let mut held = begin(&proxy, 60_000, 50_000);
    until_held(&proxy, 50_000.0);
    let refused = post(&proxy, 20_000);
    assert_eq!((refused.status, refused.head.value("retry-after")), (503, Some("1")));
    assert_eq!(proxy.log_line(503).text("reason"), "too many bodies are held for middleware");
    assert_eq!((calls(&proxy, "request", "no_room"), failures(&proxy, "closed")), (1.0, 1.0));
    proxy.stderr_contains("middleware `m`: request: bodies_total of [wasm] is used up");
    // What fits is served meanwhile.
    assert_eq!(post(&proxy, 10_000).body.len(), 10_000);
    assert_eq!(origin.requests().len(), 1);
    held.send([b'y'; 10_000]);
    assert_eq!(held.response().body.len(), 60_000);
    until_held(&proxy, 0.0);
    assert_eq!(post(&proxy, 20_000).body.len(), 20_000);
    until_held(&proxy, 0.0);
}

#[test]
fn without_room_it_passes_unseen_where_the_way_is_open() {
    let origin = mirror();
    let proxy = start(seeing(&origin, "on_overload = \"open\""));
    let _held = begin(&proxy, 60_000, 50_000);
    until_held(&proxy, 50_000.0);
    for length in [20_000, 59_999] {
        let answer = post(&proxy, length);
        assert!(answer.status == 200 && answer.body == vec![b'x'; length], "{length}: {}", answer.status);
    }
    assert_eq!((calls(&proxy, "request", "no_room"), failures(&proxy, "open")), (2.0, 2.0));
    assert_eq!(calls(&proxy, "request", "next"), 0.0);
    until_held(&proxy, 50_000.0);
}

#[test]
fn what_is_held_is_given_back_however_the_exchange_ends() {
    let latch = Latch::default();
    let wait = latch.clone();
    let origin = Origin::answering(move |request| {
        if request.target() == "/wait" {
            wait.wait().unwrap();
        }
        ok("hello")
    });
    let proxy = start(seeing(&origin, "").limit("body_timeout = \"300ms\""));
    // It goes away.
    let gone = begin(&proxy, 60_000, 50_000);
    until_held(&proxy, 50_000.0);
    gone.reset();
    until_held(&proxy, 0.0);
    // It says no more.
    let mut silent = begin(&proxy, 60_000, 50_000);
    assert_eq!(silent.response().status, 408);
    until_held(&proxy, 0.0);
    // The guest answers itself, or fails.
    for fault in ["body", "trap"] {
        let mut client = proxy.client();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\nX-Fault: {fault}\r\n\r\n");
        client.send([head.as_bytes(), &[b'x'; 50_000]].concat());
        assert_eq!(client.response().status, if fault == "trap" { 503 } else { 200 });
        until_held(&proxy, 0.0);
    }
    // It is with the upstream, whose answer takes a while.
    let mut slow = proxy.client();
    slow.send("POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n");
    slow.send([b'x'; 50_000]);
    eventually("the request at the upstream", || holds(!origin.requests().is_empty(), ()));
    until_held(&proxy, 0.0);
    latch.open();
    assert_eq!(slow.response().status, 200);
}

#[test]
fn bodies_of_responses_share_the_same_room() {
    let latch = Latch::default();
    let wait = latch.clone();
    let origin = Origin::scripted(move |connection| {
        while let Some(request) = connection.next_request()? {
            match request.target() {
                "/slow" => {
                    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")?;
                    connection.send([b'x'; 50_000])?;
                    wait.wait()?;
                    connection.send([b'y'; 10_000])?;
                }
                _ => connection.send(ok(&"z".repeat(20_000)))?,
            }
        }
        Ok(())
    });
    let proxy = start(seeing(&origin, ""));
    let get = |path: &str| {
        let mut client = proxy.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client
    };
    let mut slow = get("/slow");
    until_held(&proxy, 50_000.0);
    let refused = get("/").response();
    assert_eq!((refused.status, refused.head.value("retry-after")), (503, Some("1")));
    assert_eq!(calls(&proxy, "response", "no_room"), 1.0);
    latch.open();
    assert_eq!(slow.response().body.len(), 60_000);
    until_held(&proxy, 0.0);
    assert_eq!(get("/").response().body.len(), 20_000);
    until_held(&proxy, 0.0);
}

#[test]
fn a_body_that_is_put_in_place_of_another_needs_room_too() {
    let origin = mirror();
    let builder = seeing(&origin, "");
    let more = ["--set", "wasm.bodies_total=65536", "--set", "wasm.middleware.m.max_body=65536"];
    let proxy = builder.start_with(&more);
    let _held = begin(&proxy, 60_000, 59_999);
    let _more = begin(&proxy, 6_000, 5_537);
    until_held(&proxy, 65_536.0);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nX-Fault: set-body\r\n\r\n");
    assert_eq!(client.response().status, 503);
    assert_eq!(calls(&proxy, "request", "no_room"), 1.0);
    until_held(&proxy, 65_536.0);
}
