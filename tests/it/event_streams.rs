//! Responses that go on: each event at once, without the plan that they began with.

use std::time::Duration;

use crate::harness::client::request;
use crate::harness::origin::{Connection, ok};
use crate::harness::{Builder, Latch, Origin, Proxy};
use crate::reload::{configuration, only_one_plan_is_left, reload, reloadable, write};

const HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Sends an event, and the rest of the stream when it may; then goes on to serve.
fn stream_until(go: &Latch) -> Origin {
    let go = go.clone();
    Origin::scripted(move |c: &mut Connection| {
        c.expect_request()?;
        c.send(format!("{HEAD}9\r\ndata: 1\n\n\r\n"))?;
        go.wait()?;
        c.send("9\r\ndata: 2\n\n\r\n0\r\n\r\n")?;
        while c.next_request()?.is_some() {
            c.send(ok("after"))?;
        }
        Ok(())
    })
}

#[test]
fn an_event_stream_keeps_nothing_of_its_plan_but_its_timeouts() {
    let go = Latch::default();
    let origin = stream_until(&go);
    let other = Origin::ok("other");
    let builder = Builder::new().upstream("events", &origin, "");
    let proxy = reloadable(builder.route("events", "description = \"before\""));
    let mut client = proxy.client();
    client.send(request("/events")).until("data: 1\n\n");
    let text = configuration(&proxy).replace(&origin.toml(), &other.toml());
    write(&proxy, &text.replace("events", "others").replace("before", "after"));
    assert!(reload(&proxy).contains("generation 2"));
    assert_eq!(proxy.answering(), ["other"]);
    only_one_plan_is_left(&proxy);
    go.open();
    client.until("data: 2\n\n\r\n0\r\n\r\n");
    // The connection goes on, by the new plan, and the stream is told by the names that it had.
    assert_eq!(client.get("/").text(), "other");
    let line = proxy.log_lines(1, |line| line.text("path") == "/events").remove(0);
    assert_eq!((line.text("upstream"), line.number("bytes_out")), ("events", 18), "{line:?}");
}

#[test]
fn both_connections_are_used_again_after_an_event_stream() {
    let go = Latch::default();
    let origin = stream_until(&go);
    let proxy = Proxy::with(&origin).workers(1).start();
    let mut client = proxy.client();
    client.send(request("/")).until("data: 1\n\n");
    go.open();
    client.until("0\r\n\r\n");
    assert_eq!(client.get("/").text(), "after");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_event_stream_that_breaks_is_seen_to_be_broken() {
    let origin = Origin::scripted(|c: &mut Connection| {
        c.expect_request()?;
        c.send(format!("{HEAD}9\r\ndata: 1\n\n\r\n9\r\nda"))
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send(request("/")).until("data: 1\n\n");
    let (rest, _end) = client.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    let line = proxy.log_line(200);
    assert_eq!(line.text("reason"), "upstream closed the connection within a response body", "{line:?}");
}

#[test]
fn an_event_stream_ends_with_a_client_that_closes() {
    let origin = Origin::scripted(|c: &mut Connection| {
        c.expect_request()?;
        c.send(format!("{HEAD}9\r\ndata: 1\n\n\r\n"))?;
        c.expect_close()
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send(request("/")).until("data: 1\n\n");
    drop(client);
    assert_eq!(origin.wait_end(0), "done");
    assert_eq!(proxy.log_line(200).text("reason"), "client closed the connection");
}

#[test]
fn a_silent_event_stream_ends_after_its_timeout() {
    let origin = Origin::scripted(|c: &mut Connection| {
        c.expect_request()?;
        c.send(format!("{HEAD}9\r\ndata: 1\n\n\r\n"))?;
        c.expect_close()
    });
    let proxy = Proxy::with_upstream(&origin, "read_timeout = \"300ms\"").start();
    let mut client = proxy.client();
    client.send(request("/")).until("data: 1\n\n\r\n");
    client.expect_end();
    assert_eq!(proxy.log_line(200).text("reason"), "upstream timeout");
    origin.wait_idle();
}

#[test]
fn an_upstream_hears_that_nobody_listens_any_more() {
    let origin = Origin::scripted(|c: &mut Connection| {
        c.expect_request()?;
        c.send(format!("{HEAD}9\r\ndata: 1\n\n\r\n"))?;
        assert!(c.is_closed_within(Duration::from_secs(20))?);
        Ok(())
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send(request("/")).until("data: 1\n\n");
    client.reset();
    origin.wait_idle();
    assert_eq!(proxy.log_line(200).text("reason"), "client closed the connection");
}
