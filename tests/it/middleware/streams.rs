//! Bodies that pass a guest chunk by chunk: what it lets through, what it makes of it, and what is done
//! where it fails in the middle of one.

use super::bodies::closing;
use super::{ask, calls, guest, metric, with};
use crate::harness::client::Response;
use crate::harness::origin::ok;
use crate::harness::{Builder, Client, Origin, eventually, holds};
use crate::reload::{configuration, reload, write};

/// `fault-filter`, which is shown both bodies as they pass.
fn streaming(origin: &Origin, settings: &str) -> Builder {
    with(origin, "fault-filter.wasm", &format!("config = {{ stream = true }}\n{settings}"), "")
}

/// Answers with the body of the request, with its length.
fn mirror() -> Origin {
    Origin::answering(|request| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
        [head.as_bytes(), &request.body].concat()
    })
}

fn post(client: &mut Client, fault: &str, of: &str, body: &[u8]) {
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nX-Stream: {fault}\r\nX-Of: {of}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.send([head.as_bytes(), body].concat());
}

fn posted(client: &mut Client, fault: &str, of: &str, body: &[u8]) -> Response {
    post(client, fault, of, body);
    client.response()
}

fn letters(len: usize) -> Vec<u8> {
    (0..len).map(|index| b'a' + (index % 26) as u8).collect()
}

#[test]
fn what_it_lets_pass_passes() {
    let origin = mirror();
    let proxy = streaming(&origin, "").start();
    let mut client = proxy.client();
    for len in [1, 10, 20_000, 65_536, 65_537, 1_500_000] {
        let body = letters(len);
        for fault in ["none", "leave"] {
            for of in ["request", "response"] {
                assert!(posted(&mut client, fault, of, &body).body == body, "{fault} of {of}, {len} bytes");
            }
        }
    }
    // Nobody knows before what will come out of it.
    let request = origin.requests().pop().unwrap();
    assert_eq!(request.head.value("transfer-encoding"), Some("chunked"));
    assert!(!request.head.has("content-length"));
    assert_eq!((calls(&proxy, "request-body", "leave"), calls(&proxy, "response-body", "leave")), (6.0, 6.0));
    assert!(calls(&proxy, "response-body", "pass") >= 18.0);
}

#[test]
fn what_it_makes_of_it_goes_on_instead() {
    let origin = mirror();
    let proxy = streaming(&origin, "").start();
    let mut client = proxy.client();
    for len in [1, 10, 20_000, 60_000] {
        let body = letters(len);
        let capitals = body.to_ascii_uppercase();
        for of in ["request", "response"] {
            assert!(posted(&mut client, "capitals", of, &body).body == capitals, "capitals, {of}, {len}");
            assert!(posted(&mut client, "hold", of, &body).body == body, "hold, {of}, {len}");
            assert!(posted(&mut client, "drop", of, &body).body.is_empty(), "drop, {of}, {len}");
        }
    }
}

#[test]
fn trailers_and_bodies_without_a_length_pass_it() {
    let origin = closing(|target| match target {
        "/close" => b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end".to_vec(),
        "/empty" => ok(""),
        "/none" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        _ => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n"
                .to_vec()
        }
    });
    let proxy = streaming(&origin, "").start();
    let mut client = proxy.client();
    for (target, text) in [("/", "ABCDE"), ("/close", "UNTIL THE END"), ("/empty", ""), ("/none", "")] {
        client.send(format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\nX-Of: response\r\nX-Stream: capitals\r\n\r\n"
        ));
        let response = client.response();
        assert_eq!(
            (response.text().as_str(), response.trailers.is_empty()),
            (text, target != "/"),
            "{target}"
        );
    }
    client.send("HEAD /empty HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!client.response_to("HEAD").head.has("content-length"));
    // An older client gets it until the connection ends.
    client.send("GET / HTTP/1.0\r\nHost: a\r\nX-Of: response\r\nX-Stream: capitals\r\n\r\n");
    assert_eq!(client.response().text(), "ABCDE");
}

#[test]
fn a_chunk_goes_on_before_the_next_has_come() {
    let origin = Origin::scripted(|connection| {
        connection.expect_head()?;
        connection.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n")?;
        connection.read_until("the second")?;
        connection.send("data: two\n\n")
    });
    let proxy = streaming(&origin, "").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nX-Of: response\r\nX-Stream: capitals\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("9\r\nthe first\r\n");
    client.until("DATA: ONE");
    client.send("a\r\nthe second\r\n");
    client.until("DATA: TWO");
}

#[test]
fn a_guest_that_cuts_a_body_off_is_obeyed() {
    let body = letters(1000);
    let origin = mirror();
    let proxy = streaming(&origin, "status = 451").start();
    for of in ["request", "response"] {
        // Nothing of the response has left, so there is still something to say.
        assert_eq!(posted(&mut proxy.client(), "abort", of, &body).status, 451, "{of}");
    }
    proxy.stderr_contains("response-body: it cut the body off: told to");
    proxy.log_lines(2, |line| line.text("reason") == "middleware cut the body off");
    // What has begun is broken off, so that the client can tell.
    let slow = Origin::scripted(|connection| {
        connection.expect_head()?;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")?;
        connection.read_until("go on")?;
        connection.send("def")
    });
    let proxy = streaming(&slow, "on_error = \"open\"").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nX-Of: response\r\nX-Stream: capitals-trap\r\nContent-Length: 5\r\n\r\n");
    client.until("ABC");
    client.send("go on");
    // It has made something else of the first chunk: nobody can go on without it.
    let (rest, _) = client.rest();
    assert!(!String::from_utf8_lossy(&rest).contains("0\r\n\r\n"), "{rest:?}");
    assert_eq!(
        metric(&proxy, "warpdrive_wasm_middleware_failures_total{middleware=\"m\",action=\"closed\"}"),
        1.0
    );
}

#[test]
fn a_failure_in_a_body_goes_the_way_that_was_configured() {
    let body = letters(200_000);
    let origin = mirror();
    let table = [
        ("trap", "trap", "on_error"),
        ("second-trap", "trap", "on_error"),
        ("loop", "timeout", "on_timeout"),
        ("huge", "invalid", "on_error"),
        ("begin-trap", "trap", "on_error"),
    ];
    for key in ["on_error", "on_timeout"] {
        let settings = format!("max_execution_time = \"200ms\"\nstatus = 500\n{key} = \"open\"");
        let proxy = streaming(&origin, &settings).start();
        for (fault, result, by) in table {
            for of in ["request", "response"] {
                let hook = format!("{of}-body");
                let before = calls(&proxy, &hook, result);
                let mut client = proxy.client();
                post(&mut client, fault, of, &body);
                match client.try_response_to("POST") {
                    Ok(response) if by == key => {
                        assert!(response.body == body, "{fault} of {of}, {key} open")
                    }
                    Ok(response) => assert_eq!(response.status, 500, "{fault} of {of}, {key} open"),
                    // The first chunk of it had already left.
                    Err(broken) => {
                        assert!(fault == "second-trap" && by != key, "{fault} of {of}: {broken:?}")
                    }
                }
                assert_eq!(calls(&proxy, &hook, result), before + 1.0, "{fault} of {of}");
                assert_eq!(ask(&mut proxy.client(), "").status, 200, "after {fault} of {of}");
            }
        }
    }
}

#[test]
fn bodies_that_one_instance_carries_fail_together_and_no_others() {
    let origin = mirror();
    let proxy = streaming(&origin, "").start();
    let mut others: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    for client in &mut others {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf");
    }
    // They are on their way.
    eventually("chunks", || {
        holds(calls(&proxy, "request-body", "pass") == 3.0, calls(&proxy, "request-body", "pass"))
    });
    assert_eq!(posted(&mut proxy.client(), "trap", "request", b"x").status, 503);
    // A body that begins now is carried by another instance.
    assert_eq!(posted(&mut proxy.client(), "none", "request", b"another").text(), "another");
    for client in &mut others {
        client.send("half");
        assert_eq!(client.response().status, 503);
    }
    assert_eq!(calls(&proxy, "request-body", "lost"), 3.0);
}

#[test]
fn a_guest_hears_of_the_end_of_each_body() {
    let origin = mirror();
    let proxy = streaming(&origin, "").start();
    assert_eq!(posted(&mut proxy.client(), "none", "request", b"whole").text(), "whole");
    let mut gone = proxy.client();
    gone.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf");
    eventually("a chunk", || {
        holds(calls(&proxy, "request-body", "pass") >= 2.0, calls(&proxy, "request-body", "pass"))
    });
    gone.reset();
    let is_end = |line: &&String| line.contains("body over after 1 chunks");
    // Of the request and of the response of the first, and of the request that broke off.
    eventually("ends", || {
        let ends = proxy.stderr().iter().filter(is_end).count();
        holds(ends == 3, ends)
    });
}

#[test]
fn a_body_goes_on_with_the_instance_that_has_its_beginning() {
    let origin = mirror();
    let proxy = streaming(&origin, "").start();
    let mut client = proxy.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nX-Of: request\r\nX-Stream: hold\r\nContent-Length: 8\r\n\r\nhalf",
    );
    eventually("a chunk", || {
        holds(calls(&proxy, "request-body", "replace") == 1.0, calls(&proxy, "request-body", "replace"))
    });
    // From now on there is another one.
    let text = configuration(&proxy).replace("stream = true", "stream = true, another = 1");
    write(&proxy, &text);
    reload(&proxy);
    client.send("half");
    assert_eq!(client.response().text(), "halfhalf");
}

#[test]
fn one_sees_chunks_as_the_one_before_has_made_them_and_whole_ones_too() {
    let origin = mirror();
    let seen = format!(
        "[wasm.middleware.n]\nfile = \"{}\"\nconfig = {{ body = 1000, field = \"x-n\" }}\n",
        guest("fault-filter.wasm")
    );
    let proxy = streaming(&origin, "")
        .toml(&seen)
        .route("app", "host = \"b\"\nmiddleware = [\"m\", \"n\"]")
        .route("app", "host = \"c\"\nmiddleware = [\"n\", \"m\"]")
        .start();
    let ask = |host: &str, fields: &str| {
        let mut client = proxy.client();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\n{fields}X-Stream: capitals\r\nContent-Length: 7\r\n\r\nletters"
        ));
        client.response().text()
    };
    // The second waits for all that comes out of the first, which is known then.
    assert_eq!(ask("b", "X-Of: request\r\nX-N: body\r\n"), "LETTERS");
    assert_eq!(ask("b", "X-Of: request\r\n"), "LETTERS");
    assert_eq!(origin.requests().pop().unwrap().head.value("content-length"), Some("7"));
    // What was put in place of it passes the next as any other does.
    assert_eq!(ask("c", "X-Of: request\r\nX-N: set-body\r\n"), "ANOTHER BODY");
    assert_eq!(ask("c", "X-Of: response\r\nX-N: response-body\r\n"), "LETTERS");
    // And so does an answer of a guest.
    assert_eq!(ask("c", "X-Of: response\r\nX-N: body\r\n"), "letters");
    assert_eq!(ask("b", "X-Of: response\r\nX-Fault: response-answer\r\n"), "instead");
}

/// What came with a request belongs to the next one, however its own exchange ends.
#[test]
fn the_next_request_is_whole_after_a_body_that_was_held_and_then_cut_off() {
    let seen = format!(
        "[wasm.middleware.n]\nfile = \"{}\"\nconfig = {{ body = 1000, field = \"x-n\" }}\n",
        guest("fault-filter.wasm")
    );
    let origin = mirror();
    let proxy = streaming(&origin, "status = 451")
        .toml(&seen)
        .route("app", "host = \"c\"\nmiddleware = [\"n\", \"m\"]")
        .start();
    let next = "GET /next HTTP/1.1\r\nHost: c\r\nX-Value: ";
    let rest = "GET /smuggled HTTP/1.1\r\n\r\n";
    let (known, chunked) =
        ("Content-Length: 7\r\n\r\nletters", "Transfer-Encoding: chunked\r\n\r\n7\r\nletters\r\n0\r\n\r\n");
    for (fault, body) in [("abort", known), ("abort", chunked), ("trap", known)] {
        let mut client = proxy.client();
        let head = format!("POST / HTTP/1.1\r\nHost: c\r\nX-Of: request\r\nX-Stream: {fault}\r\n");
        client.send(format!("{head}{body}{next}"));
        assert_eq!(client.response().status, 451, "{fault}, {body:?}");
        // The rest of a request whose beginning was lost would be taken for one of its own.
        client.send(rest);
        assert_eq!(client.response().status, 200, "{fault}, {body:?}");
    }
    let targets: Vec<String> = origin.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(targets, ["/next"; 3]);
}

#[test]
fn an_answer_to_a_response_passes_those_that_see_chunks() {
    let origin = mirror();
    let answers = format!(
        "[wasm.middleware.n]\nfile = \"{}\"\nconfig = {{ body = 1000, field = \"x-n\" }}\n",
        guest("fault-filter.wasm")
    );
    let proxy = streaming(&origin, "")
        .toml(&answers)
        .route("app", "host = \"b\"\nmiddleware = [\"m\", \"n\"]")
        .start();
    let mut client = proxy.client();
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: b\r\nX-Of: response\r\nX-Stream: capitals\r\nX-N: response-answer\r\n\r\n");
        let answer = client.response();
        assert_eq!((answer.status, answer.text().as_str()), (418, "INSTEAD"));
    }
}

#[test]
fn one_that_wants_chunks_and_cannot_take_them_is_refused() {
    let origin = Origin::ok("app");
    let proxy = with(&origin, "pii.wasm", "", "").start();
    assert_eq!(ask(&mut proxy.client(), "").status, 200);
    let run = with(&origin, "rate-limit.wasm", "config = { rate = 1, burst = 1 }", "").check();
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

/// What a mail or a card number is replaced by, wherever the chunks are cut.
#[test]
fn personal_data_is_redacted_across_the_borders_of_chunks() {
    let text = "write to ann.b@example.org or call +1 (555) 010-9999; card 4111 1111 1111 1111, order 1234.";
    for cut in [1, 3, 7, 20, 50] {
        let origin = Origin::scripted(move |connection| {
            while connection.next_request()?.is_some() {
                connection.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"x\"\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                for piece in text.as_bytes().chunks(cut) {
                    connection
                        .send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())?;
                }
                connection.send("0\r\n\r\n")?;
            }
            Ok(())
        });
        let proxy = with(&origin, "pii.wasm", "", "").start();
        let response = ask(&mut proxy.client(), "Accept-Encoding: gzip\r\n");
        assert_eq!(
            response.text(),
            "write to [email] or call [phone]; card [card], order 1234.",
            "cut {cut}"
        );
        assert!(!response.head.has("etag"));
        assert!(!origin.only_request().head.has("accept-encoding"));
        assert_eq!(metric(&proxy, "warpdrive_wasm_metric_sum{component=\"m\",name=\"redacted\"}"), 3.0);
    }
}

/// Compressed though nobody asked for it: it cannot be searched, so it does not pass.
#[test]
fn what_cannot_be_searched_does_not_pass() {
    let origin = Origin::answering(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz".to_vec()
    });
    let proxy = with(&origin, "pii.wasm", "", "").start();
    assert_eq!(ask(&mut proxy.client(), "").status, 503);
}

#[test]
fn tokens_are_billed_to_whom_the_key_belongs() {
    let usage = r#"{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;
    let origin = Origin::answering(move |_| ok(usage));
    let config = "config = { unit = \"tokens\", customers = { k-1 = \"ann\", k-2 = \"bob\" } }";
    let proxy = with(&origin, "billing.wasm", config, "").workers(2).start();
    assert_eq!(ask(&mut proxy.client(), "").status, 401);
    for key in ["k-1", "k-2", "k-1"] {
        assert_eq!(ask(&mut proxy.client(), &format!("X-Api-Key: {key}\r\n")).text(), usage);
    }
    let billed = |name: &str| {
        metric(&proxy, &format!("warpdrive_wasm_metric_sum{{component=\"m\",name=\"tokens.{name}\"}}"))
    };
    eventually("the bill", || {
        holds((billed("ann"), billed("bob")) == (14.0, 7.0), (billed("ann"), billed("bob")))
    });
}
