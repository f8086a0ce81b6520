//! What the record of an exchange costs, in instructions of a whole exchange: a real worker serves
//! keep-alive requests to a real origin, with the record and without it. Client and origin are in
//! the same process and do the same in each case, so the difference is the record's. Under epoll,
//! because valgrind knows no io_uring.

#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use warpdrive::config::Sources;
use warpdrive::net::Io;
use warpdrive::plan;
use warpdrive::upstream::{Address, Endpoint, Endpoints, UpstreamId};
use warpdrive::worker::{self, Message};

mod instruments;

const REQUEST: &[u8] = b"GET /products/17/reviews?page=2 HTTP/1.1\r\nHost: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Referer: https://www.example.com/products\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Length: 5\r\n\r\nhello";
const END: &[u8] = b"hello";

/// Each a name and lines of its configuration; the first is what the others are compared with.
const CASES: [(&str, &str); 7] = [
    ("no access log", "[middleware]\nlog_requests = false\n"),
    ("access log in JSON, the default", ""),
    ("the same in the combined format", "[log]\nformat = \"combined\"\n"),
    (
        "the same by a template",
        "[log]\nformat = \"custom\"\n\
         template = '${client} [${time}] \"${method} ${uri}\" ${status} ${bytes_out} ${duration_ms}'\n",
    ),
    ("a sample of a hundredth, in JSON", "[log]\nsample = 0.01\n"),
    ("in JSON, with traces", "[tracing]\ntraceparent = \"trusted\"\n"),
    ("in JSON, with every span exported", "[tracing]\nexport = \"http://127.0.0.1:4318\"\n"),
];

const ROUNDS: u64 = 2_000;

/// Answers request after request of one connection.
fn serve(listener: &UnixListener) {
    let Ok((mut stream, _)) = listener.accept() else { return };
    let mut buffer = [0u8; 4096];
    while matches!(stream.read(&mut buffer), Ok(count) if count > 0) {
        if stream.write_all(RESPONSE).is_err() {
            return;
        }
    }
}

fn exchange(stream: &mut TcpStream, buffer: &mut [u8]) {
    stream.write_all(REQUEST).unwrap();
    let mut len = 0;
    while !buffer[..len].ends_with(END) {
        let count = stream.read(&mut buffer[len..]).unwrap();
        assert_ne!(count, 0, "closed after {:?}", String::from_utf8_lossy(&buffer[..len]));
        len += count;
    }
}

fn worker(more: &str, directory: &Path) -> (worker::Handle, TcpStream) {
    let socket = directory.join("origin.sock");
    let origin = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || serve(&origin));
    let file = directory.join("warpdrive.toml");
    let text = "[upstreams.app]\nhost = \"127.0.0.1\"\nport = 1\n[[routes]]\nupstream = \"app\"\n";
    std::fs::write(&file, format!("{text}{more}")).unwrap();
    let sources = Sources::read(Some(file), Vec::new()).unwrap();
    let loaded = plan::load(&sources).unwrap_or_else(|wrong| panic!("{}", wrong[0]));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = Endpoint::new(Address::Unix(socket), 0);
    // Nobody writes: what does not fit is dropped.
    let (log, lines) = crossbeam_channel::bounded(1);
    let (spans, exported) = crossbeam_channel::bounded(1);
    std::mem::forget((lines, exported));
    let handle = worker::spawn(worker::Settings {
        index: 0,
        core: None,
        io: Io::Epoll,
        listeners: vec![listener],
        plan: Arc::new(loaded.plan),
        endpoints: vec![Endpoints { upstream: UpstreamId(0), generation: 1, endpoints: [endpoint].into() }],
        log: Some(log),
        spans: Some(spans),
        shared: Arc::default(),
    })
    .unwrap();
    handle.started.recv().unwrap().unwrap();
    (handle, TcpStream::connect(address).unwrap())
}

/// Runs a case so many times.
fn repeat(name: &str, rounds: u64) {
    let (_, more) = CASES.iter().find(|(known, _)| *known == name).expect("a case of that name");
    let directory = std::env::temp_dir().join(format!("warpdrive-exchange-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (handle, mut client) = worker(more, &directory);
    let mut buffer = [0u8; 4096];
    for _ in 0..rounds {
        exchange(&mut client, &mut buffer);
    }
    drop(client);
    handle.send(Message::Drain);
    handle.thread.join().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}

fn main() {
    if let Some((name, rounds)) = instruments::asked_to_repeat() {
        return repeat(&name, rounds);
    }
    if !instruments::is_bench() {
        for (name, _) in CASES {
            repeat(name, 3);
        }
        println!("{} cases work; `cargo bench` measures them", CASES.len());
        return;
    }
    println!("{:<40}{:>14}{:>10}", "one exchange", "instructions", "more");
    let mut first = None;
    for (name, _) in CASES {
        let Some(counted) = instruments::instructions(name, ROUNDS) else {
            println!("{name:<40}{:>14}", "no valgrind");
            continue;
        };
        let more = counted as i64 - *first.get_or_insert(counted) as i64;
        println!("{name:<40}{counted:>14}{more:>10}");
    }
}
