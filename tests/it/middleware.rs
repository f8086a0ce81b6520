//! Middleware in Wasm, with guests that are real: what they see and change, and what is done where
//! they fail.

mod asking;
mod bodies;
mod faults;
mod messages;
mod smg;
mod streams;
mod tokens;
mod totals;

use std::path::Path;

use serde_json::Value;

use crate::admin::{self, LISTEN, admin};
use crate::harness::client::Response;
use crate::harness::{Builder, Client, Origin, Proxy, eventually, holds};

/// Where the components are.
fn guest(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/middleware").join(name);
    path.display().to_string()
}

/// A proxy with a middleware `m` in front of an origin, before it is started.
fn with(origin: &Origin, file: &str, middleware: &str, route: &str) -> Builder {
    // On any machine an instance is made within it: then its core makes another one at once.
    let time = if middleware.contains("max_execution_time") { "" } else { "max_execution_time = \"2s\"" };
    let builder = Builder::new().workers(1);
    let cache = builder.directory().join("cache");
    builder
        .toml(&format!(
            "[wasm]\ncache_dir = \"{}\"\n[wasm.middleware.m]\nfile = \"{}\"\n{time}\n{middleware}\n{LISTEN}",
            cache.display(),
            guest(file),
        ))
        .upstream("app", origin, "")
        .route("app", &format!("host = \"a\"\nmiddleware = [\"m\"]\n{route}"))
}

fn page(proxy: &Proxy, path: &str) -> String {
    let at = admin(proxy);
    admin::ask(at, &format!("GET {path}"), &format!("Host: {at}")).1
}

/// The sum of the numbers of `/metrics` whose lines begin with this.
fn metric(proxy: &Proxy, prefix: &str) -> f64 {
    let page = page(proxy, "/metrics");
    let lines = page.lines().filter(|line| line.starts_with(prefix));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn calls(proxy: &Proxy, hook: &str, result: &str) -> f64 {
    let labels = format!("{{middleware=\"m\",hook=\"{hook}\",result=\"{result}\"}}");
    metric(proxy, &format!("warpdrive_wasm_middleware_calls_total{labels}"))
}

fn status(proxy: &Proxy) -> Value {
    let status: Value = serde_json::from_str(&page(proxy, "/status")).unwrap();
    status["middleware"][0].clone()
}

fn ask(client: &mut Client, fields: &str) -> Response {
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    client.response()
}

const LIMIT: &str = "config = { rate = 0.001, burst = 20 }";

#[test]
fn a_limit_is_exact_across_cores() {
    let origin = Origin::ok("app");
    let proxy = with(&origin, "rate-limit.wasm", LIMIT, "").workers(2).start();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let one = || {
            // Each on a connection of its own, on whatever core.
            (0..20).map(|_| ask(&mut proxy.client(), "").status).collect::<Vec<u16>>()
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(one)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(200), count(429)), (20, 40));
    assert_eq!(origin.requests().len(), 20);
    assert_eq!((calls(&proxy, "request", "next"), calls(&proxy, "request", "respond")), (20.0, 40.0));
}

#[test]
fn those_that_are_limited_are_told_when_to_come_again() {
    let origin = Origin::ok("app");
    let proxy = with(&origin, "rate-limit.wasm", "config = { rate = 0.001, burst = 1 }", "").start();
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, "").status, 200);
    // On the same connection: an answer of a guest does not end it.
    let response = ask(&mut client, "");
    assert_eq!((response.status, response.text().as_str()), (429, "too many requests\n"));
    assert!(response.head.value("retry-after").unwrap().parse::<u32>().unwrap() > 1);
    assert!(response.head.has("date"));
    assert_eq!(ask(&mut client, "").status, 429);
}

#[test]
fn other_routes_do_not_pass_it() {
    let origin = Origin::ok("app");
    let proxy = with(&origin, "rate-limit.wasm", "config = { rate = 0.001, burst = 1 }", "")
        .route("app", "path_prefix = \"/\"")
        .start();
    let mut client = proxy.client();
    for _ in 0..5 {
        client.send("GET / HTTP/1.1\r\nHost: b\r\n\r\n");
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(metric(&proxy, "warpdrive_wasm_middleware_calls_total"), 0.0);
}

#[test]
fn a_list_is_passed_in_order_until_one_answers() {
    let origin = Origin::ok("app");
    let proxy = with(&origin, "fault-filter.wasm", "", "")
        .toml(&format!("[wasm.middleware.limit]\nfile = \"{}\"\n{LIMIT}\n", guest("rate-limit.wasm")))
        .route("app", "host = \"b\"\nmiddleware = [\"limit\", \"m\"]")
        .start();
    let mut client = proxy.client();
    let mut statuses = Vec::new();
    for _ in 0..25 {
        client.send("GET / HTTP/1.1\r\nHost: b\r\n\r\n");
        statuses.push(client.response().status);
    }
    assert_eq!(statuses[19..21], [200, 429]);
    // Those that were answered before it did not come to it, and neither did the answers.
    assert_eq!((calls(&proxy, "request", "next"), calls(&proxy, "response", "next")), (20.0, 20.0));
}

#[test]
fn what_is_answered_without_an_upstream_passes_it_too() {
    let origin = Origin::ok("app");
    let proxy = with(&origin, "fault-filter.wasm", "", "")
        .toml("[[routes]]\nhost = \"o\"\nmiddleware = [\"m\"]\nresponse_headers = { name = \"X-Route\", value = \"r\" }\nrespond = { body = \"own\", status = 201 }\n")
        .toml("[[routes]]\nhost = \"r\"\nmiddleware = [\"m\"]\nredirect = { to = \"https://x.example/\" }\n")
        .start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: o\r\n\r\n");
    let own = client.response();
    assert_eq!((own.status, own.text().as_str(), own.head.value("x-route")), (201, "own", Some("r")));
    client.send("HEAD / HTTP/1.1\r\nHost: o\r\n\r\n");
    assert_eq!(client.response_to("HEAD").head.value("content-length"), Some("3"));
    client.send("GET / HTTP/1.1\r\nHost: r\r\n\r\n");
    let sent = client.response();
    assert_eq!((sent.status, sent.head.value("location")), (302, Some("https://x.example/")));
    assert_eq!((calls(&proxy, "request", "next"), calls(&proxy, "response", "next")), (3.0, 3.0));
    client.send("GET / HTTP/1.1\r\nHost: o\r\nX-Fault: response-trap\r\n\r\n");
    assert_eq!(client.response().status, 503);
}

#[test]
fn it_is_seen_what_there_is_and_what_it_did() {
    let origin = Origin::ok("app");
    let proxy = with(&origin, "rate-limit.wasm", LIMIT, "description = \"limited\"").start();
    ask(&mut proxy.client(), "");
    let status = status(&proxy);
    assert_eq!(status["middleware"], "m");
    assert_eq!(status["state"], "loaded");
    assert_eq!(status["hooks"], serde_json::json!(["request"]));
    assert_eq!(status["routes"], serde_json::json!(["limited"]));
    assert_eq!(status["calls"]["request"], serde_json::json!({ "next": 1 }));
    assert!(status["memory_bytes"].as_u64().unwrap() > 0);
    let duration = "warpdrive_wasm_middleware_call_seconds_count{middleware=\"m\",hook=\"request\"}";
    assert_eq!(metric(&proxy, duration), 1.0);
    assert!(metric(&proxy, "warpdrive_wasm_store_bytes{component=\"m\"}") > 0.0);
    eventually("its memory", || {
        let bytes = metric(&proxy, "warpdrive_wasm_memory_bytes{component=\"m\"}");
        holds(bytes > 0.0, bytes)
    });
}
