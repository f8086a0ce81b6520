//! `warpdrive demo`: what it serves, what a browser makes of it, and that nothing is left.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::browser::{Browser, PATIENCE};
use crate::harness::client::get;
use crate::harness::proxy::{BINARY, children, run};
use crate::harness::{Directory, Proxy, ended, eventually, eventually_within, holds};

/// The demo on a free port, its directory in one of ours.
fn start() -> Proxy {
    let directory = Directory::fresh();
    let mut command = Command::new(BINARY);
    command.args(["demo", "--port", "0"]).env("TMPDIR", directory.path());
    let log = directory.path().join("none");
    Proxy::spawn(command, log, directory)
}

/// What is in the directory where the demo has its own.
fn left_in(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).expect("our own directory").flatten().map(|entry| entry.path()).collect()
}

fn configuration() -> String {
    let printed = run(Command::new(BINARY).args(["demo", "--print-config"]));
    assert_eq!(printed.code, Some(0), "{printed:?}");
    printed.stdout
}

#[test]
fn the_demo_shows_what_it_says() {
    let proxy = start();
    eventually("the lines to try", || {
        let said = proxy.stdout();
        let lines = ["/hello", "/live/headers", "/live/events", "/echo"];
        let at = proxy.address();
        let is_said = |path: &&str| said.iter().any(|line| line.contains(&format!("http://{at}{path}")));
        holds(lines.iter().all(is_said), said)
    });

    // One connection is one worker, whose turns alternate.
    let mut client = proxy.client();
    let names: Vec<String> = (0..4)
        .map(|_| {
            let answer: Value = serde_json::from_slice(&client.get("/hello").body).unwrap();
            answer["origin"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_ne!(names[0], names[1]);
    assert_eq!(names[..2], names[2..]);

    let timing = client.get("/hello").head.value("server-timing").unwrap().to_owned();
    let line = timing.split("config/demo.toml:").nth(1).and_then(|rest| rest.split('"').next());
    let line: usize = line.and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("{timing}"));
    assert_eq!(configuration().lines().nth(line - 1), Some("[[routes]]"));

    let seen = get(proxy.address(), "/live/headers?x").text();
    assert!(seen.starts_with("GET /headers?x HTTP/1.1\n"), "{seen}");
    assert!(seen.contains("\nX-Forwarded-For: 127.0.0.1\n"), "{seen}");
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(client.response_to("POST").text(), "abc");
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    assert_eq!(client.response_to("POST").status, 413);

    let mut events = proxy.client();
    events.send("GET /live/events HTTP/1.1\r\nHost: a\r\n\r\n");
    events.head();
    events.until("\"seconds\":0}\n\n");
    events.until("\"seconds\":1}\n\n");
}

#[test]
fn nothing_is_left_of_the_demo() {
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let mut proxy = start();
        let mut events = proxy.client();
        events.send("GET /live/events HTTP/1.1\r\nHost: a\r\n\r\n");
        events.until("\"seconds\":0}");
        let below = children(proxy.pid());
        assert_eq!(below.len(), 4, "three servers and the data process");
        let own = left_in(proxy.directory());
        assert_eq!(own.len(), 1, "{own:?}");
        proxy.signal(signal);
        if signal != Signal::KILL {
            assert_eq!(proxy.wait_end(), 0, "{signal:?}");
        }
        below.into_iter().for_each(ended);
        let left = left_in(proxy.directory());
        assert!(left.is_empty(), "{signal:?}: {left:?}");
    }
}

#[test]
fn a_server_that_dies_takes_the_others_along() {
    let mut proxy = start();
    let below = children(proxy.pid());
    let answer: Value = serde_json::from_slice(&get(proxy.address(), "/hello").body).unwrap();
    let pid = answer["pid"].as_i64().and_then(|pid| Pid::from_raw(pid as i32)).expect("a pid");
    kill_process(pid, Signal::KILL).unwrap();
    assert_eq!(proxy.wait_end(), 128 + 9);
    below.into_iter().for_each(ended);
    let left = left_in(proxy.directory());
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_port_that_is_taken_is_named_with_a_way_out() {
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let mut by_argument = Command::new(BINARY);
    by_argument.args(["demo", "--port", &port]);
    let mut by_variable = Command::new(BINARY);
    by_variable.arg("demo").env("WARPDRIVE_HTTP_PORT", &port);
    for mut command in [by_argument, by_variable] {
        let refused = run(&mut command);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(&format!("port {port} is in use")), "{refused:?}");
        assert!(refused.stderr.contains("warpdrive demo --port "), "{refused:?}");
    }
}

#[test]
fn what_is_written_can_be_used_and_overwrites_nothing() {
    let directory = Directory::fresh();
    let folder = directory.path().join("here");
    let write = || run(Command::new(BINARY).args(["demo", "--write"]).arg(&folder));
    let written = write();
    assert_eq!(written.code, Some(0), "{written:?}");
    let file = folder.join("demo.toml");
    assert_eq!(written.stdout, format!("warpdrive -c {}", file.display()));
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim_end(), configuration());
    let checked = run(Command::new(BINARY).arg("check").arg("-c").arg(file));
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stderr.is_empty(), "{checked:?}");
    let again = write();
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("exists"), "{again:?}");
}

#[cfg(feature = "wasm")]
#[test]
fn two_components_are_told_apart_by_path() {
    let proxy = start();
    let mut client = proxy.client();
    let mut user = |path: &str| {
        let answer = client.get(path);
        (answer.status, serde_json::from_slice::<Value>(&answer.body).unwrap())
    };
    for requests in 1..=3 {
        let expected = serde_json::json!({ "greeting": "hello, user 42", "id": 42, "requests": requests });
        assert_eq!(user("/wasm/user/42"), (200, expected), "one connection is one worker, and one instance");
    }
    assert_eq!(user("/wasm/user/ada").0, 404);
    client.send("POST /wasm/shout HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab1\r\n");
    client.until("AB1");
    client.send("3\r\ncde\r\n0\r\n\r\n");
    client.until("CDE");
    assert_eq!(get(proxy.address(), "/wasm/other").status, 404, "no component takes it");
    eventually("the lines to try", || {
        let said = proxy.stdout();
        holds(said.iter().any(|line| line.contains("/wasm/user/42")), said)
    });
}

/// What the page shows.
const LOOK: &str = "
const text = id => document.getElementById(id)?.textContent ?? '';
const count = name => Number(document.querySelector(`#origins-${name} .count`)?.textContent ?? 0);
return { origin: text('origin'), worker: text('worker'), route: text('route'), endpoint: text('endpoint'),
  state: text('state-text'), answers: Number(text('answers')), amber: count('amber'), violet: count('violet'),
  workers: document.querySelectorAll('#workers .row').length, seconds: Number(text('seconds') || 'no'),
  path: text('live-path'), user: text('user'), shouted: text('shouted'),
  hasComponents: document.getElementById('components')?.hidden === false };";

#[test]
fn a_browser_shows_who_answers_and_goes_on() {
    let proxy = start();
    let browser = Browser::start();
    browser.open(&format!("http://{}/", proxy.address()));
    let number = |seen: &Value, name: &str| seen[name].as_u64().unwrap_or_default();
    let first = eventually_within(PATIENCE, "both servers on the page", || {
        let seen = browser.run(LOOK);
        let is_there = number(&seen, "amber") > 0 && number(&seen, "violet") > 0;
        let has_events = seen["seconds"].is_u64();
        if is_there && has_events { Ok(seen) } else { Err(seen) }
    });
    let text = |name: &str| first[name].as_str().unwrap_or_default();
    assert!(["amber", "violet"].contains(&text("origin")), "{first}");
    assert!(text("worker").parse::<usize>().is_ok(), "{first}");
    assert!(text("route").starts_with("config/demo.toml:"), "{first}");
    assert!(text("endpoint").starts_with("unix:/"), "{first}");
    assert_eq!((text("path"), text("state")), ("/events", "live"), "{first}");
    assert!(number(&first, "amber").abs_diff(number(&first, "violet")) <= 1, "{first}");

    eventually_within(PATIENCE, "the page to go on by itself", || {
        let seen = browser.run(LOOK);
        let more = |name| number(&seen, name) > number(&first, name);
        holds(more("answers") && more("amber") && more("violet") && more("seconds"), seen)
    });

    eventually_within(PATIENCE, "the answers of components", || {
        let seen = browser.run(LOOK);
        let said = (seen["user"].as_str(), seen["shouted"].as_str());
        let with = (Some("hello, user 42"), Some("HELLO, WARPDRIVE"));
        let is_there = seen["hasComponents"] == true && said == with;
        holds(if cfg!(feature = "wasm") { is_there } else { seen["hasComponents"] == false }, seen)
    });

    let before = number(&browser.run(LOOK), "answers");
    browser.run("document.getElementById('burst').click()");
    eventually_within(PATIENCE, "a hundred more answers", || {
        let seen = browser.run(LOOK);
        holds(number(&seen, "answers") >= before + 100, seen)
    });

    proxy.signal_data_process(Signal::KILL);
    let before = number(&browser.run(LOOK), "answers");
    eventually_within(PATIENCE, "answers of another data process", || {
        let seen = browser.run(LOOK);
        holds(number(&seen, "answers") > before + 2 && seen["state"] == "live", seen)
    });
    // Failed requests are told there, and they failed: nothing else may be.
    let said = browser.console();
    let others = |line: &&Value| line["source"] != "network";
    let others: Vec<&Value> = said.as_array().expect("a list").iter().filter(others).collect();
    assert!(others.is_empty(), "{others:#?}");
}
