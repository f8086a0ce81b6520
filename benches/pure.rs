//! What the pure parts cost: instructions and allocations of one call each.
//!
//! `cargo bench` runs each case under `valgrind --tool=callgrind` with two numbers of rounds and
//! divides the difference, so that start-up does not count: the figures are the same from run to
//! run, whatever else the machine does. Without valgrind only allocations are counted.

#![allow(unsafe_code)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use warpdrive::config::{File, Sources};
use warpdrive::http::fields::push_field;
use warpdrive::http::forwarding::{Peer, Settings, Stamp};
use warpdrive::http::h1::chunked::Decoder;
use warpdrive::http::h1::encode::{self, Framing, Persistence};
use warpdrive::http::h1::{Bounds, parse};
use warpdrive::http::head::{Method, RequestHead, ResponseHead, Version};
use warpdrive::http::status::Status;
use warpdrive::plan::{Plan, RouteId, UpstreamId, load};
use warpdrive::proxy::Core;
use warpdrive::proxy::connection::Work;
use warpdrive::proxy::trace::Trace;
use warpdrive::telemetry::counters::Outcome;
use warpdrive::telemetry::{AccessLog, Counters, Spans};

use instruments::Case;

mod instruments;

const BOUNDS: Bounds = Bounds { head: 32 * 1024, fields: 100, uri: 8 * 1024 };

const REQUEST: &[u8] = b"GET /products/17/reviews?page=2 HTTP/1.1\r\nHost: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.com/products\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Sat, 21 Nov 2026 00:00:00 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\nContent-Length: 1024\r\nETag: \"abcdef-400\"\r\n\
    Cache-Control: max-age=60\r\nConnection: keep-alive\r\n\r\n";

const CHUNKED: &[u8] = b"10\r\n0123456789abcdef\r\n20;x=y\r\n0123456789abcdef0123456789abcdef\r\n0\r\n\r\n";

const TEMPLATE: &str = "[log]\nformat = \"custom\"\n\
    template = '${client} [${time}] \"${method} ${uri}\" ${status} ${bytes_out} ${duration_ms}'\n";

fn cases() -> Vec<(&'static str, Case)> {
    vec![
        ("parse a request of 8 fields", parse_request()),
        ("encode it for an upstream", encode_request()),
        ("parse a response of 7 fields", parse_response()),
        ("encode it for a client", encode_response()),
        ("decode 48 bytes in 2 chunks", decode_chunks()),
        ("make a request id and write it", request_id()),
        ("count an exchange", count_exchange()),
        ("record an exchange, without a log", record("[middleware]\nlog_requests = false\n")),
        ("with a line in JSON, the default", record("")),
        ("with one in the combined format", record("[log]\nformat = \"combined\"\n")),
        ("with one of a template", record(TEMPLATE)),
        ("with one for each hundredth", record("[log]\nsample = 0.01\n")),
        ("in JSON, with a trace", record("[tracing]\ntraceparent = \"trusted\"\n")),
        ("in JSON, with an exported span", record("[tracing]\nexport = \"http://127.0.0.1:4318\"\n")),
    ]
}

fn parsed_request() -> RequestHead {
    let mut head = RequestHead::default();
    parse::request(REQUEST, BOUNDS, &mut head).expect("the request is well-formed");
    head
}

fn parsed_response() -> ResponseHead {
    let mut head = ResponseHead::default();
    parse::response(RESPONSE, BOUNDS, Method::Get, &mut head).expect("the response is well-formed");
    head
}

fn parse_request() -> Case {
    let mut head = RequestHead::default();
    Box::new(move || {
        black_box(parse::request(black_box(REQUEST), BOUNDS, &mut head)).expect("well-formed");
    })
}

fn encode_request() -> Case {
    let head = parsed_request();
    let peer = Peer::new(&Settings::default(), [127, 0, 0, 1].into());
    let stamp = Stamp { request_id: [b'0'; 32], start_ms: 1_795_219_200_000, span: None };
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        let path = head.text(head.target.path);
        encode::request(&mut out, black_box(&head), path, &peer, &stamp);
        black_box(&out);
    })
}

fn parse_response() -> Case {
    let mut head = ResponseHead::default();
    Box::new(move || {
        black_box(parse::response(black_box(RESPONSE), BOUNDS, Method::Get, &mut head)).expect("well-formed");
    })
}

fn encode_response() -> Case {
    let head = parsed_response();
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        let framing = Framing::of(&head, false, Version::Http11);
        encode::response(&mut out, black_box(&head), framing, Persistence::KeepAlive, &[b'0'; 29], None);
        black_box(&out);
    })
}

fn decode_chunks() -> Case {
    let mut buffer = CHUNKED.to_vec();
    Box::new(move || {
        buffer.copy_from_slice(CHUNKED);
        black_box(Decoder::default().decode(&mut buffer)).expect("well-formed");
    })
}

fn plan(more: &str) -> Arc<Plan> {
    let upstream = "[upstreams.app]\nsocket = \"/run/app.sock\"\n[[routes]]\nupstream = \"app\"\n";
    let file = File { path: "warpdrive.toml".into(), text: format!("{upstream}{more}") };
    let sources = Sources { file: Some(file), ..Sources::default() };
    Arc::new(load(&sources).unwrap_or_else(|wrong| panic!("{}", wrong[0])).plan)
}

fn request_id() -> Case {
    let core = Core::new(0, plan(""), &[], Arc::default(), Arc::default(), None, None);
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        push_field(&mut out, b"X-Request-Id", black_box(&core.request_id()));
        black_box(&out);
    })
}

/// What is kept and told of one exchange, from its beginning to its end: request id, clock, counters,
/// and whatever else the configuration says. Nobody takes what is handed on.
fn record(more: &str) -> Case {
    let (full, lines) = crossbeam_channel::bounded(1);
    std::mem::forget(lines);
    let (log, spans) = (AccessLog::new(full.clone()), Spans::new(full));
    let core = Core::new(0, plan(more), &[], Arc::default(), Arc::default(), Some(log), Some(spans));
    let active = core.active();
    let peer = Peer::new(&active.plan.forwarding, [127, 0, 0, 1].into());
    let mut work = Work::default();
    work.request = parsed_request();
    work.peer = Some(peer.clone());
    Box::new(move || {
        let mut trace = Trace::start(&core, true);
        trace.begin_span(&core, &active.plan.tracing, black_box(&work.request), &peer);
        trace.route = Some(RouteId(0));
        trace.upstream = Some(UpstreamId(0));
        trace.attempts = 1;
        trace.status = Status(200);
        trace.bytes_out = 1234;
        trace.response_head_is_here();
        trace.end();
        trace.tell(&core, &active, &work);
    })
}

fn count_exchange() -> Case {
    let counters = Counters::default();
    let ledger = counters.adopt(["/api/*", "*"].into_iter(), ["app"].into_iter());
    let outcome = Outcome {
        route: Some(1),
        upstream: Some(0),
        status: Status(200),
        bytes_in: 0,
        bytes_out: 1234,
        duration: Duration::from_micros(345),
        upstream_duration: Some(Duration::from_micros(300)),
        rejection: None,
    };
    Box::new(move || {
        counters.exchanges.add(1);
        black_box(&ledger).note(black_box(&outcome));
    })
}

/// Runs one case so many times; this is what callgrind looks at.
fn repeat(name: &str, rounds: u64) {
    let (_, mut case) = cases().into_iter().find(|(known, _)| *known == name).expect("a case of that name");
    for _ in 0..rounds {
        case();
    }
}

/// Shows that every case works, not what it costs.
fn try_each() {
    let mut cases = cases();
    for (_, case) in &mut cases {
        for _ in 0..3 {
            case();
        }
    }
    println!("{} cases work; `cargo bench` measures them", cases.len());
}

fn main() {
    if let Some((name, rounds)) = instruments::asked_to_repeat() {
        return repeat(&name, rounds);
    }
    if !instruments::is_bench() {
        return try_each();
    }
    println!("{:<34}{:>14}{:>14}", "one call", "instructions", "allocations");
    for (name, mut case) in cases() {
        let allocated = instruments::allocations(&mut case);
        let counted = match instruments::instructions(name, 1_000) {
            Some(counted) => counted.to_string(),
            None => "no valgrind".to_owned(),
        };
        println!("{name:<34}{counted:>14}{allocated:>14.2}");
    }
}
