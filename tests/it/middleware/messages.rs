//! What a guest may see and change of an exchange, and who sees that.

use super::{ask, calls, guest, status, with};
use crate::harness::client::Response;
use crate::harness::{Client, Origin, eventually, holds};
use crate::reload::reload;
use crate::tunnels::agree;

fn fault(client: &mut Client, fault: &str) -> Response {
    ask(client, &format!("X-Fault: {fault}\r\nX-Show: 1\r\nX-Gone: 1\r\nX-Many: 1\r\n"))
}

fn note(client: &mut Client, named: &str) -> Option<String> {
    fault(client, named).head.value("x-note").map(str::to_owned)
}

#[test]
fn a_note_is_of_one_exchange() {
    let origin = Origin::ok("app");
    let proxy = with(&origin, "fault-filter.wasm", "", "").start();
    let mut client = proxy.client();
    assert_eq!(note(&mut client, "note").as_deref(), Some("noted"));
    assert_eq!(note(&mut client, "none").as_deref(), Some(""));
}

#[test]
fn what_a_failed_call_wrote_down_or_changed_is_not_there() {
    let origin = Origin::ok("app");
    let proxy = with(&origin, "fault-filter.wasm", "on_error = \"open\"", "").start();
    let mut client = proxy.client();
    // It failed, so it does not see the response; the next exchange does not see its note.
    assert_eq!(note(&mut client, "note-trap"), None);
    assert_eq!(note(&mut client, "none").as_deref(), Some(""));
    fault(&mut client, "change-trap");
    let head = origin.requests().pop().unwrap().head;
    assert_eq!((head.value("x-changed"), head.value("x-gone")), (None, Some("1")));
    assert_eq!(head.values("x-many"), ["1"]);
    // Nor what it changed of a response.
    let response = fault(&mut client, "response-trap");
    assert_eq!((response.status, response.head.value("x-changed")), (200, None));
}

#[test]
fn fields_are_set_added_and_removed() {
    let origin = Origin::ok("app");
    let proxy = with(&origin, "fault-filter.wasm", "", "").start();
    let mut client = proxy.client();
    fault(&mut client, "change");
    let head = origin.requests().pop().unwrap().head;
    assert_eq!((head.value("x-changed"), head.value("x-gone")), (Some("by m"), None));
    assert_eq!(head.values("x-many"), ["1", "2"]);
    let response = fault(&mut client, "response-change");
    assert_eq!((response.status, response.text().as_str()), (203, "app"));
    assert_eq!(response.head.value("x-changed"), Some("by m"));
    // What belongs to the connection, and what is no field, it cannot touch.
    assert_eq!(fault(&mut client, "owned").status, 200);
}

/// A request with trailers of the same names as fields that the guest sets and removes.
#[test]
fn what_a_guest_sets_or_removes_comes_by_no_other_name_and_in_no_trailer() {
    let origin = Origin::answering(|_| {
        b"HTTP/1.1 200 OK\r\nX_Changed: app\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\
          X-Changed: app\r\nX_CHANGED: app\r\nX-Sum: 1\r\n\r\n"
            .to_vec()
    });
    let proxy = with(&origin, "fault-filter.wasm", "", "").start();
    let mut client = proxy.client();
    let strange = "X_Gone: 1\r\nx-gone: 1\r\nX_Changed: evil\r\n";
    let mut post = |fault: &str, len: usize| {
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX-Fault: {fault}\r\n{strange}\r\n"
        ));
        client.send(format!("{len:x}\r\n{}\r\n0\r\nX-Sum: 1\r\n{strange}\r\n", "x".repeat(len)));
        client.response_to("POST")
    };
    for len in [2, 200_000] {
        assert_eq!(post("change", len).status, 200);
        let request = origin.requests().pop().unwrap();
        assert_eq!(request.head.values("x-changed"), ["by m"]);
        for name in ["x_changed", "x_gone", "x-gone"] {
            assert!(!request.head.has(name), "{name}");
        }
        assert_eq!(request.trailers, [("X-Sum".to_owned(), "1".to_owned())], "{len}");
    }
    // It is forgotten with the exchange.
    assert_eq!(post("none", 2).trailers.len(), 3);
    assert_eq!(origin.requests().pop().unwrap().trailers.len(), 4);
    let response = post("response-change", 2);
    assert_eq!((response.head.values("x-changed"), response.head.has("x_changed")), (vec!["by m"], false));
    assert_eq!(response.trailers, [("X-Sum".to_owned(), "1".to_owned())]);
}

#[test]
fn a_guest_sees_of_the_sender_what_the_application_will_be_told() {
    let origin = Origin::ok("app");
    let proxy = with(&origin, "fault-filter.wasm", "config = { field = \"x-real-ip\" }", "").start();
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, "X-Real-IP: body\r\n").status, 200);
    let proxy = with(&origin, "fault-filter.wasm", "config = { field = \"client-ip\" }", "").start();
    assert_eq!(ask(&mut proxy.client(), "Client-IP: body\r\n").status, 200);
    let proxy = with(&origin, "fault-filter.wasm", "config = { field = \"x-real-ip\" }", "")
        .server("trusted_proxies = [\"127.0.0.1\"]")
        .middleware("forward_headers = true")
        .start();
    assert_eq!(ask(&mut proxy.client(), "X-Real-IP: body\r\n").status, 409);
}

#[test]
fn a_response_is_answered_by_another_one() {
    let origin = Origin::ok("a response that nobody sees");
    let proxy = with(&origin, "fault-filter.wasm", "", "").start();
    let mut client = proxy.client();
    for _ in 0..2 {
        let response = fault(&mut client, "response-answer");
        assert_eq!((response.status, response.text().as_str()), (418, "instead"));
        assert_eq!(response.head.value("x-by"), Some("m"));
    }
    assert_eq!(calls(&proxy, "response", "respond"), 2.0);
    assert_eq!(proxy.log_lines(2, |line| line.status() == 418).len(), 2);
}

#[test]
fn the_upstream_gets_another_target_and_the_log_the_one_that_was_asked_for() {
    let origin = Origin::ok("app");
    // What the route would make of the path is not done to what a guest has made of it.
    let proxy = with(&origin, "fault-filter.wasm", "", "path_prefix = \"/old\"\nstrip_prefix = true")
        .toml(&format!(
            "[wasm.middleware.none]\nfile = \"{}\"\nconfig = {{ rate = 0.001, burst = 1 }}\n",
            guest("rate-limit.wasm")
        ))
        .route("app", "host = \"b\"\nmiddleware = [\"m\", \"none\"]")
        .start();
    let mut client = proxy.client();
    let mut get = |host: &str, fault: &str| {
        client.send(format!("GET /old/x?y=1 HTTP/1.1\r\nHost: {host}\r\nX-Fault: {fault}\r\n\r\n"));
        client.response().status
    };
    assert_eq!(get("a", "none"), 200);
    assert_eq!(get("a", "target"), 200);
    // Also where a later one answers.
    assert_eq!((get("b", "target"), get("b", "target")), (200, 429));
    let targets: Vec<String> = origin.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(targets, ["/x?y=1", "/changed?by=m", "/changed?by=m"]);
    for line in proxy.log_lines(4, |_| true) {
        assert_eq!((line.text("path"), line.text("query")), ("/old/x", "y=1"), "{line:?}");
    }
}

#[test]
fn it_is_sent_to_an_upstream_that_the_guest_chooses() {
    let (origin, other) = (Origin::ok("app"), Origin::ok("other"));
    let proxy = with(&origin, "fault-filter.wasm", "upstreams = [\"other\"]", "")
        .upstream("other", &other, "")
        .toml("[[routes]]\nhost = \"o\"\nmiddleware = [\"m\"]\nrespond = { body = \"own\" }\n")
        .start();
    let mut client = proxy.client();
    assert_eq!(fault(&mut client, "none").text(), "app");
    assert_eq!(fault(&mut client, "elsewhere").text(), "other");
    assert_eq!(proxy.log_lines(1, |line| line.text("upstream") == "other").len(), 1);
    // Also in place of what the route would say itself.
    client.send("GET / HTTP/1.1\r\nHost: o\r\nX-Fault: elsewhere\r\n\r\n");
    assert_eq!(client.response().text(), "other");
    client.send("GET / HTTP/1.1\r\nHost: o\r\n\r\n");
    assert_eq!(client.response().text(), "own");
    assert_eq!(calls(&proxy, "request", "upstream"), 2.0);
}

#[test]
fn it_hears_how_each_exchange_ended() {
    let origin = Origin::ok("app");
    let proxy = with(&origin, "fault-filter.wasm", "config = { log = true }", "").start();
    let mut client = proxy.client();
    fault(&mut client, "note");
    proxy.stderr_contains("m: over: 200 0 3 Some(\"app\") true None Some(\"noted\")");
    fault(&mut client, "body");
    proxy.stderr_contains("m: over: 409 0 14 None false None None");
    drop(origin);
    assert_eq!(fault(&mut client, "none").status, 502);
    // A process that another test starts may have the listener for a moment longer: then it is the
    // connection that ends.
    proxy.stderr_contains("m: over: 502 0 12 Some(\"app\") ");
    assert_eq!(calls(&proxy, "log", "next"), 3.0);
}

#[test]
fn it_hears_of_the_end_of_a_tunnel_after_a_reload_too() {
    let origin = Origin::scripted(|connection| {
        agree(connection, "in a tunnel")?;
        connection.expect_close()
    });
    let proxy = with(&origin, "fault-filter.wasm", "config = { log = true }", "").start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-Fault: note\r\n\r\n");
    assert_eq!(client.head().word(1), "101");
    client.until("in a tunnel");
    reload(&proxy);
    drop(client);
    proxy.stderr_contains("m: over: 101 0 11 Some(\"app\") true None Some(\"noted\")");
}

#[test]
fn an_instance_that_subscribes_to_something_else_is_not_taken() {
    let origin = Origin::ok("app");
    let proxy = with(&origin, "fault-filter.wasm", "config = { fluctuating = true }", "").start();
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, "").status, 200);
    assert_eq!(ask(&mut client, "X-Fault: trap\r\n").status, 503);
    assert_eq!(ask(&mut client, "").status, 503);
    eventually("a complaint", || {
        let lines = proxy.stderr();
        let is_told = lines.iter().any(|line| line.contains("it subscribes to something else than before"));
        holds(is_told, lines)
    });
    assert!(calls(&proxy, "request", "overload") >= 1.0, "{}", status(&proxy));
}
