//! Clients of the admin API that keep it waiting: they keep nobody else from an answer.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::admin::{LISTEN, admin, ask, ask_socket};
use crate::harness::client::request;
use crate::harness::{
    BOUND, Client, Origin, Proxy, eventually, eventually_within, holds, make_pipe, reach_reader,
};
use crate::supervision;

/// More than there are places, of the port and of the socket.
const MANY: usize = 200;

const HEALTHZ: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn proxy() -> Proxy {
    Proxy::with(&Origin::ok("hello")).toml(LISTEN).start()
}

/// A connection to the port from one of these addresses in turn; after it these bytes were sent.
fn silent(at: SocketAddr, count: usize, own: impl Fn(usize) -> Ipv4Addr, sent: &str) -> Vec<Client> {
    let connect = |index: usize| {
        let mut client = Client::connect_from(own(index), at);
        // It may have been closed for another one already.
        client.offer(sent.as_bytes());
        client
    };
    (0..count).map(connect).collect()
}

fn connect(directory: &Path) -> UnixStream {
    let stream = UnixStream::connect(directory.join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream
}

#[test]
fn silent_connections_do_not_keep_others_out_of_the_port() {
    let proxy = proxy();
    let at = admin(&proxy);
    let same = |_| Ipv4Addr::LOCALHOST;
    let various = |index: usize| Ipv4Addr::new(127, 0, 1, index as u8);
    let addresses: [(&str, &dyn Fn(usize) -> Ipv4Addr); 2] = [("one address", &same), ("many", &various)];
    for (whose, own) in addresses {
        for sent in ["", "GET /healthz HTTP/1.1\r\nHost: loc", HEALTHZ] {
            let held = silent(at, MANY, own, sent);
            for own in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 2, 1)] {
                let mut client = Client::connect_from(own, at);
                let answer = client.send(HEALTHZ).response();
                assert_eq!((answer.status, answer.text().as_str()), (200, "ok\n"), "{whose}: {sent:?}");
            }
            drop(held);
        }
    }
}

#[test]
fn an_address_drives_out_only_its_own_connections() {
    let proxy = proxy();
    let at = admin(&proxy);
    let mut other = Client::connect_from(Ipv4Addr::new(127, 0, 2, 1), at);
    assert_eq!(other.send(HEALTHZ).response().status, 200);
    let mut held = silent(at, MANY, |_| Ipv4Addr::LOCALHOST, "");
    // The first one had to go, and the one that has come last is served.
    held[0].expect_end();
    let last = held.last_mut().unwrap();
    assert_eq!(last.send(HEALTHZ).response().status, 200);
    assert_eq!(other.send(HEALTHZ).response().status, 200, "on the connection that it had");
}

#[test]
fn clients_that_do_not_take_their_responses_keep_nobody_out() {
    let proxy = proxy();
    let at = admin(&proxy);
    let requests = "GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    let mut held = Vec::new();
    for _ in 0..80 {
        let mut client = TcpStream::connect(at).unwrap();
        client.set_nonblocking(true).unwrap();
        // Until the kernel holds no more of what is not taken, in either direction.
        while client.write(requests.as_bytes()).is_ok() {}
        held.push(client);
        if held.len() % 20 == 0 {
            assert_eq!(ask(at, "GET /healthz", "Host: localhost").0, 200, "after {}", held.len());
        }
    }
}

#[test]
fn silent_connections_do_not_keep_commands_out_of_the_socket() {
    let proxy = proxy();
    for sent in ["", "GET /hea", HEALTHZ] {
        let silent = |_| {
            let mut stream = connect(proxy.directory());
            // It may have been closed for another one already.
            let _ = stream.write_all(sent.as_bytes());
            stream
        };
        let held: Vec<UnixStream> = (0..MANY).map(silent).collect();
        assert_eq!(ask_socket(&proxy, HEALTHZ), (200, "ok\n".to_owned()), "{sent:?}");
        drop(held);
    }
}

#[test]
fn a_request_that_is_being_answered_keeps_its_place() {
    let proxy =
        supervision::app(supervision::builder(), "web", "stop_timeout = \"60s\"").toml(LISTEN).start();
    supervision::pid(&proxy, "/web/");
    let pipe = proxy.directory().join("go");
    make_pipe(&pipe);
    let mut waiting = proxy.client();
    waiting.send(request("/web/wait"));
    let go = reach_reader(&pipe);
    // It goes on until that request is done.
    let stop = "POST /children/web/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    let mut command = connect(proxy.directory());
    command.write_all(stop.as_bytes()).unwrap();
    eventually("the command to have begun", || {
        let answer = ask_socket(&proxy, stop);
        holds(answer.0 == 409, answer)
    });
    let held: Vec<UnixStream> = (0..MANY).map(|_| connect(proxy.directory())).collect();
    assert_eq!(ask_socket(&proxy, HEALTHZ).0, 200);
    drop(go);
    assert_eq!(waiting.response().status, 200);
    let mut answer = [0; 15];
    command.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    drop(held);
}

/// Sends a head that has no end, until the connection has one.
fn drip(mut stream: impl Read + Write, what: &str) {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nX-Slow: ").unwrap();
    // Less than the 30 s that a connection may be idle between two requests.
    eventually_within(BOUND * 2, &format!("the end of the connection to the {what}"), || {
        let (sent, read) = (stream.write(b"x"), stream.read(&mut [0; 64]));
        let goes_on = sent.is_ok() && matches!(&read, Err(error) if error.kind() == ErrorKind::WouldBlock);
        holds(!goes_on, (sent, read))
    });
}

#[test]
fn a_head_that_comes_byte_by_byte_has_five_seconds_in_all() {
    let proxy = proxy();
    let port = TcpStream::connect(admin(&proxy)).unwrap();
    port.set_nonblocking(true).unwrap();
    drip(port, "port");
    let socket = connect(proxy.directory());
    socket.set_nonblocking(true).unwrap();
    drip(socket, "socket");
}
