//! The life of the processes: start, refusal to start, drain, crash, exhaustion.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::client::{End, get, request};
use crate::harness::origin::ok;
use crate::harness::proxy::{BINARY, run};
use crate::harness::{Builder, Client, Directory, Latch, Origin, Proxy, QUIET, ended, eventually, holds};

/// An origin that answers `/wait` only when told, and everything else at once.
pub fn waiting() -> (Origin, Latch) {
    let go = Latch::default();
    let theirs = go.clone();
    let origin = Origin::scripted(move |c| {
        while let Some(request) = c.next_request()? {
            if request.target() == "/wait" {
                theirs.wait()?;
            }
            c.send(ok("answered"))?;
        }
        Ok(())
    });
    (origin, go)
}

#[test]
fn a_drain_finishes_what_runs_and_closes_what_is_idle() {
    for signal in [Signal::TERM, Signal::INT] {
        let (origin, go) = waiting();
        let mut proxy = Proxy::to(&origin);
        let (mut idle, mut busy) = (proxy.client(), proxy.client());
        let mut fresh = proxy.client();
        assert_eq!(idle.get("/").status, 200);
        busy.send(request("/wait"));
        origin.wait_requests(2);
        proxy.signal(signal);
        assert_eq!(idle.expect_end(), End::Closed);
        assert_eq!(fresh.expect_end(), End::Closed);
        eventually("new connections to be refused", || match Client::try_connect(proxy.address()) {
            Ok(_) => Err("accepted"),
            Err(_) => Ok(()),
        });
        go.open();
        let response = busy.response();
        assert_eq!(response.text(), "answered");
        assert_eq!(response.head.value("connection"), Some("close"));
        assert_eq!(busy.expect_end(), End::Closed);
        assert_eq!(proxy.wait_end(), 0);
        assert_eq!(proxy.log().len(), 2, "the log is written to its end");
    }
}

#[test]
fn a_drain_with_nothing_to_do_is_quick() {
    let origin = Origin::ok("fine");
    let mut proxy = Proxy::to(&origin);
    get(proxy.address(), "/");
    let start = Instant::now();
    assert_eq!(proxy.terminate(), 0);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn a_second_signal_ends_at_once() {
    let (origin, _go) = waiting();
    let mut proxy = Proxy::to(&origin);
    let (mut busy, mut idle) = (proxy.client(), proxy.client());
    idle.get("/");
    busy.send(request("/wait"));
    origin.wait_requests(2);
    proxy.signal(Signal::TERM);
    idle.expect_end();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_end(), 2);
    busy.expect_end();
}

#[test]
fn a_drain_ends_at_its_timeout() {
    let (origin, _go) = waiting();
    let mut proxy = Proxy::with(&origin).server("shutdown_timeout = \"300ms\"").start();
    let mut busy = proxy.client();
    busy.send(request("/wait"));
    origin.wait_requests(1);
    let start = Instant::now();
    assert_eq!(proxy.terminate(), 0);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    busy.expect_end();
    let log = proxy.log();
    assert_eq!(log.len(), 1, "{log:#?}");
    assert_eq!(log[0].status(), 503, "{log:#?}");
    assert_eq!(log[0].text("reason"), "cut at the shutdown timeout", "{log:#?}");
}

#[test]
fn a_killed_data_process_costs_only_the_open_exchanges() {
    let (origin, _go) = waiting();
    let mut proxy = Proxy::to(&origin);
    for round in 1..=2 {
        let mut open = proxy.client();
        open.send(request("/wait"));
        eventually("the open exchange at the origin", || {
            let requests = origin.requests();
            let waiting = requests.iter().filter(|r| r.target() == "/wait").count();
            holds(waiting == round, requests)
        });
        let before = proxy.data_pid();
        proxy.signal_data_process(Signal::KILL);
        open.expect_end();
        for _ in 0..10 {
            assert_eq!(get(proxy.address(), "/").text(), "answered");
        }
        assert_ne!(proxy.data_pid(), before);
    }
    assert_eq!(proxy.terminate(), 0);
}

#[test]
fn connections_that_come_while_there_is_no_data_process_are_served() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::to(&origin);
    let before = proxy.data_pid();
    proxy.signal_data_process(Signal::KILL);
    ended(before);
    let mut clients: Vec<Client> = (0..20).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").text(), "fine");
    }
}

#[test]
fn the_data_process_does_not_outlive_its_master() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::to(&origin);
    let data = proxy.data_pid();
    proxy.signal(Signal::KILL);
    ended(data);
}

#[test]
fn a_second_instance_on_the_port_is_refused() {
    let origin = Origin::ok("first");
    let proxy = Proxy::to(&origin);
    let port = proxy.address().port();
    let second = Proxy::with(&origin).port(port).run();
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains(&port.to_string()), "{second:?}");
    assert!(second.stderr.contains("in use"), "{second:?}");
    for _ in 0..20 {
        assert_eq!(get(proxy.address(), "/").text(), "first");
    }
}

#[test]
fn a_port_that_another_program_has_is_refused() {
    let origin = Origin::ok("fine");
    let other = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = other.local_addr().unwrap().port();
    let refused = Proxy::with(&origin).port(port).run();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains(&port.to_string()), "{refused:?}");
}

#[test]
fn either_driver_can_be_forced_and_serves() {
    for (driver, has_ring) in [("epoll", false), ("io_uring", true), ("auto", true)] {
        let origin = Origin::echo();
        let mut proxy = Proxy::with(&origin)
            .server(&format!("io = \"{driver}\""))
            .limit("head_timeout = \"300ms\"")
            .start();
        assert_eq!(proxy.has_ring(), has_ring, "{driver}");
        basic_exchanges(&proxy);
        assert_eq!(proxy.terminate(), 0, "{driver}");
    }
}

/// Keep-alive, bodies, pipelining, a timeout, a client that leaves.
fn basic_exchanges(proxy: &Proxy) {
    let mut client = proxy.client();
    assert!(client.get("/a").text().starts_with("GET /a "));
    client.send("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert!(client.response_to("POST").text().contains("\n\nhi\n\n"));
    client.send("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("2\r\nhi\r\n0\r\n\r\n");
    assert!(client.response_to("POST").text().contains("\n\nhi\n\n"));
    client.send([request("/d"), request("/e")].concat());
    assert!(client.response().text().starts_with("GET /d "));
    assert!(client.response().text().starts_with("GET /e "));
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status, 200);
    client.send("GET / HTTP/1.1\r\nHost");
    assert_eq!(client.response().status, 408);
    let leaving = proxy.client();
    leaving.reset();
    let mut many: Vec<Client> = (0..50).map(|_| proxy.client()).collect();
    for client in &mut many {
        client.send(request("/many"));
    }
    for client in &mut many {
        assert!(client.response().text().starts_with("GET /many "));
    }
}

#[test]
fn running_out_of_descriptors_neither_kills_nor_spins() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::with(&origin).workers(1).descriptors(64).start();
    assert_eq!(get(proxy.address(), "/").status, 200);
    let pid = proxy.data_pid();
    let mut clients: Vec<Client> = (0..120).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.offer(&request("/"));
    }
    // The first ones are served or refused; that the last ones are not shows the exhaustion.
    let last = clients.last_mut().unwrap();
    last.is_quiet_for(QUIET);
    let before = proxy.processor_time();
    let start = Instant::now();
    clients[119].is_quiet_for(Duration::from_secs(1));
    let (used, passed) = (proxy.processor_time().saturating_sub(before), start.elapsed());
    assert!(used < passed.max(QUIET) / 3, "{used:?} of processor time in {passed:?}");
    drop(clients);
    eventually("it to serve again", || {
        let response = Client::connect(proxy.address()).offer_and_read("/");
        holds(response == Some(200), response)
    });
    assert_eq!(proxy.data_pid(), pid, "the same process all along");
}

/// An origin that says its name and what was asked of it.
fn named(name: &'static str) -> Origin {
    Origin::answering(move |request| ok(&format!("{name} {}", request.target())))
}

#[test]
fn routes_are_tried_in_document_order() {
    let (app, api, admin) = (named("app"), named("api"), named("admin"));
    let proxy = Builder::new()
        .upstream("app", &app, "")
        .upstream("api", &api, "")
        .upstream("admin", &admin, "")
        .route("app", "path_exact = \"/health\"")
        .route("admin", "host = \"Admin.test\"\npath_prefix = \"/\"")
        .route("admin", "host = \"whole.test\"")
        .route("api", "path_prefix = \"/api/v2\"\nstrip_prefix = true")
        .route("api", "path_prefix = \"/api/\"")
        .route("app", "host = \"shop.test\"\npath_prefix = \"/shop\"")
        .start();
    let cases = [
        ("any.test", "/health", "app /health"),
        ("any.test", "/health?x=1", "app /health?x=1"),
        ("any.test", "/health/", "404"),
        ("any.test", "/healthy", "404"),
        ("admin.test", "/health", "app /health"),
        ("admin.test", "/api", "admin /api"),
        ("ADMIN.TEST:8080", "/api", "admin /api"),
        ("whole.test", "/x", "admin /x"),
        ("any.test", "/api/v2", "api /"),
        ("any.test", "/api/v2/", "api /"),
        ("any.test", "/api/v2/users?id=1", "api /users?id=1"),
        ("any.test", "/api/v2?id=1", "api /?id=1"),
        ("any.test", "/api/v20", "api /api/v20"),
        ("any.test", "/api", "api /api"),
        ("any.test", "/apix", "404"),
        ("any.test", "/x/../api/v2/y", "api /y"),
        ("shop.test", "/shop", "app /shop"),
        ("shop.test", "/API", "404"),
        ("any.test", "/shop", "404"),
    ];
    for (host, path, wanted) in cases {
        let mut client = proxy.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let response = client.response();
        let seen = if response.status == 200 { response.text() } else { response.status.to_string() };
        assert_eq!(seen, wanted, "{host}{path}");
    }
    let mut client = proxy.client();
    client.send("GET http://admin.test/abs HTTP/1.1\r\nHost: any.test\r\n\r\n");
    assert_eq!(client.response().text(), "admin /abs", "the target's host is the host");
    let lines = proxy.log_lines(5, |line| line.status() == 404);
    assert!(lines.iter().all(|line| !line.text("reason").is_empty()), "{lines:#?}");
}

#[test]
fn instances_take_turns() {
    let names = ["a", "b", "c"];
    let origins: Vec<Origin> = names.into_iter().map(named).collect();
    let instances: String =
        origins.iter().map(|origin| format!("[[upstreams.app.instances]]\n{}", origin.toml())).collect();
    let proxy = Builder::new()
        .toml(&format!("[upstreams.app]\nstrategy = \"round_robin\"\n{instances}"))
        .route("app", "path_prefix = \"/\"")
        .workers(1)
        .start();
    let mut client = proxy.client();
    for _ in 0..9 {
        assert_eq!(client.get("/").status, 200);
    }
    let counts: Vec<usize> = origins.iter().map(|origin| origin.requests().len()).collect();
    assert_eq!(counts, [3, 3, 3]);
}

#[test]
fn a_name_is_resolved() {
    let origin = Origin::ok("by name");
    let port = origin.address().port();
    let upstream = format!("[upstreams.app]\nhost = \"localhost\"\nport = {port}\n");
    let proxy = Builder::new().toml(&upstream).route("app", "path_prefix = \"/\"").start();
    assert_eq!(get(proxy.address(), "/").text(), "by name");
}

#[test]
fn without_routes_everything_is_404() {
    let proxy = Builder::new().start();
    let response = get(proxy.address(), "/");
    assert_eq!(response.status, 404);
    assert!(!proxy.log_line(404).text("reason").is_empty());
}

#[test]
fn the_environment_alone_is_enough() {
    let origin = Origin::ok("simple");
    for with_run in [true, false] {
        let directory = Directory::fresh();
        let mut command = Command::new(BINARY);
        command.args(with_run.then_some("run"));
        command.env("WARPDRIVE_TARGET_HOST", "127.0.0.1");
        command.env("WARPDRIVE_TARGET_PORT", origin.address().port().to_string());
        command.env("WARPDRIVE_HTTP_PORT", "0");
        let log = directory.path().join("none");
        let mut proxy = Proxy::spawn(command, log, directory);
        assert_eq!(get(proxy.address(), "/any/path").text(), "simple");
        assert_eq!(proxy.terminate(), 0);
    }
}

#[test]
fn a_bad_variable_is_named() {
    let mut command = Command::new(BINARY);
    command.current_dir(std::env::temp_dir()).env("WARPDRIVE_TARGET_PORT", "many");
    let refused = run(&mut command);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("WARPDRIVE_TARGET_PORT"), "{refused:?}");
}

#[test]
fn a_file_alone_is_enough_to_run() {
    let origin = Origin::ok("fine");
    let directory = Directory::fresh();
    let path = directory.path().join("any.toml");
    let settings = Proxy::with(&origin);
    std::fs::write(&path, settings.text()).unwrap();
    let mut command = Command::new(BINARY);
    command.arg("-c").arg(path);
    let log = directory.path().join("none");
    let proxy = Proxy::spawn(command, log, directory);
    assert_eq!(get(proxy.address(), "/").text(), "fine");
}

#[test]
fn check_tells_by_its_exit_code() {
    let origin = Origin::ok("unused");
    let right = Proxy::with(&origin).check();
    assert_eq!(right.code, Some(0), "{right:?}");

    // What is written; what has to be said of it.
    let wrong = [
        ("[serve]", "serve"),
        ("[[routes]]\npath_prefix = \"/x\"\nupstream = \"ap\"", "app"),
        ("[[routes]]\npath_prefix = \"x\"\nupstream = \"app\"", "path_prefix"),
        ("[[routes]]\npath_regex = \"^/(x\"\nupstream = \"app\"", "path_regex"),
        ("[upstreams.b]\nhost = \"127.0.0.1\"\nport = 99999", "port"),
        ("[upstreams.b]\nhost = \"127.0.0.1\"\nport = 1\nread_timeout = \"soon\"", "read_timeout"),
        ("this is no TOML", "warpdrive.toml:"),
    ];
    for (text, told) in wrong {
        let seen = Proxy::with(&origin).toml(text).check();
        let said = format!("{}{}", seen.stdout, seen.stderr);
        assert_eq!(seen.code, Some(1), "{text}: {said}");
        assert!(said.contains(told), "{text}: {said}");
        assert!(said.contains("warpdrive.toml:"), "{text}: no place in {said}");
        assert_eq!(Proxy::with(&origin).toml(text).run().code, Some(1), "{text}: run");
    }
    let absent = run(Command::new(BINARY).args(["check", "-c", "/nonexistent/file"]));
    assert_eq!(absent.code, Some(1), "{absent:?}");
}

#[test]
fn check_tells_every_mistake_at_once() {
    let origin = Origin::ok("unused");
    let seen = Proxy::with(&origin)
        .server("worker_thread = 3")
        .limit("head_timeout = \"later\"")
        .toml("[[routes]]\npath_prefix = \"/x\"\nupstream = \"nowhere\"")
        .check();
    let said = format!("{}{}", seen.stdout, seen.stderr);
    for told in ["worker_threads", "head_timeout", "nowhere"] {
        assert!(said.contains(told), "{told} in {said}");
    }
}

#[test]
fn nothing_is_lost_while_many_clients_come_and_go() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::to(&origin);
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let mut client = proxy.client();
                    let fine = (0..4).all(|_| client.get("/").text() == "fine");
                    failed.fetch_or(!fine, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(!failed.into_inner());
    assert_eq!(proxy.log_lines(1600, |line| line.status() == 200).len(), 1600);
}
