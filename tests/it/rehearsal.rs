//! The tools of the tests tried on each other: the client talks to the origin, no proxy between.

use std::io::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::client::{Client, End};
use crate::harness::origin::{Connection, describe, ok};
use crate::harness::proxy::run;
use crate::harness::wire::{Framing, Head, Reader, Stream};
use crate::harness::{Latch, Origin, QUIET, Random, pattern};

fn to(origin: &Origin) -> Client {
    Client::connect(origin.address())
}

#[test]
fn the_echo_origin_tells_what_it_got() {
    let origin = Origin::echo();
    let mut client = to(&origin);
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nX-Request-Id: 7\r\nContent-Length: 2\r\n\r\nhi");
    let told = client.response_to("POST").text();
    assert_eq!(told, "POST /x HTTP/1.1\nHost: a\nContent-Length: 2\n\nhi\n\n");
    assert_eq!(told, describe(&origin.only_request()));
    assert_eq!(client.get("/2").status, 200);
    assert_eq!(origin.requests()[1].connection, 0);
    assert_eq!(to(&origin).get("/3").status, 200);
    assert_eq!(origin.requests()[2].connection, 1);
    assert_eq!(origin.connections(), 2);
    drop(client);
    origin.wait_idle();
    assert_eq!(origin.wait_end(0), "done");
}

#[test]
fn a_split_request_arrives_as_one() {
    let origin = Origin::echo();
    let mut client = to(&origin);
    let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                  2;x\r\nhi\r\n0\r\nX-T: 1\r\n\r\n";
    for place in 0..bytes.len() {
        client.send_split(bytes, &[place]);
        assert!(client.response_to("POST").text().ends_with("\n\nhi\n\nX-T: 1"));
    }
    assert_eq!(origin.requests()[0].chunk_lines, ["2;x", "0"]);
}

#[test]
fn a_response_is_read_by_its_framing() {
    let cases = [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Framing::Length(2), "hi"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", Framing::Nothing, ""),
        ("GET", "HTTP/1.1 304 X Y\r\nContent-Length: 2\r\n\r\n", Framing::Nothing, ""),
        ("GET", "HTTP/1.0 200 OK\r\n\r\nhi", Framing::UntilClose, "hi"),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
            Framing::Chunked,
            "hi",
        ),
    ];
    for (method, bytes, framing, body) in cases {
        let origin = Origin::scripted(move |c| {
            c.expect_head()?;
            c.send_slowly(bytes, Duration::from_millis(1))
        });
        let mut client = to(&origin);
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response_to(method);
        assert_eq!((response.framing, response.text().as_str()), (framing, body), "{bytes:?}");
        assert_eq!(client.expect_end(), End::Closed);
    }
}

#[test]
fn a_broken_response_tells_what_came() {
    let cases = [
        ("", false, ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", true, "hi"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", true, "hi"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhix\r\n", true, "hi"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 2\r\nhi\r\n", true, ""),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\n", true, ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi", true, ""),
        ("HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", true, ""),
        ("HTTP/1.1 20 OK\r\n\r\n", true, ""),
        ("HTTP/2 200 OK\r\n\r\n", true, ""),
    ];
    for (bytes, has_head, body) in cases {
        let origin = Origin::scripted(move |c| {
            c.expect_head()?;
            c.send(bytes)
        });
        let mut client = to(&origin);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let broken = client.try_response_to("GET").expect_err(bytes);
        assert_eq!(broken.head.is_some(), has_head, "{bytes:?}: {}", broken.why);
        assert_eq!(broken.body, body.as_bytes(), "{bytes:?}: {}", broken.why);
    }
}

#[test]
fn ends_are_told_apart() {
    let origin = Origin::scripted(|c| match c.index {
        0 => c.reset(),
        1 => {
            c.send("bye")?;
            c.half_close()?;
            c.read_until("thanks").map(|_| ())
        }
        _ => c.expect_close(),
    });
    assert_eq!(to(&origin).expect_end(), End::Reset);
    let mut client = to(&origin);
    assert_eq!(client.rest(), (b"bye".to_vec(), End::Closed));
    client.send("thanks");
    assert_eq!(origin.wait_end(1), "done");
    to(&origin).reset();
    assert_eq!(origin.wait_end(2), "done");
    to(&origin).half_close().expect_end();
    assert_eq!(origin.wait_end(3), "done");
}

#[test]
fn an_origin_stalls_until_it_is_told() {
    let go = Latch::default();
    let theirs = go.clone();
    let origin = Origin::scripted_unix(move |c| {
        let got = c.expect_head()?;
        theirs.wait()?;
        c.send(ok(got.target()))
    });
    let path = origin.toml();
    let path = path.trim().trim_start_matches("socket = ").trim_matches('"');
    let stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    let mut stream = Stream::Unix(stream);
    stream.bound_waits(QUIET).unwrap();
    stream.write_all(b"GET /unix HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut reader = Reader::new(stream);
    assert_eq!(reader.head().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    go.open();
    assert!(reader.head().unwrap().has("content-length"));
}

#[test]
fn what_is_sent_into_a_full_socket_is_counted() {
    let sent = std::sync::Arc::new(AtomicUsize::new(0));
    let theirs = std::sync::Arc::clone(&sent);
    let origin = Origin::scripted(move |c: &mut Connection| c.send_counted(&pattern(64 << 20), &theirs));
    let mut client = to(&origin);
    assert!(client.until("\0").len() < 1000);
    let so_far = sent.load(Ordering::SeqCst);
    assert!(so_far < 64 << 20, "{so_far}");
    drop(client);
    assert_ne!(origin.wait_end(0), "done");
}

#[test]
fn silence_is_seen() {
    let origin = Origin::scripted(|c| c.expect_close());
    let mut client = to(&origin);
    assert!(client.is_quiet_for(Duration::from_millis(50)));
    origin.cut_all();
    assert!(!client.is_quiet_for(QUIET));
}

#[test]
fn the_reference_reader_is_strict() {
    let bad = [
        "HTTP/1.1 200 OK\nA: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\nB: c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA\r\n\r\n",
        "HTTP/1.1 200 OK\r\n",
    ];
    for bytes in bad {
        assert!(Head::parse(bytes.as_bytes()).is_err(), "{bytes:?}");
    }
    let head = Head::parse(b"A b c\r\nX:  y \r\nx:\r\n\r\n").unwrap();
    assert_eq!((head.word(1), head.values("X")), ("b", vec!["y", ""]));
}

#[test]
fn numbers_repeat_with_their_seed() {
    let draw = |seed| -> Vec<usize> {
        let mut random = Random::seeded(seed);
        (0..100).map(|_| random.below(10)).collect()
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    assert!((0..10).all(|number| draw(7).contains(&number)));
}

#[test]
fn a_command_is_run_to_its_end() {
    let ended = run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]));
    assert_eq!(ended.code, Some(3));
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out", "err"));
}
