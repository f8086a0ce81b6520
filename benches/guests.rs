//! What a call of a guest in Wasm costs: policies beside strategies of ours, for 8 endpoints, all
//! healthy; and the hooks of middleware.
//!
//! Wall time, because no simulator runs what the guest is compiled to: the least and the median of several
//! rounds. `cargo bench --bench guests`.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use warpdrive::http::forwarding::{self, Peer};
use warpdrive::http::h1::{Bounds, parse};
use warpdrive::http::head::RequestHead;
use warpdrive::upstream::balance::Strategy;
use warpdrive::upstream::upstreams::Question;
use warpdrive::upstream::{Address, Endpoint as Place, Endpoints, Settings, UpstreamId, Upstreams};
use warpdrive::wasm;
use warpdrive::wasm::hooks::asked::NoEndpoints;
use warpdrive::wasm::hooks::filter::tally::Hook;
use warpdrive::wasm::hooks::filter::{self, Filters};
use warpdrive::wasm::hooks::settings::{Filter, Guest, Limits, OnFailure, Waiting, Way};
use warpdrive::wasm::hooks::{Policies, Seat};
use warpdrive::wasm::trial::hooks::{ENDPOINTS, Exchange};

const ROUNDS: usize = 11;
const CALLS: u32 = 20_000;

/// What every request here has, and `fields`.
fn text(fields: &str) -> String {
    format!(
        "GET /a/b?x=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\
         Cookie: theme=dark; sid=0123456789abcdef\r\nX-User: u1\r\n{fields}\r\n"
    )
}

fn exchange(fields: &str, body: &[u8]) -> Exchange {
    Exchange::of(text(fields).as_bytes(), body).expect("a request")
}

fn settings(file: PathBuf, config: &str) -> Guest {
    Guest {
        name: file.display().to_string(),
        place: String::new(),
        file,
        config: serde_json::from_str(config).expect("a JSON object"),
        limits: Limits { memory: 64 << 20, time: Duration::from_millis(50) },
        store: String::new(),
        store_bytes: 1 << 20,
    }
}

fn measure(name: &str, mut call: impl FnMut()) {
    let begun = Instant::now();
    (0..200).for_each(|_| call());
    // What takes long is called less often.
    let calls = if begun.elapsed() > Duration::from_millis(20) { CALLS / 100 } else { CALLS };
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            (0..calls).for_each(|_| call());
            begun.elapsed().as_nanos() as f64 / f64::from(calls)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:44} least {:8.0} ns  median {:8.0} ns", rounds[0], rounds[ROUNDS / 2]);
}

fn native(head: &RequestHead, peer: &Peer, strategy: Strategy, name: &str) {
    let address = |number: u32| Address::Tcp(([10, 0, 0, number as u8], 80).into());
    let instance =
        |number: u32| warpdrive::upstream::Place::Host { host: format!("10.0.0.{number}"), port: 80 }.into();
    let settings = Settings::new("app", (0..ENDPOINTS).map(instance).collect(), strategy);
    let upstreams = Upstreams::new(0, 1);
    let endpoints = (0..ENDPOINTS).map(|number| Place::new(address(number), number)).collect();
    let table = Endpoints { upstream: UpstreamId(0), generation: 1, endpoints };
    upstreams.adopt(std::slice::from_ref(&settings), std::slice::from_ref(&table));
    let upstream = upstreams.of(UpstreamId(0));
    let now = Instant::now();
    measure(name, || {
        let question = Question { request: head, peer, now, now_ms: 1, tried: None, chooser: None };
        black_box(upstream.pick(&question).is_ok());
    });
}

fn guest(seat: &Seat, name: &str) {
    let exchange = exchange("", b"");
    measure(name, || {
        black_box(exchange.pick(seat)).expect(name);
    });
}

fn filter(file: PathBuf, config: &str) -> Filter {
    let on_failure =
        OnFailure { error: Way::Open, timeout: Way::Open, overload: Way::Open, load: Way::Open, status: 503 };
    let waiting = Waiting { timeout: Duration::from_secs(5), instances: 16 };
    Filter { guest: settings(file, config), on_failure, body_max: 1 << 20, waiting }
}

/// A chunk of 16 KiB on its way through a guest.
fn chunk(exchange: &mut Exchange, seat: &Rc<filter::Seat>, name: &str) {
    let mut stream = exchange.begin_body(seat, Hook::ResponseBody).expect(name);
    let line = b"some words, 12 of them numbers, and no address at all; ";
    let bytes: Vec<u8> = line.iter().copied().cycle().take(16 << 10).collect();
    measure(name, || {
        stream.chunk(&bytes, false, &NoEndpoints).expect(name);
    });
}

/// A token that is good for ever, as `auth` wants it: made for the key and the audience below.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0.eyJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDAsImF1ZCI6InNob3AifQ.V45ZJVvkA_0y4aizMfNBmZ-pYyp6FzkEeOD6dJBwOzo";
const AUTH: &str = r#"{"audience":"shop","keys":{"k1":"0123456789abcdef0123456789abcdef"}}"#;

fn middleware(cache_dir: &Path) {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/middleware");
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let bearer = bearer.as_str();
    let cases = [
        ("middleware in Rust: one field", "fault-filter.wasm", "{}", ""),
        ("middleware in Rust: ten fields, one by one", "fault-filter.wasm", r#"{"x":1}"#, "X-Fault: ten\r\n"),
        ("middleware in Rust: all 6 fields as a list", "fault-filter.wasm", r#"{"x":2}"#, "X-Fault: all\r\n"),
        ("middleware in Rust: changes 3 fields", "fault-filter.wasm", r#"{"x":3}"#, "X-Fault: change\r\n"),
        (
            "middleware in Rust: a body of 1 KiB",
            "fault-filter.wasm",
            r#"{"body":"4096"}"#,
            "X-Fault: read\r\n",
        ),
        ("middleware in Rust: auth (HS256)", "auth.wasm", AUTH, bearer),
        ("middleware in Rust: rate limit", "rate-limit.wasm", r#"{"rate":1000000,"burst":1000000}"#, ""),
        ("middleware in JavaScript: auth (HS256)", "auth-js.wasm", AUTH, bearer),
        ("middleware in Rust: streams, head", "fault-filter.wasm", r#"{"stream":true}"#, ""),
        ("middleware in Rust: pii, head", "pii.wasm", "{}", ""),
    ];
    let filters = cases.iter().map(|(_, file, config, _)| filter(built.join(file), config)).collect();
    let settings =
        wasm::Settings { cache_dir: cache_dir.to_owned(), cores: 1, filters, ..Default::default() };
    let guests = wasm::Compiler::default().compile(&settings).expect("middleware that can be compiled");
    let seats = Filters::new(0);
    seats.adopt(&guests);
    for (seat, (name, _, _, fields)) in seats.list().iter().zip(&cases) {
        assert_eq!(seat.filter.guest.failure(), None, "{name}");
        let mut exchange = exchange(fields, &[b'x'; 1024]);
        measure(name, || {
            black_box(exchange.on_request(seat)).expect(name);
        });
    }
    let seats = seats.list();
    let mut plain = exchange("", b"");
    let name = "middleware in Rust: response, one field";
    measure(name, || {
        black_box(plain.on_response(&seats[0])).expect(name);
    });
    let at = seats.len() - 2;
    chunk(&mut plain, &seats[at], "middleware in Rust: 16 KiB of a stream, passed");
    let mut capitals = exchange("X-Of: response\r\nX-Stream: capitals\r\n", b"");
    chunk(&mut capitals, &seats[at], "middleware in Rust: 16 KiB of a stream, replaced");
    chunk(&mut plain, &seats[at + 1], "middleware in Rust: 16 KiB of a stream, pii");
}

fn main() {
    let mut head = RequestHead::default();
    let bounds = Bounds { head: 4096, fields: 64, uri: 1024 };
    assert!(parse::request(text("").as_bytes(), bounds, &mut head).is_ok());
    let peer = Peer::new(&forwarding::Settings::default(), [192, 0, 2, 1].into());
    native(&head, &peer, Strategy::RoundRobin, "native: round_robin");
    native(&head, &peer, Strategy::P2c, "native: p2c");
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/policies");
    let by_hand = std::env::temp_dir().join(format!("warpdrive-bench-{}.wat", std::process::id()));
    let text = include_str!("../tests/it/policies/policy.wat");
    let (_, component) = text.split_once("\n(component").expect("a comment before it");
    let text = format!("(component{component}")
        .replace("CONFIGURE", "(call $subscribe (i32.const 0) (i32.const 0))")
        .replace("SELECT", "(call $pick (i32.const 1))")
        .replace("REPORT", "");
    std::fs::write(&by_hand, text).expect("a file for the guest by hand");
    let cases = [
        ("WAT: the second endpoint", by_hand.clone(), "{}"),
        ("Rust: least loaded", built.join("least-loaded.wasm"), "{}"),
        ("Rust: sticky, by a cookie", built.join("sticky.wasm"), r#"{"cookie":"sid"}"#),
        ("Rust: sticky, by a field", built.join("sticky.wasm"), r#"{"field":"x-user"}"#),
        ("JavaScript: random", built.join("random-js.wasm"), "{}"),
    ];
    let policies = cases.iter().map(|(_, file, config)| settings(file.clone(), config)).collect();
    let cache_dir = std::env::temp_dir().join(format!("warpdrive-bench-{}", std::process::id()));
    let settings = wasm::Settings { cache_dir: cache_dir.clone(), cores: 1, policies, ..Default::default() };
    let guests = wasm::Compiler::default().compile(&settings).expect("policies that can be compiled");
    let seats = Policies::new(0);
    seats.adopt(&guests);
    for (seat, (name, ..)) in seats.list().iter().zip(&cases) {
        assert_eq!(seat.policy.guest.failure(), None, "{name}");
        guest(seat, name);
    }
    middleware(&cache_dir);
    std::fs::remove_file(by_hand).expect("the file for the guest by hand");
    std::fs::remove_dir_all(cache_dir).expect("the folder of the compiled code");
}
