//! Requests that components answer: by their paths, with bodies both ways, one instance after the
//! other. What the component `probe` does, its path says (tests/guests/probe).

use std::path::{Path, PathBuf};

use crate::admin::{LISTEN, admin};
use crate::harness::client::Response;
use crate::harness::wire::values;
use crate::harness::{Builder, Client, eventually, holds, pattern};
use crate::numbers::Numbers;
use crate::operators::refused;
use crate::reload::{change, reload, reloadable};

pub fn guest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests").join(name)
}

/// The tables of one component `probe`, in a workload of its own.
pub fn probe(limits: &str) -> String {
    format!(
        "[wasm.components.probe]\nfile = \"{}\"\n[wasm.components.probe.limits]\n{limits}\n\
         [wasm.workloads.site]\ncomponents = [\"probe\"]\n",
        guest("probe.wasm").display()
    )
}

/// One core, so that it is known which instances there are; compiled code stays in the test's place.
pub fn with_engine(lines: &str) -> Builder {
    let builder = Builder::new().workers(1);
    let cache = builder.directory().join("cache");
    builder.toml(&format!("[wasm]\ncache_dir = \"{}\"\n{lines}\n", cache.display()))
}

/// All requests go to the probe.
pub fn with_probe(limits: &str) -> Builder {
    with_engine("").toml(&probe(limits)).toml("[[routes]]\nworkload = \"site\"\n")
}

fn told(response: &Response, name: &str) -> Vec<String> {
    let prefix = format!("{name}: ");
    response.text().lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
}

#[test]
fn a_component_is_told_what_an_upstream_would_be() {
    let proxy = with_probe("").start();
    let mut client = proxy.client();
    client.send(
        "POST /a/told?x=1 HTTP/1.1\r\nHost: site.example:81\r\nX-Forwarded-For: 10.0.0.1\r\n\
         X-Path-Parameters: forged=1\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-Mine: 2\r\nX-Admin-Token: t\r\n\
         Content-Length: 5\r\n\r\nhello",
    );
    let response = client.response();
    assert_eq!(response.status, 200);
    let first = response.text().lines().next().unwrap().to_owned();
    assert_eq!(first, "Method::Post site.example:81 /a/told?x=1 Some(Scheme::Http)");
    let expected: [(&str, &[&str]); 8] = [
        ("x-mine", &["2"]),
        ("x-forwarded-for", &["127.0.0.1"]),
        ("x-forwarded-proto", &["http"]),
        ("content-length", &["5"]),
        ("x-path-parameters", &[]),
        ("x-hop", &[]),
        ("connection", &[]),
        ("x-admin-token", &[]),
    ];
    for (name, values) in expected {
        assert_eq!(told(&response, name), values, "{name}");
    }
    assert_eq!(told(&response, "x-request-id").len(), 1);
    assert_eq!(client.get("/calls").status, 200, "the connection goes on");
}

#[test]
fn a_route_changes_what_a_component_is_told() {
    let route = r#"
[[routes]]
path_prefix = "/apps/site"
strip_prefix = true
workload = "site"
add_headers = { name = "X-Tenant", value = "blue" }
remove_headers = ["Cookie"]
response_headers = [{ name = "X-Frame-Options", value = "DENY" }, { name = "Content-Type", remove = true }]
"#;
    let proxy = with_engine("").toml(&probe("")).toml(route).start();
    let mut client = proxy.client();
    client.send("GET /apps/site/told?q HTTP/1.1\r\nHost: a\r\nCookie: c=1\r\n\r\n");
    let response = client.response();
    assert!(response.text().starts_with("Method::Get a /told?q "), "{}", response.text());
    assert_eq!(told(&response, "x-tenant"), ["blue"]);
    assert!(told(&response, "cookie").is_empty());
    assert_eq!(response.head.values("x-frame-options"), ["DENY"]);
    assert!(response.head.values("content-type").is_empty());
}

#[test]
fn a_workload_sends_each_path_to_its_component() {
    let component = |name: &str, path: &str| {
        format!(
            "[wasm.components.{name}]\nfile = \"{}\"\nconfig = {{ name = \"{name}\" }}\n\
             [wasm.components.{name}.interface_config.\"wasi:http/incoming-handler\"]\npath = \"{path}\"\n",
            guest("probe.wasm").display()
        )
    };
    let workload = r#"
[wasm.workloads.site]
components = ["user", "admin", "files"]
[[wasm.workloads.site.host_interfaces]]
namespace = "wasi"
package = "http"
interfaces = ["incoming-handler"]
config = { host = "site.localhost" }
[wasm.workloads.nothing]
components = []
[[routes]]
path_prefix = "/nothing"
workload = "nothing"
"#;
    let proxy = with_engine("")
        .toml(&component("user", "/user/{id}/{what}"))
        .toml(&component("admin", "/user/admin/{what}"))
        .toml(&component("files", "/files/{*rest}"))
        .toml(workload)
        .start();
    let mut client = proxy.client();
    let mut ask = |host: &str, path: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        client.response()
    };
    assert_eq!(ask("site.localhost", "/user/7/settings").text(), "config name=user\n");
    assert_eq!(ask("Site.Localhost:80", "/user/admin/settings").text(), "config name=admin\n");
    let response = ask("site.localhost", "/user/a%2Fb/told");
    assert_eq!(told(&response, "x-path-parameters"), ["id=a%2Fb&what=told"]);
    let response = ask("site.localhost", "/files/x/told");
    assert_eq!(told(&response, "x-path-parameters"), ["rest=x/told"]);
    for (host, path, text) in [
        ("site.localhost", "/other", "no component of the workload takes this path\n"),
        ("other.localhost", "/nothing", "the workload has no components\n"),
        ("other.localhost", "/user/7/told", "no route matches\n"),
    ] {
        let response = ask(host, path);
        assert_eq!((response.status, response.text().as_str()), (404, text), "{host}{path}");
    }
}

#[test]
fn a_component_sees_only_what_it_was_given() {
    let more = "[wasm.components.probe]\nenv = { GREETING = \"hi\" }\nconfig = { a = \"1\", b = \"2\" }";
    let text = probe("").replace("[wasm.components.probe]", more);
    let builder = with_engine("").variable("SECRET", "of the machine");
    let proxy = builder.toml(&text).toml("[[routes]]\nworkload = \"site\"\n").start();
    let mut client = proxy.client();
    let settings = client.get("/settings").text();
    let mut lines: Vec<&str> = settings.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["config a=1", "config b=2", "env GREETING=hi"]);
    assert_eq!(client.get("/ask").text(), "ErrorCode::HttpRequestDenied", "and may ask nobody");
}

#[test]
fn bodies_go_both_ways_and_as_fast_as_they_are_taken() {
    let proxy = with_probe("").start();
    let mut client = proxy.client();
    let body = pattern(1 << 20);
    client.send(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    let mut sender = client.sender();
    let copy = body.clone();
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut sender, &copy));
    let response = client.response();
    sending.join().unwrap().unwrap();
    assert_eq!((response.status, response.body == body), (200, true));
    // The answer began before the request was through.
    let mut client = proxy.client();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    client.send("2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n");
    let response = client.response();
    assert_eq!(response.text(), "abcde");
    assert_eq!(values(&response.trailers, "x-sum"), ["5"]);
    let mut client = proxy.client();
    assert_eq!(client.get("/bytes?300000").body.len(), 300_000);
    let response = client.get("/trailers");
    assert_eq!(
        (response.text().as_str(), values(&response.trailers, "x-sum")),
        ("with trailers", vec!["42"])
    );
    assert_eq!(proxy.log_lines(4, |line| line.status() == 200).len(), 4);
}

#[test]
fn what_has_no_body_has_none() {
    let proxy = with_probe("").start();
    let mut client = proxy.client();
    client.send("HEAD /bytes?300000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status, 200);
    assert_eq!(client.get("/status?204").status, 204);
    assert_eq!(client.get("/status?304").status, 304);
    assert_eq!(client.get("/status?201").status, 201);
    client.send("GET /bytes?5 HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().text(), "xxxxx");
}

#[test]
fn a_body_that_nobody_reads_does_not_end_the_connection_if_it_is_short() {
    let proxy = with_probe("").start();
    let mut client = proxy.client();
    client.send("POST /calls HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response().text(), "1");
    assert_eq!(client.get("/calls").status, 200);
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.response().status, 100);
    client.send("later");
    assert_eq!(client.response().text(), "later");
}

#[test]
fn an_instance_serves_as_often_as_it_may() {
    let calls = |reuse: &str, count: usize| -> Vec<String> {
        let proxy = with_probe(reuse).start();
        let mut client = proxy.client();
        (0..count).map(|_| client.get("/calls").text()).collect()
    };
    assert_eq!(calls("", 3), ["1", "1", "1"], "by default nobody sees what another left");
    assert_eq!(calls("reuse = 3", 5), ["1", "2", "3", "1", "2"]);
}

#[test]
fn an_instance_that_waits_too_long_ends() {
    let proxy = with_probe("reuse = 100\nidle = \"1ms\"").start();
    let mut client = proxy.client();
    assert_eq!(client.get("/calls").text(), "1");
    // Once a second those that wait are looked at.
    eventually("a fresh instance", || {
        let calls = client.get("/calls").text();
        holds(calls == "1", calls)
    });
}

#[test]
fn what_is_written_is_in_the_log_under_the_instances_name() {
    let proxy = with_probe("output = \"1 KiB\"").start();
    let mut client = proxy.client();
    assert_eq!(client.get("/print?0").status, 200);
    proxy.stderr_contains("probe/0.0: to standard output");
    proxy.stderr_contains("probe/0.0: to standard error");
    assert_eq!(client.get("/print?2000").status, 200);
    proxy.stderr_contains("probe/0.1 writes too much: the rest of this request's output is left out");
    let told = proxy.stderr().iter().filter(|line| line.contains("probe/0.1: yyy")).count();
    assert!((1..11).contains(&told), "{told} lines of 100 bytes within a KiB");
    assert_eq!(client.get("/print?0").status, 200, "the next request may write again");
    proxy.stderr_contains("probe/0.2: to standard error");
}

#[test]
fn what_goes_on_after_its_answer_keeps_nobody_waiting() {
    let proxy = with_probe("").start();
    let mut client = proxy.client();
    assert_eq!(client.get("/after?300").text(), "answered");
    assert_eq!(client.get("/calls").text(), "1");
    proxy.stderr_contains("probe/0.0: went on");
}

#[test]
fn compiled_code_is_kept_for_the_next_start() {
    let first = with_probe("");
    let cache = first.directory().join("cache");
    let entries = || -> Vec<_> { std::fs::read_dir(&cache).unwrap().flatten().map(|e| e.path()).collect() };
    let mut proxy = first.start();
    assert_eq!(proxy.client().get("/calls").text(), "1");
    let kept = entries();
    assert_eq!(kept.len(), 1);
    let before = std::fs::read(&kept[0]).unwrap();
    let mut damaged = before.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&kept[0], damaged).unwrap();
    proxy.signal_data_process(rustix::process::Signal::KILL);
    eventually("an answer of another data process", || {
        let answer = Client::try_connect(proxy.address()).ok().and_then(|mut c| c.offer_and_read("/calls"));
        holds(answer == Some(200), answer)
    });
    proxy.stderr_contains("is not used, and will be written anew: it is damaged");
    assert_eq!(entries(), kept);
    assert!(std::fs::read(&kept[0]).unwrap() == before, "written anew");
    assert_eq!(proxy.terminate(), 0);
}

#[test]
fn a_component_that_cannot_be_compiled_is_told_with_its_place() {
    let text = "(component (core module (func (param i32) (result i64) local.get 0)))";
    let builder = Builder::new().file("bad.wat", text);
    let run = builder
        .toml("[wasm.components.bad]\nfile = \"bad.wat\"\n[wasm.workloads.w]\ncomponents = [\"bad\"]\n")
        .toml("[[routes]]\nworkload = \"w\"\n")
        .run();
    assert_eq!(run.code, Some(1));
    let wanted = "bad.wat: it is not a valid component: type mismatch: expected i64, found i32";
    assert!(run.stderr.contains(wanted), "{}", run.stderr);
}

#[test]
fn a_reload_keeps_the_instances_of_what_stays_the_same() {
    let proxy = reloadable(with_probe("reuse = 100"));
    let mut client = proxy.client();
    assert_eq!(client.get("/calls").text(), "1");
    change(&proxy, "[[routes]]", "[[routes]]\ndescription = \"another text\"");
    reload(&proxy);
    assert_eq!(client.get("/calls").text(), "2", "of the same instance");
    let mut busy = proxy.client();
    busy.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1");
    busy.until_taken();
    change(&proxy, "reuse = 100", "reuse = 99");
    reload(&proxy);
    assert_eq!(client.get("/calls").text(), "1", "of another one");
    busy.send("2");
    assert_eq!(busy.response().text(), "12", "what runs is finished by the one that began it");
    change(&proxy, "probe.wasm", "absent.wasm");
    let refused = refused(&proxy, &["reload"]);
    assert!(refused.contains("absent.wasm: cannot read the file"), "{refused}");
    assert_eq!(client.get("/calls").text(), "2", "and what cannot be had changes nothing");
}

#[test]
fn what_components_did_is_in_the_numbers() {
    let proxy = with_probe("reuse = 100").toml(LISTEN).start();
    let at = admin(&proxy);
    let mut client = proxy.client();
    for path in ["/calls", "/spin?20", "/trap"] {
        client.get(path);
    }
    let numbers = eventually("all calls to be counted", || {
        let numbers = Numbers::read(at);
        let failed = numbers.sum("warpdrive_component_failures_total", &[]);
        holds(failed == 1.0, numbers.text.clone()).map(|()| numbers)
    });
    let of = [("component", "probe")];
    for (name, expected) in [("requests", 3.0), ("reused", 2.0), ("instances_made", 1.0), ("queued", 0.0)] {
        let name = format!("warpdrive_component_{name}_total");
        assert_eq!(numbers.sum(&name, &of), expected, "{name} in\n{}", numbers.text);
    }
    let cpu = numbers.sum("warpdrive_component_cpu_seconds_total", &of);
    assert!(cpu > 0.0, "{cpu}");
    numbers.check();
}
