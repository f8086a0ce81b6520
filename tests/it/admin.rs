//! What operators and their programs are told of the running process, and what they are not.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::client::get;
use crate::harness::origin::ok;
use crate::harness::proxy::{BINARY, run};
use crate::harness::wire::{Body, Framing, Reader, Stream, framing};
use crate::harness::{
    BOUND, Builder, Client, Latch, Origin, Proxy, eventually, eventually_within, free_port, holds,
};
use crate::numbers::Numbers;
use crate::tunnels::{agree, tunnel};

pub const LISTEN: &str = "[admin]\nlisten = \"127.0.0.1:0\"\nsocket = \"admin.sock\"\n";

/// Where the proxy says that its numbers are.
pub fn admin(proxy: &Proxy) -> SocketAddr {
    let line = proxy.stderr_contains("metrics and status are at http://");
    let at = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
    at.and_then(|at| at.parse().ok()).unwrap_or_else(|| panic!("no address in {line}"))
}

fn status(at: SocketAddr, path: &str) -> u16 {
    ask(at, &format!("GET {path}"), &format!("Host: {at}")).0
}

/// Status and body of the answer to a request with these lines.
pub fn ask(at: SocketAddr, start: &str, fields: &str) -> (u16, String) {
    let mut client = Client::connect(at);
    client.send(format!("{start} HTTP/1.1\r\n{fields}\r\n\r\n"));
    let response = client.response_to(start.split(' ').next().unwrap());
    (response.status, response.text())
}

fn json(at: SocketAddr) -> Value {
    let (status, text) = ask(at, "GET /status", "Host: localhost");
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// The same over the Unix socket.
pub fn ask_socket(proxy: &Proxy, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(proxy.directory().join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = Reader::new(Stream::Unix(stream));
    let head = reader.head().unwrap();
    let mut body = Body::default();
    let length = framing(&head, Framing::UntilClose).unwrap();
    reader.body(length, &mut body).unwrap();
    (head.word(1).parse().unwrap(), String::from_utf8(body.bytes).unwrap())
}

#[test]
fn what_happened_is_in_the_numbers() {
    let origin = Origin::answering(|request| match request.target() {
        "/api/missing" => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => ok("hello"),
    });
    let routes = "[[routes]]\ndescription = \"The \\\"best\\\" one\"\npath_exact = \"/best\"\nupstream = \"app\"\n\
                  [[routes]]\npath_exact = \"/old\"\nredirect = { to = \"/new\" }\n";
    let builder =
        Builder::new().upstream("app", &origin, "").toml(routes).route("app", "path_prefix = \"/api\"");
    let proxy = builder.toml("[upstreams.gone]\nsocket = \"gone\"\n").route("gone", "path_exact = \"/gone\"");
    let proxy = proxy.toml(LISTEN).start();
    let mut client = proxy.client();
    for path in ["/api/a", "/api/b", "/api/missing", "/best", "/old", "/gone", "/nowhere"] {
        client.get(path);
    }
    let post = "POST /api/up HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(client.send(post).response_to("POST").status, 200);
    let at = admin(&proxy);
    let numbers = eventually("all requests to be counted", || {
        let numbers = Numbers::read(at);
        holds(numbers.sum("warpdrive_worker_requests_total", &[]) == 8.0, numbers.text.clone())
            .map(|()| numbers)
    });
    let cases = [
        ("warpdrive_requests_total", vec![("route", "/api/*"), ("code", "2xx")], 3.0),
        ("warpdrive_requests_total", vec![("route", "/api/*"), ("code", "4xx")], 1.0),
        ("warpdrive_requests_total", vec![("route", "The \"best\" one"), ("code", "2xx")], 1.0),
        ("warpdrive_requests_total", vec![("route", "= /old"), ("code", "3xx")], 1.0),
        ("warpdrive_requests_total", vec![("route", "= /gone"), ("code", "5xx")], 1.0),
        ("warpdrive_requests_total", vec![("route", "(none)"), ("code", "4xx")], 1.0),
        ("warpdrive_request_bytes_total", vec![("route", "/api/*")], 3.0),
        ("warpdrive_response_bytes_total", vec![("route", "/api/*")], 15.0),
        ("warpdrive_request_duration_seconds_count", vec![("route", "/api/*")], 4.0),
        ("warpdrive_upstream_response_seconds_count", vec![("upstream", "app")], 5.0),
        ("warpdrive_upstream_connect_seconds_count", vec![("upstream", "app")], 1.0),
        ("warpdrive_upstream_failures_total", vec![("upstream", "gone"), ("kind", "connect")], 1.0),
        ("warpdrive_upstream_failures_total", vec![("upstream", "app"), ("kind", "connect")], 0.0),
        ("warpdrive_connections_accepted_total", vec![], 1.0),
        ("warpdrive_connections_denied_total", vec![("limit", "connections")], 0.0),
        ("warpdrive_worker_connections", vec![], 1.0),
        ("warpdrive_worker_up", vec![], 2.0),
        ("warpdrive_ready", vec![], 1.0),
        ("warpdrive_endpoint_up", vec![("upstream", "app")], 1.0),
        ("warpdrive_endpoint_idle_connections", vec![("upstream", "app")], 1.0),
        ("warpdrive_log_dropped_lines_total", vec![], 0.0),
        ("warpdrive_dropped_spans_total", vec![], 0.0),
        ("warpdrive_panics_total", vec![], 0.0),
    ];
    for (name, labels, expected) in cases {
        assert_eq!(numbers.sum(name, &labels), expected, "{name} {labels:?} in\n{}", numbers.text);
    }
    let place =
        numbers.text.lines().find(|line| line.starts_with("warpdrive_route_info{route=\"/api/*\"")).unwrap();
    assert!(place.contains("place=\"warpdrive.toml:") || place.contains("/warpdrive.toml:"), "{place}");
    let seen = json(at);
    assert_eq!((&seen["requests"], &seen["state"]), (&8.into(), &"serving".into()), "{seen:#}");
    assert_eq!(seen["upstreams"][0]["endpoints"][0]["idle_connections"], 1, "{seen:#}");
    numbers.check();
}

#[test]
fn what_waits_and_what_is_denied_is_in_the_numbers() {
    let latch = Latch::default();
    let wait = latch.clone();
    let origin = Origin::answering(move |request| {
        if request.target() == "/slow" {
            wait.wait().unwrap();
        }
        ok("hello")
    });
    let builder = Proxy::with_upstream(&origin, "max_connections = 1\nqueue = 1\n").workers(1);
    let proxy = builder.limit("connections_per_ip = 3").toml(LISTEN).start();
    let at = admin(&proxy);
    let (mut slow, mut queued) = (proxy.client(), proxy.client());
    slow.send(crate::harness::client::request("/slow"));
    let labels = [("upstream", "app")];
    let until = |name: &str, expected: f64| {
        eventually(&format!("{name} to be {expected}"), || {
            let numbers = Numbers::read(at);
            holds(numbers.sum(name, &labels) == expected, numbers.text)
        });
    };
    until("warpdrive_endpoint_in_flight", 1.0);
    queued.send(crate::harness::client::request("/queued"));
    until("warpdrive_upstream_queued", 1.0);
    let mut third = proxy.client();
    assert_eq!(third.get("/full").status, 503);
    // It still lives: whoever comes now is one too many.
    assert_eq!(get(proxy.address(), "/").status, 429);
    latch.open();
    assert_eq!((slow.response().status, queued.response().status), (200, 200));
    let numbers = eventually("four to be counted", || {
        let numbers = Numbers::read(at);
        holds(numbers.sum("warpdrive_worker_requests_total", &[]) == 4.0, numbers.text.clone())
            .map(|()| numbers)
    });
    let rejected = [("upstream", "app"), ("reason", "queue_full")];
    assert_eq!(numbers.sum("warpdrive_upstream_rejections_total", &rejected), 1.0);
    assert_eq!(numbers.sum("warpdrive_connections_denied_total", &[("limit", "connections_per_ip")]), 1.0);
    assert_eq!(numbers.sum("warpdrive_requests_total", &[("route", "(none)"), ("code", "4xx")]), 1.0);
    assert_eq!(numbers.sum("warpdrive_upstream_queued", &[]), 0.0);
}

#[test]
fn counts_outlive_a_reload_by_the_names_of_routes() {
    let origin = Origin::ok("hello");
    let route = |path: &str| format!("[[routes]]\npath_exact = \"{path}\"\nupstream = \"app\"\n");
    let builder = Builder::new().upstream("app", &origin, "").toml(LISTEN).toml(&route("/kept"));
    let before = builder.text();
    let proxy = builder.toml(&route("/gone")).start();
    let at = admin(&proxy);
    let mut client = proxy.client();
    for path in ["/kept", "/gone"] {
        assert_eq!(client.get(path).status, 200);
    }
    // Another line above it, and another route instead of one.
    let text = format!("# One more line.\n{before}{}", route("/new"));
    std::fs::write(proxy.directory().join("warpdrive.toml"), text).unwrap();
    let reload = "POST /reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    let (status, text) = ask_socket(&proxy, reload);
    assert_eq!(status, 200, "{text}");
    for path in ["/kept", "/new"] {
        assert_eq!(client.get(path).status, 200);
    }
    std::fs::write(proxy.directory().join("warpdrive.toml"), "wrong").unwrap();
    assert_eq!(ask_socket(&proxy, reload).0, 422);
    let numbers = eventually("four requests to be counted", || {
        let numbers = Numbers::read(at);
        holds(numbers.sum("warpdrive_worker_requests_total", &[]) == 4.0, numbers.text.clone())
            .map(|()| numbers)
    });
    let requests = |route: &str| numbers.sum("warpdrive_requests_total", &[("route", route)]);
    assert_eq!((requests("= /kept"), requests("= /new")), (2.0, 1.0), "{}", numbers.text);
    assert!(!numbers.text.contains("\"= /gone\""), "{}", numbers.text);
    assert_eq!(numbers.sum("warpdrive_upstream_response_seconds_count", &[("upstream", "app")]), 4.0);
    assert_eq!(numbers.sum("warpdrive_generation", &[]), 2.0);
    for result in ["done", "refused"] {
        assert_eq!(numbers.sum("warpdrive_reloads_total", &[("result", result)]), 1.0, "{result}");
    }
    numbers.check();
}

#[test]
fn a_tunnel_is_open_until_it_ends_and_counts_as_a_request_then() {
    let origin = Origin::scripted(|c| {
        agree(c, "")?;
        c.expect_close()
    });
    let proxy = Proxy::with(&origin).toml(LISTEN).start();
    let at = admin(&proxy);
    let client = tunnel(&proxy, "");
    let numbers = eventually("the tunnel to be open", || {
        let numbers = Numbers::read(at);
        holds(numbers.sum("warpdrive_tunnels_open", &[]) == 1.0, numbers.text.clone()).map(|()| numbers)
    });
    assert_eq!(numbers.sum("warpdrive_worker_requests_total", &[]), 0.0);
    drop(client);
    eventually("the tunnel to be counted", || {
        let numbers = Numbers::read(at);
        holds(numbers.sum("warpdrive_worker_requests_total", &[]) == 1.0, numbers.text)
    });
    // A page is read number by number: only one that begins after that has all of them.
    let numbers = Numbers::read(at);
    assert_eq!(numbers.sum("warpdrive_tunnels_open", &[]), 0.0);
    assert_eq!(numbers.sum("warpdrive_tunnels_total", &[]), 1.0);
    assert_eq!(numbers.sum("warpdrive_requests_total", &[("route", "/*"), ("code", "1xx")]), 1.0);
    assert_eq!(numbers.sum("warpdrive_upstream_response_seconds_count", &[("upstream", "app")]), 1.0);
}

#[test]
fn retries_and_ejections_are_in_the_numbers() {
    let origin = Origin::ok("hello");
    let instances = format!(
        "[upstreams.app]\nmax_fails = 1\n[[upstreams.app.instances]]\nsocket = \"gone\"\n\
         [[upstreams.app.instances]]\n{}",
        origin.toml()
    );
    let proxy = Builder::new().workers(1).toml(&instances).route("app", "").toml(LISTEN).start();
    for _ in 0..4 {
        assert_eq!(get(proxy.address(), "/").status, 200);
    }
    let numbers = Numbers::read(admin(&proxy));
    let of = |name: &str| numbers.sum(name, &[("upstream", "app")]);
    assert_eq!(of("warpdrive_upstream_retries_total"), 1.0, "{}", numbers.text);
    assert_eq!(of("warpdrive_upstream_ejections_total"), 1.0);
    assert_eq!(of("warpdrive_endpoint_ejected"), 1.0);
    assert_eq!(of("warpdrive_endpoint_up"), 2.0);
    let gone = [("upstream", "app"), ("endpoint", "unix:gone")];
    assert_eq!(numbers.sum("warpdrive_endpoint_ejected", &gone), 1.0);
}

#[test]
fn ready_is_who_serves() {
    let latch = Latch::default();
    let hold = latch.clone();
    let origin = Origin::answering(move |request| {
        if request.target() == "/health" {
            hold.wait().unwrap();
        }
        ok("hello")
    });
    let port = free_port();
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let health = "[upstreams.app.health]\npath = \"/health\"\ntimeout = \"10s\"\n";
    let admin = format!("[admin]\nlisten = \"{at}\"\n");
    let builder = Proxy::with(&origin).toml(health).toml(&admin).server("shutdown_timeout = \"10s\"");
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| builder.start());
        // The first check has no answer yet, so nobody listens.
        eventually("the word that it starts", || {
            let Ok(mut client) = Client::try_connect(at) else { return Err((0, String::new())) };
            client.send(format!("GET /readyz HTTP/1.1\r\nHost: {at}\r\n\r\n"));
            let answer = client.response();
            let (status, text) = (answer.status, answer.text());
            holds(status == 503 && text == "starting\n", (status, text))
        });
        assert_eq!(status(at, "/healthz"), 200);
        // The checks are waited for only so long, which on a loaded machine may be over.
        let (metrics, ready) = (status(at, "/metrics"), status(at, "/readyz"));
        assert!(metrics == 503 || ready == 200, "{metrics} {ready}");
        latch.open();
        let mut proxy = starting.join().unwrap();
        assert_eq!(status(at, "/readyz"), 200);
        // A request that is not whole keeps the process until it is.
        let mut slow = proxy.client();
        slow.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
        slow.until_taken();
        proxy.signal(Signal::TERM);
        eventually("the drain to be told", || {
            let answer = ask(at, "GET /readyz", "Host: localhost");
            holds(answer == (503, "draining\n".to_owned()), answer)
        });
        assert_eq!(status(at, "/healthz"), 200);
        assert_eq!(Numbers::read(at).sum("warpdrive_ready", &[]), 0.0);
        slow.send("12345");
        assert_eq!(slow.response_to("POST").status, 200);
        assert_eq!(proxy.wait_end(), 0);
    });
}

/// A thread of another process that does not run; it does again when this is dropped.
struct Stopped(libc::pid_t);

impl Stopped {
    /// `None` where that is not allowed, as in some containers.
    #[allow(unsafe_code)]
    fn stop(thread: libc::pid_t) -> Option<Stopped> {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: neither call reads or writes memory of ours.
        let is_seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, thread, nothing, nothing) } == 0;
        // SAFETY: as above.
        let is_stopped =
            is_seized && unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, thread, nothing, nothing) } == 0;
        is_stopped.then_some(Stopped(thread))
    }
}

impl Drop for Stopped {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: it has been stopped, and is waited for before it is let go.
        unsafe {
            libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL);
            libc::ptrace(libc::PTRACE_DETACH, self.0, nothing, nothing);
        }
    }
}

/// The thread of a process that has this name.
fn thread(pid: u32, name: &str) -> libc::pid_t {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let named = |path: &std::path::Path| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let mut found = threads.filter(|entry| named(&entry.path()));
    found.next().unwrap().file_name().to_str().unwrap().parse().unwrap()
}

#[test]
fn a_worker_that_is_stuck_is_told_of() {
    let origin = Origin::ok("hello");
    let proxy = Proxy::with(&origin).toml(LISTEN).start();
    let at = admin(&proxy);
    assert_eq!(ask(at, "GET /healthz", "Host: localhost"), (200, "ok\n".to_owned()));
    let Some(stopped) = Stopped::stop(thread(proxy.data_pid(), "worker-1")) else {
        return eprintln!("threads cannot be stopped here");
    };
    eventually_within(BOUND * 3, "the word that a worker is stuck", || {
        let answer = ask(at, "GET /healthz", "Host: localhost");
        holds(answer.0 == 503 && answer.1.starts_with("worker 1 has not responded for "), answer)
    });
    // The others are told of as ever.
    let numbers = Numbers::read(at);
    assert_eq!(numbers.sum("warpdrive_worker_up", &[("worker", "0")]), 1.0);
    assert_eq!(numbers.sum("warpdrive_worker_up", &[("worker", "1")]), 0.0);
    assert_eq!(json(at)["workers"][1]["responds"], false);
    drop(stopped);
    eventually("the worker to respond again", || {
        let answer = ask(at, "GET /healthz", "Host: localhost");
        holds(answer.0 == 200, answer)
    });
}

#[test]
fn only_the_socket_changes_anything() {
    let proxy = crate::supervision::app(crate::supervision::builder(), "web", "").toml(LISTEN).start();
    let at = admin(&proxy);
    let before = crate::supervision::pid(&proxy, "/web/");
    let restart = "POST /children/web/restart";
    let (status, text) = ask(at, restart, "Host: localhost\r\nContent-Length: 0");
    assert_eq!(status, 403, "{text}");
    assert_eq!(ask(at, "GET /children/web/restart", "Host: localhost").0, 405);
    assert_eq!(crate::supervision::pid(&proxy, "/web/"), before);
    let over = |start: &str| {
        ask_socket(&proxy, &format!("{start} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"))
    };
    assert_eq!(over(restart), (200, "done\n".to_owned()));
    assert_ne!(crate::supervision::pid(&proxy, "/web/"), before);
    let (status, text) = over("POST /children/wbe/restart");
    assert_eq!((status, text.as_str()), (404, "`wbe` has no command; there are `web`\n"));
    let seen: Value = serde_json::from_str(&over("GET /status").1).unwrap();
    assert_eq!(seen["children"][0]["state"], "ready", "{seen:#}");
    // The same for people.
    let file = proxy.directory().join("warpdrive.toml");
    let text = run(Command::new(BINARY).args(["status", "-c"]).arg(file).current_dir(proxy.directory()));
    assert!(text.stdout.contains("\nweb      ready  "), "{text:?}");
    assert!(text.stdout.starts_with("version      "), "{text:?}");
}

#[test]
fn who_bends_a_name_to_this_machine_sees_nothing() {
    let origin = Origin::ok("hello");
    let proxy = Proxy::with(&origin).toml(LISTEN).start();
    let at = admin(&proxy);
    for path in ["/", "/status", "/metrics", "/healthz", "/readyz"] {
        assert_eq!(ask(at, &format!("GET {path}"), "Host: rebound.example:9180").0, 403, "{path}");
        assert_eq!(ask(at, &format!("GET {path}"), "Host: localhost:9180").0, 200, "{path}");
        assert_eq!(ask(at, &format!("HEAD {path}"), &format!("Host: {at}")), (200, String::new()), "{path}");
        assert_eq!(ask(at, &format!("POST {path}"), "Host: localhost\r\nContent-Length: 0").0, 405, "{path}");
    }
    assert_eq!(status(at, "/nothing"), 404);
}

#[test]
fn with_a_token_nothing_is_told_without_it() {
    let origin = Origin::ok("hello");
    let table = "[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"token\"\n";
    let builder = Proxy::with(&origin).file("token", "0123456789abcdef\n").toml(table);
    let proxy = builder.start();
    let at = admin(&proxy);
    let host = "Host: metrics.example";
    for path in ["/", "/status", "/metrics", "/nothing"] {
        let start = format!("GET {path}");
        assert_eq!(ask(at, &start, host).0, 401, "{path}");
        assert_eq!(
            ask(at, &start, &format!("{host}\r\nAuthorization: Bearer 0123456789abcdeF")).0,
            401,
            "{path}"
        );
        let status = ask(at, &start, &format!("{host}\r\nAuthorization: Bearer 0123456789abcdef")).0;
        assert_eq!(status, if path == "/nothing" { 404 } else { 200 }, "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(at, &format!("GET {path}"), host), (200, "ok\n".to_owned()), "{path}");
    }
    let log = proxy.stderr().join("\n");
    assert!(!log.contains("0123456789abcdef"), "{log}");
}

#[test]
fn a_port_that_is_taken_keeps_nothing_from_being_served() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = other.local_addr().unwrap();
    let origin = Origin::ok("hello");
    let proxy = Proxy::with(&origin).toml(&format!("[admin]\nlisten = \"{at}\"\n")).start();
    proxy.stderr_contains(&format!("cannot listen on {at}, which is `listen` of [admin]"));
    assert_eq!(get(proxy.address(), "/").status, 200);
    drop(other);
    proxy.stderr_contains(&format!("metrics and status are at http://{at}/"));
    assert_eq!(status(at, "/readyz"), 200);
}
