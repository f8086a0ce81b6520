//! Instances that fail: which requests notice, for how long, and who gets them instead.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::client::{Client, request};
use crate::harness::origin::{Connection, ok};
use crate::harness::{Builder, Latch, Origin, Proxy, QUIET, eventually, holds};

const STRATEGIES: [&str; 6] =
    ["round_robin", "least_conn", "random", "ip_hash", "p2c", "consistent_hash\"\nhash_key = \"path"];

/// How one of three instances fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Refuses,
    /// Accepts, and never answers.
    Hangs,
    ResetsBeforeHead,
    ResetsInHead,
    CutsBody,
    SaysGarbage,
    IsSlow,
    Answers500,
}

const FAULTS: [Fault; 8] = [
    Fault::Refuses,
    Fault::Hangs,
    Fault::ResetsBeforeHead,
    Fault::ResetsInHead,
    Fault::CutsBody,
    Fault::SaysGarbage,
    Fault::IsSlow,
    Fault::Answers500,
];

impl Fault {
    fn play(self, c: &mut Connection) -> std::io::Result<()> {
        while c.next_request()?.is_some() {
            match self {
                Fault::Refuses => unreachable!("nobody listens"),
                Fault::Hangs => return c.expect_close(),
                Fault::ResetsBeforeHead => return c.reset(),
                Fault::ResetsInHead => {
                    c.send("HTTP/1.1 200 OK\r\nContent-")?;
                    return c.half_close();
                }
                Fault::CutsBody => {
                    c.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")?;
                    return c.half_close();
                }
                Fault::SaysGarbage => return c.send("SSH-2.0-OpenSSH_9.2p1\r\n"),
                Fault::IsSlow => c.send_slowly(ok("slow"), std::time::Duration::from_millis(1))?,
                Fault::Answers500 => {
                    c.send("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")?;
                }
            }
        }
        Ok(())
    }

    /// A `GET` on it is tried elsewhere, as not a byte of a response had come.
    fn is_hidden(self) -> bool {
        matches!(self, Fault::Refuses | Fault::Hangs | Fault::ResetsBeforeHead)
    }

    /// It is a failure at all: what the application answers is its own business.
    fn counts(self) -> bool {
        !matches!(self, Fault::IsSlow | Fault::Answers500)
    }
}

fn instances(origins: &[&Origin]) -> String {
    origins.iter().map(|origin| format!("[[upstreams.app.instances]]\n{}\n", origin.toml())).collect()
}

/// An origin where nobody listens any more.
fn refusing() -> String {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    format!("[[upstreams.app.instances]]\nhost = \"127.0.0.1\"\nport = {port}\n")
}

fn proxy(more: &str, instances: &str) -> Builder {
    Builder::new().toml(&format!("[upstreams.app]\n{more}\n{instances}")).route("app", "path_prefix = \"/\"")
}

/// One request each from so many addresses and to so many paths; those that failed, in order.
fn failed(proxy: &Proxy, requests: u8) -> Vec<u8> {
    (0..requests)
        .filter(|number| {
            let mut client = Client::connect_from(Ipv4Addr::new(127, 1, 0, number + 1), proxy.address());
            client.send(request(&format!("/{number}")));
            client.try_response_to("GET").map_or(true, |response| response.status != 200)
        })
        .collect()
}

#[test]
fn of_a_failing_instance_requests_notice_as_little_as_can_be() {
    const MAX_FAILS: usize = 2;
    std::thread::scope(|scope| {
        for fault in FAULTS {
            scope.spawn(move || STRATEGIES.iter().for_each(|strategy| check(fault, strategy)));
        }
    });

    fn check(fault: Fault, strategy: &str) {
        let bad = (fault != Fault::Refuses).then(|| Origin::scripted(move |c| fault.play(c)));
        let (good, other) = (Origin::ok("good"), Origin::ok("other"));
        let settings = format!(
            "strategy = \"{strategy}\"\nread_timeout = \"1s\"\nmax_fails = {MAX_FAILS}\nfail_timeout = \"5m\""
        );
        let bad_one = bad.as_ref().map_or_else(refusing, |bad| instances(&[bad]));
        let proxy = proxy(&settings, &(bad_one + &instances(&[&good, &other]))).start();
        let failed = failed(&proxy, 48);
        let what = format!("{fault:?} with {strategy}: {failed:?} failed");
        let seen = bad.as_ref().map_or(0, |bad| bad.requests().len());
        if !fault.counts() {
            // It goes on getting its share, whatever it says. Where it matters how fast it is, on a busy
            // machine it may look slower than the others.
            let judges_speed = strategy == "p2c";
            assert!(seen > if judges_speed { 0 } else { MAX_FAILS }, "{what}, {seen} seen");
            let ejected = proxy.stderr().iter().any(|line| line.contains("gets no requests"));
            assert!(!ejected, "{what}: {:?}", proxy.stderr());
            assert_eq!(failed.len(), if fault == Fault::Answers500 { seen } else { 0 }, "{what}");
            return;
        }
        assert!(seen <= MAX_FAILS, "{what}, {seen} seen");
        assert_eq!(failed.len(), if fault.is_hidden() { 0 } else { seen }, "{what}");
        if strategy == "round_robin" && fault != Fault::Refuses {
            assert_eq!(seen, MAX_FAILS, "{what}");
        }
    }
}

#[test]
fn an_instance_that_comes_back_gets_requests_again() {
    let steady = Origin::ok("steady");
    let flapping = Origin::ok("flapping");
    let address = flapping.address();
    let settings = "max_fails = 1\nfail_timeout = \"300ms\"";
    let proxy = proxy(settings, &instances(&[&steady, &flapping])).start();
    let mut flapping = Some(flapping);
    for _ in 0..3 {
        drop(flapping.take());
        let gone = format!("127.0.0.1:{} gets no requests for 300ms", address.port());
        eventually("its ejection", || {
            let response = proxy.client().get("/");
            assert_eq!(response.text(), "steady");
            holds(proxy.stderr().iter().any(|line| line.contains(&gone)), proxy.stderr())
        });
        let listener = eventually("the port again", || TcpListener::bind(address));
        flapping = Some(Origin::on(listener, |c| {
            while c.next_request()?.is_some() {
                c.send(ok("flapping"))?;
            }
            Ok(())
        }));
        eventually("a request for it", || {
            let response = proxy.client().get("/");
            assert_eq!(response.status, 200);
            holds(response.text() == "flapping", response.text())
        });
    }
    proxy.stderr_contains("gets requests again");
}

#[test]
fn a_request_that_was_not_written_goes_elsewhere_whatever_its_method() {
    let good = Origin::ok("good");
    let proxy = proxy("max_fails = 0", &(refusing() + &instances(&[&good]))).start();
    let mut client = proxy.client();
    for _ in 0..6 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.response().text(), "good");
    }
    assert!(good.requests().iter().all(|request| request.body == b"hello"));
}

#[test]
fn a_body_that_is_still_coming_goes_elsewhere_if_nothing_was_written() {
    let good = Origin::ok("good");
    let proxy = proxy("max_fails = 0", &(refusing() + &instances(&[&good]))).start();
    for _ in 0..4 {
        let mut client = proxy.client();
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
        client.send(vec![b'x'; 100_000]);
        assert_eq!(client.response().text(), "good");
    }
    assert!(good.requests().iter().all(|request| request.body.len() == 100_000));
}

#[test]
fn what_may_have_been_done_is_not_done_twice() {
    let bad = Origin::scripted(|c| Fault::ResetsBeforeHead.play(c));
    let good = Origin::ok("good");
    let proxy = proxy("max_fails = 0\nretries = 3", &instances(&[&bad, &good])).start();
    let mut statuses = Vec::new();
    for _ in 0..8 {
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        statuses.push(client.response().status);
    }
    let failed = statuses.iter().filter(|status| **status == 502).count();
    assert_eq!((failed, bad.requests().len()), (bad.requests().len(), 8 - good.requests().len()));
    assert!(failed > 0 && failed < 8, "{statuses:?}");
}

#[test]
fn without_retries_a_failure_is_the_answer() {
    let bad = Origin::scripted(|c| Fault::ResetsBeforeHead.play(c));
    let good = Origin::ok("good");
    let settings = "max_fails = 0\nretries = 0";
    let proxy = proxy(settings, &instances(&[&bad, &good])).workers(1).start();
    let mut statuses: Vec<u16> = (0..4).map(|_| proxy.client().get("/").status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 502, 502]);
}

#[test]
fn retries_do_not_multiply_an_outage() {
    const REQUESTS: usize = 400;
    let bad: Vec<Origin> = (0..3).map(|_| Origin::scripted(|c| Fault::ResetsBeforeHead.play(c))).collect();
    let all: Vec<&Origin> = bad.iter().collect();
    let proxy = proxy("max_fails = 0\nretries = 3", &instances(&all)).workers(1).start();
    let mut client = proxy.client();
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/").status, 502);
    }
    let attempts: usize = bad.iter().map(|origin| origin.requests().len()).sum();
    // Of ten seconds: a hundred in any case, or a fifth of the requests. The run may take longer
    // than that on a slow machine.
    assert!(attempts > REQUESTS && attempts <= 2 * REQUESTS, "{attempts} attempts");
}

#[test]
fn failures_never_leave_an_upstream_without_instances() {
    let bad: Vec<Origin> = (0..3).map(|_| Origin::scripted(|c| Fault::ResetsBeforeHead.play(c))).collect();
    let all: Vec<&Origin> = bad.iter().collect();
    let settings = "max_fails = 1\nfail_timeout = \"5m\"";
    let proxy = proxy(settings, &instances(&all)).start();
    let attempts = || bad.iter().map(|origin| origin.requests().len()).sum::<usize>();
    for _ in 0..5 {
        assert_eq!(proxy.client().get("/").status, 502);
    }
    let before = attempts();
    assert_eq!(proxy.client().get("/").status, 502);
    assert_eq!(attempts(), before + 1, "a last resort is tried once");
}

/// An origin that holds every answer until the latch is opened, and knows how many it holds.
fn holding() -> (Origin, Latch, Arc<AtomicUsize>) {
    let (latch, held) = (Latch::default(), Arc::new(AtomicUsize::new(0)));
    let (theirs, count) = (latch.clone(), Arc::clone(&held));
    let origin = Origin::scripted(move |c| {
        while c.next_request()?.is_some() {
            count.fetch_add(1, Ordering::SeqCst);
            theirs.wait()?;
            c.send(ok("held"))?;
        }
        Ok(())
    });
    (origin, latch, held)
}

#[test]
fn an_instance_gets_as_many_connections_as_it_may_and_the_others_wait() {
    let (origin, latch, held) = holding();
    let settings = "max_connections = 2\nqueue = 1\nqueue_timeout = \"1m\"";
    let proxy = proxy(settings, &instances(&[&origin])).workers(1).start();
    let mut clients: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(request("/"));
        let wanted = (number + 1).min(2);
        eventually("the requests that may come", || {
            let held = held.load(Ordering::SeqCst);
            holds(held == wanted, held)
        });
    }
    // The third is in the queue once the fourth is refused.
    eventually("a refusal", || {
        let response = proxy.client().offer_and_read("/");
        holds(response == Some(503), response)
    });
    let line = proxy.log_line(503);
    assert_eq!(line.text("reason"), "too many requests wait for the upstream");
    latch.open();
    for client in &mut clients {
        assert_eq!(client.response().text(), "held");
    }
    assert_eq!(origin.connections(), 2);
}

#[test]
fn who_goes_away_leaves_the_queue() {
    for leave in [Client::reset, drop::<Client>] {
        check_leaving_the_queue(leave);
    }
}

fn check_leaving_the_queue(leave: fn(Client)) {
    let (origin, latch, held) = holding();
    let settings = "max_connections = 1\nqueue = 1\nqueue_timeout = \"10m\"";
    let proxy = proxy(settings, &instances(&[&origin])).workers(1).start();
    let mut first = proxy.client();
    first.send(request("/"));
    eventually("the first request", || holds(held.load(Ordering::SeqCst) == 1, ()));
    let mut queued = [proxy.client(), proxy.client()];
    queued[0].send(request("/0"));
    queued[1].send(request("/1"));
    // Either may come first.
    let is_first = proxy.log_line(503).text("path") == "/1";
    let [zero, one] = queued;
    leave(if is_first { zero } else { one });
    proxy.log_line(499);
    let mut next = proxy.client();
    next.send(request("/next"));
    assert!(next.is_quiet_for(QUIET));
    latch.open();
    assert_eq!((first.response().text(), next.response().text()), ("held".to_owned(), "held".to_owned()));
}

#[test]
fn who_waits_too_long_is_told_when_to_come_back() {
    let (origin, latch, held) = holding();
    let settings = "max_connections = 1\nqueue_timeout = \"200ms\"";
    let proxy = proxy(settings, &instances(&[&origin])).workers(1).start();
    let mut first = proxy.client();
    first.send(request("/"));
    eventually("the first request", || holds(held.load(Ordering::SeqCst) == 1, ()));
    let response = proxy.client().get("/");
    assert_eq!((response.status, response.head.value("retry-after")), (503, Some("1")));
    assert_eq!(proxy.log_line(503).text("reason"), "waited too long for a connection to the upstream");
    latch.open();
    assert_eq!(first.response().text(), "held");
    assert_eq!(proxy.client().get("/").text(), "held");
}

#[test]
fn cores_give_idle_connections_to_those_that_wait() {
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (theirs, their_most) = (Arc::clone(&open), Arc::clone(&most));
    let origin = Origin::scripted(move |c| {
        their_most.fetch_max(theirs.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        while c.next_request()?.is_some() {
            c.send(ok("ok"))?;
        }
        theirs.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    });
    let settings = "max_connections = 1";
    let proxy = proxy(settings, &instances(&[&origin])).middleware("server_timing = true").workers(2).start();
    let mut workers = std::collections::BTreeSet::new();
    eventually("answers by both workers", || {
        let response = proxy.client().get("/");
        assert_eq!(response.status, 200);
        let timing = response.head.value("server-timing").unwrap().to_owned();
        workers.insert(timing.split(',').next().unwrap().to_owned());
        holds(workers.len() == 2, workers.clone())
    });
    // Closing is noticed by the origin a little after the next one was accepted.
    assert!(most.load(Ordering::SeqCst) <= 2);
}
