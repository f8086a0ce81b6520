//! Upgrades: a tunnel begins with a 101 and with nothing else.

use std::io::{Read, Write};
use std::time::Duration;

use rustix::process::Signal;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use crate::harness::client::End;
use crate::harness::origin::{Connection, ok};
use crate::harness::wire::Stream;
use crate::harness::{Client, Latch, Origin, Proxy};

const ASK: &str = "GET /t HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

/// Agrees to a tunnel, with these bytes right behind the head.
pub fn agree(c: &mut Connection, and: &str) -> std::io::Result<()> {
    let head = c.expect_head()?.head;
    let upgrade = head.value("upgrade").unwrap_or_default().to_owned();
    let connection = head.value("connection").unwrap_or_default().to_ascii_lowercase();
    if upgrade != "echo" || !connection.contains("upgrade") {
        return c.send(ok("no upgrade arrived"));
    }
    c.send(format!("{AGREE}{and}"))
}

/// A client in a tunnel.
pub fn tunnel(proxy: &Proxy, and: &str) -> Client {
    let mut client = proxy.client();
    let head = client.send(format!("{ASK}{and}")).head();
    assert_eq!(head.word(1), "101", "{head:?}");
    assert_eq!(head.value("upgrade"), Some("echo"));
    let connection = head.value("connection").unwrap_or_default();
    assert_eq!(connection.to_ascii_lowercase(), "upgrade");
    client
}

#[test]
fn bytes_right_behind_the_heads_are_delivered() {
    let origin = Origin::scripted(|c| {
        agree(c, "from the origin.")?;
        let got = c.read_until(".")?;
        c.send(got)?;
        c.expect_close()
    });
    let proxy = Proxy::to(&origin);
    let mut client = tunnel(&proxy, "from the client.");
    assert_eq!(client.until("."), b"from the origin.");
    assert_eq!(client.until("."), b"from the client.");
    drop(client);
    assert_eq!(origin.wait_end(0), "done");
    let line = proxy.log_line(101);
    assert!(line.number("bytes_out") >= 32, "{line:?}");
}

#[test]
fn a_tunnel_carries_both_directions_over_both_kinds_of_socket() {
    let script = |c: &mut Connection| {
        agree(c, "")?;
        loop {
            let got = c.read_until("\n")?;
            c.send(got.to_ascii_uppercase())?;
        }
    };
    for origin in [Origin::scripted(script), Origin::scripted_unix(script)] {
        let proxy = Proxy::to(&origin);
        let mut client = tunnel(&proxy, "");
        for number in 0..50 {
            client.send(format!("line {number}\n"));
            assert_eq!(client.until("\n"), format!("LINE {number}\n").as_bytes());
        }
        let long = "long ".repeat(200_000);
        let mut sender = client.sender();
        let sending = std::thread::spawn(move || {
            sender.write_all(long.as_bytes()).expect("the long line goes");
            sender.write_all(b"\n").expect("its end goes");
        });
        assert_eq!(client.until("\n").len(), 1_000_001);
        sending.join().unwrap();
    }
}

#[test]
fn a_half_close_of_the_client_leaves_the_other_direction_open() {
    let origin = Origin::scripted(|c| {
        agree(c, "")?;
        c.expect_close()?;
        c.send("said after the client was done")
    });
    let proxy = Proxy::to(&origin);
    let mut client = tunnel(&proxy, "");
    client.half_close();
    let (rest, end) = client.rest();
    assert_eq!((rest.as_slice(), end), (b"said after the client was done".as_slice(), End::Closed));
}

/// The origin says something and is gone; the proxy learns of that while it still has something
/// for it.
#[test]
fn what_an_origin_said_before_it_was_gone_arrives() {
    let said = "goodbye ".repeat(10_000);
    let (go, text) = (Latch::default(), said.clone());
    let theirs = go.clone();
    let origin = Origin::scripted_unix(move |c| {
        agree(c, "")?;
        theirs.wait()?;
        c.send(&text)
    });
    let proxy = Proxy::to(&origin);
    let mut client = tunnel(&proxy, "");
    proxy.signal_data_process(Signal::STOP);
    go.open();
    assert_eq!(origin.wait_end(0), "done");
    client.send("never read");
    proxy.signal_data_process(Signal::CONT);
    let (rest, _) = client.rest();
    assert_eq!(rest.len(), said.len());
    assert_eq!(proxy.log_line(101).text("reason"), "upstream closed the connection within a tunnel");
}

#[test]
fn a_half_close_of_the_origin_leaves_the_other_direction_open() {
    let origin = Origin::scripted(|c| {
        agree(c, "bye")?;
        c.half_close()?;
        match c.read_until("after.")?.as_slice() {
            b"said after." => Ok(()),
            other => Err(std::io::Error::other(format!("{other:?}"))),
        }
    });
    let proxy = Proxy::to(&origin);
    let mut client = tunnel(&proxy, "");
    let (rest, end) = client.rest();
    assert_eq!((rest.as_slice(), end), (b"bye".as_slice(), End::Closed));
    client.send("said after.");
    assert_eq!(origin.wait_end(0), "done");
}

#[test]
fn the_place_of_a_tunnel_is_free_once_its_origin_has_closed() {
    let origin = Origin::scripted(|c| match c.index {
        0 => {
            agree(c, "bye")?;
            c.half_close()?;
            c.expect_close()
        }
        _ => {
            c.expect_request()?;
            c.send(ok("next"))
        }
    });
    let settings = "max_connections = 1\nqueue_timeout = \"10m\"";
    let proxy = Proxy::with_upstream(&origin, settings).limit("tunnel_linger = \"10m\"").start();
    let mut client = tunnel(&proxy, "");
    assert_eq!(client.rest(), (b"bye".to_vec(), End::Closed));
    assert_eq!(proxy.client().get("/").text(), "next");
    // What the client still says arrives all the same.
    client.send("thanks");
    drop(client);
    assert_eq!(origin.wait_end(0), "done");
}

#[test]
fn a_reset_of_either_side_ends_the_other() {
    let origin = Origin::scripted(|c| {
        agree(c, "")?;
        if c.index == 0 { c.reset() } else { c.expect_close() }
    });
    let proxy = Proxy::to(&origin);
    assert_eq!(tunnel(&proxy, "").expect_end(), End::Reset);
    tunnel(&proxy, "").reset();
    assert_eq!(origin.wait_end(1), "done");
}

#[test]
fn a_tunnel_outlives_the_timeouts_of_requests() {
    let origin = Origin::scripted(|c| {
        agree(c, "")?;
        let closed = c.is_closed_within(Duration::from_millis(900))?;
        c.send(if closed { "cut." } else { "alive." })
    });
    let proxy = Proxy::with_upstream(&origin, "read_timeout = \"200ms\"")
        .limit("idle_timeout = \"200ms\"")
        .limit("body_timeout = \"200ms\"")
        .limit("write_timeout = \"200ms\"")
        .limit("head_timeout = \"200ms\"")
        .start();
    assert_eq!(tunnel(&proxy, "").until("."), b"alive.");
}

#[test]
fn a_refused_upgrade_is_an_ordinary_response() {
    let origin = Origin::ok("not today");
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    for _ in 0..2 {
        let response = client.send(ASK).response();
        assert_eq!((response.status, response.text().as_str()), (200, "not today"));
        assert!(!response.head.has("upgrade"));
    }
}

#[test]
fn what_follows_a_refused_upgrade_is_a_request() {
    let origin = Origin::answering(|request| ok(request.target()));
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send(format!("{ASK}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(client.response().text(), "/t");
    assert_eq!(client.response().text(), "/next");
}

#[test]
fn an_upgrade_to_http_2_is_not_forwarded() {
    let origin = Origin::ok("plain");
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABk\r\n\r\n",
    );
    assert_eq!(client.response().text(), "plain");
    let seen = origin.only_request().head;
    assert!(!seen.has("upgrade") && !seen.has("http2-settings"), "{:#?}", seen.fields);
}

#[test]
fn an_upgrade_without_the_connection_field_or_in_http_1_0_is_not_forwarded() {
    let origin = Origin::ok("plain");
    let proxy = Proxy::to(&origin);
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
    ] {
        assert_eq!(proxy.client().send(head).response().text(), "plain");
    }
    assert!(origin.requests().iter().all(|r| !r.head.has("upgrade")));
}

/// A stream with what was read too far in front of it.
struct Rewound {
    first: std::io::Cursor<Vec<u8>>,
    stream: Stream,
}

impl Read for Rewound {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.first.read(buffer)? {
            0 => self.stream.read(buffer),
            count => Ok(count),
        }
    }
}

impl Write for Rewound {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn websocket_origin() -> Origin {
    Origin::scripted(|c| {
        let head = c.expect_head()?.head;
        let key = head.value("sec-websocket-key").unwrap_or_default();
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        c.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        ))?;
        let (stream, first) = c.stream()?;
        let first = std::io::Cursor::new(first);
        let mut socket = WebSocket::from_raw_socket(Rewound { first, stream }, Role::Server, None);
        loop {
            match socket.read().map_err(std::io::Error::other)? {
                Message::Close(_) => break,
                message @ (Message::Text(_) | Message::Binary(_)) => {
                    socket.send(message).map_err(std::io::Error::other)?;
                }
                _ => {}
            }
        }
        let _ = socket.flush();
        c.expect_close()
    })
}

#[test]
fn a_websocket_session_of_a_real_library_echoes() {
    let origin = websocket_origin();
    let proxy = Proxy::to(&origin);
    let url = format!("ws://{}/chat", proxy.address());
    let stream = proxy.client().into_stream();
    let (mut socket, response) = tungstenite::client(url, stream).expect("a handshake");
    assert_eq!(response.status(), 101);
    let binary = crate::harness::pattern(300_000);
    for number in 0..20 {
        let text = Message::text(format!("message {number}"));
        socket.send(text.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), text);
    }
    socket.send(Message::binary(binary.clone())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::binary(binary));
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    drop(socket);
    origin.wait_end(0);
}
