//! Requests that components send while they answer one: to whom they may, over the upstreams of
//! their core. `/relay` of the component `probe` passes its request on (tests/guests/probe).

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::faults::stalled;
use crate::harness::client::Response;
use crate::harness::origin::ok;
use crate::harness::wire::values;
use crate::harness::{Builder, Client, Latch, Origin, Proxy, pattern};
use crate::workloads::{probe, with_engine};

fn asking(origin: &Origin, limits: &str, more: &str) -> Builder {
    let outgoing = "[wasm.components.probe.outgoing]\nupstreams = [\"api\"]\n\
                    hosts = { \"Api.Example.com:8080\" = \"api\" }\n";
    with_engine("")
        .upstream("api", origin, more)
        .toml(&probe(limits))
        .toml(outgoing)
        .toml("[[routes]]\nworkload = \"site\"\n")
}

/// A client that has asked `/relay` with these fields.
fn asked(proxy: &Proxy, fields: &str) -> Client {
    let mut client = proxy.client();
    client.send(format!("GET /relay HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    client
}

/// What it is answered.
fn relay(proxy: &Proxy, fields: &str) -> Response {
    asked(proxy, fields).response()
}

#[test]
fn a_component_asks_an_upstream_as_its_client_would() {
    let answer = "HTTP/1.1 203 Fine\r\nConnection: x-hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n\
                  X-Mine: 2\r\nContent-Length: 2\r\n\r\nhi";
    let origin = Origin::answering(|_| answer.into());
    let proxy = asking(&origin, "", "").start();
    for _ in 0..3 {
        let response =
            relay(&proxy, "X-Pass-One: 1\r\nTE: trailers\r\nX-Request-Id: forged\r\nX-Path: /p?q=1\r\n");
        assert_eq!((response.status, response.text().as_str()), (203, "hi"));
        assert_eq!(response.head.values("x-got-x-mine"), ["2"]);
        assert_eq!(response.head.values("x-got-content-length"), ["2"]);
        for gone in ["x-got-connection", "x-got-keep-alive", "x-got-x-hop"] {
            assert!(response.head.values(gone).is_empty(), "{gone}");
        }
    }
    assert_eq!(origin.connections(), 1, "kept like any other");
    let asked = origin.requests().remove(0);
    assert_eq!((asked.method(), asked.target()), ("GET", "/p?q=1"));
    let expected: [(&str, &[&str]); 5] = [
        ("host", &["api"]),
        ("x-pass-one", &["1"]),
        ("te", &[]),
        ("x-forwarded-for", &["127.0.0.1"]),
        ("transfer-encoding", &[]),
    ];
    for (name, values) in expected {
        assert_eq!(asked.head.values(name), values, "{name}");
    }
    let id = asked.head.values("x-request-id");
    assert_eq!(id, [proxy.log_lines(3, |_| true)[0].text("request_id")], "that of the client's request");
}

#[test]
fn it_asks_whom_it_may_and_nobody_else() {
    let origin = Origin::ok("");
    let proxy = asking(&origin, "outgoing_requests = 2", "").start();
    for (fields, text) in [
        ("X-To: api:80\r\n", ""),
        ("X-To: API\r\n", ""),
        ("X-To: api.example.com:8080\r\n", ""),
        ("X-To: api.example.com\r\n", "failed ErrorCode::HttpRequestDenied"),
        ("X-To: api:81\r\n", "failed ErrorCode::HttpRequestDenied"),
        ("X-To: 127.0.0.1\r\n", "failed ErrorCode::HttpRequestDenied"),
    ] {
        let response = relay(&proxy, fields);
        let status = if text.is_empty() { 200 } else { 502 };
        assert_eq!((response.status, response.text().as_str()), (status, text), "{fields}");
    }
    // Strangers cannot say what the scheme is.
    let trusting = asking(&origin, "", "").server("trusted_proxies = [\"127.0.0.1\"]");
    let response = relay(&trusting.middleware("forward_headers = true").start(), "X-Scheme: https\r\n");
    assert_eq!((response.status, response.text().as_str()), (502, "refused ErrorCode::HttpRequestDenied"));
    proxy.stderr_contains("probe: it may not ask `api.example.com`");
    assert_eq!(origin.requests().len(), 3);
    let text = proxy.client().get("/asks?3").text();
    assert_eq!(text, "status 200\nstatus 200\nErrorCode::HttpRequestDenied\n", "so many for one request");
}

#[test]
fn bodies_and_trailers_pass_through_a_component_both_ways() {
    let origin = Origin::scripted(|c| {
        let request = c.expect_request()?;
        c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for part in request.body.chunks(50_000) {
            c.send(format!("{:x}\r\n", part.len()))?;
            c.send(part)?;
            c.send("\r\n")?;
        }
        c.send("0\r\nX-Sum: 7\r\n\r\n")
    });
    let proxy = asking(&origin, "", "").start();
    let body = pattern(1 << 20);
    let mut client = proxy.client();
    client.send("POST /relay HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let (mut sender, copy) = (client.sender(), body.clone());
    let sending = std::thread::spawn(move || {
        use std::io::Write;
        for part in copy.chunks(100_000) {
            write!(sender, "{:x}\r\n", part.len())?;
            sender.write_all(part)?;
            sender.write_all(b"\r\n")?;
        }
        sender.write_all(b"0\r\nX-Up: 1\r\n\r\n")
    });
    let response = client.response();
    sending.join().unwrap().unwrap();
    assert_eq!((response.status, response.body == body), (200, true));
    assert_eq!(values(&response.trailers, "x-sum"), ["7"]);
    let asked = origin.only_request();
    assert!(asked.body == body);
    assert_eq!(values(&asked.trailers, "x-up"), ["1"]);
}

#[test]
fn bodies_have_bounds() {
    let origin = Origin::echo();
    let proxy = asking(&origin, "outgoing_body = 1000", "").start();
    let mut client = proxy.client();
    let body = "x".repeat(1001);
    client.send(format!("POST /relay HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n{body}"));
    assert_eq!(client.response().text(), "failed ErrorCode::HttpRequestBodySize(None)");
    let long = Origin::answering(|_| ok(&"y".repeat(1001)));
    let proxy = asking(&long, "outgoing_body = 1000", "").start();
    match asked(&proxy, "").try_response_to("GET") {
        Ok(response) => assert_eq!(response.status, 502, "nothing of it has left"),
        Err(broken) => assert_eq!(broken.head.expect("its head has left").word(1), "200"),
    }
    let reason = "component ended within its answer";
    proxy.log_lines(1, |line| line.is_there("reason") && line.text("reason") == reason);
}

#[test]
fn what_an_upstream_does_wrong_the_component_is_told() {
    let cases: [(&str, &str, &str); 4] = [
        ("HTTP/1.1 200 OK\r\nX-Half", "", "failed ErrorCode::HttpResponseIncomplete"),
        ("", "", "failed ErrorCode::ConnectionTerminated"),
        ("SMTP ready\r\n\r\n", "", "failed ErrorCode::HttpProtocolError"),
        (
            "HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "",
            "failed ErrorCode::HttpProtocolError",
        ),
    ];
    for (said, fields, text) in cases {
        let origin = Origin::scripted(move |c| {
            c.expect_request()?;
            c.send(said)
        });
        let proxy = asking(&origin, "", "").start();
        let response = relay(&proxy, fields);
        assert_eq!((response.status, response.text().as_str()), (502, text), "{said}");
    }
}

#[test]
fn it_is_as_patient_as_it_says() {
    let origin = Origin::scripted(|c| {
        let request = c.expect_request()?;
        if request.target() == "/begun" {
            c.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun")?;
        }
        c.expect_close()
    });
    let proxy = asking(&origin, "", "retries = 0\n").start();
    let response = relay(&proxy, "X-First: 200\r\n");
    assert_eq!(response.text(), "failed ErrorCode::ConnectionReadTimeout");
    origin.wait_end(0);
    proxy.client().send("GET /relay HTTP/1.1\r\nHost: a\r\nX-Path: /begun\r\nX-Between: 200\r\n\r\n").rest();
    proxy.stderr_contains("probe/0.1: body: ");
    origin.wait_end(1);
}

#[test]
fn a_failed_try_is_made_again_with_another_endpoint() {
    let dead = Origin::scripted(|c| c.reset());
    let live = Origin::ok("alive");
    let more = format!("[[upstreams.api.instances]]\n{}", live.toml());
    let upstream =
        format!("[upstreams.api]\nretries = 1\n[[upstreams.api.instances]]\n{}{more}", dead.toml());
    let proxy = with_engine("")
        .toml(&upstream)
        .toml(&probe(""))
        .toml("[wasm.components.probe.outgoing]\nupstreams = [\"api\"]\n")
        .toml("[[routes]]\nworkload = \"site\"\n")
        .start();
    for _ in 0..4 {
        let response = relay(&proxy, "");
        assert_eq!((response.status, response.text().as_str()), (200, "alive"));
    }
    assert!(dead.connections() > 0);
}

#[test]
fn requests_end_with_the_request_that_they_were_sent_for() {
    let asked = Latch::default();
    let has_asked = asked.clone();
    let origin = Origin::scripted(move |c| {
        c.expect_request()?;
        has_asked.open();
        c.expect_close()
    });
    let proxy = asking(&origin, "", "").start();
    let mut client = proxy.client();
    client.send("GET /relay HTTP/1.1\r\nHost: a\r\n\r\n");
    asked.wait().unwrap();
    client.reset();
    origin.wait_end(0);
    // Nor does one go on whose answer the component does not want any more, though it goes on itself.
    let mut client = proxy.client();
    client.send("GET /forget?300 HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_end(1);
}

#[test]
fn an_upstream_is_not_read_faster_than_the_client_reads() {
    let whole = 256 << 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let origin = Origin::scripted(move |c| {
        c.expect_request()?;
        c.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {whole}\r\n\r\n"))?;
        c.send_counted(&vec![b'x'; whole], &counted)
    });
    let proxy = asking(&origin, "", "").start();
    let mut client = proxy.client();
    client.send("GET /relay HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().values("x-got-content-length"), [whole.to_string()]);
    let seen = stalled(&sent);
    assert!(seen < whole / 2, "{seen} of {whole}");
}
