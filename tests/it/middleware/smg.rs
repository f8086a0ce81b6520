//! Middleware of another gateway, as it is.

use super::{ask, calls, metric, with};
use crate::harness::client::Response;
use crate::harness::origin::ok;
use crate::harness::{Builder, Client, Origin};

fn foreign(app: &Origin, middleware: &str) -> Builder {
    with(app, "fault-smg.wasm", middleware, "")
}

fn post(client: &mut Client, fields: &str, body: &str) -> Response {
    let length = body.len();
    client.send(format!(
        "POST /a%20b?c=d HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    ));
    client.response()
}

#[test]
fn it_sees_requests_and_changes_them() {
    let app = Origin::echo();
    let proxy = foreign(&app, "").start();
    let mut client = proxy.client();
    let fields = "X-Act: modify\r\nX-More: 1\r\nX-Drop: 1\r\nX-Seen: 0\r\n";
    assert_eq!(post(&mut client, fields, "hello").status, 200);
    let request = app.requests().pop().expect("a request");
    assert_eq!(request.body, b"HELLO");
    assert_eq!(request.head.values("x-seen"), ["POST /a%20b c=d 5 32 true"]);
    assert_eq!(request.head.values("x-more"), ["1", "2"]);
    assert!(!request.head.has("x-drop"));
    assert_eq!(request.head.values("content-length"), ["5"]);
    assert_eq!(post(&mut client, "", "as it is").status, 200);
    assert_eq!(app.requests().pop().expect("a request").body, b"as it is");
    assert_eq!(post(&mut client, "X-Act: reject\r\n", "hello").status, 418);
    assert_eq!(app.requests().len(), 2);
    assert_eq!((calls(&proxy, "request", "next"), calls(&proxy, "request", "respond")), (2.0, 1.0));
    assert_eq!(metric(&proxy, "warpdrive_wasm_instances_made_total{component=\"m\"}"), 1.0);
}

#[test]
fn what_is_ours_stays_ours() {
    let app = Origin::echo();
    let proxy = foreign(&app, "").start();
    assert_eq!(post(&mut proxy.client(), "X-Act: own\r\n", "hello").status, 200);
    let head = app.requests().pop().expect("a request").head;
    assert_eq!(head.values("content-length"), ["5"]);
    assert_eq!(head.values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(head.values("x-good"), ["1"]);
    assert!(!head.has("connection"));
}

/// An origin whose responses say what is to be done with them, in chunks if the path says so.
fn acting() -> Origin {
    Origin::answering(|request| {
        let act = request.target().trim_start_matches("/stream/").trim_start_matches('/').to_owned();
        let text = match request.target().starts_with("/stream/") {
            true => format!(
                "HTTP/1.1 200 OK\r\nX-Act: {act}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            ),
            false => {
                format!("HTTP/1.1 200 OK\r\nX-Act: {act}\r\nX-Drop: 1\r\nContent-Length: 5\r\n\r\nhello")
            }
        };
        text.into_bytes()
    })
}

fn get(client: &mut Client, path: &str) -> Response {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client.response()
}

#[test]
fn it_sees_responses_and_changes_them_but_no_streams() {
    let app = acting();
    let proxy = foreign(&app, "").start();
    let mut client = proxy.client();
    let response = get(&mut client, "/modify");
    assert_eq!((response.status, response.text().as_str()), (203, "HELLO"));
    assert_eq!(response.head.value("x-seen"), Some("200 5"));
    assert!(!response.head.has("x-drop"));
    let response = get(&mut client, "/stream/modify");
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    assert_eq!(get(&mut client, "/reject").status, 418);
    assert_eq!(get(&mut client, "/nothing").text(), "hello");
}

#[test]
fn it_has_of_wasi_what_its_language_brings_along() {
    let app = Origin::ok("app");
    let proxy = foreign(&app, "on_error = \"open\"").start();
    assert_eq!(ask(&mut proxy.client(), "X-Act: print\r\n").text(), "app");
    proxy.stderr_contains("m: it has true true 0");
    // It waits for nobody.
    assert_eq!(ask(&mut proxy.client(), "X-Act: sleep\r\n").text(), "app");
    assert_eq!(calls(&proxy, "request", "trap"), 1.0);
    proxy.stderr_contains("middleware cannot sleep");
}

#[test]
fn its_faults_go_the_way_that_was_configured() {
    let app = Origin::ok("app");
    let settings =
        "max_execution_time = \"100ms\"\nmax_body = \"1 KiB\"\nstatus = 500\non_timeout = \"open\"";
    let proxy = foreign(&app, settings).start();
    let long = "x".repeat(1025);
    assert_eq!(post(&mut proxy.client(), "", &long).status, 413);
    assert_eq!(post(&mut proxy.client(), "", &long[..1024]).status, 200);
    assert_eq!(ask(&mut proxy.client(), "X-Act: trap\r\n").status, 500);
    assert_eq!(ask(&mut proxy.client(), "X-Act: loop\r\n").status, 200);
    assert_eq!(post(&mut proxy.client(), "X-Act: long\r\n", "short").status, 500);
    let answering = Origin::answering(|_| ok(&"x".repeat(1025)));
    let proxy = foreign(&answering, settings).start();
    assert_eq!(ask(&mut proxy.client(), "").status, 502, "it cannot be seen whole");
}
