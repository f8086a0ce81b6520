//! The hot path allocates nothing: a real worker serves keep-alive requests to a real origin
//! while every allocation of the process is counted. Nothing else runs in this test's process.

#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use warpdrive::config::Sources;
use warpdrive::net::Io;
use warpdrive::plan;
use warpdrive::upstream::{Address, Endpoint, Endpoints, UpstreamId};
use warpdrive::worker::{self, Message};

mod counting;

const REQUEST: &[u8] =
    b"GET /a/b?c=d&token=secret HTTP/1.1\r\nHost: app.example\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

/// Answers request after request of one connection, without allocating.
fn serve(listener: &UnixListener, response: &'static [u8]) {
    let Ok((mut stream, _)) = listener.accept() else { return };
    let mut buffer = [0u8; 4096];
    while matches!(stream.read(&mut buffer), Ok(count) if count > 0) {
        if stream.write_all(response).is_err() {
            return;
        }
    }
}

/// Sends a request and reads the response, whose length does not change.
fn exchange(stream: &mut TcpStream, buffer: &mut [u8], end: &[u8]) {
    stream.write_all(REQUEST).unwrap();
    let mut len = 0;
    while !buffer[..len].ends_with(end) {
        let count = stream.read(&mut buffer[len..]).unwrap();
        assert_ne!(count, 0, "closed after {:?}", String::from_utf8_lossy(&buffer[..len]));
        len += count;
    }
}

/// Paths, fields and an expression: all that a route can change.
const CHANGES: &str = r#"
path_regex = "^/(?<first>[a-z])/([a-z])$"
rewrite = "/$2/${first}"
add_headers = [{ name = "X-Uri", value = "<${uri}>" }, { name = "User-Agent", value = "$first" }]
remove_headers = ["Accept"]
response_headers = [{ name = "X-First", value = "$first" }, { name = "Server", remove = true }]
"#;

/// Conditions on who sent a request, of which none holds.
const SENDERS: &str = r#"
header = { name = "X-Real-IP", value_regex = "^10[.]" }
client = ["10.0.0.0/8"]
[[routes]]
scheme = "https"
upstream = "app"
[[routes]]
upstream = "app"
"#;

/// A line of the operator's own, from which values are left out.
const LOG: &str = r#"
[log]
format = "custom"
template = '${time} ${client} "${method} ${uri}" ${status} "${user_agent}" ${route} ${upstream} ${endpoint} ${duration_ms}'
"#;

/// Allocations per request of a worker in its steady state; `more` is of the route, and after it.
fn measure(io: Io, more: &str, response: &'static [u8], end: &[u8]) -> f64 {
    let directory = std::env::temp_dir().join(format!("warpdrive-allocations-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let socket = directory.join("origin.sock");
    let _not_there = std::fs::remove_file(&socket);
    let origin = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || serve(&origin, response));
    let text = "[upstreams.app]\nhost = \"127.0.0.1\"\nport = 1\n[[routes]]\nupstream = \"app\"\n";
    let text = format!("{text}{more}");
    let file = directory.join("warpdrive.toml");
    std::fs::write(&file, text).unwrap();
    let sources = Sources::read(Some(file), Vec::new()).unwrap();
    let loaded = plan::load(&sources).unwrap_or_else(|wrong| panic!("{}", wrong[0]));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let endpoint = Endpoint::new(Address::Unix(socket), 0);
    let (log, lines) = crossbeam_channel::bounded(1024);
    let (spans, exported) = crossbeam_channel::bounded(1024);
    let handle = worker::spawn(worker::Settings {
        index: 0,
        core: None,
        io,
        listeners: vec![listener],
        plan: Arc::new(loaded.plan),
        endpoints: vec![Endpoints { upstream: UpstreamId(0), generation: 1, endpoints: [endpoint].into() }],
        log: Some(log),
        spans: Some(spans),
        shared: Arc::default(),
    })
    .unwrap();
    handle.started.recv().unwrap().unwrap();

    let mut client = TcpStream::connect(address).unwrap();
    let mut buffer = [0u8; 4096];
    for _ in 0..500 {
        exchange(&mut client, &mut buffer, end);
    }
    let before = counting::allocations();
    const MEASURED: u32 = 5_000;
    for _ in 0..MEASURED {
        exchange(&mut client, &mut buffer, end);
    }
    let allocations = counting::allocations() - before;
    drop(client);
    handle.send(Message::Drain);
    handle.thread.join().unwrap();
    assert!(lines.try_iter().map(|lines| lines.len()).sum::<usize>() > 500_000, "the log was on");
    assert_eq!(exported.is_empty(), !more.contains("[tracing]"), "spans are handed on if they are wanted");
    std::fs::remove_dir_all(&directory).unwrap();
    allocations as f64 / f64::from(MEASURED)
}

#[test]
fn the_steady_path_allocates_only_for_full_log_buffers() {
    for io in [Io::IoUring, Io::Epoll] {
        // One buffer of log lines in about a hundred requests.
        let plain = measure(io, "path_prefix = \"/a\"", RESPONSE, b"hello");
        assert!(plain < 0.02, "{io:?}: {plain} allocations per request");
        let chunked = measure(io, "path_prefix = \"/a\"", CHUNKED, b"0\r\n\r\n");
        assert!(chunked < 0.02, "{io:?}: {chunked} allocations per chunked response");
        let timed = measure(io, "[middleware]\nserver_timing = true\n", RESPONSE, b"hello");
        assert!(timed < 0.02, "{io:?}: {timed} allocations per response with Server-Timing");
        let custom = measure(io, LOG, RESPONSE, b"hello");
        assert!(custom < 0.02, "{io:?}: {custom} allocations per request with a line of its own");
        let traced = measure(io, "[tracing]\nexport = \"http://127.0.0.1:4318\"\n", RESPONSE, b"hello");
        assert!(traced < 0.03, "{io:?}: {traced} allocations per request with a span");
        let changed = measure(io, CHANGES, RESPONSE, b"hello");
        assert!(changed < 0.02, "{io:?}: {changed} allocations per request with changes");
        let senders = measure(io, SENDERS, RESPONSE, b"hello");
        assert!(senders < 0.02, "{io:?}: {senders} allocations per request that is asked who sent it");
    }
}
