//! What a call of a guest in Wasm costs: policies beside strategies of ours, for 8 endpoints, all
//! healthy; and the hooks of middleware.
//!
//! Wall time, because no simulator runs what the guest is compiled to: the least and the median of several
//! rounds. `cargo bench --bench guests`.

use std::cell::{OnceCell, RefCell};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use warpdrive::http::forwarding::{self, Peer, Stamp};
use warpdrive::http::h1::{Bounds, parse};
use warpdrive::http::head::{RequestHead, ResponseHead};
use warpdrive::http::target::EncodedSlash;
use warpdrive::net::Buffer;
use warpdrive::upstream::balance::Strategy;
use warpdrive::upstream::upstreams::Question;
use warpdrive::upstream::{Address, Endpoint as Place, Endpoints, Settings, UpstreamId, Upstreams};
use warpdrive::wasm;
use warpdrive::wasm::hooks::asked::{Asked, Candidates, NoEndpoints, Request};
use warpdrive::wasm::hooks::filter::passing::{Body, Bounds as ChangeBounds, Passing, Seen};
use warpdrive::wasm::hooks::filter::tally::Hook;
use warpdrive::wasm::hooks::filter::{self, Filters, Notes};
use warpdrive::wasm::hooks::settings::{Filter, Guest, Limits, OnFailure, Way};
use warpdrive::wasm::hooks::{Endpoint, Policies, Seat};

const ENDPOINTS: u32 = 8;
const ROUNDS: usize = 11;
const CALLS: u32 = 20_000;

struct NoUrls;

impl Candidates for NoUrls {
    fn url(&self, index: usize) -> Option<String> {
        Some(format!("http://10.0.0.{index}:3000"))
    }
}

fn request(fields: &str) -> RequestHead {
    let mut head = RequestHead::default();
    let text = "GET /a/b?x=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\
                Cookie: theme=dark; sid=0123456789abcdef\r\nX-User: u1\r\n";
    let text = format!("{text}{fields}\r\n");
    let bounds = Bounds { head: 4096, fields: 64, uri: 1024 };
    assert!(parse::request(text.as_bytes(), bounds, &mut head).is_ok());
    head
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

fn guest(head: &RequestHead, peer: &Peer, seat: &Rc<Seat>, name: &str) {
    let endpoint =
        |id: u32| Endpoint { id, active: id * 7 % 5, ewma_us: 1000 + id * 31, weight: 1, healthy: true };
    let head = seat.policy.guest.subscription.head.then_some((head, peer));
    measure(name, || {
        let request = Request {
            head,
            upstream: "app",
            attempt: 0,
            text: None,
            candidates: &NoUrls,
            model: OnceCell::new(),
        };
        let asked = Asked { request: Some(&request), endpoints: &NoEndpoints };
        let picked = seat.select(asked, (0..ENDPOINTS).map(endpoint));
        black_box(picked);
    });
    let fallbacks: u64 = [4, 5, 6, 7]
        .map(|at| {
            seat.policy.guest.component.account.count(warpdrive::wasm::hooks::account::Verdict::ALL[at].0)
        })
        .into_iter()
        .sum();
    assert_eq!(fallbacks, 0, "{name} has failed");
}

fn filter(file: PathBuf, config: &str) -> Filter {
    let on_failure =
        OnFailure { error: Way::Open, timeout: Way::Open, overload: Way::Open, load: Way::Open, status: 503 };
    Filter { guest: settings(file, config), on_failure, body_max: 1 << 20 }
}

/// The hook for requests, with the head as it is.
fn on_request(head: &mut RequestHead, peer: &Peer, seat: &Rc<filter::Seat>, name: &str) {
    let stamp = Stamp { request_id: [b'0'; 32], start_ms: 0, span: None };
    let bounds = ChangeBounds {
        head_bytes: 64 << 10,
        fields: 100,
        uri_bytes: 8192,
        encoded_slash: EncodedSlash::Keep,
    };
    let mut notes = Notes::default();
    let mut held = Some(Buffer::of(&[b'x'; 1024]));
    measure(name, || {
        let mut undo = seat.undo.borrow_mut();
        undo.begin();
        {
            let passing = RefCell::new(Passing {
                request: Seen::Open(head),
                response: None,
                body: Body::Whole { held: &mut held, most: 1 << 20 },
                peer,
                stamp: &stamp,
                notes: &mut notes,
                place: 0,
                bounds,
                undo: &mut undo,
            });
            assert!(seat.on_request(&passing, &NoEndpoints).is_ok());
        }
        // As it was, for the next call.
        undo.undo(Some(head), None, None, &mut notes);
    });
}

/// The hook for responses, which sets no field.
fn on_response(head: &RequestHead, peer: &Peer, seat: &Rc<filter::Seat>, name: &str) {
    let stamp = Stamp { request_id: [b'0'; 32], start_ms: 0, span: None };
    let bounds =
        ChangeBounds { head_bytes: 64 << 10, fields: 100, uri_bytes: 0, encoded_slash: EncodedSlash::Keep };
    let (mut notes, mut response) = (Notes::default(), ResponseHead::default());
    measure(name, || {
        let mut undo = seat.undo.borrow_mut();
        undo.begin();
        let passing = RefCell::new(Passing {
            request: Seen::Closed(head),
            body: Body::Unseen,
            response: Some(Seen::Open(&mut response)),
            peer,
            stamp: &stamp,
            notes: &mut notes,
            place: 0,
            bounds,
            undo: &mut undo,
        });
        assert!(seat.on_response(&passing, &NoEndpoints).is_ok());
    });
}

/// A chunk of 16 KiB on its way through a guest.
fn chunk(head: &RequestHead, peer: &Peer, seat: &Rc<filter::Seat>, name: &str) {
    let stamp = Stamp { request_id: [b'0'; 32], start_ms: 0, span: None };
    let bounds =
        ChangeBounds { head_bytes: 64 << 10, fields: 100, uri_bytes: 0, encoded_slash: EncodedSlash::Keep };
    let (mut notes, response) = (Notes::default(), ResponseHead::default());
    let mut undo = seat.undo.borrow_mut();
    let passing = RefCell::new(Passing {
        request: Seen::Closed(head),
        response: Some(Seen::Closed(&response)),
        body: Body::Unseen,
        peer,
        stamp: &stamp,
        notes: &mut notes,
        place: 0,
        bounds,
        undo: &mut undo,
    });
    let mut stream = seat.begin_body(Hook::ResponseBody, &passing, &NoEndpoints).expect("a body");
    let line = b"some words, 12 of them numbers, and no address at all; ";
    let bytes: Vec<u8> = line.iter().copied().cycle().take(16 << 10).collect();
    measure(name, || {
        assert!(stream.chunk(&bytes, false, &NoEndpoints).is_ok());
    });
}

/// A token that is good for ever, as `auth` wants it: made for the key and the audience below.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0.eyJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDAsImF1ZCI6InNob3AifQ.V45ZJVvkA_0y4aizMfNBmZ-pYyp6FzkEeOD6dJBwOzo";
const AUTH: &str = r#"{"audience":"shop","keys":{"k1":"0123456789abcdef0123456789abcdef"}}"#;

fn middleware(peer: &Peer, cache_dir: &Path) {
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
        on_request(&mut request(fields), peer, seat, name);
    }
    let seats = seats.list();
    on_response(&request(""), peer, &seats[0], "middleware in Rust: response, one field");
    let at = seats.len() - 2;
    let head = request("");
    chunk(&head, peer, &seats[at], "middleware in Rust: 16 KiB of a stream, passed");
    let capitals = request("X-Of: response\r\nX-Stream: capitals\r\n");
    chunk(&capitals, peer, &seats[at], "middleware in Rust: 16 KiB of a stream, replaced");
    chunk(&head, peer, &seats[at + 1], "middleware in Rust: 16 KiB of a stream, pii");
}

fn main() {
    let head = request("");
    let peer = Peer::new(&forwarding::Settings::default(), [192, 0, 2, 1].into(), 80);
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
        guest(&head, &peer, seat, name);
    }
    middleware(&peer, &cache_dir);
    std::fs::remove_file(by_hand).expect("the file for the guest by hand");
    std::fs::remove_dir_all(cache_dir).expect("the folder of the compiled code");
}
