//! Whatever a guest does: its exchange goes the way that was configured, and no other notices.

use super::{ask, calls, guest, metric, status, with};
use crate::harness::{Builder, Origin, eventually, holds};

/// The faults of `fault-filter`, the results that are counted of them, and the keys that decide.
const FAULTS: [(&str, &str, &str); 7] = [
    ("upstream", "invalid", "on_error"),
    ("loop", "timeout", "on_timeout"),
    ("trap", "trap", "on_error"),
    ("memory", "memory", "on_error"),
    ("huge", "memory", "on_error"),
    ("status", "invalid", "on_error"),
    ("response-trap", "trap", "on_error"),
];

fn field(fault: &str) -> String {
    format!("X-Fault: {fault}\r\n")
}

#[test]
fn each_fault_goes_the_way_that_was_configured() {
    let origin = Origin::ok("app");
    for (key, other) in [("on_error", "on_timeout"), ("on_timeout", "on_error")] {
        // One of them open, the other closed by default.
        let settings =
            format!("max_memory = \"8 MiB\"\nmax_execution_time = \"1s\"\nstatus = 500\n{key} = \"open\"");
        let proxy = with(&origin, "fault-filter.wasm", &settings, "").start();
        for (fault, result, by) in FAULTS {
            let hook = if fault == "response-trap" { "response" } else { "request" };
            let before = calls(&proxy, hook, result);
            let mut client = proxy.client();
            let response = ask(&mut client, &field(fault));
            let expected = if by == key { 200 } else { 500 };
            assert_eq!(response.status, expected, "{fault}, {key} open, {other} closed");
            assert_eq!(calls(&proxy, hook, result), before + 1.0, "{fault}: {}", status(&proxy));
            // The next one is well served, by another instance if need be.
            assert_eq!(ask(&mut proxy.client(), "").status, 200, "after {fault}");
        }
        let failures = metric(&proxy, "warpdrive_wasm_middleware_failures_total{middleware=\"m\"");
        assert_eq!(failures, FAULTS.len() as f64);
        proxy.stderr_contains("middleware `m`: request: out of processor time");
        proxy.stderr_contains("which is not in its upstreams");
    }
}

#[test]
fn a_flood_of_lines_is_held_back() {
    let origin = Origin::ok("app");
    let settings = "max_execution_time = \"5s\"";
    let proxy = with(&origin, "fault-filter.wasm", settings, "").start();
    assert_eq!(ask(&mut proxy.client(), &field("log")).status, 200);
    let dropped = metric(&proxy, "warpdrive_wasm_log_dropped_lines_total{component=\"m\"}");
    assert!(dropped > 90_000.0, "{dropped}");
    proxy.stderr_contains("m writes too much");
}

#[test]
fn one_call_in_a_hundred_that_traps_disturbs_no_other() {
    let origin = Origin::ok("app");
    let proxy = with(&origin, "fault-filter.wasm", "", "").start();
    let mut client = proxy.client();
    for number in 0..10_000 {
        let has_fault = number % 100 == 37;
        let response = ask(&mut client, if has_fault { "X-Fault: trap\r\n" } else { "" });
        assert_eq!(response.status, if has_fault { 503 } else { 200 }, "{number}");
    }
    assert_eq!((calls(&proxy, "request", "trap"), calls(&proxy, "request", "next")), (100.0, 9_900.0));
    assert_eq!(calls(&proxy, "request", "overload"), 0.0);
    assert_eq!(metric(&proxy, "warpdrive_wasm_instances_made_total{component=\"m\"}"), 101.0);
    assert_eq!(origin.requests().len(), 9_900);
}

#[test]
fn one_that_fails_again_and_again_is_switched_off_for_a_while() {
    let origin = Origin::ok("app");
    for (settings, expected) in [("", 503), ("on_overload = \"open\"", 200)] {
        let proxy = with(&origin, "fault-filter.wasm", settings, "").start();
        (0..3).for_each(|_| assert_eq!(ask(&mut proxy.client(), &field("trap")).status, 503));
        // For a second from here on, nobody is asked, whatever the request.
        assert_eq!(ask(&mut proxy.client(), "").status, expected);
        assert!(calls(&proxy, "request", "overload") >= 1.0);
        eventually("another instance", || {
            let next = calls(&proxy, "request", "next");
            holds(ask(&mut proxy.client(), "").status == 200 && next > 0.0, next)
        });
    }
}

#[test]
fn one_that_cannot_be_loaded_is_closed_or_open() {
    let origin = Origin::ok("app");
    for (settings, expected) in [("", 503), ("status = 599", 599), ("on_load_failure = \"open\"", 200)] {
        let settings = format!("config = {{ fault = \"configure\" }}\n{settings}");
        let proxy = with(&origin, "fault-filter.wasm", &settings, "").start();
        let mut client = proxy.client();
        assert_eq!(ask(&mut client, "").status, expected);
        assert_eq!(calls(&proxy, "request", "absent"), 1.0);
        let status = status(&proxy);
        assert_eq!(
            (&status["state"], &status["failure"]),
            (&"absent".into(), &"configure: told to fail".into())
        );
        proxy.stderr_contains("middleware `m` is not there: configure: told to fail");
    }
}

#[test]
fn a_file_that_is_not_there_is_a_load_failure() {
    let origin = Origin::ok("app");
    let proxy = with(&origin, "fault-filter.wasm", "", "")
        .toml("[wasm.middleware.gone]\nfile = \"gone.wasm\"\n")
        .route("app", "host = \"g\"\nmiddleware = [\"gone\"]")
        .start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n");
    assert_eq!(client.response().status, 503);
    assert_eq!(ask(&mut proxy.client(), "").status, 200);
    proxy.stderr_contains("gone.wasm");
}

#[test]
fn what_is_no_middleware_is_refused() {
    let origin = Origin::ok("app");
    let policy = guest("../policies/sticky.wasm");
    let checked = |file: &str| {
        let run = Builder::new()
            .toml(&format!("[wasm.middleware.m]\nfile = \"{file}\"\n"))
            .upstream("app", &origin, "")
            .route("app", "path_prefix = \"/\"\nmiddleware = [\"m\"]")
            .check();
        assert_ne!(run.code, Some(0), "{file}");
        run.stderr
    };
    let table = [
        (guest("wrong-world.wat"), "it is no middleware: it exports"),
        (policy, "it is a policy: configure it as [wasm.policies.NAME]"),
    ];
    for (file, expected) in table {
        let said = checked(&file);
        assert!(said.contains(expected), "{file}: {said}");
    }
}
