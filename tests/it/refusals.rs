//! Commands that run and count as ready, and refuse connections all the same.

use std::fs::{remove_file, rename};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::admin::{LISTEN, admin, ask};
use crate::harness::client::request;
use crate::harness::{BOUND, Builder, Proxy, eventually, eventually_within, holds};
use crate::supervision::{builder, told, words};

/// So many instances of the application, each with a process of its own, and more lines for the
/// tables of the upstream and of its processes. Without idle connections every request needs a
/// new one.
fn web(instances: usize, upstream: &str, process: &str) -> Builder {
    let instance = |index| format!("[[upstreams.web.instances]]\nsocket = \"{index}.sock\"\n");
    let instances: String = (0..instances).map(instance).collect();
    let table = format!(
        "[upstreams.web]\nkeepalive = 0\n{upstream}\n{instances}[upstreams.web.process]\n\
         command = \"python3\"\nargs = [\"app.py\", \"{{socket}}\"]\n{process}\n"
    );
    builder().toml(&table).route("web", "")
}

/// Waits until so many instances are ready, and takes their sockets away.
fn deafen(proxy: &Proxy, instances: usize) {
    eventually("all instances to be ready", || {
        let log = proxy.stderr();
        holds(log.iter().filter(|line| line.contains("is ready after")).count() == instances, log)
    });
    for index in 0..instances {
        remove_file(proxy.directory().join(format!("{index}.sock"))).unwrap();
    }
}

#[test]
fn a_request_waits_no_longer_than_hold_and_tries_no_more_than_once_a_tick() {
    for instances in [1, 2] {
        let proxy = web(instances, "hold = \"1s\"", "").toml(LISTEN).start();
        deafen(&proxy, instances);
        let start = Instant::now();
        let mut client = proxy.client();
        let response = client.get("/");
        assert_eq!((response.status, response.head.value("retry-after")), (503, Some("1")));
        assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
        let line = proxy.log_line(503);
        assert_eq!(line.text("reason"), "waited too long for the upstream to start");
        // Ten ticks, the attempt before them, and the one on another instance.
        assert!(line.number("attempts") <= 13, "{line:?}");
        proxy.stderr_contains("gets no requests for 10s: connecting to the upstream failed");
        let (_, text) = ask(admin(&proxy), "GET /status", "Host: localhost");
        let status: Value = serde_json::from_str(&text).unwrap();
        let failures = &status["upstreams"][0]["failures"]["connect"];
        assert!(failures.as_u64() >= Some(2), "{status:#}");
    }
}

#[test]
fn one_that_refuses_again_and_again_is_starting_and_is_started_anew() {
    // Long enough for a slow machine to start it.
    let proxy = web(1, "hold = \"10m\"", "start_timeout = \"5s\"").toml(LISTEN).start();
    let first = words(&proxy, "/")[0].clone();
    deafen(&proxy, 1);
    let mut client = proxy.client();
    client.send(request("/"));
    let line = proxy.stderr_contains("refuses connections");
    assert!(line.contains("`web` runs and refuses connections on unix:0.sock"), "{line}");
    eventually("its state to be told", || {
        let (_, text) = ask(admin(&proxy), "GET /status", "Host: localhost");
        let status: Value = serde_json::from_str(&text).unwrap();
        holds(status["children"][0]["state"] == "starting", text)
    });
    eventually_within(BOUND * 2, "its end", || {
        let log = proxy.stderr();
        holds(log.iter().any(|line| line.contains("`web`: it was not ready within 5s; stopping it")), log)
    });
    let response = client.response();
    assert_eq!(response.status, 200);
    assert_ne!(response.text().split(' ').next(), Some(first.as_str()));
    assert_eq!(told(&proxy), ["starts ", "stops ", "starts "]);
}

#[test]
fn one_that_accepts_connections_again_is_ready_again() {
    let proxy = web(1, "", "").start();
    let first = words(&proxy, "/")[0].clone();
    let at = |name: &str| proxy.directory().join(name);
    rename(at("0.sock"), at("away")).unwrap();
    let mut client = proxy.client();
    client.send(request("/"));
    proxy.stderr_contains("refuses connections");
    rename(at("away"), at("0.sock")).unwrap();
    assert_eq!(client.response().text().split(' ').next(), Some(first.as_str()));
    proxy.stderr_contains("`web` accepts connections again");
    assert_eq!(words(&proxy, "/")[0], first);
}

#[test]
fn a_client_that_leaves_ends_the_wait() {
    for instances in [1, 2] {
        let proxy = web(instances, "hold = \"600s\"\nhold_requests = 1", "").workers(1).start();
        deafen(&proxy, instances);
        let mut client = proxy.client();
        client.send(request("/first"));
        proxy.stderr_contains("gets no requests for");
        client.reset();
        proxy.log_line(499);
        let mut next = proxy.client();
        next.send(request("/next"));
        assert!(next.is_quiet_for(Duration::from_millis(300)), "its place is free");
    }
}

#[test]
fn the_others_take_over_from_one_that_refuses() {
    let proxy = web(2, "", "").start();
    eventually("both to answer", || {
        let names = proxy.answering();
        holds(names.len() == 2, names)
    });
    remove_file(proxy.directory().join("0.sock")).unwrap();
    let start = Instant::now();
    let statuses: Vec<u16> = (0..50).map(|_| proxy.client().get("/").status).collect();
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
