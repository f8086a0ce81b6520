//! Policies in Wasm: what they see, what their answers do, and that no request fails whatever they do.

mod faults;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::admin::{LISTEN, admin};
use crate::harness::client::request;
use crate::harness::{Builder, Client, Origin, Proxy, eventually, holds};
use crate::numbers::Numbers;
use crate::operators::{refused, under_load};
use crate::reload::reload;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Origins that answer with their names.
fn named() -> Vec<Origin> {
    NAMES.into_iter().map(Origin::ok).collect()
}

/// A policy by hand: see `policies/policy.wat`.
struct Guest {
    configure: &'static str,
    select: &'static str,
    report: &'static str,
}

const PLAIN: Guest =
    Guest { configure: "(call $subscribe (i32.const 1) (i32.const 0))", select: "(call $none)", report: "" };

impl Guest {
    fn selecting(select: &'static str) -> Guest {
        Guest { select, ..PLAIN }
    }

    fn text(&self) -> String {
        let template = include_str!("policies/policy.wat");
        let (comment, component) =
            template.split_once("\n(component").expect("a comment, then the component");
        assert!(comment.starts_with(";;"));
        let filled = component
            .replace("CONFIGURE", self.configure)
            .replace("SELECT", self.select)
            .replace("REPORT", self.report);
        format!("(component{filled}")
    }
}

/// What a proxy with a policy `p` in front of some origins is made of.
struct Setup {
    /// Lines for `[upstreams.app]` and for the policy.
    upstream: &'static str,
    policy: &'static str,
    workers: usize,
}

const SETUP: Setup = Setup { upstream: "", policy: "", workers: 1 };

impl Setup {
    fn builder(&self, origins: &[Origin]) -> Builder {
        let instance = |origin: &Origin| format!("[[upstreams.app.instances]]\n{}\n", origin.toml());
        let instances: String = origins.iter().map(instance).collect();
        let builder = Builder::new().workers(self.workers);
        let cache = builder.directory().join("cache");
        builder
            .toml(&format!(
                "[upstreams.app]\nstrategy = \"wasm\"\npolicy = \"p\"\n{}\n{instances}\
                 [wasm]\ncache_dir = \"{}\"\n[wasm.policies.p]\nfile = \"p.wat\"\n{}\n\
                 {LISTEN}",
                self.upstream,
                cache.display(),
                self.policy,
            ))
            .route("app", "path_prefix = \"/\"")
    }

    fn start(&self, guest: &Guest, origins: &[Origin]) -> Proxy {
        self.builder(origins).file("p.wat", &guest.text()).start()
    }
}

/// What operators are told at a path.
fn told(proxy: &Proxy, path: &str) -> String {
    let mut client = Client::connect(admin(proxy));
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let response = client.response();
    assert_eq!(response.status, 200);
    response.text()
}

/// The sum of the numbers of `/metrics` whose lines begin with this.
fn metric(proxy: &Proxy, prefix: &str) -> f64 {
    let page = told(proxy, "/metrics");
    let lines = page.lines().filter(|line| line.starts_with(prefix));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn verdicts(proxy: &Proxy, verdict: &str) -> f64 {
    metric(proxy, &format!("warpdrive_wasm_policy_calls_total{{policy=\"p\",verdict=\"{verdict}\"}}"))
}

fn policy_status(proxy: &Proxy) -> Value {
    let status: Value = serde_json::from_str(&told(proxy, "/status")).unwrap();
    status["policies"][0].clone()
}

fn ask(client: &mut Client, field: &str) -> String {
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n"));
    let response = client.response();
    assert_eq!(response.status, 200);
    response.text()
}

/// By the first digit of the field `x-pick`; none without it.
const BY_FIELD: &str = "(local.set $i (call $field (i32.const 100) (i32.const 6)))
    (if (i32.eq (local.get $i) (i32.const -1)) (then (return (call $none))))
    (call $pick (i32.sub (local.get $i) (i32.const 48)))";

#[test]
fn a_policy_chooses_by_what_the_request_says() {
    let origins = named();
    let proxy = SETUP.start(&Guest::selecting(BY_FIELD), &origins);
    let mut client = proxy.client();
    for (index, name) in [(2, "c"), (0, "a"), (2, "c"), (1, "b"), (1, "b")] {
        assert_eq!(ask(&mut client, &format!("X-Pick: {index}\r\n")), name);
    }
    assert_eq!(verdicts(&proxy, "picked"), 5.0);
}

#[test]
fn one_that_picks_nothing_leaves_it_to_the_fallback() {
    let origins = named();
    let proxy = SETUP.start(&Guest::selecting(BY_FIELD), &origins);
    let mut client = proxy.client();
    let names: Vec<String> = (0..6).map(|_| ask(&mut client, "")).collect();
    assert_eq!(names, ["a", "b", "c", "a", "b", "c"]);
    assert_eq!((verdicts(&proxy, "picked"), verdicts(&proxy, "none")), (0.0, 6.0));
}

#[test]
fn the_fallback_may_be_any_strategy_with_its_keys() {
    let origins = named();
    let upstream = "fallback = \"consistent_hash\"\nhash_key = \"header:X-Tenant\"";
    let proxy = Setup { upstream, ..SETUP }.start(&Guest::selecting(BY_FIELD), &origins);
    let mut client = proxy.client();
    let first = ask(&mut client, "X-Tenant: t\r\n");
    (0..9).for_each(|_| assert_eq!(ask(&mut client, "X-Tenant: t\r\n"), first));
    assert_eq!(ask(&mut client, "X-Tenant: t\r\nX-Pick: 2\r\n"), "c");
}

#[test]
fn what_it_does_not_subscribe_to_is_not_there() {
    let origins = named();
    let blind =
        Guest { configure: "(call $subscribe (i32.const 0) (i32.const 0))", ..Guest::selecting(BY_FIELD) };
    let proxy = SETUP.start(&blind, &origins);
    assert_eq!(ask(&mut proxy.client(), "X-Pick: 2\r\n"), "a");
    assert_eq!(verdicts(&proxy, "none"), 1.0);
}

#[test]
fn one_that_subscribes_to_text_sees_the_beginning_of_the_body() {
    let origins = named();
    // By the length of the text: at most 5 here.
    let select = "(local.set $i (call $text))
        (if (i32.eq (local.get $i) (i32.const -1)) (then (return (call $pick (i32.const 0)))))
        (if (i32.eq (local.get $i) (i32.const 5)) (then (return (call $pick (i32.const 1)))))
        (call $pick (i32.const 2))";
    let guest =
        Guest { configure: "(call $subscribe (i32.const 0) (i32.const 5))", ..Guest::selecting(select) };
    let proxy = SETUP.start(&guest, &origins);
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, ""), "a");
    // It waits for as much as it wants, and no more.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n12");
    assert!(client.is_quiet_for(Duration::from_millis(300)));
    client.send("345");
    client.send("678");
    assert_eq!(client.response().text(), "b");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n12\r\n");
    client.send("1\r\n3\r\n0\r\n\r\n");
    assert_eq!(client.response().text(), "c");
    let bodies: Vec<Vec<u8>> =
        origins.iter().flat_map(|origin| origin.requests()).map(|request| request.body.clone()).collect();
    assert_eq!(bodies, [b"".to_vec(), b"12345678".to_vec(), b"123".to_vec()]);
}

#[test]
fn the_model_of_a_request_is_known() {
    let origins = named();
    let select = "(local.set $i (call $model))
        (if (i32.eq (local.get $i) (i32.const 108)) (then (return (call $pick (i32.const 1)))))
        (call $pick (i32.const 2))";
    let guest =
        Guest { configure: "(call $subscribe (i32.const 0) (i32.const 1000))", ..Guest::selecting(select) };
    let proxy = SETUP.start(&guest, &origins);
    let mut client = proxy.client();
    for (body, name) in
        [(r#"{"messages":[],"model":"large"}"#, "b"), (r#"{"model":"small"}"#, "c"), ("no JSON", "c")]
    {
        let length = body.len();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"));
        assert_eq!(client.response().text(), name, "{body}");
    }
}

#[test]
fn a_client_that_waits_for_leave_to_send_its_body_gets_it() {
    let origins = named();
    let guest = Guest {
        configure: "(call $subscribe (i32.const 0) (i32.const 5))",
        ..Guest::selecting("(call $pick (call $text))")
    };
    let proxy = SETUP.start(&guest, &origins);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    // Ours, and that of the origin, which is told of the client's wish.
    assert_eq!(client.head().word(1), "100");
    client.send("12");
    assert_eq!(client.head().word(1), "100");
    assert_eq!(client.response().text(), "c");
}

#[test]
fn a_policy_is_told_how_its_requests_went() {
    let origins = named();
    let guest = Guest {
        report: "(call $metric (f64.convert_i32_u (local.get $status)))",
        ..Guest::selecting(BY_FIELD)
    };
    let proxy = SETUP.start(&guest, &origins);
    let mut client = proxy.client();
    // Not of what the fallback picked.
    for field in ["X-Pick: 1\r\n", "", "X-Pick: 2\r\n"] {
        ask(&mut client, field);
    }
    let labels = "{component=\"p\",name=\"seen\"}";
    eventually("both reports", || {
        let count = metric(&proxy, &format!("warpdrive_wasm_metric_count{labels}"));
        holds(count == 2.0, count)
    });
    assert_eq!(metric(&proxy, &format!("warpdrive_wasm_metric_sum{labels}")), 400.0);
}

#[test]
fn the_store_is_one_for_all_cores() {
    let origins = named();
    let select = "(call $metric (call $next)) (call $none)";
    let proxy = Setup { workers: 2, ..SETUP }.start(&Guest::selecting(select), &origins);
    const REQUESTS: u32 = 40;
    for _ in 0..REQUESTS {
        // Each on a connection of its own, on whatever core.
        ask(&mut proxy.client(), "");
    }
    let labels = "{component=\"p\",name=\"seen\"}";
    let sum = metric(&proxy, &format!("warpdrive_wasm_metric_sum{labels}"));
    assert_eq!(sum, f64::from(REQUESTS * (REQUESTS + 1) / 2));
    assert!(metric(&proxy, "warpdrive_wasm_store_bytes") > 0.0);
}

#[test]
fn endpoints_of_any_upstream_can_be_asked_about() {
    let origins = named();
    let proxy =
        SETUP.start(&Guest::selecting("(call $pick (i32.sub (call $endpoints) (i32.const 1)))"), &origins);
    assert_eq!(ask(&mut proxy.client(), ""), "c");
}

#[test]
fn a_retry_is_another_attempt_without_the_endpoint_that_failed() {
    let mut origins = named();
    origins[1] = Origin::scripted(|c| {
        c.expect_request()?;
        Ok(())
    });
    // The first attempt at the second endpoint, the next one there where it says it is healthy.
    let select = "(if (i32.eqz (call $attempt)) (then (return (call $pick (i32.const 1)))))
        (call $pick (i32.mul (i32.const 2)
            (i32.eqz (i32.load8_u (i32.add (local.get $list) (i32.const 36))))))";
    let proxy = SETUP.start(&Guest::selecting(select), &origins);
    assert_eq!(ask(&mut proxy.client(), ""), "c");
    assert_eq!(verdicts(&proxy, "picked"), 2.0);
}

/// A guest that was built from `wit/examples`, as the policy of a proxy.
fn with_example(name: &str, policy: &'static str, workers: usize, origins: &[Origin]) -> Proxy {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/policies").join(name);
    let builder = Setup { policy, workers, ..SETUP }.builder(origins);
    std::fs::copy(from, builder.directory().join("p.wat")).unwrap();
    builder.start()
}

#[test]
fn a_sticky_policy_keeps_to_its_cookie_on_all_cores() {
    let origins = named();
    let proxy = with_example("sticky.wasm", "config = { cookie = \"sid\" }", 2, &origins);
    let of = |sid: u32| ask(&mut proxy.client(), &format!("Cookie: sid={sid}\r\n"));
    let first: Vec<String> = (0..12).map(of).collect();
    assert_eq!(first, (0..12).map(of).collect::<Vec<_>>());
    assert!(NAMES.iter().all(|name| first.iter().any(|one| one == name)), "{first:?}");
    assert_eq!(verdicts(&proxy, "picked"), 24.0);
    ask(&mut proxy.client(), "");
    assert_eq!(verdicts(&proxy, "none"), 1.0);
    let status = policy_status(&proxy);
    assert_eq!(status["state"], "loaded");
    assert!(metric(&proxy, "warpdrive_wasm_memory_bytes") > 0.0);
}

#[test]
fn a_sticky_policy_without_its_key_says_why() {
    let origins = named();
    let proxy = with_example("sticky.wasm", "", 1, &origins);
    proxy.stderr_contains("left to the fallback: configure: config: either cookie or field is needed");
}

#[test]
fn the_least_loaded_endpoint_is_picked() {
    let origins = named();
    let proxy = with_example("least-loaded.wasm", "", 1, &origins);
    let mut client = proxy.client();
    (0..9).for_each(|_| drop(ask(&mut client, "")));
    assert_eq!(verdicts(&proxy, "picked"), 9.0);
    let status = policy_status(&proxy);
    assert!(status["name"].is_string() && status["version"].is_string(), "{status}");
    assert!(status["statistics"][0].is_object(), "{status}");
    assert_eq!(status["upstreams"][0], "app");
}

#[test]
fn a_policy_in_javascript_picks_at_random() {
    let origins = named();
    let proxy = with_example("random-js.wasm", "", 1, &origins);
    let mut client = proxy.client();
    (0..60).for_each(|_| drop(ask(&mut client, "")));
    assert_eq!(verdicts(&proxy, "picked"), 60.0, "{}", policy_status(&proxy));
    assert!(origins.iter().all(|origin| !origin.requests().is_empty()));
    let status = policy_status(&proxy);
    assert_eq!(status["name"], "wasm_random_js", "{status}");
    assert_eq!(status["statistics"][0]["requestCount"], 60, "{status}");
}

#[test]
fn numbers_of_policies_are_well_formed() {
    let origins = named();
    let proxy = SETUP.start(&Guest::selecting("(call $metric (f64.const 0.5)) (call $none)"), &origins);
    ask(&mut proxy.client(), "");
    Numbers::read(admin(&proxy)).check();
}

#[test]
fn a_reload_puts_another_policy_into_force_and_keeps_what_was_counted() {
    let origins = named();
    let proxy =
        SETUP.start(&Guest::selecting("(call $metric (f64.const 1)) (call $pick (i32.const 1))"), &origins);
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, ""), "b");
    let file = proxy.directory().join("p.wat");
    let write = |guest: &Guest| std::fs::write(&file, guest.text()).unwrap();
    write(&Guest::selecting("(call $metric (f64.const 1)) (call $pick (i32.const 2))"));
    assert_eq!(ask(&mut client, ""), "b", "nothing happens by itself");
    reload(&proxy);
    assert_eq!(ask(&mut client, ""), "c");
    // One that cannot be loaded leaves the other in force.
    write(&Guest { configure: "(call $decline)", ..PLAIN });
    let told = refused(&proxy, &["reload"]);
    assert!(told.contains("policy `p`") && told.contains("configure: no thanks"), "{told}");
    assert_eq!(ask(&mut client, ""), "c");
    std::fs::remove_file(&file).unwrap();
    refused(&proxy, &["reload"]);
    assert_eq!(ask(&mut client, ""), "c");
    assert_eq!(verdicts(&proxy, "picked"), 5.0);
    assert_eq!(metric(&proxy, "warpdrive_wasm_metric_count"), 5.0);
}

/// Sees the first five bytes of a body, and then picks the same endpoint always.
fn reading(select: &'static str) -> Guest {
    Guest { configure: "(call $subscribe (i32.const 0) (i32.const 5))", ..Guest::selecting(select) }
}

#[test]
fn a_request_that_waits_for_its_body_is_placed_by_the_policy_that_it_began_with() {
    let origins = named();
    let proxy = SETUP.start(&reading("(call $pick (i32.const 1))"), &origins);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12").until_taken();
    assert!(client.is_quiet_for(Duration::from_millis(300)));
    let file = proxy.directory().join("p.wat");
    std::fs::write(&file, reading("(call $pick (i32.const 2))").text()).unwrap();
    reload(&proxy);
    assert_eq!(ask(&mut proxy.client(), ""), "c");
    client.send("345");
    assert_eq!(client.response().text(), "b");
    assert_eq!(ask(&mut client, ""), "c");
}

#[test]
fn a_body_that_a_policy_waits_for_has_its_time() {
    let origins = named();
    let guest = reading("(call $pick (i32.const 1))");
    let builder = SETUP.builder(&origins).file("p.wat", &guest.text());
    let proxy = builder.limit("body_timeout = \"300ms\"").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12");
    assert_eq!(client.response().status, 408);
    assert_eq!(metric(&proxy, "warpdrive_wasm_policy_calls_total"), 0.0);
    assert!(origins.iter().all(|origin| origin.requests().is_empty()));
}

#[test]
fn reloads_under_load_fail_no_request() {
    let origins = named();
    let proxy =
        Setup { workers: 2, ..SETUP }.start(&Guest::selecting("(call $pick (i32.const 1))"), &origins);
    let file = proxy.directory().join("p.wat");
    under_load(&proxy, &request("/"), || {
        for round in 0..10 {
            let select = ["(call $pick (i32.const 1))", "(call $pick (i32.const 2))"][round % 2];
            std::fs::write(&file, Guest::selecting(select).text()).unwrap();
            reload(&proxy);
        }
    });
    let all = metric(&proxy, "warpdrive_wasm_policy_calls_total");
    assert_eq!(verdicts(&proxy, "picked"), all, "{}", policy_status(&proxy));
}

#[test]
fn one_that_keeps_what_it_is_given_is_replaced_before_that_is_too_much() {
    let origins = named();
    let guest = Guest::selecting("(call $pick (i32.const 1))");
    let text = guest.text().replacen("(call $drop (local.get $context))", "", 1);
    let proxy = SETUP.builder(&origins).file("p.wat", &text).start();
    let mut client = proxy.client();
    (0..1100).for_each(|_| assert_eq!(ask(&mut client, ""), "b"));
    eventually("another instance", || {
        let made = metric(&proxy, "warpdrive_wasm_instances_made_total");
        holds(made == 2.0, made)
    });
    assert_eq!(ask(&mut client, ""), "b");
    assert_eq!(verdicts(&proxy, "picked"), 1101.0);
}
