//! What an upstream may answer, and what becomes of it on its way to the client.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use crate::harness::client::{End, get, request};
use crate::harness::origin::ok;
use crate::harness::wire::Framing;
use crate::harness::{Latch, Origin, Proxy, pattern, show};

/// The origin sends this and keeps the connection open.
#[rustfmt::skip]
const FAULTS: &[(&str, &str)] = &[
    ("length and chunked", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("two lengths that differ", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!"),
    ("the same length twice", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi"),
    ("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi"),
    ("a length with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi"),
    ("an empty length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhi"),
    ("gzip before chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("identity", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhi"),
    ("chunked twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("garbage", "hello there\r\n\r\n"),
    ("a status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a status below 100", "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"),
    ("another version", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi"),
    ("a bare line feed after a field", "HTTP/1.1 200 OK\r\nX-A: b\nContent-Length: 2\r\n\r\nhi"),
    ("a bare carriage return in a value", "HTTP/1.1 200 OK\r\nX-A: b\rc\r\nContent-Length: 2\r\n\r\nhi"),
    ("a folded value", "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nhi"),
    ("a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi"),
    ("a NUL in a value", "HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 2\r\n\r\nhi"),
    ("a field without a colon", "HTTP/1.1 200 OK\r\nX-A\r\nContent-Length: 2\r\n\r\nhi"),
    ("a 101 that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
];

#[test]
fn faulty_heads_of_an_upstream_are_502_and_its_connection_is_not_used_again() {
    let origin = Origin::scripted(|c| {
        c.expect_request()?;
        c.send(FAULTS[c.index].1)?;
        c.expect_close()
    });
    let proxy = Proxy::to(&origin);
    for (number, (name, _)) in FAULTS.iter().enumerate() {
        let response = get(proxy.address(), "/");
        assert_eq!(response.status, 502, "{name}");
        assert_eq!(origin.wait_end(number), "done", "{name}");
        assert_eq!(origin.connections(), number + 1, "{name}: tried again");
    }
    let lines = proxy.log_lines(FAULTS.len(), |line| line.status() == 502);
    assert!(lines.iter().all(|line| !line.text("reason").is_empty()), "{lines:#?}");
}

#[test]
fn an_upstream_that_closes_before_its_head_is_whole_is_502() {
    for sent in ["", "HTTP/1.1 200 OK\r\nContent-Le"] {
        let origin = Origin::scripted(move |c| {
            c.expect_request()?;
            c.send(sent)
        });
        let proxy = Proxy::to(&origin);
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(client.response_to("POST").status, 502, "{sent:?}");
        assert_eq!(origin.connections(), 1, "{sent:?}");
    }
}

#[test]
fn a_body_that_breaks_is_truncated_for_the_client_too() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    // What comes after the client has "hello", and whether the origin closes then.
    let faults = [
        (chunked, "zz\r\nhello\r\n0\r\n\r\n", false),
        (chunked, "+5\r\nhello\r\n0\r\n\r\n", false),
        (chunked, "\r\n\r\n", false),
        (chunked, "5\nhello\r\n0\r\n\r\n", false),
        (chunked, "5\r\nhello0\r\n\r\n", false),
        (chunked, "10000000000000000\r\n", false),
        (chunked, "0\r\nno trailer\r\n\r\n", false),
        (chunked, "", true),
        (chunked, "5\r\nhel", true),
        (chunked, "0\r\n", true),
        (length, "", true),
        (length, "worl", true),
    ];
    let latches: Vec<Latch> = faults.iter().map(|_| Latch::default()).collect();
    let theirs = latches.clone();
    let origin = Origin::scripted(move |c| {
        let (head, fault, closes) = faults[c.index];
        c.expect_request()?;
        c.send(head)?;
        theirs[c.index].wait()?;
        c.send(fault)?;
        if closes { Ok(()) } else { c.expect_close() }
    });
    let proxy = Proxy::to(&origin);
    for (number, (_, fault, _)) in faults.iter().enumerate() {
        let mut client = proxy.client();
        client.send(request("/"));
        let head = client.head();
        assert_eq!(head.word(1), "200");
        let mut seen = client.until("hello");
        latches[number].open();
        let (rest, _) = client.rest();
        seen.extend(rest);
        let ended = seen.windows(5).any(|five| five == b"0\r\n\r\n");
        assert!(!ended, "{fault:?}: {}", show(&seen));
        assert_eq!(origin.wait_end(number), "done", "{fault:?}");
    }
    let lines = proxy.log_lines(faults.len(), |line| line.status() == 200);
    assert!(lines.iter().all(|line| !line.text("reason").is_empty()), "{lines:#?}");
}

#[test]
fn one_upstream_connection_serves_many_requests() {
    for origin in [Origin::ok("fine"), Origin::answering_unix(|_| ok("fine"))] {
        let proxy = Proxy::with(&origin).workers(1).start();
        let mut client = proxy.client();
        for _ in 0..20 {
            assert_eq!(client.get("/").text(), "fine");
            assert_eq!(get(proxy.address(), "/").text(), "fine");
        }
        assert_eq!(origin.connections(), 1);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::answering(|request| ok(request.target()));
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    let paths: Vec<String> = (0..20).map(|n| format!("/{n}")).collect();
    client.send(paths.iter().flat_map(|path| request(path)).collect::<Vec<u8>>());
    for path in &paths {
        assert_eq!(client.response().text(), *path);
    }
}

#[test]
fn a_client_that_asks_for_a_close_gets_it() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::with(&origin).workers(1).start();
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ] {
        let mut client = proxy.client();
        let response = client.send(head).response();
        assert_eq!((response.status, response.text().as_str()), (200, "fine"), "{head:?}");
        assert_eq!(client.expect_end(), End::Closed, "{head:?}");
    }
    assert_eq!(origin.connections(), 1, "a close is between the client and us");
}

#[test]
fn an_http_1_0_client_that_asks_for_it_is_kept() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        let response = client.response();
        let connection = response.head.value("connection").unwrap_or_default();
        assert_eq!(connection.to_ascii_lowercase(), "keep-alive");
    }
}

#[test]
fn a_chunked_response_reaches_an_http_1_0_client_without_chunks() {
    let origin = Origin::answering(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;e\r\nhello\r\n0\r\nX-T: 1\r\n\r\n".to_vec()
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();
    assert_eq!(response.text(), "hello");
    assert_ne!(response.framing, Framing::Chunked);
}

#[test]
fn a_response_that_ends_with_the_connection_is_delimited_anew() {
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let origin = Origin::scripted(move |c| {
            c.expect_request()?;
            c.send(format!("{version} 200 OK\r\nX-A: b\r\n\r\nall of it"))
        });
        let proxy = Proxy::to(&origin);
        let mut client = proxy.client();
        for _ in 0..2 {
            let response = client.get("/");
            assert_eq!(response.text(), "all of it");
            assert_eq!(response.framing, Framing::Chunked, "{version}");
            assert_eq!(response.head.word(0), "HTTP/1.1");
        }
        let mut client = proxy.client();
        let response = client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").response();
        assert_eq!((response.text().as_str(), response.framing), ("all of it", Framing::UntilClose));
    }
}

#[test]
fn responses_without_a_body_keep_the_connection_in_step() {
    let origin = Origin::answering(|request| match request.target() {
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 10\r\n\r\n".to_vec(),
        "/304-chunked" => b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        "/head-chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        "/empty" => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        target => ok(target),
    });
    let proxy = Proxy::with(&origin).workers(1).start();
    let mut client = proxy.client();
    let cases = [
        ("GET", "/204", 204, ""),
        ("GET", "/304", 304, ""),
        ("GET", "/304-chunked", 304, ""),
        ("HEAD", "/head", 200, ""),
        ("HEAD", "/head-chunked", 200, ""),
        ("HEAD", "/304", 304, ""),
        ("GET", "/empty", 200, ""),
        ("GET", "/last", 200, "/last"),
    ];
    for (method, path, status, body) in cases {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response_to(method);
        assert_eq!((response.status, response.text().as_str()), (status, body), "{method} {path}");
        match path {
            "/304" => assert_eq!(response.head.value("content-length"), Some("10"), "{method}"),
            "/head" => assert_eq!(response.head.value("content-length"), Some("5")),
            _ => {}
        }
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn informational_responses_are_passed_on_but_not_to_http_1_0() {
    let origin = Origin::answering(|_| {
        let early = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
        let processing = "HTTP/1.1 102 Processing\r\n\r\n";
        [early.as_bytes(), processing.as_bytes(), &ok("done")].concat()
    });
    let proxy = Proxy::with(&origin).workers(1).start();
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send(request("/"));
        let early = client.response();
        assert_eq!((early.status, early.reason.as_str()), (103, "Early Hints"));
        assert_eq!(early.head.value("link"), Some("</a.css>; rel=preload"));
        assert_eq!(client.response().status, 102);
        assert_eq!(client.response().text(), "done");
    }
    let mut old = proxy.client();
    assert_eq!(old.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").response().status, 200);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_continue_comes_before_the_body_is_sent() {
    let origin = Origin::ok("stored");
    let proxy = Proxy::to(&origin);
    for (length, body) in
        [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")]
    {
        let mut client = proxy.client();
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{length}\r\n\r\n"));
        assert_eq!(client.response_to("PUT").status, 100, "{length}");
        client.send(body);
        assert_eq!(client.response_to("PUT").text(), "stored", "{length}");
        // Not a second 100 in between, and the connection is still in step.
        assert_eq!(client.get("/").status, 200, "{length}");
    }
    assert_eq!(show(&origin.requests()[0].body), show(b"hello"));
}

#[test]
fn a_refusal_instead_of_a_continue_reaches_the_client_without_the_body() {
    let origin = Origin::scripted(|c| {
        c.expect_head()?;
        c.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")?;
        c.expect_close()
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let response = client.response_to("PUT");
    assert_eq!((response.status, response.text().as_str()), (413, "no"));
    // The body never came, so this upstream connection cannot be used for another request.
    client.reset();
    assert_eq!(origin.wait_end(0), "done");
}

#[test]
fn chunks_with_extensions_and_trailers_come_through() {
    let origin = Origin::answering(|_| {
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
          3;a=b\r\nabc\r\n0003\r\ndef\r\n0;z\r\nX-Sum: 6\r\nContent-Length: 1\r\n\r\n"
            .to_vec()
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
        let response = client.response();
        assert_eq!(response.text(), "abcdef");
        assert_eq!(response.trailers, [("X-Sum".to_owned(), "6".to_owned())]);
        let extended = response.chunk_lines.iter().any(|line| line.contains(';'));
        assert!(!extended, "{:?}", response.chunk_lines);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn bytes_after_the_end_of_a_response_are_nobodys_response() {
    let evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil".to_vec();
    let origin = Origin::scripted(move |c| {
        c.expect_request()?;
        c.send([ok("good"), evil.clone()].concat())?;
        c.expect_close()
    });
    let proxy = Proxy::with(&origin).workers(1).start();
    let mut client = proxy.client();
    for number in 0..3 {
        assert_eq!(client.get("/").text(), "good");
        assert_eq!(origin.wait_end(number), "done");
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn an_early_response_does_not_wait_for_the_request_body() {
    let origin = Origin::scripted(|c| {
        c.expect_head()?;
        c.send(ok("early"))?;
        while !c.read_body(1000)?.is_empty() {}
        Ok(())
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    client.send(pattern(50_000));
    let response = client.response_to("POST");
    assert_eq!(response.text(), "early");
    assert_eq!(response.head.value("connection"), Some("close"), "the body was not waited for");
    // The rest is taken and the connection kept, or it is closed: both are in order.
    if client.offer(&pattern(50_000)) && client.offer(&request("/")) {
        let (rest, _) = client.half_close().rest();
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 200"), "{}", show(&rest));
    }
}

#[test]
fn an_early_response_that_closes_can_still_be_read() {
    let origin = Origin::scripted(|c| {
        c.expect_head()?;
        c.send("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
    });
    let proxy = Proxy::to(&origin);
    for _ in 0..5 {
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n");
        client.offer(&pattern(400_000));
        let response = client.response_to("POST");
        assert!([413, 502].contains(&response.status), "{response:?}");
        client.reset();
    }
}

#[test]
fn each_piece_of_a_response_arrives_before_the_next_is_made() {
    for head in ["Transfer-Encoding: chunked\r\n", "Content-Length: 4000\r\n", ""] {
        let (ask, asked) = mpsc::channel::<Option<String>>();
        let asked = Arc::new(Mutex::new(asked));
        let is_chunked = head.starts_with("Transfer");
        let origin = Origin::scripted(move |c| {
            c.expect_request()?;
            c.send(format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{head}\r\n"))?;
            while let Ok(Some(event)) = asked.lock().unwrap().recv() {
                c.send(match is_chunked {
                    true => format!("{:x}\r\n{event}\r\n", event.len()),
                    false => event,
                })?;
            }
            Ok(())
        });
        let proxy = Proxy::to(&origin);
        let mut client = proxy.client();
        client.send(request("/events"));
        // The head comes before any event is there.
        assert_eq!(client.head().word(1), "200", "{head:?}");
        for number in 0..10 {
            let event = format!("data: {number}\n\n");
            ask.send(Some(event.clone())).unwrap();
            client.until(&event);
        }
        ask.send(None).unwrap();
    }
}

#[test]
fn each_piece_of_a_request_arrives_before_the_next_is_sent() {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let origin = Origin::scripted(move |c| {
        c.expect_head()?;
        for _ in 0..10 {
            let piece = c.read_until("end")?;
            tell.lock().unwrap().send(piece).map_err(std::io::Error::other)?;
        }
        c.send(ok("all"))
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for number in 0..10 {
        client.send(format!("6\r\n{number}, end\r\n"));
        let piece = told.recv_timeout(crate::harness::BOUND).expect("the piece, now");
        let wanted = format!("{number}, end");
        assert!(piece.ends_with(wanted.as_bytes()), "{}", show(&piece));
    }
    assert_eq!(client.send("0\r\n\r\n").response_to("POST").text(), "all");
}

#[test]
fn a_response_that_comes_byte_by_byte_is_the_same() {
    let cases = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;x=\"y\"\r\nhel\r\n2\r\nlo\r\n0\r\nX-T: 1\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\n\r\nhello",
    ];
    let origin = Origin::scripted(move |c| {
        c.expect_request()?;
        c.send_slowly(cases[c.index], std::time::Duration::from_millis(1))
    });
    let proxy = Proxy::to(&origin);
    for (number, case) in cases.iter().enumerate() {
        let mut client = proxy.client();
        let mut response = client.get("/");
        if response.status == 103 {
            response = client.response();
        }
        assert_eq!(response.text(), "hello", "{case:?}");
        origin.wait_end(number);
    }
}

#[test]
fn a_head_of_an_upstream_that_never_ends_is_502() {
    let origin = Origin::scripted(|c| {
        c.expect_request()?;
        c.send("HTTP/1.1 200 OK\r\nX-Endless: ")?;
        loop {
            c.send([b'x'; 1024])?;
        }
    });
    let proxy = Proxy::to(&origin);
    assert_eq!(get(proxy.address(), "/").status, 502);
    assert_ne!(origin.wait_end(0), "done");
}

#[test]
fn large_bodies_come_through_unchanged_both_ways() {
    let size = 8 << 20;
    let stored = pattern(size);
    let origin = Origin::answering(move |request| {
        let right = request.body.is_empty() || request.body == stored;
        let body: &[u8] = if right { &stored } else { b"changed" };
        let head = match request.target() {
            "/chunked" => "Transfer-Encoding: chunked\r\n".to_owned(),
            _ => format!("Content-Length: {}\r\n", body.len()),
        };
        let mut bytes = format!("HTTP/1.1 200 OK\r\n{head}\r\n").into_bytes();
        if request.target() == "/chunked" {
            for piece in body.chunks(100_000) {
                bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                bytes.extend(piece);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
        } else {
            bytes.extend(body);
        }
        bytes
    });
    let proxy = Proxy::to(&origin);
    let body = pattern(size);
    for path in ["/length", "/chunked"] {
        let mut client = proxy.client();
        client.send(format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
        client.send(&body);
        assert!(client.response_to("PUT").body == body, "{path}: the body changed");
        client.send(format!("PUT {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"));
        for piece in body.chunks(70_001) {
            client.send(format!("{:X}\r\n", piece.len())).send(piece).send("\r\n");
        }
        client.send("0\r\n\r\n");
        assert!(client.response_to("PUT").body == body, "{path}: the body changed");
    }
    let lines = proxy.log_lines(4, |line| line.status() == 200);
    assert!(lines.iter().all(|line| line.number("bytes_out") >= size as u64), "{lines:#?}");
    assert!(lines.iter().all(|line| line.number("bytes_in") >= size as u64), "{lines:#?}");
}
