//! Spans as a collector of OpenTelemetry gets them, read by the protocol's own types.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

use crate::harness::origin::{Request, ok};
use crate::harness::{Builder, Origin, Proxy, eventually, free_port};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Everything goes to this origin, spans to the collector.
fn exporting(origin: &Origin, collector: &Origin, more: &str) -> Builder {
    let export = format!("[tracing]\nexport = \"http://{}\"\n{more}", collector.address());
    Proxy::with(origin).toml(&export).workers(1)
}

fn message(request: &Request) -> ExportTraceServiceRequest {
    assert_eq!((request.method(), request.target()), ("POST", "/v1/traces"));
    assert_eq!(request.head.value("content-type"), Some("application/x-protobuf"));
    ExportTraceServiceRequest::decode(&*request.body).expect("a message of the protocol")
}

/// All spans that came.
fn spans(collector: &Origin) -> Vec<Span> {
    let messages = collector.requests().into_iter().map(|request| message(&request));
    let resources = messages.flat_map(|message| message.resource_spans);
    resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

fn wait_spans(collector: &Origin, count: usize) -> Vec<Span> {
    eventually(&format!("{count} spans"), || {
        let spans = spans(collector);
        if spans.len() < count { Err(spans) } else { Ok(spans) }
    })
}

fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    let show = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.clone()) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => {
            assert!((0.0..10.0).contains(&number), "{number}");
            "seconds".to_owned()
        }
        other => panic!("{other:?}"),
    };
    list.iter().map(|pair| (pair.key.clone(), show(&pair.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_span_says_what_the_exchange_was() {
    let (origin, collector) = (Origin::ok("twelve bytes"), Origin::ok(""));
    let builder = exporting(&origin, &collector, "service_name = \"edge\"\n");
    let proxy = builder.server("trusted_proxies = [\"127.0.0.1\"]").start();
    let mut client = proxy.client();
    client.send(format!(
        "POST /p?q=1&token=hidden HTTP/1.1\r\nHost: a.example\r\nUser-Agent: test\r\nContent-Length: 5\r\n\
         traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: a=1\r\ntracestate: b=2\r\n\r\nhello"
    ));
    assert_eq!(client.response_to("POST").status, 200);
    let span = wait_spans(&collector, 1).remove(0);
    let seen = origin.only_request();
    let ours = seen.head.value("traceparent").unwrap().split('-').nth(2).unwrap().to_owned();
    assert_eq!(
        (hex(&span.trace_id), hex(&span.span_id), hex(&span.parent_span_id)),
        (TRACE.into(), ours, PARENT.into())
    );
    assert_eq!((span.name.as_str(), span.kind(), span.flags), ("POST", SpanKind::Server, 0x301));
    assert_eq!(span.trace_state, "a=1,b=2");
    assert_eq!(span.status, None);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let minute = 60_000_000_000;
    assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
    assert!(
        now.abs_diff(span.start_time_unix_nano) < minute && now.abs_diff(span.end_time_unix_nano) < minute
    );
    let line = proxy.log_line(200);
    let told = attributes(&span.attributes);
    let text = |name: &str| line.text(name).to_owned();
    let (route, endpoint, id) = (text("route"), text("endpoint"), text("request_id"));
    let expected = [
        ("client.address", "127.0.0.1"),
        ("http.request.body.size", "5"),
        ("http.request.method", "POST"),
        ("http.response.body.size", "12"),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("server.address", "a.example"),
        ("url.path", "/p"),
        ("url.query", "q=1&token=REDACTED"),
        ("url.scheme", "http"),
        ("user_agent.original", "test"),
        ("warpdrive.attempts", "1"),
        ("warpdrive.connect.duration", "seconds"),
        ("warpdrive.endpoint", &endpoint),
        ("warpdrive.request_id", &id),
        ("warpdrive.route", &route),
        ("warpdrive.upstream", "app"),
        ("warpdrive.upstream.duration", "seconds"),
    ];
    let told: Vec<(&str, &str)> = told.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(told, expected);

    let message = message(&collector.requests()[0]);
    let resource = attributes(&message.resource_spans[0].resource.as_ref().unwrap().attributes);
    assert_eq!(resource["service.name"], "edge");
    assert_eq!(message.resource_spans[0].scope_spans[0].scope.as_ref().unwrap().name, "warpdrive");
}

#[test]
fn failures_and_strange_bytes_are_told_in_the_protocol() {
    let origin = Origin::answering(|request| match request.target() {
        "/broken" => b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/cut" => b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nonly this".to_vec(),
        _ => ok("fine"),
    });
    let collector = Origin::ok("");
    let proxy = exporting(&origin, &collector, "").start();
    let mut client = proxy.client();
    let mut strange = b"BREW /x HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff\xfe \xc3\xbc\r\n\r\n".to_vec();
    client.send(&strange).response_to("BREW");
    client.get("/broken");
    strange.clear();
    drop(client);
    let mut found = wait_spans(&collector, 2);
    found.sort_by_key(|span| span.name.clone());
    let [broken, strange] = found.try_into().unwrap();
    assert_eq!(broken.status.as_ref().map(|status| status.code()), Some(StatusCode::Error));
    assert_eq!(attributes(&broken.attributes)["error.type"], "500");
    assert_eq!((strange.name.as_str(), strange.flags, strange.status), ("HTTP", 0x101, None));
    let told = attributes(&strange.attributes);
    assert_eq!(told["http.request.method"], "_OTHER");
    assert_eq!(told["http.request.method_original"], "BREW");
    assert_eq!(told["user_agent.original"], "\u{fffd}\u{fffd} \u{fc}");
    assert!(strange.parent_span_id.is_empty());
}

#[test]
fn only_sampled_exchanges_are_exported() {
    let (origin, collector) = (Origin::ok("fine"), Origin::ok(""));
    let builder = exporting(&origin, &collector, "sample = 0.0\n");
    let mut proxy = builder.server("trusted_proxies = [\"127.0.0.1\"]").start();
    let mut client = proxy.client();
    for flags in ["00", "01"] {
        client.send(format!(
            "GET /{flags} HTTP/1.1\r\nHost: a\r\ntraceparent: 00-{TRACE}-{PARENT}-{flags}\r\n\r\n"
        ));
        client.response();
    }
    client.get("/neither");
    drop(client);
    // What there is is sent at the drain.
    assert_eq!(proxy.terminate(), 0);
    let paths: Vec<String> =
        spans(&collector).iter().map(|span| attributes(&span.attributes)["url.path"].clone()).collect();
    assert_eq!(paths, ["/01"]);
}

#[test]
fn a_collector_that_cannot_take_spans_now_gets_them_later() {
    let asked = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&asked);
    let collector = Origin::answering(move |_| match theirs.fetch_add(1, Ordering::SeqCst) {
        0 => b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => ok(""),
    });
    let origin = Origin::ok("fine");
    let proxy = exporting(&origin, &collector, "").start();
    proxy.client().get("/kept");
    let requests = collector.wait_requests(2);
    assert_eq!(requests[0].body, requests[1].body, "the same message once more");
    let said = proxy.stderr_contains("cannot export spans to http://");
    assert!(said.contains("/v1/traces: its status is 503; trying again"), "{said}");
    proxy.stderr_contains("/v1/traces again");
}

#[test]
fn what_a_collector_refuses_is_lost_and_told() {
    let collector = Origin::answering(|_| b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n".to_vec());
    let origin = Origin::ok("fine");
    let proxy = exporting(&origin, &collector, "").start();
    proxy.client().get("/");
    proxy.stderr_contains("its status is 400; these are lost");
    proxy.client().get("/second");
    let requests = collector.wait_requests(2);
    assert_ne!(requests[0].body, requests[1].body);
}

#[test]
fn a_collector_that_is_not_there_delays_no_request_and_no_end() {
    let origin = Origin::ok("fine");
    let export = format!("[tracing]\nexport = \"http://localhost:{}/x\"\n", free_port());
    let mut proxy = Proxy::with(&origin).toml(&export).start();
    let mut client = proxy.client();
    for _ in 0..50 {
        assert_eq!(client.get("/").status, 200);
    }
    proxy.stderr_contains("/x: connecting failed");
    drop(client);
    assert_eq!(proxy.terminate(), 0);
    assert!(proxy.stderr().iter().any(|line| line.contains("the last spans could not be exported")));
}

#[test]
fn spans_beyond_what_may_wait_are_dropped_and_counted() {
    // Takes no connection at all.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let export = format!("[tracing]\nexport = \"http://{}\"\n", listener.local_addr().unwrap());
    let origin = Origin::ok("fine");
    let proxy = Proxy::with(&origin).toml(&export).workers(1).start();
    let mut client = proxy.client();
    let agent = "x".repeat(30 << 10);
    // Of 30 KiB each: more than 64 buffers of 64 KiB and a message of 1 MiB.
    for _ in 0..400 {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n\r\n"));
        assert_eq!(client.response().status, 200);
    }
    let said = proxy.stderr_contains("spans are taken too slowly");
    assert!(said.contains("spans_lost="), "{said}");
}
