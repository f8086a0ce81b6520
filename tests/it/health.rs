//! Active checks: who is asked and how, what takes an endpoint out, what brings it back.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::harness::client::get;
use crate::harness::origin::{Request, ok};
use crate::harness::{BOUND, Builder, Latch, Origin, Proxy, eventually, holds};

/// Checks that come often; where nothing else is said, two failures take an endpoint down and
/// two successes bring it back.
const OFTEN: &str = "interval = \"50ms\"\ntimeout = \"5s\"\nunhealthy_threshold = 2\nhealthy_threshold = 2\n";

const CHECKS: &str = "/health";

/// The status that an origin answers a check with, which a test may change.
#[derive(Clone)]
struct Doctor(Arc<AtomicUsize>);

impl Doctor {
    fn saying(status: usize) -> Doctor {
        Doctor(Arc::new(AtomicUsize::new(status)))
    }

    fn say(&self, status: usize) {
        self.0.store(status, Ordering::SeqCst);
    }

    fn answer(&self, name: &str, request: &Request) -> Vec<u8> {
        match request.target() {
            CHECKS => {
                let status = self.0.load(Ordering::SeqCst);
                format!("HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n").into_bytes()
            }
            _ => ok(name),
        }
    }

    fn origin(&self, name: &'static str) -> Origin {
        let doctor = self.clone();
        Origin::answering(move |request| doctor.answer(name, request))
    }
}

fn checks(origin: &Origin) -> Vec<Request> {
    origin.requests().into_iter().filter(|request| request.target() == CHECKS).collect()
}

/// Waits for so many more checks.
fn wait_checks(origin: &Origin, more: usize) {
    let before = checks(origin).len();
    eventually("more checks", || {
        let now = checks(origin).len();
        holds(now >= before + more, now)
    });
}

/// All origins as instances of one upstream, on one core so that turns are taken strictly.
fn pool(origins: &[&Origin], more: &str) -> Builder {
    let instance = |origin: &&Origin| format!("[[upstreams.app.instances]]\n{}", origin.toml());
    let instances: String = origins.iter().map(instance).collect();
    let health = format!("[upstreams.app.health]\npath = \"{CHECKS}\"\n{more}");
    Builder::new().workers(1).toml(&format!("{instances}{health}")).route("app", "path_prefix = \"/\"")
}

#[test]
fn an_endpoint_that_fails_its_checks_gets_no_requests_until_it_passes_them() {
    let (sick, well) = (Doctor::saying(200), Doctor::saying(200));
    let (a, b) = (sick.origin("a"), well.origin("b"));
    let proxy = pool(&[&a, &b], OFTEN).start();
    assert_eq!(proxy.answering(), ["a", "b"]);
    sick.say(503);
    proxy.until_answering(&["b"]);
    proxy.stderr_contains(&format!("{} of upstream app is down: its status is 503", a.address()));
    let before = a.requests().len() - checks(&a).len();
    assert_eq!(proxy.answering(), ["b"]);
    assert_eq!(a.requests().len() - checks(&a).len(), before);
    sick.say(200);
    proxy.until_answering(&["a", "b"]);
    proxy.stderr_contains(&format!("{} of upstream app is up again", a.address()));
    // One line for each change, however many checks there were.
    wait_checks(&a, 3);
    let told = proxy.stderr().iter().filter(|line| line.contains("of upstream app is")).count();
    assert_eq!(told, 2, "{:#?}", proxy.stderr());
}

#[test]
fn a_check_is_a_request_of_its_own_on_a_connection_of_its_own() {
    let origin = Doctor::saying(200).origin("a");
    let socket = Origin::answering_unix(|_| ok("b"));
    let more = format!("{OFTEN}host = \"app.example\"");
    let _proxy = pool(&[&origin, &socket], &more).start();
    wait_checks(&origin, 2);
    let all = checks(&origin);
    let port = origin.address().port();
    assert!(port > 0);
    for request in &all[..2] {
        assert_eq!(request.head.start, "GET /health HTTP/1.1");
        assert_eq!(request.head.values("host"), ["app.example"]);
        assert_eq!(request.head.values("user-agent"), ["warpdrive-health"]);
        assert_eq!(request.head.values("connection"), ["close"]);
    }
    assert_ne!(all[0].connection, all[1].connection);
    assert_eq!(origin.wait_end(all[0].connection), "done");
    wait_checks(&socket, 1);
}

#[test]
fn failures_below_the_threshold_change_nothing() {
    let count = AtomicUsize::new(0);
    let origin = Origin::answering(move |request| {
        let is_check = request.target() == CHECKS;
        // Two failures after each success.
        match is_check && !count.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) {
            true => b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
            false => ok("a"),
        }
    });
    let more = "interval = \"20ms\"\nunhealthy_threshold = 3\nhealthy_threshold = 1";
    let proxy = pool(&[&origin], more).start();
    for _ in 0..5 {
        wait_checks(&origin, 4);
        assert_eq!(proxy.answering(), ["a"]);
    }
    let told = proxy.stderr();
    assert!(!told.iter().any(|line| line.contains("is down")), "{told:#?}");
}

#[test]
fn every_way_to_fail_a_check_takes_an_endpoint_down_at_start() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let refusing = free.local_addr().unwrap();
    drop(free);
    let (hang, silent) = (Latch::default(), Latch::default());
    let (hanging, mute) = (hang.clone(), silent.clone());
    let origins = [
        (
            "no response in time",
            Origin::scripted(move |c| {
                c.expect_head()?;
                hanging.wait()
            }),
        ),
        (
            "no response in time",
            Origin::scripted(move |c| {
                c.expect_head()?;
                c.send("HTTP/1.1 200 OK\r\nX-Slow: ")?;
                mute.wait()
            }),
        ),
        ("it closed the connection without a response", Origin::scripted(|c| c.expect_head().map(drop))),
        (
            "the connection broke: ",
            Origin::scripted(|c| {
                c.expect_head()?;
                c.reset()
            }),
        ),
        (
            "its response is malformed: ",
            Origin::scripted(|c| {
                c.expect_head()?;
                c.send("220 mail.example ESMTP\r\n")
            }),
        ),
        (
            "its status is 404",
            Origin::answering(|_| b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ),
    ];
    let all: Vec<&Origin> = origins.iter().map(|(_, origin)| origin).collect();
    let gone = format!("[[upstreams.app.instances]]\nhost = \"127.0.0.1\"\nport = {}\n", refusing.port());
    let absent = "[[upstreams.app.instances]]\nsocket = \"/nonexistent/socket\"\n";
    let builder = Builder::new().toml(&format!("{gone}{absent}"));
    let instances: String =
        all.iter().map(|origin| format!("[[upstreams.app.instances]]\n{}", origin.toml())).collect();
    let health = "[upstreams.app.health]\npath = \"/health\"\ninterval = \"1h\"\ntimeout = \"300ms\"\n\
                  unhealthy_threshold = 3\n";
    let proxy = builder.toml(&format!("{instances}{health}")).route("app", "path_prefix = \"/\"").start();
    // The first round is over before anybody is served, and the first result counts.
    let start = Instant::now();
    let response = get(proxy.address(), "/");
    assert_eq!(response.status, 503);
    assert_eq!(proxy.log_line(503).text("reason"), "upstream has no usable endpoint");
    assert!(start.elapsed() < BOUND / 2);
    for (reason, origin) in &origins {
        proxy.stderr_contains(&format!("{} of upstream app is down: {reason}", origin.address()));
    }
    proxy.stderr_contains(&format!("{refusing} of upstream app is down: connecting failed: "));
    proxy.stderr_contains("unix:/nonexistent/socket of upstream app is down: connecting failed: ");
    hang.open();
    silent.open();
}

#[test]
fn a_check_that_hangs_delays_no_other() {
    let latch = Latch::default();
    let theirs = latch.clone();
    let hanging = Origin::scripted(move |c| {
        c.expect_head()?;
        theirs.wait()
    });
    let well = Doctor::saying(200).origin("b");
    let proxy = pool(&[&hanging, &well], "interval = \"20ms\"\ntimeout = \"2s\"").start();
    // While the second check of the one waits, the other is asked again and again.
    let before = hanging.requests().len();
    wait_checks(&well, 10);
    assert!(hanging.requests().len() <= before + 3);
    proxy.until_answering(&["b"]);
    latch.open();
}

#[test]
fn a_socket_that_appears_comes_up() {
    let doctor = Doctor::saying(500);
    let theirs = doctor.clone();
    let origin = Origin::answering_unix(move |request| theirs.answer("a", request));
    let proxy = pool(&[&origin], OFTEN).start();
    assert_eq!(get(proxy.address(), "/").status, 503);
    doctor.say(200);
    proxy.until_answering(&["a"]);
    doctor.say(500);
    proxy.until_answering(&["503"]);
}

#[test]
fn the_statuses_of_a_success_can_be_chosen() {
    let cases = [
        ("", 302, true),
        ("", 404, false),
        ("expect_status = 404", 404, true),
        ("expect_status = 404", 200, false),
        ("expect_status = [204, \"400-499\"]", 418, true),
        ("expect_status = [204, \"400-499\"]", 200, false),
    ];
    for (more, status, is_up) in cases {
        let origin = Doctor::saying(status).origin("a");
        let proxy = pool(&[&origin], more).start();
        let expected = if is_up { 200 } else { 503 };
        assert_eq!(get(proxy.address(), "/").status, expected, "{more} {status}");
    }
}

/// Longer than the start waits.
#[test]
fn an_endpoint_without_a_result_is_what_it_is_said_to_be() {
    for (initial, expected) in [("up", 200), ("down", 503)] {
        let latch = Latch::default();
        let theirs = latch.clone();
        let origin = Origin::scripted(move |c| {
            while let Some(request) = c.next_request()? {
                if request.target() == CHECKS {
                    theirs.wait()?;
                }
                c.send(ok("a"))?;
            }
            Ok(())
        });
        let more = format!("timeout = \"60s\"\ninitial = \"{initial}\"");
        let proxy = pool(&[&origin], &more).start();
        proxy.stderr_contains("not all endpoints are checked yet; starting without");
        assert_eq!(get(proxy.address(), "/").status, expected);
        latch.open();
        proxy.until_answering(&["a"]);
    }
}

#[test]
fn an_upstream_without_checks_is_not_asked() {
    let origin = Origin::ok("a");
    let proxy = Proxy::to(&origin);
    assert_eq!(get(proxy.address(), "/").status, 200);
    assert_eq!(origin.requests().len(), 1);
}
