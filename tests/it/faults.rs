//! What goes wrong around a correct message: dead, slow and silent peers on either side.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::client::{Client, End, get, request};
use crate::harness::origin::ok;
use crate::harness::wire::Stream;
use crate::harness::{Builder, Latch, Origin, Proxy, QUIET, eventually, holds, pattern};

/// Well beyond what sockets hold; the kernel alone may buffer some 10 MB of it.
const LARGE: usize = 50 << 20;

/// How much the data process may grow while [`LARGE`] bytes wait.
const GROWTH_KIB: u64 = 8 << 10;

fn all_to(address: SocketAddr, more: &str) -> Builder {
    let port = address.port();
    let upstream = format!("[upstreams.app]\nhost = \"127.0.0.1\"\nport = {port}\n{more}\n");
    Builder::new().toml(&upstream).route("app", "path_prefix = \"/\"")
}

/// Waits until a counter has stood still for a while; where it stands.
pub fn stalled(counter: &AtomicUsize) -> usize {
    let mut last = (0, Instant::now());
    eventually("the transfer to stall", || {
        let now = counter.load(Ordering::SeqCst);
        if now != last.0 {
            last = (now, Instant::now());
        }
        if now > 0 && last.1.elapsed() > QUIET { Ok(now) } else { Err(now) }
    })
}

#[test]
fn a_refused_connection_is_502() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let proxy = all_to(address, "").start();
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 502);
    assert!(!proxy.log_line(502).text("reason").is_empty());
}

#[test]
fn a_socket_that_is_not_there_is_502() {
    let upstream = "[upstreams.app]\nsocket = \"/nonexistent/socket\"\n";
    let proxy = Builder::new().toml(upstream).route("app", "path_prefix = \"/\"").start();
    assert_eq!(get(proxy.address(), "/").status, 502);
}

#[test]
fn an_origin_that_comes_back_is_used_at_once() {
    let first = Origin::ok("first");
    let address = first.address();
    let proxy = Proxy::to(&first);
    assert_eq!(get(proxy.address(), "/").text(), "first");
    drop(first);
    eventually("a refusal", || {
        let status = get(proxy.address(), "/").status;
        holds(status == 502, status)
    });
    let listener = eventually("the port again", || TcpListener::bind(address));
    let _second = Origin::on(listener, |c| {
        while c.next_request()?.is_some() {
            c.send(ok("second"))?;
        }
        Ok(())
    });
    assert_eq!(get(proxy.address(), "/").text(), "second");
}

#[test]
fn a_connection_that_is_not_accepted_in_time_is_504() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    // Nobody accepts: once its queue is full, the kernel drops what knocks.
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, QUIET) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue is never full");
    }
    let proxy = all_to(address, "connect_timeout = \"300ms\"").start();
    let start = Instant::now();
    assert_eq!(get(proxy.address(), "/").status, 504);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(!proxy.log_line(504).text("reason").is_empty());
}

#[test]
fn an_upstream_that_is_silent_too_long_is_504() {
    for sent in ["", "HTTP/1.1 2", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let origin = Origin::scripted(move |c| {
            c.expect_request()?;
            c.send(sent)?;
            c.expect_close()
        });
        let proxy = Proxy::with_upstream(&origin, "read_timeout = \"300ms\"").start();
        let mut client = proxy.client();
        client.send(request("/"));
        let mut response = client.response();
        if response.status == 100 {
            response = client.response();
        }
        assert_eq!(response.status, 504, "{sent:?}");
        assert_eq!(origin.wait_end(0), "done", "{sent:?}");
        assert_eq!(origin.connections(), 1, "{sent:?}: tried again");
        assert!(!proxy.log_line(504).text("reason").is_empty());
    }
}

#[test]
fn an_upstream_that_falls_silent_within_a_body_is_cut() {
    let origin = Origin::scripted(|c| {
        c.expect_request()?;
        c.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")?;
        c.expect_close()
    });
    let proxy = Proxy::with_upstream(&origin, "read_timeout = \"300ms\"").start();
    let mut client = proxy.client();
    let broken = client.send(request("/")).try_response_to("GET").expect_err("a cut body");
    assert_eq!(broken.body, b"hello");
    assert_eq!(origin.wait_end(0), "done");
    assert!(!proxy.log_line(200).text("reason").is_empty());
}

/// The client sends its body only when a part of the response is here.
#[test]
fn an_upstream_that_falls_silent_within_a_body_is_cut_whatever_the_client_goes_on_to_send() {
    let origin = Origin::scripted(|c| {
        c.expect_head()?;
        c.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")?;
        c.read_body(3)?;
        c.expect_close()
    });
    let proxy = Proxy::with_upstream(&origin, "read_timeout = \"300ms\"").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    client.until("hello");
    client.send("abc").expect_end();
    assert_eq!(origin.wait_end(0), "done");
    assert_eq!(proxy.log_line(200).text("reason"), "upstream timeout");
}

#[test]
fn a_slow_upstream_that_keeps_talking_is_not_cut() {
    let origin = Origin::scripted(|c| {
        c.expect_request()?;
        c.send_slowly("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Duration::from_millis(20))
    });
    let proxy = Proxy::with_upstream(&origin, "read_timeout = \"300ms\"").start();
    assert_eq!(get(proxy.address(), "/").text(), "abc");
}

#[test]
fn an_origin_that_resets_within_a_body_truncates_it() {
    let go = Latch::default();
    let theirs = go.clone();
    let origin = Origin::scripted(move |c| {
        c.expect_request()?;
        c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")?;
        theirs.wait()?;
        c.reset()
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send(request("/"));
    assert_eq!(client.head().word(1), "200");
    client.until("hello");
    go.open();
    let (rest, _) = client.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "an end that was none");
}

/// Connection 0 answers one request and dies at the next; the others do as `later` says.
fn dies_at_the_second(later: &'static str) -> Origin {
    Origin::scripted(move |c| {
        if c.index == 0 {
            c.expect_request()?;
            c.send(ok("first"))?;
            c.expect_request()?;
            return Ok(());
        }
        while c.next_request()?.is_some() {
            if later.is_empty() {
                return Ok(());
            }
            c.send(ok(later))?;
        }
        Ok(())
    })
}

#[test]
fn a_request_that_may_be_repeated_survives_a_dead_reused_connection() {
    for sent in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let origin = dies_at_the_second("again");
        let proxy = Proxy::with(&origin).workers(1).start();
        let mut client = proxy.client();
        assert_eq!(client.get("/").text(), "first");
        let response = client.send(sent).response();
        assert_eq!((response.status, response.text().as_str()), (200, "again"), "{sent:?}");
        let requests = origin.requests();
        assert_eq!(requests.len(), 3);
        assert_eq!(requests[1].body, requests[2].body);
    }
}

#[test]
fn a_request_is_tried_again_only_once() {
    let origin = dies_at_the_second("");
    let proxy = Proxy::with(&origin).workers(1).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/").text(), "first");
    assert_eq!(client.get("/").status, 502);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a_post_that_was_written_is_never_sent_again() {
    let origin = dies_at_the_second("again");
    let proxy = Proxy::with(&origin).workers(1).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/").text(), "first");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.response_to("POST").status, 502);
    let posts = origin.requests().iter().filter(|r| r.method() == "POST").count();
    assert_eq!(posts, 1);
}

#[test]
fn a_post_after_an_idle_connection_died_arrives_at_most_once() {
    let origin = Origin::scripted(|c| {
        c.expect_request()?;
        c.send(ok("one each"))
    });
    let proxy = Proxy::with(&origin).workers(1).start();
    let mut client = proxy.client();
    for round in 0..5 {
        let before = origin.connections();
        assert_eq!(client.get("/").status, 200);
        origin.wait_end(before);
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        let status = client.response_to("POST").status;
        assert!([200, 502].contains(&status), "{status}");
        let posts = origin.requests().iter().filter(|r| r.method() == "POST").count();
        assert!(posts <= round + 1, "{posts} of {}", round + 1);
        if status == 502 {
            client = proxy.client();
        }
    }
}

#[test]
fn a_client_that_resets_ends_the_exchange_and_its_upstream_connection() {
    let origin = Origin::scripted(|c| {
        c.expect_request()?;
        c.expect_close()
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send(request("/"));
    origin.wait_requests(1);
    let start = Instant::now();
    client.reset();
    assert_eq!(origin.wait_end(0), "done");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(!proxy.log_line(499).text("reason").is_empty());
}

#[test]
fn a_client_that_resets_within_the_response_ends_the_exchange() {
    let origin = Origin::scripted(|c| {
        c.expect_request()?;
        c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        loop {
            c.send("5\r\nhello\r\n")?;
            if c.is_closed_within(Duration::from_millis(5))? {
                return Ok(());
            }
        }
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send(request("/"));
    client.until("hello");
    client.reset();
    origin.wait_end(0);
    assert_eq!(proxy.log_lines(1, |line| !line.text("reason").is_empty()).len(), 1);
}

#[test]
fn a_half_closed_client_is_answered_where_that_is_configured() {
    let origin = Origin::scripted(|c| {
        c.expect_request()?;
        let closed = c.is_closed_within(QUIET)?;
        c.send(ok(if closed { "cut" } else { "whole" }))
    });
    let proxy = Proxy::with(&origin).server("abort_on_close = false").start();
    let mut client = proxy.client();
    let response = client.send(request("/")).half_close().response();
    assert_eq!(response.text(), "whole");
    assert_eq!(client.expect_end(), End::Closed);
}

#[test]
fn a_client_that_closes_before_an_answer_ends_the_exchange() {
    let origin = Origin::scripted(|c| {
        c.expect_request()?;
        c.expect_close()
    });
    let proxy = Proxy::to(&origin);
    // The second request of a pipeline stands before the end of the stream, which counts all the same.
    for (index, more) in ["", "GET /next HTTP/1.1\r\nHost: a\r\n\r\n"].into_iter().enumerate() {
        let mut client = proxy.client();
        client.send(request("/"));
        origin.wait_requests(index + 1);
        client.send(more);
        drop(client);
        assert_eq!(origin.wait_end(index), "done", "{more:?}");
        proxy.log_lines(index + 1, |line| line.status() == 499);
    }
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a_client_that_closes_while_nothing_takes_its_body_ends_the_exchange() {
    let (deaf, done) = (Latch::default(), Latch::default());
    let theirs = (deaf.clone(), done.clone());
    let origin = Origin::scripted_unix(move |c| {
        c.expect_head()?;
        // It takes no more of the request, and says nothing.
        c.stream()?.0.shutdown(Shutdown::Read)?;
        theirs.0.open();
        theirs.1.wait()
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    deaf.wait().unwrap();
    client.send(pattern(20_000));
    drop(client);
    proxy.log_line(499);
    done.open();
}

#[test]
fn a_half_closed_client_gets_the_rest_of_an_answer_that_has_begun() {
    let origin = Origin::scripted(|c| {
        c.expect_request()?;
        c.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")?;
        let closed = c.is_closed_within(QUIET)?;
        c.send(if closed { "xxxxx" } else { "-last" })
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send(request("/")).until("first");
    assert_eq!(client.half_close().rest(), (b"-last".to_vec(), End::Closed));
}

#[test]
fn a_request_body_that_ends_too_early_never_looks_whole() {
    for (framing, part) in [
        ("Content-Length: 10", "hello"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n"),
    ] {
        let origin = Origin::ok("never");
        let proxy = Proxy::to(&origin);
        let mut client = proxy.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{part}"));
        client.half_close();
        let (answer, _) = client.rest();
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{framing}");
        origin.wait_idle();
        assert!(origin.requests().is_empty(), "{framing}");
        proxy.log_lines(1, |line| [400, 499].contains(&line.status()));
    }
}

/// An origin that sends [`LARGE`] bytes to whoever asks, and how much is gone.
fn pouring() -> (Origin, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let body = pattern(LARGE);
    let origin = Origin::scripted(move |c| {
        while let Some(request) = c.next_request()? {
            if request.target() == "/small" {
                c.send(ok("small"))?;
                continue;
            }
            c.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"))?;
            c.send_counted(&body, &counter)?;
        }
        Ok(())
    });
    (origin, sent)
}

#[test]
fn a_client_that_reads_slowly_does_not_grow_memory() {
    let (origin, sent) = pouring();
    let proxy = Proxy::to(&origin);
    assert_eq!(get(proxy.address(), "/small").status, 200);
    let before = proxy.resident_kib();
    let mut client: Client = proxy.client();
    client.send(request("/"));
    let gone = stalled(&sent);
    assert!(gone < LARGE, "everything went somewhere");
    let grown = proxy.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB, "grew by {grown} KiB with {gone} bytes taken");
    assert!(client.response().body == pattern(LARGE), "the body changed");
}

/// Uploads [`LARGE`] bytes from a thread of its own and counts what is taken.
fn upload(client: &mut Client, taken: &Arc<AtomicUsize>) -> std::thread::JoinHandle<bool> {
    use std::io::Write as _;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n"));
    let (mut sender, taken): (Stream, _) = (client.sender(), Arc::clone(taken));
    std::thread::spawn(move || {
        pattern(LARGE).chunks(16 * 1024).all(|piece| {
            let gone = sender.write_all(piece).is_ok();
            taken.fetch_add(piece.len(), Ordering::SeqCst);
            gone
        })
    })
}

#[test]
fn an_upload_to_an_origin_that_stalls_does_not_grow_memory() {
    let go = Latch::default();
    let theirs = go.clone();
    let origin = Origin::scripted(move |c| {
        if c.expect_head()?.target() == "/small" {
            return c.send(ok("small"));
        }
        theirs.wait()?;
        let right = c.read_body(LARGE)? == pattern(LARGE);
        c.send(ok(if right { "right" } else { "changed" }))
    });
    let proxy = Proxy::to(&origin);
    assert_eq!(get(proxy.address(), "/small").status, 200);
    let before = proxy.resident_kib();
    let mut client = proxy.client();
    let taken = Arc::default();
    let sending = upload(&mut client, &taken);
    let gone = stalled(&taken);
    assert!(gone < LARGE, "everything went somewhere");
    let grown = proxy.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB, "grew by {grown} KiB with {gone} bytes taken");
    go.open();
    assert!(sending.join().unwrap(), "the upload was cut");
    assert_eq!(client.response_to("POST").text(), "right");
}

#[test]
fn an_upstream_that_takes_nothing_is_504() {
    let done = Latch::default();
    let theirs = done.clone();
    let origin = Origin::scripted(move |c| {
        c.expect_head()?;
        theirs.wait()
    });
    let proxy = Proxy::with_upstream(&origin, "write_timeout = \"300ms\"").start();
    let mut client = proxy.client();
    let sending = upload(&mut client, &Arc::default());
    assert_eq!(client.response_to("POST").status, 504);
    drop(client);
    done.open();
    assert!(!sending.join().unwrap(), "everything was taken");
}
