//! Attacks on the seams: between two exchanges, two phases, two timeouts.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::client::{End, request};
use crate::harness::origin::{Connection, ok};
use crate::harness::{Latch, Origin, Proxy, eventually, holds, pattern};
use crate::lifecycle::waiting;

/// Longer than a connection may be silent before it is parked.
const PARKED: Duration = Duration::from_millis(1500);

#[test]
fn a_drain_closes_connections_that_are_parked() {
    for driver in ["io_uring", "epoll"] {
        let origin = Origin::ok("fine");
        let mut proxy = Proxy::with(&origin).server(&format!("io = \"{driver}\"")).start();
        let mut idle = proxy.client();
        assert_eq!(idle.get("/").status, 200);
        assert!(idle.is_quiet_for(PARKED), "{driver}: closed too early");
        let start = Instant::now();
        proxy.signal(Signal::TERM);
        assert_eq!(idle.expect_end(), End::Closed, "{driver}");
        assert_eq!(proxy.wait_end(), 0, "{driver}");
        assert!(start.elapsed() < Duration::from_secs(3), "{driver}: {:?}", start.elapsed());
    }
}

/// Answers once the whole request is here.
fn patient(c: &mut Connection) -> io::Result<()> {
    while let Some(request) = c.next_request()? {
        c.send(ok(&request.body.len().to_string()))?;
    }
    Ok(())
}

#[test]
fn a_slow_upload_is_not_the_silence_of_the_upstream() {
    for length in [30, 300_000] {
        let origin = Origin::scripted(patient);
        let proxy = Proxy::with_upstream(&origin, "read_timeout = \"300ms\"").start();
        let mut client = proxy.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        for piece in pattern(length).chunks(length / 3) {
            assert!(client.is_quiet_for(Duration::from_millis(500)), "answered before the end");
            client.send(piece);
        }
        let response = client.response_to("POST");
        assert_eq!((response.status, response.text()), (200, length.to_string()));
    }
}

#[test]
fn an_upstream_that_is_silent_after_a_slow_upload_is_504() {
    let origin = Origin::scripted(|c| {
        c.expect_request()?;
        c.expect_close()
    });
    let proxy = Proxy::with_upstream(&origin, "read_timeout = \"300ms\"").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    assert!(client.is_quiet_for(Duration::from_millis(600)), "answered before the end");
    client.send("again");
    assert_eq!(client.response_to("POST").status, 504);
    assert_eq!(origin.wait_end(0), "done");
}

#[test]
fn a_client_that_waits_for_a_continue_is_not_too_slow() {
    let origin = Origin::scripted(|c| {
        c.expect_head()?;
        if c.is_closed_within(Duration::from_millis(900))? {
            return Err(io::Error::other("closed"));
        }
        c.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        let body = c.read_body(5)?;
        c.send(ok(&String::from_utf8_lossy(&body)))
    });
    let proxy = Proxy::with(&origin).limit("body_timeout = \"300ms\"").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.response_to("POST").status, 100);
    client.send("hello");
    assert_eq!(client.response_to("POST").text(), "hello");
}

#[test]
fn a_client_that_stalls_after_a_continue_is_408_and_an_upstream_without_one_504() {
    let origin = Origin::scripted(|c| {
        if c.expect_head()?.target() == "/continue" {
            c.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        c.expect_close()
    });
    let proxy =
        Proxy::with_upstream(&origin, "read_timeout = \"400ms\"").limit("body_timeout = \"300ms\"").start();
    let head = "HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let mut client = proxy.client();
    assert_eq!(client.send(format!("POST /continue {head}")).response_to("POST").status, 100);
    assert_eq!(client.response_to("POST").status, 408);
    let mut client = proxy.client();
    assert_eq!(client.send(format!("POST /never {head}")).response_to("POST").status, 504);
}

#[test]
fn empty_lines_without_an_end_are_refused() {
    let origin = Origin::ok("never");
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    let lines = b"\r\n".repeat(8 * 1024);
    for _ in 0..64 {
        client.offer(&lines);
    }
    assert_eq!(client.response().status, 431);
}

#[test]
fn a_long_reason_phrase_may_come_in_pieces() {
    let phrase = "x".repeat(200);
    let theirs = phrase.clone();
    let origin = Origin::scripted(move |c| {
        c.expect_request()?;
        let bytes = format!("HTTP/1.1 200 {theirs}\r\nContent-Length: 2\r\n\r\nhi");
        c.send_slowly(bytes, Duration::from_millis(1))
    });
    let proxy = Proxy::to(&origin);
    let response = proxy.client().get("/");
    assert_eq!((response.status, response.reason, response.body.as_slice()), (200, phrase, &b"hi"[..]));
}

#[test]
fn bytes_that_come_long_after_a_response_are_nobodys_response() {
    for late in ["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "HTTP/1.1 408 Late\r\n\r\n", "x"] {
        let go = Latch::default();
        let theirs = go.clone();
        let origin = Origin::scripted(move |c| {
            c.expect_request()?;
            c.send(ok("good"))?;
            if c.index == 0 {
                theirs.wait()?;
                c.send(late)?;
            }
            c.expect_close()
        });
        let proxy = Proxy::with(&origin).workers(1).start();
        let mut client = proxy.client();
        assert_eq!(client.get("/").text(), "good", "{late:?}");
        go.open();
        origin_has_sent(&origin, late);
        // Longer than a connection may rest and be used again without a look.
        assert!(client.is_quiet_for(Duration::from_millis(10)), "{late:?}");
        let response = client.get("/");
        assert_eq!((response.status, response.text().as_str()), (200, "good"), "{late:?}");
    }
}

/// Waits until bytes wait unread on a connection from the proxy to this origin.
fn origin_has_sent(origin: &Origin, late: &str) {
    let remote = format!(":{:04X}", origin.address().port());
    let unread = format!(":{:08X}", late.len());
    eventually("the late bytes to arrive", || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let found = table.lines().any(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            columns.len() > 4 && columns[2].ends_with(&remote) && columns[4].ends_with(&unread)
        });
        holds(found, table)
    });
}

#[test]
fn an_upstream_that_takes_the_body_slowly_does_not_make_the_client_slow() {
    const LENGTH: usize = 30 << 20;
    let origin = Origin::scripted(|c| {
        c.expect_head()?;
        std::thread::park_timeout(Duration::from_secs(2));
        let body = c.read_body(LENGTH)?;
        c.send(ok(&body.len().to_string()))
    });
    let proxy = Proxy::with(&origin).limit("body_timeout = \"300ms\"").limit("min_rate = 10000000").start();
    let body = pattern(LENGTH);
    let mut client = proxy.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n"));
    client.offer(&body);
    assert_eq!(client.response_to("POST").text(), LENGTH.to_string());
}

#[test]
fn a_client_that_goes_on_sending_after_its_last_request_gets_the_whole_response() {
    const LENGTH: usize = 8 << 20;
    let origin = Origin::answering(|_| {
        let mut response = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").into_bytes();
        response.extend(pattern(LENGTH));
        response
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    client.until("200 OK");
    client.send("\r\n");
    client.until("\r\n\r\n");
    let (body, end) = client.rest();
    assert_eq!((body.len(), end), (LENGTH, End::Closed));
}

#[test]
fn a_reset_ends_a_tunnel_whose_other_side_hears_no_half_close() {
    let agree = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    let done = Latch::default();
    let theirs = done.clone();
    let origin = Origin::scripted(move |c| {
        c.expect_head()?;
        c.send(agree)?;
        c.expect_close()?;
        theirs.wait()
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(client.head().word(1), "101");
    client.reset();
    assert_eq!(proxy.log_line(101).text("reason"), "client closed the connection");
    done.open();
    assert_eq!(origin.wait_end(0), "done");
}

#[test]
fn fields_that_look_like_ours_to_a_server_do_not_cross() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Proto: https\r\n\
         x_accel_redirect: /etc\r\nX_Own: kept\r\n\r\n",
    );
    assert_eq!(client.response().status, 200);
    let head = origin.only_request().head;
    let names: Vec<&str> = head.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"X_Own"), "{names:?}");
    assert!(!names.iter().any(|name| name.contains('_') && *name != "X_Own"), "{names:?}");
}

#[test]
fn a_drain_closes_idle_connections_to_upstreams() {
    let (origin, go) = waiting();
    let mut proxy = Proxy::with(&origin).workers(1).start();
    let mut busy = proxy.client();
    busy.send(request("/wait"));
    origin.wait_requests(1);
    assert_eq!(proxy.client().get("/").status, 200);
    proxy.signal(Signal::TERM);
    assert_eq!(origin.wait_end(1), "done");
    go.open();
    assert_eq!(busy.response().status, 200);
    assert_eq!(proxy.wait_end(), 0);
}

#[test]
fn the_client_in_the_log_is_what_the_last_proxy_said() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::with(&origin)
        .server("trusted_proxies = [\"127.0.0.1\"]")
        .middleware("forward_headers = true")
        .start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert_eq!(proxy.log_line(200).text("client"), "1.2.3.4");
}

#[test]
fn an_empty_line_after_a_body_is_not_the_beginning_of_a_head() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::with(&origin).limit("head_timeout = \"200ms\"").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab");
    assert_eq!(client.response_to("POST").status, 200);
    client.send("\r\n");
    assert!(client.is_quiet_for(Duration::from_millis(600)), "answered what was never asked");
    assert_eq!(client.get("/").status, 200);
}
