//! Clients, and applications, that mean harm: what they do must stay bounded, and must stay
//! theirs. One test for each class of attack on HTTP/1 that proxies have fallen to.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::harness::client::{End, get, request};
use crate::harness::origin::ok;
use crate::harness::wire::Stream;
use crate::harness::{Builder, Client, Origin, Proxy, QUIET, eventually, holds};

const DRIVERS: [&str; 2] = ["io_uring", "epoll"];

/// How long a neighbour of an attack may wait for one answer: far more than it takes, far less
/// than a worker that serves one connection only.
const NEIGHBOUR: Duration = Duration::from_secs(5);

/// A flood takes all of a processor: more than one at a time would be an attack on other tests.
static FLOODS: Mutex<()> = Mutex::new(());

/// How much the data process may grow under an attack by one connection.
const GROWTH_KIB: u64 = 8 << 10;

/// Everything to one origin, but for `/none`, which we answer ourselves.
fn routed(origin: &Origin) -> Builder {
    Builder::new().upstream("app", origin, "").route("app", "path_prefix = \"/app\"").workers(1)
}

/// A connection that sends the same bytes again and again, and reads whatever comes, as fast as
/// it can, until it is dropped.
struct Flood {
    stream: Stream,
    is_over: Arc<AtomicBool>,
    taken: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<()>>,
    _only: MutexGuard<'static, ()>,
}

impl Flood {
    fn begin(proxy: &Proxy, first: &[u8], again: Vec<u8>, reads: bool) -> Flood {
        let only = FLOODS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut client = proxy.client();
        client.send(first);
        let stream = client.into_stream();
        let (is_over, taken) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (over, count) = (Arc::clone(&is_over), Arc::clone(&taken));
        let mut sender = stream.clone_of().unwrap();
        let mut threads = vec![std::thread::spawn(move || {
            while !over.load(Ordering::SeqCst) && sender.write_all(&again).is_ok() {
                count.fetch_add(again.len(), Ordering::SeqCst);
            }
        })];
        if reads {
            let mut reader = stream.clone_of().unwrap();
            threads.push(std::thread::spawn(move || {
                let mut scratch = vec![0; 1 << 20];
                while matches!(reader.read(&mut scratch), Ok(1..)) {}
            }));
        }
        Flood { stream, is_over, taken, threads, _only: only }
    }

    /// Waits until so many bytes were taken from it.
    fn wait(&self, bytes: usize) {
        eventually("the flood to flow", || {
            let taken = self.taken.load(Ordering::SeqCst);
            holds(taken >= bytes, taken)
        });
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = self.stream.shutdown(Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A neighbour gets its answers while something else goes on.
fn check_neighbour(proxy: &Proxy, path: &str, what: &str) {
    let mut neighbour = proxy.client();
    for number in 0..20 {
        let start = Instant::now();
        assert!([200, 404].contains(&neighbour.get(path).status), "{what}");
        let passed = start.elapsed();
        assert!(passed < NEIGHBOUR, "{what}: answer {number} to a neighbour took {passed:?}");
    }
}

#[test]
fn a_pipeline_without_end_leaves_room_for_others() {
    for driver in DRIVERS {
        let origin = Origin::ok("fine");
        let proxy = routed(&origin).server(&format!("io = \"{driver}\"")).start();
        for path in ["/none", "/app"] {
            let flood = Flood::begin(&proxy, b"", request(path).repeat(1000), true);
            flood.wait(1 << 20);
            check_neighbour(&proxy, "/none", &format!("{driver} {path}"));
        }
    }
}

#[test]
fn a_pipeline_that_nobody_reads_is_bounded() {
    for path in ["/none", "/app"] {
        let origin = Origin::answering(|_| ok(&"x".repeat(64 << 10)));
        let proxy = routed(&origin).limit("write_timeout = \"600ms\"").start();
        assert_eq!(get(proxy.address(), "/app").status, 200);
        let before = proxy.resident_kib();
        let flood = Flood::begin(&proxy, b"", request(path).repeat(1000), false);
        // It is cut once its answers were not taken for that long, and then nothing more goes.
        let end = proxy.log_lines(1, |line| {
            ["client takes no data", "no route matches"].contains(&line.text("reason"))
                && line.number("bytes_out") == 0
        });
        assert!(!end.is_empty());
        let grown = proxy.resident_kib().saturating_sub(before);
        assert!(grown < GROWTH_KIB, "{path}: grew by {grown} KiB");
        check_neighbour(&proxy, "/app", path);
        drop(flood);
    }
}

#[test]
fn a_body_of_single_bytes_leaves_room_for_others() {
    for driver in DRIVERS {
        let origin = Origin::scripted(|c| {
            while c.expect_head()?.target() == "/app/small" {
                c.send(ok("small"))?;
            }
            let (mut stream, _) = c.stream()?;
            let mut scratch = vec![0; 1 << 20];
            while stream.read(&mut scratch)? > 0 {}
            Ok(())
        });
        let proxy = routed(&origin).server(&format!("io = \"{driver}\"")).start();
        let head = b"POST /app HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(get(proxy.address(), "/app/small").status, 200);
        let before = proxy.resident_kib();
        let flood = Flood::begin(&proxy, head, b"1\r\nx\r\n".repeat(10_000), false);
        flood.wait(4 << 20);
        check_neighbour(&proxy, "/none", driver);
        let grown = proxy.resident_kib().saturating_sub(before);
        assert!(grown < GROWTH_KIB, "{driver}: grew by {grown} KiB");
    }
}

#[test]
fn a_download_without_pause_leaves_room_for_others() {
    for driver in DRIVERS {
        let origin = Origin::scripted(|c| {
            c.expect_head()?;
            c.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            let piece = vec![b'x'; 1 << 20];
            loop {
                c.send(&piece)?;
            }
        });
        let proxy = routed(&origin).server(&format!("io = \"{driver}\"")).start();
        let _flood = Flood::begin(&proxy, b"", request("/app"), true);
        origin.wait_requests(1);
        check_neighbour(&proxy, "/none", driver);
    }
}

#[test]
fn extensions_that_outweigh_their_chunks_are_refused() {
    let origin = Origin::ok("never whole");
    let proxy = Proxy::with(&origin).limit("request_body = 1000").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(4000));
    // 400 bytes of body, well within its limit, in 1.6 MB.
    client.offer(chunk.repeat(400).as_bytes());
    assert_eq!(client.response_to("POST").status, 400);
    assert_eq!(client.expect_end(), End::Closed);
    assert_eq!(proxy.log_line(400).text("reason"), "chunk extensions larger than the body");
    origin.wait_idle();
    assert!(origin.requests().is_empty());
}

#[test]
fn connection_options_without_number_are_refused() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::to(&origin);
    let ask = |options: &str| {
        let mut client = proxy.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {options}\r\n\r\n"));
        client.response().status
    };
    assert_eq!(ask(&"a,".repeat(32)), 200);
    assert_eq!(ask(&",".repeat(10_000)), 200);
    assert_eq!(ask(&"a,".repeat(33)), 400);
    assert_eq!(ask(&"a,".repeat(10_000)), 400);
    let lines = proxy.log_lines(2, |line| line.status() == 400);
    assert!(lines.iter().all(|line| line.text("reason") == "too many connection options"), "{lines:#?}");
}

#[test]
fn names_and_values_of_any_length_pass_unchanged_or_not_at_all() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::to(&origin);
    // Lengths around those that somebody kept in 8 or 16 bits.
    for (length, status) in [(255, 200), (256, 200), (270, 200), (16_384, 200), (65_536, 431), (65_540, 431)]
    {
        let (name, value) = ("n".repeat(length), "v".repeat(length.min(10_000)));
        let mut client = proxy.client();
        client.offer(format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\n\r\n").as_bytes());
        assert_eq!(client.response().status, status, "{length}");
        if status == 200 {
            let last = origin.requests().pop().unwrap();
            assert_eq!(last.head.value(&name), Some(value.as_str()), "{length}");
        }
    }
}

#[test]
fn a_head_byte_by_byte_is_the_same_head() {
    let origin = Origin::echo();
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    for byte in b"\r\n\r\nGET /slow HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n" {
        client.send([*byte]);
    }
    assert!(client.response().text().starts_with("GET /slow "));
    let mut flooding = proxy.client();
    let mut taken = 0;
    // Nothing but empty lines, two bytes at a time, to the limit of a head.
    while flooding.offer(b"\r\n") && taken < 1 << 20 {
        taken += 2;
        if taken % 1024 == 0 && !flooding.is_quiet_for(Duration::from_millis(1)) {
            break;
        }
    }
    assert!(taken <= 128 << 10, "{taken} bytes of empty lines were taken");
    assert_eq!(flooding.response().status, 431);
    check_neighbour(&proxy, "/", "after empty lines");
}

#[test]
fn a_client_that_does_not_read_its_refusal_is_let_go() {
    let origin = Origin::ok("fine");
    let proxy = routed(&origin).start();
    assert_eq!(get(proxy.address(), "/app").status, 200);
    let before = (proxy.descriptors(), proxy.resident_kib());
    // Silent after its garbage; sending more of it; gone.
    let silent = proxy.client();
    silent.sender().write_all(b"garbage\r\n\r\n").unwrap();
    let sending = Flood::begin(&proxy, b"garbage\r\n\r\n", vec![b'x'; 64 << 10], false);
    let mut leaving = proxy.client();
    leaving.send("garbage\r\n\r\n");
    leaving.reset();
    proxy.log_lines(3, |line| line.status() == 400);
    eventually("their descriptors to be given back", || {
        let now = proxy.descriptors();
        holds(now <= before.0, (now, before.0))
    });
    let grown = proxy.resident_kib().saturating_sub(before.1);
    assert!(grown < GROWTH_KIB, "grew by {grown} KiB");
    drop((silent, sending));
}

#[test]
fn refused_connections_hold_few_descriptors() {
    const REFUSED: usize = 1000;
    let origin = Origin::ok("fine");
    let proxy = routed(&origin).limit("connections = 1").start();
    let mut first = proxy.client();
    assert_eq!(first.get("/app").status, 200);
    let before = proxy.descriptors();
    let refused: Vec<Client> = (0..REFUSED).map(|_| proxy.client()).collect();
    proxy.log_lines(REFUSED, |line| line.status() == 503);
    let held = proxy.descriptors() - before;
    assert!(held <= 600, "{held} of {REFUSED} refused connections are held");
    assert_eq!(first.get("/app").status, 200);
    drop(refused);
}

/// The beginnings of an exchange at which a client may leave.
const STAGES: &[&str] = &[
    "",
    "\r\n",
    "GET",
    "GET /app HTTP/1.1\r\nHost: a\r\n",
    "POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
    "POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello",
    "POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
    "POST /app HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5",
    "POST /app HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    "POST /app HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T",
    "GET /app HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /app HTTP/1.1\r\nHost: a\r\n\r\nGET /app HTTP/1.1\r\nHost",
    "GET /app/large HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /none HTTP/1.1\r\nHost: a\r\n\r\n",
    "garbage\r\n\r\n",
];

#[test]
fn leaving_at_any_stage_leaves_nothing_behind() {
    for driver in DRIVERS {
        let large = "x".repeat(8 << 20);
        let origin =
            Origin::answering(move |request| ok(if request.target() == "/app/large" { &large } else { "x" }));
        let proxy = routed(&origin).server(&format!("io = \"{driver}\"")).start();
        assert_eq!(get(proxy.address(), "/app").status, 200);
        let before = proxy.descriptors();
        for round in 0..4 {
            for stage in STAGES {
                let mut client = proxy.client();
                client.send(stage);
                if round % 2 == 0 {
                    client.until_taken();
                }
                match round {
                    0 | 1 => client.reset(),
                    2 => drop(client),
                    _ => drop(client.half_close().rest()),
                }
            }
        }
        // What is kept for later is the pool's.
        eventually("all descriptors to be given back", || {
            let now = proxy.descriptors();
            holds(now <= before + 4, (now, before))
        });
        check_neighbour(&proxy, "/app", driver);
    }
}

#[test]
fn informational_responses_without_end_are_502() {
    let origin = Origin::scripted(|c| {
        c.expect_request()?;
        loop {
            c.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
        }
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    client.send(request("/"));
    let mut informational = 0;
    let last = loop {
        let response = client.response();
        if response.status >= 200 {
            break response.status;
        }
        informational += 1;
    };
    assert_eq!((last, informational), (502, 32));
    assert_eq!(proxy.log_line(502).text("reason"), "too many informational responses");
    assert_ne!(origin.wait_end(0), "done");
}

#[test]
fn an_answer_with_endless_fields_is_502_and_harms_nobody() {
    for driver in DRIVERS {
        let origin = Origin::scripted(|c| {
            c.expect_request()?;
            c.send("HTTP/1.1 200 OK\r\n")?;
            loop {
                c.send("X: y\r\n")?;
            }
        });
        let proxy = routed(&origin).server(&format!("io = \"{driver}\"")).start();
        let mut client = proxy.client();
        client.send(request("/app"));
        check_neighbour(&proxy, "/none", driver);
        assert_eq!(client.response().status, 502, "{driver}");
        assert_eq!(proxy.log_line(502).text("reason"), "too many fields", "{driver}");
    }
}

#[test]
fn trailers_of_an_answer_without_end_cut_it() {
    let origin = Origin::scripted(|c| {
        c.expect_request()?;
        c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n")?;
        loop {
            c.send("X-T: y\r\n")?;
        }
    });
    let proxy = Proxy::to(&origin);
    let before = proxy.resident_kib();
    let mut client = proxy.client();
    let broken = client.send(request("/")).try_response_to("GET").expect_err("a cut answer");
    assert_eq!(broken.body, b"hello");
    assert_eq!(proxy.log_line(200).text("reason"), "trailer section too large");
    let grown = proxy.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB, "grew by {grown} KiB");
}

#[test]
fn clients_that_say_nothing_or_little_hold_nobody_up() {
    let origin = Origin::ok("fine");
    let proxy = routed(&origin).start();
    assert_eq!(get(proxy.address(), "/app").status, 200);
    let before = proxy.resident_kib();
    let openings = ["", "GET /app HTTP/1.1\r\nHost: a\r\n", "GET /none HTTP/1.1\r\nHost: a\r\n\r\n"];
    let mut held: Vec<Client> = Vec::new();
    for number in 0..900 {
        let mut client = proxy.client();
        client.send(openings[number % openings.len()]);
        held.push(client);
    }
    for client in held.iter_mut().skip(1).step_by(3) {
        client.send("X-Slow: 1\r\n");
    }
    check_neighbour(&proxy, "/app", "among the silent");
    let grown = proxy.resident_kib().saturating_sub(before);
    assert!(grown < 32 * 900, "grew by {grown} KiB");
    assert!(held[0].is_quiet_for(QUIET), "a silent one was closed early");
}

#[test]
fn memory_that_many_connections_took_is_given_back() {
    let origin = Origin::ok("fine");
    let proxy = routed(&origin).start();
    assert_eq!(get(proxy.address(), "/app").status, 200);
    let before = proxy.resident_kib();
    // Each has a buffer while its head is on its way.
    let many: Vec<Client> = (0..700)
        .map(|_| {
            let mut client = proxy.client();
            client.send(format!("GET / HTTP/1.1\r\nHost: app\r\nX-Long: {}", "x".repeat(15 << 10)));
            client
        })
        .collect();
    let taken = |proxy: &Proxy| proxy.resident_kib().saturating_sub(before);
    eventually("all of them to be accepted and read", || {
        let seen = (proxy.descriptors(), taken(&proxy));
        holds(seen.0 > 700 && seen.1 > 10 << 10, seen)
    });
    drop(many);
    eventually("the memory to be given back", || {
        let taken = taken(&proxy);
        holds(taken < 4 << 10, taken)
    });
}
