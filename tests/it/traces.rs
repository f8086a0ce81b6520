//! The part of the proxy in traces: what becomes of `traceparent` and `tracestate`, whose is
//! believed, and what the access log says of it.

use crate::harness::origin::Request;
use crate::harness::{Builder, Origin, Proxy};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Sends a request with these lines of fields; what the origin gets, and the proxy.
fn forwarded(tracing: &str, trusted: bool, fields: &str) -> (Request, Proxy) {
    let origin = Origin::ok("fine");
    let builder = Proxy::with(&origin).toml(&format!("[tracing]\n{tracing}\n"));
    let trust = if trusted { "trusted_proxies = [\"127.0.0.1\"]" } else { "" };
    let proxy = builder.server(trust).start();
    let mut client = proxy.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    assert_eq!(client.response().status, 200);
    (origin.only_request(), proxy)
}

/// The parts of the only `traceparent`.
fn parts(request: &Request) -> Vec<String> {
    let all = request.head.values("traceparent");
    let [value] = all[..] else { panic!("{all:?}") };
    let parts: Vec<String> = value.split('-').map(str::to_owned).collect();
    let lengths: Vec<usize> = parts.iter().map(String::len).collect();
    assert_eq!(lengths, [2, 32, 16, 2], "{value}");
    assert!(value.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
    assert_eq!(parts[0], "00");
    parts
}

#[test]
fn without_a_part_in_traces_both_fields_go_on_as_they_came() {
    let fields = format!("Traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: a=1,b=2\r\n");
    let (seen, proxy) = forwarded("", true, &fields);
    assert_eq!(seen.head.value("traceparent"), Some(&*format!("00-{TRACE}-{PARENT}-01")));
    assert_eq!(seen.head.value("tracestate"), Some("a=1,b=2"));
    let line = proxy.log_line(200);
    assert_eq!((line.text("trace_id"), line.text("span_id")), (TRACE, ""));

    let (seen, proxy) = forwarded("traceparent = \"pass\"", true, "traceparent: nonsense\r\n");
    assert_eq!(seen.head.value("traceparent"), Some("nonsense"));
    assert_eq!(proxy.log_line(200).text("trace_id"), "");
}

#[test]
fn a_trace_of_a_trusted_proxy_is_continued() {
    for flags in ["00", "01"] {
        let fields =
            format!("traceparent: 00-{TRACE}-{PARENT}-{flags}\r\ntracestate: a=1\r\nTracestate: b=2\r\n");
        let (seen, proxy) = forwarded("traceparent = \"trusted\"\nsample = 0.0", true, &fields);
        let parts = parts(&seen);
        assert_eq!((&*parts[1], &*parts[3]), (TRACE, flags));
        assert_ne!(parts[2], PARENT, "the proxy is a span of its own");
        assert_eq!(seen.head.values("tracestate"), ["a=1", "b=2"]);
        let line = proxy.log_line(200);
        assert_eq!((line.text("trace_id"), line.text("span_id")), (TRACE, &*parts[2]));
    }
}

#[test]
fn a_stranger_does_not_choose_the_trace() {
    let fields = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: a=1\r\n");
    let (seen, proxy) = forwarded("traceparent = \"trusted\"\nsample = 0.0", false, &fields);
    let parts = parts(&seen);
    assert_ne!(parts[1], TRACE);
    assert_eq!(parts[3], "00", "nor whether it is sampled");
    assert_eq!(seen.head.values("tracestate"), [""; 0]);
    assert_eq!(proxy.log_line(200).text("trace_id"), parts[1]);
    // One name for the request and its trace.
    assert_eq!(seen.head.value("x-request-id"), Some(&*parts[1]));
}

#[test]
fn anyones_trace_is_continued_where_that_is_wanted() {
    let fields = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: a=1\r\n");
    for (sample, flags) in [("0.0", "00"), ("1.0", "01")] {
        let tracing = format!("traceparent = \"any\"\nsample = {sample}");
        let (seen, _proxy) = forwarded(&tracing, false, &fields);
        let parts = parts(&seen);
        assert_eq!((&*parts[1], &*parts[3]), (TRACE, flags));
        assert_eq!(seen.head.value("tracestate"), Some("a=1"));
    }
}

#[test]
fn what_is_not_valid_begins_a_new_trace() {
    let valid = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    let zero = format!("traceparent: 00-{}-{PARENT}-01\r\n", "0".repeat(32));
    for fields in ["", "traceparent: nonsense\r\n", &zero, &format!("{valid}{valid}"), &valid.to_uppercase()]
    {
        let fields = format!("{fields}tracestate: a=1\r\n");
        let (seen, _proxy) = forwarded("traceparent = \"any\"", true, &fields);
        let parts = parts(&seen);
        assert!(!parts[1].eq_ignore_ascii_case(TRACE), "{fields}");
        assert_eq!(parts[3], "01", "all are sampled by default");
        assert_eq!(seen.head.values("tracestate"), [""; 0], "{fields}");
    }
}

#[test]
fn every_request_has_a_span_of_its_own_and_keeps_it_when_it_is_tried_again() {
    let broken = Origin::scripted(|c| c.expect_head().map(drop));
    let whole = Origin::ok("fine");
    let instances = format!(
        "[tracing]\ntraceparent = \"trusted\"\n[upstreams.app]\nmax_fails = 0\n\
         [[upstreams.app.instances]]\n{}[[upstreams.app.instances]]\n{}",
        broken.toml(),
        whole.toml()
    );
    let proxy = Builder::new().workers(1).toml(&instances).route("app", "").start();
    let mut client = proxy.client();
    while broken.requests().is_empty() {
        assert_eq!(client.get("/").status, 200);
    }
    client.get("/");
    let mut spans: Vec<String> = whole.requests().iter().map(|request| parts(request)[2].clone()).collect();
    let tried = parts(&broken.requests()[0])[2].clone();
    assert!(spans.contains(&tried));
    let count = spans.len();
    spans.sort();
    spans.dedup();
    assert_eq!(spans.len(), count);
}
