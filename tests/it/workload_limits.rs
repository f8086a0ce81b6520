//! Limits of components: each ends the request that goes beyond it, with the right status, and
//! nothing else. What the component `probe` does, its path says (tests/guests/probe).

use std::time::Instant;

use crate::admin::{LISTEN, admin};
use crate::harness::client::{get, request};
use crate::harness::{Proxy, QUIET, eventually, holds};
use crate::numbers::Numbers;
use crate::workloads::{probe, with_engine, with_probe};

/// What a `GET` came to: the status, and what the access log says about it.
#[track_caller]
fn check_fails(proxy: &Proxy, path: &str, status: u16, reason: &str) {
    let response = get(proxy.address(), path);
    assert_eq!(response.status, status, "{path}: {}", response.text());
    assert_eq!(proxy.log_line(status.into()).text("reason"), reason, "{path}");
    assert_eq!(get(proxy.address(), "/calls").text(), "1", "after {path} there is a fresh instance");
}

#[test]
fn what_fails_is_answered_and_its_instance_never_used_again() {
    let proxy = with_probe("reuse = 100\ninstances = 1").start();
    for (path, status, reason) in [
        ("/trap", 500, "component trapped"),
        ("/exit", 500, "component ended itself"),
        ("/none", 500, "component gave no answer"),
        ("/decline", 500, "component answered with an error"),
    ] {
        let response = get(proxy.address(), path);
        assert_eq!(response.status, status, "{path}");
        let text = response.text();
        assert_eq!(text, "Internal Server Error\n", "what went wrong is not the client's business");
        let line = proxy.log_lines(1, |line| line.text("path") == path).remove(0);
        assert_eq!(line.text("reason"), reason);
    }
    proxy.stderr_contains("probe/0.0: wasm trap: wasm `unreachable` instruction executed");
    proxy.stderr_contains("probe/0.1: exit with 1");
    let mut client = proxy.client();
    assert_eq!(client.get("/trap").status, 500);
    assert_eq!(client.get("/calls").text(), "1", "on the same connection, of another instance");
    assert_eq!(client.get("/calls").text(), "2");
}

#[test]
fn a_loop_ends_when_its_time_is_used_up_and_disturbs_nobody() {
    let proxy = with_probe("cpu = \"2s\"").start();
    let mut looping = proxy.client();
    looping.send(request("/loop")).until_taken();
    let mut client = proxy.client();
    for _ in 0..5 {
        assert_eq!(client.get("/calls").text(), "1");
    }
    assert_eq!(looping.response().status, 504);
    let lines = proxy.log_lines(6, |_| true);
    assert_eq!(lines[5].text("path"), "/loop", "the others were answered meanwhile");
    let line = proxy.log_line(504);
    assert_eq!(line.text("reason"), "component used up its processor time");
    proxy.stderr_contains("out of processor time");
}

#[test]
fn each_request_has_the_whole_time_of_a_processor() {
    let proxy = with_probe("cpu = \"300ms\"\nreuse = 100").start();
    let mut client = proxy.client();
    for _ in 0..4 {
        assert_eq!(client.get("/spin?100").status, 200, "of the same instance");
    }
    assert_eq!(client.get("/calls").text(), "5");
}

#[test]
fn who_waits_uses_no_processor_time() {
    let proxy = with_probe("cpu = \"300ms\"").start();
    assert_eq!(proxy.client().get("/sleep?900").text(), "slept");
}

#[test]
fn who_never_answers_is_cut_off() {
    let proxy = with_probe("time = \"200ms\"").start();
    check_fails(&proxy, "/never", 504, "component timeout");
    let broken = proxy.client().send(request("/stall")).try_response_to("GET");
    let broken = broken.unwrap_err();
    assert_eq!(broken.body, b"begun", "what it had written came through");
    let line = proxy.log_lines(1, |line| line.text("path") == "/stall").remove(0);
    assert_eq!((line.status(), line.text("reason")), (200, "component timeout"));
}

#[test]
fn a_trap_within_an_answer_does_not_look_like_its_end() {
    let proxy = with_probe("").start();
    let mut client = proxy.client();
    let broken = client.send(request("/late-trap")).try_response_to("GET");
    assert!(broken.is_err(), "{broken:?}");
    let line = proxy.log_lines(1, |line| line.text("path") == "/late-trap").remove(0);
    assert_eq!(line.text("reason"), "component trapped");
    assert_eq!(get(proxy.address(), "/calls").text(), "1");
}

#[test]
fn memory_has_an_end() {
    let proxy = with_probe("memory = \"8 MiB\"").start();
    assert_eq!(get(proxy.address(), "/hoard?4").status, 200);
    check_fails(&proxy, "/hoard?64", 500, "component failed for want of memory");
    proxy.stderr_contains("after it was refused more memory");
}

#[test]
fn the_stack_has_an_end() {
    let proxy = with_probe("").start();
    check_fails(&proxy, "/recurse?0", 500, "component trapped");
}

#[test]
fn bodies_have_an_end() {
    let proxy = with_probe("request_body = 10\nresponse_body = 1000").start();
    let mut client = proxy.client();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789");
    assert_eq!(client.response().text(), "0123456789");
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n0123456789a");
    assert_eq!(client.response().status, 413);
    let mut client = proxy.client();
    client.send(
        "POST /calls HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n",
    );
    assert_eq!(client.response().status, 413);
    assert_eq!(get(proxy.address(), "/bytes?1000").body.len(), 1000);
    assert_eq!(get(proxy.address(), "/bytes?5000").status, 502, "nothing of one that is longer had left");
    assert_eq!(get(proxy.address(), "/length?5").text(), "12345");
    let too_long = get(proxy.address(), "/length?1001");
    assert_eq!((too_long.status, too_long.text().as_str()), (502, "Bad Gateway\n"));
    let mut client = proxy.client();
    let broken = client.send(request("/length?6")).try_response_to("GET");
    assert!(broken.is_err(), "so is one that is shorter than it said");
}

#[test]
fn what_is_written_to_the_log_has_an_end_in_each_second() {
    // Lines of 100 bytes: 100 of them in a second.
    let proxy = with_probe("output = \"64 MiB\"\noutput_rate = \"10 KiB\"").toml(LISTEN).start();
    let begun = Instant::now();
    for _ in 0..3 {
        assert_eq!(get(proxy.address(), "/print?1000000").status, 200);
    }
    proxy.stderr_contains("probe writes too much: ");
    let told = proxy.stderr().iter().filter(|line| line.contains(": yyy")).count();
    // The seconds that are counted need not begin with ours.
    let seconds = begun.elapsed().as_secs() as usize + 2;
    assert!((90..=105 * seconds).contains(&told), "{told} lines in {seconds} s");
    let numbers = Numbers::read(admin(&proxy));
    let dropped = |what: &str| numbers.sum(&format!("warpdrive_component_output_dropped_{what}_total"), &[]);
    assert!(dropped("lines") > 25_000.0 - told as f64, "{}", numbers.text);
    assert!(dropped("bytes") > 2_500_000.0 - 100.0 * told as f64, "{}", numbers.text);
    proxy.stderr_contains("lines were dropped");
}

#[test]
fn requests_wait_for_an_instance_within_bounds() {
    let proxy = with_probe("instances = 1\nwaiting = 1\nwaiting_timeout = \"300ms\"").start();
    let address = proxy.address();
    let mut busy = proxy.client();
    busy.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1");
    busy.until_taken();
    let mut waiting = proxy.client();
    waiting.send(request("/calls"));
    eventually("the refusal of a request that is one too many", || {
        let mut client = proxy.client();
        let response = client.get("/calls");
        assert_eq!(response.status, 503);
        assert_eq!(response.head.values("retry-after"), ["1"]);
        let is_full = response.text() == "too many requests wait for the component\n";
        holds(is_full, response.text())
    });
    let response = waiting.response();
    assert_eq!(response.text(), "waited too long for the component\n");
    assert_eq!(response.status, 503);
    let mut next = proxy.client();
    next.send(request("/calls"));
    next.until_taken();
    busy.send("2");
    assert_eq!(busy.response().text(), "12");
    assert_eq!(next.response().text(), "1", "the first that waits is served when there is room");
    assert_eq!(get(address, "/calls").status, 200);
}

#[test]
fn a_client_that_closes_waits_for_no_instance() {
    let settings = "instances = 1\nwaiting = 1\nwaiting_timeout = \"10m\"";
    let proxy = with_probe(settings).workers(1).start();
    let mut busy = proxy.client();
    busy.send(request("/never")).until_taken();
    let mut waits = proxy.client();
    waits.send(request("/gone")).until_taken();
    drop(waits);
    assert_eq!(proxy.log_line(499).text("path"), "/gone");
    let mut next = proxy.client();
    next.send(request("/next"));
    assert!(next.is_quiet_for(QUIET), "its place is free");
}

#[test]
fn a_client_that_goes_away_ends_its_instance() {
    let proxy = with_probe("instances = 1\ncpu = \"30s\"").start();
    let mut client = proxy.client();
    client.send(request("/never"));
    client.until_taken();
    client.reset();
    assert_eq!(get(proxy.address(), "/calls").text(), "1", "its place is free again");
    proxy.log_line(499);
}

#[test]
fn more_instances_than_there_is_room_for_make_way_for_each_other() {
    let builder = with_engine("instances_total = 1").toml(&probe("reuse = 100"));
    let proxy = builder.toml("[[routes]]\nworkload = \"site\"\n").start();
    let mut busy = proxy.client();
    busy.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1");
    busy.until_taken();
    let response = get(proxy.address(), "/calls");
    assert_eq!(response.status, 503);
    assert_eq!(response.text(), "no room for another instance of the component\n");
    busy.send("2");
    assert_eq!(busy.response().text(), "12");
    assert_eq!(get(proxy.address(), "/calls").text(), "2", "there is room again, and it waits there");
}
