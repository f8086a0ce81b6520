//! Middleware that sends requests of its own, while its core serves others.

use std::sync::{Arc, Barrier};

use super::{ask, calls, metric, with};
use crate::harness::client::Response;
use crate::harness::origin::ok;
use crate::harness::{Builder, Client, Latch, Origin, eventually, holds};
use crate::reload::{configuration, reload, write};

/// With `asker` in front of an origin; it may ask `other` as well.
fn asking(app: &Origin, other: &Origin, middleware: &str) -> Builder {
    let middleware = format!("upstreams = [\"app\", \"other\"]\n{middleware}");
    with(app, "fault-asker.wasm", &middleware, "").upstream("other", other, "").upstream("denied", other, "")
}

/// An origin that answers once it is let, and what lets it.
fn late() -> (Latch, Origin) {
    let gate = Latch::default();
    let theirs = gate.clone();
    let origin = Origin::scripted(move |connection| {
        connection.expect_request()?;
        theirs.wait()?;
        connection.send(ok("at last"))?;
        connection.expect_close()
    });
    (gate, origin)
}

fn said(client: &mut Client, fields: &str) -> String {
    let response = ask(client, fields);
    assert_eq!(response.status, 200, "{fields}: {}", response.text());
    response.text()
}

/// A classifier that goes by what the text says.
fn classifier() -> Origin {
    Origin::answering(|request| {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        assert!(text.starts_with("{\"input\":\""), "{text}");
        match () {
            () if text.contains("unclear") => ok("{\"results\":[{}]}"),
            () if text.contains("bad") => ok("{\"results\":[{\"flagged\":true}]}"),
            () if text.contains("sick") => b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
            () => ok("{\"results\":[{\"flagged\":false}]}"),
        }
    })
}

fn moderated(app: &Origin, classifier: &Origin) -> Builder {
    let middleware = "upstreams = [\"classifier\"]\nconfig = { upstream = \"classifier\", timeout_ms = 300 }";
    with(app, "moderation.wasm", middleware, "").upstream("classifier", classifier, "")
}

fn post(client: &mut Client, body: &str) -> Response {
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    client.response()
}

#[test]
fn moderation_lets_pass_what_was_cleared_and_nothing_else() {
    let (app, classifier) = (Origin::ok("app"), classifier());
    let proxy = moderated(&app, &classifier).start();
    let mut client = proxy.client();
    let table = [("fine", 200), ("bad words", 403), ("unclear", 503), ("sick", 503), ("fine, too", 200)];
    for (body, status) in table {
        assert_eq!(post(&mut client, body).status, status, "{body}");
    }
    assert_eq!(ask(&mut client, "").status, 200, "nobody is asked about nothing");
    let seen: Vec<String> =
        app.requests().iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
    assert_eq!(seen, ["fine", "fine, too", ""]);
    let asked = classifier.requests();
    assert_eq!(asked.len(), 5);
    let head = &asked[0].head;
    assert_eq!(head.start, "POST /v1/moderations HTTP/1.1");
    assert_eq!(head.value("host"), Some(classifier.address().to_string().as_str()));
    assert_eq!(head.value("content-type"), Some("application/json"));
    assert_eq!(head.value("x-forwarded-for"), Some("127.0.0.1"));
    assert!(asked.iter().all(|request| request.connection == 0), "its connection is kept");
    assert_eq!(metric(&proxy, "warpdrive_wasm_middleware_requests_total{middleware=\"m\"}"), 5.0);
    assert_eq!((calls(&proxy, "request", "next"), calls(&proxy, "request", "respond")), (3.0, 3.0));
}

#[test]
fn moderation_lets_nothing_pass_if_the_classifier_is_away_or_slow() {
    let app = Origin::ok("app");
    let away = Origin::scripted(|connection| connection.reset());
    let slow = Origin::scripted(|connection| {
        connection.expect_request()?;
        connection.expect_close()
    });
    for (classifier, why) in [(away, "2, name: \"unavailable\""), (slow, "3, name: \"timed-out\"")] {
        let proxy = moderated(&app, &classifier).start();
        assert_eq!(post(&mut proxy.client(), "fine").status, 503, "{why}");
        proxy.stderr_contains(&format!("the classifier: Error {{ code: {why}"));
    }
    assert!(app.requests().is_empty());
}

#[test]
fn while_one_waits_others_are_served_by_the_same_core() {
    let together = Arc::new(Barrier::new(4));
    let theirs = Arc::clone(&together);
    // Nobody is answered before all four are there.
    let other = Origin::answering(move |_| {
        theirs.wait();
        ok("together")
    });
    let app = Origin::ok("app");
    let proxy = asking(&app, &other, "instances = 4").start();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let one = || assert_eq!(said(&mut proxy.client(), "X-Ask: other GET /\r\n"), "200 8 together");
            scope.spawn(one);
        }
    });
    assert_eq!(ask(&mut proxy.client(), "").text(), "app");
    assert_eq!(metric(&proxy, "warpdrive_wasm_instances_made_total{component=\"m\"}"), 4.0);
}

#[test]
fn beyond_its_instances_so_many_wait_and_no_more() {
    let (gate, other) = late();
    let app = Origin::ok("app");
    let proxy = asking(&app, &other, "instances = 1\ntimeout = \"60s\"\nstatus = 500").start();
    let mut first = proxy.client();
    first.send("GET / HTTP/1.1\r\nHost: a\r\nX-Ask: other GET /\r\n\r\n");
    other.wait_requests(1);
    let mut others: Vec<Client> = (0..129).map(|_| proxy.client()).collect();
    for client in &mut others {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    // 128 may wait, and one of them is too many.
    eventually("the one that may not wait", || {
        let refused = calls(&proxy, "request", "overload");
        holds(refused == 1.0, refused)
    });
    gate.open();
    assert_eq!(first.response().text(), "200 7 at last");
    let served = others.iter_mut().map(Client::response).filter(|response| response.status == 200).count();
    assert_eq!((served, calls(&proxy, "request", "overload")), (128, 1.0));
    assert_eq!(metric(&proxy, "warpdrive_wasm_instances_made_total{component=\"m\"}"), 1.0);
}

#[test]
fn what_does_not_answer_in_time_makes_room_for_others() {
    let other = Origin::scripted(|connection| {
        connection.expect_request()?;
        connection.expect_close()
    });
    let app = Origin::ok("app");
    let proxy = asking(&app, &other, "instances = 1\ntimeout = \"500ms\"\nstatus = 500").start();
    assert_eq!(ask(&mut proxy.client(), "X-Ask: other GET /\r\n").status, 500);
    assert_eq!(calls(&proxy, "request", "timeout"), 1.0);
    proxy.stderr_contains("middleware `m`: request: it did not answer in time");
    assert_eq!(ask(&mut proxy.client(), "").text(), "app");
}

#[test]
fn a_deadline_that_has_passed_goes_the_way_that_was_configured() {
    let other = Origin::scripted(|connection| {
        connection.expect_request()?;
        connection.expect_close()
    });
    let app = Origin::echo();
    let proxy = asking(&app, &other, "timeout = \"200ms\"\non_timeout = \"open\"").start();
    let response = ask(&mut proxy.client(), "X-Ask: other GET /\r\n");
    assert_eq!(response.status, 200);
    assert!(!response.text().to_lowercase().contains("x-changed"), "{}", response.text());
    let request = other.only_request();
    assert_eq!(request.head.start, "GET / HTTP/1.1");
    other.wait_end(0);
}

#[test]
fn what_goes_wrong_is_told() {
    let app = Origin::ok("app");
    let other = Origin::scripted(|connection| {
        while let Some(request) = connection.next_request()? {
            match request.target() {
                "/away" => return connection.reset(),
                "/cut" => return connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
                "/slow" => return connection.expect_close(),
                "/slow-body" => {
                    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")?;
                    return connection.expect_close();
                }
                "/large" => connection.send(ok(&"x".repeat((1 << 20) + 1)))?,
                "/most" => connection.send(ok(&"y".repeat(1 << 20)))?,
                "/no" => connection.send("HTTP/1.1 404 No\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nno")?,
                _ => connection.send(ok("fine"))?,
            }
        }
        Ok(())
    });
    let proxy = asking(&app, &other, "").start();
    let mut client = proxy.client();
    let most = format!("200 1048576 {}", "y".repeat(100));
    let table: [(&str, &str, &str); 14] = [
        ("other GET /", "", "200 4 fine"),
        ("other GET /no", "", "404 2 no"),
        ("other GET /most", "", &most),
        ("other GET /large", "", "too-large"),
        ("other POST /", "X-Ask-Bytes: 1048576\r\n", "200 4 fine"),
        ("other POST /", "X-Ask-Bytes: 1048577\r\n", "invalid"),
        ("other G(T /", "", "invalid"),
        ("other GET x", "", "invalid"),
        ("other GET /", "X-Ask-Field: a:b 1\r\n", "invalid"),
        ("denied GET /", "", "not-allowed"),
        ("nobody GET /", "", "not-allowed"),
        ("other POST /away", "", "unavailable"),
        ("other GET /cut", "", "unavailable"),
        ("other GET /", "X-Ask-Times: 101\r\n", "not-allowed"),
    ];
    for (request, fields, came) in table {
        assert_eq!(said(&mut client, &format!("X-Ask: {request}\r\n{fields}")), came, "{request} {fields}");
    }
    for path in ["/slow", "/slow-body"] {
        let request = format!("X-Ask: other GET {path}\r\nX-Ask-Timeout: 100\r\n");
        assert_eq!(said(&mut client, &request), "timed-out", "{path}");
    }
    proxy.stderr_contains("it may not ask `denied`");
}

#[test]
fn what_it_sends_is_as_it_says_but_for_what_is_ours() {
    let (app, other) = (Origin::ok("app"), Origin::echo());
    let proxy = asking(&app, &other, "").start();
    let mut client = proxy.client();
    for field in
        ["Connection x-a", "Transfer-Encoding chunked", "Content-Length 9", "Host b.example", "X-A 1"]
    {
        said(&mut client, &format!("X-Ask: other PUT /a?b\r\nX-Ask-Bytes: 3\r\nX-Ask-Field: {field}\r\n"));
    }
    for request in other.requests() {
        assert_eq!((request.head.start.as_str(), &request.body[..]), ("PUT /a?b HTTP/1.1", &b"xxx"[..]));
        assert_eq!(request.head.values("content-length"), ["3"]);
        assert!(!request.head.has("transfer-encoding") && !request.head.has("connection"));
    }
    let requests = other.requests();
    let value = |at: usize, name: &str| requests[at].head.value(name).map(str::to_owned);
    assert_eq!(value(3, "host").as_deref(), Some("b.example"));
    assert_eq!(value(4, "x-a").as_deref(), Some("1"));
}

#[test]
fn it_asks_on_the_way_of_responses_and_passes_requests_on() {
    let (app, other) = (Origin::echo(), Origin::ok("other"));
    let proxy = asking(&app, &other, "").start();
    let mut client = proxy.client();
    let response = ask(&mut client, "X-Ask: other GET /\r\nX-Ask-On: response\r\n");
    assert_eq!((response.status, response.head.value("x-answer")), (200, Some("200 5 other")));
    let response = ask(&mut client, "X-Ask: other GET /\r\nX-Ask-On: pass\r\n");
    assert!(response.text().to_lowercase().contains("x-answer: 200 5 other"), "{}", response.text());
}

#[test]
fn nobody_is_asked_at_its_start_or_when_all_is_over() {
    let (app, other) = (Origin::ok("app"), Origin::ok("other"));
    let proxy = asking(&app, &other, "").start();
    let mut client = proxy.client();
    assert_eq!(said(&mut client, "X-Ask: configure\r\n"), "not-allowed");
    assert_eq!(ask(&mut client, "X-Ask: log\r\n").text(), "app");
    proxy.stderr_contains("asked at the end: not-allowed");
    assert_eq!(app.requests().len(), 1);
}

#[test]
fn one_that_fails_after_it_has_waited_leaves_nothing_behind() {
    let (app, other) = (Origin::echo(), Origin::ok("other"));
    let settings = "max_execution_time = \"100ms\"\non_error = \"open\"\non_timeout = \"open\"";
    let proxy = asking(&app, &other, settings).start();
    for (then, result) in [("trap", "trap"), ("loop", "timeout")] {
        let response = ask(&mut proxy.client(), &format!("X-Ask: other GET /\r\nX-Then: {then}\r\n"));
        assert_eq!(response.status, 200, "{then}");
        assert!(!response.text().to_lowercase().contains("x-changed"), "{}", response.text());
        assert_eq!(calls(&proxy, "request", result), 1.0, "{then}");
    }
    assert_eq!(said(&mut proxy.client(), "X-Ask: other GET /\r\n"), "200 5 other");
}

#[test]
fn a_reload_waits_for_nobody_who_waits() {
    let (gate, other) = late();
    let app = Origin::ok("app");
    let proxy = asking(&app, &other, "config = { x = 1 }").start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Ask: other GET /\r\n\r\n");
    other.wait_requests(1);
    write(&proxy, &configuration(&proxy).replace("config = { x = 1 }", "config = { x = 2 }"));
    reload(&proxy);
    assert_eq!(ask(&mut proxy.client(), "").text(), "app");
    gate.open();
    assert_eq!(client.response().text(), "200 7 at last");
}

#[test]
fn a_client_that_goes_away_keeps_nobody() {
    let (gate, other) = late();
    let app = Origin::ok("app");
    let proxy = asking(&app, &other, "instances = 1").start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Ask: other GET /\r\n\r\n");
    other.wait_requests(1);
    client.reset();
    gate.open();
    assert_eq!(ask(&mut proxy.client(), "").text(), "app");
    eventually("the end of the call", || {
        let answered = calls(&proxy, "request", "respond");
        holds(answered == 1.0, answered)
    });
}

#[test]
fn a_stream_cannot_wait() {
    let (app, other) = (Origin::ok("app"), Origin::ok("other"));
    let run = asking(&app, &other, "config = { stream = true }").run();
    assert_ne!(run.code, Some(0), "{run:?}");
    assert!(run.stderr.contains("a stream cannot wait"), "{}", run.stderr);
}
