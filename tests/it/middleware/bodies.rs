//! Bodies that a guest sees whole: what it gets of them, what it may put in their place, and that
//! they pass where it is not to see them.

use super::{ask, calls, guest, with};
use crate::harness::client::Response;
use crate::harness::origin::ok;
use crate::harness::wire::Framing;
use crate::harness::{Builder, Client, Origin};

/// `fault-filter`, which is to see so many bytes.
fn seeing(origin: &Origin, most: usize, settings: &str) -> Builder {
    with(origin, "fault-filter.wasm", &format!("config = {{ body = {most} }}\n{settings}"), "")
}

fn post(client: &mut Client, fields: &str, body: &[u8]) -> Response {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n{fields}\r\n", body.len());
    client.send([head.as_bytes(), body].concat());
    client.response()
}

fn post_chunked(client: &mut Client, fields: &str, end: &str, body: &[u8]) -> Response {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{fields}\r\n");
    client.send(head);
    for piece in body.chunks(10_000) {
        client.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
    }
    client.send(end);
    client.response()
}

/// Answers with the body of the request.
fn mirror() -> Origin {
    Origin::answering(|request| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
        [head.as_bytes(), &request.body].concat()
    })
}

/// Closes its connection after what it answers to `/close`.
pub fn closing(answer: fn(&str) -> Vec<u8>) -> Origin {
    Origin::scripted(move |connection| {
        while let Some(request) = connection.next_request()? {
            connection.send(answer(request.target()))?;
            if request.target() == "/close" {
                break;
            }
        }
        Ok(())
    })
}

const LAST: &str = "0\r\n\r\n";

#[test]
fn a_request_body_is_seen_whole_up_to_the_limit() {
    let origin = Origin::ok("app");
    let proxy = seeing(&origin, 100_000, "").start();
    let mut client = proxy.client();
    for len in [0, 1, 20_000, 99_999, 100_000, 100_001, 300_000] {
        let body: Vec<u8> = (0..len).map(|index| (index % 251) as u8).collect();
        let expected = if len > 100_000 { (413, b"too large".to_vec()) } else { (200, body.clone()) };
        let chunked = post_chunked(&mut proxy.client(), "X-Fault: body\r\n", LAST, &body);
        assert_eq!((chunked.status, chunked.body), expected, "{len} in chunks");
        // One that was not read is the last of its connection.
        let mut another = proxy.client();
        let on = if len > 100_000 { &mut another } else { &mut client };
        let known = post(on, "X-Fault: body\r\n", &body);
        assert_eq!((known.status, known.body), expected, "{len}");
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn it_goes_on_as_it_came() {
    let origin = mirror();
    let proxy = seeing(&origin, 50_000, "").start();
    let mut client = proxy.client();
    for len in [0, 10, 40_000, 200_000, 1_500_000] {
        let body: Vec<u8> = (0..len).map(|index| (index % 251) as u8).collect();
        assert!(post(&mut client, "", &body).body == body, "{len}");
        assert!(post_chunked(&mut client, "", LAST, &body).body == body, "{len} in chunks");
        // The next request, which came with it, is not lost.
        let trailing = "0\r\nX-Sum: 1\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n";
        let answer = post_chunked(&mut client, "", trailing, &body);
        assert!(answer.body == body, "{len} with trailers: {} {}", answer.status, answer.body.len());
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(calls(&proxy, "request", "next"), 20.0);
    // What is known to be small goes with its length; trailers are passed on.
    let requests = origin.requests();
    assert_eq!(requests[1].head.value("content-length"), Some("0"));
    assert_eq!(requests[5].head.value("content-length"), Some("10"));
    assert_eq!(requests[6].head.value("transfer-encoding"), Some("chunked"));
    assert!(!requests[5].trailers.is_empty() || !requests[6].trailers.is_empty());
}

#[test]
fn another_body_is_sent_in_its_place() {
    let origin = mirror();
    let proxy = seeing(&origin, 1000, "").start();
    let mut client = proxy.client();
    for body in [&b""[..], b"x", &[b'x'; 999]] {
        let answer = post_chunked(&mut client, "X-Fault: set-body\r\n", "0\r\nX-T: 1\r\n\r\n", body);
        assert_eq!((answer.status, answer.text().as_str()), (200, "another body"));
    }
    let request = origin.requests().pop().unwrap();
    assert_eq!(request.head.values("content-length"), ["12"]);
    assert!(!request.head.has("transfer-encoding") && request.trailers.is_empty());
    // One that is too long to be seen cannot be replaced; the guest insists, and fails.
    assert_eq!(post(&mut proxy.client(), "X-Fault: set-body\r\n", &[b'x'; 1001]).status, 503);
}

#[test]
fn what_a_failed_call_put_in_its_place_is_not_there() {
    let origin = mirror();
    let proxy = seeing(&origin, 1000, "on_error = \"open\"").start();
    let answer = post(&mut proxy.client(), "X-Fault: set-body-trap\r\n", b"the first");
    assert_eq!((answer.status, answer.text().as_str()), (200, "the first"));
    assert_eq!(calls(&proxy, "request", "trap"), 1.0);
}

#[test]
fn a_client_that_waits_for_leave_gets_it_once_and_the_upstream_is_not_asked() {
    let origin = mirror();
    let proxy = seeing(&origin, 1000, "").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert!(client.head().start.contains(" 100 "));
    client.send("body");
    assert_eq!(client.response().text(), "body");
    assert!(!origin.only_request().head.has("expect"));
}

#[test]
fn a_body_that_does_not_come_has_its_time_and_its_bounds() {
    let origin = Origin::ok("app");
    let proxy =
        seeing(&origin, 1000, "").limit("body_timeout = \"300ms\"").limit("request_body = \"2 KiB\"").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo");
    assert_eq!(client.response().status, 408);
    assert_eq!(post_chunked(&mut proxy.client(), "", LAST, &[b'x'; 3000]).status, 413);
    let mut broken = proxy.client();
    broken.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    assert_eq!(broken.response().status, 400);
    // One that goes away is nobody's failure.
    let mut gone = proxy.client();
    gone.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo");
    gone.reset();
    assert_eq!(proxy.log_lines(1, |line| line.status() == 499).len(), 1);
    assert!(origin.requests().is_empty());
}

#[test]
fn a_request_that_was_held_is_tried_again() {
    let good = mirror();
    let bad = Origin::scripted(|connection| {
        connection.expect_request()?;
        connection.reset()
    });
    let both = [&good, &bad].map(|origin| format!("[[upstreams.both.instances]]\n{}\n", origin.toml()));
    let proxy = seeing(&good, 1000, "")
        .toml(&both.concat())
        .route("both", "host = \"b\"\nmiddleware = [\"m\"]")
        .start();
    for _ in 0..4 {
        let mut client = proxy.client();
        client.send("PUT / HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.response().text(), "body");
    }
    assert!(!bad.requests().is_empty(), "it was tried");
}

#[test]
fn a_response_body_is_seen_and_replaced() {
    let origin = closing(|target| match target {
        "/empty" => ok(""),
        "/long" => ok(&"x".repeat(200_000)),
        "/none" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/chunks" => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n"
                .to_vec()
        }
        "/close" => b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end".to_vec(),
        _ => ok("small"),
    });
    let proxy = seeing(&origin, 100_000, "").start();
    let mut client = proxy.client();
    let table = [
        ("GET", "/", 200, "SMALL", Some("5")),
        ("GET", "/empty", 200, "", Some("0")),
        ("GET", "/chunks", 200, "ABCDE", Some("5")),
        ("GET", "/close", 200, "UNTIL THE END", Some("13")),
    ];
    for (method, target, status, text, length) in table {
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\nX-Fault: response-body\r\n\r\n"));
        let response = client.response_to(method);
        assert_eq!((response.status, response.text().as_str()), (status, text), "{target}");
        assert_eq!(response.head.value("content-length"), length, "{target}");
        assert!(response.trailers.is_empty());
    }
    // Too long to be seen: the guest says so, and it passes as it is.
    client.send("GET /long HTTP/1.1\r\nHost: a\r\nX-Fault: response-body\r\n\r\n");
    let long = client.response();
    assert_eq!((long.status, long.body.len(), long.head.value("x-body")), (200, 200_000, Some("not seen")));
    // Without the fault, all pass as they came.
    for target in ["/", "/empty", "/long", "/none", "/chunks", "/close"] {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response();
        assert_eq!(response.trailers.is_empty(), target != "/chunks", "{target}");
        assert_eq!(response.framing == Framing::Chunked, ["/chunks", "/close"].contains(&target), "{target}");
    }
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to("HEAD").head.value("content-length"), Some("5"));
}

#[test]
fn what_has_no_body_cannot_be_given_one() {
    let origin = Origin::answering(|request| match request.target() {
        "/none" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(),
    });
    let proxy = seeing(&origin, 1000, "").start();
    // The guest insists, so it fails; what it cannot do is told to it, not to the client.
    for target in ["/none", "/not-modified"] {
        let mut client = proxy.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Fault: response-body\r\n\r\n"));
        assert_eq!(client.response().status, 503, "{target}");
    }
}

#[test]
fn a_response_whose_body_breaks_while_it_is_waited_for_is_a_failure_of_the_upstream() {
    let origin = Origin::scripted(|connection| {
        connection.expect_request()?;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    });
    let proxy = seeing(&origin, 1000, "").start();
    assert_eq!(ask(&mut proxy.client(), "").status, 502);
    // What is not waited for has begun, and is cut.
    let other = seeing(&origin, 9, "").start();
    let mut client = other.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let broken = client.try_response_to("GET").expect_err("it does not come whole");
    assert_eq!(broken.body, b"half");
}

#[test]
fn a_reset_is_not_the_end_of_a_response_that_is_waited_for() {
    let origin = Origin::scripted(|connection| {
        connection.expect_request()?;
        connection.send("HTTP/1.1 200 OK\r\n\r\nhalf")?;
        connection.reset()
    });
    let proxy = seeing(&origin, 1000, "").start();
    assert_eq!(ask(&mut proxy.client(), "").status, 502);
}

/// An event stream leaves its exchange with as much of its body as was waited for.
#[test]
fn event_streams_end_where_they_do_however_much_of_them_was_seen() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = format!("{}\r\n{}\r\n", "7d0", "x".repeat(2000));
    let bodies = [
        ("", "", 0),
        ("", "X-Sum: 1\r\n", 0),
        ("9\r\ndata: 1\n\n\r\n", "", 9),
        ("9\r\ndata: 1\n\n\r\n", "X-Sum: 1\r\n", 9),
        (&long, "", 2000),
        (&long, "X-Sum: 1\r\n", 2000),
    ];
    for (chunks, trailers, length) in bodies {
        let answer = format!("{head}{chunks}0\r\n{trailers}\r\n");
        let origin = Origin::answering(move |_| answer.clone().into_bytes());
        let proxy = seeing(&origin, 1000, "").start();
        let mut client = proxy.client();
        for _ in 0..2 {
            let response = ask(&mut client, "");
            assert_eq!((response.status, response.body.len()), (200, length));
            assert_eq!(response.trailers.is_empty(), trailers.is_empty());
        }
        assert_eq!(origin.connections(), 1);
    }
}

#[test]
fn an_operator_says_how_much_may_be_seen() {
    let origin = Origin::ok("app");
    let proxy = seeing(&origin, 1000, "max_body = \"10\"").start();
    assert_eq!(post(&mut proxy.client(), "X-Fault: body\r\n", b"0123456789").status, 200);
    assert_eq!(post(&mut proxy.client(), "X-Fault: body\r\n", b"0123456789a").status, 413);
    let check = seeing(&origin, 1000, "max_body = \"65 MiB\"").check();
    assert!(check.stderr.contains("max_body must be from 0 to 67108864 bytes"), "{}", check.stderr);
}

#[test]
fn two_see_what_the_one_before_has_made_of_it() {
    let origin = mirror();
    let proxy = seeing(&origin, 1000, "")
        .toml(&format!(
            "[wasm.middleware.n]\nfile = \"{}\"\nconfig = {{ body = 1000 }}\n",
            guest("fault-filter.wasm")
        ))
        .route("app", "host = \"b\"\nmiddleware = [\"m\", \"n\"]")
        .start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\nX-Fault: set-body\r\n\r\nx");
    assert_eq!(client.response().text(), "another body");
    client.send("GET / HTTP/1.1\r\nHost: b\r\nX-Fault: response-body\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert_eq!(calls(&proxy, "request", "next"), 2.0);
}

#[test]
fn many_that_are_slow_disturb_nobody() {
    let origin = mirror();
    let proxy = seeing(&origin, 100_000, "").start();
    let mut slow: Vec<Client> = (0..50).map(|_| proxy.client()).collect();
    for client in &mut slow {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n");
        client.send([b'x'; 45_000]);
    }
    assert_eq!(ask(&mut proxy.client(), "").status, 200);
    for client in &mut slow {
        client.send([b'y'; 45_000]);
        assert_eq!(client.response().body.len(), 90_000);
    }
    assert!(proxy.resident_kib() < 400_000, "{} KiB", proxy.resident_kib());
}
